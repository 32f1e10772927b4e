//! The seam between core and the backends.
//!
//! ```text
//!      Port / Connection / handlers                     (core, written once)
//!   submit  answer  close        records   acks   closing  closed
//!      │       │      │             ▲        ▲       ▲       ▲
//!      ▼       ▼      ▼             │        │       │       │
//!        dyn Link  ── one peer ──  LinkEvents, with the driver (backend)
//! ```
//!
//! The cold path, once a port or a connection, is [`ProtocolImpl`]. The hot path, once a
//! record, is a [`Link`] and the [`LinkEvents`] that its driver owns: no method of either
//! blocks, awaits or allocates for a record.

use std::{
    collections::VecDeque,
    fmt::Debug,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    budget::{MemoryShare, Share},
    close::{CloseReason, Delivery},
    connection::{Connection, PathStats},
    endpoint::Endpoint,
    error::{BackendError, ConnectError, Rejection},
    flag::Flag,
    handler::Consumer,
    inbox::Arrival,
    limits::Limits,
    network::Acceptor,
    pattern::RoutePattern,
    peer::Peer,
    port::{Membership, PortInner},
    serve::ServeFuture,
    shared::{Handle, Shared},
    window::{Answer, StaleAck},
};

/// Names one record in flight on one connection.
///
/// For a record that core submits, core chooses it, and it fits in 32 bits: slot in the
/// lower 16, generation above. For a record that a backend reports, the backend chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordId(pub u64);

impl RecordId {
    #[inline]
    pub(crate) fn of_slot(index: usize, generation: u16) -> Self {
        Self(u64::from(generation) << 16 | (index as u64 & 0xffff))
    }

    #[inline]
    pub(crate) fn index(self) -> usize {
        (self.0 & 0xffff) as usize
    }
}

/// A record on its way out.
#[derive(Clone, Debug)]
pub struct Record {
    /// What it says.
    pub payload: Bytes,
    /// The sender's deadline, for backends that can prove that it passed
    /// ([`Capabilities::proves_timeouts`]); core watches it for all others.
    pub timeout: Option<Duration>,
}

/// What a backend can and cannot do. Tests select themselves by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Records arrive in the order in which they were sent.
    pub ordered: bool,
    /// A record that is not acked in time is proved undelivered, by the backend itself. Its
    /// links say so too: [`LinkInfo::proves_timeouts`].
    pub proves_timeouts: bool,
    /// After a close the delivery of every record is known, as long as the transport lasts.
    pub proves_delivery: bool,
    /// Several ports may share one address of the transport (`…/port/NAME`).
    pub shares_sockets: bool,
    /// There is a wire, on which a peer may misbehave.
    pub wire: bool,
    /// A listener is found by a longer endpoint that starts with its own.
    pub prefix_listening: bool,
    /// Records and acks may be empty. Where they may not, an empty ack is the byte 1.
    pub empty_records: bool,
    /// Both sides keep to the smaller limits of the two.
    pub agrees_on_limits: bool,
    /// The ack of a record may come before those of records that were sent before it.
    pub acks_overtake: bool,
    /// A port may connect to one of its own network.
    pub reaches_itself: bool,
    /// A listener may answer the version in the dialer's endpoint with another one
    /// ([`AnyHandler::with_version`](crate::AnyHandler::with_version)).
    pub negotiates: bool,
}

macro_rules! capability_setters {
    ($($setter:ident sets $field:ident;)*) => {
        impl Capabilities {
            $(
                #[doc = concat!("Sets [`", stringify!($field), "`](Self::", stringify!($field), ").")]
                #[must_use]
                pub const fn $setter(mut self, value: bool) -> Self {
                    self.$field = value;
                    self
                }
            )*
        }
    };
}

capability_setters! {
    with_ordered sets ordered;
    with_proves_timeouts sets proves_timeouts;
    with_proves_delivery sets proves_delivery;
    with_shares_sockets sets shares_sockets;
    with_wire sets wire;
    with_prefix_listening sets prefix_listening;
    with_empty_records sets empty_records;
    with_agrees_on_limits sets agrees_on_limits;
    with_acks_overtake sets acks_overtake;
    with_reaches_itself sets reaches_itself;
    with_negotiates sets negotiates;
}

