//! The certificate of a listener that is dialed by name.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    crypto::aws_lc_rs::Ticketer,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
    server::{ClientHello, ProducesTickets, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::{
    crypto,
    file::{self, FileError},
};

/// A chain of certificates and the private key of the first, as an authority gives them out.
///
/// A clone is the same certificate: what is changed in one is changed in all, and so in every
/// listener that has it. What is changed counts for new connections; open ones stay, and
/// none of the old certificate's is resumed.
#[derive(Clone)]
pub struct Certificate(Arc<Inner>);

struct Inner {
    files: Option<Files>,
    current: RwLock<Current>,
}

#[derive(Debug)]
struct Files {
    chain: PathBuf,
    key: PathBuf,
}

#[derive(Clone)]
struct Current {
    key: Arc<CertifiedKey>,
    /// Seals the tickets of its connections.
    tickets: Arc<dyn ProducesTickets>,
    /// How often it was replaced.
    edition: u64,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// There are no certificates.
    #[error("there is no certificate: PEM has it between BEGIN CERTIFICATE and END CERTIFICATE")]
    NoChain,
    /// There is no private key.
    #[error(
        "there is no private key: PEM has it between BEGIN PRIVATE KEY and END PRIVATE KEY, and \
         it is not encrypted"
    )]
    NoKey,
    /// It is not PEM.
    #[error("the {what} is no PEM")]
    Pem {
        /// What is read: `certificate` or `private key`.
        what: &'static str,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// The certificate and the key do not go together, or are of a kind that is not known.
    #[error("the first certificate and the private key cannot be used together")]
    Unusable {
        /// Why.
        source: rustls::Error,
    },
    /// There are no files to read again.
    #[error("this certificate was not read from files: give the new one to `replace_pem`")]
    NoFiles,
}

impl Certificate {
    /// The certificate in these texts in PEM: its own first, then those that lead to the
    /// authority; and its private key.
    ///
    /// # Errors
    /// They are no such thing, or the key is another certificate's.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        Ok(Self::of(Current::from_pem(chain, key)?, None))
    }

    /// The certificate in these PEM files, which may be one and the same.
    ///
    /// On Unix the file of the key is refused if others than its owner can read it.
    ///
    /// # Errors
    /// The files cannot be used, or as for [`from_pem`](Self::from_pem).
    pub fn load(
        chain: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Result<Self, CertificateError> {
        let files = Files { chain: chain.into(), key: key.into() };
        Ok(Self::of(files.read()?, Some(files)))
    }

    fn of(current: Current, files: Option<Files>) -> Self {
        Self(Arc::new(Inner { files, current: RwLock::new(current) }))
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// As for [`load`](Self::load), or it was not read from files. The old one stays.
    pub fn reload(&self) -> Result<(), CertificateError> {
        let files = self.0.files.as_ref().ok_or(CertificateError::NoFiles)?;
        self.replace(files.read()?);
        Ok(())
    }

    /// Puts another certificate in its place.
    ///
    /// # Errors
    /// As for [`from_pem`](Self::from_pem). The old one stays.
    pub fn replace_pem(&self, chain: &[u8], key: &[u8]) -> Result<(), CertificateError> {
        self.replace(Current::from_pem(chain, key)?);
        Ok(())
    }

    fn replace(&self, new: Current) {
        let mut current = self.0.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Current { edition: current.edition + 1, ..new };
    }

    /// Another one for each certificate that it was.
    pub(crate) fn edition(&self) -> u64 {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).edition
    }

    fn current(&self) -> Current {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Files {
    fn read(&self) -> Result<Current, CertificateError> {
        Current::from_pem(&file::read_chain(&self.chain)?, &file::read_key(&self.key)?)
    }
}

impl Current {
    fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(|source| CertificateError::Pem { what: "certificate", source })?;
        if chain.is_empty() {
            return Err(CertificateError::NoChain);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|source| match source {
            pem::Error::NoItemsFound => CertificateError::NoKey,
            source => CertificateError::Pem { what: "private key", source },
        })?;
        let unusable = |source| CertificateError::Unusable { source };
        // Which also refuses a key that is not the certificate's.
        let key = CertifiedKey::from_der(chain, key, &crypto::provider()).map_err(unusable)?;
        let tickets = Ticketer::new().map_err(unusable)?;
        Ok(Self { key: Arc::new(key), tickets, edition: 0 })
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current().key)
    }
}

/// Tickets are sealed with keys that go with the certificate. So who holds a ticket of an old
/// one is shown the new one.
impl ProducesTickets for Certificate {
    fn enabled(&self) -> bool {
        self.current().tickets.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.current().tickets.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.current().tickets.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.current().tickets.decrypt(cipher)
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = self.0.files.as_ref();
        let path = |of: fn(&Files) -> &Path| files.map(of);
        f.debug_struct("Certificate")
            .field("chain", &path(|files| &files.chain))
            .field("key", &path(|files| &files.key))
            .finish_non_exhaustive()
    }
}
