//! Which backend an endpoint belongs to.

use std::{fmt::Write, sync::Arc};

use crate::{
    endpoint::Endpoint,
    error::{NoBackend, RegisterError},
    pattern::RoutePattern,
    seam::ProtocolImpl,
};

/// The patterns of all registered backends, the most specific first.
#[derive(Debug, Default)]
pub(crate) struct Router {
    routes: Vec<Route>,
    next_id: u64,
}

#[derive(Debug)]
struct Route {
    registration: u64,
    pattern: RoutePattern,
    backend: Arc<dyn ProtocolImpl>,
}

impl Router {
    /// Adds all patterns of a backend, or none.
    pub(crate) fn register(
        &mut self,
        backend: &Arc<dyn ProtocolImpl>,
    ) -> Result<u64, RegisterError> {
        let patterns = backend.patterns();
        let protocol = backend.name();
        if patterns.is_empty() {
            return Err(RegisterError::NoPattern { protocol });
        }
        for pattern in &patterns {
            if let Some(route) =
                self.routes.iter().find(|route| route.pattern.overlaps_equally(pattern))
            {
                return Err(RegisterError::Tie {
                    pattern: Box::new(pattern.clone()),
                    protocol,
                    taken: Box::new(route.pattern.clone()),
                    holder: route.backend.name(),
                });
            }
        }
        self.next_id += 1;
        let registration = self.next_id;
        self.routes.extend(patterns.into_iter().map(|pattern| Route {
            registration,
            pattern,
            backend: backend.clone(),
        }));
        self.routes.sort_by_key(|route| std::cmp::Reverse(route.pattern.specificity()));
        Ok(registration)
    }

    pub(crate) fn unregister(&mut self, registration: u64) {
        self.routes.retain(|route| route.registration != registration);
    }

    pub(crate) fn route(&self, endpoint: &Endpoint) -> Result<Arc<dyn ProtocolImpl>, NoBackend> {
        let found = self.routes.iter().find(|route| route.pattern.matches(endpoint));
        found.map(|route| route.backend.clone()).ok_or_else(|| NoBackend {
            endpoint: endpoint.clone(),
            available: self.available(),
            feature: feature_for(endpoint),
        })
    }

    /// Every registered backend once.
    pub(crate) fn backends(&self) -> Vec<Arc<dyn ProtocolImpl>> {
        let mut backends: Vec<Arc<dyn ProtocolImpl>> = Vec::new();
        for route in &self.routes {
            if !backends.iter().any(|known| Arc::ptr_eq(known, &route.backend)) {
                backends.push(route.backend.clone());
            }
        }
        backends
    }

    fn available(&self) -> String {
        if self.routes.is_empty() {
            return "nothing: register a backend first".to_owned();
        }
        let mut text = String::new();
        for (at, route) in self.routes.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            // Writing into a string does not fail.
            let _ = write!(text, "{comma}{} ({})", route.pattern, route.backend.name());
        }
        text
    }
}

/// The feature of package `network` whose backend takes such endpoints.
fn feature_for(endpoint: &Endpoint) -> Option<&'static str> {
    let protocols: Vec<&str> = endpoint.components().map(|part| part.protocol).collect();
    let has = |protocol: &str| protocols.contains(&protocol);
    match *protocols.first()? {
        "local" => Some("loopback"),
        "ibc-port" | "ibc-hop" => Some("ibc"),
        "ip4" | "ip6" | "dns" | "dns4" | "dns6" | "dnsaddr" => {
            if has("quic-v1") {
                Some("quic")
            } else if has("ws") || has("wss") || has("http") || has("https") {
                Some("ws")
            } else {
                has("tcp").then_some("tcp")
            }
        }
        _ => None,
    }
}
