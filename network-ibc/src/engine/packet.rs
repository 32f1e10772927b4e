//! Packets (ICS-004): sent, received, acknowledged, timed out.

use std::sync::Arc;

use bytes::Bytes;
use ibc_proto::ibc::core::channel::v1::{
    MsgAcknowledgement, MsgRecvPacket, MsgTimeout, MsgTimeoutOnClose,
};
use sha2::{Digest, Sha256};

use super::{
    Engine,
    channel::{mirrored, other_end, require},
    client::{Proved, require_proof},
    error::EngineError,
    event::Event,
    stage::{Stage, number},
    types::{Channel, ChannelState, Connection, Packet, height},
};
use crate::{
    address::Order,
    height::{At, Height, Timestamp},
    identifier::{ChannelId, PortId},
    path,
};

/// What the sender of a packet commits to (ibc-go `CommitPacket`).
pub(crate) fn commit_packet(packet: &Packet) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(packet.timeout.as_nanos().to_be_bytes());
    hash.update(packet.timeout_height.revision.to_be_bytes());
    hash.update(packet.timeout_height.number.to_be_bytes());
    hash.update(Sha256::digest(&packet.data));
    hash.finalize().into()
}

/// What the receiver of a packet commits to (ibc-go `CommitAcknowledgement`).
pub(crate) fn commit_acknowledgement(acknowledgement: &[u8]) -> [u8; 32] {
    Sha256::digest(acknowledgement).into()
}

/// A timeout of a packet: a height of the receiving side, a time, or both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timeout {
    pub(crate) height: Height,
    pub(crate) time: Timestamp,
}

impl Engine {
    /// Sends a packet (ibc-go `04-channel/keeper/packet.go`, `SendPacket`).
    pub(crate) fn send_packet(
        &self,
        stage: &mut Stage<'_>,
        port: &PortId,
        id: &ChannelId,
        data: Bytes,
        timeout: Timeout,
        at: At,
    ) -> Result<Packet, EngineError> {
        let channel = self.channel(stage, port, id)?;
        require(id, &channel, ChannelState::Open)?;
        let next = path::next_sequence_send(port, id);
        let sequence = counter(stage, &next)?;
        let packet = Packet {
            sequence,
            source_port: port.clone(),
            source_channel: id.clone(),
            destination_port: channel.counterparty_port.clone(),
            destination_channel: other_end(id, &channel)?.clone(),
            data,
            timeout_height: timeout.height,
            timeout: timeout.time,
        };
        packet.check()?;
        let connection = self.connection(stage, &channel.hop)?;
        self.require_active(stage, &connection.client, at)?;
        let height = self.latest_height(stage, &connection.client)?;
        if height.is_zero() {
            return Err(EngineError::invalid("client", "it knows no height"));
        }
        let time = self.timestamp_at(stage, &connection.client, height)?;
        if packet.has_timed_out(height, time) {
            return Err(EngineError::TimedOut { sequence, time, height });
        }
        set_counter(stage, next, sequence)?;
        stage.set(path::commitment(port, id, sequence), commit_packet(&packet).to_vec());
        Ok(packet)
    }

