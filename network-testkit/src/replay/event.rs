//! What can be seen of a run, of the original's and of ours.

use std::fmt;

/// One thing that was seen. Values are texts, as the trace format writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A method of a handler, a listener or a backend was called.
    Call { who: String, method: String, args: Vec<String> },
    /// The call of a step returned.
    Returned { step: String, op: String, value: String },
    /// The call of a step failed.
    Failed { step: String, op: String, fault: Fault },
    /// The call of a step had not settled when nothing more could happen.
    Stalled { step: String },
    /// The call of a step never settled.
    Pending { step: String },
}

impl Event {
    /// The step whose call settled, or did not.
    pub(super) fn step(&self) -> Option<&str> {
        match self {
            Self::Call { .. } => None,
            Self::Returned { step, .. }
            | Self::Failed { step, .. }
            | Self::Stalled { step }
            | Self::Pending { step } => Some(step),
        }
    }

    pub(super) fn is_call(&self) -> bool {
        matches!(self, Self::Call { .. })
    }

    /// Whether it is a call of this method.
    pub(super) fn calls(&self, name: &str) -> bool {
        matches!(self, Self::Call { method, .. } if method == name)
    }

    /// The first argument of a call, or the value of a return.
    pub(super) fn subject(&self) -> Option<&str> {
        match self {
            Self::Call { args, .. } => args.first().map(String::as_str),
            Self::Returned { value, .. } => Some(value),
            _ => None,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call { who, method, args } => write!(f, "{who}.{method}({})", args.join(", ")),
            Self::Returned { step, op, value } => write!(f, "{op} of step {step} returned {value}"),
            Self::Failed { step, op, fault } => write!(f, "{op} of step {step} failed: {fault}"),
            Self::Stalled { step } => write!(f, "step {step} stalled"),
            Self::Pending { step } => write!(f, "step {step} never settled"),
        }
    }
}

/// Why a call failed: a kind that both sides share, and the words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    pub(super) text: String,
}

/// Kinds of failures, where the words differ between the two packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A handler of the program refused or threw; the words are its own.
    Thrown,
    /// The connection is closed.
    Closed,
    /// The original only: a store has no such connection any more.
    Forgotten,
    /// The ack did not come before the close.
    AckLost,
    /// Nobody listens where the connect went.
    NotListening,
    /// The listener has no `onAccept`.
    NoAccept,
    /// The port does not listen.
    NoListener,
    /// The port was revoked.
    Revoked,
    /// The port was revoked before this revoke.
    AlreadyRevoked,
    /// The name is bound.
    AlreadyBound,
    /// The remote endpoint belongs to another backend.
    OtherBackend,
    /// No backend takes the endpoint.
    NoRoute,
    /// Another backend has the prefix.
    PrefixTaken,
    /// Nothing of that name is registered.
    NotRegistered,
    /// The name of a port is malformed.
    BadName,
    /// An endpoint is malformed.
    BadEndpoint,
    /// The attempt was accepted or given up before.
    AttemptOver,
    /// A record is empty, over something that has no empty ones.
    Empty,
    /// A record is too long.
    TooLarge,
    /// An ack is too long.
    AckTooLarge,
    /// A character is no octet.
    NoOctet,
    /// The original only: the echo kit remembers that it closed.
    KitClosed,
    /// The original only: a guard refused an argument by its type.
    Guard,
    /// The original only: a typed array was refused.
    TypedArray,
    /// The chain says something that nobody waits for, or that IBC's rules are against.
    Denied,
    /// Ours: a channel goes over one hop.
    Hops,
    /// The original only: a channel is gone, and what belongs to it.
    ChannelForgotten,
    /// The original only: the port is kept though the chain refused it.
    BoundBefore,
    /// Ours: something that the original has no word for.
    Other,
}

impl Fault {
    pub(super) fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    /// The kind of one of the original's errors, by its words.
    pub(super) fn of_original(name: &str, text: &str) -> Self {
        Self::new(if name == "non-error" { Kind::Thrown } else { original_kind(text) }, text)
    }

    /// Whether both mean the same.
    pub(super) fn matches(&self, ours: &Fault) -> bool {
        match ours.kind {
            // The program's own words arrive as they are; they may read like anything.
            Kind::Thrown => self.text == ours.text,
            // Nobody is there, for one reason or another.
            Kind::OtherBackend | Kind::NoRoute if self.kind == Kind::NotListening => true,
            kind => self.kind == kind,
        }
    }
}

/// Texts of the original, and what they mean: how they start, or what they hold.
const ORIGINAL: &[(&str, Kind)] = &[
    ("Connection closed", Kind::Closed),
    ("\"connections\" not found", Kind::Forgotten),
    ("\"localAddr\" not found", Kind::NotListening),
    ("not found in collection \"localAddr\"", Kind::NotListening),
    ("No listeners for ", Kind::NotListening),
    ("\"listening\" not found", Kind::NotListening),
    ("not found in collection \"listening\"", Kind::NotListening),
    ("is already revoked", Kind::AlreadyRevoked),
    (" is revoked", Kind::Revoked),
    ("is not listening", Kind::NoListener),
    ("does not match listener", Kind::NoListener),
    ("\"addrToPort\" already registered", Kind::AlreadyBound),
    ("\"prefix\" already registered", Kind::PrefixTaken),
    ("No registered router for ", Kind::NoRoute),
    ("is not registered at prefix", Kind::NotRegistered),
    ("\"prefix\" not found", Kind::NotRegistered),
    ("Invalid IBC port name", Kind::BadName),
    ("Already accepted", Kind::AttemptOver),
    ("Already closed", Kind::AttemptOver),
    ("target has no method \"onAccept\"", Kind::NoAccept),
    ("target has no method \"onConnect\"", Kind::NotListening),
    ("character cannot be coerced to an octet", Kind::NoOctet),
    ("Error parsing Multiaddr", Kind::BadEndpoint),
    ("Maximum call stack size exceeded", Kind::AckTooLarge),
    ("closed-by-finalizer", Kind::KitClosed),
    ("Cannot pass mutable typed arrays", Kind::TypedArray),
    ("must not be bigger than", Kind::TooLarge),
    ("is not a ByteSource", Kind::Guard),
    (": did not expect channelOpenAck", Kind::Denied),
    ("\"channelKeyToSeqAck\" not found", Kind::ChannelForgotten),
    ("\"portToPendingConns\" already registered", Kind::BoundBefore),
    ("must not include channelID", Kind::BadEndpoint),
    ("IBC address /", Kind::BadEndpoint),
    ("missing order", Kind::BadEndpoint),
    ("Check failed", Kind::BadEndpoint),
];

fn original_kind(text: &str) -> Kind {
    if let Some((_, kind)) = ORIGINAL.iter().find(|(words, _)| text.contains(words)) {
        return *kind;
    }
    let guard = text.starts_with("In \"") && text.contains("\" method of (");
    if guard { Kind::Guard } else { Kind::Thrown }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({})", self.kind, self.text)
    }
}
