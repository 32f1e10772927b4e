//! The ledger: a provable store, and the signed blocks that commit to it.
//!
//! A host writes to two spaces of keys and values. The *provable* one is a tree that every block
//! commits to; the *private* one is of no concern to anybody else. A block is a header as a chain
//! of one validator has it: signed, with a time and a height that only grow. Before a header is
//! given to anybody it is stored, with all that it commits to, so that no crash makes this host
//! sign another one at its height: whoever saw both would never believe it again.

mod error;
mod header;
mod proof;
mod store;
#[cfg(test)]
mod tests;
mod tree;

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::Arc,
};

use bytes::Bytes;
use ibc_proto::google::protobuf::Any;
use prost::Message;
use tendermint_proto::v0_38::types::SignedHeader;

pub use error::LedgerError;
pub(crate) use header::valid_chain;
pub use header::{LedgerKey, Trust};
#[cfg(feature = "chain")]
pub(crate) use header::{client_state, revision};

use self::{
    header::{BlockId, Signer},
    store::{Memory, Space, Store},
    tree::Tree,
};
use crate::{
    engine,
    height::{At, Height, Timestamp},
    identifier::{ChannelId, PortId},
    path,
};

/// Where the state of the signer is, in the ledger's own space.
const SIGNER: &[u8] = b"signer";

/// A key of the provable space that is there from the first block on: of an empty tree nothing can
/// be proved, not even that a key is not in it.
const GENESIS: &str = "genesis";

/// How the store is laid out. Another number is another ledger.
const FORMAT: u32 = 1;

/// What the signer must never forget.
#[derive(Clone, PartialEq, Message)]
struct SignerState {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(string, tag = "2")]
    chain: String,
    #[prost(bytes = "vec", tag = "3")]
    public_key: Vec<u8>,
    #[prost(uint64, tag = "4")]
    height: u64,
    #[prost(fixed64, tag = "5")]
    time: u64,
    /// The hash of the last block.
    #[prost(bytes = "vec", tag = "6")]
    last: Vec<u8>,
}

impl SignerState {
    fn owner(chain: &str, key: &[u8]) -> String {
        let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{chain} with the key {key}")
    }
}

/// A block that was made.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) height: Height,
    pub(crate) time: Timestamp,
    app_hash: [u8; 32],
    signed: SignedHeader,
    tree: Tree,
}

