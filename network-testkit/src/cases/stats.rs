//! What a connection counts.

use network_core::{Refusal, handler_fn};

use crate::{
    lab::Lab,
    tools::{limits, eventually, probe, send, submit, within},
};

pub(crate) async fn begin_at_zero(lab: Lab) {
    let joined = lab.join((), ()).await;
    for connection in [&joined.dialed, &joined.accepted] {
        let mut stats = connection.stats();
        // The path may be older than the connection.
        stats.path = None;
        assert_eq!(stats, Default::default());
    }
}

pub(crate) async fn count_records_and_answers(lab: Lab) {
    let picky = handler_fn(|record: network_core::Bytes| async move {
        if record == "no" { Err(Refusal::new("no")) } else { Ok(record) }
    });
    let joined = lab.join(picky, ()).await;
    for _ in 0..3 {
        send(&joined.dialed, "12345").await;
    }
    within("a refusal", joined.dialed.send("no")).await.unwrap_err();
    let sent = joined.dialed.stats();
    assert_eq!((sent.records_sent, sent.bytes_sent), (4, 17));
    assert_eq!((sent.acks, sent.refusals, sent.unacked), (3, 1, 0));
    assert_eq!((sent.records_received, sent.bytes_received), (0, 0));
    let received = joined.accepted.stats();
    assert_eq!((received.records_received, received.bytes_received), (4, 17));
    assert_eq!(received.records_sent, 0);
}

pub(crate) async fn count_what_is_un_acked_and_who_waited(lab: Lab) {
    let (joined, mut records) = lab.pull(limits().with_window_records(2)).await;
    let connection = &joined.dialed;
    let first = submit(connection, "one").await;
    let permit = connection.reserve(3).await.unwrap();
    assert_eq!(connection.stats().unacked, 2);
    assert_eq!(connection.stats().records_sent, 1);
    let sender = connection.clone();
    let third = tokio::spawn(async move { sender.send("three").await });
    eventually("it waits", || connection.stats().window_waits == 1).await;
    drop(permit);
    for _ in 0..2 {
        within("a record", records.recv()).await.unwrap().ack_echo();
    }
    within("an ack", first).await.unwrap();
    within("an ack", third).await.unwrap().unwrap();
    assert_eq!(connection.stats().unacked, 0);
    assert_eq!(connection.stats().window_waits, 1);
}

pub(crate) async fn last_beyond_the_close(lab: Lab) {
    let (there, _seen) = probe();
    let joined = lab.join(there, ()).await;
    send(&joined.dialed, "hello").await;
    within("a close", joined.dialed.close()).await;
    let stats = joined.dialed.stats();
    assert_eq!((stats.records_sent, stats.acks, stats.unacked), (1, 1, 0));
}
