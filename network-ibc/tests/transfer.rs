//! Tokens between hosts (ICS-020).

#![cfg(feature = "durable")]
#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::{collections::BTreeMap, path::Path, time::Duration};

use network_core::{Bytes, Network, SendError};
use network_ibc::{
    ChannelId, Hop, Host, LedgerKey,
    transfer::{self, Outcome, Send, Tokens, Transfer, TransferError, U256, Why},
};
use network_loopback::Loopback;
use proptest::prelude::*;
use tokio::time::timeout;

fn amount(amount: u64) -> U256 {
    U256::from(amount)
}

fn bank(chain: &str) -> Host {
    let builder = Host::builder(chain).module(transfer::PORT, Transfer::new()).unwrap();
    builder.in_memory().unwrap()
}

struct Pair {
    here: Tokens,
    there: Tokens,
    alpha: Host,
    hop: Hop,
    channel: ChannelId,
    other: ChannelId,
    way: Network,
}

async fn joined(alpha: Host, beta: &Host) -> (Hop, Network) {
    let way = Network::builder().protocol(Loopback::new()).build().unwrap();
    beta.serve(&way.bind("/local/beta").await.unwrap()).await.unwrap();
    let hop = alpha.connect_hop(&way.bind("/local/").await.unwrap(), "/local/beta").await.unwrap();
    (hop, way)
}

async fn pair() -> Pair {
    let (alpha, beta) = (bank("alpha"), bank("beta"));
    let (hop, way) = joined(alpha.clone(), &beta).await;
    let (here, there) = (Tokens::of(&alpha), Tokens::of(&beta));
    let channel = here.open(&hop.connection).await.unwrap();
    let other = channel.counterparty.unwrap();
    Pair { here, there, alpha, hop, channel: channel.channel, other, way }
}

async fn outcome(tokens: &Tokens, send: Send) -> Outcome {
    let sent = tokens.send(send).await.unwrap();
    timeout(Duration::from_secs(10), sent.outcome()).await.unwrap().unwrap()
}

#[tokio::test]
async fn tokens_go_and_come_back() {
    let Pair { here, there, channel, other, alpha: _alpha, way: _way, .. } = pair().await;
    here.mint("alice", "apple", amount(10)).await.unwrap();
    let send = Send::new(channel.clone(), "alice", "bob", "apple", amount(7)).memo("for you");
    assert_eq!(outcome(&here, send).await, Outcome::Delivered);
    let voucher = format!("transfer/{other}/apple");
    assert_eq!(here.balance("alice", "apple").await.unwrap(), amount(3));
    assert_eq!(here.escrowed(&channel).await.unwrap(), [("apple".to_owned(), amount(7))]);
    assert_eq!(there.balances("bob").await.unwrap(), [(voucher.clone(), amount(7))]);

    // Of what comes back nothing is left there, and here it is what it was.
    let send = Send::new(other.clone(), "bob", "carol", &*voucher, amount(7));
    assert_eq!(outcome(&there, send).await, Outcome::Delivered);
    assert_eq!(there.balances("bob").await.unwrap(), []);
    assert_eq!(here.balances("carol").await.unwrap(), [("apple".to_owned(), amount(7))]);
    assert_eq!(here.escrowed(&channel).await.unwrap(), []);
}

#[tokio::test]
async fn what_does_not_arrive_is_given_back() {
    let Pair { here, there, channel, other, alpha: _alpha, way: _way, .. } = pair().await;
    here.mint("alice", "apple", amount(5)).await.unwrap();
    let late = Send::new(channel.clone(), "alice", "bob", "apple", amount(2));
    let late = outcome(&here, late.timeout(Duration::from_nanos(1))).await;
    assert_eq!(late, Outcome::Refunded(Why::NotReceived));
    assert_eq!(here.balance("alice", "apple").await.unwrap(), amount(5));

    // More than can be counted: the other side refuses.
    there.mint("bob", "pear", U256::MAX).await.unwrap();
    let send = Send::new(other.clone(), "bob", "alice", "pear", U256::MAX);
    assert_eq!(outcome(&there, send).await, Outcome::Delivered);
    there.mint("bob", "pear", amount(1)).await.unwrap();
    let over = Send::new(other.clone(), "bob", "alice", "pear", amount(1));
    // It cannot even be put aside.
    assert!(matches!(there.send(over).await, Err(TransferError::Overflow { .. })));
    assert_eq!(there.balance("bob", "pear").await.unwrap(), amount(1));

    // Vouchers that are refused are vouchers again.
    let voucher = format!("transfer/{channel}/pear");
    let back = Send::new(channel.clone(), "alice", "bob", &*voucher, U256::MAX);
    let refused = outcome(&here, back).await;
    assert!(matches!(refused, Outcome::Refunded(Why::Refused(why)) if why.contains("2^256")));
    assert_eq!(here.balance("alice", &voucher).await.unwrap(), U256::MAX);
    assert_eq!(there.escrowed(&other).await.unwrap(), [("pear".to_owned(), U256::MAX)]);
}

