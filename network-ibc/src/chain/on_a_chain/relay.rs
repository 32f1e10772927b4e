//! Relayed by hand between a host's engine and the chain: all that a relayer needs, once around.

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use futures_util::future::try_join_all;
use ibc_proto::ibc::core::{
    channel::v1::{
        self as raw, Counterparty as ChannelCounterparty, MsgAcknowledgement, MsgChannelOpenAck,
        MsgChannelOpenConfirm, MsgChannelOpenInit, MsgChannelOpenTry, MsgRecvPacket,
    },
    client::v1::{Height as RawHeight, MsgCreateClient, MsgUpdateClient},
    commitment::v1::MerklePrefix,
    connection::v1::{
        Counterparty, MsgConnectionOpenAck, MsgConnectionOpenConfirm, MsgConnectionOpenInit,
        MsgConnectionOpenTry, Version,
    },
};

use super::*;
use crate::{
    chain::{
        event::{IbcEvent, Step},
        events::{ChainEvents, Heard},
        rpc::Proved,
        submit::{Inclusion, Submitter, TxError, TxSettings},
    },
    engine::{
        ChannelState, ConnectionState, Engine, Event, Message as HostMessage, PREFIX, Packet,
        Stage, Timeout,
    },
    height::{Height, Timestamp},
    identifier::{ChannelId, ClientId, ConnectionId, PortId},
    ledger::{Ledger, LedgerKey, Trust},
    path,
};

/// How many packets go at once.
const PACKETS: u64 = 100;
const VERSION: &str = "echo-1";

/// A host and the chain, and what each is called at the other.
struct Path {
    node: Node,
    submitter: Submitter,
    events: ChainEvents,
    signer: String,
    ledger: Ledger,
    engine: Engine,
    /// The host's client of the chain, and how far it is.
    client: ClientId,
    known: Height,
    /// The chain's client of the host, and how far it is.
    client_there: ClientId,
    known_there: Height,
}

fn now() -> Timestamp {
    Timestamp::ZERO
        .saturating_add(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap())
}

fn version() -> Version {
    let features = vec!["ORDER_ORDERED".to_owned(), "ORDER_UNORDERED".to_owned()];
    Version { identifier: "1".to_owned(), features }
}

fn prefix() -> Option<MerklePrefix> {
    Some(MerklePrefix { key_prefix: PREFIX.to_vec() })
}

impl Path {
    async fn new() -> Self {
        let node = Node::with(|settings| {
            settings.chain_id = "chain-7".to_owned();
            settings.block_time = Duration::from_millis(100);
        });
        let submitter =
            Submitter::spawn(node.rpc.clone(), "chain-7", key(0), TxSettings::default());
        let ledger_key = Arc::new(LedgerKey::from_seed(&[5; 32]).unwrap());
        let mut ledger = Ledger::in_memory(ledger_key, "host-3", 64).unwrap();
        let known_there = ledger.commit(now()).unwrap().height;
        let height = node.height().await;
        let mut path = Self {
            events: ChainEvents::from(node.rpc.clone(), height),
            node,
            submitter,
            signer: key(0).address(),
            ledger,
            engine: Engine::default(),
            client: ClientId::known("07-tendermint-0"),
            known: Height::new(7, height),
            client_there: ClientId::known("none"),
            known_there,
        };
        path.make_clients().await;
        path
    }

    async fn make_clients(&mut self) {
        let unbonding = self.node.rpc.unbonding_time().await.unwrap();
        let trust = Trust {
            trusting_period: unbonding / 2,
            unbonding_period: unbonding,
            ..Trust::default()
        };
        let states = self.node.rpc.client_of(self.known.number, &trust).await.unwrap();
        let event = self.deliver(HostMessage::CreateClient(MsgCreateClient {
            client_state: Some(states.0),
            consensus_state: Some(states.1),
            signer: String::new(),
        }));
        assert_eq!(event, Event::ClientCreated { client: self.client.clone() });

        let states = self.ledger.client_of(self.known_there, &Trust::default()).unwrap();
        let create = any(&MsgCreateClient {
            client_state: Some(states.0),
            consensus_state: Some(states.1),
            signer: self.signer.clone(),
        });
        let events = self.executed(vec![create]).await;
        let [IbcEvent::ClientCreated { client }] = &events[..] else { panic!("{events:?}") };
        self.client_there = client.clone();
    }

