//! A host with a client, connections and channels, and whatever proof it asks for.

use bytes::Bytes;
use ibc_proto::{
    google::protobuf::Any,
    ibc::core::{
        channel::v1::{
            self as raw, Counterparty as ChannelCounterparty, MsgAcknowledgement,
            MsgChannelCloseConfirm, MsgChannelCloseInit, MsgChannelOpenAck, MsgChannelOpenConfirm,
            MsgChannelOpenInit, MsgChannelOpenTry, MsgRecvPacket, MsgTimeout, MsgTimeoutOnClose,
        },
        client::v1::{Height as RawHeight, MsgCreateClient, MsgUpdateClient},
        commitment::v1::MerklePrefix,
        connection::v1::{
            ConnectionEnd, Counterparty, MsgConnectionOpenAck, MsgConnectionOpenConfirm,
            MsgConnectionOpenInit, MsgConnectionOpenTry, State, Version,
        },
    },
};
use prost::Message as _;

use super::{
    host::{self, Memory},
    stand::{self, Consensus, Header, KIND},
};
use crate::{
    address::Order,
    engine::{
        Engine, EngineError, Event, Message, MsgSettle, Packet, Stage, Timeout,
        connection::version,
        packet::{commit_acknowledgement, commit_packet},
        raw_order,
    },
    height::{At, Height, Timestamp},
    identifier::{ChannelId, PortId},
    path,
};

pub(super) const SECOND: u64 = 1_000_000_000;
/// The time of the first header, and of the host when it starts.
pub(super) const START: u64 = 1_800_000_000 * SECOND;
const ROOT: u64 = 5;
pub(super) const TRUSTING: u64 = 1000 * SECOND;
pub(super) const CLIENT: &str = "10-stand-in-0";
pub(super) const FAR_CHANNEL: &str = "channel-77";
pub(super) const ACK: &[u8] = b"well";

pub(super) struct Fixture {
    pub(super) engine: Engine,
    pub(super) store: Memory,
    pub(super) at: At,
    /// The newest height that the client knows.
    pub(super) known: Height,
}

/// A port and a channel of the host.
pub(super) type End = (PortId, ChannelId);

pub(super) fn port() -> PortId {
    PortId::known("near")
}

fn raw_height(height: Height) -> Option<RawHeight> {
    Some(height.into())
}

impl Fixture {
    /// A host that has a client.
    pub(super) fn new() -> Self {
        let at = At { time: Timestamp::from_nanos(START), height: Height::new(1, 50) };
        let known = Height::new(0, 10);
        let mut fixture = Self { engine: host::engine(), store: Memory::default(), at, known };
        fixture.deliver(Fixture::client((0, 10), START, false)).unwrap();
        fixture
    }

    pub(super) fn client(latest: (u64, u64), time: u64, frozen: bool) -> Message {
        let state = stand::State { latest, trusting: TRUSTING, frozen }.write();
        let first = Consensus { time, root: ROOT }.write();
        Message::CreateClient(MsgCreateClient {
            client_state: Some(Any { type_url: KIND.to_owned(), value: state }),
            consensus_state: Some(Any { type_url: stand::CONSENSUS.to_owned(), value: first }),
            signer: String::new(),
        })
    }

    pub(super) fn header(number: u64, time: u64) -> Message {
        let consensus = Consensus { time, root: ROOT };
        let header = Header { height: (0, number), consensus, genuine: true };
        Self::client_message(stand::HEADER, header.write())
    }

    pub(super) fn client_message(type_url: &str, value: Vec<u8>) -> Message {
        Message::UpdateClient(MsgUpdateClient {
            client_id: CLIENT.to_owned(),
            client_message: Some(Any { type_url: type_url.to_owned(), value }),
            signer: String::new(),
        })
    }

    /// Tells the client of a header, and proves at it from now on.
    pub(super) fn update(&mut self, number: u64, time: u64) {
        self.deliver(Self::header(number, time)).unwrap();
        self.known = self.known.max(Height::new(0, number));
    }

