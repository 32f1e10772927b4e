//! The memory that the connections of a network share.

#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::{io::IoSlice, sync::Arc, time::Duration};

use bytes::BytesMut;
use network_core::{
    Bytes, CloseReason, Connection, Delivery, Limits, Network, Port, Refusal, SendError,
    accept_all, handler_fn,
    wire::{Hello, Output, Reply, Welcome, decode_reply},
};
use network_tcp::Tcp;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};

const SOON: Duration = Duration::from_secs(10);
const MIB: usize = 1 << 20;

struct Served {
    server: Port,
    client: Port,
    /// A permit lets one handler of a record end.
    gate: Arc<Semaphore>,
}

async fn bound(limits: Limits) -> Port {
    let network = Network::builder().limits(limits).protocol(Tcp::new()).build().unwrap();
    network.bind("/ip4/127.0.0.1/tcp/0").await.unwrap()
}

/// A port whose handler answers with the length of a record: of long ones, once it may.
async fn serve_long(limits: Limits, long: usize) -> Served {
    let gate = Arc::new(Semaphore::new(0));
    let server = bound(limits).await;
    let held = gate.clone();
    let handler = handler_fn(move |record: Bytes| {
        let gate = held.clone();
        async move {
            if record.len() >= long {
                gate.acquire().await?.forget();
            }
            Ok::<_, Refusal>(Bytes::from(record.len().to_string()))
        }
    });
    server.listen(accept_all(handler)).await.unwrap();
    Served { server, client: bound(Limits::default()).await, gate }
}

/// The same, of all.
async fn serve(limits: Limits) -> Served {
    serve_long(limits, 0).await
}

/// A peer that says only what it is told to.
async fn raw(server: &Port, limits: &Limits) -> TcpStream {
    let host_port = server.local_endpoint().to_string().replace("/ip4/", "").replace("/tcp/", ":");
    let mut stream = TcpStream::connect(host_port).await.unwrap();
    let hello = Hello { to: String::new(), from: String::new(), takes: Welcome::of(limits) };
    stream.write_all(&hello.encode()).await.unwrap();
    let mut input = BytesMut::new();
    loop {
        if let Some(reply) = decode_reply(&mut input).unwrap() {
            assert!(matches!(reply, Reply::Welcome(_)), "{reply:?}");
            return stream;
        }
        assert!(stream.read_buf(&mut input).await.unwrap() > 0);
    }
}

/// A record as it is written.
fn frame(id: u32, len: usize) -> Vec<u8> {
    let mut output = Output::default();
    output.record(id, Bytes::from(vec![7; len]));
    let mut slices = [IoSlice::new(&[]); 8];
    let set = output.slices(&mut slices);
    slices[..set].iter().flat_map(|slice| slice.to_vec()).collect()
}

async fn received(server: &Port, count: u64) {
    eventually(|| server.connections().iter().any(|end| end.stats().records_received == count))
        .await;
}

