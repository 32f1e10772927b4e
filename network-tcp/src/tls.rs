//! TLS over the streams of this backend.

use std::io::{self, Write};

use network_core::{ConnectError, Endpoint, PeerId};
use network_tls::{Dialer, Listening};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, rustls, server};

/// Has a handshake as the dialer. The hello goes out with its last word, and so to nobody who is
/// not trusted: what is written before is kept until then.
pub(crate) async fn dial(
    dialer: Dialer,
    stream: TcpStream,
    hello: &[u8],
    remote: &Endpoint,
) -> Result<client::TlsStream<TcpStream>, ConnectError> {
    let connector = TlsConnector::from(dialer.config);
    let mut said = Ok(());
    let connecting = connector.connect_with(dialer.name, stream, |connection| {
        said = connection.writer().write_all(hello);
    });
    said.map_err(|error| failed(error, remote))?;
    // Boxed: it is large, and is needed only until the connection is open.
    Box::pin(connecting).await.map_err(|error| failed(error, remote))
}

/// Has a handshake as the listener.
pub(crate) async fn accept(
    listening: &Listening,
    stream: TcpStream,
) -> io::Result<(server::TlsStream<TcpStream>, Option<PeerId>)> {
    let acceptor = TlsAcceptor::from(listening.config.clone());
    // Boxed: it is large, and is needed only until the connection is open.
    let stream = Box::pin(acceptor.accept(stream)).await?;
    let peer = listening.peer_of(stream.get_ref().1.peer_certificates());
    Ok((stream, peer.map_err(io::Error::other)?))
}

/// What a failed handshake means to who dialed.
fn failed(error: io::Error, remote: &Endpoint) -> ConnectError {
    let remote = remote.clone();
    match cause(&error) {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
            ConnectError::Untrusted { remote, source: error.into() }
        }
        Some(rustls::Error::InvalidMessage(_)) => {
            let problem = "it does not speak TLS: dial it without /tls, or bind it with".to_owned();
            ConnectError::Incompatible { remote, problem }
        }
        _ => ConnectError::Unreachable { remote, source: error.into() },
    }
}

fn cause(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}
