//! Hops and channels.

use ibc_proto::ibc::core::channel::v1::{
    self as raw, Counterparty, MsgChannelCloseInit, MsgChannelOpenInit,
};
use network_core::{
    AnyHandler, CloseReason, ConnectError, Delivery, SendError, SendOptions, accept_fn,
};

use super::*;
use crate::{address::Order, engine::raw_order};

/// What a host shows itself as.
const FACES: [bool; 2] = [false, true];

fn host(chain: &str, solo: bool) -> Host {
    let host = Host::builder(chain);
    if !solo {
        return host.in_memory().unwrap();
    }
    host.solo_machine(crate::SoloKey::secp256k1(&[7; 32]).unwrap()).in_memory().unwrap()
}

fn remote(hop: &Hop, order: &str) -> String {
    format!("/ibc-hop/{}/ibc-port/mock/{order}/any\\x2fversion", hop.connection)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn records_go_to_a_chain_and_come_back() {
    let there = There::start();
    let host = Host::in_memory("host-1").unwrap();
    let hop = host.connect_chain(there.config()).await.unwrap();
    assert_eq!((hop.chain.as_str(), hop.open), (there.simd.id(), true));
    assert_eq!(hop.counterparty.as_ref().map(ConnectionId::as_str), Some(THERE));
    assert_eq!(host.hops(), std::slice::from_ref(&hop));
    // It is there.
    assert_eq!(host.connect_chain(there.config()).await.unwrap(), hop);

    let port = bound(&host, "/ibc-port/me").await;
    for (number, order) in ["ordered", "unordered"].into_iter().enumerate() {
        let (handler, mut echoed) = teller();
        let connection = port.connect(remote(&hop, order).as_str(), handler).await.unwrap();
        for number in 0..3_u8 {
            let record = vec![number; 200];
            assert_eq!(connection.send(record.clone()).await.unwrap(), OK);
            assert_eq!(within(echoed.recv()).await.unwrap(), record);
        }
        // Many at once, of bytes that are no text.
        let sends = (0..100_u8).map(|number| connection.send(vec![!number; 200]));
        for ack in within(futures_util::future::join_all(sends)).await {
            assert_eq!(ack.unwrap(), OK);
        }
        let mut echoes = Vec::new();
        for _ in 0..100 {
            echoes.push(within(echoed.recv()).await.unwrap());
        }
        echoes.sort();
        echoes.dedup();
        assert_eq!(echoes.len(), 100);
        connection.close().await;
        let id = ChannelId::known(&format!("channel-{number}"));
        until("the channel is closed there as well", async || {
            let end = there.rpc.channel(&PortId::known("mock"), &id).await.unwrap();
            end.is_some_and(|end| end.state == crate::engine::ChannelState::Closed)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn what_the_chain_is_done_with_is_forgotten() {
    let there = There::start();
    let host = Host::in_memory("host-1").unwrap();
    let hop = host.connect_chain(there.config()).await.unwrap();
    let port = bound(&host, "/ibc-port/me").await;
    for order in ["ordered", "unordered"] {
        let (handler, mut echoed) = teller();
        let connection = port.connect(remote(&hop, order).as_str(), handler).await.unwrap();
        let settled = async || {
            let chain = hop.chain.clone();
            let state = host.0.ask(|reply| Command::Chain { chain, reply }).await.unwrap();
            state.channels.iter().map(|end| end.settled).min().unwrap()
        };
        // Each comes back as a packet of the chain.
        for _ in 0..4 {
            let sends = (0..100_u8).map(|number| connection.send(vec![number; 20]));
            for ack in within(futures_util::future::join_all(sends)).await {
                assert_eq!(ack.unwrap(), OK);
            }
            for _ in 0..100 {
                within(echoed.recv()).await.unwrap();
            }
        }
        until("most are forgotten", async || {
            // It is looked when another one comes.
            connection.send("once more").await.unwrap();
            settled().await > 300
        })
        .await;
        connection.close().await;
        until("the channel is closed", async || {
            let chain = hop.chain.clone();
            let state = host.0.ask(|reply| Command::Chain { chain, reply }).await.unwrap();
            state.channels.is_empty()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn records_pass_while_validators_leave() {
    // With each block from the 21st on there is one less.
    let there = There::with(|settings| settings.silent = 40);
    let host = Host::in_memory("host-1").unwrap();
    let hop = host.connect_chain(there.config()).await.unwrap();
    let port = bound(&host, "/ibc-port/me").await;
    let (handler, mut echoed) = teller();
    let connection = port.connect(remote(&hop, "ordered").as_str(), handler).await.unwrap();
    let mut number = 0_u64;
    while there.rpc.status().await.unwrap().height < 50 {
        let record = number.to_be_bytes().to_vec();
        assert_eq!(within(connection.send(record.clone())).await.unwrap(), OK);
        assert_eq!(within(echoed.recv()).await.unwrap(), record);
        number += 1;
    }
    assert!(number > 1, "nothing was sent meanwhile");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn a_solo_machine_is_a_host_like_any_other() {
    let there = There::start();
    let host = host("solo", true);
    let hop = host.connect_chain(there.config()).await.unwrap();
    let port = bound(&host, "/ibc-port/me").await;
    for order in ["ordered", "unordered"] {
        let (handler, mut echoed) = teller();
        let connection = port.connect(remote(&hop, order).as_str(), handler).await.unwrap();
        let sends = (0..50_u8).map(|number| connection.send(vec![number; 200]));
        for ack in within(futures_util::future::join_all(sends)).await {
            assert_eq!(ack.unwrap(), OK);
        }
        for _ in 0..50 {
            within(echoed.recv()).await.unwrap();
        }
        connection.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn a_chain_begins_a_hop() {
    use ibc_proto::ibc::core::{
        commitment::v1::MerklePrefix,
        connection::v1::{Counterparty, MsgConnectionOpenInit},
    };
    let there = There::start();
    let host = Host::in_memory("host").unwrap();
    let first = host.connect_chain(there.config()).await.unwrap();
    let prefix = Some(MerklePrefix { key_prefix: b"ibc".to_vec() });
    let begin = MsgConnectionOpenInit {
        client_id: "07-tendermint-0".to_owned(),
        counterparty: Some(Counterparty {
            client_id: "07-tendermint-0".to_owned(),
            connection_id: String::new(),
            prefix,
        }),
        version: None,
        delay_period: 0,
        signer: there.address.clone(),
    };
    there.does(&begin).await.unwrap();
    let is_open = async || host.hops().iter().filter(|hop| hop.open).count() == 2;
    until("the second hop is open", is_open).await;
    let second = host.hops().into_iter().find(|hop| *hop != first).unwrap();
    let port = bound(&host, "/ibc-port/me").await;
    let connection = within(port.connect(remote(&second, "ordered").as_str(), ())).await.unwrap();
    assert_eq!(within(connection.send("hello")).await.unwrap(), OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn a_chain_opens_channels_and_closes_them() {
    for solo in FACES {
        let there = There::start();
        let host = host(&format!("host-{solo}"), solo);
        let hop = host.connect_chain(there.config()).await.unwrap();
        let port = bound(&host, "/ibc-port/here").await;
        let (tell, mut accepted) = mpsc::unbounded_channel();
        let listener = accept_fn(move |attempt| {
            let _ = tell.send(attempt);
            async { Ok(AnyHandler::new(()).with_version("another")) }
        });
        port.listen(listener).await.unwrap();
        for order in [Order::Ordered, Order::Unordered] {
            let open = MsgChannelOpenInit {
                port_id: "mock".to_owned(),
                channel: Some(raw::Channel {
                    state: raw::State::Init as i32,
                    ordering: raw_order(order),
                    counterparty: Some(Counterparty {
                        port_id: "here".to_owned(),
                        channel_id: String::new(),
                    }),
                    connection_hops: vec![THERE.to_owned()],
                    version: "first".to_owned(),
                    upgrade_sequence: 0,
                }),
                signer: there.address.clone(),
            };
            there.does(&open).await.unwrap();
            let attempt = within(accepted.recv()).await.unwrap();
            assert!(attempt.remote.as_str().contains("/ibc-port/mock/"), "{attempt:?}");
            until("the channel is open", async || !port.connections().is_empty()).await;
            let connection = port.connections().remove(0);
            assert!(connection.local_endpoint().as_str().contains("another"), "{connection:?}");
            assert_eq!(within(connection.send("hello")).await.unwrap(), OK);

            let remote = connection.remote_endpoint().as_str();
            let close = MsgChannelCloseInit {
                port_id: "mock".to_owned(),
                channel_id: remote.rsplit('/').next().unwrap().to_owned(),
                signer: there.address.clone(),
            };
            there.does(&close).await.unwrap();
            assert!(matches!(within(connection.closed()).await, CloseReason::Remote));
            until("the connection is over", async || port.connections().is_empty()).await;
        }
        assert_eq!(host.hops(), [hop]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn what_comes_too_late_is_proved_undelivered() {
    for solo in FACES {
        let there = There::start();
        let host = host(&format!("host-{solo}"), solo);
        let hop = host.connect_chain(there.config()).await.unwrap();
        let port = bound(&host, "/ibc-port/me").await;
        for order in ["unordered", "ordered"] {
            let connection = port.connect(remote(&hop, order).as_str(), ()).await.unwrap();
            assert_eq!(within(connection.send("in time")).await.unwrap(), OK);
            // The chain has this time behind it when the packet comes.
            let soon = SendOptions::default().with_timeout(Duration::from_millis(150));
            host.0.ways().clear();
            let late = connection.send_with("late", soon);
            let relayed = async {
                time::sleep(Duration::from_secs(1)).await;
                host.connect_chain(there.config()).await.unwrap();
            };
            // What is relayed with it is received, also where each proof follows on the last one.
            let number = if order == "unordered" { 20 } else { 0 };
            let others = (0..number).map(|_| connection.send("in time as well"));
            let others = futures_util::future::join_all(others);
            let all = async { tokio::join!(late, others, relayed) };
            let (late, others, ()) = within(Box::pin(all)).await;
            assert!(others.into_iter().all(|ack| ack.unwrap() == OK));
            let late = late.unwrap_err();
            assert!(matches!(late, SendError::TimedOut { .. }), "{late:?}");
            assert_eq!(late.delivery(), Delivery::NotDelivered);
            if order == "unordered" {
                assert_eq!(within(connection.send("again in time")).await.unwrap(), OK);
            } else {
                assert!(matches!(within(connection.closed()).await, CloseReason::TimedOut));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn what_a_chain_refuses_is_told() {
    for solo in FACES {
        let there = There::start();
        let host = host(&format!("host-{solo}"), solo);
        let hop = host.connect_chain(there.config()).await.unwrap();
        let port = bound(&host, "/ibc-port/me").await;
        // Tokens go over unordered channels only.
        let ordered = format!("/ibc-hop/{}/ibc-port/transfer/ordered/ics20-1", hop.connection);
        let refused = within(port.connect(ordered.as_str(), ())).await.unwrap_err();
        assert!(
            matches!(&refused, ConnectError::Rejected { reason, .. }
            if reason.to_string().contains("UNORDERED")),
            "{refused:?}"
        );
        let nobody = format!("/ibc-hop/{}/ibc-port/nobody/ordered/any", hop.connection);
        let refused = within(port.connect(nobody.as_str(), ())).await.unwrap_err();
        assert!(matches!(refused, ConnectError::Rejected { .. }), "{refused:?}");

        // What is no packet of ICS-020 there is refused, and the channel stays.
        let tokens = format!("/ibc-hop/{}/ibc-port/transfer/unordered/ics20-1", hop.connection);
        let connection = within(port.connect(tokens.as_str(), ())).await.unwrap();
        for _ in 0..2 {
            let refused = within(connection.send("no tokens")).await.unwrap_err();
            assert!(
                matches!(&refused, SendError::Refused(why) if why.text().contains("ABCI")),
                "{refused:?}"
            );
        }

        let mut broke = there.config();
        broke.key = ChainKey::from_hex(&"07".repeat(32)).unwrap();
        let stranger = Host::in_memory("stranger").unwrap();
        let refused = stranger.connect_chain(broke).await.unwrap_err();
        assert!(refused.to_string().contains("send some of its coins there"), "{refused}");
    }
}
