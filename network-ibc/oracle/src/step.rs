//! One step of a run, which both sides take.

use ibc_proto::{google::protobuf::Any, ibc::core::channel::v1::Packet};

#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A relayer brings a message.
    Deliver {
        message: Any,
        /// If it begins a channel: the version to accept it with. `None`: it is turned away.
        accept: Option<String>,
        /// If it brings a packet: the acknowledgement to write at once. `None`: it comes later.
        acknowledgement: Option<Vec<u8>>,
    },
    /// The application sends a packet.
    Send { packet: Packet },
    /// The application acknowledges a packet that it may have received before.
    Acknowledge { packet: Packet, acknowledgement: Vec<u8> },
}

/// How many there were of each, which names the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) clients: u64,
    pub(crate) connections: u64,
    pub(crate) channels: u64,
}
