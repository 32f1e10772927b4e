//! A network: backends, ports and limits.

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use dashmap::DashMap;
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    allocator::PortAllocator,
    budget::Budget,
    close::CloseReason,
    endpoint::{Endpoint, EndpointError},
    error::{BindError, NoBackend, RegisterError, Rejection},
    guard::Guarded,
    limits::Limits,
    listener::{Attempt, Listener},
    policy::{self, AcceptPolicy},
    port::{Membership, Port, PortInner},
    refusal::Refusal,
    router::Router,
    seam::{LinkSeed, ProtocolImpl},
};

/// Backends, the ports bound on them, and the limits that all share. A cheap handle.
///
/// It lasts as long as a handle of it or of one of its ports. There is no global one.
#[derive(Clone)]
pub struct Network(Arc<NetworkInner>);

pub(crate) struct NetworkInner {
    router: RwLock<Router>,
    ports: DashMap<Endpoint, Arc<PortInner>>,
    /// Binds go one after the other, so that no two get the same name.
    binding: tokio::sync::Mutex<()>,
    limits: Arc<Limits>,
    connections: AtomicUsize,
    handshakes: AtomicUsize,
    policy: AcceptPolicy,
    budget: Arc<Budget>,
    down: AtomicBool,
}

/// Configures a [`Network`].
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until it builds"]
pub struct NetworkBuilder {
    limits: Limits,
    policy: AcceptPolicy,
    protocols: Vec<Arc<dyn ProtocolImpl>>,
}

impl NetworkBuilder {
    /// Sets the limits. Values that cannot work are raised to the nearest that can.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets who may connect to the ports of the network.
    pub fn accept_policy(mut self, policy: AcceptPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Adds a backend for the life of the network.
    pub fn protocol(mut self, protocol: impl ProtocolImpl) -> Self {
        self.protocols.push(Arc::new(protocol));
        self
    }

    /// Builds the network.
    ///
    /// # Errors
    /// Two backends take the same endpoints, or one takes none.
    pub fn build(self) -> Result<Network, RegisterError> {
        let mut router = Router::default();
        for protocol in &self.protocols {
            router.register(protocol)?;
        }
        let limits = self.limits.sane();
        Ok(Network(Arc::new(NetworkInner {
            router: RwLock::new(router),
            ports: DashMap::new(),
            binding: tokio::sync::Mutex::new(()),
            budget: Budget::new(limits.memory),
            limits: Arc::new(limits),
            connections: AtomicUsize::new(0),
            handshakes: AtomicUsize::new(0),
            policy: self.policy,
            down: AtomicBool::new(false),
        })))
    }
}

/// Keeps a backend registered. Dropping it unregisters the backend: nothing new is bound or
/// connected there; ports and connections that exist stay.
#[derive(Debug)]
#[must_use = "dropping it unregisters the backend"]
pub struct Registration {
    network: Weak<NetworkInner>,
    id: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(network) = self.network.upgrade() {
            network.router.write().unwrap_or_else(PoisonError::into_inner).unregister(self.id);
        }
    }
}

impl Network {
    /// Starts to configure a network.
    pub fn builder() -> NetworkBuilder {
        NetworkBuilder::default()
    }

    pub(crate) fn from_inner(inner: Arc<NetworkInner>) -> Self {
        Self(inner)
    }

    /// The limits that apply.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Who may connect, to every port that has no policy of its own.
    pub fn accept_policy(&self) -> &AcceptPolicy {
        &self.0.policy
    }

    /// Registers a backend at run time, until the guard is dropped.
    ///
    /// # Errors
    /// Another backend takes the same endpoints, or it takes none. Nothing is registered then.
    pub fn register(&self, protocol: impl ProtocolImpl) -> Result<Registration, RegisterError> {
        let backend: Arc<dyn ProtocolImpl> = Arc::new(protocol);
        let mut router = self.0.router.write().unwrap_or_else(PoisonError::into_inner);
        let id = router.register(&backend)?;
        Ok(Registration { network: Arc::downgrade(&self.0), id })
    }

