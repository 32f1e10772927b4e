//! Certificates that prove nobody.

use std::sync::Arc;

use libp2p_identity::Keypair;
use network_core::PeerId;
use network_tls::TlsError;
use rcgen::{CertificateParams, CustomExtension, KeyPair, PublicKeyData as _, date_time_ymd};
use rustls::{
    ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};

use super::{node, rustls_error, shake, try_shake};

/// Trusts whoever answers.
#[derive(Debug)]
pub(crate) struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A libp2p certificate, and what is wrong with it.
struct Forgery {
    keypair: Keypair,
    key: KeyPair,
    params: CertificateParams,
    /// What the peer signed.
    message: Vec<u8>,
    /// How often the certificate is shown.
    times: usize,
}

const OID: [u64; 9] = [1, 3, 6, 1, 4, 1, 53594, 1, 1];

impl Forgery {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let message = [b"libp2p-tls-handshake:", &key.subject_public_key_info()[..]].concat();
        let params = CertificateParams::default();
        Self { keypair: Keypair::generate_ed25519(), key, params, message, times: 1 }
    }

    fn peer(&self) -> PeerId {
        PeerId::from_bytes(&self.keypair.public().to_peer_id().to_bytes()).unwrap()
    }

    /// Puts the proof into the certificate.
    fn with_proof(mut self) -> Self {
        let public = self.keypair.public().encode_protobuf();
        let signature = self.keypair.sign(&self.message).unwrap();
        // A sequence of two strings of bytes, all shorter than 128.
        let mut content = vec![0x30, 2 + 36 + 2 + 64, 0x04, 36];
        content.extend(public);
        content.extend([0x04, 64]);
        content.extend(signature);
        self.params.custom_extensions.push(CustomExtension::from_oid_content(&OID, content));
        self
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.params.self_signed(&self.key).unwrap().der().clone(); self.times]
    }

    fn server(&self) -> Arc<ServerConfig> {
        server_with(self.chain(), &self.key)
    }

    fn client(&self) -> Arc<ClientConfig> {
        client_with(self.chain(), &self.key)
    }
}

/// Shows these certificates, whatever they are.
fn shown(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Arc<SingleCertAndKey> {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let key = default_provider().key_provider.load_private_key(key).unwrap();
    Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)))
}

