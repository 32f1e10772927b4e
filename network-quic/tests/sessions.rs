//! QUIC connections that are shared: when one is made, when it ends, and what that does to the
//! connections on it.

#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    net::{Ipv4Addr, SocketAddr, UdpSocket as StdSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use network_core::{
    Bytes, ConnectError, Connection, Delivery, Limits, Network, PeerId, Port, Rejection, SendError,
    accept_all, handler_fn,
};
use network_quic::Quic;
use network_tls::{Identity, Tls};
use quinn::crypto::rustls::QuicServerConfig;
use tokio::{
    net::UdpSocket,
    task::JoinSet,
    time::{sleep, timeout},
};

const SOON: Duration = Duration::from_secs(10);
const ANY: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
const LOCAL: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn tls() -> Tls {
    Tls::new().with_identity(Identity::generate().unwrap())
}

fn network(quic: Quic, limits: Limits) -> Network {
    Network::builder().limits(limits).protocol(quic).build().unwrap()
}

fn usual() -> Network {
    network(Quic::new(tls()), Limits::default())
}

async fn echoes(port: &Port) {
    port.listen(accept_all(handler_fn(|record| async move { Ok(record) }))).await.unwrap();
}

async fn serve(network: &Network, at: &str) -> Port {
    let port = network.bind(at).await.unwrap();
    echoes(&port).await;
    port
}

async fn dial(port: &Port, to: &str) -> Result<Connection, ConnectError> {
    timeout(SOON, port.connect(to, ())).await.unwrap()
}

async fn echo(connection: &Connection) {
    assert_eq!(timeout(SOON, connection.send("hello")).await.unwrap().unwrap(), "hello");
}

fn number(port: &Port) -> u16 {
    port.local_endpoint().value_of("udp").unwrap().parse().unwrap()
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(SOON, waiting).await.unwrap_or_else(|_| panic!("it never came to this: {what}"));
}

/// What is between a dialer and a listener: it passes datagrams on, as long as it is open, and
/// counts the handshakes.
struct Relay {
    number: u16,
    peer: PeerId,
    state: Arc<State>,
}

struct State {
    to: AtomicU16,
    open: AtomicBool,
    /// Loses one datagram of so many, in each direction; none if that is 0.
    loses: AtomicUsize,
    passed: AtomicUsize,
    /// How dialers call themselves in their first packets: each handshake has another.
    begun: Mutex<HashSet<Vec<u8>>>,
}

impl Relay {
    async fn new(to: &Port) -> Self {
        let front = Arc::new(UdpSocket::bind((LOCAL, 0)).await.unwrap());
        let number = front.local_addr().unwrap().port();
        let peer = to.local_endpoint().value_of("p2p").unwrap().parse().unwrap();
        let state = Arc::new(State {
            to: AtomicU16::new(self::number(to)),
            open: AtomicBool::new(true),
            loses: AtomicUsize::new(0),
            passed: AtomicUsize::new(0),
            begun: Mutex::default(),
        });
        tokio::spawn(relay(front, state.clone()));
        Self { number, peer, state }
    }

    fn address(&self) -> String {
        let Self { number, peer, .. } = self;
        format!("/ip4/127.0.0.1/udp/{number}/quic-v1/p2p/{peer}/port/echo")
    }

    fn handshakes(&self) -> usize {
        self.state.begun.lock().unwrap().len()
    }

    fn set_open(&self, open: bool) {
        self.state.open.store(open, Ordering::Relaxed);
    }
}

impl State {
    fn passes(&self) -> bool {
        // A few at random places, the same in each run as far as the order is.
        let at = self.passed.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9) >> 7;
        let loses = self.loses.load(Ordering::Relaxed);
        self.open.load(Ordering::Relaxed) && (loses == 0 || !at.is_multiple_of(loses))
    }
}

