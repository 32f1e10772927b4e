//! Channels as connections: opened, used and closed.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use ibc_proto::ibc::core::channel::v1::{
    self as raw, Counterparty, MsgChannelCloseInit, MsgChannelOpenInit,
};
use network_core::{
    AckSink, Answer, Attempt, CloseReason, ConnectError, Delivery, Endpoint, LinkInfo, LinkSeed,
    MemoryShare, RecordId, RecordSink, Refusal, Rejection,
};
use tokio::sync::mpsc;

use super::{
    acknowledgement,
    actor::Actor,
    datagram::Kind,
    error::HostError,
    inbox::{Command, Inbox, Opening},
    link::{self, ChannelLink, Tell},
    peer,
    wire::{Rejected, Withdrawn},
};
use crate::{
    EngineError,
    address::{Channel as ChannelPart, IbcEndpoint, Order, Version},
    engine::{Channel, ChannelAttempt, Packet, Timeout, raw_order},
    error::excerpt,
    height::Height,
    identifier::{ChannelId, ConnectionId, PortId},
    path,
};

/// The timeout of a packet where the sender names none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3_600);

/// How long a channel that closes waits for handlers that have records of it: who has sent them
/// then knows that they were handled.
const HANDLERS_TIME: Duration = Duration::from_millis(250);

/// What a record costs besides its bytes until it is answered.
const OVERHEAD: usize = 256;

/// A channel that somebody in this process has, or is about to.
pub(super) struct Live {
    port: PortId,
    hop: ConnectionId,
    phase: Phase,
}

enum Phase {
    Dialing(Opening),
    Accepting(Box<LinkSeed>),
    Open(Open),
}

struct Open {
    /// Of the opening, where it was dialed.
    number: Option<u64>,
    counterparty: ChannelId,
    order: Order,
    /// How long a close waits for what is under way.
    close_time: Duration,
    acks: AckSink,
    records: RecordSink,
    share: MemoryShare,
    tell: mpsc::UnboundedSender<Tell>,
    /// Packets without an acknowledgement.
    sent: HashMap<u64, Sent>,
    /// Packets that await one from here.
    held: HashMap<u64, Packet>,
    /// Acknowledgements that wait for those of packets before theirs: of an ordered channel they
    /// are taken in order only (ICS-004, `acknowledgePacket`). And the one that is due.
    early: BTreeMap<u64, Kind>,
    due: u64,
    /// Why the channel closes.
    closing: Option<CloseReason>,
    /// Handlers were waited for.
    left: bool,
    /// The channel is closed; what is under way is still told.
    closed: bool,
}

struct Sent {
    record: RecordId,
    after: Duration,
    /// Under which number it is kept for the relayer.
    out: Option<u64>,
    /// The other side has received it.
    received: bool,
}

/// One end of a channel as an endpoint.
fn endpoint(
    hop: Option<&ConnectionId>,
    port: &PortId,
    order: Order,
    version: &str,
    id: Option<&ChannelId>,
) -> Result<Endpoint, HostError> {
    let channel = ChannelPart { order, version: Version::new(version)?, id: id.cloned() };
    let endpoint = IbcEndpoint {
        hops: hop.into_iter().cloned().collect(),
        port: port.clone(),
        channel: Some(channel),
    };
    endpoint
        .to_endpoint()
        .map_err(|error| EngineError::invalid("version of the channel", error.to_string()).into())
}

fn failed(remote: &Endpoint, error: impl Into<HostError>) -> ConnectError {
    let source = Box::new(error.into());
    ConnectError::Backend { remote: remote.clone(), protocol: "ibc", source }
}

impl Actor {
    pub(super) fn open(&mut self, opening: Opening) {
        if opening.reply.is_closed() {
            return;
        }
        // Its handshake is about to end: the other side may be a step ahead.
        if self.hops.is_open(&opening.hop) == Some(false) {
            return self.waiting_open.push(opening);
        }
        let Opening { port, hop, counterparty_port, order, version, .. } = &opening;
        let begun = self.begin(port, hop, counterparty_port, *order, version);
        match begun {
            Ok(id) => {
                let (port, hop) = (opening.port.clone(), opening.hop.clone());
                self.channels.insert(id, Live { port, hop, phase: Phase::Dialing(opening) });
            }
            Err(error) => {
                let Opening { remote, seed, reply, .. } = opening;
                drop(seed);
                let _ = reply.send(Err(failed(&remote, error)));
            }
        }
    }

