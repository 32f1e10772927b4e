//! Packets that come too late, and more of them than are kept for their sender.

use std::time::Instant;

use ibc_proto::{
    google::protobuf::Any,
    ibc::core::{
        channel::v1::{MsgRecvPacket, Packet as RawPacket},
        client::v1::Height as RawHeight,
    },
};
use network_core::{AnyHandler, Attempt, ConnectionHandler, ListenHandler};
use prost::{Message as _, Name as _};
use tokio::sync::OnceCell;

use super::*;
use crate::{
    SoloKey,
    host::{
        peer::MAX_OWED,
        wire::{Batch, Code, Outcomes, Say, What},
    },
};

/// Another host, which takes no batches any more when it is told to: it is what alpha is for beta.
#[derive(Default)]
struct Hostile {
    takes_none: AtomicBool,
    /// Its connection to beta.
    to_beta: std::sync::Mutex<Option<Connection>>,
}

struct Between {
    port: Port,
    hostile: Arc<Hostile>,
}

struct There {
    port: Port,
    hostile: Arc<Hostile>,
    other: OnceCell<Connection>,
}

struct Back {
    to: Connection,
    hostile: Arc<Hostile>,
}

impl ListenHandler for Between {
    async fn on_accept(&self, _: &Port, _: &Attempt) -> Result<AnyHandler, Refusal> {
        let (port, hostile) = (self.port.clone(), self.hostile.clone());
        Ok(AnyHandler::new(There { port, hostile, other: OnceCell::new() }))
    }
}

async fn pass_on(to: &Connection, record: Bytes) -> Result<Bytes, Refusal> {
    to.send(record).await.map_err(|error| Refusal::new(error.to_string()))
}

impl ConnectionHandler for Back {
    async fn on_receive(&self, _: &Connection, record: Bytes) -> Result<Bytes, Refusal> {
        let what = Say::decode(&record[..]).unwrap().what;
        if matches!(what, Some(What::Batch(_))) && self.hostile.takes_none.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        pass_on(&self.to, record).await
    }
}

impl ConnectionHandler for There {
    async fn on_receive(&self, from: &Connection, record: Bytes) -> Result<Bytes, Refusal> {
        let dial = || async {
            let back = Back { to: from.clone(), hostile: self.hostile.clone() };
            let other = self.port.connect("/local/beta", back).await.unwrap();
            *self.hostile.to_beta.lock().unwrap() = Some(other.clone());
            other
        };
        pass_on(self.other.get_or_init(dial).await, record).await
    }

    async fn on_close(&self, _: &Connection, _: &network_core::CloseReason) {
        if let Some(other) = self.other.get() {
            other.close().await;
        }
    }
}

const DATA: usize = 4_096;

/// A packet whose time is over. No proof is looked at then.
fn late(connection: &Connection, sequence: u64) -> Any {
    let channel = |endpoint: &network_core::Endpoint| {
        endpoint.to_string().rsplit('/').next().unwrap().to_owned()
    };
    let packet = RawPacket {
        sequence,
        source_port: "client".to_owned(),
        source_channel: channel(connection.local_endpoint()),
        destination_port: "echo".to_owned(),
        destination_channel: channel(connection.remote_endpoint()),
        data: vec![7; DATA],
        timeout_height: None,
        timeout_timestamp: 1,
    };
    let height = RawHeight { revision_number: 0, revision_height: 1 };
    let message = MsgRecvPacket {
        packet: Some(packet),
        proof_commitment: vec![1],
        proof_height: Some(height),
        signer: String::new(),
    };
    Any { type_url: MsgRecvPacket::type_url(), value: message.encode_to_vec() }
}

async fn say(to: &Connection, messages: Vec<Any>) -> Vec<Code> {
    let batch = Batch { messages, ..Batch::default() };
    let said = to.send(Say::encode(What::Batch(batch)));
    let said = timeout(Duration::from_secs(20), said).await.unwrap().unwrap();
    Outcomes::decode(said).unwrap().outcomes.iter().map(|outcome| outcome.code()).collect()
}

#[tokio::test]
async fn who_takes_nothing_cannot_have_more_kept_for_it() {
    let way = Network::builder().protocol(Loopback::new()).build().unwrap();
    let (alpha, beta) = (Host::in_memory("alpha").unwrap(), Host::in_memory("beta").unwrap());
    beta.serve(&way.bind("/local/beta").await.unwrap()).await.unwrap();
    let hostile = Arc::new(Hostile::default());
    let between = Between { port: way.bind("/local/").await.unwrap(), hostile: hostile.clone() };
    way.bind("/local/between").await.unwrap().listen(between).await.unwrap();
    let from = way.bind("/local/").await.unwrap();
    let hop = alpha.connect_hop(&from, "/local/between").await.unwrap();
    let pair = Pair { alpha, beta, hop, _way: way };
    let (server, client, connection) = connected(&pair, "unordered").await;
    assert_eq!(connection.send("hello").await.unwrap(), "hello");

    hostile.takes_none.store(true, Ordering::Relaxed);
    let to_beta = hostile.to_beta.lock().unwrap().clone().unwrap();
    let mut codes = Vec::new();
    for batch in 0..4 {
        let sequences = 1_000 + batch * 500..1_500 + batch * 500;
        let messages = sequences.map(|sequence| late(&connection, sequence)).collect();
        codes.extend(say(&to_beta, messages).await);
    }
    let kept = codes.iter().filter(|code| **code == Code::Unreceived).count();
    assert!(kept > 0 && kept * DATA < MAX_OWED, "{kept} packets are kept");
    assert!(codes[kept..].iter().all(|code| *code == Code::Later), "{codes:?}");
    // Nor is each of any number of things told what became of it.
    let batch = Batch { messages: vec![Any::default(); 2_000], ..Batch::default() };
    assert!(to_beta.send(Say::encode(What::Batch(batch))).await.is_err());

    // Once it takes what waits, all is as it was.
    hostile.takes_none.store(false, Ordering::Relaxed);
    to_beta.close().await;
    let hello = timeout(Duration::from_secs(30), connection.send("hello")).await.unwrap();
    assert_eq!(hello.unwrap(), "hello");
    drop((server, client));
}

