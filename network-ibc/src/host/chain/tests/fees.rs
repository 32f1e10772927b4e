//! When the account cannot pay.

use ibc_proto::cosmos::{bank::v1beta1::MsgSend, base::v1beta1::Coin};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn what_cannot_be_paid_for_waits_for_coins() {
    const PRICE: &str = "0.01stake";
    let there = There::with(|settings| settings.gas_price = PRICE.to_owned());
    let poor = ChainKey::from_hex(&"0b".repeat(32)).unwrap();
    let gift = |from: &str, to: &str, amount: u128| MsgSend {
        from_address: from.to_owned(),
        to_address: to.to_owned(),
        amount: vec![Coin { denom: "stake".to_owned(), amount: amount.to_string() }],
    };
    there.does(&gift(&there.address, &poor.address(), 100_000)).await.unwrap();

    let tx = TxSettings { gas_price: GasPrice::parse(PRICE).unwrap(), ..TxSettings::default() };
    let host = Host::in_memory("host-1").unwrap();
    let config = ChainConfig::new(&there.simd.rpc(), poor.clone()).with_tx(tx.clone());
    let hop = host.connect_chain(config).await.unwrap();
    let port = bound(&host, "/ibc-port/me").await;
    let remote = format!("/ibc-hop/{}/ibc-port/mock/ordered/any", hop.connection);
    let (handler, mut echoed) = teller();
    let connection = port.connect(remote.as_str(), handler).await.unwrap();
    assert_eq!(connection.send(b"paid".as_slice()).await.unwrap(), OK);
    assert_eq!(within(echoed.recv()).await.unwrap(), "paid");
    // The echo is acknowledged there too, or what is left changes.
    let left = async || there.rpc.balance(&poor.address(), "stake").await.unwrap();
    let mut before = 0;
    until("no more is paid", async || {
        let last = std::mem::replace(&mut before, left().await);
        time::sleep(Duration::from_millis(400)).await;
        last == left().await
    })
    .await;

    // All but the fee goes.
    let spender = Submitter::spawn(there.rpc.clone(), there.simd.id(), poor.clone(), tx);
    let away = gift(&poor.address(), &there.address, left().await - 2_000);
    let away = Any { type_url: MsgSend::type_url(), value: away.encode_to_vec() };
    within(spender.submit(vec![away])).await.pop().unwrap().unwrap();
    assert!(left().await < 1_400, "{}", left().await);

    let mut sending = std::pin::pin!(connection.send(b"later".as_slice()));
    let early = time::timeout(Duration::from_secs(2), &mut sending).await;
    assert!(early.is_err(), "{early:?}");
    there.does(&gift(&there.address, &poor.address(), 100_000)).await.unwrap();
    assert_eq!(within(sending).await.unwrap(), OK);
    assert_eq!(within(echoed.recv()).await.unwrap(), "later");
}
