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

use super::{super::Claim, quick};

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
    if quick::proves(app_hash, claim, MAX_DEPTH) {
        return Ok(());
    }
    judge(app_hash, claim)
}

/// Checks a proof of any form, and says what is wrong with it.
fn judge(app_hash: &Bytes, claim: &Claim<'_>) -> Result<(), String> {
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

/// A part of a store in which there are no keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    /// The keys at its two ends, which are there; there is none where the store begins and ends.
    after: Option<Vec<u8>>,
    before: Option<Vec<u8>>,
}

impl Gap {
    /// What a proof of absence shows besides the key that it is of, if it is true: an IAVL tree is
    /// sorted, so it is of all keys between two neighbours.
    pub(crate) fn of(proof: &[u8]) -> Option<Self> {
        let mut proof = MerkleProof::decode(proof).ok()?;
        let Some(Proof::Nonexist(absent)) = proof.proofs.first_mut()?.proof.take() else {
            return None;
        };
        let NonExistenceProof { left, right, .. } = absent;
        Some(Self { after: left.map(|left| left.key), before: right.map(|right| right.key) })
    }

    /// Whether a key lies in it.
    pub(crate) fn has(&self, key: &[u8]) -> bool {
        self.after.as_deref().is_none_or(|after| after < key)
            && self.before.as_deref().is_none_or(|before| key < before)
    }
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

#[cfg(test)]
mod tests {
    use ics23::{HashOp, InnerOp, LeafOp, LengthOp};
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    use super::{
        super::{
            chain::{Tree, key, value},
            tests::claim,
        },
        *,
    };

    /// Whether a proof is taken, and whether the quick way takes it.
    fn taken(app_hash: &[u8], claim: &Claim<'_>) -> (bool, bool) {
        let quick = quick::proves(app_hash, claim, MAX_DEPTH);
        (judge(&Bytes::copy_from_slice(app_hash), claim).is_ok(), quick)
    }

    #[test]
    fn the_usual_goes_the_quick_way() {
        for size in [1, 2, 64] {
            let tree = Tree::of(size);
            for n in 0..size {
                let (path, content, proof) = (key(n), value(n), tree.member(&key(n)));
                let good = claim(1, &proof, &path, Some(&content));
                assert_eq!(taken(&tree.app_hash(), &good), (true, true));
                for bad in [
                    Claim { path: "other", ..good },
                    Claim { value: Some(b"other"), ..good },
                    Claim { value: Some(b""), ..good },
                    Claim { value: None, ..good },
                    Claim { prefix: b"other", ..good },
                ] {
                    assert_eq!(taken(&tree.app_hash(), &bad), (false, false));
                }
                assert_eq!(taken(&[0; 32], &good), (false, false));
            }
        }
    }

    #[test]
    fn no_changed_bit_is_taken_the_quick_way_alone() {
        let tree = Tree::of(16);
        let (path, content, proof) = (key(5), value(5), tree.member(&key(5)));
        for place in 0..proof.len() {
            for bit in 0..8 {
                let mut proof = proof.clone();
                proof[place] ^= 1 << bit;
                let bad = claim(1, &proof, &path, Some(&content));
                assert_eq!(taken(&tree.app_hash(), &bad), (false, false));
            }
            let short = claim(1, &proof[..place], &path, Some(&content));
            assert_eq!(taken(&tree.app_hash(), &short), (false, false));
            for byte in [0, 0x0a, 0x22] {
                let mut proof = proof.clone();
                proof.insert(place, byte);
                let long = claim(1, &proof, &path, Some(&content));
                let (taken, quick) = taken(&tree.app_hash(), &long);
                assert!(taken || !quick);
            }
        }
    }

    /// The commitment of a packet, as the store is asked for it: `51` is between `509` and `510`.
    fn commitment(sequence: u64) -> String {
        format!("commitments/ports/echo/channels/channel-0/sequences/{sequence}")
    }

