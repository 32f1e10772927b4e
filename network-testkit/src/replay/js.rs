//! Values of the original's language, as far as scenarios use them.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use bytes::Bytes;
use network_core::{Connection, Network, Port, PortAllocator};
use serde_json::Value;

use super::{
    backend::{Attachment, Backend},
    inbound::Inbound,
    router::Router,
    script::Script,
};

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Js {
    Undefined,
    Null,
    Bool(bool),
    Number(serde_json::Number),
    BigInt(String),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Js>),
    Record(BTreeMap<String, Js>),
    /// A promise that a gate settles.
    Gate(String),
    Port(Port),
    Connection(Connection),
    Attempt(Arc<Inbound>),
    Handler(Arc<Script>),
    Listener(Arc<Script>),
    /// The handler of an echo kit, and its listener.
    EchoHandler(String),
    EchoListener(String),
    Backend(Arc<Backend>),
    Network(Network),
    /// What a backend is given to call the network by.
    Impl(Arc<Attachment>),
    Router(Arc<Router>),
    Allocator(PortAllocator),
    /// Something that traces only name.
    Shown(String),
}

/// What no value of the format is.
pub(super) const MAX_REPEAT: u64 = 16 << 20;

impl Js {
    /// Plain JSON, without the `{"$": …}` forms.
    pub(super) fn plain(json: &Value) -> Self {
        match json {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(value) => Self::Number(value.clone()),
            Value::String(text) => Self::Text(text.clone()),
            Value::Array(list) => Self::List(list.iter().map(Self::plain).collect()),
            Value::Object(map) => Self::Record(
                map.iter().map(|(key, value)| (key.clone(), Self::plain(value))).collect(),
            ),
        }
    }

    /// What it is, in words, for reasons.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Undefined => "undefined",
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::BigInt(_) => "a bigint",
            Self::Text(_) => "a string",
            Self::Bytes(_) => "a typed array",
            Self::List(_) => "an array",
            Self::Record(_) => "a record",
            Self::Gate(_) => "a promise",
            Self::Port(_) => "a port",
            Self::Connection(_) => "a connection",
            Self::Attempt(_) => "an attempt",
            Self::Handler(_) | Self::EchoHandler(_) => "a handler",
            Self::Listener(_) | Self::EchoListener(_) => "a listener",
            Self::Backend(_) => "a protocol handler",
            Self::Network(_) | Self::Impl(_) => "a protocol",
            Self::Router(_) => "a router",
            Self::Allocator(_) => "an allocator",
            Self::Shown(_) => "an object",
        }
    }

    /// The octets of a string of octets, or of a typed array.
    pub(super) fn octets(&self) -> Option<Result<Bytes, char>> {
        match self {
            Self::Text(text) => Some(octets(text)),
            Self::Bytes(bytes) => Some(Ok(Bytes::from(bytes.clone()))),
            _ => None,
        }
    }
}

/// One octet a character; a character that is none is the error.
pub(super) fn octets(text: &str) -> Result<Bytes, char> {
    text.chars().map(|char| u8::try_from(u32::from(char)).map_err(|_| char)).collect()
}

/// The string of octets that holds these.
pub(super) fn latin1(octets: &[u8]) -> String {
    octets.iter().map(|octet| char::from(*octet)).collect()
}

/// A string as traces write it.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for unit in text.encode_utf16() {
        match unit {
            0x08 => out.push_str("\\b"),
            0x09 => out.push_str("\\t"),
            0x0a => out.push_str("\\n"),
            0x0c => out.push_str("\\f"),
            0x0d => out.push_str("\\r"),
            0x22 => out.push_str("\\\""),
            0x5c => out.push_str("\\\\"),
            0x20..=0x7e => out.push(char::from(unit as u8)),
            // Writing into a string does not fail.
            _ => drop(write!(out, "\\u{unit:04x}")),
        }
    }
    out.push('"');
    out
}

/// A text as traces keep it: cut where it is long.
pub(super) fn cut(text: String) -> String {
    const LONGEST: usize = 300;
    const KEPT: usize = 40;
    let chars = text.chars().count();
    if chars <= LONGEST {
        return text;
    }
    let start: String = text.chars().take(KEPT).collect();
    format!("{start}...<{chars} chars>")
}
