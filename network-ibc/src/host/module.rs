//! Modules: applications that are a part of a host (ICS-026).

use std::{any::Any, collections::HashMap, panic::AssertUnwindSafe, time::Duration};

use bytes::Bytes;
use network_core::{Answer, CloseReason, Refusal, Rejection};
use tokio::sync::oneshot;

use super::{
    acknowledgement,
    actor::Actor,
    datagram::Kind,
    error::HostError,
    peer::{closing, rejected},
};
use crate::{
    address::Order,
    engine::{self, ChannelAttempt, Engine, Packet, Stage, Timeout},
    height::{At, Height, Timestamp},
    identifier::{ChannelId, ConnectionId, PortId},
};

/// An application that lives in a host's ledger, at a fixed port (ICS-026): what a chain calls a
/// module.
///
/// Where a listener's handler is a task of this process, a module is a part of the host. Its
/// methods do not wait: each runs between two blocks, and what it writes through its [`Context`]
/// is stored in the same block as the receipt, the acknowledgement or the packet that goes with
/// it, or not at all. So it and its channels outlive the process: a host that is opened again with
/// the module goes on where it was, and what had been sent is answered to
/// [`on_ack`](Self::on_ack). Whatever a module keeps in fields of its own is forgotten then.
///
/// Register it with [`HostBuilder::module`](super::HostBuilder::module), open channels with
/// [`Host::open_channel`](super::Host::open_channel), and call it with
/// [`Host::with_module`](super::Host::with_module).
///
/// # Panics
/// A method that panics counts as a refusal, and what it wrote is dropped.
#[expect(unused_variables, reason = "names of parameters that are ignored by default")]
pub trait Module: Any + Send {
    /// The other side opens a channel: the returned version is the answer to the one that it
    /// proposes, which is in `channel`. A refusal declines. By default every channel is accepted
    /// as proposed.
    fn on_try(
        &mut self,
        context: &mut Context<'_>,
        channel: &ModuleChannel,
    ) -> Result<String, Refusal> {
        Ok(channel.version.clone())
    }

    /// A channel is open, whoever began it. A refusal closes it, because of the version that the
    /// other side has answered with for one.
    fn on_open(
        &mut self,
        context: &mut Context<'_>,
        channel: &ModuleChannel,
    ) -> Result<(), Refusal> {
        Ok(())
    }

    /// A record arrived; the returned bytes are its acknowledgement, and may not be empty. A
    /// refusal becomes ICS-004's error acknowledgement, and nothing of what was written stays.
    fn on_receive(
        &mut self,
        context: &mut Context<'_>,
        channel: &ModuleChannel,
        record: &Bytes,
    ) -> Result<Bytes, Refusal>;

    /// A record that was sent is acknowledged, or refused by an error acknowledgement.
    fn on_ack(
        &mut self,
        context: &mut Context<'_>,
        channel: &ModuleChannel,
        sequence: u64,
        record: &Bytes,
        ack: Result<Bytes, Refusal>,
    ) {
    }

    /// A record was not received, and it is proved that it will not be: its time has passed, or
    /// the channel is closed.
    fn on_timeout(
        &mut self,
        context: &mut Context<'_>,
        channel: &ModuleChannel,
        sequence: u64,
        record: &Bytes,
    ) {
    }

    /// A channel is closed, by the other side, by a timeout on an ordered channel, or by this side.
    fn on_close(&mut self, context: &mut Context<'_>, channel: &ModuleChannel) {}
}

/// A channel of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModuleChannel {
    /// The port of the module.
    pub port: PortId,
    /// The name of this end.
    pub channel: ChannelId,
    /// The connection that the channel goes over.
    pub hop: ConnectionId,
    /// Whether records keep their order.
    pub order: Order,
    /// The version: what is proposed, or agreed on once the channel is open.
    pub version: String,
    /// The port at the other side.
    pub counterparty_port: PortId,
    /// The name of the other end, which it has once the other side has answered.
    pub counterparty: Option<ChannelId>,
}

