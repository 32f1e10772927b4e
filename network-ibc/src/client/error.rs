//! [`ClientError`], and how its texts are made.

use crate::{
    height::{Height, Timestamp},
    identifier::ClientId,
};

/// Why a client did not take what it was given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// A message or a state cannot be read.
    #[error("the {what} cannot be read: {reason}")]
    Malformed {
        /// What was read.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A message, a state or a proof is larger than any honest one.
    #[error("the {what} has {size} bytes, and may have {limit}")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// How many bytes it has.
        size: usize,
        /// How many it may have.
        limit: usize,
    },
    /// The client is of a kind that is not known here.
    #[error("no client of kind {kind} is known here: make one of 07-tendermint or 06-solomachine")]
    UnknownKind {
        /// The kind, as it was named.
        kind: String,
    },
    /// The store holds no such client.
    #[error("there is no client {client}: create it first, or ask for one that there is")]
    NotFound {
        /// The client.
        client: ClientId,
    },
    /// A state that a client should be created with is not valid.
    #[error("the {what} is not valid: {reason}")]
    Invalid {
        /// Which state.
        what: &'static str,
        /// What is wrong with it, and what it should be.
        reason: String,
    },
    /// No header came within the client's trusting period.
    #[error(
        "client {client} expired at {}, when its newest header became older than its trusting \
         period, and takes no more headers: recover it, where it is of a chain \
         (`ChainConfig::recover_client`), and update it more often than its trusting period",
        rfc3339(*.since)
    )]
    Expired {
        /// The client.
        client: ClientId,
        /// When its trusting period ended.
        since: Timestamp,
    },
    /// The other chain was seen to say two things at once.
    #[error(
        "client {client} is frozen, as its chain was seen to sign two things that exclude each \
         other: find out which is true, then recover it, where it is of a chain \
         (`ChainConfig::recover_client`)"
    )]
    Frozen {
        /// The client.
        client: ClientId,
    },
    /// A proof is of a height that the client has no header of.
    #[error(
        "client {client} knows no header of height {height}, and {latest} is its newest: update \
         it, and prove at a height that it knows"
    )]
    UnknownHeight {
        /// The client.
        client: ClientId,
        /// The height of the proof.
        height: Height,
        /// The newest height that the client knows.
        latest: Height,
    },
    /// A header is too new to prove with (ICS-003, the delay period).
    #[error(
        "the delay of the connection has not passed: the header {height} of client {client} \
         proves from {} and this host's block {from_height} on",
        rfc3339(*.from_time)
    )]
    Delay {
        /// The client.
        client: ClientId,
        /// The height of the proof.
        height: Height,
        /// From what time on it can be used.
        from_time: Timestamp,
        /// And from what height of this host on.
        from_height: Height,
    },
    /// A header, or one of the two in evidence of misbehaviour, is not to be believed.
    #[error("client {client} does not believe the header {height}: {reason}")]
    Header {
        /// The client.
        client: ClientId,
        /// The height that the header says it has.
        height: Height,
        /// What is wrong with it.
        reason: String,
    },
    /// Evidence of misbehaviour is not well formed.
    #[error("client {client} does not take the evidence of misbehaviour: {reason}")]
    Evidence {
        /// The client.
        client: ClientId,
        /// What is wrong with it.
        reason: String,
    },
    /// A proof does not prove what it should.
    #[error("client {client} does not take the proof of `{path}`: {reason}")]
    Proof {
        /// The client.
        client: ClientId,
        /// The key whose value, or absence, should be proved.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// At most the first 200 characters: a peer must not be able to fill a log.
pub(super) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn rfc3339(time: Timestamp) -> String {
    match super::read::time_of(time) {
        Some(time) => time.to_rfc3339(),
        None => format!("{} ns", time.as_nanos()),
    }
}
