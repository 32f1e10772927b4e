//! The references: the same exchange of records and acks, written by hand over tokio.

mod channel;
mod duplex;
mod exchange;
mod frame;
mod pipe;
mod server;

pub(crate) use channel::Channel;
pub(crate) use exchange::TcpHandler;
pub(crate) use pipe::TcpPipe;