    /// ibc-go `04-channel/keeper/packet.go`, `RecvPacket`.
    pub(super) fn recv_packet(
        &self,
        stage: &mut Stage<'_>,
        message: MsgRecvPacket,
        at: At,
    ) -> Result<Event, EngineError> {
        let packet = Packet::read(message.packet)?;
        let (port, id) = (&packet.destination_port, &packet.destination_channel);
        let channel = self.channel(stage, port, id)?;
        require(id, &channel, ChannelState::Open)?;
        of_channel(&packet, &channel, &packet.source_port, &packet.source_channel)?;
        let connection = self.open_connection(stage, &channel.hop)?;
        let sequence = packet.sequence;
        if packet.has_timed_out(at.height, at.time) {
            return Err(EngineError::TimedOut { sequence, time: at.time, height: at.height });
        }
        let proved = Proved {
            path: path::commitment(&packet.source_port, &packet.source_channel, sequence),
            value: Some(&commit_packet(&packet)),
            proof: &message.proof_commitment,
            height: height(message.proof_height),
        };
        self.verify(stage, &connection, &proved, connection.delay, at)?;
        // What lies below was received, and its receipt pruned.
        if sequence < received_below(stage, port, id) {
            return Err(EngineError::Received { sequence });
        }
        match channel.order {
            Order::Unordered => {
                let receipt = path::receipt(port, id, sequence);
                if stage.get(&receipt).is_some() {
                    return Ok(Event::Nothing);
                }
                stage.set(receipt, &[1_u8][..]);
            }
            Order::Ordered => {
                let next = path::next_sequence_recv(port, id);
                let due = counter(stage, &next)?;
                if sequence < due {
                    return Ok(Event::Nothing);
                }
                if sequence != due {
                    return Err(EngineError::OutOfOrder { sequence, due });
                }
                set_counter(stage, next, due)?;
            }
        }
        Ok(Event::Received(packet))
    }

    /// Acknowledges a packet that was received (ibc-go `04-channel/keeper/packet.go`,
    /// `WriteAcknowledgement`), at any time after.
    ///
    /// # Errors
    /// It has its acknowledgement, or the channel is closed.
    pub(crate) fn write_acknowledgement(
        &self,
        stage: &mut Stage<'_>,
        port: &PortId,
        id: &ChannelId,
        sequence: u64,
        acknowledgement: &[u8],
    ) -> Result<(), EngineError> {
        let channel = self.channel(stage, port, id)?;
        require(id, &channel, ChannelState::Open)?;
        if sequence < received_below(stage, port, id) {
            return Err(EngineError::Received { sequence });
        }
        let key = path::acknowledgement(port, id, sequence);
        if stage.get(&key).is_some() {
            return Err(EngineError::Acknowledged { sequence });
        }
        if acknowledgement.is_empty() {
            return Err(EngineError::invalid("acknowledgement", "it is empty"));
        }
        stage.set(key, commit_acknowledgement(acknowledgement).to_vec());
        Ok(())
    }

    /// ibc-go `04-channel/keeper/packet.go`, `AcknowledgePacket`.
    pub(super) fn acknowledge_packet(
        &self,
        stage: &mut Stage<'_>,
        message: MsgAcknowledgement,
        at: At,
    ) -> Result<Event, EngineError> {
        let packet = Packet::read(message.packet)?;
        if message.acknowledgement.is_empty() {
            return Err(EngineError::invalid("acknowledgement", "it is empty"));
        }
        require_proof(&message.proof_acked)?;
        let (port, id) = (&packet.source_port, &packet.source_channel);
        let channel = self.channel(stage, port, id)?;
        require(id, &channel, ChannelState::Open)?;
        of_channel(&packet, &channel, &packet.destination_port, &packet.destination_channel)?;
        let connection = self.open_connection(stage, &channel.hop)?;
        let sequence = packet.sequence;
        if !is_outstanding(stage, &packet)? {
            return Ok(Event::Nothing);
        }
        let proved = Proved {
            path: path::acknowledgement(
                &packet.destination_port,
                &packet.destination_channel,
                sequence,
            ),
            value: Some(&commit_acknowledgement(&message.acknowledgement)),
            proof: &message.proof_acked,
            height: height(message.proof_height),
        };
        self.verify(stage, &connection, &proved, connection.delay, at)?;
        if channel.order == Order::Ordered {
            let next = path::next_sequence_ack(port, id);
            let due = counter(stage, &next)?;
            if sequence != due {
                return Err(EngineError::OutOfOrder { sequence, due });
            }
            set_counter(stage, next, due)?;
        }
        stage.remove(path::commitment(port, id, sequence));
        Ok(Event::Acknowledged { acknowledgement: message.acknowledgement.into(), packet })
    }

