//! What each step does on our API.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use network_core::SendOptions;
use network_loopback::Loopback;
use serde_json::Value;

use super::{
    backend::{Backend, What},
    bridge,
    event::{Event, Kind},
    faults,
    inbound::network_builder,
    js::Js,
    making,
    pure::pure,
    router::Router,
    scenario::Step,
    script::{Handling, Script, ScriptedListener},
    world::{Dialing, Stop, World, fault},
};

/// Does a step and writes down what came of it.
pub(super) fn run_step(
    world: Arc<World>,
    step: Step,
    args: Vec<Js>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let doing = Doing { world: &world, step: &step, args: &args };
        let outcome = doing.run().await;
        let (id, op) = (step.id.clone(), step.op.clone());
        match outcome {
            Ok(None) => {}
            Ok(Some(value)) => {
                if let Some(name) = step.fields.get("as").and_then(Value::as_str) {
                    world.name(name, value.clone());
                }
                let value = world.show(&value);
                world.see(Event::Returned { step: id, op, value });
            }
            Err(Stop::Fault(fault)) => world.see(Event::Failed { step: id, op, fault }),
            Err(stop) => world.left_out(&id, &stop),
        }
        world.settled(&step.id);
    })
}

/// A step that is being done.
pub(super) struct Doing<'a> {
    pub(super) world: &'a Arc<World>,
    pub(super) step: &'a Step,
    args: &'a [Js],
}

/// What a step returns: `None` if traces do not tell of it.
pub(super) type Done = Result<Option<Js>, Stop>;

