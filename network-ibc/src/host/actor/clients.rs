//! Clients, and hops over them.

use bytes::Bytes;
use ibc_proto::ibc::core::{
    client::v1::MsgCreateClient,
    commitment::v1::MerklePrefix,
    connection::v1::{Counterparty, MsgConnectionOpenInit},
};

use super::{Actor, HopReply, keys, now};
use crate::{
    engine::{Event, Message, PREFIX, Store as _},
    height::Height,
    host::{
        datagram::Kind,
        error::HostError,
        wire::{Client, Known},
    },
    identifier::{ClientId, ConnectionId},
};

/// How many other hosts a host knows: each costs it a client, and anybody who may dial can make
/// one.
const MAX_HOSTS: usize = 1_024;

impl Actor {
    /// The client that this host has of a chain.
    pub(super) fn client_of(&self, chain: &str) -> Option<ClientId> {
        let client = self.ledger.private(&keys::client_of(chain))?;
        ClientId::new(std::str::from_utf8(&client).ok()?).ok()
    }

    pub(super) fn knows(&mut self, chain: &str) -> Option<Known> {
        let client = self.client_of(chain)?;
        let (Height { revision, number: height }, diversifier) = self
            .with(|engine, stage, _| {
                Ok((engine.latest_height(stage, &client)?, engine.diversifier(stage, &client)?))
            })
            .ok()?;
        let diversifier = diversifier.unwrap_or_default();
        Some(Known { client: client.to_string(), revision, height, diversifier })
    }

    /// The states of a client at another chain that begins with the last block.
    pub(super) fn states(&mut self, chain: &str) -> Result<Client, HostError> {
        if self.ledger.latest().is_none() {
            self.ledger.commit(now())?;
        }
        let block = self.ledger.latest().ok_or(HostError::Ended)?;
        let states = self.face.states(&self.ledger, block, &self.trust, chain);
        let (client_state, consensus_state) = states?;
        Ok(Client { client_state: Some(client_state), consensus_state: Some(consensus_state) })
    }

    /// Whether a key is that of the host whose chain is known here: else whoever calls itself so
    /// could say that it has handled what was meant for that one.
    pub(super) fn is_key(&self, chain: &str, key: &[u8]) -> bool {
        self.ledger.private(&keys::key_of(chain)).is_none_or(|known| known[..] == *key)
    }

    pub(super) fn make_client(
        &mut self,
        chain: &str,
        key: &[u8; 32],
        states: Client,
    ) -> Result<Known, HostError> {
        if let Some(known) = self.knows(chain) {
            return Ok(known);
        }
        if self.hosts() >= MAX_HOSTS {
            return Err(HostError::TooManyHosts { max: MAX_HOSTS });
        }
        let message = MsgCreateClient {
            client_state: states.client_state,
            consensus_state: states.consensus_state,
            signer: String::new(),
        };
        let event = self.deliver(Message::CreateClient(message))?;
        if let Event::ClientCreated { client } = event {
            let name = Bytes::copy_from_slice(client.as_str().as_bytes());
            self.write(keys::client_of(chain), Some(name));
            self.write(keys::key_of(chain), Some(Bytes::copy_from_slice(key)));
            self.write(keys::chain_of(&client), Some(Bytes::copy_from_slice(chain.as_bytes())));
        }
        self.knows(chain).ok_or(HostError::Ended)
    }

    /// How many other hosts are known.
    fn hosts(&self) -> usize {
        let mut from = keys::KEYS.to_vec();
        let mut count = 0;
        while let Some((found, _)) = self.ledger.private_next(keys::KEYS, &from) {
            count += 1;
            from = found;
            from.push(0);
        }
        count
    }

    pub(super) fn make_hop(&mut self, chain: String, other: &str, reply: HopReply) {
        if let Some((hop, open)) = self.hops.to(&chain) {
            if open {
                let _ = reply.send(Ok(hop));
            } else {
                // The other side may have refused it, or forgotten it.
                self.peer(&chain).push_new(Kind::Connection(hop.to_string()));
                self.waiting.push((chain, hop, reply));
            }
            return;
        }
        let Some(client) = self.client_of(&chain) else {
            let _ = reply.send(Err(HostError::Ended));
            return;
        };
        let message = MsgConnectionOpenInit {
            client_id: client.to_string(),
            counterparty: Some(Counterparty {
                client_id: other.to_owned(),
                connection_id: String::new(),
                prefix: Some(MerklePrefix { key_prefix: PREFIX.to_vec() }),
            }),
            version: None,
            delay_period: 0,
            signer: String::new(),
        };
        match self.deliver(Message::ConnectionOpenInit(message)) {
            Ok(Event::ConnectionBegun { connection }) => {
                self.waiting.push((chain, connection, reply));
            }
            Ok(_) => {}
            Err(error) => drop(reply.send(Err(error.into()))),
        }
    }

    pub(super) fn hop_is_open(&mut self, hop: &ConnectionId) {
        let (done, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<Vec<_>, _>(|(_, wanted, _)| wanted == hop);
        self.waiting = waiting;
        for opening in std::mem::take(&mut self.waiting_open) {
            self.open(opening);
        }
        for (_, hop, reply) in done {
            self.after.push(Box::new(move || drop(reply.send(Ok(hop)))));
        }
    }
}
