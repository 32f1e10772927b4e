//! Connections, channels and packets, as the engine knows them.

use bytes::Bytes;
use ibc_proto::ibc::core::{
    channel::v1::{self as channel, Counterparty as ChannelCounterparty},
    client::v1::Height as RawHeight,
    commitment::v1::MerklePrefix,
    connection::v1::{self as connection, Counterparty as ConnectionCounterparty, Version},
};
use prost::Message;

use super::error::EngineError;
use crate::{
    address::Order,
    height::{Height, Timestamp},
    identifier::{ChannelId, ClientId, ConnectionId, PortId},
};

impl From<Height> for RawHeight {
    fn from(height: Height) -> Self {
        Self { revision_number: height.revision, revision_height: height.number }
    }
}

impl From<RawHeight> for Height {
    fn from(raw: RawHeight) -> Self {
        Self::new(raw.revision_number, raw.revision_height)
    }
}

/// A height in a message, where none stands for zero.
pub(super) fn height(raw: Option<RawHeight>) -> Height {
    raw.map(Height::from).unwrap_or_default()
}

macro_rules! identifier {
    ($name:ident, $kind:ident, $what:literal) => {
        /// An identifier in a message, by the rules of ICS-024.
        pub(super) fn $name(text: &str) -> Result<$kind, EngineError> {
            match $kind::new(text) {
                Ok(id) if id.is_ics24() => Ok(id),
                _ => Err(EngineError::invalid($what, format!("{:?}", crate::error::excerpt(text)))),
            }
        }
    };
}

identifier!(client_id, ClientId, "name of a client");
identifier!(connection_id, ConnectionId, "name of a connection");
identifier!(port_id, PortId, "name of a port");
identifier!(channel_id, ChannelId, "name of a channel");

/// How far the handshake of a connection is (ICS-003).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionState {
    Init,
    TryOpen,
    Open,
}

impl ConnectionState {
    fn raw(self) -> i32 {
        match self {
            Self::Init => connection::State::Init as i32,
            Self::TryOpen => connection::State::Tryopen as i32,
            Self::Open => connection::State::Open as i32,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Init => "INIT",
            Self::TryOpen => "TRYOPEN",
            Self::Open => "OPEN",
        }
    }
}

/// One end of a connection (ICS-003): a hop.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Connection {
    pub(crate) state: ConnectionState,
    pub(crate) client: ClientId,
    pub(crate) counterparty_client: ClientId,
    /// Not known yet in the first half of a handshake.
    pub(crate) counterparty: Option<ConnectionId>,
    /// The name of the other side's store.
    pub(crate) prefix: Vec<u8>,
    pub(crate) versions: Vec<Version>,
    /// In nanoseconds.
    pub(crate) delay: u64,
}

impl Connection {
    pub(crate) fn encode(&self) -> Vec<u8> {
        connection::ConnectionEnd {
            client_id: self.client.to_string(),
            versions: self.versions.clone(),
            state: self.state.raw(),
            counterparty: Some(ConnectionCounterparty {
                client_id: self.counterparty_client.to_string(),
                connection_id: self
                    .counterparty
                    .as_ref()
                    .map_or_else(String::new, ToString::to_string),
                prefix: Some(MerklePrefix { key_prefix: self.prefix.clone() }),
            }),
            delay_period: self.delay,
        }
        .encode_to_vec()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, EngineError> {
        let invalid = |reason: &str| EngineError::invalid("connection", reason);
        let raw = connection::ConnectionEnd::decode(bytes)
            .map_err(|error| invalid(&error.to_string()))?;
        let counterparty = raw.counterparty.ok_or_else(|| invalid("it has no counterparty"))?;
        let state = [ConnectionState::Init, ConnectionState::TryOpen, ConnectionState::Open];
        Ok(Self {
            state: state
                .into_iter()
                .find(|state| state.raw() == raw.state)
                .ok_or_else(|| invalid("its state is not known"))?,
            client: client_id(&raw.client_id)?,
            counterparty_client: client_id(&counterparty.client_id)?,
            counterparty: match counterparty.connection_id.as_str() {
                "" => None,
                id => Some(connection_id(id)?),
            },
            prefix: counterparty.prefix.map(|prefix| prefix.key_prefix).unwrap_or_default(),
            versions: raw.versions,
            delay: raw.delay_period,
        })
    }
}

/// How far the handshake of a channel is (ICS-004).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChannelState {
    Init,
    TryOpen,
    Open,
    Closed,
}

impl ChannelState {
    fn raw(self) -> i32 {
        match self {
            Self::Init => channel::State::Init as i32,
            Self::TryOpen => channel::State::Tryopen as i32,
            Self::Open => channel::State::Open as i32,
            Self::Closed => channel::State::Closed as i32,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Init => "INIT",
            Self::TryOpen => "TRYOPEN",
            Self::Open => "OPEN",
            Self::Closed => "CLOSED",
        }
    }
}

/// The order of a channel in a message.
pub(super) fn order(raw: i32) -> Result<Order, EngineError> {
    match channel::Order::try_from(raw) {
        Ok(channel::Order::Ordered) => Ok(Order::Ordered),
        Ok(channel::Order::Unordered) => Ok(Order::Unordered),
        _ => Err(EngineError::invalid("order of a channel", raw.to_string())),
    }
}

pub(crate) fn raw_order(order: Order) -> i32 {
    match order {
        Order::Ordered => channel::Order::Ordered as i32,
        Order::Unordered => channel::Order::Unordered as i32,
    }
}

