//! Raw access to a transport, for peers that do not keep to the protocol.

use std::{fmt, io};

use async_trait::async_trait;
use network_core::Endpoint;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// A stream below the common frames.
pub trait RawStream: AsyncRead + AsyncWrite + fmt::Debug + Send + Sync + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + fmt::Debug + Send + Sync + Unpin + 'static> RawStream for S {}

/// Raw access to the transport of a backend that carries the frames of
/// [`network_core::wire`] over byte streams.
#[async_trait]
pub trait Wire: fmt::Debug + Send + Sync + 'static {
    /// Connects to where a port listens, as a dialer does, and says nothing.
    async fn dial(&self, listening: &Endpoint) -> io::Result<Box<dyn RawStream>>;

    /// The part of a listening endpoint that the transport does not use: what a dialer says
    /// in its opening, `/port/orders` or nothing.
    fn path(&self, listening: &Endpoint) -> String;

    /// Listens on the transport without any protocol.
    async fn impostor(&self) -> io::Result<Impostor>;
}

/// Somebody who listens and does not speak the protocol.
#[derive(Debug)]
pub struct Impostor {
    /// What a victim dials.
    pub endpoint: Endpoint,
    /// Who came.
    pub victims: mpsc::Receiver<Box<dyn RawStream>>,
}

/// Plain TCP sockets, at endpoints such as `/ip4/127.0.0.1/tcp/9000/port/orders`.
#[derive(Clone, Copy, Debug)]
pub struct TcpWire;

impl TcpWire {
    /// Where the transport part ends.
    fn split(endpoint: &Endpoint) -> (&str, &str) {
        let text = endpoint.as_str();
        let end = text.match_indices('/').nth(4).map_or(text.len(), |(at, _)| at);
        text.split_at(end)
    }
}

#[async_trait]
impl Wire for TcpWire {
    async fn dial(&self, listening: &Endpoint) -> io::Result<Box<dyn RawStream>> {
        let part = |protocol| listening.value_of(protocol);
        let host = part("ip4").or_else(|| part("ip6")).ok_or(io::ErrorKind::InvalidInput)?;
        let port = part("tcp").and_then(|port| port.parse().ok());
        let stream = TcpStream::connect((host, port.ok_or(io::ErrorKind::InvalidInput)?)).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }

    fn path(&self, listening: &Endpoint) -> String {
        Self::split(listening).1.to_owned()
    }

    async fn impostor(&self) -> io::Result<Impostor> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let endpoint = Endpoint::parse(&format!("/ip4/127.0.0.1/tcp/{port}/port/impostor"))
            .map_err(io::Error::other)?;
        let (come, victims) = mpsc::channel::<Box<dyn RawStream>>(16);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if come.send(Box::new(stream)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Impostor { endpoint, victims })
    }
}
