//! Openings before the handshake is over: what they gain, and what whoever sends them again gets.

#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use network_core::{
    AnyHandler, Attempt, Bytes, ConnectError, Connection, Limits, Network, Peer, Port, Refusal,
    Rejection, accept_fn, handler_fn,
};
use network_quic::{EarlyData, Quic};
use network_tls::{Certificate, Identity, Tls, rustls::RootCertStore};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{
    net::UdpSocket,
    task::JoinHandle,
    time::{sleep, timeout},
};

const SOON: Duration = Duration::from_secs(10);
/// Long enough for what comes at once, if it comes.
const MOMENT: Duration = Duration::from_millis(200);
const ANY: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
const LOCAL: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn identified() -> Tls {
    Tls::new().with_identity(Identity::generate().unwrap())
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(SOON, waiting).await.unwrap_or_else(|_| panic!("it never came to this: {what}"));
}

/// A listener that writes down what it is asked, and how often it has handled which record.
struct Listening {
    _network: Network,
    port: Port,
    attempts: Arc<Mutex<Vec<Attempt>>>,
    handled: Arc<Mutex<HashMap<Bytes, usize>>>,
}

impl Listening {
    async fn new(tls: Tls, early: EarlyData) -> Self {
        let quic = Quic::new(tls).with_early_data(early);
        let network = Network::builder().protocol(quic).build().unwrap();
        let port = network.bind("/ip4/127.0.0.1/udp/0/quic-v1/port/x").await.unwrap();
        let attempts = Arc::new(Mutex::new(Vec::new()));
        let handled = Arc::new(Mutex::new(HashMap::<Bytes, usize>::new()));
        let (asked, handles) = (attempts.clone(), handled.clone());
        let listener = accept_fn(move |attempt: Attempt| {
            let declined = attempt.local.as_str().ends_with("/declined");
            asked.lock().unwrap().push(attempt);
            let handles = handles.clone();
            let handler = handler_fn(move |record: Bytes| {
                *handles.lock().unwrap().entry(record.clone()).or_default() += 1;
                async move { Ok(record) }
            });
            async move { if declined { Err(Refusal::new("no")) } else { Ok(AnyHandler::new(handler)) } }
        });
        port.listen(listener).await.unwrap();
        Self { _network: network, port, attempts, handled }
    }

    fn asked(&self) -> usize {
        self.attempts.lock().unwrap().len()
    }

    fn handled(&self, record: &'static str) -> usize {
        let handled = self.handled.lock().unwrap();
        handled.get(&Bytes::from_static(record.as_bytes())).copied().unwrap_or_default()
    }

    fn number(&self) -> u16 {
        self.port.local_endpoint().value_of("udp").unwrap().parse().unwrap()
    }

    /// What follows the address.
    fn rest(&self) -> String {
        self.port.local_endpoint().as_str().split("/quic-v1").nth(1).unwrap().to_owned()
    }
}

/// A port that dials with a handshake for each connection.
async fn dialing(tls: Tls, early: EarlyData, change: impl FnOnce(Quic) -> Quic) -> Port {
    let quic = change(Quic::new(tls).with_early_data(early).without_pooling());
    Network::builder().protocol(quic).build().unwrap().bind(ANY).await.unwrap()
}

async fn dial(port: &Port, to: &str) -> Result<Connection, ConnectError> {
    timeout(2 * SOON, port.connect(to, ())).await.unwrap()
}

async fn echo(connection: &Connection, record: &'static str) {
    assert_eq!(timeout(SOON, connection.send(record)).await.unwrap().unwrap(), record);
}

