//! Hops to real chains: the host relays for itself, both ways.
//!
//! ```text
//!   host's task ──batches──▶ outward ──transactions──▶ chain
//!        ▲                                               │
//!        └──batches with proofs── inward ◀──── blocks ───┘
//! ```
//!
//! To the host's task a chain looks like another host: it takes batches and says what became of
//! them, and has batches of its own.

mod deliver;
mod inward;
mod late;
mod missed;
mod outward;
mod settle;
mod sweep;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use ibc_proto::{
    google::protobuf::Any,
    ibc::{
        core::client::v1::MsgCreateClient,
        lightclients::{solomachine::v3::ClientState as SoloState, tendermint::v1::ClientState},
    },
};
use prost::{Message as _, Name as _};
use sha2::{Digest, Sha256};
use tendermint_proto::v0_38::types::ValidatorSet;
use tokio::{sync::mpsc, time};

use super::{
    Hop, Host, Shared,
    error::{HopError, HostError},
    inbox::Command,
    wire::{Client, Known},
};
use crate::{
    chain::{Chain, ChainConfig, RpcError},
    engine::Message,
    identifier::{ChannelId, ClientId, ConnectionId, PortId},
    ledger::valid_chain,
};

/// How long a hop to a chain may take, in all.
const HOP_TIME: Duration = Duration::from_secs(120);

/// How long is waited before a node is asked again, at first and at most.
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

/// How many proofs are asked for at once.
const AT_ONCE: usize = 16;

/// How often a node is asked for the state after a block that it has told of.
const TRIES: u32 = 40;

/// What the host has stored of a chain.
#[derive(Clone, Debug, Default)]
pub(super) struct ChainState {
    /// The client that the chain has of this host.
    pub(super) theirs: Option<ClientId>,
    /// The height up to which everything that happened there was dealt with.
    pub(super) seen: Option<u64>,
    /// Something before that height was not, as the node had forgotten it.
    pub(super) forgotten: bool,
    /// Who validates the block after the last one that the host's client knows.
    pub(super) validators: Option<Bytes>,
    /// The other ends of this host's connections and channels to the chain.
    pub(super) connections: Vec<ConnectionId>,
    pub(super) channels: Vec<EndState>,
}

/// The other end of a channel of this host.
#[derive(Clone, Debug)]
pub(super) struct EndState {
    pub(super) there: (PortId, ChannelId),
    /// The packet that this host receives next, where they have an order.
    pub(super) due: Option<u64>,
    /// Which packets this host has sent over it and has no acknowledgement of.
    pub(super) unacked: Vec<u64>,
    /// Below which sequence it has forgotten what it received over it.
    pub(super) settled: u64,
}

/// What the host is to store of a chain, where it is something new.
#[derive(Debug, Default)]
pub(super) struct Learnt {
    pub(super) theirs: Option<ClientId>,
    pub(super) seen: Option<u64>,
    pub(super) forgotten: Option<bool>,
    pub(super) validators: Option<Bytes>,
}

/// What relays between the host and one chain.
struct Relayer {
    shared: Arc<Shared>,
    chain: Chain,
    /// The client that the chain has of this host, and the one that this host has of it.
    theirs: ClientId,
    ours: String,
    /// Who validates the block after the last one that the host's client knows.
    validators: Mutex<Option<ValidatorSet>>,
}

/// A client of a chain, which begins with its last block.
async fn states_of(there: &Chain) -> Result<Client, RpcError> {
    let (client, consensus) = there.rpc.client_of(there.height, &there.trust()).await?;
    Ok(Client { client_state: Some(client), consensus_state: Some(consensus) })
}

/// Whether two states of clients are of the same host.
fn is_of_one_host(one: &Any, other: &Any) -> bool {
    let name = |state: &Any| {
        if state.type_url == ClientState::type_url() {
            Some(ClientState::decode(&state.value[..]).ok()?.chain_id.into_bytes())
        } else if state.type_url == SoloState::type_url() {
            let state = SoloState::decode(&state.value[..]).ok()?;
            Some(state.consensus_state?.public_key?.encode_to_vec())
        } else {
            None
        }
    };
    one.type_url == other.type_url && name(one).is_some_and(|it| name(other) == Some(it))
}

