//! Hosts with hops between them, as a fixture of the conformance suite.

#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use network_core::{
    Acceptor, BackendError, Capabilities, ConnectError, Connection, Dial, Endpoint, Limits,
    Network, ProtocolImpl, RoutePattern,
};
use network_ibc::{Host, SoloKey};
use network_loopback::Loopback;
use network_testkit::Fixture;
use tokio::sync::Mutex;

/// A host for each network. What is dialed names the hop to the `k`-th host `connection-k`; the
/// hop is made when it is first used.
#[derive(Debug)]
pub(crate) struct Hosts {
    order: &'static str,
    solo: bool,
    way: Network,
    made: Arc<Mutex<Vec<Host>>>,
}

impl Hosts {
    pub(crate) fn new(order: &'static str) -> Self {
        let way = Network::builder().protocol(Loopback::new()).build().unwrap();
        Self { order, solo: false, way, made: Arc::default() }
    }

    /// Hosts that show themselves as solo machines.
    #[allow(dead_code, reason = "one of the suites has them")]
    pub(crate) fn solo(order: &'static str) -> Self {
        Self { solo: true, ..Self::new(order) }
    }
}

#[async_trait]
impl Fixture for Hosts {
    async fn network(&self, limits: Limits) -> Network {
        let mut made = self.made.lock().await;
        let number = made.len();
        let mut host = Host::builder(&format!("host{number}"));
        if self.solo {
            let seed = [u8::try_from(number).unwrap(); 32];
            host = host.solo_machine(SoloKey::ed25519(&seed).unwrap());
        }
        let host = host.in_memory().unwrap();
        let port = self.way.bind(format!("/local/host{number}").as_str()).await.unwrap();
        host.serve(&port).await.unwrap();
        made.push(host.clone());
        let (order, way) = (self.order, self.way.clone());
        let host = Named { host, order, way, number, names: AtomicUsize::default() };
        Network::builder().limits(limits).protocol(host).build().unwrap()
    }

    fn listen_at(&self) -> Endpoint {
        Endpoint::parse("/ibc-port/").unwrap()
    }

    /// They are names of a host.
    fn names_move(&self) -> bool {
        false
    }

    fn remote(&self, listening: &Endpoint) -> Endpoint {
        let number = listening.as_str().trim_start_matches("/ibc-port/host").split('-').next();
        let hop = format!("connection-{}", number.unwrap());
        Endpoint::parse(&format!("/ibc-hop/{hop}{listening}/{}/test-1", self.order)).unwrap()
    }
}

/// A host whose fresh names say which one it is.
#[derive(Debug)]
struct Named {
    host: Host,
    order: &'static str,
    way: Network,
    number: usize,
    names: AtomicUsize,
}

#[async_trait]
impl ProtocolImpl for Named {
    fn name(&self) -> &'static str {
        self.host.name()
    }

    fn patterns(&self) -> Vec<RoutePattern> {
        self.host.patterns()
    }

    fn capabilities(&self) -> Capabilities {
        let unordered = self.order == "unordered";
        self.host.capabilities().with_ordered(!unordered).with_acks_overtake(unordered)
    }

    async fn bind(&self, wanted: &Endpoint) -> Result<Endpoint, BackendError> {
        if !wanted.wants_fresh_name() {
            return self.host.bind(wanted).await;
        }
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        self.host.bind(&wanted.with_name(&format!("host{}-{number}", self.number))?).await
    }

    async fn listen(&self, local: &Endpoint, acceptor: Acceptor) -> Result<(), BackendError> {
        self.host.listen(local, acceptor).await
    }

    async fn unlisten(&self, local: &Endpoint) {
        self.host.unlisten(local).await;
    }

    async fn connect(&self, mut dial: Dial) -> Result<Connection, ConnectError> {
        if let Some((hop, rest)) = dial
            .remote
            .as_str()
            .strip_prefix("/ibc-hop/connection-")
            .and_then(|remote| remote.split_once('/'))
            && *hop != self.number.to_string()
        {
            let other = format!("host{hop}");
            let found = self.host.hops().into_iter().find(|hop| hop.chain == other);
            let hop = match found {
                Some(hop) => hop,
                None => {
                    let port = self.way.bind("/local/").await.unwrap();
                    self.host.connect_hop(&port, format!("/local/{other}").as_str()).await.unwrap()
                }
            };
            let remote = format!("/ibc-hop/{}/{rest}", hop.connection);
            dial.remote = Endpoint::parse(&remote).unwrap();
        }
        self.host.connect(dial).await
    }

    async fn revoke(&self, local: &Endpoint) {
        self.host.revoke(local).await;
    }

    async fn shutdown(&self) {
        self.host.shutdown().await;
    }
}
