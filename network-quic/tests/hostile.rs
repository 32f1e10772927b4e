//! Strangers and hostile peers at a listener over QUIC: what they cost, and that they get
//! nothing.
//!
//! Attackers come from 127.0.0.2 and on, honest clients from 127.0.0.1. The tests measure the
//! process that they run in, attackers included, so they take turns. `--nocapture` shows the
//! figures.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::{
    fs,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::BytesMut;
use network_core::{
    AcceptPolicy, ConnectError, Connection, Limits, Network, PeerId, Port, Rejection, accept_all,
    handler_fn,
    wire::{Hello, Reply, Welcome, decode_reply},
};
use network_quic::Quic;
use network_tls::{
    Identity, MAX_CERTIFICATE_LEN, Tls,
    rustls::{
        ClientConfig, SignatureScheme,
        client::ResolvesClientCert,
        crypto::aws_lc_rs::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer},
        sign::CertifiedKey,
    },
};
use quinn::{
    ConnectionError, ReadError, RecvStream, SendStream,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rcgen::{
    CertificateParams, CustomExtension, KeyPair, PKCS_ED25519, PublicKeyData as _, SigningKey as _,
};
use tokio::{
    io::AsyncReadExt,
    net::UdpSocket,
    time::{sleep, timeout},
};

/// Longer than anything here may take.
const SOON: Duration = Duration::from_secs(30);
/// A handshake that nobody waits for to end by itself.
const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(300);
const ATTACKER: u8 = 2;
const MIB: usize = 1 << 20;
const STREAMS: u32 = 1_000;
/// What streams are reset with that nobody wants.
const REFUSED: u32 = 1;

/// Runs a test while no other does.
fn alone(test: impl Future<Output = ()>) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { timeout(2 * SOON, test).await.unwrap() });
}

/// How many bytes of memory this process has resident.
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    4096 * statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap()
}

fn growth(before: usize) -> usize {
    resident().saturating_sub(before)
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(SOON, waiting).await.unwrap_or_else(|_| panic!("it never came to this: {what}"));
}

/// A port that echoes, and an honest client.
struct Served {
    tls: Tls,
    policy: AcceptPolicy,
    port: Port,
    /// Dials with a handshake each time.
    honest: Port,
    attacker: quinn::Endpoint,
}

impl Served {
    async fn new(limits: Limits, policy: AcceptPolicy) -> Self {
        let identity = || Tls::new().with_identity(Identity::generate().unwrap());
        let tls = identity();
        let quic = Quic::new(tls.clone()).with_max_streams(STREAMS);
        let network = Network::builder().limits(limits).accept_policy(policy.clone());
        let network = network.protocol(quic).build().unwrap();
        let port = network.bind("/ip4/127.0.0.1/udp/0/quic-v1").await.unwrap();
        port.listen(accept_all(handler_fn(|record| async move { Ok(record) }))).await.unwrap();
        let quic = Quic::new(identity()).without_pooling();
        let honest = Network::builder().protocol(quic).build().unwrap();
        let honest = honest.bind("/ip4/127.0.0.1/udp/0/quic-v1").await.unwrap();
        let from = Ipv4Addr::new(127, 0, 0, ATTACKER);
        let attacker = quinn::Endpoint::client((from, 0).into()).unwrap();
        let served = Self { tls, policy, port, honest, attacker };
        // What is made once is not part of what an attack costs.
        served.is_alive().await;
        served
    }

    async fn plain() -> Self {
        Self::new(Limits::default(), AcceptPolicy::new()).await
    }

    fn peer(&self) -> PeerId {
        self.tls.identity().unwrap().peer_id()
    }

    fn number(&self) -> u16 {
        self.port.local_endpoint().value_of("udp").unwrap().parse().unwrap()
    }

    /// A good client of somebody new.
    fn client(&self) -> Arc<ClientConfig> {
        let tls = Tls::new().with_identity(Identity::generate().unwrap());
        tls.client_for_peer(&self.peer()).unwrap()
    }

