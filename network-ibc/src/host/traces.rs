//! The recorded behaviour of the original over IBC, replayed on a host beside a chain that says
//! what a scenario gives it.

mod chain;
#[path = "../../../network-testkit/tests/mutants/mod.rs"]
mod mutants;

use std::fmt;

use async_trait::async_trait;
use network_core::{BackendError, ProtocolImpl};
use network_testkit::replay::{
    self, Chains, Denied, Meaning, Says, Scenario, Setting, Told, Verdict,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::yield_now,
};

use self::chain::{CHAIN, Chain, Shared, lock};
use super::*;
use crate::{AddressError, ledger::Ledger};

const SCENARIOS: &str = include_str!("../../../network-testkit/data/upstream/scenarios.jsonl");

/// How the host tells its ways apart.
const WAY: u64 = 1;

/// A host and its chain.
struct Pair {
    host: Host,
    chain: Shared,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.host.fmt(f)
    }
}

struct Pairs;

#[async_trait]
impl Chains for Pairs {
    async fn start(&self, setting: &Setting, told: Told) -> Result<Arc<dyn replay::Chain>, String> {
        let pair = Pair { host: host(setting), chain: Arc::new(Mutex::new(Chain::new(told))) };
        pair.meet().await;
        pair.open_hops(setting).await?;
        Ok(Arc::new(pair))
    }
}

/// A host whose next names are those of the setting.
fn host(setting: &Setting) -> Host {
    let key = Arc::new(LedgerKey::generate().unwrap());
    let mut ledger = Ledger::in_memory(key.clone(), "near", 64).unwrap();
    let first_hop = setting.hops.first().copied().unwrap_or_default();
    for (counter, next) in
        [("nextConnectionSequence", first_hop), ("nextChannelSequence", setting.next_channel)]
    {
        let next = network_core::Bytes::copy_from_slice(&next.to_be_bytes());
        ledger.set_private(counter.into(), Some(next));
    }
    Host::builder("").over(ledger, key)
}

impl Pair {
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> T {
        let (reply, replied) = oneshot::channel();
        self.host.0.inbox.push(command(reply));
        replied.await.unwrap()
    }

    /// Each makes a client of the other, and the host has a way to the chain.
    async fn meet(&self) {
        let states = lock(&self.chain).states();
        let make =
            |reply| Command::MakeClient { chain: CHAIN.to_owned(), key: [0; 32], states, reply };
        let known = self.ask(make).await.unwrap();
        let states =
            self.ask(|reply| Command::States { chain: CHAIN.to_owned(), reply }).await.unwrap();
        let known = Some(lock(&self.chain).meet(known, states));
        let (batches, mut relayed) = mpsc::unbounded_channel::<wire::Batch>();
        let chain = CHAIN.to_owned();
        self.host.0.inbox.push(Command::PeerUp { chain, peer: WAY, batches, known });
        let (inbox, chain) = (self.host.0.inbox.clone(), self.chain.clone());
        tokio::spawn(async move {
            // Until the host ends.
            while let Some(batch) = relayed.recv().await {
                let outcomes = Some(lock(&chain).hears(batch));
                inbox.push(Command::Relayed { chain: CHAIN.to_owned(), peer: WAY, outcomes });
            }
        });
    }

    async fn deliver(&self, batch: wire::Batch) -> wire::Outcomes {
        self.ask(|reply| Command::Deliver { chain: CHAIN.to_owned(), batch, reply }).await
    }

    async fn open_hops(&self, setting: &Setting) -> Result<(), String> {
        let (Some(first), Some(last)) = (setting.hops.first(), setting.hops.last()) else {
            return Ok(());
        };
        for _ in *first..=*last {
            let begun = lock(&self.chain).begin_hop();
            let outcomes = self.deliver(begun).await;
            lock(&self.chain).said(outcomes)?;
            let confirmed = loop {
                if let Some(confirmed) = lock(&self.chain).confirm_hop() {
                    break confirmed;
                }
                yield_now().await;
            };
            let outcomes = self.deliver(confirmed).await;
            lock(&self.chain).said(outcomes)?;
        }
        let named = lock(&self.chain).are_hops_of(setting);
        if named { Ok(()) } else { Err("the hops have other names".to_owned()) }
    }
}

#[async_trait]
impl replay::Chain for Pair {
    fn host(&self) -> &dyn ProtocolImpl {
        &self.host
    }

