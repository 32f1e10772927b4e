//! An error for each operation.

use std::{error::Error, time::Duration};

use crate::{
    close::{CloseReason, Delivery},
    endpoint::{Endpoint, EndpointError},
    pattern::RoutePattern,
    refusal::Refusal,
};

/// What a backend failed with; it stays downcastable.
pub type BackendError = Box<dyn Error + Send + Sync>;

/// Why a send brought no ack. [`delivery`](Self::delivery) says what became of the record.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The record is longer than the connection takes. Nothing was sent.
    #[error(
        "a record of {len} bytes is over this connection's limit of {max} bytes: send less, or \
         raise `Limits::max_record_len` on both sides"
    )]
    TooLarge {
        /// The length of the record, in bytes.
        len: usize,
        /// The most that the connection takes, in bytes.
        max: usize,
    },
    /// The record is empty, and the transport knows no empty records: IBC does not. Nothing was
    /// sent.
    #[error("an empty record cannot be sent over this connection: send at least one byte")]
    Empty,
    /// The connection was closed already. Nothing was sent.
    #[error("the record was not sent, the connection is closed ({reason}): connect again")]
    Closed {
        /// Why it closed.
        reason: CloseReason,
    },
    /// The connection closed before the ack came.
    #[error("the connection closed before the ack came ({delivery}): {reason}")]
    AckLost {
        /// Why it closed.
        reason: CloseReason,
        /// Whether the remote handler was given the record.
        delivery: Delivery,
    },
    /// No ack came within [`SendOptions::timeout`](crate::SendOptions::timeout).
    #[error("no ack within {after:?} ({delivery})")]
    TimedOut {
        /// The timeout that passed.
        after: Duration,
        /// Whether the remote handler was given the record.
        delivery: Delivery,
    },
    /// The remote side had no memory left for the record.
    #[error(
        "the remote side had no memory left for the record and did not take it: send it again \
         later, or raise `Limits::memory` there"
    )]
    NoRoom,
    /// The remote handler answered that it will not.
    #[error("the remote handler refused the record: {0}")]
    Refused(Refusal),
}

impl SendError {
    /// Whether the remote handler was given the record.
    pub fn delivery(&self) -> Delivery {
        match self {
            Self::TooLarge { .. } | Self::Empty | Self::Closed { .. } | Self::NoRoom => {
                Delivery::NotDelivered
            }
            Self::AckLost { delivery, .. } | Self::TimedOut { delivery, .. } => *delivery,
            Self::Refused(_) => Delivery::Delivered,
        }
    }
}

/// No backend takes an endpoint.
#[derive(Clone, Debug, thiserror::Error)]
#[error("no backend takes {endpoint}: this network routes {available}{}", hint(*.feature))]
pub struct NoBackend {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The patterns that are routed, as text.
    pub available: String,
    /// The Cargo feature of package `network` that would take it, where there is one.
    pub feature: Option<&'static str>,
}

fn hint(feature: Option<&'static str>) -> String {
    feature.map_or_else(String::new, |feature| {
        format!("; enable feature \"{feature}\" of package `network` and register its backend")
    })
}

/// Why a port could not be bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The endpoint does not parse.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// No backend takes it.
    #[error(transparent)]
    NoBackend(#[from] NoBackend),
    /// A port of this network has the name.
    #[error("{endpoint} is bound already: revoke that port first, or bind another name")]
    AlreadyBound {
        /// The name.
        endpoint: Endpoint,
    },
    /// The network has as many ports as [`Limits::max_ports`](crate::Limits::max_ports) allows.
    #[error(
        "cannot bind {endpoint}: the network has {max} ports, which is its limit: revoke one, or \
         raise `Limits::max_ports`"
    )]
    TooManyPorts {
        /// The name asked for.
        endpoint: Endpoint,
        /// The limit.
        max: usize,
    },
    /// The network was shut down.
    #[error("cannot bind {endpoint}: the network was shut down, make another")]
    Shutdown {
        /// The name asked for.
        endpoint: Endpoint,
    },
    /// The backend cannot bind it.
    #[error("cannot bind {endpoint} over {protocol}")]
    Backend {
        /// The name asked for.
        endpoint: Endpoint,
        /// The backend.
        protocol: &'static str,
        /// Why.
        source: BackendError,
    },
}

/// Why a port could not listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The port was revoked: bind a new one.
    #[error("{endpoint} was revoked: bind it again to listen")]
    Revoked {
        /// The port.
        endpoint: Endpoint,
    },
    /// The handler's `on_listen` refused. The port listens as before the call.
    #[error("the listener of {endpoint} refused to listen: {refusal}")]
    Refused {
        /// The port.
        endpoint: Endpoint,
        /// What the handler said.
        refusal: Refusal,
    },
    /// There is no listener to remove.
    #[error("{endpoint} has no listener: nothing was removed")]
    NotListening {
        /// The port.
        endpoint: Endpoint,
    },
    /// The backend cannot listen there.
    #[error("cannot listen on {endpoint} over {protocol}")]
    Backend {
        /// The port.
        endpoint: Endpoint,
        /// The backend.
        protocol: &'static str,
        /// Why.
        source: BackendError,
    },
}

