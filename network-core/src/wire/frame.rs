//! One frame: a header of nine bytes and a payload.
//!
//! ```text
//! kind u8 | id u32 | len u32 | payload of len bytes        (little-endian)
//! ```

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

use crate::{close::CloseReason, refusal::Refusal};

/// The length of a frame's header, in bytes.
pub const HEADER_LEN: usize = 9;

pub(super) const RECORD: u8 = 1;
pub(super) const ACK: u8 = 2;
pub(super) const REFUSED: u8 = 3;
pub(super) const DISCARDED: u8 = 4;
pub(super) const CLOSE: u8 = 5;
pub(super) const DONE: u8 = 6;
pub(super) const PING: u8 = 7;
pub(super) const PONG: u8 = 8;
pub(super) const NO_ROOM: u8 = 9;

/// The longest text of a refusal or a close, in bytes.
pub(super) const MAX_TEXT_LEN: usize = Refusal::MAX_LEN;

/// A frame that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A record; `id` is the sender's.
    Record {
        /// Names the record in its answer.
        id: u32,
        /// The record.
        payload: Bytes,
    },
    /// The ack of a record.
    Ack {
        /// Which record.
        id: u32,
        /// The ack.
        payload: Bytes,
    },
    /// The refusal of a record.
    Refused {
        /// Which record.
        id: u32,
        /// What the handler said.
        refusal: Refusal,
    },
    /// A record that no handler saw or will see.
    Discarded {
        /// Which record.
        id: u32,
    },
    /// A record that was not taken for want of memory.
    NoRoom {
        /// Which record.
        id: u32,
    },
    /// The sender of this frame sends no more records.
    Close(Closing),
    /// The sender of this frame has seen the other's close; every record before it was
    /// handed to a handler or discarded. Nothing follows.
    Done,
    /// Asks for a pong.
    Ping {
        /// Comes back in the pong.
        id: u32,
    },
    /// Answers a ping.
    Pong {
        /// That of the ping.
        id: u32,
    },
}

/// Why a connection closes, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// The kind of reason.
    pub code: CloseCode,
    /// What there is to say of it; empty for most codes.
    pub text: Refusal,
    /// How many records of the side that closes have no answer yet; written where other
    /// frames have their id. If it is none, that side needs no [`Frame::Done`].
    pub unacked: u32,
}

/// The kinds of reasons for a close that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CloseCode {
    /// Somebody asked for it.
    Intended = 0,
    /// The port was revoked.
    Revoked = 1,
    /// The network shuts down.
    Shutdown = 2,
    /// A handler panicked.
    HandlerPanicked = 3,
    /// The other side broke the protocol; the text says how.
    Protocol = 4,
    /// Nothing was heard of the other side.
    TimedOut = 5,
}

impl Closing {
    /// What to write for a reason of this side.
    pub fn of(reason: &CloseReason, unacked: u32) -> Self {
        let (code, text) = match reason {
            CloseReason::Revoked => (CloseCode::Revoked, ""),
            CloseReason::Shutdown => (CloseCode::Shutdown, ""),
            CloseReason::HandlerPanicked => (CloseCode::HandlerPanicked, ""),
            CloseReason::TimedOut => (CloseCode::TimedOut, ""),
            CloseReason::Protocol(text) => (CloseCode::Protocol, &**text),
            _ => (CloseCode::Intended, ""),
        };
        Self { code, text: Refusal::new(text), unacked }
    }

    /// What the side that reads it makes of it.
    pub fn reason(&self) -> CloseReason {
        match self.code {
            CloseCode::Intended => CloseReason::Remote,
            CloseCode::Revoked => CloseReason::RemoteRevoked,
            CloseCode::Shutdown => CloseReason::RemoteShutdown,
            CloseCode::HandlerPanicked => CloseReason::RemoteHandlerPanicked,
            CloseCode::Protocol => CloseReason::RemoteProtocol(Arc::from(self.text.text())),
            CloseCode::TimedOut => CloseReason::TimedOut,
        }
    }
}

/// The longest payloads that this side takes, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLimits {
    /// Of records.
    pub record: usize,
    /// Of acks.
    pub ack: usize,
}

/// Why bytes are not a frame. The connection cannot go on after it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// There is no such frame.
    #[error("unknown frame kind {kind}")]
    UnknownKind {
        /// The kind that was read.
        kind: u8,
    },
    /// The payload is longer than this side takes.
    #[error("a frame of kind {kind} announces {len} bytes, over the limit of {max}")]
    TooLong {
        /// The kind of frame.
        kind: u8,
        /// The length that it announces, in bytes.
        len: usize,
        /// The most that is taken, in bytes.
        max: usize,
    },
    /// A close without a code, or with an unknown one.
    #[error("a close with unknown code {code:?}")]
    UnknownClose {
        /// The code, if there was one.
        code: Option<u8>,
    },
    /// A text that is not UTF-8.
    #[error("a frame of kind {kind} holds a text that is not UTF-8")]
    NotText {
        /// The kind of frame.
        kind: u8,
    },
}

