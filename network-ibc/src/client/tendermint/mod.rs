//! `07-tendermint`: a client of a chain whose validators sign headers (ICS-007).
//!
//! The model for the order of the checks is ibc-go v10, `modules/light-clients/07-tendermint`.
//! Signatures and hashes of headers are judged by `tendermint-light-client-verifier`, proofs by
//! [`proof`]. Deviations, each stricter:
//!
//! - The proof specs are the Cosmos SDK's, of an IAVL tree in a simple Merkle tree.
//! - A trust level of exactly 1 is refused: it could never be exceeded.
//! - No more than a number of consensus states are kept (see [`KEEP`]).
//! - Upgrades to another chain id are not taken.

mod header;
mod proof;
mod quick;
mod state;

use bytes::Bytes;
use ibc_proto::{google::protobuf::Any, ibc::lightclients::tendermint::v1 as raw};
use prost::Message;

pub(crate) use self::proof::Gap;
use self::{
    header::{Evidence, Header},
    state::{Client, Consensus},
};
use super::{Claim, ClientError, ClientStore, LightClient, Status, Updated, read};
use crate::height::{At, Height, Timestamp};

/// The name of the kind.
pub(crate) const KIND: &str = "07-tendermint";
/// The type of the kind's client state.
pub(super) const CLIENT_STATE: &str = "/ibc.lightclients.tendermint.v1.ClientState";

const HEADER: &str = "/ibc.lightclients.tendermint.v1.Header";
const MISBEHAVIOUR: &str = "/ibc.lightclients.tendermint.v1.Misbehaviour";

/// How many consensus states of one client are kept, unless something else is asked for.
///
/// ibc-go drops a state only once it has expired, which suits chains that relay a header every
/// few seconds. A host signs hundreds of headers a second and may trust for years, so its
/// counterparties must forget by number too. A proof and the header it is of are relayed
/// together, so a state is needed for as long as messages may overtake each other: seconds.
///
/// A delay period (ICS-003) longer than the time in which this many headers come can never pass.
const KEEP: u32 = 1_024;

/// Clients of kind `07-tendermint`.
#[derive(Debug)]
pub(crate) struct Tendermint {
    keep: u32,
}

impl Default for Tendermint {
    fn default() -> Self {
        Self { keep: KEEP }
    }
}

impl Tendermint {
    /// Clients that keep at most `keep` consensus states, and at least two.
    #[cfg(test)]
    pub(crate) fn keeping(keep: u32) -> Self {
        Self { keep: keep.max(2) }
    }

    /// What a header leads to, once it is believed.
    fn store_header(
        &self,
        store: &mut dyn ClientStore,
        mut client: Client,
        header: &Header,
        at: At,
    ) -> Result<Updated, ClientError> {
        let new = header.consensus(at);
        let known = state::consensus(store, header.height)?;
        if let Some(known) = &known {
            if !known.says_the_same(&new) {
                return freeze(store, client);
            }
        } else {
            let before = state::consensus_before(store, header.height)?;
            let after = state::consensus_after(store, header.height)?;
            if before.is_some_and(|(_, before)| before.time >= new.time)
                || after.is_some_and(|(_, after)| after.time <= new.time)
            {
                return freeze(store, client);
            }
        }

        self.prune(store, &mut client, known.is_none(), at)?;
        if known.is_none() {
            state::put_consensus(store, header.height, &new);
            client.count = client.count.saturating_add(1);
            if header.height > client.latest_height() {
                client.set_latest(header.height, new.time);
                state::change_provable(store, |state| {
                    state.latest_height = Some(read::raw_height(header.height));
                })?;
            }
        }
        client.put(store);
        Ok(Updated::Heights(vec![header.height]))
    }

    /// Drops the oldest state if it has expired (ibc-go, `update.go`,
    /// `pruneOldestConsensusState`), or if there would be too many.
    fn prune(
        &self,
        store: &mut dyn ClientStore,
        client: &mut Client,
        one_more: bool,
        at: At,
    ) -> Result<(), ClientError> {
        let Some((height, oldest)) = state::oldest_consensus(store)? else { return Ok(()) };
        let full = one_more && client.count >= self.keep;
        let expired = client.expires(oldest.time()) <= at.time;
        // The newest is what tells that the client has expired, and since when.
        if (full || expired) && height != client.latest_height() {
            state::remove_consensus(store, height);
            client.count = client.count.saturating_sub(1);
        }
        Ok(())
    }
}

impl LightClient for Tendermint {
    fn initialize(
        &self,
        store: &mut dyn ClientStore,
        client_state: &Any,
        consensus_state: &Any,
        at: At,
    ) -> Result<(), ClientError> {
        let raw: raw::ClientState =
            read::message("07-tendermint client state", client_state, read::MAX_STATE)?;
        let mut client = state::validate(&raw)?;
        let raw_consensus: raw::ConsensusState =
            read::message("07-tendermint consensus state", consensus_state, read::MAX_STATE)?;
        let consensus = state::validate_consensus(raw_consensus, at)?;

        let height = client.latest_height();
        client.set_latest(height, consensus.time);
        client.count = 1;
        store.set("clientState", Bytes::from(read::any(&raw).encode_to_vec()));
        state::put_consensus(store, height, &consensus);
        client.put(store);
        Ok(())
    }

