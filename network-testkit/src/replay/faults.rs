//! Our errors by their kinds.

use network_core::{
    AllocateError, BackendError, BindError, ConnectError, Endpoint, EndpointError, ListenError,
    Rejection, RevokeError, SendError,
};

use super::{
    backend::{Meant, Thrown},
    event::{Fault, Kind},
    world::{Stop, World},
};

/// Why a bind failed, and the name where a port holds it.
pub(super) struct BindFault {
    pub(super) fault: Fault,
    pub(super) held: Option<Endpoint>,
}

pub(super) fn of_bind(error: &BindError) -> BindFault {
    let (kind, held) = match error {
        BindError::Endpoint(_) => (Kind::BadEndpoint, None),
        BindError::NoBackend(_) => (Kind::NoRoute, None),
        BindError::AlreadyBound { endpoint } => (Kind::AlreadyBound, Some(endpoint.clone())),
        BindError::Backend { source, .. } => {
            return BindFault { fault: of_backend(source), held: None };
        }
        _ => (Kind::Other, None),
    };
    BindFault { fault: Fault::new(kind, error.to_string()), held }
}

pub(super) fn of_allocate(error: &AllocateError) -> BindFault {
    match error {
        AllocateError::Bind(error) => of_bind(error),
        other => BindFault { fault: Fault::new(Kind::BadName, other.to_string()), held: None },
    }
}

pub(super) fn of_listen(error: &ListenError) -> Stop {
    let kind = match error {
        ListenError::Revoked { .. } => Kind::Revoked,
        ListenError::NotListening { .. } => Kind::NoListener,
        ListenError::Refused { refusal, .. } => {
            return Fault::new(Kind::Thrown, refusal.text()).into();
        }
        ListenError::Backend { source, .. } => return of_backend(source).into(),
        _ => Kind::Other,
    };
    Fault::new(kind, error.to_string()).into()
}

pub(super) fn of_connect(world: &World, error: &ConnectError) -> Stop {
    let kind = match error {
        ConnectError::Endpoint(_) => Kind::BadEndpoint,
        ConnectError::NoBackend(_) => Kind::NoRoute,
        ConnectError::OtherBackend { .. } => Kind::OtherBackend,
        ConnectError::Revoked { .. } => Kind::Revoked,
        ConnectError::Rejected { reason, .. } => return of_rejection(world, reason),
        ConnectError::Backend { source, .. } => return of_backend(source).into(),
        _ => Kind::Other,
    };
    Fault::new(kind, error.to_string()).into()
}

fn of_rejection(world: &World, reason: &Rejection) -> Stop {
    let kind = match reason {
        Rejection::NotListening => Kind::NotListening,
        Rejection::Declined(refusal) if world.is_default_refusal(refusal) => Kind::NoAccept,
        Rejection::Declined(refusal) => return Fault::new(Kind::Thrown, refusal.text()).into(),
        _ => Kind::Other,
    };
    Fault::new(kind, reason.to_string()).into()
}

pub(super) fn of_send(error: &SendError) -> Stop {
    let kind = match error {
        SendError::TooLarge { .. } => Kind::TooLarge,
        SendError::Empty => Kind::Empty,
        SendError::Closed { .. } => Kind::Closed,
        SendError::AckLost { delivery, .. } => {
            return Fault::new(Kind::AckLost, delivery.to_string()).into();
        }
        SendError::Refused(refusal) if refusal.text().starts_with(TOO_LONG) => Kind::AckTooLarge,
        SendError::Refused(refusal) => return Fault::new(Kind::Thrown, refusal.text()).into(),
        _ => Kind::Other,
    };
    Fault::new(kind, error.to_string()).into()
}

/// How core refuses on behalf of a handler whose ack is too long.
const TOO_LONG: &str = "the handler's ack of ";

pub(super) fn of_revoke(error: &RevokeError) -> Stop {
    let kind = match error {
        RevokeError::AlreadyRevoked { .. } => Kind::AlreadyRevoked,
        _ => Kind::Other,
    };
    Fault::new(kind, error.to_string()).into()
}

fn of_backend(source: &BackendError) -> Fault {
    if let Some(Thrown(text)) = source.downcast_ref() {
        return Fault::new(Kind::Thrown, text.clone());
    }
    if let Some(Meant(fault)) = source.downcast_ref() {
        return fault.clone();
    }
    let malformed = source.downcast_ref::<EndpointError>().is_some();
    let kind = if malformed { Kind::BadEndpoint } else { Kind::Other };
    Fault::new(kind, source.to_string())
}
