//! A chain that says what it is given, and hears what the host relays.
//!
//! It keeps to nothing: it writes into its ledger whatever it is to say, proves that it is there
//! and relays it, as a chain would that has gone that far, or one that is wrong. What it hears goes
//! through an engine of its own, so that all of it was proved.

mod hears;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use ibc_proto::{
    google::protobuf::Any,
    ibc::core::{
        channel::v1::{self as raw, Counterparty, MsgChannelCloseInit, MsgChannelOpenInit},
        client::v1::{MsgCreateClient, MsgUpdateClient},
        commitment::v1::MerklePrefix,
        connection::v1::{Counterparty as ConnectionCounterparty, MsgConnectionOpenInit},
    },
};
use network_testkit::replay::{End, Packet as Told, Says, Setting, Told as Tell};

use crate::{
    EngineError, LedgerKey,
    address::Order,
    client::Clients,
    engine::{
        Channel, ChannelAttempt, ChannelState, Connection, ConnectionState, Engine, Event, Message,
        PREFIX, Packet, Stage, Store as _, commit_acknowledgement, commit_packet, raw_order,
    },
    height::{Height, Timestamp},
    host::{
        datagram::Kind,
        face::{Face, Theirs},
        wire::{Batch, Client, Code, Known, Outcome, Outcomes},
    },
    identifier::{ChannelId, ClientId, ConnectionId, PortId},
    ledger::{Ledger, Trust},
    path,
};

/// Its id.
pub(super) const CHAIN: &str = "far";

/// What its packets have to get there.
const TIMEOUT: Duration = Duration::from_secs(3_600);

/// Where something is said of a channel that it has never heard of.
const NOWHERE: (&str, &str) = ("nowhere", "channel-0");

pub(super) type Shared = Arc<Mutex<Chain>>;

pub(super) fn lock(chain: &Shared) -> MutexGuard<'_, Chain> {
    chain.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) struct Chain {
    ledger: Ledger,
    engine: Engine,
    /// Its client of the host, and the host's client of it.
    client: Option<ClientId>,
    known: Known,
    /// The connections that it has begun, by their names at the host.
    hops: BTreeMap<String, ConnectionId>,
    begun: Vec<ConnectionId>,
    /// Channels that the host has begun and that it has not accepted.
    attempts: Vec<ChannelAttempt>,
    /// Its ends of channels, by those at the host.
    ends: HashMap<End, End>,
    /// Channels that it has begun and that the host does not want.
    rejected: BTreeSet<String>,
    /// Packets that it has received.
    packets: Vec<Packet>,
    /// Acknowledgements that the host has not taken, to be said again.
    again: Vec<Kind>,
    tell: Tell,
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp::from_nanos(u64::try_from(since.as_nanos()).unwrap())
}

fn names(end: &End) -> (PortId, ChannelId) {
    (PortId::known(&end.port), ChannelId::known(&end.channel))
}

fn end(port: &PortId, channel: &ChannelId) -> End {
    End { port: port.to_string(), channel: channel.to_string() }
}

fn order(ordered: bool) -> Order {
    if ordered { Order::Ordered } else { Order::Unordered }
}

fn told(packet: &Packet) -> Told {
    Told {
        source: end(&packet.source_port, &packet.source_channel),
        destination: end(&packet.destination_port, &packet.destination_channel),
        sequence: packet.sequence,
        data: packet.data.to_vec(),
    }
}

/// A packet that is to have been sent.
fn sent(told: &Told, timeout: Timestamp) -> Packet {
    let ((source_port, source_channel), (destination_port, destination_channel)) =
        (names(&told.source), names(&told.destination));
    Packet {
        sequence: told.sequence,
        source_port,
        source_channel,
        destination_port,
        destination_channel,
        data: told.data.clone().into(),
        timeout_height: Height::ZERO,
        timeout,
    }
}

impl Chain {
    pub(super) fn new(tell: Tell) -> Self {
        let key = Arc::new(LedgerKey::generate().unwrap());
        let mut ledger = Ledger::in_memory(key, CHAIN, 64).unwrap();
        ledger.commit(now()).unwrap();
        Self {
            ledger,
            engine: Engine::new(Clients::default()),
            client: None,
            known: Known::default(),
            hops: BTreeMap::new(),
            begun: Vec::new(),
            attempts: Vec::new(),
            ends: HashMap::new(),
            rejected: BTreeSet::new(),
            packets: Vec::new(),
            again: Vec::new(),
            tell,
        }
    }

