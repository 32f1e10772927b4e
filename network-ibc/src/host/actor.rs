//! The task that is the host: it alone has the ledger.
//!
//! A turn takes all commands that came, lets the engine handle them, makes one block of what they
//! wrote, and only then tells anybody: what was not stored has not happened.

#[cfg(feature = "chain")]
mod chains;
mod clients;
mod keys;
mod resume;
mod take;

use std::{collections::HashMap, sync::Arc, time::SystemTime};

use bytes::Bytes;
use ibc_proto::ibc::core::channel::v1::{self as raw, MsgChannelCloseInit, MsgChannelOpenInit};
use tokio::{
    sync::oneshot,
    task::{AbortHandle, spawn_blocking},
};

use super::{
    Hop, Hops,
    channel::Live,
    datagram::Kind,
    error::HostError,
    face::Face,
    inbox::{Command, Inbox, Opening},
    module::{ModuleOpening, Modules},
    peer::{Peer, Relayed},
    wire::{Batch, Code, Outcomes},
};
use crate::{
    EngineError,
    engine::{
        Channel, ChannelAttempt, Connection, ConnectionState, Engine, Event, Message, Packet,
        Stage, Store as _,
    },
    height::{At, Timestamp},
    identifier::{ChannelId, ConnectionId, PortId},
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
        self.write(keys::out(chain, number), Some(kind.store().into()));
        self.peer(chain).push(number, kind);
        number
    }

    /// What follows from what the engine has done, whoever asked for it.
    fn happened(&mut self, event: &Event, confirmed: bool) {
        match event {
            Event::ConnectionBegun { connection } | Event::ConnectionOpen { connection } => {
                let Some(end) = self.connection(connection) else { return };
                let open = end.state == ConnectionState::Open;
                let chain = self.ledger.private(&keys::chain_of(&end.client));
                let Some(chain) = chain.and_then(|chain| String::from_utf8(chain.to_vec()).ok())
                else {
                    return;
                };
                self.write(keys::hop(connection), Some(Bytes::copy_from_slice(chain.as_bytes())));
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
            Command::PeerDown { chain, peer } => self.peer_down(&chain, peer),
            Command::GoOn { chain, peer, what } => {
                if let Some(known) = self.peers.get_mut(&chain) {
                    known.go_on(peer, what);
                }
            }
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
            Command::UseClient { chain, states, reply } => {
                let used = self.use_client(&chain, states);
                self.after.push(Box::new(move || drop(reply.send(used))));
            }
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

    fn peer_down(&mut self, chain: &str, peer: u64) {
        if let Some(known) = self.peers.get_mut(chain) {
            known.down(peer);
            // Anybody may come under any name.
            if known.is_unused() {
                self.peers.remove(chain);
            }
        }
    }

    fn relayed(&mut self, chain: &str, peer: u64, outcomes: Option<Outcomes>) {
        let Some(known) = self.peers.get_mut(chain) else { return };
        let Relayed { done, pause } = known.relayed(peer, outcomes);
        if let Some((what, pause)) = pause {
            let (inbox, chain) = (self.inbox.clone(), chain.to_owned());
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                inbox.push(Command::GoOn { chain, peer, what });
            });
        }
        for (number, kind, code, text) in done {
            match (code, kind) {
                (Code::Done, kind) => {
                    self.relayed_out(chain, number);
                    if let Kind::Packet(packet) = &kind {
                        self.was_received(packet);
                    }
                }
                (Code::Unreceived, Kind::Packet(packet)) => {
                    self.await_proof(chain, number, packet);
                }
                // Nothing else is received.
                (Code::Unreceived | Code::Refused | Code::Again | Code::Later, kind) => {
                    self.relayed_out(chain, number);
                    self.refused(chain, &kind, &text);
                }
            }
        }
    }

    /// The other side has not received a packet: the proof of that removes it, which may have come
    /// before this.
    fn await_proof(&mut self, chain: &str, number: u64, packet: raw::Packet) {
        let (port, id) =
            (PortId::known(&packet.source_port), ChannelId::known(&packet.source_channel));
        if self.ledger.get(&path::commitment(&port, &id, packet.sequence)).is_none() {
            return self.relayed_out(chain, number);
        }
        self.peer(chain).await_proof(number, packet);
    }

    /// It is proved what became of a packet.
    pub(super) fn proved(&mut self, chain: &str, packet: &Packet) {
        let known = self.peers.get_mut(chain);
        let number = known.and_then(|it| it.proved(&packet.source_channel, packet.sequence));
        if let Some(number) = number {
            self.relayed_out(chain, number);
        }
    }

    pub(super) fn forget_out(&mut self, hop: &ConnectionId, number: u64) {
        if let Some(chain) = self.hops.chain(hop) {
            self.relayed_out(&chain, number);
        }
    }

    /// What was relayed needs not be kept. If that is lost it is relayed again, and does nothing.
    fn relayed_out(&mut self, chain: &str, number: u64) {
        self.ledger.set_private_later(keys::out(chain, number), None);
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
        self.write(keys::tried_channel(hop.as_str(), port, channel), None);
    }

    /// The channel of this host that a counterparty began.
    pub(super) fn tried(&self, hop: &str, port: &str, channel: &str) -> Option<ChannelId> {
        let id = self.ledger.private(&keys::tried_channel(hop, port, channel))?;
        ChannelId::new(std::str::from_utf8(&id).ok()?).ok()
    }

    /// What is said to the other end of a hop without proof, if it can be reached.
    pub(super) fn aside(&mut self, hop: &ConnectionId) -> Option<&mut Batch> {
        let chain = self.hops.chain(hop)?;
        self.peer(&chain).aside()
    }
}