async fn relay(front: Arc<UdpSocket>, state: Arc<State>) {
    let mut backs = HashMap::<(SocketAddr, u16), Arc<UdpSocket>>::new();
    let mut datagram = vec![0; 1 << 16];
    while let Ok((len, from)) = front.recv_from(&mut datagram).await {
        let datagram = &datagram[..len];
        if let Some(name) = name_in_initial(datagram) {
            state.begun.lock().unwrap().insert(name);
        }
        if !state.passes() {
            continue;
        }
        let to = state.to.load(Ordering::Relaxed);
        let back = match backs.entry((from, to)) {
            Entry::Occupied(back) => back.into_mut(),
            Entry::Vacant(none) => {
                let back = Arc::new(UdpSocket::bind((LOCAL, 0)).await.unwrap());
                back.connect((LOCAL, to)).await.unwrap();
                tokio::spawn(relay_back(back.clone(), front.clone(), from, state.clone()));
                none.insert(back)
            }
        };
        let _ = back.send(datagram).await;
    }
}

async fn relay_back(
    back: Arc<UdpSocket>,
    front: Arc<UdpSocket>,
    to: SocketAddr,
    state: Arc<State>,
) {
    let mut datagram = vec![0; 1 << 16];
    loop {
        // An error is that nobody was there, for a moment.
        let Ok(len) = back.recv(&mut datagram).await else { continue };
        let from = back.peer_addr().unwrap().port();
        if state.passes() && state.to.load(Ordering::Relaxed) == from {
            let _ = front.send_to(&datagram[..len], to).await;
        }
    }
}

/// The source connection id of an Initial packet (RFC 9000 §17.2.2), if that is one.
fn name_in_initial(datagram: &[u8]) -> Option<Vec<u8>> {
    let (first, rest) = datagram.split_first()?;
    let rest = rest.strip_prefix(&[0, 0, 0, 1]).filter(|_| first & 0xf0 == 0xc0)?;
    let (to, rest) = rest.split_first()?;
    let (from, rest) = rest.get((*to).into()..)?.split_first()?;
    rest.get(..(*from).into()).map(<[u8]>::to_vec)
}

/// A listener that echoes, and a relay before it.
async fn relayed() -> (Network, Port, Relay) {
    let there = usual();
    let port = serve(&there, "/ip4/127.0.0.1/udp/0/quic-v1/port/echo").await;
    let relay = Relay::new(&port).await;
    (there, port, relay)
}

#[tokio::test]
async fn the_next_connect_to_an_address_opens_a_stream_and_makes_no_handshake() {
    let (_there, listening, relay) = relayed().await;
    let here = usual();
    let port = here.bind(format!("{ANY}/port/one")).await.unwrap();
    let mut connections = Vec::new();
    for _ in 0..5 {
        connections.push(dial(&port, &relay.address()).await.unwrap());
    }
    // Another port of the same socket.
    let other = format!("/ip4/127.0.0.1/udp/{}/quic-v1/port/two", number(&port));
    let other = here.bind(other).await.unwrap();
    connections.push(dial(&other, &relay.address()).await.unwrap());
    assert_eq!(relay.handshakes(), 1);
    for connection in &connections {
        echo(connection).await;
    }
    assert_eq!(listening.connections().len(), 6);
    // Another socket.
    let other = here.bind(ANY).await.unwrap();
    echo(&dial(&other, &relay.address()).await.unwrap()).await;
    assert_eq!(relay.handshakes(), 2);
}

#[tokio::test]
async fn without_pooling_each_connection_has_a_handshake_of_its_own() {
    let (_there, listening, relay) = relayed().await;
    let here = network(Quic::new(tls()).without_pooling(), Limits::default());
    let port = here.bind(ANY).await.unwrap();
    let mut connections = Vec::new();
    for count in 1..=5 {
        connections.push(dial(&port, &relay.address()).await.unwrap());
        assert_eq!(relay.handshakes(), count);
    }
    let names: HashSet<_> = connections.iter().map(Connection::local_endpoint).collect();
    assert_eq!(names.len(), 5);
    connections.remove(0).close().await;
    for connection in &connections {
        echo(connection).await;
    }
    eventually("one is closed", || listening.connections().len() == 4).await;
}

