//! Who comes in, at the seam: what a backend is told, and when.

#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::sync::{Arc, Barrier, Mutex};

use async_trait::async_trait;
use network_core::{
    AcceptPolicy, Acceptor, Answer, Attempt, BackendError, Capabilities, CloseReason, ConnectError,
    Connection, Dial, Endpoint, Link, LinkEvents, LinkInfo, LinkSeed, Network, PeerId, Port,
    ProtocolImpl, Record, RecordId, Rejection, RoutePattern, Unsent, accept_all,
};

/// A backend that gives its acceptor to the test.
#[derive(Clone, Debug, Default)]
struct Given(Arc<Mutex<Option<Acceptor>>>);

#[async_trait]
impl ProtocolImpl for Given {
    fn name(&self) -> &'static str {
        "given"
    }

    fn patterns(&self) -> Vec<RoutePattern> {
        vec![RoutePattern::parse("/local").unwrap()]
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::IN_PROCESS
    }

    async fn bind(&self, wanted: &Endpoint) -> Result<Endpoint, BackendError> {
        Ok(wanted.clone())
    }

    async fn listen(&self, _: &Endpoint, acceptor: Acceptor) -> Result<(), BackendError> {
        *self.0.lock().unwrap() = Some(acceptor);
        Ok(())
    }

    async fn unlisten(&self, _: &Endpoint) {}

    async fn connect(&self, dial: Dial) -> Result<Connection, ConnectError> {
        Err(ConnectError::Rejected { remote: dial.remote, reason: Rejection::NotListening })
    }

    async fn revoke(&self, _: &Endpoint) {}
}

/// A link that carries nothing.
#[derive(Debug)]
struct Nowhere;

impl Link for Nowhere {
    fn submit(&self, _: RecordId, _: Record) -> Result<(), Unsent> {
        Err(Unsent)
    }

    fn answer(&self, _: RecordId, _: Answer) {}

    fn close(&self, _: &CloseReason) {}
}

/// A port that accepts everybody whom the policy of its network lets in.
struct Ground {
    port: Port,
    acceptor: Acceptor,
}

impl Ground {
    async fn under(policy: AcceptPolicy) -> Self {
        let backend = Given::default();
        let network = Network::builder().accept_policy(policy).protocol(backend.clone());
        let port = network.build().unwrap().bind("/local/there").await.unwrap();
        port.listen(accept_all(())).await.unwrap();
        let acceptor = backend.0.lock().unwrap().clone().unwrap();
        Self { port, acceptor }
    }

    async fn attempt(&self, peer: Option<PeerId>) -> Result<LinkSeed, Rejection> {
        let endpoint = |text| Endpoint::parse(text).unwrap();
        let mut attempt = Attempt::new(endpoint("/local/there"), endpoint("/local/here"))
            .with_source("10.0.0.1:1".parse().unwrap());
        if let Some(peer) = peer {
            attempt = attempt.with_peer(peer);
        }
        self.acceptor.attempt(attempt).await
    }
}

fn peer(number: u8) -> PeerId {
    PeerId::from_bytes(&[&[0x12, 32], [number; 32].as_slice()].concat()).unwrap()
}

/// What opens, if anything does, for as long as it is held.
fn open(seed: LinkSeed) -> Option<(Connection, LinkEvents)> {
    let endpoint = |text| Endpoint::parse(text).unwrap();
    let limits = seed.limits().clone();
    let info = LinkInfo::symmetric(endpoint("/local/there"), endpoint("/local/here"), &limits);
    seed.agree(info).establish(Arc::new(Nowhere)).ok()
}

fn opens(seed: LinkSeed) -> bool {
    open(seed).is_some()
}

#[tokio::test]
async fn who_is_denied_before_its_connection_opens_does_not_come_in() {
    let policy = AcceptPolicy::new();
    let ground = Ground::under(policy.clone()).await;
    let [bad, good] = [1, 2].map(peer);
    let waiting = ground.attempt(Some(bad)).await.unwrap();
    let other = ground.attempt(Some(good)).await.unwrap();
    policy.deny(bad);
    assert!(!opens(waiting));
    assert_eq!((ground.port.connections(), policy.connections()), (Vec::new(), 1));
    assert!(opens(other));

    let unproven = ground.attempt(None).await.unwrap();
    policy.allow_only([good]);
    assert!(!opens(unproven));

    // The policy of the port counts, if it has one: also if it came meanwhile.
    let waiting = ground.attempt(Some(good)).await.unwrap();
    let own = AcceptPolicy::new();
    own.deny(good);
    ground.port.set_accept_policy(Some(own.clone()));
    assert!(!opens(waiting));
    own.allow(good);
    let waiting = ground.attempt(Some(good)).await.unwrap();
    policy.deny(good);
    assert!(opens(waiting));
    assert_eq!((policy.connections(), own.connections()), (0, 0));
}

#[tokio::test]
async fn denying_and_closing_leaves_nobody_of_a_peer() {
    let mut denied = 0;
    for round in 0..100 {
        let policy = AcceptPolicy::new();
        let ground = Ground::under(policy.clone()).await;
        let mut seeds = Vec::new();
        for _ in 0..100 {
            seeds.push(ground.attempt(Some(peer(1))).await.unwrap());
        }
        let begun = Arc::new(Barrier::new(2));
        let begin = begun.clone();
        let opening = std::thread::spawn(move || {
            begin.wait();
            seeds.into_iter().map(open).collect::<Vec<_>>()
        });
        begun.wait();
        for _ in 0..round * 20 {
            std::hint::spin_loop();
        }
        policy.deny(peer(1));
        let shown = ground.port.connections();
        let opened = opening.join().unwrap();
        assert_eq!(opened.iter().flatten().count(), shown.len(), "in round {round}");
        denied += opened.len() - shown.len();
    }
    println!("{denied} of 10,000 were denied");
}

#[tokio::test]
async fn the_caps_of_the_network_are_not_those_of_a_port_with_its_own_policy() {
    let policy = AcceptPolicy::new().with_max_connections(1).with_max_per_source(1);
    let ground = Ground::under(policy).await;
    let source = Some([10, 0, 0, 1].into());
    let _first = ground.attempt(None).await.unwrap();
    // It gets far enough to be told.
    let handshake = ground.acceptor.handshake(source).unwrap();
    assert_eq!(ground.attempt(None).await.unwrap_err(), Rejection::Busy);
    drop(handshake);
    ground.port.set_accept_policy(Some(AcceptPolicy::new()));
    let _handshake = ground.acceptor.handshake(source).unwrap();
    ground.attempt(None).await.unwrap();
}
