//! Who is trusted over QUIC, who is not, and what each is told.

#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::{
    error::Error,
    net::{Ipv4Addr, UdpSocket},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::BytesMut;
use network_core::{
    AcceptPolicy, AnyHandler, Attempt, ConnectError, Connection, ListenError, Network, Peer, Port,
    Rejection, Unauthenticated, accept_all, accept_fn, handler_fn,
    wire::{Hello, Reply, Welcome, decode_reply},
};
use network_quic::{AddressError, Quic};
use network_tls::{Certificate, Identity, Tls, TlsError, rustls::RootCertStore};
use quinn::crypto::rustls::QuicClientConfig;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tokio::{io::AsyncReadExt, time::timeout};

const SOON: Duration = Duration::from_secs(10);
const ANY: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

fn identity() -> Identity {
    Identity::generate().unwrap()
}

fn network(tls: Tls) -> Network {
    Network::builder().protocol(Quic::new(tls)).build().unwrap()
}

fn peers() -> Network {
    network(Tls::new().with_identity(identity()))
}

/// A port that echoes.
async fn serve(network: &Network, at: &str) -> Port {
    let port = network.bind(at).await.unwrap();
    port.listen(accept_all(handler_fn(|record| async move { Ok(record) }))).await.unwrap();
    port
}

async fn connect(network: &Network, to: &str) -> Result<Connection, ConnectError> {
    let port = network.bind(ANY).await.unwrap();
    timeout(SOON, port.connect(to, ())).await.unwrap()
}

async fn echo(connection: &Connection) {
    assert_eq!(timeout(SOON, connection.send("hello")).await.unwrap().unwrap(), "hello");
}

/// The error of a certain type in a chain.
fn cause<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut error = Some(error);
    while let Some(here) = error {
        if let Some(found) = here.downcast_ref() {
            return Some(found);
        }
        error = here.source();
    }
    None
}