/// The order as a feature of a connection's version.
pub(super) fn feature(order: Order) -> &'static str {
    match order {
        Order::Ordered => "ORDER_ORDERED",
        Order::Unordered => "ORDER_UNORDERED",
    }
}

/// One end of a channel (ICS-004).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Channel {
    pub(crate) state: ChannelState,
    pub(crate) order: Order,
    pub(crate) counterparty_port: PortId,
    /// Not known yet in the first half of a handshake.
    pub(crate) counterparty: Option<ChannelId>,
    pub(crate) hop: ConnectionId,
    pub(crate) version: String,
}

impl Channel {
    pub(crate) fn encode(&self) -> Vec<u8> {
        channel::Channel {
            state: self.state.raw(),
            ordering: raw_order(self.order),
            counterparty: Some(ChannelCounterparty {
                port_id: self.counterparty_port.to_string(),
                channel_id: self
                    .counterparty
                    .as_ref()
                    .map_or_else(String::new, ToString::to_string),
            }),
            connection_hops: vec![self.hop.to_string()],
            version: self.version.clone(),
            upgrade_sequence: 0,
        }
        .encode_to_vec()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, EngineError> {
        let raw = channel::Channel::decode(bytes)
            .map_err(|error| EngineError::invalid("channel", error.to_string()))?;
        Self::read(raw)
    }

    pub(super) fn read(raw: channel::Channel) -> Result<Self, EngineError> {
        let invalid = |reason: &str| EngineError::invalid("channel", reason);
        let counterparty = raw.counterparty.ok_or_else(|| invalid("it has no counterparty"))?;
        let [hop] = &raw.connection_hops[..] else {
            return Err(invalid("it has not one hop: one connection is what there can be"));
        };
        if raw.upgrade_sequence != 0 {
            return Err(invalid("it was upgraded, which hosts do not do"));
        }
        let states =
            [ChannelState::Init, ChannelState::TryOpen, ChannelState::Open, ChannelState::Closed];
        Ok(Self {
            state: states
                .into_iter()
                .find(|state| state.raw() == raw.state)
                .ok_or_else(|| invalid("its state is not known"))?,
            order: order(raw.ordering)?,
            counterparty_port: port_id(&counterparty.port_id)?,
            counterparty: match counterparty.channel_id.as_str() {
                "" => None,
                id => Some(channel_id(id)?),
            },
            hop: connection_id(hop)?,
            version: raw.version,
        })
    }
}

/// A packet (ICS-004): a record on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) sequence: u64,
    pub(crate) source_port: PortId,
    pub(crate) source_channel: ChannelId,
    pub(crate) destination_port: PortId,
    pub(crate) destination_channel: ChannelId,
    pub(crate) data: Bytes,
    /// Zero: none.
    pub(crate) timeout_height: Height,
    /// Zero: none.
    pub(crate) timeout: Timestamp,
}

impl Packet {
    /// The most data that a chain takes, in bytes (ibc-go `MaximumPayloadsSize`).
    pub(crate) const MAX_DATA: usize = 262_144;

    /// Reads a packet and checks what can be checked of it alone (ibc-go `Packet.ValidateBasic`).
    pub(super) fn read(raw: Option<channel::Packet>) -> Result<Self, EngineError> {
        let raw = raw.ok_or_else(|| EngineError::invalid("message", "it has no packet"))?;
        let packet = Self {
            sequence: raw.sequence,
            source_port: port_id(&raw.source_port)?,
            source_channel: channel_id(&raw.source_channel)?,
            destination_port: port_id(&raw.destination_port)?,
            destination_channel: channel_id(&raw.destination_channel)?,
            data: raw.data.into(),
            timeout_height: height(raw.timeout_height),
            timeout: Timestamp::from_nanos(raw.timeout_timestamp),
        };
        packet.check()?;
        Ok(packet)
    }

    pub(super) fn check(&self) -> Result<(), EngineError> {
        let invalid = |reason: &str| Err(EngineError::invalid("packet", reason));
        if self.sequence == 0 {
            return invalid("its sequence is 0");
        }
        if self.timeout_height.is_zero() && self.timeout.is_zero() {
            return invalid("it has no timeout, neither a height nor a time");
        }
        if self.data.is_empty() {
            return invalid("it has no data: IBC has no empty packets");
        }
        if self.data.len() > Self::MAX_DATA {
            return invalid("it has more than 262,144 bytes of data");
        }
        Ok(())
    }

    pub(crate) fn raw(&self) -> channel::Packet {
        channel::Packet {
            sequence: self.sequence,
            source_port: self.source_port.to_string(),
            source_channel: self.source_channel.to_string(),
            destination_port: self.destination_port.to_string(),
            destination_channel: self.destination_channel.to_string(),
            data: self.data.to_vec(),
            timeout_height: Some(self.timeout_height.into()),
            timeout_timestamp: self.timeout.as_nanos(),
        }
    }

    /// Whether it has timed out at a height and a time of the receiving side. At exactly the
    /// timeout it has (ibc-go `Timeout.Elapsed`).
    pub(super) fn has_timed_out(&self, height: Height, time: Timestamp) -> bool {
        let by_height = !self.timeout_height.is_zero() && height >= self.timeout_height;
        let by_time = !self.timeout.is_zero() && time >= self.timeout;
        by_height || by_time
    }
}
