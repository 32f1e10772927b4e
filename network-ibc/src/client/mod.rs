//! Light clients (ICS-002): what a host believes of another chain, and why.
//!
//! A kind of client holds no state of its own. It reads and writes a [`ClientStore`], which is
//! part of what a message writes, so a message that fails leaves the client as it was.
//!
//! [`Clients`] finds the kind of a client by its name and keeps to what holds for every kind:
//! only an active client is updated or asked.

mod ed25519;
mod error;
mod read;
mod solomachine;
mod tendermint;

use bytes::Bytes;
use ibc_proto::google::protobuf::Any;

pub(crate) use ed25519::verify as verify_ed25519;
pub use error::ClientError;

pub use solomachine::SoloKey;
pub(crate) use solomachine::{KIND as SOLO_MACHINE, SoloMachine, SoloState};
#[cfg(all(test, feature = "chain"))]
pub(crate) use tendermint::chain as test_chain;
pub(crate) use tendermint::{Gap, KIND as TENDERMINT, Tendermint};

use crate::{
    height::{At, Height, Timestamp},
    identifier::ClientId,
};

/// The part of the store that belongs to one client: everything under `clients/ID/` (ICS-024).
///
/// Keys are relative to that, such as `clientState` and `consensusStates/0-5`. What a counterparty
/// may ask proofs of is *provable*; what only this host needs is *private*.
pub(crate) trait ClientStore {
    /// The client that the store belongs to.
    fn client(&self) -> &ClientId;
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
    /// The height that the proof is of. A solo machine has none, and looks at none.
    pub(crate) height: Height,
    /// The proof, as the client's kind writes it.
    pub(crate) proof: &'a [u8],
    /// The name of the other chain's store: its commitment prefix. Not empty.
    pub(crate) prefix: &'a [u8],
    /// The key in that store.
    pub(crate) path: &'a str,
    /// The value at the key, not empty; `None` if there is none.
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
    Expired {
        /// When that period ended.
        since: Timestamp,
    },
    /// The other chain was seen to say two things at once.
    Frozen,
}

/// What a client message did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Updated {
    /// The client knows these heights now. None if the message was evidence that proves nothing.
    Heights(Vec<Height>),
    /// The message proves misbehaviour: the client is frozen.
    Frozen,
}

/// A kind of client, such as `07-tendermint`.
///
/// The order of the checks is ibc-go's (`modules/light-clients`). No input makes a kind panic,
/// whoever wrote it.
pub(crate) trait LightClient: Send + Sync {
    /// Stores the first states of a client.
    fn initialize(
        &self,
        store: &mut dyn ClientStore,
        client_state: &Any,
        consensus_state: &Any,
        at: At,
    ) -> Result<(), ClientError>;

    /// Lets a client go on from new states of the same chain. The caller has asked that it is not
    /// active.
    #[cfg(feature = "chain")]
    fn recover(
        &self,
        store: &mut dyn ClientStore,
        _client_state: &Any,
        _consensus_state: &Any,
        _at: At,
    ) -> Result<(), ClientError> {
        let kind = error::excerpt(store.client().as_str());
        Err(ClientError::UnknownKind { kind })
    }

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

    /// Between which keys of the other side's store there is none, as a proof shows of which
    /// [`verify`](Self::verify) has found that it proves the absence of one; `None` if it shows
    /// nothing of others.
    fn gap(&self, _proof: &[u8]) -> Option<Gap> {
        None
    }

    /// What the client is good for at a time.
    fn status(&self, store: &dyn ClientStore, at: At) -> Result<Status, ClientError>;

    /// The newest height that the client knows.
    fn latest_height(&self, store: &dyn ClientStore) -> Result<Height, ClientError>;

    /// What the next signature has to name besides its sequence, where the other side is a solo
    /// machine.
    fn diversifier(&self, _store: &dyn ClientStore) -> Result<Option<String>, ClientError> {
        Ok(None)
    }

    /// The time of the other chain at a height that the client knows.
    fn timestamp_at(
        &self,
        store: &dyn ClientStore,
        height: Height,
    ) -> Result<Timestamp, ClientError>;
}

/// The kinds of client that a host keeps (ICS-002), by name.
pub(crate) struct Clients {
    kinds: Vec<(&'static str, Box<dyn LightClient>)>,
}

/// The kinds that chains have.
impl Default for Clients {
    fn default() -> Self {
        Self::of(vec![
            (tendermint::KIND, Box::new(Tendermint::default())),
            (solomachine::KIND, Box::new(SoloMachine)),
        ])
    }
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.kinds.iter().map(|(name, _)| name)).finish()
    }
}

