//! The backend: addresses, listeners and connects.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use network_core::{
    Acceptor, BackendError, Capabilities, ConnectError, Connection, Dial, Endpoint, Family, Host,
    ProtocolImpl, RoutePattern,
    stream::{self, Dialing},
};
use tokio::net::{TcpStream, lookup_host};

#[cfg(feature = "tls")]
use crate::tls;
use crate::{
    address::{Address, AddressError, Security},
    socket::{Opening, Socket},
};

/// The TCP backend: records over TCP, plain or over TLS.
#[derive(Debug)]
pub struct Tcp {
    #[cfg(feature = "tls")]
    tls: Option<network_tls::Tls>,
    sockets: Mutex<HashMap<SocketAddr, Arc<Socket>>>,
    next_name: AtomicU64,
    max_ports_per_socket: usize,
}

impl Default for Tcp {
    fn default() -> Self {
        Self {
            #[cfg(feature = "tls")]
            tls: None,
            sockets: Mutex::default(),
            next_name: AtomicU64::default(),
            max_ports_per_socket: 4_096,
        }
    }
}

impl Tcp {
    /// A backend without any ports, for plain TCP.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many ports may share one socket. Default: 4,096.
    #[must_use]
    pub fn with_max_ports_per_socket(mut self, max: usize) -> Self {
        self.max_ports_per_socket = max;
        self
    }

    /// Speaks TLS where an endpoint asks for it, with `/tls` or `/tls/p2p/PEER`.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(mut self, tls: network_tls::Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    #[cfg(feature = "tls")]
    fn tls(&self, endpoint: &Endpoint) -> Result<&network_tls::Tls, AddressError> {
        self.tls.as_ref().ok_or_else(|| AddressError::NoTls(endpoint.clone()))
    }

    fn sockets(&self) -> MutexGuard<'_, HashMap<SocketAddr, Arc<Socket>>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn socket_of(&self, local: &Endpoint) -> Option<Arc<Socket>> {
        let address = Address::parse(local).ok()?;
        let Host::Ip(ip) = address.host else {
            return None;
        };
        self.sockets().get(&SocketAddr::new(ip, address.port)).cloned()
    }

    fn fresh_path(&self, path: &str) -> String {
        let number = self.next_name.fetch_add(1, Ordering::Relaxed) + 1;
        format!("{path}port{number}")
    }
}

