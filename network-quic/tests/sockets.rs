//! UDP sockets: who shares one, which addresses can be had, and what is sent over them.

#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::{
    error::Error,
    net::{Ipv4Addr, Ipv6Addr, UdpSocket},
    time::{Duration, Instant},
};

use network_core::{
    BindError, Bytes, ConnectError, Connection, Limits, Network, NetworkBuilder, Port, Rejection,
    accept_all, handler_fn,
};
use network_quic::{AddressError, Congestion, Quic};
use network_tls::{Identity, Tls};
use tokio::{task::JoinSet, time::timeout};

const SOON: Duration = Duration::from_secs(10);
const ANY: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

fn quic() -> Quic {
    Quic::new(Tls::new().with_identity(Identity::generate().unwrap()))
}

fn network(quic: Quic) -> Network {
    Network::builder().protocol(quic).build().unwrap()
}

async fn echoes(port: &Port) {
    port.listen(accept_all(handler_fn(|record| async move { Ok(record) }))).await.unwrap();
}

async fn serve(network: &Network, at: &str) -> Port {
    let port = network.bind(at).await.unwrap();
    echoes(&port).await;
    port
}

async fn dial(from: &Port, to: &Port) -> Result<Connection, ConnectError> {
    timeout(SOON, from.connect(to.local_endpoint(), ())).await.unwrap()
}

async fn echo(connection: &Connection) {
    assert_eq!(timeout(SOON, connection.send("hello")).await.unwrap().unwrap(), "hello");
}

fn number(port: &Port) -> u16 {
    port.local_endpoint().value_of("udp").unwrap().parse().unwrap()
}

/// A name at the socket of a port.
fn beside(port: &Port, name: &str) -> String {
    format!("/ip4/127.0.0.1/udp/{}/quic-v1/port/{name}", number(port))
}

fn told(error: &BindError) -> &AddressError {
    error.source().unwrap().downcast_ref().unwrap()
}

#[tokio::test]
async fn a_socket_has_no_more_ports_than_its_limit() {
    let network = network(quic().with_max_ports_per_socket(2));
    let first = network.bind(format!("{ANY}/port/a")).await.unwrap();
    let second = network.bind(beside(&first, "b")).await.unwrap();
    let error = network.bind(beside(&first, "c")).await.unwrap_err();
    assert!(
        matches!(told(&error), AddressError::TooManyPorts { count: 3, max: 2, .. }),
        "{error:?}"
    );
    second.revoke().await.unwrap();
    network.bind(beside(&first, "c")).await.unwrap();
}

#[tokio::test]
async fn an_address_that_cannot_be_had_is_told_as_what_it_is() {
    let (one, other) = (network(quic()), network(quic()));
    let port = one.bind(ANY).await.unwrap();
    let at = format!("/ip4/127.0.0.1/udp/{}/quic-v1", number(&port));
    let error = other.bind(&*at).await.unwrap_err();
    assert!(matches!(told(&error), AddressError::InUse(_)), "{error:?}");
    // Of this network it is known by its whole name.
    let error = one.bind(port.local_endpoint()).await.unwrap_err();
    assert!(matches!(error, BindError::AlreadyBound { .. }), "{error:?}");
    let error = one.bind(&*at).await.unwrap_err();
    assert!(matches!(error, BindError::AlreadyBound { .. }), "{error:?}");
    let error = one.bind("/ip4/192.0.2.1/udp/0/quic-v1").await.unwrap_err();
    assert!(matches!(told(&error), AddressError::NotHere(_)), "{error:?}");
    let fresh = [(); 3].map(|()| one.bind(beside(&port, "")));
    let mut names = Vec::new();
    for bound in fresh {
        names.push(bound.await.unwrap().local_endpoint().to_string());
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 3);
}

