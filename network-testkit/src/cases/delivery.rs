//! What a close says of the records that have no ack yet.

use std::{pin::pin, time::Duration};

use network_core::{CloseReason, Delivery, SendError};
use tokio::task::JoinSet;

use crate::{
    lab::Lab,
    tools::{
        Event, Gate, eventually, limits, numbered, pattern, probe, still_pending, submit, within,
    },
};

pub(crate) async fn of_all_that_was_sent_comes_before_the_close(lab: Lab) {
    for size in [1, 20_000] {
        let (there, mut seen) = probe();
        let joined = lab.join(there, ()).await;
        let mut acks = Vec::new();
        for number in 0..300 {
            acks.push(submit(&joined.dialed, pattern(size, number)).await);
        }
        within("a close", joined.dialed.close()).await;
        for number in 0..300 {
            assert_eq!(seen.record().await, pattern(size, number));
        }
        expect!(seen.close().await, CloseReason::Remote);
        for ack in acks {
            // Acked if the ack came in time; else it is known that the handler had it.
            if let Err(error) = within("a result", ack).await {
                assert_eq!(error.delivery(), Delivery::Delivered);
            }
        }
    }
}

pub(crate) async fn of_what_is_queued_behind_a_handler_is_waited_for(lab: Lab) {
    let gate = Gate::new();
    let (there, mut seen) = probe();
    let joined = lab.join(there.gated(&gate).serial(), ()).await;
    let mut acks = Vec::new();
    for number in 0..5 {
        acks.push(submit(&joined.dialed, numbered(number)).await);
    }
    assert_eq!(seen.record().await, numbered(0));
    let mut closing = pin!(joined.dialed.close());
    still_pending("a close", closing.as_mut()).await;
    expect!(
        within("word of it", async {
            loop {
                if let Some(reason) = joined.accepted.close_reason() {
                    break reason;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await,
        CloseReason::Remote
    );
    gate.open();
    for number in 1..5 {
        assert_eq!(seen.record().await, numbered(number));
    }
    expect!(seen.close().await, CloseReason::Remote);
    within("a close", closing).await;
    for ack in acks {
        if let Err(error) = within("a result", ack).await {
            assert_eq!(error.delivery(), Delivery::Delivered);
        }
    }
}

pub(crate) async fn is_told_of_a_record_in_its_handler(lab: Lab) {
    for from_dialed in [true, false] {
        let gate = Gate::new();
        let (there, mut seen) = probe();
        let joined = lab.join(there.gated(&gate), ()).await;
        let ack = submit(&joined.dialed, "held").await;
        assert_eq!(seen.record().await, "held");
        let near = if from_dialed { &joined.dialed } else { &joined.accepted };
        within("a close", near.close()).await;
        let error = within("a result", ack).await.unwrap_err();
        assert_eq!(error.delivery(), Delivery::Delivered, "{error}");
        expect!(error, SendError::AckLost { .. });
        seen.close().await;
        gate.open();
        assert_eq!(seen.rest().await.len(), 0);
    }
}

pub(crate) async fn is_denied_of_a_queued_record(lab: Lab) {
    let gate = Gate::new();
    let (there, mut seen) = probe();
    let joined = lab.join(there.gated(&gate).serial(), ()).await;
    let first = submit(&joined.dialed, "first").await;
    let queued =
        [submit(&joined.dialed, "second").await, submit(&joined.dialed, "third").await];
    assert_eq!(seen.record().await, "first");
    eventually("all there", || joined.accepted.stats().records_received == 3).await;
    within("a close", joined.accepted.close()).await;
    let error = within("a result", first).await.unwrap_err();
    assert_eq!(error.delivery(), Delivery::Delivered, "{error}");
    for ack in queued {
        let error = within("a result", ack).await.unwrap_err();
        assert_eq!(error.delivery(), Delivery::NotDelivered, "{error}");
        expect!(error, SendError::AckLost { reason: CloseReason::Remote, .. });
    }
    gate.open();
    expect!(seen.close().await, CloseReason::Local);
    assert_eq!(seen.rest().await.len(), 0);
}

pub(crate) async fn is_denied_of_a_record_nobody_pulled(lab: Lab) {
    let (joined, mut records) = lab.pull(limits()).await;
    let pulled = submit(&joined.dialed, "pulled").await;
    let waiting = submit(&joined.dialed, "waiting").await;
    let received = within("a record", records.recv()).await.unwrap();
    eventually("both there", || joined.accepted.stats().records_received == 2).await;
    within("a close", joined.accepted.close()).await;
    let error = within("a result", waiting).await.unwrap_err();
    assert_eq!(error.delivery(), Delivery::NotDelivered, "{error}");
    let error = within("a result", pulled).await.unwrap_err();
    assert_eq!(error.delivery(), Delivery::Delivered, "{error}");
    received.ack("too late");
    assert!(within("the end", records.recv()).await.is_none());
}

pub(crate) async fn is_known_of_every_record_of_a_close_under_load(lab: Lab) {
    for round in 0..10 {
        let (there, mut seen) = probe();
        let joined = lab.join(there, ()).await;
        let mut senders = JoinSet::new();
        for _ in 0..8 {
            let connection = joined.dialed.clone();
            senders.spawn(async move {
                let mut acks = Vec::new();
                while let Ok(permit) = connection.reserve(5).await {
                    match permit.send("hello") {
                        Ok(ack) => acks.push(ack.into_owned()),
                        Err(error) => assert_eq!(error.delivery(), Delivery::NotDelivered),
                    }
                    tokio::task::yield_now().await;
                }
                acks
            });
        }
        for _ in 0..200 {
            seen.record().await;
        }
        let near = if round % 2 == 0 { &joined.dialed } else { &joined.accepted };
        within("a close", near.close()).await;
        let acks = within("the senders", senders.join_all()).await.into_iter().flatten();
        let rest = seen.rest().await;
        let delivered = 200 + rest.iter().filter(|it| matches!(it, Event::Record(_))).count();
        let mut told = 0;
        for ack in acks {
            let outcome = within("a result", ack).await;
            match outcome.map_or_else(|error| error.delivery(), |_| Delivery::Delivered) {
                Delivery::Delivered => told += 1,
                Delivery::NotDelivered => {}
                Delivery::Unknown => panic!("the delivery of a record is unknown"),
            }
        }
        assert_eq!(told, delivered, "records that were told to be delivered, and that were");
    }
}
