//! Models of the pool's races, for loom; `window_loom.rs` says how to run them.

use std::{future::poll_fn, sync::Mutex as Unmodelled};

use loom::{sync::Notify, thread};

use super::*;

struct Bell(Notify);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify();
    }
}

/// What a call waits for. To look at it takes one load and no lock: nothing but the pool
/// orders that look and the wake-up.
#[derive(Default)]
struct Gate {
    open: AtomicBool,
    waker: Unmodelled<Option<Waker>>,
}

impl Gate {
    fn keep(&self, waker: &Waker) {
        *self.waker.lock().expect("nobody panics with it") = Some(waker.clone());
    }

    fn waker(&self) -> Waker {
        let waker = self.waker.lock().expect("nobody panics with it").clone();
        waker.expect("the call was polled")
    }

    fn open(&self) {
        self.open.store(true, Ordering::Release);
        self.waker().wake();
    }
}

/// A call that ends once its gate is open.
fn call(gate: &Arc<Gate>) -> impl Future<Output = ()> + use<> {
    let gate = gate.clone();
    poll_fn(move |cx| {
        gate.keep(cx.waker());
        if gate.open.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    })
}

/// Waits for the next call to end.
fn next<K: Copy, F: Future>(pool: &mut Pool<K, F>) -> K {
    let bell = Arc::new(Bell(Notify::new()));
    let waker = bell.clone().into();
    loop {
        if let Poll::Ready((key, _)) = pool.poll_next(&mut Context::from_waker(&waker)) {
            return key;
        }
        bell.0.wait();
    }
}

#[test]
fn a_call_that_is_woken_while_it_is_polled_is_polled_again() {
    loom::model(|| {
        let gate = Arc::new(Gate::default());
        let mut pool = Pool::new();
        assert!(pool.start('a', call(&gate)).is_pending());
        // Polled for this one, it is woken for the other.
        gate.waker().wake();
        let opening = {
            let gate = gate.clone();
            thread::spawn(move || gate.open())
        };
        assert_eq!(next(&mut pool), 'a');
        opening.join().unwrap();
    });
}

#[test]
fn a_late_wake_up_of_the_last_call_does_not_hide_one_of_the_next() {
    loom::model(|| {
        let (first, second) = (Arc::new(Gate::default()), Arc::new(Gate::default()));
        let mut pool = Pool::new();
        assert!(pool.start('a', call(&first)).is_pending());
        let late = first.waker();
        let waking = {
            let first = first.clone();
            thread::spawn(move || {
                first.open();
                late.wake();
            })
        };
        assert_eq!(next(&mut pool), 'a');
        assert!(pool.start('b', call(&second)).is_pending());
        let opening = {
            let second = second.clone();
            thread::spawn(move || second.open())
        };
        assert_eq!(next(&mut pool), 'b');
        assert_eq!(pool.places.len(), 1);
        waking.join().unwrap();
        opening.join().unwrap();
    });
}

#[test]
fn two_calls_that_end_at_once_are_both_told() {
    loom::model(|| {
        let gates = [(); 2].map(|()| Arc::new(Gate::default()));
        let mut pool = Pool::new();
        for (key, gate) in gates.iter().enumerate() {
            assert!(pool.start(key, call(gate)).is_pending());
        }
        let opening = gates.map(|gate| thread::spawn(move || gate.open()));
        let mut ended = [next(&mut pool), next(&mut pool)];
        ended.sort_unstable();
        assert_eq!(ended, [0, 1]);
        for thread in opening {
            thread.join().unwrap();
        }
    });
}
