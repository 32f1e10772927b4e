//! The task that is the host: it alone has the ledger.
//!
//! A turn takes all commands that came, lets the engine handle them, makes one block of what they
//! wrote, and only then tells anybody: what was not stored has not happened.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::SystemTime,
};

use bytes::Bytes;
use ibc_proto::{
    google::protobuf::Any,
    ibc::core::{
        channel::v1::{self as raw, MsgChannelCloseInit, MsgChannelOpenInit},
        client::v1::MsgCreateClient,
        commitment::v1::MerklePrefix,
        connection::v1::{Counterparty, MsgConnectionOpenInit},
    },
};
use tokio::{
    sync::oneshot,
    task::{AbortHandle, spawn_blocking},
};

use super::{
    Hop, Hops,
    channel::Live,
    datagram::{self, Kind},
    error::HostError,
    face::Face,
    inbox::{Command, Inbox, Opening},
    module::{ModuleOpening, Modules},
    peer::{Peer, Relayed},
    wire::{Batch, Client, Code, Known, Outcome, Outcomes},
};
use crate::{
    ClientError, EngineError,
    client::SOLO_MACHINE,
    engine::{
        Channel, ChannelAttempt, ChannelState, Connection, ConnectionState, Engine, Event, Message,
        PREFIX, Packet, Stage, Store as _,
    },
    height::{At, Height, Timestamp},
    identifier::{ChannelId, ClientId, ConnectionId, PortId},
    ledger::{Ledger, Trust},
    path,
};

/// A channel, and how it is found.
type ChannelEnd = (PortId, ChannelId, Channel);

/// Tells who waits for a hop.
type HopReply = oneshot::Sender<Result<ConnectionId, HostError>>;

pub(super) struct Actor {
    pub(super) ledger: Ledger,
    pub(super) engine: Engine,
    pub(super) inbox: Arc<Inbox>,
    pub(super) hops: Arc<Hops>,
    pub(super) ports: Arc<super::backend::Ports>,
    pub(super) trust: Trust,
    pub(super) face: Face,
    pub(super) channels: HashMap<ChannelId, Live>,
    /// The other hosts, by the ids of their chains.
    pub(super) peers: HashMap<String, Peer>,
    /// Channels that wait for their hops to be open.
    pub(super) waiting_open: Vec<Opening>,
    /// Who is being asked about channels that the other side has begun.
    pub(super) asked: HashMap<ChannelId, AbortHandle>,
    /// Who waits for a hop to a chain.
    pub(super) waiting: Vec<(String, ConnectionId, HopReply)>,
    pub(super) modules: Modules,
    pub(super) module_openings: HashMap<ChannelId, ModuleOpening>,
    /// How many packets of a channel were done with since that was last said.
    pub(super) done: HashMap<ChannelId, u32>,
    /// What is told once the block is made.
    pub(super) after: Vec<Box<dyn FnOnce() + Send>>,
}

impl Drop for Actor {
    /// However the host ends, nobody waits for it any more.
    fn drop(&mut self) {
        self.inbox.close();
    }
}

/// The time now, as headers have it.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// How many other hosts a host knows: each costs it a client, and anybody who may dial can make
/// one.
const MAX_HOSTS: usize = 1_024;

/// Of how many packets at once the other side is told that they are done with.
const SETTLED_TOGETHER: u32 = 1_024;

/// Private keys of the host.
mod key {
    use crate::identifier::{ClientId, ConnectionId};

    /// Which client this host has of a chain.
    pub(super) fn client_of(chain: &str) -> Vec<u8> {
        format!("host/clients/{chain}").into_bytes()
    }

    /// The key of the host that a client was made of.
    pub(super) fn key_of(chain: &str) -> Vec<u8> {
        format!("host/keys/{chain}").into_bytes()
    }

    /// Which chain a client is of.
    pub(super) fn chain_of(client: &ClientId) -> Vec<u8> {
        format!("host/chains/{client}").into_bytes()
    }

    /// Which connection of this host is the one that a counterparty began.
    pub(super) fn tried(client: &str, connection: &str) -> Vec<u8> {
        format!("host/tried/{client}/{connection}").into_bytes()
    }

    /// The same, for a channel over a hop.
    pub(super) fn tried_channel(hop: &str, port: &str, channel: &str) -> Vec<u8> {
        format!("host/tried/{hop}/{port}/{channel}").into_bytes()
    }

    pub(super) const KEYS: &[u8] = b"host/keys/";

    pub(super) const HOPS: &[u8] = b"host/hops/";

    /// A connection of this host; its value is the chain at the other end.
    pub(super) fn hop(connection: &ConnectionId) -> Vec<u8> {
        [HOPS, connection.as_str().as_bytes()].concat()
    }

