//! The sending half of a connection: the window and the table of acks, under one lock.
//!
//! A record takes a permit and a slot together and holds the permit until its *ack*, so
//! the un-acked records never pass the window. The slot lives on until the ack is taken.
//! Slots are reused; the generation in a [`RecordId`] tells a late ack from a current one.

use std::{
    collections::VecDeque,
    mem,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;

use crate::{
    close::{CloseReason, Delivery},
    error::SendError,
    refusal::Refusal,
    seam::RecordId,
    sync::Mutex,
};

/// What the remote side says of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The handler's ack.
    Ack(Bytes),
    /// The handler's refusal.
    Refused(Refusal),
    /// No handler saw the record, nor will one: the connection is closing.
    Discarded,
    /// The remote side had no memory for the record: no handler saw it or will see it.
    NoRoom,
}

/// The sending half of a connection.
#[derive(Debug)]
pub(crate) struct Window(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Permits not in use.
    records: u32,
    /// Bytes not in use.
    bytes: u64,
    /// How many records the window has in all.
    size: u32,
    slots: Vec<Slot>,
    /// The first free slot, plus one; 0 is none.
    free: u32,
    /// Who waits for room, first come first served. Tickets increase.
    waiters: VecDeque<Waiter>,
    next_ticket: u64,
    /// Set under the lock that opens slots, so that none opens after it.
    closed: Option<CloseReason>,
    /// Who waits until nothing is un-acked.
    idle: Option<Waker>,
    counts: SendCounts,
    /// Room for wakers, used by one batch of answers after the other.
    spare: Vec<Waker>,
}

/// Whom to wake once the lock is free.
#[derive(Debug)]
struct Woken {
    first: Option<Waker>,
    more: Vec<Waker>,
}

impl Woken {
    fn extend(&mut self, waker: Option<Waker>) {
        match waker {
            Some(waker) if self.first.is_none() => self.first = Some(waker),
            Some(waker) => self.more.push(waker),
            None => {}
        }
    }

    fn wake(&mut self) {
        self.first.take().into_iter().chain(self.more.drain(..)).for_each(Waker::wake);
    }
}

/// What the sending half has counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SendCounts {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    pub(crate) acks: u64,
    pub(crate) refusals: u64,
    pub(crate) window_waits: u64,
}

#[derive(Debug)]
struct Slot {
    generation: u16,
    len: u32,
    state: SlotState,
}

#[derive(Debug)]
enum SlotState {
    Free {
        next: u32,
    },
    /// A permit that has not sent its record yet.
    Reserved,
    Waiting(Option<Waker>),
    /// Nobody waits for the ack any more.
    Abandoned,
    Done(Result<Bytes, SendError>),
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    len: u32,
    waker: Waker,
}

/// A place in the queue for room. Give it back with [`Window::leave`] unless granted.
#[derive(Debug, Default)]
pub(crate) struct Ticket(Option<u64>);

/// An ack for a record that is not un-acked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an ack for a record that is not waiting for one")]
pub struct StaleAck;

impl Window {
    pub(crate) fn new(records: u32, bytes: u64) -> Self {
        Self(Mutex::new(State {
            records,
            bytes,
            size: records,
            slots: Vec::new(),
            free: 0,
            waiters: VecDeque::new(),
            next_ticket: 0,
            closed: None,
            idle: None,
            counts: SendCounts::default(),
            spare: Vec::new(),
        }))
    }

