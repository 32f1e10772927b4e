//! `06-solomachine`: a client of someone with one key, who signs each thing that he claims
//! (ICS-006), and what it takes to be him.
//!
//! The model for the order of the checks is ibc-go v10, `modules/light-clients/06-solomachine`;
//! the types are those of its version 3 (`ibc.lightclients.solomachine.v3`, ibc-go v7 and later).
//! Each signature is of a sequence, which no other may be of: every proof and every header that
//! is taken adds one to it. Deviations, each stricter:
//!
//! - Keys are secp256k1 and Ed25519; there are no multisignatures, and a key that is no point of
//!   its curve is refused when it comes.
//! - An empty value proves nothing: its signature is also that of the value's absence.

mod keys;
mod signer;

use bytes::Bytes;
use ibc_proto::{
    cosmos::tx::signing::v1beta1::signature_descriptor::{Data as SignatureData, data::Sum},
    google::protobuf::Any,
    ibc::lightclients::solomachine::v3 as raw,
};
use prost::Message;

use self::keys::PublicKey;
pub use self::signer::SoloKey;
pub(crate) use self::signer::SoloState;
use super::{Claim, ClientError, ClientStore, LightClient, Status, Updated, error::excerpt, read};
use crate::height::{At, Height, Timestamp};

/// The name of the kind.
pub(crate) const KIND: &str = "06-solomachine";
/// The type of the kind's client state.
pub(super) const CLIENT_STATE: &str = "/ibc.lightclients.solomachine.v3.ClientState";

const HEADER: &str = "/ibc.lightclients.solomachine.v3.Header";
const MISBEHAVIOUR: &str = "/ibc.lightclients.solomachine.v3.Misbehaviour";

/// What a header is signed as (ibc-go, `header.go`, `SentinelHeaderPath`).
const HEADER_PATH: &[u8] = b"solomachine:header";
/// How many bytes a proof may have: a signature, in two wrappers, and a time.
const MAX_PROOF: usize = 1_024;
/// How many bytes a header may have: a signature, a key and a diversifier.
const MAX_HEADER: usize = 16 * 1_024;
/// How many bytes evidence of misbehaviour may have: what was signed is in it.
const MAX_EVIDENCE: usize = 128 * 1_024;

/// Clients of kind `06-solomachine`.
#[derive(Debug, Default)]
pub(crate) struct SoloMachine;

impl LightClient for SoloMachine {
    /// ibc-go, `light_client_module.go`, `Initialize`.
    fn initialize(
        &self,
        store: &mut dyn ClientStore,
        client_state: &Any,
        consensus_state: &Any,
        _at: At,
    ) -> Result<(), ClientError> {
        let state: raw::ClientState =
            read::message("06-solomachine client state", client_state, read::MAX_STATE)?;
        let invalid = |what, reason: &str| ClientError::Invalid { what, reason: reason.to_owned() };
        if state.sequence == 0 {
            return Err(invalid("06-solomachine client state", "its sequence must be above 0"));
        }
        let Some(inner) = &state.consensus_state else {
            return Err(read::missing("06-solomachine client state", "consensus state"));
        };
        let consensus: raw::ConsensusState =
            read::message("06-solomachine consensus state", consensus_state, read::MAX_STATE)?;
        validate_consensus(&consensus)?;
        if *inner != consensus {
            return Err(invalid(
                "06-solomachine client state",
                "its consensus state is not the one beside it",
            ));
        }
        put(store, &state);
        Ok(())
    }

    fn update(
        &self,
        store: &mut dyn ClientStore,
        message: &Any,
        _at: At,
    ) -> Result<Updated, ClientError> {
        let machine = Machine::get(store)?;
        match message.type_url.as_str() {
            HEADER => {
                let header = read::message("06-solomachine header", message, MAX_HEADER)?;
                machine.rotate(store, header)
            }
            MISBEHAVIOUR => {
                let evidence = read::message("06-solomachine evidence", message, MAX_EVIDENCE)?;
                machine.judge(store, &evidence)?;
                let mut state = machine.state;
                state.is_frozen = true;
                put(store, &state);
                Ok(Updated::Frozen)
            }
            other => Err(ClientError::Malformed {
                what: "06-solomachine client message",
                reason: format!(
                    "it is of type {}, and should be a Header or Misbehaviour",
                    excerpt(other)
                ),
            }),
        }
    }

    /// ibc-go, `client_state.go`, `verifyMembership` and `verifyNonMembership`. There is no delay:
    /// nothing lies between the claim and its signature.
    fn verify(
        &self,
        store: &mut dyn ClientStore,
        claim: &Claim<'_>,
        _at: At,
    ) -> Result<(), ClientError> {
        let machine = Machine::get(store)?;
        let state = machine.prove(claim).map_err(|reason| ClientError::Proof {
            client: store.client().clone(),
            path: excerpt(claim.path),
            reason,
        })?;
        put(store, &state);
        Ok(())
    }