    pub(super) fn begin(
        &mut self,
        port: &PortId,
        hop: &ConnectionId,
        counterparty_port: &PortId,
        order: Order,
        version: &str,
    ) -> Result<ChannelId, HostError> {
        if self.hops.is_open(hop) != Some(true) {
            return Err(HostError::NoHop { hop: hop.clone() });
        }
        Ok(self.begin_channel(MsgChannelOpenInit {
            port_id: port.to_string(),
            channel: Some(raw::Channel {
                state: raw::State::Init as i32,
                ordering: raw_order(order),
                counterparty: Some(Counterparty {
                    port_id: counterparty_port.to_string(),
                    channel_id: String::new(),
                }),
                connection_hops: vec![hop.to_string()],
                version: version.to_owned(),
                upgrade_sequence: 0,
            }),
            signer: String::new(),
        })?)
    }

    /// The channels to a chain that this side has begun and that are not open yet.
    pub(super) fn dialing(&self, chain: &str) -> Vec<(PortId, ChannelId)> {
        let dialing = self.channels.iter().filter(|(_, live)| {
            matches!(live.phase, Phase::Dialing(_)) && self.leads_to(&live.hop, chain)
        });
        dialing.map(|(id, live)| (live.port.clone(), id.clone())).collect()
    }

    /// Asks the listener of a port for a decision, which comes as a command.
    pub(super) fn ask(&mut self, attempt: ChannelAttempt) {
        if self.modules.has(&attempt.port) {
            return self.module_tried(&attempt);
        }
        let ChannelAttempt { port, channel, hop, order, version, .. } = &attempt;
        let (found, channel) = (self.ports.acceptor(port, hop), channel.clone());
        let local = endpoint(None, port, *order, version, Some(&channel));
        let (other_port, other) = (&attempt.counterparty_port, &attempt.counterparty_channel);
        let remote = endpoint(Some(hop), other_port, *order, version, Some(other));
        let inbox = self.inbox.clone();
        let (acceptor, asked) = match (found, local, remote) {
            (Some(acceptor), Ok(local), Ok(remote)) => (acceptor, Attempt::new(local, remote)),
            (None, ..) => {
                let decision = Err(Rejection::NotListening);
                return inbox.push(Command::Decided { attempt, decision });
            }
            (_, Err(error), _) | (.., Err(error)) => {
                let decision = Err(Rejection::Declined(Refusal::new(error.to_string())));
                return inbox.push(Command::Decided { attempt, decision });
            }
        };
        let asking = tokio::spawn(async move {
            let decision = acceptor.attempt(asked).await.map(Box::new);
            inbox.push(Command::Decided { attempt, decision });
        });
        self.asked.insert(channel, asking.abort_handle());
    }

    /// Nobody waits any more for a channel that this side has begun, or was to begin.
    pub(super) fn withdraw(&mut self, number: u64) {
        self.waiting_open.retain(|opening| opening.number != number);
        let wanted = |live: &Live| match &live.phase {
            Phase::Dialing(opening) => opening.number == number,
            Phase::Open(open) => open.number == Some(number),
            Phase::Accepting(_) => false,
        };
        let found = self.channels.iter().find(|(_, live)| wanted(live));
        let Some((id, open)) =
            found.map(|(id, live)| (id.clone(), matches!(live.phase, Phase::Open(_))))
        else {
            return;
        };
        if open {
            // It has just opened, and nobody has it.
            return self.close(&id, CloseReason::Local);
        }
        let Some(Live { port, hop, .. }) = self.channels.remove(&id) else { return };
        self.forget_channel(&port, &id);
        let theirs = self.connection(&hop).and_then(|end| end.counterparty);
        if let (Some(theirs), Some(aside)) = (theirs, self.aside(&hop)) {
            let (hop, port, channel) = (theirs.to_string(), port.to_string(), id.to_string());
            aside.withdrawn.push(Withdrawn { hop, port, channel });
        }
    }

    /// The other side does not want a channel any more that it has begun.
    pub(super) fn withdrawn(&mut self, chain: &str, withdrawn: &Withdrawn) {
        let Withdrawn { hop, port, channel } = withdrawn;
        if !self.leads_to(&ConnectionId::known(hop), chain) {
            return;
        }
        let Some(id) = self.tried(hop, port, channel) else { return };
        if let Some(asking) = self.asked.remove(&id) {
            asking.abort();
        }
        let accepting = |live: &Live| matches!(live.phase, Phase::Accepting(_));
        if self.channels.get(&id).is_some_and(accepting)
            && let Some(Live { port, .. }) = self.channels.remove(&id)
        {
            self.end(&port, &id);
        }
    }

