mod altered;
mod between;
mod disbelief;
#[cfg(feature = "durable")]
mod late;
mod overdue;

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use network_core::{
    Bytes, Connection, Delivery, Network, Port, Refusal, SendError, SendOptions, accept_all,
    handler_fn,
};
use network_loopback::Loopback;
use tokio::time::timeout;

use super::*;
use crate::{LedgerError, identifier::ChannelId, ledger::Ledger};

struct Pair {
    alpha: Host,
    beta: Host,
    hop: Hop,
    _way: Network,
}

async fn pair() -> Pair {
    let way = Network::builder().protocol(Loopback::new()).build().unwrap();
    let (alpha, beta) = (Host::in_memory("alpha").unwrap(), Host::in_memory("beta").unwrap());
    beta.serve(&way.bind("/local/beta").await.unwrap()).await.unwrap();
    let port = way.bind("/local/").await.unwrap();
    let hop = alpha.connect_hop(&port, "/local/beta").await.unwrap();
    assert_eq!(alpha.connect_hop(&port, "/local/beta").await.unwrap(), hop, "it is there");
    Pair { alpha, beta, hop, _way: way }
}

async fn port(host: &Host, name: &str) -> Port {
    let network = Network::builder().protocol(host.clone()).build().unwrap();
    network.bind(name).await.unwrap()
}

async fn connected(pair: &Pair, order: &str) -> (Port, Port, Connection) {
    let server = port(&pair.beta, "/ibc-port/echo").await;
    let answer = |record: Bytes| async move {
        match &record[..] {
            b"refuse" => Err(Refusal::new("not this one")),
            b"empty" => Ok(Bytes::new()),
            long if long.len() > 1_000 => Ok(Bytes::copy_from_slice(&long.len().to_be_bytes())),
            _ => Ok(record),
        }
    };
    server.listen(accept_all(handler_fn(answer))).await.unwrap();
    let client = port(&pair.alpha, "/ibc-port/client").await;
    let remote = format!("/ibc-hop/{}/ibc-port/echo/{order}/echo-1", pair.hop.connection);
    let connection = client.connect(remote.as_str(), ()).await.unwrap();
    (server, client, connection)
}

#[tokio::test]
async fn records_go_and_answers_come() {
    let pair = pair().await;
    for order in ["ordered", "unordered"] {
        let (server, client, connection) = connected(&pair, order).await;
        assert_eq!(connection.send("hello").await.unwrap(), "hello");
        assert_eq!(connection.send("empty").await.unwrap(), &[1][..]);
        let refused = connection.send("refuse").await.unwrap_err();
        assert!(matches!(refused, SendError::Refused(_)), "{refused}");
        let empty = connection.send("").await.unwrap_err();
        assert!(matches!(empty, SendError::Empty), "{empty}");
        let long = vec![7; 262_144];
        assert_eq!(connection.send(long).await.unwrap(), &262_144_usize.to_be_bytes()[..]);
        let sends = (0..500_u32).map(|n| connection.send(n.to_be_bytes().to_vec()));
        let acks = futures_util::future::join_all(sends).await;
        for (n, ack) in (0..500_u32).zip(acks) {
            assert_eq!(ack.unwrap(), &n.to_be_bytes()[..]);
        }
        let local = connection.local_endpoint().to_string();
        assert!(
            local.starts_with(&format!("/ibc-port/client/{order}/echo-1/ibc-channel/")),
            "{local}"
        );
        timeout(Duration::from_secs(3), connection.close()).await.unwrap();
        server.revoke().await.unwrap();
        client.revoke().await.unwrap();
    }
}

#[tokio::test]
async fn a_hop_is_listed_at_both_ends() {
    let pair = pair().await;
    assert_eq!(pair.alpha.hops(), std::slice::from_ref(&pair.hop));
    assert_eq!(pair.hop.chain, "beta");
    let beta = pair.beta.hops();
    assert_eq!((beta.len(), beta[0].chain.as_str()), (1, "alpha"));
}

#[tokio::test]
async fn nobody_listens_and_no_hop_are_told() {
    let pair = pair().await;
    let client = port(&pair.alpha, "/ibc-port/client").await;
    let nobody = format!("/ibc-hop/{}/ibc-port/nobody/ordered/v1", pair.hop.connection);
    let error = client.connect(nobody.as_str(), ()).await.unwrap_err();
    assert!(error.to_string().contains("nobody listens there"), "{error}");
    let error =
        client.connect("/ibc-hop/connection-9/ibc-port/echo/ordered/v1", ()).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("no open hop connection-9"), "{source}");
}

