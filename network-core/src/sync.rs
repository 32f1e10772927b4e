//! The locks and flags of the hot path, which loom replaces by its own when it models them.

#[cfg(network_loom)]
use loom::sync::Mutex as Inner;
#[cfg(not(network_loom))]
use std::sync::Mutex as Inner;

#[cfg(network_loom)]
pub(crate) use loom::sync::{MutexGuard, atomic::AtomicBool};
#[cfg(not(network_loom))]
pub(crate) use std::sync::{MutexGuard, atomic::AtomicBool};

/// A mutex that ignores poisoning: user code never runs under it, and what it guards is
/// consistent between any two statements that could panic.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(Inner<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Inner::new(value))
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
