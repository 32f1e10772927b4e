//! Handshakes with the QUIC of rust-libp2p.

#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _, future::poll_fn};
use libp2p_core::{
    Endpoint, Multiaddr, Transport as _,
    muxing::{StreamMuxerBox, StreamMuxerExt as _},
    transport::{Boxed, DialOpts, ListenerId, PortUse, TransportEvent},
};
use libp2p_identity::Keypair;
use network_core::{ConnectError, Network, PeerId, Port, Refusal, accept_all, accept_fn};
use network_quic::Quic;
use network_tls::{
    Identity, Tls, peer_of,
    rustls::{self, pki_types::CertificateDer},
};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);
const ANY: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

/// What their nodes say first on a stream.
const HELLO: &[u8] = b"\x13/multistream/1.0.0\n";

type Node = Boxed<(libp2p_identity::PeerId, StreamMuxerBox)>;

/// One of theirs.
fn node() -> (Node, PeerId) {
    let pair = Keypair::generate_ed25519();
    let peer = ours_of(pair.public().to_peer_id());
    let config = libp2p_quic::Config::new(&pair);
    let transport = libp2p_quic::tokio::Transport::new(config);
    (transport.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer))).boxed(), peer)
}

/// One of theirs that listens, at a UDP port of this machine.
async fn listening() -> (Node, PeerId, u16) {
    let (mut node, peer) = node();
    node.listen_on(ListenerId::next(), ANY.parse().unwrap()).unwrap();
    let address = soon(node.next()).await.unwrap().into_new_address().unwrap().to_string();
    let port = address.split('/').nth(4).unwrap().parse().unwrap();
    (node, peer, port)
}

fn ours_of(peer: libp2p_identity::PeerId) -> PeerId {
    PeerId::from_bytes(&peer.to_bytes()).unwrap()
}

/// One of ours.
fn tls() -> (Tls, PeerId) {
    let identity = Identity::generate().unwrap();
    let peer = identity.peer_id();
    (Tls::new().with_identity(identity), peer)
}

async fn bind(tls: Tls) -> Port {
    let network = Network::builder().protocol(Quic::new(tls)).build().unwrap();
    network.bind(ANY).await.unwrap()
}

/// A test hangs for no longer than this.
async fn soon<F: Future>(future: F) -> F::Output {
    timeout(SOON, future).await.unwrap()
}

/// Whom the handshake of a session of ours has proved.
fn proved(session: &quinn::Connection) -> Option<PeerId> {
    let shown = session.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    peer_of(Some(&shown))
}

fn protocol(session: &quinn::Connection) -> Option<Vec<u8>> {
    let data = session.handshake_data()?;
    data.downcast::<quinn::crypto::rustls::HandshakeData>().ok()?.protocol
}

/// The next that comes in at one of theirs.
async fn incoming(node: &mut Node) -> (PeerId, StreamMuxerBox) {
    loop {
        if let TransportEvent::Incoming { upgrade, .. } = node.select_next_some().await {
            // Its listener goes on meanwhile.
            let (peer, muxer) = tokio::spawn(upgrade).await.unwrap().unwrap();
            return (ours_of(peer), muxer);
        }
    }
}

async fn dial(node: &mut Node, to: String) -> Result<(PeerId, StreamMuxerBox), std::io::Error> {
    let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
    let dialing = node.dial(to.parse::<Multiaddr>().unwrap(), options).unwrap();
    let dialed = tokio::spawn(dialing);
    soon(dialed).await.unwrap().map(|(peer, muxer)| (ours_of(peer), muxer))
}

#[tokio::test]
async fn we_dial_a_node_of_theirs() {
    let ((tls, ours), (mut node, theirs, port)) = (tls(), listening().await);
    let config = QuicClientConfig::try_from(tls.client_for_peer(&theirs).unwrap()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(config));
    let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let to = (Ipv4Addr::LOCALHOST, port).into();
    let dialing = endpoint.connect_with(config, to, "127.0.0.1").unwrap();
    let (session, (seen, _muxer)) =
        soon(async { tokio::join!(dialing, incoming(&mut node)) }).await;
    let session = session.unwrap();
    assert_eq!(proved(&session), Some(theirs));
    assert_eq!(protocol(&session), Some(b"libp2p".to_vec()));
    assert_eq!(seen, ours);
}

#[tokio::test]
async fn a_node_of_theirs_dials_us() {
    let ((tls, ours), (mut node, theirs)) = (tls(), node());
    let config = QuicServerConfig::try_from(tls.server_for_peers().unwrap()).unwrap();
    let config = quinn::ServerConfig::with_crypto(Arc::new(config));
    let endpoint = quinn::Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let port = endpoint.local_addr().unwrap().port();
    let to = format!("/ip4/127.0.0.1/udp/{port}/quic-v1/p2p/{ours}");
    let accepting = async { endpoint.accept().await.unwrap().await.unwrap() };
    let (dialed, session) = soon(async { tokio::join!(dial(&mut node, to), accepting) }).await;
    assert_eq!(dialed.unwrap().0, ours);
    assert_eq!(proved(&session), Some(theirs));
    assert_eq!(protocol(&session), Some(b"libp2p".to_vec()));
}

