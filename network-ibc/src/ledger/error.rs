//! What can go wrong with a ledger.

use std::{io, path::PathBuf};

use crate::height::Height;

/// Why a ledger cannot be opened, or cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// Another process has the ledger open, or this one has.
    #[error("{} is in use: one process at a time can be the host that it makes", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// The folder cannot be used.
    #[error("{} cannot be used as the folder of a ledger", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The ledger is that of another host.
    #[error(
        "the ledger belongs to {found}, and this host is {wanted}: \
         open it with its own key and chain id, or use another folder"
    )]
    Other {
        /// Whose it is: a chain id and a public key.
        found: String,
        /// Who wanted it.
        wanted: String,
    },
    /// The store has failed, or what it holds is not what a ledger wrote.
    #[error("the ledger's store fails: {reason}")]
    Store {
        /// What it says.
        reason: String,
    },
    /// A commit has failed: nothing of it was published. Open the ledger again to go on.
    #[error("the ledger has stopped after a commit that failed: open it again")]
    Stopped,
    /// The id of the chain is not 1 to 50 characters.
    #[error("{id:?} is no id of a chain: take 1 to 50 letters, digits, '-', '_' and '.'")]
    ChainId {
        /// How it starts.
        id: String,
    },
    /// The key is none.
    #[error("the key is no Ed25519 key")]
    Key,
    /// No header can be made.
    #[error("no header can be made: {reason}")]
    Header {
        /// Why.
        reason: String,
    },
    /// The block is not kept, or not made yet.
    #[error("block {height} is not kept: proofs are made of blocks {first} to {last}")]
    NoBlock {
        /// What was asked for.
        height: Height,
        /// The first block that is kept.
        first: u64,
        /// The last block.
        last: u64,
    },
}
