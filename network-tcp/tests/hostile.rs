//! Peers that misbehave on the wire in ways that take a moment or a counter to see. The
//! conformance suite has the plain ones.

#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::time::Duration;

use bytes::BytesMut;
use network_core::{
    Bytes, CloseReason, Connection, Delivery, Limits, Network, Port,
    wire::{Output, Reply, Welcome, decode_hello},
};
use network_tcp::Tcp;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};

/// Longer than anything here may take.
const SOON: Duration = Duration::from_secs(20);

/// A connection to a listener that is none of ours, and that listener's end of the socket.
async fn victim(limits: Limits) -> (Port, Connection, TcpStream) {
    let network = Network::builder().limits(limits).protocol(Tcp::new()).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let remote = format!("/ip4/127.0.0.1/tcp/{}", listener.local_addr().unwrap().port());
    let port = network.bind("/ip4/127.0.0.1/tcp/0").await.unwrap();
    let peer = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut input = BytesMut::new();
        while decode_hello(&mut input).unwrap().is_none() {
            assert!(stream.read_buf(&mut input).await.unwrap() > 0);
        }
        let welcome = Reply::Welcome(Welcome::of(&Limits::default().with_window_bytes(1 << 30)));
        stream.write_all(&welcome.encode()).await.unwrap();
        stream
    });
    let connection = port.connect(remote, ()).await.unwrap();
    (port, connection, peer.await.unwrap())
}

fn written(add: impl FnOnce(&mut Output)) -> Vec<u8> {
    let mut output = Output::default();
    add(&mut output);
    let mut slices = [std::io::IoSlice::new(&[]); 8];
    let set = output.slices(&mut slices);
    slices[..set].iter().flat_map(|slice| slice.to_vec()).collect()
}

#[tokio::test]
async fn acks_of_records_that_nobody_read_are_a_fault() {
    let (_port, connection, mut peer) = victim(Limits::default()).await;
    let sender = connection.clone();
    tokio::spawn(async move { while sender.send(vec![1; 1 << 20]).await.is_ok() {} });
    // The ids of the first records can be guessed. Without a bound each guess would free the
    // window for a record more that waits in memory.
    let forging = async {
        for generation in 0..200_u32 {
            let acks = connection.stats().acks;
            let ack = written(|output| output.ack(generation << 16, Bytes::new()));
            peer.write_all(&ack).await.unwrap();
            // An ack for a record that does not exist yet would be another fault.
            while connection.stats().acks == acks || connection.stats().unacked == 0 {
                sleep(Duration::from_millis(1)).await;
            }
        }
    };
    let reason = tokio::select! {
        reason = connection.closed() => reason,
        () = forging => panic!("200 forged acks were taken"),
    };
    assert!(reason.to_string().contains("was not sent"), "{reason}");
}

#[tokio::test]
async fn a_close_does_not_wait_for_a_peer_that_stopped_reading() {
    let limits = Limits::default()
        .with_window_bytes(64 << 20)
        .with_close_time(Duration::from_millis(300))
        .with_keepalive_time(Duration::from_secs(60));
    let (_port, connection, _peer) = victim(limits).await;
    let record = Bytes::from(vec![0; 1 << 20]);
    for _ in 0..64 {
        let permit = connection.reserve(1 << 20).await.unwrap();
        drop(permit.send(record.clone()).unwrap());
    }
    // Until the sockets hold what they can.
    sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    timeout(SOON, connection.close()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(30), "it waited for the keepalive");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_pings_does_not_keep_a_close_from_ending() {
    let limits = Limits::default().with_close_time(Duration::from_millis(300));
    let (_port, connection, peer) = victim(limits).await;
    let pings = written(|output| (0..1_000).for_each(|id| output.ping(id)));
    let (_reading, mut writing) = peer.into_split();
    let flood = tokio::spawn(async move { while writing.write_all(&pings).await.is_ok() {} });
    sleep(Duration::from_millis(100)).await;
    timeout(SOON, connection.close()).await.unwrap();
    timeout(SOON, flood).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_peer_that_reads_slowly_and_says_nothing_is_not_taken_for_gone() {
    const RECORDS: u32 = 512;
    const IDLE: Duration = Duration::from_secs(2);
    let limits = Limits::default()
        .with_window_bytes(u64::from(RECORDS) << 20)
        .with_keepalive_time(Duration::from_millis(500))
        .with_idle_time(IDLE);
    let (_port, connection, mut peer) = victim(limits).await;
    let record = Bytes::from(vec![0; 1 << 20]);
    let mut acks = Vec::new();
    for _ in 0..RECORDS {
        let permit = connection.reserve(1 << 20).await.unwrap();
        acks.push(permit.send(record.clone()).unwrap());
    }
    // The output is never empty, so no ping asks; but the reads can be felt.
    let mut room = vec![0; 256 << 10];
    let (began, mut read) = (Instant::now(), 0);
    while began.elapsed() < 2 * IDLE && read < (RECORDS as usize - 64) << 20 {
        read += peer.read(&mut room).await.unwrap();
        sleep(Duration::from_millis(5)).await;
    }
    assert!(connection.close_reason().is_none(), "{:?}", connection.close_reason());
}

#[tokio::test]
async fn acks_that_come_before_garbage_count() {
    let (_port, connection, mut peer) = victim(Limits::default()).await;
    let ack = connection.reserve(3).await.unwrap().send("one").unwrap();
    let mut record = [0; 12];
    peer.read_exact(&mut record).await.unwrap();
    let mut bytes = written(|output| output.ack(0, Bytes::from_static(b"yes")));
    bytes.extend_from_slice(&[0xee; 9]);
    peer.write_all(&bytes).await.unwrap();
    assert_eq!(timeout(SOON, ack).await.unwrap().unwrap(), "yes");
    let reason = timeout(SOON, connection.closed()).await.unwrap();
    assert!(matches!(reason, CloseReason::Protocol(_)), "{reason}");
}

/// A peer closes while records wait here, and this program then drops what it never looked at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_dropped_unseen_while_the_peer_closes_are_not_delivered() {
    let network = Network::builder().protocol(Tcp::new()).build().unwrap();
    let server = network.bind("/ip4/127.0.0.1/tcp/0").await.unwrap();
    let mut attempts = server.attempts().await.unwrap();
    let client = network.bind("/ip4/127.0.0.1/tcp/0").await.unwrap();
    for _ in 0..30 {
        let connecting = client.connect(server.local_endpoint(), ());
        let accepting = async { attempts.next().await.unwrap().accept_pull().await.unwrap() };
        let (dialed, (accepted, records)) = tokio::join!(connecting, accepting);
        let dialed = dialed.unwrap();
        let mut acks = Vec::new();
        for _ in 0..500 {
            acks.push(dialed.reserve(4).await.unwrap().send("lost").unwrap());
        }
        while accepted.stats().records_received < 500 {
            sleep(Duration::from_millis(1)).await;
        }
        let closing = dialed.clone();
        let closing = tokio::spawn(async move { closing.close().await });
        while accepted.close_reason().is_none() {
            tokio::task::yield_now().await;
        }
        drop((records, accepted));
        for ack in acks {
            let error = timeout(SOON, ack).await.unwrap().unwrap_err();
            assert_eq!(error.delivery(), Delivery::NotDelivered, "{error}");
        }
        closing.await.unwrap();
    }
}
