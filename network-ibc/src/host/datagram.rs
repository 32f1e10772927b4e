//! What is to be relayed: kept in the store until the other side has handled it.

use ibc_proto::{
    google::protobuf::Any,
    ibc::core::{
        channel::v1::{
            self as channel, Counterparty, MsgAcknowledgement, MsgChannelCloseConfirm,
            MsgChannelOpenAck, MsgChannelOpenConfirm, MsgChannelOpenTry, MsgRecvPacket, MsgTimeout,
            MsgTimeoutOnClose,
        },
        client::v1::Height as RawHeight,
        connection::v1::{MsgConnectionOpenAck, MsgConnectionOpenConfirm, MsgConnectionOpenTry},
    },
};
use prost::{Message as _, Name, Oneof, encoding};

use super::{error::HostError, face::Theirs};
use crate::{
    address::Order,
    engine::{
        self, Channel, ChannelState, Connection, Message, MsgSettle, PREFIX, Packet, Store as _,
    },
    height::Height,
    identifier::{ChannelId, ConnectionId, PortId},
    ledger::{Block, Ledger},
    path,
};

/// What is to be relayed.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Datagram {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub(super) kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Kind {
    /// The state of a connection, whatever it is when this is sent.
    #[prost(string, tag = "1")]
    Connection(String),
    /// The state of a channel: port and name.
    #[prost(message, tag = "2")]
    Channel(ChannelEnd),
    /// A packet that was sent.
    #[prost(message, tag = "3")]
    Packet(channel::Packet),
    /// An acknowledgement that was written.
    #[prost(message, tag = "4")]
    Acknowledgement(Acknowledged),
    /// That a packet was not received and has timed out.
    #[prost(message, tag = "5")]
    TimedOut(channel::Packet),
    /// That a packet was not received, and that the channel is closed.
    #[prost(message, tag = "6")]
    Closed(channel::Packet),
    /// Which packets of a channel are done with.
    #[prost(message, tag = "7")]
    Settled(ChannelEnd),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ChannelEnd {
    #[prost(string, tag = "1")]
    pub(super) port: String,
    #[prost(string, tag = "2")]
    pub(super) channel: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Acknowledged {
    #[prost(message, optional, tag = "1")]
    pub(super) packet: Option<channel::Packet>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) acknowledgement: Vec<u8>,
}

impl Kind {
    pub(super) fn channel(port: &PortId, channel: &ChannelId) -> Self {
        Self::Channel(ChannelEnd { port: port.to_string(), channel: channel.to_string() })
    }

    pub(super) fn settled(port: &PortId, channel: &ChannelId) -> Self {
        Self::Settled(ChannelEnd { port: port.to_string(), channel: channel.to_string() })
    }

    pub(super) fn acknowledgement(packet: &Packet, acknowledgement: &[u8]) -> Self {
        let packet = Some(packet.raw());
        Self::Acknowledgement(Acknowledged { packet, acknowledgement: acknowledgement.to_vec() })
    }

