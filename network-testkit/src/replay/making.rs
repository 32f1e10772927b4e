//! Parts of steps: routes and backends, ports of an allocator, generic calls, attempts.

use std::{collections::BTreeMap, sync::Arc};

use network_core::{Acceptor, Endpoint, Network};

use super::{
    backend::{Backend, Replayed, What},
    event::Kind,
    faults, inbound,
    js::Js,
    router,
    script::Handling,
    steps::{Doing, Done, Get, untyped},
    world::{Registered, Stop, World, fault},
};

impl Doing<'_> {
    /// Makes the network of a protocol: everything goes to one backend.
    pub(super) fn attach(&self, network: &Network, name: &str) -> Result<(), Stop> {
        let handler = self.object("handler")?;
        let Js::Backend(backend) = &handler else { return Err(untyped(&handler)) };
        let patterns = self.world.addresses.everything();
        let replayed = replayed(self.world, network, backend, patterns)?;
        let guard = network.register(replayed).map_err(|error| fault(Kind::Other, error))?;
        let (network, backend) = (name.to_owned(), backend.name.clone());
        self.world.register(Registered { network, backend, prefixes: Vec::new(), guard });
        Ok(())
    }

    pub(super) async fn allocate(&self, get: &Get<'_>) -> Done {
        let Js::Allocator(allocator) = get("on")? else { return Err(untyped(&get("on")?)) };
        let name = match get("name")? {
            Js::Undefined => None,
            Js::Text(name) => Some(name),
            other => return Err(untyped(&other)),
        };
        let bound = match self.word("method", get)?.as_str() {
            "allocateCustomIBCPort" => allocator.custom_ibc_port(name.as_deref()).await,
            "allocateCustomLocalPort" => allocator.custom_local_port(name.as_deref()).await,
            "allocateICAControllerPort" => allocator.ica_controller_port().await,
            "allocateICQControllerPort" => allocator.icq_controller_port().await,
            other => return Err(Stop::Inapplicable(format!("unknown method {other}"))),
        };
        self.take_port(bound.map_err(|error| faults::of_allocate(&error)))
    }

    /// The steps about routers.
    pub(super) fn route(&self, op: &str, get: &Get<'_>) -> Done {
        let addresses = &self.world.addresses;
        match (get("router")?, op) {
            (Js::Router(router), "register") => {
                router.register(addresses, &self.word("prefix", get)?, get("route")?)?;
            }
            (Js::Router(router), "unregister") => {
                let route = self.world.show(&get("route")?);
                let show = |route: &Js| self.world.show(route);
                router.unregister(&self.word("prefix", get)?, &route, show)?;
            }
            (Js::Router(router), "getRoutes") => {
                let addr = self.word("addr", get)?;
                let endpoint = self.world.endpoint(&addr)?;
                return Ok(Some(Js::List(router.matching(&endpoint))));
            }
            (Js::Network(network), "registerProtocolHandler") => {
                self.register_backend(&network, get)?;
            }
            (Js::Network(_), "unregisterProtocolHandler") => {
                let handler = get("handler")?;
                let Js::Backend(backend) = &handler else { return Err(untyped(&handler)) };
                let prefix = self.word("prefix", get)?;
                if !self.world.unregister(&self.router_name(), &backend.name, &prefix) {
                    return Err(fault(Kind::NotRegistered, "nobody holds such a guard"));
                }
            }
            (other, _) => return Err(untyped(&other)),
        }
        Ok(Some(Js::Undefined))
    }

    fn register_backend(&self, network: &Network, get: &Get<'_>) -> Result<(), Stop> {
        let paths = match get("paths")? {
            Js::List(paths) => paths,
            other => return Err(untyped(&other)),
        };
        let mut prefixes = Vec::new();
        for path in &paths {
            let Js::Text(path) = path else { return Err(untyped(path)) };
            prefixes.push(path.clone());
        }
        let handler = get("handler")?;
        let Js::Backend(backend) = &handler else { return Err(untyped(&handler)) };
        let pattern = |prefix: &String| {
            let pattern = self.world.addresses.pattern(prefix);
            pattern.map_err(|error| fault(Kind::BadEndpoint, error))
        };
        let patterns = prefixes.iter().map(pattern).collect::<Result<_, _>>()?;
        let replayed = replayed(self.world, network, backend, patterns)?;
        let guard = network.register(replayed).map_err(router::taken)?;
        let (network, backend) = (self.router_name(), backend.name.clone());
        self.world.register(Registered { network, backend, prefixes, guard });
        Ok(())
    }

    fn router_name(&self) -> String {
        let name = self.step.fields.get("router").or_else(|| self.step.fields.get("on"));
        name.and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
    }

    fn word(&self, name: &str, get: &Get<'_>) -> Result<String, Stop> {
        match get(name)? {
            Js::Text(text) => Ok(text),
            other => Err(untyped(&other)),
        }
    }
}

