//! Finding what happened in blocks that cannot be listened to any more.

use super::{RpcError, event::IbcEvent, rpc::Rpc};
use crate::{
    engine::Packet,
    identifier::{ChannelId, PortId},
};

/// How many transactions are looked at that have an event. More than one has if relayers race.
const MOST: u64 = 10;

impl Rpc {
    /// The packet that a channel of the chain has sent, if the node has an index of transactions and
    /// still has that one.
    pub(crate) async fn find_sent(
        &self,
        port: &PortId,
        channel: &ChannelId,
        sequence: u64,
    ) -> Result<Option<Packet>, RpcError> {
        let query = format!(
            "send_packet.packet_src_port='{port}' AND send_packet.packet_src_channel='{channel}' \
             AND send_packet.packet_sequence='{sequence}'"
        );
        let wanted = |packet: &Packet| {
            packet.sequence == sequence
                && packet.source_port == *port
                && packet.source_channel == *channel
        };
        let mut found = self.find(&query).await?.into_iter().filter_map(|event| match event {
            IbcEvent::Sent(packet) if wanted(&packet) => Some(packet),
            _ => None,
        });
        Ok(found.next())
    }

    /// A packet that a channel of the chain has received and answered, and its acknowledgement.
    pub(crate) async fn find_answered(
        &self,
        port: &PortId,
        channel: &ChannelId,
        sequence: u64,
    ) -> Result<Option<(Packet, bytes::Bytes)>, RpcError> {
        let query = format!(
            "write_acknowledgement.packet_dst_port='{port}' AND \
             write_acknowledgement.packet_dst_channel='{channel}' AND \
             write_acknowledgement.packet_sequence='{sequence}'"
        );
        let wanted = |packet: &Packet| {
            packet.sequence == sequence
                && packet.destination_port == *port
                && packet.destination_channel == *channel
        };
        let mut found = self.find(&query).await?.into_iter().filter_map(|event| match event {
            IbcEvent::Answered { packet, acknowledgement } if wanted(&packet) => {
                Some((packet, acknowledgement))
            }
            _ => None,
        });
        Ok(found.next())
    }

    async fn find(&self, query: &str) -> Result<Vec<IbcEvent>, RpcError> {
        let found = self.tx_search(query, 1, MOST).await?;
        let done = found.txs.iter().map(|tx| &tx.tx_result).filter(|result| result.code == 0);
        Ok(done.flat_map(|result| &result.events).filter_map(IbcEvent::read).collect())
    }
}
