//! TLS over the streams of this backend.

use std::{
    io::{self, Write},
    sync::Arc,
};

use network_core::{ConnectError, Endpoint, Peer, PeerId};
use network_tls::{Tls, TlsError};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsAcceptor, TlsConnector, client, rustls,
    rustls::{ClientConfig, pki_types::ServerName},
    server,
};

use crate::address::{Address, AddressError, Host, Security};

/// How to verify whoever answers.
pub(crate) struct Dialer {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    /// Who it will be, where that is known by name.
    peer: Option<Peer>,
}

impl Dialer {
    /// Settles whom to trust, before anything is sent.
    pub(crate) fn new(tls: &Tls, to: &Address, remote: &Endpoint) -> Result<Self, TlsError> {
        let name = match &to.host {
            Host::Ip(ip) => ServerName::from(*ip),
            Host::Name(name, _) => {
                let bad = || TlsError::BadName { name: name.clone() };
                ServerName::try_from(name.clone()).map_err(|_| bad())?
            }
        };
        let (config, peer) = match (to.security, &to.host) {
            (Security::Peer(peer), _) => (tls.client_for_peer(&peer)?, Some(Peer::Id(peer))),
            (_, Host::Name(name, _)) => {
                (tls.client_for_name()?, Some(Peer::Name(name.as_str().into())))
            }
            // Only the program's own configuration knows whom to trust at a bare address.
            (_, Host::Ip(_)) => match tls.client_config() {
                Some(config) => (config, None),
                None => return Err(TlsError::other(AddressError::NobodyToVerify(remote.clone()))),
            },
        };
        Ok(Self { config, name, peer })
    }

    /// The hello goes out with the last word of the handshake, and so to nobody who is not
    /// trusted: what is written before is kept until then.
    pub(crate) async fn dial(
        self,
        stream: TcpStream,
        hello: &[u8],
        remote: &Endpoint,
    ) -> Result<(client::TlsStream<TcpStream>, Option<Peer>), ConnectError> {
        let connector = TlsConnector::from(self.config);
        let mut said = Ok(());
        let connecting = connector.connect_with(self.name, stream, |connection| {
            said = connection.writer().write_all(hello);
        });
        said.map_err(|error| failed(error, remote))?;
        // Boxed: it is large, and is needed only until the connection is open.
        match Box::pin(connecting).await {
            Ok(stream) => Ok((stream, self.peer)),
            Err(error) => Err(failed(error, remote)),
        }
    }
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

/// The listening end of a socket.
pub(crate) struct Listening {
    acceptor: TlsAcceptor,
    /// Proves peers by what they show. Not where the program's own configuration says what is
    /// to be verified: it may not have asked for a proof.
    proves: Option<Tls>,
}

impl Listening {
    /// What to listen with for endpoints of such a security, and what that is then called:
    /// `/tls` alone is the program's own peer id, unless it has a certificate for a name.
    pub(crate) fn new(
        tls: &Tls,
        wanted: Security,
        endpoint: &Endpoint,
    ) -> Result<(Self, Security), TlsError> {
        let own = tls.identity().map(|identity| identity.peer_id());
        let peers = |own: PeerId| {
            let acceptor = tls.server_for_peers()?.into();
            Ok((Self { acceptor, proves: Some(tls.clone()) }, Security::Peer(own)))
        };
        match (wanted, own) {
            (Security::Peer(named), Some(own)) if named != own => {
                let endpoint = endpoint.clone();
                Err(TlsError::other(AddressError::OtherPeer { endpoint, named, own }))
            }
            (Security::Peer(_), Some(own)) => peers(own),
            (Security::Peer(_), None) => Err(TlsError::NoIdentity),
            (_, Some(own)) if !tls.has_certificate() => peers(own),
            _ => {
                let acceptor = tls.server_for_name()?.into();
                let proves = tls.server_config().is_none().then(|| tls.clone());
                Ok((Self { acceptor, proves }, Security::Named))
            }
        }
    }

    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<(server::TlsStream<TcpStream>, Option<PeerId>)> {
        // Boxed: it is large, and is needed only until the connection is open.
        let stream = Box::pin(self.acceptor.accept(stream)).await?;
        let shown = stream.get_ref().1.peer_certificates();
        let peer = self.proves.as_ref().and_then(|tls| tls.peer_of(shown));
        Ok((stream, peer))
    }
}
