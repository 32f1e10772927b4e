//! Channels (ICS-004): their handshake and their end.

use std::sync::Arc;

use ibc_proto::ibc::core::channel::v1::{
    MsgChannelCloseConfirm, MsgChannelCloseInit, MsgChannelOpenAck, MsgChannelOpenConfirm,
    MsgChannelOpenInit, MsgChannelOpenTry,
};

use super::{
    Engine,
    client::Proved,
    connection::counterparty,
    error::EngineError,
    event::{ChannelAttempt, Event},
    stage::Stage,
    types::{Channel, ChannelState, Connection, channel_id, feature, height, port_id},
};
use crate::{
    address::Order,
    height::At,
    identifier::{ChannelId, ConnectionId, PortId},
    path,
};

/// The longest version of a channel, in bytes. ibc-go sets none; a transaction's limit is 1 MB.
const MAX_VERSION: usize = 16 << 10;

impl Engine {
    pub(crate) fn channel(
        &self,
        stage: &Stage<'_>,
        port: &PortId,
        channel: &ChannelId,
    ) -> Result<Arc<Channel>, EngineError> {
        let Some(stored) = stage.get(&path::channel(port, channel)) else {
            let name = format!("{channel} at port {port}");
            return Err(EngineError::NotFound { what: "channel", name });
        };
        self.channels.read(&stored, Channel::decode)
    }

    /// A connection that can carry channels of an order.
    fn carrier(
        &self,
        stage: &Stage<'_>,
        hop: &ConnectionId,
        order: Order,
    ) -> Result<Arc<Connection>, EngineError> {
        let connection = self.connection(stage, hop)?;
        let [version] = &connection.versions[..] else {
            return Err(EngineError::Version { reason: format!("{hop} has not agreed on one") });
        };
        if !version.features.iter().any(|has| has == feature(order)) {
            let reason = format!("{hop} has no channels of {}", feature(order));
            return Err(EngineError::Version { reason });
        }
        Ok(connection)
    }

    fn new_channel(&self, stage: &mut Stage<'_>) -> Result<ChannelId, EngineError> {
        let number = stage.next_number("nextChannelSequence", 0);
        channel_id(&format!("channel-{number}"))
    }

    /// ibc-go `04-channel/keeper/handshake.go`, `ChanOpenInit`.
    pub(super) fn channel_open_init(
        &self,
        stage: &mut Stage<'_>,
        message: MsgChannelOpenInit,
        at: At,
    ) -> Result<Event, EngineError> {
        let port = port_id(&message.port_id)?;
        let raw = message.channel.ok_or_else(|| missing("MsgChannelOpenInit"))?;
        let channel = Channel::read(raw)?;
        if channel.state != ChannelState::Init || channel.counterparty.is_some() {
            return Err(EngineError::invalid("channel", "it is not one that begins"));
        }
        check_version(&channel.version)?;
        let connection = self.carrier(stage, &channel.hop, channel.order)?;
        self.require_active(stage, &connection.client, at)?;
        let id = self.new_channel(stage)?;
        begin(stage, &port, &id, &channel);
        Ok(Event::ChannelBegun { port, channel: id })
    }

    /// ibc-go `04-channel/keeper/handshake.go`, `ChanOpenTry`: all but what it writes, which
    /// waits for [`accept`](Self::accept_channel). Until then nothing is there but the name.
    #[expect(deprecated, reason = "the field has to be empty")]
    pub(super) fn channel_open_try(
        &self,
        stage: &mut Stage<'_>,
        message: MsgChannelOpenTry,
        at: At,
    ) -> Result<Event, EngineError> {
        let port = port_id(&message.port_id)?;
        if !message.previous_channel_id.is_empty() {
            return Err(EngineError::invalid(
                "MsgChannelOpenTry",
                "it names a channel of this side: crossing hellos are no more",
            ));
        }
        let raw = message.channel.ok_or_else(|| missing("MsgChannelOpenTry"))?;
        let Channel { state, order, counterparty_port, counterparty: other, hop, .. } =
            Channel::read(raw)?;
        if state != ChannelState::TryOpen {
            return Err(EngineError::invalid("channel", "it is not one that was begun"));
        }
        let named = || EngineError::invalid("counterparty of the channel", "it has no name");
        let other = other.ok_or_else(named)?;
        check_version(&message.counterparty_version)?;
        let id = self.new_channel(stage)?;
        let connection = self.open_connection(stage, &hop)?;
        self.carrier(stage, &hop, order)?;
        let expected = Channel {
            state: ChannelState::Init,
            order,
            counterparty_port: port.clone(),
            counterparty: None,
            hop: counterparty(&hop, &connection)?.clone(),
            version: message.counterparty_version.clone(),
        };
        let proved = Proved {
            path: path::channel(&counterparty_port, &other),
            value: Some(&expected.encode()),
            proof: &message.proof_init,
            height: height(message.proof_height),
        };
        self.verify(stage, &connection, &proved, 0, at)?;
        Ok(Event::ChannelAttempt(ChannelAttempt {
            port,
            channel: id,
            order,
            hop,
            counterparty_port,
            counterparty_channel: other,
            version: message.counterparty_version,
        }))
    }