/// A backend for a network, and the name that a spy gives what it can call the network by.
fn replayed(
    world: &Arc<World>,
    network: &Network,
    backend: &Arc<Backend>,
    patterns: Vec<network_core::RoutePattern>,
) -> Result<Replayed, Stop> {
    let replayed = Replayed::new(world, network, backend, patterns);
    if matches!(backend.what, What::Loopback { spy: true, .. }) {
        world.name(&format!("{}.impl", backend.name), Js::Impl(replayed.attachment()));
    }
    Ok(replayed)
}

/// Hands an attempt from outside to core: the result is the far end.
pub(super) async fn accept(
    world: &Arc<World>,
    acceptor: &Acceptor,
    local: Endpoint,
    remote: Endpoint,
    handler: Handling,
) -> Result<Js, Stop> {
    world.comes_from_outside(&local, &remote);
    let to = Some((acceptor.clone(), local.clone()));
    let lost = || fault(Kind::Other, "no far end");
    let (there, _) = inbound::elsewhere(world.addresses.everything(), to).ok_or_else(lost)?;
    let port = there.bind(&remote).await.map_err(|error| fault(Kind::Other, error))?;
    world.keep(there);
    match port.connect(&local, handler).await {
        Ok(connection) => Ok(Js::Connection(connection)),
        Err(error) => Err(faults::of_connect(world, &error)),
    }
}

/// An operation that a generic call is.
pub(super) struct Called {
    pub(super) op: &'static str,
    fields: BTreeMap<&'static str, Js>,
}

impl Called {
    pub(super) fn field(&self, name: &str) -> Js {
        self.fields.get(name).cloned().unwrap_or(Js::Undefined)
    }
}

/// What a call of a method is, by the kind of its object.
pub(super) fn operation_of(on: &Js, method: &str, args: Vec<Js>) -> Result<Called, Stop> {
    let (op, on_field, names): (_, _, &[&'static str]) = match (on, method) {
        (Js::Port(_) | Js::Connection(_) | Js::Attempt(_), "getLocalAddress") => {
            ("getLocalAddress", "of", &[])
        }
        (Js::Connection(_) | Js::Attempt(_), "getRemoteAddress") => ("getRemoteAddress", "of", &[]),
        (Js::Port(_), "addListener") => ("addListener", "port", &["listener"]),
        (Js::Port(_), "removeListener") => ("removeListener", "port", &["listener"]),
        (Js::Port(_), "connect") => ("connect", "port", &["to", "handler"]),
        (Js::Port(_), "revoke") => ("revoke", "port", &[]),
        (Js::Connection(_), "send") => ("send", "conn", &["data", "opts"]),
        (Js::Connection(_), "close") => ("close", "conn", &[]),
        (Js::Attempt(_), "close") => ("closeAttempt", "attempt", &[]),
        (Js::Attempt(_), "accept") => {
            let Some(Js::Record(options)) = args.into_iter().next() else {
                return Err(Stop::Untyped("an accept without options".to_owned()));
            };
            let mut fields = BTreeMap::from([("attempt", on.clone())]);
            for name in ["handler", "localAddress", "remoteAddress"] {
                if let Some(value) = options.get(name) {
                    fields.insert(name, value.clone());
                }
            }
            return Ok(Called { op: "accept", fields });
        }
        (Js::Network(_), "bindPort" | "bind") => ("bind", "on", &["addr"]),
        (Js::Impl(_), "bindPort" | "bind") => ("implBind", "impl", &["addr"]),
        (Js::Impl(_), "inbound") => ("inbound", "impl", &["listen", "remote"]),
        (Js::Router(_), "register") => ("register", "router", &["prefix", "route"]),
        (Js::Router(_), "unregister") => ("unregister", "router", &["prefix", "route"]),
        (Js::Router(_), "getRoutes") => ("getRoutes", "router", &["addr"]),
        (Js::Allocator(_), method) => {
            let name = args.into_iter().next().unwrap_or(Js::Undefined);
            let fields = [("on", on.clone()), ("method", Js::Text(method.to_owned()))];
            let mut fields = BTreeMap::from(fields);
            fields.insert("name", name);
            return Ok(Called { op: "allocate", fields });
        }
        (on, method) => {
            let kind = on.kind();
            return Err(Stop::Inapplicable(format!("no counterpart of {method} of {kind}")));
        }
    };
    let mut fields = BTreeMap::from([(on_field, on.clone())]);
    fields.extend(names.iter().copied().zip(args));
    Ok(Called { op, fields })
}
