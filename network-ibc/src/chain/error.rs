//! [`RpcError`].

use std::{sync::Arc, time::Duration};

/// Why the RPC of a chain's node did not answer as it should.
///
/// A node is named by its URL without the path, which may be a secret.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RpcError {
    /// The URL cannot be one of an RPC.
    #[error("{url:?} is no URL of a chain's RPC: write it like https://rpc.example.org:443")]
    Url {
        /// How it starts.
        url: String,
    },
    /// The system has no certificates to trust.
    #[error("no TLS can be had: see that the system has certificate authorities")]
    Tls {
        /// Why.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// There is no connection to the node, or it broke.
    #[error("{url} cannot be reached: see that the node runs and the URL is right")]
    Unreachable {
        /// The node.
        url: String,
        /// Why.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The node did not answer in time.
    #[error("{url} did not answer `{method}` in {} s", after.as_secs_f32())]
    Timeout {
        /// The node.
        url: String,
        /// What was asked.
        method: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// The answer is not one of an RPC.
    #[error("{url} answers `{method}` with HTTP status {status}: is it a CometBFT RPC?")]
    Status {
        /// The node.
        url: String,
        /// What was asked.
        method: &'static str,
        /// The status.
        status: u16,
    },
    /// The answer has too many bytes.
    #[error("{url} answers `{method}` with more than {limit} bytes: raise the limit of answers")]
    TooLarge {
        /// The node.
        url: String,
        /// What was asked.
        method: &'static str,
        /// How many bytes it may have.
        limit: usize,
    },
    /// The node says that it cannot.
    #[error("{url} cannot answer `{method}`: {message} (code {code})")]
    Node {
        /// The node.
        url: String,
        /// What was asked.
        method: &'static str,
        /// The code of the error, as JSON-RPC has them.
        code: i64,
        /// What it says.
        message: String,
    },
    /// The chain refuses a query.
    #[error("the chain at {url} refuses the query {path}: {log} (code {code} of {codespace})")]
    Query {
        /// The node.
        url: String,
        /// What was asked.
        path: String,
        /// Whose code it is.
        codespace: String,
        /// The code.
        code: u32,
        /// What it says.
        log: String,
    },
    /// The answer is not to what was asked, or makes no sense.
    #[error("{url} answers `{method}` with something else: {reason}")]
    Unexpected {
        /// The node.
        url: String,
        /// What was asked.
        method: &'static str,
        /// What is wrong with the answer.
        reason: String,
    },
}

impl RpcError {
    /// Whether the same may be answered later, because nothing was wrong with the question.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } => true,
            Self::Status { status, .. } => *status == 429 || *status >= 500,
            _ => false,
        }
    }

    /// Whether the node has forgotten the block (CometBFT, `rpc/core/env.go`, `getHeight`).
    pub(crate) fn is_forgotten(&self) -> bool {
        matches!(self, Self::Node { message, .. } if message.contains("lowest height is"))
    }

    /// Whether the node says that it has no such service (SDK, `baseapp/abci.go`,
    /// `handleQueryGRPC`).
    pub(super) fn no_service(&self) -> bool {
        matches!(self, Self::Query { code: 6, log, .. } if log.contains("unknown query path"))
    }

    /// What the node says, if it is the one that says no.
    pub(super) fn message(&self) -> Option<&str> {
        match self {
            Self::Node { message, .. } => Some(message),
            Self::Query { log, .. } => Some(log),
            _ => None,
        }
    }
}

/// The start of what a node says, which may be anything.
pub(super) fn excerpt(text: &str) -> String {
    const MAX_CHARS: usize = 400;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => [&text[..end], "…"].concat(),
        None => text.to_owned(),
    }
}
