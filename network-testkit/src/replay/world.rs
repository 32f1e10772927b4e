//! What one run of a scenario keeps: names, gates, and the log of what was seen.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use network_core::{Connection, Endpoint, Network, Port, Refusal, Registration};
use serde_json::Value;
use tokio::sync::Notify;

use super::{
    address::Addresses,
    backend::Attachment,
    chain::{Chains, End, Setting},
    event::{Event, Fault, Kind},
    inbound::Inbound,
    js::{Js, MAX_REPEAT, cut, quoted},
};

/// Why a step has no result.
#[derive(Clone, Debug)]
pub(super) enum Stop {
    Fault(Fault),
    /// It is about an object that an earlier step did not make.
    Missing(String),
    /// An argument has a type that ours cannot have; says what it is.
    Untyped(String),
    /// Nothing here has a counterpart; says what.
    Inapplicable(String),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

pub(super) fn fault(kind: Kind, text: impl std::fmt::Display) -> Stop {
    Stop::Fault(Fault::new(kind, text.to_string()))
}

/// Everything that one run shares.
pub(super) struct World {
    pub(super) addresses: Addresses,
    /// How things stand at the beginning, and who makes hosts of IBC.
    pub(super) setting: Result<Setting, String>,
    pub(super) chains: Option<Arc<dyn Chains>>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    names: HashMap<String, Js>,
    gates: HashMap<String, Result<Js, Fault>>,
    log: Vec<Event>,
    ports: Vec<Port>,
    seen_ports: Vec<Port>,
    seen_connections: Vec<Connection>,
    seen_attempts: Vec<Arc<Inbound>>,
    dialing: Vec<Dialing>,
    listeners: Vec<(Port, Js)>,
    unsettled: Vec<String>,
    notes: Notes,
    networks: Vec<Network>,
    registrations: Vec<Registered>,
    attachments: Vec<Arc<Attachment>>,
    outside: Vec<(Endpoint, Endpoint)>,
    default_refusal: Option<String>,
    /// Channels whose version a chain asks for.
    asked: Vec<End>,
}

/// A connect that was asked for.
#[derive(Clone, Debug)]
pub(super) struct Dialing {
    pub(super) local: Endpoint,
    pub(super) remote: Endpoint,
    pub(super) handler: Js,
}

/// A backend that is registered, and by which names.
#[derive(Debug)]
pub(super) struct Registered {
    pub(super) network: String,
    pub(super) backend: String,
    pub(super) prefixes: Vec<String>,
    pub(super) guard: Registration,
}

/// What the comparison must know beside the log.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes {
    /// Steps that were left out, and the name of the object that did not exist.
    pub(super) missing: Vec<(String, String)>,
    /// Steps that were left out for the type of an argument.
    pub(super) untyped: Vec<(String, String)>,
    /// Why the whole scenario has no counterpart here.
    pub(super) inapplicable: Option<String>,
    /// What the names are of, as traces write it.
    pub(super) shown: Vec<(String, String)>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("state", &self.state).finish_non_exhaustive()
    }
}