    pub(super) fn freeze(&mut self) {
        self.deliver(Self::client_message(stand::EVIDENCE, stand::evidence(true))).unwrap();
    }

    /// Moves the host in time, and by a block.
    pub(super) fn wait(&mut self, nanos: u64) {
        self.at.time = Timestamp::from_nanos(self.at.time.as_nanos() + nanos);
        self.at.height.number += 1;
    }

    /// Delivers a message, and keeps what it writes if it succeeds.
    pub(super) fn deliver(&mut self, message: Message) -> Result<Event, EngineError> {
        let mut stage = Stage::new(&self.store);
        let event = self.engine.deliver(&mut stage, message, self.at)?;
        let writes = stage.into_writes();
        self.store.apply(writes);
        Ok(event)
    }

    /// Does something else with the engine, in the same way.
    pub(super) fn with<T>(
        &mut self,
        call: impl FnOnce(&Engine, &mut Stage<'_>, At) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let mut stage = Stage::new(&self.store);
        let done = call(&self.engine, &mut stage, self.at)?;
        let writes = stage.into_writes();
        self.store.apply(writes);
        Ok(done)
    }

    pub(super) fn stored(&self, key: &str) -> Option<Bytes> {
        self.store.provable.get(key).cloned()
    }

    pub(super) fn proof(&self, path: &str, value: Option<&[u8]>) -> Vec<u8> {
        stand::proof(ROOT, b"ibc", path, value)
    }

    // ---- connections ------------------------------------------------------------------------

    pub(super) fn counterparty(connection: &str) -> Counterparty {
        Counterparty {
            client_id: "07-tendermint-9".to_owned(),
            connection_id: connection.to_owned(),
            prefix: Some(MerklePrefix { key_prefix: b"ibc".to_vec() }),
        }
    }

    pub(super) fn connection_init(version: Option<Version>, delay: u64) -> MsgConnectionOpenInit {
        MsgConnectionOpenInit {
            client_id: CLIENT.to_owned(),
            counterparty: Some(Self::counterparty("")),
            version,
            delay_period: delay,
            signer: String::new(),
        }
    }

    /// A connection that the other side has begun.
    pub(super) fn connection_try(&self, versions: Vec<Version>) -> MsgConnectionOpenTry {
        let mut counterparty = Self::counterparty("");
        counterparty.client_id = CLIENT.to_owned();
        let far = ConnectionEnd {
            client_id: "07-tendermint-9".to_owned(),
            versions: versions.clone(),
            state: State::Init as i32,
            counterparty: Some(counterparty),
            delay_period: 0,
        };
        MsgConnectionOpenTry {
            client_id: CLIENT.to_owned(),
            counterparty: Some(Self::counterparty("connection-3")),
            counterparty_versions: versions,
            proof_init: self.proof("connections/connection-3", Some(&far.encode_to_vec())),
            proof_height: raw_height(self.known),
            ..MsgConnectionOpenTry::default()
        }
    }

    pub(super) fn connection_confirm(&self, id: &str) -> MsgConnectionOpenConfirm {
        let far = self.far_end(id, State::Open, version()).encode_to_vec();
        MsgConnectionOpenConfirm {
            connection_id: id.to_owned(),
            proof_ack: self.proof("connections/connection-3", Some(&far)),
            proof_height: raw_height(self.known),
            signer: String::new(),
        }
    }

    /// Begins a connection, and gives its name.
    pub(super) fn begin_connection(&mut self) -> String {
        let begun = self.deliver(Message::ConnectionOpenInit(Self::connection_init(None, 0)));
        let Ok(Event::ConnectionBegun { connection }) = begun else { panic!("{begun:?}") };
        connection.to_string()
    }

    /// The end of the other side of a connection of this one.
    fn far_end(&self, id: &str, state: State, version: Version) -> ConnectionEnd {
        let stored = self.stored(&format!("connections/{id}")).unwrap();
        let stored = ConnectionEnd::decode(stored).unwrap();
        let mut counterparty = Self::counterparty(id);
        counterparty.client_id = CLIENT.to_owned();
        ConnectionEnd {
            client_id: "07-tendermint-9".to_owned(),
            versions: vec![version],
            state: state as i32,
            counterparty: Some(counterparty),
            delay_period: stored.delay_period,
        }
    }

    pub(super) fn connection_ack(&self, id: &str, version: Version) -> Message {
        let far = self.far_end(id, State::Tryopen, version.clone()).encode_to_vec();
        Message::ConnectionOpenAck(MsgConnectionOpenAck {
            connection_id: id.to_owned(),
            counterparty_connection_id: "connection-3".to_owned(),
            version: Some(version),
            proof_try: self.proof("connections/connection-3", Some(&far)),
            proof_height: raw_height(self.known),
            ..MsgConnectionOpenAck::default()
        })
    }

    /// Opens a connection, and gives its name.
    pub(super) fn connect_with(&mut self, agreed: Version, delay: u64) -> String {
        let begun = self.deliver(Message::ConnectionOpenInit(Self::connection_init(None, delay)));
        let Ok(Event::ConnectionBegun { connection }) = begun else { panic!("{begun:?}") };
        let ack = self.connection_ack(connection.as_str(), agreed);
        self.deliver(ack).unwrap();
        connection.to_string()
    }

    pub(super) fn connect(&mut self) -> String {
        self.connect_with(version(), 0)
    }

    // ---- channels ---------------------------------------------------------------------------

    pub(super) fn raw_channel(
        hop: &str,
        order: Order,
        state: raw::State,
        far: &str,
    ) -> raw::Channel {
        raw::Channel {
            state: state as i32,
            ordering: raw_order(order),
            counterparty: Some(ChannelCounterparty {
                port_id: "far".to_owned(),
                channel_id: far.to_owned(),
            }),
            connection_hops: vec![hop.to_owned()],
            version: "v".to_owned(),
            upgrade_sequence: 0,
        }
    }

    /// The end of the other side of a channel of this one.
    fn far_channel(end: &End, order: Order, state: raw::State) -> raw::Channel {
        let mut channel = Self::raw_channel("connection-3", order, state, end.1.as_str());
        channel.counterparty.as_mut().unwrap().port_id = end.0.to_string();
        channel
    }

    pub(super) fn channel_init(hop: &str, order: Order) -> MsgChannelOpenInit {
        MsgChannelOpenInit {
            port_id: "near".to_owned(),
            channel: Some(Self::raw_channel(hop, order, raw::State::Init, "")),
            signer: String::new(),
        }
    }

    /// Begins a channel.
    pub(super) fn begin(&mut self, hop: &str, order: Order) -> End {
        let begun = self.deliver(Message::ChannelOpenInit(Self::channel_init(hop, order)));
        let Ok(Event::ChannelBegun { port, channel }) = begun else { panic!("{begun:?}") };
        (port, channel)
    }

    pub(super) fn channel_ack(&self, end: &End, order: Order) -> MsgChannelOpenAck {
        MsgChannelOpenAck {
            port_id: end.0.to_string(),
            channel_id: end.1.to_string(),
            counterparty_channel_id: FAR_CHANNEL.to_owned(),
            counterparty_version: "v".to_owned(),
            proof_try: self.end_proof(end, order, raw::State::Tryopen),
            proof_height: raw_height(self.known),
            signer: String::new(),
        }
    }

    /// The proof that the other end of a channel is in a state.
    fn end_proof(&self, end: &End, order: Order, state: raw::State) -> Vec<u8> {
        let far = Self::far_channel(end, order, state).encode_to_vec();
        self.proof(&format!("channelEnds/ports/far/channels/{FAR_CHANNEL}"), Some(&far))
    }

    pub(super) fn channel_confirm(&self, end: &End, order: Order) -> MsgChannelOpenConfirm {
        MsgChannelOpenConfirm {
            port_id: end.0.to_string(),
            channel_id: end.1.to_string(),
            proof_ack: self.end_proof(end, order, raw::State::Open),
            proof_height: raw_height(self.known),
            signer: String::new(),
        }
    }

    pub(super) fn close_init(end: &End) -> MsgChannelCloseInit {
        MsgChannelCloseInit {
            port_id: end.0.to_string(),
            channel_id: end.1.to_string(),
            signer: String::new(),
        }
    }

    pub(super) fn close_confirm(&self, end: &End, order: Order) -> MsgChannelCloseConfirm {
        MsgChannelCloseConfirm {
            port_id: end.0.to_string(),
            channel_id: end.1.to_string(),
            proof_init: self.end_proof(end, order, raw::State::Closed),
            proof_height: raw_height(self.known),
            ..MsgChannelCloseConfirm::default()
        }
    }

    /// A channel that the other side has begun.
    pub(super) fn channel_try(&self, hop: &str, order: Order) -> MsgChannelOpenTry {
        let nameless = (port(), ChannelId::known(""));
        MsgChannelOpenTry {
            port_id: "near".to_owned(),
            channel: Some(Self::raw_channel(hop, order, raw::State::Tryopen, FAR_CHANNEL)),
            counterparty_version: "v".to_owned(),
            proof_init: self.end_proof(&nameless, order, raw::State::Init),
            proof_height: raw_height(self.known),
            ..MsgChannelOpenTry::default()
        }
    }

    /// Opens a channel over a connection.
    pub(super) fn open_over(&mut self, hop: &str, order: Order) -> End {
        let end = self.begin(hop, order);
        let ack = self.channel_ack(&end, order);
        self.deliver(Message::ChannelOpenAck(ack)).unwrap();
        end
    }

    /// Opens a channel over a connection of its own.
    pub(super) fn open(&mut self, order: Order) -> End {
        let hop = self.connect();
        self.open_over(&hop, order)
    }

    pub(super) fn channel_state(&self, end: &End) -> raw::State {
        let stored = self.stored(&path::channel(&end.0, &end.1)).unwrap();
        raw::State::try_from(raw::Channel::decode(stored).unwrap().state).unwrap()
    }

    // ---- packets ----------------------------------------------------------------------------

    /// A timeout at a time after the start.
    pub(super) fn after(nanos: u64) -> Timeout {
        Timeout { height: Height::ZERO, time: Timestamp::from_nanos(START + nanos) }
    }

    pub(super) fn send(&mut self, end: &End, timeout: Timeout) -> Result<Packet, EngineError> {
        self.send_data(end, Bytes::from_static(b"data"), timeout)
    }

    pub(super) fn send_data(
        &mut self,
        end: &End,
        data: Bytes,
        timeout: Timeout,
    ) -> Result<Packet, EngineError> {
        self.with(|engine, stage, at| engine.send_packet(stage, &end.0, &end.1, data, timeout, at))
    }

    /// A packet of the other side.
    pub(super) fn incoming(end: &End, sequence: u64, timeout: Timeout) -> Packet {
        Packet {
            sequence,
            source_port: PortId::known("far"),
            source_channel: ChannelId::known(FAR_CHANNEL),
            destination_port: end.0.clone(),
            destination_channel: end.1.clone(),
            data: Bytes::from_static(b"data"),
            timeout_height: timeout.height,
            timeout: timeout.time,
        }
    }

    pub(super) fn recv_message(&self, packet: &Packet) -> MsgRecvPacket {
        let (port, channel) = (&packet.source_port, &packet.source_channel);
        let path = path::commitment(port, channel, packet.sequence);
        MsgRecvPacket {
            packet: Some(packet.raw()),
            proof_commitment: self.proof(&path, Some(&commit_packet(packet))),
            proof_height: raw_height(self.known),
            signer: String::new(),
        }
    }

    pub(super) fn recv(&mut self, packet: &Packet) -> Result<Event, EngineError> {
        let message = self.recv_message(packet);
        self.deliver(Message::RecvPacket(message))
    }

    pub(super) fn write_ack(
        &mut self,
        end: &End,
        sequence: u64,
        acknowledgement: &[u8],
    ) -> Result<(), EngineError> {
        self.with(|engine, stage, _| {
            engine.write_acknowledgement(stage, &end.0, &end.1, sequence, acknowledgement)
        })
    }

    pub(super) fn ack_message(&self, packet: &Packet) -> MsgAcknowledgement {
        let (port, channel) = (&packet.destination_port, &packet.destination_channel);
        let path = path::acknowledgement(port, channel, packet.sequence);
        MsgAcknowledgement {
            packet: Some(packet.raw()),
            acknowledgement: ACK.to_vec(),
            proof_acked: self.proof(&path, Some(&commit_acknowledgement(ACK))),
            proof_height: raw_height(self.known),
            signer: String::new(),
        }
    }

    pub(super) fn settle_message(&self, end: &End, below: u64) -> MsgSettle {
        let path = path::settled(&PortId::known("far"), &ChannelId::known(FAR_CHANNEL));
        MsgSettle {
            port_id: end.0.to_string(),
            channel_id: end.1.to_string(),
            below,
            proof: self.proof(&path, Some(&below.to_be_bytes())),
            proof_height: raw_height(self.known),
            ..MsgSettle::default()
        }
    }

    /// The same of a chain, which proves that commitments are absent.
    pub(super) fn absent_message(
        &self,
        end: &End,
        absent: impl IntoIterator<Item = u64>,
        received: u64,
    ) -> MsgSettle {
        let (port, channel) = (PortId::known("far"), ChannelId::known(FAR_CHANNEL));
        let proof = |sequence| self.proof(&path::commitment(&port, &channel, sequence), None);
        MsgSettle {
            port_id: end.0.to_string(),
            channel_id: end.1.to_string(),
            below: received + 1,
            absences: absent.into_iter().map(proof).collect(),
            received,
            proof_height: raw_height(self.known),
            ..MsgSettle::default()
        }
    }

    pub(super) fn ack(&mut self, packet: &Packet) -> Result<Event, EngineError> {
        let message = self.ack_message(packet);
        self.deliver(Message::Acknowledgement(message))
    }

    /// The proof that a packet was not received. `due` is what the other side of an ordered
    /// channel waits for.
    fn unreceived(&self, packet: &Packet, order: Order, due: u64) -> Vec<u8> {
        let (port, channel) = (&packet.destination_port, &packet.destination_channel);
        match order {
            Order::Unordered => self.proof(&path::receipt(port, channel, packet.sequence), None),
            Order::Ordered => {
                self.proof(&path::next_sequence_recv(port, channel), Some(&due.to_be_bytes()))
            }
        }
    }

    pub(super) fn timeout_message(&self, packet: &Packet, order: Order, due: u64) -> MsgTimeout {
        MsgTimeout {
            packet: Some(packet.raw()),
            proof_unreceived: self.unreceived(packet, order, due),
            proof_height: raw_height(self.known),
            next_sequence_recv: due,
            signer: String::new(),
        }
    }

    pub(super) fn time_out(
        &mut self,
        packet: &Packet,
        order: Order,
        due: u64,
    ) -> Result<Event, EngineError> {
        let message = self.timeout_message(packet, order, due);
        self.deliver(Message::Timeout(message))
    }

    pub(super) fn on_close_message(
        &self,
        packet: &Packet,
        order: Order,
        due: u64,
    ) -> MsgTimeoutOnClose {
        let end = (packet.source_port.clone(), packet.source_channel.clone());
        MsgTimeoutOnClose {
            packet: Some(packet.raw()),
            proof_unreceived: self.unreceived(packet, order, due),
            proof_close: self.end_proof(&end, order, raw::State::Closed),
            proof_height: raw_height(self.known),
            next_sequence_recv: due,
            ..MsgTimeoutOnClose::default()
        }
    }
}
