//! Names: who gets them, and who is found by them.

use std::{collections::HashSet, sync::Arc};

use network_core::{
    AllocateError, BindError, ConnectError, Endpoint, Network, Port, Rejection, accept_all,
    handler_fn,
};
use tokio::task::JoinSet;

use crate::{
    lab::Lab,
    tools::{limits, send, within},
};

pub(crate) async fn fresh_names_are_distinct(lab: Lab) {
    let network = lab.network().await;
    let mut names = HashSet::new();
    for _ in 0..20 {
        let port = lab.server(&network).await;
        let name = port.local_endpoint().clone();
        assert!(!name.wants_fresh_name(), "{name} is no full name");
        assert!(names.insert(name.clone()), "{name} was given out twice");
    }
}

pub(crate) async fn fresh_names_are_distinct_when_bound_at_once(lab: Lab) {
    let network = lab.network().await;
    let mut binds = JoinSet::new();
    for _ in 0..20 {
        let (network, wanted) = (network.clone(), lab.listen_at());
        binds.spawn(async move { network.bind(wanted).await.unwrap() });
    }
    let ports = within("20 binds", binds.join_all()).await;
    let names: HashSet<_> = ports.iter().map(Port::local_endpoint).collect();
    assert_eq!(names.len(), 20);
}

pub(crate) async fn a_port_knows_its_name_and_its_network(lab: Lab) {
    let network = lab.network().await;
    let port = lab.server(&network).await;
    let backend = network.route(port.local_endpoint()).unwrap();
    assert!(Arc::ptr_eq(&backend, port.protocol()));
    assert!(!port.is_revoked());
    assert!(port.connections().is_empty());
    assert_eq!(port.network().limits(), network.limits());
    assert_eq!(network.connections(), 0);
}

pub(crate) async fn a_bound_name_cannot_be_bound_again(lab: Lab) {
    let network = lab.network().await;
    let port = lab.server(&network).await;
    let name = port.local_endpoint();
    let error = network.bind(name).await.unwrap_err();
    assert!(error.to_string().contains(name.as_str()), "{error}");
    expect!(error, BindError::AlreadyBound { endpoint } if endpoint == *name);
}

pub(crate) async fn a_revoked_name_can_be_bound_again(lab: Lab) {
    let network = lab.network().await;
    let first = lab.server(&network).await;
    first.listen(accept_all(())).await.unwrap();
    first.revoke().await.unwrap();
    let again = network.bind(first.local_endpoint()).await.unwrap();
    assert_eq!(again.local_endpoint(), first.local_endpoint());
    assert_ne!(again, first);
    again.listen(accept_all(())).await.unwrap();
    let here = lab.network().await;
    let client = lab.client(&here).await;
    let connection = client.connect(lab.remote(&again), ()).await.unwrap();
    assert_eq!(send(&connection, "hello").await, "");
}

pub(crate) async fn one_of_many_binds_of_a_name_wins(lab: Lab) {
    let network = lab.network().await;
    let port = lab.server(&network).await;
    let name = port.local_endpoint().clone();
    port.revoke().await.unwrap();
    let mut binds = JoinSet::new();
    for _ in 0..16 {
        let (network, name) = (network.clone(), name.clone());
        binds.spawn(async move { network.bind(name).await });
    }
    let outcomes = within("16 binds", binds.join_all()).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for error in outcomes.into_iter().filter_map(Result::err) {
        expect!(error, BindError::AlreadyBound { .. });
    }
}

/// A port that acks every record with a word.
async fn saying(network: &Network, endpoint: &Endpoint, word: &'static str) -> Port {
    let port = network.bind(endpoint).await.unwrap();
    let say = handler_fn(move |_| async move { Ok(word.into()) });
    port.listen(accept_all(say)).await.unwrap();
    port
}

/// A port that listens, one with a longer name beside it, and who dials.
async fn nested(lab: &Lab) -> (Port, Port, Port) {
    let there = lab.network().await;
    let fresh = lab.server(&there).await;
    let name = fresh.local_endpoint().clone();
    fresh.revoke().await.unwrap();
    let short = saying(&there, &name, "short").await;
    let long = saying(&there, &name.join("/deep/1").unwrap(), "long").await;
    let client = lab.client(&lab.network().await).await;
    (short, long, client)
}

async fn who_answers(client: &Port, endpoint: &Endpoint) -> String {
    let connection = within("a connect", client.connect(endpoint, ())).await.unwrap();
    String::from_utf8(send(&connection, "who?").await.to_vec()).unwrap()
}

pub(crate) async fn the_longest_listening_prefix_wins(lab: Lab) {
    let (short, long, client) = nested(&lab).await;
    let below = |port: &Port, rest| lab.remote_of(&port.local_endpoint().join(rest).unwrap());
    assert_eq!(who_answers(&client, &lab.remote(&short)).await, "short");
    assert_eq!(who_answers(&client, &below(&short, "/other/2")).await, "short");
    assert_eq!(who_answers(&client, &lab.remote(&long)).await, "long");
    assert_eq!(who_answers(&client, &below(&long, "/er/2")).await, "long");
}

pub(crate) async fn the_next_shorter_name_answers_for_one_that_does_not_listen(lab: Lab) {
    let (short, long, client) = nested(&lab).await;
    let endpoint = lab.remote_of(&long.local_endpoint().join("/er/2").unwrap());
    long.unlisten().await.unwrap();
    assert_eq!(who_answers(&client, &endpoint).await, "short");
    long.revoke().await.unwrap();
    assert_eq!(who_answers(&client, &endpoint).await, "short");
    short.unlisten().await.unwrap();
    let error = client.connect(&endpoint, ()).await.unwrap_err();
    expect!(
        error,
        ConnectError::Rejected { reason: Rejection::NotListening, .. }
            | ConnectError::Unreachable { .. }
    );
}

