//! What the program's side and the backend's side of a connection share.

use std::{
    mem,
    sync::{Arc, Weak},
};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::{
    close::{CloseReason, Delivery},
    error::SendError,
    inbox::Inbox,
    port::{Membership, PortInner},
    refusal::Refusal,
    seam::{Link, LinkInfo, PortRevoked, Record, RecordId, Unsent},
    sync::Mutex,
    window::{Answer, Window},
};

/// What the program's side of a connection holds on to.
pub(crate) struct Handle {
    shared: Arc<Shared>,
    link: Arc<dyn Link>,
}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>, link: Arc<dyn Link>) -> Self {
        Self { shared, link }
    }

    #[inline]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    #[inline]
    pub(crate) fn link(&self) -> &dyn Link {
        &*self.link
    }

    #[inline]
    pub(crate) fn submit(&self, id: RecordId, record: Record) -> Result<(), SendError> {
        // Between the slot and here the connection may have closed, the goodbye included.
        let len = record.payload.len() as u32;
        self.link.submit(id, record).map_err(|Unsent| self.shared.window.retract(id, len))
    }

    pub(crate) fn abandon(&self, id: RecordId) {
        self.link.abandon(id);
    }

    pub(crate) fn begin_close(&self, reason: CloseReason) {
        let (first, over) = {
            let mut life = self.shared.life.lock();
            let (first, over) = (life.closing.is_none(), life.closed.is_some());
            if !over {
                life.closing.get_or_insert_with(|| reason.clone());
            }
            (first, over)
        };
        // Whoever closes wants no more records, also none that a broken connection left.
        let discarded = self.shared.inbox.discard();
        if !over {
            self.shared.window.shut(&reason);
        }
        if !discarded.is_empty() {
            for id in discarded {
                self.link.answer(id, Answer::Discarded);
            }
            self.shared.inbox.discards_told();
        }
        if over {
            return;
        }
        if first {
            self.link.close(&reason);
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.begin_close(CloseReason::Local);
    }
}

/// What the program's side and the backend's driver of a connection share.
#[derive(Debug)]
pub(crate) struct Shared {
    info: LinkInfo,
    window: Window,
    inbox: Inbox,
    life: Mutex<Life>,
    changed: Notify,
    /// Where the connection is counted, until it is over.
    place: Mutex<Option<Place>>,
}

#[derive(Debug, Default)]
struct Life {
    closing: Option<CloseReason>,
    closed: Option<CloseReason>,
    /// Whether the handler, if any, has been told of the close.
    told: bool,
}

impl Life {
    fn end(&self) -> Option<CloseReason> {
        if self.told { self.closed.clone() } else { None }
    }
}

#[derive(Debug)]
struct Place {
    port: Weak<PortInner>,
    key: u64,
    _membership: Membership,
}

impl Shared {
    pub(crate) fn new(info: LinkInfo) -> Self {
        let bytes = info.window_bytes.max(info.max_record_len as u64);
        Self {
            window: Window::new(info.window_records.max(1), bytes),
            info,
            inbox: Inbox::default(),
            life: Mutex::default(),
            changed: Notify::new(),
            place: Mutex::default(),
        }
    }

    pub(crate) fn window(&self) -> &Window {
        &self.window
    }

    pub(crate) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    #[inline]
    pub(crate) fn info(&self) -> &LinkInfo {
        &self.info
    }

    /// Why the connection is closed or closing, if it is.
    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        let life = self.life.lock();
        life.closed.clone().or_else(|| life.closing.clone())
    }

    /// Waits for the end.
    pub(crate) async fn closed(&self) -> CloseReason {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(reason) = self.life.lock().end() {
                return reason;
            }
            changed.await;
        }
    }

    /// Becomes a connection of the port, unless that was revoked.
    pub(crate) fn join(
        &self,
        membership: Membership,
        port: &Arc<PortInner>,
        handle: &Arc<Handle>,
    ) -> Result<(), PortRevoked> {
        let Some(key) = port.add_connection(Arc::downgrade(handle)) else {
            // A handle without a place closes nothing: its link never carried anything.
            return Err(PortRevoked);
        };
        let place = Place { port: Arc::downgrade(port), key, _membership: membership };
        *self.place.lock() = Some(place);
        Ok(())
    }

    /// An ack that the remote side takes, or a refusal instead.
    #[inline]
    pub(crate) fn checked_ack(&self, ack: Bytes) -> Answer {
        let max = self.info.max_ack_len;
        if ack.len() <= max {
            return Answer::Ack(ack);
        }
        Answer::Refused(Refusal::new(format!(
            "the handler's ack of {} bytes is over the limit of {max} bytes: ack less, or raise \
             `Limits::max_ack_len` on both sides",
            ack.len()
        )))
    }

    pub(crate) fn remote_closes(&self, reason: &CloseReason) {
        self.life.lock().closing.get_or_insert_with(|| reason.clone());
        self.window.shut(reason);
    }

    /// The connection is over. `handled` says that a handler is still to be told.
    pub(crate) fn over(&self, reason: &CloseReason, unacked: Delivery, handled: bool) {
        let reason = {
            let mut life = self.life.lock();
            let reason = life.closing.clone().unwrap_or_else(|| reason.clone());
            life.closed = Some(reason.clone());
            life.told |= !handled;
            reason
        };
        self.window.close(&reason, unacked);
        self.inbox.end(&reason);
        let place = self.place.lock().take();
        if let Some(port) = place.as_ref().and_then(|place| place.port.upgrade()) {
            port.remove_connection(place.as_ref().map_or(0, |place| place.key));
        }
        drop(place);
        self.changed.notify_waiters();
    }

    /// The handler has been told of the close, or never will be.
    pub(crate) fn consumer_ended(&self) {
        let mut life = self.life.lock();
        if !mem::replace(&mut life.told, true) {
            drop(life);
            self.changed.notify_waiters();
        }
    }
}
