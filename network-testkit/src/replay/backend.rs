//! The backends of a scenario: loopback, and ones that a scenario describes.
//!
//! The original calls a backend by other methods than we do. What is written down of a call
//! is what the backend is asked at that moment, in the original's words: `patterns` is
//! `onCreate`, `bind` is `generatePortID` and `onBind`, `listen` is `onListen`, `unlisten` is
//! `onListenRemove`, `revoke` is `onRevoke`. A connect is one call here, and there one
//! `onInstantiate` for each end, and `onConnect` where nobody listens.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use network_core::{
    Acceptor, Attempt, BackendError, Capabilities, ConnectError, Connection, Dial, Endpoint,
    Network, Port, ProtocolImpl, Rejection, RoutePattern, accept_fn,
};
use network_loopback::Loopback;

use super::{
    bridge,
    chain::{Ibc, Meaning},
    event::{Fault, Kind},
    inbound,
    js::Js,
    script::{Handling, Script},
    world::World,
};

/// A protocol handler of a scenario.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) name: String,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    Loopback {
        loopback: Loopback,
        prefix: String,
        /// Whether calls are written down.
        spy: bool,
    },
    Scripted(Arc<Script>),
    /// A host of IBC.
    Ibc(Ibc),
}

/// A backend in one network.
#[derive(Debug)]
pub(super) struct Attachment {
    pub(super) network: Network,
    backend: Arc<Backend>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bound: BTreeSet<Endpoint>,
    listening: BTreeMap<Endpoint, Acceptor>,
    /// How many instance numbers of a loopback the original would have used up.
    instances: u64,
}

/// What a method of the scenario threw.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Thrown(pub(super) String);

/// What an error of a backend's means.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", .0.text)]
pub(super) struct Meant(pub(super) Fault);

/// A backend of a scenario, as core takes it.
pub(super) struct Replayed {
    world: Arc<World>,
    patterns: Vec<RoutePattern>,
    attachment: Arc<Attachment>,
}

impl Replayed {
    pub(super) fn new(
        world: &Arc<World>,
        network: &Network,
        backend: &Arc<Backend>,
        patterns: Vec<RoutePattern>,
    ) -> Self {
        let attachment = Arc::new(Attachment {
            network: network.clone(),
            backend: backend.clone(),
            state: Mutex::default(),
        });
        world.attached(&attachment);
        Self { world: world.clone(), patterns, attachment }
    }

    pub(super) fn attachment(&self) -> Arc<Attachment> {
        self.attachment.clone()
    }

    fn what(&self) -> &What {
        &self.attachment.backend.what
    }

    fn port(&self, endpoint: &Endpoint) -> Js {
        match self.world.port_at(endpoint) {
            Some(port) => Js::Port(port),
            None => Js::Shown(format!("port({})", self.world.addresses.decode(endpoint))),
        }
    }

    /// Calls a method: writes it down, and does what a scenario says.
    async fn call(&self, method: &str, mut args: Vec<Js>) -> Result<Js, Thrown> {
        args.push(Js::Backend(self.attachment.backend.clone()));
        self.attachment.backend.call(&self.world, method, args).await
    }

    /// Whether a scenario has the method, or hears of it.
    fn has(&self, method: &str) -> bool {
        match self.what() {
            What::Loopback { spy, .. } => *spy,
            What::Scripted(script) => script.has(method),
            What::Ibc(_) => false,
        }
    }

    async fn tell(&self, method: &str, args: Vec<Js>) -> Result<(), Thrown> {
        if self.has(method) { self.call(method, args).await.map(drop) } else { Ok(()) }
    }

    async fn generate(&self, wanted: &Endpoint) -> Result<Endpoint, BackendError> {
        const TRIES: usize = 1000;
        for _ in 0..TRIES {
            let made = self.call("generatePortID", vec![self.world.text(wanted)]).await?;
            if !wanted.wants_fresh_name() {
                return Ok(wanted.clone());
            }
            let Js::Text(name) = made else {
                return Err(Thrown("`generatePortID` gave no name".to_owned()).into());
            };
            let name = wanted.with_name(&name)?;
            if !self.attachment.state().bound.contains(&name) {
                return Ok(name);
            }
        }
        Err(Thrown("`generatePortID` repeats itself".to_owned()).into())
    }

