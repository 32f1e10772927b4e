//! The backend: addresses, listeners and connects.

use std::{
    collections::HashMap,
    io, mem,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use network_core::{
    Acceptor, BackendError, Capabilities, ConnectError, Connection, Dial, Endpoint, Host, HostPort,
    PortRevoked, ProtocolImpl, RoutePattern,
    stream::{self, Agreed, Dialing},
};
use network_tls::{Tls, TlsError, Trust};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{
    address::{Address, AddressError, endpoint_of, is_unordered, priority},
    dialing::{Early, Handshake},
    listening,
    session::Broken,
    settings::{Congestion, EarlyData, Settings},
    socket::{FAREWELL, Socket},
    stream::{Purpose, Stream},
    unordered,
};

/// The QUIC backend.
#[derive(Debug)]
pub struct Quic {
    tls: Tls,
    settings: Settings,
    sockets: Mutex<HashMap<SocketAddr, Arc<Socket>>>,
    parting: Mutex<HashMap<SocketAddr, Parting>>,
    next_name: AtomicU64,
}

impl Quic {
    /// A backend without any ports. `tls` says who this program is and whom it trusts: to
    /// listen, it needs an identity or a certificate.
    pub fn new(tls: Tls) -> Self {
        Self {
            tls,
            settings: Settings::default(),
            sockets: Mutex::default(),
            parting: Mutex::default(),
            next_name: AtomicU64::default(),
        }
    }

    /// Sets how a sender learns how much the path carries. Default: [`Congestion::Cubic`].
    #[must_use]
    pub fn with_congestion(mut self, congestion: Congestion) -> Self {
        self.settings.congestion = congestion;
        self
    }

    /// Has connections to where this side was before open a round trip sooner, with early data
    /// (0-RTT: RFC 8446 §2.3, RFC 9001 §4.6). Default: [`EarlyData::Never`]; both sides have to
    /// want it.
    ///
    /// Who dials says its opening, which names ports and limits, with the first packets of the
    /// handshake; who listens has its listener decide at once, and the answer goes out with its
    /// part of the handshake. **Records are never early data**: a sender has no connection before
    /// the handshake is over, and a listener opens none before. Where the listener does not know
    /// the session any more, or wants no early data, the opening is said again after the handshake
    /// and nobody sees a difference; after a quarter of `handshake_time` a handshake without early data
    /// is tried. What this gains is one round trip of the first connection over
    /// a new QUIC connection; those that share one have no handshake anyway.
    ///
    /// # What it costs
    /// Early data can be sent again by whoever has seen it on its way (RFC 8446 §8, RFC 9001
    /// §9.2). A listener takes a first flight as early data once, by a session that it then
    /// forgets, and what is sent again opens nothing. But whoever holds a first flight back, and
    /// sends it from elsewhere, has the listener asked *before* the dialer, who is turned down and
    /// asks again:
    ///
    /// - No handler sees a record twice, or one that was not sent on a finished handshake.
    /// - `on_accept` may be asked twice for one dial, about attempts that become no connection (as
    ///   attempts may in any case), and then for up to `handshake_time` the attempt has a place
    ///   among the connections that the policy lets this peer have. Do not let it do what must
    ///   not be done twice.
    /// - Such an attempt has the peer that the session was proved for, which its early data can
    ///   only be from; that the peer is there now, and at this `source`, is proved by the end of
    ///   the handshake. Its `remote` has no `/stream/…` yet, by which connections are told apart.
    /// - An early opening can be read by whoever gets hold of the keys of the session before it,
    ///   which the side that dialed keeps for a day at most and the listener for its last
    ///   4,096 sessions.
    ///
    /// A listener that takes early data keeps the sessions that it lets others resume, each with
    /// the certificate of its client, in memory; they end with the socket. The program's own
    /// configurations of rustls (`Tls::with_client_config`, `Tls::with_server_config`) are taken
    /// as they are: there it takes early data what they take.
    #[must_use]
    pub fn with_early_data(mut self, early_data: EarlyData) -> Self {
        self.settings.early_data = early_data;
        self
    }

    /// Keeps no order among the records of connections that are dialed, as where the endpoint
    /// says `…/unordered/VERSION`: each has a stream of its own, so that a lost packet or a long
    /// record holds up no other. A record costs more.
    #[must_use]
    pub fn unordered(mut self) -> Self {
        self.settings.unordered = true;
        self
    }

    /// Has a QUIC connection, with a handshake of its own, for each connection. They share
    /// neither congestion control nor fate; each costs a handshake and some 100 KiB.
    #[must_use]
    pub fn without_pooling(mut self) -> Self {
        self.settings.pooling = false;
        self
    }

    /// Sets how long a QUIC connection that was dialed stays open without a connection on it.
    /// Default: 20 seconds, and never more than half of [`Limits::idle_time`], for which a
    /// listener keeps one.
    ///
    /// [`Limits::idle_time`]: network_core::Limits::idle_time
    #[must_use]
    pub fn with_pool_idle(mut self, time: Duration) -> Self {
        self.settings.pool_idle = time;
        self
    }

    /// Sets how many bytes a UDP socket buffers in each direction, as far as the system allows
    /// it. Default: 4 MiB.
    #[must_use]
    pub fn with_socket_buffers(mut self, bytes: usize) -> Self {
        self.settings.socket_buffers = bytes;
        self
    }

    /// Sets how many streams the other side of a QUIC connection may have open at a time: how
    /// many connections it may dial. Default: 4,096.
    #[must_use]
    pub fn with_max_streams(mut self, max: u32) -> Self {
        self.settings.max_streams = max;
        self
    }

    /// Writes a log of each QUIC connection to a file of its own in this folder, which is made if
    /// it is not there: in the format
    /// [qlog](https://datatracker.ietf.org/doc/draft-ietf-quic-qlog-main-schema/) (JSON text
    /// sequences), for tools such as [qvis](https://qvis.quictools.info). The names are
    /// `TIME-PROCESS-NUMBER-dialed.sqlog` and `…-accepted.sqlog`; nothing is overwritten. Off by
    /// default.
    ///
    /// For looking into something, and no more: each packet is a line of some 200 bytes, written
    /// by the thread that handles it, and a connection has an open file and 8 KiB more of memory.
    /// Nothing bounds or removes the files. A file is complete when its QUIC connection has
    /// ended, which may be some seconds after the last connection over it. Where no file can be
    /// written, a warning says so and the connection goes on without.
    ///
    /// A log has times, sizes and connection ids, and the other side's address; no keys and
    /// nothing of the records. On Unix only its owner can read it.
    ///
    /// # Errors
    /// The folder cannot be made.
    #[cfg(feature = "qlog")]
    pub fn with_qlog(
        mut self,
        folder: impl Into<std::path::PathBuf>,
    ) -> Result<Self, crate::QlogError> {
        self.settings.qlog = Some(Arc::new(crate::qlog::Folder::new(folder.into())?));
        Ok(self)
    }

    /// Sets how many ports may share one socket. Default: 4,096.
    #[must_use]
    pub fn with_max_ports_per_socket(mut self, max: usize) -> Self {
        self.settings.max_ports_per_socket = max;
        self
    }

    fn sockets(&self) -> MutexGuard<'_, HashMap<SocketAddr, Arc<Socket>>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn socket_of(&self, local: &Endpoint) -> Option<Arc<Socket>> {
        let address = Address::parse(local).ok()?;
        let Host::Ip(ip) = address.to.host else {
            return None;
        };
        self.sockets().get(&SocketAddr::new(ip, address.to.port)).cloned()
    }

    /// The sockets that have no ports any more, and may still say goodbye.
    fn parting(&self) -> MutexGuard<'_, HashMap<SocketAddr, Parting>> {
        let mut parting = self.parting.lock().unwrap_or_else(PoisonError::into_inner);
        // A moment more: the socket goes after its last word.
        parting.retain(|_, (since, _)| since.elapsed() < 2 * FAREWELL);
        parting
    }

    async fn part(&self, socket: &Socket) {
        let parting = (Instant::now(), socket.close().await);
        self.parting().insert(socket.address(), parting);
    }

    fn is_parting(&self, wanted: &Endpoint) -> bool {
        let Ok(Address { to: HostPort { host: Host::Ip(ip), port }, .. }) = Address::parse(wanted)
        else {
            return false;
        };
        self.parting().contains_key(&SocketAddr::new(ip, port))
    }

    fn fresh_path(&self, path: &str) -> String {
        let number = self.next_name.fetch_add(1, Ordering::Relaxed) + 1;
        format!("{path}port{number}")
    }

    fn try_bind(&self, wanted: &Endpoint) -> Result<Endpoint, BackendError> {
        let address = Address::parse(wanted)?;
        let Host::Ip(ip) = address.to.host else {
            return Err(AddressError::NameToBind(wanted.clone()).into());
        };
        let at = SocketAddr::new(ip, address.to.port);
        let mut sockets = self.sockets();
        let shared = if at.port() == 0 { None } else { sockets.get(&at).cloned() };
        let socket = match shared {
            Some(socket) if address.trust == Trust::Name || socket.trust() == address.trust => {
                socket
            }
            Some(_) => return Err(AddressError::OtherTrust(wanted.clone()).into()),
            None => Arc::new(self.bind_socket(at, address.trust, wanted)?),
        };
        let (count, max) = (socket.ports() + 1, self.settings.max_ports_per_socket);
        if count > max {
            return Err(AddressError::TooManyPorts { endpoint: wanted.clone(), count, max }.into());
        }
        let mut path = address.path.clone();
        let port = loop {
            if address.path.ends_with('/') {
                path = self.fresh_path(&address.path);
            }
            let port = socket.transport().join(&path)?;
            if socket.add(&port) || !address.path.ends_with('/') {
                break port;
            }
        };
        sockets.insert(socket.address(), socket);
        Ok(port)
    }

    fn bind_socket(
        &self,
        at: SocketAddr,
        trust: Trust,
        wanted: &Endpoint,
    ) -> Result<Socket, BackendError> {
        let listening = match self.tls.listening(trust) {
            Ok(listening) if self.settings.early_data.listens() => {
                Some(listening.with_early_data())
            }
            Ok(listening) => Some(listening),
            // It can still dial those that are known by a name.
            Err(TlsError::NoCertificate) => None,
            Err(error) => return Err(error.into()),
        };
        let trust = listening.as_ref().map_or(trust, |listening| listening.trust);
        let identity = self.tls.identity();
        Socket::bind(at, trust, listening, identity, &self.settings)
            .map_err(|error| told(error, wanted))
    }
}

