//! One QUIC connection, which the connections between a socket and an address share.

use std::{
    future::pending,
    io,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use network_core::{BackendError, Endpoint, Limits, Path, PathStats, Peer};
use quinn::{Connection, ConnectionError, VarInt};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use crate::{
    settings::FIRST_STREAMS,
    stream::{Purpose, ResetCode, Stream},
    unordered::Known,
};

/// How long a session that is being closed waits for those who decide over its connections.
const DECIDING: Duration = Duration::from_millis(100);

/// A QUIC connection after its handshake.
#[derive(Debug)]
pub(crate) struct Session {
    connection: Connection,
    /// The address of this side.
    local_ip: IpAddr,
    /// Who is at the other end, as far as that is proved.
    peer: Option<Peer>,
    /// The same at both ends, and on no other connection of the two.
    name: String,
    /// How long an ended stream may take to get its last bytes through.
    linger: Duration,
    /// How long a stream may take to say what it is for.
    handshake_time: Duration,
    begun: Instant,
    state: Mutex<State>,
    unordered: Known,
    /// How many streams of the other side are open, how many may be, and how many ever.
    inbound: AtomicU32,
    allowed: AtomicU32,
    max_streams: u32,
    /// Told when the last lease ends, and when any does of a session that is being closed.
    ended: Notify,
}

#[derive(Debug)]
struct State {
    /// The streams that are open, or still get something through.
    leases: usize,
    /// Those of them whose connection nobody has decided over yet.
    undecided: usize,
    /// When the last of them ended.
    since: Instant,
    /// Whether a connection on it was ever let in, or it was dialed.
    wanted: bool,
    /// Nothing new may begin: it is about to be closed.
    over: bool,
}

/// Asks a session, as long as there is one: the handles of connections do not keep it.
#[derive(Debug)]
struct Asked(Weak<Session>);

impl Path for Asked {
    fn stats(&self) -> Option<PathStats> {
        let stats = self.0.upgrade()?.connection.stats().path;
        let mut told = PathStats::default();
        told.round_trip = stats.rtt;
        told.packets_sent = stats.sent_packets;
        told.packets_lost = stats.lost_packets;
        told.congestion_window = stats.cwnd;
        told.max_packet_len = stats.current_mtu;
        Some(told)
    }
}

/// What a QUIC connection is closed with that nobody needs any more.
pub(crate) const CLOSED: VarInt = VarInt::from_u32(0);

/// Whether the other side has closed it because it takes no more.
pub(crate) fn is_refusal(error: &ConnectionError) -> bool {
    match error {
        ConnectionError::ApplicationClosed(close) => close.error_code == ResetCode::Refused.into(),
        _ => false,
    }
}

/// Why no stream was opened.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The QUIC connection is over, so nothing was said.
    Session(ConnectionError),
    Stream(io::Error),
    Opening(BackendError),
}

/// See [`Session::came_in`].
#[derive(Debug)]
pub(crate) struct Inbound(Arc<Session>);