    async fn says(&self, message: Says) -> Result<(), Denied> {
        let batch = lock(&self.chain).says(&message).map_err(Denied)?;
        let Some(batch) = batch else { return Ok(()) };
        let outcomes = self.deliver(batch).await;
        let mut chain = lock(&self.chain);
        chain.said(outcomes).map_err(|words| {
            chain.say_again(&message);
            Denied(words)
        })
    }

    fn meaning(&self, error: &BackendError) -> Meaning {
        if error.downcast_ref::<AddressError>().is_some() {
            return Meaning::Address;
        }
        match error.downcast_ref::<HostError>() {
            Some(HostError::Address(_)) => Meaning::Address,
            Some(HostError::Hops { .. }) => Meaning::Hops,
            Some(HostError::NoHop { .. }) => Meaning::NoHop,
            Some(HostError::PortTaken { .. }) => Meaning::PortTaken,
            _ => Meaning::Other,
        }
    }
}

/// The lines of the family.
fn lines() -> impl Iterator<Item = &'static str> {
    let family = |line: &&str| Scenario::parse(line).unwrap().family == "ibc";
    SCENARIOS.lines().filter(family)
}

fn replayed(line: &str) -> Verdict {
    Scenario::parse(line).unwrap().replay_with(Arc::new(Pairs))
}

#[test]
fn every_scenario_is_the_same_or_differs_by_design() {
    let (mut same, mut by_design) = (0, 0);
    for line in lines() {
        let verdict = replayed(line);
        println!("{}: {verdict}", Scenario::parse(line).unwrap().id);
        match verdict {
            Verdict::Same => same += 1,
            Verdict::ByDesign(_) => by_design += 1,
            other => panic!("{line}: {other}"),
        }
    }
    assert_eq!((same, by_design), (5, 18));
}

#[test]
fn what_is_by_design_does_not_come_from_a_name_or_a_list() {
    for line in lines() {
        let mut json: serde_json::Value = serde_json::from_str(line).unwrap();
        json["id"] = "another".into();
        json["title"] = "another".into();
        json["defects"] = serde_json::json!([]);
        assert_eq!(replayed(&json.to_string()).to_string(), replayed(line).to_string());
    }
}

#[test]
fn a_trace_that_is_changed_differs() {
    let (mut tried, mut survived) = (0, Vec::new());
    for line in lines() {
        let json = serde_json::from_str(line).unwrap();
        let mutate = [
            mutants::dropped,
            mutants::swapped,
            mutants::reasoned,
            mutants::returned,
            mutants::altered,
            mutants::doubled,
            mutants::late,
            mutants::ended_otherwise,
        ];
        for mutate in mutate {
            for mutant in mutate(&json) {
                tried += 1;
                let verdict = replayed(&mutant.json.to_string());
                if verdict.passed() {
                    survived.push(format!("{}: {}: {verdict}", json["id"], mutant.what));
                }
            }
        }
    }
    println!("{tried} changed traces");
    assert!(tried > 250, "{tried}");
    assert!(survived.is_empty(), "{} of {tried} pass:\n{}", survived.len(), survived.join("\n"));
}

/// A recorded scenario, without what comes of the steps from `step` on.
fn until(id: &str, step: usize) -> serde_json::Value {
    let mut all = lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let mut json = all.find(|json| json["id"] == id).unwrap();
    json["steps"].as_array_mut().unwrap().truncate(step - 1);
    let before = |segment: &serde_json::Value| {
        segment["step"].as_str().unwrap().parse::<usize>().is_ok_and(|at| at < step)
    };
    json["trace"].as_array_mut().unwrap().retain(before);
    json
}

fn add(json: &mut serde_json::Value, step: serde_json::Value, events: &[serde_json::Value]) {
    let steps = json["steps"].as_array_mut().unwrap();
    steps.push(step);
    let segment =
        serde_json::json!({"step": steps.len().to_string(), "order": "total", "events": events});
    if !events.is_empty() {
        json["trace"].as_array_mut().unwrap().push(segment);
    }
}

