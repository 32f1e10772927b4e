//! The exchange over quinn, with the configuration that the subject has too: `quic-handler` over
//! one stream, and `quic-streams` with a stream for each record.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use network::tls::{Identity, Tls};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, ServerConfig, TokioRuntime,
    TransportConfig, VarInt,
};
use socket2::{Domain, Socket, Type};

use super::exchange::Exchange;
use super::server::{Ack, Handler, answer_through};
use crate::peer::{Client, Peer, Result};

/// As much as the subject lets be under way: the window of `ours::Ours`.
const WINDOW: u32 = 128 << 20;
/// And on one stream.
const STREAM_WINDOW: u32 = 8 << 20;

struct Quic {
    tls: Tls,
    endpoint: Endpoint,
}

impl Quic {
    fn new() -> Result<Self> {
        let tls = Tls::new().with_identity(Identity::generate()?);
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        socket.set_recv_buffer_size(4 << 20)?;
        socket.set_send_buffer_size(4 << 20)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        let runtime = Arc::new(TokioRuntime);
        let endpoint = Endpoint::new(EndpointConfig::default(), None, socket.into(), runtime)?;
        Ok(Self { tls, endpoint })
    }

    fn transport() -> Arc<TransportConfig> {
        let mut transport = TransportConfig::default();
        transport
            .max_concurrent_bidi_streams(4096_u32.into())
            .max_concurrent_uni_streams(0_u32.into())
            .datagram_receive_buffer_size(None)
            .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
            .receive_window(VarInt::from_u32(WINDOW))
            .send_window(WINDOW.into());
        Arc::new(transport)
    }

    fn serve(&self, answer: impl Fn(Connection) + Send + Sync + 'static) -> Result<String> {
        let crypto = QuicServerConfig::try_from(self.tls.server_for_peers()?)?;
        let mut config = ServerConfig::with_crypto(Arc::new(crypto));
        config.transport_config(Self::transport());
        self.endpoint.set_server_config(Some(config));
        let (endpoint, tls) = (self.endpoint.clone(), self.tls.clone());
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let (answer, tls) = (answer.clone(), tls.clone());
                tokio::spawn(async move {
                    let connection = incoming.await?;
                    // Who it is belongs to the contract.
                    let shown = connection.peer_identity().and_then(|any| any.downcast().ok());
                    let shown: Box<Vec<_>> = shown.ok_or(io::ErrorKind::PermissionDenied)?;
                    tls.peer_of(Some(&shown)).ok_or(io::ErrorKind::PermissionDenied)?;
                    answer(connection);
                    io::Result::Ok(())
                });
            }
        });
        let peer = self.tls.identity().map(Identity::peer_id).ok_or("it has an identity")?;
        Ok(format!("{} {peer}", self.endpoint.local_addr()?))
    }

    async fn connect(&self, address: &str) -> Result<Connection> {
        let (socket, peer) = address.split_once(' ').ok_or("no address")?;
        let crypto = QuicClientConfig::try_from(self.tls.client_for_peer(&peer.parse()?)?)?;
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(Self::transport());
        Ok(self.endpoint.connect_with(config, socket.parse()?, "127.0.0.1")?.await?)
    }
}

/// The exchange over one stream.
pub(crate) struct QuicHandler(Quic);

impl Peer for QuicHandler {
    const NAME: &'static str = "quic-handler";

    type Client = (Exchange, Connection);

    async fn start() -> Result<Self> {
        Ok(Self(Quic::new()?))
    }

    async fn serve(&self) -> Result<String> {
        let handler: Arc<dyn Handler> = Arc::new(Ack);
        self.0.serve(move |connection| {
            let handler = handler.clone();
            tokio::spawn(async move {
                while let Ok((send, recv)) = connection.accept_bi().await {
                    tokio::spawn(answer_through(tokio::io::join(recv, send), handler.clone()));
                }
            });
        })
    }

    async fn connect(&self, address: &str) -> Result<(Exchange, Connection)> {
        let connection = self.0.connect(address).await?;
        let (send, recv) = connection.open_bi().await?;
        Ok((Exchange::over(tokio::io::join(recv, send)), connection))
    }
}

impl Client for (Exchange, Connection) {
    fn send(&self, record: Bytes) -> impl Future<Output = Result<Bytes>> + Send {
        self.0.send(record)
    }
}

/// A stream for each record.
pub(crate) struct QuicStreams(Quic);

impl Peer for QuicStreams {
    const NAME: &'static str = "quic-streams";

    type Client = Streams;

    async fn start() -> Result<Self> {
        Ok(Self(Quic::new()?))
    }

    async fn serve(&self) -> Result<String> {
        let handler: Arc<dyn Handler> = Arc::new(Ack);
        self.0.serve(move |connection| {
            let handler = handler.clone();
            tokio::spawn(async move {
                while let Ok((mut send, mut recv)) = connection.accept_bi().await {
                    let handler = handler.clone();
                    tokio::spawn(async move {
                        let record = recv.read_to_end(64 << 20).await?;
                        send.write_all(&handler.handle(record.into()).await).await?;
                        send.finish()?;
                        Result::<()>::Ok(())
                    });
                }
            });
        })
    }

    async fn connect(&self, address: &str) -> Result<Streams> {
        Ok(Streams(self.0.connect(address).await?))
    }
}

pub(crate) struct Streams(Connection);

impl Client for Streams {
    async fn send(&self, record: Bytes) -> Result<Bytes> {
        let (mut send, mut recv) = self.0.open_bi().await?;
        send.write_chunk(record).await?;
        send.finish()?;
        Ok(recv.read_to_end(1024).await?.into())
    }
}
