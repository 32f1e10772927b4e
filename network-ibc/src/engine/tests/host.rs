//! A host in memory: a store, and a client of the stand-in kind.

use std::{collections::BTreeMap, ops::Bound};

use bytes::Bytes;
use ibc_proto::google::protobuf::Any;
use prost::Message as _;

use super::stand::{self, Consensus, Effect, KIND, State};
use crate::{
    client::{Claim, ClientError, ClientStore, Clients, LightClient, Status, Updated},
    engine::{Engine, Store, Writes},
    height::{At, Height, Timestamp},
};

/// An engine that knows clients of the stand-in kind only.
pub(crate) fn engine() -> Engine {
    Engine::new(Clients::of(vec![(KIND, Box::new(StandIn))]))
}

#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) provable: BTreeMap<String, Bytes>,
    pub(crate) private: BTreeMap<Vec<u8>, Bytes>,
}

impl Store for Memory {
    fn get(&self, key: &str) -> Option<Bytes> {
        self.provable.get(key).cloned()
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
        let range = (Bound::Unbounded, Bound::Excluded(before));
        let mut found = self.private.range::<[u8], _>(range).rev();
        let (key, value) = found.find(|(key, _)| key.starts_with(prefix))?;
        Some((key.clone(), value.clone()))
    }
}

impl Memory {
    /// Applies what a message has written.
    pub(crate) fn apply(&mut self, writes: Writes) {
        for (key, value) in writes.provable {
            match value {
                Some(value) => self.provable.insert(key, value),
                None => self.provable.remove(&key),
            };
        }
        for (key, value) in writes.private {
            match value {
                Some(value) => self.private.insert(key, value),
                None => self.private.remove(&key),
            };
        }
    }
}

/// The stand-in as a kind of client of the engine.
struct StandIn;

fn malformed(reason: &str) -> ClientError {
    ClientError::Malformed { what: "stand-in", reason: reason.to_owned() }
}

fn any(type_url: &str, value: Vec<u8>) -> Bytes {
    Any { type_url: type_url.to_owned(), value }.encode_to_vec().into()
}

fn state(store: &dyn ClientStore) -> Result<State, ClientError> {
    let stored = store.get("clientState");
    let stored = stored.ok_or_else(|| ClientError::NotFound { client: store.client().clone() })?;
    let any = Any::decode(stored).map_err(|error| malformed(&error.to_string()))?;
    State::read(&any.value).ok_or_else(|| malformed("its state"))
}

fn consensus(store: &dyn ClientStore, height: (u64, u64)) -> Option<Consensus> {
    let stored = store.get(&format!("consensusStates/{}-{}", height.0, height.1))?;
    Consensus::read(&Any::decode(stored).ok()?.value)
}

fn meta(height: (u64, u64)) -> Vec<u8> {
    format!("meta/{}-{}", height.0, height.1).into_bytes()
}

impl StandIn {
    fn set(store: &mut dyn ClientStore, state: State) {
        store.set("clientState", any(KIND, state.write()));
    }

    fn add(store: &mut dyn ClientStore, height: (u64, u64), new: Consensus, at: At) {
        let key = format!("consensusStates/{}-{}", height.0, height.1);
        store.set(&key, any(stand::CONSENSUS, new.write()));
        let words = [at.time.as_nanos(), at.height.revision, at.height.number];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        store.set_private(&meta(height), Some(bytes.into()));
    }

    fn known(&self, store: &dyn ClientStore, height: Height) -> Result<Consensus, ClientError> {
        consensus(store, (height.revision, height.number)).ok_or_else(|| {
            let latest = self.latest_height(store).unwrap_or_default();
            ClientError::UnknownHeight { client: store.client().clone(), height, latest }
        })
    }
}

impl LightClient for StandIn {
    fn initialize(
        &self,
        store: &mut dyn ClientStore,
        client_state: &Any,
        consensus_state: &Any,
        at: At,
    ) -> Result<(), ClientError> {
        let state = State::read(&client_state.value).ok_or_else(|| malformed("state"))?;
        let first = Some(consensus_state).filter(|any| any.type_url == stand::CONSENSUS);
        let first = first.and_then(|any| Consensus::read(&any.value));
        let first = first.ok_or_else(|| malformed("consensus state"))?;
        Self::set(store, state);
        Self::add(store, state.latest, first, at);
        Ok(())
    }

    fn update(
        &self,
        store: &mut dyn ClientStore,
        message: &Any,
        at: At,
    ) -> Result<Updated, ClientError> {
        let mut state = state(store)?;
        let known = |height| consensus(store, height);
        let effect = stand::judge(&message.type_url, &message.value, known).map_err(malformed)?;
        let height = match effect {
            Effect::Freeze => {
                state.frozen = true;
                Self::set(store, state);
                return Ok(Updated::Frozen);
            }
            Effect::Known(height) => height,
            Effect::New(header) => {
                state.latest = state.latest.max(header.height);
                Self::set(store, state);
                Self::add(store, header.height, header.consensus, at);
                header.height
            }
        };
        Ok(Updated::Heights(vec![Height::new(height.0, height.1)]))
    }

    fn verify(
        &self,
        store: &mut dyn ClientStore,
        claim: &Claim<'_>,
        at: At,
    ) -> Result<(), ClientError> {
        let known = self.known(store, claim.height)?;
        let stored = store.private(&meta((claim.height.revision, claim.height.number)));
        let stored = stored.ok_or_else(|| malformed("it has no time of its update"))?;
        let word = |index: usize| {
            let bytes = stored.get(index * 8..index * 8 + 8)?;
            Some(u64::from_be_bytes(bytes.try_into().ok()?))
        };
        let (Some(time), Some(number)) = (word(0), word(2)) else {
            return Err(malformed("the time of its update"));
        };
        let from_time = time.saturating_add(claim.delay_time);
        let from_number = number.saturating_add(claim.delay_blocks);
        if at.time.as_nanos() < from_time || at.height.number < from_number {
            return Err(ClientError::Delay {
                client: store.client().clone(),
                height: claim.height,
                from_time: Timestamp::from_nanos(from_time),
                from_height: Height::new(at.height.revision, from_number),
            });
        }
        if claim.proof != stand::proof(known.root, claim.prefix, claim.path, claim.value) {
            return Err(ClientError::Proof {
                client: store.client().clone(),
                path: claim.path.to_owned(),
                reason: "it is forged".to_owned(),
            });
        }
        Ok(())
    }

    fn status(&self, store: &dyn ClientStore, at: At) -> Result<Status, ClientError> {
        let state = state(store)?;
        if state.frozen {
            return Ok(Status::Frozen);
        }
        let newest = consensus(store, state.latest).ok_or_else(|| malformed("no consensus"))?;
        let expires = state.expires(newest);
        if at.time.as_nanos() >= expires {
            return Ok(Status::Expired { since: Timestamp::from_nanos(expires) });
        }
        Ok(Status::Active)
    }

    fn latest_height(&self, store: &dyn ClientStore) -> Result<Height, ClientError> {
        let (revision, number) = state(store)?.latest;
        Ok(Height::new(revision, number))
    }

    fn timestamp_at(
        &self,
        store: &dyn ClientStore,
        height: Height,
    ) -> Result<Timestamp, ClientError> {
        Ok(Timestamp::from_nanos(self.known(store, height)?.time))
    }
}
