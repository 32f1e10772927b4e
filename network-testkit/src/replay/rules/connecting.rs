//! Connect and accept: D01, D02, D19, D09, D24, D23, N10, and what is left out for them.

use crate::replay::{
    event::{Event, Kind},
    js::quoted,
    left::{End, Ends, Ghost, Left, mirrored},
};

/// D01: whoever declines is asked again by the original's loopback. A trace that shows a
/// decline and only one question is none of its.
pub(super) fn check(left: &mut Left<'_>) {
    if left.has_op("protocolHandler") {
        return;
    }
    let declined: Vec<_> = declines(left);
    for (part, step, to) in declined {
        let asked = |event: &&Event| match event {
            Event::Call { method, args, .. } => method == "onAccept" && args.get(1) == Some(&to),
            _ => false,
        };
        let theirs = &left.parts[part].theirs;
        let first = theirs.iter().position(|event| event.calls("onAccept"));
        match theirs.iter().position(|event| asked(&event)) {
            None => left.violate(part, format!("step {step} is declined after one question (D01)")),
            Some(again) if first == Some(again) => {
                left.violate(
                    part,
                    format!("step {step} is asked with the bare address first (D01)"),
                );
            }
            Some(_) => {}
        }
    }
}

/// The connects that a listener declines with us: part, step, and the address as traces show it.
fn declines(left: &Left<'_>) -> Vec<(usize, String, String)> {
    let mut found = Vec::new();
    for (place, part) in left.parts.iter().enumerate() {
        for event in &part.ours {
            let Event::Failed { step, op, fault } = event else { continue };
            let asked = part.ours.iter().any(|event| event.calls("onAccept"));
            if op == "connect"
                && fault.kind == Kind::Thrown
                && asked
                && let Some(to) = left.shown_field(step, "to")
            {
                found.push((place, step.clone(), to));
            }
        }
    }
    found
}

pub(super) fn apply(left: &mut Left<'_>) {
    for (part, step, to) in declines(left) {
        declined(left, part, &step, &to);
    }
    for ends in left.ends() {
        match ends.op.as_str() {
            "connect" => one(left, &ends),
            "accept" => {
                let kinds = (ends.theirs.kind(), ends.ours.kind());
                if kinds == (Some(Kind::AttemptOver), Some(Kind::NotListening)) {
                    left.excuse(&ends, "D24");
                }
            }
            // Giving up an attempt needs nobody who listens.
            "closeAttempt"
                if ends.theirs.kind() == Some(Kind::NotListening)
                    && ends.ours.value().is_some() =>
            {
                left.excuse(&ends, "D23");
            }
            _ => {}
        }
    }
    given_up(left);
    broken_sends(left);
}

fn declined(left: &mut Left<'_>, part: usize, step: &str, to: &str) {
    let again = |event: &Event| match event {
        Event::Call { method, args, .. } => {
            method == "onAccept" && args.get(1).is_some_and(|arg| arg == to)
                || method == "onConnect" && args.get(2).is_some_and(|arg| arg == to)
        }
        _ => false,
    };
    let taken = left.take_missing("D01", |item| item.part == part && again(&item.event));
    if taken == 0 {
        return;
    }
    let ends = left.ends().into_iter().find(|ends| ends.step == step);
    match ends {
        Some(ends) if ends.theirs.value().is_some() => {
            // The second question was answered otherwise.
            left.excuse_ghost(&ends, "D02");
        }
        Some(ends) => left.excuse(&ends, "D01"),
        None => {}
    }
}

fn one(left: &mut Left<'_>, ends: &Ends) {
    let to = left.shown_field(&ends.step, "to").unwrap_or_default();
    match (&ends.theirs, &ends.ours) {
        // A connection between bare addresses is one whose far end never hears of it.
        (End::Value(theirs), _) if is_bare(theirs, &to) => broken(left, ends, theirs, &to),
        // Revoked meanwhile: no connection comes to be.
        (End::Value(_), End::Fault(ours))
            if matches!(ours.kind, Kind::Revoked | Kind::NotListening)
                && left.has_op("revoke")
                && revoked_meanwhile(left, ends) =>
        {
            let (theirs, ours) = (ends.their_part, ends.our_part);
            left.excuse_ghost(ends, "D09");
            left.take_missing("D09", |item| {
                let told = item.event.calls("onOpen") || item.event.calls("onClose");
                item.part == theirs && told
            });
            left.take_extra("D09", |item| item.part == ours && item.event.calls("onReject"));
        }
        _ => {}
    }
}

