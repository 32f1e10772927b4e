//! A connection: a record pipe between two ports.

use std::{
    fmt,
    future::{Future, poll_fn},
    hash::{Hash, Hasher},
    mem,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use crate::{
    close::{CloseReason, Delivery},
    endpoint::Endpoint,
    error::SendError,
    inbox::Inbox,
    port::{Membership, PortInner},
    refusal::Refusal,
    seam::{Link, LinkInfo, PortRevoked, Record, RecordId, Unsent},
    sync::Mutex,
    window::{Answer, Ticket, Window},
};

/// How to send a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendOptions {
    /// How long the record may take, waiting for room included. After it the send fails
    /// with [`SendError::TimedOut`]. `None` waits as long as the connection lasts.
    ///
    /// On loopback, TCP and QUIC this is a local deadline: a record that was sent has
    /// [`Delivery::Unknown`]. On IBC it is the packet's timeout, and a timeout is proved.
    pub timeout: Option<Duration>,
}

impl SendOptions {
    /// Sets [`timeout`](Self::timeout).
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

/// What a connection has counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionStats {
    /// Records sent.
    pub records_sent: u64,
    /// Bytes of records sent.
    pub bytes_sent: u64,
    /// Acks that came.
    pub acks: u64,
    /// Refusals that came.
    pub refusals: u64,
    /// Sends that had to wait for room in the window.
    pub window_waits: u64,
    /// Records sent or reserved that have no ack yet.
    pub unacked: u32,
    /// Records that arrived.
    pub records_received: u64,
    /// Bytes of records that arrived.
    pub bytes_received: u64,
}

/// A record pipe between two ports, open in both directions.
///
/// A cheap handle: clones are the same connection. A connection with a handler lasts until
/// somebody closes it; dropping handles does not. One that is pulled from also closes when
/// its last handle and its [`Records`](crate::Records) are dropped.
#[derive(Clone)]
pub struct Connection(Arc<Handle>);

impl Connection {
    pub(crate) fn new(handle: Arc<Handle>) -> Self {
        Self(handle)
    }

    /// The endpoint of this side.
    pub fn local_endpoint(&self) -> &Endpoint {
        &self.info().local
    }

    /// The endpoint of the remote side.
    pub fn remote_endpoint(&self) -> &Endpoint {
        &self.info().remote
    }

    /// The longest record that it takes, in bytes: the smaller of both sides' limits.
    pub fn max_record_len(&self) -> usize {
        self.info().max_record_len
    }

    /// Sends a record and waits for the ack that the remote handler returns.
    ///
    /// Waits for room in the window first. Records whose sends are polled one after the
    /// other arrive in that order.
    ///
    /// # Errors
    /// [`SendError`]; its `delivery()` says whether the remote handler was given the record.
    ///
    /// # Cancel safety
    /// Dropping the future before there was room sends nothing. Dropping it later does not
    /// take the record back: only its ack is thrown away.
    pub async fn send(&self, record: impl Into<Bytes>) -> Result<Bytes, SendError> {
        let record = record.into();
        let id = self.open(record.len(), true)?.await?;
        self.0.submit(id, Record { payload: record, timeout: None })?;
        Ack { holder: Holder::Borrowed(&self.0), id, stage: Stage::Registered }.await
    }

    /// Sends a record with options.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`SendError::TimedOut`].
    ///
    /// # Cancel safety
    /// As [`send`](Self::send).
    pub async fn send_with(
        &self,
        record: impl Into<Bytes>,
        options: SendOptions,
    ) -> Result<Bytes, SendError> {
        let Some(after) = options.timeout else {
            return self.send(record).await;
        };
        let record = record.into();
        let deadline = Instant::now() + after;
        let timed_out = |delivery| SendError::TimedOut { after, delivery };
        let id = timeout_at(deadline, self.open(record.len(), true)?)
            .await
            .map_err(|_| timed_out(Delivery::NotDelivered))??;
        self.0.submit(id, Record { payload: record, timeout: options.timeout })?;
        let ack = Ack { holder: Holder::Borrowed(&self.0), id, stage: Stage::Registered };
        timeout_at(deadline, ack).await.map_err(|_| timed_out(Delivery::Unknown))?
    }

