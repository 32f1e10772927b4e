//! What the exchange runs over.

use std::io;

use network::tls::{Identity, Tls};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

/// Turns TCP streams into the streams of both ends.
pub(crate) trait Wire: Sized + Send + Sync + 'static {
    /// What the exchange over it is called.
    const NAME: &'static str;

    type Dialed: Stream;
    type Accepted: Stream;

    fn new() -> Self;

    /// The address with what a dialer must know to get there.
    fn address(&self, socket: String) -> String {
        socket
    }

    /// The socket of such an address.
    fn socket<'a>(&self, address: &'a str) -> &'a str {
        address
    }

    fn dial(
        &self,
        stream: TcpStream,
        address: &str,
    ) -> impl Future<Output = io::Result<Self::Dialed>> + Send;

    fn accept(&self, stream: TcpStream) -> impl Future<Output = io::Result<Self::Accepted>> + Send;
}

/// The TCP streams themselves.
pub(crate) struct Plain;

impl Wire for Plain {
    const NAME: &'static str = "tcp-handler";

    type Dialed = TcpStream;
    type Accepted = TcpStream;

    fn new() -> Self {
        Self
    }

    async fn dial(&self, stream: TcpStream, _address: &str) -> io::Result<TcpStream> {
        Ok(stream)
    }

    async fn accept(&self, stream: TcpStream) -> io::Result<TcpStream> {
        Ok(stream)
    }
}

/// TLS streams of tokio-rustls, with the configurations that the subject has too.
pub(crate) struct Secured(Tls);

impl Wire for Secured {
    const NAME: &'static str = "tls-handler";

    type Dialed = client::TlsStream<TcpStream>;
    type Accepted = server::TlsStream<TcpStream>;

    fn new() -> Self {
        Self(Tls::new().with_identity(Identity::generate().expect("the system has randomness")))
    }

    fn address(&self, socket: String) -> String {
        let peer = self.0.identity().map(Identity::peer_id).expect("it has an identity");
        format!("{socket} {peer}")
    }

    fn socket<'a>(&self, address: &'a str) -> &'a str {
        address.split(' ').next().unwrap_or_default()
    }

    async fn dial(&self, stream: TcpStream, address: &str) -> io::Result<Self::Dialed> {
        let peer = address.split(' ').nth(1).and_then(|peer| peer.parse().ok());
        let peer = peer.ok_or(io::ErrorKind::InvalidInput)?;
        let config = self.0.client_for_peer(&peer).map_err(io::Error::other)?;
        let name = ServerName::from(stream.peer_addr()?.ip());
        TlsConnector::from(config).connect(name, stream).await
    }

    async fn accept(&self, stream: TcpStream) -> io::Result<Self::Accepted> {
        let config = self.0.server_for_peers().map_err(io::Error::other)?;
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        // Who it is belongs to the contract.
        let peer = self.0.peer_of(stream.get_ref().1.peer_certificates());
        peer.map(|_| stream).ok_or_else(|| io::ErrorKind::PermissionDenied.into())
    }
}