fn server_with(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Arc<ServerConfig> {
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(shown(chain, key));
    Arc::new(config)
}

fn client_with(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_client_cert_resolver(shown(chain, key));
    Arc::new(config)
}

/// How it is refused as a server, and as a client.
async fn refused(forgery: Forgery) {
    let (tls, _) = node();
    let client = tls.client_for_peer(&forgery.peer()).unwrap();
    let error = try_shake(&client, &forgery.server(), "127.0.0.1").await.0.unwrap_err();
    let signed = super::authority::Signed::by_itself("localhost").certificate();
    let tls = tls.with_certificate(signed);
    let mut errors = vec![error];
    for server in [tls.server_for_peers().unwrap(), tls.server_for_name().unwrap()] {
        let (client, server) = try_shake(&forgery.client(), &server, "localhost").await;
        assert!(client.is_err());
        errors.push(server.unwrap_err());
    }
    for error in errors {
        match TlsError::of(&error) {
            Some(TlsError::NotOneCertificate { count: 2 }) => assert_eq!(forgery.times, 2),
            Some(TlsError::Unverifiable { .. }) => assert_eq!(forgery.times, 1),
            _ => panic!("{error:?}"),
        }
    }
}

#[tokio::test]
async fn a_certificate_made_here_is_taken_if_nothing_is_wrong() {
    let forgery = Forgery::new().with_proof();
    let (tls, _) = node();
    let client = tls.client_for_peer(&forgery.peer()).unwrap();
    let both = shake(&client, &forgery.server(), "127.0.0.1").await;
    assert_eq!(both.client_sees().peer, Some(forgery.peer()));
    let both = shake(&forgery.client(), &tls.server_for_peers().unwrap(), "127.0.0.1").await;
    assert_eq!(both.server_sees().peer, Some(forgery.peer()));
}

#[tokio::test]
async fn a_signature_of_the_peer_over_something_else_is_refused() {
    let mut forgery = Forgery::new();
    forgery.message[30] ^= 1;
    refused(forgery.with_proof()).await;
}

/// Somebody shows the proof of a peer below a key of their own.
#[tokio::test]
async fn a_proof_taken_from_another_certificate_is_refused() {
    let (honest, mut thief) = (Forgery::new().with_proof(), Forgery::new());
    thief.keypair = honest.keypair.clone();
    thief.params.custom_extensions = honest.params.custom_extensions.clone();
    refused(thief).await;
}

/// Somebody shows the certificate of a peer, whose key they do not have.
#[tokio::test]
async fn a_certificate_without_its_key_is_refused() {
    let (honest, thief) = (Forgery::new().with_proof(), Forgery::new());
    let server = server_with(honest.chain(), &thief.key);
    let client = client_with(honest.chain(), &thief.key);
    let (tls, _) = node();
    let dialing = tls.client_for_peer(&honest.peer()).unwrap();
    let error = try_shake(&dialing, &server, "127.0.0.1").await.0.unwrap_err();
    let bad = rustls::Error::InvalidCertificate(rustls::CertificateError::BadSignature);
    assert_eq!(rustls_error(&error), &bad);
    let listening = tls.server_for_peers().unwrap();
    let error = try_shake(&client, &listening, "127.0.0.1").await.1.unwrap_err();
    assert_eq!(rustls_error(&error), &bad);
}

#[tokio::test]
async fn two_certificates_are_refused() {
    let mut forgery = Forgery::new().with_proof();
    forgery.times = 2;
    refused(forgery).await;
}

#[tokio::test]
async fn a_certificate_without_a_proof_or_with_two_is_refused() {
    refused(Forgery::new()).await;
    refused(Forgery::new().with_proof().with_proof()).await;
}

#[tokio::test]
async fn a_certificate_of_another_time_is_refused() {
    for (from, to) in [(2001, 2002), (4000, 4001)] {
        let mut forgery = Forgery::new().with_proof();
        forgery.params.not_before = date_time_ymd(from, 1, 1);
        forgery.params.not_after = date_time_ymd(to, 1, 1);
        refused(forgery).await;
    }
}

#[tokio::test]
async fn a_certificate_with_an_unknown_critical_extension_is_refused() {
    let mut forgery = Forgery::new().with_proof();
    let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 1], vec![5, 0]);
    extension.set_criticality(true);
    forgery.params.custom_extensions.push(extension);
    refused(forgery).await;
}

/// Whichever byte is altered: what the signatures are over proves nobody any more, and what is
/// outside of that is nobody else's certificate.
#[test]
fn an_altered_certificate_is_never_another_peers() {
    let forgery = Forgery::new().with_proof();
    let honest = forgery.chain().remove(0);
    let peer = |bytes: Vec<u8>| network_tls::peer_of(Some(&[bytes.into()]));
    assert_eq!(peer(honest.to_vec()), Some(forgery.peer()));
    // A sequence with two bytes of length, in it another: that one is signed.
    let signed = 4..8 + usize::from(u16::from_be_bytes([honest[6], honest[7]]));
    for at in 0..honest.len() {
        for bit in 0..8 {
            let mut bytes = honest.to_vec();
            bytes[at] ^= 1 << bit;
            let found = peer(bytes);
            let same = !signed.contains(&at) && found == Some(forgery.peer());
            assert!(found.is_none() || same, "byte {at}, bit {bit}: {found:?}");
        }
        assert_eq!(peer(honest[..at].to_vec()), None, "cut at {at}");
    }
}