fn number(port: &Port) -> u16 {
    port.local_endpoint().value_of("udp").unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_port_is_called_by_its_peer_and_both_ends_are_proved() {
    let (there, here) = (identity(), identity());
    let (server, client) = (there.peer_id(), here.peer_id());
    let there = network(Tls::new().with_identity(there));
    let here = network(Tls::new().with_identity(here));
    let port = there.bind("/ip4/127.0.0.1/udp/0/quic-v1/port/echo").await.unwrap();
    let seen = Arc::new(Mutex::new(Vec::<Attempt>::new()));
    let sees = seen.clone();
    let listener = accept_fn(move |attempt| {
        sees.lock().unwrap().push(attempt);
        async { Ok(AnyHandler::new(handler_fn(|record| async move { Ok(record) }))) }
    });
    port.listen(listener).await.unwrap();
    let expected = format!("/ip4/127.0.0.1/udp/{}/quic-v1/p2p/{server}/port/echo", number(&port));
    assert_eq!(port.local_endpoint().as_str(), expected);

    let dialing = here.bind("/ip4/127.0.0.1/udp/0/quic-v1/port/caller").await.unwrap();
    let connection = timeout(SOON, dialing.connect(&*expected, ())).await.unwrap().unwrap();
    echo(&connection).await;
    assert_eq!(connection.peer(), Some(&Peer::Id(server)));
    let called = connection.local_endpoint().as_str();
    let prefix = format!("/ip4/127.0.0.1/udp/{}/quic-v1/p2p/{client}", number(&dialing));
    assert!(called.starts_with(&format!("{prefix}/port/caller/stream/")), "{called}");

    let accepted = &port.connections()[0];
    assert_eq!(accepted.peer(), Some(&Peer::Id(client)));
    assert_eq!(accepted.remote_endpoint(), connection.local_endpoint());
    let attempt = seen.lock().unwrap().remove(0);
    assert_eq!(attempt.peer, Some(Peer::Id(client)));
    assert_eq!(attempt.source, Some((Ipv4Addr::LOCALHOST, number(&dialing)).into()));
    assert_eq!(attempt.local, *port.local_endpoint());

    // Bound by its own name, it is the same; by another's it is refused.
    there.bind(format!("/ip4/127.0.0.1/udp/0/quic-v1/p2p/{server}")).await.unwrap();
    let other = there.bind(format!("/ip4/127.0.0.1/udp/0/quic-v1/p2p/{client}")).await;
    let other = other.unwrap_err();
    let told = cause::<TlsError>(&other).unwrap().to_string();
    assert!(told.contains(&client.to_string()) && told.contains(&server.to_string()), "{told}");
}

#[tokio::test]
async fn another_peer_at_the_right_address_is_not_trusted() {
    let port = serve(&peers(), ANY).await;
    let (found, wanted) = (port.local_endpoint().value_of("p2p").unwrap(), identity().peer_id());
    let here = peers();
    let address = format!("/ip4/127.0.0.1/udp/{}/quic-v1/p2p/{wanted}", number(&port));
    // From one socket, which keeps what it has dialed.
    let dialing = here.bind(ANY).await.unwrap();
    for _ in 0..2 {
        let error = timeout(SOON, dialing.connect(&*address, ())).await.unwrap().unwrap_err();
        let ConnectError::Untrusted { source, .. } = &error else { panic!("{error:?}") };
        // QUIC keeps the text of the reason.
        let told = source.to_string();
        assert!(told.contains(found) && told.contains(&wanted.to_string()), "{told}");
        assert_eq!(port.connections(), []);
        // Nor after the right one was dialed, whose session could be shared or resumed.
        let right = dialing.connect(port.local_endpoint(), ());
        echo(&timeout(SOON, right).await.unwrap().unwrap()).await;
        port.connections()[0].close().await;
    }
}

#[tokio::test]
async fn what_cannot_be_is_told_before_anything_is_sent() {
    let with = peers();
    let bare = network(Tls::new());
    let peer = identity().peer_id();
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    silent.set_nonblocking(true).unwrap();
    let to = format!("/ip4/127.0.0.1/udp/{}/quic-v1", silent.local_addr().unwrap().port());

    // Nobody to verify whoever answers by.
    let error = connect(&with, &to).await.unwrap_err();
    let ConnectError::Backend { source, .. } = &error else { panic!("{error:?}") };
    assert!(matches!(TlsError::of(&**source), Some(TlsError::NobodyToVerify { .. })), "{source:?}");
    for way in ["/p2p/PEER", "/dns/HOST", "Tls::with_client_config"] {
        assert!(source.to_string().contains(way), "{source}");
    }
    // Nothing to prove oneself by.
    let error = connect(&bare, &format!("{to}/p2p/{peer}")).await.unwrap_err();
    assert!(matches!(cause(&error), Some(TlsError::NoIdentity)), "{error:?}");
    // Nowhere to dial.
    for (to, what) in [
        (format!("/ip4/127.0.0.1/udp/0/quic-v1/p2p/{peer}"), "no UDP port"),
        (format!("/ip6/::1/udp/9/quic-v1/p2p/{peer}"), "other family"),
        (format!("{to}/p2p/{peer}/p2p-circuit"), "does not speak"),
        (format!("{to}/p2p/nobody"), "no peer id"),
    ] {
        let error = connect(&with, &to).await.unwrap_err();
        let told = cause::<AddressError>(&error);
        assert!(told.is_some_and(|told| told.to_string().contains(what)), "{error:?}");
    }
    assert!(silent.recv(&mut [0; 2_000]).is_err(), "something was sent");

    let bind = async |network: &Network, at: &str| network.bind(at).await.unwrap_err();
    let error = bind(&bare, &format!("{ANY}/p2p/{peer}")).await;
    assert!(matches!(cause(&error), Some(TlsError::NoIdentity)), "{error:?}");
    let error = bind(&with, &format!("{ANY}/p2p/nobody")).await;
    assert!(matches!(cause(&error), Some(AddressError::NoPeer { .. })), "{error:?}");
    let error = bind(&with, "/dns/localhost/udp/0/quic-v1").await;
    assert!(matches!(cause(&error), Some(AddressError::NameToBind(_))), "{error:?}");
    // One socket is known in one way.
    let own = identity();
    let peer = own.peer_id();
    let certificate = Authority::new().signed("localhost", 2100);
    let both = network(Tls::new().with_identity(own).with_certificate(certificate));
    let port = serve(&both, "/ip4/127.0.0.1/udp/0/quic-v1/port/one").await;
    let socket = format!("/ip4/127.0.0.1/udp/{}/quic-v1", number(&port));
    let error = bind(&both, &format!("{socket}/p2p/{peer}/port/two")).await;
    assert!(matches!(cause(&error), Some(AddressError::OtherTrust(_))), "{error:?}");
    let two = both.bind(format!("{socket}/port/two")).await.unwrap();
    assert_eq!(number(&two), number(&port));
}

/// An authority, and certificates that it signs.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }

    fn signed(&self, name: &str, until: i32) -> Certificate {
        let (chain, key) = self.pem(name, until);
        Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap()
    }

    fn pem(&self, name: &str, until: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = params(name, until).signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

fn params(name: &str, until: i32) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    params
}

fn self_signed(name: &str) -> Certificate {
    let key = KeyPair::generate().unwrap();
    let certificate = params(name, 2100).self_signed(&key).unwrap().pem();
    Certificate::from_pem(certificate.as_bytes(), key.serialize_pem().as_bytes()).unwrap()
}

#[tokio::test]
async fn a_host_is_trusted_by_its_name() {
    let authority = Authority::new();
    let there = network(Tls::new().with_certificate(authority.signed("localhost", 2100)));
    let port = serve(&there, "/ip4/127.0.0.1/udp/0/quic-v1/port/echo").await;
    let expected = format!("/ip4/127.0.0.1/udp/{}/quic-v1/port/echo", number(&port));
    assert_eq!(port.local_endpoint().as_str(), expected);
    let address = format!("/dns4/localhost/udp/{}/quic-v1/port/echo", number(&port));

    let here = network(Tls::new().with_roots(authority.roots()));
    let connection = connect(&here, &address).await.unwrap();
    echo(&connection).await;
    assert_eq!(connection.peer(), Some(&Peer::Name("localhost".into())));
    assert_eq!(port.connections()[0].peer(), None, "it showed nothing");

    // One that shows who it is, though nobody asked.
    let known = identity();
    let peer = known.peer_id();
    let tls = Tls::new().with_roots(authority.roots()).with_identity(known).presenting_identity();
    let presenting = network(tls);
    let connection = connect(&presenting, &address).await.unwrap();
    echo(&connection).await;
    let peers: Vec<_> = port.connections().iter().map(|end| end.peer().cloned()).collect();
    assert_eq!(peers, [None, Some(Peer::Id(peer))]);

    // Who proves nothing can be kept out.
    let policy = AcceptPolicy::new().with_unauthenticated(Unauthenticated::Reject);
    port.set_accept_policy(Some(policy));
    let error = connect(&here, &address).await.unwrap_err();
    assert_eq!(rejection(error), Rejection::Unproven);
    echo(&connect(&presenting, &address).await.unwrap()).await;
}

fn rejection(error: ConnectError) -> Rejection {
    let ConnectError::Rejected { reason, .. } = error else { panic!("{error:?}") };
    reason
}

#[tokio::test]
async fn a_host_without_a_good_certificate_is_not_trusted() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    for (what, certificate) in [
        ("of nobody that is trusted", stranger.signed("localhost", 2100)),
        ("signed by itself", self_signed("localhost")),
        ("expired", authority.signed("localhost", 2021)),
        ("for another name", authority.signed("example.org", 2100)),
    ] {
        let there = network(Tls::new().with_certificate(certificate));
        let port = serve(&there, ANY).await;
        let here = network(Tls::new().with_roots(authority.roots()));
        let address = format!("/dns4/localhost/udp/{}/quic-v1", number(&port));
        let error = connect(&here, &address).await.unwrap_err();
        assert!(matches!(error, ConnectError::Untrusted { .. }), "{what}: {error:?}");
        assert_eq!(port.connections(), [], "{what}");
    }
    // A peer's certificate is signed by nobody.
    let port = serve(&peers(), ANY).await;
    let known = Tls::new().with_roots(authority.roots()).with_identity(identity());
    let address = format!("/dns4/localhost/udp/{}/quic-v1", number(&port));
    let error = connect(&network(known), &address).await.unwrap_err();
    assert!(matches!(error, ConnectError::Untrusted { .. }), "{error:?}");
}

