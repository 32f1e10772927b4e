//! The memory that the connections of a network share.

#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::{sync::Arc, time::Duration};

use network_core::{
    Bytes, Connection, Delivery, Limits, Network, Port, Refusal, SendError, accept_all, handler_fn,
};
use network_tcp::Tcp;
use tokio::{sync::Semaphore, time::timeout};

const SOON: Duration = Duration::from_secs(10);
const MIB: usize = 1 << 20;

struct Served {
    server: Port,
    client: Port,
    /// A permit lets one handler of a record end.
    gate: Arc<Semaphore>,
}

/// A port whose handler answers with the length of a record, once it may.
async fn serve(limits: Limits) -> Served {
    let gate = Arc::new(Semaphore::new(0));
    let there = Network::builder().limits(limits).protocol(Tcp::new()).build().unwrap();
    let server = there.bind("/ip4/127.0.0.1/tcp/0").await.unwrap();
    let held = gate.clone();
    let handler = handler_fn(move |record: Bytes| {
        let gate = held.clone();
        async move {
            gate.acquire().await?.forget();
            Ok::<_, Refusal>(Bytes::from(record.len().to_string()))
        }
    });
    server.listen(accept_all(handler)).await.unwrap();
    let here = Network::builder().protocol(Tcp::new()).build().unwrap();
    let client = here.bind("/ip4/127.0.0.1/tcp/").await.unwrap();
    Served { server, client, gate }
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
async fn a_connection_that_ends_gives_back_what_it_held() {
    let served = serve(Limits::default().with_memory(4 * MIB)).await;
    for _ in 0..3 {
        let connection = served.connect().await;
        for _ in 0..4 {
            hold(&connection, MIB).await;
        }
        eventually(|| {
            served.server.connections().iter().any(|end| end.stats().records_received == 4)
        })
        .await;
        connection.close().await;
        eventually(|| served.server.connections().is_empty()).await;
    }
}

async fn eventually(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(SOON, waiting).await.unwrap();
}