#[tokio::test]
async fn what_is_late_of_a_channel_of_another_host_is_refused() {
    let pair = pair().await;
    let (_server, _client, connection) = connected(&pair, "unordered").await;
    let deliver = async |chain: &str, message: Any| {
        let (chain, batch) =
            (chain.to_owned(), Batch { messages: vec![message], ..Batch::default() });
        let beta = &pair.beta.0.0;
        let said = beta.ask(|reply| Command::Deliver { chain, batch, reply }).await.unwrap();
        said.outcomes[0].code()
    };
    assert_eq!(deliver("alpha", late(&connection, 7)).await, Code::Unreceived);
    assert_eq!(deliver("gamma", late(&connection, 8)).await, Code::Refused);
}

/// Counts what it is told of.
struct Counts(Arc<AtomicUsize>);

impl Module for Counts {
    fn on_timeout(&mut self, _: &mut Context<'_>, _: &ModuleChannel, _: u64, _: &Bytes) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn on_receive(
        &mut self,
        _: &mut Context<'_>,
        _: &ModuleChannel,
        _: &Bytes,
    ) -> Result<Bytes, Refusal> {
        Err(Refusal::new("nothing is to come in time"))
    }
}

async fn send_late(host: &Host, channel: &ChannelId, count: usize) {
    let channel = channel.clone();
    let send = move |_: &mut Counts, context: &mut Context<'_>| {
        for _ in 0..count {
            context.send(&channel, "late", Duration::from_nanos(1))?;
        }
        Ok::<_, HostError>(())
    };
    host.with_module(&PortId::new("counts").unwrap(), send).await.unwrap();
}

/// Has two hosts send packets that are late, from here and from there, and beside them records that
/// are in time.
async fn many_late(builders: (HostBuilder, HostBuilder), late: (usize, usize)) {
    let (here, there) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let host = |builder: HostBuilder, count: &Arc<AtomicUsize>| {
        builder.module("counts", Counts(count.clone())).unwrap().in_memory().unwrap()
    };
    let (alpha, beta) = (host(builders.0, &here), host(builders.1, &there));
    let way = Network::builder().protocol(Loopback::new()).build().unwrap();
    beta.serve(&way.bind("/local/beta").await.unwrap()).await.unwrap();
    let hop = alpha.connect_hop(&way.bind("/local/").await.unwrap(), "/local/beta").await.unwrap();
    let pair = Pair { alpha, beta, hop, _way: way };
    let remote = format!("/ibc-hop/{}/ibc-port/counts/unordered/counts-1", pair.hop.connection);
    let port = PortId::new("counts").unwrap();
    let channel = pair.alpha.open_channel(&port, &remote).await.unwrap();
    // By then the other one is open at both sides.
    let (_server, _client, connection) = connected(&pair, "ordered").await;

    let began = Instant::now();
    send_late(&pair.alpha, &channel.channel, late.0).await;
    send_late(&pair.beta, channel.counterparty.as_ref().unwrap(), late.1).await;
    let sends = (0..500_u32).map(|number| connection.send(number.to_be_bytes().to_vec()));
    let sends = futures_util::future::join_all(sends);
    let acks = timeout(Duration::from_secs(120), sends).await.unwrap();
    for (number, ack) in (0..500_u32).zip(acks) {
        assert_eq!(ack.unwrap(), &number.to_be_bytes()[..]);
    }
    let told = || (here.load(Ordering::Relaxed), there.load(Ordering::Relaxed));
    while told() != late {
        assert!(began.elapsed() < Duration::from_secs(180), "{:?} of {late:?}", told());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Many more than are kept at once, both ways.
#[tokio::test]
async fn of_many_late_packets_each_is_proved_undelivered() {
    many_late((Host::builder("alpha"), Host::builder("beta")), (20_000, 3_000)).await;
}

#[tokio::test]
async fn of_many_late_packets_of_solo_machines_each_is_proved_undelivered() {
    let key = |seed| SoloKey::ed25519(&[seed; 32]).unwrap();
    let solo = |chain, seed| Host::builder(chain).solo_machine(key(seed));
    many_late((solo("alpha", 1), solo("beta", 2)), (3_000, 3_000)).await;
}