    /// A client that shows this, or nothing.
    fn showing(&self, shown: Option<(&CertificateDer<'static>, &KeyPair)>) -> Arc<ClientConfig> {
        let shown = shown.map(|(certificate, key)| {
            let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            let key = default_provider().key_provider.load_private_key(key).unwrap();
            Arc::new(CertifiedKey::new(vec![certificate.clone()], key))
        });
        let mut config = ClientConfig::clone(&self.client());
        config.client_auth_cert_resolver = Arc::new(Shown(shown));
        Arc::new(config)
    }

    async fn connect(&self) -> Result<Connection, ConnectError> {
        let connecting = self.honest.connect(self.port.local_endpoint(), ());
        timeout(SOON, connecting).await.unwrap()
    }

    /// An honest client connects, exchanges a record and goes; how long that took.
    async fn is_alive(&self) -> Duration {
        let began = Instant::now();
        let connection = self.connect().await.unwrap();
        assert_eq!(timeout(SOON, connection.send("hello")).await.unwrap().unwrap(), "hello");
        let took = began.elapsed();
        timeout(SOON, connection.close()).await.unwrap();
        took
    }

    async fn is_empty(&self) {
        eventually("no connection", || self.port.connections().is_empty()).await;
        eventually("nothing counted", || self.policy.connections() == 0).await;
    }

    /// The median of some.
    async fn latency(&self) -> Duration {
        let mut all = Vec::new();
        for _ in 0..9 {
            all.push(self.is_alive().await);
        }
        all.sort();
        all[4]
    }

    /// An attacker's session.
    async fn session(&self) -> Session {
        self.session_with(&self.client()).await.unwrap()
    }

    async fn session_with(&self, config: &Arc<ClientConfig>) -> Result<Session, ConnectionError> {
        let connecting = dial(&self.attacker, config, self.number());
        timeout(SOON, connecting).await.unwrap().map(Session)
    }
}

fn dial(endpoint: &quinn::Endpoint, config: &Arc<ClientConfig>, to: u16) -> quinn::Connecting {
    let config = QuicClientConfig::try_from(config.clone()).unwrap();
    let mut config = quinn::ClientConfig::new(Arc::new(config));
    let mut transport = quinn::TransportConfig::default();
    // It goes on showing that it is there.
    transport.keep_alive_interval(Some(Duration::from_millis(50)));
    config.transport_config(Arc::new(transport));
    let to = (Ipv4Addr::LOCALHOST, to).into();
    endpoint.connect_with(config, to, "127.0.0.1").unwrap()
}

struct Session(quinn::Connection);

impl Session {
    async fn open(&self, said: &[u8]) -> (SendStream, RecvStream) {
        let opening = async {
            let (mut send, recv) = self.0.open_bi().await.unwrap();
            send.write_all(said).await.unwrap();
            (send, recv)
        };
        timeout(SOON, opening).await.unwrap()
    }

    /// Why and after how long the listener ended it.
    async fn ended(&self) -> (ConnectionError, Duration) {
        let began = Instant::now();
        (timeout(SOON, self.0.closed()).await.unwrap(), began.elapsed())
    }
}

/// The opening of a connection, after the byte that says what the stream is for.
fn opening() -> Vec<u8> {
    let takes = Welcome::of(&Limits::default());
    let hello = Hello { to: String::new(), from: String::new(), takes };
    [&[0], &hello.encode()[..]].concat()
}

/// What a listener answers.
async fn reply(recv: &mut RecvStream) -> Result<Reply, std::io::Error> {
    let mut answer = BytesMut::new();
    let reading = async {
        loop {
            if let Some(reply) = decode_reply(&mut answer).unwrap() {
                return Ok(reply);
            }
            if recv.read_buf(&mut answer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    };
    timeout(SOON, reading).await.unwrap()
}

/// The code that a stream is reset with.
async fn reset_code(recv: &mut RecvStream) -> u64 {
    match timeout(SOON, recv.read(&mut [0; 64])).await.unwrap() {
        Err(ReadError::Reset(code)) => code.into(),
        other => panic!("{other:?}"),
    }
}

/// A socket from 127.0.0.`source`.
async fn socket(source: u8, to: u16) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, source), 0)).await.unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, to)).await.unwrap();
    socket
}

