//! Who decides over inbound connections.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    mem,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
};

use tokio::sync::{Notify, oneshot};

use crate::{
    connection::Connection,
    endpoint::Endpoint,
    error::AttemptOver,
    handler::{AnyHandler, ConnectionHandler},
    peer::Peer,
    policy::source_of,
    port::Port,
    records::Records,
    refusal::Refusal,
    seam::ConsumerSlot,
    sync::Mutex,
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
    /// Asked once for an attempt; the decision is final, but for the lists of the
    /// [`AcceptPolicy`](crate::AcceptPolicy), which are asked again after it. It may take
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
pub struct Attempts(Arc<Queue>);

/// What is between a port and who pulls its attempts.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    attempts: VecDeque<PendingAttempt>,
    /// One of both ends has gone.
    over: bool,
}

impl Waiting {
    /// Puts an attempt at the end, if there is room.
    fn push(&mut self, pending: PendingAttempt) -> Result<(), &'static str> {
        if self.over {
            return Err("nobody accepts attempts here any more");
        }
        let source = pending.source();
        if self.has_room(source).is_err() {
            // Attempts whose dialer has gone wait for nothing, and must not keep others out.
            self.attempts.retain(|waiting| !waiting.is_over());
            self.has_room(source)?;
        }
        self.attempts.push_back(pending);
        Ok(())
    }

    fn has_room(&self, source: Option<IpAddr>) -> Result<(), &'static str> {
        if self.attempts.len() >= Attempts::MAX_WAITING {
            return Err("too many attempts wait for a decision");
        }
        let share = Attempts::MAX_WAITING_PER_SOURCE;
        // Most of the time there are fewer than one source may have.
        if source.is_some() && self.attempts.len() >= share {
            let same = self.attempts.iter().filter(|waiting| waiting.source() == source).count();
            if same >= share {
                return Err("too many attempts from this source wait for a decision");
            }
        }
        Ok(())
    }
}

impl Attempts {
    /// How many attempts may wait to be looked at; further ones are declined. Those whose
    /// dialer has gone make room.
    pub const MAX_WAITING: usize = 512;

    /// How many of them may come from one source, as an [`AcceptPolicy`](crate::AcceptPolicy)
    /// counts sources.
    pub const MAX_WAITING_PER_SOURCE: usize = 128;

    pub(crate) fn new() -> (AttemptQueue, Self) {
        let queue = Arc::<Queue>::default();
        (AttemptQueue(queue.clone()), Self(queue))
    }

    /// The next attempt, or `None` once the port does not listen this way any more. Attempts
    /// whose dialer has gone meanwhile are left out.
    ///
    /// # Cancel safety
    /// Dropping the future loses no attempt.
    pub async fn next(&mut self) -> Option<PendingAttempt> {
        loop {
            {
                let mut waiting = self.0.waiting.lock();
                while let Some(pending) = waiting.attempts.pop_front() {
                    if !pending.is_over() {
                        return Some(pending);
                    }
                }
                if waiting.over {
                    return None;
                }
            }
            // Told in between, this is ready at once.
            self.0.changed.notified().await;
        }
    }
}

impl Drop for Attempts {
    fn drop(&mut self) {
        let declined = {
            let mut waiting = self.0.waiting.lock();
            waiting.over = true;
            mem::take(&mut waiting.attempts)
        };
        drop(declined);
    }
}

/// An attempt that waits for a decision. Dropping it declines.
#[derive(Debug)]
#[must_use = "an attempt that is dropped is declined"]
pub struct PendingAttempt {
    attempt: Attempt,
    version: Option<String>,
    decide: oneshot::Sender<Decision>,
}

impl PendingAttempt {
    fn source(&self) -> Option<IpAddr> {
        self.attempt.source.map(|source| source_of(source.ip()))
    }

    /// Whether nobody waits for the decision any more.
    fn is_over(&self) -> bool {
        self.decide.is_closed()
    }

