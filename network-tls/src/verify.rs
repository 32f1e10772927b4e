//! Who has a certificate, as
//! [libp2p](https://github.com/libp2p/specs/blob/master/tls/tls.md) proves it.
//!
//! Its certificates are signed by nobody else. An extension holds the key of the peer, and
//! the signature of that key below the key of the certificate.

use libp2p_tls::certificate::{self, P2pCertificate};
use network_core::PeerId;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

use crate::TlsError;

/// Who the other side of a connection is, by the certificates that it showed.
///
/// For a finished connection of one of the configurations of [`Tls`](crate::Tls): give it
/// what `peer_certificates` of the connection returns. Who answered at a
/// [`client_for_peer`](crate::Tls::client_for_peer) or dialed a
/// [`server_for_peers`](crate::Tls::server_for_peers) has a peer id always; who dialed a
/// [`server_for_name`](crate::Tls::server_for_name) has one if it offered it. A resumed
/// connection has the certificates of the one that it resumes, and so the same peer.
///
/// There is none if the certificates are not exactly one of libp2p that is valid now. Of a
/// configuration of your own it says nothing unless that verifies the signature of the
/// handshake.
pub fn peer_of(certificates: Option<&[CertificateDer<'_>]>) -> Option<PeerId> {
    match certificates? {
        [only] => verified(only, &[]).ok(),
        _ => None,
    }
}

/// Trusts one peer as a server.
#[derive(Debug)]
pub(crate) struct OnePeer(pub(crate) PeerId);

/// Trusts any peer as a client, and tells who it is.
#[derive(Debug)]
pub(crate) struct AnyPeer {
    /// Whether a client may also show no certificate.
    pub(crate) or_nobody: bool,
}

impl ServerCertVerifier for OnePeer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let (expected, found) = (self.0, verified(end_entity, intermediates)?);
        if found != expected {
            return Err(TlsError::WrongPeer { expected, found }.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(TlsError::OldVersion.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_handshake(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }
}

impl ClientCertVerifier for AnyPeer {
    fn client_auth_mandatory(&self) -> bool {
        !self.or_nobody
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        verified(end_entity, intermediates)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(TlsError::OldVersion.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_handshake(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }
}

/// What a certificate may be signed with: what libp2p-tls can verify, and TLS 1.3 has for
/// handshakes.
const SCHEMES: &[SignatureScheme] = &[
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    // Not for handshakes, but certificates may be signed so.
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA512,
];

/// The longest certificate that a peer may show, in bytes.
///
/// Those of libp2p have 300 to 1,500. What a peer shows stays in memory as long as its connection,
/// and is in every ticket that it is given to resume, so that it must not choose the size.
pub const MAX_CERTIFICATE_LEN: usize = 4096;

/// Whom these certificates prove, with the signature of the handshake.
fn verified(
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Result<PeerId, TlsError> {
    if !intermediates.is_empty() {
        return Err(TlsError::NotOneCertificate { count: intermediates.len() + 1 });
    }
    if end_entity.len() > MAX_CERTIFICATE_LEN {
        return Err(TlsError::CertificateTooLong { len: end_entity.len() });
    }
    let peer = parse(end_entity)?.peer_id();
    PeerId::from_bytes(&peer.to_bytes()).map_err(|source| TlsError::BadPeerId { source })
}

/// Verifies all of the certificate: when it is valid, its own signature and that of the peer.
fn parse<'a>(certificate: &'a CertificateDer<'a>) -> Result<P2pCertificate<'a>, TlsError> {
    let parsed = certificate::parse(certificate);
    parsed.map_err(|error| TlsError::Unverifiable { source: error.into() })
}

fn verify_handshake(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let verified = parse(cert)?.verify_signature(dss.scheme, message, dss.signature());
    verified.map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadSignature))?;
    Ok(HandshakeSignatureValid::assertion())
}
