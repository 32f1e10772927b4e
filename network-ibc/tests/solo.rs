//! Hosts that show themselves as solo machines, to each other and to hosts that are chains.

#![cfg(feature = "host")]
#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use network_core::{
    Bytes, Connection, Delivery, Network, Port, Refusal, SendError, SendOptions, accept_all,
    handler_fn,
};
use network_ibc::{Host, HostBuilder, SoloKey};
use network_loopback::Loopback;
use tokio::time::{sleep, timeout};

/// What a host shows itself as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shows {
    Chain,
    Secp256k1(u8),
    Ed25519(u8),
}

fn host(chain: &str, shows: Shows) -> HostBuilder {
    let host = Host::builder(chain);
    match shows {
        Shows::Chain => host,
        Shows::Secp256k1(seed) => host.solo_machine(SoloKey::secp256k1(&[seed; 32]).unwrap()),
        Shows::Ed25519(seed) => host.solo_machine(SoloKey::ed25519(&[seed; 32]).unwrap()),
    }
}

/// All mixes: a chain and a solo machine, either of which dials, and two solo machines.
const MIXES: [(Shows, Shows); 6] = [
    (Shows::Chain, Shows::Secp256k1(1)),
    (Shows::Chain, Shows::Ed25519(1)),
    (Shows::Secp256k1(1), Shows::Chain),
    (Shows::Ed25519(1), Shows::Chain),
    (Shows::Secp256k1(1), Shows::Ed25519(1)),
    (Shows::Ed25519(1), Shows::Ed25519(1)),
];

struct Pair {
    alpha: Host,
    beta: Host,
    hop: String,
    served: Port,
    from: Port,
}

impl Pair {
    async fn new(alpha: Host, beta: Host) -> Self {
        let way = Network::builder().protocol(Loopback::new()).build().unwrap();
        let served = way.bind("/local/beta").await.unwrap();
        beta.serve(&served).await.unwrap();
        let from = way.bind("/local/").await.unwrap();
        let hop = alpha.connect_hop(&from, "/local/beta").await.unwrap();
        assert_eq!(alpha.connect_hop(&from, "/local/beta").await.unwrap(), hop, "it is there");
        Self { alpha, beta, hop: hop.connection.to_string(), served, from }
    }

    fn mixed((alpha, beta): (Shows, Shows)) -> impl Future<Output = Self> {
        let alpha = host("alpha", alpha).in_memory().unwrap();
        Self::new(alpha, host("beta", beta).in_memory().unwrap())
    }

    /// Ends what carries the hop. It is dialed again.
    async fn cut(&self) {
        for connection in self.served.connections() {
            connection.close().await;
        }
    }
}

async fn port(host: &Host, name: &str) -> Port {
    let network = Network::builder().protocol(host.clone()).build().unwrap();
    network.bind(name).await.unwrap()
}

/// What a handler was given.
type Given = Arc<Mutex<Vec<Bytes>>>;

/// Answers what it is given, and remembers it.
async fn echo(host: &Host, given: &Given) -> Port {
    let server = port(host, "/ibc-port/echo").await;
    let given = given.clone();
    let answer = move |record: Bytes| {
        given.lock().unwrap().push(record.clone());
        async move {
            match &record[..] {
                b"refuse" => Err(Refusal::new("not this one")),
                _ => Ok(record),
            }
        }
    };
    server.listen(accept_all(handler_fn(answer))).await.unwrap();
    server
}

async fn connect(client: &Port, hop: &str, order: &str) -> Connection {
    let remote = format!("/ibc-hop/{hop}/ibc-port/echo/{order}/echo-1");
    let connecting = client.connect(remote.as_str(), ());
    timeout(Duration::from_secs(10), connecting).await.unwrap().unwrap()
}

async fn talk(connection: &Connection, count: u32) {
    let sends = (0..count).map(|n| connection.send(n.to_be_bytes().to_vec()));
    let acks = futures_util::future::join_all(sends);
    let acks = timeout(Duration::from_secs(20), acks).await.unwrap();
    for (n, ack) in (0..count).zip(acks) {
        assert_eq!(ack.unwrap(), &n.to_be_bytes()[..]);
    }
}

