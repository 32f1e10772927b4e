//! The listening side: QUIC connections that come in, and the streams of any.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use bytes::{Buf, Bytes};
use network_core::{
    Acceptor, Attempt, BackendError, Endpoint, Handshake, Peer, Rejection,
    stream::{self, Agreed},
    wire::Hello,
};
use network_tls::{Listening, TlsError, Trust};
use quinn::{
    Connecting, Connection, ConnectionError, Incoming, RecvStream, SendStream,
    crypto::rustls::QuicServerConfig, rustls::pki_types::CertificateDer,
};
use tokio::{sync::oneshot, time::timeout};

use crate::{
    address::{endpoint_of, priority},
    session::{CLOSED, Inbound, Lease, Session, Undecided},
    settings::Settings,
    socket::Socket,
    stream::{Arrived, Purpose, ResetCode, Stream, look_at},
    unordered::{self, Expected},
};

/// From so many handshakes in progress on, who comes has to show that it is where it says to be
/// (RFC 9000 §8.1.2): a round trip more for the honest, and no flood from forged addresses.
const RETRY_FROM: usize = 64;

/// The same for one address: whoever forges it has so much of its share, and no more.
const RETRY_FROM_SOURCE: usize = 4;

/// How many bytes of handshakes that nobody looked at yet are kept in memory.
const INCOMING_BYTES: u64 = 4 << 20;

/// What is needed to take connections.
pub(crate) struct Taker {
    transport: Endpoint,
    listening: Listening,
    acceptor: Acceptor,
    quic: quinn::Endpoint,
    config: quinn::ServerConfig,
    settings: Settings,
    socket: std::sync::Weak<Socket>,
    in_progress: Mutex<InProgress>,
}

/// How many handshakes are in progress.
#[derive(Default)]
struct InProgress {
    all: usize,
    /// From sources that nobody has proved to be there.
    unproved: HashMap<IpAddr, usize>,
}

/// One of them, until it is dropped.
struct Counted {
    taker: Arc<Taker>,
    unproved: Option<IpAddr>,
}

impl Counted {
    /// `None` for one that has to prove first where it is.
    fn of(taker: &Arc<Taker>, source: IpAddr, proved: bool) -> Option<Self> {
        let mut now = taker.in_progress();
        if !proved {
            let from_there = now.unproved.get(&source).copied().unwrap_or_default();
            if now.all >= RETRY_FROM || from_there >= RETRY_FROM_SOURCE {
                return None;
            }
            now.unproved.insert(source, from_there + 1);
        }
        now.all += 1;
        Some(Self { taker: taker.clone(), unproved: (!proved).then_some(source) })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut now = self.taker.in_progress();
        now.all -= 1;
        if let Some(source) = self.unproved
            && let Some(count) = now.unproved.get_mut(&source)
        {
            *count -= 1;
            if *count == 0 {
                now.unproved.remove(&source);
            }
        }
    }
}

/// Starts to take connections. Core decides which port they are for.
pub(crate) fn listen(
    socket: &Arc<Socket>,
    listening: Listening,
    acceptor: Acceptor,
    settings: &Settings,
) -> Result<(), BackendError> {
    let crypto = QuicServerConfig::try_from(listening.config.clone())?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let limits = acceptor.limits();
    config
        .transport_config(Arc::new(settings.transport(limits)))
        .max_incoming(limits.max_handshakes)
        .incoming_buffer_size_total(INCOMING_BYTES);
    socket.take_with(|| {
        let quic = socket.quic.clone();
        quic.set_server_config(Some(config.clone()));
        let taker = Taker {
            transport: socket.transport().clone(),
            listening,
            acceptor,
            quic,
            config,
            settings: settings.clone(),
            socket: Arc::downgrade(socket),
            in_progress: Mutex::default(),
        };
        tokio::spawn(Arc::new(taker).run())
    });
    Ok(())
}

impl Taker {
    fn in_progress(&self) -> MutexGuard<'_, InProgress> {
        self.in_progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(self: Arc<Self>) {
        while let Some(incoming) = self.quic.accept().await {
            let from = incoming.remote_address();
            let proved = incoming.remote_address_validated();
            let Some(counted) = Counted::of(&self, from.ip(), proved) else {
                // It may not if it was made to before, and then it is proved.
                let _ = incoming.retry();
                continue;
            };
            let open = self.socket.upgrade().is_some_and(|socket| !socket.is_closing());
            let handshake = self.acceptor.handshake(Some(from.ip())).filter(|_| open);
            let Some(handshake) = handshake else {
                incoming.refuse();
                continue;
            };
            let host = Arc::new(Host { taker: self.clone(), from });
            tokio::spawn(async move {
                let mut handshake = Some(handshake);
                let session = host.handshake(incoming, &mut handshake).await;
                drop(counted);
                match session {
                    Ok((session, socket)) => {
                        let idle = host.taker.acceptor.limits().idle_time;
                        session.serve(Some(idle), Some((host, handshake))).await;
                        socket.forget(&session);
                    }
                    Err(reason) => tracing::debug!(%from, reason, "turned down"),
                }
            });
        }
    }

