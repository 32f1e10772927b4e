//! The key that a node is known by.

use std::{
    error::Error,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use ed25519::{
    KeypairBytes,
    pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, spki::der::pem::LineEnding},
};
use libp2p_identity::{Keypair, ed25519 as keys};
use network_core::PeerId;
use zeroize::{Zeroize as _, Zeroizing};

use crate::{
    crypto,
    file::{self, FileError},
};

/// The Ed25519 key of a node, which its peer id is the name of.
///
/// Who has the key is the node: keep it in a file that only the node can read, and give it to
/// nobody. It is held once, however often this is cloned, and is overwritten with the last
/// clone. Neither `Debug` nor an error shows it.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    keypair: Keypair,
    peer_id: PeerId,
}

/// Why there is no identity, or why it cannot be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file has no key in it.
    #[error("{} holds no identity", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<IdentityError>,
    },
    /// This is no Ed25519 key.
    #[error(
        "this is no Ed25519 private key in PKCS#8: make one with `Identity::generate`, or \
         `openssl genpkey -algorithm ed25519`"
    )]
    NotAKey {
        /// What is wrong with it.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The key and the public key next to it are not of one pair.
    #[error("the public key that stands with this private key is another's: make a new key")]
    OtherPublicKey,
    /// The key cannot be used, or not be written. No such key is known.
    #[error("this key cannot be used: make a new one")]
    Unusable {
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes to make a key of")]
    NoRandomness,
}

impl Identity {
    /// A new key.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn generate() -> Result<Self, IdentityError> {
        let mut seed = Zeroizing::new([0; 32]);
        let random = crypto::provider().secure_random.fill(seed.as_mut());
        random.map_err(|_| IdentityError::NoRandomness)?;
        Self::from_bytes(&mut seed)
    }

    /// The key of this seed. The bytes given are overwritten with zeros.
    ///
    /// # Errors
    /// None that is known: every 32 bytes are a seed.
    pub fn from_bytes(seed: &mut [u8; 32]) -> Result<Self, IdentityError> {
        let keypair = Keypair::ed25519_from_bytes(seed.as_mut_slice());
        seed.zeroize();
        let keypair = keypair.map_err(unusable)?;
        let peer_id = PeerId::from_bytes(&keypair.public().to_peer_id().to_bytes());
        let peer_id = peer_id.map_err(unusable)?;
        Ok(Self(Arc::new(Inner { keypair, peer_id })))
    }

    /// The key in this PKCS#8 structure, as RFC 8410 has it. A public key may stand with it.
    ///
    /// # Errors
    /// It holds no Ed25519 key.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, IdentityError> {
        Self::of(KeypairBytes::from_pkcs8_der(der))
    }

    /// The key in this PEM text, as `openssl genpkey -algorithm ed25519` writes it.
    ///
    /// # Errors
    /// It holds no Ed25519 key.
    pub fn from_pkcs8_pem(pem: &str) -> Result<Self, IdentityError> {
        Self::of(KeypairBytes::from_pkcs8_pem(pem))
    }

    fn of(parsed: ed25519::pkcs8::Result<KeypairBytes>) -> Result<Self, IdentityError> {
        let mut pair = parsed.map_err(not_a_key)?;
        let identity = Self::from_bytes(&mut pair.secret_key)?;
        if let Some(public) = pair.public_key
            && public.to_bytes() != identity.pair()?.public().to_bytes()
        {
            return Err(IdentityError::OtherPublicKey);
        }
        Ok(identity)
    }

    /// The key in a PEM file.
    ///
    /// On Unix a file is refused that others than its owner can read. Elsewhere it is for you
    /// to see to that.
    ///
    /// # Errors
    /// The file cannot be used, or holds no Ed25519 key.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, IdentityError> {
        let path = path.as_ref();
        let pem = file::read_key(path)?;
        let pem = std::str::from_utf8(&pem).map_err(not_a_key);
        pem.and_then(Self::from_pkcs8_pem).map_err(|problem| IdentityError::InFile {
            path: path.to_owned(),
            source: Box::new(problem),
        })
    }

    /// Writes the key to a new PEM file, which on Unix only its owner can read. A file that
    /// exists is never overwritten.
    ///
    /// # Errors
    /// The file exists, or cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), IdentityError> {
        let both = Zeroizing::new(self.pair()?.to_bytes());
        let mut pair = KeypairBytes::from_bytes(&both);
        // Without it this is PKCS#8 of the first version, which every program reads.
        pair.public_key = None;
        let pem = pair.to_pkcs8_pem(LineEnding::LF);
        let pem = pem.map_err(unusable)?;
        Ok(file::create_key(path.as_ref(), pem.as_bytes())?)
    }

    /// The key in a PEM file; where there is no file, a new key, written to it.
    ///
    /// Of two programs that start at once with one path, one may find the file half written:
    /// an error, and no second key.
    ///
    /// # Errors
    /// As for [`load`](Self::load) and [`save`](Self::save).
    pub fn load_or_generate(path: impl AsRef<Path>) -> Result<Self, IdentityError> {
        let path = path.as_ref();
        match Self::load(path) {
            Err(IdentityError::File(problem)) if problem.is_not_found() => {}
            loaded => return loaded,
        }
        let identity = Self::generate()?;
        match identity.save(path) {
            Ok(()) => {
                let peer = identity.peer_id();
                tracing::info!(%peer, path = %path.display(), "made a new identity");
                Ok(identity)
            }
            // Somebody else was quicker; there is one identity, and it is theirs.
            Err(IdentityError::File(FileError::Exists { .. })) => Self::load(path),
            Err(problem) => Err(problem),
        }
    }

    /// What others know this node by.
    pub fn peer_id(&self) -> PeerId {
        self.0.peer_id
    }

    /// Derives a secret for another use, and writes it to `key`: HKDF with SHA-256 (RFC 5869) of
    /// this key, with `label` as the salt and `context` as what it is for. It is the same each
    /// time, another one for each label and context, and tells nothing of this key. Wipe it when
    /// it is not needed any more.
    ///
    /// # Errors
    /// None that is known.
    pub fn derive_key(
        &self,
        label: &str,
        context: &[u8],
        key: &mut [u8; 32],
    ) -> Result<(), IdentityError> {
        let both = Zeroizing::new(self.pair()?.to_bytes());
        let secret = Salt::new(HKDF_SHA256, label.as_bytes()).extract(both.as_slice());
        let context = [context];
        let expanded = secret.expand(&context, HKDF_SHA256);
        expanded.and_then(|expanded| expanded.fill(key)).map_err(unusable)
    }

    pub(crate) fn keypair(&self) -> &Keypair {
        &self.0.keypair
    }

    fn pair(&self) -> Result<keys::Keypair, IdentityError> {
        let pair = self.0.keypair.clone();
        pair.try_into_ed25519().map_err(unusable)
    }
}

fn not_a_key(source: impl Error + Send + Sync + 'static) -> IdentityError {
    IdentityError::NotAKey { source: Box::new(source) }
}

fn unusable(source: impl Error + Send + Sync + 'static) -> IdentityError {
    IdentityError::Unusable { source: Box::new(source) }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.0.peer_id).finish()
    }
}
