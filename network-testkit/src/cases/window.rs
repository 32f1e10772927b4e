//! The window: un-acked records are bounded, and waiting for room is fair.

use std::pin::pin;

use network_core::{Bytes, Limits, Refusal, handler_fn};
use tokio::task::JoinSet;

use crate::{
    lab::{Joined, Lab},
    tools::{limits, Gate, Probe, Seen, numbered, pattern, probe, send, still_pending, submit, within},
};

fn records(window: u32) -> Limits {
    limits().with_window_records(window)
}

/// A window of bytes, which is no smaller than the longest record.
fn bytes(window: u64, longest: usize) -> Limits {
    limits().with_window_bytes(window).with_max_record_len(longest)
}

fn gated() -> (Gate, Probe, Seen) {
    let gate = Gate::new();
    let (handler, seen) = probe();
    (gate.clone(), handler.gated(&gate), seen)
}

/// Once this is acked, all that was sent before has arrived: it goes there and back.
async fn settle(joined: &Joined) {
    assert_eq!(send(&joined.accepted, "settled?").await, "");
}

pub(crate) async fn of_records_is_never_passed(lab: Lab) {
    let (gate, handler, mut seen) = gated();
    let joined = lab.join_with(records(4), handler, ()).await;
    let mut senders = JoinSet::new();
    for number in 0..20 {
        let connection = joined.dialed.clone();
        senders.spawn(async move { connection.send(numbered(number)).await.unwrap() });
    }
    for _ in 0..4 {
        seen.record().await;
    }
    for _ in 4..20 {
        settle(&joined).await;
        assert_eq!(seen.records_so_far().len(), 0);
        assert_eq!(joined.dialed.stats().unacked, 4);
        gate.let_one();
        seen.record().await;
    }
    gate.open();
    within("20 acks", senders.join_all()).await;
    assert_eq!(joined.dialed.stats().unacked, 0);
    assert!(joined.dialed.stats().window_waits >= 16);
}

pub(crate) async fn of_bytes_is_never_passed(lab: Lab) {
    let (gate, handler, mut seen) = gated();
    let joined = lab.join_with(bytes(10_000, 4_000), handler, ()).await;
    let mut senders = JoinSet::new();
    for number in 0..10 {
        let connection = joined.dialed.clone();
        senders.spawn(async move { connection.send(pattern(4_000, number)).await.unwrap() });
    }
    for _ in 0..2 {
        seen.record().await;
    }
    for _ in 2..10 {
        settle(&joined).await;
        assert_eq!(seen.records_so_far().len(), 0);
        assert_eq!(joined.dialed.stats().unacked, 2);
        gate.let_one();
        seen.record().await;
    }
    gate.open();
    within("10 acks", senders.join_all()).await;
}

pub(crate) async fn is_the_smaller_one_of_both_sides(lab: Lab) {
    for (server, client) in [(records(2), records(8)), (records(8), records(2))] {
        let joined = lab.join_different(server, client, (), ()).await;
        for connection in [&joined.dialed, &joined.accepted] {
            let _held = (connection.reserve(1).await.unwrap(), connection.reserve(1).await.unwrap());
            still_pending("a third permit", pin!(connection.reserve(1))).await;
        }
    }
}

pub(crate) async fn has_room_for_the_longest_record(lab: Lab) {
    let limits = limits().with_window_bytes(1).with_max_record_len(50_000);
    let joined = lab.join_with(limits, (), ()).await;
    for _ in 0..3 {
        send(&joined.dialed, pattern(50_000, 0)).await;
    }
}

pub(crate) async fn comes_back_with_a_permit(lab: Lab) {
    let joined = lab.join_with(records(1), (), ()).await;
    let permit = joined.dialed.reserve(10).await.unwrap();
    assert_eq!(joined.dialed.stats().unacked, 1);
    let mut next = pin!(joined.dialed.reserve(10));
    still_pending("a second permit", next.as_mut()).await;
    drop(permit);
    drop(within("a permit", next).await.unwrap());
    assert_eq!(joined.dialed.stats().unacked, 0);
    assert_eq!(joined.dialed.stats().records_sent, 0);
    assert_eq!(send(&joined.dialed, "hello").await, "");
}

pub(crate) async fn comes_back_with_the_bytes_that_a_permit_did_not_use(lab: Lab) {
    let (gate, handler, mut seen) = gated();
    let joined = lab.join_with(bytes(1_000, 1_000), handler, ()).await;
    let permit = joined.dialed.reserve(1_000).await.unwrap();
    let mut next = pin!(joined.dialed.reserve(900));
    still_pending("a second permit", next.as_mut()).await;
    let ack = permit.send(pattern(100, 0)).unwrap();
    let next = within("a permit", next).await.unwrap();
    still_pending("a third permit", pin!(joined.dialed.reserve(1))).await;
    let other = next.send(pattern(900, 1)).unwrap();
    let handed = [seen.record().await.len(), seen.record().await.len()];
    assert!(matches!(handed, [100, 900] | [900, 100]), "{handed:?}");
    gate.open();
    within("an ack", ack).await.unwrap();
    within("an ack", other).await.unwrap();
    drop(joined.dialed.reserve(1_000).await.unwrap());
}

pub(crate) async fn comes_back_with_a_permit_used_for_too_much(lab: Lab) {
    let joined = lab.join_with(records(1), (), ()).await;
    let permit = joined.dialed.reserve(1).await.unwrap();
    permit.send("too much").unwrap_err();
    assert_eq!(send(&joined.dialed, "hello").await, "");
}

pub(crate) async fn comes_back_with_a_refusal(lab: Lab) {
    let refuse = handler_fn(|_: Bytes| async { Err(Refusal::new("no")) });
    let joined = lab.join_with(records(1), refuse, ()).await;
    for _ in 0..50 {
        within("a refusal", joined.dialed.send("hello")).await.unwrap_err();
    }
}