#[tokio::test]
async fn ports_that_share_a_socket_end_one_by_one() {
    let there = network(quic());
    let one = serve(&there, &format!("{ANY}/port/one")).await;
    let two = serve(&there, &beside(&one, "two")).await;
    let silent = there.bind(beside(&one, "silent")).await.unwrap();
    let here = network(quic()).bind(ANY).await.unwrap();
    let (first, second) = (dial(&here, &one).await.unwrap(), dial(&here, &two).await.unwrap());
    let refused = dial(&here, &silent).await.unwrap_err();
    let ConnectError::Rejected { reason, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(reason, Rejection::NotListening);

    one.revoke().await.unwrap();
    assert!(first.close_reason().is_some());
    echo(&second).await;
    let refused = dial(&here, &one).await.unwrap_err();
    let ConnectError::Rejected { reason, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(reason, Rejection::NotListening);
    echo(&dial(&here, &two).await.unwrap()).await;
    silent.revoke().await.unwrap();
    echo(&second).await;
    assert!(UdpSocket::bind((Ipv4Addr::LOCALHOST, number(&two))).is_err());
    two.revoke().await.unwrap();
    assert!(second.close_reason().is_some());
    there.shutdown(Duration::ZERO).await;
    UdpSocket::bind((Ipv4Addr::LOCALHOST, number(&two))).unwrap();
}

#[tokio::test]
async fn a_socket_that_listens_dials_too() {
    let (one, other) = (network(quic()), network(quic()));
    let (one, other) = (serve(&one, ANY).await, serve(&other, ANY).await);
    let out = dial(&one, &other).await.unwrap();
    let back = dial(&other, &one).await.unwrap();
    for connection in [&out, &back] {
        echo(connection).await;
    }
    let (peer, dialed) = (out.peer().cloned(), other.connections());
    let accepted = dialed.iter().find(|end| **end != back).unwrap();
    assert_eq!(accepted.remote_endpoint(), out.local_endpoint());
    let own = other.local_endpoint().value_of("p2p").unwrap();
    assert_eq!(peer.unwrap().id().unwrap().to_string(), own);
    // Also itself.
    let itself = dial(&one, &one).await.unwrap();
    echo(&itself).await;
    itself.close().await;
    echo(&out).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_can_be_bound_while_its_last_port_is_revoked() {
    let network = network(quic());
    let mut port = serve(&network, &format!("{ANY}/port/0")).await;
    let here = self::network(quic()).bind(ANY).await.unwrap();
    for round in 1..10 {
        let connection = dial(&here, &port).await.unwrap();
        echo(&connection).await;
        let (next, last) = (beside(&port, &round.to_string()), port);
        let revoking = tokio::spawn(async move { last.revoke().await });
        let bound = timeout(SOON, network.bind(next)).await.unwrap();
        port = bound.unwrap_or_else(|error| panic!("{round}: {error:?}"));
        echoes(&port).await;
        revoking.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_dial_that_nobody_answers_holds_up_neither_a_revoke_nor_a_shutdown() {
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (to, peer) = (silent.local_addr().unwrap().port(), Identity::generate().unwrap().peer_id());
    let to = format!("/ip4/127.0.0.1/udp/{to}/quic-v1/p2p/{peer}");
    let network = network(quic());
    for revoke in [true, false] {
        let port = network.bind(ANY).await.unwrap();
        let (dialing, to) = (port.clone(), to.clone());
        let connecting = tokio::spawn(async move { dialing.connect(&*to, ()).await });
        // It has begun.
        timeout(SOON, silent.recv(&mut [0; 2_000])).await.unwrap().unwrap();
        let began = Instant::now();
        match revoke {
            true => timeout(SOON, port.revoke()).await.unwrap().unwrap(),
            false => timeout(SOON, network.shutdown(Duration::ZERO)).await.unwrap(),
        }
        let took = began.elapsed();
        println!("revoke {revoke}: {took:?}");
        assert!(took < Duration::from_secs(2), "{took:?}");
        let error = timeout(SOON, connecting).await.unwrap().unwrap().unwrap_err();
        assert!(matches!(error, ConnectError::Revoked { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_connect_waits_until_the_other_side_takes_one_more_stream() {
    let there = serve(&network(quic().with_max_streams(2)), ANY).await;
    let limits = Limits::default().with_connect_time(Duration::from_secs(1));
    let here = Network::builder().limits(limits).protocol(quic()).build().unwrap();
    let here = here.bind(ANY).await.unwrap();
    let first = dial(&here, &there).await.unwrap();
    let second = dial(&here, &there).await.unwrap();
    let error = dial(&here, &there).await.unwrap_err();
    assert!(matches!(error, ConnectError::TimedOut { .. }), "{error:?}");
    for connection in [first, second] {
        let waiting = {
            let (here, there) = (here.clone(), there.clone());
            tokio::spawn(async move { dial(&here, &there).await })
        };
        connection.close().await;
        let began = Instant::now();
        echo(&waiting.await.unwrap().unwrap()).await;
        println!("it waited for {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn sockets_are_of_one_family() {
    if UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        println!("skipped: no IPv6 here");
        return;
    }
    let there = network(quic());
    let four = serve(&there, ANY).await;
    // The same number is free in the other family, also for all addresses.
    let six = format!("/ip6/::/udp/{}/quic-v1", number(&four));
    let six = serve(&there, &six).await;
    let peer = six.local_endpoint().value_of("p2p").unwrap();
    let to = format!("/ip6/::1/udp/{}/quic-v1/p2p/{peer}", number(&six));
    let here = network(quic());
    let here = [here.bind(ANY).await.unwrap(), here.bind("/ip6/::/udp/0/quic-v1").await.unwrap()];
    let error = timeout(SOON, here[0].connect(&*to, ())).await.unwrap().unwrap_err();
    let ConnectError::Backend { source, .. } = &error else { panic!("{error:?}") };
    assert!(matches!(source.downcast_ref(), Some(AddressError::OtherFamily { .. })), "{error:?}");
    echo(&timeout(SOON, here[1].connect(&*to, ())).await.unwrap().unwrap()).await;
    assert!(dial(&here[1], &four).await.is_err());
    echo(&dial(&here[0], &four).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_all_sizes_are_whole_with_any_settings() {
    type Change = fn(Quic) -> Quic;
    let all: [(&str, Change); 5] = [
        ("as it is", |quic| quic),
        ("NewReno", |quic| quic.with_congestion(Congestion::NewReno)),
        ("BBR", |quic| quic.with_congestion(Congestion::Bbr)),
        ("small buffers", |quic| quic.with_socket_buffers(1)),
        ("without pooling", Quic::without_pooling),
    ];
    for (what, change) in all {
        let builder = || -> NetworkBuilder {
            let limits = Limits::default().with_max_ack_len(4 << 20);
            Network::builder().limits(limits).protocol(change(quic()))
        };
        let there = serve(&builder().build().unwrap(), ANY).await;
        let here = builder().build().unwrap().bind(ANY).await.unwrap();
        let connection = dial(&here, &there).await.unwrap();
        let mut tasks = JoinSet::new();
        let began = Instant::now();
        for at in 0..120_usize {
            let connection = connection.clone();
            tasks.spawn(async move {
                let len = [0, 1, 1_199, 1_200, 65_536, 300_001][at % 6];
                let record = Bytes::from(vec![at as u8; len]);
                let ack = timeout(SOON, connection.send(record.clone())).await.unwrap();
                assert_eq!(ack.unwrap(), record);
            });
        }
        while let Some(task) = tasks.join_next().await {
            task.unwrap();
        }
        println!("{what}: {:?}", began.elapsed());
    }
}
