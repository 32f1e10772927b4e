//! Handshakes with the TLS of rust-libp2p, over TCP on this machine.

#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::{net::Ipv4Addr, time::Duration};

use futures::{AsyncRead, AsyncWrite, StreamExt as _, future};
use libp2p_core::{
    Endpoint, Multiaddr, Transport as _,
    muxing::StreamMuxerBox,
    transport::{Boxed, DialOpts, ListenerId, PortUse, TransportEvent},
    upgrade::{InboundConnectionUpgrade as _, OutboundConnectionUpgrade as _, Version},
};
use libp2p_identity::Keypair;
use multistream_select::{dialer_select_proto, listener_select_proto};
use network_core::PeerId;
use network_tls::{Identity, Tls, TlsError, peer_of};
use rustls::pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _, TokioAsyncReadCompatExt as _};

/// One of ours.
struct Ours {
    tls: Tls,
    peer: PeerId,
}

impl Ours {
    fn new() -> Self {
        let identity = Identity::generate().unwrap();
        let peer = identity.peer_id();
        Self { tls: Tls::new().with_identity(identity), peer }
    }

    /// Dials by a name, which is not to be sent.
    async fn dial<S>(&self, peer: &PeerId, stream: S) -> std::io::Result<client::TlsStream<S>>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(self.tls.client_for_peer(peer).unwrap()).connect(name, stream).await
    }

    async fn accept<S>(&self, stream: S) -> std::io::Result<server::TlsStream<S>>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        TlsAcceptor::from(self.tls.server_for_peers().unwrap()).accept(stream).await
    }
}

fn theirs() -> (Keypair, PeerId) {
    let pair = Keypair::generate_ed25519();
    let peer = ours_of(pair.public().to_peer_id());
    (pair, peer)
}

fn ours_of(peer: libp2p_identity::PeerId) -> PeerId {
    PeerId::from_bytes(&peer.to_bytes()).unwrap()
}

async fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let dialing = TcpStream::connect(listener.local_addr().unwrap());
    let (near, far) = tokio::join!(dialing, listener.accept());
    (near.unwrap(), far.unwrap().0)
}

/// A test hangs for no longer than this.
async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), future).await.unwrap()
}

const UPGRADE: &str = "/tls/1.0.0";

#[tokio::test]
async fn we_dial_their_tls() {
    let (ours, (pair, peer)) = (Ours::new(), theirs());
    let (near, far) = tcp().await;
    let config = libp2p_tls::Config::new(&pair).unwrap();
    let (near, far) =
        soon(future::join(ours.dial(&peer, near), config.upgrade_inbound(far.compat(), UPGRADE)))
            .await;
    let (near, (seen, _)) = (near.unwrap(), far.unwrap());
    let end = near.get_ref().1;
    assert_eq!(peer_of(end.peer_certificates()), Some(peer));
    assert_eq!(end.alpn_protocol(), Some(&b"libp2p"[..]));
    assert_eq!(
        end.negotiated_key_exchange_group().unwrap().name(),
        rustls::NamedGroup::X25519MLKEM768
    );
    assert_eq!(ours_of(seen), ours.peer);
}

#[tokio::test]
async fn they_dial_ours_with_their_tls() {
    let (ours, (pair, peer)) = (Ours::new(), theirs());
    let (near, far) = tcp().await;
    let config = libp2p_tls::Config::new(&pair).unwrap();
    let (near, far) =
        soon(future::join(config.upgrade_outbound(near.compat(), UPGRADE), ours.accept(far))).await;
    let ((seen, _), far) = (near.unwrap(), far.unwrap());
    assert_eq!(peer_of(far.get_ref().1.peer_certificates()), Some(peer));
    assert_eq!(far.get_ref().1.alpn_protocol(), Some(&b"libp2p"[..]));
    assert_eq!(ours_of(seen), ours.peer);
}

