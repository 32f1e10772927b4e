//! A random world around the host: the chains on the other side, which may lie, and the relayers,
//! which bring what they like, twice, late and altered.

mod channels;
mod clients;
mod connections;
mod packets;
mod stored;

use std::collections::BTreeMap;

use ibc_proto::{
    google::protobuf::Any,
    ibc::core::{
        channel::v1::{
            self as channel, Channel, Counterparty as ChannelCounterparty, MsgAcknowledgement,
            MsgChannelCloseConfirm, MsgChannelCloseInit, MsgChannelOpenAck, MsgChannelOpenConfirm,
            MsgChannelOpenInit, MsgChannelOpenTry, MsgRecvPacket, MsgTimeout, MsgTimeoutOnClose,
            Packet,
        },
        client::v1::{Height as ProtoHeight, MsgCreateClient, MsgUpdateClient},
        commitment::v1::MerklePrefix,
        connection::v1::{
            self as connection, ConnectionEnd, Counterparty, MsgConnectionOpenAck,
            MsgConnectionOpenConfirm, MsgConnectionOpenInit, MsgConnectionOpenTry, Version,
        },
    },
};
use prost::{Message as _, Name};
use sha2::{Digest, Sha256};

use crate::{
    engine::Event,
    height::{At, Height, Timestamp},
    host::Memory,
    oracle::own_consensus,
    random::Random,
    stand::{self, Consensus, Header, KIND, RawHeight, State},
    step::Step,
};

pub(crate) use stored::time_at;
use stored::*;

const SECOND: u64 = 1_000_000_000;
const PORTS: [&str; 2] = ["alpha", "beta"];

/// What a step is of, as the summary counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    CreateClient,
    UpdateClient,
    ConnectionOpenInit,
    ConnectionOpenTry,
    ConnectionOpenAck,
    ConnectionOpenConfirm,
    ChannelOpenInit,
    ChannelOpenTry,
    ChannelOpenAck,
    ChannelOpenConfirm,
    ChannelCloseInit,
    ChannelCloseConfirm,
    SendPacket,
    RecvPacket,
    WriteAcknowledgement,
    AcknowledgePacket,
    TimeoutPacket,
    TimeoutOnClose,
}

/// How often each is drawn.
pub(crate) const WEIGHTS: [(Kind, u64); 18] = [
    (Kind::CreateClient, 2),
    (Kind::UpdateClient, 12),
    (Kind::ConnectionOpenInit, 3),
    (Kind::ConnectionOpenTry, 3),
    (Kind::ConnectionOpenAck, 4),
    (Kind::ConnectionOpenConfirm, 4),
    (Kind::ChannelOpenInit, 4),
    (Kind::ChannelOpenTry, 5),
    (Kind::ChannelOpenAck, 6),
    (Kind::ChannelOpenConfirm, 6),
    (Kind::ChannelCloseInit, 1),
    (Kind::ChannelCloseConfirm, 1),
    (Kind::SendPacket, 18),
    (Kind::RecvPacket, 18),
    (Kind::WriteAcknowledgement, 6),
    (Kind::AcknowledgePacket, 14),
    (Kind::TimeoutPacket, 8),
    (Kind::TimeoutOnClose, 4),
];

pub(crate) struct World {
    random: Random,
    time: u64,
    height: u64,
    clients: Vec<String>,
    /// What each client was ever told.
    heights: BTreeMap<String, Vec<RawHeight>>,
    connections: Vec<String>,
    channels: Vec<(String, String)>,
    sent: Vec<Packet>,
    received: Vec<Packet>,
}

/// A height in a message.
fn proto(height: RawHeight) -> ProtoHeight {
    ProtoHeight { revision_number: height.0, revision_height: height.1 }
}

fn any(type_url: &str, value: Vec<u8>) -> Any {
    Any { type_url: type_url.to_owned(), value }
}

fn pack<M: prost::Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

/// Written anew from ICS-004 and not taken from the engine, which it is to judge.
fn commitment(packet: &Packet) -> Vec<u8> {
    let height = packet.timeout_height.unwrap_or_default();
    let mut hash = Sha256::new();
    for word in [packet.timeout_timestamp, height.revision_number, height.revision_height] {
        hash.update(word.to_be_bytes());
    }
    hash.update(Sha256::digest(&packet.data));
    hash.finalize().to_vec()
}

