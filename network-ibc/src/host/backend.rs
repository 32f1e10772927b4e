//! A host as a backend of a network.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use network_core::{
    Acceptor, BackendError, Capabilities, ConnectError, Connection, Dial, Endpoint, ProtocolImpl,
    RoutePattern,
};
use tokio::sync::oneshot;

use super::{
    Host,
    error::HostError,
    inbox::{Command, Inbox, Opening},
};
use crate::{
    address::IbcEndpoint,
    identifier::{ConnectionId, PortId},
};

/// A port, and the one hop that it takes channels from, if it was bound so.
type Bound = (Option<ConnectionId>, PortId);

/// The ports that are bound, and who decides over channels to them.
#[derive(Debug, Default)]
pub(super) struct Ports {
    bound: Mutex<HashMap<Bound, Option<Acceptor>>>,
    /// Those of modules, which nobody binds.
    modules: HashSet<PortId>,
}

impl Ports {
    pub(super) fn new(modules: HashSet<PortId>) -> Self {
        Self { modules, ..Self::default() }
    }

    pub(super) fn is_module(&self, port: &PortId) -> bool {
        self.modules.contains(port)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Bound, Option<Acceptor>>> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who decides over channels to a port from a hop: whoever is bound to both, and then whoever
    /// takes any hop.
    pub(super) fn acceptor(&self, port: &PortId, hop: &ConnectionId) -> Option<Acceptor> {
        let bound = self.lock();
        let of = |hop: Option<ConnectionId>| bound.get(&(hop, port.clone())).cloned().flatten();
        of(Some(hop.clone())).or_else(|| of(None))
    }
}

fn bound(endpoint: &Endpoint) -> Result<Bound, BackendError> {
    let mut address = IbcEndpoint::parse(endpoint.as_str())?;
    if address.hops.len() > 1 {
        return Err(HostError::Hops { count: address.hops.len() }.into());
    }
    let hop = address.hops.pop();
    let port = address.local_port()?.clone();
    if !port.is_ics24() {
        return Err(crate::EngineError::invalid("name of a port", port.to_string()).into());
    }
    Ok((hop, port))
}

/// Somebody who waits for a channel, or does not any more.
struct Waiting<'a> {
    inbox: &'a Inbox,
    number: Option<u64>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.inbox.push(Command::Withdraw { number });
        }
    }
}

#[async_trait]
impl ProtocolImpl for Host {
    fn name(&self) -> &'static str {
        "ibc"
    }

    fn patterns(&self) -> Vec<RoutePattern> {
        ["/ibc-port", "/ibc-hop"].iter().filter_map(|pattern| pattern.parse().ok()).collect()
    }

    fn capabilities(&self) -> Capabilities {
        // Of an ordered channel; records of an unordered one keep no order, and their acks
        // overtake each other.
        Capabilities::IN_PROCESS
            .with_proves_timeouts(true)
            .with_proves_delivery(false)
            .with_prefix_listening(false)
            .with_empty_records(false)
            .with_agrees_on_limits(false)
            .with_acks_overtake(false)
            .with_reaches_itself(false)
            .with_negotiates(true)
    }

    async fn bind(&self, wanted: &Endpoint) -> Result<Endpoint, BackendError> {
        let ports = &self.0.ports;
        if wanted.wants_fresh_name() {
            // Ends when a number is free: at the latest after as many as there are ports.
            for number in 1_u64.. {
                let endpoint = wanted.with_name(&format!("port-{number}"))?;
                let name = bound(&endpoint)?;
                if ports.is_module(&name.1) {
                    continue;
                }
                if let std::collections::hash_map::Entry::Vacant(free) = ports.lock().entry(name) {
                    free.insert(None);
                    return Ok(endpoint);
                }
            }
        }
        let name = bound(wanted)?;
        if ports.lock().contains_key(&name) || ports.is_module(&name.1) {
            return Err(HostError::PortTaken { port: wanted.to_string() }.into());
        }
        ports.lock().insert(name, None);
        Ok(wanted.clone())
    }

    async fn listen(&self, local: &Endpoint, acceptor: Acceptor) -> Result<(), BackendError> {
        self.0.ports.lock().insert(bound(local)?, Some(acceptor));
        Ok(())
    }

    async fn unlisten(&self, local: &Endpoint) {
        if let Ok(name) = bound(local)
            && let Some(acceptor) = self.0.ports.lock().get_mut(&name)
        {
            *acceptor = None;
        }
    }

    async fn connect(&self, dial: Dial) -> Result<Connection, ConnectError> {
        let Dial { local, remote, seed } = dial;
        let failed =
            |source| ConnectError::Backend { remote: remote.clone(), protocol: "ibc", source };
        let (_, port) = bound(&local).map_err(failed)?;
        let address = IbcEndpoint::parse(remote.as_str()).map_err(|error| failed(error.into()))?;
        let wanted = address.remote().map_err(|error| failed(error.into()))?;
        let [hop] = wanted.hops else {
            let error = HostError::Hops { count: wanted.hops.len() };
            return Err(failed(error.into()));
        };
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let (reply, replied) = oneshot::channel();
        let mut waiting = Waiting { inbox: &self.0.inbox, number: Some(number) };
        self.0.inbox.push(Command::Open(Opening {
            number,
            port,
            hop: hop.clone(),
            counterparty_port: wanted.port.clone(),
            order: wanted.order,
            version: wanted.version.as_str().to_owned(),
            seed: Box::new(seed),
            remote: remote.clone(),
            reply,
        }));
        let outcome = replied.await;
        waiting.number = None;
        outcome.map_err(|_| failed(HostError::Ended.into()))?
    }

    async fn revoke(&self, local: &Endpoint) {
        if let Ok(name) = bound(local) {
            self.0.ports.lock().remove(&name);
        }
    }
}