    fn status(&self, store: &dyn ClientStore, _at: At) -> Result<Status, ClientError> {
        let frozen = get(store)?.is_frozen;
        Ok(if frozen { Status::Frozen } else { Status::Active })
    }

    /// The sequence, as a number of revision 0.
    fn latest_height(&self, store: &dyn ClientStore) -> Result<Height, ClientError> {
        Ok(Height::new(0, get(store)?.sequence))
    }

    fn diversifier(&self, store: &dyn ClientStore) -> Result<Option<String>, ClientError> {
        Ok(Some(get(store)?.consensus_state.unwrap_or_default().diversifier))
    }

    /// The time of the last thing that was signed, whatever the height.
    fn timestamp_at(
        &self,
        store: &dyn ClientStore,
        _height: Height,
    ) -> Result<Timestamp, ClientError> {
        let consensus = get(store)?.consensus_state.unwrap_or_default();
        Ok(Timestamp::from_nanos(consensus.timestamp))
    }
}

/// What a client stores, and the key in it.
struct Machine {
    state: raw::ClientState,
    consensus: raw::ConsensusState,
    key: PublicKey,
}

impl Machine {
    fn get(store: &dyn ClientStore) -> Result<Self, ClientError> {
        let mut state = get(store)?;
        let consensus = state.consensus_state.take().ok_or_else(|| {
            read::missing("stored 06-solomachine client state", "consensus state")
        })?;
        let key = PublicKey::read(consensus.public_key.as_ref())
            .map_err(|reason| read::malformed("stored 06-solomachine client state", &reason))?;
        Ok(Self { state, consensus, key })
    }

    /// Checks the signature of a claim. What the client knows then is for the caller to store.
    fn prove(mut self, claim: &Claim<'_>) -> Result<raw::ClientState, String> {
        if claim.proof.len() > MAX_PROOF {
            return Err(format!("it has {} bytes, and may have {MAX_PROOF}", claim.proof.len()));
        }
        if claim.prefix.is_empty() {
            return Err("the connection names no store: its prefix is empty".to_owned());
        }
        if claim.value.is_some_and(<[u8]>::is_empty) {
            return Err("an empty value cannot be proved".to_owned());
        }
        let proof = raw::TimestampedSignatureData::decode(claim.proof)
            .map_err(|error| format!("it cannot be read: {error}"))?;
        let signature = signature(&proof.signature_data)?;
        if proof.timestamp < self.consensus.timestamp {
            return Err(format!(
                "it was signed at {}, before the last thing that the machine signed, at {}",
                proof.timestamp, self.consensus.timestamp
            ));
        }
        let bytes = raw::SignBytes {
            sequence: self.state.sequence,
            timestamp: proof.timestamp,
            // Taken, and given back below: both have it.
            diversifier: std::mem::take(&mut self.consensus.diversifier),
            path: claim.path.as_bytes().to_vec(),
            data: claim.value.unwrap_or_default().to_vec(),
        };
        if !self.key.verify(&bytes.encode_to_vec(), &signature) {
            return Err(format!(
                "the machine's key did not sign this claim with the sequence {}",
                bytes.sequence
            ));
        }
        self.consensus.diversifier = bytes.diversifier;
        self.consensus.timestamp = proof.timestamp;
        self.next().ok_or_else(|| "the machine has no sequence left".to_owned())
    }

    /// Takes a header: another key and diversifier from here on (ibc-go, `header.go`,
    /// `ValidateBasic`, and `update.go`, `verifyHeader`).
    fn rotate(
        mut self,
        store: &mut dyn ClientStore,
        header: raw::Header,
    ) -> Result<Updated, ClientError> {
        let client = store.client().clone();
        let height = Height::new(0, self.state.sequence);
        let refused = |reason: &str| ClientError::Header {
            client: client.clone(),
            height,
            reason: excerpt(reason),
        };
        if header.timestamp == 0 {
            return Err(refused("it has no time"));
        }
        if only_spaces(&header.new_diversifier) {
            return Err(refused("its diversifier has spaces only"));
        }
        PublicKey::read(header.new_public_key.as_ref()).map_err(|reason| refused(&reason))?;
        if header.timestamp < self.consensus.timestamp {
            return Err(refused("it was signed before the last thing that the machine signed"));
        }
        let signature = signature(&header.signature).map_err(|reason| refused(&reason))?;
        let data = raw::HeaderData {
            new_pub_key: header.new_public_key.clone(),
            new_diversifier: header.new_diversifier.clone(),
        };
        let bytes = raw::SignBytes {
            sequence: self.state.sequence,
            timestamp: header.timestamp,
            diversifier: self.consensus.diversifier.clone(),
            path: HEADER_PATH.to_vec(),
            data: data.encode_to_vec(),
        };
        if !self.key.verify(&bytes.encode_to_vec(), &signature) {
            return Err(refused("the machine's key did not sign it with this sequence"));
        }
        self.consensus = raw::ConsensusState {
            public_key: header.new_public_key,
            diversifier: header.new_diversifier,
            timestamp: header.timestamp,
        };
        let state = self.next().ok_or_else(|| refused("the machine has no sequence left"))?;
        put(store, &state);
        Ok(Updated::Heights(vec![Height::new(0, state.sequence)]))
    }