#[track_caller]
fn is_by(json: &serde_json::Value, codes: &[&str]) {
    match replayed(&json.to_string()) {
        Verdict::ByDesign(by) => {
            assert_eq!(by.iter().map(|one| one.code).collect::<Vec<_>>(), codes);
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_decline_is_told_to_the_chain() {
    let mut json = until("ibc/inbound", 9);
    json["steps"][4]["methods"]["onAccept"] = serde_json::json!({"throw": {"msg": "not you"}});
    json["trace"].as_array_mut().unwrap().pop();
    let confirmed = until("ibc/inbound", 9)["trace"].as_array().unwrap().last().unwrap().clone();
    let events = confirmed["events"].as_array().unwrap()[..2].to_vec();
    json["trace"].as_array_mut().unwrap().push(serde_json::json!({
        "step": "8", "order": "total", "events": events, "unhandled": ["Error: not you"],
    }));
    is_by(&json, &["D31", "N16"]);
}

#[test]
fn a_late_ack_is_heard() {
    let mut json = until("ibc/send", 10);
    let close = serde_json::json!({"op": "bridge", "ibc": "ibc", "event": {
        "event": "channelCloseConfirm", "portID": "me", "channelID": "channel-5"}});
    let connection = json["trace"][2]["events"][1]["args"][0].clone();
    add(
        &mut json,
        close,
        &[
            serde_json::json!({"ev": "cb", "who": "cli", "m": "onClose",
            "args": [connection, "\"closed-by-finalizer\"", "handler:cli"]}),
            serde_json::json!({"ev": "ret", "step": "10", "op": "bridge", "val": "undefined"}),
            serde_json::json!({"ev": "err", "step": "8", "op": "send", "name": "Error",
            "msg": "Connection closed"}),
        ],
    );
    let ack = serde_json::json!({"op": "bridge", "ibc": "ibc", "event": {
        "event": "acknowledgementPacket", "packet": {"source_port": "me",
            "source_channel": "channel-5", "destination_port": "far",
            "destination_channel": "channel-9", "sequence": 1, "data": ""},
        "acknowledgement": "b2s="}});
    add(
        &mut json,
        ack,
        &[serde_json::json!({"ev": "err", "step": "11", "op": "bridge",
        "name": "Error", "msg": "\"channelKeyToSeqAck\" not found: channel-5:me"})],
    );
    is_by(&json, &["D07", "D08", "D28"]);
}

#[test]
fn a_channel_that_was_dialed_is_closed_with_its_port() {
    let mut json = until("ibc/send", 8);
    let returned =
        serde_json::json!({"ev": "ret", "step": "8", "op": "revoke", "val": "undefined"});
    add(&mut json, serde_json::json!({"op": "revoke", "port": "a"}), &[returned]);
    is_by(&json, &["D06"]);
}

#[test]
fn an_empty_record_is_not_sent() {
    let mut json = until("ibc/send", 8);
    let send = serde_json::json!({"op": "send", "conn": "c", "data": "", "nowait": true});
    add(&mut json, send, &[]);
    let packet = "{packet: {data: \"\", destination_channel: \"channel-9\", \
        destination_port: \"far\", source_channel: \"channel-5\", source_port: \"me\"}, \
        relativeTimeoutNs: 3600000000000n}";
    let down = serde_json::json!({"ev": "cb", "who": "ibc", "m": "downcall",
        "args": ["\"sendPacket\"", packet]});
    add(&mut json, serde_json::json!({"op": "settle"}), &[down]);
    let mut lost = json.clone();
    json["trace"].as_array_mut().unwrap().push(serde_json::json!({"step": "end",
        "order": "total", "events": [{"ev": "pending", "step": "8", "op": "send"}]}));
    is_by(&json, &["N22"]);
    // A send that the trace does not end.
    lost["steps"][7]["data"] = "x".into();
    assert!(!replayed(&lost.to_string()).passed());
}

#[test]
fn that_nobody_listens_is_told_to_the_chain() {
    let mut json = until("ibc/inbound", 6);
    let tried = until("ibc/inbound", 8)["steps"][6].clone();
    add(
        &mut json,
        tried,
        &[serde_json::json!({"ev": "err", "step": "6", "op": "bridge",
        "name": "Error", "msg": "No listeners for /ibc-port/me"})],
    );
    is_by(&json, &["D31"]);
}

#[test]
fn channels_that_no_host_can_number_so_are_not_applicable() {
    let line = lines().find(|line| line.contains("\"ibc/connect-two-pending\"")).unwrap();
    let line = line.replace("channel-6", "channel-4");
    assert!(matches!(replayed(&line), Verdict::NotApplicable(_)));
}