    /// The backend that an endpoint belongs to.
    ///
    /// # Errors
    /// None takes it; the error says what is routed.
    pub fn route(&self, endpoint: &Endpoint) -> Result<Arc<dyn ProtocolImpl>, NoBackend> {
        self.0.route(endpoint)
    }

    /// Every registered backend.
    pub fn protocols(&self) -> Vec<Arc<dyn ProtocolImpl>> {
        self.0.router.read().unwrap_or_else(PoisonError::into_inner).backends()
    }

    /// Binds a port: takes its name until the port is revoked. An endpoint that ends in `/`
    /// asks for a fresh name; [`Port::local_endpoint`] tells it.
    ///
    /// # Errors
    /// [`BindError`]; nothing is bound then.
    ///
    /// # Cancel safety
    /// Once polled, the bind goes on if the future is dropped; the port is then revoked.
    pub async fn bind<E>(&self, endpoint: E) -> Result<Port, BindError>
    where
        E: TryInto<Endpoint>,
        E::Error: Into<EndpointError>,
    {
        let wanted: Endpoint = endpoint.try_into().map_err(Into::into)?;
        let backend = self.0.route(&wanted)?;
        let protocol = backend.name();
        let (network, endpoint) = (self.clone(), wanted.clone());
        let (done, bound) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            let outcome = network.bind_endpoint(wanted, backend).await;
            if let Err(Ok(unwanted)) = done.send(outcome) {
                // It was bound and nobody revoked it yet, so this cannot fail.
                let _ = unwanted.revoke().await;
            }
        });
        bound.await.unwrap_or_else(|_| {
            let source = "the backend panicked, or the runtime is shutting down".into();
            Err(BindError::Backend { endpoint, protocol, source })
        })
    }

    async fn bind_endpoint(
        &self,
        wanted: Endpoint,
        backend: Arc<dyn ProtocolImpl>,
    ) -> Result<Port, BindError> {
        let down = || self.0.down.load(Ordering::Acquire);
        if down() {
            return Err(BindError::Shutdown { endpoint: wanted });
        }
        let _one_at_a_time = self.0.binding.lock().await;
        if down() {
            return Err(BindError::Shutdown { endpoint: wanted });
        }
        if self.0.ports.contains_key(&wanted) {
            return Err(BindError::AlreadyBound { endpoint: wanted });
        }
        let max = self.0.limits.max_ports;
        if self.0.ports.len() >= max {
            return Err(BindError::TooManyPorts { endpoint: wanted, max });
        }
        // A fresh name may be one that somebody has chosen before.
        const TRIES: usize = 1024;
        for _ in 0..TRIES {
            let name = backend.bind(&wanted).await.map_err(|source| BindError::Backend {
                endpoint: wanted.clone(),
                protocol: backend.name(),
                source,
            })?;
            if self.0.ports.contains_key(&name) {
                continue;
            }
            tracing::debug!(endpoint = %name, protocol = backend.name(), "bound");
            let inner = Arc::new(PortInner::new(
                Arc::downgrade(&self.0),
                self.0.limits.clone(),
                self.0.budget.clone(),
                backend,
                name.clone(),
                self.0.policy.clone(),
            ));
            self.0.ports.insert(name, inner.clone());
            return Ok(Port::new(inner, self.0.clone()));
        }
        Err(BindError::AlreadyBound { endpoint: wanted })
    }

    /// Names ports the way the original's `PortAllocator` does.
    pub fn allocator(&self) -> PortAllocator {
        PortAllocator::new(self.clone())
    }

    /// How many connections are open, both directions.
    pub fn connections(&self) -> usize {
        self.0.connections.load(Ordering::Relaxed)
    }

    /// Shuts down: stops listening, lets outstanding records be acked until `deadline` has
    /// passed, closes every connection, revokes every port, releases every backend. Binding
    /// fails afterwards.
    ///
    /// # Cancel safety
    /// What was not done when the future is dropped stays undone; call it again.
    pub async fn shutdown(&self, deadline: Duration) {
        let deadline = Instant::now() + deadline;
        self.0.down.store(true, Ordering::Release);
        let _no_more_binds = self.0.binding.lock().await;
        let ports: Vec<Port> = self.ports();
        for port in &ports {
            // Not every port listens.
            let _ = port.unlisten().await;
        }
        let connections: Vec<_> = ports.iter().flat_map(Port::connections).collect();
        let all_acked = async {
            for connection in &connections {
                connection.idle().await;
            }
        };
        // Past the deadline the records that are still un-acked are told their fate.
        let _ = timeout_at(deadline, all_acked).await;
        for port in &ports {
            // One that is revoked already is what was wanted.
            let _ = port.end(CloseReason::Shutdown).await;
        }
        for backend in self.protocols() {
            backend.shutdown().await;
        }
    }

    fn ports(&self) -> Vec<Port> {
        self.0.ports.iter().map(|port| Port::new(port.value().clone(), self.0.clone())).collect()
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocols: Vec<_> = self.protocols().iter().map(|backend| backend.name()).collect();
        f.debug_struct("Network")
            .field("protocols", &protocols)
            .field("ports", &self.0.ports.len())
            .field("connections", &self.connections())
            .finish()
    }
}

