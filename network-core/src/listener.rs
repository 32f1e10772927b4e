//! Who decides over inbound connections.

use std::{fmt, future::Future, net::SocketAddr, pin::Pin, sync::Arc};

use tokio::sync::{mpsc, oneshot};

use crate::{
    connection::Connection,
    endpoint::Endpoint,
    error::AttemptOver,
    handler::{AnyHandler, ConnectionHandler},
    peer::Peer,
    port::Port,
    records::Records,
    refusal::Refusal,
    seam::ConsumerSlot,
};

/// An inbound connection that is not accepted yet: what a listener decides by.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// The endpoint that was dialed: the port's own, or a longer one that starts with it.
    pub local: Endpoint,
    /// The endpoint of who dials. The part that names a port is its own word.
    pub remote: Endpoint,
    /// Who dials, as far as the transport has proved it.
    pub peer: Option<Peer>,
    /// Where it comes from, if the transport has such addresses.
    pub source: Option<SocketAddr>,
}

impl Attempt {
    /// An attempt on `local` by `remote`.
    pub fn new(local: Endpoint, remote: Endpoint) -> Self {
        Self { local, remote, peer: None, source: None }
    }

    /// Says who the transport has proved it to be.
    #[must_use]
    pub fn with_peer(mut self, peer: impl Into<Peer>) -> Self {
        self.peer = Some(peer.into());
        self
    }

    /// Says where it comes from.
    #[must_use]
    pub fn with_source(mut self, source: SocketAddr) -> Self {
        self.source = Some(source);
        self
    }
}

/// Decides over the inbound connections of a port: the original's `ListenHandler`.
///
/// Every method is optional; without [`on_accept`](Self::on_accept) every attempt is
/// declined. [`accept_all`] and [`accept_fn`] make listeners. A method that panics counts
/// as a refusal.
pub trait ListenHandler: Send + Sync + 'static {
    /// The port starts to listen. Attempts may come while this runs.
    ///
    /// A refusal makes [`Port::listen`] fail; the port then listens as it did before.
    fn on_listen(&self, port: &Port) -> impl Future<Output = Result<(), Refusal>> + Send {
        let _ = port;
        async { Ok(()) }
    }

    /// Somebody dials: the returned handler serves the connection, a refusal declines it.
    ///
    /// Asked once for an attempt; the decision is final. It may take
    /// [`Limits::accept_time`](crate::Limits::accept_time).
    fn on_accept(
        &self,
        port: &Port,
        attempt: &Attempt,
    ) -> impl Future<Output = Result<AnyHandler, Refusal>> + Send {
        let _ = (port, attempt);
        async { Err(Refusal::new("this listener has no `on_accept` and takes no connections")) }
    }

    /// An attempt ended before it was decided over: the remote side went away, or the
    /// decision took too long. Not called after a decision.
    fn on_reject(&self, port: &Port, attempt: &Attempt) -> impl Future<Output = ()> + Send {
        let _ = (port, attempt);
        async {}
    }

    /// The port cannot listen any more, though nobody asked for it to stop.
    fn on_error(&self, port: &Port, error: &str) -> impl Future<Output = ()> + Send {
        let _ = (port, error);
        async {}
    }

    /// The listener is removed: by [`Port::unlisten`], a revoke, or another listener.
    fn on_remove(&self, port: &Port) -> impl Future<Output = ()> + Send {
        let _ = port;
        async {}
    }
}

impl<L: ListenHandler> ListenHandler for Arc<L> {
    fn on_listen(&self, port: &Port) -> impl Future<Output = Result<(), Refusal>> + Send {
        L::on_listen(self, port)
    }

    fn on_accept(
        &self,
        port: &Port,
        attempt: &Attempt,
    ) -> impl Future<Output = Result<AnyHandler, Refusal>> + Send {
        L::on_accept(self, port, attempt)
    }

