//! Acks and refusals: what the handler returns is what the sender gets.

use std::fmt;

use network_core::{
    Bytes, CloseReason, Connection, ConnectionHandler, Delivery, Refusal, SendError,
    accept_fn, handler_fn,
};

use crate::{
    lab::Lab,
    tools::{limits, Gate, numbered, pattern, probe, send, submit, within},
};

pub(crate) async fn are_empty_without_an_on_receive(lab: Lab) {
    let joined = lab.join((), ()).await;
    assert_eq!(send(&joined.dialed, "hello").await, "");
    assert_eq!(send(&joined.accepted, "hello").await, "");
}

pub(crate) async fn can_be_empty(lab: Lab) {
    let joined = lab.join(handler_fn(|_| async { Ok(Bytes::new()) }), ()).await;
    assert_eq!(send(&joined.dialed, "").await, "");
    assert_eq!(send(&joined.dialed, "hello").await, "");
}

pub(crate) async fn come_in_any_order(lab: Lab) {
    let (joined, mut records) = lab.pull(limits()).await;
    let mut acks = Vec::new();
    let mut received = Vec::new();
    for number in 0..100 {
        acks.push(submit(&joined.dialed, numbered(number)).await);
        received.push(within("a record", records.recv()).await.unwrap());
    }
    for record in received.into_iter().rev() {
        record.ack_echo();
    }
    for (number, ack) in acks.into_iter().enumerate() {
        assert_eq!(within("an ack", ack).await.unwrap(), numbered(number));
    }
}

pub(crate) async fn can_come_late(lab: Lab) {
    let (joined, mut records) = lab.pull(limits()).await;
    let late = submit(&joined.dialed, "late").await;
    let held = within("a record", records.recv()).await.unwrap();
    // More exchanges than the table of acks has slots at once.
    for number in 0..3_000 {
        let ack = submit(&joined.dialed, numbered(number)).await;
        within("a record", records.recv()).await.unwrap().ack_echo();
        assert_eq!(within("an ack", ack).await.unwrap(), numbered(number));
    }
    held.ack("at last");
    assert_eq!(within("the late ack", late).await.unwrap(), "at last");
}

pub(crate) async fn of_any_size_up_to_the_limit_are_whole(lab: Lab) {
    let limit = 100_000;
    let limits = limits().with_max_ack_len(limit);
    let answer = handler_fn(|record: Bytes| async move {
        let len = std::str::from_utf8(&record)?.parse()?;
        Ok(pattern(len, len))
    });
    let joined = lab.join_with(limits, answer, ()).await;
    for len in [0, 1, 2, 255, 8_191, 8_192, 8_193, 65_535, 65_536, limit - 1, limit] {
        assert_eq!(send(&joined.dialed, numbered(len)).await, pattern(len, len), "{len} bytes");
    }
}

pub(crate) async fn over_the_limit_become_a_refusal(lab: Lab) {
    let small = limits().with_max_ack_len(100);
    let large = limits().with_max_ack_len(200);
    let echo = || handler_fn(|record: Bytes| async move { Ok(record) });
    for (server, client) in [(small.clone(), large.clone()), (large, small)] {
        let joined = lab.join_different(server, client, echo(), echo()).await;
        for connection in [&joined.dialed, &joined.accepted] {
            let error = connection.send(pattern(101, 0)).await.unwrap_err();
            assert_eq!(error.delivery(), Delivery::Delivered);
            assert!(error.to_string().contains("max_ack_len"), "{error}");
            expect!(error, SendError::Refused(_));
            assert_eq!(send(connection, pattern(100, 0)).await.len(), 100);
        }
    }
}

pub(crate) async fn pulled_over_the_limit_become_a_refusal(lab: Lab) {
    let (joined, mut records) = lab.pull(limits().with_max_ack_len(100)).await;
    let ack = submit(&joined.dialed, "hello").await;
    within("a record", records.recv()).await.unwrap().ack(pattern(101, 0));
    expect!(within("a refusal", ack).await.unwrap_err(), SendError::Refused(_));
}

pub(crate) async fn that_refuse_leave_the_connection_open(lab: Lab) {
    let picky = handler_fn(|record: Bytes| async move {
        if record == "bad" { Err(Refusal::new("no bad ones")) } else { Ok(record) }
    });
    let joined = lab.join(picky, ()).await;
    for _ in 0..3 {
        let error = joined.dialed.send("bad").await.unwrap_err();
        assert_eq!(error.delivery(), Delivery::Delivered);
        expect!(error, SendError::Refused(refusal) if refusal.text() == "no bad ones");
        assert_eq!(send(&joined.dialed, "good").await, "good");
    }
    assert!(joined.dialed.close_reason().is_none());
    assert_eq!(joined.dialed.stats().unacked, 0);
}