#[tokio::test]
async fn connections_that_are_quiet_wake_nobody_up() {
    for pooling in [true, false] {
        let there = usual();
        let listening = serve(&there, ANY).await;
        let quic = Quic::new(tls());
        let quic = if pooling { quic } else { quic.without_pooling() };
        let here = network(quic, Limits::default());
        let port = here.bind(ANY).await.unwrap();
        let mut connections = Vec::new();
        for _ in 0..10 {
            let connection = dial(&port, listening.local_endpoint().as_str()).await.unwrap();
            echo(&connection).await;
            connections.push(connection);
        }
        // What QUIC has left to do after a handshake: it finds out what the path takes.
        sleep(Duration::from_millis(500)).await;
        let metrics = tokio::runtime::Handle::current().metrics();
        let (before, busy) = (metrics.worker_park_count(0), metrics.worker_total_busy_duration(0));
        sleep(Duration::from_secs(1)).await;
        let woken = metrics.worker_park_count(0) - before;
        let busy = metrics.worker_total_busy_duration(0) - busy;
        println!("pooling {pooling}: woken {woken} times in a second, busy for {busy:?}");
        assert!(woken < 100, "pooling {pooling}: {woken} times");
    }
}

#[tokio::test]
async fn a_session_without_connections_ends_after_a_time_and_the_next_connect_makes_another() {
    let (_there, _listening, relay) = relayed().await;
    let idle = Duration::from_millis(100);
    let here = network(Quic::new(tls()).with_pool_idle(idle), Limits::default());
    let port = here.bind(ANY).await.unwrap();
    let kept = dial(&port, &relay.address()).await.unwrap();
    // As long as there is a connection on it, it stays.
    sleep(5 * idle).await;
    echo(&kept).await;
    echo(&dial(&port, &relay.address()).await.unwrap()).await;
    assert_eq!(relay.handshakes(), 1);
    for connection in port.connections() {
        connection.close().await;
    }
    // Sooner than that it is used again.
    let again = dial(&port, &relay.address()).await.unwrap();
    assert_eq!(relay.handshakes(), 1);
    again.close().await;
    sleep(5 * idle).await;
    echo(&dial(&port, &relay.address()).await.unwrap()).await;
    assert_eq!(relay.handshakes(), 2);
}

#[tokio::test]
async fn a_listener_that_keeps_sessions_for_less_time_than_the_dialer_is_dialed_all_the_same() {
    let limits = Limits::default().with_keepalive_time(Duration::from_millis(50));
    let limits = limits.with_idle_time(Duration::from_millis(200));
    let there = network(Quic::new(tls()), limits);
    let listening = serve(&there, ANY).await;
    let port = usual().bind(ANY).await.unwrap();
    for at in 0..12 {
        let connection = dial(&port, listening.local_endpoint().as_str()).await.unwrap();
        echo(&connection).await;
        connection.close().await;
        // Before, about and after the end of the session.
        sleep(Duration::from_millis(100 + 30 * at)).await;
    }
}

#[tokio::test]
async fn a_session_whose_listener_has_gone_is_replaced() {
    let tls = tls();
    let mut at = "/ip4/127.0.0.1/udp/0/quic-v1/port/echo".to_owned();
    let port = usual().bind(ANY).await.unwrap();
    for _ in 0..3 {
        // Another network each time, with the same identity and at the same address.
        let there = network(Quic::new(tls.clone()), Limits::default());
        let listening = serve(&there, &at).await;
        at = listening.local_endpoint().to_string();
        let connection = dial(&port, &at).await.unwrap();
        echo(&connection).await;
        timeout(SOON, there.shutdown(Duration::ZERO)).await.unwrap();
        timeout(SOON, connection.closed()).await.unwrap();
    }
}

#[tokio::test]
async fn a_session_whose_listener_has_gone_without_a_word_is_replaced() {
    let tls = tls();
    let listener = || async {
        let there = network(Quic::new(tls.clone()), Limits::default());
        let port = serve(&there, "/ip4/127.0.0.1/udp/0/quic-v1/port/echo").await;
        (there, port)
    };
    let (_before, first) = listener().await;
    let relay = Relay::new(&first).await;
    let limits = Limits::default().with_connect_time(Duration::from_secs(1));
    let port = network(Quic::new(self::tls()), limits).bind(ANY).await.unwrap();
    dial(&port, &relay.address()).await.unwrap().close().await;
    // As after a crash: the address is that of another, who knows nothing of the session.
    let (_after, second) = listener().await;
    relay.state.to.store(number(&second), Ordering::Relaxed);
    let began = Instant::now();
    let mut tries = 1;
    while let Err(error) = dial(&port, &relay.address()).await {
        println!("after {:?}: {error}", began.elapsed());
        assert!(tries < 3, "{error:?}");
        tries += 1;
    }
    println!("it took {tries} connects and {:?}", began.elapsed());
}