    pub(super) fn decided(
        &mut self,
        attempt: ChannelAttempt,
        decision: Result<Box<LinkSeed>, Rejection>,
    ) {
        let withdrawn = self.asked.remove(&attempt.channel).is_none();
        if withdrawn && decision.is_ok() {
            return self.forget_attempt(&attempt);
        }
        let decision = decision.and_then(|seed| {
            let version = seed.version().unwrap_or(&attempt.version).to_owned();
            self.with(|engine, stage, _| engine.accept_channel(stage, &attempt, version))
                .map_err(|error| Rejection::Declined(Refusal::new(error.to_string())))?;
            Ok(seed)
        });
        match decision {
            Ok(seed) => {
                let ChannelAttempt { port, channel, hop, .. } = attempt;
                self.send_over(&hop, Kind::channel(&port, &channel));
                self.channels.insert(channel, Live { port, hop, phase: Phase::Accepting(seed) });
            }
            Err(why) => {
                self.forget_attempt(&attempt);
                if let Some(aside) = self.aside(&attempt.hop) {
                    aside.rejected.push(peer::rejected(&attempt.counterparty_channel, &why));
                }
            }
        }
    }

    /// The other side does not want a channel that this side has begun.
    pub(super) fn rejected(&mut self, chain: &str, rejected: &Rejected) {
        let id = ChannelId::known(&rejected.channel);
        if let Some(opening) = self.module_openings.get(&id) {
            if self.leads_to(&opening.hop, chain) {
                let why = peer::rejection(rejected).to_string();
                self.module_refused(&id, Refusal::new(why));
            }
            return;
        }
        let dialing = |live: &Live| {
            matches!(live.phase, Phase::Dialing(_)) && self.leads_to(&live.hop, chain)
        };
        if self.channels.get(&id).is_some_and(dialing)
            && let Some(Live { phase: Phase::Dialing(opening), port, .. }) =
                self.channels.remove(&id)
        {
            self.forget_channel(&port, &id);
            let Opening { remote, seed, reply, .. } = opening;
            // Who is told counts its connections.
            drop(seed);
            let reason = peer::rejection(rejected);
            let _ = reply.send(Err(ConnectError::Rejected { remote, reason }));
        }
    }

    /// A channel that never opened leaves nothing behind.
    pub(super) fn forget_channel(&mut self, port: &PortId, id: &ChannelId) {
        let keys = [
            path::channel(port, id),
            path::next_sequence_send(port, id),
            path::next_sequence_recv(port, id),
            path::next_sequence_ack(port, id),
        ];
        let removed = self.with(|_, stage, _| {
            keys.into_iter().for_each(|key| stage.remove(key));
            Ok(())
        });
        debug_assert!(removed.is_ok(), "nothing is checked");
    }

    pub(super) fn channel_is_open(&mut self, port: &PortId, id: &ChannelId) {
        let channel = self.with(|engine, stage, _| engine.channel(stage, port, id));
        let Ok(channel) = channel else { return };
        match self.channels.remove(id) {
            Some(Live { phase: Phase::Dialing(opening), .. }) => {
                self.send_over(&channel.hop, Kind::channel(port, id));
                if opening.reply.is_closed() {
                    return self.end(port, id);
                }
                let Opening { seed, remote, reply, number, .. } = opening;
                match self.establish(*seed, port, id, &channel, Some(number)) {
                    Ok(connection) => {
                        let (inbox, channel) = (self.inbox.clone(), id.clone());
                        self.after.push(Box::new(move || {
                            // Who waited has just gone.
                            if reply.send(Ok(connection)).is_err() {
                                inbox.push(Command::Close { channel, reason: CloseReason::Local });
                            }
                        }));
                    }
                    Err(error) => {
                        self.end_revoked(port, id, &channel);
                        let _ = reply.send(Err(failed(&remote, error)));
                    }
                }
            }
            Some(Live { phase: Phase::Accepting(seed), .. }) => {
                if self.establish(*seed, port, id, &channel, None).is_err() {
                    self.end_revoked(port, id, &channel);
                }
            }
            // Its process has ended.
            _ => self.end(port, id),
        }
    }

