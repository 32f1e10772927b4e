//! Having messages executed.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use ibc_proto::cosmos::{base::abci::v1beta1::GasInfo, tx::v1beta1::SimulateResponse};

use super::{
    middle::{Middle, Verdict},
    *,
};
use crate::chain::{
    submit::{Inclusion, Submitter, TxError, TxSettings},
    tx::GasPrice,
};

/// How long anything here may take.
const LIMIT: Duration = Duration::from_secs(60);

fn submitter(node: &Node, account: u32) -> Submitter {
    Submitter::spawn(node.rpc.clone(), "chain-a", key(account), TxSettings::default())
}

/// Sends 1, `count` times over.
async fn give(submitter: &Submitter, account: u32, to: &str, count: usize) -> Vec<Inclusion> {
    let messages = vec![send(&key(account), to, 1); count];
    let fates = tokio::time::timeout(LIMIT, submitter.submit(messages)).await.unwrap();
    fates.into_iter().collect::<Result<_, _>>().unwrap()
}

fn txs(inclusions: &[Inclusion]) -> usize {
    inclusions.iter().map(|inclusion| inclusion.tx).collect::<BTreeSet<_>>().len()
}

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn messages_share_transactions_and_keep_their_own_events() {
    let node = Node::start();
    let submitter = submitter(&node, 0);
    let messages = (1..=300).map(|amount| send(&key(0), &stranger(1), amount)).collect();
    let fates = submitter.submit(messages).await;
    let all: Vec<_> = fates.into_iter().collect::<Result<_, _>>().unwrap();
    assert_eq!(txs(&all), 1);
    for (inclusion, amount) in all.iter().zip(1..) {
        let transfer = inclusion.events.iter().find(|event| event.kind == "transfer").unwrap();
        assert_eq!(transfer.get("amount"), Some(&format!("{amount}stake")[..]));
    }

    // From many callers at once: while one transaction is under way, all others come together.
    let calls = (0..300).map(|_| submitter.submit(vec![send(&key(0), &stranger(2), 1)]));
    let fates = futures_util::future::join_all(calls).await.concat();
    let all: Vec<_> = fates.into_iter().collect::<Result<_, _>>().unwrap();
    assert!(txs(&all) <= 10, "{} transactions", txs(&all));
    assert_eq!(node.balance(&stranger(1)).await, 300 * 301 / 2);
    assert_eq!(node.balance(&stranger(2)).await, 300);
}

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn a_message_that_fails_takes_no_other_with_it() {
    let node = Node::start();
    let submitter = submitter(&node, 0);
    let mut messages = vec![send(&key(0), &stranger(1), 1); 50];
    messages[17] = send(&key(0), &stranger(1), u64::MAX);
    messages[31] = Any { type_url: "/no.such.Msg".to_owned(), value: vec![1] };
    // Signed by somebody else than who has to.
    messages[49] = send(&key(1), &stranger(1), 1);
    let fates = submitter.submit(messages).await;
    for (index, fate) in fates.iter().enumerate() {
        match fate {
            Ok(_) => assert!(![17, 31, 49].contains(&index), "{index}"),
            Err(TxError::Refused { .. }) => assert!([17, 31, 49].contains(&index), "{index}"),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(node.balance(&stranger(1)).await, 47);

    let large = Any { type_url: "/a".to_owned(), value: vec![0; 500_000] };
    let fates = submitter.submit(vec![large, send(&key(0), &stranger(1), 1)]).await;
    assert!(matches!(fates[0], Err(TxError::TooLarge { .. })), "{fates:?}");
    fates[1].as_ref().unwrap();
}

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn what_needs_a_message_that_fails_is_not_sent() {
    let node = Node::start();
    let trials = Arc::new(AtomicU32::new(0));
    let count = trials.clone();
    let middle = Middle::before(&node.rpc, move |_, asked| {
        if asked["params"]["path"] == "/cosmos.tx.v1beta1.Service/Simulate" {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Verdict::Pass
    })
    .await;
    let submitter = Submitter::spawn(middle.rpc.clone(), "chain-a", key(0), TxSettings::default());
    let mut messages = vec![send(&key(0), &stranger(1), 1); 50];
    messages[10] = send(&key(0), &stranger(1), u64::MAX);
    messages[20] = send(&key(0), &stranger(1), u64::MAX);
    let fates = submitter.submit_needing(messages, |number| number == 20).await;
    for (index, fate) in fates.iter().enumerate() {
        match fate {
            Ok(_) => assert!(index < 20 && index != 10, "{index}"),
            Err(TxError::Refused { .. }) => assert!([10, 20].contains(&index), "{index}"),
            Err(TxError::Before) => assert!(index > 20, "{index}"),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(node.balance(&stranger(1)).await, 19);
    assert_eq!(trials.load(Ordering::Relaxed), 3);
}

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn a_trial_that_is_answered_strangely_is_not_made_of_each_part() {
    let node = Node::start();
    let trials = Arc::new(AtomicU32::new(0));
    let count = trials.clone();
    let middle = Middle::before(&node.rpc, move |_, asked| {
        if asked["params"]["path"] != "/cosmos.tx.v1beta1.Service/Simulate" {
            return Verdict::Pass;
        }
        count.fetch_add(1, Ordering::Relaxed);
        Verdict::Answer(serde_json::json!({ "response": { "code": 0, "value": "AQ==" } }))
    })
    .await;
    let submitter = Submitter::spawn(middle.rpc.clone(), "chain-a", key(0), TxSettings::default());
    let fates = submitter.submit(vec![send(&key(0), &stranger(1), 1); 50]).await;
    assert!(fates.iter().all(|fate| matches!(fate, Err(TxError::Node { .. }))), "{fates:?}");
    assert_eq!(trials.load(Ordering::Relaxed), 1);
}

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn what_a_trial_does_not_find_fails_in_a_block_and_alone() {
    let node = Node::start();
    // Every trial says that all is well, so failures are found by the mempool, which does not say
    // which message it is, and by blocks.
    let middle = Middle::before(&node.rpc, |_, asked| {
        if asked["params"]["path"] != "/cosmos.tx.v1beta1.Service/Simulate" {
            return Verdict::Pass;
        }
        let gas_info = Some(GasInfo { gas_wanted: 0, gas_used: 5_000_000 });
        let value = SimulateResponse { gas_info, result: None }.encode_to_vec();
        let value = data_encoding::BASE64.encode(&value);
        Verdict::Answer(serde_json::json!({ "response": { "code": 0, "value": value } }))
    })
    .await;
    let submitter = Submitter::spawn(middle.rpc.clone(), "chain-a", key(0), TxSettings::default());
    let mut messages = vec![send(&key(0), &stranger(1), 1); 50];
    messages[17] = send(&key(0), &stranger(1), u64::MAX);
    messages[31] = Any { type_url: "/no.such.Msg".to_owned(), value: vec![1] };
    for (index, fate) in submitter.submit(messages).await.into_iter().enumerate() {
        assert_eq!(fate.is_err(), [17, 31].contains(&index), "{index}: {fate:?}");
        if let (17, Err(TxError::Refused { codespace, code, .. })) = (index, fate) {
            // From a block, it is the code of the failure itself: that of insufficient funds.
            assert_eq!((&codespace[..], code), ("sdk", 5));
        }
    }
    assert_eq!(node.balance(&stranger(1)).await, 48);
}

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn two_programs_with_one_key_get_all_they_sent_executed_once() {
    let node = Node::start();
    let (one, other) = (submitter(&node, 0), submitter(&node, 0));
    let turns = async |submitter: &Submitter, to: u8| {
        for _ in 0..10 {
            give(submitter, 0, &stranger(to), 2).await;
        }
    };
    tokio::join!(turns(&one, 1), turns(&other, 2));
    assert_eq!(node.balance(&stranger(1)).await, 20);
    assert_eq!(node.balance(&stranger(2)).await, 20);
}

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn a_node_that_pauses_and_restarts_loses_nothing_and_doubles_nothing() {
    let mut node = Node::start();
    let submitter = submitter(&node, 0);
    give(&submitter, 0, &stranger(1), 5).await;

    let (giving, disturbing) = (
        async {
            for _ in 0..40 {
                give(&submitter, 0, &stranger(1), 5).await;
            }
        },
        async {
            let mut node = node;
            tokio::task::spawn_blocking(move || {
                std::thread::sleep(Duration::from_millis(700));
                node.chain.pause().unwrap();
                std::thread::sleep(Duration::from_secs(5));
                node.chain.resume().unwrap();
                std::thread::sleep(Duration::from_millis(700));
                node.chain.stop().unwrap();
                std::thread::sleep(Duration::from_secs(1));
                node.chain.run().unwrap();
                node
            })
            .await
            .unwrap()
        },
    );
    let ((), after) =
        tokio::time::timeout(LIMIT, async { tokio::join!(giving, disturbing) }).await.unwrap();
    node = after;
    assert_eq!(node.balance(&stranger(1)).await, 205);
}

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn a_transaction_that_the_node_forgets_is_sent_again_and_executed_once() {
    let node = Node::start();
    let lost = Arc::new(AtomicU32::new(0));
    let count = lost.clone();
    // The node says that it has what it never gets. What is given to it again is lost too, until
    // the transaction is dead.
    let middle = Middle::before(&node.rpc, move |method, body| {
        if method == "broadcast_tx_sync" && count.fetch_add(1, Ordering::Relaxed) < 4 {
            return Verdict::Answer(accepted(body));
        }
        Verdict::Pass
    })
    .await;
    let settings = TxSettings { timeout_blocks: 5, ..TxSettings::default() };
    let submitter = Submitter::spawn(middle.rpc.clone(), "chain-a", key(0), settings);
    give(&submitter, 0, &stranger(1), 3).await;
    assert!(lost.load(Ordering::Relaxed) >= 4, "nothing was lost");
    give(&submitter, 0, &stranger(1), 3).await;
    assert_eq!(node.balance(&stranger(1)).await, 6);
}

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn an_answer_that_is_lost_makes_nothing_happen_twice() {
    let node = Node::start();
    let calls = AtomicU32::new(0);
    // The node has the transaction, and it is not known that it has.
    let middle = Middle::before(&node.rpc, move |method, _| {
        let lose = method == "broadcast_tx_sync"
            && calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
        if lose { Verdict::PassAndLose } else { Verdict::Pass }
    })
    .await;
    let submitter = Submitter::spawn(middle.rpc.clone(), "chain-a", key(0), TxSettings::default());
    for _ in 0..4 {
        give(&submitter, 0, &stranger(1), 3).await;
    }
    assert_eq!(node.balance(&stranger(1)).await, 12);
}

/// What a mempool says of a transaction that it takes.
fn accepted(request: &serde_json::Value) -> serde_json::Value {
    let tx = request["params"]["tx"].as_str().unwrap();
    let tx = data_encoding::BASE64.decode(tx.as_bytes()).unwrap();
    let hash = data_encoding::HEXUPPER.encode(&crate::chain::rpc::hash(&tx));
    serde_json::json!({ "code": 0, "data": "", "log": "", "codespace": "", "hash": hash })
}

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn a_node_without_an_index_does_as_well() {
    let node = Node::with(|settings| settings.index = false);
    let submitter = submitter(&node, 0);
    for _ in 0..3 {
        assert_eq!(txs(&give(&submitter, 0, &stranger(1), 10).await), 1);
    }
    assert_eq!(node.balance(&stranger(1)).await, 30);
}

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn gas_is_paid_for_and_what_pays_too_little_is_refused() {
    let node = Node::with(|settings| settings.gas_price = "0.5stake".to_owned());
    let with = |account, price: &str| {
        let gas_price = GasPrice::parse(price).unwrap();
        let settings = TxSettings { gas_price, ..TxSettings::default() };
        Submitter::spawn(node.rpc.clone(), "chain-a", key(account), settings)
    };
    let before = node.balance(&key(0).address()).await;
    give(&with(0, "0.5stake"), 0, &stranger(1), 10).await;
    let paid = before - node.balance(&key(0).address()).await - 10;
    assert!((50_000..500_000).contains(&paid), "{paid}");

    let poor = with(1, "0.4stake").submit(vec![send(&key(1), &stranger(1), 1)]).await;
    let Err(error @ TxError::CannotPay { .. }) = &poor[0] else { panic!("{poor:?}") };
    assert!(error.to_string().contains("required: "), "{error}");

    let stranger_key = ChainKey::from_hex(&"09".repeat(32)).unwrap();
    let nobody =
        Submitter::spawn(node.rpc.clone(), "chain-a", stranger_key.clone(), TxSettings::default());
    let fates = nobody.submit(vec![send(&stranger_key, &stranger(1), 1)]).await;
    assert!(matches!(&fates[0], Err(TxError::NoAccount { .. })), "{fates:?}");
}

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn as_much_is_paid_as_the_chain_wants_up_to_a_bound() {
    let node = Node::with(|settings| settings.gas_price = "0.5stake".to_owned());
    let settings = |from: &str, to: &str| TxSettings {
        gas_price: GasPrice::parse(from).unwrap(),
        max_gas_price: GasPrice::parse(to),
        ..TxSettings::default()
    };
    let spawn =
        |account, settings| Submitter::spawn(node.rpc.clone(), "chain-a", key(account), settings);
    let submitter = spawn(0, settings("0.001stake", "0.5stake"));
    let mut before = node.balance(&key(0).address()).await;
    for _ in 0..3 {
        give(&submitter, 0, &stranger(1), 10).await;
        let after = node.balance(&key(0).address()).await;
        let paid = before - after - 10;
        assert!((100_000..250_000).contains(&paid), "{paid}");
        before = after;
    }

    // Not more than may be paid, and nothing in another coin.
    for (account, to) in [(1, "0.4999stake"), (2, "1other")] {
        let submitter = spawn(account, settings("0.4stake", to));
        let fates = submitter.submit(vec![send(&key(account), &stranger(2), 1)]).await;
        assert!(matches!(&fates[0], Err(TxError::CannotPay { .. })), "{fates:?}");
    }
    assert_eq!(node.balance(&stranger(2)).await, 0);
}

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn what_is_too_large_to_be_tried_is_tried_in_part() {
    let node = Node::start();
    let trials = Arc::new(AtomicU32::new(0));
    let count = trials.clone();
    let largest = Arc::new(AtomicU32::new(0));
    let size = largest.clone();
    let middle = Middle::before(&node.rpc, move |_, asked| {
        if asked["params"]["path"] == "/cosmos.tx.v1beta1.Service/Simulate" {
            count.fetch_add(1, Ordering::Relaxed);
            let digits = asked["params"]["data"].as_str().unwrap().len();
            size.fetch_max(u32::try_from(digits).unwrap(), Ordering::Relaxed);
        }
        Verdict::Pass
    })
    .await;
    let settings = TxSettings { max_bytes: 30_000, ..TxSettings::default() };
    let submitter = Submitter::spawn(middle.rpc.clone(), "chain-a", key(0), settings);
    // Some 140 bytes each.
    let all = give(&submitter, 0, &stranger(1), 200).await;
    assert_eq!((txs(&all), trials.load(Ordering::Relaxed)), (1, 1));
    assert!((37_000..=40_000).contains(&largest.load(Ordering::Relaxed)), "{largest:?}");

    // Of what was not tried, what fails is found all the same.
    let mut messages = vec![send(&key(0), &stranger(1), 1); 200];
    messages[190] = send(&key(0), &stranger(1), u64::MAX);
    for (index, fate) in submitter.submit(messages).await.into_iter().enumerate() {
        assert_eq!(fate.is_err(), index == 190, "{index}: {fate:?}");
    }
    assert_eq!(node.balance(&stranger(1)).await, 399);
}

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn a_transaction_that_runs_out_of_gas_is_given_more() {
    let node = Node::start();
    // A trial has no fee, no timeout and no signature to speak of, so it uses less.
    let mut settings = TxSettings { gas_percent: 100, ..TxSettings::default() };
    let submitter = Submitter::spawn(node.rpc.clone(), "chain-a", key(0), settings.clone());
    give(&submitter, 0, &stranger(1), 1).await;
    let account = node.rpc.account(&key(0).address()).await.unwrap().unwrap();
    assert!(account.sequence > 1, "it had gas enough at once");

    // As much as one message uses, and a little: so they go one by one, or two by two.
    settings.gas_percent = 130;
    settings.max_gas = 150_000;
    let submitter = Submitter::spawn(node.rpc.clone(), "chain-a", key(1), settings.clone());
    let all = give(&submitter, 1, &stranger(2), 8).await;
    assert!((2..=8).contains(&txs(&all)), "{}", txs(&all));
    settings.max_gas = 20_000;
    let submitter = Submitter::spawn(node.rpc.clone(), "chain-a", key(2), settings);
    let fates = submitter.submit(vec![send(&key(2), &stranger(2), 1)]).await;
    assert!(matches!(&fates[0], Err(TxError::TooMuchGas { .. })), "{fates:?}");
    assert_eq!(node.balance(&stranger(2)).await, 8);
}
