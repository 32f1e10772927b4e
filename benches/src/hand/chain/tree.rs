//! The tree of a chain's store, as `cosmos/iavl` hashes it, in its leanest form: one version, owned
//! by one thread.

use ibc_proto::ics23::{ExistenceProof, HashOp, InnerOp, LeafOp, LengthOp};
use sha2::{Digest, Sha256};

type Hash = [u8; 32];
type Link = Box<Node>;

#[derive(Default)]
pub(super) struct Tree {
    root: Option<Link>,
    /// Of the commit to come.
    version: u64,
}

struct Node {
    /// Of an inner node, the least key of its right half.
    key: Box<[u8]>,
    kind: Kind,
    height: u8,
    size: u64,
    version: u64,
    hash: Option<Hash>,
}

enum Kind {
    Leaf(Box<[u8]>),
    Inner(Link, Link),
}

/// What a removal has come upon.
enum Removed {
    Missing(Link),
    /// The node itself goes.
    All,
    /// What is left of the node, and its least key if that is another one now.
    Some(Link, Option<Box<[u8]>>),
}

impl Node {
    fn leaf(key: &[u8], value: &[u8], version: u64) -> Link {
        let kind = Kind::Leaf(value.into());
        Box::new(Self { key: key.into(), kind, height: 0, size: 1, version, hash: None })
    }

    fn inner(key: Box<[u8]>, left: Link, right: Link, version: u64) -> Link {
        let (height, size) = (1 + left.height.max(right.height), left.size + right.size);
        Box::new(Self { key, kind: Kind::Inner(left, right), height, size, version, hash: None })
    }

    fn varints(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(48);
        for number in [u64::from(self.height), self.size, self.version] {
            prost::encoding::encode_varint(number << 1, &mut bytes);
        }
        bytes
    }

    /// The hash, made where it is missing.
    fn commit(&mut self) -> Hash {
        if let Some(hash) = self.hash {
            return hash;
        }
        let mut image = self.varints();
        match &mut self.kind {
            Kind::Leaf(value) => {
                prost::encoding::encode_varint(self.key.len() as u64, &mut image);
                image.extend_from_slice(&self.key);
                image.push(32);
                image.extend_from_slice(&Sha256::digest(value));
            }
            Kind::Inner(left, right) => {
                for child in [left, right] {
                    image.push(32);
                    image.extend_from_slice(&child.commit());
                }
            }
        }
        let hash = Sha256::digest(image).into();
        self.hash = Some(hash);
        hash
    }

    fn committed(&self) -> Hash {
        self.hash.expect("what is proved was committed")
    }
}

/// Joins two trees whose heights differ by two at most, with the usual turns.
fn join(key: Box<[u8]>, left: Link, right: Link, version: u64) -> Link {
    let (high, low) = (left.height, right.height);
    if high > low + 1 {
        let Node { key: top, kind, .. } = *left;
        let Kind::Inner(outer, between) = kind else { unreachable!("it is high") };
        if outer.height >= between.height {
            return Node::inner(top, outer, Node::inner(key, between, right, version), version);
        }
        let Node { key: middle, kind, .. } = *between;
        let Kind::Inner(one, two) = kind else { unreachable!("it is high") };
        let (left, right) =
            (Node::inner(top, outer, one, version), Node::inner(key, two, right, version));
        return Node::inner(middle, left, right, version);
    }
    if low > high + 1 {
        let Node { key: top, kind, .. } = *right;
        let Kind::Inner(between, outer) = kind else { unreachable!("it is high") };
        if outer.height >= between.height {
            return Node::inner(top, Node::inner(key, left, between, version), outer, version);
        }
        let Node { key: middle, kind, .. } = *between;
        let Kind::Inner(one, two) = kind else { unreachable!("it is high") };
        let (left, right) =
            (Node::inner(key, left, one, version), Node::inner(top, two, outer, version));
        return Node::inner(middle, left, right, version);
    }
    Node::inner(key, left, right, version)
}

fn insert(mut node: Link, key: &[u8], value: &[u8], version: u64) -> Link {
    if let Kind::Leaf(_) = node.kind {
        let new = Node::leaf(key, value, version);
        return match key.cmp(&node.key) {
            std::cmp::Ordering::Equal => new,
            std::cmp::Ordering::Less => Node::inner(node.key.clone(), new, node, version),
            std::cmp::Ordering::Greater => Node::inner(key.into(), node, new, version),
        };
    }
    let goes_left = *key < *node.key;
    let Node { key: at, kind, .. } = &mut *node;
    let Kind::Inner(left, right) = std::mem::replace(kind, Kind::Leaf(Box::default())) else {
        unreachable!("it is no leaf")
    };
    let at = std::mem::take(at);
    if goes_left {
        join(at, insert(left, key, value, version), right, version)
    } else {
        join(at, left, insert(right, key, value, version), version)
    }
}