    fn accept(&self, incoming: Incoming) -> Result<Connecting, ConnectionError> {
        if !self.settings.logs() {
            return incoming.accept();
        }
        // A log is part of the configuration.
        let mut transport = self.settings.transport(self.acceptor.limits());
        self.settings.log(&mut transport, "accepted", incoming.remote_address());
        let mut config = self.config.clone();
        config.transport_config(Arc::new(transport));
        incoming.accept_with(Arc::new(config))
    }

    /// Who is at the other end, as far as the handshake has come.
    fn peer_of(&self, connection: &Connection) -> Result<Option<Peer>, TlsError> {
        let shown = connection.peer_identity();
        let shown = shown.as_ref().and_then(|any| any.downcast_ref::<Vec<CertificateDer<'_>>>());
        Ok(self.listening.peer_of(shown.map(Vec::as_slice))?.map(Peer::Id))
    }
}

/// Who listens where a session came in.
pub(crate) struct Host {
    taker: Arc<Taker>,
    from: SocketAddr,
}

impl Host {
    async fn handshake(
        self: &Arc<Self>,
        incoming: Incoming,
        counted: &mut Option<Handshake>,
    ) -> Result<(Arc<Session>, Arc<Socket>), String> {
        let taker = &self.taker;
        let limits = taker.acceptor.limits();
        let (connection, early) =
            timeout(limits.handshake_time, self.connection(incoming, counted))
                .await
                .map_err(|_| "its handshake took too long".to_owned())?
                .map_err(|error| format!("its handshake failed: {error}"))?;
        let peer = taker.peer_of(&connection).map_err(|error| error.to_string())?;
        let socket = taker.socket.upgrade().ok_or("the socket is closed")?;
        let ip = connection.local_ip().unwrap_or(socket.address().ip());
        let session = Session::new(connection, ip, peer, limits, taker.settings.max_streams);
        let session = session.map_err(|error| error.to_string())?;
        // More than connections: who asks for one too many has to be told so over something, and
        // a session without a connection does not take the place of one.
        let most = limits.max_connections.saturating_add(limits.max_handshakes);
        if !socket.keep(&session, most) {
            let code = if socket.is_closing() { CLOSED } else { ResetCode::Refused.into() };
            session.connection().close(code, b"no more connections");
            return Err("there are too many QUIC connections, or there are to be none".to_owned());
        }
        if let Some(Early { stream, confirm, unconfirmed }) = early
            && let Some(lease) = session.lease()
        {
            unconfirmed.keep();
            let confirmed = Confirmed {
                undecided: session.deciding(),
                // Before any record can come.
                expected: session.unordered().expect(&session, stream),
                inbound: session.came_in(),
                lease,
                session: session.clone(),
            };
            // It may be turned down by now.
            let _ = confirm.send(confirmed);
        }
        Ok((session, socket))
    }

    /// A connection after its handshake, and the stream that came before that.
    async fn connection(
        self: &Arc<Self>,
        incoming: Incoming,
        counted: &mut Option<Handshake>,
    ) -> Result<(Connection, Option<Early>), ConnectionError> {
        let connecting = self.taker.accept(incoming)?;
        if !self.taker.settings.early_data.listens() {
            return Ok((connecting.await?, None));
        }
        let (connection, over) = match connecting.into_0rtt() {
            Ok(early) => early,
            Err(connecting) => return Ok((connecting.await?, None)),
        };
        let mut over = pin!(over);
        let first = tokio::select! {
            biased;
            _ = &mut over => None,
            // Before the handshake is over nothing else comes (RFC 9001 §5.7).
            first = connection.accept_bi() => Some(first?),
        };
        let mut early = None;
        if let Some((send, recv)) = first {
            // The stream keeps it, whatever becomes of this.
            let unconfirmed = Unconfirmed(Some(connection.clone()));
            let (confirm, confirmed) = oneshot::channel();
            early = Some(Early { stream: recv.id().index(), confirm, unconfirmed });
            let (host, connection, counted) = (self.clone(), connection.clone(), counted.take());
            tokio::spawn(async move {
                let _counted = counted;
                host.take_early(connection, send, recv, confirmed).await;
            });
            let _ = over.await;
        }
        match connection.close_reason() {
            Some(error) => Err(error),
            None => Ok((connection, early)),
        }
    }

