//! What the original always does, whatever of it a rule may excuse.
//!
//! A rule takes events of the trace that ours does not have. These checks say that the trace
//! could have been told by the original, so that no rule takes what only a mistake can tell.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::replay::{
    event::{Event, Kind},
    js::{cut, quoted},
    left::{Left, mirrored},
};

/// The reason that every `onClose` is told.
const REASON: &str = "\"closed-by-finalizer\"";

pub(super) fn check(left: &mut Left<'_>) {
    let mut problems = Vec::new();
    let texts = texts(left);
    for (place, part) in left.parts.iter().enumerate() {
        for event in &part.theirs {
            let problem = match event {
                Event::Failed { fault, .. } if fault.kind == Kind::Thrown => {
                    let said = texts.contains(fault.text.trim_matches('"'));
                    (!said).then(|| format!("nobody says {:?}", fault.text))
                }
                Event::Failed { .. } | Event::Stalled { .. } | Event::Pending { .. } => None,
                Event::Returned { step, op, value } => returned(left, place, step, op, value),
                Event::Call { method, args, .. } => told(left, method, args),
            };
            problems.extend(problem.map(|problem| (place, problem)));
        }
        if left.is_total(&part.step) {
            problems.extend(causes(&part.theirs).map(|problem| (place, problem)));
        }
    }
    left.violations.extend(problems);
}

fn returned(left: &Left<'_>, place: usize, step: &str, op: &str, value: &str) -> Option<String> {
    let nothing = || (value != "undefined").then(|| format!("{op} returned {value}"));
    let asked = |method| {
        let called = left.parts[place].theirs.iter().any(|event| event.calls(method));
        (!called && left.backends_hear(method)).then(|| format!("{op} and no {method}"))
    };
    match op {
        "connect" => whole(left, place, step, value),
        "send" => acked(left, place, step, value),
        "closeAttempt" => given_up(left, place),
        "revoke" => nothing().or_else(|| asked("onRevoke")),
        "bind" | "implBind" | "allocate" => {
            bound(left, step, value).or_else(|| asked("generatePortID"))
        }
        "removeListener" => nothing().or_else(|| removed(left, place, step)),
        "register" | "unregister" | "addListener" | "close" => nothing(),
        "getLocalAddress" => named(left, step, value),
        "pure" => computed(left, step, value),
        _ => None,
    }
}

/// The reason of a close is one fixed text, and an attempt that is rejected was made.
fn told(left: &Left<'_>, method: &str, args: &[String]) -> Option<String> {
    match (method, args) {
        ("onClose", [_, reason, ..]) => {
            (reason != REASON).then(|| format!("a close for the reason {reason}"))
        }
        ("onReject", [_, local, remote, ..]) => {
            let [local, remote] = [local, remote].map(|text| text.trim_matches('"'));
            let attempt = format!("attempt({local}<{remote})");
            let made = left.theirs().any(|event| match event {
                Event::Returned { value, .. } => value.split('#').next() == Some(&attempt),
                Event::Call { method, args, .. } => {
                    let ends = [args.get(1), args.get(2)].map(|arg| Some(arg?.trim_matches('"')));
                    method == "onAccept" && ends == [Some(local), Some(remote)]
                }
                _ => false,
            });
            (!made).then(|| format!("{attempt} is rejected and was not made"))
        }
        _ => None,
    }
}

/// A connection is asked for, then open, then received on and closed.
fn causes(theirs: &[Event]) -> Option<String> {
    let place = |method: &str, half: &str| {
        theirs.iter().position(|event| event.calls(method) && event.subject() == Some(half))
    };
    for (at, event) in theirs.iter().enumerate() {
        let Event::Call { method, args, .. } = event else { continue };
        let half = args.first()?.as_str();
        let early = match method.as_str() {
            "onReceive" | "onClose" => place("onOpen", half).is_some_and(|open| open > at),
            "onOpen" => asked(theirs, half).is_some_and(|asked| asked > at),
            _ => false,
        };
        if early {
            return Some(format!("{event} comes too early"));
        }
    }
    // Who closes that was given a record in the same part had it before.
    let received = theirs.iter().rposition(|event| event.calls("onReceive"))?;
    let half = theirs[received].subject()?;
    (place("onClose", half)? < received).then(|| format!("{half} receives after its close"))
}

