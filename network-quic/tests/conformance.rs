//! The QUIC backend against the conformance suite, with peer ids.

#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::{
    io,
    net::Ipv4Addr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use network_core::Endpoint;
use network_quic::Quic;
use network_testkit::{Impostor, RawStream, Simple, Wire};
use network_tls::{Identity, Tls};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    sync::mpsc,
};

network_testkit::conformance!(fixture());

/// All networks of a fixture have one identity: a name has it in it, and can be bound by
/// whoever has it.
fn fixture() -> Simple {
    let tls = tls();
    Simple::new("/ip4/127.0.0.1/udp/0/quic-v1/port/", move |network| {
        network.protocol(Quic::new(tls.clone()))
    })
    .with_handshake_time(Duration::from_secs(1))
    .with_wire(QuicWire)
}

/// With an identity of its own.
fn tls() -> Tls {
    Tls::new().with_identity(Identity::generate().unwrap())
}

/// Streams of QUIC, to and from peers that prove who they are and break what comes after that.
#[derive(Debug)]
struct QuicWire;

/// A stream that keeps its QUIC connection and its socket.
#[derive(Debug)]
struct Raw {
    send: quinn::SendStream,
    recv: quinn::RecvStream,
    _kept: (quinn::Connection, quinn::Endpoint),
}

impl AsyncRead for Raw {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.recv), cx, buf)
    }
}

impl AsyncWrite for Raw {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.send), cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.send), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.send), cx)
    }
}

#[async_trait]
impl Wire for QuicWire {
    async fn dial(&self, listening: &Endpoint) -> io::Result<Box<dyn RawStream>> {
        let port = listening.value_of("udp").unwrap().parse::<u16>().unwrap();
        let peer = listening.value_of("p2p").unwrap().parse().unwrap();
        let crypto = QuicClientConfig::try_from(tls().client_for_peer(&peer).unwrap()).unwrap();
        let config = quinn::ClientConfig::new(Arc::new(crypto));
        let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
        let to = (Ipv4Addr::LOCALHOST, port).into();
        let connection = endpoint.connect_with(config, to, "127.0.0.1").unwrap().await?;
        let (mut send, recv) = connection.open_bi().await?;
        // A connection with records in order.
        send.write_all(&[0]).await?;
        Ok(Box::new(Raw { send, recv, _kept: (connection, endpoint) }))
    }

    fn path(&self, listening: &Endpoint) -> String {
        let text = listening.as_str();
        text.find("/port/").map_or_else(String::new, |at| text[at..].to_owned())
    }

    async fn impostor(&self) -> io::Result<Impostor> {
        let tls = tls();
        let peer = tls.identity().unwrap().peer_id();
        let crypto = QuicServerConfig::try_from(tls.server_for_peers().unwrap()).unwrap();
        let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        let listener = quinn::Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into())?;
        let port = listener.local_addr()?.port();
        let endpoint = format!("/ip4/127.0.0.1/udp/{port}/quic-v1/p2p/{peer}/port/impostor");
        let endpoint = Endpoint::parse(&endpoint).map_err(io::Error::other)?;
        let (come, victims) = mpsc::channel::<Box<dyn RawStream>>(16);
        tokio::spawn(async move {
            while let Some(incoming) = listener.accept().await {
                let Ok(connection) = incoming.await else { continue };
                let (come, listener) = (come.clone(), listener.clone());
                tokio::spawn(async move {
                    while let Ok((send, mut recv)) = connection.accept_bi().await {
                        assert_eq!(recv.read_u8().await.unwrap(), 0);
                        let kept = (connection.clone(), listener.clone());
                        let raw = Raw { send, recv, _kept: kept };
                        if come.send(Box::new(raw)).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Ok(Impostor { endpoint, victims })
    }
}
