//! A connection: a record pipe between two ports.

use std::{
    fmt,
    future::poll_fn,
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use crate::{
    close::{CloseReason, Delivery},
    endpoint::Endpoint,
    error::SendError,
    peer::Peer,
    seam::{LinkInfo, Record, RecordId},
    sending::{Ack, Opening, SendPermit},
    shared::{Handle, Shared},
    window::Answer,
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
    /// What the transport knows of the path, if it tells: QUIC does. Connections that share one
    /// of its connections have the same.
    pub path: Option<PathStats>,
}

/// What a transport knows of the path to the other side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathStats {
    /// The round trip, smoothed.
    pub round_trip: Duration,
    /// Packets sent.
    pub packets_sent: u64,
    /// Packets that count as lost.
    pub packets_lost: u64,
    /// How many bytes may be on their way.
    pub congestion_window: u64,
    /// The longest packet that gets through, in bytes, as far as is known.
    pub max_packet_len: u16,
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

    /// Who the remote side is, as far as the transport has proved it: `None` over plain TCP.
    pub fn peer(&self) -> Option<&Peer> {
        self.info().peer.as_deref()
    }

    /// The longest record that it takes, in bytes: the smaller of both sides' limits.
    pub fn max_record_len(&self) -> usize {
        self.info().max_record_len
    }

    /// Whether records and acks may be empty. Where they may not, as over IBC, an empty record
    /// cannot be sent, and an empty ack comes as the byte 1.
    pub fn takes_empty_records(&self) -> bool {
        !self.info().no_empty_records
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
        Ack::of_sender(&self.0, id).await
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
        let ack = Ack::of_sender(&self.0, id);
        if self.info().proves_timeouts {
            return ack.await;
        }
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
        Ok(SendPermit::new(&self.0, id, len))
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
        self.0.shared().closed().await
    }

    /// Why the connection is closed or closing, if it is.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.0.shared().close_reason()
    }

    /// What it has counted so far.
    pub fn stats(&self) -> ConnectionStats {
        let (sent, received) =
            (self.0.shared().window().counts(), self.0.shared().inbox().counts());
        ConnectionStats {
            records_sent: sent.records,
            bytes_sent: sent.bytes,
            acks: sent.acks,
            refusals: sent.refusals,
            window_waits: sent.window_waits,
            unacked: self.0.shared().window().unacked(),
            records_received: received.records,
            bytes_received: received.bytes,
            path: self.info().path.as_ref().and_then(|path| path.stats()),
        }
    }

    /// Waits until no record is un-acked in either direction, or the connection is over.
    pub(crate) async fn idle(&self) {
        let shared = self.0.shared();
        let idle = async {
            poll_fn(|cx| shared.window().poll_idle(cx)).await;
            poll_fn(|cx| shared.inbox().poll_idle(cx)).await;
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
        self.0.shared()
    }

    pub(crate) fn answer(&self, id: RecordId, answer: Answer) {
        self.0.link().answer(id, answer);
        self.0.shared().inbox().answered(1);
    }

    /// Answers from within the driver; with `more` to come, some may stay.
    pub(crate) fn answer_all(&self, answers: &mut Vec<(RecordId, Answer)>, more: bool) {
        let before = answers.len();
        if before > 0 {
            self.0.link().answers(answers, more);
            let given = before - answers.len();
            if given > 0 {
                self.0.shared().inbox().answered(given);
            }
        }
    }

    #[inline]
    fn info(&self) -> &LinkInfo {
        self.0.shared().info()
    }

    fn open(&self, len: usize, send: bool) -> Result<Opening<'_>, SendError> {
        let max = self.max_record_len();
        if len > max {
            return Err(SendError::TooLarge { len, max });
        }
        if len == 0 && self.info().no_empty_records {
            return Err(SendError::Empty);
        }
        let window = self.0.shared().window();
        Ok(Opening::new(window, len as u32, send))
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
