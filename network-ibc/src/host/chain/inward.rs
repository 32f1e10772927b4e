//! From the chain to the host: what happens in its blocks becomes messages with proofs.

use std::{
    collections::HashSet,
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt as _, future::try_join_all};
use ibc_proto::{
    google::protobuf::Any,
    ibc::core::{
        channel::v1::{MsgAcknowledgement, MsgRecvPacket},
        client::v1::{Height as RawHeight, MsgUpdateClient},
    },
    ibc::lightclients::tendermint::v1::Header,
};
use prost::{Message as _, Name as _};
use tendermint_proto::v0_38::types::ValidatorSet;
use tokio::{
    sync::{mpsc, oneshot},
    time,
};

use super::{
    FIRST, LONGEST, Learnt, Relayer, late::Late, missed::Forgotten, settle::Received, sweep::Sweep,
};
use crate::{
    chain::{Heard, IbcEvent, RpcError, Step},
    engine::{Channel, ChannelState, Connection, ConnectionState, Message, Packet},
    height::Height,
    host::{
        datagram::{channel_message, connection_message},
        inbox::Command,
        wire::{Batch, Code},
    },
    identifier::{ChannelId, ConnectionId, PortId},
    path,
};

/// How many proofs are asked for at once.
const AT_ONCE: usize = 16;

/// After how many blocks it is stored that they were seen, if nothing happened in them.
const SEEN: u64 = 1_000;

/// How often the host's client is shown a header at least, if nothing happens.
const REFRESH: Duration = Duration::from_secs(3_600);
/// How often it is in the time after which it would believe none.
const REFRESHES: u32 = 4;

