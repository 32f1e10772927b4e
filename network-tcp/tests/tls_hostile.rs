//! Strangers at a listener with TLS, and strangers that answer a dialer: what they cost, and
//! that they get nothing.
//!
//! Attackers dial from 127.0.0.2 and honest clients from 127.0.0.1, which are two sources. The
//! tests measure the process that they run in, so they take turns. `--nocapture` shows the
//! figures.

#![cfg(all(feature = "tls", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::{
    fs, io,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use bytes::BytesMut;
use network_core::{
    AcceptPolicy, ConnectError, Connection, Limits, Network, Peer, PeerId, Port, Rejection,
    accept_all, handler_fn,
    wire::{Hello, Reply, Welcome, decode_reply},
};
use network_tcp::Tcp;
use network_tls::{
    Identity, Tls,
    rustls::{
        self, ClientConfig, ClientConnection, HandshakeKind, SignatureScheme,
        client::ResolvesClientCert,
        crypto::aws_lc_rs::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName},
        sign::CertifiedKey,
    },
};
use rcgen::{
    CertificateParams, CustomExtension, KeyPair, PKCS_ED25519, PublicKeyData as _, SigningKey as _,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Longer than anything here may take.
const SOON: Duration = Duration::from_secs(30);
/// A handshake that nobody waits for to end by itself.
const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(300);
const ATTACKER: u8 = 2;
const MIB: usize = 1 << 20;
/// Descriptors that may come and go by themselves.
const SLACK: usize = 4;

/// Runs a test while no other does.
fn alone(test: impl Future<Output = ()>) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { timeout(2 * SOON, test).await.unwrap() });
}

/// How many descriptors this process has open.
fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn most_descriptors() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(3).unwrap().parse().unwrap_or(usize::MAX)
}

/// How many bytes of memory this process has resident.
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    4096 * statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap()
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(SOON, waiting).await.unwrap_or_else(|_| panic!("it never came to this: {what}"));
}

/// What there was before an attack.
struct Before {
    descriptors: usize,
    resident: usize,
}

impl Before {
    fn now() -> Self {
        Self { descriptors: descriptors(), resident: resident() }
    }

    fn growth(&self) -> usize {
        resident().saturating_sub(self.resident)
    }

    async fn nothing_is_left(&self, what: &str) {
        eventually(what, || descriptors() <= self.descriptors + SLACK).await;
    }
}

/// A port with TLS that echoes, and an honest client.
struct Served {
    tls: Tls,
    policy: AcceptPolicy,
    port: Port,
    honest: Port,
}

impl Served {
    async fn new(limits: Limits, policy: AcceptPolicy) -> Self {
        let tls = Tls::new().with_identity(Identity::generate().unwrap());
        let network = Network::builder().limits(limits).accept_policy(policy.clone());
        let network = network.protocol(Tcp::new().with_tls(tls.clone())).build().unwrap();
        let port = network.bind("/ip4/127.0.0.1/tcp/0/tls").await.unwrap();
        listen(&port).await;
        let honest = dialing(Identity::generate().unwrap(), Limits::default()).await;
        let served = Self { tls, policy, port, honest };
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
        number(&self.port)
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

    /// An honest client connects, exchanges a record and goes; how long that took.
    async fn is_alive(&self) -> Duration {
        let began = Instant::now();
        let connection = dial(&self.honest, self.port.local_endpoint().as_str()).await.unwrap();
        assert_eq!(timeout(SOON, connection.send("hello")).await.unwrap().unwrap(), "hello");
        let took = began.elapsed();
        timeout(SOON, connection.close()).await.unwrap();
        self.is_empty().await;
        took
    }

    async fn is_empty(&self) {
        let empty = || self.port.connections().is_empty() && self.policy.connections() == 0;
        eventually("no connection", empty).await;
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
}

async fn listen(port: &Port) {
    port.listen(accept_all(handler_fn(|record| async move { Ok(record) }))).await.unwrap();
}

async fn dialing(identity: Identity, limits: Limits) -> Port {
    let tcp = Tcp::new().with_tls(Tls::new().with_identity(identity));
    let network = Network::builder().limits(limits).protocol(tcp).build().unwrap();
    network.bind("/ip4/127.0.0.1/tcp/").await.unwrap()
}

async fn dial(port: &Port, to: &str) -> Result<Connection, ConnectError> {
    timeout(SOON, port.connect(to, ())).await.unwrap()
}

fn number(port: &Port) -> u16 {
    port.local_endpoint().value_of("tcp").unwrap().parse().unwrap()
}

/// A socket from 127.0.0.`source`.
async fn socket(source: u8, to: u16) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, source), 0).into()).unwrap();
    let connecting = socket.connect((Ipv4Addr::LOCALHOST, to).into());
    timeout(SOON, connecting).await.unwrap().unwrap()
}