pub(crate) async fn lets_all_who_wait_finish(lab: Lab) {
    for window in [1, 3] {
        let (handler, mut seen) = probe();
        let joined = lab.join_with(records(window), handler, ()).await;
        let mut senders = JoinSet::new();
        for number in 0..300 {
            let connection = joined.dialed.clone();
            senders.spawn(async move {
                assert_eq!(connection.send(numbered(number)).await.unwrap(), numbered(number));
            });
        }
        within("300 senders", senders.join_all()).await;
        assert_eq!(seen.records_so_far().len(), 300);
    }
}

pub(crate) async fn keeps_the_order_of_those_who_wait(lab: Lab) {
    let (gate, handler, mut seen) = gated();
    let joined = lab.join_with(records(1), handler, ()).await;
    let first = submit(&joined.dialed, "first").await;
    let mut senders = JoinSet::new();
    for number in 0..20 {
        let connection = joined.dialed.clone();
        let waits = connection.stats().window_waits;
        senders.spawn(async move { connection.send(numbered(number)).await.unwrap() });
        crate::tools::eventually("the sender waits", || {
            joined.dialed.stats().window_waits > waits
        })
        .await;
    }
    gate.open();
    within("an ack", first).await.unwrap();
    within("20 senders", senders.join_all()).await;
    assert_eq!(seen.record().await, "first");
    for number in 0..20 {
        assert_eq!(seen.record().await, numbered(number));
    }
}

pub(crate) async fn is_not_taken_by_small_records_from_a_large_one(lab: Lab) {
    let (gate, handler, mut seen) = gated();
    let joined = lab.join_with(bytes(1_000, 1_000), handler, ()).await;
    let first = submit(&joined.dialed, pattern(500, 0)).await;
    let mut large = pin!(joined.dialed.send(pattern(1_000, 1)));
    still_pending("the large record", large.as_mut()).await;
    let mut small = pin!(joined.dialed.send(pattern(1, 2)));
    still_pending("the small record", small.as_mut()).await;
    assert_eq!(seen.record().await.len(), 500);
    gate.open();
    within("an ack", first).await.unwrap();
    let (large, small) = within("acks", async { tokio::join!(large, small) }).await;
    assert_eq!((large.unwrap().len(), small.unwrap().len()), (1_000, 1));
    assert_eq!(seen.record().await.len(), 1_000);
    assert_eq!(seen.record().await.len(), 1);
}

pub(crate) async fn of_one_direction_does_not_hold_up_the_other(lab: Lab) {
    let (gate, handler, mut seen) = gated();
    let joined = lab.join_with(records(2), handler, ()).await;
    let held = [submit(&joined.dialed, "one").await, submit(&joined.dialed, "two").await];
    let mut third = pin!(joined.dialed.send("three"));
    still_pending("a third record", third.as_mut()).await;
    for number in 0..500 {
        send(&joined.accepted, numbered(number)).await;
    }
    assert_eq!(seen.records_so_far().len(), 2);
    gate.open();
    for ack in held {
        within("an ack", ack).await.unwrap();
    }
    assert_eq!(within("an ack", third).await.unwrap(), "three");
}

pub(crate) async fn may_be_full_both_ways_with_nobody_reading(lab: Lab) {
    let limits = limits().with_window_records(64);
    let mut ground = lab.ground(limits.clone(), limits).await;
    let connecting = ground.client.connect_pull(&ground.address);
    let accepting = async { ground.attempts.next().await.unwrap().accept_pull().await.unwrap() };
    let (dialed, (accepted, mut there)) =
        within("a connection", async { tokio::join!(connecting, accepting) }).await;
    let (dialed, mut here) = dialed.unwrap();
    // More than any transport buffers, so the drivers must read though nobody pulls.
    let mut acks = Vec::new();
    for number in 0..64 {
        for connection in [&dialed, &accepted] {
            let record = pattern(128 * 1024, number);
            acks.push((record.clone(), submit(connection, record).await));
        }
    }
    for _ in 0..64 {
        for records in [&mut here, &mut there] {
            let received = within("a record", records.recv()).await.unwrap();
            let ack = received.payload().slice(..64);
            received.ack(ack);
        }
    }
    for (record, ack) in acks {
        assert_eq!(within("an ack", ack).await.unwrap(), record.slice(..64));
    }
}

pub(crate) async fn is_waited_for_without_losing_wakeups(lab: Lab) {
    let (handler, mut seen) = probe();
    let joined = lab.join_with(records(2), handler, ()).await;
    let mut tasks = JoinSet::new();
    for task in 0..16usize {
        let connection = joined.dialed.clone();
        tasks.spawn(async move {
            for number in 0..100usize {
                match (task + number) % 4 {
                    0 => drop(connection.reserve(5).await.unwrap()),
                    1 => {
                        let permit = connection.reserve(5).await.unwrap();
                        tokio::task::yield_now().await;
                        drop(permit.send("taken").unwrap());
                    }
                    2 => {
                        let mut given_up = Box::pin(connection.reserve(5));
                        let _ = crate::tools::poll_once(given_up.as_mut()).await;
                    }
                    _ => {
                        connection.send("sent").await.unwrap();
                    }
                }
            }
        });
    }
    within("16 tasks", tasks.join_all()).await;
    send(&joined.dialed, "last").await;
    // One whose ack nobody waited for may come behind the last, where there is no order.
    let sent = joined.dialed.stats().records_sent;
    crate::tools::eventually("all acked", || joined.dialed.stats().unacked == 0).await;
    assert_eq!(seen.records_so_far().len() as u64, sent);
}
