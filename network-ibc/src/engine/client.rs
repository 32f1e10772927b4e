//! Clients (ICS-002): made, updated, and asked for proofs.

use bytes::Bytes;
#[cfg(feature = "chain")]
use ibc_proto::google::protobuf::Any;
use ibc_proto::ibc::core::client::v1::{MsgCreateClient, MsgUpdateClient};

use super::{
    Engine,
    error::EngineError,
    event::Event,
    stage::Stage,
    types::{Connection, client_id},
};
use crate::{
    client::{Claim, ClientStore, Gap, Updated},
    height::{At, Height, Timestamp},
    identifier::ClientId,
};

/// How long a chain is taken to need for a block at most, in nanoseconds (ibc-go's default for
/// `max_expected_time_per_block`).
const TIME_PER_BLOCK: u64 = 30_000_000_000;

/// What is claimed of the other side's store.
pub(super) struct Proved<'a> {
    pub(super) path: String,
    pub(super) value: Option<&'a [u8]>,
    pub(super) proof: &'a [u8],
    pub(super) height: Height,
}

/// A client's part of the store.
struct Part<'a, 'b> {
    stage: &'a mut Stage<'b>,
    client: &'a ClientId,
    prefix: String,
}

impl<'a, 'b> Part<'a, 'b> {
    fn new(stage: &'a mut Stage<'b>, client: &'a ClientId) -> Self {
        Self { stage, client, prefix: format!("clients/{client}/") }
    }

    fn key(&self, key: &[u8]) -> Vec<u8> {
        [self.prefix.as_bytes(), key].concat()
    }

    /// Without the prefix that all keys of this client have.
    fn relative(&self, found: Option<(Vec<u8>, Bytes)>) -> Option<(Vec<u8>, Bytes)> {
        let (key, value) = found?;
        Some((key.get(self.prefix.len()..)?.to_vec(), value))
    }
}

impl ClientStore for Part<'_, '_> {
    fn client(&self) -> &ClientId {
        self.client
    }

    fn get(&self, key: &str) -> Option<Bytes> {
        self.stage.get(&[&self.prefix, key].concat())
    }

    fn set(&mut self, key: &str, value: Bytes) {
        self.stage.set([&self.prefix, key].concat(), value);
    }

    fn remove(&mut self, key: &str) {
        self.stage.remove([&self.prefix, key].concat());
    }

    fn private(&self, key: &[u8]) -> Option<Bytes> {
        self.stage.private(&self.key(key))
    }

    fn set_private(&mut self, key: &[u8], value: Option<Bytes>) {
        self.stage.set_private(self.key(key), value);
    }

    fn private_next(&self, prefix: &[u8], from: &[u8]) -> Option<(Vec<u8>, Bytes)> {
        self.relative(self.stage.private_next(&self.key(prefix), &self.key(from)))
    }

    fn private_prev(&self, prefix: &[u8], before: &[u8]) -> Option<(Vec<u8>, Bytes)> {
        self.relative(self.stage.private_prev(&self.key(prefix), &self.key(before)))
    }
}

impl Engine {
    /// ibc-go `02-client/keeper/client.go`, `CreateClient`.
    pub(super) fn create_client(
        &self,
        stage: &mut Stage<'_>,
        message: &MsgCreateClient,
        at: At,
    ) -> Result<Event, EngineError> {
        let missing = || EngineError::invalid("MsgCreateClient", "it lacks a state");
        let state = message.client_state.as_ref().ok_or_else(missing)?;
        let consensus = message.consensus_state.as_ref().ok_or_else(missing)?;
        let number = stage.next_number("nextClientSequence", 0);
        let client = self.clients.name(state, number)?;
        self.clients.create(&mut Part::new(stage, &client), state, consensus, at)?;
        Ok(Event::ClientCreated { client })
    }

    /// ibc-go `02-client/keeper/client.go`, `UpdateClient`.
    pub(super) fn update_client(
        &self,
        stage: &mut Stage<'_>,
        message: &MsgUpdateClient,
        at: At,
    ) -> Result<Event, EngineError> {
        let client = client_id(&message.client_id)?;
        let header = message
            .client_message
            .as_ref()
            .ok_or_else(|| EngineError::invalid("MsgUpdateClient", "it has no header"))?;
        Ok(match self.clients.update(&mut Part::new(stage, &client), header, at)? {
            Updated::Heights(heights) => Event::ClientUpdated { client, heights },
            Updated::Frozen => Event::ClientFrozen { client },
        })
    }

    /// Lets a client go on that has expired or is frozen. See [`Clients::recover`].
    ///
    /// [`Clients::recover`]: crate::client::Clients::recover
    #[cfg(feature = "chain")]
    pub(crate) fn recover_client(
        &self,
        stage: &mut Stage<'_>,
        client: &ClientId,
        states: (&Any, &Any),
        at: At,
    ) -> Result<(), EngineError> {
        Ok(self.clients.recover(&mut Part::new(stage, client), states.0, states.1, at)?)
    }

    /// Checks that a client can be updated, and proofs checked with it.
    pub(crate) fn require_active(
        &self,
        stage: &mut Stage<'_>,
        client: &ClientId,
        at: At,
    ) -> Result<(), EngineError> {
        Ok(self.clients.require_active(&Part::new(stage, client), at)?)
    }

    /// The newest height of the other side that is known here.
    pub(crate) fn latest_height(
        &self,
        stage: &mut Stage<'_>,
        client: &ClientId,
    ) -> Result<Height, EngineError> {
        Ok(self.clients.latest_height(&Part::new(stage, client))?)
    }

    /// What the next signature of the other side has to name, where that is a solo machine.
    pub(crate) fn diversifier(
        &self,
        stage: &mut Stage<'_>,
        client: &ClientId,
    ) -> Result<Option<String>, EngineError> {
        Ok(self.clients.diversifier(&Part::new(stage, client))?)
    }

    /// The other side's time at a height that is known here.
    pub(crate) fn timestamp_at(
        &self,
        stage: &mut Stage<'_>,
        client: &ClientId,
        height: Height,
    ) -> Result<Timestamp, EngineError> {
        Ok(self.clients.timestamp_at(&Part::new(stage, client), height)?)
    }

    /// Checks what is claimed of the other side of a connection (ibc-go
    /// `03-connection/keeper/verify.go`).
    pub(super) fn verify(
        &self,
        stage: &mut Stage<'_>,
        connection: &Connection,
        proved: &Proved<'_>,
        delay: u64,
        at: At,
    ) -> Result<(), EngineError> {
        require_proof(proved.proof)?;
        let claim = Claim {
            height: proved.height,
            proof: proved.proof,
            prefix: &connection.prefix,
            path: &proved.path,
            value: proved.value,
            delay_time: delay,
            delay_blocks: delay.div_ceil(TIME_PER_BLOCK),
        };
        Ok(self.clients.verify(&mut Part::new(stage, &connection.client), &claim, at)?)
    }

    /// What a proof of absence that was verified shows of other keys.
    pub(super) fn gap(
        &self,
        stage: &mut Stage<'_>,
        connection: &Connection,
        proof: &[u8],
    ) -> Option<Gap> {
        self.clients.gap(&Part::new(stage, &connection.client), proof)
    }
}

/// Checks that a message brings a proof at all, which ibc-go does before it looks at anything
/// else (`ValidateBasic` of its messages).
pub(super) fn require_proof(proof: &[u8]) -> Result<(), EngineError> {
    if proof.is_empty() {
        return Err(EngineError::invalid("proof", "it is empty"));
    }
    Ok(())
}