#[tokio::test]
async fn another_of_theirs_is_refused() {
    let (ours, (pair, peer), (_, other)) = (Ours::new(), theirs(), theirs());
    let (near, far) = tcp().await;
    let config = libp2p_tls::Config::new(&pair).unwrap();
    let (near, far) =
        soon(future::join(ours.dial(&other, near), config.upgrade_inbound(far.compat(), UPGRADE)))
            .await;
    let error = near.unwrap_err();
    let Some(TlsError::WrongPeer { expected, found }) = TlsError::of(&error) else {
        panic!("{error:?}")
    };
    assert_eq!((*expected, *found), (other, peer));
    assert!(far.is_err());
}

/// The transport of one of their nodes: TCP, TLS and streams.
fn node(pair: &Keypair) -> Boxed<(libp2p_identity::PeerId, StreamMuxerBox)> {
    libp2p_tcp::tokio::Transport::new(libp2p_tcp::Config::default())
        .upgrade(Version::V1)
        .authenticate(libp2p_tls::Config::new(pair).unwrap())
        .multiplex(libp2p_yamux::Config::default())
        .boxed()
}

const STREAMS: [&str; 1] = ["/yamux/1.0.0"];

/// Settles on TLS, as their nodes do over TCP.
async fn select_tls(
    stream: TcpStream,
    endpoint: Endpoint,
) -> Compat<multistream_select::Negotiated<Compat<TcpStream>>> {
    select(stream.compat(), endpoint, [UPGRADE]).await.compat()
}

async fn select<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    endpoint: Endpoint,
    protocols: [&'static str; 1],
) -> multistream_select::Negotiated<S> {
    let (name, stream) = match endpoint {
        Endpoint::Dialer => {
            dialer_select_proto(stream, protocols, multistream_select::Version::V1).await.unwrap()
        }
        Endpoint::Listener => listener_select_proto(stream, protocols).await.unwrap(),
    };
    assert_eq!(name, protocols[0]);
    stream
}

#[tokio::test]
async fn we_dial_a_node_of_theirs() {
    let (ours, (pair, peer)) = (Ours::new(), theirs());
    let mut node = node(&pair);
    let address: Multiaddr = "/ip4/127.0.0.1/tcp/0".parse().unwrap();
    node.listen_on(ListenerId::next(), address).unwrap();
    let event = soon(node.next()).await.unwrap();
    let port = port_of(&event.into_new_address().unwrap());
    let listening = async {
        loop {
            if let TransportEvent::Incoming { upgrade, .. } = node.select_next_some().await {
                // Its listener goes on meanwhile.
                let upgrade = tokio::spawn(upgrade);
                break upgrade.await.unwrap().unwrap();
            }
        }
    };
    let dialing = async {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let stream = select_tls(stream, Endpoint::Dialer).await;
        let stream = ours.dial(&peer, stream).await.unwrap();
        let found = peer_of(stream.get_ref().1.peer_certificates());
        (found, select(stream.compat(), Endpoint::Dialer, STREAMS).await)
    };
    let ((found, _near), (seen, _far)) = soon(future::join(dialing, listening)).await;
    assert_eq!(found, Some(peer));
    assert_eq!(ours_of(seen), ours.peer);
}

#[tokio::test]
async fn a_node_of_theirs_dials_us() {
    let (ours, (pair, peer)) = (Ours::new(), theirs());
    let mut node = node(&pair);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
    let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
    let dialing = node.dial(address, options).unwrap();
    let accepting = async {
        let stream = listener.accept().await.unwrap().0;
        let stream = select_tls(stream, Endpoint::Listener).await;
        let stream = ours.accept(stream).await.unwrap();
        let found = peer_of(stream.get_ref().1.peer_certificates());
        (found, select(stream.compat(), Endpoint::Listener, STREAMS).await)
    };
    let (dialed, (found, _far)) = soon(future::join(dialing, accepting)).await;
    assert_eq!(found, Some(peer));
    assert_eq!(ours_of(dialed.unwrap().0), ours.peer);
}

fn port_of(address: &Multiaddr) -> u16 {
    let text = address.to_string();
    text.rsplit('/').next().unwrap().parse().unwrap()
}