    /// A [`Datagram`] of this kind, without a copy of it.
    pub(super) fn store(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_len());
        self.encode(&mut out);
        out
    }

    pub(super) fn load(bytes: &[u8]) -> Option<Self> {
        Datagram::decode(bytes).ok()?.kind
    }

    /// The message that relays it, with proofs of a block for the client that is to check them;
    /// `None` if there is nothing to relay any more. `theirs` has made proofs then that nobody is
    /// to see.
    pub(super) fn message(
        &self,
        ledger: &Ledger,
        block: &Block,
        theirs: &mut Theirs,
    ) -> Result<Option<Any>, HostError> {
        let height = theirs.height(block);
        let mut prove = |key: &str| theirs.prove(ledger, block, key);
        let at = Some(RawHeight::from(height));
        let message = match self {
            Self::Connection(id) => {
                let id = ConnectionId::known(id);
                let key = path::connection(&id);
                let Some(stored) = ledger.get(&key) else { return Ok(None) };
                connection_message(&id, &Connection::decode(&stored)?, prove(&key)?, at)
            }
            Self::Channel(ChannelEnd { port, channel }) => {
                let (port, id) = (PortId::known(port), ChannelId::known(channel));
                let key = path::channel(&port, &id);
                let Some(stored) = ledger.get(&key) else { return Ok(None) };
                let channel = Channel::decode(&stored)?;
                let hop = ledger.get(&path::connection(&channel.hop));
                let hop = hop.as_deref().map(Connection::decode).transpose()?;
                let Some(hop) = hop.and_then(|hop| hop.counterparty) else { return Ok(None) };
                // It was closed before the other side had one.
                if channel.state != ChannelState::Init && channel.counterparty.is_none() {
                    return Ok(None);
                }
                channel_message(&port, &id, channel, &hop, prove(&key)?, at)
            }
            Self::Packet(packet) => {
                let (port, id) = source(packet);
                let key = path::commitment(&port, &id, packet.sequence);
                if ledger.get(&key).is_none() {
                    return Ok(None);
                }
                return Ok(Some(relayed::<MsgRecvPacket>(packet, None, &prove(&key)?, height)));
            }
            Self::Acknowledgement(Acknowledged { packet: Some(packet), acknowledgement }) => {
                let (port, id) = destination(packet);
                let key = path::acknowledgement(&port, &id, packet.sequence);
                // The sender is done with it, and it was forgotten.
                if ledger.get(&key).is_none() {
                    return Ok(None);
                }
                let proof = prove(&key)?;
                let acknowledgement = Some(&acknowledgement[..]);
                return Ok(Some(relayed::<MsgAcknowledgement>(
                    packet,
                    acknowledgement,
                    &proof,
                    height,
                )));
            }
            Self::Acknowledgement(_) => None,
            Self::Settled(ChannelEnd { port, channel }) => {
                let (port, id) = (PortId::known(port), ChannelId::known(channel));
                let key = path::settled(&port, &id);
                let below = ledger.get(&key).as_deref().and_then(engine::number);
                let end = ledger.get(&path::channel(&port, &id));
                let end = end.as_deref().map(Channel::decode).transpose()?;
                let (Some(below), Some(end)) = (below, end) else { return Ok(None) };
                let Some(other) = end.counterparty else { return Ok(None) };
                Some(Message::Settle(MsgSettle {
                    port_id: end.counterparty_port.to_string(),
                    channel_id: other.to_string(),
                    below,
                    proof: prove(&key)?,
                    proof_height: at,
                    ..MsgSettle::default()
                }))
            }
            Self::TimedOut(packet) => {
                let Some((key, next)) = unreceived(ledger, packet)? else { return Ok(None) };
                Some(Message::Timeout(MsgTimeout {
                    packet: Some(packet.clone()),
                    proof_unreceived: prove(&key)?,
                    proof_height: at,
                    next_sequence_recv: next,
                    signer: String::new(),
                }))
            }
            Self::Closed(packet) => {
                let Some((key, next)) = unreceived(ledger, packet)? else { return Ok(None) };
                let (port, id) = destination(packet);
                // In the order in which they are checked.
                let proof_close = prove(&path::channel(&port, &id))?;
                let proof_unreceived = prove(&key)?;
                Some(Message::TimeoutOnClose(MsgTimeoutOnClose {
                    packet: Some(packet.clone()),
                    proof_unreceived,
                    proof_close,
                    proof_height: at,
                    next_sequence_recv: next,
                    signer: String::new(),
                    counterparty_upgrade_sequence: 0,
                }))
            }
        };
        Ok(message.map(|message| message.write()))
    }
}

/// `MsgRecvPacket`, or with an acknowledgement `MsgAcknowledgement`, whose other fields are the
/// same: written from where its parts are, as there is one for every packet each way.
fn relayed<M: Name>(
    packet: &channel::Packet,
    acknowledgement: Option<&[u8]>,
    proof: &[u8],
    height: Height,
) -> Any {
    let room = packet.encoded_len() + acknowledgement.map_or(0, <[u8]>::len) + proof.len() + 64;
    let mut value = Vec::with_capacity(room);
    encoding::message::encode(1, packet, &mut value);
    let mut number = 2;
    for bytes in acknowledgement.into_iter().chain([proof]) {
        encoding::encode_key(number, encoding::WireType::LengthDelimited, &mut value);
        encoding::encode_varint(bytes.len() as u64, &mut value);
        value.extend_from_slice(bytes);
        number += 1;
    }
    encoding::message::encode(number, &RawHeight::from(height), &mut value);
    Any { type_url: M::type_url(), value }
}

fn source(packet: &channel::Packet) -> (PortId, ChannelId) {
    (PortId::known(&packet.source_port), ChannelId::known(&packet.source_channel))
}

fn destination(packet: &channel::Packet) -> (PortId, ChannelId) {
    (PortId::known(&packet.destination_port), ChannelId::known(&packet.destination_channel))
}

/// Where it shows that a packet was not received, and what to receive next; `None` if it was.
pub(super) fn unreceived(
    ledger: &Ledger,
    packet: &channel::Packet,
) -> Result<Option<(String, u64)>, HostError> {
    let (port, id) = destination(packet);
    let Some(stored) = ledger.get(&path::channel(&port, &id)) else { return Ok(None) };
    let next_key = path::next_sequence_recv(&port, &id);
    let next = ledger.get(&next_key).as_deref().and_then(engine::number).unwrap_or(0);
    Ok(match Channel::decode(&stored)?.order {
        Order::Ordered => (next <= packet.sequence).then_some((next_key, next)),
        Order::Unordered => {
            let key = path::receipt(&port, &id, packet.sequence);
            // Without a receipt are also those that are long done with.
            let below = ledger.private(path::received_below(&port, &id).as_bytes());
            let below = below.as_deref().and_then(engine::number).unwrap_or(0);
            (packet.sequence >= below && ledger.get(&key).is_none()).then_some((key, next))
        }
    })
}