impl World {
    pub(super) fn new(
        addresses: Addresses,
        setting: Result<Setting, String>,
        chains: Option<Arc<dyn Chains>>,
    ) -> Arc<Self> {
        let (state, changed) = (Mutex::default(), Notify::new());
        Arc::new(Self { addresses, setting, chains, state, changed })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much has happened so far: to see whether it goes on.
    pub(super) fn activity(&self) -> usize {
        let state = self.state();
        state.log.len() + state.notes.missing.len() + state.notes.untyped.len()
    }

    pub(super) fn take_log(&self) -> Vec<Event> {
        std::mem::take(&mut self.state().log)
    }

    pub(super) fn notes(&self) -> Notes {
        self.state().notes.clone()
    }

    pub(super) fn see(&self, event: Event) {
        self.state().log.push(event);
    }

    pub(super) fn call(&self, who: &str, method: &str, args: &[Js]) {
        let args = args.iter().map(|arg| self.show(arg)).collect();
        self.see(Event::Call { who: who.to_owned(), method: method.to_owned(), args });
    }

    pub(super) fn inapplicable(&self, reason: impl Into<String>) {
        self.state().notes.inapplicable.get_or_insert(reason.into());
    }

    pub(super) fn started(&self, step: &str) {
        self.state().unsettled.push(step.to_owned());
    }

    pub(super) fn settled(&self, step: &str) {
        self.state().unsettled.retain(|other| other != step);
    }

    pub(super) fn unsettled(&self) -> Vec<String> {
        self.state().unsettled.clone()
    }

    /// Notes why a step has no result; a fault is an event and noted by the caller.
    pub(super) fn left_out(&self, step: &str, stop: &Stop) {
        let notes = &mut self.state().notes;
        match stop {
            Stop::Fault(_) => {}
            Stop::Missing(name) => notes.missing.push((step.to_owned(), name.clone())),
            Stop::Untyped(what) => notes.untyped.push((step.to_owned(), what.clone())),
            Stop::Inapplicable(reason) => {
                notes.inapplicable.get_or_insert_with(|| reason.clone());
            }
        }
    }

    /// Gives a value a name.
    pub(super) fn name(&self, name: &str, value: Js) {
        let shown = matches!(value, Js::Connection(_)).then(|| self.show(&value));
        let mut state = self.state();
        state.names.insert(name.to_owned(), value);
        state.notes.shown.extend(shown.map(|shown| (name.to_owned(), shown)));
    }

    pub(super) fn named(&self, name: &str) -> Result<Js, Stop> {
        self.state().names.get(name).cloned().ok_or_else(|| Stop::Missing(name.to_owned()))
    }

    /// A value of a step; a string is a string.
    pub(super) fn value(&self, json: Option<&Value>, args: &[Js]) -> Result<Js, Stop> {
        let Some(json) = json else { return Ok(Js::Undefined) };
        let Some(form) = json.get("$") else {
            return Ok(match json {
                Value::Array(list) => Js::List(
                    list.iter()
                        .map(|item| self.value(Some(item), args))
                        .collect::<Result<_, _>>()?,
                ),
                Value::Object(map) => Js::Record(
                    map.iter()
                        .map(|(key, value)| Ok((key.clone(), self.value(Some(value), args)?)))
                        .collect::<Result<_, Stop>>()?,
                ),
                plain => Js::plain(plain),
            });
        };
        let text = |name: &str| json.get(name).and_then(Value::as_str).unwrap_or_default();
        let unknown = || Stop::Inapplicable(format!("unknown value {json}"));
        match form.as_str().ok_or_else(unknown)? {
            "undefined" => Ok(Js::Undefined),
            "bytes" => unhex(text("hex")).map(Js::Bytes).ok_or_else(unknown),
            "latin1" => {
                let octets = unhex(text("hex")).ok_or_else(unknown)?;
                Ok(Js::Text(super::js::latin1(&octets)))
            }
            "repeat" => {
                let times = json.get("n").and_then(Value::as_u64).unwrap_or_default();
                if times.saturating_mul(text("s").len() as u64) > MAX_REPEAT {
                    return Err(unknown());
                }
                Ok(Js::Text(text("s").repeat(usize::try_from(times).unwrap_or_default())))
            }
            "bigint" => Ok(Js::BigInt(match json.get("v") {
                Some(Value::String(text)) => text.clone(),
                Some(number) => number.to_string(),
                None => return Err(unknown()),
            })),
            "var" => self.named(text("name")),
            "addrOf" => self.local_address(&self.named(text("name"))?).ok_or_else(unknown),
            "arg" => {
                let place = json.get("i").and_then(Value::as_u64).unwrap_or(u64::MAX);
                let found = usize::try_from(place).ok().and_then(|place| args.get(place));
                Ok(found.cloned().unwrap_or(Js::Undefined))
            }
            "gate" => Ok(Js::Gate(text("name").to_owned())),
            _ => Err(unknown()),
        }
    }

    /// An object of a step; a string is a name.
    pub(super) fn object(&self, json: Option<&Value>, args: &[Js]) -> Result<Js, Stop> {
        match json {
            Some(Value::String(name)) => self.named(name),
            other => self.value(other, args),
        }
    }

    pub(super) fn local_address(&self, of: &Js) -> Option<Js> {
        Some(self.text(match of {
            Js::Port(port) => port.local_endpoint(),
            Js::Connection(connection) => connection.local_endpoint(),
            Js::Attempt(attempt) => &attempt.local,
            _ => return None,
        }))
    }

    pub(super) fn remote_address(&self, of: &Js) -> Option<Js> {
        Some(self.text(match of {
            Js::Connection(connection) => connection.remote_endpoint(),
            Js::Attempt(attempt) => &attempt.remote,
            _ => return None,
        }))
    }

    /// The address that an endpoint stands for.
    pub(super) fn text(&self, endpoint: &Endpoint) -> Js {
        Js::Text(self.addresses.decode(endpoint))
    }

    pub(super) fn endpoint(&self, address: &str) -> Result<Endpoint, Stop> {
        self.addresses.encode(address).map_err(|error| fault(Kind::BadEndpoint, error))
    }

    // Gates.

    pub(super) fn open(&self, gate: &str, outcome: Result<Js, Fault>) {
        self.state().gates.entry(gate.to_owned()).or_insert(outcome);
        self.changed.notify_waiters();
    }

    pub(super) async fn pass(&self, gate: &str) -> Result<Js, Fault> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(outcome) = self.state().gates.get(gate).cloned() {
                return outcome;
            }
            changed.await;
        }
    }

    // Ports, and who listens and dials: a backend is not told, a spy shows it all the same.

    pub(super) fn keep(&self, network: Network) {
        self.state().networks.push(network);
    }

    pub(super) fn attached(&self, attachment: &Arc<Attachment>) {
        self.state().attachments.push(attachment.clone());
    }

    pub(super) fn attachments(&self) -> Vec<Arc<Attachment>> {
        self.state().attachments.clone()
    }

    pub(super) fn register(&self, registered: Registered) {
        self.state().registrations.push(registered);
    }

    /// Unregisters a backend by one of its prefixes; whether there was one.
    pub(super) fn unregister(&self, network: &str, backend: &str, prefix: &str) -> bool {
        let mut state = self.state();
        let found = state.registrations.iter().position(|registered| {
            registered.network == network
                && registered.backend == backend
                && registered.prefixes.iter().any(|other| other == prefix)
        });
        let removed = found.map(|at| state.registrations.remove(at));
        drop(state);
        removed.is_some_and(|registered| {
            drop(registered.guard);
            true
        })
    }

    /// Lets go of everything, so that no network outlives the run.
    pub(super) fn clear(&self) {
        let state = std::mem::take(&mut *self.state());
        drop(state);
    }

    /// Notes an attempt that the scenario makes from outside.
    pub(super) fn comes_from_outside(&self, local: &Endpoint, remote: &Endpoint) {
        self.state().outside.push((local.clone(), remote.clone()));
    }

    pub(super) fn is_from_outside(&self, local: &Endpoint, remote: &Endpoint) -> bool {
        let state = self.state();
        state.outside.iter().any(|(l, r)| l == local && r == remote)
    }

    /// Notes how a listener declines that has no `on_accept`.
    pub(super) fn declines_by_default(&self, refusal: &Refusal) {
        self.state().default_refusal = Some(refusal.text().to_owned());
    }

    pub(super) fn is_default_refusal(&self, refusal: &Refusal) -> bool {
        self.state().default_refusal.as_deref() == Some(refusal.text())
    }

    /// Notes that a chain is to hear which version is accepted.
    pub(super) fn asks_version(&self, of: &End) {
        self.state().asked.push(of.clone());
    }

    pub(super) fn was_asked_version(&self, of: &End) -> bool {
        self.state().asked.contains(of)
    }

    pub(super) fn bound(&self, port: &Port) {
        self.state().ports.push(port.clone());
    }

    /// The live port of that name: what a program keeps that binds a name once.
    pub(super) fn port_at(&self, endpoint: &Endpoint) -> Option<Port> {
        let state = self.state();
        let found = state
            .ports
            .iter()
            .rev()
            .find(|port| port.local_endpoint() == endpoint && !port.is_revoked());
        found.cloned()
    }

    pub(super) fn set_listener(&self, port: &Port, listener: Option<Js>) -> Option<Js> {
        let mut state = self.state();
        let before = state.listeners.iter().position(|(other, _)| other == port);
        let before = before.map(|at| state.listeners.remove(at).1);
        if let Some(listener) = listener {
            state.listeners.push((port.clone(), listener));
        }
        before
    }

    pub(super) fn listener_of(&self, port: &Port) -> Option<Js> {
        let state = self.state();
        let found = state.listeners.iter().find(|(other, _)| other == port);
        found.map(|(_, listener)| listener.clone())
    }

    pub(super) fn listener_at(&self, endpoint: &Endpoint) -> Option<Js> {
        let state = self.state();
        let found =
            state.listeners.iter().rev().find(|(port, _)| port.local_endpoint() == endpoint);
        found.map(|(_, listener)| listener.clone())
    }

    pub(super) fn dials(&self, dialing: Dialing) {
        self.state().dialing.push(dialing);
    }

    pub(super) fn dialer(&self, local: &Endpoint, remote: &Endpoint) -> Option<Js> {
        let state = self.state();
        let mut latest = state.dialing.iter().rev();
        latest
            .find(|dialing| dialing.local == *local && dialing.remote == *remote)
            .map(|dialing| dialing.handler.clone())
    }

    /// A value as traces write it.
    pub(super) fn show(&self, value: &Js) -> String {
        cut(self.show_whole(value))
    }

    fn show_whole(&self, value: &Js) -> String {
        let address = |endpoint| self.addresses.decode(endpoint);
        match value {
            Js::Undefined => "undefined".to_owned(),
            Js::Null => "null".to_owned(),
            Js::Bool(value) => value.to_string(),
            Js::Number(value) => value.to_string(),
            Js::BigInt(digits) => format!("{digits}n"),
            Js::Text(text) => quoted(text),
            Js::Bytes(bytes) => quoted(&super::js::latin1(bytes)),
            Js::List(list) => {
                let items: Vec<_> = list.iter().map(|item| self.show_whole(item)).collect();
                format!("[{}]", items.join(", "))
            }
            Js::Record(map) => {
                let item = |(key, value)| format!("{key}: {}", self.show_whole(value));
                let items: Vec<_> = map.iter().map(item).collect();
                format!("{{{}}}", items.join(", "))
            }
            Js::Gate(_) => "promise".to_owned(),
            Js::Port(port) => {
                let text = format!("port({})", address(port.local_endpoint()));
                let same = |a: &Port, b: &Port| a.local_endpoint() == b.local_endpoint();
                sighted(text, port, &mut self.state().seen_ports, same)
            }
            Js::Connection(connection) => {
                let (local, remote) = (connection.local_endpoint(), connection.remote_endpoint());
                let text = format!("conn({}>{})", address(local), address(remote));
                let same = |a: &Connection, b: &Connection| {
                    a.local_endpoint() == b.local_endpoint()
                        && a.remote_endpoint() == b.remote_endpoint()
                };
                sighted(text, connection, &mut self.state().seen_connections, same)
            }
            Js::Attempt(attempt) => {
                let text =
                    format!("attempt({}<{})", address(&attempt.local), address(&attempt.remote));
                let same =
                    |a: &Arc<Inbound>, b: &Arc<Inbound>| a.local == b.local && a.remote == b.remote;
                sighted(text, attempt, &mut self.state().seen_attempts, same)
            }
            Js::Handler(script) => format!("handler:{}", script.name),
            Js::Listener(script) => format!("listener:{}", script.name),
            Js::EchoHandler(name) => format!("handler:{name}"),
            Js::EchoListener(name) => format!("listener:{name}"),
            Js::Backend(backend) => format!("protocol:{}", backend.name),
            Js::Network(_) => "protocol".to_owned(),
            Js::Impl(_) => "impl".to_owned(),
            Js::Router(_) => "router".to_owned(),
            Js::Allocator(_) => "allocator".to_owned(),
            Js::Shown(text) => text.clone(),
        }
    }
}

/// The text of an object, with a number if others of the same text were seen before it.
fn sighted<T: Clone + PartialEq>(
    text: String,
    object: &T,
    seen: &mut Vec<T>,
    same_text: impl Fn(&T, &T) -> bool,
) -> String {
    let mut number = 0;
    for other in seen.iter().filter(|other| same_text(other, object)) {
        number += 1;
        if other == object {
            return numbered(text, number);
        }
    }
    seen.push(object.clone());
    numbered(text, number + 1)
}

fn numbered(text: String, number: usize) -> String {
    if number < 2 { text } else { format!("{text}#{number}") }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<_>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits?;
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(|pair| u8::try_from(pair[0] * 16 + pair[1]).ok()).collect()
}
