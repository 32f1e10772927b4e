//! What senders and the driver of a stream share.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use crate::{
    close::CloseReason,
    seam::{AckSink, Link, Record, RecordId, Unsent},
    window::Answer,
    wire::{Closing, Output},
};

/// The senders' side of a stream: frames go into a shared output under a short lock, from
/// where the driver swaps them out.
#[derive(Debug)]
pub(super) struct StreamLink {
    pub(super) shared: Arc<Shared>,
    pub(super) acks: AckSink,
}

#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<State>);

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) output: Output,
    /// Records in `output`.
    pub(super) queued: u32,
    /// What the answers in `output` give back to the peer's window.
    pub(super) answered: Load,
    /// No record goes out any more: a close is in `output`, or was. It named this many
    /// records of this side that are un-acked.
    pub(super) said_close: Option<u32>,
    /// No answer goes out any more either.
    pub(super) said_done: bool,
    /// The driver, while it sleeps with nothing to write.
    pub(super) driver: Option<Waker>,
    /// The driver, for a close: that may not wait until a blocked write goes on.
    pub(super) task: Option<Waker>,
}

/// A part of a window.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    pub(super) records: u32,
    pub(super) bytes: u64,
}

impl Shared {
    #[inline]
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    #[inline]
    pub(super) fn push_answer(&mut self, id: RecordId, answer: Answer) {
        if self.said_done {
            return;
        }
        let (id, len) = parts(id);
        match answer {
            Answer::Ack(ack) => self.output.ack(id, ack),
            Answer::Refused(refusal) => self.output.refused(id, &refusal),
            Answer::Discarded => self.output.discarded(id),
            Answer::NoRoom => self.output.no_room(id),
        }
        self.answered.records += 1;
        self.answered.bytes += u64::from(len);
    }

    /// Says that this side closes, unless it has; `acks` knows what is un-acked.
    pub(super) fn push_close(&mut self, reason: &CloseReason, unacked: u32) {
        if self.said_close.is_none() {
            self.said_close = Some(unacked);
            self.output.close(&Closing::of(reason, unacked));
        }
    }
}

/// The id of a record that arrived: the peer's id and the length, which comes back with the
/// answer, so that the window needs no table.
#[inline]
pub(super) fn inbound_id(id: u32, len: usize) -> RecordId {
    RecordId(u64::from(id) | (len as u64) << 32)
}

#[inline]
fn parts(id: RecordId) -> (u32, u32) {
    (id.0 as u32, (id.0 >> 32) as u32)
}

impl StreamLink {
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.shared.lock();
        let outcome = change(&mut state);
        let driver = if state.output.is_empty() { None } else { state.driver.take() };
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
        outcome
    }
}

impl Link for StreamLink {
    fn submit(&self, id: RecordId, record: Record) -> Result<(), Unsent> {
        self.with(|state| {
            if state.said_close.is_some() {
                return Err(Unsent);
            }
            state.queued += 1;
            state.output.record(id.0 as u32, record.payload);
            Ok(())
        })
    }

    fn answer(&self, id: RecordId, answer: Answer) {
        self.with(|state| state.push_answer(id, answer));
    }

    fn answers(&self, answers: &mut Vec<(RecordId, Answer)>, _more: bool) {
        let mut state = self.shared.lock();
        for (id, answer) in answers.drain(..) {
            state.push_answer(id, answer);
        }
    }

    fn close(&self, reason: &CloseReason) {
        let unacked = self.acks.unacked();
        self.with(|state| state.push_close(reason, unacked));
        let task = self.shared.lock().task.clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}
