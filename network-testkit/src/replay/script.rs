//! Handlers, listeners and backends whose methods a scenario describes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use network_core::{
    AnyHandler, Attempt, CloseReason, Connection, ConnectionHandler, ListenHandler, Port, Refusal,
};
use serde_json::{Map, Value};

use super::{
    event::{Fault, Kind},
    js::{Js, octets},
    scenario,
    steps::run_step,
    world::{Stop, World},
};

/// A thing with methods, each of which does what the scenario says.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) name: String,
    methods: BTreeMap<String, Vec<Map<String, Value>>>,
    calls: Mutex<HashMap<String, usize>>,
}

impl Script {
    pub(super) fn new(name: &str, methods: Option<&Value>) -> Arc<Self> {
        let behaviours = |value: &Value| match value {
            Value::Array(list) => list.iter().filter_map(Value::as_object).cloned().collect(),
            Value::Object(one) => vec![one.clone()],
            _ => vec![Map::new()],
        };
        let methods = methods.and_then(Value::as_object);
        let methods = methods.into_iter().flatten();
        Arc::new(Self {
            name: name.to_owned(),
            methods: methods.map(|(name, value)| (name.clone(), behaviours(value))).collect(),
            calls: Mutex::default(),
        })
    }

    pub(super) fn has(&self, method: &str) -> bool {
        self.methods.contains_key(method)
    }

    /// The behaviour of the next call, and its number.
    fn next(&self, method: &str) -> (usize, Map<String, Value>) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let number = calls.entry(method.to_owned()).or_default();
        *number += 1;
        let behaviours = self.methods.get(method).map_or(&[][..], Vec::as_slice);
        let one = behaviours.get(*number - 1).or(behaviours.last());
        (*number, one.cloned().unwrap_or_default())
    }

    /// Leaves out the behaviour of a call that the original makes and we do not (D01).
    fn skip(&self, method: &str) {
        self.next(method);
    }

    /// Calls a method: what it returns, or what it throws.
    pub(super) async fn call(
        &self,
        world: &Arc<World>,
        method: &str,
        args: Vec<Js>,
    ) -> Result<Js, Fault> {
        world.call(&self.name, method, &args);
        let (number, behaviour) = self.next(method);
        match self.behave(world, &behaviour, &format!("{method}#{number}"), args).await {
            Ok(value) => Ok(value),
            Err(Stop::Fault(fault)) => Err(fault),
            Err(stop) => {
                world.left_out(&format!("{}.{method}#{number}", self.name), &stop);
                Ok(Js::Undefined)
            }
        }
    }

    async fn behave(
        &self,
        world: &Arc<World>,
        behaviour: &Map<String, Value>,
        call: &str,
        args: Vec<Js>,
    ) -> Result<Js, Stop> {
        save(world, behaviour, &args);
        if let Some(list) = behaviour.get("do") {
            let name = |place| format!("{}.{call}/{place}", self.name);
            let steps = scenario::steps(list, name)
                .map_err(|error| Stop::Inapplicable(error.to_string()))?;
            for step in steps {
                run_step(world.clone(), step, args.clone()).await;
            }
        }
        let chosen = choose(behaviour, &args);
        let behaviour = chosen.unwrap_or(behaviour);
        if let Some(gate) = behaviour.get("await").and_then(Value::as_str) {
            world.pass(gate).await?;
        }
        if let Some(thrown) = behaviour.get("throw") {
            let text = thrown.get("msg").and_then(Value::as_str).unwrap_or_default();
            return Err(Fault::new(Kind::Thrown, text).into());
        }
        if let Some(thrown) = behaviour.get("throwRaw") {
            let value = world.value(Some(thrown), &args)?;
            return Err(Fault::new(Kind::Thrown, world.show(&value)).into());
        }
        if behaviour.contains_key("echo") {
            return Ok(args.get(1).cloned().unwrap_or(Js::Undefined));
        }
        match world.value(behaviour.get("ret"), &args)? {
            Js::Gate(gate) => Ok(world.pass(&gate).await?),
            value => Ok(value),
        }
    }

    /// Calls a method that nobody waits for, for what it saves.
    pub(super) fn call_at_once(&self, world: &Arc<World>, method: &str, args: &[Js]) {
        world.call(&self.name, method, args);
        save(world, &self.next(method).1, args);
    }
}

fn save(world: &World, behaviour: &Map<String, Value>, args: &[Js]) {
    let Some(save) = behaviour.get("save") else { return };
    let place = save.get("i").and_then(Value::as_u64).and_then(|place| usize::try_from(place).ok());
    let value = place.and_then(|place| args.get(place)).cloned().unwrap_or(Js::Undefined);
    if let Some(name) = save.get("as").and_then(Value::as_str) {
        world.name(name, value);
    }
}

fn choose<'a>(behaviour: &'a Map<String, Value>, args: &[Js]) -> Option<&'a Map<String, Value>> {
    let by = behaviour.get("by")?;
    let place = usize::try_from(by.get("i")?.as_u64()?).ok()?;
    let key = match args.get(place)? {
        Js::Text(text) => text.as_str(),
        _ => "",
    };
    by.get("map").and_then(|map| map.get(key)).or_else(|| by.get("else"))?.as_object()
}

/// A connection handler of a scenario.
pub(super) enum Handling {
    /// Does what the scenario says.
    Scripted(Arc<World>, Arc<Script>),
    /// The handler of an echo kit.
    Echo,
}