#[tokio::test]
async fn a_certificate_is_renewed_under_open_connections() {
    let (old, new) = (Authority::new(), Authority::new());
    let certificate = old.signed("localhost", 2100);
    let there = network(Tls::new().with_certificate(certificate.clone()));
    let port = serve(&there, ANY).await;
    let address = format!("/dns4/localhost/udp/{}/quic-v1", number(&port));
    let trusts = |authority: &Authority| network(Tls::new().with_roots(authority.roots()));
    let before = trusts(&old).bind(ANY).await.unwrap();
    let kept = timeout(SOON, before.connect(&*address, ())).await.unwrap().unwrap();
    let (chain, key) = new.pem("localhost", 2100);
    certificate.replace_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    echo(&connect(&trusts(&new), &address).await.unwrap()).await;
    let error = connect(&trusts(&old), &address).await.unwrap_err();
    assert!(matches!(error, ConnectError::Untrusted { .. }), "{error:?}");
    echo(&kept).await;
    // The session was proved when it began.
    echo(&timeout(SOON, before.connect(&*address, ())).await.unwrap().unwrap()).await;
}

#[tokio::test]
async fn a_programs_own_configuration_is_taken_where_no_peer_is_named() {
    let authority = Authority::new();
    let there = network(Tls::new().with_certificate(authority.signed("127.0.0.1", 2100)));
    let port = serve(&there, ANY).await;
    let own = Tls::new().with_roots(authority.roots()).client_for_name().unwrap();
    let here = network(Tls::new().with_client_config(own));
    let connection = connect(&here, port.local_endpoint().as_str()).await.unwrap();
    echo(&connection).await;
    assert_eq!(connection.peer(), None, "only the configuration knows");

    let certified = Tls::new().with_certificate(authority.signed("localhost", 2100));
    let own = certified.server_for_name().unwrap();
    let port = serve(&network(Tls::new().with_server_config(own)), ANY).await;
    let address = format!("/dns4/localhost/udp/{}/quic-v1", number(&port));
    let connection = connect(&here, &address).await.unwrap();
    echo(&connection).await;
    assert_eq!(connection.peer(), None, "it need not have looked at the name");
    // What is shown to a configuration of one's own need not have been asked for.
    let known = Tls::new().with_roots(authority.roots()).with_identity(identity());
    echo(&connect(&network(known.presenting_identity()), &address).await.unwrap()).await;
    assert!(port.connections().iter().all(|end| end.peer().is_none()));
}

