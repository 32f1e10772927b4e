//! What hosts say to each other: a record of a service connection, and its ack.
//!
//! ```text
//! dialer                                   listener
//!   Greeting{chain, key, nonce}     ──▶
//!                                   ◀──    Greeted{chain, key, nonce, signature}
//!   Proved{signature, client}       ──▶
//!                                   ◀──    Known{client}
//!   then, from both sides, in any order: States, Client, Batch
//! ```

use ibc_proto::google::protobuf::Any;
use prost::{Message, Oneof};

/// What a service connection's first record says of its version, so that a later one can differ.
pub(super) const VERSION: u32 = 1;

/// What stands before what is signed in a greeting, so that it is never taken for a vote: those
/// begin with a length below this letter, and no field of theirs has the number of the next one.
const DOMAIN: &[u8] = b"network-ibc service\n";

/// What one host signs to show to another that it has the key.
pub(super) fn signed(chain: &str, role: Role, nonce: &[u8], other: &[u8]) -> Vec<u8> {
    let role = match role {
        Role::Dialer => &b"dialer\n"[..],
        Role::Listener => b"listener\n",
    };
    [DOMAIN, role, chain.as_bytes(), b"\n", nonce, other].concat()
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Role {
    Dialer,
    Listener,
}

/// A record.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Say {
    #[prost(oneof = "What", tags = "1, 2, 3, 4, 5")]
    pub(super) what: Option<What>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum What {
    #[prost(message, tag = "1")]
    Greeting(Greeting),
    #[prost(message, tag = "2")]
    Proved(Proved),
    #[prost(message, tag = "3")]
    States(States),
    #[prost(message, tag = "4")]
    Client(Client),
    #[prost(message, tag = "5")]
    Batch(Batch),
}

impl Say {
    pub(super) fn encode(what: What) -> Vec<u8> {
        Self { what: Some(what) }.encode_to_vec()
    }
}

/// Who dials, and what the listener is to sign.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Greeting {
    #[prost(uint32, tag = "1")]
    pub(super) version: u32,
    #[prost(string, tag = "2")]
    pub(super) chain: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) nonce: Vec<u8>,
}

/// Who listens, that it has its key, and what the dialer is to sign.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Greeted {
    #[prost(string, tag = "1")]
    pub(super) chain: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) nonce: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) signature: Vec<u8>,
}

/// That the dialer has its key, and what it knows of the listener.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Proved {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) signature: Vec<u8>,
    #[prost(message, optional, tag = "2")]
    pub(super) known: Option<Known>,
}

/// The client of the other side that a host has, and the newest height that it knows: of a solo
/// machine, the sequence of the next signature.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Known {
    #[prost(string, tag = "1")]
    pub(super) client: String,
    #[prost(uint64, tag = "2")]
    pub(super) revision: u64,
    #[prost(uint64, tag = "3")]
    pub(super) height: u64,
    /// What the next signature of a solo machine has to name.
    #[prost(string, tag = "4")]
    pub(super) diversifier: String,
}

/// Asks for the states of a new client of the other side; the ack is a [`Client`].
#[derive(Clone, PartialEq, Message)]
pub(super) struct States {}

/// The states of a client. Said by itself it asks that the other side make one of this side; the
/// ack is a [`Known`].
#[derive(Clone, PartialEq, Message)]
pub(super) struct Client {
    #[prost(message, optional, tag = "1")]
    pub(super) client_state: Option<Any>,
    #[prost(message, optional, tag = "2")]
    pub(super) consensus_state: Option<Any>,
}

/// Messages of IBC in the order in which they are to be handled; the ack is an [`Outcomes`].
#[derive(Clone, PartialEq, Message)]
pub(super) struct Batch {
    #[prost(message, repeated, tag = "1")]
    pub(super) messages: Vec<Any>,
    /// Channels that this side was asked to open and does not: names of the other side.
    #[prost(message, repeated, tag = "2")]
    pub(super) rejected: Vec<Rejected>,
    /// Channels that the side that says this has begun and does not want any more.
    #[prost(message, repeated, tag = "3")]
    pub(super) withdrawn: Vec<Withdrawn>,
    /// Why the side that says this closes channels: names of the other side. Said before the
    /// channels are closed, and not proved.
    #[prost(message, repeated, tag = "4")]
    pub(super) closing: Vec<Rejected>,
}

/// Names a channel by its name at the side that says this.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Withdrawn {
    /// The hop, as the other side calls it.
    #[prost(string, tag = "1")]
    pub(super) hop: String,
    #[prost(string, tag = "2")]
    pub(super) port: String,
    #[prost(string, tag = "3")]
    pub(super) channel: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Rejected {
    #[prost(string, tag = "1")]
    pub(super) channel: String,
    /// The reason, by its number.
    #[prost(uint32, tag = "2")]
    pub(super) reason: u32,
    #[prost(string, tag = "3")]
    pub(super) text: String,
}

/// What became of each message of a batch.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Outcomes {
    #[prost(message, repeated, tag = "1")]
    pub(super) outcomes: Vec<Outcome>,
    /// The newest height that the client of the side that sent the batch knows now.
    #[prost(message, optional, tag = "2")]
    pub(super) known: Option<Known>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Outcome {
    #[prost(enumeration = "Code", tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Code {
    /// Handled, now or before.
    Done = 0,
    /// Refused for good.
    Refused = 1,
    /// A packet that came too late, or to a channel that is closed: proof of that follows.
    Unreceived = 2,
    /// The header before it was not taken, or a proof that counts did not follow on the last one
    /// that was: send it again with another.
    Again = 3,
    /// Not looked at, as it asks for an answer and too many wait for the side that sends this: send
    /// it again later, and nothing that is to follow on it before.
    Later = 4,
}
