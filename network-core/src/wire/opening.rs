//! The opening: the dialer says hello, the listener welcomes or rejects it.
//!
//! ```text
//! magic 6 bytes | version u16 | len u16 | kind u8, fields         (little-endian)
//! field: tag u8 | len u16 | value
//! ```
//! Fields of an unknown tag below 128 are refused, others are skipped: what is added later
//! says by its tag whether an old reader may go on without it.

use bytes::{Buf, BufMut, BytesMut};

use crate::{endpoint::Endpoint, error::Rejection, limits::Limits, refusal::Refusal};

/// The version of the frames. There is one.
pub const VERSION: u16 = 1;

/// The longest opening message, in bytes, all in all.
pub const MAX_OPENING_LEN: usize = 16 * 1024;

const MAGIC: [u8; 6] = *b"\x89netr\n";
const PREFIX_LEN: usize = MAGIC.len() + 2 + 2;

const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const REJECT: u8 = 3;

const TO: u8 = 1;
const FROM: u8 = 2;
const MAX_RECORD: u8 = 3;
const MAX_ACK: u8 = 4;
const WINDOW_RECORDS: u8 = 5;
const WINDOW_BYTES: u8 = 6;
const REASON: u8 = 7;
const TEXT: u8 = 8;
const MUST_KNOW: std::ops::Range<u8> = 0..128;

/// What one side takes: the other keeps to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The longest record, in bytes.
    pub max_record_len: u32,
    /// The longest ack, in bytes.
    pub max_ack_len: u32,
    /// How many records may be un-acked.
    pub window_records: u32,
    /// How many bytes of records may be un-acked.
    pub window_bytes: u64,
}

impl Welcome {
    /// What a side with these limits takes.
    pub fn of(limits: &Limits) -> Self {
        Self {
            max_record_len: limits.max_record_len.min(Limits::MAX_FRAME_LEN) as u32,
            max_ack_len: limits.max_ack_len.min(Limits::MAX_FRAME_LEN) as u32,
            window_records: limits.window_records,
            window_bytes: limits.window_bytes,
        }
    }
}

/// What a dialer says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// What follows the transport part of the dialed endpoint: `/port/orders`, or empty.
    pub to: String,
    /// What follows the transport part of the dialer's own endpoint, or empty.
    pub from: String,
    /// What the dialer takes.
    pub takes: Welcome,
}

/// What a dialer named is no name of a port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no port: it is /port/NAME, or nothing")]
pub struct NotAPort(pub String);

impl Hello {
    /// `to` and `from`, if they name ports and nothing else: anything else, behind a transport
    /// part that was verified, could pass for what the transport has proved.
    ///
    /// # Errors
    /// One of them names something else.
    pub fn port_paths(&self) -> Result<(&str, &str), NotAPort> {
        let path = |path: &str| path.is_empty() || path == "/port" || path.starts_with("/port/");
        match [&self.to, &self.from].into_iter().find(|text| !path(text)) {
            Some(other) => Err(NotAPort(other.clone())),
            None => Ok((&self.to, &self.from)),
        }
    }
}

/// What a listener answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The connection is open.
    Welcome(Welcome),
    /// It is not, and this is why.
    Reject(Rejection),
}

/// Why bytes are not an opening.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpeningError {
    /// Something else is spoken there.
    #[error("it does not begin with this protocol's magic bytes: another protocol is spoken there")]
    OtherProtocol,
    /// Another version is spoken there.
    #[error(
        "it speaks version {theirs}, this side speaks version {VERSION}: update the older side"
    )]
    OtherVersion {
        /// The version that is spoken there.
        theirs: u16,
    },
    /// The opening is malformed.
    #[error("its opening is malformed: {0}")]
    Malformed(&'static str),
}

impl Hello {
    /// The bytes to send.
    pub fn encode(&self) -> BytesMut {
        message(HELLO, |body| {
            field(body, TO, self.to.as_bytes());
            field(body, FROM, self.from.as_bytes());
            takes(body, &self.takes);
        })
    }
}