    /// The client that a chain has of this host.
    #[cfg(feature = "chain")]
    pub(super) fn theirs(chain: &str) -> Vec<u8> {
        format!("host/theirs/{chain}").into_bytes()
    }

    /// Up to which height everything that happened on a chain was dealt with.
    #[cfg(feature = "chain")]
    pub(super) fn seen(chain: &str) -> Vec<u8> {
        format!("host/seen/{chain}").into_bytes()
    }

    /// That the chain has sent something that its node had forgotten.
    #[cfg(feature = "chain")]
    pub(super) fn forgotten(chain: &str) -> Vec<u8> {
        format!("host/forgotten/{chain}").into_bytes()
    }

    /// Who validates the block after the last one that this host knows of a chain.
    #[cfg(feature = "chain")]
    pub(super) fn validators(chain: &str) -> Vec<u8> {
        format!("host/validators/{chain}").into_bytes()
    }

    pub(super) const OUT: &[u8] = b"host/out/";

    /// What is to be relayed to a chain.
    pub(super) fn out(chain: &str, number: u64) -> Vec<u8> {
        [OUT, chain.as_bytes(), b"/", &number.to_be_bytes()].concat()
    }

    /// The chain and the number of such a key.
    pub(super) fn read_out(key: &[u8]) -> Option<(&str, u64)> {
        let (chain, number) = key.strip_prefix(OUT)?.split_last_chunk::<8>()?;
        let chain = std::str::from_utf8(chain.strip_suffix(b"/")?).ok()?;
        Some((chain, u64::from_be_bytes(*number)))
    }
}

impl Actor {
    pub(super) async fn run(mut self) {
        self.resume();
        // It changes hands while a block is written.
        let mut actor = Box::new(self);
        let mut commands = Vec::new();
        loop {
            let due = actor.ledger.is_dirty() || actor.ledger.latest().is_none();
            if due {
                // If the ledger has failed, whoever waits learns it by the end of this task.
                let Some(stored) = actor.store().await else { return };
                actor = stored;
            }
            if actor.tell().is_err() {
                return;
            }
            let inbox = actor.inbox.clone();
            inbox.take(&mut commands).await;
            for command in commands.drain(..) {
                match command {
                    Command::Stop => return,
                    Command::End { ended } => {
                        if !actor.ledger.is_unsaved() {
                            drop(actor);
                        } else if let Some(mut stored) = actor.store().await {
                            stored.after.drain(..).for_each(|tell| tell());
                        }
                        // The ledger is closed.
                        drop(ended);
                        return;
                    }
                    command => actor.handle(command),
                }
            }
        }
    }

    /// Makes a block of what has changed, beside the other tasks of the runtime if that waits for a
    /// disk. `None`: it has failed, and the host ends.
    async fn store(self: Box<Self>) -> Option<Box<Self>> {
        let commit = |mut actor: Box<Self>| match actor.ledger.commit(now()) {
            Ok(_) => Some(actor),
            Err(error) => {
                tracing::error!(%error, "the host stops");
                None
            }
        };
        if self.ledger.waits() {
            // That fails where the runtime ends.
            spawn_blocking(move || commit(self)).await.ok().flatten()
        } else {
            commit(self)
        }
    }

    /// Tells who waits what is stored, and relays.
    fn tell(&mut self) -> Result<(), HostError> {
        self.after.drain(..).for_each(|tell| tell());
        let Self { ledger, peers, .. } = self;
        let mut gone = Vec::new();
        for peer in peers.values_mut() {
            peer.relay(ledger, &mut gone)?;
        }
        for (chain, number) in gone {
            self.relayed_out(&chain, number);
        }
        Ok(())
    }

    /// Takes up what an earlier process has left.
    fn resume(&mut self) {
        let mut from = key::HOPS.to_vec();
        while let Some((found, chain)) = self.ledger.private_next(key::HOPS, &from) {
            let name =
                found.strip_prefix(key::HOPS).and_then(|name| std::str::from_utf8(name).ok());
            if let (Some(name), Ok(chain)) = (name, std::str::from_utf8(&chain)) {
                let connection = ConnectionId::known(name);
                let end = self.connection(&connection);
                self.hops.set(Hop::new(connection, chain.to_owned(), end.as_ref()));
            }
            from = found;
            from.push(0);
        }
        let mut from = key::OUT.to_vec();
        while let Some((found, datagram)) = self.ledger.private_next(key::OUT, &from) {
            if let (Some((chain, number)), Some(kind)) =
                (key::read_out(&found), Kind::load(&datagram))
            {
                let chain = chain.to_owned();
                self.peer(&chain).push(number, kind);
            }
            from = found;
            from.push(0);
        }
        let (of_modules, left): (Vec<_>, Vec<_>) =
            self.ledger.channels().into_iter().partition(|(port, ..)| self.modules.has(port));
        self.forget_tried(&of_modules);
        self.close_left(left);
        for (port, id, channel) in of_modules {
            if channel.state == ChannelState::Init {
                self.resume_module(port, id, channel.hop);
            }
        }
    }