#[tokio::test]
async fn who_has_nothing_to_show_can_dial_by_name_but_not_listen() {
    let authority = Authority::new();
    let there = network(Tls::new().with_certificate(authority.signed("localhost", 2100)));
    let port = serve(&there, ANY).await;
    let here = network(Tls::new().with_roots(authority.roots()));
    let dialing = here.bind(ANY).await.unwrap();
    let error = dialing.listen(accept_all(())).await.unwrap_err();
    assert!(matches!(error, ListenError::Backend { .. }), "{error:?}");
    assert!(matches!(cause(&error), Some(TlsError::NoCertificate)), "{error:?}");
    let address = format!("/dns4/localhost/udp/{}/quic-v1", number(&port));
    echo(&timeout(SOON, dialing.connect(&*address, ())).await.unwrap().unwrap()).await;
}

#[tokio::test]
async fn a_policy_says_who_comes_in_also_over_a_session_that_is_open() {
    let policy = AcceptPolicy::new();
    let there = Network::builder().accept_policy(policy.clone());
    let there = there.protocol(Quic::new(Tls::new().with_identity(identity()))).build().unwrap();
    let port = serve(&there, ANY).await;
    let (one, other) = (identity(), identity());
    let (first, second) = (one.peer_id(), other.peer_id());
    let dialing =
        |identity| async { network(Tls::new().with_identity(identity)).bind(ANY).await.unwrap() };
    let (one, other) = (dialing(one).await, dialing(other).await);
    let ask = async |port_of: &Port| -> Result<Connection, Rejection> {
        let connecting = port_of.connect(port.local_endpoint(), ());
        timeout(SOON, connecting).await.unwrap().map_err(rejection)
    };
    let kept = ask(&one).await.unwrap();
    policy.deny(first);
    assert_eq!(ask(&one).await.unwrap_err(), Rejection::NotAllowed);
    echo(&kept).await;
    policy.allow_only([first]);
    assert_eq!(ask(&one).await.unwrap_err(), Rejection::NotAllowed, "still denied");
    assert_eq!(ask(&other).await.unwrap_err(), Rejection::NotAllowed);
    policy.allow(first);
    echo(&ask(&one).await.unwrap()).await;
    assert_eq!(ask(&other).await.unwrap_err(), Rejection::NotAllowed);
    policy.allow(second);
    echo(&ask(&other).await.unwrap()).await;
    echo(&kept).await;
    // The port's own instead.
    let own = AcceptPolicy::new();
    own.deny(second);
    port.set_accept_policy(Some(own));
    assert_eq!(ask(&other).await.unwrap_err(), Rejection::NotAllowed);
    echo(&ask(&one).await.unwrap()).await;
}

