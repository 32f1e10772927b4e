//! The frames that TCP, QUIC and WebSocket share: no I/O, only bytes in and out.
//!
//! `docs/wire-format.md` is the description; golden vectors in the tests hold it in place.

mod frame;
mod input;
mod opening;
mod output;

pub use frame::{CloseCode, Closing, Frame, FrameError, FrameLimits, HEADER_LEN, decode};
pub use input::Input;
pub(crate) use input::extra_charge;
pub use opening::{
    Hello, MAX_OPENING_LEN, NotAPort, OpeningError, Reply, VERSION, Welcome, decode_hello,
    decode_reply,
};
pub(crate) use output::BY_REFERENCE;
pub use output::Output;

#[cfg(test)]
mod tests;
