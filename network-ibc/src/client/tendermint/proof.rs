//! ICS-23 proofs of a Cosmos SDK chain: a key in an IAVL tree, whose root is a value in a simple
//! Merkle tree, whose root is the header's app hash.
//!
//! The model is ibc-go v10, `modules/core/23-commitment/types/merkle.go`.

use std::sync::LazyLock;

use bytes::Bytes;
use ibc_proto::ibc::core::commitment::v1::MerkleProof;
use ics23::{
    CommitmentProof, ExistenceProof, HostFunctionsManager, NonExistenceProof, ProofSpec,
    commitment_proof::Proof,
};
use prost::Message;

use super::super::Claim;

/// How many bytes a proof may have. It holds the value it proves; of the rest, a tree of 2^40
/// keys has some 3 kB, and twice that in a proof of absence.
const MAX_PROOF: usize = 64 * 1024;
/// How many steps a path may have: more than an IAVL tree of 2^64 keys.
const MAX_DEPTH: usize = 128;

static IAVL: LazyLock<ProofSpec> = LazyLock::new(ics23::iavl_spec);
static SIMPLE: LazyLock<ProofSpec> = LazyLock::new(ics23::tendermint_spec);

/// Checks a claim against a header's app hash.
///
/// # Errors
/// The proof does not prove the claim, with the reason.
pub(super) fn verify(app_hash: &Bytes, claim: &Claim<'_>) -> Result<(), String> {
    if claim.proof.len() > MAX_PROOF {
        return Err(format!("it has {} bytes, and may have {MAX_PROOF}", claim.proof.len()));
    }
    if app_hash.is_empty() {
        return Err("the header of its height has no app hash".to_owned());
    }
    if claim.prefix.is_empty() {
        return Err("the connection names no store: its prefix is empty".to_owned());
    }
    if claim.value.is_some_and(<[u8]>::is_empty) {
        return Err("an empty value cannot be proved".to_owned());
    }
    let proof =
        MerkleProof::decode(claim.proof).map_err(|error| format!("it cannot be read: {error}"))?;
    let [inner, outer] = proof.proofs.as_slice() else {
        return Err(format!(
            "it has {} parts, and should have two: of a key in a store, and of the store",
            proof.proofs.len()
        ));
    };

    // Batches and compressed proofs are part of ICS-23, but ibc-go takes neither.
    let Some(Proof::Exist(store)) = &outer.proof else {
        return Err("its second part is no proof of existence".to_owned());
    };
    shallow(store)?;
    if !member(outer, &SIMPLE, &app_hash.to_vec(), claim.prefix, &store.value) {
        return Err(
            "its second part does not lead to the header's app hash: it is of another height, \
             another chain or another store"
                .to_owned(),
        );
    }
    let root = &store.value;
    match (claim.value, &inner.proof) {
        (Some(value), Some(Proof::Exist(exist))) => {
            shallow(exist)?;
            if exist.key != claim.path.as_bytes() {
                return Err("it is of another key".to_owned());
            }
            if exist.value != value {
                return Err("the other chain has another value at the key".to_owned());
            }
            if !member(inner, &IAVL, root, claim.path.as_bytes(), value) {
                return Err("its first part does not lead to the root of the store".to_owned());
            }
        }
        (None, Some(Proof::Nonexist(absent))) => {
            neighbours(absent)?;
            let key = claim.path.as_bytes();
            if !ics23::verify_non_membership::<HostFunctionsManager>(inner, &IAVL, root, key) {
                return Err("its first part does not show that the key is absent".to_owned());
            }
        }
        (Some(_), _) => return Err("its first part is no proof of existence".to_owned()),
        (None, _) => return Err("its first part is no proof of absence".to_owned()),
    }
    Ok(())
}

fn member(
    proof: &CommitmentProof,
    spec: &ProofSpec,
    root: &Vec<u8>,
    key: &[u8],
    value: &[u8],
) -> bool {
    ics23::verify_membership::<HostFunctionsManager>(proof, spec, root, key, value)
}

fn shallow(proof: &ExistenceProof) -> Result<(), String> {
    if proof.path.len() > MAX_DEPTH {
        return Err(format!("it has {} steps, and may have {MAX_DEPTH}", proof.path.len()));
    }
    Ok(())
}

/// Checks that the paths of two neighbours part somewhere. The `ics23` crate walks both from the
/// root to where they part, and counts on it. That paths which lead to one root do part follows
/// only from there being no collision of hashes.
fn neighbours(proof: &NonExistenceProof) -> Result<(), String> {
    for side in [&proof.left, &proof.right].into_iter().flatten() {
        shallow(side)?;
    }
    if let (Some(left), Some(right)) = (&proof.left, &proof.right) {
        let mut steps = left.path.iter().rev().zip(right.path.iter().rev());
        if steps.all(|(left, right)| left.prefix == right.prefix && left.suffix == right.suffix) {
            return Err("its two neighbours are one, or one is below the other".to_owned());
        }
    }
    Ok(())
}