#[tokio::test]
async fn a_dialer_cannot_claim_to_be_somebody_by_the_name_of_its_port() {
    let port = serve(&peers(), ANY).await;
    let peer = port.local_endpoint().value_of("p2p").unwrap().parse().unwrap();
    let config = Tls::new().with_identity(identity()).client_for_peer(&peer).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()));
    let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let to = (Ipv4Addr::LOCALHOST, number(&port)).into();
    let connecting = endpoint.connect_with(config, to, "127.0.0.1").unwrap();
    let session = timeout(SOON, connecting).await.unwrap().unwrap();
    let victim = identity().peer_id();
    for (to, from) in [
        (String::new(), format!("/p2p/{victim}")),
        (String::new(), format!("/p2p/{victim}/port/x")),
        (String::new(), format!("/quic-v1/p2p/{victim}/port/x")),
        (format!("/p2p/{victim}"), String::new()),
        (String::new(), "/stream/0-0".to_owned()),
    ] {
        let (mut send, mut recv) = session.open_bi().await.unwrap();
        let hello = Hello { to, from, takes: Welcome::of(&Default::default()) };
        send.write_all(&[&[0], &hello.encode()[..]].concat()).await.unwrap();
        let mut answer = BytesMut::new();
        let reply = loop {
            if let Some(reply) = decode_reply(&mut answer).unwrap() {
                break reply;
            }
            timeout(SOON, recv.read_buf(&mut answer)).await.unwrap().unwrap();
        };
        let Reply::Reject(Rejection::BadOpening(told)) = reply else { panic!("{reply:?}") };
        assert!(told.text().contains("names no port"), "{told}");
    }
    assert_eq!(port.connections(), []);
}