pub(crate) async fn a_name_is_no_prefix_of_one_with_more_characters(lab: Lab) {
    let served = lab.serve(()).await;
    let more = Endpoint::parse(&format!("{}x", served.server.local_endpoint())).unwrap();
    let error = served.client.connect(lab.remote_of(&more), ()).await.unwrap_err();
    expect!(
        error,
        ConnectError::Rejected { reason: Rejection::NotListening, .. }
            | ConnectError::Unreachable { .. }
    );
}

pub(crate) async fn ports_share_a_socket_by_the_rest_of_their_names(lab: Lab) {
    let there = lab.network().await;
    let first = lab.server(&there).await;
    let port = first.local_endpoint().value_of("port").unwrap().to_owned();
    let text = first.local_endpoint().as_str();
    let sibling = Endpoint::parse(&text.replace(&port, "sibling")).unwrap();
    let name = first.local_endpoint().clone();
    first.revoke().await.unwrap();
    let one = saying(&there, &name, "one").await;
    let two = saying(&there, &sibling, "two").await;
    let client = lab.client(&lab.network().await).await;
    assert_eq!(who_answers(&client, &lab.remote(&one)).await, "one");
    assert_eq!(who_answers(&client, &lab.remote(&two)).await, "two");
    one.revoke().await.unwrap();
    assert_eq!(who_answers(&client, &lab.remote(&two)).await, "two");
    let error = client.connect(lab.remote(&one), ()).await.unwrap_err();
    expect!(error, ConnectError::Rejected { reason: Rejection::NotListening, .. });
}

pub(crate) async fn an_endpoint_of_no_backend_is_told_what_there_is(lab: Lab) {
    let network = lab.network().await;
    let backend = network.route(&lab.listen_at()).unwrap();
    let error = network.bind("/of-nobody/at-all").await.unwrap_err();
    for pattern in backend.patterns() {
        assert!(error.to_string().contains(&pattern.to_string()), "{error}");
    }
    expect!(error, BindError::NoBackend(none) if none.feature.is_none());

    let port = lab.client(&network).await;
    let error = port.connect("/of-nobody/at-all", ()).await.unwrap_err();
    expect!(error, ConnectError::NoBackend(_));
}

pub(crate) async fn an_endpoint_of_a_missing_backend_is_told_its_feature(lab: Lab) {
    let network = lab.network().await;
    let known = [
        ("/local/a", "loopback"),
        ("/ip4/127.0.0.1/tcp/9000", "tcp"),
        ("/ip4/127.0.0.1/udp/9000/quic-v1", "quic"),
        ("/ibc-port/transfer", "ibc"),
    ];
    for (endpoint, feature) in known {
        let endpoint = Endpoint::parse(endpoint).unwrap();
        if let Err(none) = network.route(&endpoint) {
            assert_eq!(none.feature, Some(feature));
            assert!(none.to_string().contains(&format!("feature \"{feature}\"")), "{none}");
        }
    }
}

pub(crate) async fn a_malformed_endpoint_is_told_apart(lab: Lab) {
    let network = lab.network().await;
    for text in ["", "no slash", "/a//b", "/ip4/1.2.3.256/tcp/1"] {
        expect!(network.bind(text).await.unwrap_err(), BindError::Endpoint(_));
    }
    let port = lab.client(&network).await;
    expect!(port.connect("no slash", ()).await.unwrap_err(), ConnectError::Endpoint(_));
}

pub(crate) async fn a_network_binds_no_more_ports_than_its_limit(lab: Lab) {
    let network = lab.network_with(limits().with_max_ports(2)).await;
    let first = lab.server(&network).await;
    lab.server(&network).await;
    let error = network.bind(lab.listen_at()).await.unwrap_err();
    expect!(error, BindError::TooManyPorts { max: 2, .. });
    first.revoke().await.unwrap();
    lab.server(&network).await;
}

pub(crate) async fn the_allocator_names_local_ports(lab: Lab) {
    let allocator = lab.network().await.allocator();
    let named = allocator.custom_local_port(Some("orders")).await.unwrap();
    assert_eq!(named.local_endpoint().as_str(), "/local/custom-orders");
    let error = allocator.custom_local_port(Some("orders")).await.unwrap_err();
    expect!(error, AllocateError::Bind(BindError::AlreadyBound { .. }));
    let fresh = allocator.custom_local_port(None).await.unwrap();
    assert!(fresh.local_endpoint().as_str().starts_with("/local/"));
    assert_ne!(fresh, allocator.custom_local_port(None).await.unwrap());
    for bad in ["", "x", "a/b", "sp ace"] {
        let error = allocator.custom_local_port(Some(bad)).await.unwrap_err();
        expect!(error, AllocateError::Name(_));
    }
}

pub(crate) async fn the_allocator_names_ibc_ports(lab: Lab) {
    let allocator = lab.network().await.allocator();
    let text = |port: Port| port.local_endpoint().to_string();
    let named = allocator.custom_ibc_port(Some("orders")).await.unwrap();
    assert_eq!(text(named), "/ibc-port/custom-orders");
    assert!(text(allocator.custom_ibc_port(None).await.unwrap()).starts_with("/ibc-port/"));
    let first = allocator.ica_controller_port().await.unwrap();
    assert_eq!(first.local_endpoint().as_str(), "/ibc-port/icacontroller-1");
    first.revoke().await.unwrap();
    let second = allocator.clone().ica_controller_port().await.unwrap();
    assert_eq!(text(second), "/ibc-port/icacontroller-2");
    let query = allocator.icq_controller_port().await.unwrap();
    assert_eq!(text(query), "/ibc-port/icqcontroller-1");
}