/// Where a listener was asked about the connection of a half.
fn asked(theirs: &[Event], half: &str) -> Option<usize> {
    let far = mirrored(half)?;
    theirs.iter().position(|event| match event {
        Event::Call { method, args, .. } if method == "onAccept" => {
            let ends = [args.get(1), args.get(2)].map(|arg| arg.map(|arg| arg.trim_matches('"')));
            let [Some(local), Some(remote)] = ends else { return false };
            let accepted = format!("conn({local}>{remote})");
            accepted == half || accepted == far
        }
        _ => false,
    })
}

/// All texts in the steps, also those inside of handlers.
fn texts(left: &Left<'_>) -> BTreeSet<String> {
    fn gather(value: &Value, texts: &mut BTreeSet<String>) {
        match value {
            Value::String(text) => {
                texts.insert(text.clone());
            }
            Value::Array(list) => list.iter().for_each(|value| gather(value, texts)),
            Value::Object(map) => map.values().for_each(|value| gather(value, texts)),
            _ => {}
        }
    }
    let mut texts = BTreeSet::new();
    for value in left.scenario.steps.iter().flat_map(|step| step.fields.values()) {
        gather(value, &mut texts);
    }
    texts
}

/// Both ends of a connection are told that it is open. One between bare addresses may have a
/// far end that never hears of it (D02). One whose port is revoked meanwhile is told of, and
/// not returned (D09).
fn whole(left: &Left<'_>, part: usize, step: &str, connection: &str) -> Option<String> {
    if connection == "undefined" {
        let halves = left.parts[part].theirs.iter().filter(|event| event.calls("onOpen"));
        let halves: Vec<_> = halves.filter_map(Event::subject).collect();
        let both = matches!(halves[..], [one, other] if mirrored(one).as_deref() == Some(other));
        let closed = left.parts[part].theirs.iter().any(|event| {
            event.calls("onClose") && event.subject().is_some_and(|half| halves.contains(&half))
        });
        return (!both || !closed)
            .then(|| "a connect that is undefined opens and closes".to_owned());
    }
    let Some(far) = mirrored(connection) else {
        return Some(format!("connect returned {connection}"));
    };
    let bare = left
        .shown_field(step, "to")
        .is_some_and(|to| far.starts_with(&format!("conn({}>", to.trim_matches('"'))));
    let accepted = left.accepted().contains(&far) && !bare;
    let ends = [Some(connection.to_owned()), accepted.then_some(far)];
    ends.into_iter().flatten().find_map(|half| {
        let told = left
            .theirs()
            .any(|event| event.calls("onOpen") && event.subject() == Some(half.as_str()));
        (!told && left.hears(&half, "onOpen"))
            .then(|| format!("{half} is not told that it is open"))
    })
}

/// An ack is what a handler returned that was given the record.
fn acked(left: &Left<'_>, part: usize, step: &str, ack: &str) -> Option<String> {
    let packet = left.shown_field(step, "data")?;
    let connection = left.connection_of(step)?;
    let far = mirrored(&connection)?;
    if ack == "undefined" || !left.hears(&far, "onReceive") {
        return None;
    }
    let given = |event: &Event| match event {
        Event::Call { method, args, .. } => {
            method == "onReceive" && args.first() == Some(&far) && args.get(1) == Some(&packet)
        }
        _ => false,
    };
    if !left.parts[..=part].iter().flat_map(|part| &part.theirs).any(given) {
        return Some(format!("{far} acks {packet} that it did not receive"));
    }
    let known = texts(left).iter().any(|text| cut(quoted(text)) == ack);
    let short = !ack.contains("...<") && !ack.contains('\\');
    (short && !known && ack != "\"\"").then(|| format!("nobody acks {ack}"))
}

