//! Runs a handler over the records of one connection.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    task::Poll,
};

use bytes::Bytes;

use crate::{
    close::CloseReason, connection::Connection, guard::Guarded, handler::ConnectionHandler,
    pool::Pool, refusal::Refusal, window::Answer,
};

/// A handler at work on one connection: boxed once, and polled by the backend's own task.
pub(crate) type ServeFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How many answers are offered at once. Small acks are then freed before so many are held
/// that the allocator leaves its fast path: a tenth of the time of a small record.
const BATCH: usize = 8;

pub(crate) async fn serve<H: ConnectionHandler>(handler: H, connection: Connection) {
    let shared = connection.shared();
    let inbox = shared.inbox();
    let at_most = if handler.one_at_a_time() { 1 } else { usize::MAX };
    let mut calls = Pool::new();
    let mut records = VecDeque::new();
    let mut answers = Vec::new();
    let mut open = pin!(Guarded::new(|| handler.on_open(&connection)));
    let mut opened = false;

    // A record whose call is being made.
    let mut calling = None;

    let reason = poll_fn(|cx| {
        if !opened && let Poll::Ready(outcome) = open.as_mut().poll(cx) {
            opened = true;
            if outcome.is_err() {
                connection.fail(CloseReason::HandlerPanicked);
            }
        }
        loop {
            // One guard around a turn and not around each call: a call costs less so. Unwind
            // safe: the call that panicked is known and given up, the rest is as it was.
            let turn = catch_unwind(AssertUnwindSafe(|| {
                loop {
                    while let Poll::Ready((id, outcome)) = calls.poll_next(cx) {
                        answers.push((id, answer(outcome, &connection)));
                    }
                    let room = at_most.saturating_sub(calls.running());
                    let end = inbox.poll_take(&mut records, room, cx);
                    let taken = records.len();
                    while let Some((id, record)) = records.pop_front() {
                        calling = Some(id);
                        let call = handler.on_receive(&connection, record);
                        if let Poll::Ready(outcome) = calls.start(id, call) {
                            answers.push((id, answer(outcome, &connection)));
                        }
                        calling = None;
                        if answers.len() % BATCH == 0 {
                            connection.answer_all(&mut answers, true);
                        }
                    }
                    // Where all were taken, the next to come wakes this task. A call that is
                    // new has left its waker only with what it waits for: look after it.
                    if taken == 0 || (at_most == usize::MAX && calls.running() == 0) {
                        connection.answer_all(&mut answers, false);
                        return end;
                    }
                }
            }));
            if let Ok(end) = turn {
                return end;
            }
            let polled = calls.panicked();
            if let Some(id) = calling.take().or(polled) {
                answers.push((id, Answer::Refused(Refusal::new("the handler panicked"))));
            }
            connection.fail(CloseReason::HandlerPanicked);
        }
    })
    .await;

    // Calls in progress go on, but nobody waits for their answers.
    let mut close = pin!(Guarded::new(|| handler.on_close(&connection, &reason)));
    let mut closed = false;
    poll_fn(|cx| {
        closed = closed || close.as_mut().poll(cx).is_ready();
        // `close` returns once `on_close` was called; it may itself be called from there.
        shared.consumer_ended();
        opened = opened || open.as_mut().poll(cx).is_ready();
        loop {
            match catch_unwind(AssertUnwindSafe(|| calls.poll_next(cx))) {
                Ok(Poll::Pending) => break,
                Ok(Poll::Ready((id, outcome))) => answers.push((id, answer(outcome, &connection))),
                Err(_) => {
                    let panicked = Answer::Refused(Refusal::new("the handler panicked"));
                    answers.extend(calls.panicked().map(|id| (id, panicked)));
                }
            }
        }
        // Nobody hears them, but the link learns which records are no longer held.
        connection.answer_all(&mut answers, false);
        if closed && opened && calls.running() == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

fn answer(outcome: Result<Bytes, Refusal>, connection: &Connection) -> Answer {
    match outcome {
        Ok(ack) => connection.shared().checked_ack(ack),
        Err(refusal) => Answer::Refused(refusal),
    }
}
