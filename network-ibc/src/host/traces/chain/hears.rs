//! What the chain hears: it verifies all of it, and tells of it.

use std::time::Duration;

use ibc_proto::{google::protobuf::Any, ibc::core::channel::v1::MsgChannelOpenAck};
use network_testkit::replay::{End, Hears};

use super::{Chain, end, names, told};
use crate::{
    EngineError,
    address::Order,
    engine::{ChannelAttempt, Event, Message, Packet, Stage},
    height::Height,
    host::wire::{Batch, Code, Outcome, Outcomes},
    identifier::ConnectionId,
};

impl Chain {
    /// Handles what the host relays.
    pub(in crate::host::traces) fn hears(&mut self, batch: Batch) -> Outcomes {
        let outcomes = batch.messages.iter().map(|message| self.hears_one(message)).collect();
        for rejected in batch.rejected {
            self.rejected.insert(rejected.channel.clone());
            let why = format!("{} {}", rejected.reason, rejected.text);
            (self.tell)(Hears::Rejected { channel: rejected.channel, why });
        }
        Outcomes { outcomes, known: Some(self.knows()) }
    }

    fn hears_one(&mut self, message: &Any) -> Outcome {
        match Message::read(message).and_then(|message| self.takes(message)) {
            Ok(heard) => {
                heard.into_iter().for_each(&*self.tell);
                Outcome::default()
            }
            Err(error) => {
                // It has closed the channel itself.
                if !matches!(error, EngineError::State { .. }) {
                    (self.tell)(Hears::Nonsense(format!("{}: {error}", message.type_url)));
                }
                Outcome { code: Code::Refused.into(), text: error.to_string() }
            }
        }
    }

    fn takes(&mut self, message: Message) -> Result<Option<Hears>, EngineError> {
        Ok(match message {
            Message::ChannelOpenAck(ack) => {
                let accepted = self.accepted(&ack);
                self.deliver(Message::ChannelOpenAck(ack))?;
                accepted
            }
            Message::RecvPacket(receive) => {
                let height = receive.proof_height.map(Height::from).unwrap_or_default();
                match self.deliver(Message::RecvPacket(receive))? {
                    Event::Received(packet) => self.received(packet, height),
                    _ => None,
                }
            }
            other => {
                let event = self.deliver(other)?;
                self.happened(event)
            }
        })
    }

    /// The host accepts a channel.
    fn accepted(&self, ack: &MsgChannelOpenAck) -> Option<Hears> {
        let far = End { port: ack.port_id.clone(), channel: ack.channel_id.clone() };
        let channel = self.channel(&names(&far))?;
        let port = channel.counterparty_port.to_string();
        let near = End { port, channel: ack.counterparty_channel_id.clone() };
        if self.ends.get(&near) != Some(&far) {
            return Some(Hears::Nonsense(format!("the host calls it {}", near.channel)));
        }
        Some(Hears::OpenTry {
            near,
            far,
            hop: self.hop_of(&channel.hop)?,
            ordered: channel.order == Order::Ordered,
            version: ack.counterparty_version.clone(),
        })
    }

    /// The host has sent a packet, which is in its block of a height.
    fn received(&mut self, packet: Packet, height: Height) -> Option<Hears> {
        let mut stage = Stage::new(&self.ledger);
        let sent = self.engine.timestamp_at(&mut stage, self.client.as_ref()?, height).ok()?;
        let left = packet.timeout.as_nanos().saturating_sub(sent.as_nanos());
        // What it gives a packet it counts from a moment before its block.
        let timeout = Duration::from_secs(left.div_ceil(1_000_000_000));
        let told = told(&packet);
        self.packets.push(packet);
        Some(Hears::Packet(told, timeout))
    }

    /// What has come of a message.
    fn happened(&mut self, event: Event) -> Option<Hears> {
        match event {
            Event::ChannelAttempt(attempt) => {
                let ChannelAttempt { port, order, hop, counterparty_port, version, .. } = &attempt;
                let heard = Hears::OpenInit {
                    near_port: counterparty_port.to_string(),
                    far_port: port.to_string(),
                    hop: self.hop_of(hop)?,
                    ordered: *order == Order::Ordered,
                    version: version.clone(),
                };
                self.attempts.push(attempt);
                Some(heard)
            }
            Event::Acknowledged { packet, acknowledgement } => {
                Some(Hears::Ack(told(&packet), acknowledgement.to_vec()))
            }
            Event::ChannelClosed { port, channel } => {
                let closed = self.channel(&(port, channel))?;
                let near = end(&closed.counterparty_port, &closed.counterparty?);
                Some(Hears::Close { near })
            }
            _ => None,
        }
    }

    /// The host's name of a hop.
    fn hop_of(&self, hop: &ConnectionId) -> Option<String> {
        self.hops.iter().find(|(_, own)| *own == hop).map(|(name, _)| name.clone())
    }
}