    /// Forgets which channels other sides have begun, but for those of modules. Whoever was asked
    /// about them is gone; who still wants one asks again.
    fn forget_tried(&mut self, of_modules: &[ChannelEnd]) {
        let kept: HashSet<_> = of_modules.iter().map(|(_, id, _)| id.as_str().as_bytes()).collect();
        let hops: Vec<_> = self.hops.lock().keys().cloned().collect();
        for hop in hops {
            let prefix = key::tried_channel(hop.as_str(), "", "");
            let prefix = &prefix[..prefix.len() - 1];
            let mut from = prefix.to_vec();
            while let Some((found, id)) = self.ledger.private_next(prefix, &from) {
                from = [&found[..], &[0]].concat();
                if !kept.contains(&id[..]) {
                    self.write(found, None);
                }
            }
        }
    }

    /// Closes the channels of a process that ended: whoever handled their records is gone.
    fn close_left(&mut self, left: Vec<ChannelEnd>) {
        for (port, id, channel) in left {
            let message = MsgChannelCloseInit {
                port_id: port.to_string(),
                channel_id: id.to_string(),
                signer: String::new(),
            };
            match channel.state {
                ChannelState::Open | ChannelState::TryOpen => {
                    if let Err(error) = self.deliver(Message::ChannelCloseInit(message)) {
                        tracing::warn!(%id, %error, "a channel of an earlier process stays open");
                    }
                }
                ChannelState::Init | ChannelState::Closed => {}
            }
        }
    }

    /// Whether a hop leads to a chain: what another host says without proof holds for no others.
    pub(super) fn leads_to(&self, hop: &ConnectionId, chain: &str) -> bool {
        self.hops.chain(hop).is_some_and(|other| other == chain)
    }

    pub(super) fn at(&self) -> At {
        self.ledger.at(now())
    }

    pub(super) fn connection(&self, id: &ConnectionId) -> Option<Connection> {
        Connection::decode(&self.ledger.get(&path::connection(id))?).ok()
    }

    fn peer(&mut self, chain: &str) -> &mut Peer {
        let Self { peers, face, .. } = self;
        let new = || Peer::new(chain.to_owned(), face.clone());
        peers.entry(chain.to_owned()).or_insert_with(new)
    }

