//! Packets that both sides are done with, whose receipts and acknowledgements may go.
//!
//! Chains keep both for ever: ICS-004 has no message that tells when nobody needs them any more.
//! That is so once the sender has no commitment of a packet, as it was acknowledged or has timed
//! out: then no proof of it can do anything here, and none of its absence there. A host keeps a
//! number for each channel, below which it has no commitments, and shows it now and then. What lies
//! below is forgotten, and refused where it comes again (ibc-go has the same watermark for channels
//! that were upgraded, `recvStartSequence`).
//!
//! A chain keeps no such number. Of one it is shown that the commitments themselves are absent. One
//! proof of that is of all keys between two neighbours, so a few of them do for all packets but the
//! last ones.

use std::ops::Range;

use ibc_proto::ibc::core::client::v1::Height as RawHeight;
use prost::{Message, Name};

use super::{
    Engine,
    client::Proved,
    error::EngineError,
    event::Event,
    packet::{next_sequence_recv, next_sequence_send, received_below, set_received_below},
    stage::{Stage, number},
    types::{Connection, channel_id, height, port_id},
};
use crate::{
    address::Order,
    client::Gap,
    height::At,
    identifier::{ChannelId, PortId},
    path,
};

/// How many packets are looked at for one message. More wait for the next one.
const MOST: u64 = 16_384;
/// The same where absences are proved: each packet is looked for in what each proof shows.
pub(crate) const MOST_ABSENT: u64 = 4_096;
/// How many proofs of absence a message may have.
pub(crate) const ABSENCES: usize = 64;

/// Proves that the sender of packets has no commitments of those below a sequence.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MsgSettle {
    /// The end that has received the packets.
    #[prost(string, tag = "1")]
    pub(crate) port_id: String,
    #[prost(string, tag = "2")]
    pub(crate) channel_id: String,
    #[prost(uint64, tag = "3")]
    pub(crate) below: u64,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) proof: Vec<u8>,
    #[prost(message, optional, tag = "5")]
    pub(crate) proof_height: Option<RawHeight>,
    /// As all messages have one; hosts need none.
    #[prost(string, tag = "6")]
    pub(crate) signer: String,
    /// Instead of `proof`: the proofs that commitments are absent, each of the first one that those
    /// before it leave open ([`first_open`]).
    #[prost(bytes = "vec", repeated, tag = "7")]
    pub(crate) absences: Vec<Vec<u8>>,
    /// With `absences`: a packet that was received. What comes after it may be absent because it
    /// was never sent.
    #[prost(uint64, tag = "8")]
    pub(crate) received: u64,
}

impl Name for MsgSettle {
    const NAME: &'static str = "MsgSettle";
    const PACKAGE: &'static str = "network.ibc.v1";
}

impl Engine {
    /// Moves the number of a channel of this side, below which all packets that it sent are done
    /// with; whether it has moved.
    pub(crate) fn move_settled(
        &self,
        stage: &mut Stage<'_>,
        port: &PortId,
        id: &ChannelId,
    ) -> Result<bool, EngineError> {
        let key = path::settled(port, id);
        let before = stage.get(&key).as_deref().and_then(number).unwrap_or(1);
        let next = next_sequence_send(stage, port, id)?.min(before.saturating_add(MOST));
        let outstanding =
            |sequence: &u64| stage.get(&path::commitment(port, id, *sequence)).is_some();
        let below = (before..next).find(outstanding).unwrap_or(next);
        if below > before {
            stage.set(key, below.to_be_bytes().to_vec());
        }
        Ok(below > before)
    }

    pub(super) fn settle(
        &self,
        stage: &mut Stage<'_>,
        message: &MsgSettle,
        at: At,
    ) -> Result<Event, EngineError> {
        let (port, id) = (port_id(&message.port_id)?, channel_id(&message.channel_id)?);
        let channel = self.channel(stage, &port, &id)?;
        let other = super::channel::other_end(&id, &channel)?;
        let connection = self.connection(stage, &channel.hop)?;
        let before = received_below(stage, &port, &id).max(1);
        let below = if message.absences.is_empty() {
            let proved = Proved {
                path: path::settled(&channel.counterparty_port, other),
                value: Some(&message.below.to_be_bytes()),
                proof: &message.proof,
                height: height(message.proof_height),
            };
            self.verify(stage, &connection, &proved, connection.delay, at)?;
            message.below.min(before.saturating_add(MOST))
        } else {
            let received = match channel.order {
                Order::Ordered => message.received < next_sequence_recv(stage, &port, &id)?,
                Order::Unordered => {
                    stage.get(&path::receipt(&port, &id, message.received)).is_some()
                }
            };
            if !received {
                return Err(EngineError::invalid("MsgSettle", "it names a packet that never came"));
            }
            let end = message.below.min(message.received.saturating_add(1));
            let end = end.min(before.saturating_add(MOST_ABSENT));
            let sender = (&channel.counterparty_port, other);
            self.absent(stage, message, &connection, sender, before..end, at)?
        };
        // What was relayed before.
        if below <= before {
            return Ok(Event::Nothing);
        }
        set_received_below(stage, &port, &id, below);
        for sequence in before..below {
            for key in
                [path::receipt(&port, &id, sequence), path::acknowledgement(&port, &id, sequence)]
            {
                if stage.get(&key).is_some() {
                    stage.remove(key);
                }
            }
        }
        Ok(Event::Nothing)
    }

    /// Up to which of some packets the sender has no commitments, as a message proves it.
    fn absent(
        &self,
        stage: &mut Stage<'_>,
        message: &MsgSettle,
        connection: &Connection,
        sender: (&PortId, &ChannelId),
        packets: Range<u64>,
        at: At,
    ) -> Result<u64, EngineError> {
        if message.absences.len() > ABSENCES {
            return Err(EngineError::invalid("MsgSettle", "it has too many proofs"));
        }
        let (mut gaps, mut next) = (Vec::new(), packets.start);
        for proof in &message.absences {
            next = first_open(&gaps, sender, next..packets.end);
            if next >= packets.end {
                break;
            }
            let proved = Proved {
                path: path::commitment(sender.0, sender.1, next),
                value: None,
                proof,
                height: height(message.proof_height),
            };
            self.verify(stage, connection, &proved, connection.delay, at)?;
            gaps.extend(self.gap(stage, connection, proof));
            next += 1;
        }
        Ok(first_open(&gaps, sender, next..packets.end))
    }
}

/// The first of some packets whose commitment may be there, or their end.
pub(crate) fn first_open(
    gaps: &[Gap],
    (port, channel): (&PortId, &ChannelId),
    mut packets: Range<u64>,
) -> u64 {
    let absent = |sequence: &u64| {
        let key = path::commitment(port, channel, *sequence);
        gaps.iter().any(|gap| gap.has(key.as_bytes()))
    };
    let end = packets.end;
    packets.find(|sequence| !absent(sequence)).unwrap_or(end)
}