#[tokio::test]
async fn every_mix_opens_talks_refuses_times_out_and_closes() {
    for mix in MIXES {
        let pair = Pair::mixed(mix).await;
        for order in ["ordered", "unordered"] {
            for (here, there) in [(&pair.alpha, &pair.beta), (&pair.beta, &pair.alpha)] {
                let given = Given::default();
                let server = echo(there, &given).await;
                let client = port(here, "/ibc-port/client").await;
                let connection = connect(&client, &pair.hop, order).await;
                talk(&connection, 100).await;
                let refused = connection.send("refuse").await.unwrap_err();
                assert!(matches!(refused, SendError::Refused(_)), "{mix:?} {refused}");
                assert_eq!(given.lock().unwrap().len(), 101);

                let options = SendOptions::default().with_timeout(Duration::from_nanos(1));
                let late = connection.send_with("late", options);
                let late = timeout(Duration::from_secs(10), late).await.unwrap().unwrap_err();
                assert!(matches!(late, SendError::TimedOut { .. }), "{mix:?} {order}: {late}");
                assert_eq!(late.delivery(), Delivery::NotDelivered);
                if order == "ordered" {
                    timeout(Duration::from_secs(3), connection.closed()).await.unwrap();
                } else {
                    talk(&connection, 1).await;
                }

                // Each side closes one.
                for local in [true, false] {
                    let connection = connect(&client, &pair.hop, order).await;
                    talk(&connection, 1).await;
                    let other = server.connections().pop().unwrap();
                    let (closes, learns) =
                        if local { (&connection, &other) } else { (&other, &connection) };
                    closes.close().await;
                    timeout(Duration::from_secs(3), learns.closed()).await.unwrap();
                }
                client.revoke().await.unwrap();
                server.revoke().await.unwrap();
            }
        }
    }
}

/// Sends numbers, as many as are under way at most, and gives their acks.
async fn send_numbers(
    connection: &Connection,
    numbers: std::ops::Range<u32>,
) -> Vec<tokio::task::JoinHandle<Result<Bytes, SendError>>> {
    let mut sends = Vec::new();
    for number in numbers {
        let permit = connection.reserve(4).await.unwrap();
        let ack = permit.send(number.to_be_bytes().to_vec()).unwrap();
        sends.push(tokio::spawn(ack.into_owned()));
    }
    sends
}

fn numbers(range: std::ops::Range<u32>) -> Vec<Vec<u8>> {
    range.map(|number| number.to_be_bytes().to_vec()).collect()
}

#[tokio::test]
async fn nothing_is_lost_or_comes_twice_when_the_way_is_cut_in_the_middle_of_batches() {
    for mix in MIXES {
        let pair = Arc::new(Pair::mixed(mix).await);
        let cutting = tokio::spawn({
            let pair = pair.clone();
            async move {
                for wait in [3, 5, 8, 13, 21, 34, 55] {
                    sleep(Duration::from_millis(wait)).await;
                    pair.cut().await;
                }
            }
        });
        for order in ["ordered", "unordered"] {
            let given = Given::default();
            let server = echo(&pair.beta, &given).await;
            let client = port(&pair.alpha, "/ibc-port/client").await;
            let connection = connect(&client, &pair.hop, order).await;
            let sends = send_numbers(&connection, 0..500).await;
            for (number, send) in (0..500_u32).zip(sends) {
                let ack = timeout(Duration::from_secs(20), send).await.unwrap().unwrap();
                assert_eq!(ack.unwrap(), &number.to_be_bytes()[..], "{mix:?} {order}");
            }
            let mut all = std::mem::take(&mut *given.lock().unwrap());
            if order == "unordered" {
                all.sort();
            }
            assert_eq!(all, numbers(0..500), "{mix:?} {order}");
            connection.close().await;
            client.revoke().await.unwrap();
            server.revoke().await.unwrap();
        }
        cutting.await.unwrap();
        let hop = pair.alpha.connect_hop(&pair.from, "/local/beta").await.unwrap();
        assert_eq!(hop.connection.as_str(), pair.hop, "it is the same one");
    }
}

#[cfg(feature = "durable")]
mod durable {
    use std::path::Path;

    use network_ibc::{HostError, LedgerKey};

    use super::*;

    fn open(folder: &Path, chain: &str, shows: Shows) -> Result<Host, HostError> {
        host(chain, shows).open(folder, LedgerKey::from_seed(&[9; 32]).unwrap())
    }