    /// Takes a permit and a slot for a record of up to `len` bytes, which must not be more
    /// than the window holds. `send` says that the record is sent at once:
    /// the waker of `cx` then also waits for the ack.
    pub(crate) fn poll_open(
        &self,
        len: u32,
        send: bool,
        ticket: &mut Ticket,
        cx: &mut Context<'_>,
    ) -> Poll<Result<RecordId, SendError>> {
        let mut guard = self.0.lock();
        let state = &mut *guard;
        if let Some(reason) = &state.closed {
            ticket.0 = None;
            return Poll::Ready(Err(SendError::Closed { reason: reason.clone() }));
        }
        let my_turn = match ticket.0 {
            None => state.waiters.is_empty(),
            Some(mine) => state.waiters.front().is_some_and(|front| front.ticket == mine),
        };
        if my_turn && state.has_room(len) {
            let mut next = None;
            if ticket.0.take().is_some() {
                state.waiters.pop_front();
            }
            let id = state.open(len, send.then(|| cx.waker().clone()));
            // What one ack brings may be enough for several who wait.
            if state.waiters.front().is_some_and(|front| state.has_room(front.len)) {
                next = state.waiters.front().map(|front| front.waker.clone());
            }
            drop(guard);
            if let Some(next) = next {
                next.wake();
            }
            return Poll::Ready(Ok(id));
        }
        match ticket.0 {
            None => {
                state.counts.window_waits += 1;
                state.next_ticket += 1;
                let waiter = Waiter { ticket: state.next_ticket, len, waker: cx.waker().clone() };
                ticket.0 = Some(waiter.ticket);
                state.waiters.push_back(waiter);
            }
            Some(mine) => {
                if let Some(at) = state.place_of(mine) {
                    state.waiters[at].waker.clone_from(cx.waker());
                }
            }
        }
        Poll::Pending
    }

    /// Gives up a place in the queue.
    pub(crate) fn leave(&self, ticket: &mut Ticket) {
        let Some(mine) = ticket.0.take() else { return };
        let mut state = self.0.lock();
        if let Some(at) = state.place_of(mine) {
            state.waiters.remove(at);
            // The wake-up for the room there is may have been this waiter's.
            let next = if at == 0 { state.next_in_line() } else { None };
            drop(state);
            if let Some(next) = next {
                next.wake();
            }
        }
    }

    /// Turns a permit into a record of `len` bytes on its way, at most what was reserved.
    pub(crate) fn commit(&self, id: RecordId, len: u32) -> Result<(), SendError> {
        let mut guard = self.0.lock();
        let state = &mut *guard;
        if let Some(reason) = state.closed.clone() {
            drop(guard);
            self.cancel(id);
            return Err(SendError::Closed { reason });
        }
        let slot = &mut state.slots[id.index()];
        state.bytes += u64::from(slot.len - len);
        slot.len = len;
        slot.state = SlotState::Waiting(None);
        state.counts.records += 1;
        state.counts.bytes += u64::from(len);
        let next = state.next_in_line();
        drop(guard);
        if let Some(next) = next {
            next.wake();
        }
        Ok(())
    }