#[tokio::test]
async fn a_close_is_told_to_the_other_side() {
    let pair = pair().await;
    let (server, _client, connection) = connected(&pair, "ordered").await;
    connection.send("hello").await.unwrap();
    let [other] = &server.connections()[..] else { panic!("not one connection") };
    let other = other.clone();
    connection.close().await;
    timeout(Duration::from_secs(3), other.closed()).await.unwrap();
    let error = connection.send("late").await.unwrap_err();
    assert_eq!(error.delivery(), Delivery::NotDelivered);
}

#[tokio::test]
async fn a_timeout_is_proved_and_closes_an_ordered_channel() {
    let pair = pair().await;
    for order in ["ordered", "unordered"] {
        let (server, client, connection) = connected(&pair, order).await;
        let options = SendOptions::default().with_timeout(Duration::from_nanos(1));
        let error = connection.send_with("late", options).await.unwrap_err();
        assert!(matches!(error, SendError::TimedOut { .. }), "{error}");
        assert_eq!(error.delivery(), Delivery::NotDelivered);
        connection.close().await;
        server.revoke().await.unwrap();
        client.revoke().await.unwrap();
    }
}

/// Whether a record gets over a new channel. What was under way as a connection ended may be
/// lost, the next try not.
async fn reaches(pair: &Pair, client: &Port) -> bool {
    let remote = format!("/ibc-hop/{}/ibc-port/echo/ordered/echo-1", pair.hop.connection);
    let tried = async {
        let connection = client.connect(remote.as_str(), ()).await.ok()?;
        connection.send("hello").await.ok()
    };
    timeout(Duration::from_secs(5), tried).await.is_ok_and(|ack| ack.is_some())
}

#[tokio::test]
async fn a_way_is_dialed_again_when_its_connection_ends() {
    let way = Network::builder().protocol(Loopback::new()).build().unwrap();
    let (alpha, beta) = (Host::in_memory("alpha").unwrap(), Host::in_memory("beta").unwrap());
    let served = way.bind("/local/beta").await.unwrap();
    beta.serve(&served).await.unwrap();
    let from = way.bind("/local/").await.unwrap();
    let hop = alpha.connect_hop(&from, "/local/beta").await.unwrap();
    let pair = Pair { alpha, beta, hop, _way: way.clone() };
    let (_server, client, _connection) = connected(&pair, "ordered").await;

    let end = async || {
        for connection in served.connections() {
            connection.close().await;
        }
    };
    end().await;
    assert!(reaches(&pair, &client).await, "it was dialed again");

    // Nobody is there for a while.
    served.unlisten().await.unwrap();
    end().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(served.connections(), []);
    pair.beta.serve(&served).await.unwrap();
    assert!(reaches(&pair, &client).await, "it was dialed until somebody was there");

    // Another host is there.
    served.revoke().await.unwrap();
    let served = way.bind("/local/beta").await.unwrap();
    let other = Host::in_memory("gamma").unwrap();
    other.serve(&served).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(other.hops(), []);
    served.revoke().await.unwrap();
    let served = way.bind("/local/beta").await.unwrap();
    pair.beta.serve(&served).await.unwrap();
    assert!(reaches(&pair, &client).await, "it is the one that it was");
    assert_eq!(pair.alpha.hops(), std::slice::from_ref(&pair.hop), "the hop is the same");
    assert_eq!(pair.beta.hops().len(), 1);
}

#[tokio::test]
async fn a_host_that_ends_lets_go_of_its_ways() {
    let pair = pair().await;
    let Pair { alpha, beta: _beta, _way: way, .. } = pair;
    assert!(way.connections() > 0);
    drop(alpha);
    let closed = async {
        while way.connections() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(5), closed).await.unwrap();
}

