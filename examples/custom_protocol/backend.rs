//! A whole backend: records over Unix sockets, at `/unix/NAME` and `/unix/NAME/…`.
//!
//! `NAME` is a file in the backend's directory. Ports whose endpoints begin with the same
//! `/unix/NAME` share its socket: the opening frame carries the rest of the dialed endpoint.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    fs, io,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use network_core::{
    Acceptor, Attempt, BackendError, Capabilities, ConnectError, Connection, Dial, Endpoint,
    EndpointError, ProtocolImpl, RoutePattern,
    stream::{self, Dialing},
    wire::Hello,
};
use tokio::{
    net::{UnixListener, UnixSocket, UnixStream},
    task::AbortHandle,
};

/// How many connections may wait in the kernel to be taken.
const BACKLOG: u32 = 1024;

/// The backend: each network gets one of its own.
#[derive(Debug)]
pub(crate) struct Unix {
    directory: PathBuf,
    /// By the names of their files.
    sockets: Mutex<HashMap<String, Socket>>,
}

#[derive(Debug)]
struct Socket {
    ports: HashSet<Endpoint>,
    /// Until it listens: the name is taken, and nobody can connect.
    bound: Option<UnixSocket>,
    listening: Option<AbortHandle>,
}

/// The endpoint names no socket.
#[derive(Debug, thiserror::Error)]
#[error("{0} names no socket: write it like /unix/orders")]
pub(crate) struct NoSocket(Endpoint);

impl Unix {
    /// A backend whose sockets are files in `directory`, which must exist.
    pub(crate) fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), sockets: Mutex::default() }
    }

    fn sockets(&self) -> MutexGuard<'_, HashMap<String, Socket>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, name: &str) -> io::Result<Socket> {
        let socket = UnixSocket::new_stream()?;
        socket.bind(self.directory.join(name))?;
        Ok(Socket { ports: HashSet::new(), bound: Some(socket), listening: None })
    }
}

#[async_trait]
impl ProtocolImpl for Unix {
    fn name(&self) -> &'static str {
        "unix"
    }

    fn patterns(&self) -> Vec<RoutePattern> {
        RoutePattern::parse("/unix").into_iter().collect()
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::STREAM;
        // Ports share a socket by longer names, and not by `/port/NAME`.
        capabilities.shares_sockets = false;
        capabilities
    }

    async fn bind(&self, wanted: &Endpoint) -> Result<Endpoint, BackendError> {
        let fresh = wanted.wants_fresh_name();
        let mut number = 0;
        let mut sockets = self.sockets();
        loop {
            let mut port = wanted.clone();
            if fresh {
                number += 1;
                port = wanted.with_name(&format!("port{number}"))?;
            }
            let (name, rest) = split(&port)?;
            // By another process. Ends when a number is free.
            let taken = |error: &io::Error| {
                fresh && rest.is_empty() && error.kind() == io::ErrorKind::AddrInUse
            };
            let socket = match sockets.entry(name.to_owned()) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(free) => match self.open(name) {
                    Err(error) if taken(&error) => continue,
                    opened => free.insert(opened?),
                },
            };
            if socket.ports.insert(port.clone()) || !fresh {
                return Ok(port);
            }
        }
    }

    async fn listen(&self, local: &Endpoint, acceptor: Acceptor) -> Result<(), BackendError> {
        let (name, _) = split(local)?;
        let mut sockets = self.sockets();
        let Some(socket) = sockets.get_mut(name) else {
            return Err(NoSocket(local.clone()).into());
        };
        // One that listens does so for all of its ports.
        if let Some(bound) = socket.bound.take() {
            let taking = take_connections(bound.listen(BACKLOG)?, name.to_owned(), acceptor);
            socket.listening = Some(tokio::spawn(taking).abort_handle());
        }
        Ok(())
    }

    async fn unlisten(&self, _local: &Endpoint) {
        // The socket goes on, for its other ports; core tells dialers that nobody listens.
    }

    async fn connect(&self, dial: Dial) -> Result<Connection, ConnectError> {
        let Dial { local, remote, seed } = dial;
        let (name, to) = split(&remote).map_err(|error| ConnectError::Backend {
            remote: remote.clone(),
            protocol: "unix",
            source: error.into(),
        })?;
        let stream = UnixStream::connect(self.directory.join(name)).await.map_err(|error| {
            ConnectError::Unreachable { remote: remote.clone(), source: error.into() }
        })?;
        let (to, from) = (to.to_owned(), local.as_str().replacen("/unix", "", 1));
        stream::dial(stream, seed, Dialing { local, remote, to, from, peer: None }).await
    }

    async fn revoke(&self, local: &Endpoint) {
        let Ok((name, _)) = split(local) else { return };
        let mut sockets = self.sockets();
        let Some(socket) = sockets.get_mut(name) else { return };
        socket.ports.remove(local);
        if socket.ports.is_empty() {
            // First the file, so that nobody finds a socket that nobody serves.
            let _ = fs::remove_file(self.directory.join(name));
            if let Some(listening) = &socket.listening {
                listening.abort();
            }
            sockets.remove(name);
        }
    }
}

async fn take_connections(listener: UnixListener, name: String, acceptor: Acceptor) {
    for number in 1_u64.. {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: that passes.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        // Over the limit the connection is dropped, which costs least.
        let Some(handshake) = acceptor.handshake(None) else { continue };
        let (name, acceptor) = (name.clone(), acceptor.clone());
        tokio::spawn(async move {
            let _handshake = handshake;
            let attempt_of = |hello: &Hello| {
                let local = Endpoint::parse(&format!("/unix/{name}{}", hello.to))?;
                // Numbered: a port may dial many times, and a handler tells its connections apart.
                let remote = Endpoint::parse(&format!("/unix{}/from/{number}", hello.from))?;
                Ok::<_, EndpointError>(Attempt::new(local, remote))
            };
            // Whoever is turned down has been told why.
            let _ = stream::accept(stream, &acceptor, attempt_of).await;
        });
    }
}

/// The name of the socket's file, and what follows it.
fn split(endpoint: &Endpoint) -> Result<(&str, &str), NoSocket> {
    let name = endpoint.value_of("unix").ok_or_else(|| NoSocket(endpoint.clone()))?;
    Ok((name, &endpoint.as_str()["/unix/".len() + name.len()..]))
}