    #[cfg(feature = "chain")]
    fn recover(
        &self,
        store: &mut dyn ClientStore,
        client_state: &Any,
        consensus_state: &Any,
        at: At,
    ) -> Result<(), ClientError> {
        let before = Client::get(store)?;
        while let Some((height, _)) = state::oldest_consensus(store)? {
            state::remove_consensus(store, height);
        }
        self.initialize(store, client_state, consensus_state, at)?;
        let client = Client::get(store)?;
        let invalid = |reason| ClientError::Invalid { what: "recovery of a client", reason };
        if client.chain_id != before.chain_id {
            let (is, was) = (client.chain_id, before.chain_id);
            return Err(invalid(format!("the states are of {is}, and it is of {was}")));
        }
        let (latest, known) = (client.latest_height(), before.latest_height());
        if latest <= known {
            return Err(invalid(format!(
                "the states are of height {latest}, and it is at {known}"
            )));
        }
        Ok(())
    }

    fn update(
        &self,
        store: &mut dyn ClientStore,
        message: &Any,
        at: At,
    ) -> Result<Updated, ClientError> {
        let client = Client::get(store)?;
        match message.type_url.as_str() {
            HEADER => {
                let header = Header::read(store.client(), message)?;
                header.verify(store, &client, at)?;
                self.store_header(store, client, &header, at)
            }
            MISBEHAVIOUR => {
                let evidence = Evidence::read(store.client(), message)?;
                evidence.verify(store, &client, at)?;
                if evidence.proves_misbehaviour() {
                    freeze(store, client)
                } else {
                    Ok(Updated::Heights(Vec::new()))
                }
            }
            other => Err(ClientError::Malformed {
                what: "07-tendermint client message",
                reason: format!(
                    "it is of type {}, and should be a Header or Misbehaviour",
                    super::error::excerpt(other)
                ),
            }),
        }
    }

    fn verify(
        &self,
        store: &mut dyn ClientStore,
        claim: &Claim<'_>,
        at: At,
    ) -> Result<(), ClientError> {
        verify(store, claim, at)
    }

    fn gap(&self, proof: &[u8]) -> Option<Gap> {
        Gap::of(proof)
    }

    fn status(&self, store: &dyn ClientStore, at: At) -> Result<Status, ClientError> {
        let client = Client::get(store)?;
        let since = client.expires(client.latest_time());
        // Frozen goes before expired, as in ibc-go, `client_state.go`, `status`.
        Ok(if client.frozen {
            Status::Frozen
        } else if since <= at.time {
            Status::Expired { since }
        } else {
            Status::Active
        })
    }

    fn latest_height(&self, store: &dyn ClientStore) -> Result<Height, ClientError> {
        Ok(Client::get(store)?.latest_height())
    }

    fn timestamp_at(
        &self,
        store: &dyn ClientStore,
        height: Height,
    ) -> Result<Timestamp, ClientError> {
        Ok(known(store, height)?.time())
    }
}

/// Checks a claim. It writes nothing, so claims may be checked side by side.
pub(crate) fn verify(
    store: &dyn ClientStore,
    claim: &Claim<'_>,
    at: At,
) -> Result<(), ClientError> {
    // That the height is none above the client's newest follows from its being known.
    let consensus = known(store, claim.height)?;
    delay_passed(store, &consensus, claim, at)?;
    proof::verify(&consensus.root, claim).map_err(|reason| ClientError::Proof {
        client: store.client().clone(),
        path: super::error::excerpt(claim.path),
        reason,
    })
}

/// ibc-go, `client_state.go`, `verifyDelayPeriodPassed`. Both limits are inclusive.
fn delay_passed(
    store: &dyn ClientStore,
    consensus: &Consensus,
    claim: &Claim<'_>,
    at: At,
) -> Result<(), ClientError> {
    let from_time = consensus.processed_time.saturating_add(claim.delay_time);
    let from_number = consensus.processed_number.saturating_add(claim.delay_blocks);
    let from_height = Height::new(consensus.processed_revision, from_number);
    let waits = (claim.delay_time != 0 && at.time.as_nanos() < from_time)
        || (claim.delay_blocks != 0 && at.height < from_height);
    if waits {
        return Err(ClientError::Delay {
            client: store.client().clone(),
            height: claim.height,
            from_time: Timestamp::from_nanos(from_time),
            from_height,
        });
    }
    Ok(())
}

fn known(store: &dyn ClientStore, height: Height) -> Result<Consensus, ClientError> {
    if let Some(consensus) = state::consensus(store, height)? {
        return Ok(consensus);
    }
    let latest = Client::get(store)?.latest_height();
    Err(ClientError::UnknownHeight { client: store.client().clone(), height, latest })
}

/// ibc-go, `update.go`, `UpdateStateOnMisbehaviour`: every frozen client has the height 0-1.
fn freeze(store: &mut dyn ClientStore, mut client: Client) -> Result<Updated, ClientError> {
    state::change_provable(store, |state| {
        state.frozen_height = Some(read::raw_height(Height::new(0, 1)));
    })?;
    client.frozen = true;
    client.put(store);
    Ok(Updated::Frozen)
}

#[cfg(test)]
mod adversary;
#[cfg(test)]
pub(crate) mod chain;
#[cfg(test)]
mod tests;