#[tokio::test]
async fn many_connects_at_once_share_one_handshake() {
    let (_there, listening, relay) = relayed().await;
    let port = usual().bind(ANY).await.unwrap();
    let mut dials = JoinSet::new();
    for _ in 0..32 {
        let (port, to) = (port.clone(), relay.address());
        dials.spawn(async move { dial(&port, &to).await.unwrap() });
    }
    let connections = dials.join_all().await;
    assert_eq!(relay.handshakes(), 1);
    eventually("all are open at both ends", || listening.connections().len() == 32).await;
    let names: HashSet<_> = connections.iter().map(Connection::local_endpoint).collect();
    assert_eq!(names.len(), 32);
}

/// Connects 32 times at once, and tells how each failed and how long all took.
async fn all_fail(port: &Port, to: &str) -> (Vec<ConnectError>, Duration) {
    let began = Instant::now();
    let mut dials = JoinSet::new();
    for _ in 0..32 {
        let (port, to) = (port.clone(), to.to_owned());
        dials.spawn(async move { dial(&port, &to).await.unwrap_err() });
    }
    (dials.join_all().await, began.elapsed())
}

#[tokio::test]
async fn a_handshake_that_fails_fails_all_who_wait_for_it_at_once() {
    let (_there, _listening, relay) = relayed().await;
    let within = Duration::from_millis(500);
    let limits = Limits::default().with_handshake_time(within);
    let port = network(Quic::new(tls()), limits).bind(ANY).await.unwrap();
    // Nobody answers.
    relay.set_open(false);
    let (errors, took) = all_fail(&port, &relay.address()).await;
    println!("32 connects without an answer failed in {took:?}");
    assert!(took < 2 * within, "{took:?}");
    assert_eq!(relay.handshakes(), 1);
    assert!(errors.iter().all(|error| matches!(error, ConnectError::Unreachable { .. })));
    // Somebody else answers.
    relay.set_open(true);
    let other = relay
        .address()
        .replace(&relay.peer.to_string(), &Identity::generate().unwrap().peer_id().to_string());
    let (errors, took) = all_fail(&port, &other).await;
    println!("32 connects to somebody else failed in {took:?}");
    assert!(errors.iter().all(|error| matches!(error, ConnectError::Untrusted { .. })));
    assert_eq!(relay.handshakes(), 2);
    // And who comes later tries again.
    echo(&dial(&port, &relay.address()).await.unwrap()).await;
    assert_eq!(relay.handshakes(), 3);
}

#[tokio::test]
async fn who_waits_goes_on_when_the_dial_with_the_handshake_is_cancelled() {
    let (_there, _listening, relay) = relayed().await;
    let port = usual().bind(ANY).await.unwrap();
    relay.set_open(false);
    let spawn = || {
        let (port, to) = (port.clone(), relay.address());
        tokio::spawn(async move { dial(&port, &to).await })
    };
    let first = spawn();
    eventually("it has begun", || relay.handshakes() == 1).await;
    let waiting = [spawn(), spawn(), spawn()];
    // They are behind it.
    sleep(Duration::from_millis(50)).await;
    assert_eq!(relay.handshakes(), 1);
    first.abort();
    eventually("the next has begun", || relay.handshakes() == 2).await;
    waiting[0].abort();
    eventually("or the one after that", || relay.handshakes() == 3).await;
    relay.set_open(true);
    for next in waiting.into_iter().skip(1) {
        echo(&next.await.unwrap().unwrap()).await;
    }
    assert_eq!(relay.handshakes(), 3);
}

