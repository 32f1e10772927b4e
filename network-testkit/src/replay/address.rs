//! The original's addresses as endpoints.
//!
//! The original finds listeners by prefixes of *parts*, ours by prefixes of components, which
//! are pairs of parts. Where all addresses of a scenario are whole pairs the two are the same
//! and addresses are endpoints as they stand. Otherwise every part after the first two becomes
//! a component of its own, `/q/x/y/z` is `/q/x/~/y/~/z`, so that each prefix of parts is one of
//! components; and where somebody binds a name of one part, the first two as well.

use std::collections::BTreeSet;

use network_core::{Endpoint, EndpointError, RoutePattern};
use serde_json::Value;

use super::scenario::Step;

/// The protocol of a component that is one part.
const PART: &str = "~";

#[derive(Debug, Default)]
pub(super) struct Addresses {
    /// After how many parts each is a component of its own, where that is needed.
    pairs: Option<usize>,
    /// The first parts of all addresses of the scenario.
    roots: BTreeSet<String>,
}

impl Addresses {
    /// How to write the addresses of these steps.
    pub(super) fn of(steps: &[Step]) -> Self {
        let mut found = Self::default();
        // What the allocator binds is in no step.
        found.roots.extend(["local", "ibc-port", "ibc-hop"].map(str::to_owned));
        for step in steps {
            if step.op == "pure" {
                continue;
            }
            step.fields.values().for_each(|value| found.look_at(value));
        }
        // Addresses of IBC are whole pairs; what is not is none of them.
        if steps.iter().any(|step| step.op == "ibc") {
            found.pairs = None;
        }
        let short = |step: &Step| {
            let name = step.fields.get(if step.op == "inbound" { "listen" } else { "addr" });
            let parts = name.and_then(Value::as_str).and_then(parts);
            step.op != "getRoutes" && parts.is_some_and(|parts| parts.len() == 1)
        };
        if found.pairs.is_some() && steps.iter().any(short) {
            found.pairs = Some(0);
            found.roots.insert(PART.to_owned());
        }
        found
    }

    fn look_at(&mut self, value: &Value) {
        match value {
            Value::String(text) => {
                let Some(parts) = parts(text) else { return };
                if parts.len() > 1 && parts.len() % 2 == 1 {
                    self.pairs = Some(2);
                }
                if let [root, ..] = parts.as_slice()
                    && !root.is_empty()
                {
                    self.roots.insert((*root).to_owned());
                }
            }
            Value::Array(list) => list.iter().for_each(|item| self.look_at(item)),
            Value::Object(map) => map.iter().for_each(|(key, item)| {
                self.look_at(&Value::String(key.clone()));
                self.look_at(item);
            }),
            _ => {}
        }
    }

    /// Patterns that take every address of the scenario: a network of one protocol only.
    pub(super) fn everything(&self) -> Vec<RoutePattern> {
        self.roots.iter().filter_map(|root| RoutePattern::parse(&format!("/{root}")).ok()).collect()
    }

    /// The pattern for a prefix of the original's router: `/x` is `/x`, and `/x/`, what is
    /// under `/x`, is `/x/*`.
    pub(super) fn pattern(&self, prefix: &str) -> Result<RoutePattern, String> {
        let mut text = self.spell(prefix);
        if text.ends_with('/') {
            text.push('*');
        }
        RoutePattern::parse(&text).map_err(|error| error.to_string())
    }

    pub(super) fn encode(&self, address: &str) -> Result<Endpoint, EndpointError> {
        Endpoint::parse(&self.spell(address))
    }

    fn spell(&self, address: &str) -> String {
        let (Some(pairs), Some(parts)) = (self.pairs, parts(address)) else {
            return address.to_owned();
        };
        let (pair, rest) = parts.split_at(parts.len().min(pairs));
        let mut text = String::new();
        for part in pair {
            text.extend(["/", part]);
        }
        for part in rest {
            text.extend(["/", PART, "/", part]);
        }
        text
    }

    pub(super) fn decode(&self, endpoint: &Endpoint) -> String {
        if self.pairs.is_none() {
            return endpoint.as_str().to_owned();
        }
        let mut text = String::new();
        for component in endpoint.components() {
            if component.protocol != PART {
                text.extend(["/", component.protocol]);
            }
            if let Some(value) = component.value {
                text.extend(["/", value]);
            }
        }
        if endpoint.wants_fresh_name() {
            text.push('/');
        }
        text
    }
}

/// The parts of an address; the last one is empty where it ends in `/`. No address has other
/// empty parts.
fn parts(address: &str) -> Option<Vec<&str>> {
    let parts: Vec<_> = address.strip_prefix('/')?.split('/').collect();
    let (_, before) = parts.split_last()?;
    if before.iter().any(|part| part.is_empty()) { None } else { Some(parts) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn addresses(of: &[&str]) -> Addresses {
        let mut found = Addresses::default();
        of.iter().for_each(|text| found.look_at(&json!(text)));
        found
    }

    #[test]
    fn whole_pairs_stay_as_they_are() {
        let plain = addresses(&["/local/a", "/local/", "/q"]);
        assert_eq!(
            plain.encode("/local/a").map(|endpoint| endpoint.to_string()),
            Ok("/local/a".into())
        );
        assert_eq!(
            plain.pattern("/x/").map(|pattern| pattern.as_str().to_owned()),
            Ok("/x/*".into())
        );
    }

    #[test]
    fn half_pairs_become_components() {
        let spread = addresses(&["/q/x/y"]);
        for (address, text) in [("/q/x/y/z", "/q/x/~/y/~/z"), ("/q/g/", "/q/g/~/"), ("/q/", "/q/")]
        {
            let endpoint = spread.encode(address).expect(address);
            assert_eq!(endpoint.as_str(), text);
            assert_eq!(spread.decode(&endpoint), address);
        }
        let named = spread.encode("/q/g/").and_then(|fresh| fresh.with_name("p")).expect("named");
        assert_eq!(spread.decode(&named), "/q/g/p");
        assert_eq!(spread.pattern("/q/g/").map(|p| p.as_str().to_owned()), Ok("/q/g/~/*".into()));
    }
}