/// Chains have no key as hosts have. This keeps a host from taking the name of one.
fn no_key() -> [u8; 32] {
    Sha256::digest("a chain with validators").into()
}

impl Host {
    /// Connects this host to a chain that runs ibc-go (from v7.8 and v8.5 on), and makes a hop to it:
    /// the chain's client of this host, this host's client of the chain, and the connection. What is
    /// there already is kept. As long as the host lives it relays both ways: channels open over the
    /// hop from either side, and nothing is to be done by hand after a restart of the host, of the
    /// node or of the chain, but to call this again when the host begins.
    ///
    /// The account needs coins for fees.
    ///
    /// # Errors
    /// The node cannot be reached or is none, the chain refuses what is made there, or the hop is
    /// not open within two minutes. Nothing is tried again then. Of two that knew each other before,
    /// one may have lost its trust in the other: the host's client of the chain has expired or is
    /// frozen ([`ChainConfig::recover_client`] mends that), or the chain's client of the host is
    /// ([`HopError::Inactive`]), or it is another chain by now ([`HopError::AnotherChain`]).
    ///
    /// # Cancel safety
    /// What was made stays, and the next call goes on with it. A client on the chain of which it is
    /// not known yet that it was made is made again.
    pub async fn connect_chain(&self, config: ChainConfig) -> Result<Hop, HopError> {
        // Boxed: it holds what the node answers.
        let made = time::timeout(HOP_TIME, self.0.connect_chain(config).boxed());
        made.await.map_err(|_| HopError::Unfinished)?
    }
}

impl Shared {
    async fn connect_chain(self: &Arc<Self>, config: ChainConfig) -> Result<Hop, HopError> {
        let recover = config.recover;
        let there = Chain::connect(config, self.kind).await?;
        let chain = there.id.clone();
        if !valid_chain(&chain) {
            return Err(HopError::peer("the id of the chain is none"));
        }
        let (asked, no_key) = (chain.clone(), no_key());
        if !self.ask(|reply| Command::IsKey { chain: asked, key: no_key, reply }).await? {
            return Err(HopError::NameTaken { chain });
        }
        let asked = chain.clone();
        let known = self.ask(|reply| Command::Knows { chain: asked, reply }).await?;
        let asked = chain.clone();
        let state = self.ask(|reply| Command::Chain { chain: asked, reply }).await?;
        if let Some(theirs) = &state.theirs {
            // First: of another chain this host's client is not to be told.
            self.is_known_to(&there, theirs).await?;
        }
        let ours = match known {
            Some(known) => {
                let states = if recover { Some(states_of(&there).await?) } else { None };
                let chain = chain.clone();
                self.ask(|reply| Command::UseClient { chain, states, reply }).await??;
                known
            }
            None => {
                let states = states_of(&there).await?;
                let (chain, key) = (chain.clone(), no_key);
                self.ask(|reply| Command::MakeClient { chain, key, states, reply }).await??
            }
        };
        let theirs = match state.theirs {
            Some(theirs) => theirs,
            None => {
                let theirs = self.client_there(&there).await?;
                let (chain, theirs_too) = (chain.clone(), Some(theirs.clone()));
                let seen = Some(there.height);
                let learnt = Learnt { theirs: theirs_too, seen, ..Learnt::default() };
                self.ask(|reply| Command::SetChain { chain, learnt, reply }).await?;
                theirs
            }
        };
        let other = theirs.to_string();
        let relayer = Relayer::new(self.clone(), there, theirs, ours.client, state.validators);
        let (way, let_go) = tokio::sync::oneshot::channel();
        self.ways().insert(chain.clone(), way);
        tokio::spawn(relayer.run(let_go));
        let asked = chain.clone();
        let hop = self.ask(|reply| Command::MakeHop { chain: asked, other, reply }).await??;
        self.hops.get(&hop).ok_or(HopError::Host(HostError::NoHop { hop }))
    }