#[tokio::test]
async fn connections_over_one_session_have_names_that_both_ends_agree_on() {
    let there = usual();
    let listening = serve(&there, &format!("{ANY}/port/echo")).await;
    let here = usual();
    let port = here.bind(format!("{ANY}/port/one")).await.unwrap();
    let mut connections = Vec::new();
    for _ in 0..4 {
        connections.push(dial(&port, listening.local_endpoint().as_str()).await.unwrap());
    }
    eventually("all are open at both ends", || listening.connections().len() == 4).await;
    let ours: HashSet<_> = connections.iter().map(|end| end.local_endpoint().to_string()).collect();
    let theirs = listening.connections();
    let theirs: HashSet<_> = theirs.iter().map(|end| end.remote_endpoint().to_string()).collect();
    assert_eq!(ours.len(), 4);
    assert_eq!(ours, theirs);
    for (at, connection) in connections.iter().enumerate() {
        assert_eq!(connection.remote_endpoint(), listening.local_endpoint());
        // Closing one leaves the others.
        connection.close().await;
        eventually("it is closed", || listening.connections().len() == 3 - at).await;
        for other in &connections[at + 1..] {
            echo(other).await;
        }
    }
}

#[tokio::test]
async fn both_ends_agree_on_the_name_of_a_dialer_that_has_all_addresses() {
    let listening = serve(&usual(), ANY).await;
    let port = usual().bind("/ip4/0.0.0.0/udp/0/quic-v1/port/one").await.unwrap();
    let connection = dial(&port, listening.local_endpoint().as_str()).await.unwrap();
    eventually("it is open at both ends", || !listening.connections().is_empty()).await;
    let theirs = listening.connections().remove(0);
    assert_eq!(connection.local_endpoint(), theirs.remote_endpoint());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_ends_each_session_is_out_of_reach_and_nothing_else() {
    let tls = tls();
    let peer = tls.identity().unwrap().peer_id();
    let config = QuicServerConfig::try_from(tls.server_for_peers().unwrap()).unwrap();
    let config = quinn::ServerConfig::with_crypto(Arc::new(config));
    let endpoint = quinn::Endpoint::server(config, (LOCAL, 0).into()).unwrap();
    let to = endpoint.local_addr().unwrap().port();
    let to = format!("/ip4/127.0.0.1/udp/{to}/quic-v1/p2p/{peer}/port/x");
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            if let Ok(session) = incoming.await {
                session.close(7_u32.into(), b"not now");
            }
        }
    });
    for quic in [Quic::new(self::tls()), Quic::new(self::tls()).without_pooling()] {
        let port = network(quic, Limits::default()).bind(ANY).await.unwrap();
        for _ in 0..50 {
            let error = dial(&port, &to).await.unwrap_err();
            assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
        }
    }
}

#[tokio::test]
async fn who_is_one_too_many_is_told_so() {
    let limits = Limits::default().with_max_connections(1).with_max_handshakes(2);
    let listening = serve(&network(Quic::new(tls()), limits), ANY).await;
    let to = listening.local_endpoint().as_str();
    let first = usual().bind(ANY).await.unwrap();
    let connection = dial(&first, to).await.unwrap();
    // All have a QUIC connection of their own, and those who were turned down keep theirs for a
    // while: until there is no room for one more.
    let mut ports = Vec::new();
    for number in 0..4 {
        let port = usual().bind(ANY).await.unwrap();
        let error = dial(&port, to).await.unwrap_err();
        let busy = matches!(error, ConnectError::Rejected { reason: Rejection::Busy, .. });
        assert!(busy, "{number}: {error:?}");
        ports.push(port);
    }
    echo(&connection).await;
}

#[tokio::test]
async fn sessions_without_a_connection_keep_nobody_out() {
    let limits = Limits::default().with_max_connections(1);
    let listening = serve(&network(Quic::new(tls()), limits), ANY).await;
    let to = listening.local_endpoint().as_str();
    let mut ports = Vec::new();
    for _ in 0..4 {
        let port = usual().bind(ANY).await.unwrap();
        let connection = dial(&port, to).await.unwrap();
        echo(&connection).await;
        connection.close().await;
        eventually("there is room", || listening.connections().is_empty()).await;
        ports.push(port);
    }
}

