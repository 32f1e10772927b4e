//! Connections over a backend of the replay's own: records over a pipe in memory, between
//! endpoints of any name.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use network_core::{
    Acceptor, Attempt, BackendError, Capabilities, ConnectError, Connection, Dial, Endpoint,
    LinkSeed, Network, NetworkBuilder, ProtocolImpl, Rejection, RoutePattern,
    stream::{self, Dialing},
};
use tokio::io::duplex;

/// How much a pipe holds.
const PIPE: usize = 64 << 10;

/// An attempt that somebody outside makes, and that was not handed to core yet.
#[derive(Debug)]
pub(super) struct Inbound {
    pub(super) local: Endpoint,
    pub(super) remote: Endpoint,
    pub(super) acceptor: Acceptor,
    /// Taken by the first use: an attempt is a value that is used up.
    pub(super) open: Mutex<bool>,
}

impl PartialEq for Inbound {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Inbound {
    /// Whether this is the first use.
    pub(super) fn use_up(&self) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *open, false)
    }
}

/// Opens a connection from `local` to `remote`: `seed` becomes the dialing end, and whoever
/// listens behind `acceptor` takes the other.
pub(super) async fn open(
    seed: LinkSeed,
    local: Endpoint,
    remote: Endpoint,
    acceptor: Acceptor,
) -> Result<Connection, ConnectError> {
    let (near, far) = duplex(PIPE);
    let attempt = Attempt::new(remote.clone(), local.clone());
    // It ends with the pipe, if the dialing end goes away.
    tokio::spawn(async move {
        stream::accept(far, &acceptor, |_| Ok::<_, std::convert::Infallible>(attempt)).await
    });
    let (to, from) = (remote.to_string(), local.to_string());
    stream::dial(near, seed, Dialing { local, remote, to, from, peer: None }).await
}

/// The other end of one connection: a network with nothing but this.
pub(super) fn elsewhere(
    patterns: Vec<RoutePattern>,
    to: Option<(Acceptor, Endpoint)>,
) -> Option<(Network, Listening)> {
    let listening = Listening::default();
    let there = Elsewhere { patterns, to, listening: listening.clone() };
    Some((network_builder().protocol(there).build().ok()?, listening))
}

/// The acceptor of the port elsewhere that listens.
pub(super) type Listening = Arc<Mutex<Option<Acceptor>>>;

/// The limits of every network of a run.
pub(super) fn network_builder() -> NetworkBuilder {
    Network::builder().limits(
        network_core::Limits::default()
            .with_max_record_len(super::MAX_RECORD_LEN)
            .with_max_ack_len(super::MAX_ACK_LEN),
    )
}

struct Elsewhere {
    patterns: Vec<RoutePattern>,
    /// Where every connect goes, and the endpoint of the end there.
    to: Option<(Acceptor, Endpoint)>,
    listening: Listening,
}

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Elsewhere")
    }
}

#[async_trait]
impl ProtocolImpl for Elsewhere {
    fn name(&self) -> &'static str {
        "elsewhere"
    }

    fn patterns(&self) -> Vec<RoutePattern> {
        self.patterns.clone()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::IN_PROCESS
    }

    async fn bind(&self, wanted: &Endpoint) -> Result<Endpoint, BackendError> {
        Ok(wanted.clone())
    }

    async fn listen(&self, _: &Endpoint, acceptor: Acceptor) -> Result<(), BackendError> {
        *self.listening.lock().unwrap_or_else(PoisonError::into_inner) = Some(acceptor);
        Ok(())
    }

    async fn unlisten(&self, _: &Endpoint) {}

    async fn connect(&self, dial: Dial) -> Result<Connection, ConnectError> {
        let Dial { local, remote, seed } = dial;
        match self.to.clone() {
            Some((acceptor, there)) => open(seed, local, there, acceptor).await,
            None => Err(ConnectError::Rejected { remote, reason: Rejection::NotListening }),
        }
    }

    async fn revoke(&self, _: &Endpoint) {}
}
