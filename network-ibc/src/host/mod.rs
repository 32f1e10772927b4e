//! A host: a process that other chains see as a chain.

mod acknowledgement;
mod actor;
mod backend;
mod builder;
#[cfg(feature = "chain")]
mod chain;
mod channel;
mod datagram;
mod error;
mod face;
mod inbox;
mod link;
mod module;
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

pub use builder::HostBuilder;
pub use error::{HopError, HostError};
pub(crate) use module::Waiting;
pub use module::{Context, Module, ModuleChannel};
use network_core::{Endpoint, EndpointError, ListenError, Port, Refusal};
use tokio::sync::oneshot;

use self::{
    backend::Ports,
    inbox::{Command, Inbox},
    module::{Act, OpenForModule},
    way::Way,
};
use crate::{
    LedgerKey,
    address::IbcEndpoint,
    engine::{Connection, ConnectionState},
    identifier::{ConnectionId, PortId},
};

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
    /// The kind of client that others have of this host.
    #[cfg(feature = "chain")]
    kind: &'static str,
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
    /// Its name at that end, once that is known.
    pub counterparty: Option<ConnectionId>,
    /// Whether its handshake is done.
    pub open: bool,
}

impl Hop {
    fn new(connection: ConnectionId, chain: String, end: Option<&Connection>) -> Self {
        let open = end.is_some_and(|end| end.state == ConnectionState::Open);
        let counterparty = end.and_then(|end| end.counterparty.clone());
        Self { connection, chain, counterparty, open }
    }
}

/// The hops of a host.
#[derive(Debug, Default)]
struct Hops(Mutex<BTreeMap<ConnectionId, Hop>>);

impl Hops {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ConnectionId, Hop>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets a hop; gives what it was before.
    fn set(&self, hop: Hop) -> Option<Hop> {
        self.lock().insert(hop.connection.clone(), hop)
    }

    fn get(&self, hop: &ConnectionId) -> Option<Hop> {
        self.lock().get(hop).cloned()
    }

    fn chain(&self, hop: &ConnectionId) -> Option<String> {
        Some(self.lock().get(hop)?.chain.clone())
    }

    /// Whether a hop is open; `None` if there is none of that name.
    fn is_open(&self, hop: &ConnectionId) -> Option<bool> {
        self.lock().get(hop).map(|state| state.open)
    }

    /// The oldest hop to a chain, and whether it is open. Anybody on a chain may begin more of them,
    /// with a delay of their choice: only later than this host has begun its own.
    fn to(&self, chain: &str) -> Option<(ConnectionId, bool)> {
        let hops = self.lock();
        let to_chain = hops.values().filter(|hop| hop.chain == chain);
        // They are numbered, and as texts 10 comes before 2.
        let age = |hop: &&Hop| (hop.connection.as_str().len(), hop.connection.clone());
        let hop = to_chain.min_by_key(age)?;
        Some((hop.connection.clone(), hop.open))
    }
}

impl Host {
    /// A host of a chain id, with what [`HostBuilder`] lets one choose.
    pub fn builder(chain: &str) -> HostBuilder {
        HostBuilder::new(chain)
    }

    /// A host that ends with this process, with a key of its own.
    ///
    /// # Errors
    /// The id is none that a chain can have.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn in_memory(chain: &str) -> Result<Self, HostError> {
        Self::builder(chain).in_memory()
    }

    /// A host whose ledger is in a folder: a new one, or the one that is there. See
    /// [`HostBuilder::open`].
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
        Self::builder(chain).open(path, key)
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
        self.0.connect_hop(port, remote).await
    }

    /// Opens a channel from the port of a [`Module`] to
    /// `/ibc-hop/HOP/ibc-port/PORT/ordered|unordered/VERSION`, and waits until it is open. There is
    /// no limit to that: the other side may be away.
    ///
    /// # Errors
    /// There is no such module or no such hop, `remote` is no remote endpoint, or the other side or
    /// the module refuses.
    ///
    /// # Cancel safety
    /// The channel goes on opening, also over a restart; the module is told.
    pub async fn open_channel(
        &self,
        port: &PortId,
        remote: &str,
    ) -> Result<ModuleChannel, HostError> {
        if !self.0.ports.is_module(port) {
            return Err(HostError::NoModule { port: port.clone() });
        }
        let address = IbcEndpoint::parse(remote)?;
        let wanted = address.remote()?;
        let [hop] = wanted.hops else {
            return Err(HostError::Hops { count: wanted.hops.len() });
        };
        let (reply, replied) = oneshot::channel();
        self.0.inbox.push(Command::OpenForModule(OpenForModule {
            port: port.clone(),
            hop: hop.clone(),
            counterparty_port: wanted.port.clone(),
            order: wanted.order,
            version: wanted.version.as_str().to_owned(),
            reply,
        }));
        replied.await.map_err(|_| HostError::Ended)?
    }

    /// Lets a [`Module`] do something between two blocks: `act` runs in the host's task and must
    /// not wait. Resolves once what it wrote is stored; where it fails, nothing of it is.
    ///
    /// # Errors
    /// There is no such module, `act` panicked or set a key that is too long, or the host has ended;
    /// else what `act` fails with.
    ///
    /// # Cancel safety
    /// `act` may run nevertheless.
    pub async fn with_module<M, T, E>(
        &self,
        port: &PortId,
        act: impl FnOnce(&mut M, &mut Context<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        M: Module,
        T: Send + 'static,
        E: From<HostError> + Send + 'static,
    {
        if !self.0.ports.is_module(port) {
            return Err(HostError::NoModule { port: port.clone() }.into());
        }
        let (reply, replied) = oneshot::channel();
        let none = HostError::NoModule { port: port.clone() };
        let act: Act = Box::new(move |module, context| {
            let acted = match module.downcast_mut() {
                Some(module) => act(module, context),
                None => Err(none.into()),
            };
            (acted.is_ok(), Box::new(move || drop(reply.send(acted))))
        });
        self.0.inbox.push(Command::CallModule { port: port.clone(), act });
        match replied.await {
            Ok(acted) => acted,
            Err(_) if self.0.inbox.is_closed() => Err(HostError::Ended.into()),
            Err(_) => {
                let why = "the module panicked, or a key that it set is too long";
                Err(HostError::Refused(Refusal::new(why)).into())
            }
        }
    }

    /// Ends the host, whoever else has a handle: what was asked of it before is stored, and once
    /// this resolves the folder of its ledger can be opened again. Nobody is told of a close; the
    /// other sides see a host that is away.
    ///
    /// # Cancel safety
    /// It ends nevertheless.
    pub async fn end(self) {
        let (ended, wait) = oneshot::channel();
        self.0.inbox.push(Command::End { ended });
        self.0.ways().clear();
        // Never told, only dropped.
        let _ = wait.await;
    }

    /// The hops of this host, in the order of their names.
    #[must_use]
    pub fn hops(&self) -> Vec<Hop> {
        self.0.hops.lock().values().cloned().collect()
    }
}