impl Handling {
    /// The handler that a value is.
    pub(super) fn of(world: &Arc<World>, handler: &Js) -> Option<Self> {
        match handler {
            Js::Handler(script) => Some(Self::Scripted(world.clone(), script.clone())),
            Js::EchoHandler(_) => Some(Self::Echo),
            _ => None,
        }
    }

    async fn call(&self, connection: &Connection, method: &str, rest: [Js; 2]) -> Option<Outcome> {
        let Self::Scripted(world, script) = self else { return None };
        if !script.has(method) {
            return None;
        }
        let [second, last] = rest;
        let mut args = vec![Js::Connection(connection.clone()), second];
        match method {
            "onReceive" => args.extend([Js::Handler(script.clone()), last]),
            "onClose" => args.push(Js::Handler(script.clone())),
            _ => args.extend([last, Js::Handler(script.clone())]),
        }
        Some(script.call(world, method, args).await)
    }
}

type Outcome = Result<Js, Fault>;

impl ConnectionHandler for Handling {
    async fn on_open(&self, connection: &Connection) {
        let Self::Scripted(world, _) = self else { return };
        let local = world.text(connection.local_endpoint());
        let remote = world.text(connection.remote_endpoint());
        // What the method throws, nobody hears (N02).
        let _ = self.call(connection, "onOpen", [local, remote]).await;
    }

    async fn on_receive(&self, connection: &Connection, record: Bytes) -> Result<Bytes, Refusal> {
        let Self::Scripted(world, _) = self else { return Ok(record) };
        let packet = Js::Text(super::js::latin1(&record));
        match self.call(connection, "onReceive", [packet, Js::Undefined]).await {
            None => ().on_receive(connection, record).await,
            Some(Err(fault)) => Err(Refusal::new(fault.text)),
            Some(Ok(ack)) => as_ack(world, &ack),
        }
    }

    async fn on_close(&self, connection: &Connection, reason: &CloseReason) {
        let reason = Js::Text(format!("{reason:?}"));
        // As above.
        let _ = self.call(connection, "onClose", [reason, Js::Undefined]).await;
    }
}

fn as_ack(world: &World, ack: &Js) -> Result<Bytes, Refusal> {
    match ack {
        Js::Undefined | Js::Null => Ok(Bytes::new()),
        Js::Text(text) => octets(text).map_err(|char| {
            Refusal::new(format!("character cannot be coerced to an octet: {char}"))
        }),
        Js::Bytes(bytes) => Ok(Bytes::from(bytes.clone())),
        other => {
            world.inapplicable(format!("an ack that is {}: acks are bytes", other.kind()));
            Ok(Bytes::new())
        }
    }
}

/// A listener that does what a scenario says.
pub(super) struct ScriptedListener {
    pub(super) world: Arc<World>,
    pub(super) script: Arc<Script>,
}

/// Has no method at all, to answer as the trait does where the script has none.
pub(super) struct Bare;

impl ListenHandler for Bare {}

impl ScriptedListener {
    async fn call(&self, port: &Port, method: &str, attempt: Option<&Attempt>) -> Option<Outcome> {
        if !self.script.has(method) {
            return None;
        }
        let mut args = vec![Js::Port(port.clone())];
        if let Some(attempt) = attempt {
            args.extend(
                [&attempt.local, &attempt.remote].map(|endpoint| self.world.text(endpoint)),
            );
        }
        args.push(Js::Listener(self.script.clone()));
        Some(self.script.call(&self.world, method, args).await)
    }
}

impl ListenHandler for ScriptedListener {
    async fn on_listen(&self, port: &Port) -> Result<(), Refusal> {
        match self.call(port, "onListen", None).await {
            Some(Err(fault)) => Err(Refusal::new(fault.text)),
            _ => Ok(()),
        }
    }

    async fn on_accept(&self, port: &Port, attempt: &Attempt) -> Result<AnyHandler, Refusal> {
        super::backend::accepting(&self.world, port, attempt);
        match self.call(port, "onAccept", Some(attempt)).await {
            None => {
                let declined = Bare.on_accept(port, attempt).await;
                if let Err(refusal) = &declined {
                    self.world.declines_by_default(refusal);
                }
                declined
            }
            Some(Err(fault)) => {
                if super::backend::asks_twice(&self.world, port, attempt) {
                    self.script.skip("onAccept");
                }
                Err(Refusal::new(fault.text))
            }
            Some(Ok(handler)) => any_handler(&self.world, &handler),
        }
    }

    async fn on_reject(&self, port: &Port, attempt: &Attempt) {
        // Nobody hears what it throws (N02).
        let _ = self.call(port, "onReject", Some(attempt)).await;
    }

    async fn on_error(&self, port: &Port, error: &str) {
        let args = vec![Js::Port(port.clone()), Js::Text(error.to_owned())];
        if self.script.has("onError") {
            let _ = self.script.call(&self.world, "onError", args).await;
        }
    }

    async fn on_remove(&self, port: &Port) {
        let _ = self.call(port, "onRemove", None).await;
    }
}

/// The handler that a listener returned.
fn any_handler(world: &Arc<World>, handler: &Js) -> Result<AnyHandler, Refusal> {
    match Handling::of(world, handler) {
        Some(handling) => Ok(handling.into()),
        None => {
            let what = handler.kind();
            world.inapplicable(format!("a handler that is {what}: `on_accept` returns a handler"));
            Err(Refusal::new(what))
        }
    }
}
