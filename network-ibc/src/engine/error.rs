//! Why the engine does not take a message.

use crate::{
    client::ClientError,
    height::{Height, Timestamp},
};

/// Why a host does not take a message of IBC, or cannot send one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A message or something in it is not what it should be.
    #[error("the {what} is not valid: {reason}")]
    Invalid {
        /// What is wrong.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// There is no client, connection, channel or counter of that name.
    #[error("there is no {what} {name}")]
    NotFound {
        /// What is missing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A connection or a channel is in a state in which this cannot be done.
    #[error("{name} is {state}: that takes one that is {wanted}")]
    State {
        /// The connection or the channel.
        name: String,
        /// What it is.
        state: &'static str,
        /// What it would have to be.
        wanted: &'static str,
    },
    /// A client does not take it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Both sides of a connection know no version in common, or it lacks a feature.
    #[error("no version of connections suits both sides: {reason}")]
    Version {
        /// Why.
        reason: String,
    },
    /// The packet is not of this channel, or not the one that was sent.
    #[error("packet {sequence} does not belong here: {reason}")]
    Packet {
        /// Its sequence.
        sequence: u64,
        /// Why.
        reason: &'static str,
    },
    /// The packet came too late, or its timeout is in the past already.
    #[error(
        "packet {sequence} has timed out: it is {time:?} at height {height}; \
         send it again with a longer timeout"
    )]
    TimedOut {
        /// Its sequence.
        sequence: u64,
        /// The time of the receiving side, as far as it is known here.
        time: Timestamp,
        /// Its height.
        height: Height,
    },
    /// The packet has not timed out at the height of the proof.
    #[error("packet {sequence} has not timed out at height {height}, at {time:?}: wait for it")]
    NotTimedOut {
        /// Its sequence.
        sequence: u64,
        /// The time of the receiving side at that height.
        time: Timestamp,
        /// The height of the proof.
        height: Height,
    },
    /// The channel is ordered, and another packet is due.
    #[error("packet {sequence} is out of order: {due} is due")]
    OutOfOrder {
        /// Its sequence.
        sequence: u64,
        /// The sequence that is due.
        due: u64,
    },
    /// The packet was received before: it cannot time out, or be received again.
    #[error("packet {sequence} was received")]
    Received {
        /// Its sequence.
        sequence: u64,
    },
    /// The packet has its acknowledgement.
    #[error("packet {sequence} has an acknowledgement, and can have one only")]
    Acknowledged {
        /// Its sequence.
        sequence: u64,
    },
}

impl EngineError {
    pub(crate) fn invalid(what: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid { what, reason: reason.into() }
    }
}
