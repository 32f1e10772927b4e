//! Records: whole, in order, in both directions.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use network_core::{
    Bytes, Connection, ConnectionHandler, Delivery, Refusal, SendError, handler_fn,
};
use tokio::task::JoinSet;

use crate::{
    lab::Lab,
    tools::{Gate, eventually, least, limits, numbered, pattern, probe, send, submit, within},
};

fn echo() -> impl ConnectionHandler {
    handler_fn(|record: Bytes| async move { Ok(record) })
}

/// Acks a record with its length and a sum of its bytes.
fn digest_of(record: &[u8]) -> Bytes {
    let sum = record.iter().fold(0u64, |sum, byte| {
        sum.wrapping_mul(0x100_0000_01b3).wrapping_add(u64::from(*byte) + 1)
    });
    Bytes::from(format!("{} {sum}", record.len()))
}

fn digest() -> impl ConnectionHandler {
    handler_fn(|record: Bytes| async move { Ok(digest_of(&record)) })
}

pub(crate) async fn arrive_in_order(lab: Lab) {
    let (handler, mut seen) = probe();
    let joined = lab.join(handler, ()).await;
    let mut acks = Vec::new();
    for number in 0..2_000 {
        acks.push(submit(&joined.dialed, numbered(number)).await);
    }
    for number in 0..2_000 {
        assert_eq!(seen.record().await, numbered(number));
    }
    for (number, ack) in acks.into_iter().enumerate() {
        assert_eq!(within("an ack", ack).await.unwrap(), numbered(number));
    }
}

pub(crate) async fn sizes_from_zero_to_the_limit(lab: Lab) {
    let limits = limits().with_max_record_len(300_000);
    let joined = lab.join_with(limits, digest(), ()).await;
    // A transport may have a smaller one of its own.
    let limit = joined.dialed.max_record_len();
    for len in [0, 1, 2, 3, 255, 256, 1_023, 1_024, 65_535, 65_536, limit - 1, limit] {
        let len = len.max(least(&joined.dialed));
        let record = pattern(len, len);
        assert_eq!(send(&joined.dialed, record.clone()).await, digest_of(&record), "{len} bytes");
    }
}

pub(crate) async fn the_longest_record_by_default_is_whole(lab: Lab) {
    let joined = lab.join(digest(), ()).await;
    let record = pattern(joined.dialed.max_record_len(), 1);
    assert_eq!(send(&joined.dialed, record.clone()).await, digest_of(&record));
    assert!((65_536..=limits().max_record_len).contains(&record.len()), "{}", record.len());
}

pub(crate) async fn are_whole_around_the_sizes_of_buffers(lab: Lab) {
    let joined = lab.join(digest(), digest()).await;
    let around = |size: usize| size - 12..=size + 3;
    let sizes = [512, 1_024, 4_096, 8_192, 16_384, 65_536, 262_144].into_iter().flat_map(around);
    for connection in [&joined.dialed, &joined.accepted] {
        let mut acks = Vec::new();
        // A transport may have a limit of its own.
        for len in sizes.clone().filter(|len| *len <= connection.max_record_len()) {
            let record = pattern(len, len);
            acks.push((len, digest_of(&record), submit(connection, record).await));
        }
        for (len, digest, ack) in acks {
            assert_eq!(within("an ack", ack).await.unwrap(), digest, "{len} bytes");
        }
    }
}

pub(crate) async fn over_the_limit_are_too_large(lab: Lab) {
    let joined = lab.join_with(limits().with_max_record_len(100), echo(), ()).await;
    let connection = &joined.dialed;
    assert_eq!(connection.max_record_len(), 100);
    let error = connection.send(pattern(101, 0)).await.unwrap_err();
    assert_eq!(error.delivery(), Delivery::NotDelivered);
    assert!(error.to_string().contains("max_record_len"), "{error}");
    expect!(error, SendError::TooLarge { len: 101, max: 100 });
    expect!(connection.reserve(101).await.unwrap_err(), SendError::TooLarge { .. });
    let permit = connection.reserve(10).await.unwrap();
    let error = permit.send(pattern(11, 0)).unwrap_err();
    expect!(error, SendError::TooLarge { len: 11, max: 10 });
    assert_eq!(send(connection, pattern(100, 0)).await, pattern(100, 0));
    assert_eq!(connection.stats().unacked, 0);
    assert_eq!(connection.stats().records_sent, 1);
}