/// Sends until there is room.
async fn send_eventually(connection: &Connection, len: usize) {
    let sending = async {
        while let Err(error) = connection.send(Bytes::from(vec![7; len])).await {
            assert!(matches!(error, SendError::NoRoom), "{error}");
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, sending).await.unwrap();
}

async fn no_room(connection: &Connection, len: usize) {
    let refused = send(connection, len).await.unwrap_err();
    assert!(matches!(refused, SendError::NoRoom), "{refused}");
}

impl Served {
    async fn connect(&self) -> Connection {
        self.client.connect(self.server.local_endpoint().clone(), ()).await.unwrap()
    }
}

async fn send(connection: &Connection, len: usize) -> Result<Bytes, SendError> {
    timeout(SOON, connection.send(Bytes::from(vec![7; len]))).await.unwrap()
}

/// Sends a record that stays un-acked until the gate opens.
async fn hold(connection: &Connection, len: usize) {
    let permit = connection.reserve(len).await.unwrap();
    let ack = permit.send(Bytes::from(vec![7; len])).unwrap();
    // The ack is not wanted: the record counts until it comes all the same.
    drop(ack);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_without_room_is_not_taken_and_a_small_one_is() {
    let served = serve(Limits::default().with_memory(4 * MIB)).await;
    let (greedy, other) = (served.connect().await, served.connect().await);
    for _ in 0..4 {
        hold(&greedy, MIB).await;
    }
    let held =
        |count| served.server.connections().iter().any(|end| end.stats().records_received == count);
    eventually(|| held(4)).await;
    for len in [MIB, 100 * 1024] {
        let refused = send(&other, len).await.unwrap_err();
        assert!(matches!(refused, SendError::NoRoom), "{refused}");
        assert_eq!(refused.delivery(), Delivery::NotDelivered);
    }
    // What everybody may hold goes through, and the connection is as good as before.
    served.gate.add_permits(100);
    assert_eq!(send(&other, 1000).await.unwrap(), "1000");
    // All is given back, and the room in the window too.
    for _ in 0..100 {
        assert_eq!(send(&other, 3 * MIB).await.unwrap(), (3 * MIB).to_string());
        served.gate.add_permits(1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_calls_hold_outlives_their_connection_and_comes_back_with_each() {
    let served = serve_long(Limits::default().with_memory(4 * MIB), MIB).await;
    let other = served.connect().await;
    let connection = served.connect().await;
    for _ in 0..4 {
        hold(&connection, MIB).await;
    }
    received(&served.server, 4).await;
    connection.close().await;
    eventually(|| served.server.connections().len() == 1).await;
    // The calls go on, and have their records.
    no_room(&other, 900 << 10).await;
    served.gate.add_permits(1);
    send_eventually(&other, 900 << 10).await;
    no_room(&other, 2 * MIB - 1).await;
    served.gate.add_permits(3);
    served.gate.add_permits(1);
    send_eventually(&other, 4 * MIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_pulled_outlives_its_connection_and_comes_back_when_it_is_dropped() {
    // The goodbye waits in vain for the records to be pulled.
    let limits = Limits::default().with_close_time(Duration::from_millis(300));
    let server = bound(limits.clone().with_memory(4 * MIB)).await;
    let mut attempts = server.attempts().await.unwrap();
    let client = bound(limits).await;
    let mut connected = Vec::new();
    for _ in 0..2 {
        let connecting = client.connect(server.local_endpoint(), ());
        let accepting = async { attempts.next().await.unwrap().accept_pull().await.unwrap() };
        let (dialed, accepted) = tokio::join!(connecting, accepting);
        connected.push((dialed.unwrap(), accepted));
    }
    let (other, (_other, mut other_records)) = connected.pop().unwrap();
    let (connection, (accepted, mut records)) = connected.pop().unwrap();
    tokio::spawn(async move {
        while let Some(record) = other_records.recv().await {
            record.ack("taken");
        }
    });
    for _ in 0..4 {
        hold(&connection, MIB).await;
    }
    received(&server, 4).await;
    // One is in the hands of the program when the connection breaks.
    let pulled = records.recv().await.unwrap();
    tokio::spawn(async move { connection.close().await });
    timeout(SOON, accepted.closed()).await.unwrap();
    no_room(&other, 900 << 10).await;
    pulled.ack("late");
    send_eventually(&other, 900 << 10).await;
    no_room(&other, 2 * MIB).await;
    drop(records);
    // A handle that somebody keeps does not keep the records.
    send_eventually(&other, 4 * MIB).await;
    drop(accepted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_reads_take_memory_until_they_are_written() {
    const LEN: usize = 32 * MIB;
    let limits = Limits::default().with_max_record_len(LEN).with_max_ack_len(LEN);
    let limits = limits.with_window_bytes(LEN as u64);
    let server = bound(limits.clone().with_memory(LEN)).await;
    let echo = handler_fn(|record: Bytes| async move { Ok::<_, Refusal>(record) });
    server.listen(accept_all(echo)).await.unwrap();
    let client = bound(limits.clone()).await;
    let other = client.connect(server.local_endpoint().clone(), ()).await.unwrap();
    let mut silent = raw(&server, &limits).await;
    silent.write_all(&frame(0, LEN)).await.unwrap();
    received(&server, 1).await;
    sleep(Duration::from_millis(100)).await;
    // The sockets have taken some of it.
    no_room(&other, LEN - MIB).await;
    let mut ack = vec![0; LEN + 9];
    timeout(SOON, silent.read_exact(&mut ack)).await.unwrap().unwrap();
    send_eventually(&other, LEN).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_records_behind_a_refused_one_are_taken() {
    let served = serve_long(Limits::default().with_memory(4 * MIB), 100 << 10).await;
    let (greedy, other) = (served.connect().await, served.connect().await);
    for _ in 0..4 {
        hold(&greedy, MIB).await;
    }
    received(&served.server, 4).await;
    for _ in 0..20 {
        let mut acks = Vec::new();
        for len in std::iter::once(200 << 10).chain([1000; 50]) {
            let permit = other.reserve(len).await.unwrap();
            acks.push(permit.send(Bytes::from(vec![7; len])).unwrap());
        }
        let mut acks = acks.into_iter();
        let refused = timeout(SOON, acks.next().unwrap()).await.unwrap().unwrap_err();
        assert!(matches!(refused, SendError::NoRoom), "{refused}");
        for ack in acks {
            assert_eq!(timeout(SOON, ack).await.unwrap().unwrap(), "1000");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_of_a_refused_record_is_given_back_before_the_rest_comes() {
    let limits = Limits::default().with_memory(4 * MIB);
    let served = serve_long(limits.clone(), MIB).await;
    let (greedy, other) = (served.connect().await, served.connect().await);
    for _ in 0..3 {
        hold(&greedy, MIB).await;
    }
    received(&served.server, 3).await;
    let mut half = raw(&served.server, &limits).await;
    half.write_all(&frame(0, 3 * MIB)[..2 * MIB]).await.unwrap();
    sleep(Duration::from_millis(200)).await;
    send_eventually(&other, 900 << 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_over_the_window_is_a_fault_at_its_header() {
    let limits = Limits::default().with_max_record_len(MIB).with_window_bytes(MIB as u64);
    let served = serve(limits.clone()).await;
    let mut peer = raw(&served.server, &limits).await;
    peer.write_all(&frame(0, 600 << 10)).await.unwrap();
    received(&served.server, 1).await;
    let end = served.server.connections().pop().unwrap();
    peer.write_all(&frame(1, 600 << 10)[..9]).await.unwrap();
    let mut rest = Vec::new();
    timeout(SOON, peer.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&rest).contains("window"));
    served.gate.add_permits(1);
    let reason = timeout(SOON, end.closed()).await.unwrap();
    assert!(matches!(reason, CloseReason::Protocol(_)), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_comes_too_slowly_ends_its_connection() {
    let limits = Limits::default()
        .with_keepalive_time(Duration::from_millis(100))
        .with_idle_time(Duration::from_millis(300));
    let served = serve(limits.clone()).await;
    let mut peer = raw(&served.server, &limits).await;
    eventually(|| served.server.connections().len() == 1).await;
    let end = served.server.connections().pop().unwrap();
    // So much is worth half a second.
    peer.write_all(&frame(0, MIB)[..8 << 10]).await.unwrap();
    let (began, closed) = (Instant::now(), end.closed());
    let trickle = async {
        while peer.write_all(&[7]).await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
        // Only the end of the connection stops it.
        std::future::pending::<()>().await;
    };
    let reason = tokio::select! {
        reason = timeout(SOON, closed) => reason.unwrap(),
        () = trickle => return,
    };
    assert!(matches!(reason, CloseReason::TimedOut), "{reason}");
    assert!(began.elapsed() >= Duration::from_millis(800), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_takes_long_but_comes_is_taken() {
    let limits = Limits::default()
        .with_keepalive_time(Duration::from_millis(50))
        .with_idle_time(Duration::from_millis(200));
    let served = serve(limits.clone()).await;
    let mut peer = raw(&served.server, &limits).await;
    for part in frame(0, MIB).chunks(64 << 10) {
        peer.write_all(part).await.unwrap();
        sleep(Duration::from_millis(60)).await;
    }
    received(&served.server, 1).await;
}

async fn eventually(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(SOON, waiting).await.unwrap();
}
