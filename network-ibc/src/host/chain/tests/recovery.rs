//! What becomes of it all when one of the two is away.

use std::sync::atomic::{AtomicBool, Ordering};

use data_encoding::HEXLOWER;
use network_core::{Bytes, Refusal};
use serde_json::json;

use super::*;
use crate::{
    Context, LedgerKey, Module as HostModule, ModuleChannel,
    chain::{Middle, Verdict},
};

/// Sends numbers, and keeps which were acknowledged and which came back.
pub(super) struct Numbers;

impl HostModule for Numbers {
    fn on_receive(
        &mut self,
        context: &mut Context<'_>,
        _: &ModuleChannel,
        record: &Bytes,
    ) -> Result<Bytes, Refusal> {
        let key = [b"back/", &record[..]].concat();
        // One that comes twice is seen.
        let times = context.get(&key).map_or(0, |times| times.len());
        context.set(&key, vec![b'|'; times + 1]);
        Ok(Bytes::from_static(b"well"))
    }

    fn on_ack(
        &mut self,
        context: &mut Context<'_>,
        _: &ModuleChannel,
        _: u64,
        record: &Bytes,
        ack: Result<Bytes, Refusal>,
    ) {
        assert_eq!(ack.unwrap(), OK);
        let key = [b"acked/", &record[..]].concat();
        let times = context.get(&key).map_or(0, |times| times.len());
        context.set(&key, vec![b'|'; times + 1]);
    }
}

pub(super) fn numbers() -> PortId {
    PortId::known("numbers")
}

pub(super) async fn count(host: &Host, prefix: &'static str) -> usize {
    let count = move |_: &mut Numbers, context: &mut Context<'_>| {
        let (mut found, mut from) = (0, prefix.as_bytes().to_vec());
        while let Some((key, value)) = context.next(prefix.as_bytes(), &from) {
            assert_eq!(&value[..], b"|", "{key:?} came more than once");
            from = [&key[..], &[0]].concat();
            found += 1;
        }
        Ok::<_, HostError>(found)
    };
    host.with_module(&numbers(), count).await.unwrap()
}

pub(super) async fn send(host: &Host, channel: &ChannelId, from: u32, to: u32) {
    let channel = channel.clone();
    let send = move |_: &mut Numbers, context: &mut Context<'_>| {
        for number in from..to {
            let record = number.to_be_bytes().to_vec();
            context.send(&channel, record, Duration::from_secs(3_600))?;
        }
        Ok::<_, HostError>(())
    };
    host.with_module(&numbers(), send).await.unwrap();
}