/// Whether the listener has let go of this socket.
fn is_gone(stream: &TcpStream) -> bool {
    loop {
        match stream.try_read(&mut [0; 512]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

fn held(streams: &[TcpStream]) -> usize {
    streams.iter().filter(|stream| !is_gone(stream)).count()
}

/// Reads until the other side ends it in one way or another.
async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut rest = Vec::new();
    let _ = timeout(SOON, stream.read_to_end(&mut rest)).await.expect("it was not cut off");
    rest
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
    if of_libp2p {
        let (certificate, key, _) = certificate_of_libp2p(more, params);
        return (certificate, key);
    }
    let key = KeyPair::generate().unwrap();
    padded(&mut params, more);
    (params.self_signed(&key).unwrap().der().clone(), key)
}

fn padded(params: &mut CertificateParams, more: usize) {
    if more > 0 {
        let extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 1], vec![7; more]);
        params.custom_extensions.push(extension);
    }
}

/// One that proves a peer, and which.
fn certificate_of_libp2p(
    more: usize,
    mut params: CertificateParams,
) -> (CertificateDer<'static>, KeyPair, PeerId) {
    let key = KeyPair::generate().unwrap();
    let peer = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let signed = [b"libp2p-tls-handshake:", &key.subject_public_key_info()[..]].concat();
    let public = [&[8, 1, 18, 32], peer.public_key_raw()].concat();
    let id = PeerId::from_bytes(&[&[0, 36], &public[..]].concat()).unwrap();
    let signature = peer.sign(&signed).unwrap();
    let content = [&[0x30, 104, 4, 36], &public[..], &[4, 64], &signature].concat();
    let oid = [1, 3, 6, 1, 4, 1, 53594, 1, 1];
    params.custom_extensions.push(CustomExtension::from_oid_content(&oid, content));
    padded(&mut params, more);
    (params.self_signed(&key).unwrap().der().clone(), key, id)
}

