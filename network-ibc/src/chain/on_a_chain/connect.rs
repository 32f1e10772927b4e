//! Finding out whether there is a way.

use serde_json::json;

use super::{
    middle::{Middle, Verdict},
    *,
};
use crate::{
    chain::connect::{Chain as Connected, ChainConfig, ChainError},
    client::TENDERMINT,
};

fn config(node: &Node) -> ChainConfig {
    ChainConfig::new(&node.chain.rpc(), key(0))
}

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn a_chain_is_taken_as_it_is_or_refused_with_the_reason() {
    let node = Node::with(|settings| settings.chain_id = "chain-7".to_owned());
    let chain = Connected::connect(config(&node).with_id("chain-7"), TENDERMINT).await.unwrap();
    assert_eq!((&chain.id[..], chain.revision), ("chain-7", 7));
    assert_eq!(chain.trust().trusting_period, Duration::from_secs(14 * 86_400));
    let fates = chain.submitter.submit(vec![send(&key(0), &stranger(1), 1)]).await;
    fates[0].as_ref().unwrap();

    let other = Connected::connect(config(&node).with_id("chain-8"), TENDERMINT).await;
    assert!(matches!(other, Err(ChainError::Other { .. })), "{other:?}");
    let nobody = ChainKey::from_hex(&"09".repeat(32)).unwrap();
    let nobody = Connected::connect(ChainConfig::new(&node.chain.rpc(), nobody), TENDERMINT).await;
    assert!(matches!(nobody, Err(ChainError::NoAccount { .. })), "{nobody:?}");
    let nowhere =
        Connected::connect(ChainConfig::new("http://127.0.0.1:1", key(0)), TENDERMINT).await;
    assert!(matches!(nowhere, Err(ChainError::Rpc(_))), "{nowhere:?}");

    // As a node says it that serves no services.
    let middle = Middle::before(&node.rpc, |_, asked| {
        if asked["params"]["path"].as_str().is_some_and(|path| path.ends_with("/GetNodeInfo")) {
            let log = "unknown query path: unknown request";
            let no = json!({ "code": 6, "log": log, "codespace": "sdk", "height": "0" });
            return Verdict::Answer(json!({ "response": no }));
        }
        Verdict::Pass
    })
    .await;
    let no_services = Connected::connect(ChainConfig::new(&middle.url, key(0)), TENDERMINT).await;
    assert!(matches!(no_services, Err(ChainError::NoServices { .. })), "{no_services:?}");
    let middle = Middle::before(&node.rpc, |method, _| match method {
        "status" => Verdict::Change(Box::new(|result| {
            result["sync_info"]["catching_up"] = true.into();
        })),
        _ => Verdict::Pass,
    })
    .await;
    let behind = Connected::connect(ChainConfig::new(&middle.url, key(0)), TENDERMINT).await;
    assert!(matches!(behind, Err(ChainError::Behind { .. })), "{behind:?}");
}
