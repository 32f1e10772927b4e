//! The receiving half of a connection: records between a backend and who handles them.

use std::{
    collections::VecDeque,
    mem,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

use crate::{close::CloseReason, seam::RecordId, sync::Mutex, window::Answer};

/// A record that nobody has been given yet.
pub(crate) type Arrival = (RecordId, Bytes);

#[derive(Debug, Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    /// How many of the records that arrived have an answer.
    answered: AtomicU64,
    /// Whether anybody has ever waited until all have.
    idle_wanted: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    records: VecDeque<Arrival>,
    counts: ReceiveCounts,
    /// Who waits until all are answered.
    idle: Option<Waker>,
    /// Set once no more records are handed out after those that are here.
    end: Option<CloseReason>,
    /// Whether records are discarded instead of handed out.
    discard: bool,
    /// Whether the remote side is still to be told of some that were discarded.
    telling: bool,
    /// Who waits for records or the end.
    consumer: Option<Waker>,
    /// The driver, when it waits until all records are handed out.
    drained: Option<Waker>,
}

/// What the receiving half has counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReceiveCounts {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

impl Inbox {
    /// Takes one record, or gives it back as a discard after a local close or the end.
    pub(crate) fn push(&self, id: RecordId, payload: Bytes) -> Result<(), Answer> {
        let mut state = self.state.lock();
        if state.discards() {
            return Err(Answer::Discarded);
        }
        state.counts.records += 1;
        state.counts.bytes += payload.len() as u64;
        state.records.push_back((id, payload));
        let consumer = state.consumer.take();
        drop(state);
        if let Some(consumer) = consumer {
            consumer.wake();
        }
        Ok(())
    }

    /// Takes what arrived. After a local close or the end the records come back as discards.
    /// `wake` is false where the caller polls the consumer itself.
    pub(crate) fn push_all(
        &self,
        arrivals: &mut VecDeque<Arrival>,
        discards: &mut Vec<(RecordId, Answer)>,
        wake: bool,
    ) {
        let mut state = self.state.lock();
        if state.discards() {
            discards.extend(arrivals.drain(..).map(|(id, _)| (id, Answer::Discarded)));
            return;
        }
        state.counts.records += arrivals.len() as u64;
        state.counts.bytes += arrivals.iter().map(|(_, payload)| payload.len() as u64).sum::<u64>();
        if state.records.is_empty() {
            mem::swap(&mut state.records, arrivals);
        } else {
            state.records.append(arrivals);
        }
        let consumer = if wake { state.consumer.take() } else { None };
        drop(state);
        if let Some(consumer) = consumer {
            consumer.wake();
        }
    }

    /// Takes up to `most` records into `into`; ready with the end when all are taken.
    pub(crate) fn poll_take(
        &self,
        into: &mut VecDeque<Arrival>,
        most: usize,
        cx: &mut Context<'_>,
    ) -> Poll<CloseReason> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if most >= state.records.len() && into.is_empty() {
            mem::swap(into, &mut state.records);
        } else {
            let count = most.min(state.records.len());
            into.extend(state.records.drain(..count));
        }
        let drained = if state.records.is_empty() { state.drained.take() } else { None };
        let end = if state.records.is_empty() { state.end.clone() } else { None };
        if end.is_none() {
            match &mut state.consumer {
                Some(waker) => waker.clone_from(cx.waker()),
                None => state.consumer = Some(cx.waker().clone()),
            }
        }
        drop(guard);
        if let Some(drained) = drained {
            drained.wake();
        }
        end.map_or(Poll::Pending, Poll::Ready)
    }

    /// Takes one record, or `None` at the end.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Arrival>> {
        let mut state = self.state.lock();
        let next = state.records.pop_front();
        if next.is_some() {
            let drained = if state.records.is_empty() { state.drained.take() } else { None };
            drop(state);
            if let Some(drained) = drained {
                drained.wake();
            }
            return Poll::Ready(next);
        }
        if state.end.is_some() {
            return Poll::Ready(None);
        }
        state.consumer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Notes answers, which go their own way back.
    pub(crate) fn answered(&self, count: usize) {
        // No lock for a record: only who waits for the last answer needs one.
        self.answered.fetch_add(count as u64, Ordering::SeqCst);
        if self.idle_wanted.load(Ordering::SeqCst) {
            let idle = self.state.lock().idle.take();
            if let Some(idle) = idle {
                idle.wake();
            }
        }
    }

    /// Ready once every record that arrived is answered.
    pub(crate) fn poll_idle(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.idle_wanted.store(true, Ordering::SeqCst);
        let mut state = self.state.lock();
        if state.counts.records == self.answered.load(Ordering::SeqCst) {
            return Poll::Ready(());
        }
        state.idle = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Hands out what is here, then ends.
    pub(crate) fn end(&self, reason: &CloseReason) {
        let mut state = self.state.lock();
        state.end.get_or_insert_with(|| reason.clone());
        let consumer = state.consumer.take();
        drop(state);
        if let Some(consumer) = consumer {
            consumer.wake();
        }
    }

    /// Hands out nothing more, and returns the ids of the records that were here.
    pub(crate) fn discard(&self) -> Vec<RecordId> {
        let mut state = self.state.lock();
        state.discard = true;
        let records = mem::take(&mut state.records);
        // The consumer may be at the end now.
        state.telling |= !records.is_empty();
        let consumer = state.consumer.take();
        let drained = if records.is_empty() { state.drained.take() } else { None };
        drop(state);
        self.answered(records.len());
        [consumer, drained].into_iter().flatten().for_each(Waker::wake);
        records.into_iter().map(|(id, _)| id).collect()
    }

    /// Every record that was discarded has its answer: the last word may follow.
    pub(crate) fn discards_told(&self) {
        let mut state = self.state.lock();
        state.telling = false;
        let drained = state.drained.take();
        drop(state);
        if let Some(drained) = drained {
            drained.wake();
        }
    }

    /// Ready once every record that arrived was handed out, or discarded.
    pub(crate) fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.records.is_empty() && !state.telling {
            return Poll::Ready(());
        }
        state.drained = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(crate) fn counts(&self) -> ReceiveCounts {
        self.state.lock().counts
    }
}

impl State {
    /// Whether a record that arrives now would never be handed out.
    fn discards(&self) -> bool {
        self.discard || self.end.is_some()
    }
}

#[cfg(all(test, not(network_loom)))]
#[path = "inbox_tests.rs"]
mod tests;