    /// Gives back a permit that has sent nothing.
    pub(crate) fn cancel(&self, id: RecordId) {
        let mut state = self.0.lock();
        state.give_back(id.index());
        state.release(id.index());
        let wakers = [state.next_in_line(), state.idle_now()];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Takes back a record that the link did not take, because it closes.
    pub(crate) fn retract(&self, id: RecordId, len: u32) -> SendError {
        self.abandon(id);
        let mut guard = self.0.lock();
        let state = &mut *guard;
        let reason = state.closed.clone().unwrap_or(CloseReason::Remote);
        state.counts.records -= 1;
        state.counts.bytes -= u64::from(len);
        drop(guard);
        // Without an answer to come, the permit comes back here, if the close has not yet
        // brought it.
        let _ = self.answer([(id, Answer::Discarded)]);
        SendError::Closed { reason }
    }

    /// Fills the slots of the records that these answers are for, and wakes who waits. A stale answer mints no permit: it is reported, the rest is taken.
    pub(crate) fn answer(
        &self,
        answers: impl IntoIterator<Item = (RecordId, Answer)>,
    ) -> Result<(), StaleAck> {
        let mut guard = self.0.lock();
        let state = &mut *guard;
        let mut outcome = Ok(());
        let mut woken = Woken { first: None, more: mem::take(&mut state.spare) };
        for (id, answer) in answers {
            outcome = outcome.and(state.answer(id, answer, &mut woken));
        }
        woken.extend(state.next_in_line());
        woken.extend(state.idle_now());
        let many = !woken.more.is_empty();
        if !many {
            state.spare = mem::take(&mut woken.more);
        }
        drop(guard);
        woken.wake();
        if many {
            // Kept for the next batch: a lock for many wake-ups instead of an allocation.
            self.0.lock().spare = woken.more;
        }
        outcome
    }

    /// A record's time has passed, and it is proved that no handler will see it.
    pub(crate) fn time_out(&self, id: RecordId, after: Duration) -> Result<(), StaleAck> {
        let mut woken = Woken { first: None, more: Vec::new() };
        let mut state = self.0.lock();
        let timed_out = SendError::TimedOut { after, delivery: Delivery::NotDelivered };
        let outcome = state.settle(id, &mut woken, |_| Err(timed_out));
        woken.extend(state.next_in_line());
        woken.extend(state.idle_now());
        drop(state);
        woken.wake();
        outcome
    }

    /// Takes the ack of a record, or waits for it.
    pub(crate) fn poll_ack(
        &self,
        id: RecordId,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Bytes, SendError>> {
        let mut guard = self.0.lock();
        let state = &mut *guard;
        let slot = &mut state.slots[id.index()];
        if let SlotState::Waiting(waker) = &mut slot.state {
            match waker {
                Some(waker) => waker.clone_from(cx.waker()),
                None => *waker = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        let SlotState::Done(result) = mem::replace(&mut slot.state, SlotState::Abandoned) else {
            // Only the future that owns the slot polls it, and no more once it was ready.
            debug_assert!(false, "an ack was taken twice");
            return Poll::Pending;
        };
        let was_full = state.out_of_slots();
        state.release(id.index());
        let next = if was_full { state.next_in_line() } else { None };
        drop(guard);
        if let Some(next) = next {
            next.wake();
        }
        Poll::Ready(result)
    }

    /// Nobody waits for this ack any more; the permit comes back with it all the same.
    pub(crate) fn abandon(&self, id: RecordId) {
        let mut guard = self.0.lock();
        let state = &mut *guard;
        let slot = &mut state.slots[id.index()];
        match mem::replace(&mut slot.state, SlotState::Abandoned) {
            SlotState::Done(result) => {
                let was_full = state.out_of_slots();
                state.release(id.index());
                let next = if was_full { state.next_in_line() } else { None };
                drop(guard);
                // Its buffer is not freed under the lock.
                drop(result);
                if let Some(next) = next {
                    next.wake();
                }
            }
            waiting => {
                drop(guard);
                drop(waiting);
            }
        }
    }

    /// Takes no more records. The first reason stays.
    pub(crate) fn shut(&self, reason: &CloseReason) {
        let mut state = self.0.lock();
        state.closed.get_or_insert_with(|| reason.clone());
        let waiters = mem::take(&mut state.waiters);
        drop(state);
        waiters.into_iter().for_each(|waiter| waiter.waker.wake());
    }

    /// Ends every send that still waits: the connection is over, and `unacked` is what
    /// became of the records without an ack.
    pub(crate) fn close(&self, reason: &CloseReason, unacked: Delivery) {
        self.shut(reason);
        let mut woken = Vec::new();
        let mut state = self.0.lock();
        let reason = state.closed.clone().unwrap_or_else(|| reason.clone());
        for index in 0..state.slots.len() {
            match &mut state.slots[index].state {
                SlotState::Waiting(waker) => {
                    woken.extend(waker.take());
                    let lost = SendError::AckLost { reason: reason.clone(), delivery: unacked };
                    state.slots[index].state = SlotState::Done(Err(lost));
                    state.give_back(index);
                }
                SlotState::Abandoned => {
                    state.give_back(index);
                    state.release(index);
                }
                SlotState::Free { .. } | SlotState::Reserved | SlotState::Done(_) => {}
            }
        }
        woken.extend(state.idle.take());
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Ready when no permit is out and no record un-acked.
    pub(crate) fn poll_idle(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.records == state.size {
            return Poll::Ready(());
        }
        state.idle = Some(cx.waker().clone());
        Poll::Pending
    }

    /// How many records are un-acked, permits that have not sent yet included.
    pub(crate) fn unacked(&self) -> u32 {
        let state = self.0.lock();
        state.size - state.records
    }

    pub(crate) fn counts(&self) -> SendCounts {
        self.0.lock().counts
    }
}

impl State {
    #[inline]
    fn has_room(&self, len: u32) -> bool {
        self.records > 0 && self.bytes >= u64::from(len) && !self.out_of_slots()
    }

    /// Slots whose ack nobody has taken yet count, so that they too are bounded.
    #[inline]
    fn out_of_slots(&self) -> bool {
        self.free == 0 && self.slots.len() > usize::from(u16::MAX)
    }

    #[inline]
    fn open(&mut self, len: u32, sender: Option<Waker>) -> RecordId {
        self.records -= 1;
        self.bytes -= u64::from(len);
        let state = if sender.is_some() {
            self.counts.records += 1;
            self.counts.bytes += u64::from(len);
            SlotState::Waiting(sender)
        } else {
            SlotState::Reserved
        };
        if self.free == 0 {
            self.slots.push(Slot { generation: 0, len, state });
            return RecordId::of_slot(self.slots.len() - 1, 0);
        }
        let index = self.free as usize - 1;
        let slot = &mut self.slots[index];
        if let SlotState::Free { next } = slot.state {
            self.free = next;
        }
        slot.generation = slot.generation.wrapping_add(1);
        slot.len = len;
        slot.state = state;
        RecordId::of_slot(index, slot.generation)
    }

    fn answer(&mut self, id: RecordId, answer: Answer, woken: &mut Woken) -> Result<(), StaleAck> {
        self.settle(id, woken, |state| match answer {
            Answer::Ack(ack) => {
                state.counts.acks += 1;
                Ok(ack)
            }
            Answer::Refused(refusal) => {
                state.counts.refusals += 1;
                Err(SendError::Refused(refusal))
            }
            Answer::NoRoom => Err(SendError::NoRoom),
            Answer::Discarded => Err(SendError::AckLost {
                reason: state.closed.clone().unwrap_or(CloseReason::Remote),
                delivery: Delivery::NotDelivered,
            }),
        })
    }

    /// Gives a record its result, if it is un-acked.
    #[inline]
    fn settle(
        &mut self,
        id: RecordId,
        woken: &mut Woken,
        result: impl FnOnce(&mut Self) -> Result<Bytes, SendError>,
    ) -> Result<(), StaleAck> {
        let index = id.index();
        let slot = self.slots.get_mut(index).ok_or(StaleAck)?;
        if RecordId::of_slot(index, slot.generation) != id {
            return Err(StaleAck);
        }
        let wanted = match &mut slot.state {
            SlotState::Waiting(waker) => {
                woken.extend(waker.take());
                true
            }
            SlotState::Abandoned => false,
            SlotState::Free { .. } | SlotState::Reserved | SlotState::Done(_) => {
                return Err(StaleAck);
            }
        };
        let result = result(self);
        self.give_back(index);
        if wanted {
            self.slots[index].state = SlotState::Done(result);
        } else {
            self.release(index);
        }
        Ok(())
    }

    /// Returns the permit and the bytes of a slot.
    #[inline]
    fn give_back(&mut self, index: usize) {
        self.records += 1;
        self.bytes += u64::from(mem::take(&mut self.slots[index].len));
    }

    #[inline]
    fn release(&mut self, index: usize) {
        self.slots[index].state = SlotState::Free { next: self.free };
        self.free = index as u32 + 1;
    }

    /// The first who waits, if there is room for it.
    #[inline]
    fn next_in_line(&self) -> Option<Waker> {
        let front = self.waiters.front()?;
        self.has_room(front.len).then(|| front.waker.clone())
    }

    #[inline]
    fn idle_now(&mut self) -> Option<Waker> {
        if self.records == self.size { self.idle.take() } else { None }
    }

    fn place_of(&self, ticket: u64) -> Option<usize> {
        self.waiters.binary_search_by_key(&ticket, |waiter| waiter.ticket).ok()
    }
}

#[cfg(all(test, not(network_loom)))]
#[path = "window_tests.rs"]
mod tests;

#[cfg(all(test, network_loom))]
#[path = "window_loom.rs"]
mod loom_models;