    /// ibc-go `04-channel/keeper/timeout.go`, `TimeoutPacket`.
    pub(super) fn timeout_packet(
        &self,
        stage: &mut Stage<'_>,
        message: MsgTimeout,
        at: At,
    ) -> Result<Event, EngineError> {
        let packet = Packet::read(message.packet)?;
        require_proof(&message.proof_unreceived)?;
        require_next(message.next_sequence_recv)?;
        let channel = self.channel(stage, &packet.source_port, &packet.source_channel)?;
        of_channel(&packet, &channel, &packet.destination_port, &packet.destination_channel)?;
        let connection = self.connection(stage, &channel.hop)?;
        let proof_height = height(message.proof_height);
        let time = self.timestamp_at(stage, &connection.client, proof_height)?;
        if !packet.has_timed_out(proof_height, time) {
            let sequence = packet.sequence;
            return Err(EngineError::NotTimedOut { sequence, time, height: proof_height });
        }
        if !is_outstanding(stage, &packet)? {
            return Ok(Event::Nothing);
        }
        let (proof, next) = (&message.proof_unreceived, message.next_sequence_recv);
        self.verify_unreceived(
            stage,
            &packet,
            &channel,
            &connection,
            proof,
            proof_height,
            next,
            at,
        )?;
        Ok(time_out(stage, packet, Arc::unwrap_or_clone(channel)))
    }

    /// ibc-go `04-channel/keeper/timeout.go`, `TimeoutOnClose`.
    pub(super) fn timeout_on_close(
        &self,
        stage: &mut Stage<'_>,
        message: MsgTimeoutOnClose,
        at: At,
    ) -> Result<Event, EngineError> {
        let packet = Packet::read(message.packet)?;
        require_proof(&message.proof_unreceived)?;
        require_proof(&message.proof_close)?;
        require_next(message.next_sequence_recv)?;
        let (port, id) = (&packet.source_port, &packet.source_channel);
        let channel = self.channel(stage, port, id)?;
        of_channel(&packet, &channel, &packet.destination_port, &packet.destination_channel)?;
        let connection = self.connection(stage, &channel.hop)?;
        if !is_outstanding(stage, &packet)? {
            return Ok(Event::Nothing);
        }
        let proof_height = height(message.proof_height);
        let expected = mirrored(port, id, &channel, &connection, ChannelState::Closed)?;
        let proved = Proved {
            path: path::channel(&channel.counterparty_port, other_end(id, &channel)?),
            value: Some(&expected),
            proof: &message.proof_close,
            height: proof_height,
        };
        self.verify(stage, &connection, &proved, 0, at)?;
        let (proof, next) = (&message.proof_unreceived, message.next_sequence_recv);
        self.verify_unreceived(
            stage,
            &packet,
            &channel,
            &connection,
            proof,
            proof_height,
            next,
            at,
        )?;
        Ok(time_out(stage, packet, Arc::unwrap_or_clone(channel)))
    }

    /// Checks that the other side has not received a packet.
    #[expect(clippy::too_many_arguments, reason = "what two messages have in common")]
    fn verify_unreceived(
        &self,
        stage: &mut Stage<'_>,
        packet: &Packet,
        channel: &Channel,
        connection: &Connection,
        proof: &[u8],
        height: Height,
        next_sequence_recv: u64,
        at: At,
    ) -> Result<(), EngineError> {
        let (port, id) = (&packet.destination_port, &packet.destination_channel);
        let next = next_sequence_recv.to_be_bytes();
        let (path, value) = match channel.order {
            Order::Ordered if next_sequence_recv > packet.sequence => {
                return Err(EngineError::Received { sequence: packet.sequence });
            }
            Order::Ordered => (path::next_sequence_recv(port, id), Some(&next[..])),
            Order::Unordered => (path::receipt(port, id, packet.sequence), None),
        };
        let proved = Proved { path, value, proof, height };
        self.verify(stage, connection, &proved, connection.delay, at)
    }
}

