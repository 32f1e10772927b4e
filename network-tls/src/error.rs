//! Why there is no TLS, or no trust.

use std::{error::Error, io};

use network_core::PeerId;
use rustls::{CertificateError, OtherError};

/// Why TLS cannot be set up, or why the other side is not trusted.
///
/// What goes wrong in a handshake comes out of it inside of an [`io::Error`] or a
/// [`rustls::Error`]; [`TlsError::of`] finds it there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// Peers are known by their keys, and this side has none.
    #[error(
        "there is no identity to show to a peer: give one with `Tls::with_identity`, such as \
         `Identity::load_or_generate(\"node.pem\")`"
    )]
    NoIdentity,
    /// A listener has nothing to show to who dials it by name.
    #[error(
        "there is no certificate to listen with: give one with `Tls::with_certificate`, or your \
         own configuration with `Tls::with_server_config`"
    )]
    NoCertificate,
    /// The name of a host cannot be in a certificate.
    #[error("{name:?} is no name that a certificate can be for: dial a DNS name")]
    BadName {
        /// The name.
        name: String,
    },
    /// Nothing says who is to answer.
    #[error(
        "{address} is an address, and nothing says who is to answer there: name the peer \
         (/p2p/PEER), or dial a host by a name that its certificate is for (/dns/HOST), or give \
         your own rustls configuration (`Tls::with_client_config`)"
    )]
    NobodyToVerify {
        /// The address.
        address: std::net::IpAddr,
    },
    /// The endpoint to listen at names a peer, and it is another's.
    #[error("the endpoint is that of {named}, and this is {own}: bind it as /p2p/{own}")]
    OtherPeer {
        /// The peer that it names.
        named: PeerId,
        /// The peer that listens.
        own: PeerId,
    },
    /// Somebody else answered.
    #[error("the peer is {found}, and {expected} was dialed: check the address, and who has it")]
    WrongPeer {
        /// Who was dialed.
        expected: PeerId,
        /// Who answered.
        found: PeerId,
    },
    /// A peer shows one certificate, and this is more.
    #[error("the peer shows {count} certificates: libp2p has exactly one")]
    NotOneCertificate {
        /// How many there are.
        count: usize,
    },
    /// The certificate of a peer is longer than any that has a reason to be.
    #[error(
        "the certificate of the peer has {len} bytes, and {} are the most",
        crate::MAX_CERTIFICATE_LEN
    )]
    CertificateTooLong {
        /// How long it is, in bytes.
        len: usize,
    },
    /// The certificate does not prove who has it.
    #[error(
        "the certificate of the peer does not prove its peer id, as libp2p has it: it is no \
         libp2p certificate, it is damaged, or it is not valid now"
    )]
    Unverifiable {
        /// What is wrong with it.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Who was known before has shown nothing that proves a peer id any more.
    #[error("the peer resumes a connection, and its certificate proves no peer id any more")]
    Unproven,
    /// The peer id in the certificate is none.
    #[error("the key in the certificate of the peer has no peer id")]
    BadPeerId {
        /// Why.
        source: network_core::PeerIdError,
    },
    /// The other side wants less than TLS 1.3.
    #[error("TLS 1.3 is the only version that is spoken here")]
    OldVersion,
    /// No certificate for the identity can be made.
    #[error("no certificate can be made for the identity")]
    Generate {
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Nobody to trust.
    #[error(
        "there is no authority to trust: give their certificates with `Tls::with_roots`, or \
         install those of the platform (often the package `ca-certificates`)"
    )]
    NoRoots {
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The TLS library takes no such configuration.
    #[error("TLS cannot be set up")]
    Setup {
        /// Why.
        source: rustls::Error,
    },
}

/// How deep to look into an error.
const MAX_DEPTH: usize = 16;

impl TlsError {
    /// The error of this crate that is in another: an [`io::Error`] of a stream, a
    /// [`rustls::Error`], or what has one of them as its source.
    ///
    /// ```
    /// use network_tls::TlsError;
    ///
    /// let of_the_stream = std::io::Error::other(TlsError::NoIdentity);
    /// assert!(matches!(TlsError::of(&of_the_stream), Some(TlsError::NoIdentity)));
    /// ```
    pub fn of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        let mut error = error;
        for _ in 0..MAX_DEPTH {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            let inner: Option<&'a (dyn Error + 'static)> = if let Some(error) =
                error.downcast_ref::<io::Error>()
            {
                // Its `source` is not what it holds, but the source of that.
                error.get_ref().map(|inner| inner as _)
            } else if let Some(rustls::Error::InvalidCertificate(CertificateError::Other(other))) =
                error.downcast_ref()
            {
                Some(&*other.0)
            } else {
                error.source()
            };
            error = inner?;
        }
        None
    }
}

impl From<TlsError> for rustls::Error {
    fn from(error: TlsError) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(std::sync::Arc::new(error))))
    }
}

pub(crate) fn setup(source: rustls::Error) -> TlsError {
    TlsError::Setup { source }
}
