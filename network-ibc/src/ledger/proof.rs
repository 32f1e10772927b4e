//! Proofs of what the tree holds, and of what it does not (ICS-023).

use std::sync::Arc;

use ibc_proto::{
    ibc::core::commitment::v1::MerkleProof,
    ics23::{
        CommitmentProof, ExistenceProof, HashOp, InnerOp, LeafOp, LengthOp, NonExistenceProof,
        commitment_proof::Proof,
    },
};
use prost::Message;
use sha2::{Digest, Sha256};

use super::tree::{Hash, Node, Tree};
use crate::engine::PREFIX;

/// What a header of a chain with one store commits to: the one leaf of the tree of its stores, as
/// the SDK hashes that (`ics23::tendermint_spec`).
pub(super) fn app_hash(root: &Hash) -> Hash {
    let mut hash = Sha256::new();
    hash.update([0, PREFIX.len() as u8]);
    hash.update(PREFIX);
    hash.update([32]);
    hash.update(Sha256::digest(root));
    hash.finalize().into()
}

/// Proves that a key has its value, or that it has none: from the store's root to the header.
/// `None` for a tree without any key, of which nothing can be proved.
pub(super) fn prove(tree: &Tree, key: &[u8]) -> Option<Vec<u8>> {
    let root = tree.root()?;
    let proof = match exists(root, key) {
        Some(found) => Proof::Exist(found),
        None => Proof::Nonexist(is_absent(root, key)),
    };
    let store = ExistenceProof {
        key: PREFIX.to_vec(),
        value: root.hash().to_vec(),
        leaf: Some(leaf(&[0])),
        path: Vec::new(),
    };
    let proofs = [proof, Proof::Exist(store)];
    let proofs = proofs.map(|proof| CommitmentProof { proof: Some(proof) }).into();
    Some(MerkleProof { proofs }.encode_to_vec())
}

fn leaf(prefix: &[u8]) -> LeafOp {
    LeafOp {
        hash: HashOp::Sha256.into(),
        prehash_key: HashOp::NoHash.into(),
        prehash_value: HashOp::Sha256.into(),
        length: LengthOp::VarProto.into(),
        prefix: prefix.to_vec(),
    }
}

fn exists(root: &Arc<Node>, key: &[u8]) -> Option<ExistenceProof> {
    let mut path = Vec::with_capacity(40);
    let mut node = root;
    while let Some((left, right)) = node.children() {
        let header = node.header();
        let mut prefix = Vec::with_capacity(header.as_slice().len() + 34);
        prefix.extend_from_slice(header.as_slice());
        prefix.push(32);
        let mut suffix = Vec::new();
        if key < node.key() {
            suffix = Vec::with_capacity(33);
            suffix.push(32);
            suffix.extend_from_slice(&right.hash());
            node = left;
        } else {
            prefix.extend_from_slice(&left.hash());
            prefix.push(32);
            node = right;
        }
        path.push(InnerOp { hash: HashOp::Sha256.into(), prefix, suffix });
    }
    let value = node.value().filter(|_| node.key() == key)?;
    path.reverse();
    Some(ExistenceProof {
        key: key.to_vec(),
        value: value.to_vec(),
        leaf: Some(leaf(node.header().as_slice())),
        path,
    })
}

/// The proof that a key is not there: its neighbours, which lie next to each other.
fn is_absent(root: &Arc<Node>, key: &[u8]) -> NonExistenceProof {
    let (mut node, mut before, mut after) = (root, None, None);
    while let Some((left, right)) = node.children() {
        if key < node.key() {
            after = Some(right);
            node = left;
        } else {
            before = Some(left);
            node = right;
        }
    }
    if node.key() < key {
        before = Some(node);
        after = after.map(|node| edge(node, |(left, _)| left));
    } else {
        after = Some(node);
        before = before.map(|node| edge(node, |(_, right)| right));
    }
    let proof = |node: Option<&Arc<Node>>| node.and_then(|node| exists(root, node.key()));
    NonExistenceProof { key: key.to_vec(), left: proof(before), right: proof(after) }
}

/// The leaf at one end of a node.
fn edge<'a>(
    mut node: &'a Arc<Node>,
    side: impl Fn((&'a Arc<Node>, &'a Arc<Node>)) -> &'a Arc<Node>,
) -> &'a Arc<Node> {
    while let Some(children) = node.children() {
        node = side(children);
    }
    node
}