pub(crate) async fn the_smaller_limit_of_both_sides_holds(lab: Lab) {
    let small = limits().with_max_record_len(100);
    let large = limits().with_max_record_len(200);
    for (server, client) in [(small.clone(), large.clone()), (large, small)] {
        let joined = lab.join_different(server, client, echo(), echo()).await;
        for connection in [&joined.dialed, &joined.accepted] {
            assert_eq!(connection.max_record_len(), 100);
            expect!(
                connection.send(pattern(101, 0)).await.unwrap_err(),
                SendError::TooLarge { max: 100, .. }
            );
            assert_eq!(send(connection, pattern(100, 0)).await.len(), 100);
        }
    }
}

pub(crate) async fn many_in_flight_are_all_acked(lab: Lab) {
    let joined = lab.join(echo(), ()).await;
    let mut acks = std::collections::VecDeque::new();
    for number in 0..10_000 {
        if acks.len() == 1_000 {
            let (expected, ack): (Bytes, network_core::Ack<'_>) = acks.pop_front().unwrap();
            assert_eq!(within("an ack", ack).await.unwrap(), expected);
        }
        acks.push_back((numbered(number), submit(&joined.dialed, numbered(number)).await));
    }
    for (expected, ack) in acks {
        assert_eq!(within("an ack", ack).await.unwrap(), expected);
    }
}

pub(crate) async fn of_many_tasks_each_get_their_own_ack(lab: Lab) {
    let joined = lab.join(echo(), ()).await;
    let mut tasks = JoinSet::new();
    for task in 0..64 {
        let connection = joined.dialed.clone();
        tasks.spawn(async move {
            for number in 0..50 {
                let record = pattern(number * 7 + least(&connection), task * 64 + number);
                assert_eq!(connection.send(record.clone()).await.unwrap(), record);
            }
        });
    }
    within("64 tasks", tasks.join_all()).await;
    assert_eq!(joined.dialed.stats().records_sent, 64 * 50);
}

pub(crate) async fn go_both_ways_at_once(lab: Lab) {
    let joined = lab.join(echo(), echo()).await;
    let mut tasks = JoinSet::new();
    for (seed, connection) in [joined.dialed.clone(), joined.accepted.clone()].iter().enumerate() {
        for task in 0..4 {
            let connection = connection.clone();
            tasks.spawn(async move {
                for number in 0..200 {
                    let record = pattern(number * 37 + least(&connection), seed * 1_000 + task);
                    assert_eq!(connection.send(record.clone()).await.unwrap(), record);
                }
            });
        }
    }
    within("both directions", tasks.join_all()).await;
}

/// Counts how many of its calls run at once.
#[derive(Debug, Default)]
struct Busy {
    now: AtomicUsize,
    most: AtomicUsize,
    serial: bool,
}

impl ConnectionHandler for Busy {
    async fn on_receive(&self, _: &Connection, record: Bytes) -> Result<Bytes, Refusal> {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        self.now.fetch_sub(1, Ordering::SeqCst);
        Ok(record)
    }

    fn one_at_a_time(&self) -> bool {
        self.serial
    }
}

pub(crate) async fn are_handled_one_at_a_time_if_asked_for(lab: Lab) {
    let handler = Arc::new(Busy { serial: true, ..Busy::default() });
    let joined = lab.join(handler.clone(), ()).await;
    let mut acks = Vec::new();
    for number in 0..200 {
        acks.push(submit(&joined.dialed, numbered(number)).await);
    }
    for (number, ack) in acks.into_iter().enumerate() {
        assert_eq!(within("an ack", ack).await.unwrap(), numbered(number));
    }
    assert_eq!(handler.most.load(Ordering::SeqCst), 1);
}

pub(crate) async fn are_handled_at_the_same_time_otherwise(lab: Lab) {
    let gate = Gate::new();
    let (handler, mut seen) = probe();
    let joined = lab.join(handler.gated(&gate), ()).await;
    let mut acks = Vec::new();
    for number in 0..50 {
        acks.push(submit(&joined.dialed, numbered(number)).await);
    }
    let mut handed = Vec::new();
    for _ in 0..50 {
        handed.push(seen.record().await);
    }
    // Not every backend keeps their order.
    handed.sort();
    let mut sent: Vec<_> = (0..50).map(numbered).collect();
    sent.sort();
    assert_eq!(handed, sent);
    gate.open();
    for ack in acks {
        within("an ack", ack).await.unwrap();
    }
}

pub(crate) async fn do_not_wait_for_on_open(lab: Lab) {
    let gate = Gate::new();
    let (handler, mut seen) = probe();
    let joined = lab.join(handler.open_gated(&gate), ()).await;
    assert_eq!(send(&joined.dialed, "early").await, "early");
    assert_eq!(seen.record().await, "early");
    gate.open();
}

pub(crate) async fn can_be_sent_from_on_open(lab: Lab) {
    struct Greets;
    impl ConnectionHandler for Greets {
        async fn on_open(&self, connection: &Connection) {
            assert_eq!(connection.send("welcome").await.unwrap(), "welcome");
            assert_eq!(connection.send("and more").await.unwrap(), "and more");
        }
    }
    let (handler, mut seen) = probe();
    let _joined = lab.join(Greets, handler).await;
    assert_eq!(seen.record().await, "welcome");
    assert_eq!(seen.record().await, "and more");
}

pub(crate) async fn can_be_sent_while_one_is_handled(lab: Lab) {
    struct Asks;
    impl ConnectionHandler for Asks {
        async fn on_receive(&self, connection: &Connection, _: Bytes) -> Result<Bytes, Refusal> {
            Ok(connection.send("what is it?").await?)
        }
    }
    let answers = handler_fn(|_| async { Ok("an answer".into()) });
    let joined = lab.join(Asks, answers).await;
    let mut asking = JoinSet::new();
    for _ in 0..100 {
        let connection = joined.dialed.clone();
        asking.spawn(async move { connection.send("hm?").await.unwrap() });
    }
    for answer in within("100 answers", asking.join_all()).await {
        assert_eq!(answer, "an answer");
    }
}

pub(crate) async fn of_one_connection_do_not_wait_for_another(lab: Lab) {
    let gate = Gate::new();
    let (handler, mut seen) = probe();
    let served = lab.serve(handler.gated(&gate)).await;
    let slow = served.connect(()).await;
    let (stuck, mut stuck_seen) = probe();
    let quick = served.connect(stuck).await;
    let held = submit(&slow, "held up").await;
    assert_eq!(seen.record().await, "held up");
    eventually("both are accepted", || served.server.connections().len() == 2).await;
    for connection in served.server.connections() {
        let ack = send(&connection, "around it").await;
        assert!(ack.is_empty() || ack == "around it");
    }
    assert_eq!(stuck_seen.record().await, "around it");
    gate.open();
    assert_eq!(within("an ack", held).await.unwrap(), "held up");
    assert_eq!(send(&quick, "through").await, "through");
}

pub(crate) async fn of_many_connections_do_not_mix(lab: Lab) {
    let served = lab.serve(echo()).await;
    let mut tasks = JoinSet::new();
    for client in 0..32 {
        let connection = served.connect(()).await;
        tasks.spawn(async move {
            for number in 0..50 {
                let record = pattern(100 + number, client);
                assert_eq!(connection.send(record.clone()).await.unwrap(), record);
            }
        });
    }
    within("32 connections", tasks.join_all()).await;
    assert_eq!(served.there.connections(), 32);
}
