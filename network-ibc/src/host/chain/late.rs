//! Packets that the chain did not receive, and the proof that it never will.

use ibc_proto::ibc::core::{
    channel::v1::{MsgTimeout, MsgTimeoutOnClose, Packet},
    client::v1::Height as RawHeight,
};

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

impl Late {
    pub(super) fn new(packet: Packet) -> Self {
        let port = PortId::known(&packet.destination_port);
        let channel = ChannelId::known(&packet.destination_channel);
        Self { packet, port, channel }
    }
}

impl Relayer {
    /// Proves to the host of packets that they will not be received, where that is so by now.
    pub(super) async fn prove_late(&self, unreceived: &mut Vec<Late>) {
        let mut waiting = Vec::new();
        for late in unreceived.drain(..) {
            match self.judge(&late).await {
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

    async fn judge(&self, late: &Late) -> Result<Judged, RpcError> {
        let Late { packet, port, channel } = late;
        // The last block whose state a proof can be checked of: that needs the header after it.
        let height = self.chain.rpc.status().await?.height.saturating_sub(1);
        let Some(height) = self.provable(height).await else { return Ok(Judged::Waits) };
        let end = self.chain.rpc.prove(&path::channel(port, channel), Some(height)).await?;
        let state = Channel::decode(&end.value)
            .map_err(|error| self.chain.rpc.unexpected("abci_query", &error.to_string()))?;
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
        if state.state == ChannelState::Closed {
            let message = Message::TimeoutOnClose(MsgTimeoutOnClose {
                packet,
                proof_unreceived: proved.proof,
                proof_close: end.proof,
                proof_height,
                next_sequence_recv: due,
                signer,
                counterparty_upgrade_sequence: 0,
            });
            return Ok(Judged::Never(Box::new(message), proved.height));
        }
        // The time that the host's client will know of the height.
        let header = self.chain.rpc.signed(proved.height).await?.header.unwrap_or_default();
        let time = header.time.unwrap_or_default();
        let nanos = u64::try_from(time.seconds).unwrap_or(0).saturating_mul(1_000_000_000)
            + u64::try_from(time.nanos).unwrap_or(0);
        if Timestamp::from_nanos(nanos) < Timestamp::from_nanos(late.packet.timeout_timestamp) {
            return Ok(Judged::Waits);
        }
        let message = Message::Timeout(MsgTimeout {
            packet,
            proof_unreceived: proved.proof,
            proof_height,
            next_sequence_recv: due,
            signer,
        });
        Ok(Judged::Never(Box::new(message), proved.height))
    }
}