    /// The states of a client of it.
    pub(super) fn states(&self) -> Client {
        let height = self.ledger.latest().unwrap().height;
        let (client, consensus) = self.ledger.client_of(height, &Trust::default()).unwrap();
        Client { client_state: Some(client), consensus_state: Some(consensus) }
    }

    /// The host has a client of it, and it makes one of the host.
    pub(super) fn meet(&mut self, known: Known, host: Client) -> Known {
        self.known = known;
        let message = MsgCreateClient {
            client_state: host.client_state,
            consensus_state: host.consensus_state,
            signer: String::new(),
        };
        let event = self.deliver(Message::CreateClient(message)).unwrap();
        let Event::ClientCreated { client } = event else { panic!("no client") };
        self.client = Some(client);
        self.knows()
    }

    /// What it knows of the host.
    fn knows(&self) -> Known {
        let client = self.client.as_ref().unwrap();
        let mut stage = Stage::new(&self.ledger);
        let Height { revision, number } = self.engine.latest_height(&mut stage, client).unwrap();
        Known { client: client.to_string(), revision, height: number, ..Known::default() }
    }

    /// Begins a connection to the host.
    pub(super) fn begin_hop(&mut self) -> Batch {
        let message = MsgConnectionOpenInit {
            client_id: self.client.as_ref().unwrap().to_string(),
            counterparty: Some(ConnectionCounterparty {
                client_id: self.known.client.clone(),
                connection_id: String::new(),
                prefix: Some(MerklePrefix { key_prefix: PREFIX.to_vec() }),
            }),
            version: None,
            delay_period: 0,
            signer: String::new(),
        };
        let event = self.deliver(Message::ConnectionOpenInit(message)).unwrap();
        let Event::ConnectionBegun { connection } = event else { panic!("no connection") };
        self.begun.push(connection.clone());
        self.relay(vec![Kind::Connection(connection.to_string())])
    }

    /// The last connection that it has begun is open: tells the host so.
    pub(super) fn confirm_hop(&mut self) -> Option<Batch> {
        let id = self.begun.last().unwrap().clone();
        let stored = self.ledger.get(&path::connection(&id)).unwrap();
        let connection = Connection::decode(&stored).unwrap();
        if connection.state != ConnectionState::Open {
            return None;
        }
        self.hops.insert(connection.counterparty.unwrap().to_string(), id.clone());
        Some(self.relay(vec![Kind::Connection(id.to_string())]))
    }

    /// The names that the hops have at the host.
    pub(super) fn are_hops_of(&self, setting: &Setting) -> bool {
        setting.hops.iter().all(|hop| self.hops.contains_key(&format!("connection-{hop}")))
    }