fn remove(node: Link, key: &[u8], version: u64) -> Removed {
    if let Kind::Leaf(_) = node.kind {
        return if *node.key == *key { Removed::All } else { Removed::Missing(node) };
    }
    let goes_left = *key < *node.key;
    let Node { key: at, kind, height, size, version: of, hash } = *node;
    let Kind::Inner(left, right) = kind else { unreachable!("it is no leaf") };
    let whole = |at, left, right| {
        let kind = Kind::Inner(left, right);
        Removed::Missing(Box::new(Node { key: at, kind, height, size, version: of, hash }))
    };
    if goes_left {
        match remove(left, key, version) {
            Removed::Missing(left) => whole(at, left, right),
            Removed::All => Removed::Some(right, Some(at)),
            Removed::Some(left, least) => Removed::Some(join(at, left, right, version), least),
        }
    } else {
        match remove(right, key, version) {
            Removed::Missing(right) => whole(at, left, right),
            Removed::All => Removed::Some(left, None),
            Removed::Some(right, least) => {
                Removed::Some(join(least.unwrap_or(at), left, right, version), None)
            }
        }
    }
}

impl Tree {
    pub(super) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let mut node = self.root.as_ref()?;
        loop {
            match &node.kind {
                Kind::Leaf(value) => return (*node.key == *key).then_some(value),
                Kind::Inner(left, right) => node = if *key < *node.key { left } else { right },
            }
        }
    }

    pub(super) fn set(&mut self, key: &[u8], value: &[u8]) {
        let version = self.version + 1;
        self.root = Some(match self.root.take() {
            Some(root) => insert(root, key, value, version),
            None => Node::leaf(key, value, version),
        });
    }

    pub(super) fn remove(&mut self, key: &[u8]) {
        let version = self.version + 1;
        self.root = match self.root.take().map(|root| remove(root, key, version)) {
            Some(Removed::Missing(root) | Removed::Some(root, _)) => Some(root),
            Some(Removed::All) | None => None,
        };
    }

    pub(super) fn commit(&mut self) -> Hash {
        self.version += 1;
        self.root.as_mut().expect("it has keys").commit()
    }

    /// The proof that a key has its value, in what was committed last.
    pub(super) fn prove(&self, key: &[u8]) -> Option<ExistenceProof> {
        let mut node = self.root.as_ref()?;
        let mut path = Vec::with_capacity(node.height.into());
        loop {
            let mut prefix = node.varints();
            match &node.kind {
                Kind::Leaf(value) => {
                    path.reverse();
                    return (*node.key == *key).then(|| ExistenceProof {
                        key: key.to_vec(),
                        value: value.to_vec(),
                        leaf: Some(leaf_op(prefix)),
                        path,
                    });
                }
                Kind::Inner(left, right) => {
                    let mut suffix = Vec::new();
                    prefix.push(32);
                    if *key < *node.key {
                        suffix.reserve_exact(33);
                        suffix.push(32);
                        suffix.extend_from_slice(&right.committed());
                        node = left;
                    } else {
                        prefix.extend_from_slice(&left.committed());
                        prefix.push(32);
                        node = right;
                    }
                    path.push(InnerOp { hash: HashOp::Sha256.into(), prefix, suffix });
                }
            }
        }
    }
}

pub(super) fn leaf_op(prefix: Vec<u8>) -> LeafOp {
    LeafOp {
        hash: HashOp::Sha256.into(),
        prehash_key: HashOp::NoHash.into(),
        prehash_value: HashOp::Sha256.into(),
        length: LengthOp::VarProto.into(),
        prefix,
    }
}

#[cfg(test)]
mod tests {
    use ibc_proto::ics23::{CommitmentProof, commitment_proof::Proof};
    use ics23::HostFunctionsManager;

    use super::*;

    fn depth(node: &Link) -> u8 {
        match &node.kind {
            Kind::Leaf(_) => 0,
            Kind::Inner(left, right) => {
                assert!(left.height.abs_diff(right.height) < 2);
                1 + depth(left).max(depth(right))
            }
        }
    }

    #[test]
    fn every_key_is_proved_whatever_was_removed() {
        let mut tree = Tree::default();
        let key = |n: u32| format!("key/{}", n * 7_919 % 1_009);
        for n in 0..1_000 {
            tree.set(key(n).as_bytes(), &n.to_be_bytes());
        }
        tree.commit();
        for n in (0..1_000).filter(|n| n % 3 != 0) {
            tree.remove(key(n).as_bytes());
            tree.remove(b"never there");
        }
        let root = tree.commit();
        let top = tree.root.as_ref().expect("it has keys");
        assert_eq!(depth(top), top.height);
        for n in 0..1_000 {
            let Some(found) = tree.prove(key(n).as_bytes()) else {
                assert!(n % 3 != 0 && tree.get(key(n).as_bytes()).is_none());
                continue;
            };
            let proof = CommitmentProof { proof: Some(Proof::Exist(found)) };
            let (key, value) = (key(n).into_bytes(), n.to_be_bytes());
            assert_eq!(tree.get(&key), Some(&value[..]));
            assert!(ics23::verify_membership::<HostFunctionsManager>(
                &proof,
                &ics23::iavl_spec(),
                &root.to_vec(),
                &key,
                &value,
            ));
        }
    }
}
