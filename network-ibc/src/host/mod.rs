//! A host: a process that other chains see as a chain.

mod acknowledgement;
mod actor;
mod backend;
mod channel;
mod datagram;
mod error;
mod inbox;
mod link;
mod peer;
mod service;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod traces;
mod way;
mod wire;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use error::{HopError, HostError};
use network_core::{Endpoint, EndpointError, ListenError, Port};

use self::{
    actor::Actor,
    backend::Ports,
    inbox::{Command, Inbox},
    way::Way,
};
use crate::{
    LedgerKey,
    client::Clients,
    engine::Engine,
    identifier::ConnectionId,
    ledger::{Ledger, Trust},
};

/// How many blocks proofs can be made of.
const KEPT_BLOCKS: usize = 64;

/// A host: a process as an IBC counterparty, with a ledger of signed blocks.
///
/// It is a backend: register it with a network, bind `/ibc-port/NAME`, and connect to
/// `/ibc-hop/connection-0/ibc-port/NAME/ordered/VERSION`. Hops to other hosts are made with
/// [`connect_hop`](Self::connect_hop), over any connection of any network.
///
/// A cheap handle; the host ends when the last one is dropped, also those that networks have.
///
/// ```
/// use network_core::{Network, accept_all, handler_fn, Bytes, Refusal};
/// use network_ibc::Host;
/// use network_loopback::Loopback;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // Two hosts, and how they reach each other: here in process.
/// let way = Network::builder().protocol(Loopback::new()).build()?;
/// let (alpha, beta) = (Host::in_memory("alpha")?, Host::in_memory("beta")?);
/// beta.serve(&way.bind("/local/beta").await?).await?;
/// let hop = alpha.connect_hop(&way.bind("/local/").await?, "/local/beta").await?;
///
/// let server = Network::builder().protocol(beta).build()?.bind("/ibc-port/upper").await?;
/// server.listen(accept_all(handler_fn(|record: Bytes| async move {
///     Ok::<_, Refusal>(Bytes::from(record.to_ascii_uppercase()))
/// }))).await?;
///
/// let client = Network::builder().protocol(alpha).build()?.bind("/ibc-port/").await?;
/// let remote = format!("/ibc-hop/{}/ibc-port/upper/ordered/upper-1", hop.connection);
/// let connection = client.connect(remote.as_str(), ()).await?;
/// assert_eq!(connection.send("hello").await?, "HELLO");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Host(Arc<Handle>);

/// Ends the host when it is dropped.
#[derive(Debug)]
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.inbox.push(Command::Stop);
        self.0.ways().clear();
    }
}

impl std::ops::Deref for Handle {
    type Target = Arc<Shared>;

    fn deref(&self) -> &Arc<Shared> {
        &self.0
    }
}

/// What the handles of a host and its tasks share.
struct Shared {
    chain: String,
    key: Arc<LedgerKey>,
    inbox: Arc<Inbox>,
    hops: Arc<Hops>,
    ports: Arc<Ports>,
    /// What keeps up the connections to other hosts that this one has dialed, by their chains.
    ways: Mutex<HashMap<String, Way>>,
    /// The clients that other hosts have of this one, by their chains.
    others: Mutex<HashMap<String, String>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host")
            .field("chain", &self.chain)
            .field("key", &self.key)
            .field("hops", &self.hops)
            .finish_non_exhaustive()
    }
}

/// A hop: an IBC connection to another chain.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hop {
    /// Its name at this side, as in `/ibc-hop/connection-0/…`.
    pub connection: ConnectionId,
    /// The id of the chain at the other end.
    pub chain: String,
    /// Whether its handshake is done.
    pub open: bool,
}

/// The hops of a host.
#[derive(Debug, Default)]
struct Hops(Mutex<BTreeMap<ConnectionId, HopState>>);

#[derive(Clone, Debug)]
struct HopState {
    chain: String,
    open: bool,
}

impl Hops {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ConnectionId, HopState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets a hop; gives what it was before.
    fn set(&self, hop: ConnectionId, state: HopState) -> Option<HopState> {
        self.lock().insert(hop, state)
    }

    fn chain(&self, hop: &ConnectionId) -> Option<String> {
        Some(self.lock().get(hop)?.chain.clone())
    }

    /// Whether a hop is open; `None` if there is none of that name.
    fn is_open(&self, hop: &ConnectionId) -> Option<bool> {
        self.lock().get(hop).map(|state| state.open)
    }

