//! A bound UDP address, which several ports share, to listen and to dial.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use network_core::Endpoint;
use network_tls::{Identity, Listening, Trust};
use quinn::{EndpointConfig, ServerConfig, TokioRuntime, crypto::rustls::QuicServerConfig};
use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use tokio::task::JoinHandle;

use crate::{address::endpoint_of, dialing::Pool, reset, session::Session, settings::Settings};

/// How long a socket may outlive its last port.
pub(crate) const FAREWELL: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) quic: quinn::Endpoint,
    address: SocketAddr,
    /// As ports are called here.
    transport: Endpoint,
    trust: Trust,
    /// `None` without anything to show: it can only dial.
    pub(crate) listening: Option<Listening>,
    pub(crate) pool: Pool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ports: HashSet<Endpoint>,
    /// What becomes of those who come: until somebody listens, they are refused.
    taking: Option<JoinHandle<()>>,
    listens: bool,
    closing: bool,
    /// All QUIC connections, those that were dialed and those that came in.
    sessions: HashMap<usize, Arc<Session>>,
}

impl Socket {
    /// Reserves an address; port 0 takes a free one. Needs a Tokio runtime.
    ///
    /// With an identity it resets the connections that an earlier process left at the address.
    pub(crate) fn bind(
        address: SocketAddr,
        trust: Trust,
        listening: Option<Listening>,
        identity: Option<&Identity>,
        settings: &Settings,
    ) -> io::Result<Self> {
        let socket = udp(address, settings)?;
        let address = socket.local_addr()?;
        let mut config = EndpointConfig::default();
        if let Some(identity) = identity {
            reset::follow(&mut config, identity, address).map_err(io::Error::other)?;
        }
        let quic = quinn::Endpoint::new(config, None, socket, Arc::new(TokioRuntime))?;
        let transport = endpoint_of(address, trust).map_err(io::Error::other)?;
        let state = State { taking: refuse(&quic, listening.as_ref())?, ..State::default() };
        let (pool, state) = (Pool::default(), Mutex::new(state));
        Ok(Self { quic, address, transport, trust, listening, pool, state })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn transport(&self) -> &Endpoint {
        &self.transport
    }

    pub(crate) fn trust(&self) -> Trust {
        self.trust
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

    /// Starts to take connections, unless it does so already.
    pub(crate) fn take_with(&self, begin: impl FnOnce() -> JoinHandle<()>) {
        let mut state = self.lock();
        if !state.listens {
            state.listens = true;
            if let Some(refusing) = state.taking.replace(begin()) {
                refusing.abort();
            }
        }
    }

    /// Keeps a session until [`forget`](Self::forget); false if there are so many already,
    /// or if it is being closed.
    pub(crate) fn keep(&self, session: &Arc<Session>, max: usize) -> bool {
        let mut state = self.lock();
        let room = !state.closing && state.sessions.len() < max;
        if room {
            state.sessions.insert(session.connection().stable_id(), session.clone());
        }
        room
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.lock().closing
    }

    pub(crate) fn forget(&self, session: &Arc<Session>) {
        self.lock().sessions.remove(&session.connection().stable_id());
    }

    /// Ends its QUIC connections, after what is on its way has got through. The address is free
    /// once what comes back is done: the other sides are told of the end again if they missed it
    /// (RFC 9000 §10.2), for up to three times the wait for an ack.
    pub(crate) async fn close(&self) -> JoinHandle<()> {
        let (taking, sessions) = {
            let mut state = self.lock();
            state.closing = true;
            (state.taking.take(), std::mem::take(&mut state.sessions))
        };
        // Handshakes that nobody answered have nobody to tell.
        let farewell = if sessions.is_empty() { FAREWELL / 30 } else { FAREWELL };
        let closing: Vec<_> = sessions
            .into_values()
            .map(|session| tokio::spawn(async move { session.close().await }))
            .collect();
        for one in closing {
            // It only fails with the runtime.
            let _ = one.await;
        }
        self.quic.close(0_u32.into(), b"");
        if let Some(taking) = taking {
            taking.abort();
            let _ = taking.await;
        }
        let quic = self.quic.clone();
        tokio::spawn(async move {
            let _ = tokio::time::timeout(farewell, quic.wait_idle()).await;
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(taking) = self.lock().taking.take() {
            taking.abort();
        }
    }
}

/// Tells those who come that nobody listens: without it they would wait for an answer.
fn refuse(
    quic: &quinn::Endpoint,
    listening: Option<&Listening>,
) -> io::Result<Option<JoinHandle<()>>> {
    let Some(listening) = listening else { return Ok(None) };
    let crypto = QuicServerConfig::try_from(listening.config.clone()).map_err(io::Error::other)?;
    quic.set_server_config(Some(ServerConfig::with_crypto(Arc::new(crypto))));
    let quic = quic.clone();
    Ok(Some(tokio::spawn(async move {
        while let Some(incoming) = quic.accept().await {
            incoming.refuse();
        }
    })))
}

fn udp(address: SocketAddr, settings: &Settings) -> io::Result<UdpSocket> {
    let socket = RawSocket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // As far as the system lets it: with the usual 208 KiB the kernel drops packets where many
    // connect at once, and a fifth of the connects came through in the same time.
    let _ = socket.set_recv_buffer_size(settings.socket_buffers);
    let _ = socket.set_send_buffer_size(settings.socket_buffers);
    socket.bind(&address.into())?;
    Ok(socket.into())
}