#[tokio::test]
async fn no_handler_sees_a_record_that_was_not_stored_as_received() {
    let way = Network::builder().protocol(Loopback::new()).build().unwrap();
    let fails = Arc::new(AtomicBool::new(false));
    let key = Arc::new(LedgerKey::generate().unwrap());
    let failing = fails.clone();
    let write = move || match failing.load(Ordering::Acquire) {
        true => Err(LedgerError::Stopped),
        false => Ok(()),
    };
    let ledger = Ledger::scripted(key.clone(), "beta", write).unwrap();
    let (alpha, beta) = (Host::in_memory("alpha").unwrap(), Host::builder("").over(ledger, key));
    beta.serve(&way.bind("/local/beta").await.unwrap()).await.unwrap();
    let hop = alpha.connect_hop(&way.bind("/local/").await.unwrap(), "/local/beta").await.unwrap();
    let server = port(&beta, "/ibc-port/count").await;
    let handled = Arc::new(AtomicUsize::new(0));
    let count = handled.clone();
    let handler = handler_fn(move |record: Bytes| {
        count.fetch_add(1, Ordering::Relaxed);
        async move { Ok(record) }
    });
    server.listen(accept_all(handler)).await.unwrap();
    let client = port(&alpha, "/ibc-port/client").await;
    let remote = format!("/ibc-hop/{}/ibc-port/count/ordered/count-1", hop.connection);
    let connection = client.connect(remote.as_str(), ()).await.unwrap();
    connection.send("hello").await.unwrap();
    // Until what follows from that is stored.
    tokio::time::sleep(Duration::from_millis(100)).await;

    fails.store(true, Ordering::Release);
    let sent = timeout(Duration::from_millis(300), connection.send("lost")).await;
    assert!(sent.is_err(), "the host has ended: {sent:?}");
    assert_eq!(handled.load(Ordering::Relaxed), 1);
}