    /// Checks that the client that a chain has of this host is there, and is of use.
    async fn is_known_to(&self, there: &Chain, client: &ClientId) -> Result<(), HopError> {
        let chain = there.id.clone();
        let new = self.ask(|reply| Command::States { chain, reply }).await??;
        let new = new.client_state.unwrap_or_default();
        let known = there.rpc.client_state(client).await?;
        let (chain, client) = (there.id.clone(), client.clone());
        if !known.is_some_and(|known| is_of_one_host(&known, &new)) {
            return Err(HopError::AnotherChain { chain, client });
        }
        let status = there.rpc.client_status(&client).await?;
        if status != "Active" {
            return Err(HopError::Inactive { chain, client, status });
        }
        Ok(())
    }

    /// Makes the chain's client of this host.
    async fn client_there(&self, there: &Chain) -> Result<ClientId, HopError> {
        let chain = there.id.clone();
        let states = self.ask(|reply| Command::States { chain, reply }).await??;
        let create = Message::CreateClient(MsgCreateClient {
            client_state: states.client_state,
            consensus_state: states.consensus_state,
            signer: there.signer.clone(),
        });
        let fate = there.submitter.submit(vec![create.write()]).await.pop();
        let included = fate.ok_or(HostError::Ended)??;
        let created = included.events.iter().find(|event| event.kind == "create_client");
        let client = created.and_then(|event| event.get("client_id"));
        let client = client.and_then(|client| ClientId::new(client).ok());
        client.ok_or_else(|| HopError::peer("the chain does not say which client it has made"))
    }
}

impl Relayer {
    fn new(
        shared: Arc<Shared>,
        chain: Chain,
        theirs: ClientId,
        ours: String,
        validators: Option<Bytes>,
    ) -> Self {
        let validators = validators.and_then(|set| ValidatorSet::decode(set).ok());
        Self { shared, chain, theirs, ours, validators: Mutex::new(validators) }
    }

    /// Relays until the way is let go.
    async fn run(self, let_go: tokio::sync::oneshot::Receiver<std::convert::Infallible>) {
        let (late, told) = mpsc::unbounded_channel();
        let (received, settled) = mpsc::unbounded_channel();
        tokio::select! {
            () = self.outward(late) => {}
            () = self.inward(told, received) => {}
            () = self.settle(settled) => {}
            _ = let_go => {}
        }
    }

    /// The chain's client of this host, and how far it is, after a block or after the last one.
    async fn known_there(&self, after: Option<u64>) -> Result<Known, RpcError> {
        let key = format!("clients/{}/clientState", self.theirs);
        let mut tries = 0;
        let stored = loop {
            match self.chain.rpc.prove(&key, after).await {
                Ok(proved) => break proved.value,
                // The node tells of a block before it has done with it.
                Err(error) if after.is_none() || tries == TRIES => return Err(error),
                Err(_) => time::sleep(FIRST).await,
            }
            tries += 1;
        };
        let gone =
            || self.chain.rpc.unexpected("abci_query", "it has no client that is of this host");
        let state = Any::decode(stored).map_err(|_| gone())?;
        let mut known = Known { client: self.theirs.to_string(), ..Known::default() };
        if state.type_url == ClientState::type_url() {
            let state = ClientState::decode(&state.value[..]).map_err(|_| gone())?;
            let height = state.latest_height.unwrap_or_default();
            (known.revision, known.height) = (height.revision_number, height.revision_height);
        } else if state.type_url == SoloState::type_url() {
            let state = SoloState::decode(&state.value[..]).map_err(|_| gone())?;
            known.height = state.sequence;
            known.diversifier = state.consensus_state.unwrap_or_default().diversifier;
        } else {
            return Err(gone());
        }
        Ok(known)
    }
}
