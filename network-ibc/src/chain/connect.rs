//! Whether a host can relay to a chain, found out before anything is begun.

use std::{fmt, time::Duration};

use super::{
    RpcError,
    events::ChainEvents,
    key::ChainKey,
    preflight::must,
    rpc::{Rpc, RpcSettings},
    submit::{Submitter, TxSettings},
};
use crate::{height::Height, ledger, ledger::Trust};

/// How a chain is reached, and who pays there.
///
/// Printed it shows neither the key nor the URL, which may hold a key to the node.
#[derive(Clone)]
#[non_exhaustive]
pub struct ChainConfig {
    /// The URL of a node's RPC, such as `https://rpc.example.org:443`.
    pub url: String,
    /// The chain's id, if another chain at that URL is to be refused.
    pub id: Option<String>,
    /// The key of the account that pays.
    pub key: ChainKey,
    /// How the node is talked to.
    pub rpc: RpcSettings,
    /// How transactions are made.
    pub tx: TxSettings,
    /// Whether the host's client of the chain is [recovered](Self::recover_client).
    pub recover: bool,
}

impl ChainConfig {
    /// A chain at a URL, and the account that pays there.
    #[must_use]
    pub fn new(url: &str, key: ChainKey) -> Self {
        let (rpc, tx) = (RpcSettings::default(), TxSettings::default());
        Self { url: url.to_owned(), id: None, key, rpc, tx, recover: false }
    }

    /// Refuses another chain than that with this id.
    #[must_use]
    pub fn with_id(mut self, id: &str) -> Self {
        self.id = Some(id.to_owned());
        self
    }

    /// Has the host trust the chain anew, as its node shows it now, if the client that the host has of
    /// it expired while the host was away, or is frozen (ICS-002: what the governance of a chain does
    /// with `MsgRecoverClient`). Hops and channels over the client go on. One that is of use is left
    /// as it is.
    ///
    /// The node is believed without a proof, as it is at the first connection: ask one that you
    /// trust, and of a frozen client find out first why it is.
    #[must_use]
    pub fn recover_client(mut self) -> Self {
        self.recover = true;
        self
    }

    /// Talks to the node otherwise.
    #[must_use]
    pub fn with_rpc(mut self, rpc: RpcSettings) -> Self {
        self.rpc = rpc;
        self
    }

    /// Makes transactions otherwise.
    #[must_use]
    pub fn with_tx(mut self, tx: TxSettings) -> Self {
        self.tx = tx;
        self
    }
}

impl fmt::Debug for ChainConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, key, rpc, tx, recover, .. } = self;
        let mut debug = f.debug_struct("ChainConfig");
        debug.field("id", id).field("key", key).field("rpc", rpc).field("tx", tx);
        debug.field("recover", recover);
        debug.finish_non_exhaustive()
    }
}

/// Why a host cannot relay to a chain.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// The node does not answer as it should.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// It is another chain.
    #[error("the chain at {url} is {found}, not {wanted}: ask another node")]
    Other {
        /// The node.
        url: String,
        /// The chain that was found.
        found: String,
        /// The one that was to be.
        wanted: String,
    },
    /// The node has not come to the end of the chain.
    #[error("the node at {url} is still behind {chain}: wait, or ask another one")]
    Behind {
        /// The node.
        url: String,
        /// The chain.
        chain: String,
    },
    /// The node serves nothing but blocks.
    #[error(
        "the node at {url} serves no queries of applications: turn on gRPC or the API in its \
         app.toml, or ask another node"
    )]
    NoServices {
        /// The node.
        url: String,
    },
    /// The chain wants proofs that a host does not make.
    #[error(
        "{chain} has ibc-go {version}, which checks what others know of it when a connection is \
         opened: hosts connect to chains with v7.8, v8.5, or what came after"
    )]
    TooOld {
        /// The chain.
        chain: String,
        /// What it has.
        version: String,
    },
    /// The chain takes no such clients.
    #[error("{chain} takes no clients of the kind {kind}, which the host is to it")]
    NoHosts {
        /// The chain.
        chain: String,
        /// The kind.
        kind: &'static str,
    },
    /// The chain does not know the account.
    #[error("{chain} does not know the account {address}: send some of its coins there")]
    NoAccount {
        /// The chain.
        chain: String,
        /// The account's address.
        address: String,
    },
}

/// A chain that a host can relay to.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) rpc: Rpc,
    pub(crate) submitter: Submitter,
    /// Its id.
    pub(crate) id: String,
    /// The revision in all its heights.
    pub(crate) revision: u64,
    /// The height of the last block when this was made.
    pub(crate) height: u64,
    /// The address that signs, which messages have to name.
    pub(crate) signer: String,
    pub(crate) unbonding: Duration,
    pub(crate) sweep: Duration,
}

impl Chain {
    /// Finds out about a chain that is to have a client of that kind.
    pub(crate) async fn connect(
        config: ChainConfig,
        kind: &'static str,
    ) -> Result<Self, ChainError> {
        let rpc = Rpc::new(&config.url, &config.rpc)?;
        let status = rpc.status().await?;
        let url = rpc.http().url();
        must::be_meant(url, &status, config.id.as_deref())?;
        must::be_there(url, &status)?;
        let versions = must::serve(url, rpc.versions().await)?;
        let id = status.chain;
        tracing::debug!(chain = id, ?versions, "connected");
        must::be_new_enough(&id, &versions)?;
        must::take_hosts(&id, &rpc.allowed_clients().await?, kind)?;
        let unbonding = rpc.unbonding_time().await?;
        let signer = config.key.address();
        must::know(&id, &signer, rpc.account(&signer).await?)?;
        Ok(Self {
            submitter: Submitter::spawn(rpc.clone(), &id, config.key, config.tx),
            rpc,
            revision: ledger::revision(&id),
            height: status.height,
            signer,
            unbonding,
            sweep: config.rpc.sweep,
            id,
        })
    }

    /// What happens from a height on.
    pub(crate) fn events(&self, height: u64) -> ChainEvents {
        ChainEvents::from(self.rpc.clone(), height)
    }

    /// A height of the chain.
    pub(crate) fn at(&self, number: u64) -> Height {
        Height::new(self.revision, number)
    }

    /// For how long a client of the chain trusts it: two thirds of the time in which its
    /// validators can be held to what they signed.
    pub(crate) fn trust(&self) -> Trust {
        Trust {
            trusting_period: trusting_period(self.unbonding),
            unbonding_period: self.unbonding,
            ..Trust::default()
        }
    }
}

/// For how long a chain is trusted with that unbonding time.
pub(super) fn trusting_period(unbonding: Duration) -> Duration {
    unbonding * 2 / 3
}
