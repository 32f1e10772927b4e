//! The references: the same exchange of records and acks, written by hand over tokio.

mod chain;
mod channel;
mod duplex;
mod exchange;
mod frame;
mod pipe;
mod quic;
mod server;
mod wire;

pub(crate) use chain::Chains;
pub(crate) use channel::Channel;
pub(crate) use exchange::{TcpHandler, TlsHandler};
pub(crate) use pipe::TcpPipe;
pub(crate) use quic::{QuicHandler, QuicStreams};
