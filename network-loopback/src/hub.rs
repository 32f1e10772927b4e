//! The backend: names, listeners and connects.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use dashmap::DashMap;
use network_core::{
    Acceptor, Attempt, BackendError, Capabilities, ConnectError, Connection, Dial, Endpoint,
    LinkInfo, Peer, PeerId, ProtocolImpl, Rejection, RoutePattern,
};

use crate::link;

/// The in-process backend.
///
/// Clones share their names: register clones in several networks of one process, and those
/// can connect to each other. Each end of a connection has an endpoint of its own, the
/// port's with an instance behind it: `/local/orders/nonce/7`.
#[derive(Clone)]
pub struct Loopback {
    hub: Arc<Hub>,
    patterns: Vec<RoutePattern>,
    instance_prefix: Arc<str>,
    peer: Option<PeerId>,
}

#[derive(Default)]
struct Hub {
    bound: DashMap<Endpoint, ()>,
    listening: DashMap<Endpoint, Listening>,
    next_name: AtomicU64,
    next_instance: AtomicU64,
}

/// Who takes connections for an endpoint, and who that is.
#[derive(Clone)]
struct Listening {
    acceptor: Acceptor,
    peer: Option<PeerId>,
}

/// The name is bound by another network that shares this loopback.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another network that shares this loopback has bound {0}: bind another name")]
pub struct NameTaken(pub Endpoint);

impl Loopback {
    /// A loopback of its own, at `/local`.
    pub fn new() -> Self {
        let patterns = "/local".parse().into_iter().collect();
        Self { hub: Arc::default(), patterns, instance_prefix: "nonce/".into(), peer: None }
    }

    /// Takes these endpoints instead of `/local`: to stand in for another backend in tests.
    #[must_use]
    pub fn at(mut self, patterns: impl IntoIterator<Item = RoutePattern>) -> Self {
        self.patterns = patterns.into_iter().collect();
        self
    }

    /// What comes between a port's name and an instance's number. Default: `nonce/`.
    /// Empty for bare numbers.
    #[must_use]
    pub fn with_instance_prefix(mut self, prefix: &str) -> Self {
        self.instance_prefix = prefix.into();
        self
    }

    /// Whose loopback this clone is: the other side of its connections is told so, as if a
    /// handshake had proved it. So a test in process can decide by peers. There is nothing to
    /// prove inside one process: whoever has the clone is that peer.
    #[must_use]
    pub fn with_peer(mut self, peer: PeerId) -> Self {
        self.peer = Some(peer);
        self
    }

    fn instance_of(&self, endpoint: &Endpoint) -> Result<Endpoint, BackendError> {
        let number = self.hub.next_instance.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(endpoint.join(&format!("{}{number}", self.instance_prefix))?)
    }
}

impl Default for Loopback {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Loopback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loopback")
            .field("bound", &self.hub.bound.len())
            .field("listening", &self.hub.listening.len())
            .finish()
    }
}

#[async_trait]
impl ProtocolImpl for Loopback {
    fn name(&self) -> &'static str {
        "loopback"
    }

    fn patterns(&self) -> Vec<RoutePattern> {
        self.patterns.clone()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::IN_PROCESS
    }

    async fn bind(&self, wanted: &Endpoint) -> Result<Endpoint, BackendError> {
        if !wanted.wants_fresh_name() {
            if self.hub.bound.insert(wanted.clone(), ()).is_some() {
                return Err(NameTaken(wanted.clone()).into());
            }
            return Ok(wanted.clone());
        }
        // Ends when a number is free: at the latest after as many as there are ports.
        loop {
            let number = self.hub.next_name.fetch_add(1, Ordering::Relaxed) + 1;
            let name = wanted.with_name(&format!("port{number}"))?;
            if self.hub.bound.insert(name.clone(), ()).is_none() {
                return Ok(name);
            }
        }
    }

    async fn listen(&self, local: &Endpoint, acceptor: Acceptor) -> Result<(), BackendError> {
        self.hub.listening.insert(local.clone(), Listening { acceptor, peer: self.peer });
        Ok(())
    }

    async fn unlisten(&self, local: &Endpoint) {
        self.hub.listening.remove(local);
    }

    async fn connect(&self, dial: Dial) -> Result<Connection, ConnectError> {
        let Dial { local, remote, seed } = dial;
        let failed =
            |source| ConnectError::Backend { remote: remote.clone(), protocol: "loopback", source };
        let rejected = |reason| ConnectError::Rejected { remote: remote.clone(), reason };
        let found = |prefix| self.hub.listening.get(prefix).map(|found| found.value().clone());
        let listening =
            remote.prefixes().find_map(found).ok_or_else(|| rejected(Rejection::NotListening))?;
        let client = self.instance_of(&local).map_err(failed)?;
        let server = self.instance_of(&remote).map_err(failed)?;
        let mut attempt = Attempt::new(server.clone(), client.clone());
        attempt.peer = self.peer.map(Peer::Id);
        let accepted = listening.acceptor.attempt(attempt).await.map_err(rejected)?;

        let limits = smaller(seed.limits(), accepted.limits());
        let dialed = LinkInfo::symmetric(client.clone(), server.clone(), &limits)
            .with_peer(listening.peer.map(Peer::Id));
        let theirs =
            LinkInfo::symmetric(server, client, &limits).with_peer(self.peer.map(Peer::Id));
        let (dialed, accepted) = (seed.agree(dialed), accepted.agree(theirs));
        link::join(dialed, accepted, limits.close_time).map_err(|refused| match refused {
            link::Refused::Dialing => ConnectError::Revoked { local: local.clone() },
            link::Refused::Accepting => rejected(Rejection::NotListening),
        })
    }

    async fn revoke(&self, local: &Endpoint) {
        self.hub.listening.remove(local);
        self.hub.bound.remove(local);
    }
}

/// What both sides keep to.
fn smaller(a: &network_core::Limits, b: &network_core::Limits) -> network_core::Limits {
    a.clone()
        .with_max_record_len(a.max_record_len.min(b.max_record_len))
        .with_max_ack_len(a.max_ack_len.min(b.max_ack_len))
        .with_window_records(a.window_records.min(b.window_records))
        .with_window_bytes(a.window_bytes.min(b.window_bytes))
}
