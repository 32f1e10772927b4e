//! The original's router, by the routes of a network.
//!
//! A route is a backend that is registered at one pattern; what a route leads to is only its
//! name. The routes of an address are found one by one: the network tells the best, and with
//! that one gone the next.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use network_core::{
    Acceptor, BackendError, Capabilities, ConnectError, Connection, Dial, Endpoint, Network,
    ProtocolImpl, RegisterError, Registration, Rejection, RoutePattern,
};

use super::{
    address::Addresses,
    event::{Fault, Kind},
    js::Js,
};

/// A router of a scenario.
#[derive(Debug)]
pub(super) struct Router {
    network: Network,
    routes: Mutex<Vec<Entry>>,
}

#[derive(Debug)]
struct Entry {
    prefix: String,
    pattern: RoutePattern,
    route: Js,
    registration: Option<Registration>,
}

impl Router {
    pub(super) fn new(network: Network) -> Self {
        Self { network, routes: Mutex::default() }
    }

    fn routes(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn register(
        &self,
        addresses: &Addresses,
        prefix: &str,
        route: Js,
    ) -> Result<(), Fault> {
        let pattern =
            addresses.pattern(prefix).map_err(|error| Fault::new(Kind::BadEndpoint, error))?;
        let registration = self.network.register(Signpost(pattern.clone())).map_err(taken)?;
        let registration = Some(registration);
        self.routes().push(Entry { prefix: prefix.to_owned(), pattern, route, registration });
        Ok(())
    }

    /// Drops the guard of a route.
    pub(super) fn unregister(
        &self,
        prefix: &str,
        route: &str,
        show: impl Fn(&Js) -> String,
    ) -> Result<(), Fault> {
        let mut routes = self.routes();
        let found =
            routes.iter().position(|entry| entry.prefix == prefix && show(&entry.route) == route);
        match found {
            Some(at) => {
                routes.remove(at);
                Ok(())
            }
            None => Err(Fault::new(Kind::NotRegistered, "nobody holds such a guard")),
        }
    }

    /// The prefixes and routes that match, the best first.
    pub(super) fn matching(&self, endpoint: &Endpoint) -> Vec<Js> {
        let mut routes = self.routes();
        let mut found = Vec::new();
        while let Ok(backend) = self.network.route(endpoint) {
            let best = backend.patterns();
            let Some(entry) = routes.iter_mut().find(|entry| best.contains(&entry.pattern)) else {
                break;
            };
            // Unregistered until the others have been asked.
            entry.registration = None;
            found.push(Js::List(vec![Js::Text(entry.prefix.clone()), entry.route.clone()]));
        }
        for entry in routes.iter_mut().filter(|entry| entry.registration.is_none()) {
            entry.registration = self.network.register(Signpost(entry.pattern.clone())).ok();
        }
        found
    }
}

pub(super) fn taken(error: RegisterError) -> Fault {
    Fault::new(Kind::PrefixTaken, error.to_string())
}

/// A backend that is only looked for.
#[derive(Debug)]
struct Signpost(RoutePattern);

#[async_trait]
impl ProtocolImpl for Signpost {
    fn name(&self) -> &'static str {
        "signpost"
    }

    fn patterns(&self) -> Vec<RoutePattern> {
        vec![self.0.clone()]
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::IN_PROCESS
    }

    async fn bind(&self, wanted: &Endpoint) -> Result<Endpoint, BackendError> {
        Ok(wanted.clone())
    }

    async fn listen(&self, _: &Endpoint, _: Acceptor) -> Result<(), BackendError> {
        Ok(())
    }

    async fn unlisten(&self, _: &Endpoint) {}

    async fn connect(&self, dial: Dial) -> Result<Connection, ConnectError> {
        Err(ConnectError::Rejected { remote: dial.remote, reason: Rejection::NotListening })
    }

    async fn revoke(&self, _: &Endpoint) {}
}