impl Capabilities {
    /// Ordered and in process: what the loopback backend can do.
    pub const IN_PROCESS: Self = Self {
        ordered: true,
        proves_timeouts: false,
        proves_delivery: true,
        shares_sockets: false,
        wire: false,
        prefix_listening: true,
        empty_records: true,
        agrees_on_limits: true,
        acks_overtake: true,
        reaches_itself: true,
        negotiates: false,
    };

    /// Ordered, over the common frames: what a byte-stream backend can do.
    pub const STREAM: Self = Self { shares_sockets: true, wire: true, ..Self::IN_PROCESS };
}

/// A protocol backend.
///
/// Core calls it once a port or a connection, never once a record. Methods may be called
/// concurrently, for different endpoints and for the same one, except that core calls
/// `bind`, `listen`, `unlisten` and `revoke` of one port one after the other. A method
/// whose future is dropped must leave nothing half done.
#[async_trait]
pub trait ProtocolImpl: Debug + Send + Sync + 'static {
    /// A short name for messages: `"tcp"`.
    fn name(&self) -> &'static str;

    /// Which endpoints are this backend's, local and remote ones. Asked once, when the
    /// backend is registered.
    fn patterns(&self) -> Vec<RoutePattern>;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Reserves a local endpoint and returns its full name. Where `wanted` asks for a fresh
    /// name ([`Endpoint::wants_fresh_name`], or a TCP port of 0), the backend chooses one.
    /// Core has checked that no port of the network has a name that is asked for outright;
    /// if one has the fresh name, core asks again, for another.
    ///
    /// # Errors
    /// Whatever keeps the name from being used: a malformed one, an address in use.
    async fn bind(&self, wanted: &Endpoint) -> Result<Endpoint, BackendError>;

    /// Starts to take inbound connections for a bound endpoint: for each, the backend asks
    /// [`Acceptor::attempt`]. Called again where a port listens again.
    async fn listen(&self, local: &Endpoint, acceptor: Acceptor) -> Result<(), BackendError>;

    /// Stops taking inbound connections. Open connections stay. Core answers attempts that
    /// come all the same with [`Rejection::NotListening`].
    async fn unlisten(&self, local: &Endpoint);

    /// Opens a connection: agrees with the remote side, then hands
    /// [`Dial::seed`] its link. Core bounds the time.
    ///
    /// # Errors
    /// No connection may exist afterwards, on either side.
    async fn connect(&self, dial: Dial) -> Result<Connection, ConnectError>;

    /// Releases a local endpoint. Core has closed its connections.
    async fn revoke(&self, local: &Endpoint);

    /// Releases everything. Core has revoked every port.
    async fn shutdown(&self) {}
}

/// A connection that core asks a backend for.
#[derive(Debug)]
pub struct Dial {
    /// The port that connects.
    pub local: Endpoint,
    /// Where to.
    pub remote: Endpoint,
    /// Becomes the connection.
    pub seed: LinkSeed,
}

/// One established connection, as core drives it. Object safe; called from any thread.
///
/// No method may block, or call back into core's connection before it returns.
pub trait Link: Debug + Send + Sync + 'static {
    /// Sends a record. Core keeps to the window and sizes of [`LinkInfo`]. Records submitted
    /// one after the other keep their order. May be called after [`close`](Self::close).
    ///
    /// # Errors
    /// The link closes, and the record did not and will not go out: its sender is told that
    /// it was not delivered. After `Ok` the record counts among those whose fate
    /// [`LinkEvents::closed`] tells.
    fn submit(&self, id: RecordId, record: Record) -> Result<(), Unsent>;

    /// Answers a record that was reported through [`RecordSink`] or [`LinkEvents::record`].
    /// Also called after the end, when nobody can be told any more, so that the link knows
    /// that the record is no longer held.
    fn answer(&self, id: RecordId, answer: Answer);

    /// Answers many. Called from within [`LinkEvents::poll`] and [`LinkEvents::closed`] only,
    /// and so by the driver itself, which need not be woken. Where `more` are to come in the same turn, some may be
    /// left in `answers`; otherwise none.
    fn answers(&self, answers: &mut Vec<(RecordId, Answer)>, more: bool) {
        let _ = more;
        for (id, answer) in answers.drain(..) {
            self.answer(id, answer);
        }
    }

    /// Nobody waits for the answer of a record any more. A link that can call the record back
    /// does so, and reports what became of it; for others there is nothing to do.
    fn abandon(&self, id: RecordId) {
        let _ = id;
    }

    /// Starts to close. Called at most once. What was submitted and answered before still
    /// goes out; records that arrive from now on core discards. The driver ends with
    /// [`LinkEvents::closed`] in bounded time.
    fn close(&self, reason: &CloseReason);
}