/// Of each client the datagrams that it says first.
async fn first_flights(count: usize, config: &Arc<ClientConfig>) -> Vec<Vec<Vec<u8>>> {
    let sink = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let number = sink.local_addr().unwrap().port();
    let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let mut flights = Vec::<Vec<Vec<u8>>>::new();
    let mut datagram = [0; 2_000];
    while flights.len() < count {
        let connecting = dial(&endpoint, config, number);
        // The key of a hybrid key exchange does not fit into one.
        let mut flight = Vec::<Vec<u8>>::new();
        while flight.len() < 2 {
            let len = timeout(SOON, sink.recv(&mut datagram)).await.unwrap().unwrap();
            let said = datagram[..len].to_vec();
            // Those before still say that they end.
            let of_another =
                flights.iter().rev().take(4).any(|other| name(&other[0]) == name(&said));
            if !of_another && len == 1_200 {
                flight.push(said);
            }
        }
        drop(connecting);
        flights.push(flight);
    }
    flights
}

/// What an Initial packet of quinn calls its sender.
fn name(initial: &[u8]) -> &[u8] {
    let len = usize::from(initial[5]);
    &initial[6 + len + 1..][..initial[6 + len].into()]
}

/// Numbers that look random, the same in each run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.0 >> 33
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// What an attacker shows, whatever it is asked for.
#[derive(Debug)]
struct Shown(Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

/// A certificate, of libp2p or not, with an extension of so many bytes that means nothing.
fn certificate(of_libp2p: bool, more: usize) -> (CertificateDer<'static>, KeyPair) {
    let mut params = CertificateParams::default();
    let key = KeyPair::generate().unwrap();
    let mut extend = |oid: &[u64], content| {
        params.custom_extensions.push(CustomExtension::from_oid_content(oid, content));
    };
    if of_libp2p {
        let peer = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let signed = [b"libp2p-tls-handshake:", &key.subject_public_key_info()[..]].concat();
        let public = [&[8, 1, 18, 32], peer.public_key_raw()].concat();
        let signature = peer.sign(&signed).unwrap();
        let content = [&[0x30, 104, 4, 36], &public[..], &[4, 64], &signature].concat();
        extend(&[1, 3, 6, 1, 4, 1, 53594, 1, 1], content);
    }
    if more > 0 {
        extend(&[1, 3, 6, 1, 4, 1, 1], vec![7; more]);
    }
    (params.self_signed(&key).unwrap().der().clone(), key)
}

#[test]
fn garbage_does_not_slow_down_the_honest() {
    alone(async {
        let served = Served::plain().await;
        let flights = first_flights(20, &served.client()).await;
        let quiet = served.latency().await;
        let before = resident();
        for kind in ["random", "headers", "truncated", "replayed"] {
            let socket = socket(ATTACKER, served.number()).await;
            let (flights, done) = (flights.clone(), Arc::new(AtomicBool::new(false)));
            let over = done.clone();
            let flood = tokio::spawn(async move {
                let mut numbers = Numbers(7);
                let mut sent = 0;
                while !over.load(Ordering::Relaxed) || sent < 5_000 {
                    for _ in 0..16 {
                        let initial = &flights[sent % 20][sent / 20 % 2];
                        let len = numbers.next() as usize % 1_400;
                        let said = match kind {
                            "random" => numbers.bytes(len),
                            // A long header of this version or of another, and nonsense behind.
                            "headers" => {
                                let mut said = initial[..6].to_vec();
                                said[0] = 0xc0 | numbers.next() as u8;
                                said[4] = (numbers.next() % 2) as u8;
                                said.extend(numbers.bytes(1_200));
                                said
                            }
                            "truncated" => initial[..len.min(1_199)].to_vec(),
                            _ => initial.clone(),
                        };
                        // Those that do not fit in are lost, as on any path.
                        let _ = socket.try_send(&said);
                        sent += 1;
                    }
                    sleep(Duration::from_millis(1)).await;
                }
                sent
            });
            let mut loud = Duration::ZERO;
            for _ in 0..5 {
                loud = loud.max(served.latency().await);
            }
            done.store(true, Ordering::Relaxed);
            let sent = timeout(SOON, flood).await.unwrap().unwrap();
            println!(
                "{kind}: {sent} datagrams, +{} bytes; an honest connect took {quiet:?}, and \
                 {loud:?} meanwhile",
                growth(before)
            );
            assert!(loud < 20 * quiet + SHORT, "{kind}: {quiet:?}, {loud:?}");
            assert!(growth(before) < 16 * MIB, "{kind}: {}", growth(before));
        }
        served.is_empty().await;
    });
}

#[test]
fn half_open_handshakes_are_bounded_and_the_honest_get_in() {
    alone(async {
        let served = Served::new(Limits::default().with_handshake_time(LONG), AcceptPolicy::new());
        let served = served.await;
        let flights = first_flights(2_000, &served.client()).await;
        let quiet = served.latency().await;
        let before = resident();
        let mut sockets = Vec::new();
        for source in ATTACKER..ATTACKER + 5 {
            sockets.push(socket(source, served.number()).await);
        }
        let (mut said, mut heard, mut retries, mut loud) = ([0; 5], [0; 5], 0, Vec::new());
        let mut answer = [0; 2_000];
        for (at, flight) in flights.iter().enumerate() {
            for datagram in flight {
                sockets[at % 5].send(datagram).await.unwrap();
                said[at % 5] += datagram.len();
            }
            for (socket, heard) in sockets.iter().zip(&mut heard) {
                while let Ok(len) = socket.try_recv(&mut answer) {
                    *heard += len;
                    retries += usize::from(answer[0] & 0xf0 == 0xf0);
                }
            }
            if at % 200 == 199 {
                loud.push(served.is_alive().await);
            }
        }
        let cost = growth(before);
        loud.sort();
        println!(
            "2000 half-open handshakes: +{cost} bytes, {retries} were asked to come again; they \
             said {said:?} bytes and heard {heard:?}; an honest connect took {quiet:?}, and {:?} \
             in between",
            loud[loud.len() / 2]
        );
        assert!(retries > 1_000, "{retries}");
        assert!(cost < 16 * MIB, "{cost}");
        assert!(said.iter().zip(&heard).all(|(said, heard)| *heard <= 3 * said));
        assert!(loud[loud.len() / 2] < 20 * quiet + SHORT, "{quiet:?}, {loud:?}");
    });
}

#[test]
fn who_pretends_to_be_at_an_address_does_not_keep_out_who_is_there() {
    alone(async {
        let policy = AcceptPolicy::new().with_max_handshakes_per_source(16);
        let served = Served::new(Limits::default().with_handshake_time(LONG), policy).await;
        let flights = first_flights(40, &served.client()).await;
        // As if somebody had forged it: it says nothing that needs an answer.
        let socket = socket(1, served.number()).await;
        for datagram in flights.iter().flatten() {
            socket.send(datagram).await.unwrap();
        }
        let began = Instant::now();
        while let Err(error) = served.connect().await {
            assert!(began.elapsed() < Duration::from_secs(2), "{error:?}");
            sleep(Duration::from_millis(10)).await;
        }
        println!("who is there got in after {:?}", began.elapsed());
    });
}

#[test]
fn handshakes_that_are_never_finished_are_gone_when_their_time_is_over() {
    alone(async {
        // Fewer than those from which on the listener asks to come again.
        let limits = Limits::default().with_handshake_time(SHORT).with_max_handshakes(20);
        let served = Served::new(limits, AcceptPolicy::new()).await;
        let flights = first_flights(200, &served.client()).await;
        let socket = socket(ATTACKER, served.number()).await;
        for flight in &flights {
            for datagram in flight {
                socket.send(datagram).await.unwrap();
            }
        }
        // The flood has all places.
        let mut refused = 0;
        let began = Instant::now();
        while let Err(error) = served.connect().await {
            assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
            refused += 1;
            assert!(began.elapsed() < 10 * SHORT, "{error:?}");
            sleep(Duration::from_millis(10)).await;
        }
        println!("{refused} connects were refused in {:?}", began.elapsed());
    });
}

#[test]
fn sessions_of_those_who_are_not_let_in_do_not_keep_others_out() {
    alone(async {
        let limits = Limits::default().with_handshake_time(SHORT).with_max_connections(20);
        let policy = AcceptPolicy::new();
        let served = Served::new(limits, policy.clone()).await;
        let honest = served.honest.local_endpoint().value_of("p2p").unwrap();
        policy.allow_only([honest.parse().unwrap()]);
        let mut sessions = Vec::new();
        for _ in 0..20 {
            let session = served.session().await;
            let (_, mut recv) = session.open(&opening()).await;
            if let Ok(said) = reply(&mut recv).await {
                assert_eq!(said, Reply::Reject(Rejection::NotAllowed));
            }
            sessions.push(session);
        }
        let began = Instant::now();
        while let Err(error) = served.connect().await {
            assert!(began.elapsed() < 10 * SHORT, "{error:?}");
            sleep(Duration::from_millis(10)).await;
        }
        println!("the honest got in after {:?}", began.elapsed());
    });
}

#[test]
fn sessions_without_a_stream_do_not_keep_others_out() {
    alone(async {
        let limits = Limits::default().with_handshake_time(SHORT).with_max_handshakes(20);
        let served = Served::new(limits, AcceptPolicy::new()).await;
        let mut sessions = Vec::new();
        let client = served.client();
        while let Ok(session) = served.session_with(&client).await {
            sessions.push(session);
            if sessions.len() == 20 {
                break;
            }
        }
        let began = Instant::now();
        while let Err(error) = served.connect().await {
            assert!(began.elapsed() < 10 * SHORT, "{error:?}");
            sleep(Duration::from_millis(10)).await;
        }
        println!("{} without a stream; in after {:?}", sessions.len(), began.elapsed());
    });
}

#[test]
fn a_session_without_a_stream_is_ended() {
    alone(async {
        let idle = Duration::from_millis(500);
        let limits = Limits::default().with_keepalive_time(SHORT).with_idle_time(idle);
        let served = Served::new(limits, AcceptPolicy::new()).await;
        let session = served.session().await;
        let (why, after) = session.ended().await;
        println!("it was ended after {after:?}: {why}");
        assert!(matches!(why, ConnectionError::ApplicationClosed(_)), "{why:?}");
        assert!(after < 3 * idle, "{after:?}");
        served.is_alive().await;
    });
}

#[test]
fn streams_that_are_opened_and_never_used_are_reset() {
    alone(async {
        let limits = Limits::default().with_handshake_time(SHORT);
        let served = Served::new(limits, AcceptPolicy::new()).await;
        let session = served.session().await;
        let before = resident();
        // To say something on the last is to open them all: as many as there may be at first.
        let mut streams = Vec::new();
        while let Ok(stream) = timeout(SHORT / 10, session.0.open_bi()).await {
            streams.push(stream.unwrap());
            assert!(streams.len() < STREAMS as usize, "more than there may be for who uses none");
        }
        let last = streams.last_mut().unwrap();
        last.0.write_all(&opening()).await.unwrap();
        let said = reply(&mut last.1).await.unwrap();
        assert!(matches!(said, Reply::Welcome(_)), "{said:?}");
        let cost = growth(before);
        println!("{} streams that say nothing: +{cost} bytes", streams.len());
        assert!(cost < 16 * MIB, "{cost}");
        served.is_alive().await;
        let (_last, others) = streams.split_last_mut().unwrap();
        for (_, recv) in others {
            assert_eq!(reset_code(recv).await, u64::from(REFUSED));
        }
        // And others may come instead.
        drop(streams);
        let (_send, mut recv) = session.open(&opening()).await;
        assert!(matches!(reply(&mut recv).await.unwrap(), Reply::Welcome(_)));
    });
}

#[test]
fn as_many_streams_as_there_may_be_are_as_many_connections_and_no_more() {
    alone(async {
        let served = Served::plain().await;
        let session = served.session().await;
        let before = resident();
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            streams.push(session.open(&opening()).await);
        }
        for (_, recv) in &mut streams {
            assert!(matches!(reply(recv).await.unwrap(), Reply::Welcome(_)));
        }
        let cost = growth(before) / STREAMS as usize;
        println!("{STREAMS} connections over one session: {cost} bytes each, with both ends");
        assert!(cost < 32 << 10, "{cost}");
        assert_eq!(served.policy.connections(), STREAMS as usize);
        assert!(timeout(SHORT, session.0.open_bi()).await.is_err());
        served.is_alive().await;
        session.0.close(0_u32.into(), b"");
        served.is_empty().await;
    });
}