    fn establish(
        &mut self,
        seed: LinkSeed,
        port: &PortId,
        id: &ChannelId,
        channel: &Channel,
        number: Option<u64>,
    ) -> Result<network_core::Connection, HostError> {
        let Channel { order, counterparty_port, counterparty, hop, version, .. } = channel;
        let local = endpoint(None, port, *order, version, Some(id))?;
        let remote =
            endpoint(Some(hop), counterparty_port, *order, version, counterparty.as_ref())?;
        let (share, close_time) = (seed.memory_share(), seed.limits().close_time);
        let mut info = LinkInfo::symmetric(local, remote, seed.limits());
        info.max_record_len = info.max_record_len.min(Packet::MAX_DATA);
        (info.no_empty_records, info.proves_timeouts) = (true, true);
        let open = seed.agree(info);
        let (acks, records) = (open.acks(), open.records());
        let link = ChannelLink { inbox: self.inbox.clone(), channel: id.clone() };
        let revoked = |_| EngineError::invalid("port", "it was revoked");
        let (connection, events) = open.establish(Arc::new(link)).map_err(revoked)?;
        let (tell, told) = mpsc::unbounded_channel();
        tokio::spawn(link::run(events, told));
        let unnamed = || EngineError::invalid("channel", "its other end has no name");
        let open = Open {
            number,
            counterparty: counterparty.clone().ok_or_else(unnamed)?,
            order: *order,
            close_time,
            acks,
            records,
            share,
            tell,
            sent: HashMap::new(),
            held: HashMap::new(),
            early: BTreeMap::new(),
            due: 1,
            closing: None,
            left: false,
            closed: false,
        };
        let live = Live { port: port.clone(), hop: hop.clone(), phase: Phase::Open(open) };
        self.channels.insert(id.clone(), live);
        Ok(connection)
    }

    fn live(&mut self, id: &ChannelId) -> Option<(&PortId, &ConnectionId, &mut Open)> {
        match self.channels.get_mut(id)? {
            Live { port, hop, phase: Phase::Open(open) } => Some((port, hop, open)),
            _ => None,
        }
    }

    pub(super) fn send(
        &mut self,
        id: &ChannelId,
        record: RecordId,
        payload: Bytes,
        timeout: Option<Duration>,
    ) {
        // What is sent to a channel that is gone has its fate from its end.
        let Some((port, hop, _)) = self.live(id) else { return };
        let (port, hop) = (port.clone(), hop.clone());
        let after = timeout.unwrap_or(DEFAULT_TIMEOUT);
        let sent = self.with(|engine, stage, at| {
            let timeout = Timeout { height: Height::ZERO, time: at.time.saturating_add(after) };
            engine.send_packet(stage, &port, id, payload, timeout, at)
        });
        match sent {
            Ok(packet) => {
                let out = self.relay_packet(&hop, &packet);
                if let Some((.., open)) = self.live(id) {
                    open.sent.insert(packet.sequence, Sent { record, after, out, received: false });
                }
            }
            Err(error) => {
                tracing::debug!(%id, %error, "a record was not sent");
                let Some((.., open)) = self.live(id) else { return };
                let _ = match error {
                    EngineError::TimedOut { .. } => open.acks.timed_out(record, after),
                    _ => open.acks.answer(record, Answer::Discarded),
                };
            }
        }
    }

    pub(super) fn received(&mut self, packet: Packet) {
        let (id, sequence) = (packet.destination_channel.clone(), packet.sequence);
        match self.live(&id) {
            Some((.., open)) if open.share.hold(packet.data.len() + OVERHEAD) => {
                let (records, data) = (open.records.clone(), packet.data.clone());
                open.held.insert(sequence, packet);
                // No handler sees it before it is stored that it was received: after a crash it
                // would be proved that it was not.
                let inbox = self.inbox.clone();
                self.after.push(Box::new(move || {
                    if let Err(answer) = records.record(RecordId(sequence), data) {
                        inbox.push(Command::Answer { channel: id, sequence, answer });
                    }
                }));
            }
            found => {
                let (known, port) = (found.is_some(), packet.destination_port.clone());
                let answer = if known { Answer::NoRoom } else { Answer::Discarded };
                self.acknowledge(&port, &id, packet, answer);
            }
        }
    }

    /// The handler's answer to a record.
    pub(super) fn answer(&mut self, id: &ChannelId, sequence: u64, answer: Answer) {
        let Some((port, _, open)) = self.live(id) else { return };
        let Some(packet) = open.held.remove(&sequence) else { return };
        open.share.release(packet.data.len() + OVERHEAD);
        let (port, closed) = (port.clone(), open.closed);
        if !closed {
            self.acknowledge(&port, id, packet, answer);
        }
        self.go_on_closing(id);
    }

