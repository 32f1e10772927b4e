//! Core.
mod allocator;
mod budget;
mod close;
mod connection;
mod endpoint;
mod error;
mod flag;
mod guard;
mod handler;
mod host_port;
mod inbox;
mod limits;
mod listener;
#[cfg(feature = "multiaddr")]
mod multiaddr;
mod network;
mod pattern;
mod peer;
mod policy;
mod pool;
mod port;
mod port_name;
mod records;
mod refusal;
mod router;
mod seam;
mod sending;
mod serve;
mod shared;
pub mod stream;
mod sync;
mod window;
pub mod wire;

pub use bytes::Bytes;

pub use allocator::{AllocateError, PortAllocator};
pub use budget::MemoryShare;
pub use close::{CloseReason, Delivery};
pub use connection::{Connection, ConnectionStats, PathStats, SendOptions};
pub use endpoint::{Component, Components, Endpoint, EndpointError, Prefixes};
pub use error::{
    AttemptOver, BackendError, BindError, ConnectError, ListenError, NoBackend, RegisterError,
    Rejection, RevokeError, SendError,
};
pub use handler::{AnyHandler, ConnectionHandler, HandlerFn, handler_fn};
pub use host_port::{Family, Host, HostPort};
pub use limits::Limits;
pub use listener::{
    AcceptAll, AcceptFn, Attempt, Attempts, ListenHandler, PendingAttempt, accept_all, accept_fn,
};
pub use network::{Acceptor, Handshake, Network, NetworkBuilder, Registration};
pub use pattern::{PatternError, RoutePattern, Specificity};
pub use peer::{Peer, PeerId, PeerIdError};
pub use policy::{AcceptPolicy, Unauthenticated};
pub use port::Port;
pub use port_name::{PortName, PortNameError};
pub use records::{Received, Records};
pub use refusal::Refusal;
pub use seam::{
    AckSink, Capabilities, Dial, Link, LinkEvents, LinkInfo, LinkSeed, OpenLink, Path, PortRevoked,
    ProtocolImpl, Record, RecordId, RecordSink, Unsent,
};
pub use sending::{Ack, SendPermit};
pub use window::{Answer, StaleAck};
