//! Light clients (ICS-002): what a host believes of another chain, and why.
//!
//! A kind of client holds no state of its own. It reads and writes a [`ClientStore`], which is
//! part of what a message writes, so a message that fails leaves the client as it was.

use bytes::Bytes;
use ibc_proto::google::protobuf::Any;

use crate::height::{At, Height, Timestamp};

/// The part of the store that belongs to one client: everything under `clients/ID/` (ICS-024).
///
/// Keys are relative to that, such as `clientState` and `consensusStates/0-5`. What a counterparty
/// may ask proofs of is *provable*; what only this host needs is *private*.
pub(crate) trait ClientStore {
    /// The provable value at a key.
    fn get(&self, key: &str) -> Option<Bytes>;
    /// Sets a provable value.
    fn set(&mut self, key: &str, value: Bytes);
    /// Removes a provable value.
    fn remove(&mut self, key: &str);
    /// The private value at a key.
    fn private(&self, key: &[u8]) -> Option<Bytes>;
    /// Sets or removes a private value.
    fn set_private(&mut self, key: &[u8], value: Option<Bytes>);
    /// The first private key at or after `from` that starts with `prefix`, and its value.
    fn private_next(&self, prefix: &[u8], from: &[u8]) -> Option<(Vec<u8>, Bytes)>;
    /// The last private key before `before` that starts with `prefix`, and its value.
    fn private_prev(&self, prefix: &[u8], before: &[u8]) -> Option<(Vec<u8>, Bytes)>;
}

/// What is claimed of the other chain's store, and the proof.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim<'a> {
    /// The height that the proof is of.
    pub(crate) height: Height,
    /// The proof, as the client's kind writes it.
    pub(crate) proof: &'a [u8],
    /// The name of the other chain's store: its commitment prefix.
    pub(crate) prefix: &'a [u8],
    /// The key in that store.
    pub(crate) path: &'a str,
    /// The value at the key; `None` if there is none.
    pub(crate) value: Option<&'a [u8]>,
    /// How long the header must have been known, in nanoseconds (ICS-003, the delay period).
    pub(crate) delay_time: u64,
    /// And for how many of this host's blocks.
    pub(crate) delay_blocks: u64,
}

/// What a client is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// It can be updated, and proofs checked with it.
    Active,
    /// It was not updated within its trusting period.
    Expired,
    /// The other chain was seen to say two things at once.
    Frozen,
}

/// What a client message did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Updated {
    /// The client knows these heights now.
    Heights(Vec<Height>),
    /// The message proves misbehaviour: the client is frozen.
    Frozen,
}

/// A kind of client, such as `07-tendermint`.
///
/// The order of the checks is ibc-go's (`modules/light-clients`).
pub(crate) trait LightClient: Send + Sync {
    /// Stores the first states of a client.
    fn initialize(
        &self,
        store: &mut dyn ClientStore,
        client_state: &Any,
        consensus_state: &Any,
        at: At,
    ) -> Result<(), ClientError>;

    /// Checks a header or evidence of misbehaviour, and stores what follows from it. The caller
    /// has asked that the client is active.
    fn update(
        &self,
        store: &mut dyn ClientStore,
        message: &Any,
        at: At,
    ) -> Result<Updated, ClientError>;

    /// Checks a claim. The caller has asked that the client is active.
    fn verify(
        &self,
        store: &mut dyn ClientStore,
        claim: &Claim<'_>,
        at: At,
    ) -> Result<(), ClientError>;

    /// What the client is good for at a time.
    fn status(&self, store: &dyn ClientStore, at: At) -> Result<Status, ClientError>;

    /// The newest height that the client knows.
    fn latest_height(&self, store: &dyn ClientStore) -> Result<Height, ClientError>;

    /// The time of the other chain at a height that the client knows.
    fn timestamp_at(
        &self,
        store: &dyn ClientStore,
        height: Height,
    ) -> Result<Timestamp, ClientError>;
}

/// Why a client did not take what it was given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// A message or a state cannot be read.
    #[error("the {what} cannot be read: {reason}")]
    Malformed {
        /// What was read.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}
