//! Somebody between two hosts, who keeps back what one says.

use network_core::{AnyHandler, Attempt, ConnectionHandler, ListenHandler};
use prost::Message as _;
use tokio::sync::OnceCell;

use super::*;
use crate::host::wire::{Batch, Code, Outcome, Outcomes, Say, What};

/// What becomes of a message that is kept back; `None` if it is passed on.
type Keeps = dyn Fn(&str) -> Option<Code> + Send + Sync;

/// Takes the connection of the one who dials, and makes one to the other for it.
struct Between {
    port: Port,
    keeps: Arc<Keeps>,
}

struct There {
    port: Port,
    keeps: Arc<Keeps>,
    other: OnceCell<Connection>,
}

struct Back {
    to: Connection,
    keeps: Arc<Keeps>,
}

impl ListenHandler for Between {
    async fn on_accept(&self, _: &Port, _: &Attempt) -> Result<AnyHandler, Refusal> {
        let (port, keeps) = (self.port.clone(), self.keeps.clone());
        Ok(AnyHandler::new(There { port, keeps, other: OnceCell::new() }))
    }
}

async fn pass_on(to: &Connection, keeps: &Keeps, record: Bytes) -> Result<Bytes, Refusal> {
    let send =
        async |record| to.send(record).await.map_err(|error| Refusal::new(error.to_string()));
    let Some(What::Batch(batch)) = Say::decode(&record[..]).unwrap().what else {
        return send(record).await;
    };
    let name = |url: &str| keeps(url.rsplit('.').next().unwrap());
    let kept: Vec<_> = batch.messages.iter().map(|message| name(&message.type_url)).collect();
    let passed = batch.messages.into_iter().zip(&kept).filter(|(_, kept)| kept.is_none());
    // Nor is it said why a channel closes.
    let messages = passed.map(|(message, _)| message).collect();
    let batch = Batch { messages, closing: Vec::new(), ..batch };
    let said = send(Say::encode(What::Batch(batch)).into()).await?;
    let Outcomes { outcomes, known } = Outcomes::decode(said).unwrap();
    let mut outcomes = outcomes.into_iter();
    let of = |kept: Option<Code>| match kept {
        Some(code) => Outcome { code: code.into(), text: "kept back".to_owned() },
        None => outcomes.next().unwrap(),
    };
    let outcomes = kept.into_iter().map(of).collect();
    Ok(Outcomes { outcomes, known }.encode_to_vec().into())
}

impl ConnectionHandler for Back {
    async fn on_receive(&self, _: &Connection, record: Bytes) -> Result<Bytes, Refusal> {
        pass_on(&self.to, &*self.keeps, record).await
    }
}

impl ConnectionHandler for There {
    async fn on_receive(&self, from: &Connection, record: Bytes) -> Result<Bytes, Refusal> {
        let dial = || async {
            let back = Back { to: from.clone(), keeps: self.keeps.clone() };
            self.port.connect("/local/beta", back).await.unwrap()
        };
        pass_on(self.other.get_or_init(dial).await, &*self.keeps, record).await
    }
}

/// Two hosts and who is between them; alpha dials `/local/between`.
async fn between(
    alpha: Host,
    keeps: impl Fn(&str) -> Option<Code> + Send + Sync + 'static,
) -> (Host, Host, Port, Network) {
    let way = Network::builder().protocol(Loopback::new()).build().unwrap();
    let beta = Host::in_memory("beta").unwrap();
    beta.serve(&way.bind("/local/beta").await.unwrap()).await.unwrap();
    let between = Between { port: way.bind("/local/").await.unwrap(), keeps: Arc::new(keeps) };
    way.bind("/local/between").await.unwrap().listen(between).await.unwrap();
    let from = way.bind("/local/").await.unwrap();
    (alpha, beta, from, way)
}

#[tokio::test]
async fn a_hop_whose_handshake_was_refused_is_begun_again_by_the_next_call() {
    let refuses = Arc::new(AtomicBool::new(true));
    let refuse = refuses.clone();
    let keeps = move |name: &str| {
        let try_ = name == "MsgConnectionOpenTry" && refuse.load(Ordering::Relaxed);
        try_.then_some(Code::Refused)
    };
    let (alpha, _beta, from, _way) = between(Host::in_memory("alpha").unwrap(), keeps).await;
    let first = timeout(Duration::from_millis(500), alpha.connect_hop(&from, "/local/between"));
    assert!(first.await.is_err(), "it was refused");
    refuses.store(false, Ordering::Relaxed);
    let next = timeout(Duration::from_secs(5), alpha.connect_hop(&from, "/local/between"));
    let hop = next.await.expect("it is begun again").unwrap();
    assert!(hop.open);
    assert_eq!(alpha.hops(), [hop]);
}

/// Tells which channels are closed.
struct Closes(tokio::sync::mpsc::UnboundedSender<ChannelId>);

impl Module for Closes {
    fn on_receive(
        &mut self,
        _: &mut Context<'_>,
        _: &ModuleChannel,
        _: &Bytes,
    ) -> Result<Bytes, Refusal> {
        Err(Refusal::new("nothing is to come"))
    }

    fn on_close(&mut self, _: &mut Context<'_>, channel: &ModuleChannel) {
        self.0.send(channel.channel.clone()).unwrap();
    }
}

/// That a packet was not received, since the channel is closed, closes an ordered one here: no
/// other message has to come that says so.
#[tokio::test]
async fn a_packet_that_met_a_closed_channel_closes_an_ordered_one() {
    let (closes, mut closed) = tokio::sync::mpsc::unbounded_channel();
    let alpha = Host::builder("alpha").module("closes", Closes(closes)).unwrap();
    let keeps = |name: &str| (name == "MsgChannelCloseConfirm").then_some(Code::Done);
    let (alpha, beta, from, way) = between(alpha.in_memory().unwrap(), keeps).await;
    let hop = alpha.connect_hop(&from, "/local/between").await.unwrap();
    let pair = Pair { alpha, beta, hop, _way: way };
    let (server, _client, connection) = connected(&pair, "ordered").await;
    let remote = format!("/ibc-hop/{}/ibc-port/echo/ordered/echo-1", pair.hop.connection);
    let of_module = PortId::new("closes").unwrap();
    let channel = pair.alpha.open_channel(&of_module, &remote).await.unwrap().channel;
    for connection in server.connections() {
        connection.close().await;
    }
    let late = timeout(Duration::from_secs(5), connection.send("late")).await.unwrap();
    assert_eq!(late.unwrap_err().delivery(), Delivery::NotDelivered);
    timeout(Duration::from_secs(5), connection.closed()).await.expect("it is told of the close");

    let id = channel.clone();
    let send = move |_: &mut Closes, context: &mut Context<'_>| {
        for _ in 0..2 {
            context.send(&id, "late", Duration::from_secs(60))?;
        }
        Ok::<_, HostError>(())
    };
    pair.alpha.with_module(&of_module, send).await.unwrap();
    let told = timeout(Duration::from_secs(5), closed.recv()).await.expect("it is told once");
    assert_eq!(told, Some(channel));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(closed.try_recv().is_err(), "it is told once");
}

#[test]
fn of_two_hops_to_a_chain_the_older_one_is_taken() {
    let hops = Hops::default();
    for number in [10, 2, 3] {
        let name = ConnectionId::known(&format!("connection-{number}"));
        hops.set(Hop::new(name, "beta".to_owned(), None));
    }
    assert_eq!(hops.to("beta").unwrap().0.as_str(), "connection-2");
}