    /// Lets the engine do something, and makes what it writes a part of the next block.
    pub(super) fn with<T>(
        &mut self,
        act: impl FnOnce(&Engine, &mut Stage<'_>, At) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let at = self.at();
        let mut stage = Stage::new(&self.ledger);
        let outcome = act(&self.engine, &mut stage, at)?;
        let writes = stage.into_writes();
        self.ledger.apply(writes);
        Ok(outcome)
    }

    pub(super) fn write(&mut self, key: Vec<u8>, value: Option<Bytes>) {
        self.ledger.set_private(key, value);
    }

    fn deliver(&mut self, message: Message) -> Result<Event, EngineError> {
        let confirmed = matches!(message, Message::ConnectionOpenConfirm(_));
        let event = self.with(|engine, stage, at| engine.deliver(stage, message, at))?;
        self.happened(&event, confirmed);
        Ok(event)
    }

    /// Has something relayed to the other end of a hop.
    pub(super) fn send_over(&mut self, hop: &ConnectionId, kind: Kind) {
        let Some(chain) = self.hops.chain(hop) else { return };
        self.send_to(&chain, kind);
    }

    /// Asks another host again for the channels that this side has begun: it may have been
    /// restarted before it decided, or what it said may be lost.
    fn dial_again(&mut self, chain: &str) {
        let of_modules =
            self.module_openings.iter().filter(|(_, opening)| self.leads_to(&opening.hop, chain));
        let of_modules = of_modules.map(|(id, opening)| (opening.port.clone(), id.clone()));
        for (port, id) in self.dialing(chain).into_iter().chain(of_modules.collect::<Vec<_>>()) {
            self.peer(chain).push_new(Kind::channel(&port, &id));
        }
    }

    fn send_to(&mut self, chain: &str, kind: Kind) -> u64 {
        let number = self.peer(chain).next_number();
        self.write(key::out(chain, number), Some(kind.store().into()));
        self.peer(chain).push(number, kind);
        number
    }

    /// What follows from what the engine has done, whoever asked for it.
    fn happened(&mut self, event: &Event, confirmed: bool) {
        match event {
            Event::ConnectionBegun { connection } | Event::ConnectionOpen { connection } => {
                let Some(end) = self.connection(connection) else { return };
                let open = end.state == ConnectionState::Open;
                let chain = self.ledger.private(&key::chain_of(&end.client));
                let Some(chain) = chain.and_then(|chain| String::from_utf8(chain.to_vec()).ok())
                else {
                    return;
                };
                self.write(key::hop(connection), Some(Bytes::copy_from_slice(chain.as_bytes())));
                self.hops.set(Hop::new(connection.clone(), chain.clone(), Some(&end)));
                // Who was confirmed to has nothing to say any more.
                if !confirmed {
                    self.send_to(&chain, Kind::Connection(connection.to_string()));
                }
                if open {
                    self.hop_is_open(connection);
                }
            }
            Event::ChannelClosed { port, channel } => {
                self.settle(port, channel);
                if let Ok(end) = self.with(|engine, stage, _| engine.channel(stage, port, channel))
                {
                    self.send_over(&end.hop, Kind::channel(port, channel));
                }
            }
            _ => {}
        }
    }

    fn hop_is_open(&mut self, hop: &ConnectionId) {
        let (done, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<Vec<_>, _>(|(_, wanted, _)| wanted == hop);
        self.waiting = waiting;
        for opening in std::mem::take(&mut self.waiting_open) {
            self.open(opening);
        }
        for (_, hop, reply) in done {
            self.after.push(Box::new(move || drop(reply.send(Ok(hop)))));
        }
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Open(opening) => self.open(opening),
            Command::OpenForModule(wanted) => self.open_for_module(wanted),
            Command::CallModule { port, act } => self.call_module(&port, act),
            Command::Withdraw { number } => self.withdraw(number),
            Command::Decided { attempt, decision } => self.decided(attempt, decision),
            Command::Send { channel, id, payload, timeout } => {
                self.send(&channel, id, payload, timeout);
            }
            Command::Answer { channel, sequence, answer } => {
                self.answer(&channel, sequence, answer);
            }
            Command::Close { channel, reason } => self.close(&channel, reason),
            Command::LeaveHandlers { channel } => self.leave_handlers(&channel),
            Command::CloseNow { channel } => self.close_now(&channel),
            Command::PeerUp { chain, peer, batches, known } => {
                self.peer(&chain).up(peer, batches, known);
                self.dial_again(&chain);
            }
            Command::PeerDown { chain, peer } => self.peer(&chain).down(peer),
            Command::GoOn { chain, peer } => self.peer(&chain).go_on(peer),
            Command::Knows { chain, reply } => {
                let _ = reply.send(self.knows(&chain));
            }
            Command::States { chain, reply } => {
                let states = self.states(&chain);
                let _ = reply.send(states);
            }
            Command::IsKey { chain, key, reply } => {
                let _ = reply.send(self.is_key(&chain, &key));
            }
            Command::MakeClient { chain, key, states, reply } => {
                let made = self.make_client(&chain, &key, states);
                self.after.push(Box::new(move || drop(reply.send(made))));
            }
            Command::MakeHop { chain, other, reply } => self.make_hop(chain, &other, reply),
            Command::Deliver { chain, batch, reply } => {
                let outcomes = self.take_batch(&chain, batch);
                self.after.push(Box::new(move || drop(reply.send(outcomes))));
            }
            Command::Relayed { chain, peer, outcomes } => self.relayed(&chain, peer, outcomes),
            #[cfg(feature = "chain")]
            Command::Chain { chain, reply } => drop(reply.send(self.chain_state(&chain))),
            #[cfg(feature = "chain")]
            Command::SetChain { chain, learnt, reply } => {
                self.set_chain(&chain, learnt);
                self.after.push(Box::new(move || {
                    let _ = reply.send(());
                }));
            }
            // The task has ended by then.
            Command::Stop | Command::End { .. } => {}
        }
    }

    /// The client that this host has of a chain.
    fn client_of(&self, chain: &str) -> Option<ClientId> {
        let client = self.ledger.private(&key::client_of(chain))?;
        ClientId::new(std::str::from_utf8(&client).ok()?).ok()
    }

    fn knows(&mut self, chain: &str) -> Option<Known> {
        let client = self.client_of(chain)?;
        let (Height { revision, number: height }, diversifier) = self
            .with(|engine, stage, _| {
                Ok((engine.latest_height(stage, &client)?, engine.diversifier(stage, &client)?))
            })
            .ok()?;
        let diversifier = diversifier.unwrap_or_default();
        Some(Known { client: client.to_string(), revision, height, diversifier })
    }

    /// What is stored of a chain.
    #[cfg(feature = "chain")]
    fn chain_state(&self, chain: &str) -> super::chain::ChainState {
        let theirs = self.ledger.private(&key::theirs(chain));
        let theirs = theirs.as_deref().and_then(|client| std::str::from_utf8(client).ok());
        let seen = self.ledger.private(&key::seen(chain));
        let hops = self.hops.lock().clone();
        let to_chain = hops.into_iter().filter(|(_, state)| state.chain == chain);
        let connections = to_chain.filter_map(|(hop, _)| self.connection(&hop)?.counterparty);
        let channels = self.ledger.channels().into_iter().filter_map(|(port, id, end)| {
            if end.state == ChannelState::Closed || !self.leads_to(&end.hop, chain) {
                return None;
            }
            let unacked = self.ledger.outstanding(&port, &id);
            let next = self.ledger.get(&path::next_sequence_recv(&port, &id));
            let due = match end.order {
                crate::Order::Ordered => next.as_deref().and_then(crate::engine::number),
                crate::Order::Unordered => None,
            };
            let settled = self.ledger.private(path::received_below(&port, &id).as_bytes());
            let settled = settled.as_deref().and_then(crate::engine::number).unwrap_or(1);
            let there = (end.counterparty_port, end.counterparty?);
            Some(super::chain::EndState { there, due, unacked, settled })
        });
        super::chain::ChainState {
            theirs: theirs.and_then(|theirs| ClientId::new(theirs).ok()),
            seen: seen.as_deref().and_then(crate::engine::number),
            forgotten: self.ledger.private(&key::forgotten(chain)).is_some(),
            validators: self.ledger.private(&key::validators(chain)),
            connections: connections.collect(),
            channels: channels.collect(),
        }
    }

    #[cfg(feature = "chain")]
    fn set_chain(&mut self, chain: &str, learnt: super::chain::Learnt) {
        let super::chain::Learnt { theirs, seen, forgotten, validators } = learnt;
        if let Some(theirs) = theirs {
            let theirs = Bytes::copy_from_slice(theirs.as_str().as_bytes());
            self.write(key::theirs(chain), Some(theirs));
        }
        if let Some(seen) = seen {
            let seen = Bytes::copy_from_slice(&seen.to_be_bytes());
            self.write(key::seen(chain), Some(seen));
        }
        if let Some(forgotten) = forgotten {
            self.write(key::forgotten(chain), forgotten.then(|| Bytes::from_static(b"1")));
        }
        if let Some(validators) = validators {
            self.write(key::validators(chain), Some(validators));
        }
    }

    /// The states of a client at another chain that begins with the last block.
    fn states(&mut self, chain: &str) -> Result<Client, HostError> {
        if self.ledger.latest().is_none() {
            self.ledger.commit(now())?;
        }
        let block = self.ledger.latest().ok_or(HostError::Ended)?;
        let states = self.face.states(&self.ledger, block, &self.trust, chain);
        let (client_state, consensus_state) = states?;
        Ok(Client { client_state: Some(client_state), consensus_state: Some(consensus_state) })
    }

    /// Whether a key is that of the host whose chain is known here: else whoever calls itself so
    /// could say that it has handled what was meant for that one.
    fn is_key(&self, chain: &str, key: &[u8]) -> bool {
        self.ledger.private(&key::key_of(chain)).is_none_or(|known| known[..] == *key)
    }

    fn make_client(
        &mut self,
        chain: &str,
        key: &[u8; 32],
        states: Client,
    ) -> Result<Known, HostError> {
        if let Some(known) = self.knows(chain) {
            return Ok(known);
        }
        if self.hosts() >= MAX_HOSTS {
            return Err(HostError::TooManyHosts { max: MAX_HOSTS });
        }
        let message = MsgCreateClient {
            client_state: states.client_state,
            consensus_state: states.consensus_state,
            signer: String::new(),
        };
        let event = self.deliver(Message::CreateClient(message))?;
        if let Event::ClientCreated { client } = event {
            let name = Bytes::copy_from_slice(client.as_str().as_bytes());
            self.write(key::client_of(chain), Some(name));
            self.write(key::key_of(chain), Some(Bytes::copy_from_slice(key)));
            self.write(key::chain_of(&client), Some(Bytes::copy_from_slice(chain.as_bytes())));
        }
        self.knows(chain).ok_or(HostError::Ended)
    }

    /// How many other hosts are known.
    fn hosts(&self) -> usize {
        let mut from = key::KEYS.to_vec();
        let mut count = 0;
        while let Some((found, _)) = self.ledger.private_next(key::KEYS, &from) {
            count += 1;
            from = found;
            from.push(0);
        }
        count
    }

    fn make_hop(
        &mut self,
        chain: String,
        other: &str,
        reply: oneshot::Sender<Result<ConnectionId, HostError>>,
    ) {
        if let Some((hop, open)) = self.hops.to(&chain) {
            if open {
                let _ = reply.send(Ok(hop));
            } else {
                // The other side may have refused it, or forgotten it.
                self.peer(&chain).push_new(Kind::Connection(hop.to_string()));
                self.waiting.push((chain, hop, reply));
            }
            return;
        }
        let Some(client) = self.client_of(&chain) else {
            let _ = reply.send(Err(HostError::Ended));
            return;
        };
        let message = MsgConnectionOpenInit {
            client_id: client.to_string(),
            counterparty: Some(Counterparty {
                client_id: other.to_owned(),
                connection_id: String::new(),
                prefix: Some(MerklePrefix { key_prefix: PREFIX.to_vec() }),
            }),
            version: None,
            delay_period: 0,
            signer: String::new(),
        };
        match self.deliver(Message::ConnectionOpenInit(message)) {
            Ok(Event::ConnectionBegun { connection }) => {
                self.waiting.push((chain, connection, reply));
            }
            Ok(_) => {}
            Err(error) => drop(reply.send(Err(error.into()))),
        }
    }

    fn take_batch(&mut self, chain: &str, batch: Batch) -> Outcomes {
        // First: a reason comes before the close.
        batch.closing.iter().for_each(|closing| self.closes(chain, closing));
        let outcomes = batch.messages.iter().map(|message| self.take(chain, message)).collect();
        batch.rejected.iter().for_each(|rejected| self.rejected(chain, rejected));
        batch.withdrawn.iter().for_each(|withdrawn| self.withdrawn(chain, withdrawn));
        Outcomes { outcomes, known: self.knows(chain) }
    }

    /// Handles a message that another host relays.
    fn take(&mut self, chain: &str, message: &Any) -> Outcome {
        let outcome = Message::read(message).and_then(|message| self.take_message(chain, message));
        match outcome {
            Ok(code) => Outcome { code: code.into(), text: String::new() },
            Err(error) => {
                tracing::debug!(chain, %error, r#type = message.type_url, "refused");
                let again = message.type_url.ends_with("MsgUpdateClient") || is_uncounted(&error);
                let code = if again { Code::Again } else { Code::Refused };
                Outcome { code: code.into(), text: error.to_string() }
            }
        }
    }

    fn take_message(&mut self, chain: &str, message: Message) -> Result<Code, EngineError> {
        match message {
            Message::ConnectionOpenTry(try_) => {
                // A host says it again until it hears that it was heard.
                let other = try_.counterparty.clone().unwrap_or_default();
                let tried = key::tried(&try_.client_id, &other.connection_id);
                if self.ledger.private(&tried).is_some() {
                    return Ok(Code::Done);
                }
                let event = self.deliver(Message::ConnectionOpenTry(try_))?;
                if let Event::ConnectionBegun { connection } = event {
                    let name = Bytes::copy_from_slice(connection.as_str().as_bytes());
                    self.write(tried, Some(name));
                }
            }
            Message::ConnectionOpenAck(ack) => {
                let id = ConnectionId::known(&ack.connection_id);
                if self.connection(&id).is_some_and(|end| end.state == ConnectionState::Open) {
                    return Ok(Code::Done);
                }
                self.deliver(Message::ConnectionOpenAck(ack))?;
            }
            Message::ConnectionOpenConfirm(confirm) => {
                let id = ConnectionId::known(&confirm.connection_id);
                if self.connection(&id).is_some_and(|end| end.state == ConnectionState::Open) {
                    return Ok(Code::Done);
                }
                self.deliver(Message::ConnectionOpenConfirm(confirm))?;
            }
            Message::ChannelOpenTry(try_) => {
                let end = try_.channel.clone().unwrap_or_default();
                let other = end.counterparty.unwrap_or_default();
                let hop = end.connection_hops.first().map_or("", String::as_str);
                let tried = key::tried_channel(hop, &other.port_id, &other.channel_id);
                if self.ledger.private(&tried).is_some() {
                    return Ok(Code::Done);
                }
                let event = self.deliver(Message::ChannelOpenTry(try_))?;
                if let Event::ChannelAttempt(attempt) = event {
                    let name = Bytes::copy_from_slice(attempt.channel.as_str().as_bytes());
                    self.write(tried, Some(name));
                    self.ask(attempt);
                }
            }
            Message::ChannelOpenAck(_) | Message::ChannelOpenConfirm(_) => {
                let begun = matches!(message, Message::ChannelOpenAck(_));
                match self.deliver(message) {
                    Ok(Event::ChannelOpen { port, channel }) if self.modules.has(&port) => {
                        self.module_opened(&port, &channel, begun);
                    }
                    Ok(Event::ChannelOpen { port, channel }) => {
                        self.channel_is_open(&port, &channel);
                    }
                    // It is further already, and that is said to the other side.
                    Err(EngineError::State { .. }) | Ok(_) => {}
                    Err(error) => return Err(error),
                }
            }
            Message::ChannelCloseConfirm(confirm) => {
                let id = ChannelId::known(&confirm.channel_id);
                let event = self.with(|engine, stage, at| {
                    engine.deliver(stage, Message::ChannelCloseConfirm(confirm), at)
                });
                match event {
                    Ok(Event::ChannelClosed { port, channel }) => {
                        self.settle(&port, &channel);
                        if self.modules.has(&port) {
                            self.module_closed(&port, &id);
                        } else {
                            self.other_side_closed(&id);
                        }
                    }
                    // Both sides have closed it.
                    Err(EngineError::State { .. }) | Ok(_) => {}
                    Err(error) => return Err(error),
                }
            }
            Message::RecvPacket(receive) => {
                let packet = receive.packet.clone();
                match self.with(|engine, stage, at| {
                    engine.deliver(stage, Message::RecvPacket(receive), at)
                }) {
                    Ok(Event::Received(packet)) if self.modules.has(&packet.destination_port) => {
                        self.module_received(packet);
                    }
                    Ok(Event::Received(packet)) => self.received(packet),
                    Ok(_) => {}
                    Err(error @ (EngineError::TimedOut { .. } | EngineError::State { .. })) => {
                        let Some(packet) = packet else { return Err(error) };
                        return Ok(self.not_received(chain, packet, &error));
                    }
                    Err(error) => return Err(error),
                }
            }
            Message::Acknowledgement(_) | Message::Timeout(_) | Message::TimeoutOnClose(_) => {
                let by_close = matches!(message, Message::TimeoutOnClose(_));
                let acked = matches!(message, Message::Acknowledgement(_));
                let event = self.with(|engine, stage, at| engine.deliver(stage, message, at));
                if let Ok(Event::Acknowledged { packet, .. } | Event::TimedOut { packet, .. }) =
                    &event
                {
                    self.done_with(&packet.source_port, &packet.source_channel);
                }
                match event {
                    Ok(Event::Acknowledged { packet, acknowledgement })
                        if self.modules.has(&packet.source_port) =>
                    {
                        self.module_acked(&packet, acknowledgement);
                    }
                    Ok(Event::TimedOut { packet, closed })
                        if self.modules.has(&packet.source_port) =>
                    {
                        self.module_timed_out(&packet, closed, by_close);
                    }
                    Ok(Event::Acknowledged { packet, acknowledgement }) => {
                        self.acknowledged(&packet, acknowledgement);
                    }
                    Ok(Event::TimedOut { packet, closed }) => {
                        self.timed_out(&packet, closed, by_close);
                    }
                    // The channel is closed here: nobody waits for it any more.
                    Err(EngineError::State { .. }) if acked => {}
                    Ok(_) => {}
                    Err(error) => return Err(error),
                }
            }
            Message::UpdateClient(_) | Message::Settle(_) => {
                self.deliver(message)?;
            }
            // What only this side may begin.
            Message::CreateClient(_)
            | Message::ConnectionOpenInit(_)
            | Message::ChannelOpenInit(_)
            | Message::ChannelCloseInit(_) => {
                return Err(EngineError::invalid("message", "it is not one that is relayed"));
            }
        }
        Ok(Code::Done)
    }

    /// A packet of a channel is done with.
    fn done_with(&mut self, port: &PortId, id: &ChannelId) {
        let done = self.done.entry(id.clone()).or_default();
        *done += 1;
        if *done >= SETTLED_TOGETHER {
            self.settle(port, id);
        }
    }

    /// Tells the other side which packets are done with: it keeps what it knows of them until then.
    fn settle(&mut self, port: &PortId, id: &ChannelId) {
        if self.done.remove(id).is_none() {
            return;
        }
        let moved = self.with(|engine, stage, _| {
            let moved = engine.move_settled(stage, port, id)?;
            Ok(moved.then_some(engine.channel(stage, port, id)?.hop.clone()))
        });
        let Ok(Some(hop)) = moved else { return };
        let Some(chain) = self.hops.chain(&hop) else { return };
        // Chains with validators have no such message.
        #[cfg(feature = "chain")]
        if self.ledger.private(&key::theirs(&chain)).is_some() {
            return;
        }
        // Not stored: what is forgotten by a restart is said with what follows.
        self.peer(&chain).push_new(Kind::settled(port, id));
    }

    /// Proves to the sender of a packet that it was not received, if that is so.
    fn not_received(&mut self, chain: &str, packet: raw::Packet, error: &EngineError) -> Code {
        // It was, and that was said over a way that broke. There is no proof to wait for.
        if matches!(datagram::unreceived(&self.ledger, &packet), Ok(None)) {
            return Code::Done;
        }
        let kind = match error {
            EngineError::TimedOut { .. } => Kind::TimedOut(packet),
            _ => Kind::Closed(packet),
        };
        // Not stored: the sender asks again if it does not come.
        let peer = self.peer(chain);
        let number = peer.next_number();
        peer.push(number, kind);
        // A block of its own: the time of the last one may be before the packet's.
        self.write(key::out(chain, number), None);
        Code::Unreceived
    }

    fn relayed(&mut self, chain: &str, peer: u64, outcomes: Option<Outcomes>) {
        let Relayed { done, pause } = self.peer(chain).relayed(peer, outcomes);
        if let Some(pause) = pause {
            let (inbox, chain) = (self.inbox.clone(), chain.to_owned());
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                inbox.push(Command::GoOn { chain, peer });
            });
        }
        for (number, kind, code, text) in done {
            match code {
                Code::Done => {
                    self.relayed_out(chain, number);
                    if let Kind::Packet(packet) = &kind {
                        self.was_received(packet);
                    }
                }
                // The proof removes it.
                Code::Unreceived => self.peer(chain).await_proof(number, kind),
                Code::Refused | Code::Again => {
                    self.relayed_out(chain, number);
                    self.refused(chain, &kind, &text);
                }
            }
        }
    }

