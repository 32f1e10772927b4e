//! What a host relays to a chain with.
//!
//! | to | is |
//! |---|---|
//! | find out whether a host can relay to a chain | [`preflight()`] |
//! | reach a chain, if a host can relay to it at all | [`connect::Chain`] |
//! | ask a node, with proofs and headers | [`rpc::Rpc`] |
//! | learn what happens on the chain | [`events::ChainEvents`] |
//! | have messages executed, from an account | [`submit::Submitter`] |
//!
//! Nothing here judges what the chain says: proofs and headers go to the host's client of it.

mod answer;
mod connect;
mod error;
mod event;
mod events;
mod header;
mod heights;
mod http;
mod key;
#[cfg(test)]
#[cfg(unix)]
mod on_a_chain;
pub mod preflight;
mod query;
mod rpc;
mod search;
mod socket;
#[cfg(test)]
mod state;
#[cfg(test)]
pub(crate) mod strange_nodes;
mod submit;
mod tx;

pub(crate) use connect::Chain;
pub use connect::{ChainConfig, ChainError};
pub use error::RpcError;
pub(crate) use event::{IbcEvent, Step};
pub(crate) use events::Heard;
pub use key::{ChainKey, ChainKeyError};
#[cfg(test)]
#[cfg(unix)]
pub(crate) use on_a_chain::middle::{Middle, Verdict};
pub use preflight::preflight;
pub use rpc::RpcSettings;
pub(crate) use submit::Fate;
pub use submit::{TxError, TxSettings};
pub use tx::GasPrice;
#[cfg(test)]
pub(crate) use {rpc::Rpc, submit::Submitter};