#[async_trait]
impl ProtocolImpl for Tcp {
    fn name(&self) -> &'static str {
        "tcp"
    }

    fn patterns(&self) -> Vec<RoutePattern> {
        ["ip4", "ip6", "dns", "dns4", "dns6"]
            .into_iter()
            .filter_map(|host| RoutePattern::parse(&format!("/{host}/*/tcp/*")).ok())
            .collect()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::STREAM
    }

    async fn bind(&self, wanted: &Endpoint) -> Result<Endpoint, BackendError> {
        let address = Address::parse(wanted)?;
        let Host::Ip(ip) = address.host else {
            return Err(AddressError::NameToBind(wanted.clone()).into());
        };
        let wanted_address = SocketAddr::new(ip, address.port);
        let (opening, security) = match address.security {
            Security::Plain => (Opening::Plain, Security::Plain),
            #[cfg(feature = "tls")]
            Security::Tls(trust) => {
                let listening = self.tls(wanted)?.listening(trust)?;
                let security = Security::Tls(listening.trust);
                (Opening::Tls(listening), security)
            }
        };
        let mut sockets = self.sockets();
        let shared = if address.port == 0 { None } else { sockets.get(&wanted_address).cloned() };
        let socket = match shared {
            Some(socket) if socket.security() == security => socket,
            Some(_) => return Err(AddressError::OtherSecurity(wanted.clone()).into()),
            None => {
                let bound = Socket::bind(wanted_address, opening, security);
                Arc::new(bound.map_err(|error| told(error, wanted))?)
            }
        };
        let (count, max) = (socket.ports() + 1, self.max_ports_per_socket);
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

    async fn listen(&self, local: &Endpoint, acceptor: Acceptor) -> Result<(), BackendError> {
        let socket = self.socket_of(local).ok_or(io::ErrorKind::AddrNotAvailable);
        let socket = socket.map_err(io::Error::from)?;
        socket.listen(acceptor).map_err(|error| told(error, local))
    }

    async fn unlisten(&self, _local: &Endpoint) {
        // The socket goes on listening, for other ports and so that dialers are told why
        // nobody is there. It ends with its last port.
    }

    async fn connect(&self, dial: Dial) -> Result<Connection, ConnectError> {
        let Dial { local, remote, seed } = dial;
        let failed = |source: BackendError| ConnectError::Backend {
            remote: remote.clone(),
            protocol: "tcp",
            source,
        };
        let to = Address::parse(&remote).map_err(|error| failed(error.into()))?;
        let from = Address::parse(&local).map_err(|error| failed(error.into()))?;
        if to.port == 0 {
            return Err(failed(AddressError::NoPort(remote.clone()).into()));
        }
        #[cfg(feature = "tls")]
        let dialer = match to.security {
            Security::Plain => None,
            Security::Tls(trust) => {
                let tls = self.tls(&remote).map_err(|error| failed(error.into()))?;
                let dialer = tls.dialer(&to.host, trust);
                Some(dialer.map_err(|error| failed(error.into()))?)
            }
        };
        let stream = open(&to, &remote).await.map_err(|error| ConnectError::Unreachable {
            remote: remote.clone(),
            source: error.into(),
        })?;
        // Without it small frames would wait for acks of the kernel.
        let _ = stream.set_nodelay(true);
        let own = stream.local_addr().map_err(|error| failed(error.into()))?;
        let local = self
            .own_security(to.security)
            .endpoint_of(own)
            .and_then(|transport| transport.join(&from.path))
            .map_err(|error| failed(error.into()))?;
        let dialing =
            Dialing { local, remote: remote.clone(), to: to.path, from: from.path, peer: None };
        #[cfg(feature = "tls")]
        if let Some(dialer) = dialer {
            let hello = dialing.hello(seed.limits());
            // Boxed: a plain connect needs no room for it.
            return Box::pin(async {
                let peer = dialer.peer.clone();
                let stream = tls::dial(dialer, stream, &hello, &remote).await?;
                stream::dial_after_hello(stream, seed, Dialing { peer, ..dialing }).await
            })
            .await;
        }
        stream::dial(stream, seed, dialing).await
    }

    async fn revoke(&self, local: &Endpoint) {
        if let Some(socket) = self.socket_of(local)
            && socket.remove(local)
        {
            self.sockets().remove(&socket.address());
            socket.close().await;
        }
    }

    async fn shutdown(&self) {
        let sockets = std::mem::take(&mut *self.sockets());
        for socket in sockets.values() {
            socket.close().await;
        }
    }
}

impl Tcp {
    /// What this side of a connection shows that is secured so at the other.
    fn own_security(&self, remote: Security) -> Security {
        #[cfg(feature = "tls")]
        if let (Security::Tls(trust), Some(tls)) = (remote, &self.tls) {
            return Security::Tls(tls.own(trust));
        }
        remote
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

async fn open(to: &Address, remote: &Endpoint) -> io::Result<TcpStream> {
    match &to.host {
        Host::Ip(ip) => TcpStream::connect((*ip, to.port)).await,
        // Boxed: it is large, and most connects do not need it.
        Host::Name(name, family) => Box::pin(open_by_name(name, *family, to.port, remote)).await,
    }
}

/// Connects to the first address of the host that answers.
async fn open_by_name(
    name: &str,
    family: Family,
    port: u16,
    remote: &Endpoint,
) -> io::Result<TcpStream> {
    let mut problem = io::Error::other(AddressError::NoAddress(remote.clone()));
    for address in lookup_host((name, port)).await?.filter(|address| family.has(address)) {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => problem = error,
        }
    }
    Err(problem)
}