/// A connection that leaves what the next is resumed by.
async fn visit(port: &Port, listening: &Listening, to: &str) {
    let connection = dial(port, to).await.unwrap();
    echo(&connection, "before").await;
    connection.close().await;
    eventually("it is closed", || listening.port.connections().is_empty()).await;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passes {
    All,
    /// What the dialer can send without having heard anything.
    FirstFlight,
    /// Nothing of the dialer.
    Nothing,
    /// Loses one datagram of five, in each direction.
    Most,
}

/// Stands between a dialer and a listener, and writes down what dialers send.
struct Relay {
    number: u16,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

struct State {
    to: u16,
    passes: Passes,
    sent: Vec<Vec<u8>>,
    passed: usize,
}

impl State {
    fn may_pass(&mut self) -> bool {
        self.passed += 1;
        self.passes != Passes::Most
            || !(self.passed.wrapping_mul(0x9e37_79b9) >> 7).is_multiple_of(5)
    }
}

impl Relay {
    async fn new(to: &Listening) -> Self {
        let front = Arc::new(UdpSocket::bind((LOCAL, 0)).await.unwrap());
        let number = front.local_addr().unwrap().port();
        let state = State { to: to.number(), passes: Passes::All, sent: Vec::new(), passed: 0 };
        let state = Arc::new(Mutex::new(state));
        let task = tokio::spawn(forth(front, state.clone()));
        Self { number, state, task }
    }

    fn to(&self, rest: &str) -> String {
        format!("/ip4/127.0.0.1/udp/{}/quic-v1{rest}", self.number)
    }

    /// What passes from now on; forgets what was sent before.
    fn set(&self, passes: Passes) {
        let mut state = self.state.lock().unwrap();
        state.passes = passes;
        state.sent.clear();
    }

    fn sent(&self) -> Vec<Vec<u8>> {
        self.state.lock().unwrap().sent.clone()
    }

    /// How many packets of early data were sent.
    fn early(&self) -> usize {
        let sent = self.sent();
        let kinds = sent.iter().flat_map(|datagram| packets(datagram).unwrap_or_default());
        kinds.filter(|kind| *kind == EARLY).count()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forth(front: Arc<UdpSocket>, state: Arc<Mutex<State>>) {
    let mut backs = HashMap::<(SocketAddr, u16), Arc<UdpSocket>>::new();
    let mut datagram = vec![0; 1 << 16];
    while let Ok((len, from)) = front.recv_from(&mut datagram).await {
        let datagram = &datagram[..len];
        let (passes, to) = {
            let mut state = state.lock().unwrap();
            state.sent.push(datagram.to_vec());
            let passes = match state.passes {
                Passes::FirstFlight => packets(datagram)
                    .is_some_and(|kinds| kinds.iter().all(|kind| [INITIAL, EARLY].contains(kind))),
                Passes::Nothing => false,
                Passes::All | Passes::Most => state.may_pass(),
            };
            (passes, state.to)
        };
        if !passes {
            continue;
        }
        let back = match backs.entry((from, to)) {
            Entry::Occupied(back) => back.into_mut(),
            Entry::Vacant(none) => {
                let back = Arc::new(UdpSocket::bind((LOCAL, 0)).await.unwrap());
                back.connect((LOCAL, to)).await.unwrap();
                tokio::spawn(back_to(from, back.clone(), front.clone(), state.clone()));
                none.insert(back)
            }
        };
        let _ = back.send(datagram).await;
    }
}

async fn back_to(
    to: SocketAddr,
    back: Arc<UdpSocket>,
    front: Arc<UdpSocket>,
    state: Arc<Mutex<State>>,
) {
    let mut datagram = vec![0; 1 << 16];
    loop {
        // An error is that nobody was there, for a moment.
        let Ok(len) = back.recv(&mut datagram).await else { continue };
        let passes = state.lock().unwrap().may_pass();
        if passes {
            let _ = front.send_to(&datagram[..len], to).await;
        }
    }
}

const INITIAL: u8 = 0;
const EARLY: u8 = 1;
const RETRY: u8 = 3;
const SHORT: u8 = 4;

/// The kinds of the packets in a datagram (RFC 9000 §17.2).
fn packets(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut kinds = Vec::new();
    while let Some(first) = rest.first() {
        let kind = if first & 0x80 == 0 { SHORT } else { (first >> 4) & 3 };
        kinds.push(kind);
        if [SHORT, RETRY].contains(&kind) {
            break;
        }
        rest = rest.get(5..)?;
        for _ in ["to", "from"] {
            let len = *rest.first()?;
            rest = rest.get(1 + usize::from(len)..)?;
        }
        if kind == INITIAL {
            let token = number(&mut rest)?;
            rest = rest.get(token..)?;
        }
        let len = number(&mut rest)?;
        rest = rest.get(len..)?;
    }
    Some(kinds)
}

/// A number of variable length (RFC 9000 §16).
fn number(rest: &mut &[u8]) -> Option<usize> {
    let len = 1 << (rest.first()? >> 6);
    let (bytes, behind) = rest.split_at_checked(len)?;
    *rest = behind;
    let all = bytes.iter().fold(0_usize, |number, byte| number << 8 | usize::from(*byte));
    Some(all & ((1 << (8 * len - 2)) - 1))
}

/// Who has a certificate for `localhost`, and who trusts it.
fn named() -> (Certificate, Tls, impl Fn() -> (String, String)) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let signed = move || {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.signed_by(&key, &authority).unwrap().pem(), key.serialize_pem())
    };
    let (chain, key) = signed();
    let certificate = Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    (certificate, Tls::new().with_roots(roots), signed)
}

/// Dials where it was before. The opening is decided over while nothing but the first flight of the
/// dialer gets through, and nothing else comes of it until the rest does.
async fn opens_early(listening: &Listening, port: &Port, relay: &Relay, rest: &str) {
    visit(port, listening, &relay.to(rest)).await;
    let asked = listening.asked();
    relay.set(Passes::FirstFlight);
    let connection = dial(port, &relay.to(rest)).await.unwrap();
    assert!(relay.early() > 0);
    assert_eq!(
        listening.asked(),
        asked + 1,
        "the listener was asked before the handshake was over"
    );
    let sending = {
        let connection = connection.clone();
        tokio::spawn(async move { connection.send("record").await })
    };
    sleep(MOMENT).await;
    let handled = listening.handled("record");
    assert_eq!(listening.port.connections(), [], "nobody has confirmed anything");
    assert!(!sending.is_finished());
    relay.set(Passes::All);
    assert_eq!(timeout(SOON, sending).await.unwrap().unwrap().unwrap(), "record");
    assert_eq!(listening.handled("record"), handled + 1);
    assert_eq!(listening.asked(), asked + 1);
    let theirs = listening.port.connections().remove(0);
    assert_eq!(
        theirs.remote_endpoint().value_of("stream"),
        connection.local_endpoint().value_of("stream")
    );
    assert!(connection.local_endpoint().value_of("stream").is_some());
    // What was opened early is told from others, and they go on beside it.
    assert_eq!(theirs.peer(), listening.attempts.lock().unwrap()[asked].peer.as_ref());
    connection.close().await;
    eventually("it is closed", || listening.port.connections().is_empty()).await;
}

#[tokio::test]
async fn an_opening_is_answered_before_the_handshake_is_over() {
    let listening = Listening::new(identified(), EarlyData::Listening).await;
    let relay = Relay::new(&listening).await;
    let identity = Identity::generate().unwrap();
    let us = Peer::Id(identity.peer_id());
    let tls = Tls::new().with_identity(identity);
    let rest = listening.rest();
    for unordered in [false, true] {
        let change = |quic: Quic| if unordered { quic.unordered() } else { quic };
        let port = dialing(tls.clone(), EarlyData::Dialing, change).await;
        for _ in 0..3 {
            opens_early(&listening, &port, &relay, &rest).await;
            assert_eq!(listening.attempts.lock().unwrap().pop().unwrap().peer, Some(us.clone()));
        }
        // One that is turned down is told so.
        relay.set(Passes::FirstFlight);
        let error = dial(&port, &relay.to(&format!("{rest}/declined"))).await.unwrap_err();
        let told = matches!(&error, ConnectError::Rejected { reason: Rejection::Declined(_), .. });
        assert!(told && relay.early() > 0, "{error:?}");
        relay.set(Passes::All);
    }
}

#[tokio::test]
async fn a_server_that_is_known_by_its_name_takes_early_data_until_its_certificate_is_replaced() {
    let (certificate, trusting, signed) = named();
    let tls = Tls::new().with_certificate(certificate.clone());
    let listening = Listening::new(tls, EarlyData::Both).await;
    let relay = Relay::new(&listening).await;
    let port = dialing(trusting, EarlyData::Both, |quic| quic).await;
    let to = |relay: &Relay| relay.to("/port/x").replace("/ip4/127.0.0.1", "/dns4/localhost");
    visit(&port, &listening, &to(&relay)).await;
    for replaced in [false, true] {
        if replaced {
            let (chain, key) = signed();
            certificate.replace_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        }
        relay.set(Passes::FirstFlight);
        let asked = listening.asked();
        let dialed = {
            let (port, to) = (port.clone(), to(&relay));
            tokio::spawn(async move { dial(&port, &to).await })
        };
        sleep(MOMENT).await;
        assert!(relay.early() > 0);
        let early = listening.asked() - asked;
        assert_eq!(early, usize::from(!replaced), "replaced: {replaced}");
        relay.set(Passes::All);
        echo(&dialed.await.unwrap().unwrap(), "after").await;
        assert_eq!(listening.asked(), asked + 1);
    }
}

#[tokio::test]
async fn nothing_is_early_unless_both_sides_ask_for_it() {
    use EarlyData::*;
    for (dials, listens) in [(Never, Both), (Listening, Both), (Both, Never), (Both, Dialing)] {
        let listening = self::Listening::new(identified(), listens).await;
        let relay = Relay::new(&listening).await;
        let port = dialing(identified(), dials, |quic| quic).await;
        for _ in 0..3 {
            let to = relay.to(&listening.rest());
            visit(&port, &listening, &to).await;
        }
        assert_eq!(relay.early(), 0, "{dials:?} dials {listens:?}");
    }
}

#[tokio::test]
async fn what_a_listener_does_not_take_early_is_said_again() {
    let tls = identified();
    for (unordered, now) in
        [(false, EarlyData::Both), (true, EarlyData::Both), (false, EarlyData::Never)]
    {
        let before = Listening::new(tls.clone(), EarlyData::Both).await;
        let relay = Relay::new(&before).await;
        let change = |quic: Quic| if unordered { quic.unordered() } else { quic };
        let port = dialing(identified(), EarlyData::Both, change).await;
        let to = relay.to(&before.rest());
        visit(&port, &before, &to).await;
        // The same identity, and nothing that the one before knew.
        let after = Listening::new(tls.clone(), now).await;
        relay.state.lock().unwrap().to = after.number();
        relay.set(Passes::All);
        let connection = dial(&port, &to).await.unwrap();
        assert!(relay.early() > 0);
        echo(&connection, "once").await;
        sleep(MOMENT).await;
        assert_eq!((after.asked(), after.handled("once")), (1, 1));
        assert_eq!(
            connection.local_endpoint().value_of("stream").unwrap().split('-').nth(1),
            Some("0")
        );
        // And the next is early again, where it is taken.
        if now == EarlyData::Both {
            connection.close().await;
            opens_early(&after, &port, &relay, &after.rest()).await;
        }
    }
}

#[tokio::test]
async fn another_server_at_the_address_learns_nothing_and_is_not_trusted() {
    let before = Listening::new(identified(), EarlyData::Both).await;
    let relay = Relay::new(&before).await;
    let port = dialing(identified(), EarlyData::Both, |quic| quic).await;
    let to = relay.to(&before.rest());
    visit(&port, &before, &to).await;
    let other = Listening::new(identified(), EarlyData::Both).await;
    relay.state.lock().unwrap().to = other.number();
    relay.set(Passes::All);
    let error = dial(&port, &to).await.unwrap_err();
    assert!(matches!(error, ConnectError::Untrusted { .. }), "{error:?}");
    assert!(relay.early() > 0);
    assert_eq!(other.asked(), 0);
    // Dialed as itself, it is no listener that this side has been at.
    relay.set(Passes::All);
    let itself = relay.to(&other.rest());
    echo(&dial(&port, &itself).await.unwrap(), "hello").await;
    assert_eq!((relay.early(), other.asked()), (0, 1));
}

/// Sends what somebody else has sent, from elsewhere.
async fn send_again(datagrams: &[Vec<u8>], to: u16) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).await.unwrap();
    for datagram in datagrams {
        socket.send_to(datagram, (LOCAL, to)).await.unwrap();
    }
    socket
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_first_flight_that_is_sent_again_opens_nothing_and_asks_nobody() {
    let listening = Listening::new(identified(), EarlyData::Both).await;
    let relay = Relay::new(&listening).await;
    let port = dialing(identified(), EarlyData::Both, |quic| quic).await;
    let to = relay.to(&listening.rest());
    visit(&port, &listening, &to).await;
    relay.set(Passes::All);
    let connection = dial(&port, &to).await.unwrap();
    echo(&connection, "record").await;
    connection.close().await;
    eventually("it is closed", || listening.port.connections().is_empty()).await;
    // All of it, with the records that came after the handshake.
    let sent = relay.sent();
    assert!(relay.early() > 0);
    let asked = listening.asked();
    // The listener has forgotten the connection.
    sleep(Duration::from_secs(1)).await;
    let socket = send_again(&sent, listening.number()).await;
    // It answers somebody whom it does not know.
    timeout(SOON, socket.recv(&mut [0; 2_000])).await.unwrap().unwrap();
    for _ in 0..3 {
        send_again(&sent, listening.number()).await;
    }
    sleep(MOMENT).await;
    assert_eq!(listening.asked(), asked);
    assert_eq!(listening.handled("record"), 1);
    assert_eq!(listening.port.connections(), []);
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_first_flight_that_is_held_back_and_sent_by_another_asks_once_more_and_opens_nothing() {
    for unordered in [false, true] {
        let listening = Listening::new(identified(), EarlyData::Both).await;
        let relay = Relay::new(&listening).await;
        let change = |quic: Quic| if unordered { quic.unordered() } else { quic };
        let port = dialing(identified(), EarlyData::Both, change).await;
        let to = relay.to(&listening.rest());
        visit(&port, &listening, &to).await;
        relay.set(Passes::Nothing);
        let dialed = {
            let (port, to) = (port.clone(), to.clone());
            tokio::spawn(async move { dial(&port, &to).await })
        };
        eventually("it has begun", || relay.early() > 0).await;
        let attacker = send_again(&relay.sent(), listening.number()).await;
        eventually("the listener is asked", || listening.asked() == 2).await;
        let source = listening.attempts.lock().unwrap()[1].source;
        assert_eq!(source, Some(attacker.local_addr().unwrap()));
        sleep(MOMENT).await;
        assert_eq!(listening.port.connections(), []);
        // The dialer gets through at last.
        relay.set(Passes::All);
        let connection = dialed.await.unwrap().unwrap();
        echo(&connection, "record").await;
        assert_eq!(listening.asked(), 3);
        assert_eq!(listening.port.connections().len(), 1);
        // Whatever else of it the other one sends.
        send_again(&relay.sent(), listening.number()).await;
        sleep(MOMENT).await;
        assert_eq!((listening.asked(), listening.handled("record")), (3, 1));
        assert_eq!(listening.port.connections().len(), 1);
    }
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn an_attempt_that_nobody_confirms_has_its_place_for_the_time_of_a_handshake() {
    let identity = Identity::generate().unwrap();
    let quic = Quic::new(Tls::new().with_identity(identity)).with_early_data(EarlyData::Both);
    const TIME: Duration = Duration::from_secs(1);
    let limits = Limits::default().with_handshake_time(TIME);
    let policy = network_core::AcceptPolicy::new().with_max_per_peer(1);
    let network = Network::builder().limits(limits).accept_policy(policy).protocol(quic);
    let network = network.build().unwrap();
    let server = network.bind(ANY).await.unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let asks = asked.clone();
    let listener = accept_fn(move |_| {
        asks.fetch_add(1, Ordering::Relaxed);
        async { Ok(AnyHandler::new(handler_fn(|record| async move { Ok(record) }))) }
    });
    server.listen(listener).await.unwrap();
    let listening = Listening {
        port: server.clone(),
        _network: network,
        attempts: Arc::default(),
        handled: Arc::default(),
    };
    let relay = Relay::new(&listening).await;
    let port = dialing(identified(), EarlyData::Both, |quic| quic).await;
    let to = relay.to(&listening.rest());
    visit(&port, &listening, &to).await;
    relay.set(Passes::Nothing);
    let dialed = {
        let (port, to) = (port.clone(), to.clone());
        tokio::spawn(async move { dial(&port, &to).await })
    };
    eventually("it has begun", || relay.early() > 0).await;
    send_again(&relay.sent(), listening.number()).await;
    eventually("the listener is asked", || asked.load(Ordering::Relaxed) == 2).await;
    // The peer itself, by another way, and with what else it has of the first visit.
    let direct = server.local_endpoint().as_str();
    let full = dial(&port, direct).await.unwrap_err();
    let busy = matches!(&full, ConnectError::Rejected { reason: Rejection::Busy, .. });
    assert!(busy, "{full:?}");
    sleep(2 * TIME).await;
    echo(&dial(&port, direct).await.unwrap(), "hello").await;
    dialed.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_record_is_handled_once_where_datagrams_are_lost() {
    let listening = Listening::new(identified(), EarlyData::Both).await;
    let relay = Relay::new(&listening).await;
    let to = relay.to(&listening.rest());
    let mut early = 0;
    for unordered in [false, true] {
        let change = |quic: Quic| if unordered { quic.unordered() } else { quic };
        let port = dialing(identified(), EarlyData::Both, change).await;
        visit(&port, &listening, &to).await;
        for round in 0..12 {
            relay.set(Passes::Most);
            let began = std::time::Instant::now();
            let dialed = dial(&port, &to).await;
            println!(
                "{unordered} {round}: {:?}, {} datagrams",
                began.elapsed(),
                relay.sent().len()
            );
            let connection = dialed.unwrap();
            early += usize::from(relay.early() > 0);
            let record = Bytes::from(format!("{unordered} {round}"));
            let ack = timeout(SOON, connection.send(record.clone())).await.unwrap().unwrap();
            assert_eq!(ack, record);
            connection.close().await;
        }
    }
    println!("{early} of 24 dials had early data");
    assert!(early > 16);
    let handled = listening.handled.lock().unwrap();
    assert_eq!(handled.len(), 25);
    assert!(handled.iter().all(|(record, times)| *times == 1 || record == "before"), "{handled:?}");
}