    /// Who dials whom.
    pub fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    /// Answers the proposed version with another one: see [`AnyHandler::with_version`].
    pub fn with_version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Accepts; the handler serves the connection.
    ///
    /// # Errors
    /// The remote side went away meanwhile, the port was revoked, or the
    /// [`AcceptPolicy`](crate::AcceptPolicy) keeps the dialer out by now.
    pub async fn accept(self, handler: impl Into<AnyHandler>) -> Result<Connection, AttemptOver> {
        let (tell, told) = oneshot::channel();
        let (consumer, version) = handler.into().into_parts();
        let version = version.or(self.version);
        let accepted = ConsumerSlot { consumer, tell: Some(tell), version };
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
pub(crate) struct AttemptQueue(Arc<Queue>);

impl AttemptQueue {
    async fn decide(&self, attempt: &Attempt) -> Decision {
        let (decide, decision) = oneshot::channel();
        let pending = PendingAttempt { attempt: attempt.clone(), version: None, decide };
        self.0.waiting.lock().push(pending).map_err(Refusal::new)?;
        self.0.changed.notify_one();
        decision.await.unwrap_or_else(|_| Err(Refusal::new("the attempt was dropped")))
    }
}

impl Drop for AttemptQueue {
    fn drop(&mut self) {
        self.0.waiting.lock().over = true;
        self.0.changed.notify_one();
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
            let (consumer, version) = handler.into_parts();
            Ok(ConsumerSlot { consumer, tell: None, version })
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

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    fn attempt(source: &str) -> Attempt {
        let endpoint = |text| Endpoint::parse(text).unwrap();
        Attempt::new(endpoint("/local/there"), endpoint("/local/here"))
            .with_source(source.parse().unwrap())
    }

    type Deciding<'a> = BoxFuture<'a, Decision>;

    fn poll<F: Future>(future: F) -> Poll<F::Output> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    /// An attempt that waits, or why it does not.
    fn ask(queue: &AttemptQueue, source: String) -> Result<Deciding<'_>, Refusal> {
        let mut deciding: Deciding<'_> = Box::pin(async move {
            let attempt = attempt(&source);
            queue.decide(&attempt).await
        });
        match poll(&mut deciding) {
            Poll::Pending => Ok(deciding),
            Poll::Ready(decision) => Err(decision.err().unwrap()),
        }
    }

    fn pull(attempts: &mut Attempts) -> Option<String> {
        match poll(attempts.next()) {
            Poll::Ready(pending) => Some(pending.unwrap().attempt().source.unwrap().to_string()),
            Poll::Pending => None,
        }
    }

    #[test]
    fn one_source_has_its_share_of_the_places_and_leaves_the_others_theirs() {
        let (queue, mut attempts) = Attempts::new();
        let mut held = Vec::new();
        for number in 0..Attempts::MAX_WAITING_PER_SOURCE {
            held.push(ask(&queue, format!("[2001:db8::{number:x}]:1")).unwrap());
        }
        let text = ask(&queue, "[2001:db8::ffff]:9".to_owned()).err().unwrap().to_string();
        assert!(text.contains("from this source"), "{text}");
        let sources = Attempts::MAX_WAITING / Attempts::MAX_WAITING_PER_SOURCE;
        for source in 1..sources {
            for _ in 0..Attempts::MAX_WAITING_PER_SOURCE {
                held.push(ask(&queue, format!("10.0.0.{source}:1")).unwrap());
            }
        }
        let text = ask(&queue, "10.0.0.99:1".to_owned()).err().unwrap().to_string();
        assert!(text.contains("too many attempts wait"), "{text}");
        assert_eq!(pull(&mut attempts).unwrap(), "[2001:db8::]:1");
        held.push(ask(&queue, "10.0.0.99:1".to_owned()).unwrap());
    }

    #[test]
    fn who_has_gone_takes_no_place_and_is_not_pulled() {
        let (queue, mut attempts) = Attempts::new();
        // As many times as it likes.
        for port in 1..10 * Attempts::MAX_WAITING {
            drop(ask(&queue, format!("10.0.0.1:{port}")).unwrap());
            assert!(queue.0.waiting.lock().attempts.len() <= Attempts::MAX_WAITING);
        }
        let _waits = ask(&queue, "10.0.0.2:1".to_owned()).unwrap();
        let _waits_too = ask(&queue, "10.0.0.1:1".to_owned()).unwrap();
        assert_eq!(pull(&mut attempts).unwrap(), "10.0.0.2:1");
        assert_eq!(pull(&mut attempts).unwrap(), "10.0.0.1:1");
        assert_eq!(pull(&mut attempts), None);
    }

    #[test]
    fn it_ends_when_either_end_goes() {
        let (queue, mut attempts) = Attempts::new();
        {
            let mut next = Box::pin(attempts.next());
            assert!(poll(&mut next).is_pending());
            drop(queue);
            assert!(matches!(poll(&mut next), Poll::Ready(None)));
        }
        let (queue, attempts) = Attempts::new();
        let mut waits = ask(&queue, "10.0.0.1:1".to_owned()).unwrap();
        drop(attempts);
        let Poll::Ready(Err(refusal)) = poll(&mut waits) else { panic!("it waits for nobody") };
        assert!(refusal.text().contains("dropped"), "{refusal}");
        let refusal = ask(&queue, "10.0.0.1:1".to_owned()).err().unwrap();
        assert!(refusal.text().contains("nobody accepts"), "{refusal}");
    }
}
