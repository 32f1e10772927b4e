//! Wake-ups that leave a mark, so that a task which waits for several things polls only
//! those that have called. A poll for nothing costs tens of nanoseconds, several times a record.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
};

/// One thing that a task waits for.
#[derive(Debug, Default)]
pub(crate) struct Flag(Option<Marking>);

#[derive(Debug)]
struct Marking {
    mark: Arc<Mark>,
    /// Wakes through the mark.
    waker: Waker,
}

#[derive(Debug)]
struct Mark {
    raised: AtomicBool,
    task: Waker,
}

impl Wake for Mark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.raised.swap(true, Ordering::AcqRel) {
            self.task.wake_by_ref();
        }
    }
}

impl Flag {
    /// What to poll with, if it was raised since the last look, or this is the first, or a
    /// poll is due anyway.
    pub(crate) fn take(&mut self, due: bool, cx: &mut Context<'_>) -> Option<&Waker> {
        let known = self.0.as_ref().is_some_and(|it| it.mark.task.will_wake(cx.waker()));
        if !known {
            // Another task polls, or the first: what was waited for is polled again, with a
            // waker of this one.
            let task = cx.waker().clone();
            let mark = Arc::new(Mark { raised: AtomicBool::new(false), task });
            let waker = Waker::from(mark.clone());
            return Some(&self.0.insert(Marking { mark, waker }).waker);
        }
        let Marking { mark, waker } = self.0.as_ref()?;
        // A load first: a swap would take the cache line every time.
        let raised =
            mark.raised.load(Ordering::Acquire) && mark.raised.swap(false, Ordering::AcqRel);
        (raised || due).then_some(waker)
    }
}
