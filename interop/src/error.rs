//! Why there is no chain to test with.

use std::{io, path::PathBuf, process::ExitStatus};

/// Why there is no chain to test with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something the system was asked for failed.
    #[error("cannot {what}")]
    Io {
        /// What was to be done.
        what: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The program did not build, or did not do as it was told.
    #[error("`{command}` failed ({status}):\n{output}")]
    Command {
        /// What was run.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        output: String,
    },
    /// The chain made no block in time.
    #[error("the chain made no block in {seconds} s; its log:\n{log}")]
    NoBlock {
        /// How long it was waited for.
        seconds: u64,
        /// The end of what it wrote.
        log: String,
    },
    /// There is no chain with a version of ibc-go that was asked for.
    #[error("there is no chain with ibc-go {wanted}: NETWORK_TEST_IBC_GO is v7, v8, v10 or v11")]
    NoVersion {
        /// What was asked for.
        wanted: String,
    },
    /// A chain is built without a Go module.
    #[error("{} says nothing of {module}", .pins.display())]
    NotPinned {
        /// The module.
        module: String,
        /// The chain's `go.mod`.
        pins: PathBuf,
    },
    /// The executable is in no target directory of cargo.
    #[error(
        "{} is in no target directory of cargo: say with NETWORK_TEST_SIMD where simd is",
        .executable.display()
    )]
    NoTarget {
        /// Where it is.
        executable: PathBuf,
    },
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
