//! Handshakes of the configurations that `Tls` makes, in memory.

#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

mod authority;
mod names;
mod peers;
mod secrets;
mod unproven;

use std::{io, sync::Arc};

use network_core::PeerId;
use network_tls::{Identity, Tls, peer_of};
use rustls::{
    ClientConfig, HandshakeKind, NamedGroup, ServerConfig,
    pki_types::{CertificateDer, ServerName},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// Both ends of a connection.
struct Both {
    client: client::TlsStream<DuplexStream>,
    server: server::TlsStream<DuplexStream>,
}

/// What an end knows of a connection.
#[derive(Debug, PartialEq)]
struct Seen {
    peer: Option<PeerId>,
    resumed: bool,
    group: Option<NamedGroup>,
    alpn: Option<String>,
}

impl Both {
    fn client_sees(&self) -> Seen {
        seen(self.client.get_ref().1)
    }

    fn server_sees(&self) -> Seen {
        seen(self.server.get_ref().1)
    }

    /// What the client was shown.
    fn shown(&self) -> CertificateDer<'static> {
        self.client.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    }

    /// Something goes both ways, tickets too.
    async fn talk(&mut self) {
        for (text, back) in [(b"ping", b"pong"), (b"PING", b"PONG")] {
            let mut received = [0; 4];
            self.client.write_all(text).await.unwrap();
            self.server.read_exact(&mut received).await.unwrap();
            assert_eq!(&received, text);
            self.server.write_all(back).await.unwrap();
            self.client.read_exact(&mut received).await.unwrap();
            assert_eq!(&received, back);
        }
    }
}

fn seen<Data>(end: &rustls::ConnectionCommon<Data>) -> Seen {
    Seen {
        peer: peer_of(end.peer_certificates()),
        resumed: end.handshake_kind() == Some(HandshakeKind::Resumed),
        group: end.negotiated_key_exchange_group().map(|group| group.name()),
        alpn: end.alpn_protocol().map(|name| String::from_utf8(name.to_vec()).unwrap()),
    }
}

type Ends =
    (io::Result<client::TlsStream<DuplexStream>>, io::Result<server::TlsStream<DuplexStream>>);

/// What each end says of a handshake.
async fn try_shake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>, name: &str) -> Ends {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connecting = async {
        let mut stream = TlsConnector::from(client.clone()).connect(name, near).await?;
        // Whether the server takes the client shows with what it sends first.
        stream.read_exact(&mut [0]).await?;
        Ok(stream)
    };
    let accepting = async {
        let mut stream = TlsAcceptor::from(server.clone()).accept(far).await?;
        stream.write_all(&[0]).await?;
        Ok(stream)
    };
    tokio::join!(connecting, accepting)
}

async fn shake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>, name: &str) -> Both {
    let (client, server) = try_shake(client, server, name).await;
    let mut both = Both { client: client.unwrap(), server: server.unwrap() };
    both.talk().await;
    both
}

fn node() -> (Tls, PeerId) {
    let identity = Identity::generate().unwrap();
    let peer = identity.peer_id();
    (Tls::new().with_identity(identity), peer)
}

/// What rustls says of a failed handshake.
fn rustls_error(error: &io::Error) -> &rustls::Error {
    error.get_ref().unwrap().downcast_ref().unwrap()
}