#[test]
fn streams_for_something_unknown_are_reset() {
    alone(async {
        let served = Served::plain().await;
        let session = served.session().await;
        let before = resident();
        // 2 is a record, of a connection that there is not.
        for first in (0..=255).filter(|first| !matches!(first, 0 | 1)) {
            let (send, mut recv) = session.open(&[&[first], &opening()[..]].concat()).await;
            assert_eq!(reset_code(&mut recv).await, u64::from(REFUSED));
            let stopped = timeout(SOON, send.stopped()).await.unwrap();
            assert_eq!(stopped, Ok(Some(REFUSED.into())));
        }
        println!("254 streams for something unknown: +{} bytes", growth(before));
        assert!(growth(before) < 8 * MIB, "{}", growth(before));
        // There are none of the other kind.
        assert!(timeout(SHORT, session.0.open_uni()).await.is_err());
        let (_send, mut recv) = session.open(&opening()).await;
        assert!(matches!(reply(&mut recv).await.unwrap(), Reply::Welcome(_)));
        served.is_alive().await;
    });
}

#[test]
fn an_opening_that_is_never_finished_is_cut_off() {
    alone(async {
        let limits = Limits::default().with_handshake_time(SHORT);
        let served = Served::new(limits, AcceptPolicy::new()).await;
        let session = served.session().await;
        let before = resident();
        let opening = opening();
        let mut streams = Vec::new();
        for at in 0..200 {
            // Cut anywhere, also before the first byte of the opening.
            streams.push(session.open(&opening[..1 + at % (opening.len() - 1)]).await);
        }
        // A byte at a time, for longer than that takes.
        let (mut send, mut recv) = session.open(&opening[..1]).await;
        let long = Hello {
            to: format!("/port/{}", "x".repeat(2_000)),
            from: String::new(),
            takes: Welcome::of(&Limits::default()),
        };
        let trickle = async {
            for byte in long.encode() {
                let _ = send.write_all(&[byte]).await;
                sleep(Duration::from_millis(5)).await;
            }
        };
        let said = tokio::select! {
            said = reply(&mut recv) => said.unwrap(),
            () = trickle => panic!("all of the opening was taken"),
        };
        streams.push((send, recv));
        let Reply::Reject(Rejection::BadOpening(told)) = said else { panic!("{said:?}") };
        assert!(told.text().contains("too long"), "{told}");
        for (_send, recv) in &mut streams[..200] {
            let said = reply(recv).await.unwrap();
            assert!(matches!(said, Reply::Reject(Rejection::BadOpening(_))), "{said:?}");
        }
        println!("201 openings without an end: +{} bytes", growth(before));
        assert!(growth(before) < 16 * MIB, "{}", growth(before));
        served.is_empty().await;
        served.is_alive().await;
    });
}

