//! What a program does with the records of a connection.

use std::{fmt, future::Future, sync::Arc};

use bytes::Bytes;

use crate::{
    close::CloseReason,
    connection::Connection,
    refusal::Refusal,
    serve::{ServeFuture, serve},
};

/// What a program does with a connection: the original's `ConnectionHandler`.
///
/// Every method is optional. One handler may serve many connections: share it in an
/// [`Arc`], the connection is told to every call. `()` is the handler that acks every
/// record empty. [`handler_fn`] makes one from a closure.
///
/// # Panics
/// A method that panics takes down its own connection only: the record at hand is refused
/// and the connection closes with [`CloseReason::HandlerPanicked`].
pub trait ConnectionHandler: Send + Sync + 'static {
    /// The connection is open. Records may arrive while this still runs.
    fn on_open(&self, connection: &Connection) -> impl Future<Output = ()> + Send {
        let _ = connection;
        async {}
    }

    /// A record arrived; the returned bytes are its ack, an error its refusal.
    ///
    /// Calls start in the order in which records were sent. A call that waits holds back
    /// nothing but its own ack: the next record's call starts meanwhile, unless
    /// [`one_at_a_time`](Self::one_at_a_time) says otherwise. At most a window of calls is
    /// in progress.
    ///
    /// A refusal leaves the connection open. An ack longer than the remote side takes
    /// (its [`Limits::max_ack_len`](crate::Limits::max_ack_len)) becomes a refusal that says so.
    ///
    /// The call runs on the task that drives the connection: work that blocks a thread
    /// belongs into `spawn_blocking`.
    fn on_receive(
        &self,
        connection: &Connection,
        record: Bytes,
    ) -> impl Future<Output = Result<Bytes, Refusal>> + Send {
        let _ = (connection, record);
        async { Ok(Bytes::new()) }
    }

    /// The connection has closed. Called once on each side. Calls of
    /// [`on_receive`](Self::on_receive) that are still in progress go on, but their acks
    /// reach nobody.
    fn on_close(
        &self,
        connection: &Connection,
        reason: &CloseReason,
    ) -> impl Future<Output = ()> + Send {
        let _ = (connection, reason);
        async {}
    }

    /// Whether a record's call waits until the one before has ended. Default: no.
    fn one_at_a_time(&self) -> bool {
        false
    }
}

/// Acks every record empty.
impl ConnectionHandler for () {}

impl<H: ConnectionHandler> ConnectionHandler for Arc<H> {
    fn on_open(&self, connection: &Connection) -> impl Future<Output = ()> + Send {
        H::on_open(self, connection)
    }

    fn on_receive(
        &self,
        connection: &Connection,
        record: Bytes,
    ) -> impl Future<Output = Result<Bytes, Refusal>> + Send {
        H::on_receive(self, connection, record)
    }

    fn on_close(
        &self,
        connection: &Connection,
        reason: &CloseReason,
    ) -> impl Future<Output = ()> + Send {
        H::on_close(self, connection, reason)
    }

    fn one_at_a_time(&self) -> bool {
        H::one_at_a_time(self)
    }
}

/// A handler whose `on_receive` is `answer`; made by [`handler_fn`].
#[derive(Clone)]
pub struct HandlerFn<F>(F);

/// Makes a handler from a closure that turns a record into its ack.
///
/// ```
/// use network_core::{Bytes, Refusal, handler_fn};
/// let upper = handler_fn(|record: Bytes| async move {
///     Ok::<_, Refusal>(Bytes::from(record.to_ascii_uppercase()))
/// });
/// ```
pub fn handler_fn<F, Answer>(answer: F) -> HandlerFn<F>
where
    F: Fn(Bytes) -> Answer + Send + Sync + 'static,
    Answer: Future<Output = Result<Bytes, Refusal>> + Send + 'static,
{
    HandlerFn(answer)
}

impl<F, Answer> ConnectionHandler for HandlerFn<F>
where
    F: Fn(Bytes) -> Answer + Send + Sync + 'static,
    Answer: Future<Output = Result<Bytes, Refusal>> + Send + 'static,
{
    fn on_receive(
        &self,
        _: &Connection,
        record: Bytes,
    ) -> impl Future<Output = Result<Bytes, Refusal>> + Send {
        self.0(record)
    }
}

impl<F> fmt::Debug for HandlerFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandlerFn")
    }
}

/// Some handler: what [`ListenHandler::on_accept`](crate::ListenHandler::on_accept) returns,
/// so that one listener can give different connections different handlers.
pub struct AnyHandler {
    consumer: Consumer,
    version: Option<String>,
}

/// Who takes the records of a connection.
pub(crate) enum Consumer {
    Handler(Box<dyn FnOnce(Connection) -> ServeFuture + Send>),
    /// The program pulls them.
    Pull,
}

impl AnyHandler {
    /// Boxes `handler`, once for a connection; its calls are not boxed.
    pub fn new(handler: impl ConnectionHandler) -> Self {
        let serve = move |connection| -> ServeFuture { Box::pin(serve(handler, connection)) };
        Self { consumer: Consumer::Handler(Box::new(serve)), version: None }
    }

    /// Answers the version that the dialer proposes in its endpoint with another one, on
    /// transports where the two sides negotiate one
    /// ([`Capabilities::negotiates`](crate::Capabilities::negotiates)): the channel version of
    /// IBC. The endpoints of both sides then have this one, and a dialer that cannot do with it
    /// closes the connection. On other transports the attempt is declined, and the dialer is told
    /// why. Where this side dials it means nothing: the version is part of the endpoint there.
    #[must_use]
    pub fn with_version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    pub(crate) fn pull() -> Self {
        Self { consumer: Consumer::Pull, version: None }
    }

    pub(crate) fn into_parts(self) -> (Consumer, Option<String>) {
        (self.consumer, self.version)
    }
}

impl<H: ConnectionHandler> From<H> for AnyHandler {
    fn from(handler: H) -> Self {
        Self::new(handler)
    }
}

impl fmt::Debug for AnyHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyHandler")
    }
}
