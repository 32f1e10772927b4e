//! Headers of a chain whose validators change, without one.

use serde_json::json;

use super::*;
use crate::{
    chain::strange_nodes::Strange,
    client::test_chain::{Block, Chain as Signers},
};

/// A chain's validators are four at each height, and one of them leaves with each block.
fn signed_by(height: u64) -> Signers {
    let first = u8::try_from(height).unwrap();
    Signers::with_keys("far", &[first, first + 1, first + 2, first + 3])
}

/// A node of that chain: it has what a header is made of, but for the heights that it has lost.
async fn node(lost: std::ops::Range<u64>) -> Strange {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let begun = u64::try_from(since.as_nanos()).unwrap() - 3_600_000_000_000;
    Strange::asked(move |asked| {
        let height: u64 = asked["params"]["height"].as_str().unwrap().parse().unwrap();
        let answer = if lost.contains(&height) {
            json!({ "jsonrpc": "2.0", "id": 1, "error": { "code": -32603, "message": "it is lost" } })
        } else {
            let result = if asked["method"] == "commit" {
                let mut block = Block::new(height, [7; 32]);
                block.time = begun + height * 1_000_000_000;
                block.next_validators = Some(signed_by(height + 1).validators);
                let signed = signed_by(height).signed(&block);
                let signed = tendermint_proto::v0_38::types::SignedHeader::from(signed);
                json!({ "signed_header": signed })
            } else {
                let set = signed_by(height).validators;
                let set = tendermint_proto::v0_38::types::ValidatorSet::from(set);
                let (count, height) = (set.validators.len().to_string(), height.to_string());
                json!({ "block_height": height, "total": count, "validators": set.validators })
            };
            json!({ "jsonrpc": "2.0", "id": 1, "result": result })
        };
        (200, answer.to_string())
    })
    .await
}

/// A host with a client of that chain which knows its first block, and what relays to it.
async fn relayer(node: &Strange) -> (Host, Relayer) {
    let host = Host::in_memory("alpha").unwrap();
    let shared = host.0.0.clone();
    let day = Duration::from_secs(86_400);
    let key = ChainKey::from_hex(&"07".repeat(32)).unwrap();
    let chain = Chain {
        rpc: node.rpc.clone(),
        submitter: Submitter::spawn(node.rpc.clone(), "far", key, TxSettings::default()),
        id: "far".to_owned(),
        revision: 0,
        height: 1,
        signer: String::new(),
        unbonding: day * 21,
        sweep: day,
    };
    let (client_state, consensus_state) = chain.rpc.client_of(1, &chain.trust()).await.unwrap();
    let states =
        Client { client_state: Some(client_state), consensus_state: Some(consensus_state) };
    let (of, key) = (chain.id.clone(), no_key());
    let made = shared.ask(|reply| Command::MakeClient { chain: of, key, states, reply }).await;
    let ours = made.unwrap().unwrap().client;
    let theirs = ClientId::known("07-tendermint-0");
    (host, Relayer::new(shared, chain, theirs, ours, None))
}

async fn known(relayer: &Relayer) -> u64 {
    let chain = relayer.chain.id.clone();
    let known = relayer.shared.ask(|reply| Command::Knows { chain, reply }).await;
    known.unwrap().unwrap().height
}

#[tokio::test]
async fn a_client_is_moved_by_steps_where_validators_have_changed() {
    let node = node(0..0).await;
    let (_host, relayer) = relayer(&node).await;
    // None of those who sign it has signed the first.
    time::timeout(LONGEST / 2, relayer.deliver(&[], 20)).await.unwrap();
    assert_eq!(known(&relayer).await, 20);
    time::timeout(LONGEST / 2, relayer.deliver(&[], 40)).await.unwrap();
    assert_eq!(known(&relayer).await, 40);
}

#[tokio::test]
async fn where_a_step_is_lost_the_last_header_is_tried_again() {
    let node = node(5..18).await;
    let (_host, relayer) = relayer(&node).await;
    // It cannot be: but neither is it waited for what is lost, nor for ever for anything else.
    let moved = time::timeout(LONGEST / 2, relayer.deliver(&[], 20)).await;
    assert!(moved.is_err());
    assert_eq!(known(&relayer).await, 1);
    time::timeout(LONGEST / 2, relayer.deliver(&[], 4)).await.unwrap();
    assert_eq!(known(&relayer).await, 4);
}