/// Cuts the first frame off the front of `input`, if all of it is there. A frame that
/// cannot be is refused by its header, before its payload has come.
///
/// # Errors
/// [`FrameError`].
pub fn decode(input: &mut BytesMut, limits: FrameLimits) -> Result<Option<Frame>, FrameError> {
    let Some(header) = Header::read(input) else { return Ok(None) };
    header.check(limits)?;
    if input.len() < HEADER_LEN + header.len {
        return Ok(None);
    }
    cut(&mut input.split_to(HEADER_LEN + header.len).freeze(), 1).map(Some)
}

/// What is at the front of an input.
pub(super) struct Whole {
    /// How many bytes are whole frames that may be.
    pub(super) len: usize,
    /// How many of these frames have a payload that the program may keep.
    pub(super) payloads: usize,
    /// How many bytes of records are among them.
    pub(super) records: usize,
    /// What is wrong with the frame after them.
    pub(super) error: Option<FrameError>,
}

/// Looks for whole frames.
#[inline]
pub(super) fn whole(input: &[u8], limits: FrameLimits) -> Whole {
    let (mut at, mut payloads, mut records) = (0, 0, 0);
    while let Some(header) = Header::read(&input[at..]) {
        if let Err(error) = header.check(limits) {
            return Whole { len: at, payloads, records, error: Some(error) };
        }
        if input.len() - at < HEADER_LEN + header.len {
            break;
        }
        at += HEADER_LEN + header.len;
        payloads += usize::from(matches!(header.kind, RECORD | ACK));
        records += if header.kind == RECORD { header.len } else { 0 };
    }
    Whole { len: at, payloads, records, error: None }
}

/// Cuts off the first of the frames that [`whole`] has found. Payloads shorter than `copied`
/// are copied, so that they do not keep the whole input in memory.
#[inline]
pub(super) fn cut(input: &mut Bytes, copied: usize) -> Result<Frame, FrameError> {
    let Some(Header { kind, id, len }) = Header::read(input) else {
        return Err(FrameError::UnknownKind { kind: 0 });
    };
    input.advance(HEADER_LEN);
    let len = len.min(input.len());
    let payload = if len < copied {
        let payload = Bytes::copy_from_slice(&input[..len]);
        input.advance(len);
        payload
    } else {
        input.split_to(len)
    };
    Ok(match kind {
        RECORD => Frame::Record { id, payload },
        ACK => Frame::Ack { id, payload },
        REFUSED => Frame::Refused { id, refusal: text(kind, &payload)? },
        DISCARDED => Frame::Discarded { id },
        NO_ROOM => Frame::NoRoom { id },
        CLOSE => {
            let (code, rest) = match payload.split_first() {
                Some((code, rest)) => (Some(*code), rest),
                None => (None, &[][..]),
            };
            let code = match code {
                Some(0) => CloseCode::Intended,
                Some(1) => CloseCode::Revoked,
                Some(2) => CloseCode::Shutdown,
                Some(3) => CloseCode::HandlerPanicked,
                Some(4) => CloseCode::Protocol,
                Some(5) => CloseCode::TimedOut,
                code => return Err(FrameError::UnknownClose { code }),
            };
            Frame::Close(Closing { code, text: text(kind, rest)?, unacked: id })
        }
        DONE => Frame::Done,
        PING => Frame::Ping { id },
        PONG => Frame::Pong { id },
        _ => return Err(FrameError::UnknownKind { kind }),
    })
}

struct Header {
    kind: u8,
    id: u32,
    len: usize,
}

impl Header {
    #[inline]
    fn read(input: &[u8]) -> Option<Self> {
        let [kind, a, b, c, d, e, f, g, h] = *input.first_chunk::<HEADER_LEN>()?;
        let id = u32::from_le_bytes([a, b, c, d]);
        Some(Self { kind, id, len: u32::from_le_bytes([e, f, g, h]) as usize })
    }

    #[inline]
    fn check(&self, limits: FrameLimits) -> Result<(), FrameError> {
        let max = match self.kind {
            RECORD => limits.record,
            ACK => limits.ack,
            REFUSED => MAX_TEXT_LEN,
            CLOSE => 1 + MAX_TEXT_LEN,
            DISCARDED | DONE | PING | PONG | NO_ROOM => 0,
            kind => return Err(FrameError::UnknownKind { kind }),
        };
        if self.len > max {
            return Err(FrameError::TooLong { kind: self.kind, len: self.len, max });
        }
        Ok(())
    }
}

/// The id and the length of the record at the front, if there is the header of one.
pub(super) fn record(input: &[u8]) -> Option<(u32, usize)> {
    let header = Header::read(input)?;
    (header.kind == RECORD).then_some((header.id, header.len))
}

/// How many more bytes the frame at the front needs, if its header is there.
pub(super) fn missing(input: &[u8]) -> Option<usize> {
    let header = Header::read(input)?;
    Some((HEADER_LEN + header.len).saturating_sub(input.len()))
}

fn text(kind: u8, bytes: &[u8]) -> Result<Refusal, FrameError> {
    std::str::from_utf8(bytes).map(Refusal::new).map_err(|_| FrameError::NotText { kind })
}