/// A link that closes did not take a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the link is closing and did not take the record")]
pub struct Unsent;

/// What both sides of a link agreed on.
#[derive(Clone, Debug)]
pub struct LinkInfo {
    /// The endpoint of this side.
    pub local: Endpoint,
    /// The endpoint of the remote side. Local and remote together name one connection: no two
    /// that are open have both alike.
    pub remote: Endpoint,
    /// The longest record that may be sent, in bytes.
    pub max_record_len: usize,
    /// The longest ack that may be given, in bytes.
    pub max_ack_len: usize,
    /// How many records may be un-acked on the way out.
    pub window_records: u32,
    /// How many bytes of records may be un-acked on the way out.
    pub window_bytes: u64,
    /// Who the remote side is, as far as the transport has proved it.
    pub peer: Option<Box<Peer>>,
    /// Whom to ask about the path, if the transport knows of it.
    pub path: Option<Arc<dyn Path>>,
    /// Records have at least one byte: the transport knows no empty ones.
    pub no_empty_records: bool,
    /// The backend watches the deadlines of records itself, and proves that they passed
    /// ([`AckSink::timed_out`]); core watches none once a record was submitted.
    pub proves_timeouts: bool,
}

/// Knows of the path below a connection. What it is made of should not outlive that: handles of a
/// connection may.
pub trait Path: Debug + Send + Sync + 'static {
    /// What is known now; `None` once the connection below is gone.
    fn stats(&self) -> Option<PathStats>;
}

impl LinkInfo {
    /// A link on which both sides keep to the same limits.
    pub fn symmetric(local: Endpoint, remote: Endpoint, limits: &Limits) -> Self {
        Self {
            local,
            remote,
            max_record_len: limits.max_record_len,
            max_ack_len: limits.max_ack_len,
            window_records: limits.window_records,
            window_bytes: limits.window_bytes,
            peer: None,
            path: None,
            no_empty_records: false,
            proves_timeouts: false,
        }
    }

    /// Says who the transport has proved the remote side to be.
    #[must_use]
    pub fn with_peer(mut self, peer: Option<Peer>) -> Self {
        self.peer = peer.map(Box::new);
        self
    }
}

/// A connection to be: whose it will be and who handles it. Dropping it opens nothing.
#[derive(Debug)]
pub struct LinkSeed {
    pub(crate) port: Arc<PortInner>,
    pub(crate) consumer: ConsumerSlot,
    pub(crate) membership: Membership,
}

/// A [`Consumer`] with somebody to tell when the connection is open.
pub(crate) struct ConsumerSlot {
    pub(crate) consumer: Consumer,
    pub(crate) tell: Option<tokio::sync::oneshot::Sender<Connection>>,
    /// What the listener answers the proposed version with, if not with the same.
    pub(crate) version: Option<String>,
}

impl std::fmt::Debug for ConsumerSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ConsumerSlot")
    }
}

impl LinkSeed {
    /// The limits of the network, to be told to the remote side.
    pub fn limits(&self) -> &Limits {
        self.port.limits()
    }

    /// The version that the listener wants instead of the one that was proposed. Only backends that
    /// [negotiate](Capabilities::negotiates) get one.
    pub fn version(&self) -> Option<&str> {
        self.consumer.version.as_deref()
    }

