//! What can go wrong with tokens.

use ruint::aliases::U256;

use crate::host::HostError;

/// Why tokens are not moved. Nothing is, then.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The host is against it.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A denomination is none, or not one for this.
    #[error("{denom:?} is no denomination for this: {reason}")]
    Denom {
        /// What it says.
        denom: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An amount is no number from 1 to 2^256 - 1.
    #[error("{amount:?} is no amount: it takes digits, from 1 to 2^256 - 1")]
    Amount {
        /// What it says.
        amount: String,
    },
    /// An account is blank or too long.
    #[error("an account has from 1 to {max} bytes and is not blank")]
    Account {
        /// How many bytes it may have.
        max: usize,
    },
    /// A memo is too long.
    #[error("the memo has {len} bytes, and may have {max}")]
    Memo {
        /// How many bytes it has.
        len: usize,
        /// How many it may have.
        max: usize,
    },
    /// There is not that much.
    #[error("{account} has {has} of {denom}, and {wanted} are to be taken")]
    Insufficient {
        /// Whose tokens.
        account: String,
        /// Which ones.
        denom: String,
        /// How many there are.
        has: U256,
        /// How many are to be taken.
        wanted: U256,
    },
    /// There would be more than can be counted.
    #[error("{account} would have more than 2^256 - 1 of {denom}")]
    Overflow {
        /// Whose tokens.
        account: String,
        /// Which ones.
        denom: String,
    },
    /// A packet is not one of ICS-020.
    #[error("this is no packet of ICS-020: {0}")]
    Packet(String),
}
