//! What senders and the driver of a stream share.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use crate::{
    budget::Share,
    close::CloseReason,
    seam::{AckSink, Link, Record, RecordId, Unsent},
    window::Answer,
    wire::{BY_REFERENCE, Closing, HEADER_LEN, Output, extra_charge},
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
    /// What the answers in `output` may keep in memory, in bytes.
    pub(super) leaving: usize,
    /// By how much answers have changed what the connection holds, since the driver looked.
    pub(super) change: isize,
    /// And how much less that is not their own these records keep.
    pub(super) unshared: usize,
    /// What records still hold after the end of the driver, whose it was until then.
    share: Option<Box<Share>>,
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

    /// The driver has ended: nothing goes out any more. Calls may still run, and records wait
    /// to be pulled: what they hold is given back as they end, at the latest with `self`.
    /// `leaving` is what the driver has not written, and now drops.
    pub(super) fn retire(&self, mut share: Share, leaving: usize) {
        let mut state = self.lock();
        state.said_close.get_or_insert(0);
        state.said_done = true;
        let unwritten = mem::take(&mut state.output);
        let leaving = leaving + mem::take(&mut state.leaving);
        let change = mem::take(&mut state.change) - leaving as isize;
        share.change(change, mem::take(&mut state.unshared));
        share.settle(0);
        if share.held() > 0 {
            state.share = Some(Box::new(share));
        }
        drop(state);
        // Not under the lock.
        drop(unwritten);
    }

    /// The last words of the driver have gone, or never will.
    pub(super) fn parted(&self, leaving: usize) {
        let mut state = self.lock();
        if let Some(share) = &mut state.share {
            share.release(leaving);
        }
    }
}

impl State {
    #[inline]
    pub(super) fn push_answer(&mut self, id: RecordId, answer: Answer) {
        let (id, len, extra) = parts(id);
        // A record that was not taken held nothing.
        let held = if matches!(answer, Answer::NoRoom) { 0 } else { len as usize };
        self.change -= held as isize;
        self.unshared += extra;
        if self.said_done {
            if let Some(share) = &mut self.share {
                share.change(mem::take(&mut self.change), mem::take(&mut self.unshared));
                share.settle(0);
            }
            return;
        }
        let leaving = match &answer {
            // It may be a part of the record, all of which it then keeps.
            Answer::Ack(ack) if ack.len() >= BY_REFERENCE => ack.len().max(held + extra),
            Answer::Ack(ack) => ack.len(),
            Answer::Refused(refusal) => refusal.text().len(),
            Answer::Discarded | Answer::NoRoom => 0,
        } + HEADER_LEN;
        self.leaving += leaving;
        self.change += leaving as isize;
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

/// Set in an id, where the length of a frame never reaches.
const IS_SHARED: u64 = 1 << 63;

/// The id of a record that arrived: the peer's id and the length, which comes back with the
/// answer, so that the window needs no table.
#[inline]
pub(super) fn inbound_id(id: u32, len: usize) -> RecordId {
    RecordId(u64::from(id) | (len as u64) << 32)
}

/// The id of a record that shares a buffer that is large for it, and what it is charged beyond
/// its length.
#[inline]
pub(super) fn shared_id(id: RecordId) -> (RecordId, usize) {
    let id = RecordId(id.0 | IS_SHARED);
    (id, parts(id).2)
}

/// The peer's id, the length, and what the record is charged beyond that.
#[inline]
fn parts(id: RecordId) -> (u32, u32, usize) {
    let len = ((id.0 & !IS_SHARED) >> 32) as u32;
    let extra = if id.0 & IS_SHARED == 0 { 0 } else { extra_charge(len as usize) };
    (id.0 as u32, len, extra)
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
