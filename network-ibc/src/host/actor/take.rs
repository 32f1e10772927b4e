//! What other hosts relay to this one.

use bytes::Bytes;
use ibc_proto::{google::protobuf::Any, ibc::core::channel::v1 as raw};

use super::{Actor, keys};
use crate::{
    ClientError, EngineError,
    client::SOLO_MACHINE,
    engine::{ConnectionState, Event, Message, Store as _},
    host::{
        datagram::{self, Kind},
        peer::Peer,
        wire::{Batch, Code, Outcome, Outcomes},
    },
    identifier::{ChannelId, ConnectionId, PortId},
};

/// Of how many packets at once the other side is told that they are done with.
const SETTLED_TOGETHER: u32 = 1_024;

impl Actor {
    pub(super) fn take_batch(&mut self, chain: &str, batch: Batch) -> Outcomes {
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
        // They ask for answers, and all others do not.
        let asks = matches!(
            message,
            Message::RecvPacket(_) | Message::ChannelOpenTry(_) | Message::ConnectionOpenTry(_)
        );
        if asks && self.peers.get_mut(chain).is_some_and(Peer::is_behind) {
            return Ok(Code::Later);
        }
        match message {
            Message::ConnectionOpenTry(try_) => {
                // A host says it again until it hears that it was heard.
                let other = try_.counterparty.clone().unwrap_or_default();
                let tried = keys::tried(&try_.client_id, &other.connection_id);
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
                let tried = keys::tried_channel(hop, &other.port_id, &other.channel_id);
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
                        return match packet {
                            Some(packet) if self.is_of(chain, &packet) => {
                                Ok(self.not_received(chain, packet, &error))
                            }
                            _ => Err(error),
                        };
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
                    self.proved(chain, packet);
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
    pub(super) fn settle(&mut self, port: &PortId, id: &ChannelId) {
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
        if self.ledger.private(&keys::theirs(&chain)).is_some() {
            return;
        }
        // Not stored: what is forgotten by a restart is said with what follows.
        self.peer(&chain).push_new(Kind::settled(port, id));
    }

    /// Whether a packet is of a channel that leads to a chain: what is proved of one is proved to its
    /// sender, and who has not sent it has no use for that.
    fn is_of(&mut self, chain: &str, packet: &raw::Packet) -> bool {
        let port = PortId::known(&packet.destination_port);
        let id = ChannelId::known(&packet.destination_channel);
        let end = self.with(|engine, stage, _| engine.channel(stage, &port, &id));
        end.is_ok_and(|end| {
            let other = end.counterparty.as_ref().map(ChannelId::as_str);
            self.leads_to(&end.hop, chain)
                && end.counterparty_port.as_str() == packet.source_port
                && other == Some(&packet.source_channel)
        })
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
        self.write(keys::out(chain, number), None);
        Code::Unreceived
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
