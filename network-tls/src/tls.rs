//! The handle that backends take their configurations from.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use network_core::PeerId;
use rustls::{
    ClientConfig, NoKeyLog, RootCertStore, ServerConfig,
    client::{Resumption, WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs::Ticketer},
    pki_types::CertificateDer,
    server::{NoServerSessionStorage, ProducesTickets, ResolvesServerCert},
    sign::{CertifiedKey, SingleCertAndKey},
};

use crate::{
    Certificate, Identity, TlsError, crypto,
    error::setup,
    known::KnownPeers,
    peers::PeerClients,
    verify::{AnyPeer, OnePeer, peer_of},
};

/// Who this program is, and whom it trusts: what backends need for endpoints with `/tls`.
///
/// A handle: a clone is the same. Each `with_…` makes a new one, so give it to the backends
/// when all is set.
///
/// Everywhere TLS is version 1.3, nothing is sent before the handshake is over (no early
/// data, but for what [`Dialer::with_early_data`] and [`Listening::with_early_data`] make), and
/// keys are logged nowhere, whatever `SSLKEYLOGFILE` says. That does not hold of the program's own
/// configurations, which are taken as they are.
///
/// [`Dialer::with_early_data`]: crate::Dialer::with_early_data
/// [`Listening::with_early_data`]: crate::Listening::with_early_data
#[derive(Clone, Default)]
pub struct Tls(Arc<Inner>);

#[derive(Default)]
struct Inner {
    settings: Settings,
    made: Mutex<Made>,
    known: Mutex<KnownPeers>,
}

#[derive(Clone, Default)]
struct Settings {
    identity: Option<Identity>,
    certificate: Option<Certificate>,
    roots: Option<Arc<RootCertStore>>,
    client_config: Option<Arc<ClientConfig>>,
    server_config: Option<Arc<ServerConfig>>,
    presenting: bool,
}

/// What is made when it is first asked for, and kept: what resumes connections is in it.
#[derive(Default)]
struct Made {
    provider: Option<Arc<CryptoProvider>>,
    /// The certificate of the identity. One for all connections, as libp2p allows.
    own: Option<Arc<SingleCertAndKey>>,
    clients: PeerClients,
    client_for_name: Option<Arc<ClientConfig>>,
    server_for_peers: Option<Arc<ServerConfig>>,
    server_for_name: Option<Arc<ServerConfig>>,
}

impl Tls {
    /// With nothing: it can dial by name whom the platform trusts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Is known by this key: dials peers, listens for them, and is what they call by the
    /// peer id.
    #[must_use]
    pub fn with_identity(self, identity: Identity) -> Self {
        self.with(|settings| settings.identity = Some(identity))
    }

    /// Shows this certificate to who dials by name.
    #[must_use]
    pub fn with_certificate(self, certificate: Certificate) -> Self {
        self.with(|settings| settings.certificate = Some(certificate))
    }

    /// Trusts these authorities for the names of servers, and no longer those of the
    /// platform.
    #[must_use]
    pub fn with_roots(self, roots: RootCertStore) -> Self {
        self.with(|settings| settings.roots = Some(Arc::new(roots)))
    }

    /// Dials with this configuration wherever no peer is named. Whom it trusts is for it to
    /// say.
    #[must_use]
    pub fn with_client_config(self, config: Arc<ClientConfig>) -> Self {
        self.with(|settings| settings.client_config = Some(config))
    }

    /// Listens with this configuration wherever no peer is named.
    #[must_use]
    pub fn with_server_config(self, config: Arc<ServerConfig>) -> Self {
        self.with(|settings| settings.server_config = Some(config))
    }

    /// Shows who it is also to servers that it dials by name, if they ask.
    ///
    /// Those of this library do. Others may turn a certificate down that no authority signed.
    #[must_use]
    pub fn presenting_identity(self) -> Self {
        self.with(|settings| settings.presenting = true)
    }

    fn with(self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.0.settings.clone();
        change(&mut settings);
        Self(Arc::new(Inner { settings, made: Mutex::default(), known: Mutex::default() }))
    }