#[tokio::test]
async fn what_cannot_be_sent_stays() {
    let Pair { here, there: _there, alpha, hop, channel, way: _way, .. } = pair().await;
    here.mint("alice", "apple", amount(5)).await.unwrap();
    let send =
        |denom: &str, units| Send::new(channel.clone(), "alice", "bob", denom, amount(units));
    let short = here.send(send("apple", 6)).await.unwrap_err();
    assert_eq!(short.to_string(), "alice has 5 of apple, and 6 are to be taken");
    assert!(matches!(here.send(send("apple", 0)).await, Err(TransferError::Amount { .. })));
    assert!(matches!(here.send(send(" ", 1)).await, Err(TransferError::Denom { .. })));
    let nobody = Send::new(channel.clone(), "alice", "", "apple", amount(1));
    assert!(matches!(here.send(nobody).await, Err(TransferError::Account { .. })));
    let elsewhere =
        Send::new(ChannelId::new("channel-99").unwrap(), "alice", "bob", "apple", amount(1));
    assert!(matches!(here.send(elsewhere).await, Err(TransferError::Host(_))));
    let forged = here.mint("alice", "transfer/channel-0/pear", amount(1)).await;
    assert!(matches!(forged, Err(TransferError::Denom { .. })));
    assert_eq!(here.balances("alice").await.unwrap(), [("apple".to_owned(), amount(5))]);
    assert_eq!(here.escrowed(&channel).await.unwrap(), []);

    // Who is no module of tokens cannot have one believe in some.
    let network = Network::builder().protocol(alpha).build().unwrap();
    let thief = network.bind("/ibc-port/thief").await.unwrap();
    let remote = format!("/ibc-hop/{}/ibc-port/transfer", hop.connection);
    let ordered = thief.connect(format!("{remote}/ordered/ics20-1").as_str(), ()).await;
    let ordered = format!("{:?}", ordered.unwrap_err());
    assert!(ordered.contains("unordered"), "{ordered}");
    let connection =
        thief.connect(format!("{remote}/unordered/ics20-1").as_str(), ()).await.unwrap();
    let theft = format!(
        r#"{{"amount":"1","denom":"thief/{}/apple","receiver":"thief","sender":"thief"}}"#,
        connection.local_endpoint().as_str().rsplit('/').next().unwrap()
    );
    let theft = connection.send(Bytes::from(theft)).await.unwrap_err();
    assert!(matches!(theft, SendError::Refused(why) if why.text().contains("escrow")));
    let garbage = connection.send("garbage").await.unwrap_err();
    assert!(matches!(garbage, SendError::Refused(why) if why.text().contains("ICS-020")));
}

fn open(path: &Path, chain: &str, seed: u8) -> Host {
    let builder = Host::builder(chain).module(transfer::PORT, Transfer::new()).unwrap();
    builder.open(path, LedgerKey::from_seed(&[seed; 32]).unwrap()).unwrap()
}

/// A name is a part of a key, and a database takes keys of up to 65,535 bytes.
#[tokio::test]
async fn a_name_that_is_too_long_is_refused_and_the_host_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let beta = open(folder.path(), "beta", 2);
    let alpha = Host::in_memory("alpha").unwrap();
    let (hop, _way) = joined(alpha.clone(), &beta).await;
    let network = Network::builder().protocol(alpha).build().unwrap();
    let stranger = network.bind("/ibc-port/stranger").await.unwrap();
    let remote = format!("/ibc-hop/{}/ibc-port/transfer/unordered/ics20-1", hop.connection);
    let connection = stranger.connect(remote.as_str(), ()).await.unwrap();
    let tokens = |denom: &str| {
        format!(r#"{{"amount":"1","denom":"{denom}","receiver":"bob","sender":"me"}}"#)
    };
    let there = Tokens::of(&beta);
    for long in [70_000, 2_048, 200_000] {
        let sent = connection.send(tokens(&"x".repeat(long)));
        let refused = timeout(Duration::from_secs(10), sent).await.unwrap().unwrap_err();
        assert!(matches!(&refused, SendError::Refused(why) if why.text().contains("2,048")));
        let minted = there.mint("bob", &"x".repeat(long + 1), amount(1)).await;
        assert!(matches!(minted, Err(TransferError::Denom { .. })), "{minted:?}");
    }
    // With what stands before it as a voucher it is as long as it may be.
    let voucher = format!("transfer/{}/", there_channel(&there, &connection, tokens("y")).await);
    connection.send(tokens(&"x".repeat(2_048 - voucher.len()))).await.unwrap();
    let names: Vec<_> =
        there.balances("bob").await.unwrap().into_iter().map(|(n, _)| n.len()).collect();
    assert_eq!(names, [2_048, voucher.len() + 1]);
}

