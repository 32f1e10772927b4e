//! What happens while the host is away, and what the node has forgotten when it comes back.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
};

use ibc_proto::ibc::core::{
    channel::v1::{self as raw, Counterparty, MsgChannelOpenInit},
    commitment::v1::MerklePrefix,
    connection::v1::{Counterparty as Other, MsgConnectionOpenInit},
};
use serde_json::json;

use super::{
    recovery::{Numbers, count, numbers, send},
    *,
};
use crate::{
    address::Order,
    chain::{Middle, Verdict},
    engine::{ChannelState, raw_order},
};

/// A node that can be made to forget, and then says what CometBFT and the SDK say.
struct Forgetful {
    middle: Middle,
    lowest: Arc<AtomicU64>,
    /// Whether it has transactions.
    index: Arc<AtomicBool>,
    /// How often it was asked for one.
    asked: Arc<AtomicUsize>,
}

impl Forgetful {
    async fn before(there: &There) -> Self {
        let (lowest, index) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicBool::new(true)));
        let asked = Arc::new(AtomicUsize::new(0));
        let (from, kept, counted) = (lowest.clone(), index.clone(), asked.clone());
        let judge = move |method: &str, asked: &serde_json::Value| {
            let lowest = from.load(SeqCst);
            let height = asked["params"]["height"].as_str().and_then(|height| height.parse().ok());
            let gone = height.filter(|height: &u64| *height < lowest);
            match (method, gone) {
                ("status", _) => Verdict::Change(Box::new(move |result| {
                    let sync = &mut result["sync_info"];
                    sync["earliest_block_height"] = lowest.to_string().into();
                })),
                ("abci_query", Some(height)) => {
                    let log =
                        format!("failed to load state at height {height}; version does not exist");
                    let no = json!({ "code": 38, "log": log, "codespace": "sdk", "height": "0" });
                    Verdict::Answer(json!({ "response": no }))
                }
                (_, Some(height)) => Verdict::Error(format!(
                    "height {height} is not available, lowest height is {lowest}"
                )),
                ("tx_search", _) => {
                    counted.fetch_add(1, SeqCst);
                    if kept.load(SeqCst) {
                        return Verdict::Pass;
                    }
                    Verdict::Answer(json!({ "txs": [], "total_count": "0" }))
                }
                _ => Verdict::Pass,
            }
        };
        Self { middle: Middle::before(&there.rpc, judge).await, lowest, index, asked }
    }

    fn config(&self) -> ChainConfig {
        ChainConfig::new(&self.middle.url, key(0))
    }

    /// Has it forget all that was before now, with and without what an index has of it.
    async fn forget(&self, there: &There, index: bool) {
        let now = there.rpc.status().await.unwrap().height;
        // There is something to be proved after that.
        until("the chain goes on", async || there.rpc.status().await.unwrap().height > now + 3)
            .await;
        self.lowest.store(now + 1, SeqCst);
        self.index.store(index, SeqCst);
    }
}

async fn state(host: &Host, chain: &str) -> ChainState {
    let chain = chain.to_owned();
    host.0.ask(|reply| Command::Chain { chain, reply }).await.unwrap()
}

/// Opens a channel of each order: its ends here and there.
async fn channels(host: &Host, hop: &Hop) -> Vec<(ChannelId, ChannelId)> {
    let mut channels = Vec::new();
    for order in ["ordered", "unordered"] {
        let remote = format!("/ibc-hop/{}/ibc-port/mock/{order}/any", hop.connection);
        let channel = within(host.open_channel(&numbers(), &remote)).await.unwrap();
        channels.push((channel.channel, channel.counterparty.unwrap()));
    }
    channels
}