fn name() -> ServerName<'static> {
    ServerName::from(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// The first that a client says.
fn client_hello() -> Vec<u8> {
    let mut hello = Vec::new();
    let identity = Identity::generate().unwrap();
    let to = identity.peer_id();
    let config = Tls::new().with_identity(identity).client_for_peer(&to).unwrap();
    let mut client = ClientConnection::new(config, name()).unwrap();
    client.write_tls(&mut hello).unwrap();
    hello
}

fn hello(takes: Welcome) -> Hello {
    Hello { to: String::new(), from: String::new(), takes }
}

/// An attacker's handshake and opening, and what it was told.
async fn open(
    to: u16,
    config: &Arc<ClientConfig>,
    takes: Welcome,
) -> io::Result<(TlsStream<TcpStream>, Reply)> {
    let opening = async {
        let connecting = TlsConnector::from(config.clone());
        let mut stream = connecting.connect(name(), socket(ATTACKER, to).await).await?;
        stream.write_all(&hello(takes).encode()).await?;
        stream.flush().await?;
        let mut answer = BytesMut::new();
        loop {
            if let Some(reply) = decode_reply(&mut answer).unwrap() {
                return Ok((stream, reply));
            }
            if stream.read_buf(&mut answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    };
    timeout(SOON, Box::pin(opening)).await.unwrap()
}

fn usual() -> Welcome {
    Welcome::of(&Limits::default())
}

/// What is said instead of a handshake that ends.
fn unfinished(how: &str) -> Vec<u8> {
    match how {
        "silence" => Vec::new(),
        "half a hello" => {
            let hello = client_hello();
            hello[..hello.len() / 2].to_vec()
        }
        // The longest that may be announced, all but its end.
        "a long hello" => {
            let message = [&[1, 0, 0xff, 0xff][..], &[0; 64_000]].concat();
            let records = message.chunks(16_000).map(|chunk| {
                let [high, low] = (chunk.len() as u16).to_be_bytes();
                [&[22, 3, 1, high, low], chunk].concat()
            });
            records.collect::<Vec<_>>().concat()
        }
        _ => unreachable!(),
    }
}

#[test]
fn a_flood_from_one_source_has_its_share_of_handshakes_and_others_have_theirs() {
    alone(async {
        let flood = 800.min(most_descriptors() / 4);
        let share = flood / 2;
        // The cost of one in bytes, each with what its kind may cost.
        for (how, most) in
            [("silence", 32 << 10), ("half a hello", 32 << 10), ("a long hello", 192 << 10)]
        {
            let policy = AcceptPolicy::new().with_max_handshakes_per_source(share);
            let served = Served::new(Limits::default().with_handshake_time(LONG), policy).await;
            let quiet = served.latency().await;
            let before = Before::now();
            let bytes = unfinished(how);
            let mut streams = Vec::new();
            for _ in 0..flood {
                let mut stream = socket(ATTACKER, served.number()).await;
                // The listener may have closed it by now.
                let _ = stream.write_all(&bytes).await;
                streams.push(stream);
                let listening = descriptors().saturating_sub(before.descriptors + streams.len());
                assert!(listening <= share + SLACK, "{listening} are held");
            }
            eventually("only its share is held", || held(&streams) == share).await;
            // Until what they sent was read.
            sleep(SHORT).await;
            let cost = before.growth() / share;
            let loud = served.latency().await;
            assert_eq!(held(&streams), share, "{how}");
            println!(
                "{how}: {share} of {flood} held, {cost} bytes each; an honest connect took \
                 {quiet:?}, and {loud:?} during the flood, {:.1} times that",
                loud.as_secs_f64() / quiet.as_secs_f64()
            );
            assert!(cost <= most, "{how}: {cost} bytes each");
            assert!(loud < 50 * quiet + Duration::from_secs(1), "{quiet:?}, {loud:?}");
            drop(streams);
            before.nothing_is_left(how).await;
        }
    });
}

#[test]
fn all_sources_together_have_no_more_handshakes_than_there_may_be() {
    alone(async {
        let limits = Limits::default().with_handshake_time(LONG).with_max_handshakes(100);
        let policy = AcceptPolicy::new().with_max_handshakes_per_source(16);
        let served = Served::new(limits, policy).await;
        let before = Before::now();
        let mut streams = Vec::new();
        for source in (2..12).flat_map(|source| [source; 20]) {
            streams.push(socket(source, served.number()).await);
        }
        eventually("only so many are held", || held(&streams) == 100).await;
        assert!(descriptors() <= before.descriptors + streams.len() + 100 + SLACK);
        for source in 2..12_usize {
            assert!(held(&streams[(source - 2) * 20..][..20]) <= 16);
        }
        drop(streams);
        before.nothing_is_left("all sources").await;
        served.is_alive().await;
    });
}

#[test]
fn thousands_that_never_finish_their_handshake_are_gone_when_its_time_is_over() {
    alone(async {
        let share = 200;
        let policy = AcceptPolicy::new().with_max_handshakes_per_source(share);
        let served = Served::new(Limits::default().with_handshake_time(SHORT), policy).await;
        // Both ends are here, if the listener took all: half of what there may be.
        let batch = (most_descriptors() / 4).min(2_500);
        let before = Before::now();
        let half = unfinished("half a hello");
        let (mut opened, mut most) = (0, 0);
        for _ in 0..4 {
            let mut streams = Vec::new();
            for at in 0..batch {
                let mut stream = socket(ATTACKER, served.number()).await;
                if at % 2 == 0 {
                    let _ = stream.write_all(&half).await;
                }
                streams.push(stream);
                if at % 16 == 0 {
                    let ours = before.descriptors + streams.len();
                    most = most.max(descriptors().saturating_sub(ours));
                }
            }
            eventually("all are gone", || held(&streams) == 0).await;
            opened += streams.len();
        }
        println!("{opened} opened, at most {most} held at a time, +{} bytes", before.growth());
        assert!((1..=share + SLACK).contains(&most), "{most} were held");
        assert!(before.growth() < 32 * MIB, "{}", before.growth());
        before.nothing_is_left("the flood").await;
        served.is_alive().await;
    });
}

#[test]
fn a_byte_at_a_time_is_cut_off() {
    alone(async {
        let limits = Limits::default().with_handshake_time(SHORT);
        let served = Served::new(limits, AcceptPolicy::new()).await;
        let before = Before::now();
        let pause = Duration::from_millis(20);
        // The TLS handshake.
        let hello = client_hello();
        let mut stream = socket(ATTACKER, served.number()).await;
        let mut sent = 0;
        while !is_gone(&stream) && sent < hello.len() {
            let _ = stream.write_all(&hello[sent..=sent]).await;
            sent += 1;
            sleep(pause).await;
        }
        println!("{sent} of {} bytes of a TLS hello", hello.len());
        assert!(sent < hello.len() / 2, "{sent}");
        // The opening behind it.
        let client = served.client();
        let connecting = TlsConnector::from(client);
        let stream = socket(ATTACKER, served.number()).await;
        let stream = timeout(SOON, Box::pin(connecting.connect(name(), stream))).await.unwrap();
        let (mut reading, mut writing) = tokio::io::split(stream.unwrap());
        let opening = Hello { to: format!("/port/{}", "x".repeat(2_000)), ..self::hello(usual()) };
        let opening = opening.encode();
        let trickle = async {
            for at in 0..opening.len() {
                let _ = writing.write_all(&opening[at..=at]).await;
                let _ = writing.flush().await;
                sleep(pause).await;
            }
        };
        let told = tokio::select! {
            told = rest(&mut reading) => told,
            () = trickle => panic!("all of the opening was taken"),
        };
        let Some(Reply::Reject(told)) = decode_reply(&mut told[..].into()).unwrap() else {
            panic!("{told:?}")
        };
        assert!(told.to_string().contains("too long"), "{told}");
        assert_eq!(served.port.connections(), []);
        drop((reading, writing));
        before.nothing_is_left("a byte at a time").await;
        served.is_alive().await;
    });
}

#[test]
fn what_is_no_handshake_is_cut_off_and_leaves_nothing() {
    alone(async {
        let served = Served::plain().await;
        let plain = Network::builder().protocol(Tcp::new()).build().unwrap();
        let plain = plain.bind("/ip4/127.0.0.1/tcp/0").await.unwrap();
        listen(&plain).await;
        let before = Before::now();
        let http = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
        let garbage = (0..4_096_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8 | 0x80);
        let opening = hello(usual()).encode().to_vec();
        let all = [http, garbage.collect(), vec![0; MIB], vec![0xff; MIB], client_hello(), opening];
        // A hello of TLS is good for one, and an opening for the other.
        for (to, port, said) in [
            (served.number(), &served.port, [0, 1, 2, 3, 5]),
            (number(&plain), &plain, [0, 1, 2, 3, 4]),
        ] {
            for bytes in said.iter().cycle().take(50).map(|at| &all[*at]) {
                let mut stream = socket(ATTACKER, to).await;
                let _ = timeout(SOON, stream.write_all(bytes)).await.unwrap();
                assert!(rest(&mut stream).await.len() < 512);
                assert_eq!(port.connections(), []);
            }
        }
        println!("100 that speak something else: +{} bytes", before.growth());
        assert!(before.growth() < 16 * MIB, "{}", before.growth());
        before.nothing_is_left("no handshake").await;
        served.is_alive().await;
    });
}

#[test]
fn an_older_tls_is_refused_with_an_alert() {
    alone(async {
        let served = Served::plain().await;
        let suites = [0xc0, 0x2b, 0xc0, 0x2f, 0x00, 0x9c, 0x00, 0x2f];
        let groups = [0, 10, 0, 4, 0, 2, 0, 23];
        let signatures = [0, 13, 0, 6, 0, 4, 4, 3, 4, 1];
        for version in [1, 2, 3] {
            let mut body = vec![3, version];
            body.extend([7; 32]);
            body.extend([0, 0, suites.len() as u8]);
            body.extend(suites);
            body.extend([1, 0, 0, (groups.len() + signatures.len()) as u8]);
            body.extend([&groups[..], &signatures].concat());
            let message = [&[1, 0, 0, body.len() as u8], &body[..]].concat();
            let record = [&[22, 3, 1, 0, message.len() as u8], &message[..]].concat();
            let mut stream = socket(ATTACKER, served.number()).await;
            stream.write_all(&record).await.unwrap();
            // An alert: fatal, and about the version.
            let told = rest(&mut stream).await;
            assert!(matches!(told[..], [21, 3, _, 0, 2, 2, 70]), "{told:?}");
            assert_eq!(served.port.connections(), []);
        }
        served.is_alive().await;
    });
}

#[test]
fn a_server_that_answers_with_nonsense_is_told_apart_and_costs_little() {
    alone(async {
        let limits = Limits::default().with_connect_time(Duration::from_secs(1));
        let here = dialing(Identity::generate().unwrap(), limits).await;
        let peer = Identity::generate().unwrap().peer_id();
        let record = |bytes: &[u8]| {
            let [high, low] = (bytes.len() as u16).to_be_bytes();
            [&[22, 3, 3, high, low], bytes].concat()
        };
        let announced = |len: u32| {
            let [_, a, b, c] = len.to_be_bytes();
            record(&[&[2, a, b, c][..], &[0; 8_000]].concat())
        };
        let (large, slow) = (announced(1 << 20), announced(0xffff));
        let more = record(&[0; 16_000]);
        let garbage = vec![0xee; 16_000];
        // What it says first, then again and again; and whether that can only time out.
        for (what, first, then, waits) in [
            ("garbage", &garbage, &garbage[..], false),
            ("a large message", &large, &more[..], false),
            ("a message that does not end", &slow, &[][..], true),
            ("nothing", &Vec::new(), &[][..], true),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let to = listener.local_addr().unwrap().port();
            let before = Before::now();
            let hostile = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(first).await.unwrap();
                // Up to 32 MiB, as far as somebody takes it.
                for _ in 0..2_000 {
                    if then.is_empty() || stream.write_all(then).await.is_err() {
                        break;
                    }
                }
                rest(&mut stream).await;
            };
            let address = format!("/ip4/127.0.0.1/tcp/{to}/tls/p2p/{peer}");
            let (error, ()) = tokio::join!(dial(&here, &address), hostile);
            let error = error.unwrap_err();
            println!("{what}: +{} bytes, {error}", before.growth());
            match waits {
                true => assert!(matches!(error, ConnectError::TimedOut { .. }), "{error:?}"),
                false => assert!(matches!(error, ConnectError::Incompatible { .. }), "{error:?}"),
            }
            assert!(before.growth() < 4 * MIB, "{what}: {}", before.growth());
            before.nothing_is_left(what).await;
        }
    });
}

#[test]
fn a_large_certificate_is_bounded() {
    alone(async {
        let served = Served::plain().await;
        // No more than is read of it is kept, whether or not it proves a peer.
        for (of_libp2p, more) in [(false, 60_000), (false, 200_000)]
            .into_iter()
            .chain([4_000, 12_000, 60_000, 65_000, 65_300, 200_000].map(|more| (true, more)))
        {
            let (certificate, key) = certificate(of_libp2p, more);
            let config = served.showing(Some((&certificate, &key)));
            let before = Before::now();
            for _ in 0..20 {
                let error = open(served.number(), &config, usual()).await.unwrap_err();
                // Or the connection broke while the attacker wrote.
                let told = error.get_ref().and_then(|error| error.downcast_ref());
                assert!(
                    matches!(told, Some(rustls::Error::AlertReceived(_)) | None),
                    "{more}: {error:?}"
                );
                assert_eq!(served.port.connections(), []);
            }
            println!("20 certificates of {} bytes: +{}", certificate.len(), before.growth());
            assert!(before.growth() < 16 * MIB, "{}", before.growth());
            before.nothing_is_left("a large certificate").await;
        }
        // As long as it may be: it comes in, and can resume.
        let (certificate, key) = certificate(true, network_tls::MAX_CERTIFICATE_LEN - 600);
        assert!(certificate.len() <= network_tls::MAX_CERTIFICATE_LEN, "{}", certificate.len());
        let config = served.showing(Some((&certificate, &key)));
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let (stream, reply) = open(served.number(), &config, usual()).await.unwrap();
            assert!(matches!(reply, Reply::Welcome(_)), "{reply:?}");
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(kind));
        }
        served.is_alive().await;
    });
}