    /// Decides over a connection before the handshake is over, and opens it when that is over.
    ///
    /// The opening is from whom the session that is resumed was proved for, but it may be sent
    /// again by others: so nothing but the decision comes of it before the end of the handshake
    /// (RFC 8446 §8).
    async fn take_early(
        &self,
        connection: Connection,
        send: SendStream,
        mut recv: RecvStream,
        confirmed: oneshot::Receiver<Confirmed>,
    ) {
        let acceptor = &self.taker.acceptor;
        let id = recv.id().index();
        let mut begun = Bytes::new();
        let purpose = purpose(&mut recv, &mut begun);
        let purpose = timeout(acceptor.limits().handshake_time, purpose).await.unwrap_or_default();
        let stream = Stream::early(send, recv, begun);
        let peer = self.taker.peer_of(&connection);
        drop(connection);
        let (Some(purpose @ (Purpose::Ordered | Purpose::Unordered)), Ok(peer)) = (purpose, peer)
        else {
            return stream.reset(ResetCode::Refused);
        };
        let attempt = |hello: &Hello| self.attempt(hello, peer.as_ref(), Ok);
        let decided = stream::decide(stream, acceptor, attempt).await;
        let (stream, mut agreed) = match decided {
            Ok(decided) => decided,
            Err(rejection) => return self.turned_down(&rejection),
        };
        let Ok(confirmed) = confirmed.await else {
            return tracing::debug!(from = %self.from, "its early data was all that came of it");
        };
        let Confirmed { session, lease, inbound, expected, undecided: _undecided } = confirmed;
        let stream = stream.confirmed(lease, inbound);
        // Only after the handshake there is a name for it.
        let (true, Ok(remote)) =
            (session.peer() == peer.as_ref(), session.opener(&agreed.info.remote, id))
        else {
            return stream.reset(ResetCode::Refused);
        };
        agreed.info.remote = remote;
        let expected = (purpose == Purpose::Unordered).then_some(expected);
        self.open(&session, stream, agreed, expected);
    }

    /// Opens a connection over a stream that came in, or turns it down.
    async fn take(&self, session: &Arc<Session>, stream: Stream, purpose: Purpose) {
        let _deciding = session.deciding();
        let id = stream.id();
        let acceptor = &self.taker.acceptor;
        let attempt = |hello: &Hello| {
            self.attempt(hello, session.peer(), |remote| session.opener(&remote, id))
        };
        // Its records may come before this side is done.
        let expect = || session.unordered().expect(session, id);
        let expected = (purpose == Purpose::Unordered).then(expect);
        match stream::decide(stream, acceptor, attempt).await {
            Ok((stream, agreed)) => self.open(session, stream, agreed, expected),
            Err(rejection) => self.turned_down(&rejection),
        }
    }

    /// Opens what both sides have agreed on.
    fn open(
        &self,
        session: &Arc<Session>,
        stream: Stream,
        mut agreed: Agreed,
        expected: Option<Expected>,
    ) {
        agreed.info.path = Some(session.path());
        // A bad one was turned down with the attempt.
        let priority = priority(agreed.info.local.as_str()).unwrap_or_default();
        stream.set_priority(priority);
        let opened = match expected {
            Some(expected) => unordered::open(stream, expected, agreed, priority),
            None => stream::drive(stream, agreed),
        };
        match opened {
            Ok(_connection) => session.want(),
            Err(revoked) => self.turned_down(&revoked.into()),
        }
    }

    fn turned_down(&self, rejection: &Rejection) {
        tracing::debug!(from = %self.from, %rejection, "turned down");
    }

    /// Who dials what. Only the names of ports are the dialer's own word.
    fn attempt(
        &self,
        hello: &Hello,
        peer: Option<&Peer>,
        named: impl FnOnce(Endpoint) -> Result<Endpoint, BackendError>,
    ) -> Result<Attempt, BackendError> {
        let trust = match peer {
            Some(Peer::Id(peer)) => Trust::Peer(*peer),
            _ => Trust::Name,
        };
        let (to, from) = hello.port_paths()?;
        priority(to)?;
        let local = self.taker.transport.join(to)?;
        let remote = named(endpoint_of(self.from, trust)?.join(from)?)?;
        let attempt = Attempt::new(local, remote).with_source(self.from);
        Ok(match peer {
            Some(peer) => attempt.with_peer(peer.clone()),
            None => attempt,
        })
    }
}

/// A stream that came before the handshake was over, and who waits for that.
struct Early {
    stream: u64,
    confirm: oneshot::Sender<Confirmed>,
    unconfirmed: Unconfirmed,
}

/// Closes a connection whose handshake nobody waits for any more, or that is not let in.
struct Unconfirmed(Option<Connection>);

impl Unconfirmed {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Unconfirmed {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            connection.close(ResetCode::Refused.into(), b"");
        }
    }
}

