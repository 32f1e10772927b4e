//! Listen: D22, N06, and the order in which one listener replaces another.

use crate::replay::{
    event::{Event, Kind},
    left::{End, Left, Part},
};

pub(super) fn apply(left: &mut Left<'_>) {
    again(left);
    replaced(left);
    for (step, listener, port) in refused(left) {
        refusal(left, &step, &listener, port.as_deref());
    }
}

/// The new listener is asked first, so that the old one can stay if it refuses (D22). A
/// backend learns nothing of it: it listens for the port already (N06).
fn replaced(left: &mut Left<'_>) {
    for part in 0..left.parts.len() {
        let theirs = left.parts[part].theirs.clone();
        let place = |name: &str| {
            theirs.iter().position(|event| event.calls(name) && !is_backend(left, event))
        };
        let (Some(removed), Some(listens)) = (place("onRemove"), place("onListen")) else {
            continue;
        };
        if !theirs.iter().any(|event| {
            matches!(event.step(), Some(step)
            if left.step(step).is_some_and(|step| step.op == "addListener"))
        }) {
            continue;
        }
        if removed > listens {
            left.violate(part, "the original removes the old listener first (D22)");
        }
        let backend =
            theirs.iter().position(|event| event.calls("onListen") && is_backend(left, event));
        match backend {
            None if left.backends_hear("onListen") => {
                left.violate(part, "the original tells the backend of the new listener (N06)");
            }
            Some(backend) if backend < removed || backend > listens => {
                left.violate(part, "the original tells the backend before the new listener (N06)");
            }
            _ => {}
        }
        let moved = |event: &Event| event.calls("onRemove") || event.calls("onListen");
        let both: Vec<_> = left
            .missing
            .iter()
            .filter(|item| item.part == part && moved(&item.event))
            .filter(|item| left.extra.iter().any(|o| o.part == part && o.event == item.event))
            .map(|item| item.event.clone())
            .collect();
        for event in both {
            left.take_missing("D22", |item| item.part == part && item.event == event);
            left.take_extra("D22", |item| item.part == part && item.event == event);
        }
        let backends: Vec<_> = left
            .missing
            .iter()
            .filter(|item| item.part == part && item.event.calls("onListen"))
            .filter(|item| is_backend(left, &item.event))
            .map(|item| item.event.clone())
            .collect();
        for event in backends {
            left.take_missing("N06", |item| item.part == part && item.event == event);
        }
    }
}

/// N15: the original does nothing for a listener that is in place. Ours knows no listener from
/// another: it listens with the one and removes the other.
fn again(left: &mut Left<'_>) {
    for part in 0..left.parts.len() {
        let told = |event: &Event| event.calls("onListen") || event.calls("onRemove");
        let added =
            |event: &Event| matches!(event, Event::Returned { op, .. } if op == "addListener");
        let Part { theirs, ours, .. } = &left.parts[part];
        if theirs.iter().any(told) || !theirs.iter().any(added) {
            continue;
        }
        let who = |name: &str| {
            ours.iter().find(|event| event.calls(name)).and_then(|event| match event {
                Event::Call { who, .. } => Some(who.clone()),
                _ => None,
            })
        };
        if let (Some(listens), Some(removed)) = (who("onListen"), who("onRemove"))
            && listens == removed
        {
            left.take_extra("N15", |item| item.part == part && told(&item.event));
        }
    }
}

fn is_backend(left: &Left<'_>, event: &Event) -> bool {
    matches!(event, Event::Call { who, .. } if super::is_backend(left.scenario, who))
}

/// The listeners that refused to listen: step, name, and the name of the port.
fn refused(left: &Left<'_>) -> Vec<(String, String, Option<String>)> {
    let text = |step: &crate::replay::scenario::Step, name: &str| {
        step.fields.get(name).and_then(serde_json::Value::as_str).map(str::to_owned)
    };
    left.fails_with_us("addListener", Kind::Thrown)
        .into_iter()
        .filter_map(|step| Some((step.id.clone(), text(step, "listener")?, text(step, "port"))))
        .collect()
}

/// D22: with us a listener that refused does not listen, and the one before it stays.
fn refusal(left: &mut Left<'_>, step: &str, listener: &str, port: Option<&str>) {
    let Some(from) =
        left.parts.iter().position(|part| part.ours.iter().any(|event| event.step() == Some(step)))
    else {
        return;
    };
    // The one before stays: it is not removed.
    left.take_missing("D22", |item| item.part == from && item.event.calls("onRemove"));
    for ends in left.ends() {
        let kinds = (ends.op.as_str(), &ends.theirs, ends.ours.kind());
        match kinds {
            ("connect", End::Value(_), Some(Kind::NotListening)) if ends.their_part > from => {
                let part = ends.their_part;
                left.excuse_ghost(&ends, "D22");
                left.take_missing("D22", |item| item.part == part && asks(&item.event, listener));
            }
            ("removeListener", End::Value(_), Some(Kind::NoListener)) if ends.their_part > from => {
                let part = ends.their_part;
                left.excuse(&ends, "D22");
                left.take_missing("D22", |item| {
                    item.part == part && removes(&item.event, listener)
                });
            }
            _ => {}
        }
    }
    let revoked = |part: &Part| {
        part.theirs.iter().any(|event| {
            let step = event.step().and_then(|step| left.step(step));
            step.is_some_and(|step| {
                step.op == "revoke"
                    && step.fields.get("port").and_then(serde_json::Value::as_str) == port
            })
        })
    };
    let revoked: Vec<_> = (from..left.parts.len()).filter(|at| revoked(&left.parts[*at])).collect();
    for part in revoked {
        left.take_missing("D22", |item| item.part == part && removes(&item.event, listener));
    }
    answered_by_another(left, from);
}

/// The listener that stayed answers instead of the one that refused.
fn answered_by_another(left: &mut Left<'_>, from: usize) {
    let swapped = |a: &Event, b: &Event| match (a, b) {
        (Event::Call { who, method, args }, Event::Call { who: w, method: m, args: our_args }) => {
            let same_but_self = args.len() == our_args.len()
                && args.iter().zip(our_args).filter(|(a, b)| a != b).count() <= 2;
            who != w && method == m && same_but_self
        }
        _ => false,
    };
    let pairs: Vec<_> = left
        .missing
        .iter()
        .filter(|item| item.part > from)
        .filter_map(|item| {
            let found = left
                .extra
                .iter()
                .find(|other| other.part == item.part && swapped(&item.event, &other.event));
            found.map(|other| (item.part, item.event.clone(), other.event.clone()))
        })
        .collect();
    for (part, theirs, ours) in pairs {
        left.take_missing("D22", |item| item.part == part && item.event == theirs);
        left.take_extra("D22", |item| item.part == part && item.event == ours);
        for ends in left.ends() {
            let other_ack = ends.op == "send"
                && ends.their_part == part
                && ends.theirs.value().is_some()
                && ends.ours.value().is_some()
                && theirs.calls("onReceive");
            if other_ack {
                left.excuse(&ends, "D22");
            }
        }
    }
}

fn asks(event: &Event, listener: &str) -> bool {
    matches!(event, Event::Call { who, method, .. } if who == listener && method == "onAccept")
}

fn removes(event: &Event, listener: &str) -> bool {
    matches!(event, Event::Call { who, method, .. } if who == listener && method == "onRemove")
}