#[test]
fn streams_without_an_end_are_cut_off() {
    alone(async {
        let served = Served::plain().await;
        let chunk = vec![7; 64 << 10];
        let over = |len: u32| [&[1, 0, 0, 0, 0], &len.to_le_bytes()[..]].concat();
        let most = Limits::default().max_record_len as u32;
        for (what, first, header) in [
            ("something unknown", vec![9], Vec::new()),
            ("an opening", opening()[..7].to_vec(), Vec::new()),
            ("a record that is too long", opening(), over(most + 1)),
            ("a record of 4 GiB", opening(), over(u32::MAX)),
            ("records that nobody acks", opening(), Vec::new()),
        ] {
            let session = served.session().await;
            let before = resident();
            let (mut send, mut recv) = session.open(&first).await;
            if first.len() > 7 {
                assert!(matches!(reply(&mut recv).await.unwrap(), Reply::Welcome(_)));
            }
            let chunk = if what == "records that nobody acks" {
                // They say that they are acks, and there is none due.
                [&[2, 1, 0, 0, 0], &1_024_u32.to_le_bytes()[..], &[7; 1_024]].concat()
            } else {
                chunk.clone()
            };
            let (mut most, mut sent) = (0, 0);
            let flood = async {
                let mut outcome = send.write_all(&header).await;
                // Up to 64 MiB, as far as somebody takes it.
                while outcome.is_ok() && sent < 64 * MIB {
                    outcome = send.write_all(&chunk).await;
                    sent += chunk.len();
                    most = most.max(growth(before));
                }
                outcome
            };
            let outcome = timeout(SOON, flood).await.unwrap();
            println!("{what}: {sent} bytes were taken, at most +{most} held: {outcome:?}");
            assert!(outcome.is_err(), "{what}");
            // What the attacker itself keeps is in there.
            assert!(most < 48 * MIB, "{what}: {most}");
            served.is_empty().await;
            served.is_alive().await;
        }
    });
}

