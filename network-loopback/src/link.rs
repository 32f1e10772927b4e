//! Two ends of one connection.
//!
//! A record goes straight into the other end's inbox and an ack straight into the sender's
//! slot; a task for each end runs the handler and says goodbye.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use network_core::{
    AckSink, Answer, CloseReason, Connection, Delivery, Link, LinkEvents, OpenLink, Record,
    RecordId, RecordSink, Unsent,
};
use tokio::time::{Sleep, sleep};

/// Which end was revoked before the connection opened.
#[derive(Debug)]
pub(crate) enum Refused {
    Dialing,
    Accepting,
}

/// Joins two ends and returns the dialing one.
pub(crate) fn join(
    dialed: OpenLink,
    accepted: OpenLink,
    close_time: Duration,
) -> Result<Connection, Refused> {
    let (here, there) = (Arc::new(End::default()), Arc::new(End::default()));
    let dialing = LoopLink {
        other_records: accepted.records(),
        other_acks: accepted.acks(),
        own: here.clone(),
        other: there.clone(),
    };
    let accepting = LoopLink {
        other_records: dialed.records(),
        other_acks: dialed.acks(),
        own: there.clone(),
        other: here.clone(),
    };
    let (_, events) = accepted.establish(Arc::new(accepting)).map_err(|_| Refused::Accepting)?;
    let far = Driver::new(events, there.clone(), here.clone(), close_time);
    let (connection, events) = dialed.establish(Arc::new(dialing)).map_err(|_| Refused::Dialing)?;
    let near = Driver::new(events, here, there, close_time);
    tokio::spawn(far.run());
    tokio::spawn(near.run());
    Ok(connection)
}

#[derive(Debug)]
struct LoopLink {
    other_records: RecordSink,
    other_acks: AckSink,
    own: Arc<End>,
    other: Arc<End>,
}

impl Link for LoopLink {
    fn submit(&self, id: RecordId, record: Record) -> Result<(), Unsent> {
        self.other_records.record(id, record.payload).map_err(|_| Unsent)
    }

    fn answer(&self, id: RecordId, answer: Answer) {
        if !self.own.mute.load(Ordering::Acquire) {
            // Stale only if the connection is over: then the record has its answer.
            let _ = self.other_acks.answer(id, answer);
        }
    }

    fn answers(&self, answers: &mut Vec<(RecordId, Answer)>, more: bool) {
        // All of a turn together: each time may wake a sender on another core.
        if more {
            return;
        }
        let answers = answers.drain(..);
        if !self.own.mute.load(Ordering::Acquire) {
            // As above, for each.
            let _ = self.other_acks.answers(answers);
        }
    }

    fn close(&self, reason: &CloseReason) {
        self.own.change(|state| state.said_close = true);
        self.other.change(|state| {
            state.heard_close.get_or_insert_with(|| reason.seen_from_remote());
        });
    }
}

/// What one end knows of the goodbye: both say that they close, and then, once all records
/// of the other are handed out or discarded, that they are done.
#[derive(Debug, Default)]
struct End {
    /// Whether there is anything to know: until then the driver need not look.
    parting: AtomicBool,
    /// Whether this end has said its last word: answers that come later reach nobody.
    mute: AtomicBool,
    state: Mutex<EndState>,
}

#[derive(Debug, Default)]
struct EndState {
    said_close: bool,
    heard_close: Option<CloseReason>,
    said_done: bool,
    heard_done: bool,
    /// The other end is gone without having been done.
    cut_off: bool,
    driver: Option<Waker>,
}

impl End {
    fn lock(&self) -> MutexGuard<'_, EndState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut EndState)) {
        let mut state = self.lock();
        change(&mut state);
        self.parting.store(true, Ordering::Release);
        let driver = state.driver.take();
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}

/// Tells the other end when this one has gone, however it went.
struct Leaving(Arc<End>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.change(|state| state.cut_off = true);
    }
}

/// Runs one end.
struct Driver {
    events: LinkEvents,
    own: Arc<End>,
    other: Leaving,
    close_time: Duration,
    patience: Option<Pin<Box<Sleep>>>,
    told_closing: bool,
    /// Whom the own end wakes.
    task: Option<Waker>,
}

impl Driver {
    fn new(events: LinkEvents, own: Arc<End>, other: Arc<End>, close_time: Duration) -> Self {
        Self {
            events,
            own,
            other: Leaving(other),
            close_time,
            patience: None,
            told_closing: false,
            task: None,
        }
    }

    async fn run(mut self) {
        let (reason, unacked) = poll_fn(|cx| self.poll(cx)).await;
        self.own.mute.store(true, Ordering::Release);
        self.events.closed(&reason, unacked);
        // The other end does not wait for this handler's `on_close`.
        drop(self.other);
        self.events.finish().await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(CloseReason, Delivery)> {
        let _ = self.events.poll(cx);
        let known = self.task.as_ref().is_some_and(|task| task.will_wake(cx.waker()));
        if known && !self.own.parting.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        self.task = Some(cx.waker().clone());
        let mut state = self.own.lock();
        state.driver = Some(cx.waker().clone());
        if !state.said_close && state.heard_close.is_none() && !state.cut_off {
            return Poll::Pending;
        }
        let heard = state.heard_close.clone();
        let reason = heard.clone().unwrap_or(CloseReason::Remote);
        if state.heard_done && state.said_done {
            return Poll::Ready((reason, Delivery::Delivered));
        }
        if state.cut_off {
            return Poll::Ready((reason, Delivery::Unknown));
        }
        let said_done = state.said_done;
        drop(state);
        if let Some(heard) = heard {
            if !self.told_closing {
                self.told_closing = true;
                self.events.closing(&heard);
            }
            if !said_done && self.events.poll_drained(cx).is_ready() {
                self.say_done(&heard);
                cx.waker().wake_by_ref();
            }
        }
        let close_time = self.close_time;
        let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(close_time)));
        if patience.as_mut().poll(cx).is_ready() {
            return Poll::Ready((reason, Delivery::Unknown));
        }
        Poll::Pending
    }

    fn say_done(&self, heard: &CloseReason) {
        self.own.mute.store(true, Ordering::Release);
        {
            let mut own = self.own.lock();
            own.said_close = true;
            own.said_done = true;
        }
        self.other.0.change(|state| {
            state.heard_close.get_or_insert_with(|| heard.seen_from_remote());
            state.heard_done = true;
        });
    }
}
