//! Keeps a window of records un-acked from one task, at the least cost a record.
//!
//! It does what `FuturesUnordered` would, without an allocation a record: a slot for each record
//! in flight keeps its place in memory and its waker, and takes one future after the other. So
//! more of what is measured is the network, and both sides of a ratio are driven alike.

use std::future::poll_fn;
use std::mem::take;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

use crate::peer::{Result, Tally};

/// Runs `width` futures of `exchange` at a time, each replaced when it is done, until the tally
/// says stop; then waits for the rest.
pub(crate) async fn keep_full<F>(
    width: usize,
    tally: &Tally,
    mut exchange: impl FnMut() -> F,
) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let mut window = Window::new(width);
    let turns = poll_fn(|cx| window.poll(cx, tally, &mut exchange));
    // The runtime's budget would make futures that are ready say that they are not, and the
    // window would ask all of them over and over. A turn ends soon enough without it.
    pin!(tokio::task::unconstrained(turns)).await
}

struct Window<F> {
    slots: Vec<Slot<F>>,
    woken: Arc<Woken>,
    /// The slots whose future is yet to be polled for the first time, as bits.
    fresh: Vec<u64>,
    running: usize,
}

struct Slot<F> {
    future: Pin<Box<Option<F>>>,
    waker: Waker,
}

impl<F: Future<Output = Result<()>>> Window<F> {
    fn new(width: usize) -> Self {
        let woken = Arc::new(Woken::new(width));
        let slot = |at| Slot {
            future: Box::pin(None),
            waker: Waker::from(Arc::new(SlotWaker { woken: woken.clone(), at })),
        };
        let slots: Vec<_> = (0..width).map(slot).collect();
        let fresh = vec![0; woken.bits.len()];
        Self { slots, woken, fresh, running: 0 }
    }

    /// One turn: polls the slots that were woken, then the futures that took the place of those
    /// that are done.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        tally: &Tally,
        exchange: &mut impl FnMut() -> F,
    ) -> Poll<Result<()>> {
        if self.running == 0 {
            (0..self.slots.len()).for_each(|at| self.fill(at, exchange()));
        }
        self.woken.notify(cx.waker());
        for _ in 0..2 {
            let done = self.sweep(tally, exchange)?;
            tally.acked(done);
            if self.running == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        if self.fresh.iter().any(|bits| *bits != 0) {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Polls each slot that has a reason for it once; tells how many were done.
    fn sweep(&mut self, tally: &Tally, exchange: &mut impl FnMut() -> F) -> Result<u64> {
        let mut done = 0;
        for word in 0..self.fresh.len() {
            let mut bits = take(&mut self.fresh[word]) | self.woken.take(word);
            while bits != 0 {
                let at = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                let slot = &mut self.slots[at];
                let Some(future) = slot.future.as_mut().as_pin_mut() else {
                    continue;
                };
                let Poll::Ready(result) = future.poll(&mut Context::from_waker(&slot.waker)) else {
                    continue;
                };
                result?;
                done += 1;
                self.running -= 1;
                if tally.stopped() {
                    slot.future.set(None);
                } else {
                    self.fill(at, exchange());
                }
            }
        }
        Ok(done)
    }

    fn fill(&mut self, at: usize, future: F) {
        self.slots[at].future.set(Some(future));
        self.fresh[at / 64] |= 1 << (at % 64);
        self.running += 1;
    }
}

/// Which slots were woken since they were last polled.
struct Woken {
    bits: Box<[AtomicU64]>,
    /// Whether the task knows already that there is something to look at.
    notified: AtomicBool,
    task: AtomicWaker,
}

impl Woken {
    fn new(width: usize) -> Self {
        let bits = (0..width.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Self { bits, notified: AtomicBool::new(false), task: AtomicWaker::new() }
    }

    /// Has the next wake reach this task. To be called before the bits are taken.
    fn notify(&self, task: &Waker) {
        self.task.register(task);
        self.notified.store(false, SeqCst);
    }

    fn take(&self, word: usize) -> u64 {
        self.bits[word].swap(0, SeqCst)
    }

    fn wake(&self, at: usize) {
        self.bits[at / 64].fetch_or(1 << (at % 64), SeqCst);
        if !self.notified.load(SeqCst) && !self.notified.swap(true, SeqCst) {
            self.task.wake();
        }
    }
}

struct SlotWaker {
    woken: Arc<Woken>,
    at: usize,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.wake(self.at);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    async fn run(width: usize, records: u64, hops: usize) -> (u64, usize) {
        let tally = Tally::default();
        let (started, running, most) = (Cell::new(0), Cell::new(0), Cell::new(0));
        let exchange = || async {
            started.set(started.get() + 1);
            running.set(running.get() + 1);
            most.set(most.get().max(running.get()));
            if started.get() == records {
                tally.stop();
            }
            for _ in 0..hops {
                tokio::task::yield_now().await;
            }
            running.set(running.get() - 1);
            Ok(())
        };
        keep_full(width, &tally, exchange).await.expect("no exchange fails");
        assert_eq!(tally.total(), started.get());
        assert!(tally.total() >= records);
        (tally.total(), most.get())
    }

    #[tokio::test]
    async fn fills_the_window_and_counts_every_ack() {
        for width in [1, 3, 64, 65, 1024] {
            let (total, most) = run(width, 5000, 2).await;
            assert_eq!(most, width);
            assert!(total < 5000 + width as u64);
        }
    }

    #[tokio::test]
    async fn futures_that_are_ready_at_once_make_progress() {
        assert_eq!(run(64, 1000, 0).await.1, 1);
    }

    #[tokio::test]
    async fn a_failure_ends_it() {
        let tally = Tally::default();
        let failed = keep_full(4, &tally, || async { Err("no".into()) }).await;
        assert_eq!(failed.expect_err("it fails").to_string(), "no");
        assert_eq!(tally.total(), 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_wake_from_another_thread_is_lost() {
        let (wakes, mut asked) = tokio::sync::mpsc::channel::<tokio::sync::oneshot::Sender<()>>(64);
        tokio::spawn(async move {
            while let Some(wake) = asked.recv().await {
                let _ = wake.send(());
            }
        });
        let tally = Tally::default();
        let exchange = || async {
            if tally.total() > 20_000 {
                tally.stop();
            }
            let (wake, woken) = tokio::sync::oneshot::channel();
            wakes.send(wake).await?;
            Ok(woken.await?)
        };
        keep_full(100, &tally, exchange).await.expect("no exchange fails");
        assert!(tally.total() > 20_000);
    }
}
