//! Handler calls in progress: like `FuturesUnordered`, but its places are used again, so
//! that a call costs no allocation once a connection has run warm.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Wake, Waker},
};

use crate::sync::{AtomicBool, Mutex};

#[derive(Debug)]
pub(crate) struct Pool<K, F> {
    places: Vec<Place<K, F>>,
    free: Vec<usize>,
    ready: Arc<Ready>,
    /// Reused between turns.
    woken: Vec<usize>,
    /// The place that is being polled: what panicked, if something did.
    polling: Option<usize>,
    /// How often this turn has looked for calls that were woken.
    rounds: u32,
}

/// How often one turn may look: a call that wakes itself whenever it is polled would
/// otherwise keep the task from everything else.
const MAX_ROUNDS: u32 = 4;

#[derive(Debug)]
struct Place<K, F> {
    key: Option<K>,
    future: Pin<Box<Option<F>>>,
    signal: Arc<Signal>,
    waker: Waker,
}

/// Which places want a poll, and the task to wake for them.
#[derive(Debug, Default)]
struct Ready(Mutex<(Vec<usize>, Option<Waker>)>);

#[derive(Debug)]
struct Signal {
    place: usize,
    raised: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.raised.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut ready = self.ready.0.lock();
        ready.0.push(self.place);
        let task = ready.1.take();
        drop(ready);
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl<K: Copy, F: Future> Pool<K, F> {
    pub(crate) fn new() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            ready: Arc::default(),
            woken: Vec::new(),
            polling: None,
            rounds: 0,
        }
    }

    pub(crate) fn running(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Starts a call, and tells its outcome if it has one at once.
    #[inline]
    pub(crate) fn start(&mut self, key: K, future: F) -> Poll<F::Output> {
        let at = self.free.pop().unwrap_or_else(|| {
            let place = self.places.len();
            let ready = self.ready.clone();
            let signal = Arc::new(Signal { place, raised: AtomicBool::new(false), ready });
            let waker = Waker::from(signal.clone());
            self.places.push(Place { key: None, future: Box::pin(None), signal, waker });
            place
        });
        self.places[at].key = Some(key);
        self.places[at].future.set(Some(future));
        self.poll_place(at)
    }

    /// Polls the calls that were woken, and tells the outcome of one that has ended.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<(K, F::Output)> {
        if self.running() == 0 {
            // Nothing to look for, and so nothing to lock.
            self.rounds = 0;
            return Poll::Pending;
        }
        loop {
            while let Some(at) = self.woken.pop() {
                // Not a store, which the loads of the call could overtake: either the call
                // sees what a wake-up was for, or the wake-up sees that it must queue again.
                self.places[at].signal.raised.swap(false, Ordering::AcqRel);
                let Some(key) = self.places[at].key else {
                    continue;
                };
                if let Poll::Ready(outcome) = self.poll_place(at) {
                    return Poll::Ready((key, outcome));
                }
            }
            let mut ready = self.ready.0.lock();
            if ready.0.is_empty() {
                match &mut ready.1 {
                    Some(task) => task.clone_from(cx.waker()),
                    None => ready.1 = Some(cx.waker().clone()),
                }
                self.rounds = 0;
                return Poll::Pending;
            }
            if self.rounds == MAX_ROUNDS {
                drop(ready);
                self.rounds = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.rounds += 1;
            std::mem::swap(&mut ready.0, &mut self.woken);
            // Popped from the back: first woken, first polled.
            self.woken.reverse();
        }
    }

    /// Gives up the call that panicked while it was polled, if one did.
    pub(crate) fn panicked(&mut self) -> Option<K> {
        let place = self.polling.take()?;
        let key = self.places[place].key.take();
        // A future that panicked is dropped and never polled again. Should its drop panic too,
        // the place is free all the same: it has a new box.
        let future = std::mem::replace(&mut self.places[place].future, Box::pin(None));
        let _ = catch_unwind(AssertUnwindSafe(|| drop(future)));
        self.free.push(place);
        key
    }

    #[inline]
    fn poll_place(&mut self, at: usize) -> Poll<F::Output> {
        self.polling = Some(at);
        let place = &mut self.places[at];
        let mut cx = Context::from_waker(&place.waker);
        let poll = match place.future.as_mut().as_pin_mut() {
            Some(future) => future.poll(&mut cx),
            None => Poll::Pending,
        };
        if poll.is_ready() {
            place.future.set(None);
            place.key = None;
            self.free.push(at);
        }
        self.polling = None;
        poll
    }
}

#[cfg(all(test, not(network_loom)))]
#[path = "pool_tests.rs"]
mod tests;

#[cfg(all(test, network_loom))]
#[path = "pool_loom.rs"]
mod loom_models;
