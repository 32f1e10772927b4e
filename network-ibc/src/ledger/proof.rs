//! Proofs of what the tree holds, and of what it does not (ICS-023).
//!
//! Every packet takes two proofs, and a proof a step for each level of the tree. They are written
//! as they are found: as protobuf's own types they would be some forty pieces of memory each, which
//! cost more than all hashes.

use std::sync::Arc;

use prost::encoding::encode_varint;
use sha2::{Digest, Sha256};

use super::tree::{Hash, Node, Tree};
use crate::engine::PREFIX;

/// `ics23.LeafOp` but for its prefix: hashed with SHA-256, the key as it is, the value hashed
/// before, both after their lengths. And the tag of the prefix.
const LEAF: &[u8] = &[0x08, 1, 0x18, 1, 0x20, 1, 0x2a];
/// `ics23.InnerOp` but for its prefix and its suffix: hashed with SHA-256. And the tag of the prefix.
const INNER: &[u8] = &[0x08, 1, 0x12];
/// The tag of an inner node's suffix.
const SUFFIX: u8 = 0x1a;
/// What is in a `ics23.CommitmentProof`: that a key is there, or that it is not.
const EXIST: u8 = 1;
const NONEXIST: u8 = 2;

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
    let (kind, proof) = match exists(root, key) {
        Some(found) => (EXIST, found),
        None => (NONEXIST, is_absent(root, key)),
    };
    let mut store = Vec::with_capacity(64);
    field(&mut store, 1, PREFIX);
    field(&mut store, 2, &root.hash());
    leaf(&mut store, &[0]);
    let mut out = Vec::with_capacity(proof.len() + store.len() + 32);
    commitment(&mut out, kind, &proof);
    commitment(&mut out, EXIST, &store);
    Some(out)
}

/// Writes a field that holds bytes, or a message.
fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Writes one of the proofs that follow each other.
fn commitment(out: &mut Vec<u8>, kind: u8, proof: &[u8]) {
    out.push(1 << 3 | 2);
    let length = prost::length_delimiter_len(proof.len()) + 1 + proof.len();
    encode_varint(length as u64, out);
    field(out, kind, proof);
}

/// Writes a leaf into an `ics23.ExistenceProof`. Its prefix is short: three numbers.
fn leaf(out: &mut Vec<u8>, prefix: &[u8]) {
    out.extend_from_slice(&[3 << 3 | 2, (LEAF.len() + 1 + prefix.len()) as u8]);
    out.extend_from_slice(LEAF);
    out.push(prefix.len() as u8);
    out.extend_from_slice(prefix);
}

/// Writes a step to the root into an `ics23.ExistenceProof`: a node with two children, and on
/// which side the key is. All of its parts are short.
fn inner(out: &mut Vec<u8>, node: &Node, left: &Node, right: &Node, is_left: bool) {
    let header = node.header();
    let header = header.as_slice();
    let (prefix, suffix) =
        if is_left { (header.len() + 1, 2 + 33) } else { (header.len() + 34, 0) };
    let length = INNER.len() + 1 + prefix + suffix;
    out.extend_from_slice(&[4 << 3 | 2, length as u8]);
    out.extend_from_slice(INNER);
    out.push(prefix as u8);
    out.extend_from_slice(header);
    out.push(32);
    if is_left {
        out.extend_from_slice(&[SUFFIX, 33, 32]);
        out.extend_from_slice(&right.hash());
    } else {
        out.extend_from_slice(&left.hash());
        out.push(32);
    }
}

/// An `ics23.ExistenceProof`, if the key is there.
fn exists(root: &Arc<Node>, key: &[u8]) -> Option<Vec<u8>> {
    let mut way = Vec::with_capacity(40);
    let mut node = root;
    while let Some((left, right)) = node.children() {
        let is_left = key < node.key();
        way.push((node, left, right, is_left));
        node = if is_left { left } else { right };
    }
    let value = node.value().filter(|_| node.key() == key)?;
    // A step is 50 bytes and its numbers, each of which has a few.
    let mut out = Vec::with_capacity(key.len() + value.len() + 64 + way.len() * 96);
    field(&mut out, 1, key);
    if !value.is_empty() {
        field(&mut out, 2, value);
    }
    leaf(&mut out, node.header().as_slice());
    for (node, left, right, is_left) in way.into_iter().rev() {
        inner(&mut out, node, left, right, is_left);
    }
    Some(out)
}

/// An `ics23.NonExistenceProof`, that a key is not there: its neighbours, which lie next to each
/// other.
fn is_absent(root: &Arc<Node>, key: &[u8]) -> Vec<u8> {
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
    let mut out = Vec::new();
    if !key.is_empty() {
        field(&mut out, 1, key);
    }
    for (number, neighbour) in [(2, before), (3, after)] {
        if let Some(proof) = neighbour.and_then(|node| exists(root, node.key())) {
            field(&mut out, number, &proof);
        }
    }
    out
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
