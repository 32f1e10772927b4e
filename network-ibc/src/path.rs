//! The keys of the provable store (ICS-024 §"Path-space").

use crate::identifier::{ChannelId, ConnectionId, PortId};

pub(crate) fn connection(connection: &ConnectionId) -> String {
    format!("connections/{connection}")
}

pub(crate) fn channel(port: &PortId, channel: &ChannelId) -> String {
    format!("channelEnds/ports/{port}/channels/{channel}")
}

/// The port and the channel of such a key.
pub(crate) fn read_channel(key: &[u8]) -> Option<(PortId, ChannelId)> {
    let rest = std::str::from_utf8(key).ok()?.strip_prefix("channelEnds/ports/")?;
    let (port, channel) = rest.split_once("/channels/")?;
    Some((PortId::known(port), ChannelId::known(channel)))
}

pub(crate) fn next_sequence_send(port: &PortId, channel: &ChannelId) -> String {
    format!("nextSequenceSend/ports/{port}/channels/{channel}")
}

pub(crate) fn next_sequence_recv(port: &PortId, channel: &ChannelId) -> String {
    format!("nextSequenceRecv/ports/{port}/channels/{channel}")
}

pub(crate) fn next_sequence_ack(port: &PortId, channel: &ChannelId) -> String {
    format!("nextSequenceAck/ports/{port}/channels/{channel}")
}

pub(crate) fn commitment(port: &PortId, channel: &ChannelId, sequence: u64) -> String {
    format!("{}{sequence}", commitments(port, channel))
}

/// What the keys of the commitments of a channel begin with.
pub(crate) fn commitments(port: &PortId, channel: &ChannelId) -> String {
    format!("commitments/ports/{port}/channels/{channel}/sequences/")
}

pub(crate) fn receipt(port: &PortId, channel: &ChannelId, sequence: u64) -> String {
    format!("receipts/ports/{port}/channels/{channel}/sequences/{sequence}")
}

pub(crate) fn acknowledgement(port: &PortId, channel: &ChannelId, sequence: u64) -> String {
    format!("acks/ports/{port}/channels/{channel}/sequences/{sequence}")
}

/// Not a key of ICS-024: below which sequence there are no commitments of a channel.
pub(crate) fn settled(port: &PortId, channel: &ChannelId) -> String {
    format!("settled/ports/{port}/channels/{channel}")
}

/// Not provable: below which sequence receipts and acknowledgements were pruned.
pub(crate) fn received_below(port: &PortId, channel: &ChannelId) -> String {
    format!("recvStartSequence/ports/{port}/channels/{channel}")
}
