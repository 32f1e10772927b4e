//! Send: D03, D05, D06, D07, D13, D14, D16, D20, N05, N09.

use serde_json::Value;

use crate::replay::{
    event::{Event, Kind},
    left::{End, Ends, Left, mirrored},
    scenario::Scenario,
};

/// N05: what the sender asks for is told to nobody else.
pub(super) fn excused_options(
    scenario: &Scenario,
    theirs: &str,
    ours: &str,
) -> Option<&'static str> {
    let shown = |step: &crate::replay::scenario::Step| {
        let options = step.fields.get("opts").and_then(Value::as_object)?;
        let Some(timeout) = options.get("relativeTimeoutNs") else { return Some("{}".to_owned()) };
        let nanos = match timeout.get("v")? {
            Value::String(digits) => digits.clone(),
            number => number.to_string(),
        };
        Some(format!("{{relativeTimeoutNs: {nanos}n}}"))
    };
    let asked = scenario.steps.iter().filter_map(shown).any(|shown| shown == theirs);
    (ours == "undefined" && asked).then_some("N05")
}

pub(super) fn apply(left: &mut Left<'_>) {
    for ends in left.ends() {
        if ends.op == "send" || (ends.op == "call" && !ends.step.contains('/')) {
            one(left, &ends);
        }
    }
    after_the_end(left);
}

fn one(left: &mut Left<'_>, ends: &Ends) {
    match (&ends.theirs, &ends.ours) {
        (End::Fault(theirs), _) if theirs.kind == Kind::ChannelForgotten => {}
        (_, End::Fault(ours)) if ours.kind == Kind::Closed => dead(left, ends),
        // Every outstanding send is told how it ended.
        (_, End::Fault(ours)) if ours.kind == Kind::AckLost => lost(left, ends),
        (End::Value(theirs), End::Fault(ours)) if theirs == "undefined" => {
            let missing = ours.text.ends_with("is not a function")
                || ours.text.contains("target has no method");
            if ours.kind == Kind::Thrown && missing {
                left.excuse(ends, "D13");
            }
        }
        (End::Value(theirs), End::Value(ours)) if theirs == "undefined" && ours == "\"\"" => {
            left.excuse(ends, "D14");
        }
        (End::Fault(theirs), End::Value(_)) if theirs.kind == Kind::KitClosed => {
            left.excuse(ends, "D16");
        }
        (End::Fault(theirs), End::Value(_)) if theirs.kind == Kind::TypedArray => {
            let part = ends.our_part;
            let record = left.step(&ends.step).and_then(|step| step.fields.get("data"));
            let sent = record.is_some_and(Value::is_object);
            left.excuse(ends, "D20");
            if sent {
                left.take_extra("D20", |item| item.part == part && item.event.calls("onReceive"));
            }
        }
        _ => {}
    }
}

/// A send after the end: the original's other half lives on, ours is closed too.
fn dead(left: &mut Left<'_>, ends: &Ends) {
    if ends.theirs.kind() == Some(Kind::KitClosed) {
        left.excuse(ends, "D16");
        return;
    }
    let code = match reason_of(left, &ends.step) {
        Some((reason, _)) if !reason.contains("Revoked") => "D03",
        Some((_, true)) => "D05",
        Some((_, false)) => "D06",
        None => return,
    };
    let packet = left.shown_field(&ends.step, "data");
    let part = ends.their_part;
    let received = left.missing.iter().find_map(|item| match &item.event {
        Event::Call { who, method, args }
            if item.part == part && method == "onReceive" && args.get(1) == packet.as_ref() =>
        {
            Some((who.clone(), item.event.clone()))
        }
        _ => None,
    });
    left.excuse(ends, code);
    if let Some((who, event)) = received {
        left.take_missing(code, |item| item.part == part && item.event == event);
        let inside = format!("{who}.onReceive#");
        left.take_missing(code, |item| {
            item.part == part && item.event.step().is_some_and(|step| step.starts_with(&inside))
        });
    }
}

/// Why the connection that a step sends on has closed, and whether the trace tells of it.
fn reason_of(left: &Left<'_>, step: &str) -> Option<(String, bool)> {
    let closed = left.parts.iter().flat_map(|part| &part.ours).filter_map(|event| match event {
        Event::Call { method, args, .. } if method == "onClose" => {
            Some((args.first()?.clone(), args.get(1)?.clone()))
        }
        _ => None,
    });
    let closed: Vec<_> = closed.collect();
    let connection = left.connection_of(step);
    let own = |(subject, _): &&(String, String)| {
        connection
            .as_ref()
            .is_none_or(|own| subject == own || mirrored(own).as_ref() == Some(subject))
    };
    let (_, reason) = closed.iter().find(own)?;
    let mut theirs = left.parts.iter().flat_map(|part| &part.theirs);
    Some((reason.clone(), theirs.any(|event| event.calls("onClose"))))
}

/// D07: the ack is lost at the close, and not waited for any longer.
fn lost(left: &mut Left<'_>, ends: &Ends) {
    let known = matches!(ends.ours.text(), "delivered" | "not delivered");
    if known && ends.their_part >= ends.our_part {
        left.excuse(ends, "D07");
        let step = ends.step.clone();
        left.take_missing("D07", |item| item.event.step() == Some(&step));
    }
}

/// N09: an argument of a type that ours cannot have; the original's guard refuses it.
fn after_the_end(left: &mut Left<'_>) {
    for (step, _) in left.seen.notes.untyped.clone() {
        let refused = matches!(
            left.their_end(&step).and_then(|end| end.kind()),
            Some(Kind::Guard | Kind::TypedArray | Kind::TooLarge)
        );
        if refused {
            left.take_missing("N09", |item| item.event.step() == Some(&step));
        }
    }
}
