//! Models of the window's races, for loom: every interleaving of a few threads is tried.
//!
//! ```text
//! RUSTFLAGS="--cfg network_loom" cargo test --release -p network-core --lib loom
//! ```
//!
//! A thread that would wait for ever is a deadlock to loom, and fails its model.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Wake,
};

use loom::{
    sync::{Arc, Notify},
    thread::{self, JoinHandle},
};

use super::*;

struct Bell(Notify);

impl Wake for Bell {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.notify();
    }
}

/// Polls a future to its end, each time that it is woken.
fn block_on<F: Future>(future: F) -> F::Output {
    let bell = std::sync::Arc::new(Bell(Notify::new()));
    let waker = bell.clone().into();
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        bell.0.wait();
    }
}

fn window(records: u32) -> Arc<Window> {
    Arc::new(Window::new(records, 100))
}

/// Waits for room, and gives its place in the queue up when dropped.
struct Opening<'a> {
    window: &'a Window,
    send: bool,
    ticket: Ticket,
}

impl<'a> Opening<'a> {
    fn new(window: &'a Window, send: bool) -> Self {
        Self { window, send, ticket: Ticket::default() }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<RecordId, SendError>> {
        self.window.poll_open(1, self.send, &mut self.ticket, cx)
    }

    /// Polls once, with a waker that nobody listens to.
    fn poll_now(&mut self) -> Poll<Result<RecordId, SendError>> {
        self.poll(&mut Context::from_waker(Waker::noop()))
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.window.leave(&mut self.ticket);
    }
}

fn open(window: &Window) -> impl Future<Output = Result<RecordId, SendError>> {
    let mut opening = Opening::new(window, true);
    poll_fn(move |cx| opening.poll(cx))
}

/// Opens where there must be room.
fn open_now(window: &Window, send: bool) -> RecordId {
    match Opening::new(window, send).poll_now() {
        Poll::Ready(Ok(id)) => id,
        other => panic!("no room: {other:?}"),
    }
}

fn taken_ack(window: &Window, id: RecordId) -> impl Future<Output = Result<Bytes, SendError>> {
    poll_fn(move |cx| window.poll_ack(id, cx))
}

fn ack(window: &Window, id: RecordId) -> Result<(), StaleAck> {
    window.answer([(id, Answer::Ack(Bytes::from_static(b"ack")))])
}

/// Does it in a thread of its own.
fn spawn<T: 'static>(
    window: &Arc<Window>,
    does: impl FnOnce(&Window) -> T + 'static,
) -> JoinHandle<T> {
    let window = window.clone();
    thread::spawn(move || does(&window))
}

fn close(window: &Window) {
    window.close(&CloseReason::Local, Delivery::Unknown);
}

/// Every permit, byte and slot is back.
fn assert_whole(window: &Window) {
    let state = window.0.lock();
    assert_eq!((state.records, state.bytes), (state.size, 100));
    let free = state.slots.iter().filter(|slot| matches!(slot.state, SlotState::Free { .. }));
    assert_eq!(free.count(), state.slots.len());
    let mut listed = 0;
    let mut next = state.free;
    while next != 0 {
        let SlotState::Free { next: after } = state.slots[next as usize - 1].state else {
            panic!("a slot in use is on the list of the free ones");
        };
        listed += 1;
        next = after;
    }
    assert_eq!(listed, state.slots.len());
}

#[test]
fn a_send_that_races_with_the_close_has_an_end() {
    loom::model(|| {
        let window = window(1);
        let closing = spawn(&window, close);
        match block_on(open(&window)) {
            Ok(id) => {
                let outcome = block_on(taken_ack(&window, id));
                assert!(matches!(outcome, Err(SendError::AckLost { .. })), "{outcome:?}");
            }
            Err(error) => assert!(matches!(error, SendError::Closed { .. }), "{error}"),
        }
        closing.join().unwrap();
        assert_whole(&window);
    });
}

#[test]
fn a_send_that_waits_for_room_while_the_window_closes_has_an_end() {
    loom::model(|| {
        let window = window(1);
        let first = open_now(&window, true);
        let closing = spawn(&window, close);
        let acking = spawn(&window, move |window| ack(window, first));
        match block_on(open(&window)) {
            Ok(id) => assert!(block_on(taken_ack(&window, id)).is_err()),
            Err(error) => assert!(matches!(error, SendError::Closed { .. }), "{error}"),
        }
        closing.join().unwrap();
        let acked = acking.join().unwrap().is_ok();
        assert_eq!(block_on(taken_ack(&window, first)).is_ok(), acked);
        assert_whole(&window);
    });
}

#[test]
fn a_duplicate_ack_mints_no_permit() {
    loom::model(|| {
        let window = window(1);
        let id = open_now(&window, true);
        let acking = [(); 2].map(|()| spawn(&window, move |window| ack(window, id)));
        block_on(taken_ack(&window, id)).unwrap();
        let taken = acking.map(|thread| thread.join().unwrap().is_ok());
        assert!(taken[0] != taken[1], "{taken:?}");
        assert_whole(&window);
    });
}

#[test]
fn a_late_ack_does_not_complete_a_reused_slot() {
    loom::model(|| {
        let window = window(1);
        let first = open_now(&window, true);
        let acking = [(); 2].map(|()| spawn(&window, move |window| ack(window, first)));
        block_on(taken_ack(&window, first)).unwrap();
        let second = open_now(&window, true);
        assert_eq!(first.index(), second.index());
        let taken = acking.map(|thread| thread.join().unwrap().is_ok());
        assert!(taken[0] != taken[1], "{taken:?}");
        assert_eq!(window.unacked(), 1);
        let poll = window.poll_ack(second, &mut Context::from_waker(Waker::noop()));
        assert!(poll.is_pending(), "{poll:?}");
        ack(&window, second).unwrap();
        block_on(taken_ack(&window, second)).unwrap();
        assert_whole(&window);
    });
}