/// Whether a revoke came after the connect began and not after it ended.
fn revoked_meanwhile(left: &Left<'_>, ends: &Ends) -> bool {
    let place = |step: &str| left.scenario.steps.iter().position(|other| other.id == step);
    let last = &left.parts[ends.their_part].step;
    let (Some(begun), end) = (place(&ends.step), place(last)) else { return false };
    let end = end.unwrap_or(left.scenario.steps.len() - 1);
    left.scenario.steps[begun..=end].iter().any(|step| step.op == "revoke")
        || inside_a_handler(left, "revoke")
}

fn inside_a_handler(left: &Left<'_>, op: &str) -> bool {
    let text = format!("\"op\":\"{op}\"");
    let methods = left.scenario.steps.iter().filter_map(|step| step.fields.get("methods"));
    methods.map(ToString::to_string).any(|methods| methods.contains(&text))
}

fn is_bare(connection: &str, to: &str) -> bool {
    let remote = connection.strip_prefix("conn(").and_then(|rest| rest.strip_suffix(')'));
    let remote = remote.and_then(|ends| ends.split_once('>')).map(|(_, remote)| quoted(remote));
    remote.as_deref() == Some(to)
}

fn broken(left: &mut Left<'_>, ends: &Ends, theirs: &str, to: &str) {
    let (part, our_part) = (ends.their_part, ends.our_part);
    let asked = |event: &Event| match event {
        Event::Call { method, args, .. } => {
            method == "onAccept" && args.get(1).is_some_and(|arg| arg == to)
        }
        _ => false,
    };
    if left.take_missing("D02", |item| item.part == part && asked(&item.event)) == 0 {
        return;
    }
    let ours = ends.ours.value().map(str::to_owned);
    left.excuse_ghost(ends, "D02");
    left.take_missing("D02", |item| {
        item.part == part && item.event.calls("onOpen") && item.event.subject() == Some(theirs)
    });
    // Ours is whole: the listener is asked with the instance, both ends are told.
    if let Some(ours) = ours {
        let far = mirrored(&ours);
        let opened = |event: &Event| {
            event.calls("onOpen")
                && (event.subject() == Some(&ours) || event.subject() == far.as_deref())
        };
        left.take_extra("D02", |item| item.part == our_part && opened(&item.event));
        left.take_extra("D02", |item| item.part == our_part && item.event.calls("onAccept"));
        left.ghosts.push(Ghost { step: ends.step.clone(), text: ours, code: "D02" });
    }
}

/// D02: a send on such a connection is lost there, and arrives here.
fn broken_sends(left: &mut Left<'_>) {
    for ends in left.ends().into_iter().filter(|ends| ends.op == "send") {
        let connection = left.connection_of(&ends.step);
        let broken = left
            .ghosts
            .iter()
            .any(|ghost| ghost.code == "D02" && Some(&ghost.text) == connection.as_ref());
        if broken && ends.theirs.value() == Some("undefined") {
            let part = ends.our_part;
            left.excuse(&ends, "D02");
            left.take_extra("D02", |item| item.part == part && item.event.calls("onReceive"));
        }
    }
}

/// N10: an attempt that is given up before the listener was asked, it never hears of.
fn given_up(left: &mut Left<'_>) {
    for part in 0..left.parts.len() {
        let given_up = |event: &Event| matches!(event, Event::Returned { op, .. } if op == "closeAttempt" || op == "call");
        if left.parts[part].ours.iter().any(given_up) {
            left.take_missing("N10", |item| item.part == part && item.event.calls("onReject"));
        }
    }
}

/// What the trace tells of objects that we do not make, and steps that have no object.
pub(super) fn ghosts(left: &mut Left<'_>) {
    for ghost in left.ghosts.clone() {
        let far = mirrored(&ghost.text);
        let about = |event: &Event| {
            event.is_call()
                && (event.subject() == Some(&ghost.text)
                    || far.is_some() && event.subject() == far.as_deref())
        };
        left.take_missing(ghost.code, |item| about(&item.event));
        for (step, name) in left.seen.notes.missing.clone() {
            if left.name_of(&ghost.step) == Some(name.as_str()) {
                left.take_missing(ghost.code, |item| item.event.step() == Some(&step));
            }
        }
    }
}
