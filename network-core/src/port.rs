//! A port: a bound local endpoint that can listen and connect.

use std::{
    collections::BTreeMap,
    fmt, mem,
    sync::{Arc, Weak},
};

use tokio::{sync::Notify, time::timeout};

use crate::{
    budget::Budget,
    close::CloseReason,
    connection::Connection,
    endpoint::{Endpoint, EndpointError},
    error::{ConnectError, ListenError, Rejection, RevokeError},
    guard::Guarded,
    handler::{AnyHandler, ConnectionHandler},
    limits::Limits,
    listener::{Attempts, ListenHandler, Listener, PullListener},
    network::{Acceptor, Counted, Network, NetworkInner},
    policy::{self, AcceptPolicy, Dialer},
    records::Records,
    refusal::Refusal,
    seam::{ConsumerSlot, Dial, LinkSeed, ProtocolImpl},
    shared::Handle,
    sync::Mutex,
};

/// A bound local endpoint that can listen and connect. A cheap handle.
///
/// The name is taken until [`revoke`](Self::revoke): dropping handles does not release it.
#[derive(Clone)]
pub struct Port {
    inner: Arc<PortInner>,
    /// Ports keep their network alive.
    network: Arc<NetworkInner>,
}

pub(crate) struct PortInner {
    network: Weak<NetworkInner>,
    limits: Arc<Limits>,
    budget: Arc<Budget>,
    backend: Arc<dyn ProtocolImpl>,
    endpoint: Endpoint,
    networks_policy: AcceptPolicy,
    /// Its own. Locked before the lists of a policy, and those before the state.
    policy: Mutex<Option<AcceptPolicy>>,
    state: Mutex<State>,
    /// Told when the port is revoked.
    revoked: Notify,
    /// Listen, unlisten and revoke go one after the other.
    changing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    revoked: bool,
    listener: Option<Arc<dyn Listener>>,
    connections: BTreeMap<u64, Weak<Handle>>,
    next_key: u64,
}

/// A connection's place among those of its network.
#[derive(Debug)]
pub(crate) struct Membership {
    _counted: Counted,
    admitted: Option<policy::Counted>,
}

impl Membership {
    pub(crate) fn new(counted: Counted) -> Self {
        Self { _counted: counted, admitted: None }
    }

    /// That of a connection which a policy let in.
    pub(crate) fn under(mut self, admitted: policy::Counted) -> Self {
        self.admitted = Some(admitted);
        self
    }

    /// Who dialed, if the connection was accepted.
    pub(crate) fn dialer(&self) -> Option<Dialer> {
        self.admitted.as_ref().map(policy::Counted::dialer)
    }
}

impl Port {
    pub(crate) fn new(inner: Arc<PortInner>, network: Arc<NetworkInner>) -> Self {
        Self { inner, network }
    }

    /// Its name.
    pub fn local_endpoint(&self) -> &Endpoint {
        &self.inner.endpoint
    }

    /// The network that it belongs to.
    pub fn network(&self) -> Network {
        Network::from_inner(self.network.clone())
    }

    /// What its backend can do.
    pub fn protocol(&self) -> &Arc<dyn ProtocolImpl> {
        &self.inner.backend
    }

    /// Whether it was revoked.
    pub fn is_revoked(&self) -> bool {
        self.inner.state.lock().revoked
    }

    /// The connections that are open, dialed and accepted ones, in the order in which they were
    /// opened.
    pub fn connections(&self) -> Vec<Connection> {
        let state = self.inner.state.lock();
        state.connections.values().filter_map(Weak::upgrade).map(Connection::new).collect()
    }

    /// Opens a connection to `remote`; the handler takes the records that come from there.
    ///
    /// # Errors
    /// [`ConnectError`]; no connection exists then.
    ///
    /// # Cancel safety
    /// Dropping the future opens nothing, or closes what was being opened.
    pub async fn connect<E>(
        &self,
        remote: E,
        handler: impl ConnectionHandler,
    ) -> Result<Connection, ConnectError>
    where
        E: TryInto<Endpoint>,
        E::Error: Into<EndpointError>,
    {
        let remote = remote.try_into().map_err(Into::into)?;
        self.dial(remote, AnyHandler::new(handler)).await
    }

    /// Opens a connection to `remote` whose records the program pulls.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    ///
    /// # Cancel safety
    /// As [`connect`](Self::connect).
    pub async fn connect_pull<E>(&self, remote: E) -> Result<(Connection, Records), ConnectError>
    where
        E: TryInto<Endpoint>,
        E::Error: Into<EndpointError>,
    {
        let remote = remote.try_into().map_err(Into::into)?;
        let connection = self.dial(remote, AnyHandler::pull()).await?;
        let records = Records::new(connection.clone());
        Ok((connection, records))
    }