    /// Waits for room for one record of up to `len` bytes, and keeps it.
    ///
    /// # Errors
    /// [`SendError::TooLarge`] and [`SendError::Closed`].
    ///
    /// # Cancel safety
    /// Dropping the future, or the permit, gives the room back.
    pub async fn reserve(&self, len: usize) -> Result<SendPermit<'_>, SendError> {
        let id = self.open(len, false)?.await?;
        Ok(SendPermit { handle: &self.0, id, len })
    }

    /// Closes the connection on both sides.
    ///
    /// Records that arrived and were not handed to a handler yet are discarded, and their
    /// senders told. Returns when the remote side has answered, or after
    /// [`Limits::close_time`](crate::Limits::close_time): every send of this side has then
    /// its result, and `on_close` was called on this side. Closing again changes nothing.
    ///
    /// # Cancel safety
    /// The close goes on if the future is dropped after its first poll.
    pub async fn close(&self) {
        self.begin_close(CloseReason::Local);
        self.closed().await;
    }

    /// Waits until the connection is closed, and says why.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn closed(&self) -> CloseReason {
        let shared = &self.0.shared;
        loop {
            let mut changed = std::pin::pin!(shared.changed.notified());
            changed.as_mut().enable();
            if let Some(reason) = shared.life.lock().end() {
                return reason;
            }
            changed.await;
        }
    }

    /// Why the connection is closed or closing, if it is.
    pub fn close_reason(&self) -> Option<CloseReason> {
        let life = self.0.shared.life.lock();
        life.closed.clone().or_else(|| life.closing.clone())
    }

    /// What it has counted so far.
    pub fn stats(&self) -> ConnectionStats {
        let (sent, received) = (self.0.shared.window.counts(), self.0.shared.inbox.counts());
        ConnectionStats {
            records_sent: sent.records,
            bytes_sent: sent.bytes,
            acks: sent.acks,
            refusals: sent.refusals,
            window_waits: sent.window_waits,
            unacked: self.0.shared.window.unacked(),
            records_received: received.records,
            bytes_received: received.bytes,
        }
    }

    /// Waits until no record is un-acked in either direction, or the connection is over.
    pub(crate) async fn idle(&self) {
        let shared = &self.0.shared;
        let idle = async {
            poll_fn(|cx| shared.window.poll_idle(cx)).await;
            poll_fn(|cx| shared.inbox.poll_idle(cx)).await;
        };
        tokio::select! { () = idle => {} _ = self.closed() => {} }
    }

    pub(crate) fn begin_close(&self, reason: CloseReason) {
        self.0.begin_close(reason);
    }

    /// Closes because something went wrong on this side.
    pub(crate) fn fail(&self, reason: CloseReason) {
        self.0.begin_close(reason);
    }

    #[inline]
    pub(crate) fn shared(&self) -> &Shared {
        &self.0.shared
    }

    pub(crate) fn answer(&self, id: RecordId, answer: Answer) {
        self.0.link.answer(id, answer);
        self.0.shared.inbox.answered(1);
    }

    /// Answers from within the driver; with `more` to come, some may stay.
    pub(crate) fn answer_all(&self, answers: &mut Vec<(RecordId, Answer)>, more: bool) {
        let before = answers.len();
        if before > 0 {
            self.0.link.answers(answers, more);
            let given = before - answers.len();
            if given > 0 {
                self.0.shared.inbox.answered(given);
            }
        }
    }

    #[inline]
    fn info(&self) -> &LinkInfo {
        &self.0.shared.info
    }

    fn open(&self, len: usize, send: bool) -> Result<Opening<'_>, SendError> {
        let max = self.max_record_len();
        if len > max {
            return Err(SendError::TooLarge { len, max });
        }
        let window = &self.0.shared.window;
        Ok(Opening { window, len: len as u32, send, ticket: Ticket::default() })
    }
}

/// Two handles are equal if they are of the same connection.
impl PartialEq for Connection {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Connection {}

impl Hash for Connection {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("local", self.local_endpoint())
            .field("remote", self.remote_endpoint())
            .finish_non_exhaustive()
    }
}