/// Until the one before has let go of the folder.
async fn open_again(folder: &std::path::Path, solo: bool) -> Host {
    let opening = async {
        loop {
            let mut builder = Host::builder("host").module("numbers", Numbers).unwrap();
            if solo {
                builder = builder.solo_machine(crate::SoloKey::ed25519(&[7; 32]).unwrap());
            }
            match builder.open(folder, LedgerKey::from_seed(&[3; 32]).unwrap()) {
                Ok(host) => break host,
                Err(_) => time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    within(opening).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn a_host_that_ends_again_and_again_loses_and_repeats_nothing() {
    ends_again_and_again(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn a_solo_machine_that_ends_again_and_again_loses_and_repeats_nothing() {
    ends_again_and_again(true).await;
}

async fn ends_again_and_again(solo: bool) {
    let there = There::start();
    let folder = tempfile::tempdir().unwrap();
    let mut host = open_again(folder.path(), solo).await;
    let hop = host.connect_chain(there.config()).await.unwrap();
    let remote = format!("/ibc-hop/{}/ibc-port/mock/unordered/any", hop.connection);
    let channel = within(host.open_channel(&numbers(), &remote)).await.unwrap().channel;
    const ROUNDS: u32 = 20;
    const EACH: u32 = 100;
    for round in 0..ROUNDS {
        send(&host, &channel, round * EACH, (round + 1) * EACH).await;
        // Somewhere in the middle of it, and in half of the rounds without a last block.
        time::sleep(Duration::from_millis(u64::from(round % 10) * 60)).await;
        if round % 2 == 0 {
            host.end().await;
        } else {
            drop(host);
        }
        host = open_again(folder.path(), solo).await;
        assert_eq!(host.connect_chain(there.config()).await.unwrap(), hop);
    }
    let all = usize::try_from(ROUNDS * EACH).unwrap();
    until("all are acknowledged", async || count(&host, "acked/").await == all).await;
    until("all have come back", async || count(&host, "back/").await == all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn what_happened_in_blocks_that_are_forgotten_is_found() {
    let there = There::start();
    let host = Host::builder("host").module("numbers", Numbers).unwrap().in_memory().unwrap();
    let hop = host.connect_chain(there.config()).await.unwrap();
    let remote = format!("/ibc-hop/{}/ibc-port/mock/unordered/any", hop.connection);
    let opened = within(host.open_channel(&numbers(), &remote)).await.unwrap();
    let (channel, other) = (opened.channel, opened.counterparty.unwrap());
    // From now on only one way.
    host.0.ways().clear();
    let asked = hop.chain.clone();
    let ask = async || {
        let chain = asked.clone();
        host.0.ask(|reply| Command::Chain { chain, reply }).await.unwrap()
    };
    let known = {
        let chain = hop.chain.clone();
        host.0.ask(|reply| Command::Knows { chain, reply }).await.unwrap().unwrap()
    };
    let chain = Chain::connect(there.config(), host.0.kind).await.unwrap();
    let theirs = ask().await.theirs.unwrap();
    let relayer = Relayer::new(host.0.0.clone(), chain, theirs, known.client, None);
    send(&host, &channel, 0, 20).await;
    let port = PortId::known("mock");
    let (late, _late) = mpsc::unbounded_channel();
    tokio::select! {
        () = relayer.outward(late) => {}
        () = until("all have come there", async || {
            let all: Vec<_> = (1..=20).collect();
            there.rpc.acknowledgements(&port, &other, &all).await.unwrap().len() == 20
        }) => {}
    }
    assert_eq!((count(&host, "acked/").await, count(&host, "back/").await), (0, 0));

    let missed = relayer.missed(&ask().await).await.unwrap();
    relayer.tell(&missed.news, None).await;
    assert_eq!((count(&host, "acked/").await, count(&host, "back/").await), (20, 20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn a_chain_that_is_paused_or_restarted_is_caught_up_with() {
    let mut there = There::start();
    let host = Host::builder("host").module("numbers", Numbers).unwrap().in_memory().unwrap();
    let hop = host.connect_chain(there.config()).await.unwrap();
    let remote = format!("/ibc-hop/{}/ibc-port/mock/unordered/any", hop.connection);
    let channel = within(host.open_channel(&numbers(), &remote)).await.unwrap().channel;
    send(&host, &channel, 0, 50).await;
    there.simd.pause().unwrap();
    send(&host, &channel, 50, 100).await;
    time::sleep(Duration::from_secs(60)).await;
    there.simd.resume().unwrap();
    until("all are acknowledged", async || count(&host, "acked/").await == 100).await;
    until("all have come back", async || count(&host, "back/").await == 100).await;

    send(&host, &channel, 100, 150).await;
    there.simd.stop().unwrap();
    send(&host, &channel, 150, 200).await;
    time::sleep(Duration::from_secs(1)).await;
    there.simd.run().unwrap();
    until("all are acknowledged", async || count(&host, "acked/").await == 200).await;
    until("all have come back", async || count(&host, "back/").await == 200).await;
}

/// As it is where the transaction of a process that was killed waits in the mempool, and then fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn what_is_redundant_in_the_mempool_alone_is_said_again() {
    let there = There::start();
    let pending = Arc::new(AtomicBool::new(false));
    let is_pending = pending.clone();
    let judge = move |method: &str, asked: &serde_json::Value| {
        let is_trial = method == "abci_query"
            && asked["params"]["path"] == "/cosmos.tx.v1beta1.Service/Simulate";
        if !is_trial || !is_pending.load(Ordering::SeqCst) {
            return Verdict::Pass;
        }
        let tx = HEXLOWER.decode(asked["params"]["data"].as_str().unwrap().as_bytes()).unwrap();
        let name = b"MsgRecvPacket";
        if !tx.windows(name.len()).any(|window| window == name) {
            return Verdict::Pass;
        }
        let log = "packet messages are redundant";
        Verdict::Answer(json!({ "response": { "code": 22, "codespace": "channel", "log": log } }))
    };
    let node = Middle::before(&there.rpc, judge).await;
    let host = Host::builder("host").module("numbers", Numbers).unwrap().in_memory().unwrap();
    let config = ChainConfig::new(&node.url, key(0));
    let hop = within(host.connect_chain(config)).await.unwrap();
    let remote = format!("/ibc-hop/{}/ibc-port/mock/ordered/any", hop.connection);
    let channel = within(host.open_channel(&numbers(), &remote)).await.unwrap().channel;
    pending.store(true, Ordering::SeqCst);
    send(&host, &channel, 0, 20).await;
    time::sleep(Duration::from_secs(2)).await;
    assert_eq!(count(&host, "acked/").await, 0);
    pending.store(false, Ordering::SeqCst);
    until("all are acknowledged", async || count(&host, "acked/").await == 20).await;
    until("all have come back", async || count(&host, "back/").await == 20).await;
}
