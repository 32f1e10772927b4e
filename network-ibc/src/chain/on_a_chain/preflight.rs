//! Finding out about a chain before.

use serde_json::json;

use super::{
    middle::{Middle, Verdict},
    *,
};
use crate::chain::{
    ChainConfig, GasPrice, RpcSettings, TxSettings,
    preflight::{Check, Level, Report, preflight},
};

fn at_price(price: &str) -> TxSettings {
    TxSettings { gas_price: GasPrice::parse(price).unwrap(), ..TxSettings::default() }
}

fn config(node: &Node) -> ChainConfig {
    config_at(&node.chain.rpc())
}

fn config_at(url: &str) -> ChainConfig {
    let rpc = RpcSettings { timeout: Duration::from_secs(2), ..RpcSettings::default() };
    ChainConfig::new(url, key(0)).with_rpc(rpc)
}

/// Everything is good but this, which says that.
#[track_caller]
fn only(report: &Report, check: Check, level: Level, says: &str) {
    let finding = report.of(check).unwrap();
    assert_eq!(finding.level, level, "{report}");
    assert!(finding.found.contains(says), "{report}");
    for finding in &report.findings {
        assert!(finding.check == check || finding.level == Level::Good, "{report}");
    }
    assert_eq!(report.is_good(), level < Level::Problem);
}

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn a_chain_that_is_as_it_should_be_is_found_good() {
    let node = Node::with(|settings| settings.gas_price = "0.025stake".to_owned());
    node.reaches(5).await;
    let report = preflight(&config(&node).with_id("chain-a").with_tx(at_price("0.025stake"))).await;
    assert!(report.findings.iter().all(|finding| finding.level == Level::Good), "{report}");
    let built = Built::this();
    let comet = format!("CometBFT {}, ", built.comet);
    let sdk = format!("Cosmos SDK {}", built.sdk);
    for (check, says) in [
        (Check::Node, &comet[..]),
        (Check::Chain, "chain-a"),
        (Check::Sync, "at the end of the chain"),
        (Check::Clock, "s old"),
        (Check::Services, &sdk),
        (Check::Version, &format!("ibc-go {}", built.ibc_go)),
        (Check::Clients, "07-tendermint"),
        (Check::Trust, "14 days"),
        (Check::Blocks, "all of them"),
        (Check::Proofs, "blocks at least"),
        (Check::Index, "can be looked up"),
        (Check::Accounts, "everything"),
        (Check::Account, "cosmos15yk64u7zc9g9k2yr2wmzeva5qgwxps6yxj00e7, number 0"),
        (Check::Price, "0.025stake; the node wants 0.025stake"),
        (Check::Balance, "1,000,000,000,000 stake: 40,000,000 million units of gas"),
        (Check::Limits, "22,020,096 bytes"),
    ] {
        let finding = report.of(check).unwrap();
        assert!(finding.found.contains(says), "{report}");
        assert_eq!(finding.advice, None);
    }
    assert_eq!(report.findings.len(), 16);
    assert!(report.to_string().ends_with("a host can relay to this chain: 0 warnings"));
}

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn what_is_wrong_with_the_account_or_the_price_is_found() {
    let node = Node::with(|settings| settings.gas_price = "0.5stake".to_owned());
    let report = preflight(&config(&node).with_tx(at_price("0.4stake"))).await;
    only(&report, Check::Price, Level::Problem, "0.4stake, and the node wants 0.5stake");
    let report = preflight(&config(&node)).await;
    only(&report, Check::Price, Level::Problem, "nothing, and the node wants 0.5stake");
    let report = preflight(&config(&node).with_tx(at_price("0.5stake")).with_id("chain-b")).await;
    only(&report, Check::Chain, Level::Problem, "is chain-a, not chain-b");

    let mut stranger = config(&node).with_tx(at_price("0.5stake"));
    stranger.key = ChainKey::from_hex(&"09".repeat(32)).unwrap();
    let report = preflight(&stranger).await;
    let bad = report.findings.iter().filter(|finding| finding.level == Level::Problem);
    let bad: Vec<_> = bad.map(|finding| finding.check).collect();
    assert_eq!(bad, [Check::Account, Check::Balance], "{report}");
    let advice = report.of(Check::Account).unwrap().advice.as_deref();
    assert_eq!(advice, Some("send some of its coins there"));
    assert!(!report.is_good());
}

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn what_the_node_does_not_keep_is_found() {
    let node = Node::with(|settings| settings.index = false);
    node.reaches(5).await;
    only(&preflight(&config(&node)).await, Check::Index, Level::Warning, "cannot be looked up");

    // As nodes say it that have forgotten: CometBFT's blocks, and the SDK's states.
    let middle = Middle::before(&node.rpc, |method, asked| match method {
        "tx" => Verdict::Error("tx (00) not found".to_owned()),
        "status" => Verdict::Change(Box::new(|result| {
            let sync = &mut result["sync_info"];
            sync["earliest_block_height"] = "2".into();
            sync["earliest_block_time"] = sync["latest_block_time"].clone();
        })),
        "abci_query" if asked["params"]["prove"] == true => {
            let log = "failed to load state at height 2; version does not exist";
            let no = json!({ "code": 38, "log": log, "codespace": "sdk", "height": "0" });
            Verdict::Answer(json!({ "response": no }))
        }
        _ => Verdict::Pass,
    })
    .await;
    let report = preflight(&config_at(&middle.url)).await;
    let warned = report.findings.iter().filter(|finding| finding.level == Level::Warning);
    let warned: Vec<_> = warned.map(|finding| finding.check).collect();
    assert_eq!(warned, [Check::Blocks, Check::Proofs], "{report}");
    let advice = report.of(Check::Blocks).unwrap().advice.as_deref().unwrap();
    assert!(advice.contains("needs a node that has those of 14 days"), "{report}");
    assert!(report.is_good());
}

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn a_preflight_goes_on_where_it_can() {
    let mut node = Node::start();
    let middle = Middle::before(&node.rpc, |method, asked| {
        let path = asked["params"]["path"].as_str().unwrap_or_default();
        if path.ends_with("/GetNodeInfo") || path.ends_with("/Config") {
            let log = "unknown query path: unknown request";
            let no = json!({ "code": 6, "log": log, "codespace": "sdk", "height": "0" });
            return Verdict::Answer(json!({ "response": no }));
        }
        match method {
            "status" => Verdict::Change(Box::new(|result| {
                result["sync_info"]["catching_up"] = true.into();
                result["sync_info"]["latest_block_time"] = "2020-01-01T00:00:00Z".into();
            })),
            "consensus_params" => Verdict::Error("out of order".to_owned()),
            _ => Verdict::Pass,
        }
    })
    .await;
    let report = preflight(&config_at(&middle.url)).await;
    let of = |level| {
        let found = report.findings.iter().filter(move |finding| finding.level == level);
        found.map(|finding| finding.check).collect::<Vec<_>>()
    };
    assert_eq!(of(Level::Problem), [Check::Sync, Check::Clock, Check::Services], "{report}");
    assert_eq!(of(Level::Warning), [Check::Price, Check::Limits], "{report}");
    assert_eq!(report.of(Check::Trust).unwrap().level, Level::Good);

    // A node that is stopped, and one that is paused.
    node.chain.pause().unwrap();
    let report = preflight(&config(&node)).await;
    assert_eq!(report.findings.len(), 1, "{report}");
    assert!(report.findings[0].found.contains("did not answer `status` in 2 s"), "{report}");
    node.chain.resume().unwrap();
    node.chain.stop().unwrap();
    let report = preflight(&config(&node)).await;
    assert!(!report.is_good());
    only(&report, Check::Node, Level::Problem, "cannot be reached (Connection refused");
    let report = preflight(&config_at("127.0.0.1:26657")).await;
    only(&report, Check::Node, Level::Problem, "no URL of a chain's RPC");
}
