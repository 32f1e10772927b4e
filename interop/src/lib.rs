//! Programs of others that tests run against.
//!
//! [`Chain`] is a chain that runs ibc-go, alone on this machine, for as long as a test lasts.
//! `simd`, the program in `interop/chain`, is built with Go when a test first needs it, with the
//! version of ibc-go that is [wanted](IbcGo::wanted).

#![cfg(unix)]

mod build;
mod chain;
mod error;
mod version;

pub use build::simd;
pub use chain::{Chain, MNEMONIC, Settings};
pub use error::Error;
pub use version::IbcGo;
