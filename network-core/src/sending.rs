//! Sending: room in the window, a permit for it, and the ack.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;

use crate::{
    error::SendError,
    seam::{Record, RecordId},
    shared::Handle,
    window::{Ticket, Window},
};

/// Waits for a permit and a slot.
pub(crate) struct Opening<'a> {
    window: &'a Window,
    len: u32,
    send: bool,
    ticket: Ticket,
}

impl<'a> Opening<'a> {
    pub(crate) fn new(window: &'a Window, len: u32, send: bool) -> Self {
        Self { window, len, send, ticket: Ticket::default() }
    }
}

impl Future for Opening<'_> {
    type Output = Result<RecordId, SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.window.poll_open(this.len, this.send, &mut this.ticket, cx)
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.window.leave(&mut self.ticket);
    }
}

/// Room for one record. Dropping it gives the room back.
#[must_use = "a permit that is dropped sends nothing"]
pub struct SendPermit<'a> {
    handle: &'a Arc<Handle>,
    id: RecordId,
    len: usize,
}

impl<'a> SendPermit<'a> {
    pub(crate) fn new(handle: &'a Arc<Handle>, id: RecordId, len: usize) -> Self {
        Self { handle, id, len }
    }

    /// Sends a record at once; the returned future waits for its ack.
    ///
    /// # Errors
    /// [`SendError::TooLarge`] for more bytes than were reserved, [`SendError::Empty`],
    /// [`SendError::Closed`]. Nothing was sent then.
    pub fn send(self, record: impl Into<Bytes>) -> Result<Ack<'a>, SendError> {
        let record = record.into();
        if record.len() > self.len {
            return Err(SendError::TooLarge { len: record.len(), max: self.len });
        }
        let (handle, id) = (self.handle, self.id);
        if record.is_empty() && handle.shared().info().no_empty_records {
            return Err(SendError::Empty);
        }
        mem::forget(self);
        handle.shared().window().commit(id, record.len() as u32)?;
        handle.submit(id, Record { payload: record, timeout: None })?;
        Ok(Ack { holder: Holder::Borrowed(handle), id, stage: Stage::Waiting })
    }
}

impl Drop for SendPermit<'_> {
    fn drop(&mut self) {
        self.handle.shared().window().cancel(self.id);
    }
}

impl fmt::Debug for SendPermit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendPermit").field("len", &self.len).finish_non_exhaustive()
    }
}

/// The ack of a record that was sent, or a [`SendError`].
///
/// # Cancel safety
/// Dropping it throws away the ack. The record is on its way, unless the backend can call it
/// back, as QUIC can where records keep no order.
#[must_use = "the record is sent; await this to learn its ack"]
pub struct Ack<'a> {
    holder: Holder<'a>,
    id: RecordId,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Opening the slot left this task's waker there: the next poll need not look.
    Registered,
    Waiting,
    Taken,
}

enum Holder<'a> {
    Borrowed(&'a Arc<Handle>),
    Owned(Arc<Handle>),
}

impl Holder<'_> {
    #[inline]
    fn window(&self) -> &Window {
        match self {
            Self::Borrowed(handle) => handle.shared().window(),
            Self::Owned(handle) => handle.shared().window(),
        }
    }
}

impl Holder<'_> {
    #[cold]
    fn abandon(&self, id: RecordId) {
        let handle = match self {
            Self::Borrowed(handle) => handle,
            Self::Owned(handle) => handle,
        };
        handle.shared().window().abandon(id);
        handle.abandon(id);
    }
}

impl<'a> Ack<'a> {
    /// The ack of a record whose slot the same task has just opened, and left its waker in.
    pub(crate) fn of_sender(handle: &'a Arc<Handle>, id: RecordId) -> Self {
        Self { holder: Holder::Borrowed(handle), id, stage: Stage::Registered }
    }

    /// The same, free of the connection it borrows from: to be moved into a task.
    pub fn into_owned(mut self) -> Ack<'static> {
        self.stage = Stage::Taken;
        let handle = match &self.holder {
            Holder::Borrowed(handle) => (*handle).clone(),
            Holder::Owned(handle) => handle.clone(),
        };
        Ack { holder: Holder::Owned(handle), id: self.id, stage: Stage::Waiting }
    }
}

impl Future for Ack<'_> {
    type Output = Result<Bytes, SendError>;

    /// # Panics
    /// Like most futures, when polled again after it was ready.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.stage {
            Stage::Registered => {
                self.stage = Stage::Waiting;
                return Poll::Pending;
            }
            Stage::Waiting => {}
            Stage::Taken => panic!("an `Ack` was polled after it was ready"),
        }
        let result = ready!(self.holder.window().poll_ack(self.id, cx));
        self.stage = Stage::Taken;
        Poll::Ready(result)
    }
}

impl Drop for Ack<'_> {
    fn drop(&mut self) {
        if self.stage != Stage::Taken {
            self.holder.abandon(self.id);
        }
    }
}

impl fmt::Debug for Ack<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ack").field("id", &self.id).finish_non_exhaustive()
    }
}