impl Doing<'_> {
    async fn run(&self) -> Done {
        match self.step.op.as_str() {
            "loopback" | "protocolHandler" | "handler" | "listener" | "echoKit" | "protocol"
            | "routerProtocol" | "router" | "allocator" => self.make(),
            "ibc" => {
                let name = self.text("as")?;
                let what = What::Ibc(bridge::start(self.world, &name, self.step).await?);
                self.world.name(&name, Js::Backend(Arc::new(Backend { name: name.clone(), what })));
                Ok(None)
            }
            "bridge" => {
                let on = self.object("ibc")?;
                let event = self.step.fields.get("event").unwrap_or(&Value::Null);
                match &on {
                    Js::Backend(backend) => match &backend.what {
                        What::Ibc(ibc) => bridge::event(self.world, ibc, event).await.map(Some),
                        _ => Err(untyped(&on)),
                    },
                    _ => Err(untyped(&on)),
                }
            }
            "settle" => Ok(None),
            "resolve" => {
                let value = self.field("value")?;
                self.world.open(&self.text("gate")?, Ok(value));
                Ok(None)
            }
            "reject" => {
                let error = self.field("error")?;
                let text = match &error {
                    Js::Record(map) => map.get("msg").cloned().unwrap_or(Js::Undefined),
                    other => other.clone(),
                };
                let text = match text {
                    Js::Text(text) => text,
                    other => self.world.show(&other),
                };
                let thrown = super::event::Fault::new(Kind::Thrown, text);
                self.world.open(&self.text("gate")?, Err(thrown));
                Ok(None)
            }
            "pure" => {
                let Js::List(args) = self.field("args")? else {
                    return Err(Stop::Inapplicable("`args` is no list".to_owned()));
                };
                pure(&self.text("fn")?, &args).map(Some)
            }
            "call" => self.call().await,
            op => {
                let fields = |name: &str| self.field_of(op, name);
                self.operate(op, &fields).await
            }
        }
    }

    /// A generic call, by the operation that it is.
    async fn call(&self) -> Done {
        let on = self.object("on")?;
        let Js::List(args) = self.field("args")? else {
            return Err(Stop::Inapplicable("`args` is no list".to_owned()));
        };
        let method = self.text("method")?;
        let called = making::operation_of(&on, &method, args)?;
        let fields = |name: &str| Ok(called.field(name));
        self.operate(called.op, &fields).await
    }

    /// One operation, whose arguments `get` knows.
    async fn operate(&self, op: &str, get: &Get<'_>) -> Done {
        let world = self.world;
        let done = |()| Some(Js::Undefined);
        match op {
            "getLocalAddress" => {
                let of = get("of")?;
                world.local_address(&of).map(Some).ok_or_else(|| untyped(&of))
            }
            "getRemoteAddress" => {
                let of = get("of")?;
                world.remote_address(&of).map(Some).ok_or_else(|| untyped(&of))
            }
            "bind" => self.bind(get("on")?, &get("addr")?).await,
            "implBind" => self.bind(get("impl")?, &get("addr")?).await,
            "allocate" => self.allocate(get).await,
            "addListener" => self.add_listener(get).await.map(done),
            "removeListener" => self.remove_listener(get).await.map(done),
            "connect" => self.connect(get).await,
            "revoke" => {
                let Js::Port(port) = get("port")? else { return Err(untyped(&get("port")?)) };
                port.revoke().await.map(done).map_err(|error| faults::of_revoke(&error))
            }
            "send" => self.send(get).await,
            "close" => {
                let Js::Connection(connection) = get("conn")? else {
                    return Err(untyped(&get("conn")?));
                };
                connection.close().await;
                Ok(Some(Js::Undefined))
            }
            "inbound" => self.inbound(get).await,
            "accept" => self.accept(get).await,
            "closeAttempt" => {
                let Js::Attempt(attempt) = get("attempt")? else {
                    return Err(untyped(&get("attempt")?));
                };
                // Given up before core knows of it: there is nobody to tell.
                if attempt.use_up() {
                    Ok(Some(Js::Undefined))
                } else {
                    Err(fault(Kind::AttemptOver, "the attempt was used up"))
                }
            }
            "register"
            | "unregister"
            | "getRoutes"
            | "registerProtocolHandler"
            | "unregisterProtocolHandler" => self.route(op, get),
            other => Err(Stop::Inapplicable(format!("unknown op {other}"))),
        }
    }

    async fn bind(&self, on: Js, addr: &Js) -> Done {
        let network = match &on {
            Js::Network(network) => network,
            Js::Impl(attachment) => &attachment.network,
            other => return Err(untyped(other)),
        };
        let Js::Text(address) = addr else { return Err(untyped(addr)) };
        let endpoint = self.world.endpoint(address)?;
        self.take_port(network.bind(endpoint).await.map_err(|error| faults::of_bind(&error)))
    }

    /// A port, and where its name is bound already the one that has it: what a program keeps
    /// that binds a name once (D35).
    pub(super) fn take_port(&self, bound: Result<network_core::Port, faults::BindFault>) -> Done {
        match bound {
            Ok(port) => {
                self.world.bound(&port);
                Ok(Some(Js::Port(port)))
            }
            Err(failed) => {
                let held = failed.held.and_then(|endpoint| self.world.port_at(&endpoint));
                let name = self.step.fields.get("as").and_then(Value::as_str);
                if let (Some(port), Some(name)) = (held, name) {
                    self.world.name(name, Js::Port(port));
                }
                Err(failed.fault.into())
            }
        }
    }

    async fn add_listener(&self, get: &Get<'_>) -> Result<(), Stop> {
        let Js::Port(port) = get("port")? else { return Err(untyped(&get("port")?)) };
        let listener = get("listener")?;
        let before = self.world.set_listener(&port, Some(listener.clone()));
        let outcome = match &listener {
            Js::Listener(script) => {
                let (world, script) = (self.world.clone(), script.clone());
                port.listen(ScriptedListener { world, script }).await
            }
            Js::EchoListener(_) => {
                port.listen(network_core::accept_fn(|_| async { Ok(Handling::Echo.into()) })).await
            }
            other => {
                self.world.set_listener(&port, before);
                return Err(untyped(other));
            }
        };
        outcome.map_err(|error| {
            self.world.set_listener(&port, before);
            faults::of_listen(&error)
        })
    }

    async fn remove_listener(&self, get: &Get<'_>) -> Result<(), Stop> {
        let Js::Port(port) = get("port")? else { return Err(untyped(&get("port")?)) };
        let (named, held) = (get("listener")?, self.world.listener_of(&port));
        if !matches!(named, Js::Listener(_) | Js::EchoListener(_)) {
            return Err(untyped(&named));
        }
        // A program that holds another listener does not stop this one (N12).
        if held.is_some_and(|held| self.world.show(&held) != self.world.show(&named)) {
            return Err(fault(Kind::NoListener, "the port has another listener"));
        }
        let outcome = port.unlisten().await.map_err(|error| faults::of_listen(&error));
        if outcome.is_ok() {
            self.world.set_listener(&port, None);
        }
        outcome
    }

    async fn connect(&self, get: &Get<'_>) -> Done {
        let Js::Port(port) = get("port")? else { return Err(untyped(&get("port")?)) };
        let Js::Text(to) = get("to")? else { return Err(untyped(&get("to")?)) };
        let handler = get("handler")?;
        let remote = self.world.endpoint(&to)?;
        let local = port.local_endpoint().clone();
        let dialing = Dialing { local, remote: remote.clone(), handler: handler.clone() };
        self.world.dials(dialing);
        let opened = match (&handler, Handling::of(self.world, &handler)) {
            (Js::Undefined, _) => port.connect(remote, ()).await,
            (_, Some(handling)) => port.connect(remote, handling).await,
            (other, None) => return Err(untyped(other)),
        };
        match opened {
            Ok(connection) => Ok(Some(Js::Connection(connection))),
            Err(error) => Err(faults::of_connect(self.world, &error)),
        }
    }

    async fn send(&self, get: &Get<'_>) -> Done {
        let Js::Connection(connection) = get("conn")? else { return Err(untyped(&get("conn")?)) };
        let data = get("data")?;
        let options = options(&get("opts")?)?;
        let record = match data.octets() {
            None => return Err(untyped(&data)),
            Some(Err(char)) => return Err(fault(Kind::NoOctet, char)),
            Some(Ok(record)) => record,
        };
        match connection.send_with(record, options).await {
            Ok(ack) => Ok(Some(Js::Text(super::js::latin1(&ack)))),
            Err(error) => Err(faults::of_send(&error)),
        }
    }

    async fn inbound(&self, get: &Get<'_>) -> Done {
        let Js::Impl(attachment) = get("impl")? else { return Err(untyped(&get("impl")?)) };
        let (Js::Text(listen), Js::Text(remote)) = (get("listen")?, get("remote")?) else {
            return Err(Stop::Untyped("an address that is no string".to_owned()));
        };
        let attempt = attachment.inbound(self.world, &listen, &remote).await?;
        Ok(Some(Js::Attempt(Arc::new(attempt))))
    }

    async fn accept(&self, get: &Get<'_>) -> Done {
        let Js::Attempt(attempt) = get("attempt")? else { return Err(untyped(&get("attempt")?)) };
        let handler = get("handler")?;
        let handler = Handling::of(self.world, &handler).ok_or_else(|| untyped(&handler))?;
        let address = |name: &str, default: &network_core::Endpoint| match get(name)? {
            Js::Undefined => Ok(default.clone()),
            Js::Text(text) => self.world.endpoint(&text),
            other => Err(untyped(&other)),
        };
        let local = address("localAddress", &attempt.local)?;
        let remote = address("remoteAddress", &attempt.remote)?;
        if !attempt.use_up() {
            return Err(fault(Kind::AttemptOver, "the attempt was used up"));
        }
        making::accept(self.world, &attempt.acceptor, local, remote, handler).await.map(Some)
    }

    /// A field of an operation: an object where one is meant, else a value.
    fn field_of(&self, op: &str, name: &str) -> Result<Js, Stop> {
        let object = match name {
            "of" | "on" | "port" | "listener" | "handler" | "conn" | "impl" | "attempt" => true,
            "router" | "protocol" => true,
            _ => op == "unregisterProtocolHandler" && name == "handler",
        };
        if object { self.object(name) } else { self.field(name) }
    }

    pub(super) fn field(&self, name: &str) -> Result<Js, Stop> {
        self.world.value(self.step.fields.get(name), self.args)
    }

    pub(super) fn object(&self, name: &str) -> Result<Js, Stop> {
        self.world.object(self.step.fields.get(name), self.args)
    }

    pub(super) fn text(&self, name: &str) -> Result<String, Stop> {
        match self.field(name)? {
            Js::Text(text) => Ok(text),
            other => Err(untyped(&other)),
        }
    }

    /// Makes a thing and gives it the name in `as`.
    fn make(&self) -> Done {
        let name = self.text("as")?;
        let made = match self.step.op.as_str() {
            "loopback" => {
                let prefix = match self.field("prefix")? {
                    Js::Text(prefix) => prefix,
                    _ => "nonce/".to_owned(),
                };
                let loopback = Loopback::new().with_instance_prefix(&prefix);
                let spy = matches!(self.field("spy")?, Js::Bool(true));
                let what = What::Loopback { loopback, prefix, spy };
                Js::Backend(Arc::new(Backend { name: name.clone(), what }))
            }
            "protocolHandler" => {
                let what = What::Scripted(Script::new(&name, self.step.fields.get("methods")));
                Js::Backend(Arc::new(Backend { name: name.clone(), what }))
            }
            "handler" => Js::Handler(Script::new(&name, self.step.fields.get("methods"))),
            "listener" => Js::Listener(Script::new(&name, self.step.fields.get("methods"))),
            "echoKit" => {
                let (handler, listener) = (format!("{name}.handler"), format!("{name}.listener"));
                self.world.name(&handler, Js::EchoHandler(handler.clone()));
                self.world.name(&listener, Js::EchoListener(listener.clone()));
                return Ok(None);
            }
            "allocator" => {
                let Js::Network(network) = self.object("protocol")? else {
                    return Err(Stop::Untyped("an allocator of no protocol".to_owned()));
                };
                Js::Allocator(network.allocator())
            }
            kind => {
                let network = network_builder().build();
                let network = network.map_err(|error| fault(Kind::Other, error))?;
                match kind {
                    "protocol" => {
                        self.attach(&network, &name)?;
                        Js::Network(network)
                    }
                    "router" => Js::Router(Arc::new(Router::new(network))),
                    _ => Js::Network(network),
                }
            }
        };
        self.world.name(&name, made);
        Ok(None)
    }
}

/// Finds an argument by its name.
pub(super) type Get<'a> = dyn Fn(&str) -> Result<Js, Stop> + Send + Sync + 'a;

pub(super) fn untyped(value: &Js) -> Stop {
    Stop::Untyped(value.kind().to_owned())
}

fn options(opts: &Js) -> Result<SendOptions, Stop> {
    let none = SendOptions::default();
    let Js::Record(map) = opts else {
        return if matches!(opts, Js::Undefined) { Ok(none) } else { Err(untyped(opts)) };
    };
    match map.get("relativeTimeoutNs") {
        None | Some(Js::Undefined) => Ok(none),
        Some(Js::BigInt(digits)) => {
            let nanos = digits.parse().map_err(|_| untyped(opts))?;
            Ok(none.with_timeout(Duration::from_nanos(nanos)))
        }
        Some(other) => Err(untyped(other)),
    }
}
