//! QUIC over a link that loses packets, beside TCP over the same one.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

mod link;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use link::{HERE, Link, THERE, alone};
use network_core::{
    Bytes, CloseReason, Connection, Delivery, Limits, Network, Port, SendError, accept_all,
    handler_fn,
};
use network_quic::{Congestion, Quic};
use network_tcp::Tcp;
use network_tls::{Identity, Tls};
use tokio::{task::JoinSet, time::sleep};

/// Numbers of the records that a handler was given, in order.
type Seen = Arc<Mutex<Vec<u32>>>;

fn network(limits: Limits, congestion: Congestion) -> Network {
    let tls = Tls::new().with_identity(Identity::generate().unwrap());
    let quic = Quic::new(tls).with_congestion(congestion);
    let network = Network::builder().limits(limits).protocol(quic);
    network.protocol(Tcp::new()).build().unwrap()
}

/// A server and a client with the link between them.
struct Ends {
    there: Network,
    server: Port,
    client: Port,
    seen: Seen,
    dialed: String,
}

impl Ends {
    async fn new(transport: &str, limits: Limits, congestion: Congestion) -> Self {
        let (there, here) = (network(limits.clone(), congestion), network(limits, congestion));
        let server = there.bind(format!("/ip4/{HERE}/{transport}/port/x")).await.unwrap();
        let seen = Seen::default();
        let sees = seen.clone();
        let handler = handler_fn(move |record: Bytes| {
            let number = u32::from_be_bytes(record[..4].try_into().unwrap());
            sees.lock().unwrap().push(number);
            async move { Ok(record.slice(..4)) }
        });
        server.listen(accept_all(handler)).await.unwrap();
        let client = here.bind(format!("/ip4/{HERE}/{transport}")).await.unwrap();
        let dialed = server.local_endpoint().to_string().replace(HERE, THERE);
        Self { there, server, client, seen, dialed }
    }

    async fn quic() -> Self {
        Self::new("udp/0/quic-v1", Limits::default(), Congestion::Cubic).await
    }

    async fn connect(&self) -> Connection {
        self.client.connect(self.dialed.as_str(), ()).await.unwrap()
    }
}

fn record(number: u32) -> Bytes {
    let mut record = vec![number as u8; 1024];
    record[..4].copy_from_slice(&number.to_be_bytes());
    record.into()
}