    /// The hop to a chain, and whether it is open.
    fn to(&self, chain: &str) -> Option<(ConnectionId, bool)> {
        let hops = self.lock();
        let (hop, state) = hops.iter().find(|(_, state)| state.chain == chain)?;
        Some((hop.clone(), state.open))
    }
}

impl Host {
    /// A host that ends with this process, with a key of its own.
    ///
    /// # Errors
    /// The id is none that a chain can have.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn in_memory(chain: &str) -> Result<Self, HostError> {
        let key = Arc::new(LedgerKey::generate()?);
        let ledger = Ledger::in_memory(key.clone(), chain, KEPT_BLOCKS)?;
        Ok(Self::over(ledger, key))
    }

    /// A host whose ledger is in a folder: a new one, or the one that is there, with its hops and
    /// all that was to be relayed. Channels that were open are closed: whoever handled their
    /// records has ended.
    ///
    /// # Errors
    /// The folder cannot be used, is in use, or is of another host.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    #[cfg(feature = "durable")]
    pub fn open(
        path: impl AsRef<std::path::Path>,
        chain: &str,
        key: LedgerKey,
    ) -> Result<Self, HostError> {
        let key = Arc::new(key);
        let ledger = Ledger::open(path.as_ref(), key.clone(), chain, KEPT_BLOCKS)?;
        Ok(Self::over(ledger, key))
    }

    fn over(ledger: Ledger, key: Arc<LedgerKey>) -> Self {
        let shared = Arc::new(Shared {
            chain: ledger.chain().to_owned(),
            key,
            inbox: Arc::default(),
            hops: Arc::default(),
            ports: Arc::default(),
            ways: Mutex::default(),
            others: Mutex::default(),
        });
        let actor = Actor {
            ledger,
            engine: Engine::new(Clients::default()),
            inbox: shared.inbox.clone(),
            hops: shared.hops.clone(),
            ports: shared.ports.clone(),
            trust: Trust::default(),
            channels: HashMap::new(),
            peers: HashMap::new(),
            waiting_open: Vec::new(),
            asked: HashMap::new(),
            waiting: Vec::new(),
            after: Vec::new(),
        };
        tokio::spawn(actor.run());
        Self(Arc::new(Handle(shared)))
    }

    /// The id of the chain that this host is.
    #[must_use]
    pub fn chain(&self) -> &str {
        &self.0.chain
    }

    /// Lets other hosts reach this one at a port of any network: they dial it with
    /// [`connect_hop`](Self::connect_hop). Who may is for the port's
    /// [`AcceptPolicy`](network_core::AcceptPolicy) to say.
    ///
    /// # Errors
    /// The port cannot listen.
    pub async fn serve(&self, port: &Port) -> Result<(), ListenError> {
        port.listen(service::Service(self.0.0.clone())).await
    }

    /// Reaches another host from a port of any network, and makes a hop to it: clients both ways
    /// and an IBC connection (ICS-002, ICS-003). If there is one it is kept, and relayed over
    /// again. What is to be relayed either way goes over the connection.
    ///
    /// The way is kept up as long as the host lives: when the connection ends, because the other
    /// host restarts for one, this one dials the endpoint again, after 50 ms at first and then
    /// less and less often, every 5 s at last. It ends when the port is revoked, or when this is
    /// called again for the same host, whose endpoint may be another then. A host that has
    /// restarted itself knows its hops, but not where it has dialed: call this again at start.
    ///
    /// # Errors
    /// The other host cannot be reached, is no host, or does not go on with the handshake within
    /// 20 seconds. Nothing is tried again then.
    ///
    /// # Cancel safety
    /// What was made stays, and the next call goes on with it.
    pub async fn connect_hop<E>(&self, port: &Port, remote: E) -> Result<Hop, HopError>
    where
        E: TryInto<Endpoint, Error: Into<EndpointError>>,
    {
        let remote = remote.try_into().map_err(|error| {
            HopError::Connect(network_core::ConnectError::Endpoint(error.into()))
        })?;
        let (connection, chain) = self.0.connect_hop(port, remote).await?;
        Ok(Hop { connection, chain, open: true })
    }

    /// The hops of this host, in the order of their names.
    #[must_use]
    pub fn hops(&self) -> Vec<Hop> {
        let hops = self.0.hops.lock();
        hops.iter()
            .map(|(connection, HopState { chain, open })| Hop {
                connection: connection.clone(),
                chain: chain.clone(),
                open: *open,
            })
            .collect()
    }
}