    pub(super) fn forget_out(&mut self, hop: &ConnectionId, number: u64) {
        if let Some(chain) = self.hops.chain(hop) {
            self.relayed_out(&chain, number);
        }
    }

    /// What was relayed needs not be kept. If that is lost it is relayed again, and does nothing.
    fn relayed_out(&mut self, chain: &str, number: u64) {
        self.ledger.set_private_later(key::out(chain, number), None);
    }

    /// Begins a channel from this side.
    pub(super) fn begin_channel(
        &mut self,
        message: MsgChannelOpenInit,
    ) -> Result<ChannelId, EngineError> {
        match self.deliver(Message::ChannelOpenInit(message))? {
            Event::ChannelBegun { port, channel } => {
                let end = self.with(|engine, stage, _| engine.channel(stage, &port, &channel))?;
                self.send_over(&end.hop, Kind::channel(&port, &channel));
                Ok(channel)
            }
            _ => Err(EngineError::invalid("channel", "it has not begun")),
        }
    }

    /// Closes a channel from this side.
    pub(super) fn end_channel(&mut self, message: MsgChannelCloseInit) -> Result<(), EngineError> {
        self.deliver(Message::ChannelCloseInit(message)).map(|_| ())
    }

    /// Relays that a packet was sent; gives the number under which it is kept.
    pub(super) fn relay_packet(&mut self, hop: &ConnectionId, packet: &Packet) -> Option<u64> {
        let chain = self.hops.chain(hop)?;
        Some(self.send_to(&chain, Kind::Packet(packet.raw())))
    }

