//! What there is to tell where it is not known what happened: the node has forgotten the blocks.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use tokio::time;

use super::{ChainState, Relayer, inward::News};
use crate::{chain::RpcError, engine::Packet};

/// How often what should be there is looked for, and how long is waited in between: a node writes
/// its index a little after its blocks.
const TRIES: u32 = 4;
const WAIT: Duration = Duration::from_millis(500);

/// What was found of what was looked for, by sequence, and what was not.
struct Found<T> {
    found: BTreeMap<u64, T>,
    lost: Vec<u64>,
}

async fn patiently<T, F: Future<Output = Result<Vec<T>, RpcError>>>(
    sequences: impl Iterator<Item = u64>,
    sequence_of: impl Fn(&T) -> u64,
    find: impl Fn(Vec<u64>) -> F,
) -> Result<Found<T>, RpcError> {
    let (mut found, mut lost) = (BTreeMap::new(), sequences.collect::<Vec<_>>());
    for tried in 0..TRIES {
        if lost.is_empty() {
            break;
        }
        if tried > 0 {
            time::sleep(WAIT).await;
        }
        let some = find(lost.clone()).await?;
        found.extend(some.into_iter().map(|one| (sequence_of(&one), one)));
        lost.retain(|sequence| !found.contains_key(sequence));
    }
    Ok(Found { found, lost })
}

impl Relayer {
    /// Finds out what waits on the chain for this host: the state of its ends, packets that the
    /// chain has sent and acknowledgements of those that the host has sent. What they say is only in
    /// transactions, so it takes a node with an index of them.
    pub(super) async fn missed(&self, state: &ChainState) -> Result<Vec<News>, RpcError> {
        let mut news: Vec<_> = state.connections.iter().cloned().map(News::Connection).collect();
        for end in &state.channels {
            let (port, channel) = &end.there;
            news.push(News::Channel(port.clone(), channel.clone()));
            let rpc = &self.chain.rpc;
            let sent = rpc.commitments(port, channel).await?.into_iter();
            let sent = patiently(
                sent.map(|state| state.sequence),
                |packet: &Packet| packet.sequence,
                |wanted| async move { rpc.sent_packets(port, channel, &wanted).await },
            );
            let sent = sent.await?;
            news.extend(sent.found.into_values().map(News::Packet));
            self.lost("a packet", end, &sent.lost);

            let answered = rpc.acknowledgements(port, channel, &end.unacked).await?.into_iter();
            let answered = patiently(
                answered.map(|state| state.sequence),
                |(packet, _): &(Packet, Bytes)| packet.sequence,
                |wanted| async move { rpc.answered_packets(port, channel, &wanted).await },
            );
            let answered = answered.await?;
            let acks = answered.found.into_values();
            news.extend(acks.map(|(packet, ack)| News::Acknowledgement(packet, ack)));
            self.lost("an acknowledgement", end, &answered.lost);
        }
        Ok(news)
    }

    fn lost(&self, what: &str, end: &super::EndState, sequences: &[u64]) {
        let (port, channel) = &end.there;
        for sequence in sequences {
            tracing::error!(
                chain = self.chain.id, %port, %channel, sequence,
                "the node has forgotten what {what} says: connect by one that has an index of \
                 transactions and keeps more"
            );
        }
    }
}
