//! Connections over any ordered, reliable byte stream: TCP, TLS, a QUIC stream, a Unix
//! socket, or what a backend of yours has.
//!
//! A backend opens the stream and hands it to [`dial`] or [`accept`]; the opening, the
//! frames of [`wire`](crate::wire), windows, keepalive and the goodbye are done here.

mod driver;
mod link;
mod opening;

pub use opening::{Agreed, Dialing, accept, ask, decide, dial, dial_after_hello, drive};