    /// What the connection may hold of records that came in. A backend whose link is not one
    /// of [`stream`](crate::stream) asks for it once, and keeps to it.
    pub fn memory_share(&self) -> MemoryShare {
        MemoryShare::new(self.share())
    }

    /// The same, for one task.
    pub(crate) fn share(&self) -> Share {
        Share::new(self.port.budget().clone())
    }

    /// The connection as agreed with the remote side; it opens with
    /// [`OpenLink::establish`].
    pub fn agree(self, info: LinkInfo) -> OpenLink {
        OpenLink { shared: Arc::new(Shared::new(info)), seed: self }
    }
}

/// A connection that has everything but its link.
#[derive(Debug)]
pub struct OpenLink {
    shared: Arc<Shared>,
    seed: LinkSeed,
}

impl OpenLink {
    /// Where records may be reported from any thread.
    pub fn records(&self) -> RecordSink {
        RecordSink(self.shared.clone())
    }

    /// Where acks may be reported from any thread.
    pub fn acks(&self) -> AckSink {
        AckSink(self.shared.clone())
    }

    /// Opens the connection. The caller spawns a driver that owns the events and polls them.
    ///
    /// # Errors
    /// The port was revoked meanwhile, or the dialer denied; nothing has been opened.
    pub fn establish(self, link: Arc<dyn Link>) -> Result<(Connection, LinkEvents), PortRevoked> {
        let Self { shared, seed } = self;
        let dialer = seed.membership.dialer();
        let handle = Arc::new(Handle::new(shared.clone(), link.clone()));
        let join = || shared.join(seed.membership, &seed.port, &handle);
        seed.port.let_in(dialer, join).unwrap_or(Err(PortRevoked))?;
        let connection = Connection::new(handle);
        let serve = match seed.consumer.consumer {
            Consumer::Handler(serve) => Some((serve(connection.clone()), Flag::default())),
            Consumer::Pull => None,
        };
        if let Some(tell) = seed.consumer.tell {
            // Whoever accepted may have gone; the connection then closes by itself.
            let _ = tell.send(connection.clone());
        }
        let events = LinkEvents {
            shared,
            link,
            serve,
            arrivals: VecDeque::new(),
            discards: Vec::new(),
            over: false,
        };
        Ok((connection, events))
    }
}

/// The port of a connection was revoked before the connection opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the port was revoked")]
pub struct PortRevoked;

/// Takes records that arrived.
#[derive(Clone, Debug)]
pub struct RecordSink(Arc<Shared>);

impl RecordSink {
    /// Reports a record. An error is the answer to give right away.
    #[inline]
    pub fn record(&self, id: RecordId, payload: Bytes) -> Result<(), Answer> {
        self.0.inbox().push(id, payload)
    }
}

/// Takes acks that arrived.
#[derive(Clone, Debug)]
pub struct AckSink(Arc<Shared>);

impl AckSink {
    /// Reports what the remote side said of one record.
    ///
    /// # Errors
    /// The record is not un-acked: on a wire, the peer broke the protocol.
    pub fn answer(&self, id: RecordId, answer: Answer) -> Result<(), StaleAck> {
        self.answers([(id, answer)])
    }

    /// Reports that a record's time, `after` its submit, has passed, and that it is proved that
    /// no handler has seen it or will see it ([`LinkInfo::proves_timeouts`]).
    ///
    /// # Errors
    /// As [`answer`](Self::answer).
    pub fn timed_out(&self, id: RecordId, after: Duration) -> Result<(), StaleAck> {
        self.0.window().time_out(id, after)
    }

    /// How many records are un-acked. After a close the number only falls.
    pub fn unacked(&self) -> u32 {
        self.0.window().unacked()
    }

    /// Reports many, under one lock, which is held while `answers` is iterated.
    ///
    /// # Errors
    /// As [`answer`](Self::answer); the answers that are not stale are taken.
    pub fn answers(
        &self,
        answers: impl IntoIterator<Item = (RecordId, Answer)>,
    ) -> Result<(), StaleAck> {
        self.0.window().answer(answers)
    }
}

