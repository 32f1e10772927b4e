//! A bound TCP address, which several ports may share.

use std::{
    collections::HashSet,
    fmt, io, mem,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use network_core::{Acceptor, Attempt, BackendError, Endpoint, PeerId, stream, wire::Hello};
#[cfg(feature = "tls")]
use network_core::{Connection, Rejection};
#[cfg(feature = "tls")]
use network_tls::{Listening, Trust};
use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::address::Security;
#[cfg(feature = "tls")]
use crate::tls;

/// How many connections may wait in the kernel to be taken.
const BACKLOG: i32 = 1024;

/// How long to wait after the system had no room for another connection.
const BREATHER: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(crate) struct Socket {
    address: SocketAddr,
    transport: Endpoint,
    security: Security,
    opening: Arc<Opening>,
    state: Mutex<State>,
}

/// How the connections of a socket begin.
pub(crate) enum Opening {
    Plain,
    #[cfg(feature = "tls")]
    Tls(Listening),
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opening")
    }
}

#[derive(Debug)]
struct State {
    ports: HashSet<Endpoint>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Bound(RawSocket),
    Listening(JoinHandle<()>),
    /// Between the two; for good if the system refused to listen.
    Failed,
}

impl Socket {
    /// Reserves an address; port 0 takes a free one.
    pub(crate) fn bind(
        address: SocketAddr,
        opening: Opening,
        security: Security,
    ) -> io::Result<Self> {
        let socket =
            RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // Else a restart would wait for connections of the last run that the kernel keeps.
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let transport = security.endpoint_of(address).map_err(io::Error::other)?;
        let state = State { ports: HashSet::new(), stage: Stage::Bound(socket) };
        let (opening, state) = (Arc::new(opening), Mutex::new(state));
        Ok(Self { address, transport, security, opening, state })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn transport(&self) -> &Endpoint {
        &self.transport
    }

    pub(crate) fn security(&self) -> Security {
        self.security
    }

    /// How many ports share it.
    pub(crate) fn ports(&self) -> usize {
        self.lock().ports.len()
    }

    /// Adds a port; false if it is there already.
    pub(crate) fn add(&self, port: &Endpoint) -> bool {
        self.lock().ports.insert(port.clone())
    }

    /// Removes a port, and tells whether it was the last.
    pub(crate) fn remove(&self, port: &Endpoint) -> bool {
        let mut state = self.lock();
        state.ports.remove(port);
        state.ports.is_empty()
    }

    /// Starts to take connections, unless it does so already. Core decides which port they
    /// are for, and turns down those for none.
    pub(crate) fn listen(&self, acceptor: Acceptor) -> io::Result<()> {
        let mut state = self.lock();
        let socket = match mem::replace(&mut state.stage, Stage::Failed) {
            Stage::Bound(socket) => socket,
            listening => {
                state.stage = listening;
                return Ok(());
            }
        };
        if let Err(error) = socket.listen(BACKLOG) {
            state.stage = Stage::Bound(socket);
            return Err(error);
        }
        let listener = TcpListener::from_std(socket.into())?;
        let taker = Taker {
            transport: self.transport.clone(),
            security: self.security,
            opening: self.opening.clone(),
            acceptor,
        };
        let taking = tokio::spawn(take_connections(listener, taker));
        state.stage = Stage::Listening(taking);
        Ok(())
    }

    /// Gives the address back: free once this returns.
    pub(crate) async fn close(&self) {
        let stage = mem::replace(&mut self.lock().stage, Stage::Failed);
        if let Stage::Listening(taking) = stage {
            taking.abort();
            // Cancelled, as was just asked for; the listener went with the task.
            let _ = taking.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Stage::Listening(taking) = &self.lock().stage {
            taking.abort();
        }
    }
}

/// What every connection of a socket needs.
#[derive(Clone)]
struct Taker {
    transport: Endpoint,
    security: Security,
    opening: Arc<Opening>,
    acceptor: Acceptor,
}

async fn take_connections(listener: TcpListener, taker: Taker) {
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or the connection went away again: neither is for ever.
                tracing::debug!(transport = %taker.transport, %error, "cannot take a connection");
                tokio::time::sleep(BREATHER).await;
                continue;
            }
        };
        // Over the limit the connection is dropped unread: anything else would cost more.
        let Some(handshake) = taker.acceptor.handshake(Some(from.ip())) else {
            continue;
        };
        let taker = taker.clone();
        tokio::spawn(async move {
            let _handshake = handshake;
            if let Err(reason) = taker.take(stream, from).await {
                tracing::debug!(%from, reason, "turned down");
            }
        });
    }
}

impl Taker {
    async fn take(&self, stream: TcpStream, from: SocketAddr) -> Result<(), String> {
        // Without it small frames would wait for acks of the kernel; with it missing, they are
        // slow.
        let _ = stream.set_nodelay(true);
        let taken = match &*self.opening {
            Opening::Plain => {
                stream::accept(stream, &self.acceptor, |hello| self.attempt(hello, from, None))
                    .await
            }
            // Boxed: a plain connection needs no room for it.
            #[cfg(feature = "tls")]
            Opening::Tls(listening) => Box::pin(self.take_secured(stream, from, listening)).await?,
        };
        taken.map(drop).map_err(|rejection| rejection.to_string())
    }

    #[cfg(feature = "tls")]
    async fn take_secured(
        &self,
        stream: TcpStream,
        from: SocketAddr,
        listening: &Listening,
    ) -> Result<Result<Connection, Rejection>, String> {
        let within = self.acceptor.limits().handshake_time;
        let handshake = tokio::time::timeout(within, tls::accept(listening, stream)).await;
        let (stream, peer) = handshake
            .map_err(|_| "its TLS handshake took too long".to_owned())?
            .map_err(|error| format!("its TLS handshake failed: {error}"))?;
        Ok(stream::accept(stream, &self.acceptor, |hello| self.attempt(hello, from, peer)).await)
    }

    /// Who dials what. Only the names of ports are the dialer's own word.
    fn attempt(
        &self,
        hello: &Hello,
        from: SocketAddr,
        peer: Option<PeerId>,
    ) -> Result<Attempt, BackendError> {
        let security = match self.security {
            Security::Plain => Security::Plain,
            #[cfg(feature = "tls")]
            Security::Tls(_) => Security::Tls(peer.map_or(Trust::Name, Trust::Peer)),
        };
        let (to, from_port) = hello.port_paths()?;
        let local = self.transport.join(to)?;
        let remote = security.endpoint_of(from)?.join(from_port)?;
        let attempt = Attempt::new(local, remote).with_source(from);
        Ok(match peer {
            Some(peer) => attempt.with_peer(peer),
            None => attempt,
        })
    }
}