#[test]
fn who_cannot_prove_a_key_does_not_get_in() {
    alone(async {
        let served = Served::plain().await;
        let victim = served.client();
        let scheme = [SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519];
        let victim = victim.client_auth_cert_resolver.resolve(&[], &scheme).unwrap();
        let key = KeyPair::generate().unwrap();
        let (ordinary, its_key) = certificate(false, 0);
        let (other, other_key) = certificate(true, 0);
        let before = Before::now();
        for (what, config) in [
            ("the certificate of another", served.showing(Some((&victim.cert[0], &key)))),
            ("that, and a key of libp2p", served.showing(Some((&victim.cert[0], &other_key)))),
            ("an ordinary certificate", served.showing(Some((&ordinary, &its_key)))),
            ("no certificate", served.showing(None)),
        ] {
            for _ in 0..10 {
                let error = open(served.number(), &config, usual()).await.unwrap_err();
                let told = error.get_ref().and_then(|error| error.downcast_ref());
                assert!(
                    matches!(told, Some(rustls::Error::AlertReceived(_)) | None),
                    "{what}: {error:?}"
                );
                assert_eq!(served.policy.connections(), 0, "{what}");
                assert_eq!(served.port.connections(), [], "{what}");
            }
            println!("{what}: {:?}", open(served.number(), &config, usual()).await.unwrap_err());
            served.is_alive().await;
        }
        before.nothing_is_left("the unproven").await;
        // The same way gets in who can.
        let good = served.showing(Some((&other, &other_key)));
        assert!(matches!(
            open(served.number(), &good, usual()).await.unwrap().1,
            Reply::Welcome(_)
        ));
    });
}

