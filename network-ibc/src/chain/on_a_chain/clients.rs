//! A host's client of a chain, and a chain's client of a host.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use ibc_proto::ibc::core::client::v1::{MsgCreateClient, MsgUpdateClient};

use super::{
    middle::{Middle, Verdict},
    *,
};
use crate::{
    chain::submit::{Inclusion, Submitter, TxError, TxSettings},
    client::{Claim, ClientStore as _, Clients, memory::Memory},
    height::{At, Height, Timestamp},
    identifier::ClientId,
    ledger::{Ledger, LedgerKey, Trust},
};

fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp::ZERO.saturating_add(now)
}

fn trust(unbonding: Duration) -> Trust {
    Trust { trusting_period: unbonding * 2 / 3, unbonding_period: unbonding, ..Trust::default() }
}

/// A host's client of the chain: what it says of a claim.
struct Client {
    clients: Clients,
    store: Memory,
}

impl Client {
    async fn of(node: &Node, height: u64) -> Self {
        let (clients, mut store) = (Clients::default(), Memory::new("07-tendermint-0"));
        let trust = trust(node.rpc.unbonding_time().await.unwrap());
        let (state, consensus) = node.rpc.client_of(height, &trust).await.unwrap();
        clients.create(&mut store, &state, &consensus, at()).unwrap();
        Self { clients, store }
    }

    fn latest(&self) -> Height {
        self.clients.latest_height(&self.store).unwrap()
    }

    async fn update(&mut self, node: &Node, height: u64) {
        let header = node.rpc.header(height, self.latest(), None).await.unwrap();
        self.clients.update(&mut self.store, &any(&header), at()).unwrap();
    }

    /// Proves a key with a header that is fetched for it.
    async fn proves(&mut self, node: &Node, key: &str, claimed: Option<&[u8]>) -> bool {
        let proved = node.rpc.prove(key, None).await.unwrap();
        // The header of the block after it has the hash of what the proof is of.
        node.reaches(proved.height).await;
        if self.latest().number < proved.height {
            self.update(node, proved.height).await;
        }
        let claim = Claim {
            height: Height::new(self.latest().revision, proved.height),
            proof: &proved.proof,
            prefix: b"ibc",
            path: key,
            value: claimed,
            delay_time: 0,
            delay_blocks: 0,
        };
        self.clients.verify(&mut self.store, &claim, at()).is_ok()
    }
}

