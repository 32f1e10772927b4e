//! To be a solo machine: its key, what it must remember, and what it signs.

use std::{fmt, sync::Arc};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use bytes::Bytes;
use ibc_proto::{
    cosmos::tx::signing::v1beta1::signature_descriptor::{
        Data as SignatureData,
        data::{Single, Sum},
    },
    google::protobuf::Any,
    ibc::lightclients::solomachine::v3 as raw,
};
use k256::ecdsa::{Signature, SigningKey, signature::Signer};
use prost::Message;

use super::{
    super::{ClientError, read},
    HEADER_PATH,
    keys::PublicKey,
    only_spaces,
};
use crate::height::Timestamp;

/// How a solo machine stands with its client at one counterparty.
///
/// Whoever signs two things at one sequence can be shown to have lied, if both name the diversifier
/// that the client has then. So a signature needs a [`Turn`], and a turn is [taken](Self::take) out
/// of this state. What was shown under a state that came to nothing is to be followed by a
/// [rotation](Self::take_rotation) to a diversifier that was never used: under that one, no sequence
/// was signed at before.
///
/// Each client needs a state of its own. Two clients that know the same key must differ in their
/// diversifiers, or what is signed for one can be shown to the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SoloState {
    pub(super) sequence: u64,
    /// The time of the last signature, in nanoseconds.
    pub(super) timestamp: u64,
    pub(super) diversifier: Arc<str>,
}

impl SoloState {
    /// The state of a client that has taken nothing yet.
    ///
    /// # Errors
    /// The time is zero, or the diversifier has spaces only.
    pub(crate) fn new(diversifier: &str, now: Timestamp) -> Result<Self, ClientError> {
        Self::at(1, diversifier, now)
    }

    /// The state of a client that takes its next signature at a sequence, and took the last one
    /// at `time` or before.
    ///
    /// # Errors
    /// The sequence or the time is zero, or the diversifier has spaces only.
    pub(crate) fn at(
        sequence: u64,
        diversifier: &str,
        time: Timestamp,
    ) -> Result<Self, ClientError> {
        check(diversifier)?;
        if sequence == 0 || time.is_zero() {
            return Err(invalid("its sequence and its time must be above 0"));
        }
        Ok(Self { sequence, timestamp: time.as_nanos(), diversifier: diversifier.into() })
    }

    /// The sequence of the next signature.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// What the next signature names besides.
    pub(crate) fn diversifier(&self) -> &str {
        &self.diversifier
    }

    /// The right to sign one thing. Its time is `now`, but never before that of the last turn,
    /// as a client takes none that is.
    ///
    /// # Errors
    /// All 2^64 sequences have been taken.
    pub(crate) fn take(&mut self, now: Timestamp) -> Result<Turn, ClientError> {
        let sequence = self.sequence;
        self.sequence = sequence.checked_add(1).ok_or_else(|| invalid("no sequence is left"))?;
        self.timestamp = self.timestamp.max(now.as_nanos());
        Ok(Turn { sequence, timestamp: self.timestamp, diversifier: self.diversifier.clone() })
    }

    /// The right to sign that another key, or the same, goes on with this diversifier.
    ///
    /// # Errors
    /// All 2^64 sequences have been taken, or the diversifier has spaces only.
    pub(crate) fn take_rotation(
        &mut self,
        now: Timestamp,
        diversifier: &str,
    ) -> Result<Rotation, ClientError> {
        check(diversifier)?;
        let turn = self.take(now)?;
        self.diversifier = diversifier.into();
        Ok(Rotation { turn, diversifier: self.diversifier.clone() })
    }
}

/// The right to sign one thing at one sequence: see [`SoloState`]. It is used up by signing.
#[derive(Debug)]
#[must_use = "the sequence is taken, and only this can use it"]
pub(crate) struct Turn {
    pub(super) sequence: u64,
    pub(super) timestamp: u64,
    pub(super) diversifier: Arc<str>,
}

/// The right to sign which key comes next.
#[derive(Debug)]
#[must_use = "the sequence is taken, and only this can use it"]
pub(crate) struct Rotation {
    pub(super) turn: Turn,
    pub(super) diversifier: Arc<str>,
}

/// The key of a solo machine (ICS-006), which signs each of its claims.
///
/// Whoever has it is the machine, to all who have a client of it.
pub struct SoloKey {
    secret: Secret,
    public: PublicKey,
}

enum Secret {
    Secp256k1(SigningKey),
    Ed25519(Ed25519KeyPair),
}

impl SoloKey {
    /// A secp256k1 key by its 32 bytes, the highest first. Every chain that has solo machines knows
    /// such keys.
    ///
    /// # Errors
    /// They are zero, or not below the order of the curve.
    pub fn secp256k1(secret: &[u8; 32]) -> Result<Self, ClientError> {
        let secret =
            SigningKey::from_slice(secret).map_err(|_| invalid("its secp256k1 key is no key"))?;
        let public = PublicKey::Secp256k1(*secret.verifying_key());
        Ok(Self { secret: Secret::Secp256k1(secret), public })
    }