pub(super) fn connection_message(
    id: &ConnectionId,
    connection: &Connection,
    proof: Vec<u8>,
    at: Option<RawHeight>,
) -> Option<Message> {
    use engine::ConnectionState::{Init, Open, TryOpen};
    let counterparty = connection.counterparty.as_ref();
    let signer = String::new();
    Some(match connection.state {
        Init => Message::ConnectionOpenTry(MsgConnectionOpenTry {
            client_id: connection.counterparty_client.to_string(),
            counterparty: Some(ibc_proto::ibc::core::connection::v1::Counterparty {
                client_id: connection.client.to_string(),
                connection_id: id.to_string(),
                prefix: Some(ibc_proto::ibc::core::commitment::v1::MerklePrefix {
                    key_prefix: PREFIX.to_vec(),
                }),
            }),
            delay_period: connection.delay,
            counterparty_versions: connection.versions.clone(),
            proof_init: proof,
            proof_height: at,
            signer,
            ..MsgConnectionOpenTry::default()
        }),
        TryOpen => Message::ConnectionOpenAck(MsgConnectionOpenAck {
            connection_id: counterparty?.to_string(),
            counterparty_connection_id: id.to_string(),
            version: connection.versions.first().cloned(),
            proof_try: proof,
            proof_height: at,
            signer,
            ..MsgConnectionOpenAck::default()
        }),
        Open => Message::ConnectionOpenConfirm(MsgConnectionOpenConfirm {
            connection_id: counterparty?.to_string(),
            proof_ack: proof,
            proof_height: at,
            signer,
        }),
    })
}

#[expect(deprecated, reason = "fields that have to be empty")]
pub(super) fn channel_message(
    port: &PortId,
    id: &ChannelId,
    channel: Channel,
    hop: &ConnectionId,
    proof: Vec<u8>,
    at: Option<RawHeight>,
) -> Option<Message> {
    use engine::ChannelState::{Closed, Init, Open, TryOpen};
    let other_port = channel.counterparty_port.to_string();
    let other = channel.counterparty.as_ref().map(ToString::to_string);
    let signer = String::new();
    Some(match channel.state {
        Init => Message::ChannelOpenTry(MsgChannelOpenTry {
            port_id: other_port,
            previous_channel_id: String::new(),
            channel: Some(channel::Channel {
                state: channel::State::Tryopen as i32,
                ordering: engine::raw_order(channel.order),
                counterparty: Some(Counterparty {
                    port_id: port.to_string(),
                    channel_id: id.to_string(),
                }),
                connection_hops: vec![hop.to_string()],
                version: String::new(),
                upgrade_sequence: 0,
            }),
            counterparty_version: channel.version,
            proof_init: proof,
            proof_height: at,
            signer,
        }),
        TryOpen => Message::ChannelOpenAck(MsgChannelOpenAck {
            port_id: other_port,
            channel_id: other?,
            counterparty_channel_id: id.to_string(),
            counterparty_version: channel.version,
            proof_try: proof,
            proof_height: at,
            signer,
        }),
        Open => Message::ChannelOpenConfirm(MsgChannelOpenConfirm {
            port_id: other_port,
            channel_id: other?,
            proof_ack: proof,
            proof_height: at,
            signer,
        }),
        Closed => Message::ChannelCloseConfirm(MsgChannelCloseConfirm {
            port_id: other_port,
            channel_id: other?,
            proof_init: proof,
            proof_height: at,
            signer,
            counterparty_upgrade_sequence: 0,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet() -> channel::Packet {
        channel::Packet {
            sequence: 300,
            source_port: "here".to_owned(),
            source_channel: "channel-1".to_owned(),
            destination_port: "there".to_owned(),
            destination_channel: "channel-2".to_owned(),
            data: vec![7; 300],
            timeout_height: Some(RawHeight { revision_number: 1, revision_height: 2 }),
            timeout_timestamp: 5,
        }
    }

    #[test]
    fn what_is_relayed_is_written_as_protobuf_writes_it() {
        let (packet, proof, height) = (packet(), vec![1; 900], Height::new(1, 400));
        let receive = Message::RecvPacket(MsgRecvPacket {
            packet: Some(packet.clone()),
            proof_commitment: proof.clone(),
            proof_height: Some(height.into()),
            signer: String::new(),
        });
        assert_eq!(relayed::<MsgRecvPacket>(&packet, None, &proof, height), receive.write());
        let acknowledge = Message::Acknowledgement(MsgAcknowledgement {
            packet: Some(packet.clone()),
            acknowledgement: vec![1, 2],
            proof_acked: proof.clone(),
            proof_height: Some(height.into()),
            signer: String::new(),
        });
        let written = relayed::<MsgAcknowledgement>(&packet, Some(&[1, 2]), &proof, height);
        assert_eq!(written, acknowledge.write());
    }

    #[test]
    fn what_is_stored_is_read_again() {
        let kinds = [
            Kind::Packet(packet()),
            Kind::Connection("connection-0".to_owned()),
            Kind::Connection(String::new()),
            Kind::Acknowledgement(Acknowledged {
                packet: Some(packet()),
                acknowledgement: vec![1],
            }),
        ];
        for kind in kinds {
            assert_eq!(kind.store(), Datagram { kind: Some(kind.clone()) }.encode_to_vec());
            assert_eq!(Kind::load(&kind.store()), Some(kind));
        }
    }
}
