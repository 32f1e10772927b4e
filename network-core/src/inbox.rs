//! The receiving half of a connection: records between a backend and who handles them.

use std::{
    collections::VecDeque,
    mem,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

use crate::{close::CloseReason, seam::RecordId, sync::Mutex, window::Answer};

/// A record that nobody has been given yet.
pub(crate) type Arrival = (RecordId, Bytes);

#[derive(Debug, Default)]
pub(crate) struct Inbox(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    records: VecDeque<Arrival>,
    /// Answers on their way from handlers to the backend's driver.
    answers: Vec<(RecordId, Answer)>,
    counts: ReceiveCounts,
    /// How many records wait here, or for the answer of whom they were handed to.
    unanswered: usize,
    /// Who waits until all are answered.
    idle: Option<Waker>,
    /// Set once no more records are handed out after those that are here.
    end: Option<CloseReason>,
    /// Whether records are discarded instead of handed out.
    discard: bool,
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
    /// Takes one record, or gives it back as a discard after a local close.
    pub(crate) fn push(&self, id: RecordId, payload: Bytes) -> Result<(), Answer> {
        let mut state = self.0.lock();
        if state.discard {
            return Err(Answer::Discarded);
        }
        state.unanswered += 1;
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

    /// Takes what arrived. After a local close the records come back as discards.
    /// `wake` is false where the caller polls the consumer itself.
    pub(crate) fn push_all(
        &self,
        arrivals: &mut Vec<Arrival>,
        discards: &mut Vec<(RecordId, Answer)>,
        wake: bool,
    ) {
        let mut state = self.0.lock();
        if state.discard {
            discards.extend(arrivals.drain(..).map(|(id, _)| (id, Answer::Discarded)));
            return;
        }
        state.unanswered += arrivals.len();
        state.counts.records += arrivals.len() as u64;
        state.counts.bytes += arrivals.iter().map(|(_, payload)| payload.len() as u64).sum::<u64>();
        state.records.extend(arrivals.drain(..));
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
        let mut guard = self.0.lock();
        let state = &mut *guard;
        if most >= state.records.len() && into.is_empty() {
            mem::swap(into, &mut state.records);
        } else {
            let count = most.min(state.records.len());
            into.extend(state.records.drain(..count));
        }
        let drained = if state.records.is_empty() { state.drained.take() } else { None };
        let end =
            if into.is_empty() && state.records.is_empty() { state.end.clone() } else { None };
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
        let mut state = self.0.lock();
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

    /// The way back of a handler's answers.
    pub(crate) fn give_answers(&self, answers: &mut Vec<(RecordId, Answer)>) {
        if !answers.is_empty() {
            let mut state = self.0.lock();
            let idle = state.answered(answers.len());
            if state.answers.is_empty() {
                mem::swap(&mut state.answers, answers);
            } else {
                state.answers.append(answers);
            }
            drop(state);
            if let Some(idle) = idle {
                idle.wake();
            }
        }
    }

    /// Notes answers that take another way back.
    pub(crate) fn answered(&self, count: usize) {
        let idle = self.0.lock().answered(count);
        if let Some(idle) = idle {
            idle.wake();
        }
    }

    /// Ready once every record that arrived is answered.
    pub(crate) fn poll_idle(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.unanswered == 0 {
            return Poll::Ready(());
        }
        state.idle = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(crate) fn take_answers(&self, into: &mut Vec<(RecordId, Answer)>) {
        let answers = &mut self.0.lock().answers;
        if into.is_empty() {
            mem::swap(into, answers);
        } else {
            into.append(answers);
        }
    }

    /// Hands out what is here, then ends.
    pub(crate) fn end(&self, reason: &CloseReason) {
        let mut state = self.0.lock();
        state.end.get_or_insert_with(|| reason.clone());
        let consumer = state.consumer.take();
        drop(state);
        if let Some(consumer) = consumer {
            consumer.wake();
        }
    }

    /// Hands out nothing more, and returns the ids of the records that were here.
    pub(crate) fn discard(&self) -> Vec<RecordId> {
        let mut state = self.0.lock();
        state.discard = true;
        let records = mem::take(&mut state.records);
        let wakers = [state.drained.take(), state.answered(records.len())];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
        records.into_iter().map(|(id, _)| id).collect()
    }

    /// Ready once every record that arrived was handed out, or discarded.
    pub(crate) fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.records.is_empty() {
            return Poll::Ready(());
        }
        state.drained = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(crate) fn counts(&self) -> ReceiveCounts {
        self.0.lock().counts
    }
}

impl State {
    /// Counts answers, and returns whom to wake if these were the last.
    fn answered(&mut self, count: usize) -> Option<Waker> {
        self.unanswered = self.unanswered.saturating_sub(count);
        if self.unanswered == 0 { self.idle.take() } else { None }
    }
}