    /// Asks no more whether an attempt was decided over.
    pub(super) fn forget_attempt(&mut self, attempt: &ChannelAttempt) {
        let ChannelAttempt { hop, counterparty_port, counterparty_channel, .. } = attempt;
        let (port, channel) = (counterparty_port.as_str(), counterparty_channel.as_str());
        self.write(key::tried_channel(hop.as_str(), port, channel), None);
    }

    /// The channel of this host that a counterparty began.
    pub(super) fn tried(&self, hop: &str, port: &str, channel: &str) -> Option<ChannelId> {
        let id = self.ledger.private(&key::tried_channel(hop, port, channel))?;
        ChannelId::new(std::str::from_utf8(&id).ok()?).ok()
    }

    /// What is said to the other end of a hop without proof, if it can be reached.
    pub(super) fn aside(&mut self, hop: &ConnectionId) -> Option<&mut Batch> {
        let chain = self.hops.chain(hop)?;
        self.peer(&chain).aside()
    }
}

/// Whether the reason may be that a proof before this one did not count: each signature of a solo
/// machine has to follow on the last one that was taken.
fn is_uncounted(error: &EngineError) -> bool {
    match error {
        EngineError::Client(ClientError::Proof { client, .. }) => {
            client.as_str().starts_with(SOLO_MACHINE)
        }
        _ => false,
    }
}