#[tokio::test]
async fn a_node_of_theirs_knows_our_backend_and_opens_nothing_with_it() {
    let ((tls, ours), (mut node, _)) = (tls(), node());
    let port = bind(tls).await;
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = attempts.clone();
    let listener = accept_fn(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        async { Err(Refusal::new("nobody")) }
    });
    port.listen(listener).await.unwrap();
    let (seen, mut muxer) = dial(&mut node, port.local_endpoint().to_string()).await.unwrap();
    assert_eq!(seen, ours);
    // Their streams are for nothing that is known here.
    for _ in 0..3 {
        let said = soon(async {
            let mut stream = poll_fn(|cx| muxer.poll_outbound_unpin(cx)).await.unwrap();
            stream.write_all(HELLO).await.unwrap();
            stream.flush().await.unwrap();
            let mut answer = Vec::new();
            (stream.read_to_end(&mut answer).await, answer)
        });
        let (told, answer) = said.await;
        assert!(told.is_err(), "it was not reset: {answer:?}");
        assert!(answer.is_empty(), "{answer:?}");
    }
    assert_eq!(attempts.load(Ordering::Relaxed), 0);
    assert_eq!(port.connections(), []);
}

#[tokio::test]
async fn our_backend_trusts_a_node_of_theirs_and_finds_that_it_speaks_something_else() {
    let ((tls, ours), (mut node, theirs, number)) = (tls(), listening().await);
    let port = bind(tls).await;
    let to = format!("/ip4/127.0.0.1/udp/{number}/quic-v1/p2p/{theirs}/port/x");
    let theirs = async {
        let (seen, mut muxer) = incoming(&mut node).await;
        // As a node of theirs does: it says what it speaks.
        let mut first = poll_fn(|cx| muxer.poll_inbound_unpin(cx)).await.unwrap();
        first.write_all(HELLO).await.unwrap();
        first.flush().await.unwrap();
        // The second connection is over the same session.
        drop(poll_fn(|cx| muxer.poll_inbound_unpin(cx)).await.unwrap());
        (seen, first, muxer)
    };
    let dialing = async {
        let first = port.connect(&*to, ()).await.unwrap_err();
        (first, port.connect(&*to, ()).await.unwrap_err())
    };
    let ((first, second), (seen, ..)) = soon(async { tokio::join!(dialing, theirs) }).await;
    assert!(matches!(first, ConnectError::Incompatible { .. }), "{first:?}");
    assert!(
        matches!(second, ConnectError::Incompatible { .. } | ConnectError::Unreachable { .. }),
        "{second:?}"
    );
    assert_eq!(seen, ours, "the handshake was over");
}

#[tokio::test]
async fn our_backend_tells_another_node_of_theirs_from_who_was_dialed() {
    let ((tls, _), (mut node, theirs, number)) = (tls(), listening().await);
    let (_, other) = self::node();
    let port = bind(tls).await;
    let serving = tokio::spawn(async move {
        while let Some(event) = node.next().await {
            if let TransportEvent::Incoming { upgrade, .. } = event {
                tokio::spawn(upgrade);
            }
        }
    });
    let to = format!("/ip4/127.0.0.1/udp/{number}/quic-v1/p2p/{other}/port/x");
    let error = soon(port.connect(&*to, ())).await.unwrap_err();
    let ConnectError::Untrusted { source, .. } = &error else { panic!("{error:?}") };
    let told = source.to_string();
    assert!(told.contains(&theirs.to_string()) && told.contains(&other.to_string()), "{told}");
    serving.abort();
}

#[tokio::test]
async fn who_speaks_another_protocol_over_quic_is_incompatible() {
    // As far as a peer may be of theirs, but with a name of its own for what it speaks.
    let (tls, peer) = tls();
    let mut config = rustls::ServerConfig::clone(&tls.server_for_peers().unwrap());
    config.alpn_protocols = vec![b"h3".to_vec()];
    let config = QuicServerConfig::try_from(config).unwrap();
    let config = quinn::ServerConfig::with_crypto(Arc::new(config));
    let endpoint = quinn::Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let number = endpoint.local_addr().unwrap().port();
    let refusing = tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            assert!(incoming.await.is_err());
        }
    });
    let port = bind(self::tls().0).await;
    let to = format!("/ip4/127.0.0.1/udp/{number}/quic-v1/p2p/{peer}/port/x");
    let error = soon(port.connect(&*to, ())).await.unwrap_err();
    assert!(matches!(error, ConnectError::Incompatible { .. }), "{error:?}");
    // The other way round.
    let (tls, ours) = self::tls();
    let listening = bind(tls).await;
    listening.listen(accept_all(())).await.unwrap();
    let mut config = rustls::ClientConfig::clone(&self::tls().0.client_for_peer(&ours).unwrap());
    config.alpn_protocols = vec![b"h3".to_vec()];
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()));
    let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let to = listening.local_endpoint().value_of("udp").unwrap().parse::<u16>().unwrap();
    let to = (Ipv4Addr::LOCALHOST, to).into();
    let told = soon(endpoint.connect_with(config, to, "127.0.0.1").unwrap()).await.unwrap_err();
    let quinn::ConnectionError::ConnectionClosed(told) = told else { panic!("{told:?}") };
    assert_eq!(u64::from(told.error_code), 0x100 + 120, "{told:?}");
    refusing.abort();
}