/// When a socket was closed, and what ends when it has said goodbye.
type Parting = (Instant, JoinHandle<()>);

#[async_trait]
impl ProtocolImpl for Quic {
    fn name(&self) -> &'static str {
        "quic"
    }

    fn patterns(&self) -> Vec<RoutePattern> {
        ["ip4", "ip6", "dns", "dns4", "dns6"]
            .into_iter()
            .filter_map(|host| RoutePattern::parse(&format!("/{host}/*/udp/*/quic-v1")).ok())
            .collect()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::STREAM.with_ordered(!self.settings.unordered)
    }

    async fn bind(&self, wanted: &Endpoint) -> Result<Endpoint, BackendError> {
        let until = Instant::now() + FAREWELL;
        loop {
            let bound = self.try_bind(wanted);
            let told = bound.as_ref().err().and_then(|error| error.downcast_ref());
            // A socket of this backend may have it that is about to end.
            let ours = matches!(told, Some(AddressError::InUse(_))) && self.is_parting(wanted);
            if !ours || Instant::now() >= until {
                return bound;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn listen(&self, local: &Endpoint, acceptor: Acceptor) -> Result<(), BackendError> {
        let socket = self.socket_of(local).ok_or(io::ErrorKind::AddrNotAvailable);
        let socket = socket.map_err(io::Error::from)?;
        let listening = socket.listening.clone().ok_or(TlsError::NoCertificate)?;
        listening::listen(&socket, listening, acceptor, &self.settings)
    }

    async fn unlisten(&self, _local: &Endpoint) {
        // The socket goes on listening, for other ports and so that dialers are told why
        // nobody is there. It ends with its last port.
    }

    async fn connect(&self, dial: Dial) -> Result<Connection, ConnectError> {
        let Dial { local, remote, seed } = dial;
        let failed = |source: BackendError| ConnectError::Backend {
            remote: remote.clone(),
            protocol: "quic",
            source,
        };
        let to = Address::parse(&remote).map_err(|error| failed(error.into()))?;
        let from = Address::parse(&local).map_err(|error| failed(error.into()))?;
        if to.to.port == 0 {
            return Err(failed(AddressError::NoPort(remote.clone()).into()));
        }
        let socket = self.socket_of(&local);
        let socket = socket.ok_or_else(|| ConnectError::Revoked { local: local.clone() })?;
        let dialer = self.tls.dialer(&to.to.host, to.trust);
        let mut dialer = dialer.map_err(|error| failed(error.into()))?;
        let limits = seed.limits().clone();
        let mut dialing = Dialing {
            local: local.clone(),
            remote: remote.clone(),
            to: to.path.clone(),
            from: from.path.clone(),
            peer: dialer.peer.clone(),
        };
        let priority = priority(&to.path).map_err(|error| failed(error.into()))?;
        let any_order = self.settings.unordered || is_unordered(&to.path);
        let purpose = if any_order { Purpose::Unordered } else { Purpose::Ordered };
        let mut early = None;
        if self.settings.early_data.dials() {
            dialer = dialer.with_early_data();
            early = Some([&[purpose as u8], &dialing.hello(&limits)[..]].concat().into());
        }
        let handshake = Handshake {
            socket: &socket,
            to: &to,
            local: &local,
            remote: &remote,
            dialer,
            settings: &self.settings,
            limits: &limits,
            early,
        };
        let own = self.tls.own(to.trust);
        // A pooled session may have ended without this side's knowing, once.
        for last in [false, true] {
            let session = Box::pin(handshake.session()).await;
            let (session, lease, early) = session.map_err(|failure| handshake.told(failure))?;
            let here = SocketAddr::new(session.local_ip(), socket.address().port());
            let here = endpoint_of(here, own);
            let here = here.and_then(|here| here.join(&from.path));
            let here = here.map_err(|error| failed(error.into()))?;
            let mut expected = None;
            let opened = match early {
                Some(Early { send, recv, expected: records }) => {
                    let name = session.opener(&here, send.id().index());
                    dialing.local = name.map_err(failed)?;
                    expected = any_order.then_some(records);
                    Ok(Stream::new(send, recv, lease))
                }
                None => {
                    let opened = session.open(lease, purpose, |stream| {
                        dialing.local = session.opener(&here, stream)?;
                        // Records may come before the answer of the listener.
                        let expect = || session.unordered().expect(&session, stream);
                        expected = any_order.then(expect);
                        Ok(dialing.hello(&limits))
                    });
                    opened.await
                }
            };
            match opened {
                Ok(mut stream) => {
                    let _expectation = session.expect();
                    stream.set_priority(priority);
                    match stream::ask(&mut stream, &limits, &dialing).await {
                        Ok((mut info, begun)) => {
                            info.path = Some(session.path());
                            let agreed = Agreed { seed, info, begun };
                            let opened = match expected {
                                Some(expected) => {
                                    unordered::open(stream, expected, agreed, priority)
                                }
                                None => stream::drive(stream, agreed),
                            };
                            let revoked = |PortRevoked| ConnectError::Revoked { local };
                            return opened.map_err(revoked);
                        }
                        Err(_) if !last && session.was_forgotten() => {}
                        Err(_) if session.was_refused() => return Err(handshake.busy()),
                        Err(error) => return Err(error),
                    }
                }
                Err(Broken::Session(_) | Broken::Stream(_)) if session.was_refused() => {
                    return Err(handshake.busy());
                }
                Err(Broken::Session(_)) if !last => {}
                Err(Broken::Session(error)) => return Err(handshake.unreachable(error.into())),
                Err(Broken::Stream(error)) => return Err(handshake.unreachable(error)),
                Err(Broken::Opening(error)) => return Err(failed(error)),
            }
        }
        Err(handshake.unreachable(io::ErrorKind::ConnectionAborted.into()))
    }

    async fn revoke(&self, local: &Endpoint) {
        if let Some(socket) = self.socket_of(local)
            && socket.remove(local)
        {
            self.sockets().remove(&socket.address());
            self.part(&socket).await;
        }
    }

    async fn shutdown(&self) {
        let sockets = mem::take(&mut *self.sockets());
        for socket in sockets.values() {
            self.part(socket).await;
        }
        let parting = mem::take(&mut *self.parting());
        for (_, parting) in parting.into_values() {
            // It only fails with the runtime.
            let _ = parting.await;
        }
    }
}

/// What to do about an address that cannot be had.
fn told(error: io::Error, endpoint: &Endpoint) -> BackendError {
    match error.kind() {
        io::ErrorKind::AddrInUse => AddressError::InUse(endpoint.clone()).into(),
        io::ErrorKind::AddrNotAvailable => AddressError::NotHere(endpoint.clone()).into(),
        _ => error.into(),
    }
}