fn at() -> At {
    At { time: now(), height: Height::new(0, 1) }
}

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn a_client_here_believes_the_chains_headers_and_proofs() {
    // An id with a revision, which then is in every height.
    let node = Node::with(|settings| settings.chain_id = "chain-7".to_owned());
    let mut client = Client::of(&node, 2).await;
    assert_eq!(client.latest(), Height::new(7, 2));
    let before = client.store.client().clone();

    // How many clients there are: eight bytes, which are 0.
    assert!(client.proves(&node, "nextClientSequence", Some(&[0; 8])).await);
    assert!(!client.proves(&node, "nextClientSequence", Some(&[1; 8])).await);
    assert!(!client.proves(&node, "nextClientSequence", None).await);
    assert!(client.proves(&node, "connections/connection-0", None).await);
    assert!(!client.proves(&node, "connections/connection-0", Some(b"x")).await);
    assert_eq!(client.store.client(), &before);

    // At a height of one's choice, and with a header that skips many.
    let height = client.latest().number + 20;
    node.reaches(height + 1).await;
    let proved = node.rpc.prove("nextClientSequence", Some(height)).await.unwrap();
    assert_eq!((proved.height, &proved.value[..]), (height + 1, &[0; 8][..]));
    client.update(&node, height + 1).await;
}

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn a_client_here_follows_a_chain_whose_validators_leave() {
    // More than a node tells at once.
    const ALL: u64 = 120;
    let node = Node::with(|settings| {
        settings.block_time = Duration::from_millis(100);
        settings.silent = ALL as u32 - 1;
    });
    let validators = async |height| node.rpc.validators(height, 1, 100).await.unwrap().total;
    let mut client = Client::of(&node, 2).await;
    // The next block, and one that skips some.
    for height in [3, 8] {
        node.reaches(height + 1).await;
        client.update(&node, height).await;
        assert_eq!(validators(height).await, ALL);
    }
    let (mut height, mut before, mut changes) = (8, ALL, 0);
    while changes < 5 {
        // Now the next block, now one that skips four.
        height += if changes % 2 == 0 { 1 } else { 5 };
        assert!(height < 60, "{before} validators stay");
        node.reaches(height + 1).await;
        client.update(&node, height).await;
        let now = validators(height).await;
        changes += u32::from(now < before);
        before = now;
    }
    assert!(client.proves(&node, "nextClientSequence", Some(&[0; 8])).await);
}

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn a_header_tells_who_signed_it_and_who_was_to_sign_after_the_trusted_one() {
    let node = Node::start();
    let asked = Arc::new(Mutex::new(BTreeSet::new()));
    let heights = asked.clone();
    let middle = Middle::before(&node.rpc, move |method, asked| {
        if method == "validators" {
            heights.lock().unwrap().insert(asked["params"]["height"].as_str().unwrap().to_owned());
        }
        Verdict::Pass
    })
    .await;
    node.reaches(9).await;
    let header = middle.rpc.header(9, Height::new(0, 4), None).await.unwrap();
    // This chain has one validator, so that is all that can be told apart.
    assert_eq!(*asked.lock().unwrap(), BTreeSet::from(["5".to_owned(), "9".to_owned()]));
    assert_eq!(header.trusted_height, Some(Height::new(0, 4).into()));
    assert!(header.validator_set.unwrap().proposer.is_some(), "ibc-go takes no set without one");
}

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn the_chain_takes_a_host_for_a_chain_and_follows_it() {
    let node = Node::start();
    let signer = key(0).address();
    let submitter = Submitter::spawn(node.rpc.clone(), "chain-a", key(0), TxSettings::default());
    let ledger_key = Arc::new(LedgerKey::from_seed(&[5; 32]).unwrap());
    let mut ledger = Ledger::in_memory(ledger_key, "host-3", 8).unwrap();
    // A chain refuses a header from its future, and its last block's time is a little ago.
    let past = |seconds: u64| Timestamp::from_nanos(now().as_nanos() - seconds * 1_000_000_000);
    let first = ledger.commit(past(10)).unwrap().height;
    let (state, consensus) = ledger.client_of(first, &Trust::default()).unwrap();

    let create = MsgCreateClient {
        client_state: Some(state),
        consensus_state: Some(consensus),
        signer: signer.clone(),
    };
    let created = one(submitter.submit(vec![any(&create)]).await).unwrap();
    let event = created.events.iter().find(|event| event.kind == "create_client").unwrap();
    assert_eq!(event.get("client_id"), Some("07-tendermint-0"));
    let client = ClientId::known("07-tendermint-0");
    assert!(node.rpc.client_state(&client).await.unwrap().is_some());

    // Several blocks later, of which the chain was not told.
    for seconds in (1..5).rev() {
        ledger.set_private(b"block".to_vec(), None);
        ledger.commit(past(seconds)).unwrap();
    }
    let last = ledger.latest().unwrap().height;
    let update = |trusted| MsgUpdateClient {
        client_id: client.to_string(),
        client_message: Some(ledger.header(last, trusted).unwrap()),
        signer: signer.clone(),
    };
    assert_eq!(node.rpc.consensus_state(&client, Some(last)).await.unwrap(), None);
    one(submitter.submit(vec![any(&update(first))]).await).unwrap();
    assert!(node.rpc.consensus_state(&client, Some(last)).await.unwrap().is_some());

    let refused = one(submitter.submit(vec![any(&update(Height::new(3, 2)))]).await);
    assert!(matches!(refused, Err(TxError::Refused { .. })), "{refused:?}");
}

fn one(fates: Vec<Result<Inclusion, TxError>>) -> Result<Inclusion, TxError> {
    let [fate] = <[_; 1]>::try_from(fates).unwrap();
    fate
}
