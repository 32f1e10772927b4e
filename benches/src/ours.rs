//! The subject: the `network` crate itself.

use std::marker::PhantomData;

use bytes::Bytes;
use network::{
    Connection, Limits, Network, NetworkBuilder, Port, Records, accept_all, handler_fn,
    loopback::Loopback as LoopbackBackend,
    quic::Quic as QuicBackend,
    tcp::Tcp as TcpBackend,
    tls::{Identity, Tls as TlsSettings},
};

use crate::peer::{self, Client, Peer, Result};

/// The `network` crate over `/ip4/127.0.0.1/tcp/`.
pub(crate) type Tcp = Ours<OverTcp>;

/// The `network` crate over `/local/`.
pub(crate) type Loopback = Ours<OverLoopback>;

/// The `network` crate over `/ip4/127.0.0.1/tcp/0/tls`.
pub(crate) type Tls = Ours<OverTls>;

/// The `network` crate over `/ip4/127.0.0.1/udp/0/quic-v1`.
pub(crate) type Quic = Ours<OverQuic>;

/// The same with a handshake for each connection.
pub(crate) type QuicEach = Ours<OverQuicEach>;

/// The same with a stream for each record.
pub(crate) type QuicUnordered = Ours<OverQuicUnordered>;

pub(crate) trait Backend: Send + Sync + 'static {
    const NAME: &'static str = "network";
    const FRESH: &'static str;

    fn add(builder: NetworkBuilder) -> NetworkBuilder;
}

pub(crate) struct OverTcp;

impl Backend for OverTcp {
    const FRESH: &'static str = "/ip4/127.0.0.1/tcp/";

    fn add(builder: NetworkBuilder) -> NetworkBuilder {
        builder.protocol(TcpBackend::new())
    }
}

pub(crate) struct OverTls;

impl Backend for OverTls {
    const NAME: &'static str = "network-tls";
    const FRESH: &'static str = "/ip4/127.0.0.1/tcp/0/tls";

    fn add(builder: NetworkBuilder) -> NetworkBuilder {
        let identity = Identity::generate().expect("the system has randomness");
        builder.protocol(TcpBackend::new().with_tls(TlsSettings::new().with_identity(identity)))
    }
}

fn quic() -> QuicBackend {
    let identity = Identity::generate().expect("the system has randomness");
    QuicBackend::new(TlsSettings::new().with_identity(identity))
}

pub(crate) struct OverQuic;

impl Backend for OverQuic {
    const NAME: &'static str = "network-quic";
    const FRESH: &'static str = "/ip4/127.0.0.1/udp/0/quic-v1";

    fn add(builder: NetworkBuilder) -> NetworkBuilder {
        builder.protocol(quic())
    }
}

pub(crate) struct OverQuicEach;

impl Backend for OverQuicEach {
    const NAME: &'static str = "network-quic-each";
    const FRESH: &'static str = OverQuic::FRESH;

    fn add(builder: NetworkBuilder) -> NetworkBuilder {
        builder.protocol(quic().without_pooling())
    }
}

pub(crate) struct OverQuicUnordered;

impl Backend for OverQuicUnordered {
    const NAME: &'static str = "network-quic-unordered";
    const FRESH: &'static str = OverQuic::FRESH;

    fn add(builder: NetworkBuilder) -> NetworkBuilder {
        builder.protocol(quic().unordered())
    }
}

pub(crate) struct OverLoopback;

impl Backend for OverLoopback {
    const FRESH: &'static str = "/local/";

    fn add(builder: NetworkBuilder) -> NetworkBuilder {
        builder.protocol(LoopbackBackend::new())
    }
}

pub(crate) struct Ours<B> {
    network: Network,
    port: Port,
    backend: PhantomData<B>,
}

impl<B: Backend> Peer for Ours<B> {
    const NAME: &'static str = B::NAME;

    type Client = Open;

    async fn start() -> Result<Self> {
        // Room for the widest cell: 1,024 records of 64 KiB.
        let limits = Limits::default().with_window_bytes(128 << 20);
        let network = B::add(Network::builder().limits(limits)).build()?;
        let port = network.bind(B::FRESH).await?;
        Ok(Self { network, port, backend: PhantomData })
    }

    async fn serve(&self) -> Result<String> {
        let port = self.network.bind(B::FRESH).await?;
        port.listen(accept_all(handler_fn(|record| async move { Ok(peer::ack(&record)) }))).await?;
        Ok(port.local_endpoint().to_string())
    }

    async fn connect(&self, address: &str) -> Result<Open> {
        let (connection, records) = self.port.connect_pull(address).await?;
        Ok(Open { connection, _records: records })
    }
}

/// A connection that closes when it is dropped.
pub(crate) struct Open {
    connection: Connection,
    _records: Records,
}

impl Client for Open {
    async fn send(&self, record: Bytes) -> Result<Bytes> {
        Ok(self.connection.send(record).await?)
    }
}
