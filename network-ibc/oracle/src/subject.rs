//! The engine of network-ibc, on a store in memory.

use bytes::Bytes;

use crate::{
    engine::{Engine, EngineError, Event, Message, Stage, Store as _, Timeout, Writes, number},
    height::{At, Height, Timestamp},
    host::{self, Memory},
    identifier::{ChannelId, PortId},
    step::{Counters, Step},
};

/// The engine, and what it has stored.
pub(crate) struct Subject {
    engine: Engine,
    pub(crate) store: Memory,
}

impl Subject {
    pub(crate) fn new() -> Self {
        Self { engine: host::engine(), store: Memory::default() }
    }

    /// How many clients, connections and channels there were.
    pub(crate) fn counters(&self) -> Counters {
        let read = |key: &str| self.store.private(key.as_bytes()).as_deref().and_then(number);
        Counters {
            clients: read("nextClientSequence").unwrap_or(0),
            connections: read("nextConnectionSequence").unwrap_or(0),
            channels: read("nextChannelSequence").unwrap_or(0),
        }
    }

    /// Takes a step, and gives what is to be written.
    pub(crate) fn take(&self, step: &Step, at: At) -> Result<(Option<Event>, Writes), EngineError> {
        let mut stage = Stage::new(&self.store);
        let event = match step {
            Step::Deliver { message, accept, acknowledgement } => {
                let read = Message::read(message)?;
                let event = self.engine.deliver(&mut stage, read, at)?;
                match (&event, accept, acknowledgement) {
                    (Event::ChannelAttempt(attempt), Some(version), _) => {
                        self.engine.accept_channel(&mut stage, attempt, version.clone())?;
                    }
                    (Event::ChannelAttempt(_), None, _) => {
                        return Err(EngineError::invalid("channel", "nobody accepts it"));
                    }
                    (Event::Received(packet), _, Some(acknowledgement)) => {
                        self.engine.write_acknowledgement(
                            &mut stage,
                            &packet.destination_port,
                            &packet.destination_channel,
                            packet.sequence,
                            acknowledgement,
                        )?;
                    }
                    _ => {}
                }
                Some(event)
            }
            Step::Send { packet } => {
                let raw = packet.timeout_height.unwrap_or_default();
                let timeout = Timeout {
                    height: Height::new(raw.revision_number, raw.revision_height),
                    time: Timestamp::from_nanos(packet.timeout_timestamp),
                };
                let port = PortId::known(&packet.source_port);
                let channel = ChannelId::known(&packet.source_channel);
                let data = Bytes::copy_from_slice(&packet.data);
                let sent =
                    self.engine.send_packet(&mut stage, &port, &channel, data, timeout, at)?;
                assert_eq!(sent.raw(), *packet, "another packet was sent");
                None
            }
            Step::Acknowledge { packet, acknowledgement } => {
                let port = PortId::known(&packet.destination_port);
                let channel = ChannelId::known(&packet.destination_channel);
                self.engine.write_acknowledgement(
                    &mut stage,
                    &port,
                    &channel,
                    packet.sequence,
                    acknowledgement,
                )?;
                None
            }
        };
        Ok((event, stage.into_writes()))
    }
}