/// What the driver of a link tells core, and how it runs the handler.
///
/// Owned by one task. Dropping it before [`closed`](Self::closed) closes the connection
/// with [`CloseReason::cut_off`]: nothing waits for ever.
pub struct LinkEvents {
    shared: Arc<Shared>,
    /// Not the connection: that would keep itself open.
    link: Arc<dyn Link>,
    serve: Option<(ServeFuture, Flag)>,
    arrivals: VecDeque<Arrival>,
    discards: Vec<(RecordId, Answer)>,
    over: bool,
}

impl LinkEvents {
    /// Reports a record; it is handed out by the next [`poll`](Self::poll).
    pub fn record(&mut self, id: RecordId, payload: Bytes) {
        self.arrivals.push_back((id, payload));
    }

    /// Reports what the remote side said of some records, under one lock.
    ///
    /// # Errors
    /// One of the records is not un-acked: the peer broke the protocol.
    pub fn answers(
        &mut self,
        answers: impl IntoIterator<Item = (RecordId, Answer)>,
    ) -> Result<(), StaleAck> {
        self.shared.window().answer(answers)
    }

    /// Hands out what was reported and runs the handler, whose answers go to
    /// [`Link::answers`]. Wakes `cx` when there is more to do. Ready once the handler has
    /// ended, after [`closed`](Self::closed).
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let arrived = !self.arrivals.is_empty();
        if arrived {
            let wake = self.serve.is_none();
            self.shared.inbox().push_all(&mut self.arrivals, &mut self.discards, wake);
            if !self.discards.is_empty() {
                self.link.answers(&mut self.discards, false);
            }
        }
        let Some((serve, called)) = &mut self.serve else { return Poll::Ready(()) };
        let Some(waker) = called.take(arrived, cx) else { return Poll::Pending };
        if serve.as_mut().poll(&mut Context::from_waker(waker)).is_pending() {
            return Poll::Pending;
        }
        self.serve = None;
        Poll::Ready(())
    }

    /// The remote side has said that it closes, and why: no more records will come. Those
    /// that came are still handed out; [`poll_drained`](Self::poll_drained) tells when.
    pub fn closing(&mut self, reason: &CloseReason) {
        self.shared.remote_closes(reason);
    }

    /// How many records of this side are un-acked. After a close the number only falls.
    pub fn unacked(&self) -> u32 {
        self.shared.window().unacked()
    }

    /// Ready once every record that was reported has been handed out, or discarded.
    pub fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.arrivals.is_empty() {
            return Poll::Pending;
        }
        self.shared.inbox().poll_drained(cx)
    }

    /// The connection is over. `unacked` is what became of the records that are un-acked.
    /// Where this side or the remote side had a reason before, the first one stays.
    ///
    /// The driver then polls until [`poll`](Self::poll) is ready, or awaits
    /// [`finish`](Self::finish), so that `on_close` runs.
    pub fn closed(&mut self, reason: &CloseReason, unacked: Delivery) {
        if !self.over {
            self.over = true;
            // What is discarded now, the remote side cannot be told any more; but the link
            // learns that it is not held.
            self.shared.inbox().push_all(&mut self.arrivals, &mut self.discards, true);
            if !self.discards.is_empty() {
                self.link.answers(&mut self.discards, false);
            }
            self.shared.over(reason, unacked, self.serve.is_some());
        }
    }

    /// Runs the handler to its end, after [`closed`](Self::closed).
    pub async fn finish(mut self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }
}

impl std::fmt::Debug for LinkEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkEvents").field("shared", &self.shared).finish_non_exhaustive()
    }
}

impl Drop for LinkEvents {
    fn drop(&mut self) {
        self.closed(&CloseReason::cut_off(), Delivery::Unknown);
        if self.serve.is_some() {
            self.shared.consumer_ended();
        }
    }
}

impl From<PortRevoked> for Rejection {
    fn from(_: PortRevoked) -> Self {
        Self::NotListening
    }
}