    /// Has the host handle a message.
    fn deliver(&mut self, message: HostMessage) -> Event {
        let mut stage = Stage::new(&self.ledger);
        let event = self.engine.deliver(&mut stage, message, self.ledger.at(now())).unwrap();
        let writes = stage.into_writes();
        self.ledger.apply(writes);
        event
    }

    /// Has the chain execute messages, after one that tells it of the host's next block: what it
    /// needs is proved in that one. Says what happened, as the messages tell and as blocks do.
    async fn relay(
        &mut self,
        messages: impl FnOnce(&Ledger, Option<RawHeight>, &str) -> Vec<Any>,
    ) -> Vec<IbcEvent> {
        let height = self.ledger.commit(now()).unwrap().height;
        let header = self.ledger.header(height, self.known_there).unwrap();
        let update = any(&MsgUpdateClient {
            client_id: self.client_there.to_string(),
            client_message: Some(header),
            signer: self.signer.clone(),
        });
        self.known_there = height;
        let mut all = vec![update];
        all.extend(messages(&self.ledger, Some(height.into()), &self.signer));
        let mut events = self.executed(all).await;
        let updated = events.remove(0);
        assert!(matches!(updated, IbcEvent::ClientUpdated { heights, .. } if heights == [height]));
        events
    }

    async fn executed(&mut self, messages: Vec<Any>) -> Vec<IbcEvent> {
        let fates = self.submitter.submit(messages).await.into_iter();
        let all: Vec<Inclusion> = fates.collect::<Result<_, _>>().unwrap();
        let last = all.last().unwrap().height;
        assert!(all.iter().all(|inclusion| inclusion.height == last), "several transactions");
        let told = all.iter().flat_map(|inclusion| &inclusion.events);
        let told: Vec<_> = told.filter_map(IbcEvent::read).collect();
        loop {
            match self.events.next().await {
                Heard::Block { height, events } if height == last => {
                    assert_eq!(events, told);
                    return events;
                }
                Heard::Block { height, events } => {
                    assert!(events.is_empty() && height < last, "{height}: {events:?}");
                }
                missed @ Heard::Missed { .. } => panic!("{missed:?}"),
            }
        }
    }

    /// Fetches proofs of the chain's state now, and makes the host know their header.
    async fn prove(&mut self, keys: &[String]) -> Vec<Proved> {
        let height = self.node.height().await;
        let proofs = keys.iter().map(|key| self.node.rpc.prove(key, Some(height)));
        let proofs = try_join_all(proofs).await.unwrap();
        self.node.reaches(height + 1).await;
        let header = self.node.rpc.header(height + 1, self.known).await.unwrap();
        self.known = Height::new(7, height + 1);
        let event = self.deliver(HostMessage::UpdateClient(MsgUpdateClient {
            client_id: self.client.to_string(),
            client_message: Some(header),
            signer: String::new(),
        }));
        assert!(matches!(event, Event::ClientUpdated { .. }), "{event:?}");
        proofs
    }

    fn at(&self) -> Option<RawHeight> {
        Some(self.known.into())
    }

