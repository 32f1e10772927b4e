//! Pulling records instead of handling them.

use std::{fmt, future::poll_fn, mem};

use bytes::Bytes;

use crate::{
    close::CloseReason, connection::Connection, refusal::Refusal, seam::RecordId, window::Answer,
};

/// The records of a connection that is pulled from. Dropping it closes the connection:
/// nobody would answer any more.
#[derive(Debug)]
#[must_use = "dropping it closes the connection"]
pub struct Records(Connection);

impl Records {
    pub(crate) fn new(connection: Connection) -> Self {
        Self(connection)
    }

    /// The next record, or `None` once the connection is closed and all records that
    /// arrived before a remote close were taken.
    ///
    /// # Cancel safety
    /// Dropping the future loses no record.
    pub async fn recv(&mut self) -> Option<Received> {
        let inbox = self.0.shared().inbox();
        let (id, payload) = poll_fn(|cx| inbox.poll_next(cx)).await?;
        Some(Received { connection: self.0.clone(), id, payload, answered: false })
    }

    /// The connection.
    pub fn connection(&self) -> &Connection {
        &self.0
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        self.0.begin_close(CloseReason::Local);
    }
}

/// A record that was pulled. Answer it with [`ack`](Self::ack) or [`refuse`](Self::refuse),
/// now or later, in any order; dropping it refuses it.
#[must_use = "a record that is dropped is refused"]
pub struct Received {
    connection: Connection,
    id: RecordId,
    payload: Bytes,
    answered: bool,
}

impl Received {
    /// What the record says.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The connection that it came by.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Acks it; the sender's `send` resolves to these bytes.
    pub fn ack(self, ack: impl Into<Bytes>) {
        let answer = self.connection.shared().checked_ack(ack.into());
        self.answer(answer);
    }

    /// Acks it with what it says itself.
    pub fn ack_echo(mut self) {
        let payload = mem::take(&mut self.payload);
        self.ack(payload);
    }

    /// Refuses it; the sender's `send` fails with this refusal.
    pub fn refuse(self, why: impl fmt::Display) {
        self.answer(Answer::Refused(Refusal::new(why.to_string())));
    }

    fn answer(mut self, answer: Answer) {
        self.answered = true;
        self.connection.answer(self.id, answer);
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if !self.answered {
            let refusal = Refusal::new("the program dropped the record without an answer");
            self.connection.answer(self.id, Answer::Refused(refusal));
        }
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received").field("len", &self.payload.len()).finish_non_exhaustive()
    }
}
