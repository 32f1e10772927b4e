//! The client that stands in for a real one, on both sides: its rules, without any store.
//!
//! A proof is a hash of all that it proves, and of the root that it is of. So whoever knows the
//! root can prove anything, also what no honest chain would have stored, and a proof of one
//! thing proves nothing else.

use sha2::{Digest, Sha256};

/// The kind of client, which is also the type of its states.
pub(crate) const KIND: &str = "10-stand-in";
pub(crate) const CONSENSUS: &str = "/stand.Consensus";
pub(crate) const HEADER: &str = "/stand.Header";
pub(crate) const EVIDENCE: &str = "/stand.Evidence";

/// A revision and a number.
pub(crate) type RawHeight = (u64, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) latest: RawHeight,
    /// In nanoseconds.
    pub(crate) trusting: u64,
    pub(crate) frozen: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Consensus {
    pub(crate) time: u64,
    pub(crate) root: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) height: RawHeight,
    pub(crate) consensus: Consensus,
    pub(crate) genuine: bool,
}

fn words<const N: usize>(bytes: &[u8]) -> Option<[u64; N]> {
    if bytes.len() != N * 8 {
        return None;
    }
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_be_bytes(bytes.try_into().ok()?);
    }
    Some(words)
}

fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

impl State {
    pub(crate) fn write(self) -> Vec<u8> {
        bytes(&[self.latest.0, self.latest.1, self.trusting, u64::from(self.frozen)])
    }

    /// ibc-core has no heights whose number is 0, so a client starts at none here either.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let [revision, number, trusting, frozen] = words(bytes)?;
        let state = Self { latest: (revision, number), trusting, frozen: frozen != 0 };
        (number != 0).then_some(state)
    }

    /// When it will have expired, if nothing newer than this comes.
    pub(crate) fn expires(self, newest: Consensus) -> u64 {
        newest.time.saturating_add(self.trusting)
    }
}

impl Consensus {
    pub(crate) fn write(self) -> Vec<u8> {
        bytes(&[self.time, self.root])
    }

    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let [time, root] = words(bytes)?;
        (time != 0).then_some(Self { time, root })
    }
}

impl Header {
    pub(crate) fn write(self) -> Vec<u8> {
        let Self { height, consensus, genuine } = self;
        bytes(&[height.0, height.1, consensus.time, consensus.root, u64::from(genuine)])
    }

    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let [revision, number, time, root, genuine] = words(bytes)?;
        let consensus = Consensus { time, root };
        let header = Self { height: (revision, number), consensus, genuine: genuine != 0 };
        (number != 0 && time != 0).then_some(header)
    }
}

/// Evidence of misbehaviour says no more than whether it is genuine.
pub(crate) fn evidence(genuine: bool) -> Vec<u8> {
    bytes(&[u64::from(genuine)])
}

/// What a client message comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Known(RawHeight),
    New(Header),
    Freeze,
}

/// Judges a client message. `known` says what the client knows of a height.
pub(crate) fn judge(
    type_url: &str,
    value: &[u8],
    known: impl FnOnce(RawHeight) -> Option<Consensus>,
) -> Result<Effect, &'static str> {
    match type_url {
        HEADER => {
            let header = Header::read(value).ok_or("a header that cannot be read")?;
            if !header.genuine {
                return Err("a forged header");
            }
            Ok(match known(header.height) {
                None => Effect::New(header),
                Some(known) if known == header.consensus => Effect::Known(header.height),
                Some(_) => Effect::Freeze,
            })
        }
        EVIDENCE => match words(value) {
            Some([1]) => Ok(Effect::Freeze),
            _ => Err("forged evidence"),
        },
        _ => Err("neither a header nor evidence"),
    }
}

/// The proof that `path` has `value`, or none, under a root.
pub(crate) fn proof(root: u64, prefix: &[u8], path: &str, value: Option<&[u8]>) -> Vec<u8> {
    let mut hash = Sha256::new();
    hash.update(root.to_be_bytes());
    for part in [prefix, path.as_bytes(), value.unwrap_or_default()] {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    hash.update([u8::from(value.is_some())]);
    hash.finalize().to_vec()
}
