//! The family `ibc`: a host, and the chain at the other end of its hops, which says what a
//! scenario gives it.
//!
//! The original's IBC protocol asks a chain for everything by calls *down*, and is told by events
//! that come *up*. A host has no chain under it. It is one: what the original has its chain do a
//! host does itself, and another chain hears of it by messages of IBC with proofs. So an event is
//! what the chain at the other end does and relays, and a call down is written down when that
//! chain has heard of it and has verified it, in the original's words. Only `bindPort` is nobody
//! else's affair: that is the host being asked for a port.
//!
//! This package knows no host. Whoever has one implements [`Chains`].

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use network_core::{BackendError, ProtocolImpl};

/// Makes hosts, each with a chain that does what a scenario says.
#[async_trait]
pub trait Chains: Send + Sync + 'static {
    /// A host, with its hops open, whose chain tells `told` what it hears.
    ///
    /// # Errors
    /// There can be none such.
    async fn start(&self, setting: &Setting, told: Told) -> Result<Arc<dyn Chain>, String>;
}

/// What a chain hears is told at once.
pub type Told = Arc<dyn Fn(Hears) + Send + Sync>;

/// A host, and the chain at the other end of its hops.
#[async_trait]
pub trait Chain: fmt::Debug + Send + Sync + 'static {
    /// The host.
    fn host(&self) -> &dyn ProtocolImpl;

    /// The chain does something and relays it.
    ///
    /// # Errors
    /// The host does not take it.
    async fn says(&self, message: Says) -> Result<(), Denied>;

    /// What an error of the host's means.
    fn meaning(&self, error: &BackendError) -> Meaning;
}

/// Why the host has not taken a message: its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied(pub String);

/// How things stand when a scenario begins.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setting {
    /// The numbers of the hops that are open: `connection-1` is 1.
    pub hops: Vec<u64>,
    /// The number that the host's next channel is to have.
    pub next_channel: u64,
}

/// One end of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct End {
    /// The port.
    pub port: String,
    /// The channel's name at this end.
    pub channel: String,
}

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields of ICS-004")]
pub struct Packet {
    pub source: End,
    pub destination: End,
    pub sequence: u64,
    pub data: Vec<u8>,
}

/// What the chain at the other end does. `near` is the host's end of a channel, `far` the chain's;
/// hops have the host's names.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields of ICS-004")]
pub enum Says {
    /// A relayer has the host begin a channel.
    OpenInit { near: End, far_port: String, hops: Vec<String>, ordered: bool, version: String },
    /// It has begun a channel.
    OpenTry { near: End, far: End, hops: Vec<String>, ordered: bool, version: String },
    /// It accepts a channel that the host has begun.
    OpenAck { near: End, far: End, version: String },
    /// A channel that it has begun is open.
    OpenConfirm { near: End },
    /// A relayer has the host close a channel.
    CloseInit { near: End },
    /// It has closed a channel.
    CloseConfirm { near: End },
    /// It has sent a packet.
    Packet(Packet),
    /// It has acknowledged a packet, of which only the place is known.
    Ack(Packet, Vec<u8>),
}

/// What the chain at the other end has heard from the host, and verified.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields of ICS-004")]
pub enum Hears {
    /// The host has begun a channel.
    OpenInit { near_port: String, far_port: String, hop: String, ordered: bool, version: String },
    /// The host accepts a channel that the chain has begun.
    OpenTry { near: End, far: End, hop: String, ordered: bool, version: String },
    /// The host does not want a channel that the chain has begun: the chain's name of it, and why.
    Rejected { channel: String, why: String },
    /// The host has sent a packet, and gives it this time.
    Packet(Packet, Duration),
    /// The host has acknowledged a packet.
    Ack(Packet, Vec<u8>),
    /// The host has closed a channel.
    Close { near: End },
    /// Something that a chain does not take.
    Nonsense(String),
}

/// What an error of a host's means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Meaning {
    /// An address is none, or none that can be connected to.
    Address,
    /// An address has more than one hop.
    Hops,
    /// There is no such hop.
    NoHop,
    /// Somebody else has the port.
    PortTaken,
    /// Something else.
    Other,
}

/// The host of a scenario, as a backend.
#[derive(Debug)]
pub(super) struct Ibc {
    pub(super) chain: Arc<dyn Chain>,
    /// What the chain does not do, and its words.
    pub(super) fail: BTreeMap<String, String>,
}