    proptest! {
        /// Of whatever key a proof shows the absence, it shows that of all others in the gap, and
        /// of none besides.
        #[test]
        fn a_gap_has_the_keys_that_its_proof_is_of(
            there in prop::collection::btree_set(1..2_000_u64, 16),
            absent in 1..2_000_u64,
            asked in prop::collection::vec(1..2_000_u64, 20),
        ) {
            prop_assume!(!there.contains(&absent));
            let key = |sequence: &u64| commitment(*sequence).into_bytes();
            let tree = Tree::new(there.iter().map(|sequence| (key(sequence), vec![1])).collect());
            let proof = tree.absent(&commitment(absent));
            let gap = Gap::of(&proof).unwrap();
            for sequence in asked.iter().chain(&there).chain([&absent]) {
                let path = commitment(*sequence);
                let (proved, _) = taken(&tree.app_hash(), &claim(1, &proof, &path, None));
                prop_assert_eq!(gap.has(path.as_bytes()), proved, "{}", sequence);
                prop_assert!(!proved || !there.contains(sequence));
            }
            prop_assert_eq!(Gap::of(&tree.member(&commitment(*there.first().unwrap()))), None);
        }
    }

    /// What leads from a value to a root, however its nodes look.
    fn existence(key: &[u8], value: &[u8], prefix: Vec<u8>, path: Vec<InnerOp>) -> ExistenceProof {
        let leaf = LeafOp {
            hash: HashOp::Sha256.into(),
            prehash_key: HashOp::NoHash.into(),
            prehash_value: HashOp::Sha256.into(),
            length: LengthOp::VarProto.into(),
            prefix,
        };
        ExistenceProof { key: key.to_vec(), value: value.to_vec(), leaf: Some(leaf), path }
    }

    fn root(proof: &ExistenceProof) -> Vec<u8> {
        let mut image = proof.leaf.as_ref().unwrap().prefix.clone();
        prost::encode_length_delimiter(proof.key.len(), &mut image).unwrap();
        image.extend(&proof.key);
        image.push(32);
        image.extend(Sha256::digest(&proof.value));
        let mut hash = Sha256::digest(image).to_vec();
        for step in &proof.path {
            let image = [&step.prefix[..], &hash, &step.suffix].concat();
            hash = Sha256::digest(image).to_vec();
        }
        hash
    }

    fn chained(inner: ExistenceProof, outer: ExistenceProof) -> Vec<u8> {
        let proofs =
            [inner, outer].map(|proof| CommitmentProof { proof: Some(Proof::Exist(proof)) });
        MerkleProof { proofs: proofs.to_vec() }.encode_to_vec()
    }

    fn step(prefix: Vec<u8>, suffix: usize) -> InnerOp {
        InnerOp { hash: HashOp::Sha256.into(), prefix, suffix: vec![32; suffix] }
    }

    fn numbers(numbers: [u64; 3]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in numbers {
            prost::encoding::encode_varint(number, &mut bytes);
        }
        bytes
    }

    /// Even ones are not negative.
    fn number() -> impl Strategy<Value = u64> {
        let rare = vec![1, 255, (1 << 21) + 1, 1 << 62, u64::MAX];
        prop_oneof![
            9 => proptest::sample::select(vec![0, 2, 4, 254, 1 << 28, 1 << 55]),
            1 => proptest::sample::select(rare),
        ]
    }

    /// Bytes of about the shape of a node's, of every length around the limits.
    fn node(lengths: &'static [usize]) -> impl Strategy<Value = Vec<u8>> {
        let start = proptest::collection::vec(
            prop_oneof![4 => 0_u8..12, 1 => Just(0x80), 1 => any::<u8>()],
            0..14,
        );
        (start, proptest::sample::select(lengths)).prop_map(|(mut bytes, more)| {
            bytes.extend(std::iter::repeat_n(7, more));
            bytes
        })
    }

    fn steps(
        prefixes: &'static [usize],
        suffixes: &'static [usize],
    ) -> impl Strategy<Value = Vec<InnerOp>> {
        let step = (node(prefixes), proptest::sample::select(suffixes));
        let step = step.prop_map(|(prefix, suffix)| InnerOp {
            hash: HashOp::Sha256.into(),
            prefix,
            suffix: vec![9; suffix],
        });
        proptest::collection::vec(step, 0..3)
    }

