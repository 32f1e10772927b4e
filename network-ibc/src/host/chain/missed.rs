//! What there is to tell where it is not known what happened: the node has forgotten the blocks.

use std::{future::Future, time::Duration};

use tokio::time;

use super::{ChainState, Relayer, inward::News};
use crate::chain::RpcError;

/// How often what should be there is looked for, and how long is waited in between: a node writes
/// its index a little after its blocks.
const TRIES: u32 = 4;
const WAIT: Duration = Duration::from_millis(500);

async fn patiently<T, F: Future<Output = Result<Option<T>, RpcError>>>(
    find: impl Fn() -> F,
) -> Result<Option<T>, RpcError> {
    for _ in 1..TRIES {
        if let Some(found) = find().await? {
            return Ok(Some(found));
        }
        time::sleep(WAIT).await;
    }
    find().await
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
            for sent in self.chain.rpc.commitments(port, channel).await? {
                let find = || self.chain.rpc.find_sent(port, channel, sent.sequence);
                match patiently(find).await? {
                    Some(packet) => news.push(News::Packet(packet)),
                    None => self.lost("a packet", end, sent.sequence),
                }
            }
            let unacked = &end.unacked;
            for answered in self.chain.rpc.acknowledgements(port, channel, unacked).await? {
                let find = || self.chain.rpc.find_answered(port, channel, answered.sequence);
                match patiently(find).await? {
                    Some((packet, ack)) => news.push(News::Acknowledgement(packet, ack)),
                    None => self.lost("an acknowledgement", end, answered.sequence),
                }
            }
        }
        Ok(news)
    }

    fn lost(&self, what: &str, end: &super::EndState, sequence: u64) {
        let (port, channel) = &end.there;
        tracing::error!(
            chain = self.chain.id, %port, %channel, sequence,
            "the node has forgotten what {what} says: connect by one that has an index of \
             transactions and keeps more"
        );
    }
}