    #[tokio::test]
    async fn a_ledger_opens_as_what_it_was_alone() {
        let shows = [
            Shows::Chain,
            Shows::Secp256k1(1),
            Shows::Secp256k1(2),
            Shows::Ed25519(1),
            Shows::Ed25519(2),
        ];
        for was in shows {
            let folder = tempfile::tempdir().unwrap();
            open(folder.path(), "alpha", was).unwrap().end().await;
            for wanted in shows {
                match open(folder.path(), "alpha", wanted) {
                    Ok(host) => {
                        assert_eq!(was, wanted);
                        host.end().await;
                    }
                    Err(error) => {
                        assert_ne!(was, wanted, "{error}");
                        assert!(matches!(error, HostError::Face { .. }), "{error}");
                        let kind = if was == Shows::Chain { "07-tendermint" } else { "06-solo" };
                        let says = format!("others know alpha as {kind}");
                        assert!(error.to_string().contains(&says), "{error}");
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn what_a_host_sent_before_it_ended_is_delivered_once_when_it_is_back() {
        for (alpha, beta) in MIXES {
            for order in ["ordered", "unordered"] {
                let folder = tempfile::tempdir().unwrap();
                let first = open(folder.path(), "alpha", alpha).unwrap();
                let pair = Pair::new(first, host("beta", beta).in_memory().unwrap()).await;
                let given = Given::default();
                let _server = echo(&pair.beta, &given).await;
                let mut running = pair.alpha.clone();
                let Pair { alpha: before, .. } = pair;
                drop(before);
                for round in 0..4 {
                    let client = port(&running, "/ibc-port/client").await;
                    let connection = connect(&client, &pair.hop, order).await;
                    send_numbers(&connection, round * 50..(round + 1) * 50).await;
                    // While they are on their way.
                    running.end().await;
                    running = open(folder.path(), "alpha", alpha).unwrap();
                    running.connect_hop(&pair.from, "/local/beta").await.unwrap();
                }
                let all = async {
                    while given.lock().unwrap().len() < 200 {
                        sleep(Duration::from_millis(5)).await;
                    }
                };
                timeout(Duration::from_secs(10), all).await.unwrap();
                sleep(Duration::from_millis(100)).await;
                let mut all = std::mem::take(&mut *given.lock().unwrap());
                // The channels of two rounds may overlap.
                all.sort();
                assert_eq!(all, numbers(0..200), "{alpha:?} {beta:?} {order}");
            }
        }
    }

    #[tokio::test]
    async fn who_sends_to_a_host_that_ends_learns_what_it_had_received() {
        for (alpha, beta) in MIXES {
            for order in ["ordered", "unordered"] {
                let folder = tempfile::tempdir().unwrap();
                let first = open(folder.path(), "beta", beta).unwrap();
                let pair = Pair::new(host("alpha", alpha).in_memory().unwrap(), first).await;
                let client = port(&pair.alpha, "/ibc-port/client").await;
                let given = Given::default();
                let (mut running, mut sends) = (pair.beta, Vec::new());
                for round in 0..4 {
                    let server = echo(&running, &given).await;
                    let connection = connect(&client, &pair.hop, order).await;
                    let some = send_numbers(&connection, round * 50..(round + 1) * 50).await;
                    sends.extend(some);
                    // At once, and once the first of them has been answered.
                    let first = &sends[sends.len() - 50];
                    let answered = async {
                        while round > 1 && !first.is_finished() {
                            sleep(Duration::from_millis(1)).await;
                        }
                    };
                    timeout(Duration::from_secs(10), answered).await.unwrap();
                    drop(server);
                    running.end().await;
                    pair.served.unlisten().await.unwrap();
                    for connection in pair.served.connections() {
                        connection.close().await;
                    }
                    running = open(folder.path(), "beta", beta).unwrap();
                    running.serve(&pair.served).await.unwrap();
                }
                let mut counts = [0; 3];
                for (number, send) in (0..200_u32).zip(sends) {
                    let sent = timeout(Duration::from_secs(10), send).await.unwrap().unwrap();
                    let number = number.to_be_bytes();
                    let times =
                        given.lock().unwrap().iter().filter(|record| record[..] == number).count();
                    let (fate, possible) = match sent.map_err(|error| error.delivery()) {
                        Ok(_) => (0, 1..=1),
                        Err(Delivery::NotDelivered) => (1, 0..=0),
                        Err(_) => (2, 0..=1),
                    };
                    counts[fate] += 1;
                    assert!(
                        possible.contains(&times),
                        "{alpha:?} {beta:?} {order}: {fate} {times}"
                    );
                }
                assert!(counts[0] + counts[1] > 0, "{counts:?}");
            }
        }
    }
}
