//! What can go wrong with a host.

use std::sync::Arc;

use network_core::{ConnectError, Refusal, SendError};

#[cfg(feature = "chain")]
use crate::identifier::ClientId;
use crate::{
    ClientError, EngineError, LedgerError,
    error::AddressError,
    identifier::{ConnectionId, PortId},
};

/// Why a host cannot do what it was asked for.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The ledger fails.
    #[error(transparent)]
    Ledger(#[from] Arc<LedgerError>),
    /// A rule of IBC is against it.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// An address is none.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The host has ended.
    #[error("the host has ended: its last handle was dropped, or its ledger failed")]
    Ended,
    /// The port is bound already.
    #[error("another port of this host is bound to {port}: bind another name")]
    PortTaken {
        /// The port.
        port: String,
    },
    /// There is no such hop, or it is not open.
    #[error("there is no open hop {hop}: make one with `connect_hop`, and see `hops`")]
    NoHop {
        /// The hop.
        hop: ConnectionId,
    },
    /// The ledger is that of a host that shows itself as something else.
    #[error(
        "others know {chain} as {found}, and it was opened as {wanted}: open it as what it was, \
         or take another folder and another chain id"
    )]
    Face {
        /// The id of the chain.
        chain: String,
        /// What it was before.
        found: String,
        /// What it was to be.
        wanted: String,
    },
    /// The host knows as many others as it may.
    #[error(
        "this host knows {max} others already, and keeps a client of each: let fewer in by the \
         `AcceptPolicy` of the network that it serves"
    )]
    TooManyHosts {
        /// How many it may know.
        max: usize,
    },
    /// There is no such module, or it is of another type.
    #[error("this host has no such module at port {port}: `HostBuilder::module` registers one")]
    NoModule {
        /// The port.
        port: PortId,
    },
    /// A module or the other side refuses.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// More than one hop.
    #[error(
        "{count} hops: a channel goes over one connection, as in \
         /ibc-hop/connection-0/ibc-port/PORT/ordered/VERSION"
    )]
    Hops {
        /// How many there are.
        count: usize,
    },
}

impl From<LedgerError> for HostError {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(Arc::new(error))
    }
}

impl From<ClientError> for HostError {
    fn from(error: ClientError) -> Self {
        Self::Engine(error.into())
    }
}

/// Why no hop was made to another host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HopError {
    /// The other host cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection to it failed on the way.
    #[error("the other host did not answer")]
    Send(#[from] SendError),
    /// This host cannot.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The chain is none for hosts, or its node does not do what it should.
    #[cfg(feature = "chain")]
    #[error(transparent)]
    Chain(#[from] crate::ChainError),
    /// The chain does not execute what is to be made there.
    #[cfg(feature = "chain")]
    #[error(transparent)]
    Tx(#[from] crate::TxError),
    /// The chain takes nothing from this host any more.
    #[cfg(feature = "chain")]
    #[error(
        "{chain} takes nothing from this host any more, as its client {client} of it is {status}: \
         have the governance of the chain recover it (`MsgRecoverClient`), or connect as another \
         host, with another chain id and an empty folder"
    )]
    Inactive {
        /// The chain.
        chain: String,
        /// The client that it has of this host.
        client: ClientId,
        /// What it is, in the words of ibc-go: `Frozen`, `Expired` or `Unauthorized`.
        status: String,
    },
    /// The chain is not the one that the host knows.
    #[cfg(feature = "chain")]
    #[error(
        "this {chain} has no client {client} of this host, and the one that the host knows has: \
         ask a node of that one, or connect to this one as a host with an empty folder"
    )]
    AnotherChain {
        /// The chain's id.
        chain: String,
        /// The client that the other chain with that id has of this host.
        client: ClientId,
    },
    /// What the other host says is not what a host says.
    #[error("what answers there is no host that this one understands: {reason}")]
    Peer {
        /// What is wrong.
        reason: String,
    },
    /// The other host did not go on with the handshake.
    #[error("the other host did not finish the handshake of the hop in time: try again")]
    Unfinished,
}

impl HopError {
    pub(super) fn peer(reason: impl Into<String>) -> Self {
        Self::Peer { reason: reason.into() }
    }
}

#[cfg(feature = "chain")]
impl From<crate::RpcError> for HopError {
    fn from(error: crate::RpcError) -> Self {
        Self::Chain(error.into())
    }
}
