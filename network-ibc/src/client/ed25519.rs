//! Ed25519 as Cosmos chains check it.
//!
//! CometBFT and the Cosmos SDK take a signature by the rules of ZIP 215: the cofactored equation,
//! and points in any encoding. aws-lc checks the equation without the cofactor and compares
//! encodings, so it takes a part of those signatures: what it takes is valid by ZIP 215 too, but
//! a signer who wants to can make a signature that only ZIP 215 takes. Clients must not disagree
//! with the chain's own validators over such a signature, or its headers would be believed
//! elsewhere and not here. So aws-lc, which is faster, is asked first, and what it refuses is
//! judged by the slower rules. Only a bad signature is checked twice.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use tendermint::{
    PublicKey, Signature,
    crypto::{
        default::signature::Verifier as Zip215,
        signature::{Error, Verifier},
    },
};

/// The check, as the verifier of headers asks for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ed25519;

impl Verifier for Ed25519 {
    fn verify(key: PublicKey, message: &[u8], signature: &Signature) -> Result<(), Error> {
        if let PublicKey::Ed25519(key) = &key
            && quick(key.as_bytes(), message, signature.as_bytes())
        {
            return Ok(());
        }
        Zip215::verify(key, message, signature)
    }
}

/// Whether `signature` is one of `message` by `key`.
pub(crate) fn verify(key: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    if quick(key, message, signature) {
        return true;
    }
    let Some(key) = PublicKey::from_raw_ed25519(key) else { return false };
    let Ok(Some(signature)) = Signature::new(signature) else { return false };
    Zip215::verify(key, message, &signature).is_ok()
}

fn quick(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok()
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

    use super::*;

    #[test]
    fn what_only_zip_215_takes_is_taken() {
        // The key is the neutral point, R is the point of order two, S is zero: the equation
        // holds for any message once it is multiplied by the cofactor, and not before.
        let mut key = [0; 32];
        key[0] = 1;
        let mut signature = [0; 64];
        signature[..32].fill(0xff);
        signature[0] = 0xec;
        signature[31] = 0x7f;
        assert!(!quick(&key, b"any", &signature));
        assert!(verify(&key, b"any", &signature));

        let key = PublicKey::from_raw_ed25519(&key).unwrap();
        let signature = Signature::new(signature).unwrap().unwrap();
        Ed25519::verify(key, b"any", &signature).unwrap();
    }

    #[test]
    fn an_honest_signature_is_taken_and_no_other() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
        let key: [u8; 32] = pair.public_key().as_ref().try_into().unwrap();
        let signature = pair.sign(b"this");
        assert!(quick(&key, b"this", signature.as_ref()));
        assert!(verify(&key, b"this", signature.as_ref()));
        assert!(!verify(&key, b"that", signature.as_ref()));
        assert!(!verify(&[0xff; 32], b"this", signature.as_ref()));
        for length in [0, 63, 65] {
            assert!(!verify(&key, b"this", &[0; 65][..length]));
        }
    }
}
