//! TLS: who is trusted, who is not, and what each is told.

#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::{error::Error, net::Ipv4Addr, sync::Arc, time::Duration};

use network_core::{
    AcceptPolicy, ConnectError, Connection, Network, Peer, Port, Rejection, Unauthenticated,
    accept_all, handler_fn,
};
use network_tcp::{AddressError, Tcp};
use network_tls::{Certificate, Identity, Tls, TlsError};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tokio::time::timeout;
use tokio_rustls::rustls::RootCertStore;

const SOON: Duration = Duration::from_secs(10);

fn identity() -> Identity {
    Identity::generate().unwrap()
}

fn network(tls: Tls) -> Network {
    Network::builder().protocol(Tcp::new().with_tls(tls)).build().unwrap()
}

/// A port that echoes.
async fn serve(network: &Network, at: &str) -> Port {
    let port = network.bind(at).await.unwrap();
    port.listen(accept_all(handler_fn(|record| async move { Ok(record) }))).await.unwrap();
    port
}

async fn connect(network: &Network, to: &str) -> Result<Connection, ConnectError> {
    let port = network.bind("/ip4/127.0.0.1/tcp/").await.unwrap();
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
    port.local_endpoint().value_of("tcp").unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_port_is_called_by_its_peer_and_both_ends_are_proved() {
    let (there, here) = (identity(), identity());
    let (server, client) = (there.peer_id(), here.peer_id());
    let there = network(Tls::new().with_identity(there));
    let here = network(Tls::new().with_identity(here));
    let port = serve(&there, "/ip4/127.0.0.1/tcp/0/tls/port/echo").await;
    let expected = format!("/ip4/127.0.0.1/tcp/{}/tls/p2p/{server}/port/echo", number(&port));
    assert_eq!(port.local_endpoint().as_str(), expected);
    let connection = connect(&here, &expected).await.unwrap();
    echo(&connection).await;
    assert_eq!(connection.peer(), Some(&Peer::Id(server)));
    assert!(connection.local_endpoint().as_str().contains(&format!("/tls/p2p/{client}")));
    let accepted = &port.connections()[0];
    assert_eq!(accepted.peer(), Some(&Peer::Id(client)));
    assert!(accepted.remote_endpoint().as_str().contains(&format!("/tls/p2p/{client}")));
    // Bound by its own name, it is the same; by another's it is refused.
    there.bind(format!("/ip4/127.0.0.1/tcp/0/tls/p2p/{server}")).await.unwrap();
    let other = there.bind(format!("/ip4/127.0.0.1/tcp/0/tls/p2p/{client}")).await.unwrap_err();
    let told = cause::<TlsError>(&other).unwrap().to_string();
    assert!(told.contains(&client.to_string()) && told.contains(&server.to_string()), "{told}");
}

#[tokio::test]
async fn another_peer_at_the_right_address_is_not_trusted() {
    let there = network(Tls::new().with_identity(identity()));
    let port = serve(&there, "/ip4/127.0.0.1/tcp/0/tls").await;
    let (found, wanted) = (port.local_endpoint().value_of("p2p").unwrap(), identity().peer_id());
    let here = network(Tls::new().with_identity(identity()));
    let address = format!("/ip4/127.0.0.1/tcp/{}/tls/p2p/{wanted}", number(&port));
    for _ in 0..2 {
        let error = connect(&here, &address).await.unwrap_err();
        let ConnectError::Untrusted { source, .. } = &error else { panic!("{error:?}") };
        let Some(TlsError::WrongPeer { expected, found: other }) = TlsError::of(&**source) else {
            panic!("{source:?}")
        };
        assert_eq!((*expected, other.to_string().as_str()), (wanted, found));
        assert_eq!(port.connections(), []);
        // Nor after the right one was dialed, whose connection could be resumed.
        echo(&connect(&here, port.local_endpoint().as_str()).await.unwrap()).await;
        port.connections()[0].close().await;
    }
}

#[tokio::test]
async fn plain_and_tls_do_not_understand_each_other_and_say_so() {
    let tls = network(Tls::new().with_identity(identity()));
    let plain = Network::builder().protocol(Tcp::new()).build().unwrap();
    let (secured, open) = (
        serve(&tls, "/ip4/127.0.0.1/tcp/0/tls").await,
        serve(&plain, "/ip4/127.0.0.1/tcp/0").await,
    );
    let error = connect(&plain, &format!("/ip4/127.0.0.1/tcp/{}", number(&secured))).await;
    let error = error.unwrap_err();
    assert!(matches!(error, ConnectError::Incompatible { .. }), "{error:?}");
    let peer = identity().peer_id();
    let dialed = format!("/ip4/127.0.0.1/tcp/{}/tls/p2p/{peer}", number(&open));
    let error = connect(&tls, &dialed).await.unwrap_err();
    assert!(matches!(error, ConnectError::Incompatible { .. }), "{error:?}");
    assert!(error.to_string().contains("TLS"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_is_told_before_anything_is_sent() {
    let with = network(Tls::new().with_identity(identity()));
    let without = Network::builder().protocol(Tcp::new()).build().unwrap();
    let bare = network(Tls::new());
    let peer = identity().peer_id();

    let bind = |network: &Network, at: String| {
        let network = network.clone();
        async move { network.bind(at).await.unwrap_err() }
    };
    let error = bind(&without, "/ip4/127.0.0.1/tcp/0/tls".to_owned()).await;
    assert!(matches!(cause(&error), Some(AddressError::NoTls(_))), "{error:?}");
    let error = bind(&bare, format!("/ip4/127.0.0.1/tcp/0/tls/p2p/{peer}")).await;
    assert!(matches!(cause(&error), Some(TlsError::NoIdentity)), "{error:?}");
    let error = bind(&bare, "/ip4/127.0.0.1/tcp/0/tls".to_owned()).await;
    assert!(matches!(cause(&error), Some(TlsError::NoCertificate)), "{error:?}");
    let error = bind(&with, "/ip4/127.0.0.1/tcp/0/tls/p2p/nobody".to_owned()).await;
    assert!(error.to_string().contains("127.0.0.1"), "{error:?}");
    let error = bind(&with, "/dns/localhost/tcp/0/tls".to_owned()).await;
    assert!(matches!(cause(&error), Some(AddressError::NameToBind(_))), "{error:?}");

    // One socket is secured in one way.
    let port = serve(&with, "/ip4/127.0.0.1/tcp/0/tls/port/one").await;
    let error = bind(&with, format!("/ip4/127.0.0.1/tcp/{}/port/two", number(&port))).await;
    assert!(matches!(cause(&error), Some(AddressError::OtherSecurity(_))), "{error:?}");
    let two = format!("/ip4/127.0.0.1/tcp/{}/tls/port/two", number(&port));
    let two = with.bind(two).await.unwrap();
    assert_eq!(number(&two), number(&port));

    let error = connect(&with, "/ip4/127.0.0.1/tcp/9/tls").await.unwrap_err();
    let ConnectError::Backend { source, .. } = &error else { panic!("{error:?}") };
    let told = source.to_string();
    for way in ["/p2p/PEER", "/dns/HOST", "Tls::with_client_config"] {
        assert!(told.contains(way), "{told}");
    }
    let error = connect(&without, &format!("/ip4/127.0.0.1/tcp/9/tls/p2p/{peer}")).await;
    assert!(matches!(cause(&error.unwrap_err()), Some(AddressError::NoTls(_))));
    let error = connect(&bare, &format!("/ip4/127.0.0.1/tcp/9/tls/p2p/{peer}")).await;
    assert!(matches!(cause(&error.unwrap_err()), Some(TlsError::NoIdentity)));
}

#[tokio::test]
async fn a_dialer_cannot_claim_to_be_somebody_by_the_name_of_its_port() {
    use network_core::wire::{Hello, Reply, Welcome, decode_reply};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let there = Network::builder().protocol(Tcp::new()).build().unwrap();
    let port = serve(&there, "/ip4/127.0.0.1/tcp/0").await;
    let victim = identity().peer_id();
    for (to, from) in [
        (String::new(), format!("/tls/p2p/{victim}")),
        (String::new(), format!("/tls/p2p/{victim}/port/x")),
        (format!("/tls/p2p/{victim}"), String::new()),
    ] {
        let address = (Ipv4Addr::LOCALHOST, number(&port));
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let hello = Hello { to, from, takes: Welcome::of(&Default::default()) };
        stream.write_all(&hello.encode()).await.unwrap();
        let mut answer = bytes::BytesMut::new();
        let reply = loop {
            if let Some(reply) = decode_reply(&mut answer).unwrap() {
                break reply;
            }
            timeout(SOON, stream.read_buf(&mut answer)).await.unwrap().unwrap();
        };
        let Reply::Reject(Rejection::BadOpening(told)) = reply else { panic!("{reply:?}") };
        assert!(told.text().contains("names no port"), "{told}");
    }
    assert_eq!(port.connections(), []);
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
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

#[tokio::test]
async fn a_host_is_trusted_by_its_name() {
    let authority = Authority::new();
    let there = network(Tls::new().with_certificate(authority.signed("localhost", 2100)));
    let port = serve(&there, "/ip4/127.0.0.1/tcp/0/tls/port/echo").await;
    let expected = format!("/ip4/127.0.0.1/tcp/{}/tls/port/echo", number(&port));
    assert_eq!(port.local_endpoint().as_str(), expected);
    let address = format!("/dns4/localhost/tcp/{}/tls/port/echo", number(&port));

    let here = network(Tls::new().with_roots(authority.roots()));
    let connection = connect(&here, &address).await.unwrap();
    echo(&connection).await;
    assert_eq!(connection.peer(), Some(&Peer::Name("localhost".into())));
    assert_eq!(port.connections()[0].peer(), None, "it showed nothing");

    // One that shows who it is, though nobody asked.
    let known = identity();
    let peer = known.peer_id();
    let tls = Tls::new().with_roots(authority.roots()).with_identity(known).presenting_identity();
    let connection = connect(&network(tls), &address).await.unwrap();
    echo(&connection).await;
    let peers: Vec<_> = port.connections().iter().map(|end| end.peer().cloned()).collect();
    assert_eq!(peers, [None, Some(Peer::Id(peer))]);

    // Who proves nothing can be kept out.
    let policy = AcceptPolicy::new().with_unauthenticated(Unauthenticated::Reject);
    port.set_accept_policy(Some(policy));
    let error = connect(&here, &address).await.unwrap_err();
    let ConnectError::Rejected { reason, .. } = error else { panic!("{error:?}") };
    assert_eq!(reason, Rejection::Unproven);
}

#[tokio::test]
async fn a_host_without_a_good_certificate_is_not_trusted() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    for (what, certificate) in [
        ("of nobody that is trusted", stranger.signed("localhost", 2100)),
        ("expired", authority.signed("localhost", 2021)),
        ("for another name", authority.signed("example.org", 2100)),
    ] {
        let there = network(Tls::new().with_certificate(certificate));
        let port = serve(&there, "/ip4/127.0.0.1/tcp/0/tls").await;
        let here = network(Tls::new().with_roots(authority.roots()));
        let address = format!("/dns4/localhost/tcp/{}/tls", number(&port));
        let error = connect(&here, &address).await.unwrap_err();
        assert!(matches!(error, ConnectError::Untrusted { .. }), "{what}: {error:?}");
        assert_eq!(port.connections(), [], "{what}");
    }
    // A peer's certificate is signed by nobody.
    let there = network(Tls::new().with_identity(identity()));
    let port = serve(&there, "/ip4/127.0.0.1/tcp/0/tls").await;
    let known = Tls::new().with_roots(authority.roots()).with_identity(identity());
    let address = format!("/dns4/localhost/tcp/{}/tls", number(&port));
    let error = connect(&network(known), &address).await.unwrap_err();
    assert!(matches!(error, ConnectError::Untrusted { .. }), "{error:?}");
}

#[tokio::test]
async fn a_certificate_is_renewed_under_open_connections() {
    let (old, new) = (Authority::new(), Authority::new());
    let certificate = old.signed("localhost", 2100);
    let there = network(Tls::new().with_certificate(certificate.clone()));
    let port = serve(&there, "/ip4/127.0.0.1/tcp/0/tls").await;
    let address = format!("/dns4/localhost/tcp/{}/tls", number(&port));
    let trusts = |authority: &Authority| network(Tls::new().with_roots(authority.roots()));
    let kept = connect(&trusts(&old), &address).await.unwrap();
    let (chain, key) = new.pem("localhost", 2100);
    certificate.replace_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    echo(&connect(&trusts(&new), &address).await.unwrap()).await;
    assert!(connect(&trusts(&old), &address).await.is_err());
    echo(&kept).await;
}

#[tokio::test]
async fn a_programs_own_configuration_is_taken_where_no_peer_is_named() {
    let authority = Authority::new();
    let there = network(Tls::new().with_certificate(authority.signed("127.0.0.1", 2100)));
    let port = serve(&there, "/ip4/127.0.0.1/tcp/0/tls").await;
    let own = Tls::new().with_roots(authority.roots()).client_for_name().unwrap();
    let here = network(Tls::new().with_client_config(own));
    let connection = connect(&here, port.local_endpoint().as_str()).await.unwrap();
    echo(&connection).await;
    assert_eq!(connection.peer(), None, "only the configuration knows");

    let there = network(Tls::new().with_certificate(authority.signed("localhost", 2100)));
    let port = serve(&there, "/ip4/127.0.0.1/tcp/0/tls").await;
    let address = format!("/dns4/localhost/tcp/{}/tls", number(&port));
    let connection = connect(&here, &address).await.unwrap();
    assert_eq!(connection.peer(), None, "it need not have looked at the name");
}

#[tokio::test]
async fn many_records_of_all_sizes_are_whole_over_tls() {
    let there = network(Tls::new().with_identity(identity()));
    let port = serve(&there, "/ip4/127.0.0.1/tcp/0/tls").await;
    let here = network(Tls::new().with_identity(identity()));
    let connection = Arc::new(connect(&here, port.local_endpoint().as_str()).await.unwrap());
    let mut tasks = tokio::task::JoinSet::new();
    for at in 0..200_usize {
        let connection = connection.clone();
        tasks.spawn(async move {
            let len = [0, 1, 16_383, 16_384, 16_385, 60_000][at % 6];
            let record = bytes::Bytes::from(vec![at as u8; len]);
            let ack = timeout(SOON, connection.send(record.clone())).await.unwrap();
            assert_eq!(ack.unwrap(), record);
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
}