/// Why the remote side turned a connection down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// No port listens there.
    #[error("nobody listens there: check the name of the port, or start its listener")]
    NotListening,
    /// The listener declined.
    #[error("the listener declined: {0}")]
    Declined(Refusal),
    /// The remote side has as many connections or handshakes as it takes. Try again later.
    #[error("the remote side is at its limit of connections, try again later")]
    Busy,
    /// The remote side is shutting down.
    #[error("the remote side is shutting down")]
    ShuttingDown,
    /// The remote side's policy does not let this peer in.
    #[error(
        "this peer is not let in there: have its peer id allowed in the `AcceptPolicy` of the \
         remote side"
    )]
    NotAllowed,
    /// The remote side lets in only who proves who they are.
    #[error(
        "only who proves a peer id is let in there: dial with an identity, over `/tls/p2p/…` or \
         `/quic-v1/p2p/…`"
    )]
    Unproven,
    /// The remote side could not read the opening frame; the text says why.
    #[error("the remote side could not take the opening frame: {0}")]
    BadOpening(Refusal),
}

/// Why a connect failed. No connection exists then, on either side.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The remote endpoint does not parse.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// No backend takes the remote endpoint.
    #[error(transparent)]
    NoBackend(#[from] NoBackend),
    /// The port belongs to one backend and the remote endpoint to another.
    #[error(
        "{local} is a port of {local_protocol} and cannot connect to {remote}, which is for \
         {remote_protocol}: connect from a port of that backend"
    )]
    OtherBackend {
        /// The port.
        local: Endpoint,
        /// Its backend.
        local_protocol: &'static str,
        /// The remote endpoint.
        remote: Endpoint,
        /// Its backend.
        remote_protocol: &'static str,
    },
    /// The port was revoked, or is revoked while it connects.
    #[error("{local} was revoked: bind it again to connect")]
    Revoked {
        /// The port.
        local: Endpoint,
    },
    /// The remote side turned the connection down.
    #[error("{remote} rejected the connection: {reason}")]
    Rejected {
        /// The remote endpoint.
        remote: Endpoint,
        /// Why.
        reason: Rejection,
    },
    /// Nobody answers there.
    #[error(
        "cannot reach {remote}: check the address, and that its program runs and listens there"
    )]
    Unreachable {
        /// The remote endpoint.
        remote: Endpoint,
        /// What the transport says.
        source: BackendError,
    },
    /// Whoever answers there is not, or cannot prove to be, who was dialed.
    #[error("whoever answers at {remote} is not trusted")]
    Untrusted {
        /// The remote endpoint.
        remote: Endpoint,
        /// Why not.
        source: BackendError,
    },
    /// Whoever answers there speaks another protocol, or another version of it.
    #[error("{remote} does not speak this protocol: {problem}")]
    Incompatible {
        /// The remote endpoint.
        remote: Endpoint,
        /// What was wrong with its answer.
        problem: String,
    },
    /// The connect took longer than its time.
    #[error(
        "connecting to {remote} took longer than {after:?}: try again, or raise \
         `Limits::connect_time`"
    )]
    TimedOut {
        /// The remote endpoint.
        remote: Endpoint,
        /// The time that passed.
        after: Duration,
    },
    /// The network has as many connections as it may have.
    #[error(
        "cannot connect to {remote}: the network has {max} connections, which is its limit: close \
         one, or raise `Limits::max_connections`"
    )]
    TooManyConnections {
        /// The remote endpoint.
        remote: Endpoint,
        /// The limit.
        max: usize,
    },
    /// The backend failed in another way.
    #[error("cannot connect to {remote} over {protocol}")]
    Backend {
        /// The remote endpoint.
        remote: Endpoint,
        /// The backend.
        protocol: &'static str,
        /// Why.
        source: BackendError,
    },
}

/// Why an attempt could not be accepted after all.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the attempt is over: the remote side went away, was denied, or the port was revoked")]
pub struct AttemptOver;

/// Why a port could not be revoked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RevokeError {
    /// It was revoked before.
    #[error("{endpoint} was revoked already")]
    AlreadyRevoked {
        /// The port.
        endpoint: Endpoint,
    },
}

/// Why a protocol could not be registered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// Another backend has a pattern that takes the same endpoints.
    #[error("{pattern} of {protocol} takes the same endpoints as {taken} of {holder}")]
    Tie {
        /// The pattern that was to be registered.
        pattern: Box<RoutePattern>,
        /// Its backend.
        protocol: &'static str,
        /// The pattern that is registered.
        taken: Box<RoutePattern>,
        /// The backend that holds it.
        holder: &'static str,
    },
    /// The backend names no pattern, so nothing could ever reach it.
    #[error("{protocol} names no route pattern")]
    NoPattern {
        /// The backend.
        protocol: &'static str,
    },
}
