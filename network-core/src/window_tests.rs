//! Tests of the window, single-threaded. `window_loom.rs` has the races.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Wake,
};

use proptest::{prelude::*, sample::Index};

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
    fn new() -> (Arc<Self>, Waker) {
        let bell = Arc::new(Self::default());
        (bell.clone(), bell.into())
    }

    fn rang(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Somebody who sends a record.
#[derive(Debug)]
struct Sender {
    ticket: Ticket,
    len: u32,
    send: bool,
    bell: Arc<Bell>,
}

impl Sender {
    fn new(len: u32, send: bool) -> Self {
        Self { ticket: Ticket::default(), len, send, bell: Arc::default() }
    }

    fn poll(&mut self, window: &Window) -> Poll<Result<RecordId, SendError>> {
        self.bell = Arc::default();
        let waker = self.bell.clone().into();
        window.poll_open(self.len, self.send, &mut self.ticket, &mut Context::from_waker(&waker))
    }

    /// A sender that waits for room.
    fn waiting(window: &Window, len: u32) -> Self {
        let mut sender = Self::new(len, true);
        assert!(sender.poll(window).is_pending(), "there is room for {len} bytes");
        sender
    }
}

fn send(window: &Window, len: u32) -> RecordId {
    granted(Sender::new(len, true).poll(window))
}

fn reserve(window: &Window, len: u32) -> RecordId {
    granted(Sender::new(len, false).poll(window))
}

fn granted(poll: Poll<Result<RecordId, SendError>>) -> RecordId {
    match poll {
        Poll::Ready(Ok(id)) => id,
        other => panic!("no room: {other:?}"),
    }
}

fn answer(window: &Window, id: RecordId, answer: Answer) -> Result<(), StaleAck> {
    window.answer([(id, answer)])
}

fn ack(window: &Window, id: RecordId) -> Result<(), StaleAck> {
    answer(window, id, Answer::Ack(Bytes::new()))
}

fn poll_ack(window: &Window, id: RecordId) -> Poll<Result<Bytes, SendError>> {
    window.poll_ack(id, &mut Context::from_waker(Waker::noop()))
}

fn poll_idle(window: &Window) -> (Poll<()>, Arc<Bell>) {
    let (bell, waker) = Bell::new();
    (window.poll_idle(&mut Context::from_waker(&waker)), bell)
}

fn is_closed(poll: Poll<Result<RecordId, SendError>>) -> bool {
    matches!(poll, Poll::Ready(Err(SendError::Closed { .. })))
}

fn lost_with(poll: Poll<Result<Bytes, SendError>>) -> (CloseReason, Delivery) {
    match poll {
        Poll::Ready(Err(SendError::AckLost { reason, delivery })) => (reason, delivery),
        other => panic!("not lost: {other:?}"),
    }
}

#[test]
fn a_record_holds_its_permit_until_its_ack() {
    let window = Window::new(2, 100);
    let (first, _second) = (send(&window, 0), send(&window, 0));
    let mut third = Sender::waiting(&window, 0);
    ack(&window, first).unwrap();
    assert!(third.bell.rang());
    granted(third.poll(&window));
    assert_eq!(window.unacked(), 2);
}

#[test]
fn un_acked_bytes_stay_within_the_window() {
    let window = Window::new(10, 100);
    let first = send(&window, 60);
    let mut second = Sender::waiting(&window, 41);
    ack(&window, first).unwrap();
    granted(second.poll(&window));
    send(&window, 59);
    Sender::waiting(&window, 1);
}

#[test]
fn an_empty_record_needs_a_permit_but_no_bytes() {
    let window = Window::new(2, 10);
    send(&window, 10);
    send(&window, 0);
    Sender::waiting(&window, 0);
}

#[test]
fn who_waits_first_is_served_first() {
    let window = Window::new(1, 100);
    let id = send(&window, 0);
    let mut first = Sender::waiting(&window, 0);
    let mut second = Sender::waiting(&window, 0);
    ack(&window, id).unwrap();
    assert!(first.bell.rang());
    assert!(!second.bell.rang());
    assert!(second.poll(&window).is_pending());
    // Nor does a newcomer slip in between the wake-up and the poll.
    Sender::waiting(&window, 0);
    granted(first.poll(&window));
}

#[test]
fn a_small_record_does_not_overtake_a_large_one_that_waits() {
    let window = Window::new(10, 100);
    let id = send(&window, 50);
    let mut large = Sender::waiting(&window, 80);
    let mut small = Sender::waiting(&window, 1);
    assert!(small.poll(&window).is_pending());
    ack(&window, id).unwrap();
    granted(large.poll(&window));
    assert!(small.bell.rang());
    granted(small.poll(&window));
}

#[test]
fn one_ack_may_make_room_for_several() {
    let window = Window::new(10, 100);
    let id = send(&window, 100);
    let mut waiting: Vec<_> = (0..3).map(|_| Sender::waiting(&window, 40)).collect();
    ack(&window, id).unwrap();
    for sender in &mut waiting[..2] {
        assert!(sender.bell.rang());
        granted(sender.poll(&window));
    }
    assert!(!waiting[2].bell.rang());
}

#[test]
fn a_sender_that_leaves_passes_its_wake_up_on() {
    let window = Window::new(1, 100);
    let id = send(&window, 0);
    let mut first = Sender::waiting(&window, 0);
    let mut second = Sender::waiting(&window, 0);
    ack(&window, id).unwrap();
    assert!(!second.bell.rang());
    window.leave(&mut first.ticket);
    assert!(second.bell.rang());
    granted(second.poll(&window));
}

#[test]
fn a_large_record_that_leaves_lets_a_small_one_through() {
    let window = Window::new(10, 100);
    send(&window, 50);
    let mut large = Sender::waiting(&window, 80);
    let mut small = Sender::waiting(&window, 1);
    window.leave(&mut large.ticket);
    assert!(small.bell.rang());
    granted(small.poll(&window));
}

#[test]
fn a_sender_that_leaves_from_behind_wakes_nobody() {
    let window = Window::new(1, 100);
    let id = send(&window, 0);
    let mut waiting: Vec<_> = (0..3).map(|_| Sender::waiting(&window, 0)).collect();
    window.leave(&mut waiting[1].ticket);
    assert!(!waiting[0].bell.rang() && !waiting[2].bell.rang());
    // Leaving twice takes nobody else's place.
    window.leave(&mut waiting[1].ticket);
    ack(&window, id).unwrap();
    let id = granted(waiting[0].poll(&window));
    ack(&window, id).unwrap();
    granted(waiting[2].poll(&window));
}

#[test]
fn a_sender_that_moved_to_another_task_is_woken_there() {
    let window = Window::new(1, 100);
    let id = send(&window, 0);
    let mut sender = Sender::waiting(&window, 0);
    let before = sender.bell.clone();
    assert!(sender.poll(&window).is_pending());
    ack(&window, id).unwrap();
    assert!(sender.bell.rang());
    assert!(!before.rang());
}

#[test]
fn a_record_that_is_sent_at_once_wakes_who_opened_it() {
    let window = Window::new(1, 100);
    let mut sender = Sender::new(3, true);
    let id = granted(sender.poll(&window));
    answer(&window, id, Answer::Ack("yes".into())).unwrap();
    assert!(sender.bell.rang());
    assert!(matches!(poll_ack(&window, id), Poll::Ready(Ok(ack)) if ack == "yes"));
}

#[test]
fn an_ack_wakes_only_the_last_who_polled_for_it() {
    let window = Window::new(1, 100);
    let id = send(&window, 3);
    let ((before, early), (bell, waker)) = (Bell::new(), Bell::new());
    for waker in [&early, &waker] {
        assert!(window.poll_ack(id, &mut Context::from_waker(waker)).is_pending());
    }
    ack(&window, id).unwrap();
    assert!(bell.rang());
    assert!(!before.rang());
}

#[test]
fn a_permit_that_is_cancelled_gives_its_room_back() {
    let window = Window::new(1, 100);
    let id = reserve(&window, 100);
    let mut sender = Sender::waiting(&window, 100);
    window.cancel(id);
    assert!(sender.bell.rang());
    granted(sender.poll(&window));
    assert_eq!(window.counts().records, 1);
}

#[test]
fn a_record_shorter_than_reserved_gives_the_rest_back() {
    let window = Window::new(10, 100);
    let id = reserve(&window, 100);
    let mut sender = Sender::waiting(&window, 90);
    window.commit(id, 10).unwrap();
    assert!(sender.bell.rang());
    granted(sender.poll(&window));
    assert_eq!(window.counts().bytes, 100);
    Sender::waiting(&window, 1);
}

#[test]
fn a_permit_used_after_the_close_is_given_back() {
    let window = Window::new(2, 100);
    let id = reserve(&window, 10);
    let (idle, bell) = poll_idle(&window);
    assert!(idle.is_pending());
    window.shut(&CloseReason::Local);
    assert!(matches!(window.commit(id, 10), Err(SendError::Closed { .. })));
    assert_eq!(window.unacked(), 0);
    assert!(bell.rang());
    assert_eq!(window.counts().records, 0);
}

#[test]
fn a_permit_cancelled_after_the_close_is_given_back() {
    let window = Window::new(2, 100);
    let id = reserve(&window, 10);
    window.close(&CloseReason::Local, Delivery::Unknown);
    assert_eq!(window.unacked(), 1);
    window.cancel(id);
    assert_eq!(window.unacked(), 0);
}

#[test]
fn a_duplicate_ack_mints_no_permit() {
    let window = Window::new(1, 100);
    let id = send(&window, 10);
    ack(&window, id).unwrap();
    assert_eq!(ack(&window, id), Err(StaleAck));
    assert!(poll_ack(&window, id).is_ready());
    assert_eq!(ack(&window, id), Err(StaleAck));
    send(&window, 10);
    Sender::waiting(&window, 0);
}

#[test]
fn a_late_ack_does_not_complete_a_reused_slot() {
    let window = Window::new(1, 100);
    let first = send(&window, 0);
    ack(&window, first).unwrap();
    assert!(poll_ack(&window, first).is_ready());
    let second = send(&window, 0);
    assert_eq!(first.index(), second.index());
    assert_eq!(ack(&window, first), Err(StaleAck));
    assert!(poll_ack(&window, second).is_pending());
    ack(&window, second).unwrap();
    assert!(poll_ack(&window, second).is_ready());
}

#[test]
fn an_ack_for_what_was_never_sent_is_stale() {
    let window = Window::new(2, 100);
    let (sent, reserved) = (send(&window, 1), reserve(&window, 1));
    let above_32_bits = RecordId(sent.0 | 1 << 32);
    for id in [reserved, RecordId(2), RecordId(0xffff), RecordId(u64::MAX), above_32_bits] {
        assert_eq!(ack(&window, id), Err(StaleAck), "{id:?}");
    }
    assert_eq!(window.unacked(), 2);
    window.commit(reserved, 1).unwrap();
    assert!(poll_ack(&window, reserved).is_pending());
}

#[test]
fn a_stale_ack_among_others_is_told_and_the_others_are_taken() {
    let window = Window::new(2, 100);
    let (first, second) = (send(&window, 1), send(&window, 1));
    let taken = || Answer::Ack(Bytes::new());
    let answers = [(first, taken()), (first, taken()), (RecordId(9), taken()), (second, taken())];
    assert_eq!(window.answer(answers), Err(StaleAck));
    assert_eq!(window.unacked(), 0);
    assert_eq!(window.counts().acks, 2);
    assert!(poll_ack(&window, first).is_ready() && poll_ack(&window, second).is_ready());
}

#[test]
fn many_answers_wake_all_who_wait() {
    let window = Window::new(8, 100);
    let senders: Vec<_> = (0..8)
        .map(|_| {
            let mut sender = Sender::new(1, true);
            (granted(sender.poll(&window)), sender)
        })
        .collect();
    let mut next = Sender::waiting(&window, 1);
    for half in senders.chunks(4) {
        window.answer(half.iter().map(|(id, _)| (*id, Answer::Ack(Bytes::new())))).unwrap();
        assert!(half.iter().all(|(_, sender)| sender.bell.rang()));
    }
    assert!(next.bell.rang());
    granted(next.poll(&window));
}

#[test]
fn an_abandoned_record_holds_its_permit_until_its_ack() {
    let window = Window::new(1, 100);
    let id = send(&window, 10);
    window.abandon(id);
    let mut sender = Sender::waiting(&window, 10);
    ack(&window, id).unwrap();
    assert!(sender.bell.rang());
    assert_eq!(ack(&window, id), Err(StaleAck));
    granted(sender.poll(&window));
    assert_eq!(window.0.lock().slots.len(), 1);
}

#[test]
fn an_ack_that_is_dropped_frees_its_slot() {
    let window = Window::new(1, 100);
    for _ in 0..3 {
        let id = send(&window, 10);
        ack(&window, id).unwrap();
        window.abandon(id);
    }
    assert_eq!(window.0.lock().slots.len(), 1);
}

#[test]
fn slots_are_used_again() {
    let window = Window::new(4, 100);
    for _ in 0..20 {
        let ids = [(); 4].map(|()| send(&window, 1));
        for id in ids {
            ack(&window, id).unwrap();
            assert!(poll_ack(&window, id).is_ready());
        }
    }
    assert_eq!(window.0.lock().slots.len(), 4);
}

#[test]
fn the_generation_starts_over() {
    let window = Window::new(1, 100);
    let first = send(&window, 0);
    window.0.lock().slots[0].generation = u16::MAX;
    window.close(&CloseReason::Local, Delivery::Unknown);
    assert!(poll_ack(&window, first).is_ready());
    window.0.lock().closed = None;
    assert_eq!(send(&window, 0), RecordId::of_slot(0, 0));
}

#[test]
#[cfg_attr(miri, ignore = "opens every slot that there can be")]
fn acks_that_nobody_takes_are_bounded() {
    let window = Window::new(1, 100);
    let most = usize::from(u16::MAX) + 1;
    let ids: Vec<_> = (0..most)
        .map(|_| {
            let id = send(&window, 0);
            ack(&window, id).unwrap();
            id
        })
        .collect();
    assert_eq!(window.unacked(), 0);
    let mut first = Sender::waiting(&window, 0);
    assert!(poll_ack(&window, ids[7]).is_ready());
    assert!(first.bell.rang());
    assert_eq!(granted(first.poll(&window)).index(), 7);

    ack(&window, RecordId::of_slot(7, 1)).unwrap();
    let mut second = Sender::waiting(&window, 0);
    window.abandon(ids[most - 1]);
    assert!(second.bell.rang());
    assert_eq!(granted(second.poll(&window)).index(), most - 1);
}

#[test]
fn a_refusal_reaches_the_sender() {
    let window = Window::new(1, 100);
    let id = send(&window, 1);
    answer(&window, id, Answer::Refused(Refusal::new("no"))).unwrap();
    let Poll::Ready(Err(SendError::Refused(refusal))) = poll_ack(&window, id) else {
        panic!("not refused")
    };
    assert_eq!(refusal.text(), "no");
    assert_eq!((window.counts().acks, window.counts().refusals), (0, 1));
}

#[test]
fn a_discarded_record_was_not_delivered() {
    let window = Window::new(2, 100);
    let (first, second) = (send(&window, 1), send(&window, 1));
    answer(&window, first, Answer::Discarded).unwrap();
    // Nothing is known yet of a close on this side.
    let (reason, delivery) = lost_with(poll_ack(&window, first));
    assert!(matches!(reason, CloseReason::Remote));
    assert_eq!(delivery, Delivery::NotDelivered);

    window.shut(&CloseReason::RemoteRevoked);
    answer(&window, second, Answer::Discarded).unwrap();
    let (reason, delivery) = lost_with(poll_ack(&window, second));
    assert!(matches!(reason, CloseReason::RemoteRevoked));
    assert_eq!(delivery, Delivery::NotDelivered);
}

#[test]
fn nothing_opens_after_shut_and_acks_still_come() {
    let window = Window::new(1, 100);
    let id = send(&window, 1);
    let mut waiting = Sender::waiting(&window, 1);
    window.shut(&CloseReason::Local);
    assert!(waiting.bell.rang());
    assert!(is_closed(waiting.poll(&window)));
    assert!(is_closed(Sender::new(0, true).poll(&window)));
    assert!(is_closed(Sender::new(0, false).poll(&window)));
    assert!(poll_ack(&window, id).is_pending());
    answer(&window, id, Answer::Ack("late".into())).unwrap();
    assert!(matches!(poll_ack(&window, id), Poll::Ready(Ok(ack)) if ack == "late"));
    assert!(is_closed(Sender::new(0, true).poll(&window)));
}

#[test]
fn a_sender_may_leave_after_shut() {
    let window = Window::new(1, 100);
    send(&window, 1);
    let mut waiting = Sender::waiting(&window, 1);
    window.shut(&CloseReason::Local);
    window.leave(&mut waiting.ticket);
    assert!(is_closed(waiting.poll(&window)));
}

#[test]
fn close_ends_every_send() {
    let window = Window::new(3, 100);
    let mut sender = Sender::new(1, true);
    let (waited_for, answered) = (granted(sender.poll(&window)), send(&window, 1));
    let abandoned = send(&window, 1);
    window.abandon(abandoned);
    answer(&window, answered, Answer::Ack("in time".into())).unwrap();
    let last = reserve(&window, 1);
    let mut waiting = Sender::waiting(&window, 1);

    window.close(&CloseReason::TimedOut, Delivery::Delivered);
    assert!(sender.bell.rang() && waiting.bell.rang());
    assert!(is_closed(waiting.poll(&window)));
    let (reason, delivery) = lost_with(poll_ack(&window, waited_for));
    assert!(matches!(reason, CloseReason::TimedOut));
    assert_eq!(delivery, Delivery::Delivered);
    assert!(matches!(poll_ack(&window, answered), Poll::Ready(Ok(ack)) if ack == "in time"));
    for id in [waited_for, answered, abandoned] {
        assert_eq!(ack(&window, id), Err(StaleAck));
    }
    assert_eq!(window.unacked(), 1, "the permit that has not sent");
    assert!(matches!(window.commit(last, 1), Err(SendError::Closed { .. })));
    assert_eq!(window.unacked(), 0);
}

#[test]
fn the_first_reason_to_close_stays() {
    let window = Window::new(1, 100);
    let id = send(&window, 1);
    window.shut(&CloseReason::Revoked);
    window.shut(&CloseReason::Local);
    window.close(&CloseReason::TimedOut, Delivery::Unknown);
    window.close(&CloseReason::Remote, Delivery::Delivered);
    let (reason, delivery) = lost_with(poll_ack(&window, id));
    assert!(matches!(reason, CloseReason::Revoked));
    assert_eq!(delivery, Delivery::Unknown);
    let closed = Sender::new(0, true).poll(&window);
    assert!(matches!(closed, Poll::Ready(Err(SendError::Closed { reason: CloseReason::Revoked }))));
}

#[test]
fn idle_is_when_no_permit_is_out_and_no_record_un_acked() {
    let window = Window::new(3, 100);
    assert!(poll_idle(&window).0.is_ready());
    let (sent, reserved, abandoned) = (send(&window, 1), reserve(&window, 1), send(&window, 1));
    window.abandon(abandoned);
    let (idle, bell) = poll_idle(&window);
    assert!(idle.is_pending());
    ack(&window, abandoned).unwrap();
    window.cancel(reserved);
    assert!(!bell.rang());
    ack(&window, sent).unwrap();
    assert!(bell.rang());
    // Whether its ack was taken does not matter.
    assert!(poll_idle(&window).0.is_ready());

    let reserved = reserve(&window, 1);
    let (idle, bell) = poll_idle(&window);
    assert!(idle.is_pending());
    window.cancel(reserved);
    assert!(bell.rang());
}

#[test]
fn a_close_makes_idle() {
    let window = Window::new(3, 100);
    send(&window, 1);
    let (idle, bell) = poll_idle(&window);
    assert!(idle.is_pending());
    window.shut(&CloseReason::Local);
    assert!(!bell.rang());
    window.close(&CloseReason::Local, Delivery::Unknown);
    assert!(bell.rang());
    assert!(poll_idle(&window).0.is_ready());
}

#[test]
fn sends_and_waits_are_counted() {
    let window = Window::new(1, 100);
    let id = send(&window, 7);
    let mut waiting = Sender::waiting(&window, 5);
    assert!(waiting.poll(&window).is_pending());
    ack(&window, id).unwrap();
    granted(waiting.poll(&window));
    let counts = window.counts();
    assert_eq!((counts.records, counts.bytes, counts.acks), (2, 12, 1));
    assert_eq!((counts.refusals, counts.window_waits), (0, 1));
}

// What follows drives a window and a simple model of it with the same random steps.

#[derive(Clone, Debug)]
enum Step {
    Open { len: u32, send: bool },
    PollOpen(Index),
    Leave(Index),
    Commit(Index, u32),
    Cancel(Index),
    Answer(Vec<(Target, Kind)>),
    PollAck(Index),
    Abandon(Index),
    PollIdle,
    Shut,
    Close(Delivery),
}

/// Whom an answer is for.
#[derive(Clone, Debug)]
enum Target {
    UnAcked(Index),
    /// One that was opened at any time.
    Known(Index),
    /// Near to what a window chooses, and up to 40 bits long.
    Forged(u64),
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Ack,
    Refused,
    Discarded,
}

const SIZE: u32 = 4;
const BYTES: u64 = 20;
const MOST_STEPS: usize = if cfg!(miri) { 30 } else { 80 };

fn step() -> impl Strategy<Value = Step> {
    let index = any::<Index>;
    let len = 0..=BYTES as u32;
    let delivery = prop_oneof![
        Just(Delivery::NotDelivered),
        Just(Delivery::Delivered),
        Just(Delivery::Unknown)
    ];
    let forged = (0..=u64::from(SIZE), 0..4_u64, prop_oneof![Just(0), 0..256_u64])
        .prop_map(|(slot, generation, above)| above << 32 | generation << 16 | slot);
    let target = prop_oneof![
        6 => index().prop_map(Target::UnAcked),
        1 => index().prop_map(Target::Known),
        1 => forged.prop_map(Target::Forged),
    ];
    let kind =
        prop_oneof![4 => Just(Kind::Ack), 1 => Just(Kind::Refused), 1 => Just(Kind::Discarded)];
    prop_oneof![
        20 => (len.clone(), any::<bool>()).prop_map(|(len, send)| Step::Open { len, send }),
        10 => index().prop_map(Step::PollOpen),
        4 => index().prop_map(Step::Leave),
        6 => (index(), len).prop_map(|(at, len)| Step::Commit(at, len)),
        3 => index().prop_map(Step::Cancel),
        12 => prop::collection::vec((target, kind), 1..4).prop_map(Step::Answer),
        10 => index().prop_map(Step::PollAck),
        4 => index().prop_map(Step::Abandon),
        2 => Just(Step::PollIdle),
        1 => prop_oneof![4 => Just(Step::Shut), 1 => delivery.prop_map(Step::Close)],
    ]
}

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    Acked(Bytes),
    Refused,
    Lost(Delivery),
}