    pub(super) fn acknowledge(
        &mut self,
        port: &PortId,
        id: &ChannelId,
        packet: Packet,
        answer: Answer,
    ) {
        let ack = acknowledgement::write(answer);
        let sequence = packet.sequence;
        let written = self.with(|engine, stage, _| {
            engine.write_acknowledgement(stage, port, id, sequence, &ack)?;
            engine.channel(stage, port, id)
        });
        match written {
            Ok(channel) => {
                let kind = Kind::acknowledgement(&packet, &ack);
                match self.live(id) {
                    Some((_, hop, open)) if open.order == Order::Ordered => {
                        let hop = hop.clone();
                        open.early.insert(sequence, kind);
                        while let Some((.., open)) = self.live(id)
                            && let Some(kind) = open.early.remove(&open.due)
                        {
                            open.due += 1;
                            self.send_over(&hop, kind);
                        }
                    }
                    _ => self.send_over(&channel.hop, kind),
                }
            }
            Err(error) => tracing::debug!(%id, sequence, %error, "an ack was not written"),
        }
    }

    pub(super) fn acknowledged(&mut self, packet: &Packet, ack: Bytes) {
        let id = &packet.source_channel;
        let Some((.., open)) = self.live(id) else { return };
        if let Some(sent) = open.sent.remove(&packet.sequence) {
            // Stale only if the connection is over: then the record has its answer.
            let _ = open.acks.answer(sent.record, acknowledgement::read(ack));
        }
        self.go_on_closing(id);
    }

    /// It is proved that a packet was not received and will not be. `closed`: this has closed the
    /// channel, as it is ordered. `by_close`: because the other end had closed.
    pub(super) fn timed_out(&mut self, packet: &Packet, closed: bool, by_close: bool) {
        let id = &packet.source_channel;
        let Some((port, hop, open)) = self.live(id) else { return };
        let (port, hop) = (port.clone(), hop.clone());
        let sent = open.sent.remove(&packet.sequence);
        if let Some(sent) = &sent {
            let _ = match by_close {
                true => open.acks.answer(sent.record, Answer::Discarded),
                false => open.acks.timed_out(sent.record, sent.after),
            };
        }
        if let Some(out) = sent.and_then(|sent| sent.out) {
            self.forget_out(&hop, out);
        }
        match (closed, by_close) {
            (true, false) => {
                self.send_over(&hop, Kind::channel(&port, id));
                self.over(id, &CloseReason::TimedOut, Delivery::Unknown);
            }
            // What else says so comes too late, if it comes at all.
            (true, true) => self.other_side_closed(id),
            (false, _) => self.go_on_closing(id),
        }
    }

    /// The other side has refused what was relayed to it, for good.
    pub(super) fn refused(&mut self, chain: &str, kind: &Kind, text: &str) {
        tracing::warn!(text = excerpt(text), "the other side refuses what is relayed to it");
        if let Kind::Channel(end) = kind {
            let rejected =
                Rejected { channel: end.channel.clone(), reason: 2, text: text.to_owned() };
            self.rejected(chain, &rejected);
            // Or it is one that the other side had begun and knows no more.
            let id = ChannelId::known(&end.channel);
            let accepting = |live: &Live| matches!(live.phase, Phase::Accepting(_));
            if self.channels.get(&id).is_some_and(accepting)
                && let Some(Live { port, .. }) = self.channels.remove(&id)
            {
                self.end(&port, &id);
            }
        }
    }

    /// Closes a channel once nothing is under way on it, or after the time that this may take.
    pub(super) fn close(&mut self, id: &ChannelId, reason: CloseReason) {
        let Some((.., open)) = self.live(id) else { return };
        if open.closing.is_some() {
            return;
        }
        let closing = peer::closing(&open.counterparty, &reason);
        self.begin_close(id, reason);
        // So that the other side ends what it has to do.
        if let Some((_, hop, _)) = self.live(id) {
            let hop = hop.clone();
            if let Some(aside) = self.aside(&hop) {
                aside.closing.push(closing);
            }
        }
        self.go_on_closing(id);
    }

    fn begin_close(&mut self, id: &ChannelId, reason: CloseReason) {
        let Some((.., open)) = self.live(id) else { return };
        open.closing = Some(reason);
        let within = open.close_time;
        let later = |inbox: Arc<Inbox>, time, command| {
            tokio::spawn(async move {
                tokio::time::sleep(time).await;
                inbox.push(command);
            });
        };
        let leave = Command::LeaveHandlers { channel: id.clone() };
        later(self.inbox.clone(), HANDLERS_TIME.min(within), leave);
        later(self.inbox.clone(), within, Command::CloseNow { channel: id.clone() });
    }

