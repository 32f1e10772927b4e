//! The dialing side: QUIC connections that are kept for the next who dials.

use std::{
    collections::HashMap,
    error::Error,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use network_core::{ConnectError, Endpoint, Family, Host, HostPort, Limits, Rejection};
use network_tls::{Dialer, Trust};
use quinn::{
    Connecting, Connection, ConnectionError, RecvStream, SendStream,
    crypto::rustls::QuicClientConfig,
};
use tokio::{net::lookup_host, time::timeout};

use crate::{
    address::{Address, AddressError},
    session::{CLOSED, Lease, Session, is_refusal},
    settings::Settings,
    socket::Socket,
    unordered::Expected,
};

/// The sessions of a socket that it dialed, by whom it dialed. Two addresses of one peer are two
/// sessions: they may be two processes.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<HashMap<(HostPort, Trust), Arc<Slot>>>);

/// Who dials first has the handshake; the others wait for it, and share what comes of it.
#[derive(Debug, Default)]
struct Slot {
    last: tokio::sync::Mutex<Option<Outcome>>,
    /// How often a handshake has failed.
    failures: AtomicU64,
}

/// Which part of the time for a handshake it is tried with early data. Quinn sets no timer while
/// nothing but early data waits for its ack, and if the listener may not say more before it hears
/// more (RFC 9000 §8.1), both wait. Whoever has sent a copy of the first packet from elsewhere has
/// the listener take no other with the same connection id, too.
const EARLY_SHARE: u32 = 4;

type Outcome = Result<Arc<Session>, Failure>;

/// Why there is no session, for all who waited for it.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The handshake failed.
    Quic(ConnectionError),
    /// Nobody answered for so long.
    Silent(Duration),
    /// The name has no address, as far as can be found out.
    Lookup(Arc<io::Error>),
    /// No address of the remote side can be dialed from here.
    Address(AddressError),
    /// QUIC takes no such configuration.
    Setup(Arc<dyn Error + Send + Sync>),
    /// The port was revoked meanwhile.
    Revoked,
}

impl Pool {
    fn slot(&self, to: &Address) -> Arc<Slot> {
        let (mut slots, key) = (self.lock(), (to.to.clone(), to.trust));
        if let Some(slot) = slots.get(&key) {
            return slot.clone();
        }
        // A dial that was given up has left its slot, which nobody else has.
        slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        slots.entry(key).or_default().clone()
    }