#[derive(Debug)]
struct Outer(std::num::ParseIntError);

impl fmt::Display for Outer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no number")
    }
}

impl std::error::Error for Outer {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

pub(crate) async fn that_refuse_tell_an_error_with_its_causes(lab: Lab) {
    let parse = handler_fn(|record: Bytes| async move {
        let text = String::from_utf8(record.to_vec())?;
        let number: u64 = text.parse().map_err(Outer)?;
        Ok(numbered(number as usize + 1))
    });
    let joined = lab.join(parse, ()).await;
    let error = joined.dialed.send("seven").await.unwrap_err();
    expect!(error, SendError::Refused(refusal)
        if refusal.text() == "no number: invalid digit found in string");
    assert_eq!(send(&joined.dialed, "7").await, "8");
}

pub(crate) async fn that_refuse_at_length_are_cut(lab: Lab) {
    let wordy = handler_fn(|_| async { Err(Refusal::new("é".repeat(5_000))) });
    let joined = lab.join(wordy, ()).await;
    let error = joined.dialed.send("hello").await.unwrap_err();
    expect!(error, SendError::Refused(refusal)
        if refusal.text().len() == Refusal::MAX_LEN && refusal.text().starts_with("éé"));
}

/// Panics in the method that the record names; others are acked.
struct Fragile;

impl ConnectionHandler for Fragile {
    async fn on_receive(&self, _: &Connection, record: Bytes) -> Result<Bytes, Refusal> {
        if record == "later" {
            tokio::task::yield_now().await;
        }
        assert!(record != "now" && record != "later", "on purpose");
        Ok(record)
    }
}

pub(crate) async fn of_a_handler_that_panics_are_a_refusal_and_a_close(lab: Lab) {
    for when in ["now", "later"] {
        let (handler, mut seen) = probe();
        let joined = lab.join(Fragile, handler).await;
        let error = within("a refusal", joined.dialed.send(when)).await.unwrap_err();
        assert_eq!(error.delivery(), Delivery::Delivered);
        expect!(error, SendError::Refused(refusal) if refusal.text().contains("panicked"));
        let reason = within("the close", joined.dialed.closed()).await;
        expect!(reason, CloseReason::RemoteHandlerPanicked);
        let reason = within("the close", joined.accepted.closed()).await;
        assert!(!reason.is_intended());
        expect!(reason, CloseReason::HandlerPanicked);
        expect!(seen.close().await, CloseReason::RemoteHandlerPanicked);
    }
}

pub(crate) async fn of_other_connections_survive_a_panic(lab: Lab) {
    let served = lab.serve(Fragile).await;
    let (good, bad) = (served.connect(()).await, served.connect(()).await);
    expect!(bad.send("now").await.unwrap_err(), SendError::Refused(_));
    within("the close", bad.closed()).await;
    assert_eq!(send(&good, "hello").await, "hello");
    assert_eq!(send(&served.connect(()).await, "hello").await, "hello");
}

pub(crate) async fn are_lost_when_on_open_panics(lab: Lab) {
    struct Stillborn;
    impl ConnectionHandler for Stillborn {
        async fn on_open(&self, _: &Connection) {
            panic!("on purpose");
        }
    }
    let served = lab.serve(()).await;
    served.server.listen(accept_fn(|_| async { Ok(Stillborn.into()) })).await.unwrap();
    let connection = served.connect(()).await;
    expect!(
        within("the close", connection.closed()).await,
        CloseReason::RemoteHandlerPanicked
    );
    expect!(connection.send("hello").await.unwrap_err(), SendError::Closed { .. });
}

pub(crate) async fn are_not_touched_by_a_panic_in_on_close(lab: Lab) {
    struct Sore;
    impl ConnectionHandler for Sore {
        async fn on_close(&self, _: &Connection, _: &CloseReason) {
            panic!("on purpose");
        }
    }
    let joined = lab.join(Sore, Sore).await;
    assert_eq!(send(&joined.dialed, "hello").await, "");
    within("the close", joined.dialed.close()).await;
    expect!(within("the close", joined.accepted.closed()).await, CloseReason::Remote);
    assert_eq!(joined.ground.client.connections(), []);
}

pub(crate) async fn do_not_wait_for_the_handler_of_another_record(lab: Lab) {
    let gate = Gate::new();
    let (handler, mut seen) = probe();
    let joined = lab.join(handler.gated(&gate), ()).await;
    let first = submit(&joined.dialed, "first").await;
    assert_eq!(seen.record().await, "first");
    let second = submit(&joined.dialed, "second").await;
    assert_eq!(seen.record().await, "second");
    assert_eq!(send(&joined.accepted, "the other way").await, "");
    gate.open();
    assert_eq!(within("an ack", second).await.unwrap(), "second");
    assert_eq!(within("an ack", first).await.unwrap(), "first");
}