/// Waits for a permit and a slot.
struct Opening<'a> {
    window: &'a Window,
    len: u32,
    send: bool,
    ticket: Ticket,
}

impl Future for Opening<'_> {
    type Output = Result<RecordId, SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.window.poll_open(this.len, this.send, &mut this.ticket, cx)
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.window.leave(&mut self.ticket);
    }
}

/// Room for one record. Dropping it gives the room back.
#[must_use = "a permit that is dropped sends nothing"]
pub struct SendPermit<'a> {
    handle: &'a Arc<Handle>,
    id: RecordId,
    len: usize,
}

impl<'a> SendPermit<'a> {
    /// Sends a record at once; the returned future waits for its ack.
    ///
    /// # Errors
    /// [`SendError::TooLarge`] for more bytes than were reserved, [`SendError::Closed`].
    /// Nothing was sent then.
    pub fn send(self, record: impl Into<Bytes>) -> Result<Ack<'a>, SendError> {
        let record = record.into();
        if record.len() > self.len {
            return Err(SendError::TooLarge { len: record.len(), max: self.len });
        }
        let (handle, id) = (self.handle, self.id);
        mem::forget(self);
        handle.shared.window.commit(id, record.len() as u32)?;
        handle.submit(id, Record { payload: record, timeout: None })?;
        Ok(Ack { holder: Holder::Borrowed(handle), id, stage: Stage::Waiting })
    }
}

impl Drop for SendPermit<'_> {
    fn drop(&mut self) {
        self.handle.shared.window.cancel(self.id);
    }
}

impl fmt::Debug for SendPermit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendPermit").field("len", &self.len).finish_non_exhaustive()
    }
}

/// The ack of a record that was sent, or a [`SendError`].
///
/// # Cancel safety
/// Dropping it throws away the ack; the record is on its way.
#[must_use = "the record is sent; await this to learn its ack"]
pub struct Ack<'a> {
    holder: Holder<'a>,
    id: RecordId,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Opening the slot left this task's waker there: the next poll need not look.
    Registered,
    Waiting,
    Taken,
}

enum Holder<'a> {
    Borrowed(&'a Arc<Handle>),
    Owned(Arc<Handle>),
}

impl Holder<'_> {
    #[inline]
    fn window(&self) -> &Window {
        match self {
            Self::Borrowed(handle) => &handle.shared.window,
            Self::Owned(handle) => &handle.shared.window,
        }
    }
}

impl Ack<'_> {
    /// The same, free of the connection it borrows from: to be moved into a task.
    pub fn into_owned(mut self) -> Ack<'static> {
        self.stage = Stage::Taken;
        let handle = match &self.holder {
            Holder::Borrowed(handle) => (*handle).clone(),
            Holder::Owned(handle) => handle.clone(),
        };
        Ack { holder: Holder::Owned(handle), id: self.id, stage: Stage::Waiting }
    }
}

impl Future for Ack<'_> {
    type Output = Result<Bytes, SendError>;

    /// # Panics
    /// Like most futures, when polled again after it was ready.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.stage {
            Stage::Registered => {
                self.stage = Stage::Waiting;
                return Poll::Pending;
            }
            Stage::Waiting => {}
            Stage::Taken => panic!("an `Ack` was polled after it was ready"),
        }
        let result = ready!(self.holder.window().poll_ack(self.id, cx));
        self.stage = Stage::Taken;
        Poll::Ready(result)
    }
}

impl Drop for Ack<'_> {
    fn drop(&mut self) {
        if self.stage != Stage::Taken {
            self.holder.window().abandon(self.id);
        }
    }
}