impl Fate {
    fn of(result: Result<Bytes, SendError>) -> Self {
        match result {
            Ok(ack) => Self::Acked(ack),
            Err(SendError::Refused(_)) => Self::Refused,
            Err(SendError::AckLost { delivery, .. }) => Self::Lost(delivery),
            Err(other) => panic!("not the end of a record that was sent: {other}"),
        }
    }
}

#[derive(Debug)]
enum Stage {
    Reserved,
    Sent,
    Abandoned,
    Ended(Fate),
}

#[derive(Debug)]
struct Entry {
    len: u32,
    stage: Stage,
    /// Who was left to be woken.
    bell: Option<Arc<Bell>>,
}

impl Entry {
    fn is_un_acked(&self) -> bool {
        !matches!(self.stage, Stage::Ended(_))
    }
}

#[derive(Debug)]
struct Model {
    window: Window,
    /// By the slot that they have.
    entries: BTreeMap<RecordId, Entry>,
    known: Vec<RecordId>,
    /// Who waits for room, in order.
    queue: Vec<Sender>,
    idle: Option<Arc<Bell>>,
    closed: bool,
    most_slots: usize,
    acks: u64,
    sent: u64,
}

impl Model {
    fn new() -> Self {
        Self {
            window: Window::new(SIZE, BYTES),
            entries: BTreeMap::new(),
            known: Vec::new(),
            queue: Vec::new(),
            idle: None,
            closed: false,
            most_slots: 0,
            acks: 0,
            sent: 0,
        }
    }

