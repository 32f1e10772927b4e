//! Tokens between a host and a chain (ICS-020).

use ibc_proto::{
    cosmos::base::v1beta1::Coin,
    ibc::{applications::transfer::v1::MsgTransfer, core::channel::v1::MsgChannelOpenInit},
};

use super::*;
use crate::transfer::{self, Outcome, Send, Tokens, Transfer, U256, Why, voucher};

fn amount(amount: u64) -> U256 {
    U256::from(amount)
}

/// A transfer of what the chain calls `denom`.
fn transfer(there: &There, channel: &ChannelId, denom: &str, units: u64, to: &str) -> MsgTransfer {
    let in_an_hour =
        std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap()
            + Duration::from_secs(3_600);
    MsgTransfer {
        source_port: transfer::PORT.to_owned(),
        source_channel: channel.to_string(),
        token: Some(Coin { denom: denom.to_owned(), amount: units.to_string() }),
        sender: there.address.clone(),
        receiver: to.to_owned(),
        timeout_height: None,
        timeout_timestamp: u64::try_from(in_an_hour.as_nanos()).unwrap(),
        ..MsgTransfer::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn tokens_go_to_a_chain_and_back() {
    let there = There::start();
    let host = Host::builder("host").module(transfer::PORT, Transfer::new()).unwrap();
    let host = host.in_memory().unwrap();
    let hop = host.connect_chain(there.config()).await.unwrap();
    let tokens = Tokens::of(&host);
    let opened = within(tokens.open(&hop.connection)).await.unwrap();
    let (channel, other) = (opened.channel, opened.counterparty.unwrap());
    let on_chain = async |denom: &str| there.rpc.balance(&there.address, denom).await.unwrap();
    let outcome = async |send| within(tokens.send(send).await.unwrap().outcome()).await.unwrap();

    // Ours are vouchers there.
    tokens.mint("alice", "apple", amount(100)).await.unwrap();
    let send = |units| {
        Send::new(channel.clone(), "alice", &*there.address, "apple", amount(units)).memo("hello")
    };
    assert_eq!(outcome(send(40)).await, Outcome::Delivered);
    let there_called = voucher(&format!("transfer/{other}/apple"));
    assert_eq!(on_chain(&there_called).await, 40);
    there.does(&transfer(&there, &other, &there_called, 15, "bob")).await.unwrap();
    until("bob has them", async || tokens.balance("bob", "apple").await.unwrap() == amount(15))
        .await;
    until("they are gone there", async || on_chain(&there_called).await == 25).await;
    assert_eq!(tokens.escrowed(&channel).await.unwrap(), [("apple".to_owned(), amount(25))]);

    // Theirs are vouchers here.
    let before = on_chain("stake").await;
    there.does(&transfer(&there, &other, "stake", 1_000, "carol")).await.unwrap();
    let here_called = format!("transfer/{channel}/stake");
    let arrived = async || tokens.balance("carol", &here_called).await.unwrap() == amount(1_000);
    until("carol has stake", arrived).await;
    let back = Send::new(channel.clone(), "carol", &*there.address, &*here_called, amount(1_000));
    assert_eq!(outcome(back).await, Outcome::Delivered);
    assert_eq!(on_chain("stake").await, before);

    // What is refused there is given back here.
    let to_nobody = Send::new(channel.clone(), "alice", "no address", "apple", amount(1));
    let refused = outcome(to_nobody).await;
    assert!(matches!(refused, Outcome::Refunded(Why::Refused(_))), "{refused:?}");
    host.0.ways().clear();
    let late = tokens.send(send(1).timeout(Duration::from_millis(150))).await.unwrap();
    time::sleep(Duration::from_secs(1)).await;
    host.connect_chain(there.config()).await.unwrap();
    let late = within(late.outcome()).await.unwrap();
    assert_eq!(late, Outcome::Refunded(Why::NotReceived));
    assert_eq!(tokens.balance("alice", "apple").await.unwrap(), amount(60));

    // What is refused here is given back there.
    let before = on_chain("stake").await;
    there.does(&transfer(&there, &other, "stake", 5, &"x".repeat(2_049))).await.unwrap_err();
    there.does(&transfer(&there, &other, "stake", 5, "carol")).await.unwrap();
    until("five are gone", async || on_chain("stake").await == before - 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn a_chain_opens_a_channel_for_tokens_and_proposes_another_version() {
    use crate::{address::Order, engine::raw_order};
    use ibc_proto::ibc::core::channel::v1::{self as raw, Counterparty};
    let there = There::start();
    let host = Host::builder("host").module(transfer::PORT, Transfer::new()).unwrap();
    let host = host.in_memory().unwrap();
    host.connect_chain(there.config()).await.unwrap();
    let open = MsgChannelOpenInit {
        port_id: transfer::PORT.to_owned(),
        channel: Some(raw::Channel {
            state: raw::State::Init as i32,
            ordering: raw_order(Order::Unordered),
            counterparty: Some(Counterparty {
                port_id: transfer::PORT.to_owned(),
                channel_id: String::new(),
            }),
            connection_hops: vec![THERE.to_owned()],
            version: String::new(),
            upgrade_sequence: 0,
        }),
        signer: there.address.clone(),
    };
    there.does(&open).await.unwrap();
    let (port, id) = (PortId::known(transfer::PORT), ChannelId::known("channel-0"));
    until("it is open", async || {
        let end = there.rpc.channel(&port, &id).await.unwrap();
        end.is_some_and(|end| end.state == crate::engine::ChannelState::Open)
    })
    .await;
    there.does(&transfer(&there, &id, "stake", 7, "dave")).await.unwrap();
    let tokens = Tokens::of(&host);
    let called = "transfer/channel-0/stake";
    until("dave has stake", async || tokens.balance("dave", called).await.unwrap() == amount(7))
        .await;
}
