//! Records without an order, against peers that do with streams what QUIC lets them do.

#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::BytesMut;
use network_core::{
    Bytes, Limits, Network, accept_all, handler_fn,
    wire::{Hello, Reply, Welcome, decode_hello, decode_reply},
};
use network_quic::Quic;
use network_tls::{Identity, Tls};
use quinn::{
    Connection, RecvStream, SendStream,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use tokio::{io::AsyncReadExt, runtime, sync::oneshot, task::JoinSet, time::timeout};

const SOON: Duration = Duration::from_secs(10);
const ANY: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
const LOCAL: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// What a record's stream is reset with that is called back.
const CALLED_BACK: u32 = 2;

fn tls() -> Tls {
    Tls::new().with_identity(Identity::generate().unwrap())
}

/// The start of a record's stream, of the connection over the first stream.
fn head() -> Vec<u8> {
    [&[2], &0_u64.to_le_bytes()[..]].concat()
}

/// Opens a connection without an order over a QUIC connection.
async fn open(session: &Connection) -> (SendStream, RecvStream) {
    let (mut send, mut recv) = session.open_bi().await.unwrap();
    let takes = Welcome::of(&Limits::default());
    let hello = Hello { to: String::new(), from: String::new(), takes };
    send.write_all(&[&[1], &hello.encode()[..]].concat()).await.unwrap();
    let mut answer = BytesMut::new();
    while decode_reply(&mut answer).unwrap().is_none() {
        assert_ne!(recv.read_buf(&mut answer).await.unwrap(), 0);
    }
    (send, recv)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_called_back_is_not_taken_for_a_shorter_one() {
    const RECORDS: usize = 20_000;
    let tls = tls();
    let network = Network::builder().protocol(Quic::new(tls.clone())).build().unwrap();
    let listening = network.bind(ANY).await.unwrap();
    let handled = Arc::new(AtomicUsize::new(0));
    let counts = handled.clone();
    let handler = handler_fn(move |record: Bytes| {
        counts.fetch_add(1, Ordering::Relaxed);
        async move { Ok(record) }
    });
    listening.listen(accept_all(handler)).await.unwrap();

    let port = listening.local_endpoint().value_of("udp").unwrap().parse::<u16>().unwrap();
    let peer = tls.identity().unwrap().peer_id();
    let config = QuicClientConfig::try_from(self::tls().client_for_peer(&peer).unwrap()).unwrap();
    let endpoint = quinn::Endpoint::client((LOCAL, 0).into()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(config));
    let session = endpoint.connect_with(config, (LOCAL, port).into(), "127.0.0.1").unwrap();
    let session = session.await.unwrap();
    let _control = open(&session).await;
    // As many at once as there may be: the listener then takes streams while packets come.
    let mut senders = JoinSet::new();
    for _ in 0..8 {
        let session = session.clone();
        senders.spawn(async move {
            for number in 0..RECORDS / 8 {
                let (mut send, _recv) = session.open_bi().await.unwrap();
                send.write_all(&[&head()[..], b"a part"].concat()).await.unwrap();
                for _ in 0..number % 4 {
                    tokio::task::yield_now().await;
                }
                send.reset(CALLED_BACK.into()).unwrap();
            }
        });
    }
    timeout(SOON, senders.join_all()).await.unwrap();
    let (mut send, mut recv) = session.open_bi().await.unwrap();
    send.write_all(&[&head()[..], b"whole"].concat()).await.unwrap();
    send.finish().unwrap();
    let answer = timeout(SOON, recv.read_to_end(16)).await.unwrap().unwrap();
    assert_eq!(answer, b"\x02whole");
    assert_eq!(handled.load(Ordering::Relaxed), 1);
}

/// Welcomes one who dials, answers so many records, and ends the QUIC connection behind that
/// while nobody looks.
async fn answer_and_end(
    endpoint: quinn::Endpoint,
    records: usize,
    all_here: oneshot::Sender<()>,
    go: oneshot::Receiver<()>,
) {
    let session = endpoint.accept().await.unwrap().await.unwrap();
    let (mut send, mut recv) = session.accept_bi().await.unwrap();
    assert_eq!(recv.read_u8().await.unwrap(), 1);
    let mut hello = BytesMut::new();
    while decode_hello(&mut hello).unwrap().is_none() {
        assert_ne!(recv.read_buf(&mut hello).await.unwrap(), 0);
    }
    let welcome = Reply::Welcome(Welcome::of(&Limits::default()));
    send.write_all(&welcome.encode()).await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..records {
        let (send, mut recv) = session.accept_bi().await.unwrap();
        recv.read_to_end(64).await.unwrap();
        streams.push(send);
    }
    all_here.send(()).unwrap();
    go.await.unwrap();
    for mut send in streams {
        send.write_all(b"\x02an ack").await.unwrap();
        send.finish().unwrap();
    }
    tokio::time::sleep(Duration::from_millis(30)).await;
    session.close(7_u32.into(), b"");
    endpoint.wait_idle().await;
}

#[test]
fn acks_that_have_come_count_where_the_end_comes_right_behind() {
    const RECORDS: usize = 16;
    let runtime = || runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for _ in 0..8 {
        let tls = tls();
        let peer = tls.identity().unwrap().peer_id();
        let (tell, port) = oneshot::channel();
        let (all_here, here) = oneshot::channel();
        let (go, gone) = oneshot::channel();
        let listener = thread::spawn(move || {
            runtime().block_on(async {
                let config = QuicServerConfig::try_from(tls.server_for_peers().unwrap()).unwrap();
                let config = quinn::ServerConfig::with_crypto(Arc::new(config));
                let endpoint = quinn::Endpoint::server(config, (LOCAL, 0).into()).unwrap();
                tell.send(endpoint.local_addr().unwrap().port()).unwrap();
                timeout(SOON, answer_and_end(endpoint, RECORDS, all_here, gone)).await.unwrap();
            });
        });
        runtime().block_on(async {
            let to = format!("/ip4/127.0.0.1/udp/{}/quic-v1/p2p/{peer}", port.await.unwrap());
            let quic = Quic::new(self::tls()).unordered();
            let network = Network::builder().protocol(quic).build().unwrap();
            let port = network.bind(ANY).await.unwrap();
            let connection = port.connect(to, ()).await.unwrap();
            let mut sends = JoinSet::new();
            for _ in 0..RECORDS {
                let connection = connection.clone();
                sends.spawn(async move { connection.send("a record").await });
            }
            here.await.unwrap();
            go.send(()).unwrap();
            // All that comes meanwhile is looked at in one turn.
            thread::sleep(Duration::from_millis(150));
            for sent in timeout(SOON, sends.join_all()).await.unwrap() {
                assert_eq!(sent.unwrap(), "an ack");
            }
        });
        listener.join().unwrap();
    }
}