    /// Asks a host for a port, which it refuses where the scenario's chain does: somebody else has
    /// the name then.
    async fn bind_at_host(&self, ibc: &Ibc, wanted: &Endpoint) -> Result<Endpoint, BackendError> {
        let (host, refused) = (ibc.chain.host(), ibc.fail.get("bindPort"));
        if refused.is_some() {
            let _ = host.bind(wanted).await;
        }
        let bound = host.bind(wanted).await;
        let name = self.world.addresses.decode(bound.as_ref().unwrap_or(wanted));
        let port = name.trim_start_matches("/ibc-port/");
        bridge::down(&self.world, &self.attachment.backend.name, "bindPort", bridge::binding(port));
        bound.map_err(|error| match (ibc.chain.meaning(&error), refused) {
            (Meaning::PortTaken, Some(words)) => Thrown(words.clone()).into(),
            _ => error,
        })
    }

    async fn connect_by_host(&self, ibc: &Ibc, dial: Dial) -> Result<Connection, ConnectError> {
        let outcome = ibc.chain.host().connect(dial).await;
        let Err(ConnectError::Backend { remote, protocol, source }) = outcome else {
            return outcome;
        };
        let text = source.to_string();
        let kind = match (ibc.chain.meaning(&source), ibc.fail.get("startChannelOpenInit")) {
            (Meaning::NoHop, Some(words)) => {
                let source = Thrown(words.clone()).into();
                return Err(ConnectError::Backend { remote, protocol, source });
            }
            (Meaning::Address, _) => Kind::BadEndpoint,
            (Meaning::Hops, _) => Kind::Hops,
            _ => Kind::Other,
        };
        let source = Meant(Fault::new(kind, text)).into();
        Err(ConnectError::Backend { remote, protocol, source })
    }

    /// Opens a connection as the original does it for any backend.
    async fn open_scripted(&self, dial: Dial) -> Result<Connection, ConnectError> {
        let Dial { local, remote, seed } = dial;
        let failed = |source: BackendError| ConnectError::Backend {
            remote: remote.clone(),
            protocol: "scripted",
            source,
        };
        let (from, to) =
            (self.world.addresses.decode(&local), self.world.addresses.decode(&remote));
        let instance = self.attachment.instance(&self.world, &local, &from, &to).await;
        if let Ok(near) = instance {
            let here = self.world.addresses.decode(&near);
            if let Some((far, acceptor)) = self.attachment.find(&self.world, &to, &here).await {
                return inbound::open(seed, near, far, acceptor).await;
            }
        }
        // Nobody listens; the backend may know better.
        if !self.has("onConnect") {
            let reason = Rejection::NotListening;
            return Err(ConnectError::Rejected { remote, reason });
        }
        let handler = self.world.dialer(&local, &remote).unwrap_or(Js::Undefined);
        let args = vec![self.port(&local), Js::Text(from), Js::Text(to), handler];
        let made = self.call("onConnect", args).await.map_err(|thrown| failed(thrown.into()))?;
        let Js::Record(made) = made else {
            return Err(failed(Thrown("`onConnect` gave no handler".to_owned()).into()));
        };
        let address = |name: &str, default: &Endpoint| match made.get(name) {
            Some(Js::Text(text)) => {
                self.world.addresses.encode(text).map_err(|error| failed(error.into()))
            }
            _ => Ok(default.clone()),
        };
        let (near, far) = (address("localAddress", &local)?, address("remoteAddress", &remote)?);
        let handler = made.get("handler").cloned().unwrap_or(Js::Undefined);
        let there = self.far_end(&far, handler).await;
        let acceptor = there.ok_or_else(|| failed(Thrown("no far end".to_owned()).into()))?;
        inbound::open(seed, near, far, acceptor).await
    }