    /// The other side is about to close a channel, and says why.
    pub(super) fn closes(&mut self, chain: &str, closing: &Rejected) {
        let id = ChannelId::known(&closing.channel);
        if !self.channels.get(&id).is_some_and(|live| self.leads_to(&live.hop, chain)) {
            return;
        }
        let Some((.., open)) = self.live(&id) else { return };
        if open.closing.is_some() {
            return;
        }
        let reason = peer::close_reason(closing);
        let _ = open.tell.send(Tell::Closing(reason.clone()));
        self.begin_close(&id, reason);
        self.go_on_closing(&id);
    }

    /// A channel that closes has waited for handlers, here and at the other side.
    pub(super) fn leave_handlers(&mut self, id: &ChannelId) {
        let Some((.., open)) = self.live(id) else { return };
        open.left = true;
        for (_, packet) in open.held.drain() {
            open.share.release(packet.data.len() + OVERHEAD);
        }
        self.go_on_closing(id);
    }

    /// The other side has closed the channel. What it has not answered it has not received, and
    /// it proves that.
    pub(super) fn other_side_closed(&mut self, id: &ChannelId) {
        // It may never have opened here.
        if self.channels.get(id).is_some_and(|live| !matches!(live.phase, Phase::Open(_))) {
            self.channels.remove(id);
            return;
        }
        let Some((.., open)) = self.live(id) else { return };
        open.closed = true;
        if open.closing.is_none() {
            let _ = open.tell.send(Tell::Closing(CloseReason::Remote));
            self.begin_close(id, CloseReason::Remote);
        }
        self.go_on_closing(id);
    }

    /// The other side has received a packet.
    pub(super) fn was_received(&mut self, packet: &raw::Packet) {
        let id = ChannelId::known(&packet.source_channel);
        let Some((.., open)) = self.live(&id) else { return };
        if let Some(sent) = open.sent.get_mut(&packet.sequence) {
            // It is not kept any more.
            (sent.received, sent.out) = (true, None);
        }
        self.go_on_closing(&id);
    }

    fn go_on_closing(&mut self, id: &ChannelId) {
        let Some((port, _, open)) = self.live(id) else { return };
        let Some(reason) = open.closing.clone() else { return };
        // Of what was received, nothing more comes but what handlers say.
        let waits = |sent: &Sent| !(sent.received && (open.left || open.closed));
        if open.sent.values().any(waits) || !(open.closed || open.held.is_empty()) {
            return;
        }
        // What is un-acked and was not sent has not left yet.
        let none = open.sent.is_empty();
        let unacked = if none { Delivery::NotDelivered } else { Delivery::Unknown };
        let (port, closed) = (port.clone(), open.closed);
        if !closed {
            self.end(&port, id);
        }
        self.over(id, &reason, unacked);
    }

    pub(super) fn close_now(&mut self, id: &ChannelId) {
        let Some((port, _, open)) = self.live(id) else { return };
        let Some(reason) = open.closing.clone() else { return };
        let (port, closed) = (port.clone(), open.closed);
        if !closed {
            self.end(&port, id);
        }
        self.over(id, &reason, Delivery::Unknown);
    }

    /// The channel is closed: its connection learns it once that is stored.
    fn over(&mut self, id: &ChannelId, reason: &CloseReason, unacked: Delivery) {
        if let Some(Live { phase: Phase::Open(open), .. }) = self.channels.remove(id) {
            let reason = reason.clone();
            self.after.push(Box::new(move || drop(open.tell.send(Tell::Over(reason, unacked)))));
        }
    }

    /// Closes a channel whose port was revoked before it opened.
    fn end_revoked(&mut self, port: &PortId, id: &ChannelId, channel: &Channel) {
        if let (Some(other), Some(aside)) = (&channel.counterparty, self.aside(&channel.hop)) {
            aside.closing.push(peer::closing(other, &CloseReason::Revoked));
        }
        self.end(port, id);
    }

    pub(super) fn end(&mut self, port: &PortId, id: &ChannelId) {
        let ended = self.end_channel(MsgChannelCloseInit {
            port_id: port.to_string(),
            channel_id: id.to_string(),
            signer: String::new(),
        });
        if let Err(error) = ended {
            tracing::debug!(%id, %error, "a channel was not closed");
        }
    }
}