#[test]
fn an_ack_that_races_with_the_senders_end_returns_the_permit_once() {
    loom::model(|| {
        let window = window(1);
        let id = open_now(&window, true);
        let acking = spawn(&window, move |window| ack(window, id));
        let abandoning = spawn(&window, move |window| window.abandon(id));
        // Whichever is first, there is room again, and whoever waits for it is told.
        let next = block_on(open(&window)).unwrap();
        acking.join().unwrap().unwrap();
        abandoning.join().unwrap();
        assert_eq!(window.unacked(), 1);
        ack(&window, next).unwrap();
        block_on(taken_ack(&window, next)).unwrap();
        assert_whole(&window);
    });
}

#[test]
fn an_abandoned_record_that_the_close_finds_returns_its_permit_once() {
    loom::model(|| {
        let window = window(1);
        let id = open_now(&window, true);
        let acking = spawn(&window, move |window| ack(window, id));
        let closing = spawn(&window, close);
        window.abandon(id);
        let _ = acking.join().unwrap();
        closing.join().unwrap();
        assert_whole(&window);
    });
}

#[test]
fn an_ack_wakes_who_waits_for_room() {
    loom::model(|| {
        let window = window(1);
        let first = open_now(&window, true);
        window.abandon(first);
        let acking = spawn(&window, move |window| ack(window, first));
        let second = block_on(open(&window)).unwrap();
        acking.join().unwrap().unwrap();
        window.abandon(second);
        ack(&window, second).unwrap();
        assert_whole(&window);
    });
}

#[test]
fn a_waiter_that_leaves_while_room_comes_passes_it_on() {
    loom::model(|| {
        let window = window(1);
        let first = open_now(&window, true);
        window.abandon(first);
        let mut leaving = Opening::new(&window, true);
        assert!(leaving.poll_now().is_pending());
        let waiting = spawn(&window, |window| block_on(open(window)).unwrap());
        let acking = spawn(&window, move |window| ack(window, first));
        drop(leaving);
        let second = waiting.join().unwrap();
        acking.join().unwrap().unwrap();
        window.abandon(second);
        ack(&window, second).unwrap();
        assert_whole(&window);
    });
}

#[test]
fn two_who_wait_share_what_one_batch_of_acks_brings() {
    loom::model(|| {
        let window = window(2);
        let acked = [(); 2].map(|()| open_now(&window, true));
        acked.iter().for_each(|id| window.abandon(*id));
        let waiting = [(); 2].map(|()| spawn(&window, |window| block_on(open(window)).unwrap()));
        window.answer(acked.map(|id| (id, Answer::Ack(Bytes::new())))).unwrap();
        for id in waiting.map(|thread| thread.join().unwrap()) {
            window.abandon(id);
            ack(&window, id).unwrap();
        }
        assert_whole(&window);
    });
}

#[test]
fn a_permit_that_is_cancelled_wakes_who_waits_for_room() {
    loom::model(|| {
        let window = window(1);
        let permit = open_now(&window, false);
        let cancelling = spawn(&window, move |window| window.cancel(permit));
        let id = block_on(open(&window)).unwrap();
        cancelling.join().unwrap();
        window.abandon(id);
        ack(&window, id).unwrap();
        assert_whole(&window);
    });
}

#[test]
fn an_ack_that_races_with_the_close_has_one_outcome() {
    loom::model(|| {
        let window = window(2);
        let id = open_now(&window, true);
        let acking = spawn(&window, move |window| ack(window, id));
        let closing = spawn(&window, close);
        let outcome = block_on(taken_ack(&window, id));
        let acked = acking.join().unwrap().is_ok();
        closing.join().unwrap();
        match outcome {
            Ok(_) => assert!(acked),
            Err(error) => {
                assert!(!acked);
                assert!(matches!(error, SendError::AckLost { .. }), "{error}");
            }
        }
        assert_whole(&window);
    });
}

#[test]
fn a_permit_used_while_the_window_shuts_is_sent_or_given_back() {
    loom::model(|| {
        let window = window(1);
        let id = open_now(&window, false);
        let shutting = spawn(&window, |window| window.shut(&CloseReason::Local));
        let sent = window.commit(id, 1).is_ok();
        shutting.join().unwrap();
        assert_eq!(window.unacked(), u32::from(sent));
        if sent {
            ack(&window, id).unwrap();
            block_on(taken_ack(&window, id)).unwrap();
        }
        assert_whole(&window);
    });
}

#[test]
fn a_permit_used_while_the_window_closes_has_an_end() {
    loom::model(|| {
        let window = window(1);
        let id = open_now(&window, false);
        let closing = spawn(&window, close);
        match window.commit(id, 1) {
            Ok(()) => {
                let outcome = block_on(taken_ack(&window, id));
                assert!(matches!(outcome, Err(SendError::AckLost { .. })), "{outcome:?}");
            }
            Err(error) => assert!(matches!(error, SendError::Closed { .. }), "{error}"),
        }
        closing.join().unwrap();
        assert_whole(&window);
    });
}

#[test]
fn who_waits_for_idle_is_told() {
    loom::model(|| {
        let window = window(2);
        let (sent, permit) = (open_now(&window, true), open_now(&window, false));
        window.abandon(sent);
        let acking = spawn(&window, move |window| ack(window, sent));
        let cancelling = spawn(&window, move |window| window.cancel(permit));
        block_on(poll_fn(|cx| window.poll_idle(cx)));
        acking.join().unwrap().unwrap();
        cancelling.join().unwrap();
        assert_whole(&window);
    });
}