/// Relays to the chain and not back, until as many packets as were sent have come there over each
/// channel.
async fn only_outward(
    host: &Host,
    hop: &Hop,
    there: &There,
    channels: &[(ChannelId, ChannelId)],
    packets: u64,
) {
    let known = {
        let chain = hop.chain.clone();
        host.0.ask(|reply| Command::Knows { chain, reply }).await.unwrap().unwrap()
    };
    let chain = Chain::connect(there.config(), host.0.kind).await.unwrap();
    let theirs = state(host, &hop.chain).await.theirs.unwrap();
    let relayer = Relayer::new(host.0.0.clone(), chain, theirs, known.client, None);
    let mock = PortId::known("mock");
    let (late, _late) = mpsc::unbounded_channel();
    tokio::select! {
        () = relayer.outward(late) => {}
        () = until("all have come there", async || {
            for (_, there_too) in channels {
                if there.rpc.next_send(&mock, there_too).await.unwrap() <= packets {
                    return false;
                }
            }
            true
        }) => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn what_a_chain_has_begun_is_found_where_its_blocks_are_forgotten() {
    for solo in [false, true] {
        let there = There::start();
        let node = Forgetful::before(&there).await;
        let mut builder = Host::builder("host").module("numbers", Numbers).unwrap();
        if solo {
            builder = builder.solo_machine(crate::SoloKey::ed25519(&[7; 32]).unwrap());
        }
        let host = builder.in_memory().unwrap();
        let first = host.connect_chain(node.config()).await.unwrap();
        // So that it has to go on from a block that is forgotten.
        until("it is known who goes on", async || {
            state(&host, &first.chain).await.validators.is_some()
        })
        .await;
        host.0.ways().clear();

        let theirs = state(&host, &first.chain).await.theirs.unwrap();
        let prefix = Some(MerklePrefix { key_prefix: b"ibc".to_vec() });
        let hop = MsgConnectionOpenInit {
            client_id: theirs.to_string(),
            counterparty: Some(Other {
                client_id: "07-tendermint-0".to_owned(),
                connection_id: String::new(),
                prefix,
            }),
            version: None,
            delay_period: 0,
            signer: there.address.clone(),
        };
        there.does(&hop).await.unwrap();
        for order in [Order::Ordered, Order::Unordered] {
            let channel = MsgChannelOpenInit {
                port_id: "mock".to_owned(),
                channel: Some(raw::Channel {
                    state: raw::State::Init as i32,
                    ordering: raw_order(order),
                    counterparty: Some(Counterparty {
                        port_id: "numbers".to_owned(),
                        channel_id: String::new(),
                    }),
                    connection_hops: vec![THERE.to_owned()],
                    version: "any".to_owned(),
                    upgrade_sequence: 0,
                }),
                signer: there.address.clone(),
            };
            there.does(&channel).await.unwrap();
        }
        node.forget(&there, false).await;

        let again = within(host.connect_chain(node.config())).await.unwrap();
        assert_eq!(again, first);
        let open = async || host.hops().iter().filter(|hop| hop.open).count() == 2;
        until("the chain's hop is open", open).await;
        for (number, from) in [(0, 0), (1, 100)] {
            let (port, id) =
                (PortId::known("mock"), ChannelId::known(&format!("channel-{number}")));
            let end = async || there.rpc.channel(&port, &id).await.unwrap().unwrap();
            until("the channel is open", async || end().await.state == ChannelState::Open).await;
            send(&host, &end().await.counterparty.unwrap(), from, from + 10).await;
        }
        until("all are acknowledged", async || count(&host, "acked/").await == 20).await;
        until("all have come back", async || count(&host, "back/").await == 20).await;
        assert!(!state(&host, &first.chain).await.forgotten, "nothing was");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn what_no_node_can_tell_is_asked_for_until_one_can() {
    let there = There::start();
    let node = Forgetful::before(&there).await;
    let host = Host::builder("host").module("numbers", Numbers).unwrap().in_memory().unwrap();
    let hop = host.connect_chain(node.config()).await.unwrap();
    let channels = channels(&host, &hop).await;
    let send_all = async |from: u32, to: u32| {
        for (number, (channel, _)) in (0..).zip(&channels) {
            send(&host, channel, 1_000 * number + from, 1_000 * number + to).await;
        }
    };
    host.0.ways().clear();
    send_all(0, 20).await;
    only_outward(&host, &hop, &there, &channels, 20).await;
    node.forget(&there, false).await;

    assert_eq!(within(host.connect_chain(node.config())).await.unwrap(), hop);
    let forgotten = async || state(&host, &hop.chain).await.forgotten;
    until("it is known that something is forgotten", &forgotten).await;
    // What has an order waits for what came before it.
    send_all(20, 30).await;
    until("what has none has come", async || count(&host, "back/").await >= 10).await;
    assert_eq!((count(&host, "acked/").await, count(&host, "back/").await), (10, 10));
    // Ever more rarely.
    let asked = node.asked.load(SeqCst);
    time::sleep(Duration::from_secs(6)).await;
    let more = node.asked.load(SeqCst) - asked;
    // 20 packets and 20 acknowledgements, and what has come since then, on each of two channels.
    assert!((1..=3 * 120).contains(&more), "asked {more} times");

    // The next one has to know of it.
    host.0.ways().clear();
    assert_eq!(within(host.connect_chain(node.config())).await.unwrap(), hop);
    time::sleep(Duration::from_secs(1)).await;
    assert!(forgotten().await);
    node.index.store(true, SeqCst);
    until("all are acknowledged", async || count(&host, "acked/").await == 60).await;
    until("all have come back", async || count(&host, "back/").await == 60).await;
    until("nothing is forgotten any more", async || !forgotten().await).await;
    send_all(30, 40).await;
    until("all are acknowledged", async || count(&host, "acked/").await == 80).await;
    until("all have come back", async || count(&host, "back/").await == 80).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn a_node_that_prunes_is_caught_up_with() {
    for solo in [false, true] {
        let there = There::with(|chain| chain.keep = 30);
        let mut builder = Host::builder("host").module("numbers", Numbers).unwrap();
        if solo {
            builder = builder.solo_machine(crate::SoloKey::ed25519(&[7; 32]).unwrap());
        }
        let host = builder.in_memory().unwrap();
        let hop = host.connect_chain(there.config()).await.unwrap();
        let channels = channels(&host, &hop).await;
        host.0.ways().clear();
        for (number, (channel, _)) in (0..).zip(&channels) {
            send(&host, channel, 100 * number, 100 * number + 20).await;
        }
        only_outward(&host, &hop, &there, &channels, 20).await;

        let last = there.rpc.status().await.unwrap().height;
        until("the node has pruned the block, and the state after it", async || {
            let block = there.rpc.signed(last).await;
            let state = there.rpc.prove("clients/any", Some(last)).await;
            block.is_err_and(|error| error.is_forgotten()) && state.is_err()
        })
        .await;

        assert_eq!(within(host.connect_chain(there.config())).await.unwrap(), hop);
        until("all are acknowledged", async || count(&host, "acked/").await == 40).await;
        until("all have come back", async || count(&host, "back/").await == 40).await;
        for (number, (channel, _)) in (0..).zip(&channels) {
            send(&host, channel, 100 * number + 20, 100 * number + 40).await;
        }
        until("all are acknowledged", async || count(&host, "acked/").await == 80).await;
        until("all have come back", async || count(&host, "back/").await == 80).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn what_a_node_keeps_to_itself_is_found() {
    let there = There::start();
    let silent = Arc::new(AtomicBool::new(false));
    let is_silent = silent.clone();
    let judge = move |method: &str, _: &serde_json::Value| {
        if method != "block_results" || !is_silent.load(SeqCst) {
            return Verdict::Pass;
        }
        Verdict::Change(Box::new(|result| {
            for tx in result["txs_results"].as_array_mut().into_iter().flatten() {
                tx["events"] = json!([]);
            }
        }))
    };
    let node = Middle::before(&there.rpc, judge).await;
    let rpc = RpcSettings { sweep: Duration::from_secs(2), ..RpcSettings::default() };
    let config = ChainConfig::new(&node.url, key(0)).with_rpc(rpc);
    let host = Host::builder("host").module("numbers", Numbers).unwrap().in_memory().unwrap();
    let hop = within(host.connect_chain(config)).await.unwrap();
    let channels = channels(&host, &hop).await;
    silent.store(true, SeqCst);
    for (number, (channel, _)) in (0..).zip(&channels) {
        send(&host, channel, 100 * number, 100 * number + 20).await;
    }
    until("all are acknowledged", async || count(&host, "acked/").await == 40).await;
    until("all have come back", async || count(&host, "back/").await == 40).await;
    assert!(!state(&host, &hop.chain).await.forgotten, "nothing was");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn a_node_that_has_spoken_of_blocks_to_come_is_still_listened_to() {
    let there = There::start();
    let boasts = Arc::new(AtomicBool::new(false));
    let it_boasts = boasts.clone();
    let judge = move |method: &str, _: &serde_json::Value| {
        if method != "status" || !it_boasts.load(SeqCst) {
            return Verdict::Pass;
        }
        Verdict::Change(Box::new(|status| {
            status["sync_info"]["latest_block_height"] = "1000000000".into();
        }))
    };
    let node = Middle::before(&there.rpc, judge).await;
    let config = || ChainConfig::new(&node.url, key(0));
    let host = Host::builder("host").module("numbers", Numbers).unwrap().in_memory().unwrap();
    let hop = within(host.connect_chain(config())).await.unwrap();
    let channels = channels(&host, &hop).await;
    host.0.ways().clear();
    boasts.store(true, SeqCst);
    assert_eq!(within(host.connect_chain(config())).await.unwrap(), hop);
    for (number, (channel, _)) in (0..).zip(&channels) {
        send(&host, channel, 100 * number, 100 * number + 20).await;
    }
    time::sleep(Duration::from_secs(2)).await;
    boasts.store(false, SeqCst);
    until("all are acknowledged", async || count(&host, "acked/").await == 40).await;
    until("all have come back", async || count(&host, "back/").await == 40).await;
}