    fn write(&mut self, act: impl FnOnce(&mut Stage<'_>)) {
        let mut stage = Stage::new(&self.ledger);
        act(&mut stage);
        let writes = stage.into_writes();
        self.ledger.apply(writes);
    }

    fn deliver(&mut self, message: Message) -> Result<Event, EngineError> {
        let at = self.ledger.at(now());
        let mut stage = Stage::new(&self.ledger);
        let event = self.engine.deliver(&mut stage, message, at)?;
        let writes = stage.into_writes();
        self.ledger.apply(writes);
        Ok(event)
    }

    /// Makes a block, and relays things with proofs of it.
    fn relay(&mut self, kinds: Vec<Kind>) -> Batch {
        self.ledger.commit(now()).unwrap();
        let block = self.ledger.latest().unwrap();
        let mut theirs = Theirs::new(&Face::Chain, CHAIN, self.known.clone()).unwrap();
        let message =
            |kind: &Kind| kind.message(&self.ledger, block, &mut theirs).unwrap().unwrap();
        let messages = kinds.iter().map(message).collect();
        self.headed(messages)
    }

    /// Relays a message that nothing is to prove.
    fn unproved(&mut self, message: &Message) -> Batch {
        self.ledger.commit(now()).unwrap();
        self.headed(vec![message.write()])
    }

    /// Puts before messages what they are proved by.
    fn headed(&self, messages: Vec<Any>) -> Batch {
        let height = self.ledger.latest().unwrap().height;
        let Known { client, revision, height: number, .. } = self.known.clone();
        let header = self.ledger.header(height, Height::new(revision, number)).unwrap();
        let update = MsgUpdateClient {
            client_id: client,
            client_message: Some(header),
            signer: String::new(),
        };
        let update = Message::UpdateClient(update).write();
        Batch { messages: [update].into_iter().chain(messages).collect(), ..Batch::default() }
    }

    /// Its end of a channel, or one that it has not.
    fn far(&self, near: &End) -> (PortId, ChannelId) {
        let nowhere = || (PortId::known(NOWHERE.0), ChannelId::known(NOWHERE.1));
        self.ends.get(near).map_or_else(nowhere, names)
    }

    fn channel(&self, (port, id): &(PortId, ChannelId)) -> Option<Channel> {
        Channel::decode(&self.ledger.get(&path::channel(port, id))?).ok()
    }

    fn set_channel(&mut self, (port, id): &(PortId, ChannelId), channel: &Channel) {
        let first = 1_u64.to_be_bytes();
        self.write(|stage| {
            if stage.get(&path::channel(port, id)).is_none() {
                stage.set(path::next_sequence_send(port, id), first.to_vec());
                stage.set(path::next_sequence_recv(port, id), first.to_vec());
                stage.set(path::next_sequence_ack(port, id), first.to_vec());
            }
            stage.set(path::channel(port, id), channel.encode());
        });
    }

    /// A channel as it would be, had the host gone along.
    fn supposed(&self, near: &End, state: ChannelState) -> Channel {
        let (port, channel) = names(near);
        Channel {
            state,
            order: Order::Ordered,
            counterparty_port: port,
            counterparty: Some(channel),
            hop: self.begun.first().unwrap().clone(),
            version: String::new(),
        }
    }

    /// What it has to relay so as to say something; `None` if that is nothing.
    pub(super) fn says(&mut self, says: &Says) -> Result<Option<Batch>, String> {
        if self.hops.is_empty() {
            return Err("there is no hop".to_owned());
        }
        let kinds = match says {
            Says::OpenInit { near, far_port, hops, ordered, version } => {
                let counterparty =
                    Counterparty { port_id: far_port.clone(), channel_id: String::new() };
                let message = MsgChannelOpenInit {
                    port_id: near.port.clone(),
                    channel: Some(raw::Channel {
                        state: raw::State::Init as i32,
                        ordering: raw_order(order(*ordered)),
                        counterparty: Some(counterparty),
                        connection_hops: hops.clone(),
                        version: version.clone(),
                        upgrade_sequence: 0,
                    }),
                    signer: String::new(),
                };
                return Ok(Some(self.unproved(&Message::ChannelOpenInit(message))));
            }
            Says::CloseInit { near } => {
                let message = MsgChannelCloseInit {
                    port_id: near.port.clone(),
                    channel_id: near.channel.clone(),
                    signer: String::new(),
                };
                return Ok(Some(self.unproved(&Message::ChannelCloseInit(message))));
            }
            Says::OpenTry { near, far, hops, ordered, version } => {
                return self.begins(near, far, hops, *ordered, version).map(Some);
            }
            Says::OpenAck { near, far, version } => vec![self.accepts(near, far, version)],
            Says::OpenConfirm { near } => {
                let far = self.far(near);
                if self.rejected.contains(far.1.as_str()) {
                    return Ok(None);
                }
                if self.channel(&far).is_none_or(|channel| channel.state != ChannelState::Open) {
                    let open = self.supposed(near, ChannelState::Open);
                    self.set_channel(&far, &open);
                }
                vec![Kind::channel(&far.0, &far.1)]
            }
            Says::CloseConfirm { near } => {
                let far = self.far(near);
                let channel = self.channel(&far);
                let channel = channel.unwrap_or_else(|| self.supposed(near, ChannelState::Closed));
                self.set_channel(&far, &Channel { state: ChannelState::Closed, ..channel });
                vec![Kind::channel(&far.0, &far.1)]
            }
            Says::Packet(packet) => {
                let packet = sent(packet, now().saturating_add(TIMEOUT));
                let Packet { source_port, source_channel, sequence, .. } = &packet;
                let key = path::commitment(source_port, source_channel, *sequence);
                self.write(|stage| stage.set(key, commit_packet(&packet).to_vec()));
                vec![Kind::Packet(packet.raw())]
            }
            Says::Ack(place, ack) => {
                let same = |packet: &&Packet| {
                    let Told { source, destination, sequence, .. } = told(packet);
                    (&source, &destination, sequence)
                        == (&place.source, &place.destination, place.sequence)
                };
                let known = self.packets.iter().find(same).cloned();
                // Of one that it does not know it makes up the rest.
                let unknown = || sent(&Told { data: b"?".to_vec(), ..place.clone() }, now());
                let packet = known.unwrap_or_else(unknown);
                let Packet { destination_port, destination_channel, sequence, .. } = &packet;
                let key = path::acknowledgement(destination_port, destination_channel, *sequence);
                self.write(|stage| stage.set(key, commit_acknowledgement(ack).to_vec()));
                vec![Kind::acknowledgement(&packet, ack)]
            }
        };
        let kinds = kinds.into_iter().chain(self.again.clone()).collect();
        Ok(Some(self.relay(kinds)))
    }

    /// Begins a channel.
    fn begins(
        &mut self,
        near: &End,
        far: &End,
        hops: &[String],
        ordered: bool,
        version: &str,
    ) -> Result<Batch, String> {
        let [first, more @ ..] = hops else { return Err("a channel has a hop".to_owned()) };
        let hop = self.hops.get(first).ok_or_else(|| format!("there is no {first}"))?.clone();
        let (far_end, near_port) = (names(far), PortId::known(&near.port));
        let channel = Channel {
            state: ChannelState::Init,
            order: order(ordered),
            counterparty_port: near_port,
            counterparty: None,
            hop,
            version: version.to_owned(),
        };
        self.set_channel(&far_end, &channel);
        self.ends.insert(near.clone(), far.clone());
        let mut batch = self.relay(vec![Kind::channel(&far_end.0, &far_end.1)]);
        if !more.is_empty()
            && let Some(last) = batch.messages.last_mut()
            && let Ok(Message::ChannelOpenTry(mut message)) = Message::read(last)
        {
            if let Some(channel) = &mut message.channel {
                channel.connection_hops = hops.to_vec();
            }
            *last = Message::ChannelOpenTry(message).write();
        }
        Ok(batch)
    }

    /// Accepts a channel, one that the host has begun if there is one.
    fn accepts(&mut self, near: &End, far: &End, version: &str) -> Kind {
        let (port, id) = names(far);
        let begun = |attempt: &ChannelAttempt| {
            let other = end(&attempt.counterparty_port, &attempt.counterparty_channel);
            attempt.port == port && other == *near
        };
        let found = self.attempts.iter().position(begun).map(|at| self.attempts.remove(at));
        let channel = match found {
            Some(ChannelAttempt {
                order, hop, counterparty_port, counterparty_channel, ..
            }) => Channel {
                state: ChannelState::TryOpen,
                order,
                counterparty_port,
                counterparty: Some(counterparty_channel),
                hop,
                version: version.to_owned(),
            },
            None => Channel {
                version: version.to_owned(),
                ..self.supposed(near, ChannelState::TryOpen)
            },
        };
        self.set_channel(&(port.clone(), id.clone()), &channel);
        self.ends.insert(near.clone(), far.clone());
        Kind::channel(&port, &id)
    }

    /// What the host says of what was relayed.
    pub(super) fn said(&mut self, outcomes: Outcomes) -> Result<(), String> {
        if let Some(known) = outcomes.known {
            self.known = known;
        }
        let mut outcomes = outcomes.outcomes.into_iter();
        let header = outcomes.next().unwrap_or_default();
        if header.code() != Code::Done {
            return Err(format!("the header: {}", header.text));
        }
        let outcome = outcomes.next().unwrap_or_default();
        // As relayers do, what was not taken it says again with what comes next.
        let kept = self.again.drain(..).zip(outcomes.chain(std::iter::repeat_with(refused)));
        self.again = kept
            .filter(|(_, outcome)| outcome.code() == Code::Refused)
            .map(|(kind, _)| kind)
            .collect();
        if outcome.code() == Code::Refused { Err(outcome.text) } else { Ok(()) }
    }

    /// Says an acknowledgement again, with what comes next: the host has not taken it.
    pub(super) fn say_again(&mut self, says: &Says) {
        let Says::Ack(place, ack) = says else { return };
        let packet = self.packets.iter().find(|packet| {
            let Told { source, sequence, .. } = told(packet);
            source == place.source && sequence == place.sequence
        });
        self.again.extend(packet.map(|packet| Kind::acknowledgement(packet, ack)));
    }
}

fn refused() -> Outcome {
    Outcome { code: Code::Refused.into(), text: String::new() }
}