impl Block {
    /// The provable value at a key as of this block.
    pub(crate) fn value(&self, key: &str) -> Option<&Bytes> {
        self.tree.get(key.as_bytes())
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Ledger {
    signer: Signer,
    store: Box<dyn Store>,
    tree: Tree,
    private: BTreeMap<Vec<u8>, Bytes>,
    /// Whether anything has changed since the last block, and what, by space and key, if the store
    /// is to know it.
    dirty: bool,
    /// Whether anything is to be stored.
    unsaved: bool,
    pending: BTreeMap<(bool, Vec<u8>), Option<Bytes>>,
    /// The last blocks, the newest last.
    blocks: VecDeque<Block>,
    kept_blocks: usize,
    height: u64,
    time: Timestamp,
    last: Option<BlockId>,
    stopped: bool,
}

impl Ledger {
    /// A ledger that ends with this value.
    pub(crate) fn in_memory(
        key: Arc<LedgerKey>,
        chain: &str,
        kept_blocks: usize,
    ) -> Result<Self, LedgerError> {
        Self::over(Box::new(Memory), key, chain, kept_blocks)
    }

    /// A ledger whose store does what a test wants.
    #[cfg(test)]
    pub(crate) fn scripted(
        key: Arc<LedgerKey>,
        chain: &str,
        write: impl Fn() -> Result<(), LedgerError> + Send + Sync + 'static,
    ) -> Result<Self, LedgerError> {
        Self::over(Box::new(store::Scripted(Box::new(write))), key, chain, 64)
    }

    /// A ledger in a folder: a new one, or the one that is there. The last block is not kept across
    /// this: make another before proving anything.
    #[cfg(feature = "durable")]
    pub(crate) fn open(
        path: &std::path::Path,
        key: Arc<LedgerKey>,
        chain: &str,
        kept_blocks: usize,
    ) -> Result<Self, LedgerError> {
        Self::over(Box::new(store::Disk::open(path)?), key, chain, kept_blocks)
    }

    fn over(
        store: Box<dyn Store>,
        key: Arc<LedgerKey>,
        chain: &str,
        kept_blocks: usize,
    ) -> Result<Self, LedgerError> {
        let public_key = key.public_key();
        let signer = Signer::new(key, chain)?;
        let (mut tree, mut private, mut state) = (Tree::default(), BTreeMap::new(), None);
        let mut stored = Vec::new();
        store.load(&mut |(space, key, value)| match space {
            Space::Provable => stored.push((key, value)),
            Space::Private => {
                private.insert(key, value);
            }
            Space::Own if key == SIGNER => state = Some(value),
            Space::Own => {}
        })?;
        let state = state.map(|state| SignerState::decode(&state[..])).transpose();
        let state = state.map_err(|error| LedgerError::Store { reason: error.to_string() })?;
        let mut ledger = Self {
            signer,
            store,
            tree: Tree::default(),
            private,
            dirty: false,
            unsaved: false,
            pending: BTreeMap::new(),
            blocks: VecDeque::new(),
            kept_blocks: kept_blocks.max(1),
            height: 0,
            time: Timestamp::ZERO,
            last: None,
            stopped: false,
        };
        match state {
            Some(state) => ledger.resume(&state, &public_key)?,
            None if stored.is_empty() => {
                ledger.set_provable(
                    GENESIS.to_owned(),
                    Some(Bytes::copy_from_slice(chain.as_bytes())),
                );
            }
            None => {
                let reason = "it holds keys and no signer".to_owned();
                return Err(LedgerError::Store { reason });
            }
        }
        for (key, value) in stored {
            tree.set(&key, value, ledger.height);
        }
        if tree.len() > 0 {
            tree.commit();
            ledger.tree = tree;
        }
        Ok(ledger)
    }

    fn resume(&mut self, state: &SignerState, public_key: &[u8]) -> Result<(), LedgerError> {
        if state.format != FORMAT {
            let reason = format!("it has format {}, and this is for {FORMAT}", state.format);
            return Err(LedgerError::Store { reason });
        }
        if state.chain != self.signer.chain() || state.public_key != public_key {
            return Err(LedgerError::Other {
                found: SignerState::owner(&state.chain, &state.public_key),
                wanted: SignerState::owner(self.signer.chain(), public_key),
            });
        }
        (self.height, self.time) = (state.height, Timestamp::from_nanos(state.time));
        self.last = Some(header::block_id(&state.last)?);
        Ok(())
    }

    /// Makes changes a part of the block to come.
    pub(crate) fn apply(&mut self, writes: engine::Writes) {
        for (key, value) in writes.provable {
            self.set_provable(key, value);
        }
        for (key, value) in writes.private {
            self.set_private(key, value);
        }
    }

    /// Makes one change to the private space a part of the block to come.
    pub(crate) fn set_private(&mut self, key: Vec<u8>, value: Option<Bytes>) {
        self.dirty = true;
        self.set_private_later(key, value);
    }

    /// The same of a change that needs no block by itself: nobody waits for it, and it does no harm
    /// if it is lost.
    pub(crate) fn set_private_later(&mut self, key: Vec<u8>, value: Option<Bytes>) {
        self.unsaved = true;
        if self.store.keeps() {
            self.pending.insert((false, key.clone()), value.clone());
        }
        match value {
            Some(value) => self.private.insert(key, value),
            None => self.private.remove(&key),
        };
    }

    fn set_provable(&mut self, key: String, value: Option<Bytes>) {
        let version = self.height + 1;
        match &value {
            Some(value) => self.tree.set(key.as_bytes(), value.clone(), version),
            None => {
                self.tree.remove(key.as_bytes(), version);
            }
        }
        self.dirty = true;
        if self.store.keeps() {
            self.pending.insert((true, key.into_bytes()), value);
        }
    }

    /// Whether anything has changed since the last block.
    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Whether no block was ever made.
    pub(crate) fn is_new(&self) -> bool {
        self.height == 0
    }

    /// Whether there is anything that no block has stored, however small.
    pub(crate) fn is_unsaved(&self) -> bool {
        self.dirty || self.unsaved
    }

    /// What it is to be at when something is handled now: never before the last block.
    pub(crate) fn at(&self, now: Timestamp) -> At {
        At { time: now.max(self.time), height: self.signer.height(self.height + 1) }
    }

    /// Whether [`commit`](Self::commit) waits for a disk.
    pub(crate) fn waits(&self) -> bool {
        self.store.keeps()
    }

    /// Makes a block of what has changed, and of nothing if nothing has. It is stored when this
    /// returns.
    ///
    /// # Errors
    /// The store fails: then nothing may be published any more, and the ledger is to be opened
    /// again.
    pub(crate) fn commit(&mut self, now: Timestamp) -> Result<&Block, LedgerError> {
        if self.stopped {
            return Err(LedgerError::Stopped);
        }
        // Until all is done: an error on the way leaves it so.
        self.stopped = true;
        let number = self.height + 1;
        // Strictly later than the last one.
        let time = now.max(Timestamp::from_nanos(self.time.as_nanos().saturating_add(1)));
        let root = self.tree.commit().unwrap_or_default();
        let app_hash = proof::app_hash(&root);
        let (signed, id) = self.signer.sign(number, time, app_hash, self.last)?;
        let state = SignerState {
            format: FORMAT,
            chain: self.signer.chain().to_owned(),
            public_key: self.signer.public_key().to_vec(),
            height: number,
            time: time.as_nanos(),
            last: id.hash.as_bytes().to_vec(),
        };
        let state = state.encode_to_vec();
        let space = |provable| if provable { Space::Provable } else { Space::Private };
        let changes = self.pending.iter();
        let mut batch: store::Batch<'_> = changes
            .map(|((provable, key), value)| (space(*provable), &key[..], value.as_deref()))
            .collect();
        batch.push((Space::Own, SIGNER, Some(&state)));
        self.store.write(&batch)?;
        // Before anybody else can know of it: who reads these knows all that was ever signed and
        // shown.
        tracing::trace!(height = number, time = time.as_nanos(), hash = %id.hash, "block");
        self.pending.clear();
        (self.dirty, self.unsaved) = (false, false);
        (self.height, self.time, self.last) = (number, time, Some(id));
        if self.blocks.len() >= self.kept_blocks {
            self.blocks.pop_front();
        }
        let height = self.signer.height(number);
        self.blocks.push_back(Block { height, time, app_hash, signed, tree: self.tree.clone() });
        self.stopped = false;
        self.blocks.back().ok_or(LedgerError::Stopped)
    }

    /// The last block, if one was made since the ledger was opened.
    pub(crate) fn latest(&self) -> Option<&Block> {
        self.blocks.back()
    }

    fn block(&self, height: Height) -> Result<&Block, LedgerError> {
        let missing = || LedgerError::NoBlock {
            height,
            first: self.blocks.front().map_or(0, |block| block.height.number),
            last: self.height,
        };
        let newest = self.blocks.back().ok_or_else(missing)?;
        let back = newest.height.number.checked_sub(height.number).ok_or_else(missing)?;
        let index =
            usize::try_from(back).ok().and_then(|back| self.blocks.len().checked_sub(back + 1));
        let block = index.and_then(|index| self.blocks.get(index)).ok_or_else(missing)?;
        if block.height == height { Ok(block) } else { Err(missing()) }
    }

    /// Proves that a key had its value in a block, or that it had none.
    pub(crate) fn prove(&self, key: &str, height: Height) -> Result<Vec<u8>, LedgerError> {
        let tree = &self.block(height)?.tree;
        proof::prove(tree, key.as_bytes())
            .ok_or_else(|| LedgerError::Header { reason: "the tree is empty".to_owned() })
    }

    /// What moves a client of this host from a height that it knows to a block.
    pub(crate) fn header(&self, height: Height, trusted: Height) -> Result<Any, LedgerError> {
        Ok(self.signer.header(&self.block(height)?.signed, trusted))
    }

    /// The states of a new client of this host, which begins with a block.
    pub(crate) fn client_of(
        &self,
        height: Height,
        trust: &Trust,
    ) -> Result<(Any, Any), LedgerError> {
        let block = self.block(height)?;
        Ok((
            self.signer.client_state(height, trust),
            self.signer.consensus_state(block.time, &block.app_hash),
        ))
    }

    /// The packets of a channel that have no acknowledgement, in no order.
    #[cfg(feature = "chain")]
    pub(crate) fn outstanding(&self, port: &PortId, channel: &ChannelId) -> Vec<u64> {
        let prefix = path::commitments(port, channel);
        let (mut found, mut from) = (Vec::new(), prefix.clone().into_bytes());
        while let Some((key, _)) = self.tree.next(&from) {
            let Some(sequence) = key.strip_prefix(prefix.as_bytes()) else { break };
            from = [key, &[0]].concat();
            let sequence: Option<u64> =
                std::str::from_utf8(sequence).ok().and_then(|text| text.parse().ok());
            found.extend(sequence);
        }
        found
    }

    /// All channels, whatever their state.
    pub(crate) fn channels(&self) -> Vec<(PortId, ChannelId, engine::Channel)> {
        const PREFIX: &[u8] = b"channelEnds/";
        let mut channels = Vec::new();
        let mut from = PREFIX.to_vec();
        while let Some((key, value)) = self.tree.next(&from) {
            if !key.starts_with(PREFIX) {
                break;
            }
            from = [key, &[0]].concat();
            let (Some((port, id)), Ok(channel)) =
                (path::read_channel(key), engine::Channel::decode(value))
            else {
                continue;
            };
            channels.push((port, id, channel));
        }
        channels
    }

    /// The id of the chain that this is.
    pub(crate) fn chain(&self) -> &str {
        self.signer.chain()
    }
}

impl engine::Store for Ledger {
    fn get(&self, key: &str) -> Option<Bytes> {
        self.tree.get(key.as_bytes()).cloned()
    }

    fn private(&self, key: &[u8]) -> Option<Bytes> {
        self.private.get(key).cloned()
    }

    fn private_next(&self, prefix: &[u8], from: &[u8]) -> Option<(Vec<u8>, Bytes)> {
        let range = (Bound::Included(from.max(prefix)), Bound::Unbounded);
        let (key, value) = self.private.range::<[u8], _>(range).next()?;
        key.starts_with(prefix).then(|| (key.clone(), value.clone()))
    }

    fn private_prev(&self, prefix: &[u8], before: &[u8]) -> Option<(Vec<u8>, Bytes)> {
        // Of what comes before `before`, the keys with the prefix are not the last ones if that
        // lies beyond them.
        let range = (Bound::Included(prefix), Bound::Excluded(before));
        if before <= prefix {
            return None;
        }
        let mut range = self.private.range::<[u8], _>(range).rev();
        let (key, value) = range.find(|(key, _)| key.starts_with(prefix))?;
        Some((key.clone(), value.clone()))
    }
}