/// The name of the other end of a channel, from a voucher that comes over it.
async fn there_channel(
    there: &Tokens,
    connection: &network_core::Connection,
    tokens: String,
) -> String {
    connection.send(tokens).await.unwrap();
    let (voucher, _) = there.balances("bob").await.unwrap().remove(0);
    voucher.split('/').nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn what_cannot_be_given_back_stays_aside() {
    let Pair { here, channel, alpha: _alpha, way: _way, there: _there, .. } = pair().await;
    here.mint("alice", "apple", U256::MAX).await.unwrap();
    let late = Send::new(channel.clone(), "alice", "bob", "apple", amount(2));
    let late = here.send(late.timeout(Duration::from_nanos(1)));
    // Both are in one block, and the proof comes after it.
    let (late, minted) = tokio::join!(late, here.mint("alice", "apple", amount(1)));
    minted.unwrap();
    timeout(Duration::from_secs(10), late.unwrap().outcome()).await.unwrap().unwrap();
    assert_eq!(here.balance("alice", "apple").await.unwrap(), U256::MAX - amount(1));
    assert_eq!(here.escrowed(&channel).await.unwrap(), [("apple".to_owned(), amount(2))]);
}

#[tokio::test]
async fn tokens_under_way_outlive_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("alpha"), folder.path().join("beta"));
    let (alpha, beta) = (open(&one, "alpha", 1), open(&two, "beta", 2));
    let (hop, way) = joined(alpha.clone(), &beta).await;
    let here = Tokens::of(&alpha);
    let channel = here.open(&hop.connection).await.unwrap().channel;
    here.mint("alice", "apple", amount(10)).await.unwrap();
    drop(way);
    beta.end().await;
    let sent = here.send(Send::new(channel.clone(), "alice", "bob", "apple", amount(4))).await;
    let late = Send::new(channel.clone(), "alice", "bob", "apple", amount(1));
    let _late = here.send(late.timeout(Duration::from_millis(1))).await.unwrap();
    alpha.end().await;
    sent.unwrap().outcome().await.unwrap_err();

    let (alpha, beta) = (open(&one, "alpha", 1), open(&two, "beta", 2));
    let (_, _way) = joined(alpha.clone(), &beta).await;
    let (here, there) = (Tokens::of(&alpha), Tokens::of(&beta));
    // The first has arrived, and the second one was given back.
    let settled = async {
        while there.balances("bob").await.unwrap().is_empty()
            || here.balance("alice", "apple").await.unwrap() != amount(6)
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), settled).await.unwrap();
    assert_eq!(here.escrowed(&channel).await.unwrap(), [("apple".to_owned(), amount(4))]);
    assert_eq!(there.balances("bob").await.unwrap()[0].1, amount(4));
}

#[derive(Clone, Debug)]
struct Move {
    back: bool,
    from: usize,
    to: usize,
    units: u64,
    late: bool,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = (any::<bool>(), 0..3_usize, 0..3_usize, 1..40_u64, prop::bool::weighted(0.2));
    let one = one.prop_map(|(back, from, to, units, late)| Move { back, from, to, units, late });
    prop::collection::vec(one, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever is sent: no token is made or lost, and what is aside here has vouchers there.
    #[test]
    fn tokens_are_conserved(moves in moves()) {
        const NAMES: [&str; 3] = ["alice", "bob", "carol"];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let Pair { here, there, channel, other, alpha: _alpha, way: _way, .. } = pair().await;
            for name in NAMES {
                here.mint(name, "apple", amount(50)).await.unwrap();
            }
            let voucher = format!("transfer/{other}/apple");
            let mut under_way = Vec::new();
            for Move { back, from, to, units, late } in moves {
                let (from, to) = (NAMES[from], NAMES[to]);
                let (side, channel, denom) =
                    if back { (&there, &other, &*voucher) } else { (&here, &channel, "apple") };
                let mut send = Send::new(channel.clone(), from, to, denom, amount(units));
                if late {
                    send = send.timeout(Duration::from_nanos(1));
                }
                match side.send(send).await {
                    Ok(sent) => under_way.push(sent),
                    Err(TransferError::Insufficient { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            for sent in under_way {
                timeout(Duration::from_secs(10), sent.outcome()).await.unwrap().unwrap();
            }
            let (mut apples, mut vouchers) = (U256::ZERO, U256::ZERO);
            for name in NAMES {
                let own: BTreeMap<_, _> = here.balances(name).await.unwrap().into_iter().collect();
                assert!(own.keys().all(|denom| denom == "apple"), "{own:?}");
                apples += own.values().copied().sum::<U256>();
                vouchers += there.balance(name, &voucher).await.unwrap();
            }
            let aside = here.escrowed(&channel).await.unwrap();
            let aside = aside.first().map_or(U256::ZERO, |(_, aside)| *aside);
            assert_eq!(apples + aside, amount(150));
            assert_eq!(aside, vouchers);
        });
    }
}