#[test]
fn a_denied_peer_leaves_nothing_behind() {
    alone(async {
        let served = Served::plain().await;
        let denied = Identity::generate().unwrap();
        served.policy.deny(denied.peer_id());
        let port = dialing(denied, Limits::default()).await;
        let before = Before::now();
        for _ in 0..1_000 {
            let connecting = port.connect(served.port.local_endpoint(), ());
            let error = timeout(SOON, connecting).await.unwrap().unwrap_err();
            let ConnectError::Rejected { reason, .. } = &error else { panic!("{error:?}") };
            assert_eq!(*reason, Rejection::NotAllowed);
            assert_eq!(served.policy.connections(), 0);
        }
        println!("1000 denied: +{} bytes", before.growth());
        assert!(before.growth() < 16 * MIB, "{}", before.growth());
        assert_eq!(served.port.connections(), []);
        assert_eq!(port.connections(), []);
        before.nothing_is_left("the denied").await;
        served.is_alive().await;
    });
}

#[test]
fn a_source_that_is_too_fast_does_not_slow_down_another() {
    alone(async {
        let (per_second, burst) = (5, 10);
        let policy = AcceptPolicy::new()
            .with_rate_per_source(per_second.try_into().unwrap(), burst.try_into().unwrap());
        let served = Served::new(Limits::default(), policy).await;
        let config = served.client();
        let before = Before::now();
        let began = Instant::now();
        let (mut welcome, mut others) = (Vec::new(), 0);
        for at in 1..=200 {
            if let Ok((stream, Reply::Welcome(_))) = open(served.number(), &config, usual()).await {
                welcome.push(stream);
            }
            if at % 40 == 0 {
                let address = served.port.local_endpoint().as_str();
                let connection = dial(&served.honest, address).await.unwrap();
                assert_eq!(connection.send("hello").await.unwrap(), "hello");
                connection.close().await;
                others += 1;
            }
        }
        let earned = began.elapsed().as_secs_f64() * f64::from(per_second);
        println!("{} of 200 in {:?}; {others} of 5 others", welcome.len(), began.elapsed());
        assert!(welcome.len() >= burst as usize);
        assert!(welcome.len() as f64 <= f64::from(burst) + earned + 1.0, "{}", welcome.len());
        drop(welcome);
        before.nothing_is_left("the fast").await;
    });
}

