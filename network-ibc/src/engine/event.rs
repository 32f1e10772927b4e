//! What happened.

use bytes::Bytes;

use super::types::Packet;
use crate::{
    address::Order,
    height::Height,
    identifier::{ChannelId, ClientId, ConnectionId, PortId},
};

/// What a message has brought about, besides what it wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Nothing: the message was relayed before.
    Nothing,
    ClientCreated {
        client: ClientId,
    },
    ClientUpdated {
        client: ClientId,
        heights: Vec<Height>,
    },
    ClientFrozen {
        client: ClientId,
    },
    /// A connection was begun, from this side or from the other.
    ConnectionBegun {
        connection: ConnectionId,
    },
    ConnectionOpen {
        connection: ConnectionId,
    },
    /// A channel was begun from this side.
    ChannelBegun {
        port: PortId,
        channel: ChannelId,
    },
    /// The other side has begun a channel, which somebody has to decide over.
    ChannelAttempt(ChannelAttempt),
    ChannelOpen {
        port: PortId,
        channel: ChannelId,
    },
    ChannelClosed {
        port: PortId,
        channel: ChannelId,
    },
    /// A packet came, and awaits its acknowledgement.
    Received(Packet),
    Acknowledged {
        packet: Packet,
        acknowledgement: Bytes,
    },
    /// The other side has not received a packet and never will. `closed`: this has closed the
    /// channel, because it is ordered.
    TimedOut {
        packet: Packet,
        closed: bool,
    },
}

/// A channel that the other side has begun, proved and not yet accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChannelAttempt {
    pub(crate) port: PortId,
    pub(crate) channel: ChannelId,
    pub(crate) order: Order,
    pub(crate) hop: ConnectionId,
    pub(crate) counterparty_port: PortId,
    pub(crate) counterparty_channel: ChannelId,
    /// What the other side proposes.
    pub(crate) version: String,
}
