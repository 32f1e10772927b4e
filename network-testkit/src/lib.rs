//! The conformance suite for backends: ours and yours.
//!
//! A backend that implements [`ProtocolImpl`](network_core::ProtocolImpl) proves itself with
//! one line in an integration test, `tests/conformance.rs`:
//!
//! ```no_run
//! use network_loopback::Loopback;
//! use network_testkit::Simple;
//!
//! network_testkit::conformance!({
//!     let loopback = Loopback::new();
//!     Simple::new("/local/", move |network| network.protocol(loopback.clone()))
//! });
//! # fn main() {}
//! ```
//!
//! The line expands to one named test for each case: `cargo test` lists
//! `records::sizes_from_zero_to_the_limit` and all the others, and runs them one by one as
//! usual. Each case runs on a runtime of its own with two workers, and a case that hangs
//! fails by its name after [`TIME_LIMIT`].
//!
//! # The fixture
//! What the line is given is a [`Fixture`]: how to make a network, and an address to listen
//! on. [`Simple`] is enough for most backends. Networks of one fixture stand for different
//! programs and must reach each other: backends that live in one process share what they
//! need, those with sockets share nothing.
//!
//! # Wire backends
//! A backend over a byte stream that uses the frames of [`network_core::wire`] gives its
//! fixture a [`Wire`], raw access to the transport, and the suite plays hostile peers and
//! impostors on it. [`TcpWire`] is the one for TCP sockets:
//!
//! ```no_run
//! # use network_core::{Capabilities, NetworkBuilder};
//! # fn with_backend(network: NetworkBuilder) -> NetworkBuilder { network }
//! use network_testkit::{Simple, TcpWire};
//!
//! network_testkit::conformance!(
//!     Simple::new("/ip4/127.0.0.1/tcp/0/port/", with_backend).with_wire(TcpWire)
//! );
//! # fn main() {}
//! ```
//!
//! # What does not apply
//! Cases select themselves by the backend's [`Capabilities`](network_core::Capabilities) and
//! by what its fixture has. One that does not apply says so on the terminal, past the test
//! harness's capture: `skipped: hostile::stale_ack needs raw access to a wire`. [`skips`]
//! lists them, so that a test can hold the list in place.
//!
//! # Tests of your own
//! [`across!`](crate::across) runs one test body over several backends.
//!
//! # The original package's behaviour
//! [`replay`] does on this API what scenarios recorded from `@agoric/network` did on that one,
//! and compares. It is behind the feature `replay`, which is on by default; a backend that
//! only wants the suite turns it off.

#![allow(clippy::unwrap_used, reason = "a test kit: what does not hold fails the test")]

#[macro_use]
mod tools;

mod across;
mod cases;
mod fixture;
mod lab;
mod peer;
#[cfg(feature = "replay")]
pub mod replay;
mod run;
mod wire;

pub use across::{Outcome, run_body};
pub use fixture::{Fixture, Simple};
pub use run::{Skip, TIME_LIMIT, case_names, run, skips};
pub use wire::{Impostor, RawStream, TcpWire, Wire};