    /// An Ed25519 key by the 32 bytes of its seed (RFC 8032 §5.1.5). It signs several times as fast.
    ///
    /// # Errors
    /// The seed is refused, which no seed of 32 bytes is known to be.
    pub fn ed25519(seed: &[u8; 32]) -> Result<Self, ClientError> {
        let refused = || invalid("its Ed25519 key is no key");
        let secret = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| refused())?;
        let public = secret.public_key().as_ref().try_into().map_err(|_| refused())?;
        Ok(Self { secret: Secret::Ed25519(secret), public: PublicKey::Ed25519(public) })
    }

    /// The kind of the key and its public half, as text.
    pub(crate) fn name(&self) -> String {
        self.public.to_string()
    }

    /// The public key, as clients store it.
    pub(crate) fn to_any(&self) -> Any {
        self.public.to_any()
    }

    /// The client state and the consensus state to create a client of this machine with, as the
    /// machine is.
    pub(crate) fn states(&self, state: &SoloState) -> (Any, Any) {
        let consensus = raw::ConsensusState {
            public_key: Some(self.to_any()),
            diversifier: state.diversifier.to_string(),
            timestamp: state.timestamp,
        };
        let client = raw::ClientState {
            sequence: state.sequence,
            is_frozen: false,
            consensus_state: Some(consensus.clone()),
        };
        (read::any(&client), read::any(&consensus))
    }

    /// Signs that there is a value at a key of the machine's store, or none: the bytes of a proof
    /// (ibc-go, `client_state.go`). The key is as in ICS-024, without the store's name.
    ///
    /// # Errors
    /// The value is empty, which would be signed as if there were none, or the key cannot sign.
    pub(crate) fn prove(
        &self,
        turn: Turn,
        path: &str,
        value: Option<&[u8]>,
    ) -> Result<Bytes, ClientError> {
        if value.is_some_and(<[u8]>::is_empty) {
            return Err(invalid("an empty value cannot be proved"));
        }
        let timestamp = turn.timestamp;
        let signature_data = self.sign(turn, path.as_bytes(), value.unwrap_or_default())?;
        let proof = raw::TimestampedSignatureData { signature_data, timestamp };
        Ok(Bytes::from(proof.encode_to_vec()))
    }

    /// Signs that from here on `next` is the machine's key: the header to update a client with
    /// (ibc-go, `update.go`, `verifyHeader`). With the machine's own key it only moves the
    /// client's time, which timeouts need.
    ///
    /// # Errors
    /// The key cannot sign.
    pub(crate) fn rotate(&self, rotation: Rotation, next: &Self) -> Result<Any, ClientError> {
        let Rotation { turn, diversifier } = rotation;
        let timestamp = turn.timestamp;
        let data = raw::HeaderData {
            new_pub_key: Some(next.to_any()),
            new_diversifier: diversifier.to_string(),
        };
        let signature = self.sign(turn, HEADER_PATH, &data.encode_to_vec())?;
        Ok(read::any(&raw::Header {
            timestamp,
            signature,
            new_public_key: data.new_pub_key,
            new_diversifier: data.new_diversifier,
        }))
    }

    fn sign(&self, turn: Turn, path: &[u8], data: &[u8]) -> Result<Vec<u8>, ClientError> {
        let bytes = raw::SignBytes {
            sequence: turn.sequence,
            timestamp: turn.timestamp,
            diversifier: turn.diversifier.to_string(),
            path: path.to_vec(),
            data: data.to_vec(),
        }
        .encode_to_vec();
        let refused = || invalid("its key cannot sign");
        let signature = match &self.secret {
            // By RFC 6979, with a low S: the same thing is always signed alike.
            Secret::Secp256k1(key) => {
                let signature: Signature = key.try_sign(&bytes).map_err(|_| refused())?;
                signature.to_vec()
            }
            Secret::Ed25519(key) => key.try_sign(&bytes).map_err(|_| refused())?.as_ref().to_vec(),
        };
        // No mode is named: nothing was shown to a person in any.
        let single = Single { mode: 0, signature };
        Ok(SignatureData { sum: Some(Sum::Single(single)) }.encode_to_vec())
    }
}

/// Shows the public key alone.
impl fmt::Debug for SoloKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SoloKey({})", self.public)
    }
}

fn check(diversifier: &str) -> Result<(), ClientError> {
    if only_spaces(diversifier) {
        return Err(invalid("its diversifier has spaces only"));
    }
    Ok(())
}

fn invalid(reason: &str) -> ClientError {
    ClientError::Invalid { what: "solo machine", reason: reason.to_owned() }
}