/// Sends so many records, 64 at a time; records a second.
async fn flow(connection: &Connection, numbers: std::ops::Range<u32>) -> f64 {
    let (began, count) = (Instant::now(), numbers.len());
    let mut acks = std::collections::VecDeque::new();
    for number in numbers {
        if acks.len() == 64 {
            let (number, ack): (u32, network_core::Ack<'_>) = acks.pop_front().unwrap();
            assert_eq!(ack.await.unwrap(), number.to_be_bytes()[..]);
        }
        let permit = connection.reserve(1024).await.unwrap();
        acks.push_back((number, permit.send(record(number)).unwrap()));
    }
    for (number, ack) in acks {
        assert_eq!(ack.await.unwrap(), number.to_be_bytes()[..]);
    }
    count as f64 / began.elapsed().as_secs_f64()
}

fn all_in_order(seen: &Seen, count: u32) {
    assert_eq!(*seen.lock().unwrap(), (0..count).collect::<Vec<_>>());
}

/// Every fate that was told is what became of the record.
fn fates_are_right(seen: &Seen, fates: &[(u32, Result<Bytes, SendError>)]) -> [usize; 4] {
    let all = seen.lock().unwrap();
    let seen: HashSet<u32> = all.iter().copied().collect();
    assert_eq!(seen.len(), all.len(), "a record was delivered twice");
    let mut counts = [0; 4];
    for (number, fate) in fates {
        let was_seen = seen.contains(number);
        let at = match fate {
            Ok(_) => {
                assert!(was_seen, "{number} was acked and not delivered");
                0
            }
            Err(error) => match error.delivery() {
                Delivery::Delivered => {
                    assert!(was_seen, "{number}: {error}");
                    1
                }
                Delivery::NotDelivered => {
                    assert!(!was_seen, "{number}: {error}");
                    2
                }
                Delivery::Unknown => 3,
            },
        };
        counts[at] += 1;
    }
    counts
}

async fn beside_tcp(link: &Link, per_mille: u32) {
    const RECORDS: u32 = 1_000;
    let quic = "udp/0/quic-v1";
    let mut speeds = Vec::new();
    for (transport, congestion) in
        [(quic, Congestion::Cubic), (quic, Congestion::Bbr), ("tcp/0", Congestion::Cubic)]
    {
        let ends = Ends::new(transport, Limits::default(), congestion).await;
        link.loss.store(0, Relaxed);
        let connection = ends.connect().await;
        link.loss.store(per_mille, Relaxed);
        speeds.push(flow(&connection, 0..RECORDS).await);
        all_in_order(&ends.seen, RECORDS);
        link.loss.store(0, Relaxed);
        connection.close().await;
    }
    let [cubic, bbr, tcp] = speeds[..] else { unreachable!() };
    println!(
        "{} % lost, 50 ms round trip, 20 Mbit/s, 1 KiB, 64 in flight: QUIC {cubic:.0} records/s \
         with CUBIC and {bbr:.0} with BBR, TCP {tcp:.0}: {:.2} and {:.2} of that",
        f64::from(per_mille) / 10.0,
        cubic / tcp,
        bbr / tcp
    );
    assert!(cubic > 0.2 * tcp && bbr > 0.2 * tcp, "{speeds:?}");
}

#[test]
#[ignore = "needs root, for a network namespace of its own"]
fn one_percent_lost_loses_no_record() {
    alone("one_percent_lost_loses_no_record", async |link| beside_tcp(&link, 10).await);
}

#[test]
#[ignore = "needs root, for a network namespace of its own"]
fn five_percent_lost_loses_no_record() {
    alone("five_percent_lost_loses_no_record", async |link| beside_tcp(&link, 50).await);
}

#[test]
#[ignore = "needs root, for a network namespace of its own"]
fn packets_that_come_late_change_no_order() {
    alone("packets_that_come_late_change_no_order", async |link| {
        let ends = Ends::quic().await;
        link.late.store(100, Relaxed);
        let connection = ends.connect().await;
        let speed = flow(&connection, 0..2_000).await;
        all_in_order(&ends.seen, 2_000);
        println!("10 % of the packets late by 10 ms: {speed:.0} records/s");
    });
}

#[test]
#[ignore = "needs root, for a network namespace of its own"]
fn a_blackout_of_ten_seconds_is_outlasted() {
    alone("a_blackout_of_ten_seconds_is_outlasted", async |link| {
        let ends = Ends::quic().await;
        let connection = ends.connect().await;
        flow(&connection, 0..200).await;
        let dark = {
            let link = link.clone();
            tokio::spawn(async move {
                sleep(Duration::from_millis(50)).await;
                link.dark.store(true, Relaxed);
                sleep(Duration::from_secs(10)).await;
                link.dark.store(false, Relaxed);
            })
        };
        let began = Instant::now();
        flow(&connection, 200..2_000).await;
        assert!(dark.is_finished(), "it was over before the blackout was");
        println!("a blackout of 10 s: over after {:?}", began.elapsed());
        all_in_order(&ends.seen, 2_000);
        let path = connection.stats().path.unwrap();
        assert!(path.packets_lost > 0, "{path:?}");
    });
}

#[test]
#[ignore = "needs root, for a network namespace of its own"]
fn a_blackout_without_an_end_is_noticed_and_no_fate_is_wrong() {
    alone("a_blackout_without_an_end_is_noticed_and_no_fate_is_wrong", async |link| {
        for path in ["", "/unordered/v1"] {
            let limits = Limits::default()
                .with_keepalive_time(Duration::from_secs(1))
                .with_idle_time(Duration::from_secs(3));
            link.dark.store(false, Relaxed);
            let mut ends = Ends::new("udp/0/quic-v1", limits, Congestion::Cubic).await;
            ends.dialed.push_str(path);
            let connection = ends.connect().await;
            let mut senders = JoinSet::new();
            for number in 0..600 {
                let connection = connection.clone();
                senders.spawn(async move { (number, connection.send(record(number)).await) });
            }
            sleep(Duration::from_millis(120)).await;
            link.dark.store(true, Relaxed);
            let began = Instant::now();
            let fates = senders.join_all().await;
            let reason = connection.closed().await;
            let after = began.elapsed();
            assert!(matches!(reason, CloseReason::TimedOut), "{reason:?}");
            assert!(after < Duration::from_secs(15), "{after:?}");
            let [acked, delivered, not, unknown] = fates_are_right(&ends.seen, &fates);
            println!(
                "dark for good{path}: noticed after {after:?}; {acked} acked, {delivered} \
                 delivered, {not} not, {unknown} unknown"
            );
        }
    });
}

#[test]
#[ignore = "needs root, for a network namespace of its own"]
fn a_client_may_change_its_address() {
    alone("a_client_may_change_its_address", async |link| {
        let ends = Ends::quic().await;
        let connection = ends.connect().await;
        flow(&connection, 0..200).await;
        let port = ends.client.local_endpoint().value_of("udp").unwrap().parse().unwrap();
        let accepted = ends.server.connections().remove(0);
        let name = accepted.remote_endpoint().clone();
        link.moved.store(port, Relaxed);
        let speed = flow(&connection, 200..1_000).await;
        all_in_order(&ends.seen, 1_000);
        assert_eq!(accepted.remote_endpoint(), &name);
        assert_eq!(ends.server.connections(), [accepted]);
        println!("from another address: {speed:.0} records/s");
    });
}

#[test]
#[ignore = "needs root, for a network namespace of its own"]
fn what_is_acked_as_the_connection_closes_is_not_lost() {
    alone("what_is_acked_as_the_connection_closes_is_not_lost", async |link| {
        let mut sums = [0; 4];
        for round in 0..12 {
            let mut ends = Ends::quic().await;
            if round % 2 == 1 {
                ends.dialed.push_str("/unordered/v1");
            }
            let connection = ends.connect().await;
            link.loss.store(50, Relaxed);
            let mut senders = JoinSet::new();
            for number in 0..100 {
                let connection = connection.clone();
                senders.spawn(async move { (number, connection.send(record(number)).await) });
            }
            sleep(Duration::from_millis(40 * (round / 6))).await;
            match round % 3 {
                0 => connection.close().await,
                1 => ends.server.revoke().await.unwrap(),
                _ => ends.there.shutdown(Duration::ZERO).await,
            }
            let fates = senders.join_all().await;
            connection.closed().await;
            link.loss.store(0, Relaxed);
            let counts = fates_are_right(&ends.seen, &fates);
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        let [acked, delivered, not, unknown] = sums;
        println!(
            "12 closes with 5 % lost: {acked} acked, {delivered} delivered, {not} not, {unknown} \
             unknown"
        );
        assert!(unknown * 4 < acked + delivered + not, "most are to be known");
    });
}

#[test]
#[ignore = "needs root, for a network namespace of its own"]
fn a_lost_packet_holds_up_no_other_record_without_order() {
    alone("a_lost_packet_holds_up_no_other_record_without_order", async |link| {
        link.delay.store(50, Relaxed);
        let mut medians = Vec::new();
        for path in ["", "/unordered/v1"] {
            let mut ends = Ends::quic().await;
            ends.dialed.push_str(path);
            link.loss.store(0, Relaxed);
            let connection = ends.connect().await;
            link.loss.store(30, Relaxed);
            let mut senders = JoinSet::new();
            for number in 0..400_u32 {
                let connection = connection.clone();
                senders.spawn(async move {
                    let began = Instant::now();
                    let record = Bytes::copy_from_slice(&number.to_be_bytes());
                    connection.send(record).await.unwrap();
                    began.elapsed()
                });
                sleep(Duration::from_millis(10)).await;
            }
            let mut took = senders.join_all().await;
            took.sort();
            let slow = took.iter().filter(|took| **took > Duration::from_millis(130)).count();
            println!(
                "3 % lost, a record of 4 bytes every 10 ms{path}: median {:?}, {slow} of 400 above 130 ms",
                took[200]
            );
            medians.push(slow);
        }
        assert!(medians[1] < medians[0], "{medians:?}");
    });
}
