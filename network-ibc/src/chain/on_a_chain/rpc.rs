//! Asking a node.

use super::*;
use crate::{
    chain::RpcError,
    identifier::{ChannelId, ClientId, ConnectionId, PortId},
};

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn a_chain_says_what_it_is() {
    let node = Node::start();
    let status = node.rpc.status().await.unwrap();
    assert_eq!((status.chain.as_str(), status.earliest), ("chain-a", 1));
    let built = Built::this();
    assert_eq!(status.version, built.comet);
    assert!(!status.catching_up);
    let block = node.rpc.consensus_params().await.unwrap().block;
    assert!(block.max_bytes > 1 << 20 && block.max_gas == -1, "{block:?}");

    let versions = node.rpc.versions().await.unwrap();
    // With v7 there is no word for all of them.
    let clients: &[&str] = if built.ibc_go.starts_with("v7.") {
        &["06-solomachine", "07-tendermint", "09-localhost"]
    } else {
        &["*"]
    };
    assert_eq!(node.rpc.allowed_clients().await.unwrap(), clients);
    assert_eq!(versions.ibc, Some(built.ibc_go));
    assert_eq!(versions.sdk, built.sdk);
    assert_eq!(node.rpc.unbonding_time().await.unwrap(), Duration::from_secs(21 * 86_400));
}

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn accounts_are_found_and_what_is_not_there_is_none() {
    let node = Node::start();
    for number in 0..2_u32 {
        let account = node.rpc.account(&key(number).address()).await.unwrap().unwrap();
        assert_eq!((account.number, account.sequence), (u64::from(number), 0));
        assert!(account.height > 0);
    }
    let address = key(3).address();
    assert_eq!(node.balance(&address).await, 1_000_000_000_000);

    let (port, channel) = (PortId::known("transfer"), ChannelId::known("channel-7"));
    let client = ClientId::known("07-tendermint-7");
    assert_eq!(node.rpc.account(&stranger(1)).await.unwrap(), None);
    assert_eq!(node.balance(&stranger(1)).await, 0);
    assert_eq!(node.rpc.client_state(&client).await.unwrap(), None);
    assert_eq!(node.rpc.consensus_state(&client, None).await.unwrap(), None);
    assert_eq!(node.rpc.channel(&port, &channel).await.unwrap(), None);
    let hop = ConnectionId::known("connection-7");
    assert_eq!(node.rpc.connection(&hop).await.unwrap(), None);
    assert_eq!(node.rpc.tx(&[7; 32]).await.unwrap().map(|found| found.height), None);
    assert!(node.rpc.tx_in(&[7; 32], 2).await.unwrap().is_none());
}

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn a_refusal_is_told_from_an_absence() {
    let node = Node::start();
    let asked = node.rpc.query("/no.such.Query/Thing", &[], None).await;
    assert!(matches!(asked, Err(RpcError::Query { code: 6, .. })), "{asked:?}");
    let asked = node.rpc.block_results(1 << 40).await.map(drop);
    assert!(matches!(asked, Err(RpcError::Node { .. })), "{asked:?}");
    let asked = node.rpc.commit(1 << 40).await.map(drop);
    assert!(matches!(asked, Err(RpcError::Node { .. })), "{asked:?}");

    let small = RpcSettings { max_answer: 100, ..RpcSettings::default() };
    let small = Rpc::new(&node.chain.rpc(), &small).unwrap();
    let asked = small.status().await.map(drop);
    assert!(matches!(asked, Err(RpcError::TooLarge { limit: 100, .. })), "{asked:?}");
}

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn a_node_that_is_paused_or_away_is_no_mystery() {
    let mut node = Node::start();
    node.chain.pause().unwrap();
    let asked = node.rpc.status().await.map(drop);
    assert!(matches!(asked, Err(RpcError::Timeout { method: "status", .. })), "{asked:?}");
    node.chain.resume().unwrap();
    node.rpc.status().await.unwrap();

    node.chain.stop().unwrap();
    let asked = node.rpc.status().await.map(drop);
    assert!(matches!(asked, Err(RpcError::Unreachable { .. })), "{asked:?}");
    // What was kept of connections is of no use any more, which must not be noticed.
    node.chain.run().unwrap();
    node.rpc.status().await.unwrap();
}