impl fmt::Debug for NetworkInner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetworkInner").finish_non_exhaustive()
    }
}

impl NetworkInner {
    pub(crate) fn route(&self, endpoint: &Endpoint) -> Result<Arc<dyn ProtocolImpl>, NoBackend> {
        self.router.read().unwrap_or_else(PoisonError::into_inner).route(endpoint)
    }

    pub(crate) fn forget(&self, endpoint: &Endpoint) {
        self.ports.remove(endpoint);
    }

    /// Counts a connection, unless there are too many.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<Membership, usize> {
        let max = self.limits.max_connections;
        let counted = Counted::of(self, max, |network| &network.connections).ok_or(max)?;
        Ok(Membership::new(counted))
    }

    /// The listening port with the longest name that `dialed` starts with.
    fn listening(
        &self,
        backend: &Weak<dyn ProtocolImpl>,
        dialed: &Endpoint,
    ) -> Option<(Arc<PortInner>, Arc<dyn Listener>)> {
        dialed.prefixes().find_map(|prefix| {
            let port = self.ports.get(prefix)?.value().clone();
            let same = std::ptr::addr_eq(Arc::as_ptr(port.backend()), backend.as_ptr());
            let listener = port.listener().filter(|_| same)?;
            Some((port, listener))
        })
    }
}

/// One of a counted number.
#[derive(Debug)]
pub(crate) struct Counted {
    network: Weak<NetworkInner>,
    counter: fn(&NetworkInner) -> &AtomicUsize,
}