    /// The key that it is known by.
    pub fn identity(&self) -> Option<&Identity> {
        self.0.settings.identity.as_ref()
    }

    /// Whether it can listen for who dials by name: it has a certificate, or the program's own
    /// configuration.
    pub fn has_certificate(&self) -> bool {
        self.0.settings.certificate.is_some() || self.0.settings.server_config.is_some()
    }

    pub(crate) fn certificate(&self) -> Option<Certificate> {
        self.0.settings.certificate.clone()
    }

    /// The program's own configuration to dial with.
    pub fn client_config(&self) -> Option<Arc<ClientConfig>> {
        self.0.settings.client_config.clone()
    }

    /// The program's own configuration to listen with.
    pub fn server_config(&self) -> Option<Arc<ServerConfig>> {
        self.0.settings.server_config.clone()
    }

    /// What to dial a peer with. The handshake fails unless that very peer answers, and the
    /// peer learns who dials.
    ///
    /// The name of the server does not matter and is not sent, as libp2p has it. What
    /// resumes a connection is kept by peer and name, so give the same name to an address
    /// each time. The last 256 peers are kept.
    ///
    /// # Errors
    /// There is no identity, or no certificate can be made for it.
    pub fn client_for_peer(&self, peer: &PeerId) -> Result<Arc<ClientConfig>, TlsError> {
        let made = &mut *self.made();
        let (provider, own) = (made.provider(), made.own(self.identity())?);
        made.clients.get_or_make(peer, || {
            let verifier = Arc::new(OnePeer(*peer));
            let config = client_builder(provider, verifier)?.with_client_cert_resolver(own);
            let mut config = finish_client(config, crypto::alpn_for_peers());
            config.enable_sni = false;
            // Eight tickets each for some addresses of the peer.
            config.resumption = Resumption::in_memory_sessions(4 * 8);
            Ok(config)
        })
    }

    /// What to dial a server with that is known by its name: the program's own configuration,
    /// or one that trusts the authorities given, or those of the platform.
    ///
    /// The first call may read the authorities of the platform from its files.
    ///
    /// # Errors
    /// There are no authorities, or an identity is to be presented and there is none.
    pub fn client_for_name(&self) -> Result<Arc<ClientConfig>, TlsError> {
        if let Some(config) = self.client_config() {
            return Ok(config);
        }
        let made = &mut *self.made();
        if let Some(config) = &made.client_for_name {
            return Ok(config.clone());
        }
        let provider = made.provider();
        let verifier = self.verifier_of_names(&provider)?;
        let builder = client_builder(provider, verifier)?;
        let config = match self.0.settings.presenting {
            true => builder.with_client_cert_resolver(made.own(self.identity())?),
            false => builder.with_no_client_auth(),
        };
        let config = Arc::new(finish_client(config, crypto::alpn_for_names()));
        Ok(made.client_for_name.insert(config).clone())
    }

    fn verifier_of_names(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
        let provider = provider.clone();
        let Some(roots) = self.0.settings.roots.clone() else {
            let verifier = rustls_platform_verifier::Verifier::new(provider);
            return Ok(Arc::new(verifier.map_err(no_roots)?));
        };
        Ok(WebPkiServerVerifier::builder_with_provider(roots, provider)
            .build()
            .map_err(no_roots)?)
    }

    /// What to listen with for peers. Each proves its peer id, or the handshake fails.
    ///
    /// # Errors
    /// There is no identity, or no certificate can be made for it.
    pub fn server_for_peers(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let made = &mut *self.made();
        if let Some(config) = &made.server_for_peers {
            return Ok(config.clone());
        }
        let own = made.own(self.identity())?;
        // A ticket holds the secret of the connection and the certificate of the client,
        // sealed with a key that only this configuration has and that lasts 12 hours; here
        // nothing is kept. No other configuration may have the key: to resume is not to be
        // asked for a certificate, so a ticket of a listener that asks for none would be a
        // way in without one.
        let tickets = Ticketer::new().map_err(setup)?;
        let clients = AnyPeer { or_nobody: false };
        let alpn = crypto::alpn_for_peers();
        let config = server(made.provider(), clients, own, tickets, alpn)?;
        Ok(made.server_for_peers.insert(config).clone())
    }