/// What a stream is part of that came before the handshake was over.
struct Confirmed {
    session: Arc<Session>,
    lease: Lease,
    inbound: Inbound,
    undecided: Undecided,
    /// In case it is for records without an order.
    expected: Expected,
}

impl Session {
    /// Takes the streams that the other side opens, until the session ends; ends it itself when
    /// nothing has used it for a time.
    pub(crate) async fn serve(
        self: &Arc<Self>,
        idle: Option<Duration>,
        host: Option<(Arc<Host>, Option<Handshake>)>,
    ) {
        let (host, handshake) = host.unzip();
        let handshake: FirstHandshake = Arc::new(Mutex::new(handshake.flatten()));
        let mut idle = std::pin::pin!(self.idle(idle));
        loop {
            let accepted = tokio::select! {
                accepted = self.connection().accept_bi() => accepted,
                () = &mut idle => {
                    self.connection().close(CLOSED, b"");
                    return;
                }
            };
            // The QUIC connection has ended, and with it all that was on it.
            let Ok((send, recv)) = accepted else { return };
            // Whoever opens streams without end leaves the worker to others as well.
            tokio::task::coop::consume_budget().await;
            let inbound = self.came_in();
            let mut arrived = Arrived { send, recv, begun: Bytes::new(), inbound };
            // What a stream is for has mostly come with it.
            let purpose = match look_at(arrived.purpose()) {
                Poll::Ready(Some(Purpose::Record)) => {
                    if let Err(rest) = unordered::receive_now(self, arrived) {
                        let session = self.clone();
                        tokio::spawn(async move { unordered::receive(&session, rest).await });
                    }
                    continue;
                }
                Poll::Ready(purpose) => Some(purpose),
                Poll::Pending => None,
            };
            let Some(lease) = self.lease() else { continue };
            let (session, host, handshake) = (self.clone(), host.clone(), handshake.clone());
            tokio::spawn(async move {
                let purpose = match purpose {
                    Some(purpose) => purpose,
                    None => timeout(session.handshake_time(), arrived.purpose())
                        .await
                        .unwrap_or_default(),
                };
                match purpose {
                    Some(Purpose::Record) => {
                        // The connection that it belongs to has a lease.
                        drop(lease);
                        unordered::receive(&session, arrived).await;
                    }
                    purpose => {
                        session
                            .take(Stream::that_came(arrived, lease), purpose, host, handshake)
                            .await
                    }
                }
            });
        }
    }

    async fn take(
        self: Arc<Self>,
        stream: Stream,
        purpose: Option<Purpose>,
        host: Option<Arc<Host>>,
        first: FirstHandshake,
    ) {
        // Whoever was dialed does not dial back, and other streams are for nothing known.
        let (Some(purpose), Some(host)) = (purpose, host) else {
            return stream.reset(ResetCode::Refused);
        };
        // The first has that of the QUIC handshake, which waited for it.
        let counted = first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let counted = counted.or_else(|| host.taker.acceptor.handshake(Some(host.from.ip())));
        match counted {
            // Boxed: a record needs no room for it.
            Some(_counted) => Box::pin(host.take(&self, stream, purpose)).await,
            None => stream.reset(ResetCode::Refused),
        }
    }
}

impl Arrived {
    /// See [`purpose`].
    async fn purpose(&mut self) -> Option<Purpose> {
        purpose(&mut self.recv, &mut self.begun).await
    }
}

/// What a stream is for, once that has come, and what came behind that; `None` if it is for
/// nothing known.
///
/// Cancel safe.
async fn purpose(recv: &mut RecvStream, begun: &mut Bytes) -> Option<Purpose> {
    *begun = recv.read_chunk(usize::MAX, true).await.ok()??.bytes;
    begun.try_get_u8().ok().and_then(Purpose::of)
}

/// The handshake of a QUIC connection, which counts until the first stream has had its opening.
type FirstHandshake = Arc<Mutex<Option<Handshake>>>;
