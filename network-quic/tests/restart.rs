//! What becomes of the QUIC connections of a process that ended without a word.

#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::{
    future::pending,
    io,
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use network_core::{
    Bytes, CloseReason, Connection, Delivery, Limits, Network, Port, accept_all, handler_fn,
};
use network_quic::Quic;
use network_tls::{Identity, Tls};
use tokio::{
    runtime,
    sync::oneshot,
    time::{sleep, timeout},
};

const SOON: Duration = Duration::from_secs(10);
const ANY: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
const KEEPALIVE: Duration = Duration::from_millis(200);
const IDLE: Duration = Duration::from_secs(60);

fn limits() -> Limits {
    Limits::default().with_keepalive_time(KEEPALIVE).with_idle_time(IDLE)
}

fn network(identity: Identity, unordered: bool) -> Network {
    let quic = Quic::new(Tls::new().with_identity(identity));
    let quic = if unordered { quic.unordered() } else { quic };
    Network::builder().limits(limits()).protocol(quic).build().unwrap()
}

/// Answers all records but "hold".
async fn serve(network: &Network, at: &str) -> Port {
    let port = network.bind(at).await.unwrap();
    let handler = handler_fn(|record: Bytes| async move {
        if record == "hold" {
            return pending().await;
        }
        Ok(record)
    });
    port.listen(accept_all(handler)).await.unwrap();
    port
}

/// A listener in a process of its own, as far as others can tell.
struct Life {
    endpoint: String,
    end: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Life {
    fn begin(identity: &Identity, at: &str) -> Self {
        let (identity, at) = (identity.clone(), at.to_owned());
        let (tell, told) = mpsc::channel();
        let (end, ended) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.spawn(async move {
                let network = network(identity, false);
                let port = serve(&network, &at).await;
                tell.send(port.local_endpoint().to_string()).unwrap();
                // They end with the runtime, when nothing says goodbye any more.
                pending::<()>().await;
                drop((network, port));
            });
            let _ = runtime.block_on(ended);
        });
        Self { endpoint: told.recv_timeout(SOON).unwrap(), end, thread }
    }

    fn end(self) {
        self.end.send(()).unwrap();
        self.thread.join().unwrap();
    }
}

async fn dial(port: &Port, to: &str) -> Connection {
    let connection = timeout(SOON, port.connect(to, ())).await.unwrap().unwrap();
    assert_eq!(timeout(SOON, connection.send("hello")).await.unwrap().unwrap(), "hello");
    connection
}

/// Ends a listener that has a record, and sends another one while nobody is there. Somebody else
/// listens at the address then, who has this identity. How long the connection stays from then on,
/// and why it ends, if it does.
async fn ends(
    identity: Identity,
    next: Identity,
    unordered: bool,
) -> Option<(Duration, CloseReason)> {
    let life = Life::begin(&identity, ANY);
    let at = life.endpoint.split("/p2p/").next().unwrap().to_owned();
    let dialing = network(Identity::generate().unwrap(), unordered).bind(ANY).await.unwrap();
    let connection = dial(&dialing, &life.endpoint).await;
    let send = |record: &'static str| {
        let connection = connection.clone();
        tokio::spawn(async move { connection.send(record).await })
    };
    let held = send("hold");
    sleep(Duration::from_millis(50)).await;
    life.end();
    assert_eq!(connection.close_reason().map(|reason| reason.to_string()), None, "it said goodbye");
    let lost = send("lost");
    sleep(Duration::from_millis(50)).await;
    let began = Instant::now();
    let life = Life::begin(&next, &at);
    let closed = timeout(10 * KEEPALIVE, connection.closed()).await;
    let took = began.elapsed();
    if closed.is_ok() {
        for sent in [held, lost] {
            let error = timeout(SOON, sent).await.unwrap().unwrap().unwrap_err();
            assert_eq!(error.delivery(), Delivery::Unknown, "{error:?}");
        }
        // And the next is with the new one.
        dial(&dialing, &life.endpoint).await;
    }
    life.end();
    closed.ok().map(|reason| (took, reason))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_resets_the_connections_of_the_one_before() {
    for unordered in [false, true] {
        let identity = Identity::generate().unwrap();
        let (took, reason) = ends(identity.clone(), identity, unordered).await.unwrap();
        println!("unordered {unordered}: {reason} after {took:?}");
        let CloseReason::Io(error) = reason else { panic!("{reason:?}") };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_else_can_reset_them() {
    let (one, other) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    assert!(ends(one, other, false).await.is_none());
}
