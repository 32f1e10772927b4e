//! From the chain to the host: what happens in its blocks becomes messages with proofs.

use std::{collections::HashSet, time::Duration};

use futures_util::{FutureExt as _, future::try_join_all};
use ibc_proto::ibc::core::{
    channel::v1::{MsgAcknowledgement, MsgRecvPacket},
    client::v1::Height as RawHeight,
};
use tokio::{sync::mpsc, time};

use super::{
    AT_ONCE, FIRST, LONGEST, Learnt, Relayer, late::Late, missed::Forgotten, settle::Received,
    sweep::Sweep,
};
use crate::{
    chain::{Heard, IbcEvent, RpcError, Step},
    engine::{Channel, ChannelState, Connection, ConnectionState, Message, Packet},
    host::{
        datagram::{channel_message, connection_message},
        inbox::Command,
    },
    identifier::{ChannelId, ConnectionId, PortId},
    path,
};

/// How many proofs are held at once, for messages that the host takes together.
const TOGETHER: usize = 64;

/// After how many blocks it is stored that they were seen, if nothing happened in them.
const SEEN: u64 = 1_000;

/// How often the host's client is shown a header at least, if nothing happens.
const REFRESH: Duration = Duration::from_secs(3_600);
/// How often it is in the time after which it would believe none.
const REFRESHES: u32 = 4;

/// The chain's ends of what it has with this host.
pub(super) struct Ends {
    connections: HashSet<ConnectionId>,
    channels: HashSet<(PortId, ChannelId)>,
}

/// Something that the host is to be told, with a proof.
#[derive(Clone, Debug)]
pub(super) enum News {
    Connection(ConnectionId),
    Channel(PortId, ChannelId),
    Packet(Packet),
    Acknowledgement(Packet, bytes::Bytes),
}

impl Ends {
    /// Takes note of what news are of.
    fn add(&mut self, news: &[News]) {
        for news in news {
            match news {
                News::Connection(connection) => drop(self.connections.insert(connection.clone())),
                News::Channel(port, channel) => {
                    self.channels.insert((port.clone(), channel.clone()));
                }
                News::Packet(_) | News::Acknowledgement(..) => {}
            }
        }
    }

    /// What an event is to this host.
    fn news(&mut self, event: IbcEvent, relayer: &Relayer) -> Option<News> {
        match event {
            IbcEvent::Connection(step, event) if event.client == relayer.theirs => {
                self.connections.insert(event.connection.clone());
                // What was confirmed, this host knows.
                (step != Step::Confirm).then_some(News::Connection(event.connection))
            }
            IbcEvent::Channel(step, event) if self.connections.contains(&event.hop) => {
                self.channels.insert((event.port.clone(), event.channel.clone()));
                (step != Step::Confirm).then_some(News::Channel(event.port, event.channel))
            }
            IbcEvent::ChannelClosed(event) if self.connections.contains(&event.hop) => {
                Some(News::Channel(event.port, event.channel))
            }
            IbcEvent::Sent(packet) => self
                .channels
                .contains(&(packet.source_port.clone(), packet.source_channel.clone()))
                .then_some(News::Packet(packet)),
            IbcEvent::Answered { packet, acknowledgement } => self
                .channels
                .contains(&(packet.destination_port.clone(), packet.destination_channel.clone()))
                .then_some(News::Acknowledgement(packet, acknowledgement)),
            _ => None,
        }
    }
}