impl Clients {
    pub(crate) fn of(kinds: Vec<(&'static str, Box<dyn LightClient>)>) -> Self {
        Self { kinds }
    }

    /// The name of the `number`-th client of a host: `KIND-N`, where the client state says the
    /// kind (ibc-go, `02-client/types/keys.go`, `FormatClientIdentifier`). Numbers count over all
    /// kinds.
    pub(crate) fn name(&self, client_state: &Any, number: u64) -> Result<ClientId, ClientError> {
        let kind = match client_state.type_url.as_str() {
            tendermint::CLIENT_STATE => tendermint::KIND,
            solomachine::CLIENT_STATE => solomachine::KIND,
            other => other,
        };
        self.kind_named(kind)?;
        Ok(ClientId::known(&format!("{kind}-{number}")))
    }

    /// Creates the client that the store belongs to, as `name` has named it, and says the height
    /// that it starts at.
    ///
    /// # Errors
    /// A state cannot be read or is not valid, or the client would be frozen or expired from the
    /// start (ibc-go, `02-client/keeper/client.go`, `CreateClient`).
    pub(crate) fn create(
        &self,
        store: &mut dyn ClientStore,
        client_state: &Any,
        consensus_state: &Any,
        at: At,
    ) -> Result<Height, ClientError> {
        let kind = self.kind(store.client())?;
        kind.initialize(store, client_state, consensus_state, at)?;
        active(kind, store, at)?;
        kind.latest_height(store)
    }

    /// Lets a client that has expired or is frozen go on from other states of its chain, on the word
    /// of whoever has this host (ICS-002, where governance does it; ibc-go,
    /// `02-client/keeper/client.go`, `RecoverClient`). What it knew before is forgotten.
    ///
    /// # Errors
    /// The client is active, or the states are not valid, of another chain, or no later.
    #[cfg(feature = "chain")]
    pub(crate) fn recover(
        &self,
        store: &mut dyn ClientStore,
        client_state: &Any,
        consensus_state: &Any,
        at: At,
    ) -> Result<(), ClientError> {
        let kind = self.kind(store.client())?;
        if active(kind, store, at).is_ok() {
            return Err(ClientError::Invalid {
                what: "recovery of a client",
                reason: format!("{} is active, and takes headers", store.client()),
            });
        }
        kind.recover(store, client_state, consensus_state, at)?;
        active(kind, store, at)
    }

    /// Gives an active client a header, or evidence of misbehaviour.
    pub(crate) fn update(
        &self,
        store: &mut dyn ClientStore,
        message: &Any,
        at: At,
    ) -> Result<Updated, ClientError> {
        let kind = self.kind(store.client())?;
        active(kind, store, at)?;
        kind.update(store, message, at)
    }

    /// Checks a claim with an active client.
    pub(crate) fn verify(
        &self,
        store: &mut dyn ClientStore,
        claim: &Claim<'_>,
        at: At,
    ) -> Result<(), ClientError> {
        let kind = self.kind(store.client())?;
        active(kind, store, at)?;
        kind.verify(store, claim, at)
    }

    /// See [`LightClient::gap`].
    pub(crate) fn gap(&self, store: &dyn ClientStore, proof: &[u8]) -> Option<Gap> {
        self.kind(store.client()).ok()?.gap(proof)
    }

    /// What the client is good for at a time.
    #[cfg(test)]
    pub(crate) fn status(&self, store: &dyn ClientStore, at: At) -> Result<Status, ClientError> {
        self.kind(store.client())?.status(store, at)
    }

    /// The newest height that the client knows.
    pub(crate) fn latest_height(&self, store: &dyn ClientStore) -> Result<Height, ClientError> {
        self.kind(store.client())?.latest_height(store)
    }

    /// What the next signature of a solo machine has to name besides its sequence.
    pub(crate) fn diversifier(
        &self,
        store: &dyn ClientStore,
    ) -> Result<Option<String>, ClientError> {
        self.kind(store.client())?.diversifier(store)
    }

    /// The time of the other chain at a height that the client knows.
    pub(crate) fn timestamp_at(
        &self,
        store: &dyn ClientStore,
        height: Height,
    ) -> Result<Timestamp, ClientError> {
        self.kind(store.client())?.timestamp_at(store, height)
    }

    fn kind(&self, client: &ClientId) -> Result<&dyn LightClient, ClientError> {
        let (kind, number) = client.as_str().rsplit_once('-').unwrap_or((client.as_str(), ""));
        let digits = (1..=20).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
        if !digits {
            return Err(ClientError::UnknownKind { kind: error::excerpt(kind) });
        }
        self.kind_named(kind)
    }

    fn kind_named(&self, kind: &str) -> Result<&dyn LightClient, ClientError> {
        let found = self.kinds.iter().find(|(name, _)| *name == kind);
        let unknown = || ClientError::UnknownKind { kind: error::excerpt(kind) };
        found.map(|(_, kind)| &**kind).ok_or_else(unknown)
    }

    /// Checks that a client is active.
    pub(crate) fn require_active(
        &self,
        store: &dyn ClientStore,
        at: At,
    ) -> Result<(), ClientError> {
        active(self.kind(store.client())?, store, at)
    }
}

/// Checks that a client is active.
fn active(kind: &dyn LightClient, store: &dyn ClientStore, at: At) -> Result<(), ClientError> {
    match kind.status(store, at)? {
        Status::Active => Ok(()),
        Status::Expired { since } => {
            Err(ClientError::Expired { client: store.client().clone(), since })
        }
        Status::Frozen => Err(ClientError::Frozen { client: store.client().clone() }),
    }
}

#[cfg(test)]
pub(crate) mod memory;
