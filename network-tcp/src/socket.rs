//! A bound TCP address, which several ports may share.

use std::{
    collections::HashSet,
    io, mem,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use network_core::{Acceptor, Attempt, Endpoint, EndpointError, stream};
use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::address::{endpoint_of, with_path};

/// How many connections may wait in the kernel to be taken.
const BACKLOG: i32 = 1024;

/// How long to wait after the system had no room for another connection.
const BREATHER: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(crate) struct Socket {
    address: SocketAddr,
    transport: Endpoint,
    state: Mutex<State>,
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
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
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
        let transport = endpoint_of(address).map_err(io::Error::other)?;
        let state = State { ports: HashSet::new(), stage: Stage::Bound(socket) };
        Ok(Self { address, transport, state: Mutex::new(state) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn transport(&self) -> &Endpoint {
        &self.transport
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
        let taking = tokio::spawn(take_connections(listener, self.transport.clone(), acceptor));
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

async fn take_connections(listener: TcpListener, transport: Endpoint, acceptor: Acceptor) {
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or the connection went away again: neither is for ever.
                tracing::debug!(%transport, %error, "cannot take a connection");
                tokio::time::sleep(BREATHER).await;
                continue;
            }
        };
        // Over the limit the connection is dropped unread: anything else would cost more.
        let Some(handshake) = acceptor.handshake() else {
            continue;
        };
        let (transport, acceptor) = (transport.clone(), acceptor.clone());
        tokio::spawn(async move {
            let _handshake = handshake;
            if let Err(rejection) = take_connection(stream, from, transport, &acceptor).await {
                tracing::debug!(%from, %rejection, "turned down");
            }
        });
    }
}

async fn take_connection(
    stream: TcpStream,
    from: SocketAddr,
    transport: Endpoint,
    acceptor: &Acceptor,
) -> Result<(), network_core::Rejection> {
    // Without it small frames would wait for acks of the kernel; with it missing, they are slow.
    let _ = stream.set_nodelay(true);
    let attempt_of = |hello: &network_core::wire::Hello| -> Result<Attempt, EndpointError> {
        let local = with_path(&transport, &hello.to)?;
        let remote = with_path(&endpoint_of(from)?, &hello.from)?;
        Ok(Attempt::new(local, remote))
    };
    stream::accept(stream, acceptor, attempt_of).await.map(drop)
}