impl Drop for Inbound {
    fn drop(&mut self) {
        self.0.inbound.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Keeps a session from being closed for want of use.
#[derive(Debug)]
pub(crate) struct Lease(Arc<Session>);

impl Session {
    pub(crate) fn new(
        connection: Connection,
        local_ip: IpAddr,
        peer: Option<Peer>,
        limits: &Limits,
        max_streams: u32,
    ) -> Result<Arc<Self>, BackendError> {
        let mut name = [0; 4];
        connection
            .export_keying_material(&mut name, b"EXPORTER-network-session", b"")
            .map_err(|_| "the QUIC connection has no keys to name it by")?;
        let name = format!("{:08x}", u32::from_be_bytes(name));
        let state =
            State { leases: 0, undecided: 0, since: Instant::now(), wanted: false, over: false };
        Ok(Arc::new(Self {
            connection,
            local_ip,
            peer,
            name,
            linger: limits.close_time,
            handshake_time: limits.handshake_time,
            begun: Instant::now(),
            state: Mutex::new(state),
            unordered: Known::default(),
            inbound: AtomicU32::new(0),
            allowed: AtomicU32::new(FIRST_STREAMS.min(max_streams)),
            max_streams,
            ended: Notify::new(),
        }))
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(crate) fn local_ip(&self) -> IpAddr {
        self.local_ip
    }

    pub(crate) fn handshake_time(&self) -> Duration {
        self.handshake_time
    }

    /// Counts a stream that the other side has opened, until what comes back is dropped. It may
    /// have more once it has half of those that it may.
    pub(crate) fn came_in(self: &Arc<Self>) -> Inbound {
        let open = self.inbound.fetch_add(1, Ordering::Relaxed) + 1;
        let allowed = self.allowed.load(Ordering::Relaxed);
        if open > allowed / 2 && allowed < self.max_streams {
            let more = allowed.saturating_mul(2).min(self.max_streams);
            let raised =
                self.allowed.compare_exchange(allowed, more, Ordering::Relaxed, Ordering::Relaxed);
            if raised.is_ok() {
                self.connection.set_max_concurrent_bi_streams(more.into());
            }
        }
        Inbound(self.clone())
    }

    /// For those who ask about the path.
    pub(crate) fn path(self: &Arc<Self>) -> Arc<dyn Path> {
        Arc::new(Asked(Arc::downgrade(self)))
    }

    pub(crate) fn unordered(&self) -> &Known {
        &self.unordered
    }

    pub(crate) fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// Names one connection among those that two ports have over this session.
    pub(crate) fn name_of(&self, stream: u64) -> String {
        format!("/stream/{}-{stream}", self.name)
    }

    /// The endpoint `port` of the side that opened a stream, with the stream's own name: ports
    /// share a socket, so that it would else be the name of several connections.
    pub(crate) fn opener(&self, port: &Endpoint, stream: u64) -> Result<Endpoint, BackendError> {
        Ok(port.join(&self.name_of(stream))?)
    }

    /// Keeps it open; `None` if it is about to be closed, or is.
    pub(crate) fn lease(self: &Arc<Self>) -> Option<Lease> {
        let mut state = self.lock();
        if state.over || self.connection.close_reason().is_some() {
            return None;
        }
        state.leases += 1;
        Some(Lease(self.clone()))
    }

    /// Whether the other side had ended it before it saw what was said last: it knows nothing of
    /// it any more (RFC 9000 §10.3), or has closed it for want of use.
    pub(crate) fn was_forgotten(&self) -> bool {
        match self.connection.close_reason() {
            Some(ConnectionError::Reset) => true,
            Some(ConnectionError::ApplicationClosed(close)) => close.error_code == CLOSED,
            _ => false,
        }
    }

    /// Whether the other side has as many QUIC connections as it takes.
    pub(crate) fn was_refused(&self) -> bool {
        self.connection.close_reason().is_some_and(|error| is_refusal(&error))
    }

    /// Opens a stream and says what it is for, and what comes behind that. Waits while there are
    /// as many streams as the other side takes.
    pub(crate) async fn open(
        &self,
        lease: Lease,
        purpose: Purpose,
        opening: impl FnOnce(u64) -> Result<BytesMut, BackendError>,
    ) -> Result<Stream, Broken> {
        let (mut send, recv) = self.connection.open_bi().await.map_err(Broken::Session)?;
        let opening = opening(send.id().index()).map_err(Broken::Opening)?;
        // In one write, and so in one packet.
        let said = [&[purpose as u8], &opening[..]].concat();
        send.write_all(&said).await.map_err(|error| Broken::Stream(error.into()))?;
        Ok(Stream::new(send, recv, lease))
    }

    /// Ready once nothing has used it for so long; nothing will any more.
    pub(crate) async fn idle(&self, after: Option<Duration>) {
        let Some(after) = after else { return pending().await };
        loop {
            let ended = self.ended.notified();
            let left = {
                let mut state = self.lock();
                let left = match state.wanted {
                    true => after.saturating_sub(state.since.elapsed()),
                    // Who was not let in so far has no place to keep.
                    false => after.min(self.handshake_time).saturating_sub(self.begun.elapsed()),
                };
                if state.leases == 0 && left.is_zero() {
                    state.over = true;
                    return;
                }
                (state.leases == 0).then_some(left)
            };
            match left {
                Some(left) => sleep(left).await,
                None => ended.await,
            }
        }
    }

    /// Expects to hear something, until it is dropped: if nothing was heard by then, nobody may be
    /// there any more, and the next who dials has a handshake.
    pub(crate) fn expect(self: &Arc<Self>) -> Expectation {
        let heard = self.connection.stats().udp_rx.datagrams;
        Expectation { session: self.clone(), heard, since: Instant::now() }
    }

    /// Has it stay for its time also without connections.
    pub(crate) fn want(&self) {
        self.lock().wanted = true;
    }

    /// Marks that somebody is deciding over a connection, until it is dropped.
    pub(crate) fn deciding(self: &Arc<Self>) -> Undecided {
        self.lock().undecided += 1;
        Undecided(self.clone())
    }

    /// Closes it once what was open has got its last words through, or after the time that
    /// those may take. Connections that nobody has decided over have a moment only: whoever
    /// decides may be waiting for this.
    pub(crate) async fn close(&self) {
        let _ = timeout(DECIDING.min(self.linger), self.ended(|state| state.leases == 0)).await;
        // Past that, what has not got through will not.
        let _ = timeout(self.linger, self.ended(|state| state.leases <= state.undecided)).await;
        self.connection.close(CLOSED, b"");
    }

    /// Lets nothing begin, and is ready once enough has ended.
    async fn ended(&self, enough: impl Fn(&State) -> bool) {
        loop {
            let ended = self.ended.notified();
            {
                let mut state = self.lock();
                state.over = true;
                if enough(&state) {
                    return;
                }
            }
            ended.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// How long to wait for what was written last to get through.
    pub(crate) fn linger(&self) -> Duration {
        self.0.linger
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.leases -= 1;
        state.since = Instant::now();
        if state.over || state.leases == 0 {
            drop(state);
            self.0.ended.notify_waiters();
        }
    }
}

/// See [`Session::deciding`].
#[derive(Debug)]
pub(crate) struct Undecided(Arc<Session>);

impl Drop for Undecided {
    fn drop(&mut self) {
        self.0.lock().undecided -= 1;
    }
}

/// See [`Session::expect`].
#[derive(Debug)]
pub(crate) struct Expectation {
    session: Arc<Session>,
    heard: u64,
    since: Instant,
}

impl Drop for Expectation {
    fn drop(&mut self) {
        let connection = &self.session.connection;
        // Who has waited for less than a few round trips cannot tell.
        if connection.stats().udp_rx.datagrams == self.heard
            && self.since.elapsed() > 4 * connection.rtt()
        {
            self.session.lock().over = true;
        }
    }
}