// One thread for all tasks: a block that were written on it would never be.
#[tokio::test]
async fn other_tasks_go_on_while_a_block_is_written() {
    let (write, may_write) = std::sync::mpsc::sync_channel::<()>(0);
    let may_write = std::sync::Mutex::new(may_write);
    let key = Arc::new(LedgerKey::generate().unwrap());
    let blocks = move || {
        let told = may_write.lock().unwrap().recv_timeout(Duration::from_secs(3));
        told.map_err(|_| LedgerError::Stopped)
    };
    let ledger = Ledger::scripted(key.clone(), "slow", blocks).unwrap();
    let host = Host::builder("").over(ledger, key);
    let opened = port(&host, "/ibc-port/me");
    let writes = async {
        // The disk begins to answer when others have had their turn.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        while write.try_send(()).is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(5), async { tokio::join!(opened, writes) }).await.unwrap();
    // The host ends, and so does what still waits for the disk.
    drop(write);
    host.end().await;
}

/// A listener that never decides.
#[cfg(feature = "durable")]
struct Undecided;

#[cfg(feature = "durable")]
impl network_core::ListenHandler for Undecided {
    async fn on_accept(
        &self,
        _: &Port,
        _: &network_core::Attempt,
    ) -> Result<network_core::AnyHandler, Refusal> {
        std::future::pending().await
    }
}

#[cfg(feature = "durable")]
async fn reopened(folder: &std::path::Path, chain: &str) -> Host {
    let open = async {
        loop {
            // Until the one before it has ended.
            let key = LedgerKey::from_seed(&[9; 32]).unwrap();
            match Host::open(folder, chain, key) {
                Ok(host) => break host,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    timeout(Duration::from_secs(5), open).await.unwrap()
}

#[cfg(feature = "durable")]
#[tokio::test]
async fn a_channel_that_a_host_had_not_decided_over_when_it_ended_opens_after_all() {
    let folder = tempfile::tempdir().unwrap();
    let way = Network::builder().protocol(Loopback::new()).build().unwrap();
    let (alpha, beta) = (Host::in_memory("alpha").unwrap(), reopened(folder.path(), "beta").await);
    let served = way.bind("/local/beta").await.unwrap();
    beta.serve(&served).await.unwrap();
    let from = way.bind("/local/").await.unwrap();
    let hop = alpha.connect_hop(&from, "/local/beta").await.unwrap();
    let server = port(&beta, "/ibc-port/echo").await;
    server.listen(Undecided).await.unwrap();
    let client = port(&alpha, "/ibc-port/client").await;
    let remote = format!("/ibc-hop/{}/ibc-port/echo/ordered/echo-1", hop.connection);
    let connecting = tokio::spawn({
        let (client, remote) = (client.clone(), remote.clone());
        async move { client.connect(remote.as_str(), ()).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;

    // Whoever is being asked still holds it.
    beta.0.inbox.push(Command::Stop);
    for connection in served.connections() {
        connection.close().await;
    }
    let beta = reopened(folder.path(), "beta").await;
    let server = port(&beta, "/ibc-port/echo").await;
    server.listen(accept_all(handler_fn(|record| async move { Ok(record) }))).await.unwrap();
    beta.serve(&served).await.unwrap();
    let connection = timeout(Duration::from_secs(5), connecting).await.unwrap().unwrap().unwrap();
    assert_eq!(connection.send("hello").await.unwrap(), "hello");
    assert_eq!(server.connections().len(), 1);
}

/// What a handler was given.
#[cfg(feature = "durable")]
type Given = Arc<Mutex<Vec<Bytes>>>;

/// A port `count` that remembers what it is given.
#[cfg(feature = "durable")]
async fn counting(host: &Host, given: &Given) -> Port {
    let server = port(host, "/ibc-port/count").await;
    let given = given.clone();
    let handler = handler_fn(move |record: Bytes| {
        given.lock().unwrap().push(record.clone());
        async move { Ok(record) }
    });
    server.listen(accept_all(handler)).await.unwrap();
    server
}

/// Sends the numbers below 20, one after the other.
#[cfg(feature = "durable")]
async fn send_numbers(
    connection: &Connection,
) -> Vec<tokio::task::JoinHandle<Result<Bytes, SendError>>> {
    let mut sends = Vec::new();
    for number in 0..20_u32 {
        let permit = connection.reserve(4).await.unwrap();
        let ack = permit.send(number.to_be_bytes().to_vec()).unwrap();
        sends.push(tokio::spawn(ack.into_owned()));
    }
    // Until they are stored.
    tokio::time::sleep(Duration::from_millis(100)).await;
    sends
}

#[cfg(feature = "durable")]
async fn cut(served: &Port) {
    served.unlisten().await.unwrap();
    for connection in served.connections() {
        connection.close().await;
    }
}

#[cfg(feature = "durable")]
#[tokio::test]
async fn what_a_host_sent_before_it_ended_is_delivered_when_it_is_back() {
    for order in ["ordered", "unordered"] {
        let folder = tempfile::tempdir().unwrap();
        let way = Network::builder().protocol(Loopback::new()).build().unwrap();
        let beta = Host::in_memory("beta").unwrap();
        let alpha = reopened(folder.path(), "alpha").await;
        let served = way.bind("/local/beta").await.unwrap();
        beta.serve(&served).await.unwrap();
        let from = way.bind("/local/").await.unwrap();
        let hop = alpha.connect_hop(&from, "/local/beta").await.unwrap();
        let given = Given::default();
        let _server = counting(&beta, &given).await;
        let client = port(&alpha, "/ibc-port/client").await;
        let remote = format!("/ibc-hop/{}/ibc-port/count/{order}/count-1", hop.connection);
        let connection = client.connect(remote.as_str(), ()).await.unwrap();
        cut(&served).await;
        let sends = send_numbers(&connection).await;
        drop((alpha, client, connection));

        let alpha = reopened(folder.path(), "alpha").await;
        beta.serve(&served).await.unwrap();
        assert_eq!(alpha.connect_hop(&from, "/local/beta").await.unwrap(), hop);
        let all = async {
            while given.lock().unwrap().len() < 20 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(5), all).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let numbers: Vec<_> = (0..20_u32).map(|number| number.to_be_bytes().to_vec()).collect();
        assert_eq!(*given.lock().unwrap(), numbers);
        for send in sends {
            assert_eq!(send.await.unwrap().unwrap_err().delivery(), Delivery::Unknown);
        }

        // Nothing is left to be relayed.
        alpha.end().await;
        let key = Arc::new(LedgerKey::from_seed(&[9; 32]).unwrap());
        let ledger = Ledger::open(folder.path(), key, "alpha", 1).unwrap();
        let left = crate::engine::Store::private_next(&ledger, b"host/out/", b"host/out/");
        assert_eq!(left, None);
    }
}

#[cfg(feature = "durable")]
#[tokio::test]
async fn what_is_done_with_is_forgotten() {
    const SENT: u64 = 10_000;
    for order in ["ordered", "unordered"] {
        let folder = tempfile::tempdir().unwrap();
        let way = Network::builder().protocol(Loopback::new()).build().unwrap();
        let alpha = Host::in_memory("alpha").unwrap();
        let beta = reopened(folder.path(), "beta").await;
        beta.serve(&way.bind("/local/beta").await.unwrap()).await.unwrap();
        let hop = alpha.connect_hop(&way.bind("/local/").await.unwrap(), "/local/beta").await;
        let pair = Pair { alpha, beta, hop: hop.unwrap(), _way: way };
        let (server, client, connection) = connected(&pair, order).await;
        let mut sends = tokio::task::JoinSet::new();
        for _ in 0..SENT {
            let ack = connection.reserve(5).await.unwrap().send("hello").unwrap();
            sends.spawn(ack.into_owned());
        }
        while let Some(sent) = sends.join_next().await {
            sent.unwrap().unwrap();
        }
        let channel = connection.local_endpoint().to_string();
        let id = ChannelId::known(channel.rsplit('/').next().unwrap());
        drop((connection, client));
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop((pair, server));

        reopened(folder.path(), "beta").await.end().await;
        let key = Arc::new(LedgerKey::from_seed(&[9; 32]).unwrap());
        let ledger = Ledger::open(folder.path(), key, "beta", 1).unwrap();
        let echo = PortId::known("echo");
        let kept = (1..=SENT).filter(|sequence| {
            let ack = crate::path::acknowledgement(&echo, &id, *sequence);
            crate::engine::Store::get(&ledger, &ack).is_some()
        });
        let kept = kept.count();
        assert!(kept < 4_096, "{order}: {kept} acknowledgements are kept");
    }
}

#[cfg(feature = "durable")]
#[tokio::test]
async fn what_was_sent_to_a_host_that_was_away_is_proved_undelivered() {
    for order in ["ordered", "unordered"] {
        let folder = tempfile::tempdir().unwrap();
        let way = Network::builder().protocol(Loopback::new()).build().unwrap();
        let alpha = Host::in_memory("alpha").unwrap();
        let beta = reopened(folder.path(), "beta").await;
        let served = way.bind("/local/beta").await.unwrap();
        beta.serve(&served).await.unwrap();
        let from = way.bind("/local/").await.unwrap();
        let hop = alpha.connect_hop(&from, "/local/beta").await.unwrap();
        let given = Given::default();
        let server = counting(&beta, &given).await;
        let client = port(&alpha, "/ibc-port/client").await;
        let remote = format!("/ibc-hop/{}/ibc-port/count/{order}/count-1", hop.connection);
        let connection = client.connect(remote.as_str(), ()).await.unwrap();
        cut(&served).await;
        drop((beta, server));
        let sends = send_numbers(&connection).await;

        let beta = reopened(folder.path(), "beta").await;
        let _server = counting(&beta, &given).await;
        beta.serve(&served).await.unwrap();
        for send in sends {
            let sent = timeout(Duration::from_secs(5), send).await.unwrap().unwrap();
            assert_eq!(sent.unwrap_err().delivery(), Delivery::NotDelivered);
        }
        let connection = client.connect(remote.as_str(), ()).await.unwrap();
        assert_eq!(connection.send("hello").await.unwrap(), "hello");
        assert_eq!(*given.lock().unwrap(), ["hello"]);
        assert_eq!((alpha.hops(), beta.hops().len()), (vec![hop], 1));
    }
}

#[tokio::test]
async fn who_takes_the_name_of_another_host_is_turned_away() {
    let pair = pair().await;
    let way = Network::builder().protocol(Loopback::new()).build().unwrap();
    // It dials.
    pair.alpha.serve(&way.bind("/local/alpha").await.unwrap()).await.unwrap();
    let thief = Host::in_memory("beta").unwrap();
    let from = way.bind("/local/").await.unwrap();
    let error = thief.connect_hop(&from, "/local/alpha").await.unwrap_err();
    let said = std::error::Error::source(&error).map_or(error.to_string(), ToString::to_string);
    assert!(said.contains("another host of this chain id is known here"), "{error}: {said}");
    // It is dialed.
    thief.serve(&way.bind("/local/thief").await.unwrap()).await.unwrap();
    let error = pair.alpha.connect_hop(&from, "/local/thief").await.unwrap_err();
    assert!(error.to_string().contains("and not its key"), "{error}");
    assert_eq!(pair.alpha.hops(), std::slice::from_ref(&pair.hop));
    // The one that is known is still reached.
    let (_server, _client, connection) = connected(&pair, "ordered").await;
    assert_eq!(connection.send("hello").await.unwrap(), "hello");
}
