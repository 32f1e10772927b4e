//! What there is to tell where it is not known what happened: the node has forgotten the blocks.
//!
//! What is there the chain's state tells, but for what packets and acknowledgements say: that takes
//! a node with an index of transactions. What it does not have is looked for again later, and by the
//! next process, which may have been given another node.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::time;

use super::{ChainState, EndState, FIRST, LONGEST, Relayer, inward::News};
use crate::{
    chain::RpcError,
    engine::{ChannelState, Packet},
    host::inbox::Command,
    identifier::{ChannelId, PortId},
};

/// How often what should be there is looked for, and how long is waited in between: a node writes
/// its index a little after its blocks.
const TRIES: u32 = 4;
const WAIT: Duration = Duration::from_millis(500);

/// How long it takes until what was forgotten is looked for again, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(600));

/// The chain's end of a channel.
pub(super) type End = (PortId, ChannelId);

/// What was found of what waits.
#[derive(Debug, Default)]
pub(super) struct Missed {
    /// What there is to tell.
    pub(super) news: Vec<News>,
    /// Where something waits that the node has forgotten.
    forgotten: BTreeSet<End>,
    /// Where it does not, but may have kept back what came after it.
    ordered: BTreeSet<End>,
}

/// What waits at the chain's end of a channel, by sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Waiting {
    /// Packets that the host has not received, or has not answered.
    pub(super) sent: BTreeSet<u64>,
    /// Acknowledgements of packets of the host.
    pub(super) answered: BTreeSet<u64>,
}

impl Missed {
    /// Whether there is nothing.
    pub(super) fn is_none(&self) -> bool {
        self.news.is_empty() && self.forgotten.is_empty()
    }
}

/// Where the node has forgotten something, and the search for it.
pub(super) struct Forgotten<'a> {
    relayer: &'a Relayer,
    ends: BTreeSet<End>,
    /// That there is something is stored.
    stored: bool,
    wait: Duration,
    search: Option<BoxFuture<'a, Missed>>,
}

impl<'a> Forgotten<'a> {
    /// `stored`: an earlier process has not found something. Where, is found out.
    pub(super) fn new(relayer: &'a Relayer, stored: bool) -> Self {
        let search = stored.then(|| relayer.all_missed().boxed());
        Self { relayer, ends: BTreeSet::new(), stored, wait: AGAIN.0, search }
    }

    /// Whether it is to be stored that there is something now, or nothing any more.
    pub(super) fn is_unsaid(&self) -> bool {
        self.stored == self.search.is_none()
    }

    /// Whether there is anything, which is about to be stored.
    pub(super) fn said(&mut self) -> bool {
        self.stored = self.search.is_some();
        self.stored
    }

    /// Takes note of what was not found just now.
    pub(super) fn add(&mut self, missed: &Missed) {
        if missed.forgotten.is_subset(&self.ends) {
            return;
        }
        self.ends.extend(missed.forgotten.iter().cloned());
        self.wait = AGAIN.0;
        self.search_later();
    }

    /// Waits for what is found later. Never ends where nothing is looked for.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(super) async fn found(&mut self) -> Missed {
        match &mut self.search {
            Some(search) => search.await,
            None => std::future::pending().await,
        }
    }

    /// Goes on with what was found, once that was told.
    pub(super) fn told(&mut self, missed: Missed) {
        let all = missed.forgotten.is_empty();
        self.wait = if all { AGAIN.0 } else { AGAIN.1.min(self.wait * 2) };
        self.ends = missed.forgotten;
        // What followed on it was refused, and waits as well.
        self.ends.extend(missed.ordered);
        self.search_later();
    }

    fn search_later(&mut self) {
        let (relayer, ends, wait) = (self.relayer, self.ends.clone(), self.wait);
        self.search = (!ends.is_empty()).then(|| relayer.search_again(ends, wait).boxed());
    }
}

/// What was found of what was looked for, by sequence, and what was not.
struct Found<T> {
    found: BTreeMap<u64, T>,
    lost: Vec<u64>,
}