    async fn open_connection(&mut self) -> (ConnectionId, ConnectionId) {
        let event = self.deliver(HostMessage::ConnectionOpenInit(MsgConnectionOpenInit {
            client_id: self.client.to_string(),
            counterparty: Some(Counterparty {
                client_id: self.client_there.to_string(),
                connection_id: String::new(),
                prefix: prefix(),
            }),
            version: Some(version()),
            delay_period: 0,
            signer: String::new(),
        }));
        let Event::ConnectionBegun { connection: here } = event else { panic!("{event:?}") };

        let (client, client_there) = (self.client.to_string(), self.client_there.to_string());
        let id = here.clone();
        let events = self.relay(|ledger, height, signer| {
            let proof = ledger.prove(&path::connection(&id), ledger.latest().unwrap().height);
            vec![any(&MsgConnectionOpenTry {
                client_id: client_there,
                counterparty: Some(Counterparty {
                    client_id: client,
                    connection_id: id.to_string(),
                    prefix: prefix(),
                }),
                counterparty_versions: vec![version()],
                proof_height: height,
                proof_init: proof.unwrap(),
                signer: signer.to_owned(),
                ..Default::default()
            })]
        });
        let events = events.await;
        let [IbcEvent::Connection(Step::Try, event)] = &events[..] else { panic!("{events:?}") };
        assert_eq!(event.counterparty.as_ref(), Some(&here));
        let there = event.connection.clone();
        let end = self.node.rpc.connection(&there).await.unwrap().unwrap();
        assert_eq!(end.state, ConnectionState::TryOpen);

        let proved = self.prove(&[path::connection(&there)]).await.remove(0);
        let event = self.deliver(HostMessage::ConnectionOpenAck(MsgConnectionOpenAck {
            connection_id: here.to_string(),
            counterparty_connection_id: there.to_string(),
            version: Some(version()),
            proof_height: self.at(),
            proof_try: proved.proof,
            ..Default::default()
        }));
        assert!(matches!(event, Event::ConnectionOpen { .. }), "{event:?}");
        let (id, id_there) = (here.clone(), there.to_string());
        let events = self.relay(|ledger, height, signer| {
            let proof = ledger.prove(&path::connection(&id), ledger.latest().unwrap().height);
            vec![any(&MsgConnectionOpenConfirm {
                connection_id: id_there,
                proof_ack: proof.unwrap(),
                proof_height: height,
                signer: signer.to_owned(),
            })]
        });
        let events = events.await;
        assert!(matches!(&events[..], [IbcEvent::Connection(Step::Confirm, _)]), "{events:?}");
        (here, there)
    }

    async fn open_channel(
        &mut self,
        (here, there): &(ConnectionId, ConnectionId),
        (port, port_there): (&PortId, &PortId),
    ) -> (ChannelId, ChannelId) {
        let channel = |state: raw::State, hop: &ConnectionId, port: &PortId, channel: &str| {
            Some(raw::Channel {
                state: state.into(),
                ordering: raw::Order::Unordered.into(),
                counterparty: Some(ChannelCounterparty {
                    port_id: port.to_string(),
                    channel_id: channel.to_owned(),
                }),
                connection_hops: vec![hop.to_string()],
                version: VERSION.to_owned(),
                upgrade_sequence: 0,
            })
        };
        let event = self.deliver(HostMessage::ChannelOpenInit(MsgChannelOpenInit {
            port_id: port.to_string(),
            channel: channel(raw::State::Init, here, port_there, ""),
            signer: String::new(),
        }));
        let Event::ChannelBegun { channel: id, .. } = event else { panic!("{event:?}") };

        let key = path::channel(port, &id);
        let events = self.relay(|ledger, height, signer| {
            vec![any(&MsgChannelOpenTry {
                port_id: port_there.to_string(),
                channel: channel(raw::State::Tryopen, there, port, id.as_str()),
                counterparty_version: VERSION.to_owned(),
                proof_init: ledger.prove(&key, ledger.latest().unwrap().height).unwrap(),
                proof_height: height,
                signer: signer.to_owned(),
                ..Default::default()
            })]
        });
        let events = events.await;
        let [IbcEvent::Channel(Step::Try, event)] = &events[..] else { panic!("{events:?}") };
        let (id_there, key_there) =
            (event.channel.clone(), path::channel(port_there, &event.channel));
        assert_eq!((&event.port, event.counterparty.as_ref()), (port_there, Some(&id)));

        let proved = self.prove(&[key_there]).await.remove(0);
        let event = self.deliver(HostMessage::ChannelOpenAck(MsgChannelOpenAck {
            port_id: port.to_string(),
            channel_id: id.to_string(),
            counterparty_channel_id: id_there.to_string(),
            counterparty_version: VERSION.to_owned(),
            proof_try: proved.proof,
            proof_height: self.at(),
            signer: String::new(),
        }));
        assert!(matches!(event, Event::ChannelOpen { .. }), "{event:?}");
        let (key, channel_id) = (path::channel(port, &id), id_there.to_string());
        let events = self.relay(|ledger, height, signer| {
            vec![any(&MsgChannelOpenConfirm {
                port_id: port_there.to_string(),
                channel_id,
                proof_ack: ledger.prove(&key, ledger.latest().unwrap().height).unwrap(),
                proof_height: height,
                signer: signer.to_owned(),
            })]
        });
        let events = events.await;
        assert!(matches!(&events[..], [IbcEvent::Channel(Step::Confirm, _)]), "{events:?}");
        (id, id_there)
    }