/// 64 connect at once, again and again, and so many get in.
async fn race(policy: AcceptPolicy, cap: usize) {
    let served = Served::new(Limits::default(), policy).await;
    let before = Before::now();
    for round in 0..4 {
        let mut tasks = JoinSet::new();
        for _ in 0..64 {
            let (here, to) = (served.honest.clone(), served.port.local_endpoint().clone());
            tasks.spawn(async move { dial(&here, to.as_str()).await });
        }
        let (mut open, mut told) = (Vec::new(), 0);
        loop {
            let now = served.policy.connections().max(served.port.connections().len());
            assert!(now <= cap, "{now} are open");
            match tasks.try_join_next() {
                Some(Ok(Ok(connection))) => open.push(connection),
                Some(Ok(Err(ConnectError::Rejected { reason: Rejection::Busy, .. }))) => told += 1,
                Some(other) => panic!("{other:?}"),
                None if tasks.is_empty() => break,
                None => tokio::task::yield_now().await,
            }
        }
        println!("round {round}: {} of 64, {told} were told that it is busy", open.len());
        assert_eq!((open.len(), served.policy.connections()), (cap, cap));
        assert_eq!(told, 64 - cap);
        for connection in open {
            connection.close().await;
        }
        served.is_empty().await;
    }
    before.nothing_is_left("the race").await;
}