async fn patiently<T, F: Future<Output = Result<Vec<T>, RpcError>>>(
    tries: u32,
    sequences: impl Iterator<Item = u64>,
    sequence_of: impl Fn(&T) -> u64,
    find: impl Fn(Vec<u64>) -> F,
) -> Result<Found<T>, RpcError> {
    let (mut found, mut lost) = (BTreeMap::new(), sequences.collect::<Vec<_>>());
    for tried in 0..tries {
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
    /// What waits on the chain, however long it takes to find out.
    pub(super) async fn all_missed(&self) -> Missed {
        let mut wait = FIRST;
        loop {
            let chain = self.chain.id.clone();
            let asked = self.shared.ask(|reply| Command::Chain { chain, reply }).await;
            let Ok(state) = asked else { return Missed::default() };
            match self.missed(&state).await {
                Ok(missed) => return missed,
                Err(error) => {
                    tracing::warn!(chain = self.chain.id, %error, "it is not known what was missed");
                }
            }
            time::sleep(wait).await;
            wait = LONGEST.min(wait * 2);
        }
    }

    /// Looks again for what the node had forgotten at some ends, after a while.
    async fn search_again(&self, ends: BTreeSet<End>, wait: Duration) -> Missed {
        loop {
            time::sleep(wait).await;
            let chain = self.chain.id.clone();
            let asked = self.shared.ask(|reply| Command::Chain { chain, reply }).await;
            let Ok(state) = asked else { return Missed::default() };
            match self.missed_at(&state, &ends).await {
                Ok(missed) => return missed,
                Err(error) => {
                    tracing::warn!(chain = self.chain.id, %error, "nothing can be looked for");
                }
            }
        }
    }

    async fn missed_at(
        &self,
        state: &ChainState,
        ends: &BTreeSet<End>,
    ) -> Result<Missed, RpcError> {
        let mut missed = Missed::default();
        for end in state.channels.iter().filter(|end| ends.contains(&end.there)) {
            let waiting = self.waiting_at(end).await?;
            self.packets_missed(end, waiting, 1, &mut missed).await?;
        }
        Ok(missed)
    }

    /// Finds out what waits on the chain for this host: the state of its ends, whoever has begun
    /// them, packets that the chain has sent and acknowledgements of those that the host has sent.
    pub(super) async fn missed(&self, state: &ChainState) -> Result<Missed, RpcError> {
        let mut missed = Missed::default();
        for connection in self.chain.rpc.connections_of(&self.theirs).await? {
            let channels = self.chain.rpc.channels_over(&connection).await?;
            missed.news.push(News::Connection(connection));
            for (port, channel, end) in channels {
                let there = (port, channel);
                // Of what has begun, the host may know nothing.
                let begun = matches!(end.state, ChannelState::Init | ChannelState::TryOpen);
                if begun || state.channels.iter().any(|end| end.there == there) {
                    missed.news.push(News::Channel(there.0, there.1));
                }
            }
        }
        for end in &state.channels {
            let waiting = self.waiting_at(end).await?;
            self.packets_missed(end, waiting, TRIES, &mut missed).await?;
        }
        Ok(missed)
    }

    /// What waits at one end of a channel.
    pub(super) async fn waiting_at(&self, end: &EndState) -> Result<Waiting, RpcError> {
        let ((port, channel), rpc) = (&end.there, &self.chain.rpc);
        let sent = rpc.commitments(port, channel).await?.into_iter().map(|state| state.sequence);
        let answered = rpc.acknowledgements(port, channel, &end.unacked).await?.into_iter();
        Ok(Waiting {
            sent: sent.filter(|sequence| end.due.is_none_or(|due| due <= *sequence)).collect(),
            answered: answered.map(|state| state.sequence).collect(),
        })
    }

    /// What is said by what waits at one end of a channel.
    pub(super) async fn packets_missed(
        &self,
        end: &EndState,
        waiting: Waiting,
        tries: u32,
        missed: &mut Missed,
    ) -> Result<(), RpcError> {
        let ((port, channel), rpc) = (&end.there, &self.chain.rpc);
        let sent = patiently(
            tries,
            waiting.sent.into_iter(),
            |packet: &Packet| packet.sequence,
            |wanted| async move { rpc.sent_packets(port, channel, &wanted).await },
        );
        let sent = sent.await?;
        self.lost("packets say", end, &sent.lost);

        let answered = patiently(
            tries,
            waiting.answered.into_iter(),
            |(packet, _): &(Packet, Bytes)| packet.sequence,
            |wanted| async move { rpc.answered_packets(port, channel, &wanted).await },
        );
        let answered = answered.await?;
        self.lost("acknowledgements say", end, &answered.lost);

        let found = sent.found.len() + answered.found.len();
        if !(sent.lost.is_empty() && answered.lost.is_empty()) {
            missed.forgotten.insert(end.there.clone());
        } else if end.due.is_some() && found > 0 {
            missed.ordered.insert(end.there.clone());
        }
        missed.news.extend(sent.found.into_values().map(News::Packet));
        let acks = answered.found.into_values();
        missed.news.extend(acks.map(|(packet, ack)| News::Acknowledgement(packet, ack)));
        Ok(())
    }

    fn lost(&self, what: &str, end: &EndState, sequences: &[u64]) {
        let [first, ..] = sequences else { return };
        let ((port, channel), number) = (&end.there, sequences.len());
        tracing::error!(
            chain = self.chain.id, %port, %channel, first, number,
            "the node has forgotten what {what}, and is asked again: connect by one that has an \
             index of transactions and keeps more"
        );
    }
}
