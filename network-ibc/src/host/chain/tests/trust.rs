//! A host and a chain that knew each other, and one has lost its trust in the other.

use std::time::SystemTime;

use ibc_proto::ibc::core::client::v1::MsgUpdateClient;

use super::{
    recovery::{Numbers, count, numbers, send},
    *,
};
use crate::{
    ClientError, EngineError, LedgerKey,
    height::{Height, Timestamp},
    ledger::{Ledger, Trust},
};

async fn numbering() -> Host {
    Host::builder("host").module("numbers", Numbers).unwrap().in_memory().unwrap()
}

/// The client that the chain with that id has of a host.
async fn theirs(host: &Host, chain: &str) -> ClientId {
    let chain = chain.to_owned();
    host.0.ask(|reply| Command::Chain { chain, reply }).await.unwrap().theirs.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn a_client_that_has_expired_goes_on_once_the_chain_is_trusted_anew() {
    let there = There::start();
    let host = numbering().await;
    // Before it would get one that trusts for longer.
    let trust = Trust { trusting_period: Duration::from_secs(8), ..Trust::default() };
    let height = there.rpc.status().await.unwrap().height;
    let (client, consensus) = there.rpc.client_of(height, &trust).await.unwrap();
    let states = Client { client_state: Some(client), consensus_state: Some(consensus) };
    let (chain, key) = (there.simd.id().to_owned(), no_key());
    let made = host.0.ask(|reply| Command::MakeClient { chain, key, states, reply }).await;
    made.unwrap().unwrap();

    let hop = host.connect_chain(there.config()).await.unwrap();
    let remote = format!("/ibc-hop/{}/ibc-port/mock/ordered/any", hop.connection);
    let channel = within(host.open_channel(&numbers(), &remote)).await.unwrap().channel;
    send(&host, &channel, 0, 10).await;
    until("all have come back", async || count(&host, "back/").await == 10).await;
    // Trusted, it is left as it is.
    assert_eq!(host.connect_chain(there.config().recover_client()).await.unwrap(), hop);

    host.0.ways().clear();
    send(&host, &channel, 10, 20).await;
    time::sleep(Duration::from_secs(9)).await;
    let error = host.connect_chain(there.config()).await.unwrap_err();
    let HopError::Host(HostError::Engine(EngineError::Client(expired))) = &error else {
        panic!("{error}")
    };
    assert!(matches!(expired, ClientError::Expired { .. }), "{expired}");
    assert!(error.to_string().contains("ChainConfig::recover_client"), "{error}");

    assert_eq!(host.connect_chain(there.config().recover_client()).await.unwrap(), hop);
    send(&host, &channel, 20, 30).await;
    until("all are acknowledged", async || count(&host, "acked/").await == 30).await;
    until("all have come back", async || count(&host, "back/").await == 30).await;
    // It trusts for longer now.
    time::sleep(Duration::from_secs(9)).await;
    assert_eq!(host.connect_chain(there.config()).await.unwrap(), hop);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn a_host_that_the_chain_believes_no_more_is_told_so() {
    let there = There::start();
    let key = Arc::new(LedgerKey::from_seed(&[9; 32]).unwrap());
    let ledger = || Ledger::in_memory(key.clone(), "host", 16).unwrap();
    let host = Host::builder("host").over(ledger(), key.clone());
    let hop = host.connect_chain(there.config()).await.unwrap();
    let client = theirs(&host, &hop.chain).await;
    let known = there.rpc.client_state(&client).await.unwrap().unwrap();
    let latest = ClientState::decode(&known.value[..]).unwrap().latest_height.unwrap();

    // A copy of the host, as from a backup, has another block at that height.
    let mut copy = ledger();
    let begun = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let mut now = Timestamp::from_nanos(u64::try_from(begun.as_nanos()).unwrap());
    while copy.latest().is_none_or(|block| block.height.number < latest.revision_height) {
        copy.set_private(b"copy".to_vec(), Some(now.as_nanos().to_be_bytes().to_vec().into()));
        now = Timestamp::from_nanos(now.as_nanos() + 1);
        copy.commit(now).unwrap();
    }
    let height = copy.latest().unwrap().height;
    let mut first = Height::new(height.revision, 1);
    while there.rpc.consensus_state(&client, Some(first)).await.unwrap().is_none() {
        first = Height::new(first.revision, first.number + 1);
    }
    assert!(first < height, "there is nothing to contradict");
    let header = copy.header(height, first).unwrap();
    let update = MsgUpdateClient {
        client_id: client.to_string(),
        client_message: Some(header),
        signer: there.address.clone(),
    };
    there.does(&update).await.unwrap();

    host.0.ways().clear();
    let error = host.connect_chain(there.config()).await.unwrap_err();
    let HopError::Inactive { chain, client: of, status } = &error else { panic!("{error}") };
    assert_eq!((chain, of, &status[..]), (&hop.chain, &client, "Frozen"));
    assert!(error.to_string().contains("MsgRecoverClient"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn a_chain_that_was_begun_anew_is_another_one() {
    for solo in [false, true] {
        let there = There::start();
        let build = |key: u8| {
            let builder = Host::builder("host");
            if solo {
                builder.solo_machine(crate::SoloKey::ed25519(&[key; 32]).unwrap())
            } else {
                builder
            }
        };
        let host = build(7).in_memory().unwrap();
        let hop = host.connect_chain(there.config()).await.unwrap();
        host.0.ways().clear();
        drop(there);

        let there = There::start();
        let client = theirs(&host, &hop.chain).await;
        let is_another = async || {
            let error = host.connect_chain(there.config()).await.unwrap_err();
            let HopError::AnotherChain { chain, client: of } = &error else { panic!("{error}") };
            assert_eq!((chain, of), (&hop.chain, &client));
        };
        is_another().await;
        // Somebody else has a client of that name there.
        let other = if solo { build(8) } else { Host::builder("other") }.in_memory().unwrap();
        other.connect_chain(there.config()).await.unwrap();
        assert_eq!(theirs(&other, &hop.chain).await, client);
        is_another().await;
    }
}