#[tokio::test]
async fn a_revoke_frees_the_address() {
    let there = usual();
    let port = serve(&there, ANY).await;
    let at = port.local_endpoint().clone();
    let dialing = usual().bind(ANY).await.unwrap();
    for round in 0..5 {
        let port = if round == 0 { port.clone() } else { serve(&there, at.as_str()).await };
        let connection = dial(&dialing, at.as_str()).await.unwrap();
        echo(&connection).await;
        timeout(SOON, port.revoke()).await.unwrap().unwrap();
        timeout(SOON, connection.closed()).await.unwrap();
    }
    // For others too, once the network has shut down.
    let port = serve(&there, at.as_str()).await;
    echo(&dial(&dialing, at.as_str()).await.unwrap()).await;
    let began = Instant::now();
    timeout(SOON, there.shutdown(Duration::ZERO)).await.unwrap();
    println!("a shutdown took {:?}", began.elapsed());
    StdSocket::bind((LOCAL, number(&port))).unwrap();
}

/// Who ends a connection, and how.
#[derive(Clone, Copy, Debug)]
enum End {
    Dialer,
    Listener,
    DialerShutdown,
    ListenerShutdown,
    DialerRevoke,
    ListenerRevoke,
}

/// What became of the records of one round.
#[derive(Debug, Default)]
struct Fates {
    acked: usize,
    not_delivered: usize,
    delivered: usize,
    unknown: usize,
}

