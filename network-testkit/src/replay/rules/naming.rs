//! Bind and allocate: D17, D18, D35, N08, N13.

use crate::replay::{
    event::{Event, Kind},
    js::quoted,
    left::{End, Ends, Left},
};

pub(super) fn apply(left: &mut Left<'_>) {
    for ends in left.ends() {
        let naming = matches!(ends.op.as_str(), "bind" | "implBind" | "allocate");
        match ends.ours.kind() {
            Some(Kind::AlreadyBound) if naming => bound_before(left, &ends),
            Some(Kind::BadName) if naming && has_empty_name(left, &ends.step) => {
                left.excuse_ghost(&ends, "N13");
            }
            Some(Kind::NoRoute) if naming => unrouted(left, &ends),
            Some(Kind::BadEndpoint) => malformed(left, &ends),
            _ => {}
        }
    }
}

/// D35: the same port there, an error here.
fn bound_before(left: &mut Left<'_>, ends: &Ends) {
    let End::Value(port) = &ends.theirs else { return };
    let returned = |event: &Event| matches!(event, Event::Returned { value, step, .. } if value == port && *step != ends.step);
    if left.parts[..=ends.their_part].iter().flat_map(|part| &part.theirs).any(returned) {
        let part = ends.their_part;
        let name = port.strip_prefix("port(").and_then(|rest| rest.split(')').next());
        let asked = name.map(quoted);
        left.excuse(ends, "D35");
        // Core knows its ports; it does not ask the backend.
        left.take_missing("D35", |item| match &item.event {
            Event::Call { method, args, .. } => {
                item.part == part && method == "generatePortID" && args.first() == asked.as_ref()
            }
            _ => false,
        });
    }
}

fn has_empty_name(left: &Left<'_>, step: &str) -> bool {
    left.shown_field(step, "name").as_deref() == Some("\"\"")
}

/// D17, D18: a route that only the original has.
fn unrouted(left: &mut Left<'_>, ends: &Ends) {
    if ends.theirs.value().is_none() {
        return;
    }
    let unregistered = left.codes.contains("D17");
    let partly = left.fails_with_us("registerProtocolHandler", Kind::PrefixTaken);
    let address = left.step(&ends.step).and_then(|step| step.fields.get("addr")).cloned();
    let address = address.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default();
    let new = partly.iter().any(|step| {
        let paths = step.fields.get("paths").and_then(serde_json::Value::as_array);
        let mut paths = paths.into_iter().flatten().filter_map(serde_json::Value::as_str);
        paths.any(|path| address.starts_with(path))
    });
    if unregistered {
        left.excuse_ghost(ends, "D17");
    } else if new {
        left.excuse_ghost(ends, "D18");
    }
}

/// N08: what is no endpoint here.
fn malformed(left: &mut Left<'_>, ends: &Ends) {
    if matches!(
        ends.op.as_str(),
        "register" | "unregister" | "getRoutes" | "registerProtocolHandler"
    ) {
        return;
    }
    let part = ends.their_part;
    if part != ends.our_part {
        return;
    }
    left.excuse_ghost(ends, "N08");
    left.take_missing("N08", |item| {
        const ASKED: [&str; 6] =
            ["generatePortID", "onBind", "onInstantiate", "onConnect", "onAccept", "onOpen"];
        item.part == part && ASKED.iter().any(|name| item.event.calls(name))
    });
}