    fn on_reject(&self, port: &Port, attempt: &Attempt) -> impl Future<Output = ()> + Send {
        L::on_reject(self, port, attempt)
    }

    fn on_error(&self, port: &Port, error: &str) -> impl Future<Output = ()> + Send {
        L::on_error(self, port, error)
    }

    fn on_remove(&self, port: &Port) -> impl Future<Output = ()> + Send {
        L::on_remove(self, port)
    }
}

/// A listener that accepts everybody; made by [`accept_all`].
#[derive(Debug)]
pub struct AcceptAll<H>(Arc<H>);

/// Makes a listener that accepts everybody, with one handler shared by all connections.
pub fn accept_all<H: ConnectionHandler>(handler: H) -> AcceptAll<H> {
    AcceptAll(Arc::new(handler))
}

impl<H: ConnectionHandler> ListenHandler for AcceptAll<H> {
    async fn on_accept(&self, _: &Port, _: &Attempt) -> Result<AnyHandler, Refusal> {
        Ok(AnyHandler::new(self.0.clone()))
    }
}

/// A listener whose `on_accept` is a closure; made by [`accept_fn`].
#[derive(Clone)]
pub struct AcceptFn<F>(F);

/// Makes a listener from a closure that decides over each attempt.
pub fn accept_fn<F, Decision>(decide: F) -> AcceptFn<F>
where
    F: Fn(Attempt) -> Decision + Send + Sync + 'static,
    Decision: Future<Output = Result<AnyHandler, Refusal>> + Send + 'static,
{
    AcceptFn(decide)
}

impl<F, Decision> ListenHandler for AcceptFn<F>
where
    F: Fn(Attempt) -> Decision + Send + Sync + 'static,
    Decision: Future<Output = Result<AnyHandler, Refusal>> + Send + 'static,
{
    fn on_accept(
        &self,
        _: &Port,
        attempt: &Attempt,
    ) -> impl Future<Output = Result<AnyHandler, Refusal>> + Send {
        self.0(attempt.clone())
    }
}

impl<F> fmt::Debug for AcceptFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AcceptFn")
    }
}

type Decision = Result<ConsumerSlot, Refusal>;

/// The attempts of a port that is pulled from; made by [`Port::attempts`].
#[derive(Debug)]
#[must_use = "dropping it declines all attempts"]
pub struct Attempts(mpsc::Receiver<PendingAttempt>);

impl Attempts {
    /// How many attempts may wait to be looked at; further ones are declined.
    pub const MAX_WAITING: usize = 128;

    pub(crate) fn new() -> (AttemptQueue, Self) {
        let (queue, attempts) = mpsc::channel(Self::MAX_WAITING);
        (AttemptQueue(queue), Self(attempts))
    }

    /// The next attempt, or `None` once the port does not listen this way any more.
    ///
    /// # Cancel safety
    /// Dropping the future loses no attempt.
    pub async fn next(&mut self) -> Option<PendingAttempt> {
        self.0.recv().await
    }
}

/// An attempt that waits for a decision. Dropping it declines.
#[derive(Debug)]
#[must_use = "an attempt that is dropped is declined"]
pub struct PendingAttempt {
    attempt: Attempt,
    decide: oneshot::Sender<Decision>,
}

impl PendingAttempt {
    /// Who dials whom.
    pub fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    /// Accepts; the handler serves the connection.
    ///
    /// # Errors
    /// The remote side went away meanwhile, or the port was revoked.
    pub async fn accept(self, handler: impl Into<AnyHandler>) -> Result<Connection, AttemptOver> {
        let (tell, told) = oneshot::channel();
        let consumer = handler.into().into_consumer();
        let accepted = ConsumerSlot { consumer, tell: Some(tell) };
        self.decide.send(Ok(accepted)).map_err(|_| AttemptOver)?;
        told.await.map_err(|_| AttemptOver)
    }