    /// Somebody who takes connections at `endpoint`, in a network of its own.
    async fn far_end(&self, endpoint: &Endpoint, handler: Js) -> Option<Acceptor> {
        let (network, listening) = inbound::elsewhere(self.world.addresses.everything(), None)?;
        let port = network.bind(endpoint).await.ok()?;
        let world = self.world.clone();
        let listener = accept_fn(move |_| {
            let handling = Handling::of(&world, &handler);
            async move { Ok(handling.map_or_else(|| ().into(), Into::into)) }
        });
        port.listen(listener).await.ok()?;
        self.world.keep(network);
        listening.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Backend {
    async fn call(&self, world: &Arc<World>, method: &str, args: Vec<Js>) -> Result<Js, Thrown> {
        match &self.what {
            What::Scripted(script) if script.has(method) => {
                script.call(world, method, args).await.map_err(|fault| Thrown(fault.text))
            }
            What::Loopback { spy: true, .. } => {
                world.call(&self.name, method, &args);
                Ok(Js::Undefined)
            }
            _ => Ok(Js::Undefined),
        }
    }
}

impl Attachment {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The endpoint of one end of a connection: its address, with an instance behind it.
    async fn instance(
        &self,
        world: &Arc<World>,
        port: &Endpoint,
        local: &str,
        remote: &str,
    ) -> Result<Endpoint, Thrown> {
        let name = world.addresses.decode(port);
        let port = world.port_at(port).map_or(Js::Undefined, Js::Port);
        let mut args = vec![port, Js::Text(name), Js::Text(remote.to_owned())];
        args.push(Js::Backend(self.backend.clone()));
        let made = self.backend.call(world, "onInstantiate", args).await?;
        let instance = match (&self.backend.what, made) {
            (What::Loopback { prefix, .. }, _) => {
                let mut state = self.state();
                state.instances += 1;
                format!("{prefix}{}", state.instances)
            }
            (_, Js::Text(text)) => text,
            _ => String::new(),
        };
        let slash = if instance.is_empty() { "" } else { "/" };
        let text = [local, slash, &instance].concat();
        world.addresses.encode(&text).map_err(|error| Thrown(error.to_string()))
    }

    /// Who listens for `address`: by the longest listening name that the backend makes an
    /// instance for.
    async fn find(
        &self,
        world: &Arc<World>,
        address: &str,
        remote: &str,
    ) -> Option<(Endpoint, Acceptor)> {
        let wanted = world.addresses.encode(address).ok()?;
        let mut passed_over = false;
        for prefix in wanted.prefixes() {
            let Some((port, acceptor)) = self.listening(prefix) else { continue };
            match self.instance(world, &port, address, remote).await {
                Ok(_) if passed_over => {
                    world.inapplicable("core finds the listener, a backend cannot pass one over");
                    return None;
                }
                Ok(endpoint) => return Some((endpoint, acceptor)),
                Err(_) => passed_over = true,
            }
        }
        None
    }

    fn listening(&self, name: &str) -> Option<(Endpoint, Acceptor)> {
        let state = self.state();
        state.listening.get_key_value(name).map(|(port, acceptor)| (port.clone(), acceptor.clone()))
    }

    /// What the original calls `inbound`: an attempt from outside, which nobody decides over
    /// before it is accepted.
    pub(super) async fn inbound(
        &self,
        world: &Arc<World>,
        listen: &str,
        remote: &str,
    ) -> Result<inbound::Inbound, Fault> {
        let remote_endpoint = world.addresses.encode(remote);
        let remote_endpoint =
            remote_endpoint.map_err(|error| Fault::new(Kind::BadEndpoint, error.to_string()))?;
        let found = self.find(world, listen, remote).await;
        let (local, acceptor) = found
            .ok_or_else(|| Fault::new(Kind::NotListening, format!("nobody listens at {listen}")))?;
        Ok(inbound::Inbound { local, remote: remote_endpoint, acceptor, open: Mutex::new(true) })
    }
}

/// Writes down what a spied loopback has made for an attempt, as the listener learns it.
pub(super) fn accepting(world: &Arc<World>, port: &Port, attempt: &Attempt) {
    let Some(attachment) = attachment_of(world, port) else { return };
    let spied = matches!(attachment.backend.what, What::Loopback { spy: true, .. });
    if spied && !world.is_from_outside(&attempt.local, &attempt.remote) {
        let name = world.text(port.local_endpoint());
        let backend = Js::Backend(attachment.backend.clone());
        let args = [Js::Port(port.clone()), name, world.text(&attempt.remote), backend];
        world.call(&attachment.backend.name, "onInstantiate", &args);
    }
}

/// Whether the original asks the listener again after a decline (D01).
pub(super) fn asks_twice(world: &World, port: &Port, attempt: &Attempt) -> bool {
    let loopback = attachment_of(world, port)
        .is_some_and(|attachment| matches!(attachment.backend.what, What::Loopback { .. }));
    loopback && !world.is_from_outside(&attempt.local, &attempt.remote)
}

fn attachment_of(world: &World, port: &Port) -> Option<Arc<Attachment>> {
    let bound =
        |attachment: &&Arc<Attachment>| attachment.state().bound.contains(port.local_endpoint());
    world.attachments().iter().rev().find(bound).cloned()
}

#[async_trait]
impl ProtocolImpl for Replayed {
    fn name(&self) -> &'static str {
        match self.what() {
            What::Loopback { .. } => "loopback",
            What::Scripted(_) => "scripted",
            What::Ibc(_) => "ibc",
        }
    }

    fn patterns(&self) -> Vec<RoutePattern> {
        let backend = &self.attachment.backend;
        let args = [Js::Impl(self.attachment.clone()), Js::Backend(backend.clone())];
        match self.what() {
            What::Scripted(script) if script.has("onCreate") => {
                script.call_at_once(&self.world, "onCreate", &args);
            }
            What::Loopback { spy: true, .. } => self.world.call(&backend.name, "onCreate", &args),
            _ => {}
        }
        self.patterns.clone()
    }

    fn capabilities(&self) -> Capabilities {
        match self.what() {
            What::Ibc(ibc) => ibc.chain.host().capabilities(),
            _ => Capabilities::IN_PROCESS,
        }
    }

    async fn bind(&self, wanted: &Endpoint) -> Result<Endpoint, BackendError> {
        let name = match self.what() {
            What::Loopback { loopback, .. } => {
                self.tell("generatePortID", vec![self.world.text(wanted)]).await?;
                loopback.bind(wanted).await?
            }
            What::Ibc(ibc) => self.bind_at_host(ibc, wanted).await?,
            _ => self.generate(wanted).await?,
        };
        let text = self.world.text(&name);
        // The port comes to be when this returns.
        let port = Js::Shown(format!("port({})", self.world.addresses.decode(&name)));
        if let Err(thrown) = self.tell("onBind", vec![port, text]).await {
            if let What::Loopback { loopback, .. } = self.what() {
                loopback.revoke(&name).await;
            }
            return Err(thrown.into());
        }
        self.attachment.state().bound.insert(name.clone());
        Ok(name)
    }

    async fn listen(&self, local: &Endpoint, acceptor: Acceptor) -> Result<(), BackendError> {
        let listener = self.world.listener_at(local).unwrap_or(Js::Undefined);
        let args = vec![self.port(local), self.world.text(local), listener];
        self.tell("onListen", args).await?;
        if let What::Loopback { loopback, .. } = self.what() {
            loopback.listen(local, acceptor.clone()).await?;
        }
        if let What::Ibc(ibc) = self.what() {
            ibc.chain.host().listen(local, acceptor.clone()).await?;
        }
        self.attachment.state().listening.insert(local.clone(), acceptor);
        Ok(())
    }

    async fn unlisten(&self, local: &Endpoint) {
        self.attachment.state().listening.remove(local);
        if let What::Loopback { loopback, .. } = self.what() {
            loopback.unlisten(local).await;
        }
        if let What::Ibc(ibc) = self.what() {
            ibc.chain.host().unlisten(local).await;
        }
        let listener = self.world.listener_at(local).unwrap_or(Js::Undefined);
        let args = vec![self.port(local), self.world.text(local), listener];
        // Nobody hears what it throws (N02).
        let _ = self.tell("onListenRemove", args).await;
    }

    async fn connect(&self, dial: Dial) -> Result<Connection, ConnectError> {
        if let What::Ibc(ibc) = self.what() {
            return self.connect_by_host(ibc, dial).await;
        }
        let What::Loopback { loopback, spy, .. } = self.what() else {
            return self.open_scripted(dial).await;
        };
        let (local, remote) = (dial.local.clone(), dial.remote.clone());
        let texts = [self.world.text(&local), self.world.text(&remote)];
        if *spy {
            let mut args = vec![self.port(&local)];
            args.extend(texts.clone());
            self.call("onInstantiate", args).await.map_err(|thrown| ConnectError::Backend {
                remote: remote.clone(),
                protocol: "loopback",
                source: thrown.into(),
            })?;
        }
        let outcome = loopback.connect(dial).await;
        let nobody = Err(Rejection::NotListening);
        let heard = match &outcome {
            Err(ConnectError::Rejected { reason, .. }) => Err(reason.clone()),
            _ => Ok(()),
        };
        // As many as the original uses up (D26), so that attempts from outside have its numbers.
        self.attachment.state().instances += match &heard {
            Ok(()) => 2,
            Err(Rejection::NotListening) => 1,
            Err(_) => 3,
        };
        if *spy && heard == nobody {
            let mut args = vec![self.port(&local)];
            args.extend(texts);
            args.push(self.world.dialer(&local, &remote).unwrap_or(Js::Undefined));
            // A spy throws nothing.
            let _ = self.call("onConnect", args).await;
        }
        outcome
    }

    async fn revoke(&self, local: &Endpoint) {
        {
            let mut state = self.attachment.state();
            state.bound.remove(local);
            state.listening.remove(local);
        }
        if let What::Loopback { loopback, .. } = self.what() {
            loopback.revoke(local).await;
        }
        if let What::Ibc(ibc) = self.what() {
            ibc.chain.host().revoke(local).await;
        }
        let port = Js::Shown(format!("port({})", self.world.addresses.decode(local)));
        // Nobody hears what it throws (D12).
        let _ = self.tell("onRevoke", vec![port, self.world.text(local)]).await;
    }
}

impl fmt::Debug for Replayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Replayed").field(&self.attachment.backend.name).finish()
    }
}