    async fn dial(
        &self,
        remote: Endpoint,
        handler: AnyHandler,
    ) -> Result<Connection, ConnectError> {
        let inner = &self.inner;
        let backend = self.network.route(&remote)?;
        if !Arc::ptr_eq(&backend, &inner.backend) {
            return Err(ConnectError::OtherBackend {
                local: inner.endpoint.clone(),
                local_protocol: inner.backend.name(),
                remote,
                remote_protocol: backend.name(),
            });
        }
        let revoked = || ConnectError::Revoked { local: inner.endpoint.clone() };
        let mut told = std::pin::pin!(inner.revoked.notified());
        told.as_mut().enable();
        if self.is_revoked() {
            return Err(revoked());
        }
        let membership = self
            .network
            .admit()
            .map_err(|max| ConnectError::TooManyConnections { remote: remote.clone(), max })?;
        let consumer = ConsumerSlot { consumer: handler.into_parts().0, tell: None, version: None };
        let seed = LinkSeed { port: inner.clone(), consumer, membership };
        let local = inner.endpoint.clone();
        let connecting = backend.connect(Dial { local, remote: remote.clone(), seed });
        let after = inner.limits.connect_time;
        tokio::select! {
            biased;
            () = told => Err(revoked()),
            connected = timeout(after, connecting) => match connected {
                Ok(Ok(connection)) => {
                    tracing::debug!(local = %connection.local_endpoint(),
                        remote = %connection.remote_endpoint(), "connected");
                    Ok(connection)
                }
                Ok(Err(error)) => Err(error),
                Err(_) => Err(ConnectError::TimedOut { remote, after }),
            },
        }
    }

    /// Sets who may connect to this port, instead of what the network's policy says; `None`
    /// for the network's again. Connections that are open stay. Attempts that wait for their
    /// listener come in only if the lists of the new one let them, and stay counted under the
    /// old one.
    ///
    /// Ports may share a socket, and which one is dialed is known after the handshake. So the
    /// network's policy still bounds handshakes by source and their rate, and whoever it turns
    /// away then is not told why. Its lists and its caps on connections do not concern a port
    /// that has its own.
    pub fn set_accept_policy(&self, policy: Option<AcceptPolicy>) {
        *self.inner.policy.lock() = policy;
    }

    /// Takes inbound connections; the listener decides over each. A listener that was there
    /// before is removed.
    ///
    /// # Errors
    /// [`ListenError`]; the port listens as it did before.
    ///
    /// # Cancel safety
    /// Once polled, it goes on if the future is dropped.
    pub async fn listen(&self, listener: impl ListenHandler) -> Result<(), ListenError> {
        self.listen_with(Arc::new(listener)).await
    }

    /// Takes inbound connections; the program decides over each that it pulls. A listener
    /// that was there before is removed.
    ///
    /// # Errors
    /// As [`listen`](Self::listen).
    ///
    /// # Cancel safety
    /// As [`listen`](Self::listen).
    pub async fn attempts(&self) -> Result<Attempts, ListenError> {
        let (queue, attempts) = Attempts::new();
        self.listen_with(Arc::new(PullListener(queue))).await?;
        Ok(attempts)
    }

    async fn listen_with(&self, listener: Arc<dyn Listener>) -> Result<(), ListenError> {
        let port = self.clone();
        to_the_end(async move {
            let _changing = port.inner.changing.lock().await;
            port.start_listening(listener).await
        })
        .await
    }

    async fn start_listening(&self, listener: Arc<dyn Listener>) -> Result<(), ListenError> {
        let inner = &self.inner;
        let endpoint = || inner.endpoint.clone();
        let before = {
            let mut state = inner.state.lock();
            if state.revoked {
                return Err(ListenError::Revoked { endpoint: endpoint() });
            }
            state.listener.replace(listener.clone())
        };
        let back_to = |before| {
            inner.state.lock().listener = before;
        };
        if before.is_none() {
            let acceptor =
                Acceptor::new(inner.network.clone(), &inner.backend, inner.limits.clone());
            if let Err(source) = inner.backend.listen(&inner.endpoint, acceptor).await {
                back_to(None);
                let protocol = inner.backend.name();
                return Err(ListenError::Backend { endpoint: endpoint(), protocol, source });
            }
        }
        let refused = match Guarded::new(|| listener.on_listen_dyn(self)).await {
            Ok(Ok(())) => None,
            Ok(Err(refusal)) => Some(refusal),
            Err(_) => Some(Refusal::new("`on_listen` panicked")),
        };
        if let Some(refusal) = refused {
            if before.is_none() {
                inner.backend.unlisten(&inner.endpoint).await;
            }
            back_to(before);
            return Err(ListenError::Refused { endpoint: endpoint(), refusal });
        }
        tracing::debug!(endpoint = %inner.endpoint, "listening");
        if let Some(before) = before {
            Guarded::new(|| before.on_remove_dyn(self)).await.ok();
        }
        Ok(())
    }