    fn un_acked(&self) -> u32 {
        self.entries.values().filter(|entry| entry.is_un_acked()).count() as u32
    }

    fn used_bytes(&self) -> u64 {
        let un_acked = self.entries.values().filter(|entry| entry.is_un_acked());
        un_acked.map(|entry| u64::from(entry.len)).sum()
    }

    fn has_room(&self, len: u32) -> bool {
        self.un_acked() < SIZE && self.used_bytes() + u64::from(len) <= BYTES
    }

    /// One of the records at a stage.
    fn pick(&self, at: Index, wanted: impl Fn(&Stage) -> bool) -> Option<RecordId> {
        let those = self.entries.iter().filter(|(_, entry)| wanted(&entry.stage));
        let ids: Vec<_> = those.map(|(id, _)| *id).collect();
        (!ids.is_empty()).then(|| *at.get(&ids))
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Open { len, send } => {
                let place = self.queue.len();
                self.queue.push(Sender::new(len, send));
                self.poll_open(place);
            }
            Step::PollOpen(at) if !self.queue.is_empty() => {
                self.poll_open(at.index(self.queue.len()));
            }
            Step::Leave(at) if !self.queue.is_empty() => {
                let mut sender = self.queue.remove(at.index(self.queue.len()));
                self.window.leave(&mut sender.ticket);
            }
            Step::Commit(at, len) => {
                if let Some(id) = self.pick(at, |stage| matches!(stage, Stage::Reserved)) {
                    self.commit(id, len);
                }
            }
            Step::Cancel(at) => {
                if let Some(id) = self.pick(at, |stage| matches!(stage, Stage::Reserved)) {
                    self.window.cancel(id);
                    self.entries.remove(&id);
                }
            }
            Step::Answer(answers) => self.answer(answers),
            Step::PollAck(at) => {
                let wanted = |stage: &Stage| matches!(stage, Stage::Sent | Stage::Ended(_));
                if let Some(id) = self.pick(at, wanted) {
                    self.poll_ack(id);
                }
            }
            Step::Abandon(at) => {
                let wanted = |stage: &Stage| matches!(stage, Stage::Sent | Stage::Ended(_));
                if let Some(id) = self.pick(at, wanted) {
                    self.window.abandon(id);
                    match self.entries.get_mut(&id) {
                        Some(entry) if entry.is_un_acked() => entry.stage = Stage::Abandoned,
                        _ => drop(self.entries.remove(&id)),
                    }
                }
            }
            Step::PollIdle => {
                let (poll, bell) = poll_idle(&self.window);
                assert_eq!(poll.is_ready(), self.un_acked() == 0);
                if poll.is_pending() {
                    self.idle = Some(bell);
                }
            }
            Step::Shut => {
                self.closed = true;
                self.window.shut(&CloseReason::Local);
            }
            Step::Close(delivery) => {
                self.closed = true;
                self.window.close(&CloseReason::Local, delivery);
                self.entries.retain(|_, entry| !matches!(entry.stage, Stage::Abandoned));
                for entry in self.entries.values_mut() {
                    if matches!(entry.stage, Stage::Sent) {
                        entry.stage = Stage::Ended(Fate::Lost(delivery));
                    }
                }
            }
            Step::PollOpen(_) | Step::Leave(_) => {}
        }
    }

    fn poll_open(&mut self, place: usize) {
        let granted = place == 0 && self.has_room(self.queue[place].len);
        let poll = self.queue[place].poll(&self.window);
        if self.closed {
            assert!(is_closed(poll));
            self.queue.remove(place);
        } else if granted {
            let Poll::Ready(Ok(id)) = poll else { panic!("its turn, and room: {poll:?}") };
            let Sender { len, send, bell, .. } = self.queue.remove(place);
            let stage = if send { Stage::Sent } else { Stage::Reserved };
            let entry = Entry { len, stage, bell: send.then_some(bell) };
            assert!(self.entries.keys().all(|other| other.index() != id.index()));
            assert!(!self.known.contains(&id), "{id:?} was another record's");
            self.entries.insert(id, entry);
            self.known.push(id);
            self.sent += u64::from(send);
            self.most_slots = self.most_slots.max(self.entries.len());
        } else {
            assert!(poll.is_pending(), "not its turn, or no room: {poll:?}");
        }
    }

    fn commit(&mut self, id: RecordId, len: u32) {
        let closed = self.closed;
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let len = len.min(entry.len);
        let outcome = self.window.commit(id, len);
        assert_eq!(outcome.is_err(), closed, "{outcome:?}");
        if closed {
            self.entries.remove(&id);
        } else {
            entry.len = len;
            entry.stage = Stage::Sent;
            self.sent += 1;
        }
    }

    fn answer(&mut self, answers: Vec<(Target, Kind)>) {
        let mut given = Vec::new();
        let mut stale = 0;
        for (target, kind) in answers {
            let id = match target {
                Target::UnAcked(at) => {
                    self.pick(at, |stage| matches!(stage, Stage::Sent | Stage::Abandoned))
                }
                Target::Known(at) if !self.known.is_empty() => Some(*at.get(&self.known)),
                Target::Known(_) => None,
                Target::Forged(id) => Some(RecordId(id)),
            };
            let Some(id) = id else { continue };
            let (answer, fate) = self.answer_of(kind);
            given.push((id, answer));
            let Some(entry) = self.entries.get_mut(&id) else {
                stale += 1;
                continue;
            };
            match entry.stage {
                Stage::Sent => entry.stage = Stage::Ended(fate),
                Stage::Abandoned => drop(self.entries.remove(&id)),
                Stage::Reserved | Stage::Ended(_) => stale += 1,
            }
        }
        let before = (stale == given.len()).then(|| format!("{:?}", self.window));
        assert_eq!(self.window.answer(given).is_err(), stale > 0);
        if let Some(before) = before {
            assert_eq!(format!("{:?}", self.window), before, "a stale answer changes nothing");
        }
    }

    /// An answer unlike all before, and what it makes of a record.
    fn answer_of(&mut self, kind: Kind) -> (Answer, Fate) {
        match kind {
            Kind::Ack => {
                self.acks += 1;
                let ack = Bytes::copy_from_slice(&self.acks.to_be_bytes());
                (Answer::Ack(ack.clone()), Fate::Acked(ack))
            }
            Kind::Refused => (Answer::Refused(Refusal::new("no")), Fate::Refused),
            Kind::Discarded => (Answer::Discarded, Fate::Lost(Delivery::NotDelivered)),
        }
    }

    fn poll_ack(&mut self, id: RecordId) {
        let (bell, waker) = Bell::new();
        let poll = self.window.poll_ack(id, &mut Context::from_waker(&waker));
        let Some(entry) = self.entries.get_mut(&id) else { return };
        match (&entry.stage, poll) {
            (Stage::Sent, Poll::Pending) => entry.bell = Some(bell),
            (Stage::Ended(fate), Poll::Ready(result)) => {
                assert_eq!(Fate::of(result), *fate);
                self.entries.remove(&id);
            }
            (stage, poll) => panic!("{stage:?}, and yet {poll:?}"),
        }
    }

    /// What must hold between any two steps.
    fn check(&self) {
        let state = self.window.0.lock();
        assert_eq!(state.records + self.un_acked(), SIZE, "permits are neither made nor lost");
        assert_eq!(state.bytes + self.used_bytes(), BYTES, "nor are bytes");

        let mut free = 0;
        let mut next = state.free;
        while next != 0 {
            let SlotState::Free { next: after } = state.slots[next as usize - 1].state else {
                panic!("slot {} is on the list of the free ones", next - 1);
            };
            free += 1;
            assert!(free <= state.slots.len(), "the list of the free slots is a ring");
            next = after;
        }
        assert_eq!(free + self.entries.len(), state.slots.len());
        assert!(state.slots.len() <= self.most_slots, "there are more slots than were needed");
        assert_eq!(state.counts.records, self.sent);

        if self.closed {
            assert!(state.waiters.is_empty());
            assert!(self.queue.iter().all(|sender| sender.bell.rang()), "nobody waits on");
        } else {
            assert_eq!(state.waiters.len(), self.queue.len());
            let first = self.queue.first().filter(|first| self.has_room(first.len));
            assert!(first.is_none_or(|first| first.bell.rang()), "the first waits beside room");
        }
        for (id, entry) in self.entries.iter().filter(|(_, entry)| !entry.is_un_acked()) {
            let woken = entry.bell.as_ref().is_none_or(|bell| bell.rang());
            assert!(woken, "nobody was told that {id:?} has ended");
        }
        if self.un_acked() == 0 {
            assert!(self.idle.as_ref().is_none_or(|bell| bell.rang()), "idle, and nobody told");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { ProptestConfig::default().cases },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_window_behaves_like_its_model(steps in prop::collection::vec(step(), 1..MOST_STEPS)) {
        let mut model = Model::new();
        for step in steps {
            model.apply(step);
            model.check();
        }
    }
}
