//! Ports that share a socket.

#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::error::Error;

use network_core::Network;
use network_tcp::{AddressError, Tcp};

#[tokio::test]
async fn a_socket_has_no_more_ports_than_its_limit() {
    let tcp = Tcp::new().with_max_ports_per_socket(2);
    let network = Network::builder().protocol(tcp).build().unwrap();
    let first = network.bind("/ip4/127.0.0.1/tcp/0/port/a").await.unwrap();
    let socket = first.local_endpoint().value_of("tcp").unwrap().to_owned();
    let name = |name: &str| format!("/ip4/127.0.0.1/tcp/{socket}/port/{name}");
    let second = network.bind(name("b")).await.unwrap();
    let error = network.bind(name("c")).await.unwrap_err();
    let source = error.source().unwrap().downcast_ref::<AddressError>();
    assert!(
        matches!(source, Some(AddressError::TooManyPorts { count: 3, max: 2, .. })),
        "{error:?}"
    );
    second.revoke().await.unwrap();
    network.bind(name("c")).await.unwrap();
}
