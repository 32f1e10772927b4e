//! The public keys of solo machines.

use std::fmt;

use ibc_proto::{
    cosmos::crypto::{ed25519, secp256k1},
    google::protobuf::Any,
};
use k256::ecdsa::{Signature, VerifyingKey, signature::Verifier};
use prost::{Message, Name};

use super::super::{ed25519 as zip215, error::excerpt, read};

/// How many bytes a key may have, with its wrapper.
const MAX_KEY: usize = 64;

/// A key that signatures are checked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PublicKey {
    Secp256k1(VerifyingKey),
    Ed25519([u8; 32]),
}

impl PublicKey {
    pub(super) fn read(any: Option<&Any>) -> Result<Self, String> {
        let Some(any) = any else { return Err("it has no public key".to_owned()) };
        let unreadable = |error: &dyn std::fmt::Display| {
            format!("its public key cannot be read: {}", excerpt(&error.to_string()))
        };
        if any.type_url == secp256k1::PubKey::type_url() {
            let key: secp256k1::PubKey = read::bytes("public key", &any.value, MAX_KEY)
                .map_err(|error| unreadable(&error))?;
            if key.key.len() != 33 {
                return Err("its secp256k1 key has not the 33 bytes of a compressed one".to_owned());
            }
            let key = VerifyingKey::from_sec1_bytes(&key.key)
                .map_err(|_| "its secp256k1 key is no point of the curve".to_owned())?;
            return Ok(Self::Secp256k1(key));
        }
        if any.type_url == ed25519::PubKey::type_url() {
            let key: ed25519::PubKey = read::bytes("public key", &any.value, MAX_KEY)
                .map_err(|error| unreadable(&error))?;
            let key = <[u8; 32]>::try_from(key.key)
                .map_err(|_| "its Ed25519 key has not 32 bytes".to_owned())?;
            return Ok(Self::Ed25519(key));
        }
        Err(format!(
            "its public key is of type {}: use one of secp256k1 or Ed25519",
            excerpt(&any.type_url)
        ))
    }

    pub(super) fn to_any(&self) -> Any {
        match self {
            Self::Secp256k1(key) => {
                let key = key.to_encoded_point(true).as_bytes().to_vec();
                let key = secp256k1::PubKey { key };
                Any { type_url: secp256k1::PubKey::type_url(), value: key.encode_to_vec() }
            }
            Self::Ed25519(key) => {
                let key = ed25519::PubKey { key: key.to_vec() };
                Any { type_url: ed25519::PubKey::type_url(), value: key.encode_to_vec() }
            }
        }
    }

    /// Whether `signature` is one of `message` by this key, as the Cosmos SDK checks it.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            // ECDSA over the SHA-256 of the message, 64 bytes. It takes no S above half of the
            // order, as the SDK takes none, or each signature would have a twin.
            Self::Secp256k1(key) => Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            Self::Ed25519(key) => zip215::verify(key, message, signature),
        }
    }
}

/// Its kind and its bytes.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let point;
        let (kind, key) = match self {
            Self::Secp256k1(key) => {
                point = key.to_encoded_point(true);
                ("secp256k1", point.as_bytes())
            }
            Self::Ed25519(key) => ("ed25519", &key[..]),
        };
        write!(f, "{kind} ")?;
        key.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