impl ModuleChannel {
    fn new(port: &PortId, channel: &ChannelId, end: &engine::Channel) -> Self {
        Self {
            port: port.clone(),
            channel: channel.clone(),
            hop: end.hop.clone(),
            order: end.order,
            version: end.version.clone(),
            counterparty_port: end.counterparty_port.clone(),
            counterparty: end.counterparty.clone(),
        }
    }
}

/// What a module may do while one of its methods runs.
///
/// Keys and values are the module's own: nobody else reads or writes them, and nothing is proved of
/// them to anybody. A key has up to 65,000 bytes: a method that sets a longer one is refused.
pub struct Context<'a> {
    engine: &'a Engine,
    stage: Stage<'a>,
    at: At,
    port: PortId,
    effects: Vec<Effect>,
    /// A key was too long, and nothing of what was written is taken.
    overlong: bool,
}

/// The longest key of a module, in bytes. A ledger on disk takes 65,535, and it has more before it.
const MAX_KEY: usize = 65_000;

/// What follows once the writes of a module are taken.
enum Effect {
    Relay(Packet),
    Closed(ChannelId),
    Tell(Box<dyn FnOnce() + Send>),
}

impl Context<'_> {
    /// The time of the block that is being made: never before that of the last one.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.at.time
    }

    fn key(&self, key: &[u8]) -> Vec<u8> {
        [b"modules/", self.port.as_str().as_bytes(), b"/", key].concat()
    }

    /// The value at a key.
    #[must_use]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<Bytes> {
        self.stage.private(&self.key(key.as_ref()))
    }

    /// Sets a value.
    pub fn set(&mut self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) {
        // What others have a hand in may be of any length, and what no ledger takes ends the host.
        if key.as_ref().len() > MAX_KEY {
            self.overlong = true;
            return;
        }
        self.stage.set_private(self.key(key.as_ref()), Some(value.into()));
    }

    /// Removes a value, if there is one.
    pub fn remove(&mut self, key: impl AsRef<[u8]>) {
        self.stage.set_private(self.key(key.as_ref()), None);
    }

    /// The first key at or after `from` that starts with `prefix`, and its value.
    #[must_use]
    pub fn next(&self, prefix: &[u8], from: &[u8]) -> Option<(Vec<u8>, Bytes)> {
        let (key, value) = self.stage.private_next(&self.key(prefix), &self.key(from))?;
        Some((key.get(self.key(b"").len()..)?.to_vec(), value))
    }

    /// Sends a record; gives the sequence that it is acknowledged under. It goes out with the block.
    ///
    /// # Errors
    /// The channel is not open, the record is empty or longer than 262,144 bytes, or the client of
    /// the other chain is not active.
    pub fn send(
        &mut self,
        channel: &ChannelId,
        record: impl Into<Bytes>,
        timeout: Duration,
    ) -> Result<u64, HostError> {
        let time = self.at.time.saturating_add(timeout);
        let timeout = Timeout { height: Height::ZERO, time };
        let (port, at) = (&self.port, self.at);
        let packet =
            self.engine.send_packet(&mut self.stage, port, channel, record.into(), timeout, at)?;
        let sequence = packet.sequence;
        self.effects.push(Effect::Relay(packet));
        Ok(sequence)
    }

    /// Closes a channel. [`Module::on_close`] is not called for it.
    ///
    /// # Errors
    /// There is none of that name, or it is closed.
    pub fn close(&mut self, channel: &ChannelId) -> Result<(), HostError> {
        let message = ibc_proto::ibc::core::channel::v1::MsgChannelCloseInit {
            port_id: self.port.to_string(),
            channel_id: channel.to_string(),
            signer: String::new(),
        };
        let message = engine::Message::ChannelCloseInit(message);
        self.engine.deliver(&mut self.stage, message, self.at)?;
        self.effects.push(Effect::Closed(channel.clone()));
        Ok(())
    }

    /// A channel of the module.
    #[must_use]
    pub fn channel(&self, channel: &ChannelId) -> Option<ModuleChannel> {
        let end = self.engine.channel(&self.stage, &self.port, channel).ok()?;
        Some(ModuleChannel::new(&self.port, channel, &end))
    }

    /// The name that a hop has at its other end.
    pub(crate) fn counterparty_of(&self, hop: &ConnectionId) -> Option<ConnectionId> {
        self.engine.connection(&self.stage, hop).ok()?.counterparty.clone()
    }

    /// Does something once all that was written is stored: tells somebody who waits, for one.
    pub fn once_stored(&mut self, tell: impl FnOnce() + Send + 'static) {
        self.effects.push(Effect::Tell(Box::new(tell)));
    }
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("port", &self.port).field("at", &self.at).finish()
    }
}

