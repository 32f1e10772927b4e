//! Why a connection closed, and what became of a record.

use std::{fmt, io, sync::Arc};

/// Whether the remote handler was given a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// The remote handler never saw the record: sending it again cannot duplicate it.
    NotDelivered,
    /// The remote handler was given the record.
    Delivered,
    /// It cannot be known: the connection broke before the fate of the record was told.
    Unknown,
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotDelivered => "not delivered",
            Self::Delivered => "delivered",
            Self::Unknown => "delivery unknown",
        })
    }
}

/// Why a connection closed.
///
/// [`is_intended`](Self::is_intended) tells a close that somebody asked for from a failure.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// This side closed it, by `close` or by dropping what held it open.
    Local,
    /// The remote side closed it on purpose.
    Remote,
    /// The port of this side was revoked.
    Revoked,
    /// The port of the remote side was revoked.
    RemoteRevoked,
    /// The network of this side shut down.
    Shutdown,
    /// The network of the remote side shut down.
    RemoteShutdown,
    /// Nothing was heard from the remote side for longer than the idle time.
    TimedOut,
    /// A handler of this side panicked.
    HandlerPanicked,
    /// A handler of the remote side panicked.
    RemoteHandlerPanicked,
    /// The remote side broke the protocol; the text says how.
    Protocol(Arc<str>),
    /// The remote side says that this side broke the protocol; the text says how.
    RemoteProtocol(Arc<str>),
    /// The transport failed, or ended without a closing word.
    Io(Arc<io::Error>),
}

impl CloseReason {
    /// Whether somebody asked for this close: true for [`Local`](Self::Local) and
    /// [`Remote`](Self::Remote), false for everything else.
    pub fn is_intended(&self) -> bool {
        matches!(self, Self::Local | Self::Remote)
    }

    /// What the other side of the same close sees.
    #[must_use]
    pub fn seen_from_remote(&self) -> Self {
        match self {
            Self::Local => Self::Remote,
            Self::Remote => Self::Local,
            Self::Revoked => Self::RemoteRevoked,
            Self::RemoteRevoked => Self::Revoked,
            Self::Shutdown => Self::RemoteShutdown,
            Self::RemoteShutdown => Self::Shutdown,
            Self::HandlerPanicked => Self::RemoteHandlerPanicked,
            Self::RemoteHandlerPanicked => Self::HandlerPanicked,
            Self::Protocol(text) => Self::RemoteProtocol(text.clone()),
            Self::RemoteProtocol(text) => Self::Protocol(text.clone()),
            Self::TimedOut | Self::Io(_) => self.clone(),
        }
    }

    /// A protocol violation of the remote side.
    pub fn protocol(violation: impl fmt::Display) -> Self {
        Self::Protocol(violation.to_string().into())
    }

    /// The transport ended without a closing word.
    pub fn cut_off() -> Self {
        Self::Io(Arc::new(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the remote side ended the transport without closing the connection",
        )))
    }
}

impl From<io::Error> for CloseReason {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Io(Arc::new(error)),
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("closed by this side"),
            Self::Remote => f.write_str("closed by the remote side"),
            Self::Revoked => f.write_str("the port of this side was revoked"),
            Self::RemoteRevoked => f.write_str("the port of the remote side was revoked"),
            Self::Shutdown => f.write_str("the network of this side shut down"),
            Self::RemoteShutdown => f.write_str("the network of the remote side shut down"),
            Self::TimedOut => f.write_str("nothing was heard from the remote side in time"),
            Self::HandlerPanicked => f.write_str("a handler of this side panicked"),
            Self::RemoteHandlerPanicked => f.write_str("a handler of the remote side panicked"),
            Self::Protocol(text) => write!(f, "the remote side broke the protocol: {text}"),
            Self::RemoteProtocol(text) => {
                write!(f, "the remote side reports a broken protocol: {text}")
            }
            Self::Io(error) => write!(f, "the transport failed: {error}"),
        }
    }
}