    /// Accepts; the program pulls the records.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub async fn accept_pull(self) -> Result<(Connection, Records), AttemptOver> {
        let connection = self.accept(AnyHandler::pull()).await?;
        let records = Records::new(connection.clone());
        Ok((connection, records))
    }

    /// Declines, with a reason that the dialer is told.
    pub fn reject(self, why: impl fmt::Display) {
        // Whoever asked may have gone.
        let _ = self.decide.send(Err(Refusal::new(why.to_string())));
    }
}

/// The listener behind [`Attempts`].
#[derive(Debug)]
pub(crate) struct AttemptQueue(mpsc::Sender<PendingAttempt>);

impl AttemptQueue {
    async fn decide(&self, attempt: &Attempt) -> Decision {
        let (decide, decision) = oneshot::channel();
        let pending = PendingAttempt { attempt: attempt.clone(), decide };
        self.0.try_send(pending).map_err(|error| {
            Refusal::new(match error {
                mpsc::error::TrySendError::Full(_) => "too many attempts wait for a decision",
                mpsc::error::TrySendError::Closed(_) => "nobody accepts attempts here any more",
            })
        })?;
        decision.await.unwrap_or_else(|_| Err(Refusal::new("the attempt was dropped")))
    }
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// [`ListenHandler`] as a port keeps it.
pub(crate) trait Listener: Send + Sync {
    fn on_listen_dyn<'a>(&'a self, port: &'a Port) -> BoxFuture<'a, Result<(), Refusal>>;
    fn decide_dyn<'a>(&'a self, port: &'a Port, attempt: &'a Attempt) -> BoxFuture<'a, Decision>;
    fn on_reject_dyn<'a>(&'a self, port: &'a Port, attempt: &'a Attempt) -> BoxFuture<'a, ()>;
    fn on_error_dyn<'a>(&'a self, port: &'a Port, error: &'a str) -> BoxFuture<'a, ()>;
    fn on_remove_dyn<'a>(&'a self, port: &'a Port) -> BoxFuture<'a, ()>;
}

impl<L: ListenHandler> Listener for L {
    fn on_listen_dyn<'a>(&'a self, port: &'a Port) -> BoxFuture<'a, Result<(), Refusal>> {
        Box::pin(self.on_listen(port))
    }

    fn decide_dyn<'a>(&'a self, port: &'a Port, attempt: &'a Attempt) -> BoxFuture<'a, Decision> {
        Box::pin(async move {
            let handler = self.on_accept(port, attempt).await?;
            Ok(ConsumerSlot { consumer: handler.into_consumer(), tell: None })
        })
    }

    fn on_reject_dyn<'a>(&'a self, port: &'a Port, attempt: &'a Attempt) -> BoxFuture<'a, ()> {
        Box::pin(self.on_reject(port, attempt))
    }

    fn on_error_dyn<'a>(&'a self, port: &'a Port, error: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(self.on_error(port, error))
    }

    fn on_remove_dyn<'a>(&'a self, port: &'a Port) -> BoxFuture<'a, ()> {
        Box::pin(self.on_remove(port))
    }
}

/// Not a [`ListenHandler`]: what it decides carries somebody to tell of the connection.
pub(crate) struct PullListener(pub(crate) AttemptQueue);

impl Listener for PullListener {
    fn on_listen_dyn<'a>(&'a self, _: &'a Port) -> BoxFuture<'a, Result<(), Refusal>> {
        Box::pin(async { Ok(()) })
    }

    fn decide_dyn<'a>(&'a self, _: &'a Port, attempt: &'a Attempt) -> BoxFuture<'a, Decision> {
        Box::pin(self.0.decide(attempt))
    }

    fn on_reject_dyn<'a>(&'a self, _: &'a Port, _: &'a Attempt) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }

    fn on_error_dyn<'a>(&'a self, _: &'a Port, _: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }

    fn on_remove_dyn<'a>(&'a self, _: &'a Port) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }
}