/// ibc-go `timeoutExecuted`.
fn time_out(stage: &mut Stage<'_>, packet: Packet, mut channel: Channel) -> Event {
    let (port, id) = (&packet.source_port, &packet.source_channel);
    stage.remove(path::commitment(port, id, packet.sequence));
    let closed = channel.order == Order::Ordered;
    if closed {
        channel.state = ChannelState::Closed;
        stage.set(path::channel(port, id), channel.encode());
    }
    Event::TimedOut { packet, closed }
}

/// Checks the sequence that is said to be due on the other side, which starts at 1.
fn require_next(next_sequence_recv: u64) -> Result<(), EngineError> {
    if next_sequence_recv == 0 {
        return Err(EngineError::invalid("message", "the sequence that is due is 0"));
    }
    Ok(())
}

/// Whether a packet is un-acked. What was relayed before is no error: relayers race.
fn is_outstanding(stage: &Stage<'_>, packet: &Packet) -> Result<bool, EngineError> {
    let sequence = packet.sequence;
    let key = path::commitment(&packet.source_port, &packet.source_channel, sequence);
    let Some(commitment) = stage.get(&key) else { return Ok(false) };
    if commitment[..] != commit_packet(packet) {
        let reason = "it is not the packet that was sent";
        return Err(EngineError::Packet { sequence, reason });
    }
    Ok(true)
}

/// Checks that a packet goes between the two ends of a channel.
fn of_channel(
    packet: &Packet,
    channel: &Channel,
    port: &PortId,
    id: &ChannelId,
) -> Result<(), EngineError> {
    let sequence = packet.sequence;
    if *port != channel.counterparty_port {
        let reason = "its port is not that of the channel's other end";
        return Err(EngineError::Packet { sequence, reason });
    }
    if Some(id) != channel.counterparty.as_ref() {
        let reason = "its channel is not the channel's other end";
        return Err(EngineError::Packet { sequence, reason });
    }
    Ok(())
}

/// Below which sequence all packets are done with and have no receipts any more.
pub(super) fn received_below(stage: &Stage<'_>, port: &PortId, id: &ChannelId) -> u64 {
    let key = path::received_below(port, id);
    stage.private(key.as_bytes()).as_deref().and_then(number).unwrap_or(0)
}

pub(super) fn set_received_below(stage: &mut Stage<'_>, port: &PortId, id: &ChannelId, below: u64) {
    let below = Bytes::copy_from_slice(&below.to_be_bytes());
    stage.set_private(path::received_below(port, id), Some(below));
}

/// What the next packet of a channel will be.
pub(super) fn next_sequence_send(
    stage: &Stage<'_>,
    port: &PortId,
    id: &ChannelId,
) -> Result<u64, EngineError> {
    counter(stage, &path::next_sequence_send(port, id))
}

/// What the next packet from the other end of an ordered channel has to be.
pub(super) fn next_sequence_recv(
    stage: &Stage<'_>,
    port: &PortId,
    id: &ChannelId,
) -> Result<u64, EngineError> {
    counter(stage, &path::next_sequence_recv(port, id))
}

fn counter(stage: &Stage<'_>, key: &str) -> Result<u64, EngineError> {
    stage
        .get(key)
        .as_deref()
        .and_then(number)
        .ok_or_else(|| EngineError::NotFound { what: "counter", name: key.to_owned() })
}

/// Stores the number after `number`.
fn set_counter(stage: &mut Stage<'_>, key: String, number: u64) -> Result<(), EngineError> {
    let next = number
        .checked_add(1)
        .ok_or_else(|| EngineError::invalid("channel", "it has no sequences left"))?;
    stage.set(key, next.to_be_bytes().to_vec());
    Ok(())
}