impl Reply {
    /// The bytes to send.
    pub fn encode(&self) -> BytesMut {
        match self {
            Self::Welcome(welcome) => message(WELCOME, |body| takes(body, welcome)),
            Self::Reject(rejection) => {
                let (code, text) = match rejection {
                    Rejection::NotListening => (0, ""),
                    Rejection::Declined(refusal) => (1, refusal.text()),
                    Rejection::Busy => (2, ""),
                    Rejection::ShuttingDown => (3, ""),
                    Rejection::BadOpening(refusal) => (4, refusal.text()),
                    // A reader that does not know these reads them as declined, with the text.
                    Rejection::NotAllowed => (5, "this peer is not let in here"),
                    Rejection::Unproven => (6, "only who proves a peer id is let in here"),
                };
                message(REJECT, |body| {
                    field(body, REASON, &[code]);
                    field(body, TEXT, text.as_bytes());
                })
            }
        }
    }
}

/// Cuts a hello off the front of `input`, if all of it is there.
///
/// # Errors
/// [`OpeningError`], as soon as the bytes that are there show it.
pub fn decode_hello(input: &mut BytesMut) -> Result<Option<Hello>, OpeningError> {
    let Some((kind, fields)) = decode(input)? else {
        return Ok(None);
    };
    if kind != HELLO {
        return Err(OpeningError::Malformed("a hello was expected"));
    }
    Ok(Some(Hello { to: fields.to, from: fields.from, takes: fields.takes.complete()? }))
}

/// Cuts a reply off the front of `input`, if all of it is there.
///
/// # Errors
/// [`OpeningError`], as soon as the bytes that are there show it.
pub fn decode_reply(input: &mut BytesMut) -> Result<Option<Reply>, OpeningError> {
    let Some((kind, fields)) = decode(input)? else {
        return Ok(None);
    };
    let text = Refusal::new(fields.text);
    match (kind, fields.reason) {
        (WELCOME, _) => Ok(Some(Reply::Welcome(fields.takes.complete()?))),
        (REJECT, Some(reason)) => Ok(Some(Reply::Reject(match reason {
            0 => Rejection::NotListening,
            2 => Rejection::Busy,
            3 => Rejection::ShuttingDown,
            4 => Rejection::BadOpening(text),
            5 => Rejection::NotAllowed,
            6 => Rejection::Unproven,
            // A reason that a later version knows is still a no.
            _ => Rejection::Declined(text),
        }))),
        _ => Err(OpeningError::Malformed("a welcome or a reject was expected")),
    }
}

#[derive(Debug, Default)]
struct Fields {
    to: String,
    from: String,
    takes: Takes,
    reason: Option<u8>,
    text: String,
}

#[derive(Debug, Default)]
struct Takes {
    max_record_len: Option<u32>,
    max_ack_len: Option<u32>,
    window_records: Option<u32>,
    window_bytes: Option<u64>,
}

impl Takes {
    fn complete(&self) -> Result<Welcome, OpeningError> {
        let missing = OpeningError::Malformed("it does not say what the other side takes");
        let (Some(max_record_len), Some(max_ack_len), Some(window_records), Some(window_bytes)) =
            (self.max_record_len, self.max_ack_len, self.window_records, self.window_bytes)
        else {
            return Err(missing);
        };
        if window_records == 0 || window_bytes < u64::from(max_record_len) {
            return Err(OpeningError::Malformed("its window has no room for one record"));
        }
        Ok(Welcome { max_record_len, max_ack_len, window_records, window_bytes })
    }
}

