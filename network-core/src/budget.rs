//! The memory that the connections of a network share for what came in.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Bytes that a network may hold of records without an answer.
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

/// A connection's share of the budget. What it holds is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    held: usize,
}

impl Share {
    /// What each connection may hold beyond the budget, in bytes: so that small records get
    /// through whatever others hold, and so that most connections never touch the budget.
    pub(crate) const FREE: usize = 64 * 1024;

    /// How much is taken at once, and kept before it is given back, in bytes.
    const STEP: usize = 256 * 1024;

    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self { budget, held: 0 }
    }

    /// Whether the connection may hold so many bytes; it then has them.
    #[inline]
    pub(crate) fn cover(&mut self, bytes: usize) -> bool {
        bytes <= Self::FREE + self.held || self.grow(bytes - Self::FREE)
    }

    #[cold]
    fn grow(&mut self, wanted: usize) -> bool {
        // A step ahead, or where there is no room for that, as little as needed.
        let rounded = wanted.div_ceil(Self::STEP).saturating_mul(Self::STEP);
        for wanted in [rounded, wanted] {
            if self.budget.take(wanted - self.held) {
                self.held = wanted;
                return true;
            }
        }
        false
    }

    /// The connection holds only so many bytes now.
    #[inline]
    pub(crate) fn uncover(&mut self, bytes: usize) {
        let needed = bytes.saturating_sub(Self::FREE);
        if self.held > needed.saturating_add(2 * Self::STEP) || needed == 0 && self.held > 0 {
            self.budget.used.fetch_sub(self.held - needed, Ordering::Relaxed);
            self.held = needed;
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.held, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    #[test]
    fn small_holdings_need_no_budget() {
        let budget = Budget::new(0);
        let mut share = Share::new(budget.clone());
        assert!(share.cover(Share::FREE));
        assert!(!share.cover(Share::FREE + 1));
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn connections_share_what_there_is_and_give_it_back() {
        let budget = Budget::new(1024 * KIB);
        let (mut one, mut other) = (Share::new(budget.clone()), Share::new(budget.clone()));
        assert!(one.cover(900 * KIB));
        assert!(!other.cover(400 * KIB), "the rest is too little");
        assert!(other.cover(Share::FREE), "but a little always goes");
        one.uncover(100 * KIB);
        assert!(other.cover(400 * KIB));
        drop(one);
        assert!(other.cover(1024 * KIB));
        other.uncover(0);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
        assert!(other.cover(1024 * KIB));
        drop(other);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_last_bytes_of_the_budget_can_be_had() {
        let budget = Budget::new(100 * KIB);
        let mut share = Share::new(budget);
        assert!(share.cover(Share::FREE + 100 * KIB));
        assert!(!share.cover(Share::FREE + 100 * KIB + 1));
    }
}

/// TEMP
#[derive(Debug)]
pub struct MemoryShare(Share, usize);

impl MemoryShare {
    pub(crate) fn new(share: Share) -> Self {
        Self(share, 0)
    }
    /// TEMP
    pub fn hold(&mut self, bytes: usize) -> bool {
        let ok = self.0.cover(self.1 + bytes);
        self.1 += if ok { bytes } else { 0 };
        ok
    }
    /// TEMP
    pub fn release(&mut self, bytes: usize) {
        self.1 -= bytes;
        self.0.uncover(self.1);
    }
}
