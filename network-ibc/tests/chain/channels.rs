//! Hops and channels.

use std::time::Instant;

use network_core::{Bytes, handler_fn};
use network_ibc::Host;
use tokio::sync::mpsc;

use super::*;

/// Acks every record with its length, and tells of it.
fn teller() -> (impl network_core::ConnectionHandler, mpsc::UnboundedReceiver<Bytes>) {
    let (tell, told) = mpsc::unbounded_channel();
    let handler = handler_fn(move |record: Bytes| {
        let length = Bytes::from(record.len().to_string());
        let _ = tell.send(record);
        async move { Ok(length) }
    });
    (handler, told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn records_go_to_a_chain_and_come_back() {
    log();
    let chain = chain();
    let host = Host::in_memory("host-1").unwrap();
    let began = Instant::now();
    let hop = host.connect_chain(config(&chain)).await.unwrap();
    println!("hop in {:?}", began.elapsed());
    assert_eq!((hop.chain.as_str(), hop.open), (chain.id(), true));
    assert_eq!(host.hops(), std::slice::from_ref(&hop));
    // It is there.
    assert_eq!(host.connect_chain(config(&chain)).await.unwrap(), hop);

    let port = bound(&host, "/ibc-port/me").await;
    for order in ["ordered", "unordered"] {
        let remote = format!("/ibc-hop/{}/ibc-port/mock/{order}/any/version", hop.connection);
        let remote = remote.replace("any/version", "any\\x2fversion");
        let (handler, mut echoed) = teller();
        let began = Instant::now();
        let connection = port.connect(remote.as_str(), handler).await.unwrap();
        println!("{order} channel in {:?}", began.elapsed());
        for number in 0..5_u8 {
            let began = Instant::now();
            let record = vec![number; 200];
            assert_eq!(connection.send(record.clone()).await.unwrap(), "{\"result\":\"AQ==\"}");
            println!("ack in {:?}", began.elapsed());
            let echo = within(echoed.recv()).await.unwrap();
            assert_eq!(echo, record);
            println!("echo in {:?}", began.elapsed());
        }
        connection.close().await;
    }
}
