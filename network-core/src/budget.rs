//! The memory that the connections of a network share for what came in.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

/// Bytes that a network may hold of records without an answer, and of answers on their way.
#[derive(Debug)]
pub(crate) struct Budget {
    max: usize,
    used: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, used: AtomicUsize::new(0) })
    }

    fn take(&self, bytes: usize) -> bool {
        let room = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.max);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok()
    }
}

/// A connection's share of the budget, for one task. What it holds is given back when it is
/// dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    held: usize,
    /// What records keep in memory beyond their length. None of that is free.
    extra: usize,
    /// How much of the budget is taken for it.
    taken: usize,
}

impl Share {
    /// What each connection may hold beyond the budget, in bytes: so that small records get
    /// through whatever others hold, and so that most connections never touch the budget.
    pub(crate) const FREE: usize = 64 * 1024;

    /// How much is taken at once, and kept before it is given back, in bytes.
    const STEP: usize = 256 * 1024;

    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self { budget, held: 0, extra: 0, taken: 0 }
    }

    /// Holds so many bytes more, if there is room for them.
    #[inline]
    pub(crate) fn hold(&mut self, bytes: usize) -> bool {
        let held = self.cover(bytes);
        if held {
            self.held += bytes;
        }
        held
    }

    /// The same, with so many bytes that are kept along with them.
    #[inline]
    pub(crate) fn hold_with(&mut self, bytes: usize, extra: usize) -> bool {
        self.extra += extra;
        let held = self.hold(bytes);
        if !held {
            self.extra -= extra;
        }
        held
    }

    /// How much of the budget it takes to hold so many bytes more.
    #[inline]
    fn needed(&self, more: usize) -> usize {
        self.held.saturating_add(more).saturating_sub(Self::FREE).saturating_add(self.extra)
    }

    /// Whether there is room for so many bytes more; what that takes of the budget stays taken
    /// until [`settle`](Self::settle), but the bytes do not count as held.
    #[inline]
    pub(crate) fn cover(&mut self, bytes: usize) -> bool {
        let needed = self.needed(bytes);
        needed <= self.taken || self.grow(needed)
    }

    #[cold]
    fn grow(&mut self, wanted: usize) -> bool {
        // A step ahead, or where there is no room for that, as little as needed.
        let rounded = wanted.div_ceil(Self::STEP).saturating_mul(Self::STEP);
        for wanted in [rounded, wanted] {
            if self.budget.take(wanted - self.taken) {
                self.taken = wanted;
                return true;
            }
        }
        false
    }

    /// Holds so many bytes more or less, and less extra. What is there already cannot be refused: the budget
    /// may be passed, and others then get nothing of it.
    #[inline]
    pub(crate) fn change(&mut self, bytes: isize, less_extra: usize) {
        self.held = self.held.saturating_add_signed(bytes);
        self.extra = self.extra.saturating_sub(less_extra);
        let needed = self.needed(0);
        if needed > self.taken && !self.grow(needed) {
            self.budget.used.fetch_add(needed - self.taken, Ordering::Relaxed);
            self.taken = needed;
        }
    }

    /// Gives back what is not needed for what is held and so many bytes more.
    #[inline]
    pub(crate) fn settle(&mut self, more: usize) {
        let needed = self.needed(more);
        if self.taken > needed.saturating_add(2 * Self::STEP) || needed == 0 && self.taken > 0 {
            self.budget.used.fetch_sub(self.taken - needed, Ordering::Relaxed);
            self.taken = needed;
        }
    }

    /// Holds so many bytes less.
    #[inline]
    pub(crate) fn release(&mut self, bytes: usize) {
        self.held = self.held.saturating_sub(bytes);
        self.settle(0);
    }

    /// How many bytes are held.
    pub(crate) fn held(&self) -> usize {
        self.held + self.extra
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

/// A connection's share of the memory that a network has for what came in
/// ([`Limits::memory`](crate::Limits::memory)), for a backend that takes in records itself.
/// The drivers of [`stream`](crate::stream) have theirs.
///
/// Hold what is about to be kept of a record, and release it once the record has its answer
/// and that answer has left. Where there is no room, drop the payload and answer
/// [`Answer::NoRoom`](crate::Answer::NoRoom). Of each share the first 64 KiB are free, so a
/// connection has only one. Dropping it gives back all that it holds.
///
/// May be shared by many tasks. A call takes a short lock of this connection's own, and
/// rarely touches what the connections share.
#[derive(Debug)]
pub struct MemoryShare(Mutex<Share>);

impl MemoryShare {
    pub(crate) fn new(share: Share) -> Self {
        Self(Mutex::new(share))
    }

    /// Holds so many bytes more, if there is room for them; otherwise nothing changes.
    #[must_use = "without room the bytes must not be kept"]
    pub fn hold(&self, bytes: usize) -> bool {
        self.lock().hold(bytes)
    }

    /// Holds so many bytes less, or none if there are not as many.
    pub fn release(&self, bytes: usize) {
        self.lock().release(bytes);
    }

    /// How many bytes it holds.
    pub fn held(&self) -> usize {
        self.lock().held()
    }

    fn lock(&self) -> MutexGuard<'_, Share> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    fn used(budget: &Budget) -> usize {
        budget.used.load(Ordering::Relaxed)
    }

    #[test]
    fn small_holdings_need_no_budget() {
        let budget = Budget::new(0);
        let mut share = Share::new(budget.clone());
        assert!(share.hold(Share::FREE));
        assert!(!share.hold(1));
        assert_eq!(used(&budget), 0);
    }

    #[test]
    fn connections_share_what_there_is_and_give_it_back() {
        let budget = Budget::new(1024 * KIB);
        let (mut one, mut other) = (Share::new(budget.clone()), Share::new(budget.clone()));
        assert!(one.hold(900 * KIB));
        assert!(!other.hold(400 * KIB), "the rest is too little");
        assert!(other.hold(Share::FREE), "but a little always goes");
        one.release(800 * KIB);
        assert!(other.hold(400 * KIB - Share::FREE));
        drop(one);
        assert!(other.hold(624 * KIB));
        other.release(1024 * KIB);
        assert_eq!(used(&budget), 0);
        assert!(other.hold(1024 * KIB));
        drop(other);
        assert_eq!(used(&budget), 0);
    }

    #[test]
    fn the_last_bytes_of_the_budget_can_be_had() {
        let budget = Budget::new(100 * KIB);
        let mut share = Share::new(budget);
        assert!(share.hold(Share::FREE + 100 * KIB));
        assert!(!share.hold(1));
    }

    #[test]
    fn what_is_free_is_not_for_what_is_kept_along() {
        let budget = Budget::new(100 * KIB);
        let mut share = Share::new(budget.clone());
        assert!(share.hold_with(10 * KIB, 30 * KIB) && share.hold_with(20 * KIB, 60 * KIB));
        assert!(!share.hold_with(5 * KIB, 15 * KIB));
        assert!(share.hold(34 * KIB));
        assert_eq!(share.held(), 154 * KIB);
        share.change(-(64 * KIB as isize), 90 * KIB);
        share.settle(0);
        assert_eq!((share.held(), used(&budget)), (0, 0));
    }

    #[test]
    fn what_is_covered_is_not_held() {
        let budget = Budget::new(1024 * KIB);
        let mut share = Share::new(budget.clone());
        assert!(share.cover(500 * KIB));
        share.settle(500 * KIB);
        assert!(used(&budget) >= 500 * KIB - Share::FREE);
        share.settle(0);
        assert_eq!((share.held(), used(&budget)), (0, 0));
    }

    #[test]
    fn what_cannot_be_refused_is_at_the_cost_of_the_others() {
        let budget = Budget::new(100 * KIB);
        let (mut one, mut other) = (Share::new(budget.clone()), Share::new(budget.clone()));
        one.change(1024 * KIB as isize, 0);
        assert!(other.hold(Share::FREE) && !other.hold(1) && !one.hold(1));
        one.change(-(1024 * KIB as isize), 0);
        one.settle(0);
        assert!(other.hold(100 * KIB));
    }

    #[test]
    fn many_tasks_share_one_share() {
        let budget = Budget::new(1024 * KIB);
        let share = MemoryShare::new(Share::new(budget.clone()));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        assert!(share.hold(200 * KIB));
                        share.release(200 * KIB);
                    }
                });
            }
        });
        assert_eq!((share.held(), used(&budget)), (0, 0));
        assert!(share.hold(1024 * KIB));
        assert!(!share.hold(100 * KIB));
        drop(share);
        assert_eq!(used(&budget), 0);
    }
}