    /// Accepts an attempt (ibc-go `WriteOpenTryChannel`), with the version that is to be spoken.
    ///
    /// # Errors
    /// The version is too long, or the hop is not what it was.
    pub(crate) fn accept_channel(
        &self,
        stage: &mut Stage<'_>,
        attempt: &ChannelAttempt,
        version: String,
    ) -> Result<(), EngineError> {
        check_version(&version)?;
        self.open_connection(stage, &attempt.hop)?;
        let channel = Channel {
            state: ChannelState::TryOpen,
            order: attempt.order,
            counterparty_port: attempt.counterparty_port.clone(),
            counterparty: Some(attempt.counterparty_channel.clone()),
            hop: attempt.hop.clone(),
            version,
        };
        begin(stage, &attempt.port, &attempt.channel, &channel);
        Ok(())
    }

    /// ibc-go `04-channel/keeper/handshake.go`, `ChanOpenAck`.
    pub(super) fn channel_open_ack(
        &self,
        stage: &mut Stage<'_>,
        message: MsgChannelOpenAck,
        at: At,
    ) -> Result<Event, EngineError> {
        let (port, id) = (port_id(&message.port_id)?, channel_id(&message.channel_id)?);
        let other = channel_id(&message.counterparty_channel_id)?;
        check_version(&message.counterparty_version)?;
        let mut channel = Arc::unwrap_or_clone(self.channel(stage, &port, &id)?);
        require(&id, &channel, ChannelState::Init)?;
        let connection = self.open_connection(stage, &channel.hop)?;
        channel.version = message.counterparty_version;
        let expected = mirrored(&port, &id, &channel, &connection, ChannelState::TryOpen)?;
        let proved = Proved {
            path: path::channel(&channel.counterparty_port, &other),
            value: Some(&expected),
            proof: &message.proof_try,
            height: height(message.proof_height),
        };
        self.verify(stage, &connection, &proved, 0, at)?;
        channel.state = ChannelState::Open;
        channel.counterparty = Some(other);
        stage.set(path::channel(&port, &id), channel.encode());
        Ok(Event::ChannelOpen { port, channel: id })
    }

    /// ibc-go `04-channel/keeper/handshake.go`, `ChanOpenConfirm`.
    pub(super) fn channel_open_confirm(
        &self,
        stage: &mut Stage<'_>,
        message: &MsgChannelOpenConfirm,
        at: At,
    ) -> Result<Event, EngineError> {
        let (port, id) = (port_id(&message.port_id)?, channel_id(&message.channel_id)?);
        let mut channel = Arc::unwrap_or_clone(self.channel(stage, &port, &id)?);
        require(&id, &channel, ChannelState::TryOpen)?;
        let connection = self.open_connection(stage, &channel.hop)?;
        let expected = mirrored(&port, &id, &channel, &connection, ChannelState::Open)?;
        let proved = Proved {
            path: path::channel(&channel.counterparty_port, other_end(&id, &channel)?),
            value: Some(&expected),
            proof: &message.proof_ack,
            height: height(message.proof_height),
        };
        self.verify(stage, &connection, &proved, 0, at)?;
        channel.state = ChannelState::Open;
        stage.set(path::channel(&port, &id), channel.encode());
        Ok(Event::ChannelOpen { port, channel: id })
    }

