//! Tests of the pool. `pool_loom.rs` has its races.

use std::{
    future::poll_fn,
    sync::atomic::AtomicUsize,
    thread::{self, Thread},
};

use super::*;

/// A task's waker that counts its calls.
#[derive(Debug, Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A pool, and the task that polls it.
struct Turns<F> {
    pool: Pool<u32, F>,
    bell: Arc<Bell>,
    heard: usize,
}

impl<F: Future> Turns<F> {
    fn new() -> Self {
        Self { pool: Pool::new(), bell: Arc::default(), heard: 0 }
    }

    /// Whether the task was woken since the last look.
    fn woken(&mut self) -> bool {
        let calls = self.bell.0.load(Ordering::Relaxed);
        calls != std::mem::replace(&mut self.heard, calls)
    }

    /// Polls until nothing is ready, and tells which calls ended, in order.
    fn turn(&mut self) -> Vec<u32> {
        let waker = self.bell.clone().into();
        let mut cx = Context::from_waker(&waker);
        let mut ended = Vec::new();
        while let Poll::Ready((key, _)) = self.pool.poll_next(&mut cx) {
            ended.push(key);
        }
        ended
    }
}

/// What a call waits for.
#[derive(Default)]
struct Gate {
    open: AtomicBool,
    waker: Mutex<Option<Waker>>,
    polls: AtomicUsize,
}

impl Gate {
    /// Wakes the call, whether it can go on or not.
    fn wake(&self) {
        let waker = self.waker.lock().clone();
        waker.expect("the call was polled").wake();
    }

    fn open(&self) {
        self.open.store(true, Ordering::Release);
        self.wake();
    }

    fn polls(&self) -> usize {
        self.polls.load(Ordering::Relaxed)
    }
}

/// A call that ends once its gate is open.
fn call(gate: &Arc<Gate>) -> impl Future<Output = ()> + use<> {
    let gate = gate.clone();
    poll_fn(move |cx| {
        gate.polls.fetch_add(1, Ordering::Relaxed);
        *gate.waker.lock() = Some(cx.waker().clone());
        if gate.open.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    })
}

fn gates<const N: usize>() -> [Arc<Gate>; N] {
    std::array::from_fn(|_| Arc::default())
}

#[test]
fn a_call_that_is_ready_at_once_is_told_by_its_start() {
    let mut turns = Turns::new();
    for key in 0..3 {
        assert!(turns.pool.start(key, std::future::ready(())).is_ready());
    }
    assert_eq!(turns.pool.running(), 0);
    assert_eq!(turns.pool.places.len(), 1);
    assert!(turns.turn().is_empty());
}

#[test]
fn a_pending_call_wakes_the_task_and_is_told_by_the_next_turn() {
    let [gate] = gates();
    let mut turns = Turns::new();
    assert!(turns.pool.start(7, call(&gate)).is_pending());
    assert!(turns.turn().is_empty());
    assert_eq!((turns.pool.running(), gate.polls()), (1, 1));
    gate.open();
    assert!(turns.woken());
    assert_eq!(turns.turn(), [7]);
    assert_eq!((turns.pool.running(), gate.polls()), (0, 2));
    assert!(turns.turn().is_empty());
}

#[test]
fn only_the_calls_that_were_woken_are_polled() {
    let gates: [_; 3] = gates();
    let mut turns = Turns::new();
    for (key, gate) in (0..).zip(&gates) {
        assert!(turns.pool.start(key, call(gate)).is_pending());
    }
    turns.turn();
    gates[1].wake();
    assert!(turns.turn().is_empty());
    assert_eq!(gates.map(|gate| gate.polls()), [1, 2, 1]);
}

#[test]
fn a_call_that_is_woken_twice_is_polled_once() {
    let [gate] = gates();
    let mut turns = Turns::new();
    assert!(turns.pool.start(0, call(&gate)).is_pending());
    turns.turn();
    gate.wake();
    gate.wake();
    assert!(turns.turn().is_empty());
    assert_eq!(gate.polls(), 2);
    assert_eq!(turns.bell.0.load(Ordering::Relaxed), 1);
    gate.open();
    assert_eq!(turns.turn(), [0]);
}

#[test]
fn a_call_that_is_woken_before_the_first_turn_is_polled_in_it() {
    let [gate] = gates();
    let mut turns = Turns::new();
    assert!(turns.pool.start(0, call(&gate)).is_pending());
    gate.open();
    assert_eq!(turns.turn(), [0]);
}