#[test]
fn a_storm_of_resets_leaves_nothing() {
    alone(async {
        let served = Served::plain().await;
        for (what, said) in [("a byte", vec![0]), ("nothing known", vec![9]), ("all", opening())] {
            let session = served.session().await;
            // What the first thousand cost is kept for the next.
            let (mut before, mut most, began) = (0, 0, Instant::now());
            for at in 0..10_000 {
                if at == 1_000 {
                    before = resident();
                }
                let (mut send, mut recv) = session.open(&said).await;
                let _ = send.reset(3_u32.into());
                let _ = recv.stop(3_u32.into());
                if at > 1_000 && at % 100 == 0 {
                    most = most.max(growth(before));
                }
            }
            println!("10000 resets after {what}: +{most} bytes, {:?}", began.elapsed());
            assert!(most < 16 * MIB, "{what}: {most}");
            served.is_empty().await;
            let (_send, mut recv) = session.open(&opening()).await;
            assert!(matches!(reply(&mut recv).await.unwrap(), Reply::Welcome(_)));
            session.0.close(0_u32.into(), b"");
            served.is_empty().await;
            served.is_alive().await;
        }
    });
}

#[test]
fn who_cannot_prove_a_key_does_not_get_in() {
    alone(async {
        let served = Served::plain().await;
        let scheme = [SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519];
        let victim = served.client().client_auth_cert_resolver.resolve(&[], &scheme).unwrap();
        let key = KeyPair::generate().unwrap();
        let (ordinary, its_key) = certificate(false, 0);
        let (other, other_key) = certificate(true, 0);
        for (what, config, alerts) in [
            ("no certificate", served.showing(None), &[116][..]),
            ("the certificate of another", served.showing(Some((&victim.cert[0], &key))), &[51]),
            ("an ordinary one", served.showing(Some((&ordinary, &its_key))), &[42, 46]),
        ] {
            for _ in 0..10 {
                // A client of TLS 1.3 has finished before it is told.
                let why = match served.session_with(&config).await {
                    Ok(session) => session.ended().await.0,
                    Err(error) => error,
                };
                let ConnectionError::ConnectionClosed(told) = &why else { panic!("{why:?}") };
                let alert = u64::from(told.error_code) - 0x100;
                assert!(alerts.contains(&alert), "{what}: {why:?}");
            }
            assert_eq!(served.port.connections(), []);
            served.is_alive().await;
        }
        // The same way gets in who can.
        let session = served.session_with(&served.showing(Some((&other, &other_key)))).await;
        let session = session.unwrap();
        let (_send, mut recv) = session.open(&opening()).await;
        assert!(matches!(reply(&mut recv).await.unwrap(), Reply::Welcome(_)));
    });
}

