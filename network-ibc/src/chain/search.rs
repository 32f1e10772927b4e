//! Packets whose events were missed: what is in them is nowhere but in events.
//!
//! The chain's state tells which packets there are ([`Rpc::commitments`]), but holds their hashes
//! alone. Of a node that keeps an index of transactions, the events are asked for one by one.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{RpcError, event::IbcEvent, rpc::Rpc};
use crate::{
    engine::Packet,
    identifier::{ChannelId, PortId},
};

/// How many transactions, or blocks, with one event are looked at. There should be one.
const FOUND: u64 = 5;

impl Rpc {
    /// The packets with these sequences that a channel has sent, as far as the node's index goes.
    pub(crate) async fn sent_packets(
        &self,
        port: &PortId,
        channel: &ChannelId,
        sequences: &[u64],
    ) -> Result<Vec<Packet>, RpcError> {
        let read = |event| match event {
            IbcEvent::Sent(packet) => (packet.source_port == *port
                && packet.source_channel == *channel)
                .then_some((packet.sequence, packet)),
            _ => None,
        };
        self.find("send_packet", ("src", port, channel), sequences, read).await
    }

    /// The packets with these sequences that a channel has received and answered, with the
    /// answers.
    pub(crate) async fn answered_packets(
        &self,
        port: &PortId,
        channel: &ChannelId,
        sequences: &[u64],
    ) -> Result<Vec<(Packet, Bytes)>, RpcError> {
        let read = |event| match event {
            IbcEvent::Answered { packet, acknowledgement } => (packet.destination_port == *port
                && packet.destination_channel == *channel)
                .then_some((packet.sequence, (packet, acknowledgement))),
            _ => None,
        };
        self.find("write_acknowledgement", ("dst", port, channel), sequences, read).await
    }

    async fn find<T>(
        &self,
        kind: &str,
        (side, port, channel): (&str, &PortId, &ChannelId),
        sequences: &[u64],
        read: impl Fn(IbcEvent) -> Option<(u64, T)>,
    ) -> Result<Vec<T>, RpcError> {
        // What is no identifier could end the text that it is quoted in.
        if !port.is_ics24() || !channel.is_ics24() {
            return Ok(Vec::new());
        }
        let mut wanted: BTreeSet<u64> = sequences.iter().copied().collect();
        let mut found = BTreeMap::new();
        while let Some(sequence) = wanted.first().copied() {
            let query = format!(
                "{kind}.packet_{side}_port='{port}' AND {kind}.packet_{side}_channel='{channel}' \
                 AND {kind}.packet_sequence='{sequence}'"
            );
            // What was sent together is found together.
            for event in self.events_with(&query).await? {
                if let Some((sequence, value)) = read(event)
                    && wanted.remove(&sequence)
                {
                    found.insert(sequence, value);
                }
            }
            wanted.remove(&sequence);
        }
        Ok(found.into_values().collect())
    }

    /// All events of IBC of the transactions, or else of the blocks, with an event.
    async fn events_with(&self, query: &str) -> Result<Vec<IbcEvent>, RpcError> {
        let found = self.tx_search(query, 1, FOUND).await?;
        let results = found.txs.iter().map(|tx| &tx.tx_result).filter(|result| result.code == 0);
        let mut events: Vec<_> =
            results.flat_map(|result| &result.events).filter_map(IbcEvent::read).collect();
        drop(found);
        if events.is_empty() {
            // Some packets are sent by no transaction, but when a block begins or ends.
            for height in self.block_search(query, FOUND).await? {
                events.extend(IbcEvent::all_of(&self.block_results(height).await?));
            }
        }
        Ok(events)
    }
}
