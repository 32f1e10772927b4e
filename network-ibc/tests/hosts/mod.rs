//! Hosts with hops between them, as a fixture of the conformance suite.

#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use network_core::{
    Acceptor, BackendError, Capabilities, ConnectError, Connection, Dial, Endpoint, Limits,
    Network, Port, ProtocolImpl, RoutePattern,
};
use network_ibc::Host;
use network_loopback::Loopback;
use network_testkit::Fixture;
use tokio::sync::Mutex;

/// A host for each network. The hop to the `k`-th host is `connection-k` at all of them, so that
/// an address is the same wherever it is dialed.
#[derive(Debug)]
pub struct Hosts {
    order: &'static str,
    made: Mutex<Option<Made>>,
}

#[derive(Debug)]
struct Made {
    way: Network,
    hosts: Vec<(Host, Port)>,
    /// At the other end of the hop that each host would have to itself.
    nobody: Host,
}

impl Hosts {
    pub fn new(order: &'static str) -> Self {
        Self { order, made: Mutex::default() }
    }
}

impl Made {
    async fn new() -> Self {
        let way = Network::builder().protocol(Loopback::new()).build().unwrap();
        let nobody = Host::in_memory("nobody").unwrap();
        nobody.serve(&way.bind("/local/nobody").await.unwrap()).await.unwrap();
        Self { way, hosts: Vec::new(), nobody }
    }

    async fn host(&mut self, order: &'static str) -> Named {
        let number = self.hosts.len();
        let host = Host::in_memory(&format!("host{number}")).unwrap();
        let port = self.way.bind(format!("/local/host{number}").as_str()).await.unwrap();
        for (other, from) in &self.hosts {
            // Both ends give the next number.
            if other.hops().len() == number {
                host.serve(&port).await.unwrap();
                let hop = other.connect_hop(from, port.local_endpoint().clone()).await.unwrap();
                assert_eq!(hop.connection.as_str(), format!("connection-{number}"));
            }
        }
        let hop = host.connect_hop(&port, "/local/nobody").await.unwrap();
        assert_eq!(hop.connection.as_str(), format!("connection-{number}"));
        self.hosts.push((host.clone(), port));
        Named { host, order, number, names: AtomicUsize::default() }
    }
}

#[async_trait]
impl Fixture for Hosts {
    async fn network(&self, limits: Limits) -> Network {
        let mut made = self.made.lock().await;
        if made.is_none() {
            *made = Some(Made::new().await);
        }
        let host = made.as_mut().unwrap().host(self.order).await;
        Network::builder().limits(limits).protocol(host).build().unwrap()
    }

    fn listen_at(&self) -> Endpoint {
        Endpoint::parse("/ibc-port/").unwrap()
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

    async fn connect(&self, dial: Dial) -> Result<Connection, ConnectError> {
        self.host.connect(dial).await
    }

    async fn revoke(&self, local: &Endpoint) {
        self.host.revoke(local).await;
    }

    async fn shutdown(&self) {
        self.host.shutdown().await;
    }
}