    /// Takes no more inbound connections. Connections stay, and the port can connect, or
    /// listen again.
    ///
    /// # Errors
    /// The port does not listen.
    ///
    /// # Cancel safety
    /// Once polled, it goes on if the future is dropped.
    pub async fn unlisten(&self) -> Result<(), ListenError> {
        let port = self.clone();
        to_the_end(async move {
            let _changing = port.inner.changing.lock().await;
            if port.stop_listening().await {
                return Ok(());
            }
            Err(ListenError::NotListening { endpoint: port.inner.endpoint.clone() })
        })
        .await
    }

    /// Whether there was a listener.
    async fn stop_listening(&self) -> bool {
        let listener = self.inner.state.lock().listener.take();
        let Some(listener) = listener else {
            return false;
        };
        self.inner.backend.unlisten(&self.inner.endpoint).await;
        Guarded::new(|| listener.on_remove_dyn(self)).await.ok();
        true
    }

    /// Ends the port: closes its connections, accepted and dialed, the oldest first, removes its
    /// listener and releases its name. A connect that is under way fails.
    ///
    /// # Errors
    /// It was revoked before.
    ///
    /// # Cancel safety
    /// Once polled, it goes on if the future is dropped.
    pub async fn revoke(&self) -> Result<(), RevokeError> {
        self.end(CloseReason::Revoked).await
    }

    pub(crate) async fn end(&self, reason: CloseReason) -> Result<(), RevokeError> {
        let port = self.clone();
        to_the_end(async move {
            let inner = &port.inner;
            if mem::replace(&mut inner.state.lock().revoked, true) {
                return Err(RevokeError::AlreadyRevoked { endpoint: inner.endpoint.clone() });
            }
            inner.revoked.notify_waiters();
            let _changing = inner.changing.lock().await;
            let connections = port.connections();
            for connection in &connections {
                connection.begin_close(reason.clone());
            }
            for connection in &connections {
                connection.closed().await;
            }
            port.stop_listening().await;
            inner.backend.revoke(&inner.endpoint).await;
            port.network.forget(&inner.endpoint);
            tracing::debug!(endpoint = %inner.endpoint, "revoked");
            Ok(())
        })
        .await
    }
}

/// Runs something that must not be left half done in a task of its own.
async fn to_the_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(work).await {
        Ok(value) => value,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is shutting down and has dropped the task.
        Err(_) => std::future::pending().await,
    }
}

/// Two handles are equal if they are of the same port.
impl PartialEq for Port {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Eq for Port {}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Port").field(&self.inner.endpoint).finish()
    }
}

impl fmt::Debug for PortInner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortInner").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl PortInner {
    pub(crate) fn new(
        network: Weak<NetworkInner>,
        limits: Arc<Limits>,
        budget: Arc<Budget>,
        backend: Arc<dyn ProtocolImpl>,
        endpoint: Endpoint,
        networks_policy: AcceptPolicy,
    ) -> Self {
        Self {
            network,
            limits,
            budget,
            backend,
            endpoint,
            networks_policy,
            policy: Mutex::default(),
            state: Mutex::default(),
            revoked: Notify::new(),
            changing: tokio::sync::Mutex::new(()),
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    pub(crate) fn backend(&self) -> &Arc<dyn ProtocolImpl> {
        &self.backend
    }

    pub(crate) fn listener(&self) -> Option<Arc<dyn Listener>> {
        let state = self.state.lock();
        if state.revoked { None } else { state.listener.clone() }
    }

    /// Its own policy, if it has one.
    pub(crate) fn policy(&self) -> Option<AcceptPolicy> {
        self.policy.lock().clone()
    }

    /// Does what lets a dialer in, unless the policy in force keeps it out: after a change of
    /// the policy or of its lists, nobody enters whom it does not let in. `None` is this side,
    /// which dialed.
    pub(crate) fn let_in<T>(
        &self,
        dialer: Option<Dialer>,
        enter: impl FnOnce() -> T,
    ) -> Result<T, Rejection> {
        let Some(dialer) = dialer else {
            return Ok(enter());
        };
        // What is dropped under the locks must not be the last of the network: the program's
        // listeners would go with it, and they may lock the same.
        let _network = self.network.upgrade();
        let own = self.policy.lock();
        own.as_ref().unwrap_or(&self.networks_policy).let_in(dialer, enter)
    }

    /// Keeps track of a connection, unless the port was revoked.
    pub(crate) fn add_connection(&self, handle: Weak<Handle>) -> Option<u64> {
        let mut state = self.state.lock();
        if state.revoked {
            return None;
        }
        state.next_key += 1;
        let key = state.next_key;
        state.connections.insert(key, handle);
        Some(key)
    }

    pub(crate) fn remove_connection(&self, key: u64) {
        self.state.lock().connections.remove(&key);
    }
}