/// How often the next header is asked for.
const POLL: Duration = Duration::from_millis(20);

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
        let (mut wait, mut after) = (FIRST, height);
        while !news.is_empty() {
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

    /// Gives messages to the host, behind the header of the block that their proofs are checked
    /// with. Gives whether that could be: it cannot if the node has forgotten that block meanwhile, or
    /// has only said that there is one.
    ///
    /// A client takes no header if less than a third of those who have signed it are validators of
    /// the block that it knows. It is moved there by halves then.
    pub(super) async fn deliver(&self, messages: &[Message], height: u64) -> bool {
        let messages: Vec<Any> = messages.iter().map(Message::write).collect();
        // How far it is moved at most by one header.
        let mut step = u64::MAX;
        loop {
            let chain = self.chain.id.clone();
            let asked = self.shared.ask(|reply| Command::Knows { chain, reply }).await;
            let Ok(Some(known)) = asked else { return true };
            let trusted = Height::new(known.revision, known.height);
            let mut batch = Batch::default();
            let mut learnt = Learnt::default();
            let before = self.validators().clone();
            let next = height.min(trusted.number.saturating_add(step));
            if trusted.number < next {
                let header = if next == height {
                    let Some(header) = self.header(height, trusted).await else { return false };
                    header
                } else {
                    let header = self.chain.rpc.header(next, trusted, before.as_ref()).await;
                    let Ok(header) = header else {
                        // Forgotten, maybe: the other reasons why the last one is not taken may
                        // pass.
                        time::sleep(LONGEST).await;
                        step = u64::MAX;
                        continue;
                    };
                    header
                };
                let validators = self.next_validators(&header).await;
                learnt.validators = validators.map(|set| set.encode_to_vec().into());
                let header = Any { type_url: Header::type_url(), value: header.encode_to_vec() };
                batch.messages.push(
                    Message::UpdateClient(MsgUpdateClient {
                        client_id: self.ours.clone(),
                        client_message: Some(header),
                        signer: String::new(),
                    })
                    .write(),
                );
            }
            if next == height {
                batch.messages.extend(messages.iter().cloned());
            }
            let chain = self.chain.id.clone();
            // In one block: a client is of no use without those who go on from where it is.
            let (reply, delivered) = oneshot::channel();
            let deliver = Command::Deliver { chain: chain.clone(), batch, reply };
            let set = learnt.validators.is_some().then(|| {
                let reply = oneshot::channel().0;
                Command::SetChain { chain, learnt, reply }
            });
            self.shared.inbox.push_all([deliver].into_iter().chain(set));
            let Ok(outcomes) = delivered.await else { return true };
            let again = outcomes.outcomes.iter().find(|outcome| outcome.code() == Code::Again);
            if let Some(again) = again {
                // The client is where it was, and goes on from those.
                let validators = before.as_ref().map(|set| set.encode_to_vec().into());
                *self.validators() = before;
                let learnt = Learnt { validators, ..Learnt::default() };
                let (chain, reply) = (self.chain.id.clone(), oneshot::channel().0);
                self.shared.inbox.push(Command::SetChain { chain, learnt, reply });
                step = next.saturating_sub(trusted.number) / 2;
                if step > 0 {
                    tracing::debug!(
                        chain = self.chain.id,
                        text = again.text,
                        step,
                        "a header is not believed"
                    );
                    continue;
                }
                step = u64::MAX;
                tracing::warn!(
                    chain = self.chain.id,
                    text = again.text,
                    "a header is not believed"
                );
                time::sleep(LONGEST).await;
                continue;
            }
            if next < height {
                step = u64::MAX;
                continue;
            }
            for outcome in outcomes.outcomes {
                if outcome.code() == Code::Refused {
                    tracing::debug!(chain = self.chain.id, text = outcome.text, "the host refuses");
                }
            }
            return true;
        }
    }

    /// The header of a block, which may be the next one that the chain makes. `None` if the node
    /// has forgotten it, or never had it.
    async fn header(&self, height: u64, trusted: Height) -> Option<Header> {
        let mut wait = POLL;
        let mut told = false;
        loop {
            let kept = self.validators().clone();
            match self.chain.rpc.header(height, trusted, kept.as_ref()).await {
                Ok(header) => return Some(header),
                Err(error) if error.is_forgotten() => {
                    let status = self.chain.rpc.status().await;
                    if status.is_ok_and(|status| height < status.earliest) {
                        return None;
                    }
                    tracing::error!(
                        chain = self.chain.id, %error,
                        "connect by a node that keeps blocks for as long as the host was away"
                    );
                    time::sleep(LONGEST).await;
                }
                Err(error) => {
                    tracing::trace!(chain = self.chain.id, %error, "no header yet");
                    time::sleep(wait).await;
                    // A block may take its time, and a node that is away as well.
                    wait = Duration::from_secs(1).min(wait + POLL / 2);
                    if wait == Duration::from_secs(1)
                        && let Ok(status) = self.chain.rpc.status().await
                        && status.height.saturating_add(1) < height
                    {
                        tracing::warn!(
                            chain = self.chain.id,
                            height,
                            latest = status.height,
                            "the node has spoken of a block that it does not have"
                        );
                        return None;
                    }
                    if wait == Duration::from_secs(1) && !std::mem::replace(&mut told, true) {
                        let (chain, trusted) = (&self.chain.id, trusted.number);
                        tracing::warn!(
                            chain, height, trusted, %error,
                            "there is no header of a block yet: if the node has forgotten it, or \
                             the validators of the trusted one, connect by one that keeps more"
                        );
                    }
                }
            }
        }
    }

    fn validators(&self) -> MutexGuard<'_, Option<ValidatorSet>> {
        self.validators.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who validates the block after that of a header, if those are others than before. They are
    /// kept: the node may have forgotten them when the next header is to be made.
    async fn next_validators(&self, header: &Header) -> Option<ValidatorSet> {
        let known = self.validators().clone();
        match self.chain.rpc.next_validators(header, known.as_ref()).await {
            Ok(Some(next)) => {
                self.validators().replace(next.clone());
                Some(next)
            }
            Ok(None) => None,
            Err(error) => {
                tracing::debug!(chain = self.chain.id, %error, "the next validators are not known");
                None
            }
        }
    }
}