fn decode(input: &mut BytesMut) -> Result<Option<(u8, Fields)>, OpeningError> {
    let known = input.len().min(MAGIC.len());
    if input[..known] != MAGIC[..known] {
        return Err(OpeningError::OtherProtocol);
    }
    let Some(prefix) = input.first_chunk::<PREFIX_LEN>() else {
        return Ok(None);
    };
    let [.., v0, v1, l0, l1] = *prefix;
    let theirs = u16::from_le_bytes([v0, v1]);
    if theirs != VERSION {
        return Err(OpeningError::OtherVersion { theirs });
    }
    let len = usize::from(u16::from_le_bytes([l0, l1]));
    if PREFIX_LEN + len > MAX_OPENING_LEN {
        return Err(OpeningError::Malformed("it is longer than an opening may be"));
    }
    if input.len() < PREFIX_LEN + len {
        return Ok(None);
    }
    input.advance(PREFIX_LEN);
    let mut body = input.split_to(len);
    if body.is_empty() {
        return Err(OpeningError::Malformed("it is empty"));
    }
    let kind = body.get_u8();
    let mut fields = Fields::default();
    while !body.is_empty() {
        let Some([tag, l0, l1]) = body.first_chunk::<3>().copied() else {
            return Err(OpeningError::Malformed("a field is cut off"));
        };
        body.advance(3);
        let len = usize::from(u16::from_le_bytes([l0, l1]));
        if body.len() < len {
            return Err(OpeningError::Malformed("a field is cut off"));
        }
        fields.set(tag, &body.split_to(len))?;
    }
    Ok(Some((kind, fields)))
}

impl Fields {
    fn set(&mut self, tag: u8, value: &[u8]) -> Result<(), OpeningError> {
        match tag {
            TO => self.to = path(value)?,
            FROM => self.from = path(value)?,
            MAX_RECORD => self.takes.max_record_len = Some(number32(value)?),
            MAX_ACK => self.takes.max_ack_len = Some(number32(value)?),
            WINDOW_RECORDS => self.takes.window_records = Some(number32(value)?),
            WINDOW_BYTES => {
                let value = value.try_into().map_err(|_| NOT_A_NUMBER)?;
                self.takes.window_bytes = Some(u64::from_le_bytes(value));
            }
            REASON => {
                let [reason] = value else {
                    return Err(NOT_A_NUMBER);
                };
                self.reason = Some(*reason);
            }
            TEXT => self.text = text(value)?,
            unknown if MUST_KNOW.contains(&unknown) => {
                return Err(OpeningError::Malformed("it has a field that this side must know"));
            }
            _ => {}
        }
        Ok(())
    }
}

const NOT_A_NUMBER: OpeningError = OpeningError::Malformed("a number has the wrong length");

fn number32(value: &[u8]) -> Result<u32, OpeningError> {
    Ok(u32::from_le_bytes(value.try_into().map_err(|_| NOT_A_NUMBER)?))
}

fn text(value: &[u8]) -> Result<String, OpeningError> {
    let text = std::str::from_utf8(value);
    text.map(str::to_owned).map_err(|_| OpeningError::Malformed("a text is not UTF-8"))
}

fn path(value: &[u8]) -> Result<String, OpeningError> {
    if value.len() > Endpoint::MAX_LEN {
        return Err(OpeningError::Malformed("a name is too long"));
    }
    text(value)
}

fn takes(body: &mut BytesMut, takes: &Welcome) {
    field(body, MAX_RECORD, &takes.max_record_len.to_le_bytes());
    field(body, MAX_ACK, &takes.max_ack_len.to_le_bytes());
    field(body, WINDOW_RECORDS, &takes.window_records.to_le_bytes());
    field(body, WINDOW_BYTES, &takes.window_bytes.to_le_bytes());
}

fn field(body: &mut BytesMut, tag: u8, value: &[u8]) {
    body.put_u8(tag);
    // Endpoints, the longest values, are at most 4,096 bytes.
    body.put_u16_le(value.len() as u16);
    body.put_slice(value);
}

fn message(kind: u8, fields: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut message = BytesMut::new();
    message.put_slice(&MAGIC);
    message.put_u16_le(VERSION);
    message.put_u16_le(0);
    message.put_u8(kind);
    fields(&mut message);
    let len = (message.len() - PREFIX_LEN) as u16;
    message[PREFIX_LEN - 2..PREFIX_LEN].copy_from_slice(&len.to_le_bytes());
    message
}
