//! Frames that wait to be written.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::frame::{self, Closing, HEADER_LEN, MAX_TEXT_LEN};
use crate::refusal::Refusal;

/// Payloads from this size on are written from where they are, not copied to be written
/// together. Below, one more slice in a vectored write costs more than the copy.
pub(crate) const BY_REFERENCE: usize = 8 * 1024;

/// Frames that wait to be written: small payloads in one buffer, large ones by reference.
#[derive(Debug, Default)]
pub struct Output {
    full: VecDeque<Bytes>,
    tail: BytesMut,
    len: usize,
}

impl Output {
    /// Adds a record.
    #[inline]
    pub fn record(&mut self, id: u32, payload: Bytes) {
        self.push(frame::RECORD, id, payload);
    }

    /// Adds an ack.
    #[inline]
    pub fn ack(&mut self, id: u32, payload: Bytes) {
        self.push(frame::ACK, id, payload);
    }

    /// Adds a refusal.
    pub fn refused(&mut self, id: u32, refusal: &Refusal) {
        let text = refusal.text().as_bytes();
        self.header(frame::REFUSED, id, text.len());
        self.tail.put_slice(text);
        self.len += text.len();
    }

    /// Adds word of a record that no handler saw.
    pub fn discarded(&mut self, id: u32) {
        self.header(frame::DISCARDED, id, 0);
    }

    /// Adds that a record was not taken for want of memory.
    pub fn no_room(&mut self, id: u32) {
        self.header(frame::NO_ROOM, id, 0);
    }

    /// Adds a close.
    pub fn close(&mut self, closing: &Closing) {
        let text = closing.text.text().as_bytes();
        debug_assert!(text.len() <= MAX_TEXT_LEN);
        self.header(frame::CLOSE, closing.unacked, 1 + text.len());
        self.tail.put_u8(closing.code as u8);
        self.tail.put_slice(text);
        self.len += 1 + text.len();
    }

    /// Adds the last word after a close.
    pub fn done(&mut self) {
        self.header(frame::DONE, 0, 0);
    }

    /// Adds a question for a sign of life.
    pub fn ping(&mut self, id: u32) {
        self.header(frame::PING, id, 0);
    }

    /// Adds the answer to it.
    pub fn pong(&mut self, id: u32) {
        self.header(frame::PONG, id, 0);
    }

    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The waiting bytes as slices, as many as fit; returns how many slices were set.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let parts = self.full.iter().map(|part| &part[..]).chain([&self.tail[..]]);
        let mut set = 0;
        for (slot, part) in slices.iter_mut().zip(parts.filter(|part| !part.is_empty())) {
            *slot = IoSlice::new(part);
            set += 1;
        }
        set
    }

    /// Drops what has been written.
    pub fn written(&mut self, count: usize) {
        let mut count = count.min(self.len);
        self.len -= count;
        while let Some(part) = self.full.front_mut() {
            if count < part.len() {
                part.advance(count);
                return;
            }
            count -= part.len();
            self.full.pop_front();
        }
        self.tail.advance(count);
        if self.tail.is_empty() {
            // Makes the whole buffer usable again.
            self.tail.clear();
        }
    }

    /// Gives back memory that is not in use.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }

    #[inline]
    fn push(&mut self, kind: u8, id: u32, payload: Bytes) {
        self.header(kind, id, payload.len());
        self.len += payload.len();
        if payload.len() < BY_REFERENCE {
            self.tail.put_slice(&payload);
        } else {
            self.full.push_back(self.tail.split().freeze());
            self.full.push_back(payload);
        }
    }

    #[inline]
    fn header(&mut self, kind: u8, id: u32, len: usize) {
        let [a, b, c, d] = id.to_le_bytes();
        let [e, f, g, h] = (len as u32).to_le_bytes();
        self.tail.put_slice(&[kind, a, b, c, d, e, f, g, h]);
        self.len += HEADER_LEN;
    }
}