    /// ibc-go `04-channel/keeper/handshake.go`, `ChanCloseInit`.
    pub(super) fn channel_close_init(
        &self,
        stage: &mut Stage<'_>,
        message: &MsgChannelCloseInit,
        at: At,
    ) -> Result<Event, EngineError> {
        let (port, id) = (port_id(&message.port_id)?, channel_id(&message.channel_id)?);
        let mut channel = Arc::unwrap_or_clone(self.channel(stage, &port, &id)?);
        require_not_closed(&id, &channel)?;
        let connection = self.connection(stage, &channel.hop)?;
        self.require_active(stage, &connection.client, at)?;
        self.open_connection(stage, &channel.hop)?;
        channel.state = ChannelState::Closed;
        stage.set(path::channel(&port, &id), channel.encode());
        Ok(Event::ChannelClosed { port, channel: id })
    }

    /// ibc-go `04-channel/keeper/handshake.go`, `ChanCloseConfirm`.
    pub(super) fn channel_close_confirm(
        &self,
        stage: &mut Stage<'_>,
        message: &MsgChannelCloseConfirm,
        at: At,
    ) -> Result<Event, EngineError> {
        let (port, id) = (port_id(&message.port_id)?, channel_id(&message.channel_id)?);
        let mut channel = Arc::unwrap_or_clone(self.channel(stage, &port, &id)?);
        require_not_closed(&id, &channel)?;
        let connection = self.open_connection(stage, &channel.hop)?;
        let expected = mirrored(&port, &id, &channel, &connection, ChannelState::Closed)?;
        let proved = Proved {
            path: path::channel(&channel.counterparty_port, other_end(&id, &channel)?),
            value: Some(&expected),
            proof: &message.proof_init,
            height: height(message.proof_height),
        };
        self.verify(stage, &connection, &proved, 0, at)?;
        channel.state = ChannelState::Closed;
        stage.set(path::channel(&port, &id), channel.encode());
        Ok(Event::ChannelClosed { port, channel: id })
    }
}

/// Stores a channel that is new, with its counters (ibc-go `WriteOpenInitChannel`).
fn begin(stage: &mut Stage<'_>, port: &PortId, id: &ChannelId, channel: &Channel) {
    let first = 1_u64.to_be_bytes();
    stage.set(path::next_sequence_send(port, id), first.to_vec());
    stage.set(path::next_sequence_recv(port, id), first.to_vec());
    stage.set(path::next_sequence_ack(port, id), first.to_vec());
    stage.set(path::channel(port, id), channel.encode());
}

/// The name of the other end, which it has from TRYOPEN on.
pub(super) fn other_end<'a>(
    id: &ChannelId,
    channel: &'a Channel,
) -> Result<&'a ChannelId, EngineError> {
    channel.counterparty.as_ref().ok_or_else(|| EngineError::NotFound {
        what: "counterparty of channel",
        name: id.to_string(),
    })
}

/// What the other side must have stored if it agrees with this one.
pub(super) fn mirrored(
    port: &PortId,
    id: &ChannelId,
    channel: &Channel,
    connection: &Connection,
    state: ChannelState,
) -> Result<Vec<u8>, EngineError> {
    let mirrored = Channel {
        state,
        order: channel.order,
        counterparty_port: port.clone(),
        counterparty: Some(id.clone()),
        hop: counterparty(&channel.hop, connection)?.clone(),
        version: channel.version.clone(),
    };
    Ok(mirrored.encode())
}

pub(super) fn require(
    id: &ChannelId,
    channel: &Channel,
    wanted: ChannelState,
) -> Result<(), EngineError> {
    if channel.state == wanted {
        return Ok(());
    }
    let state = channel.state.name();
    Err(EngineError::State { name: id.to_string(), state, wanted: wanted.name() })
}

fn require_not_closed(id: &ChannelId, channel: &Channel) -> Result<(), EngineError> {
    if channel.state == ChannelState::Closed {
        let (state, wanted) = (channel.state.name(), "not CLOSED");
        return Err(EngineError::State { name: id.to_string(), state, wanted });
    }
    Ok(())
}

fn check_version(version: &str) -> Result<(), EngineError> {
    if version.len() > MAX_VERSION {
        return Err(EngineError::invalid("version of the channel", "it is over 16 KiB"));
    }
    Ok(())
}

fn missing(message: &'static str) -> EngineError {
    EngineError::invalid(message, "it has no channel")
}