impl Counted {
    fn of(
        network: &Arc<NetworkInner>,
        max: usize,
        counter: fn(&NetworkInner) -> &AtomicUsize,
    ) -> Option<Self> {
        counter(network)
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
                (now < max).then_some(now + 1)
            })
            .ok()?;
        Some(Self { network: Arc::downgrade(network), counter })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(network) = self.network.upgrade() {
            (self.counter)(&network).fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// An inbound handshake in progress, counted against
/// [`Limits::max_handshakes`](crate::Limits::max_handshakes).
#[derive(Debug)]
#[must_use = "the handshake counts as long as this lives"]
pub struct Handshake {
    _counted: Counted,
    _source: policy::Counted,
}

/// Core's door for the inbound connections of a backend.
#[derive(Clone, Debug)]
pub struct Acceptor {
    network: Weak<NetworkInner>,
    backend: Weak<dyn ProtocolImpl>,
    limits: Arc<Limits>,
}

impl Acceptor {
    pub(crate) fn new(
        network: Weak<NetworkInner>,
        backend: &Arc<dyn ProtocolImpl>,
        limits: Arc<Limits>,
    ) -> Self {
        Self { network, backend: Arc::downgrade(backend), limits }
    }

    /// The limits of the network.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Counts a handshake, or `None` if too many are in progress, in all or of that source, or
    /// if the source is faster than the network's [`AcceptPolicy`] lets it be: turn the remote
    /// away as cheaply as the transport can, before the handshake if it can. It is not told why:
    /// that would cost what this saves. Hold what it gives until the attempt is decided over.
    pub fn handshake(&self, source: Option<IpAddr>) -> Option<Handshake> {
        let network = self.network.upgrade()?;
        let source = network.policy.handshake(source)?;
        let max = self.limits.max_handshakes;
        let counted = Counted::of(&network, max, |network| &network.handshakes)?;
        Some(Handshake { _counted: counted, _source: source })
    }

    /// Asks the policy, then the listener of the longest listening name that `attempt.local`
    /// starts with, and then the lists of the policy again.
    ///
    /// # Errors
    /// The answer for the dialer.
    ///
    /// # Cancel safety
    /// Drop the future when the remote side goes away: the listener is told by `on_reject`.
    pub async fn attempt(&self, attempt: Attempt) -> Result<LinkSeed, Rejection> {
        let network = self.network.upgrade().ok_or(Rejection::ShuttingDown)?;
        if network.down.load(Ordering::Acquire) {
            return Err(Rejection::ShuttingDown);
        }
        let (inner, listener) =
            network.listening(&self.backend, &attempt.local).ok_or(Rejection::NotListening)?;
        // The network's rate was asked about before the handshake, a port's own was not.
        let admitted = match inner.policy() {
            Some(policy) => policy.admit(&attempt, true),
            None => network.policy.admit(&attempt, false),
        };
        let not_let_in = |attempt: &Attempt, reason: &Rejection| {
            tracing::debug!(local = %attempt.local, remote = %attempt.remote, %reason, "not let in");
        };
        let admitted = admitted.inspect_err(|reason| not_let_in(&attempt, reason))?;
        let membership = network.admit().map_err(|_| Rejection::Busy)?.under(admitted);
        let port = Port::new(inner.clone(), network);
        let mut undecided = Undecided { listener, port, attempt, decided: false };
        let asking = {
            let Undecided { listener, port, attempt, .. } = &undecided;
            let asked = Guarded::new(|| listener.decide_dyn(port, attempt));
            timeout(self.limits.accept_time, asked).await
        };
        let Ok(asked) = asking else {
            return Err(Rejection::Declined(Refusal::new("the listener took too long to decide")));
        };
        undecided.decided = true;
        let decision = asked.map_err(|_| Refusal::new("the listener panicked")).flatten();
        let consumer = decision.map_err(Rejection::Declined)?;
        let negotiates =
            || self.backend.upgrade().is_some_and(|backend| backend.capabilities().negotiates);
        if consumer.version.is_some() && !negotiates() {
            let why = "the listener wants another version, and this transport negotiates none";
            return Err(Rejection::Declined(Refusal::new(why)));
        }
        // The lists may have changed meanwhile. They are asked once more when the link is there.
        inner
            .let_in(membership.dialer(), || ())
            .inspect_err(|reason| not_let_in(&undecided.attempt, reason))?;
        Ok(LinkSeed { port: inner, consumer, membership })
    }
}

impl Acceptor {
    /// Reports that a listening endpoint can take no more connections, though nobody asked
    /// it to stop: its listener is told by `on_error`.
    pub async fn failed(&self, local: &Endpoint, error: &(dyn std::error::Error + Sync)) {
        let Some(network) = self.network.upgrade() else {
            return;
        };
        let Some((inner, listener)) = network.listening(&self.backend, local) else {
            return;
        };
        let port = Port::new(inner, network);
        let text = error.to_string();
        Guarded::new(|| listener.on_error_dyn(&port, &text)).await.ok();
    }
}

/// An attempt until the listener has decided.
struct Undecided {
    listener: Arc<dyn Listener>,
    port: Port,
    attempt: Attempt,
    decided: bool,
}

impl Drop for Undecided {
    fn drop(&mut self) {
        if self.decided {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (listener, port) = (self.listener.clone(), self.port.clone());
            let attempt = self.attempt.clone();
            runtime.spawn(async move {
                Guarded::new(|| listener.on_reject_dyn(&port, &attempt)).await.ok();
            });
        }
    }
}