    /// Who dials next has a new slot.
    fn forget(&self, to: &Address, slot: &Arc<Slot>) {
        let mut slots = self.lock();
        let key = (to.to.clone(), to.trust);
        if slots.get(&key).is_some_and(|known| Arc::ptr_eq(known, slot)) {
            slots.remove(&key);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(HostPort, Trust), Arc<Slot>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a handshake needs.
pub(crate) struct Handshake<'a> {
    pub(crate) socket: &'a Arc<Socket>,
    pub(crate) to: &'a Address,
    pub(crate) local: &'a Endpoint,
    pub(crate) remote: &'a Endpoint,
    pub(crate) dialer: Dialer,
    pub(crate) settings: &'a Settings,
    pub(crate) limits: &'a Limits,
    /// What the first stream says, if it is to be said before the handshake is over.
    pub(crate) early: Option<Bytes>,
}

/// A stream on which the opening was said before the handshake was over, and which the listener
/// took.
pub(crate) struct Early {
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
    /// If it is for records without an order: they may come from now on.
    pub(crate) expected: Expected,
}

impl Handshake<'_> {
    /// A session that somebody has dialed before, or a new one.
    ///
    /// Cancel safe: who waits next has the handshake then.
    pub(crate) async fn session(&self) -> Result<(Arc<Session>, Lease, Option<Early>), Failure> {
        if !self.settings.pooling {
            let (session, lease, early) = self.dial_and_lease().await?;
            self.look_after(&session, Duration::ZERO, None);
            return Ok((session, lease, early));
        }
        let slot = self.socket.pool.slot(self.to);
        let failures = slot.failures.load(Ordering::Acquire);
        let mut last = slot.last.lock().await;
        match &*last {
            Some(Ok(session)) => {
                if let Some(lease) = session.lease() {
                    return Ok((session.clone(), lease, None));
                }
            }
            Some(Err(failure)) if slot.failures.load(Ordering::Acquire) > failures => {
                return Err(failure.clone());
            }
            _ => {}
        }
        let dialed = self.dial_and_lease().await;
        *last = Some(dialed.as_ref().map(|(session, ..)| session.clone()).map_err(Clone::clone));
        let (session, lease, early) = dialed.inspect_err(|_| {
            slot.failures.fetch_add(1, Ordering::AcqRel);
            // Who waits still has it.
            self.socket.pool.forget(self.to, &slot);
        })?;
        drop(last);
        // Before the listener does, so that nobody opens a stream that is lost.
        let idle = self.settings.pool_idle.min(self.limits.idle_time / 2);
        self.look_after(&session, idle, Some(slot));
        Ok((session, lease, early))
    }

    /// A new session, which nothing ends before somebody looks after it.
    async fn dial_and_lease(&self) -> Result<(Arc<Session>, Lease, Option<Early>), Failure> {
        let (session, early) = self.dial().await?;
        if let Some(lease) = session.lease() {
            return Ok((session, lease, early));
        }
        self.socket.forget(&session);
        // The remote side may have ended it by now, for want of room or as it goes.
        Err(session.connection().close_reason().map_or(Failure::Revoked, Failure::Quic))
    }

    /// Watches over a session until its end: closes it after a time of no use.
    fn look_after(&self, session: &Arc<Session>, idle: Duration, slot: Option<Arc<Slot>>) {
        let (session, socket, to) = (session.clone(), self.socket.clone(), self.to.clone());
        tokio::spawn(async move {
            session.serve(Some(idle), None).await;
            socket.forget(&session);
            if let Some(slot) = slot {
                socket.pool.forget(&to, &slot);
            }
        });
    }

    async fn dial(&self) -> Result<(Arc<Session>, Option<Early>), Failure> {
        let addresses = self.addresses().await?;
        let within = self.limits.handshake_time / addresses.len().max(1) as u32;
        let mut failure = Failure::Silent(within);
        for address in addresses {
            match timeout(within, self.dial_one(address, within)).await {
                Ok(Ok(dialed)) => return Ok(dialed),
                Ok(Err(error)) => failure = error,
                Err(_) => failure = Failure::Silent(within),
            }
        }
        Err(failure)
    }

    async fn dial_one(
        &self,
        address: SocketAddr,
        within: Duration,
    ) -> Result<(Arc<Session>, Option<Early>), Failure> {
        let connecting = self.connect_to(address)?;
        let handshake = self.handshake(connecting, within / EARLY_SHARE).await;
        let (connection, early) = match handshake.map_err(Failure::Quic)? {
            Some(done) => done,
            None => (self.connect_to(address)?.await.map_err(Failure::Quic)?, None),
        };
        let ip = self.socket.address().ip();
        let ip = if ip.is_unspecified() { ip_towards(address).unwrap_or(ip) } else { ip };
        let session = Session::new(
            connection,
            ip,
            self.dialer.peer.clone(),
            self.limits,
            self.settings.max_streams,
        );
        let session = session.map_err(|error| Failure::Setup(error.into()))?;
        session.want();
        // Those that are dialed are as many as this program wants.
        if !self.socket.keep(&session, usize::MAX) {
            session.connection().close(CLOSED, b"");
            return Err(Failure::Revoked);
        }
        let early = early.map(|(send, recv)| {
            let expected = session.unordered().expect(&session, send.id().index());
            Early { send, recv, expected }
        });
        Ok((session, early))
    }

    fn connect_to(&self, address: SocketAddr) -> Result<Connecting, Failure> {
        let crypto = QuicClientConfig::try_from(self.dialer.config.clone());
        let crypto = crypto.map_err(|error| Failure::Setup(Arc::new(error)))?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        let mut transport = self.settings.transport(self.limits);
        self.settings.log(&mut transport, "dialed", address);
        config.transport_config(Arc::new(transport));
        let name = self.dialer.name.to_str();
        let connecting = self.socket.quic.connect_with(config, address, &name);
        connecting.map_err(|error| Failure::Setup(Arc::new(error)))
    }

    /// Waits for the end of the handshake. The stream, if there is one, has the opening, and the
    /// listener took it before that. `None`: it was tried with early data, for so long.
    async fn handshake(
        &self,
        connecting: Connecting,
        early_time: Duration,
    ) -> Result<Option<(Connection, Option<(SendStream, RecvStream)>)>, ConnectionError> {
        let Some(opening) = &self.early else { return Ok(Some((connecting.await?, None))) };
        let (connection, accepted) = match connecting.into_0rtt() {
            Ok(early) => early,
            // It was not there before, or not lately.
            Err(connecting) => return Ok(Some((connecting.await?, None))),
        };
        let saying = async {
            let (mut send, recv) = connection.open_bi().await.ok()?;
            send.write_all(opening).await.ok()?;
            Some((send, recv))
        };
        // What cannot be said at once is not early.
        let said = timeout(Duration::ZERO, saying).await.ok().flatten();
        let Ok(accepted) = timeout(early_time, accepted).await else { return Ok(None) };
        match connection.close_reason() {
            // Who has turned early data down knows nothing of the stream: it is said again.
            None => Ok(Some((connection, said.filter(|_| accepted)))),
            Some(error) => Err(error),
        }
    }

    /// Where to try, one after the other.
    async fn addresses(&self) -> Result<Vec<SocketAddr>, Failure> {
        let HostPort { host, port } = &self.to.to;
        let ours = match self.socket.address() {
            SocketAddr::V4(_) => Family::V4,
            SocketAddr::V6(_) => Family::V6,
        };
        let found: Vec<_> = match host {
            Host::Ip(ip) => vec![SocketAddr::new(*ip, *port)],
            Host::Name(name, family) => {
                let found = lookup_host((name.as_str(), *port)).await;
                let found = found.map_err(|error| Failure::Lookup(Arc::new(error)))?;
                found.filter(|address| family.has(address)).collect()
            }
        };
        let found: Vec<_> = found.into_iter().filter(|address| ours.has(address)).collect();
        if found.is_empty() {
            let (local, remote) = (self.local.clone(), self.remote.clone());
            return Err(Failure::Address(AddressError::OtherFamily { local, remote }));
        }
        Ok(found)
    }

    /// What a failure means to who dialed.
    pub(crate) fn told(&self, failure: Failure) -> ConnectError {
        match failure {
            Failure::Quic(error) => self.refused(error),
            Failure::Silent(within) => self.silent(within),
            Failure::Lookup(error) => self.unreachable(io::Error::new(error.kind(), error)),
            Failure::Address(error) => self.failed(error),
            Failure::Setup(error) => self.failed(error),
            Failure::Revoked => ConnectError::Revoked { local: self.local.clone() },
        }
    }

    /// What a failed handshake means to who dialed.
    fn refused(&self, error: ConnectionError) -> ConnectError {
        let remote = self.remote.clone();
        match &error {
            _ if is_refusal(&error) => self.busy(),
            ConnectionError::TimedOut => self.silent(self.limits.idle_time),
            ConnectionError::TransportError(told) => match alert(told.code.into()) {
                Some(alert) if is_about_trust(alert) => {
                    ConnectError::Untrusted { remote, source: error.into() }
                }
                _ => ConnectError::Incompatible { remote, problem: error.to_string() },
            },
            ConnectionError::ConnectionClosed(told)
                if alert(told.error_code.into()) == Some(NO_APPLICATION_PROTOCOL) =>
            {
                let problem = "it speaks QUIC, but another protocol over it".to_owned();
                ConnectError::Incompatible { remote, problem }
            }
            ConnectionError::VersionMismatch => {
                ConnectError::Incompatible { remote, problem: error.to_string() }
            }
            _ => ConnectError::Unreachable { remote, source: error.into() },
        }
    }

    fn failed(&self, source: impl Into<network_core::BackendError>) -> ConnectError {
        let remote = self.remote.clone();
        ConnectError::Backend { remote, protocol: "quic", source: source.into() }
    }

    /// The other side takes no more QUIC connections.
    pub(crate) fn busy(&self) -> ConnectError {
        ConnectError::Rejected { remote: self.remote.clone(), reason: Rejection::Busy }
    }

    pub(crate) fn unreachable(&self, error: io::Error) -> ConnectError {
        ConnectError::Unreachable { remote: self.remote.clone(), source: error.into() }
    }

    /// UDP does not tell whether nobody is there or nothing gets through.
    fn silent(&self, within: Duration) -> ConnectError {
        let text = format!(
            "nobody answered within {within:?}: either nobody listens there, or UDP does not get \
             through"
        );
        self.unreachable(io::Error::new(io::ErrorKind::TimedOut, text))
    }
}

/// The address of this machine that the system dials another from: a socket of UDP that is
/// connected has said nothing yet.
fn ip_towards(address: SocketAddr) -> Option<IpAddr> {
    let any = match address {
        SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(address).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// The TLS alert that an error of QUIC stands for (RFC 9001 §4.8).
fn alert(code: u64) -> Option<u8> {
    code.checked_sub(0x100).and_then(|alert| alert.try_into().ok())
}

/// RFC 7301 §3.2.
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// Whether an alert is about a certificate, or about what it proves (RFC 8446 §6.2).
fn is_about_trust(alert: u8) -> bool {
    matches!(alert, 41..=49 | 51 | 113..=116)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_nobody_has_goes_with_the_next() {
        let address = |text: &str| Address::parse(&Endpoint::parse(text).unwrap()).unwrap();
        let pool = Pool::default();
        let one = pool.slot(&address("/ip4/192.0.2.1/udp/1/quic-v1"));
        drop(pool.slot(&address("/ip4/192.0.2.1/udp/2/quic-v1")));
        assert!(Arc::ptr_eq(&one, &pool.slot(&address("/ip4/192.0.2.1/udp/1/quic-v1/port/x"))));
        let _three = pool.slot(&address("/ip4/192.0.2.1/udp/3/quic-v1"));
        assert_eq!(pool.lock().len(), 2);
    }
}