/// Who waits for what becomes of a module's packets.
#[derive(Debug)]
pub(crate) struct Waiting<T>(HashMap<(ChannelId, u64), oneshot::Sender<T>>);

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Send + 'static> Waiting<T> {
    pub(crate) fn push(&mut self, channel: ChannelId, sequence: u64, tell: oneshot::Sender<T>) {
        self.0.insert((channel, sequence), tell);
    }

    /// Tells whoever waits, if anybody does, once what was written meanwhile is stored.
    pub(crate) fn tell(
        &mut self,
        context: &mut Context<'_>,
        channel: &ModuleChannel,
        sequence: u64,
        outcome: T,
    ) {
        if let Some(waiting) = self.0.remove(&(channel.channel.clone(), sequence)) {
            context.once_stored(move || drop(waiting.send(outcome)));
        }
    }
}

/// A channel that a module begins.
pub(super) struct OpenForModule {
    pub(super) port: PortId,
    pub(super) hop: ConnectionId,
    pub(super) counterparty_port: PortId,
    pub(super) order: Order,
    pub(super) version: String,
    pub(super) reply: oneshot::Sender<Result<ModuleChannel, HostError>>,
}

/// A channel that a module has begun, until it is open, and who waits for that.
pub(super) struct ModuleOpening {
    pub(super) port: PortId,
    pub(super) hop: ConnectionId,
    reply: Option<oneshot::Sender<Result<ModuleChannel, HostError>>>,
}

/// The modules of a host, by their ports.
#[derive(Default)]
pub(super) struct Modules(HashMap<PortId, Box<dyn Module>>);

impl Modules {
    pub(super) fn insert(&mut self, port: PortId, module: Box<dyn Module>) {
        self.0.insert(port, module);
    }

    pub(super) fn has(&self, port: &PortId) -> bool {
        self.0.contains_key(port)
    }

    pub(super) fn ports(&self) -> impl Iterator<Item = &PortId> {
        self.0.keys()
    }
}