    #[test]
    fn long_numbers_make_a_node_too_long() {
        for (number, fits) in [(1 << 33, true), (1 << 35, false)] {
            let mut prefix = numbers([2, number, number]);
            prefix.extend([32; 34]);
            assert_eq!(prefix.len() <= 12 + 33, fits);
            let inner = existence(b"key", b"value", vec![0, 2, 2], vec![step(prefix, 0)]);
            let outer = existence(b"ibc", &root(&inner), vec![0], Vec::new());
            let app_hash = root(&outer);
            let proof = chained(inner, outer);
            let claim = claim(1, &proof, "key", Some(b"value"));
            assert_eq!(taken(&app_hash, &claim), (fits, fits));
        }
    }

    /// More of these cost little, and `PROPTEST_CASES` asks for yet more.
    fn cases() -> u32 {
        ProptestConfig::default().cases.max(2_000)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(cases()))]

        /// The hashes are right in each of these proofs, so that only the form of the nodes
        /// decides. What the quick way takes, the crate takes too.
        #[test]
        fn forms_are_judged_as_the_crate_does(
            leaf in node(&[0, 0, 0, 1]),
            path in steps(&[0, 1, 1, 33, 34, 34], &[0, 0, 32, 33, 33, 66]),
            outer_leaf in prop_oneof![3 => Just(vec![0]), 1 => node(&[0])],
            outer_path in steps(&[0, 1, 32, 33], &[0, 32, 33, 64]),
        ) {
            let inner = existence(b"key", b"value", leaf, path);
            let outer = existence(b"ibc", &root(&inner), outer_leaf, outer_path);
            let app_hash = root(&outer);
            let proof = chained(inner, outer);
            let (taken, quick) = taken(&app_hash, &claim(1, &proof, "key", Some(b"value")));
            prop_assert!(taken || !quick);
        }

        /// The same of nodes that are nearly as they should be, of which many are taken.
        #[test]
        fn near_forms_are_judged_as_the_crate_does(
            path in proptest::collection::vec((0_u64..3, number(), number(), 0_usize..4), 0..4),
            leaf in (0_u64..3, number(), number()),
            outer_leaf in proptest::sample::select(vec![vec![0], vec![1], vec![0, 0], vec![]]),
            outer_path in proptest::collection::vec((0_u8..3, 0_usize..5), 0..3),
            key in proptest::collection::vec(any::<u8>(), 0..200),
            inner_is_good in any::<bool>(),
        ) {
            let mut usual = true;
            let mut steps: Vec<_> = path
                .into_iter()
                .zip(0..)
                .map(|((height, size, version, shape), level)| {
                    let mut prefix = numbers([(level + height) * 2, size, version]);
                    let (before, after) = [(1, 33), (34, 0), (1, 0), (34, 33)][shape];
                    usual &= shape < 2;
                    prefix.extend(vec![32; before]);
                    step(prefix, after)
                })
                .collect();
            let mut prefix = numbers([leaf.0 * 2, leaf.1, leaf.2]);
            if inner_is_good {
                steps = vec![step(vec![2, 4, 2, 32], 33)];
                prefix = vec![0, 2, 2];
                usual = true;
            }
            let outer_steps = outer_path
                .into_iter()
                .map(|(first, shape)| {
                    let (before, after) = [(0, 32), (32, 0), (0, 0), (32, 32), (33, 0)][shape];
                    usual &= shape < 2;
                    step([vec![first], vec![7; before]].concat(), after)
                })
                .collect();
            let key = String::from_utf8_lossy(&key).into_owned();
            let inner = existence(key.as_bytes(), b"value", prefix, steps);
            usual &= outer_leaf == [0];
            let outer = existence(b"ibc", &root(&inner), outer_leaf, outer_steps);
            let app_hash = root(&outer);
            let proof = chained(inner, outer);
            let (taken, quick) = taken(&app_hash, &claim(1, &proof, &key, Some(b"value")));
            prop_assert!(taken || !quick);
            // And of the usual, the quick way takes all.
            prop_assert!(!(taken && usual) || quick);
        }
    }
}
