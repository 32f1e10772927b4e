//! Tests of the inbox.

use std::{sync::Arc, task::Wake, thread};

use super::*;

/// A waker that remembers whether it was called.
#[derive(Debug, Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Bell {
    fn rang(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Polls with a new bell.
    fn ring_for<T>(poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> (Poll<T>, Arc<Self>) {
        let bell = Arc::new(Self::default());
        let waker = bell.clone().into();
        (poll(&mut Context::from_waker(&waker)), bell)
    }
}

/// An inbox with records 0, 1, and so on.
fn inbox(records: u64) -> Inbox {
    let inbox = Inbox::default();
    push(&inbox, 0..records);
    inbox
}

fn push(inbox: &Inbox, ids: impl IntoIterator<Item = u64>) {
    for id in ids {
        assert_eq!(inbox.push(RecordId(id), Bytes::from_static(b"four")), Ok(()));
    }
}

fn arrivals(ids: impl IntoIterator<Item = u64>) -> VecDeque<Arrival> {
    ids.into_iter().map(|id| (RecordId(id), Bytes::from_static(b"four"))).collect()
}

fn take(inbox: &Inbox, most: usize) -> (Vec<u64>, Poll<CloseReason>, Arc<Bell>) {
    let mut taken = VecDeque::new();
    let (end, bell) = Bell::ring_for(|cx| inbox.poll_take(&mut taken, most, cx));
    (ids(taken), end, bell)
}

fn ids(arrivals: impl IntoIterator<Item = Arrival>) -> Vec<u64> {
    arrivals.into_iter().map(|(id, _)| id.0).collect()
}

fn next(inbox: &Inbox) -> (Poll<Option<u64>>, Arc<Bell>) {
    let (next, bell) = Bell::ring_for(|cx| inbox.poll_next(cx));
    (next.map(|next| next.map(|(id, _)| id.0)), bell)
}

#[test]
fn records_come_out_in_the_order_in_which_they_arrived() {
    let inbox = inbox(2);
    inbox.push_all(&mut arrivals(2..4), &mut Vec::new(), true);
    assert_eq!(take(&inbox, usize::MAX).0, [0, 1, 2, 3]);
    let mut came = arrivals(4..6);
    inbox.push_all(&mut came, &mut Vec::new(), true);
    assert!(came.is_empty());
    push(&inbox, 6..7);
    for id in 4..7 {
        assert_eq!(next(&inbox).0, Poll::Ready(Some(id)));
    }
    assert!(next(&inbox).0.is_pending());
}

#[test]
fn no_more_are_taken_than_were_asked_for() {
    let inbox = inbox(5);
    assert_eq!(take(&inbox, 0).0, []);
    assert_eq!(take(&inbox, 1).0, [0]);
    assert_eq!(take(&inbox, 3).0, [1, 2, 3]);
    assert_eq!(take(&inbox, 3).0, [4]);
    assert_eq!(take(&inbox, 3).0, []);
}

#[test]
fn records_are_put_behind_those_that_were_taken_before() {
    let inbox = inbox(4);
    let mut cx = Context::from_waker(Waker::noop());
    let mut taken = VecDeque::new();
    for most in [1, 2, usize::MAX] {
        assert!(inbox.poll_take(&mut taken, most, &mut cx).is_pending());
    }
    assert_eq!(ids(taken), [0, 1, 2, 3]);
}

#[test]
fn who_waits_is_woken_by_a_record() {
    let inbox = Inbox::default();
    let (_, _, bell) = take(&inbox, usize::MAX);
    push(&inbox, 0..1);
    assert!(bell.rang());

    let _ = take(&inbox, usize::MAX);
    let (poll, bell) = next(&inbox);
    assert!(poll.is_pending());
    inbox.push_all(&mut arrivals(1..2), &mut Vec::new(), true);
    assert!(bell.rang());
}

#[test]
fn who_has_taken_some_is_woken_by_the_next() {
    let inbox = inbox(3);
    let (taken, end, bell) = take(&inbox, 2);
    assert_eq!(taken, [0, 1]);
    assert!(end.is_pending());
    push(&inbox, 3..4);
    assert!(bell.rang());
}

#[test]
fn a_driver_that_polls_the_consumer_itself_wakes_nobody() {
    let inbox = Inbox::default();
    let (_, _, bell) = take(&inbox, usize::MAX);
    inbox.push_all(&mut arrivals(0..1), &mut Vec::new(), false);
    assert!(!bell.rang());
    // The next wake-up is not lost with it.
    push(&inbox, 1..2);
    assert!(bell.rang());
}

#[test]
fn who_polled_last_is_woken() {
    let inbox = Inbox::default();
    let ((_, _, first), (_, _, second)) = (take(&inbox, 1), take(&inbox, 1));
    push(&inbox, 0..1);
    assert!(!first.rang() && second.rang());
}

#[test]
fn the_end_comes_with_the_last_records() {
    let inbox = inbox(3);
    inbox.end(&CloseReason::Remote);
    let (taken, end, _) = take(&inbox, 2);
    assert_eq!(taken, [0, 1]);
    assert!(end.is_pending());
    let (taken, end, _) = take(&inbox, usize::MAX);
    assert_eq!(taken, [2]);
    // Nobody would be woken for it later.
    assert!(matches!(end, Poll::Ready(CloseReason::Remote)));
    assert!(take(&inbox, usize::MAX).1.is_ready());
    assert!(take(&inbox, 0).1.is_ready());
}

#[test]
fn one_that_pulls_gets_what_arrived_before_the_end() {
    let inbox = inbox(2);
    inbox.end(&CloseReason::Remote);
    assert_eq!(next(&inbox).0, Poll::Ready(Some(0)));
    assert_eq!(next(&inbox).0, Poll::Ready(Some(1)));
    assert_eq!(next(&inbox).0, Poll::Ready(None));
    assert_eq!(next(&inbox).0, Poll::Ready(None));
}

#[test]
fn the_end_wakes_who_waits() {
    let inbox = Inbox::default();
    let (_, _, bell) = take(&inbox, usize::MAX);
    inbox.end(&CloseReason::Remote);
    assert!(bell.rang());

    let inbox = Inbox::default();
    let (_, bell) = next(&inbox);
    inbox.end(&CloseReason::Remote);
    assert!(bell.rang());
}

#[test]
fn the_first_end_stays() {
    let inbox = Inbox::default();
    inbox.end(&CloseReason::Revoked);
    inbox.end(&CloseReason::Remote);
    assert!(matches!(take(&inbox, 1).1, Poll::Ready(CloseReason::Revoked)));
}

#[test]
fn a_local_close_gives_back_what_nobody_was_handed() {
    let inbox = inbox(3);
    assert_eq!(take(&inbox, 1).0, [0]);
    assert_eq!(inbox.discard(), [RecordId(1), RecordId(2)]);
    assert_eq!(inbox.discard(), []);
    let (taken, end, bell) = take(&inbox, usize::MAX);
    assert!(taken.is_empty() && end.is_pending());
    inbox.end(&CloseReason::Local);
    assert!(bell.rang());
    assert!(take(&inbox, usize::MAX).1.is_ready());
}

#[test]
fn records_that_arrive_after_a_local_close_are_discarded() {
    let inbox = inbox(1);
    inbox.discard();
    check_that_arrivals_are_discarded(&inbox);
}

#[test]
fn records_that_arrive_after_the_end_are_discarded() {
    let inbox = inbox(1);
    inbox.end(&CloseReason::Remote);
    check_that_arrivals_are_discarded(&inbox);
    assert_eq!(take(&inbox, usize::MAX).0, [0]);
}

fn check_that_arrivals_are_discarded(inbox: &Inbox) {
    assert_eq!(inbox.push(RecordId(7), Bytes::new()), Err(Answer::Discarded));
    let (mut came, mut discards) = (arrivals(8..10), vec![(RecordId(1), Answer::Discarded)]);
    inbox.push_all(&mut came, &mut discards, true);
    assert!(came.is_empty());
    assert_eq!(discards, [1, 8, 9].map(|id| (RecordId(id), Answer::Discarded)));
    assert_eq!(inbox.counts().records, 1);
}

#[test]
fn records_and_their_bytes_are_counted_as_they_arrive() {
    let inbox = inbox(2);
    inbox.push_all(&mut arrivals(2..5), &mut Vec::new(), true);
    let _ = take(&inbox, 1);
    inbox.discard();
    let counts = inbox.counts();
    assert_eq!((counts.records, counts.bytes), (5, 20));
}

#[test]
fn idle_is_when_every_record_is_answered() {
    let inbox = Inbox::default();
    let poll_idle = || Bell::ring_for(|cx| inbox.poll_idle(cx));
    assert!(poll_idle().0.is_ready());
    push(&inbox, 0..3);
    let _ = take(&inbox, usize::MAX);
    assert!(poll_idle().0.is_pending());
    inbox.answered(2);
    let (poll, bell) = poll_idle();
    assert!(poll.is_pending());
    inbox.answered(1);
    assert!(bell.rang());
    assert!(poll_idle().0.is_ready());
}

#[test]
fn what_is_discarded_is_answered() {
    let inbox = inbox(3);
    let _ = take(&inbox, 1);
    let (poll, bell) = Bell::ring_for(|cx| inbox.poll_idle(cx));
    assert!(poll.is_pending());
    inbox.discard();
    inbox.answered(1);
    assert!(bell.rang());
    assert!(inbox.push(RecordId(3), Bytes::new()).is_err());
    assert!(Bell::ring_for(|cx| inbox.poll_idle(cx)).0.is_ready());
}

#[test]
fn drained_is_when_every_record_was_handed_out() {
    let inbox = Inbox::default();
    let poll_drained = || Bell::ring_for(|cx| inbox.poll_drained(cx));
    assert!(poll_drained().0.is_ready());

    push(&inbox, 0..2);
    let (poll, bell) = poll_drained();
    assert!(poll.is_pending());
    let _ = take(&inbox, 1);
    assert!(!bell.rang());
    let _ = take(&inbox, 1);
    assert!(bell.rang());

    push(&inbox, 2..4);
    let (poll, bell) = poll_drained();
    assert!(poll.is_pending());
    assert_eq!(next(&inbox).0, Poll::Ready(Some(2)));
    assert!(!bell.rang());
    assert_eq!(next(&inbox).0, Poll::Ready(Some(3)));
    assert!(bell.rang());

    push(&inbox, 4..5);
    let (poll, bell) = poll_drained();
    assert!(poll.is_pending());
    inbox.discard();
    assert!(!bell.rang());
    assert!(poll_drained().0.is_pending());
    inbox.discards_told();
    assert!(poll_drained().0.is_ready());
}

#[test]
fn who_waits_for_idle_hears_of_the_last_answer_of_several_threads() {
    for _ in 0..if cfg!(miri) { 5 } else { 500 } {
        let inbox = inbox(2);
        thread::scope(|scope| {
            let answering = [(); 2].map(|()| scope.spawn(|| inbox.answered(1)));
            let (poll, bell) = Bell::ring_for(|cx| inbox.poll_idle(cx));
            answering.into_iter().for_each(|thread| thread.join().unwrap());
            assert!(poll.is_ready() || bell.rang());
        });
    }
}
