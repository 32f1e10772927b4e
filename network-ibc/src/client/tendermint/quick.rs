//! The proof of a key in the form in which honest hosts and chains write it, checked without
//! copying any of it.
//!
//! Every packet is one such proof. The `ics23` crate, which can check any kind, copies every step
//! of it several times; that costs more than the hashes. So what is written as usual is checked
//! here, and for the rest, and to say what is wrong, the crate is asked: [`proves`] says yes only
//! where the crate would.
//!
//! As usual means: protobuf fields in order, each once, none unknown; two existence proofs; each
//! step of the tree with one hash beside it, before or after.

use sha2::{Digest, Sha256};

use super::super::Claim;

/// A leaf of both trees: hashed with SHA-256, the key as it is, the value hashed before, both
/// after their lengths. Its prefix follows.
const LEAF: &[u8] = &[0x08, 1, 0x18, 1, 0x20, 1];
/// An inner node: hashed with SHA-256. Its prefix and suffix follow.
const INNER: &[u8] = &[0x08, 1];
/// A length byte and a hash, as in IAVL's inner nodes.
const CHILD: usize = 33;

/// Whether the claim is of a value, and its proof is one as usual that proves it. The caller has
/// seen to the limits of size.
pub(super) fn proves(app_hash: &[u8], claim: &Claim<'_>, max_depth: usize) -> bool {
    let Some(value) = claim.value.filter(|value| !value.is_empty()) else { return false };
    let root = || {
        let mut proof = Reader(claim.proof);
        let inner = Existence::read(proof.bytes(1)?)?;
        let outer = Existence::read(proof.bytes(1)?)?;
        proof.end()?;
        let named = inner.key == claim.path.as_bytes()
            && inner.value == value
            && outer.key == claim.prefix
            && !outer.key.is_empty();
        let store = inner.root(Tree::Iavl, max_depth).filter(|_| named)?;
        if outer.value != store {
            return None;
        }
        outer.root(Tree::Simple, max_depth)
    };
    root().is_some_and(|root| root == app_hash)
}

/// Which tree a step is of: what it may look like differs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tree {
    Iavl,
    Simple,
}

impl Tree {
    /// Whether a leaf may begin so.
    fn leaf(self, prefix: &[u8]) -> bool {
        match self {
            // The height, which is 0, the size and the version.
            Self::Iavl => prefix.first() == Some(&0) && numbers(prefix, 0) == Some(0),
            Self::Simple => prefix == [0],
        }
    }

    /// Whether an inner node of at least this height may have this before and after its child.
    fn inner(self, prefix: &[u8], suffix: &[u8], height: u64) -> bool {
        match self {
            Self::Iavl => {
                // A height above 0 also tells it from a leaf.
                let rest = numbers(prefix, height);
                let shape = (rest == Some(1) && suffix.len() == CHILD)
                    || (rest == Some(1 + CHILD) && suffix.is_empty());
                shape && prefix.len() <= 12 + CHILD
            }
            Self::Simple => {
                let shape = (prefix.len() == 1 && suffix.len() == 32)
                    || (prefix.len() == 33 && suffix.is_empty());
                shape && prefix.first() != Some(&0)
            }
        }
    }
}

/// `ics23.ExistenceProof`, in a `CommitmentProof`.
struct Existence<'a> {
    key: &'a [u8],
    value: &'a [u8],
    leaf: &'a [u8],
    path: Reader<'a>,
}

impl<'a> Existence<'a> {
    fn read(commitment: &'a [u8]) -> Option<Self> {
        let mut commitment = Reader(commitment);
        let mut proof = Reader(commitment.bytes(1)?);
        commitment.end()?;
        let (key, value) = (proof.bytes(1)?, proof.bytes(2)?);
        let leaf = proof.bytes(3)?;
        Some(Self { key, value, leaf, path: proof })
    }

    /// The root that the proof leads to.
    fn root(&self, tree: Tree, max_depth: usize) -> Option<[u8; 32]> {
        let mut leaf = Reader(self.leaf);
        leaf.literally(LEAF)?;
        let prefix = leaf.bytes(5)?;
        leaf.end()?;
        if !tree.leaf(prefix) || self.key.is_empty() {
            return None;
        }
        let mut hasher = Sha256::new();
        hasher.update(prefix);
        let (length, used) = varint_of(self.key.len());
        hasher.update(length.get(..used)?);
        hasher.update(self.key);
        hasher.update([32]);
        hasher.update(Sha256::digest(self.value));
        let mut hash: [u8; 32] = hasher.finalize_reset().into();

        let mut path = self.path;
        for height in 1.. {
            if path.0.is_empty() {
                return Some(hash);
            }
            if height > max_depth {
                return None;
            }
            let mut step = Reader(path.bytes(4)?);
            step.literally(INNER)?;
            let prefix = step.bytes(2)?;
            let suffix = if step.0.is_empty() { &[] } else { step.bytes(3)? };
            step.end()?;
            if !tree.inner(prefix, suffix, height as u64) {
                return None;
            }
            hasher.update(prefix);
            hasher.update(hash);
            hasher.update(suffix);
            hash = hasher.finalize_reset().into();
        }
        None
    }
}

/// How much there is after the three numbers that begin an IAVL node: its height, at least
/// `height`, its size and its version, none of them negative, in protobuf's zigzag form.
fn numbers(prefix: &[u8], height: u64) -> Option<usize> {
    let mut reader = Reader(prefix);
    for least in [height, 0, 0] {
        let number = reader.varint()?;
        if number % 2 != 0 || number / 2 < least {
            return None;
        }
    }
    Some(reader.0.len())
}

/// A varint, and how many of the bytes are of it.
fn varint_of(number: usize) -> ([u8; 10], usize) {
    let mut bytes = [0; 10];
    let mut rest = number;
    let mut used = 0;
    for byte in &mut bytes {
        used += 1;
        *byte = (rest % 128) as u8;
        rest /= 128;
        if rest == 0 {
            break;
        }
        *byte |= 0x80;
    }
    (bytes, used)
}

/// What is left to read.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next field, which has this number and holds bytes.
    fn bytes(&mut self, number: u8) -> Option<&'a [u8]> {
        self.literally(&[number << 3 | 2])?;
        let length = usize::try_from(self.varint()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn literally(&mut self, bytes: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(bytes)?;
        Some(())
    }

    /// A number of up to 63 bits.
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..63).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}