impl Relayer {
    /// Tells the host what happens on the chain. `late`: packets that the chain did not receive.
    /// `received`: who is told of packets that the host has received.
    pub(super) async fn inward(
        &self,
        mut late: mpsc::UnboundedReceiver<Late>,
        received: mpsc::UnboundedSender<Packet>,
    ) {
        let chain = self.chain.id.clone();
        let Ok(state) = self.shared.ask(|reply| Command::Chain { chain, reply }).await else {
            return;
        };
        let settled = state.channels.iter().map(|end| (end.there.clone(), end.settled));
        let mut received = Received::new(settled, received);
        let mut ends = Ends {
            connections: state.connections.into_iter().collect(),
            channels: state.channels.into_iter().map(|end| end.there).collect(),
        };
        let mut seen = state.seen.unwrap_or(0);
        let mut events = self.chain.events(seen.saturating_add(1));
        let mut unreceived: Vec<Late> = Vec::new();
        let mut forgotten = Forgotten::new(self, state.forgotten);
        let mut sweep = Sweep::new(self);
        let period = self.chain.trust().trusting_period / REFRESHES;
        // Nothing is shown in no time, and no chain is trusted for as little.
        let mut refresh = time::interval(period.clamp(Duration::from_secs(1), REFRESH));
        loop {
            tokio::select! {
                heard = events.next() => {
                    let (height, news): (_, Vec<_>) = match heard {
                        Heard::Block { height, events } => {
                            let news = events.into_iter();
                            (height, news.filter_map(|event| ends.news(event, self)).collect())
                        }
                        Heard::Missed { from, to } => {
                            tracing::warn!(chain = self.chain.id, from, to, "blocks were missed");
                            let missed = self.all_missed().await;
                            ends.add(&missed.news);
                            forgotten.add(&missed);
                            (to, missed.news)
                        }
                    };
                    let something = !news.is_empty();
                    if something {
                        self.tell(&news, Some(height)).await;
                    }
                    received.push_all(&news);
                    // Further back: what was seen there was none.
                    let further = height.checked_sub(seen);
                    if something
                        || forgotten.is_unsaid()
                        || further.is_none_or(|further| further >= SEEN)
                    {
                        seen = height;
                        self.saw(seen, &mut forgotten).await;
                    }
                    while let Ok(packet) = late.try_recv() {
                        unreceived.push(packet);
                    }
                    if !unreceived.is_empty() {
                        self.prove_late(&mut unreceived, height).await;
                    }
                }
                Some(packet) = late.recv() => unreceived.push(packet),
                missed = forgotten.found() => {
                    ends.add(&missed.news);
                    self.tell(&missed.news, None).await;
                    received.push_all(&missed.news);
                    forgotten.told(missed);
                    if forgotten.is_unsaid() {
                        self.saw(seen, &mut forgotten).await;
                    }
                }
                missed = sweep.found() => {
                    let number = missed.news.len();
                    tracing::warn!(chain = self.chain.id, number, "something was not heard of");
                    self.tell(&missed.news, None).await;
                    received.push_all(&missed.news);
                    forgotten.add(&missed);
                }
                _ = refresh.tick() => {
                    if let Ok(status) = self.chain.rpc.status().await {
                        self.deliver(&[], status.height).await;
                    }
                }
            }
        }
    }

    async fn saw(&self, height: u64, forgotten: &mut Forgotten<'_>) {
        let chain = self.chain.id.clone();
        let is_any = forgotten.said();
        let learnt = Learnt { seen: Some(height), forgotten: Some(is_any), ..Learnt::default() };
        let stored = self.shared.ask(|reply| Command::SetChain { chain, learnt, reply });
        // Ended, if not.
        let _ = stored.await;
    }

    /// After which block the state is to be proved of what was so after this one: the host's client
    /// may be further, and then knows nothing of the heights that it has left out.
    pub(super) async fn provable(&self, height: u64) -> Option<u64> {
        let chain = self.chain.id.clone();
        let known = self.shared.ask(|reply| Command::Knows { chain, reply }).await.ok()??;
        Some(height.max(known.height.saturating_sub(1)))
    }

    /// Tells the host what happened in a block, however long that takes; without one, what is there
    /// on the chain.
    pub(super) async fn tell(&self, news: &[News], height: Option<u64>) {
        for news in news.chunks(TOGETHER) {
            self.tell_together(news, height).await;
        }
    }