#[test]
fn a_large_certificate_is_bounded() {
    alone(async {
        let served = Served::plain().await;
        for (of_libp2p, more) in [(false, 60_000)]
            .into_iter()
            .chain([4_000, 12_000, 16_000, 60_000, 200_000].map(|more| (true, more)))
        {
            let (certificate, key) = certificate(of_libp2p, more);
            let config = served.showing(Some((&certificate, &key)));
            let before = resident();
            for _ in 0..10 {
                let why = match served.session_with(&config).await {
                    Ok(session) => session.ended().await.0,
                    Err(error) => error,
                };
                assert!(
                    matches!(
                        why,
                        ConnectionError::ConnectionClosed(_) | ConnectionError::TransportError(_)
                    ),
                    "{more}: {why:?}"
                );
                assert_eq!(served.port.connections(), []);
            }
            println!("10 certificates of {} bytes: +{}", certificate.len(), growth(before));
            assert!(growth(before) < 16 * MIB, "{}", growth(before));
        }
        // As long as it may be, it comes in.
        let (certificate, key) = certificate(true, MAX_CERTIFICATE_LEN - 600);
        assert!(certificate.len() <= MAX_CERTIFICATE_LEN, "{}", certificate.len());
        let session = served.session_with(&served.showing(Some((&certificate, &key)))).await;
        let session = session.unwrap();
        let (_send, mut recv) = session.open(&opening()).await;
        assert!(matches!(reply(&mut recv).await.unwrap(), Reply::Welcome(_)));
        served.is_alive().await;
    });
}

