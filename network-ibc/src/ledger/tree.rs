//! An IAVL tree in memory: a balanced tree of leaves, each node of which has a hash, so that the
//! root's hash commits to all of them.
//!
//! The hashes are those of `cosmos/iavl`, so that its proofs verify under the default proof specs
//! of every chain of the Cosmos SDK (ICS-023, `iavl_spec`). What the root's hash is depends on the
//! order of the changes and on where commits lie between them, as there.
//!
//! Nodes are shared between versions: to keep an old root costs what has changed since.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

pub(super) type Hash = [u8; 32];

/// A version of the tree: a root, or nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    root: Option<Arc<Node>>,
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    /// In an inner node, the least key on its right side.
    key: Arc<[u8]>,
    /// The version in which it last changed.
    version: u64,
    /// How many leaves it has.
    size: u64,
    /// Unset from a change to the next commit.
    hash: Option<Hash>,
    height: u8,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Leaf(Bytes),
    Inner(Arc<Node>, Arc<Node>),
}

/// What stands before the rest of a node where it is hashed: three varints of 10 bytes at
/// most each, and the length of a key or of a hash.
pub(super) struct Header {
    bytes: [u8; 40],
    len: usize,
}

impl Header {
    fn push_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.len) {
            *slot = byte;
            self.len += 1;
        }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Node {
    fn leaf(key: Arc<[u8]>, value: Bytes, version: u64) -> Self {
        Self { key, version, size: 1, hash: None, height: 0, body: Body::Leaf(value) }
    }

    fn inner(key: Arc<[u8]>, left: Arc<Self>, right: Arc<Self>, version: u64) -> Self {
        let (size, height) = (left.size + right.size, 1 + left.height.max(right.height));
        Self { key, version, size, hash: None, height, body: Body::Inner(left, right) }
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    /// The value, of a leaf.
    pub(super) fn value(&self) -> Option<&Bytes> {
        match &self.body {
            Body::Leaf(value) => Some(value),
            Body::Inner(..) => None,
        }
    }

    /// Left and right, of an inner node.
    pub(super) fn children(&self) -> Option<(&Arc<Self>, &Arc<Self>)> {
        match &self.body {
            Body::Leaf(_) => None,
            Body::Inner(left, right) => Some((left, right)),
        }
    }

    /// Height, size and version, as the varints of Go, which are signed.
    pub(super) fn header(&self) -> Header {
        let mut header = Header { bytes: [0; 40], len: 0 };
        header.push_varint(u64::from(self.height) << 1);
        header.push_varint(self.size << 1);
        header.push_varint(self.version << 1);
        header
    }

    /// Its hash: that of its last commit, or made anew where it has changed since.
    pub(super) fn hash(&self) -> Hash {
        self.hash.unwrap_or_else(|| match &self.body {
            Body::Leaf(_) => self.hash_of(&[], &[]),
            Body::Inner(left, right) => self.hash_of(&left.hash(), &right.hash()),
        })
    }

    fn hash_of(&self, left: &[u8], right: &[u8]) -> Hash {
        let mut hash = Sha256::new();
        let mut header = self.header();
        match &self.body {
            Body::Leaf(value) => {
                header.push_varint(self.key.len() as u64);
                hash.update(header.as_slice());
                hash.update(&self.key);
                hash.update([32]);
                hash.update(Sha256::digest(value));
            }
            Body::Inner(..) => {
                header.push(32);
                hash.update(header.as_slice());
                hash.update(left);
                hash.update([32]);
                hash.update(right);
            }
        }
        hash.finalize().into()
    }

    /// Left minus right, in height.
    fn lean(&self) -> i16 {
        self.children().map_or(0, |(left, right)| i16::from(left.height) - i16::from(right.height))
    }

    /// Sets size and height by what its children are.
    fn changed(&mut self, version: u64) {
        if let Body::Inner(left, right) = &self.body {
            (self.size, self.height) = (left.size + right.size, 1 + left.height.max(right.height));
        }
        (self.version, self.hash) = (version, None);
    }
}

/// Turns `node` to the right: its left child takes its place.
fn rotate_right(node: &mut Arc<Node>, version: u64) {
    let Some((left, right)) = node.children() else { return };
    let Some((outer, between)) = left.children() else { return };
    let lower = Node::inner(node.key.clone(), between.clone(), right.clone(), version);
    *node = Arc::new(Node::inner(left.key.clone(), outer.clone(), Arc::new(lower), version));
}

fn rotate_left(node: &mut Arc<Node>, version: u64) {
    let Some((left, right)) = node.children() else { return };
    let Some((between, outer)) = right.children() else { return };
    let lower = Node::inner(node.key.clone(), left.clone(), between.clone(), version);
    *node = Arc::new(Node::inner(right.key.clone(), Arc::new(lower), outer.clone(), version));
}

/// Restores what makes the tree shallow: that the heights of two siblings differ by one at most.
fn balance(node: &mut Arc<Node>, version: u64) {
    let lean = node.lean();
    if !(-1..=1).contains(&lean) {
        let owned = Arc::make_mut(node);
        if let Body::Inner(left, right) = &mut owned.body {
            if lean > 1 && left.lean() < 0 {
                rotate_left(left, version);
            } else if lean < -1 && right.lean() > 0 {
                rotate_right(right, version);
            }
        }
        if lean > 1 { rotate_right(node, version) } else { rotate_left(node, version) }
    }
}

fn insert(node: &mut Arc<Node>, key: &[u8], value: Bytes, version: u64) {
    if node.value().is_some() {
        if *node.key == *key {
            let key = node.key.clone();
            *node = Arc::new(Node::leaf(key, value, version));
            return;
        }
        let new = Arc::new(Node::leaf(key.into(), value, version));
        let old = node.clone();
        let (left, right) = if key < node.key() { (new, old) } else { (old, new) };
        *node = Arc::new(Node::inner(right.key.clone(), left, right, version));
        return;
    }
    let inner = Arc::make_mut(node);
    let goes_left = *key < *inner.key;
    if let Body::Inner(left, right) = &mut inner.body {
        insert(if goes_left { left } else { right }, key, value, version);
    }
    inner.changed(version);
    balance(node, version);
}

/// What removing a key from a node has left of it.
enum Left {
    /// The key is not there.
    All,
    /// All but the key. If that was the least key of the node, this one is now.
    Rest(Option<Arc<[u8]>>),
    /// Nothing: it was this leaf.
    Nothing,
}

fn remove(node: &mut Arc<Node>, key: &[u8], version: u64) -> Left {
    if node.value().is_some() {
        return if *node.key == *key { Left::Nothing } else { Left::All };
    }
    let goes_left = *key < *node.key;
    let inner = Arc::make_mut(node);
    let Body::Inner(left, right) = &mut inner.body else { return Left::All };
    let (child, sibling) = if goes_left { (left, right) } else { (right, left) };
    let least = match remove(child, key, version) {
        Left::All => return Left::All,
        // A node with one child is none: the sibling takes its place.
        Left::Nothing => {
            let least = goes_left.then(|| inner.key.clone());
            let sibling = sibling.clone();
            *node = sibling;
            return Left::Rest(least);
        }
        Left::Rest(least) => least,
    };
    let least = match least {
        Some(least) if !goes_left => {
            inner.key = least;
            None
        }
        least => least,
    };
    inner.changed(version);
    balance(node, version);
    Left::Rest(least)
}

/// Gives all that has changed its hash.
fn rehash(node: &mut Arc<Node>) -> Hash {
    if let Some(hash) = node.hash {
        return hash;
    }
    // Not shared with another version: those have hashes.
    let owned = Arc::make_mut(node);
    let hash = match &mut owned.body {
        Body::Leaf(_) => owned.hash_of(&[], &[]),
        Body::Inner(left, right) => {
            let (left, right) = (rehash(left), rehash(right));
            owned.hash_of(&left, &right)
        }
    };
    owned.hash = Some(hash);
    hash
}

impl Tree {
    pub(super) fn root(&self) -> Option<&Arc<Node>> {
        self.root.as_ref()
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> u64 {
        self.root.as_ref().map_or(0, |root| root.size)
    }

    /// Sets a value, in a version that is to be committed.
    pub(super) fn set(&mut self, key: &[u8], value: Bytes, version: u64) {
        match &mut self.root {
            Some(root) => insert(root, key, value, version),
            None => self.root = Some(Arc::new(Node::leaf(key.into(), value, version))),
        }
    }

    /// Removes a key; false if it is not there.
    pub(super) fn remove(&mut self, key: &[u8], version: u64) -> bool {
        // Not even a copy of the way is made in vain.
        if self.get(key).is_none() {
            return false;
        }
        if let Some(root) = &mut self.root
            && matches!(remove(root, key, version), Left::Nothing)
        {
            self.root = None;
        }
        true
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Bytes> {
        let mut node = self.root.as_ref()?;
        while let Some((left, right)) = node.children() {
            node = if *key < *node.key { left } else { right };
        }
        if *node.key == *key { node.value() } else { None }
    }

    /// The first key at or after `from`, and its value.
    pub(super) fn next(&self, from: &[u8]) -> Option<(&[u8], &Bytes)> {
        let (mut node, mut after) = (self.root.as_ref()?, None);
        while let Some((left, right)) = node.children() {
            if *from < *node.key {
                after = Some(right);
                node = left;
            } else {
                node = right;
            }
        }
        if *node.key < *from {
            node = after?;
            while let Some((left, _)) = node.children() {
                node = left;
            }
        }
        Some((node.key(), node.value()?))
    }

    /// The root's hash, after all hashes that are missing were made.
    pub(super) fn commit(&mut self) -> Option<Hash> {
        self.root.as_mut().map(rehash)
    }
}