impl fmt::Debug for Ack<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ack").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What the program's side of a connection holds on to.
pub(crate) struct Handle {
    shared: Arc<Shared>,
    link: Arc<dyn Link>,
}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>, link: Arc<dyn Link>) -> Self {
        Self { shared, link }
    }

    #[inline]
    fn submit(&self, id: RecordId, record: Record) -> Result<(), SendError> {
        // Between the slot and here the connection may have closed, the goodbye included.
        let len = record.payload.len() as u32;
        self.link.submit(id, record).map_err(|Unsent| self.shared.window.retract(id, len))
    }

    pub(crate) fn begin_close(&self, reason: CloseReason) {
        let (first, over) = {
            let mut life = self.shared.life.lock();
            let (first, over) = (life.closing.is_none(), life.closed.is_some());
            if !over {
                life.closing.get_or_insert_with(|| reason.clone());
            }
            (first, over)
        };
        // Whoever closes wants no more records, also none that a broken connection left.
        let discarded = self.shared.inbox.discard();
        if over {
            return;
        }
        self.shared.window.shut(&reason);
        if !discarded.is_empty() {
            for id in discarded {
                self.link.answer(id, Answer::Discarded);
            }
            self.shared.inbox.discards_told();
        }
        if first {
            self.link.close(&reason);
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.begin_close(CloseReason::Local);
    }
}

/// What the program's side and the backend's driver of a connection share.
#[derive(Debug)]
pub(crate) struct Shared {
    info: LinkInfo,
    window: Window,
    inbox: Inbox,
    life: Mutex<Life>,
    changed: Notify,
    /// Where the connection is counted, until it is over.
    place: Mutex<Option<Place>>,
}

#[derive(Debug, Default)]
struct Life {
    closing: Option<CloseReason>,
    closed: Option<CloseReason>,
    /// Whether the handler, if any, has been told of the close.
    told: bool,
}

impl Life {
    fn end(&self) -> Option<CloseReason> {
        if self.told { self.closed.clone() } else { None }
    }
}

#[derive(Debug)]
struct Place {
    port: Weak<PortInner>,
    key: u64,
    _membership: Membership,
}

impl Shared {
    pub(crate) fn new(info: LinkInfo) -> Self {
        let bytes = info.window_bytes.max(info.max_record_len as u64);
        Self {
            window: Window::new(info.window_records.max(1), bytes),
            info,
            inbox: Inbox::default(),
            life: Mutex::default(),
            changed: Notify::new(),
            place: Mutex::default(),
        }
    }

    pub(crate) fn window(&self) -> &Window {
        &self.window
    }

    pub(crate) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Becomes a connection of the port, unless that was revoked.
    pub(crate) fn join(
        &self,
        membership: Membership,
        port: &Arc<PortInner>,
        handle: &Arc<Handle>,
    ) -> Result<(), PortRevoked> {
        let Some(key) = port.add_connection(Arc::downgrade(handle)) else {
            // A handle without a place closes nothing: its link never carried anything.
            return Err(PortRevoked);
        };
        let place = Place { port: Arc::downgrade(port), key, _membership: membership };
        *self.place.lock() = Some(place);
        Ok(())
    }

    /// An ack that the remote side takes, or a refusal instead.
    #[inline]
    pub(crate) fn checked_ack(&self, ack: Bytes) -> Answer {
        let max = self.info.max_ack_len;
        if ack.len() <= max {
            return Answer::Ack(ack);
        }
        Answer::Refused(Refusal::new(format!(
            "the handler's ack of {} bytes is over the limit of {max} bytes: ack less, or raise \
             `Limits::max_ack_len` on both sides",
            ack.len()
        )))
    }

    pub(crate) fn remote_closes(&self, reason: &CloseReason) {
        self.life.lock().closing.get_or_insert_with(|| reason.clone());
        self.window.shut(reason);
    }

    /// The connection is over. `handled` says that a handler is still to be told.
    pub(crate) fn over(&self, reason: &CloseReason, unacked: Delivery, handled: bool) {
        let reason = {
            let mut life = self.life.lock();
            let reason = life.closing.clone().unwrap_or_else(|| reason.clone());
            life.closed = Some(reason.clone());
            life.told |= !handled;
            reason
        };
        self.window.close(&reason, unacked);
        self.inbox.end(&reason);
        let place = self.place.lock().take();
        if let Some(port) = place.as_ref().and_then(|place| place.port.upgrade()) {
            port.remove_connection(place.as_ref().map_or(0, |place| place.key));
        }
        drop(place);
        self.changed.notify_waiters();
    }

    /// The handler has been told of the close, or never will be.
    pub(crate) fn consumer_ended(&self) {
        let mut life = self.life.lock();
        if !mem::replace(&mut life.told, true) {
            drop(life);
            self.changed.notify_waiters();
        }
    }
}