impl std::fmt::Debug for Modules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What somebody has a module do; then whether it is to be kept, and how that somebody is told.
pub(super) type Act =
    Box<dyn FnOnce(&mut dyn Any, &mut Context<'_>) -> (bool, Box<dyn FnOnce() + Send>) + Send>;

impl Actor {
    /// Lets a module do something, and takes what it has written unless that fails.
    fn in_module<T>(
        &mut self,
        port: &PortId,
        act: impl FnOnce(&mut dyn Module, &mut Context<'_>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let at = self.at();
        let Self { ledger, engine, modules, .. } = self;
        let none = || Refusal::new("there is no such module");
        let module = modules.0.get_mut(port).ok_or_else(none)?;
        let stage = Stage::new(ledger);
        let (port_of, effects, overlong) = (port.clone(), Vec::new(), false);
        let mut context = Context { engine, stage, at, port: port_of, effects, overlong };
        let acted =
            std::panic::catch_unwind(AssertUnwindSafe(|| act(module.as_mut(), &mut context)));
        let outcome = acted.unwrap_or_else(|_| {
            tracing::error!(%port, "a module panicked");
            Err(Refusal::new("the module panicked"))
        })?;
        let Context { stage, effects, overlong, .. } = context;
        if overlong {
            tracing::error!(%port, "a module has set a key of more than {MAX_KEY} bytes");
            return Err(Refusal::new("a key of the module is too long"));
        }
        let writes = stage.into_writes();
        self.ledger.apply(writes);
        for effect in effects {
            match effect {
                Effect::Relay(packet) => {
                    let end = self.channel_of(port, &packet.source_channel);
                    if let Some(end) = end {
                        self.relay_packet(&end.hop, &packet);
                    }
                }
                Effect::Closed(channel) => {
                    if let Some(end) = self.channel_of(port, &channel) {
                        self.send_over(&end.hop, Kind::channel(port, &channel));
                    }
                }
                Effect::Tell(tell) => self.after.push(tell),
            }
        }
        Ok(outcome)
    }

    fn channel_of(&mut self, port: &PortId, id: &ChannelId) -> Option<ModuleChannel> {
        let end = self.with(|engine, stage, _| engine.channel(stage, port, id)).ok()?;
        Some(ModuleChannel::new(port, id, &end))
    }

    /// Somebody calls a module.
    pub(super) fn call_module(&mut self, port: &PortId, act: Act) {
        let mut dropped = None;
        // Whoever waits for a module that panics learns it as `act` is dropped.
        let _ = self.in_module(port, |module, context| {
            let (keep, tell) = act(module, context);
            if !keep {
                dropped = Some(tell);
                return Err(Refusal::new("it is not to be kept"));
            }
            context.effects.push(Effect::Tell(tell));
            Ok(())
        });
        if let Some(tell) = dropped {
            tell();
        }
    }

    /// A module decides over a channel that the other side has begun.
    pub(super) fn module_tried(&mut self, attempt: &ChannelAttempt) {
        let ChannelAttempt { port, channel, order, hop, .. } = attempt;
        let proposed = ModuleChannel {
            port: port.clone(),
            channel: channel.clone(),
            hop: hop.clone(),
            order: *order,
            version: attempt.version.clone(),
            counterparty_port: attempt.counterparty_port.clone(),
            counterparty: Some(attempt.counterparty_channel.clone()),
        };
        let decided = self
            .in_module(port, |module, context| {
                let version = module.on_try(context, &proposed)?;
                context.engine.accept_channel(&mut context.stage, attempt, version)?;
                Ok(())
            })
            .map_err(Rejection::Declined);
        match decided {
            Ok(()) => self.send_over(hop, Kind::channel(port, channel)),
            Err(why) => {
                self.forget_attempt(attempt);
                if let Some(aside) = self.aside(hop) {
                    aside.rejected.push(rejected(&attempt.counterparty_channel, &why));
                }
            }
        }
    }

    /// A channel of a module is open. `begun`: from this side.
    pub(super) fn module_opened(&mut self, port: &PortId, id: &ChannelId, begun: bool) {
        let Some(channel) = self.channel_of(port, id) else { return };
        if begun {
            self.send_over(&channel.hop, Kind::channel(port, id));
        }
        let waiting = self.module_openings.remove(id).and_then(|opening| opening.reply);
        match self.in_module(port, |module, context| module.on_open(context, &channel)) {
            Ok(()) => {
                if let Some(reply) = waiting {
                    self.after.push(Box::new(move || drop(reply.send(Ok(channel)))));
                }
            }
            Err(why) => {
                let reason = CloseReason::Protocol(why.text().into());
                if let (Some(other), Some(aside)) =
                    (&channel.counterparty, self.aside(&channel.hop))
                {
                    aside.closing.push(closing(other, &reason));
                }
                self.end(port, id);
                if let Some(reply) = waiting {
                    let _ = reply.send(Err(HostError::Refused(why)));
                }
            }
        }
    }

    /// A channel that a module has begun will not open.
    pub(super) fn module_refused(&mut self, id: &ChannelId, why: Refusal) {
        let Some(opening) = self.module_openings.remove(id) else { return };
        self.forget_channel(&opening.port, id);
        if let Some(reply) = opening.reply {
            let _ = reply.send(Err(HostError::Refused(why)));
        }
    }

    pub(super) fn module_received(&mut self, packet: Packet) {
        let (port, id) = (packet.destination_port.clone(), packet.destination_channel.clone());
        let Some(channel) = self.channel_of(&port, &id) else { return };
        let answered = self.in_module(&port, |module, context| {
            let ack = module.on_receive(context, &channel, &packet.data)?;
            let sequence = packet.sequence;
            let ack = acknowledgement::write(Answer::Ack(ack));
            let Context { engine, stage, .. } = context;
            engine.write_acknowledgement(stage, &port, &id, sequence, &ack)?;
            Ok(ack)
        });
        match answered {
            Ok(ack) => self.send_over(&channel.hop, Kind::acknowledgement(&packet, &ack)),
            Err(refusal) => self.acknowledge(&port, &id, packet, Answer::Refused(refusal)),
        }
    }

    pub(super) fn module_acked(&mut self, packet: &Packet, ack: Bytes) {
        let (port, id) = (&packet.source_port, &packet.source_channel);
        let Some(channel) = self.channel_of(port, id) else { return };
        let ack = match acknowledgement::read(ack) {
            Answer::Ack(ack) => Ok(ack),
            Answer::Refused(refusal) => Err(refusal),
            Answer::Discarded => Err(Refusal::new("no handler saw the record")),
            Answer::NoRoom => Err(Refusal::new("there is no memory for the record")),
        };
        let (sequence, record) = (packet.sequence, &packet.data);
        self.tell_module(port, |module, context| {
            module.on_ack(context, &channel, sequence, record, ack);
        });
    }

    /// `closed`: this has closed the channel, as it is ordered. `by_close`: the other side had.
    pub(super) fn module_timed_out(&mut self, packet: &Packet, closed: bool, by_close: bool) {
        let (port, id) = (&packet.source_port, &packet.source_channel);
        let Some(channel) = self.channel_of(port, id) else { return };
        let (sequence, record) = (packet.sequence, &packet.data);
        self.tell_module(port, |module, context| {
            module.on_timeout(context, &channel, sequence, record);
            if closed {
                module.on_close(context, &channel);
            }
        });
        if closed && !by_close {
            self.send_over(&channel.hop, Kind::channel(port, id));
        }
    }

    pub(super) fn module_closed(&mut self, port: &PortId, id: &ChannelId) {
        let Some(channel) = self.channel_of(port, id) else { return };
        self.tell_module(port, |module, context| module.on_close(context, &channel));
    }

    fn tell_module(&mut self, port: &PortId, tell: impl FnOnce(&mut dyn Module, &mut Context<'_>)) {
        let told = self.in_module(port, |module, context| {
            tell(module, context);
            Ok(())
        });
        if let Err(refusal) = told {
            tracing::error!(%port, %refusal, "a module was not told");
        }
    }

    /// Begins a channel for a module.
    pub(super) fn open_for_module(&mut self, wanted: OpenForModule) {
        let OpenForModule { port, hop, counterparty_port, order, version, reply } = wanted;
        match self.begin(&port, &hop, &counterparty_port, order, &version) {
            Ok(id) => {
                let opening = ModuleOpening { port, hop, reply: Some(reply) };
                self.module_openings.insert(id, opening);
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// Takes up the channels of modules that an earlier process had begun.
    pub(super) fn resume_module(&mut self, port: PortId, id: ChannelId, hop: ConnectionId) {
        self.module_openings.insert(id, ModuleOpening { port, hop, reply: None });
    }
}
