//! Calls into user code, which may panic.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

/// A call into user code that panicked.
#[derive(Debug)]
pub(crate) struct Panicked;

pin_project_lite::pin_project! {
    /// A call that may panic when it is made, or at any poll.
    pub(crate) struct Guarded<F> {
        #[pin]
        call: Option<F>,
    }
}

impl<F: Future> Guarded<F> {
    pub(crate) fn new(call: impl FnOnce() -> F) -> Self {
        // Unwind safe, here and below: what panicked is dropped and never looked at again.
        Self { call: catch_unwind(AssertUnwindSafe(call)).ok() }
    }
}

impl<F: Future> Future for Guarded<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(call) = this.call.as_mut().as_pin_mut() else {
            return Poll::Ready(Err(Panicked));
        };
        match catch_unwind(AssertUnwindSafe(|| call.poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(_) => {
                this.call.set(None);
                Poll::Ready(Err(Panicked))
            }
        }
    }
}
