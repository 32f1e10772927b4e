//! Records over IBC channels: a [`Host`] is a process that other chains see as a chain.
//!
//! It has a ledger of signed blocks, light clients of others, an engine for the messages of IBC
//! (ICS-002, ICS-003, ICS-004), and relays for itself. The others are hosts too, reached over any
//! network ([`Host::connect_hop`]), or chains that run ibc-go, reached by the RPC of a node
//! (`Host::connect_chain`, feature `chain`; `preflight` looks whether that would work). Without
//! feature `host` the crate is the addresses alone.
//!
//! ```text
//!   /ibc-hop/connection-0/ibc-port/transfer/unordered/ics20-1/ibc-channel/channel-41
//!   └── hops, any number ┘└─── port ──────┘└─ order and version ┘└──── channel ────┘
//! ```
//!
//! ```
//! use network_ibc::{IbcEndpoint, Order};
//!
//! let remote = IbcEndpoint::parse("/ibc-hop/connection-0/ibc-port/transfer/unordered/ics20-1")?;
//! assert_eq!(remote.hops[0].as_str(), "connection-0");
//! assert_eq!(remote.remote()?.order, Order::Unordered);
//! # Ok::<(), network_ibc::AddressError>(())
//! ```

mod address;
#[cfg(feature = "chain")]
mod chain;
#[cfg(feature = "host")]
mod client;
#[cfg(feature = "host")]
mod engine;
mod error;
#[cfg(feature = "host")]
mod height;
#[cfg(feature = "host")]
mod host;
#[cfg(feature = "host")]
pub mod ica;
mod identifier;
mod interchain;
#[cfg(feature = "host")]
mod ledger;
#[cfg(feature = "host")]
mod path;
#[cfg(feature = "host")]
pub mod transfer;

pub use address::{Channel, IbcEndpoint, Order, Remote, Version};
#[cfg(feature = "chain")]
pub use chain::{
    ChainConfig, ChainError, ChainKey, ChainKeyError, GasPrice, RpcError, RpcSettings, TxError,
    TxSettings, preflight,
};
#[cfg(feature = "host")]
pub use client::{ClientError, SoloKey};
#[cfg(feature = "host")]
pub use engine::EngineError;
pub use error::AddressError;
#[cfg(feature = "host")]
pub use height::{Height, Timestamp};
#[cfg(feature = "host")]
pub use host::{Context, Hop, HopError, Host, HostBuilder, HostError, Module, ModuleChannel};
pub use identifier::{ChannelId, ClientId, ConnectionId, PortId};
pub use interchain::{IcaChannel, account_address, icq_channel};
#[cfg(feature = "host")]
pub use ledger::{LedgerError, LedgerKey, Trust};
