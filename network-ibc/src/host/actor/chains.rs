//! What is stored of chains with validators.

use bytes::Bytes;

use super::{Actor, keys};
use crate::{
    Order,
    engine::{self, ChannelState, Store as _},
    host::{
        chain::{ChainState, EndState, Learnt},
        error::HostError,
        wire::Client,
    },
    identifier::ClientId,
    path,
};

impl Actor {
    /// What is stored of a chain.
    pub(super) fn chain_state(&self, chain: &str) -> ChainState {
        let theirs = self.ledger.private(&keys::theirs(chain));
        let theirs = theirs.as_deref().and_then(|client| std::str::from_utf8(client).ok());
        let seen = self.ledger.private(&keys::seen(chain));
        let hops = self.hops.lock().clone();
        let to_chain = hops.into_iter().filter(|(_, state)| state.chain == chain);
        let connections = to_chain.filter_map(|(hop, _)| self.connection(&hop)?.counterparty);
        let channels = self.ledger.channels().into_iter().filter_map(|(port, id, end)| {
            if end.state == ChannelState::Closed || !self.leads_to(&end.hop, chain) {
                return None;
            }
            let unacked = self.ledger.outstanding(&port, &id);
            let next = self.ledger.get(&path::next_sequence_recv(&port, &id));
            let due = match end.order {
                Order::Ordered => next.as_deref().and_then(engine::number),
                Order::Unordered => None,
            };
            let settled = self.ledger.private(path::received_below(&port, &id).as_bytes());
            let settled = settled.as_deref().and_then(engine::number).unwrap_or(1);
            let there = (end.counterparty_port, end.counterparty?);
            Some(EndState { there, due, unacked, settled })
        });
        ChainState {
            theirs: theirs.and_then(|theirs| ClientId::new(theirs).ok()),
            seen: seen.as_deref().and_then(engine::number),
            forgotten: self.ledger.private(&keys::forgotten(chain)).is_some(),
            validators: self.ledger.private(&keys::validators(chain)),
            connections: connections.collect(),
            channels: channels.collect(),
        }
    }

    pub(super) fn set_chain(&mut self, chain: &str, learnt: Learnt) {
        let Learnt { theirs, seen, forgotten, validators } = learnt;
        if let Some(theirs) = theirs {
            let theirs = Bytes::copy_from_slice(theirs.as_str().as_bytes());
            self.write(keys::theirs(chain), Some(theirs));
        }
        if let Some(seen) = seen {
            let seen = Bytes::copy_from_slice(&seen.to_be_bytes());
            self.write(keys::seen(chain), Some(seen));
        }
        if let Some(forgotten) = forgotten {
            self.write(keys::forgotten(chain), forgotten.then(|| Bytes::from_static(b"1")));
        }
        if let Some(validators) = validators {
            self.write(keys::validators(chain), Some(validators));
        }
    }

    /// Checks that the client of a chain can be updated, and recovers it from states of it where it
    /// cannot.
    pub(super) fn use_client(
        &mut self,
        chain: &str,
        states: Option<Client>,
    ) -> Result<(), HostError> {
        let client = self.client_of(chain).ok_or(HostError::Ended)?;
        let active = self.with(|engine, stage, at| engine.require_active(stage, &client, at));
        let (Err(error), Some(states)) = (&active, states) else { return Ok(active?) };
        tracing::warn!(chain, %client, %error, "it is recovered");
        let (state, consensus) = (states.client_state, states.consensus_state);
        let (state, consensus) = (state.unwrap_or_default(), consensus.unwrap_or_default());
        self.with(|engine, stage, at| {
            engine.recover_client(stage, &client, (&state, &consensus), at)
        })?;
        // Of what it knew before.
        self.write(keys::validators(chain), None);
        Ok(())
    }
}