/// Whoever listens is told of an attempt that was given up.
fn given_up(left: &Left<'_>, part: usize) -> Option<String> {
    let told = left.parts[part].theirs.iter().any(|event| event.calls("onReject"));
    let listeners = left.scenario.steps.iter().filter(|step| step.op == "listener");
    let all = listeners.clone().all(|step| {
        step.fields.get("methods").is_some_and(|methods| methods.get("onReject").is_some())
    });
    (!told && all && listeners.count() > 0)
        .then(|| "no listener is told of the attempt (N10)".to_owned())
}

/// A port has the name that was asked for, or one that begins so.
fn bound(left: &Left<'_>, step: &str, port: &str) -> Option<String> {
    let Some(name) = port.strip_prefix("port(").and_then(|rest| rest.split(')').next()) else {
        return Some(format!("a bind returned {port}"));
    };
    let address = left.step(step)?.fields.get("addr")?.as_str()?.to_owned();
    let fresh = address.ends_with('/') && name.starts_with(&address);
    (name != address && !fresh).then(|| format!("a bind of {address:?} returned {port}"))
}

/// A listener that is taken away hears of it, and can fail that.
fn removed(left: &Left<'_>, part: usize, step: &str) -> Option<String> {
    let listener = left.step(step)?.fields.get("listener")?.as_str()?;
    if left.always_throws(listener, "onRemove") {
        return Some(format!("{listener} throws as it is removed (N02)"));
    }
    let mut told = left.parts[..=part].iter().flat_map(|part| &part.theirs);
    let told = told.any(|event| event.calls("onRemove"));
    (!told && left.has_method(listener, "onRemove"))
        .then(|| format!("{listener} is not told of its removal"))
}

/// A port's address is its name.
fn named(left: &Left<'_>, step: &str, address: &str) -> Option<String> {
    let of = left.step(step)?.fields.get("of")?.as_str()?;
    let port = left.theirs().filter_map(|event| match event {
        Event::Returned { step, value, .. } if left.name_of(step) == Some(of) => {
            value.strip_prefix("port(")?.split(')').next()
        }
        _ => None,
    });
    let name = port.last()?;
    (quoted(name) != address).then(|| format!("the address of port({name}) is {address}"))
}

/// What the functions on addresses give, where they give something.
fn computed(left: &Left<'_>, step: &str, value: &str) -> Option<String> {
    let fields = &left.step(step)?.fields;
    let argument = fields.get("args")?.get(0)?;
    let text = argument.as_str();
    let expected = match (fields.get("fn")?.as_str()?, text) {
        ("parse", None) => argument.clone(),
        ("unparse", Some(text)) => text.into(),
        ("parse", Some(text)) if !text.starts_with('/') => {
            return Some(format!("{text:?} is parsed"));
        }
        ("parse", Some(text)) => {
            let parts: Vec<_> = text.strip_prefix('/')?.split('/').collect();
            if parts.len() > 1 && parts.contains(&"") {
                return None;
            }
            parts.chunks(2).map(|pair| Value::from(pair.to_vec())).collect()
        }
        ("unparse", None) => {
            let parts = argument.as_array()?.iter().filter_map(Value::as_array).flatten();
            let texts: Vec<_> = parts.filter_map(Value::as_str).collect();
            format!("/{}", texts.join("/")).into()
        }
        ("getPrefixes", Some(text)) => {
            let ends = text.match_indices('/').map(|(at, _)| at).chain([text.len()]);
            let mut prefixes: Vec<_> = ends.map(|end| Value::from(&text[..end])).collect();
            prefixes.reverse();
            prefixes.into()
        }
        _ => return None,
    };
    let given = serde_json::from_str::<Value>(value).ok();
    (given.as_ref() != Some(&expected)).then(|| format!("{expected} is told as {value}"))
}