    /// What to listen with for who dials by name: the program's own configuration, or one
    /// with the certificate.
    ///
    /// A client may show a certificate of libp2p, and is then known by its peer id. One
    /// without is let in as nobody. One with any other is refused.
    ///
    /// # Errors
    /// There is no certificate.
    pub fn server_for_name(&self) -> Result<Arc<ServerConfig>, TlsError> {
        if let Some(config) = self.server_config() {
            return Ok(config);
        }
        let made = &mut *self.made();
        if let Some(config) = &made.server_for_name {
            return Ok(config.clone());
        }
        let certificate = self.0.settings.certificate.clone().ok_or(TlsError::NoCertificate)?;
        let certificate = Arc::new(certificate);
        let clients = AnyPeer { or_nobody: true };
        let alpn = crypto::alpn_for_names();
        let config = server(made.provider(), clients, certificate.clone(), certificate, alpn)?;
        Ok(made.server_for_name.insert(config).clone())
    }

    /// As [`peer_of`], and remembers the certificates that it has verified.
    pub fn peer_of(&self, certificates: Option<&[CertificateDer<'_>]>) -> Option<PeerId> {
        let [only] = certificates? else { return None };
        let known = || self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known().get(only);
        before.or_else(|| {
            let peer = peer_of(certificates)?;
            known().insert(only, peer);
            Some(peer)
        })
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        self.0.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Made {
    fn provider(&mut self) -> Arc<CryptoProvider> {
        self.provider.get_or_insert_with(crypto::provider).clone()
    }

    /// The certificate to show to peers.
    fn own(&mut self, identity: Option<&Identity>) -> Result<Arc<SingleCertAndKey>, TlsError> {
        let identity = identity.ok_or(TlsError::NoIdentity)?;
        if let Some(own) = &self.own {
            return Ok(own.clone());
        }
        let generated = libp2p_tls::certificate::generate(identity.keypair());
        let (certificate, key) =
            generated.map_err(|error| TlsError::Generate { source: error.into() })?;
        // Not `from_der`: its check cannot read a certificate with the extension of libp2p, and
        // this one was just made for its key.
        let key = self.provider().key_provider.load_private_key(key).map_err(setup)?;
        let own = SingleCertAndKey::from(CertifiedKey::new(vec![certificate], key));
        Ok(self.own.insert(Arc::new(own)).clone())
    }
}

type ClientBuilder = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn client_builder(
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<ClientBuilder, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(crypto::VERSIONS).map_err(setup)?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier))
}

fn finish_client(mut config: ClientConfig, alpn: Vec<Vec<u8>>) -> ClientConfig {
    config.alpn_protocols = alpn;
    config.enable_early_data = false;
    config.key_log = Arc::new(NoKeyLog);
    config
}

fn server(
    provider: Arc<CryptoProvider>,
    clients: AnyPeer,
    certificate: Arc<dyn ResolvesServerCert>,
    tickets: Arc<dyn ProducesTickets>,
    alpn: Vec<Vec<u8>>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider);
    let mut config = builder
        .with_protocol_versions(crypto::VERSIONS)
        .map_err(setup)?
        .with_client_cert_verifier(Arc::new(clients))
        .with_cert_resolver(certificate);
    config.alpn_protocols = alpn;
    config.max_early_data_size = 0;
    config.key_log = Arc::new(NoKeyLog);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = tickets;
    Ok(Arc::new(config))
}

fn no_roots(error: impl std::error::Error + Send + Sync + 'static) -> TlsError {
    TlsError::NoRoots { source: Box::new(error) }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.0.settings;
        f.debug_struct("Tls")
            .field("identity", &settings.identity)
            .field("certificate", &settings.certificate)
            .field("roots", &settings.roots.as_ref().map(|roots| roots.len()))
            .field("own_client_config", &settings.client_config.is_some())
            .field("own_server_config", &settings.server_config.is_some())
            .field("presenting_identity", &settings.presenting)
            .finish()
    }
}
