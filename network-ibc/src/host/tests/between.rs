//! Somebody between two hosts, who reads what one relays and makes other messages of it.

use ibc_proto::{google::protobuf::Any, ibc::core::channel::v1::MsgRecvPacket};
use network_core::{AnyHandler, Attempt, ConnectionHandler, ListenHandler};
use prost::{Message as _, Name};
use tokio::sync::{Mutex, OnceCell};

use super::*;
use crate::{
    SoloKey,
    host::wire::{Batch, Code, Outcomes, Say, What},
};

/// Takes the connection of the one who dials, and makes one to the other for it.
struct Between {
    port: Port,
    heard: Arc<Heard>,
}

/// What was relayed, and how often something else was tried before.
#[derive(Default)]
struct Heard {
    packets: Mutex<Vec<Any>>,
    tried: AtomicUsize,
}

struct There {
    port: Port,
    heard: Arc<Heard>,
    other: OnceCell<Connection>,
}

struct Back(Connection);

impl ListenHandler for Between {
    async fn on_accept(&self, _: &Port, _: &Attempt) -> Result<AnyHandler, Refusal> {
        let (port, heard) = (self.port.clone(), self.heard.clone());
        Ok(AnyHandler::new(There { port, heard, other: OnceCell::new() }))
    }
}

async fn pass_on(to: &Connection, record: Bytes) -> Result<Bytes, Refusal> {
    to.send(record).await.map_err(|error| Refusal::new(error.to_string()))
}

impl ConnectionHandler for Back {
    async fn on_receive(&self, _: &Connection, record: Bytes) -> Result<Bytes, Refusal> {
        pass_on(&self.0, record).await
    }
}

impl ConnectionHandler for There {
    async fn on_receive(&self, from: &Connection, record: Bytes) -> Result<Bytes, Refusal> {
        let dial = || async { self.port.connect("/local/beta", Back(from.clone())).await.unwrap() };
        let other = self.other.get_or_init(dial).await;
        if let Some(What::Batch(batch)) = Say::decode(&record[..]).unwrap().what {
            let old = self.heard.packets.lock().await.clone();
            let is_packet = |message: &&Any| message.type_url == MsgRecvPacket::type_url();
            let packets: Vec<_> = batch.messages.iter().filter(is_packet).cloned().collect();
            let forged = packets.iter().take(3).flat_map(|packet| {
                let altered = |change: fn(&mut MsgRecvPacket)| {
                    let mut message = MsgRecvPacket::decode(&packet.value[..]).unwrap();
                    change(&mut message);
                    Any { value: message.encode_to_vec(), ..packet.clone() }
                };
                [
                    // Of another path, of another value, and for another channel.
                    altered(|message| message.packet.as_mut().unwrap().sequence += 1_000),
                    altered(|message| message.packet.as_mut().unwrap().data = b"forged".to_vec()),
                    altered(|message| message.packet.as_mut().unwrap().timeout_timestamp += 1),
                ]
            });
            // Each but the first is of a sequence that is not due yet, and the old ones of one that
            // is over.
            let ahead = batch.messages.iter().skip(1).filter(is_packet).take(3).cloned();
            let tries = old.into_iter().rev().take(3).chain(forged).chain(ahead);
            for message in tries {
                let try_ = Batch { messages: vec![message], ..Batch::default() };
                let outcomes = pass_on(other, Say::encode(What::Batch(try_)).into()).await?;
                let outcomes = Outcomes::decode(outcomes).unwrap().outcomes;
                assert_eq!(outcomes[0].code(), Code::Again, "{}", outcomes[0].text);
                self.heard.tried.fetch_add(1, Ordering::Relaxed);
            }
            self.heard.packets.lock().await.extend(packets);
        }
        pass_on(other, record).await
    }
}

#[tokio::test]
async fn a_signature_is_good_for_one_thing_at_its_turn() {
    for key in [SoloKey::secp256k1(&[7; 32]), SoloKey::ed25519(&[7; 32])] {
        let way = Network::builder().protocol(Loopback::new()).build().unwrap();
        let alpha = Host::builder("alpha").solo_machine(key.unwrap()).in_memory().unwrap();
        let beta = Host::in_memory("beta").unwrap();
        beta.serve(&way.bind("/local/beta").await.unwrap()).await.unwrap();
        let heard = Arc::new(Heard::default());
        let between = Between { port: way.bind("/local/").await.unwrap(), heard: heard.clone() };
        way.bind("/local/between").await.unwrap().listen(between).await.unwrap();
        let from = way.bind("/local/").await.unwrap();
        let hop = alpha.connect_hop(&from, "/local/between").await.unwrap();
        assert_eq!(hop.chain, "beta");
        let pair = Pair { alpha, beta, hop, _way: way };
        for order in ["ordered", "unordered"] {
            let server = port(&pair.beta, "/ibc-port/count").await;
            let given = Arc::new(std::sync::Mutex::new(Vec::new()));
            let remember = given.clone();
            let handler = handler_fn(move |record: Bytes| {
                remember.lock().unwrap().push(record.clone());
                async move { Ok(record) }
            });
            server.listen(accept_all(handler)).await.unwrap();
            let client = port(&pair.alpha, "/ibc-port/client").await;
            let remote = format!("/ibc-hop/{}/ibc-port/count/{order}/count-1", pair.hop.connection);
            let connection = client.connect(remote.as_str(), ()).await.unwrap();
            for _ in 0..3 {
                let sends = (0..20_u8).map(|number| connection.send(vec![number]));
                let acks = timeout(Duration::from_secs(10), futures_util::future::join_all(sends));
                for (number, ack) in (0..20_u8).zip(acks.await.unwrap()) {
                    assert_eq!(ack.unwrap(), &[number][..]);
                }
            }
            let mut given = std::mem::take(&mut *given.lock().unwrap());
            given.sort();
            let all: Vec<_> =
                (0..20_u8).flat_map(|number| [vec![number], vec![number], vec![number]]).collect();
            assert_eq!(given, all);
            // A packet to a closed channel is refused for that.
            heard.packets.lock().await.clear();
            connection.close().await;
            client.revoke().await.unwrap();
            server.revoke().await.unwrap();
        }
        let tried = heard.tried.load(Ordering::Relaxed);
        assert!(tried > 20, "{tried}");
    }
}
