//! What an endpoint says of who is at the other end, and the configurations for it.

use std::{fmt, sync::Arc};

use network_core::{Host, Peer, PeerId};
use rustls::{
    ClientConfig, ServerConfig,
    pki_types::{CertificateDer, ServerName},
};

use crate::{Tls, TlsError, early};

/// By what an endpoint with TLS says that its server is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trust {
    /// By the name of the host.
    Name,
    /// By its key: `/p2p/PEER`.
    Peer(PeerId),
}

impl Trust {
    /// Takes `/p2p/PEER` off the front of what is left of an endpoint, if that is there.
    ///
    /// # Errors
    /// What follows `/p2p/` is no peer id.
    pub fn parse(rest: &str) -> Result<(Self, &str), network_core::PeerIdError> {
        let Some(peer) = rest.strip_prefix("/p2p/") else { return Ok((Self::Name, rest)) };
        let (peer, rest) = peer.split_at(peer.find('/').unwrap_or(peer.len()));
        Ok((Self::Peer(peer.parse()?), rest))
    }
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => Ok(()),
            Self::Peer(peer) => write!(f, "/p2p/{peer}"),
        }
    }
}

/// How to dial, and how to verify whoever answers.
#[derive(Clone, Debug)]
pub struct Dialer {
    /// What to dial with.
    pub config: Arc<ClientConfig>,
    /// What the server is called. Its certificate must be for it, unless it is known by its key.
    pub name: ServerName<'static>,
    /// Who it will be after the handshake. `None` with the program's own configuration: only
    /// the program knows what that proves.
    pub peer: Option<Peer>,
}

/// How to listen, and as whom.
#[derive(Clone, Debug)]
pub struct Listening {
    /// What to listen with.
    pub config: Arc<ServerConfig>,
    /// By what this server is known.
    pub trust: Trust,
    /// Proves peers by what they show. Not where the program's own configuration says what is
    /// to be verified: it may not have asked for a proof.
    proves: Option<Tls>,
}

impl Dialer {
    /// Sends what it has to say before the handshake is over, where it has been at that server
    /// before (RFC 8446 §2.3): only for transports and programs that know what that means. The
    /// program's own configuration stays as it is.
    #[must_use]
    pub fn with_early_data(mut self) -> Self {
        if self.peer.is_some() {
            let mut config = ClientConfig::clone(&self.config);
            config.enable_early_data = true;
            self.config = Arc::new(config);
        }
        self
    }
}

impl Listening {
    /// Takes what dialers send before the handshake is over (RFC 8446 §2.3): only for transports
    /// and programs that know what that means. A first flight is taken as early data once, however
    /// often it comes; for that, each call makes a listener with sessions of its own, some 4,096 of
    /// the last. The program's own configuration stays as it is.
    #[must_use]
    pub fn with_early_data(mut self) -> Self {
        if let Some(tls) = &self.proves {
            let certificate = match self.trust {
                Trust::Name => tls.certificate(),
                Trust::Peer(_) => None,
            };
            self.config = Arc::new(early::taking(&self.config, certificate));
        }
        self
    }

    /// Who has shown these certificates in a handshake with [`config`](Self::config): `None` is
    /// somebody who may stay unknown here.
    ///
    /// # Errors
    /// They do not prove a peer, and here they must. A handshake has verified them before,
    /// unless it resumes an older one: then they may have expired meanwhile.
    pub fn peer_of(
        &self,
        shown: Option<&[CertificateDer<'_>]>,
    ) -> Result<Option<PeerId>, TlsError> {
        let Some(tls) = &self.proves else { return Ok(None) };
        if self.trust == Trust::Name && shown.is_none_or(<[_]>::is_empty) {
            return Ok(None);
        }
        tls.peer_of(shown).map(Some).ok_or(TlsError::Unproven)
    }
}

impl Tls {
    /// How to dial a host that is known so.
    ///
    /// # Errors
    /// There is nothing to verify whoever answers by: a bare address without a peer id. Or what
    /// is needed for it is missing or bad.
    pub fn dialer(&self, host: &Host, trust: Trust) -> Result<Dialer, TlsError> {
        let name = match host {
            Host::Ip(ip) => ServerName::from(*ip),
            Host::Name(name, _) => {
                let bad = || TlsError::BadName { name: name.clone() };
                ServerName::try_from(name.clone()).map_err(|_| bad())?
            }
        };
        let (config, peer) = match (trust, host) {
            (Trust::Peer(peer), _) => (self.client_for_peer(&peer)?, Some(Peer::Id(peer))),
            // Only the program knows what its own configuration verifies.
            (Trust::Name, _) if self.client_config().is_some() => (self.client_for_name()?, None),
            (Trust::Name, Host::Name(name, _)) => {
                (self.client_for_name()?, Some(Peer::Name(name.as_str().into())))
            }
            (Trust::Name, Host::Ip(ip)) => {
                return Err(TlsError::NobodyToVerify { address: *ip });
            }
        };
        Ok(Dialer { config, name, peer })
    }

    /// How to listen at an endpoint that says this. One that names nobody is the program's own
    /// peer id, unless there is a certificate for a name.
    ///
    /// # Errors
    /// The endpoint names another peer, or there is nothing to show.
    pub fn listening(&self, wanted: Trust) -> Result<Listening, TlsError> {
        let own = self.identity().map(|identity| identity.peer_id());
        let as_peer = match (wanted, own) {
            (Trust::Peer(named), Some(own)) if named != own => {
                return Err(TlsError::OtherPeer { named, own });
            }
            (Trust::Peer(_), None) => return Err(TlsError::NoIdentity),
            (Trust::Peer(_), own) => own,
            (Trust::Name, own) => own.filter(|_| !self.has_certificate()),
        };
        Ok(match as_peer {
            Some(own) => Listening {
                config: self.server_for_peers()?,
                trust: Trust::Peer(own),
                proves: Some(self.clone()),
            },
            None => Listening {
                config: self.server_for_name()?,
                trust: Trust::Name,
                proves: self.server_config().is_none().then(|| self.clone()),
            },
        })
    }

    /// What this side of a connection is called whose other side is known so.
    pub fn own(&self, remote: Trust) -> Trust {
        match (remote, self.identity()) {
            (Trust::Peer(_), Some(identity)) => Trust::Peer(identity.peer_id()),
            _ => Trust::Name,
        }
    }
}