    /// Checks that the machine signed two things at one sequence (ibc-go, `misbehaviour.go`,
    /// `ValidateBasic`, and `misbehaviour_handle.go`, `verifySignatureAndData`).
    ///
    /// What was signed must have been signed at a path that reads as a protobuf `MerklePath`,
    /// as ibc-go demands, though the paths of proofs are plain keys, which do not. Not to demand
    /// it would freeze machines that ibc-go leaves alone: one that has to sign at a sequence
    /// again, since the message with its first signature was refused for good, has two
    /// signatures there that anyone may show.
    fn judge(
        &self,
        store: &dyn ClientStore,
        evidence: &raw::Misbehaviour,
    ) -> Result<(), ClientError> {
        let refused = |reason: &str| ClientError::Evidence {
            client: store.client().clone(),
            reason: excerpt(reason),
        };
        let (Some(one), Some(two)) = (&evidence.signature_one, &evidence.signature_two) else {
            return Err(refused("it has not two signatures"));
        };
        if evidence.sequence == 0 {
            return Err(refused("it is of no sequence"));
        }
        for signed in [one, two] {
            let whole = !signed.signature.is_empty()
                && !signed.data.is_empty()
                && !signed.path.is_empty()
                && signed.timestamp != 0;
            if !whole {
                return Err(refused("what was signed is not whole"));
            }
        }
        if one.signature == two.signature {
            return Err(refused("its signatures are one"));
        }
        if one.path == two.path && one.data == two.data {
            return Err(refused("both signatures are of the same thing"));
        }
        for signed in [one, two] {
            if MerklePath::decode(&signed.path[..]).is_err() {
                return Err(refused("a path in it does not read as a MerklePath"));
            }
            let bytes = raw::SignBytes {
                sequence: evidence.sequence,
                timestamp: signed.timestamp,
                diversifier: self.consensus.diversifier.clone(),
                path: signed.path.clone(),
                data: signed.data.clone(),
            };
            let signature = signature(&signed.signature).map_err(|reason| refused(&reason))?;
            if !self.key.verify(&bytes.encode_to_vec(), &signature) {
                return Err(refused("the machine's key did not sign what it says"));
            }
        }
        Ok(())
    }

    /// What is stored once something signed was taken.
    fn next(self) -> Option<raw::ClientState> {
        let mut state = self.state;
        state.sequence = state.sequence.checked_add(1)?;
        state.consensus_state = Some(self.consensus);
        Some(state)
    }
}

/// `ibc.core.commitment.v2.MerklePath`.
#[derive(Clone, PartialEq, Message)]
struct MerklePath {
    #[prost(bytes = "vec", repeated, tag = "1")]
    key_path: Vec<Vec<u8>>,
}

/// ibc-go, `consensus_state.go`, `ValidateBasic`.
fn validate_consensus(consensus: &raw::ConsensusState) -> Result<(), ClientError> {
    let invalid =
        |reason: String| ClientError::Invalid { what: "06-solomachine consensus state", reason };
    if consensus.timestamp == 0 {
        return Err(invalid("its time must be above 0".to_owned()));
    }
    if only_spaces(&consensus.diversifier) {
        return Err(invalid("its diversifier has spaces only".to_owned()));
    }
    PublicKey::read(consensus.public_key.as_ref()).map(|_| ()).map_err(invalid)
}

fn only_spaces(diversifier: &str) -> bool {
    !diversifier.is_empty() && diversifier.trim().is_empty()
}

/// The signature in the wrapper of the SDK's transactions.
fn signature(data: &[u8]) -> Result<Vec<u8>, String> {
    let data = SignatureData::decode(data)
        .map_err(|error| format!("its signature cannot be read: {error}"))?;
    match data.sum {
        // Its mode says how a transaction was shown to its signer: there was none.
        Some(Sum::Single(single)) if !single.signature.is_empty() => Ok(single.signature),
        Some(Sum::Single(_)) | None => Err("it has no signature".to_owned()),
        Some(Sum::Multi(_)) => Err("it has a multisignature, which is not known here".to_owned()),
    }
}

fn get(store: &dyn ClientStore) -> Result<raw::ClientState, ClientError> {
    let what = "stored 06-solomachine client state";
    let Some(bytes) = store.get("clientState") else {
        return Err(ClientError::NotFound { client: store.client().clone() });
    };
    let any: Any = read::bytes(what, &bytes, usize::MAX)?;
    read::message(what, &any, usize::MAX)
}

fn put(store: &mut dyn ClientStore, state: &raw::ClientState) {
    store.set("clientState", Bytes::from(read::any(state).encode_to_vec()));
}

#[cfg(test)]
use self::signer::{Rotation, Turn};

#[cfg(test)]
mod tests;