    async fn tell_together(&self, news: &[News], height: Option<u64>) {
        let (mut wait, mut after) = (FIRST, height);
        loop {
            if let Some(after) = after {
                let Some(height) = self.provable(after).await else { return };
                match self.messages(news, height).await {
                    Ok(messages) if messages.is_empty() => return,
                    Ok(messages) if self.deliver(&messages, height + 1).await => return,
                    Ok(_) => {}
                    Err(error) => {
                        let chain = &self.chain.id;
                        tracing::debug!(chain, %error, "a proof is not to be had yet");
                    }
                }
                time::sleep(wait).await;
                wait = LONGEST.min(wait * 2);
            }
            // The node may have forgotten the state of that block. What it says now is all that
            // counts: it may have spoken of a block that there is not.
            match self.chain.rpc.status().await {
                Ok(status) => after = Some(status.height.max(height.unwrap_or(0))),
                Err(_) => time::sleep(wait).await,
            }
        }
    }

    async fn messages(&self, news: &[News], height: u64) -> Result<Vec<Message>, RpcError> {
        let mut messages = Vec::new();
        for news in news.chunks(AT_ONCE) {
            let proved = news.iter().map(|news| self.message(news, height).boxed());
            messages.extend(try_join_all(proved).await?.into_iter().flatten());
        }
        Ok(messages)
    }

    /// The message that proves something of the chain's state after a block.
    async fn message(&self, news: &News, height: u64) -> Result<Option<Message>, RpcError> {
        let proof_of = |key: String| async move { self.chain.rpc.prove(&key, Some(height)).await };
        let at = Some(RawHeight::from(self.chain.at(height + 1)));
        let signer = String::new();
        Ok(match news {
            News::Connection(id) => {
                let proved = proof_of(path::connection(id)).await?;
                let Ok(end) = Connection::decode(&proved.value) else {
                    return self.unknown(news);
                };
                if end.state == ConnectionState::Open && end.counterparty.is_none() {
                    return Ok(None);
                }
                connection_message(id, &end, proved.proof, at)
            }
            News::Channel(port, id) => {
                let proved = proof_of(path::channel(port, id)).await?;
                let Ok(end) = Channel::decode(&proved.value) else {
                    return self.unknown(news);
                };
                let hop = self.chain.rpc.connection(&end.hop).await?;
                let Some(hop) = hop.and_then(|hop| hop.counterparty) else { return Ok(None) };
                if end.state == ChannelState::Closed && end.counterparty.is_none() {
                    return Ok(None);
                }
                channel_message(port, id, end, &hop, proved.proof, at)
            }
            News::Packet(packet) => {
                let Packet { source_port, source_channel, sequence, .. } = packet;
                let key = path::commitment(source_port, source_channel, *sequence);
                let proved = proof_of(key).await?;
                // It was done with meanwhile.
                (!proved.value.is_empty()).then(|| {
                    Message::RecvPacket(MsgRecvPacket {
                        packet: Some(packet.raw()),
                        proof_commitment: proved.proof,
                        proof_height: at,
                        signer,
                    })
                })
            }
            News::Acknowledgement(packet, acknowledgement) => {
                let Packet { destination_port, destination_channel, sequence, .. } = packet;
                let key = path::acknowledgement(destination_port, destination_channel, *sequence);
                let proved = proof_of(key).await?;
                (!proved.value.is_empty()).then(|| {
                    Message::Acknowledgement(MsgAcknowledgement {
                        packet: Some(packet.raw()),
                        acknowledgement: acknowledgement.to_vec(),
                        proof_acked: proved.proof,
                        proof_height: at,
                        signer,
                    })
                })
            }
        })
    }

    /// What is not of a form that hosts know.
    fn unknown(&self, news: &News) -> Result<Option<Message>, RpcError> {
        tracing::warn!(chain = self.chain.id, ?news, "the host has no word for this");
        Ok(None)
    }
}
