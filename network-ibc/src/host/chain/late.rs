//! Packets that the chain did not receive, and the proof that it never will.

use std::collections::{HashMap, hash_map::Entry};

use ibc_proto::ibc::core::{
    channel::v1::{MsgTimeout, MsgTimeoutOnClose, Packet},
    client::v1::Height as RawHeight,
};

use tendermint_proto::v0_38::types::SignedHeader;

use super::Relayer;
use crate::{
    address::Order,
    chain::RpcError,
    engine::{self, Channel, ChannelState, Message},
    height::Timestamp,
    identifier::{ChannelId, PortId},
    path,
};

/// A packet that was not received when it was relayed.
#[derive(Clone, Debug)]
pub(super) struct Late {
    packet: Packet,
    port: PortId,
    channel: ChannelId,
}

/// What can be said of one.
enum Judged {
    /// It cannot be received any more.
    Never(Box<Message>, u64),
    /// It was received after all.
    Received,
    /// It can still be received, as far as is known.
    Waits,
}

/// The chain as of a block that the host has heard of.
struct Now {
    height: u64,
    /// The time of the block after it, with whose header it is proved.
    time: Timestamp,
    /// Channels of the chain, and the proofs of them.
    ends: HashMap<(PortId, ChannelId), (Channel, Vec<u8>)>,
}

impl Late {
    pub(super) fn new(packet: Packet) -> Self {
        let port = PortId::known(&packet.destination_port);
        let channel = ChannelId::known(&packet.destination_channel);
        Self { packet, port, channel }
    }
}

impl Relayer {
    /// Proves to the host of packets that they will not be received, where that is so by now.
    /// `heard`: up to which block the host was told what happened. Were it proved of a later one, an
    /// ordered channel would be closed before the acknowledgements of what came first are taken.
    pub(super) async fn prove_late(&self, unreceived: &mut Vec<Late>, heard: u64) {
        let Some(height) = self.provable(heard.saturating_sub(1)).await else { return };
        if height > heard {
            return;
        }
        let time = match self.chain.rpc.signed(height + 1).await {
            Ok(signed) => time_of(&signed),
            Err(error) => {
                tracing::debug!(chain = self.chain.id, %error, "nothing is known of late packets");
                return;
            }
        };
        let mut now = Now { height, time, ends: HashMap::new() };
        let mut waiting = Vec::new();
        for late in unreceived.drain(..) {
            match self.judge(&late, &mut now).await {
                Ok(Judged::Never(message, height)) => {
                    if !self.deliver(&[*message], height).await {
                        waiting.push(late);
                    }
                }
                Ok(Judged::Received) => {}
                Ok(Judged::Waits) => waiting.push(late),
                Err(error) => {
                    tracing::debug!(chain = self.chain.id, %error, "nothing is known of a packet");
                    waiting.push(late);
                }
            }
        }
        *unreceived = waiting;
    }

    async fn judge(&self, late: &Late, now: &mut Now) -> Result<Judged, RpcError> {
        let Late { packet, port, channel } = late;
        let height = now.height;
        let (state, proof_close) = match now.ends.entry((port.clone(), channel.clone())) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let end = self.chain.rpc.prove(&path::channel(port, channel), Some(height)).await?;
                let state = Channel::decode(&end.value)
                    .map_err(|error| self.chain.rpc.unexpected("abci_query", &error.to_string()))?;
                unknown.insert((state, end.proof))
            }
        };
        let closed = state.state == ChannelState::Closed;
        if !closed && now.time < Timestamp::from_nanos(packet.timeout_timestamp) {
            return Ok(Judged::Waits);
        }
        let key = match state.order {
            Order::Ordered => path::next_sequence_recv(port, channel),
            Order::Unordered => path::receipt(port, channel, packet.sequence),
        };
        let proved = self.chain.rpc.prove(&key, Some(height)).await?;
        let due = match state.order {
            Order::Ordered => engine::number(&proved.value).unwrap_or(0),
            // Not looked at.
            Order::Unordered => 1,
        };
        let received = match state.order {
            Order::Ordered => due > packet.sequence,
            Order::Unordered => !proved.value.is_empty(),
        };
        if received {
            return Ok(Judged::Received);
        }
        let proof_height = Some(RawHeight::from(self.chain.at(proved.height)));
        let (packet, signer) = (Some(packet.clone()), String::new());
        let message = if closed {
            Message::TimeoutOnClose(MsgTimeoutOnClose {
                packet,
                proof_unreceived: proved.proof,
                proof_close: proof_close.clone(),
                proof_height,
                next_sequence_recv: due,
                signer,
                counterparty_upgrade_sequence: 0,
            })
        } else {
            Message::Timeout(MsgTimeout {
                packet,
                proof_unreceived: proved.proof,
                proof_height,
                next_sequence_recv: due,
                signer,
            })
        };
        Ok(Judged::Never(Box::new(message), proved.height))
    }
}

/// The time that the host's client knows of a block.
fn time_of(signed: &SignedHeader) -> Timestamp {
    let time = signed.header.as_ref().and_then(|header| header.time).unwrap_or_default();
    let (seconds, nanos) = (u64::try_from(time.seconds), u64::try_from(time.nanos));
    let nanos =
        seconds.unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(nanos.unwrap_or(0));
    Timestamp::from_nanos(nanos)
}