#[test]
fn a_call_that_is_woken_by_another_thread_while_it_is_polled_is_polled_again() {
    let mut turns = Turns::new();
    let mut first = true;
    let call = poll_fn(move |cx| {
        if !std::mem::take(&mut first) {
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        thread::spawn(move || waker.wake()).join().unwrap();
        Poll::Pending
    });
    assert!(turns.pool.start(0, call).is_pending());
    assert_eq!(turns.turn(), [0]);
}

#[test]
fn calls_end_in_the_order_in_which_they_were_woken() {
    let gates: [_; 4] = gates();
    let mut turns = Turns::new();
    for (key, gate) in (0..).zip(&gates) {
        assert!(turns.pool.start(key, call(gate)).is_pending());
    }
    turns.turn();
    for at in [2, 0, 3, 1] {
        gates[at].open();
    }
    assert_eq!(turns.turn(), [2, 0, 3, 1]);
}

#[test]
fn places_are_used_again() {
    let mut turns = Turns::new();
    for _ in 0..50 {
        let gates: [_; 3] = gates();
        for (key, gate) in (0..).zip(&gates) {
            assert!(turns.pool.start(key, call(gate)).is_pending());
        }
        for gate in &gates {
            // More wake-ups than calls.
            gate.wake();
            gate.open();
        }
        assert_eq!(turns.turn().len(), 3);
        for gate in &gates {
            gate.wake();
        }
    }
    assert_eq!(turns.pool.places.len(), 3);
    assert!(turns.pool.ready.0.lock().0.capacity() <= 4, "a place is queued at most once");
    assert!(turns.pool.woken.capacity() <= 4);
}

#[test]
fn a_late_wake_up_of_a_place_that_is_used_again_ends_nothing() {
    let [first, second] = gates();
    let mut turns = Turns::new();
    assert!(turns.pool.start(1, call(&first)).is_pending());
    first.open();
    assert_eq!(turns.turn(), [1]);
    assert!(turns.pool.start(2, call(&second)).is_pending());
    assert!(turns.turn().is_empty());
    first.wake();
    assert!(turns.woken());
    assert!(turns.turn().is_empty());
    second.open();
    assert!(turns.woken());
    assert_eq!(turns.turn(), [2]);
    assert_eq!(turns.pool.places.len(), 1);
}

#[test]
fn a_wake_up_while_nothing_runs_does_not_hide_one_of_the_next_call() {
    let [first, second] = gates();
    let mut turns = Turns::new();
    assert!(turns.pool.start(1, call(&first)).is_pending());
    first.open();
    assert_eq!(turns.turn(), [1]);
    first.wake();
    assert!(turns.turn().is_empty());
    assert!(turns.pool.start(2, call(&second)).is_pending());
    assert!(turns.turn().is_empty());
    turns.woken();
    second.open();
    assert!(turns.woken());
    assert_eq!(turns.turn(), [2]);
}

#[test]
fn the_task_that_polled_last_is_woken() {
    let [gate] = gates();
    let mut turns = Turns::new();
    assert!(turns.pool.start(0, call(&gate)).is_pending());
    turns.turn();
    let before = std::mem::take(&mut turns.bell);
    turns.turn();
    gate.open();
    assert!(turns.woken());
    assert_eq!(before.0.load(Ordering::Relaxed), 0);
}

#[test]
fn a_call_that_keeps_waking_itself_leaves_the_task_to_others() {
    let polls = Arc::new(AtomicUsize::new(0));
    let counted = polls.clone();
    let mut turns = Turns::new();
    let call = poll_fn(move |cx| {
        cx.waker().wake_by_ref();
        if counted.fetch_add(1, Ordering::Relaxed) < 100 { Poll::Pending } else { Poll::Ready(()) }
    });
    assert!(turns.pool.start(0, call).is_pending());
    let mut before = 1;
    for _ in 0..100 {
        let ended = turns.turn();
        let after = polls.load(Ordering::Relaxed);
        assert!(after - before <= MAX_ROUNDS as usize);
        before = after;
        if ended == [0] {
            return;
        }
        assert!(turns.woken(), "it is not forgotten either");
    }
    panic!("the call never ended");
}

#[test]
fn calls_that_end_do_not_make_a_turn_longer() {
    let mut turns = Turns::new();
    for key in 0..20 {
        let [gate] = gates();
        assert!(turns.pool.start(key, call(&gate)).is_pending());
        gate.open();
        assert_eq!(turns.turn(), [key]);
        assert!(!turns.woken());
    }
}

#[test]
fn a_panic_while_a_call_is_dropped_does_not_lose_its_place() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("while dropped");
        }
    }
    let mut turns = Turns::new();
    let call = {
        let bomb = Bomb;
        poll_fn(move |_| -> Poll<()> {
            let _ = &bomb;
            panic!("while polled")
        })
    };
    assert!(catch_unwind(AssertUnwindSafe(|| turns.pool.start(3, call))).is_err());
    assert_eq!(turns.pool.panicked(), Some(3));
    assert_eq!(turns.pool.running(), 0);
    assert_eq!(turns.pool.panicked(), None);
}

#[test]
fn a_wake_up_after_the_pool_is_gone_is_harmless() {
    let [gate] = gates();
    let mut turns = Turns::new();
    assert!(turns.pool.start(0, call(&gate)).is_pending());
    turns.turn();
    drop(turns);
    gate.open();
}

#[test]
fn calls_that_other_threads_wake_all_end() {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let (rounds, calls) = if cfg!(miri) { (3, 4) } else { (200, 16) };
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut pool = Pool::new();
    for _ in 0..rounds {
        let gates: Vec<Arc<Gate>> = (0..calls).map(|_| Arc::default()).collect();
        for (key, gate) in gates.iter().enumerate() {
            assert!(pool.start(key, call(gate)).is_pending());
        }
        thread::scope(|scope| {
            for gates in gates.chunks(calls / 2) {
                scope.spawn(move || {
                    gates.iter().for_each(|gate| gate.wake());
                    gates.iter().for_each(|gate| gate.open());
                });
            }
            let mut ended = 0;
            while ended < calls {
                match pool.poll_next(&mut cx) {
                    Poll::Ready(_) => ended += 1,
                    Poll::Pending => thread::park(),
                }
            }
        });
    }
    assert_eq!(pool.places.len(), calls);
}
