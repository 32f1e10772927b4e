//! The engine: what a host does with IBC's messages (ICS-002, ICS-003, ICS-004, ICS-005, ICS-026).
//!
//! It does no I/O, knows no clock and calls nobody: a message goes in with the time, and out come
//! what it writes and what happened. Handlers are told of events by whoever drives it, so that a
//! handler may take its time, and nothing is half done while it does.
//!
//! The order of the checks is that of ibc-go v10 (`modules/core`), which is named at each step.

mod channel;
mod client;
mod connection;
mod error;
mod event;
mod memo;
mod message;
mod packet;
mod settle;
mod stage;
#[cfg(test)]
mod tests;
mod types;

pub use error::EngineError;
pub(crate) use event::{ChannelAttempt, Event};
pub(crate) use message::Message;
pub(crate) use packet::Timeout;
#[cfg(test)]
pub(crate) use packet::{commit_acknowledgement, commit_packet};
pub(crate) use settle::MsgSettle;
#[cfg(feature = "chain")]
pub(crate) use settle::{ABSENCES, MOST_ABSENT, first_open};
pub(crate) use stage::{Stage, Store, Writes, number};
pub(crate) use types::{Channel, ChannelState, Connection, ConnectionState, Packet, raw_order};

use self::memo::Memo;
use crate::{client::Clients, height::At};

/// The name of the store that this host's proofs are of: its commitment prefix (ICS-023).
pub(crate) const PREFIX: &[u8] = b"ibc";

/// The rules, and the kinds of clients that they are applied with. All state is in a [`Store`].
#[derive(Debug, Default)]
pub(crate) struct Engine {
    clients: Clients,
    channels: Memo<Channel>,
    connections: Memo<Connection>,
}

impl Engine {
    pub(crate) fn new(clients: Clients) -> Self {
        Self { clients, ..Self::default() }
    }

    /// Handles a message of a relayer. What it writes is in `stage`, to be applied if this
    /// succeeds and dropped if not.
    ///
    /// # Errors
    /// The message breaks a rule.
    pub(crate) fn deliver(
        &self,
        stage: &mut Stage<'_>,
        message: Message,
        at: At,
    ) -> Result<Event, EngineError> {
        match message {
            Message::CreateClient(message) => self.create_client(stage, &message, at),
            Message::UpdateClient(message) => self.update_client(stage, &message, at),
            Message::ConnectionOpenInit(message) => self.connection_open_init(stage, message, at),
            Message::ConnectionOpenTry(message) => self.connection_open_try(stage, message, at),
            Message::ConnectionOpenAck(message) => self.connection_open_ack(stage, message, at),
            Message::ConnectionOpenConfirm(message) => {
                self.connection_open_confirm(stage, &message, at)
            }
            Message::ChannelOpenInit(message) => self.channel_open_init(stage, message, at),
            Message::ChannelOpenTry(message) => self.channel_open_try(stage, message, at),
            Message::ChannelOpenAck(message) => self.channel_open_ack(stage, message, at),
            Message::ChannelOpenConfirm(message) => self.channel_open_confirm(stage, &message, at),
            Message::ChannelCloseInit(message) => self.channel_close_init(stage, &message, at),
            Message::ChannelCloseConfirm(message) => {
                self.channel_close_confirm(stage, &message, at)
            }
            Message::RecvPacket(message) => self.recv_packet(stage, message, at),
            Message::Acknowledgement(message) => self.acknowledge_packet(stage, message, at),
            Message::Timeout(message) => self.timeout_packet(stage, message, at),
            Message::TimeoutOnClose(message) => self.timeout_on_close(stage, message, at),
            Message::Settle(message) => self.settle(stage, &message, at),
        }
    }
}