#[test]
fn a_race_for_the_places_of_a_peer_is_won_by_as_many_as_there_are() {
    alone(race(AcceptPolicy::new().with_max_per_peer(4), 4));
}

#[test]
fn a_race_for_the_places_of_a_listener_is_won_by_as_many_as_there_are() {
    alone(race(AcceptPolicy::new().with_max_connections(7), 7));
}

#[test]
fn limits_that_cannot_be_are_clamped_or_refused() {
    alone(async {
        let limits = Limits::default().with_window_records(64).with_max_record_len(MIB);
        let served = Served::new(limits, AcceptPolicy::new()).await;
        let config = served.client();
        let before = Before::now();
        let (no, all) = (0, u32::MAX);
        // Longest record and ack, window in records and bytes; and the window then.
        for (record, ack, records, bytes, window) in [
            (1, 1, no, 1, None),
            (1, 1, no, u64::MAX, None),
            (2, 1, 1, 1, None),
            (all, all, all, 0, None),
            (all, all, all, u64::from(all) - 1, None),
            (no, no, no, 0, None),
            (no, no, 1, 0, Some(1)),
            (no, all, all, u64::MAX, Some(64)),
            (all, all, all, u64::MAX, Some(64)),
            (all, no, all, u64::from(all), Some(64)),
            (1, 1, 3, u64::MAX, Some(3)),
        ] {
            let takes = Welcome {
                max_record_len: record,
                max_ack_len: ack,
                window_records: records,
                window_bytes: bytes,
            };
            let (stream, reply) = open(served.number(), &config, takes).await.unwrap();
            let Some(window) = window else {
                let Reply::Reject(Rejection::BadOpening(told)) = reply else { panic!("{reply:?}") };
                assert!(told.text().contains("no room for one record"), "{told}");
                continue;
            };
            assert!(matches!(reply, Reply::Welcome(_)), "{reply:?}");
            eventually("it is open", || served.port.connections().len() == 1).await;
            let end = served.port.connections().remove(0);
            assert_eq!(end.max_record_len(), MIB.min(record as usize));
            let mut permits = Vec::new();
            while let Ok(permit) = timeout(SHORT, end.reserve(0)).await {
                permits.push(permit.unwrap());
                assert!(permits.len() <= window, "{takes:?}");
            }
            assert_eq!(permits.len(), window, "{takes:?}");
            drop(permits);
            drop((end, stream));
            served.is_empty().await;
        }
        println!("limits that cannot be: +{} bytes", before.growth());
        assert!(before.growth() < 8 * MIB, "{}", before.growth());
        before.nothing_is_left("limits that cannot be").await;
        served.is_alive().await;
    });
}