fn version(features: &[&str]) -> Version {
    let features = features.iter().map(ToString::to_string).collect();
    Version { identifier: "1".to_owned(), features }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            time: 1_700_000_000 * SECOND,
            height: 100,
            clients: Vec::new(),
            heights: BTreeMap::new(),
            connections: Vec::new(),
            channels: Vec::new(),
            sent: Vec::new(),
            received: Vec::new(),
        }
    }

    /// Lets time pass, and says when it is.
    pub(crate) fn tick(&mut self) -> At {
        self.time += match self.random.below(1000) {
            0..300 => 0,
            300..990 => self.random.within(1, 2 * SECOND),
            990..997 => 20 * SECOND,
            // Too long for a client that trusts for a short time.
            _ => 150 * SECOND,
        };
        self.height += u64::from(self.random.of_thousand(700));
        At { time: Timestamp::from_nanos(self.time), height: Height::new(1, self.height) }
    }

    /// The next step.
    pub(crate) fn draw(&mut self, store: &Memory) -> (Kind, Step) {
        let total = WEIGHTS.iter().map(|(_, weight)| weight).sum();
        let mut drawn = self.random.below(total);
        let mut kind = Kind::CreateClient;
        for (of, weight) in WEIGHTS {
            if drawn < weight {
                kind = of;
                break;
            }
            drawn -= weight;
        }
        if self.clients.is_empty() {
            kind = Kind::CreateClient;
        }
        let mut accept = Some(self.channel_version());
        if self.chance(80) {
            accept = None;
        }
        let acknowledgement = Some(vec![1, 2, 3]).filter(|_| self.chance(500));
        let message = match kind {
            Kind::CreateClient => self.create_client(),
            Kind::UpdateClient => self.update_client(store),
            Kind::ConnectionOpenInit => self.connection_open_init(),
            Kind::ConnectionOpenTry => self.connection_open_try(store),
            Kind::ConnectionOpenAck => self.connection_open_ack(store),
            Kind::ConnectionOpenConfirm => self.connection_open_confirm(store),
            Kind::ChannelOpenInit => self.channel_open_init(store),
            Kind::ChannelOpenTry => self.channel_open_try(store),
            Kind::ChannelOpenAck => self.channel_open_ack(store),
            Kind::ChannelOpenConfirm => self.channel_open_confirm(store),
            Kind::ChannelCloseInit => self.channel_close_init(store),
            Kind::ChannelCloseConfirm => self.channel_close_confirm(store),
            Kind::SendPacket => return (kind, self.send_packet(store)),
            Kind::RecvPacket => self.recv_packet(store),
            Kind::WriteAcknowledgement => return (kind, self.write_acknowledgement()),
            Kind::AcknowledgePacket => self.acknowledge_packet(store),
            Kind::TimeoutPacket => self.timeout_packet(store),
            Kind::TimeoutOnClose => self.timeout_on_close(store),
        };
        (kind, Step::Deliver { message: self.garbled(message), accept, acknowledgement })
    }

    /// Learns what has come of a step.
    pub(crate) fn learn(&mut self, step: &Step, event: Option<&Event>) {
        match event {
            Some(Event::ClientCreated { client }) => self.clients.push(client.to_string()),
            Some(Event::ConnectionBegun { connection }) => {
                self.connections.push(connection.to_string());
            }
            Some(Event::ChannelBegun { port, channel }) => {
                self.channels.push((port.to_string(), channel.to_string()));
            }
            Some(Event::ChannelAttempt(attempt)) => {
                self.channels.push((attempt.port.to_string(), attempt.channel.to_string()));
            }
            Some(Event::Received(packet)) => keep(&mut self.received, packet.raw()),
            _ => {}
        }
        if let Step::Send { packet } = step {
            keep(&mut self.sent, packet.clone());
        }
    }

    // ---- chance -----------------------------------------------------------------------------

    fn chance(&mut self, of_thousand: u64) -> bool {
        self.random.of_thousand(of_thousand)
    }

    /// Changes one byte of a message now and then, as no relayer should.
    fn garbled(&mut self, mut message: Any) -> Any {
        // What ibc-core asks for besides, in these two, would be garbled too.
        let asks_more = [MsgConnectionOpenTry::type_url(), MsgConnectionOpenAck::type_url()];
        if self.chance(20) && !asks_more.contains(&message.type_url) && !message.value.is_empty() {
            let at = usize::try_from(self.random.below(message.value.len() as u64)).unwrap_or(0);
            let bit = 1 << self.random.below(8);
            if let Some(byte) = message.value.get_mut(at) {
                *byte ^= bit;
            }
        }
        message
    }

    fn channel_version(&mut self) -> String {
        self.random.one(&["v1", "v2", "v1", ""]).copied().unwrap_or_default().to_owned()
    }

    fn port(&mut self) -> String {
        if self.chance(20) {
            return self.random.one(&["x", "a b", "", "gamma"]).copied().unwrap_or("").to_owned();
        }
        self.random.one(&PORTS).copied().unwrap_or("alpha").to_owned()
    }

    /// The name of a channel on the other side.
    fn far_channel(&mut self) -> String {
        if self.chance(20) {
            return self
                .random
                .one(&["chan", "", "channel", "channel-x", "channel-01"])
                .copied()
                .unwrap_or("")
                .to_owned();
        }
        format!("channel-{}", self.random.within(0, 30))
    }

    fn far_connection(&mut self) -> String {
        if self.chance(20) {
            let names = ["connection", "", "connection-x y", "connection-x", "connection-01"];
            return self.random.one(&names).copied().unwrap_or("").to_owned();
        }
        format!("connection-{}", self.random.within(0, 30))
    }

    fn far_client(&mut self) -> String {
        if self.chance(20) {
            return self.random.one(&["x", "", "07 tendermint"]).copied().unwrap_or("").to_owned();
        }
        format!("07-tendermint-{}", self.random.within(0, 5))
    }

    fn client(&mut self) -> String {
        match self.random.below(100) {
            0 => "10-stand-in-99".to_owned(),
            1 => "x".to_owned(),
            // The newest are the likeliest to be active.
            2..60 => self.clients.last().cloned().unwrap_or_default(),
            _ => self.random.one(&self.clients).cloned().unwrap_or_default(),
        }
    }

    /// A height to prove at, most often the newest one that the client knows.
    fn proof_height(&mut self, store: &Memory, client: &str) -> RawHeight {
        let latest = state(store, client).map_or((1, 1), |state| state.latest);
        match self.random.below(100) {
            0 => (latest.0, latest.1 + 1),
            1 => (0, 0),
            2..20 => {
                let known = self.heights.get(client).map_or(&[][..], Vec::as_slice);
                self.random.one(known).copied().unwrap_or(latest)
            }
            _ => latest,
        }
    }

    /// The proof that a key has a value, or none; forged now and then.
    fn prove(
        &mut self,
        store: &Memory,
        client: &str,
        height: RawHeight,
        prefix: &[u8],
        path: &str,
        value: Option<&[u8]>,
    ) -> Vec<u8> {
        let root = consensus(store, client, height).map_or(7, |known| known.root);
        let genuine = stand::proof(root, prefix, path, value);
        if !self.chance(80) {
            return genuine;
        }
        match self.random.below(7) {
            0 => Vec::new(),
            1 => stand::proof(root + 1, prefix, path, value),
            2 => stand::proof(root, b"elsewhere", path, value),
            3 => stand::proof(root, prefix, &format!("{path}0"), value),
            4 => stand::proof(root, prefix, path, Some(b"something else")),
            5 => stand::proof(root, prefix, path, None),
            _ => genuine.into_iter().rev().collect(),
        }
    }

    fn connection(&mut self, store: &Memory, wanted: connection::State) -> String {
        if self.chance(30) {
            let names = ["connection-9999", "connection", "channel-0"];
            return self.random.one(&names).copied().unwrap_or("").to_owned();
        }
        if self.chance(850) {
            let is = |id: &&String| end(store, id).is_some_and(|end| end.state == wanted as i32);
            let fit: Vec<&String> = self.connections.iter().filter(is).collect();
            if let Some(id) = self.random.one(&fit) {
                return (*id).clone();
            }
        }
        self.random.one(&self.connections).cloned().unwrap_or_default()
    }

    fn channel(&mut self, store: &Memory, wanted: channel::State) -> (String, String) {
        if self.chance(30) {
            let channels = ["channel-9999", "channel", "connection-0"];
            let channel = self.random.one(&channels).copied().unwrap_or("").to_owned();
            return (self.port(), channel);
        }
        if self.chance(850) {
            let is = |(port, id): &&(String, String)| {
                channel_end(store, port, id).is_some_and(|end| end.state == wanted as i32)
            };
            let fit: Vec<&(String, String)> = self.channels.iter().filter(is).collect();
            if let Some(id) = self.random.one(&fit) {
                return (*id).clone();
            }
        }
        self.random.one(&self.channels).cloned().unwrap_or_default()
    }

    /// One of the last packets, so that duplicates and late ones are among them.
    fn packet(&mut self, of_sent: bool) -> Packet {
        let packets = if of_sent { &self.sent } else { &self.received };
        let first = packets.len().saturating_sub(30);
        let mut packet =
            self.random.one(packets.get(first..).unwrap_or_default()).cloned().unwrap_or_default();
        if self.chance(60) {
            self.alter(&mut packet);
        }
        packet
    }

    fn alter(&mut self, packet: &mut Packet) {
        match self.random.below(12) {
            0 => packet.sequence += 1,
            1 => packet.sequence = 0,
            2 => packet.source_port = self.port(),
            3 => packet.source_channel = self.far_channel(),
            4 => packet.destination_port = self.port(),
            5 => packet.destination_channel = self.far_channel(),
            6 => packet.data.push(0),
            7 => packet.data.clear(),
            8 => packet.timeout_timestamp ^= 1,
            9 => packet.timeout_timestamp = 0,
            10 => packet.timeout_height = None,
            _ => packet.timeout_height = Some(proto((1, self.random.within(0, 300)))),
        }
    }
}

fn packet_path(what: &str, port: &str, channel: &str) -> String {
    format!("{what}/ports/{port}/channels/{channel}/sequences/")
}

/// The last ones are enough.
fn keep(packets: &mut Vec<Packet>, packet: Packet) {
    if packets.len() == 100 {
        packets.remove(0);
    }
    packets.push(packet);
}
