//! Packets that both sides are done with, whose receipts and acknowledgements may go.
//!
//! Chains keep both for ever: ICS-004 has no message that tells when nobody needs them any more.
//! That is so once the sender has no commitment of a packet, as it was acknowledged or has timed
//! out: then no proof of it can do anything here, and none of its absence there. A host keeps a
//! number for each channel, below which it has no commitments, and shows it now and then. What lies
//! below is forgotten, and refused where it comes again (ibc-go has the same watermark for channels
//! that were upgraded, `recvStartSequence`).

use ibc_proto::ibc::core::client::v1::Height as RawHeight;
use prost::{Message, Name};

use super::{
    Engine,
    client::Proved,
    error::EngineError,
    event::Event,
    packet::{next_sequence_send, received_below, set_received_below},
    stage::{Stage, number},
    types::{channel_id, height, port_id},
};
use crate::{
    height::At,
    identifier::{ChannelId, PortId},
    path,
};

/// How many packets are looked at for one message. More wait for the next one.
const MOST: u64 = 16_384;

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
        let proved = Proved {
            path: path::settled(&channel.counterparty_port, other),
            value: Some(&message.below.to_be_bytes()),
            proof: &message.proof,
            height: height(message.proof_height),
        };
        self.verify(stage, &connection, &proved, connection.delay, at)?;
        let before = received_below(stage, &port, &id).max(1);
        let below = message.below.min(before.saturating_add(MOST));
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
}