/// Sends 1,000 records, and ends the connection when so many of them were handled.
async fn end_after(handled: usize, end: End, pooling: bool, loses: usize) -> Fates {
    const RECORDS: u32 = 1_000;
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let sees = seen.clone();
    let there = usual();
    let listening = there.bind(format!("{ANY}/port/echo")).await.unwrap();
    let handler = handler_fn(move |record: Bytes| {
        let number = u32::from_le_bytes(record[..].try_into().unwrap());
        sees.lock().unwrap().insert(number);
        async move {
            // Some take longer than others.
            if number % 4 == 0 {
                tokio::task::yield_now().await;
            }
            Ok(record)
        }
    });
    listening.listen(accept_all(handler)).await.unwrap();
    let quic = Quic::new(tls());
    let quic = if pooling { quic } else { quic.without_pooling() };
    let here = network(quic, Limits::default());
    let port = here.bind(ANY).await.unwrap();
    let relay = Relay::new(&listening).await;
    let to = match loses {
        0 => listening.local_endpoint().to_string(),
        _ => relay.address(),
    };
    let connection = dial(&port, &to).await.unwrap();
    eventually("it is open at both ends", || !listening.connections().is_empty()).await;
    let accepted = listening.connections().remove(0);
    relay.state.loses.store(loses, Ordering::Relaxed);

    let mut sends = JoinSet::new();
    for number in 0..RECORDS {
        let connection = connection.clone();
        sends.spawn(async move {
            let record = Bytes::copy_from_slice(&number.to_le_bytes());
            (number, connection.send(record).await)
        });
    }
    let enough = || seen.lock().unwrap().len() >= handled;
    while !enough() {
        tokio::task::yield_now().await;
    }
    let ending = async {
        match end {
            End::Dialer => connection.close().await,
            End::Listener => accepted.close().await,
            End::DialerShutdown => here.shutdown(Duration::ZERO).await,
            End::ListenerShutdown => there.shutdown(Duration::ZERO).await,
            End::DialerRevoke => port.revoke().await.unwrap(),
            End::ListenerRevoke => listening.revoke().await.unwrap(),
        }
    };
    timeout(SOON, ending).await.unwrap();
    let sent = timeout(SOON, sends.join_all()).await.unwrap();
    // What was handed to the handler is in there by now: that is the first it does.
    timeout(SOON, accepted.closed()).await.unwrap();
    let seen = seen.lock().unwrap();
    let mut fates = Fates::default();
    for (number, outcome) in sent {
        let seen = seen.contains(&number);
        match outcome.as_ref().map_err(SendError::delivery) {
            Ok(_) => {
                fates.acked += 1;
                assert!(seen, "{number} was acked and never handled");
            }
            Err(Delivery::NotDelivered) => {
                fates.not_delivered += 1;
                assert!(!seen, "{number} was handled: {outcome:?}");
            }
            Err(Delivery::Delivered) => {
                fates.delivered += 1;
                assert!(seen, "{number} was never handled: {outcome:?}");
            }
            Err(Delivery::Unknown) => fates.unknown += 1,
        }
    }
    fates
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_ack_is_lost_and_no_fate_is_wrong_when_a_connection_ends_at_once() {
    use End::*;
    for end in [Dialer, Listener, DialerShutdown, ListenerShutdown, DialerRevoke, ListenerRevoke] {
        for pooling in [true, false] {
            let mut all = Fates::default();
            for handled in [0, 1, 10, 500, 999, 1_000] {
                let fates = end_after(handled, end, pooling, 0).await;
                all.acked += fates.acked;
                all.not_delivered += fates.not_delivered;
                all.delivered += fates.delivered;
                all.unknown += fates.unknown;
            }
            println!("{end:?}, pooling {pooling}: {all:?}");
            assert_eq!(all.unknown, 0, "{end:?}: both ends were there to the end");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_ack_is_lost_where_datagrams_are() {
    use End::*;
    for end in [Dialer, Listener, DialerShutdown, ListenerShutdown, DialerRevoke, ListenerRevoke] {
        let began = Instant::now();
        let mut all = Fates::default();
        for (handled, pooling) in [(1, true), (500, false), (1_000, true), (1_000, false)] {
            let fates = end_after(handled, end, pooling, 5).await;
            all.acked += fates.acked;
            all.not_delivered += fates.not_delivered;
            all.delivered += fates.delivered;
            all.unknown += fates.unknown;
        }
        println!("{end:?}, one of five lost: {all:?}, {:?}", began.elapsed());
        assert_eq!(all.unknown, 0, "{end:?}: both ends were there to the end");
    }
}

#[tokio::test]
async fn a_connection_tells_of_its_path() {
    let (there, here) = (usual(), usual());
    let server = serve(&there, "/ip4/127.0.0.1/udp/0/quic-v1").await;
    let client = here.bind("/ip4/127.0.0.1/udp/0/quic-v1").await.unwrap();
    let connection = dial(&client, server.local_endpoint().as_str()).await.unwrap();
    echo(&connection).await;
    let path = connection.stats().path.unwrap();
    assert!(path.packets_sent > 0 && path.max_packet_len >= 1_200, "{path:?}");
    assert!(path.round_trip < Duration::from_secs(1) && path.congestion_window > 0, "{path:?}");
    assert!(server.connections()[0].stats().path.is_some());
    server.revoke().await.unwrap();
    connection.closed().await;
    client.revoke().await.unwrap();
    assert_eq!(connection.stats().path, None, "the handle does not keep the session");
}

#[tokio::test]
async fn a_connection_that_is_urgent_goes_before_others_of_its_session() {
    let (there, here) = (usual(), usual());
    let server = serve(&there, "/ip4/127.0.0.1/udp/0/quic-v1/port/x").await;
    let client = here.bind("/ip4/127.0.0.1/udp/0/quic-v1").await.unwrap();
    let to = |priority: &str| format!("{}{priority}", server.local_endpoint());
    let urgent = dial(&client, &to("/priority/9")).await.unwrap();
    let bulk = dial(&client, &to("/priority/-9")).await.unwrap();
    let usual = dial(&client, &to("")).await.unwrap();
    for connection in [&urgent, &bulk, &usual] {
        echo(connection).await;
    }
    // 8 MiB are in line; what is urgent does not wait for them.
    let load: Vec<_> = (0..2)
        .map(|_| {
            let bulk = bulk.clone();
            tokio::spawn(async move { bulk.send(vec![7; 4 << 20]).await })
        })
        .collect();
    tokio::task::yield_now().await;
    for _ in 0..5 {
        assert_eq!(urgent.send("now").await.unwrap(), "now");
    }
    assert!(!load.iter().all(|one| one.is_finished()), "it waited for all of the load");
    for one in load {
        // Its ack is longer than an ack may be.
        let _ = one.await.unwrap();
    }
    let error = dial(&client, &to("/priority/high")).await.unwrap_err();
    assert!(error.to_string().contains("quic") || matches!(error, ConnectError::Backend { .. }));
}