#[test]
fn a_resumed_session_does_not_get_around_the_policy() {
    alone(async {
        let served = Served::plain().await;
        let identity = Identity::generate().unwrap();
        let peer = identity.peer_id();
        let tls = Tls::new().with_identity(identity);
        let config = tls.client_for_peer(&served.peer()).unwrap();
        let said = async |wanted: HandshakeKind| {
            let (stream, reply) = open(served.number(), &config, usual()).await.unwrap();
            let kind = stream.get_ref().1.handshake_kind().unwrap();
            assert_eq!(kind, wanted);
            (stream, reply)
        };
        let known = async || {
            eventually("it is open", || served.port.connections().len() == 1).await;
            assert_eq!(served.port.connections()[0].peer(), Some(&Peer::Id(peer)));
        };
        let (first, reply) = said(HandshakeKind::Full).await;
        assert!(matches!(reply, Reply::Welcome(_)), "{reply:?}");
        known().await;
        drop(first);
        served.is_empty().await;
        for _ in 0..3 {
            served.policy.deny(peer);
            let (_, reply) = said(HandshakeKind::Resumed).await;
            assert_eq!(reply, Reply::Reject(Rejection::NotAllowed));
            served.is_empty().await;
            served.policy.allow(peer);
            let (stream, reply) = said(HandshakeKind::Resumed).await;
            assert!(matches!(reply, Reply::Welcome(_)), "{reply:?}");
            known().await;
            drop(stream);
            served.is_empty().await;
        }
        // Nor a rule that only the proved come in.
        served.policy.allow_only([peer]);
        let (_stream, reply) = said(HandshakeKind::Resumed).await;
        assert!(matches!(reply, Reply::Welcome(_)), "{reply:?}");
        known().await;
    });
}

#[test]
fn who_resumes_with_what_proves_nothing_any_more_does_not_get_in() {
    alone(async {
        let served = Served::plain().await;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let mut params = CertificateParams::default();
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + now + Duration::from_secs(2);
        // Longer than those whose peers are remembered.
        let (certificate, key, peer) = certificate_of_libp2p(1_500, params);
        let config = served.showing(Some((&certificate, &key)));
        served.policy.deny(peer);
        let (stream, reply) = open(served.number(), &config, usual()).await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(reply, Reply::Reject(Rejection::NotAllowed));
        drop(stream);
        sleep(Duration::from_secs(4)).await;
        let outcome = open(served.number(), &config, usual()).await;
        let (_, reply) = outcome.map_or_else(|_| (None, None), |(s, reply)| (Some(s), Some(reply)));
        assert_eq!(reply, None, "it came in as nobody");
        assert_eq!(served.port.connections(), []);
        served.is_alive().await;
    });
}
