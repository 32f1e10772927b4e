//! Accounts on the chain (ICS-027).

use ibc_proto::cosmos::{
    bank::v1beta1::{MsgSend, MsgSendResponse},
    base::v1beta1::Coin,
};

use super::*;
use crate::{
    Order,
    ica::{self, Account, Controller, IcaError, Outcome},
};

fn send(from: &str, to: &str, units: u64) -> MsgSend {
    MsgSend {
        from_address: from.to_owned(),
        to_address: to.to_owned(),
        amount: vec![Coin { denom: "stake".to_owned(), amount: units.to_string() }],
    }
}

fn any(message: &MsgSend) -> Any {
    Any { type_url: MsgSend::type_url(), value: message.encode_to_vec() }
}

const LONG: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn accounts_on_a_chain_do_what_the_host_says() {
    let there = There::start();
    let builder = Host::builder("host").module(&ica::port_of("alice"), Controller::new()).unwrap();
    let builder = builder.module(&ica::port_of("bob"), Controller::new()).unwrap();
    let host = builder.in_memory().unwrap();
    let hop = host.connect_chain(there.config()).await.unwrap();
    let nobody = ChainKey::from_hex(&"05".repeat(32)).unwrap().address();
    let balance = async |address: &str| there.rpc.balance(address, "stake").await.unwrap();
    let mut paid = 0;
    for (owner, order) in [("alice", Order::Ordered), ("bob", Order::Unordered)] {
        let open = || Account::open(&host, &hop.connection, owner, order);
        let account = within(open()).await.unwrap();
        assert_eq!(within(open()).await.unwrap().address(), account.address(), "it is there");
        there.does(&send(&there.address, account.address(), 1_000)).await.unwrap();

        let both = vec![any(&send(account.address(), &nobody, 30)); 2];
        let done = within(account.execute(both, "two", LONG)).await.unwrap();
        let Outcome::Executed(responses) = done else { panic!("{done:?}") };
        assert_eq!(responses.len(), 2);
        assert!(responses.iter().all(|response| response.type_url == MsgSendResponse::type_url()));
        paid += 60;
        assert_eq!(balance(&nobody).await, paid);

        // All or nothing.
        let (good, bad) =
            (send(account.address(), &nobody, 1), send(account.address(), &nobody, 9_999));
        let refused = within(account.execute(vec![any(&good), any(&bad)], "", LONG)).await.unwrap();
        assert!(matches!(refused, Outcome::Refused(_)), "{refused:?}");
        assert_eq!((balance(&nobody).await, balance(account.address()).await), (paid, 940));

        // Too late, as nothing was relayed until then.
        host.0.ways().clear();
        let soon = Duration::from_millis(150);
        let late = account.execute(vec![any(&good)], "", soon);
        let relayed = async {
            time::sleep(Duration::from_secs(1)).await;
            host.connect_chain(there.config()).await.unwrap();
        };
        let (late, ()) = within(Box::pin(async { tokio::join!(late, relayed) })).await;
        assert_eq!(late.unwrap(), Outcome::NotReceived);
        if order == Order::Ordered {
            let closed = account.execute(vec![any(&good)], "", LONG).await.unwrap_err();
            assert!(matches!(closed, IcaError::Closed), "{closed}");
            // The chain opens another one only once it knows that the last one is closed.
            let again = async {
                loop {
                    match open().await {
                        Ok(again) => break again,
                        Err(_) => time::sleep(Duration::from_millis(100)).await,
                    }
                }
            };
            let again = within(Box::pin(again)).await;
            assert_eq!(again.address(), account.address());
        }
        let done = within(account.execute(vec![any(&good)], "", LONG)).await.unwrap();
        assert!(matches!(done, Outcome::Executed(_)), "{done:?}");
        paid += 1;
        assert_eq!(balance(&nobody).await, paid);
    }
}