/// A port that dials, and is told what it may.
async fn dialing(limits: Limits) -> Port {
    let quic = Quic::new(Tls::new().with_identity(Identity::generate().unwrap()));
    let network = Network::builder().limits(limits).protocol(quic).build().unwrap();
    network.bind("/ip4/127.0.0.1/udp/0/quic-v1").await.unwrap()
}

#[test]
fn a_listener_that_opens_streams_to_who_dialed_it_gets_nothing() {
    alone(async {
        let tls = Tls::new().with_identity(Identity::generate().unwrap());
        let peer = tls.identity().unwrap().peer_id();
        let config = QuicServerConfig::try_from(tls.server_for_peers().unwrap()).unwrap();
        let config = quinn::ServerConfig::with_crypto(Arc::new(config));
        let hostile = quinn::Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let to = hostile.local_addr().unwrap().port();
        let to = format!("/ip4/127.0.0.1/udp/{to}/quic-v1/p2p/{peer}");
        let here = dialing(Limits::default()).await;
        // It listens, too, but not for those that it dialed.
        here.listen(accept_all(())).await.unwrap();
        let port = here.clone();
        let connecting = tokio::spawn(async move { port.connect(&*to, ()).await });
        let session = timeout(SOON, hostile.accept()).await.unwrap().unwrap().await.unwrap();
        let session = Session(session);
        let before = resident();
        for _ in 0..1_000 {
            let (_send, mut recv) = session.open(&opening()).await;
            assert_eq!(reset_code(&mut recv).await, u64::from(REFUSED));
        }
        println!("1000 streams to a dialer: +{} bytes", growth(before));
        assert!(growth(before) < 8 * MIB, "{}", growth(before));
        assert_eq!(here.connections(), []);
        session.0.close(0_u32.into(), b"");
        let error = timeout(SOON, connecting).await.unwrap().unwrap().unwrap_err();
        assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
    });
}

#[test]
fn a_listener_that_answers_with_nonsense_costs_no_more_than_the_time_for_a_handshake() {
    alone(async {
        let here = dialing(Limits::default().with_handshake_time(SHORT)).await;
        let peer = Identity::generate().unwrap().peer_id();
        for what in ["nothing", "garbage", "what was said", "another version"] {
            let hostile = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let to = hostile.local_addr().unwrap().port();
            let answering = tokio::spawn(async move {
                let (mut said, mut numbers) = ([0; 2_000], Numbers(3));
                loop {
                    let (len, from) = hostile.recv_from(&mut said).await.unwrap();
                    let said = &said[..len];
                    for _ in 0..1_000 {
                        let answer = match what {
                            "garbage" => numbers.bytes(1_200),
                            "what was said" => said.to_vec(),
                            // A negotiation of versions (RFC 9000 §17.2.1).
                            "another version" => {
                                let (to, from) = (name(said), &said[6..][..said[5].into()]);
                                let mut answer = vec![0x80, 0, 0, 0, 0, to.len() as u8];
                                answer.extend(to);
                                answer.push(from.len() as u8);
                                answer.extend(from);
                                answer.extend([0x6b, 0x33, 0x43, 0xcf]);
                                answer
                            }
                            _ => break,
                        };
                        let _ = hostile.send_to(&answer, from).await;
                    }
                }
            });
            let (before, began) = (resident(), Instant::now());
            let to = format!("/ip4/127.0.0.1/udp/{to}/quic-v1/p2p/{peer}");
            let error = timeout(SOON, here.connect(&*to, ())).await.unwrap().unwrap_err();
            println!("{what}: {:?}, +{} bytes: {error}", began.elapsed(), growth(before));
            assert!(began.elapsed() < 3 * SHORT, "{what}: {:?}", began.elapsed());
            assert!(growth(before) < 8 * MIB, "{what}: {}", growth(before));
            match what {
                "another version" => {
                    assert!(matches!(error, ConnectError::Incompatible { .. }), "{error:?}");
                }
                _ => assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}"),
            }
            answering.abort();
        }
    });
}
