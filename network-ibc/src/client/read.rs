//! Reading what others wrote, within bounds, and the conversions that more than one kind needs.

use ibc_proto::{
    google::protobuf::{Any, Duration as RawDuration, Timestamp as RawTimestamp},
    ibc::core::client::v1::Height as RawHeight,
};
use prost::{Message, Name};
use tendermint::Time;

use super::error::{ClientError, excerpt};
use crate::height::{Height, Timestamp};

/// How many bytes a client state or a consensus state may have: ibc-go v11's limit.
pub(super) const MAX_STATE: usize = 32_768;

/// Reads a message of one type.
pub(super) fn message<M: Message + Name + Default>(
    what: &'static str,
    any: &Any,
    limit: usize,
) -> Result<M, ClientError> {
    if any.type_url != M::type_url() {
        let reason = format!("it is of type {}, not {}", excerpt(&any.type_url), M::type_url());
        return Err(ClientError::Malformed { what, reason });
    }
    bytes(what, &any.value, limit)
}

/// Reads a message from bytes that say nothing of their type.
pub(super) fn bytes<M: Message + Default>(
    what: &'static str,
    bytes: &[u8],
    limit: usize,
) -> Result<M, ClientError> {
    if bytes.len() > limit {
        return Err(ClientError::TooLarge { what, size: bytes.len(), limit });
    }
    M::decode(bytes).map_err(|error| malformed(what, &error))
}

pub(super) fn malformed(what: &'static str, reason: &dyn std::fmt::Display) -> ClientError {
    ClientError::Malformed { what, reason: excerpt(&reason.to_string()) }
}

pub(super) fn missing(what: &'static str, part: &str) -> ClientError {
    ClientError::Malformed { what, reason: format!("it has no {part}") }
}

pub(super) fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

/// No height is the zero height, as in ibc-go, where heights are not optional.
pub(super) fn height(raw: Option<RawHeight>) -> Height {
    raw.map_or(Height::ZERO, |raw| Height::new(raw.revision_number, raw.revision_height))
}

pub(super) fn raw_height(height: Height) -> RawHeight {
    RawHeight { revision_number: height.revision, revision_height: height.number }
}

/// A duration of more than nothing, in nanoseconds. At most 584 years.
pub(super) fn duration(raw: Option<RawDuration>) -> Option<u64> {
    let raw = raw?;
    let nanos = i128::from(raw.seconds) * 1_000_000_000 + i128::from(raw.nanos);
    u64::try_from(nanos).ok().filter(|nanos| *nanos > 0)
}

/// A time after the epoch, in nanoseconds.
pub(super) fn timestamp(raw: Option<RawTimestamp>) -> Option<Timestamp> {
    let raw = raw?;
    let nanos = u32::try_from(raw.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    let seconds = u64::try_from(raw.seconds).ok().filter(|seconds| *seconds > 0)?;
    let nanos = seconds.checked_mul(1_000_000_000)?.checked_add(u64::from(nanos))?;
    Some(Timestamp::from_nanos(nanos))
}

pub(super) fn raw_timestamp(time: Timestamp) -> RawTimestamp {
    // A u64 of nanoseconds holds fewer than 2^35 seconds, and the rest is below 10^9.
    RawTimestamp {
        seconds: i64::try_from(time.as_nanos() / 1_000_000_000).unwrap_or(i64::MAX),
        nanos: i32::try_from(time.as_nanos() % 1_000_000_000).unwrap_or(0),
    }
}

/// The same time as the verifier of headers writes it. There is one for every [`Timestamp`].
pub(super) fn time_of(time: Timestamp) -> Option<Time> {
    let raw = raw_timestamp(time);
    Time::from_unix_timestamp(raw.seconds, u32::try_from(raw.nanos).unwrap_or(0)).ok()
}

/// `None` before the epoch and after the year 2554.
pub(super) fn timestamp_of(time: Time) -> Option<Timestamp> {
    u64::try_from(time.unix_timestamp_nanos()).ok().map(Timestamp::from_nanos)
}
