//! Routes, prefixes and parsed addresses: D17, D25, N08, N11, N14.

use serde_json::Value;

use crate::replay::{
    event::Kind,
    left::{End, Ends, Left},
};

pub(super) fn apply(left: &mut Left<'_>) {
    for ends in left.ends() {
        let ours = ends.ours.kind();
        match (ends.op.as_str(), ends.theirs.kind()) {
            ("unregisterProtocolHandler", Some(Kind::NotRegistered))
                if ends.ours.value().is_some() =>
            {
                left.excuse(&ends, "D17");
            }
            ("registerProtocolHandler", Some(Kind::PrefixTaken))
                if ends.ours.value().is_some() && left.codes.contains("D17") =>
            {
                left.excuse(&ends, "D17");
            }
            ("register" | "registerProtocolHandler", _) if ours == Some(Kind::BadEndpoint) => {
                left.excuse(&ends, "N14");
            }
            ("unregister" | "unregisterProtocolHandler", None)
                if ours == Some(Kind::NotRegistered) && is_no_pattern(left, &ends) =>
            {
                left.excuse(&ends, "N14");
            }
            ("getRoutes", None) => routes(left, &ends),
            ("pure", None) => pure(left, &ends),
            _ => {}
        }
    }
}

/// Whether the prefix of a step is one that no pattern can be.
fn is_no_pattern(left: &Left<'_>, ends: &Ends) -> bool {
    let prefix = left.shown_field(&ends.step, "prefix");
    no_patterns(left).contains(&prefix.unwrap_or_default())
}

/// The prefixes of registrations that failed since no pattern can be so.
fn no_patterns(left: &Left<'_>) -> Vec<String> {
    let failed = left.fails_with_us("register", Kind::BadEndpoint);
    failed.iter().filter_map(|step| left.shown_field(&step.id, "prefix")).collect()
}

/// D25: each route once. N14: and those that can be patterns.
fn routes(left: &mut Left<'_>, ends: &Ends) {
    let End::Value(theirs) = &ends.theirs else { return };
    let Ok(Value::Array(theirs)) = serde_json::from_str::<Value>(theirs) else { return };
    if ends.ours.kind() == Some(Kind::BadEndpoint) {
        left.excuse(ends, "N08");
        return;
    }
    let ours = ends.ours.value().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let Some(Value::Array(ours)) = ours else { return };
    let mut once: Vec<Value> = Vec::new();
    for route in &theirs {
        if !once.contains(route) {
            once.push(route.clone());
        }
    }
    let (all, each) = (theirs.len(), once.len());
    let unknown = no_patterns(left);
    let prefix = |route: &Value| route.get(0).map(|prefix| prefix.to_string()).unwrap_or_default();
    once.retain(|route| !unknown.contains(&prefix(route)));
    if once != ours {
        return;
    }
    if each < all {
        left.codes.insert("D25");
    }
    left.excuse(ends, if once.len() < each { "N14" } else { "D25" });
}

/// Prefixes are of whole components, and never empty (N11); components without a value end
/// where they end (N08).
fn pure(left: &mut Left<'_>, ends: &Ends) {
    let (End::Value(theirs), End::Value(ours)) = (&ends.theirs, &ends.ours) else { return };
    let parse = |text: &str| serde_json::from_str::<Value>(text).ok();
    let (Some(theirs), Some(ours)) = (parse(theirs), parse(ours)) else { return };
    match left.step(&ends.step).and_then(|step| step.fields.get("fn")).and_then(Value::as_str) {
        Some("getPrefixes") => {
            let (Value::Array(theirs), Value::Array(ours)) = (theirs, ours) else { return };
            let whole = theirs.first().cloned();
            let component = |prefix: &Value| {
                let text = prefix.as_str().unwrap_or_default();
                Some(prefix) == whole.as_ref()
                    || (text.matches('/').count().is_multiple_of(2) && !text.is_empty())
            };
            let expected: Vec<_> = theirs.into_iter().filter(component).collect();
            if expected == ours {
                left.excuse(ends, "N11");
            }
        }
        Some("parse") if flat(&theirs) == flat(&ours) => left.excuse(ends, "N08"),
        _ => {}
    }
}

fn flat(value: &Value) -> Vec<String> {
    match value {
        Value::Array(list) => list.iter().flat_map(flat).filter(|part| !part.is_empty()).collect(),
        Value::String(text) => vec![text.clone()],
        other => vec![other.to_string()],
    }
}