    fn send(&mut self, port: &PortId, channel: &ChannelId, data: Bytes) -> Packet {
        let time = now().saturating_add(Duration::from_secs(600));
        let mut stage = Stage::new(&self.ledger);
        let timeout = Timeout { height: Height::ZERO, time };
        let at = self.ledger.at(now());
        let packet = self.engine.send_packet(&mut stage, port, channel, data, timeout, at).unwrap();
        let writes = stage.into_writes();
        self.ledger.apply(writes);
        packet
    }

    fn acknowledge(&mut self, packet: &Packet, with: &[u8]) {
        let mut stage = Stage::new(&self.ledger);
        let (port, channel) = (&packet.destination_port, &packet.destination_channel);
        self.engine
            .write_acknowledgement(&mut stage, port, channel, packet.sequence, with)
            .unwrap();
        let writes = stage.into_writes();
        self.ledger.apply(writes);
    }
}

fn receive(ledger: &Ledger, packet: &Packet, height: Option<RawHeight>, signer: &str) -> Any {
    let key = path::commitment(&packet.source_port, &packet.source_channel, packet.sequence);
    any(&MsgRecvPacket {
        packet: Some(packet.raw()),
        proof_commitment: ledger.prove(&key, ledger.latest().unwrap().height).unwrap(),
        proof_height: height,
        signer: signer.to_owned(),
    })
}

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn packets_go_to_the_chain_and_come_back_proved_on_both_sides() {
    let mut path = Path::new().await;
    let hop = path.open_connection().await;
    let (port, port_there) = (PortId::known("echo"), PortId::known("mock"));
    let (channel, channel_there) = path.open_channel(&hop, (&port, &port_there)).await;
    let rpc = path.node.rpc.clone();
    let end = rpc.channel(&port_there, &channel_there).await.unwrap().unwrap();
    assert_eq!((end.state, end.counterparty.as_ref()), (ChannelState::Open, Some(&channel)));
    assert_eq!(rpc.next_send(&port_there, &channel_there).await.unwrap(), 1);

    // The host sends, and the chain receives all of it in one transaction.
    let sent: Vec<_> =
        (1..=PACKETS).map(|n| path.send(&port, &channel, format!("packet {n}").into())).collect();
    let sequences: Vec<_> = (1..=PACKETS).collect();
    let unreceived = rpc.unreceived(&port_there, &channel_there, &sequences).await.unwrap();
    assert_eq!(unreceived, sequences);
    let began = Instant::now();
    let mut again = Vec::new();
    let events = path.relay(|ledger, height, signer| {
        let messages = sent.iter().map(|packet| receive(ledger, packet, height, signer));
        let messages: Vec<_> = messages.collect();
        again.extend(messages[..2].iter().cloned());
        messages
    });
    let events = events.await;
    eprintln!("{PACKETS} packets received in {:?}", began.elapsed());
    assert_eq!(rpc.unreceived(&port_there, &channel_there, &sequences).await.unwrap(), [0; 0]);
    let (mut answered, mut echoes) = (Vec::new(), Vec::new());
    for event in events {
        match event {
            IbcEvent::Received(packet) => assert!(sent.contains(&packet)),
            IbcEvent::Answered { packet, acknowledgement } => {
                answered.push((packet, acknowledgement));
            }
            IbcEvent::Sent(packet) => echoes.push(packet),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((answered.len(), echoes.len()), (sent.len(), sent.len()));
    assert!(echoes.iter().zip(&sent).all(|(echo, packet)| echo.data == packet.data));

    // The host believes both the acknowledgements and the packets, by the chain's proofs.
    assert_eq!(rpc.next_send(&port_there, &channel_there).await.unwrap(), PACKETS + 1);
    let states = rpc.acknowledgements(&port_there, &channel_there, &sequences).await.unwrap();
    assert_eq!(states.len(), sent.len());
    let states = rpc.commitments(&port_there, &channel_there).await.unwrap();
    assert_eq!(states.iter().map(|state| state.sequence).collect::<Vec<_>>(), sequences);
    let keys = sequences.iter().flat_map(|sequence| {
        [
            path::acknowledgement(&port_there, &channel_there, *sequence),
            path::commitment(&port_there, &channel_there, *sequence),
        ]
    });
    let began = Instant::now();
    let mut proofs = path.prove(&keys.collect::<Vec<_>>()).await.into_iter();
    eprintln!("{} proofs in {:?}", PACKETS * 2, began.elapsed());
    for ((packet, acknowledgement), echo) in answered.into_iter().zip(&echoes) {
        let event = path.deliver(HostMessage::Acknowledgement(MsgAcknowledgement {
            packet: Some(packet.raw()),
            acknowledgement: acknowledgement.to_vec(),
            proof_acked: proofs.next().unwrap().proof,
            proof_height: path.at(),
            signer: String::new(),
        }));
        assert_eq!(event, Event::Acknowledged { packet, acknowledgement });
        let event = path.deliver(HostMessage::RecvPacket(MsgRecvPacket {
            packet: Some(echo.raw()),
            proof_commitment: proofs.next().unwrap().proof,
            proof_height: path.at(),
            signer: String::new(),
        }));
        assert_eq!(event, Event::Received(echo.clone()));
        path.acknowledge(echo, b"heard");
    }

    // Who has heard nothing of it can find it again.
    let found = rpc.sent_packets(&port_there, &channel_there, &sequences).await.unwrap();
    assert_eq!(found, echoes);
    let some = [99, 500, 7];
    let found = rpc.answered_packets(&port_there, &channel_there, &some).await.unwrap();
    let found: Vec<_> = found.into_iter().map(|(packet, _)| packet).collect();
    assert_eq!(found, [sent[6].clone(), sent[98].clone()]);
    assert!(rpc.sent_packets(&port, &channel, &[1]).await.unwrap().is_empty());

    // And the chain believes the host's acknowledgements.
    let left = rpc.unacknowledged(&port_there, &channel_there, &sequences).await.unwrap();
    assert_eq!(left, sequences);
    let events = path.relay(|ledger, height, signer| {
        let acknowledge = |packet: &Packet| {
            let (port, channel) = (&packet.destination_port, &packet.destination_channel);
            let key = path::acknowledgement(port, channel, packet.sequence);
            any(&MsgAcknowledgement {
                packet: Some(packet.raw()),
                acknowledgement: b"heard".to_vec(),
                proof_acked: ledger.prove(&key, ledger.latest().unwrap().height).unwrap(),
                proof_height: height,
                signer: signer.to_owned(),
            })
        };
        echoes.iter().map(acknowledge).collect()
    });
    let acknowledged = events.await.into_iter().map(|event| match event {
        IbcEvent::Acknowledged(name) => name.sequence,
        other => panic!("{other:?}"),
    });
    assert_eq!(acknowledged.collect::<Vec<_>>(), sequences);
    assert_eq!(rpc.commitments(&port_there, &channel_there).await.unwrap(), []);
    assert_eq!(rpc.unacknowledged(&port_there, &channel_there, &sequences).await.unwrap(), [0; 0]);

    // What others have relayed already is refused, with a code of its own.
    for fate in path.submitter.submit(again).await {
        let Err(TxError::Refused { codespace, code, .. }) = fate else { panic!("{fate:?}") };
        assert_eq!((&codespace[..], code), ("channel", 22));
    }
}
