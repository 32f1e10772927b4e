//! The family `ibc`: D07, D27 to D31, N16 to N22, D06 and N04 for a close that the chain hears of.
//!
//! Each rule knows every event that the original has at such a place, with all of its arguments,
//! and takes them all or none.

mod opening;
mod packets;
mod told;

use serde_json::Value;

use self::told::{Opening, down, event_of};
use crate::replay::{
    event::{Event, Kind},
    js::quoted,
    left::{End, Ends, Item, Left},
    scenario::Step,
};

/// What the original always does that a rule may take.
pub(super) fn check(left: &mut Left<'_>) {
    let problems: Vec<_> = (0..left.parts.len())
        .filter_map(|part| {
            Some((
                part,
                opening::unasked(left, part).or_else(|| opening::opened_twice(left, part))?,
            ))
        })
        .collect();
    left.violations.extend(problems);
}

/// Whether the same event as that of a step returned before it.
fn was_taken(left: &Left<'_>, step: &str, event: &Value) -> bool {
    let before = left.scenario.steps.iter().take_while(|other| other.id != step);
    let mut same = before.filter(|other| event_of(other) == Some(event));
    same.any(|other| returns(left, &other.id))
}

fn returns(left: &Left<'_>, step: &str) -> bool {
    left.their_end(step).is_some_and(|end| end.value() == Some("undefined"))
}

pub(super) fn apply(left: &mut Left<'_>) {
    if !left.has_op("ibc") {
        return;
    }
    for part in 0..left.parts.len() {
        opening::asked_early(left, part);
        packets::emptied(left, part);
        packets::refused(left, part);
        opening::told_later(left, part);
    }
    for ends in left.ends() {
        match ends.op.as_str() {
            "bind" => bound_before(left, &ends),
            "connect" => opening::connects(left, &ends),
            "send" => packets::sends(left, &ends),
            "bridge" => bridged(left, &ends),
            _ => {}
        }
    }
    opening::before_any_chain(left);
}

/// The event of the bridge that a part is about.
fn bridge<'a>(left: &'a Left<'_>, part: usize) -> Option<&'a Value> {
    event_of(left.step(&left.parts[part].step)?)
}

fn kind_of(event: &Value) -> &str {
    event.get("event").and_then(Value::as_str).unwrap_or_default()
}

/// The words of a chain that fails at a method.
fn failing(left: &Left<'_>, method: &str) -> Option<String> {
    let mut steps = left.scenario.steps.iter().filter(|step| step.op == "ibc");
    let words = steps.find_map(|step| step.fields.get("fail")?.get(method)?.as_str());
    words.map(str::to_owned)
}

fn is_down(event: &Event, name: &str) -> bool {
    matches!(event, Event::Call { method, args, .. }
        if method == "downcall" && args.first() == Some(&quoted(name)))
}

/// Takes events of the trace and of ours if all of them are there: those of the trace in this
/// order, where they are of one part.
fn swap(
    left: &mut Left<'_>,
    code: &'static str,
    theirs: &[(usize, Event)],
    ours: &[(usize, Event)],
) -> bool {
    let there = |list: &[Item], (part, event): &(usize, Event)| {
        list.iter().any(|item| item.part == *part && item.event == *event)
    };
    let mut places = theirs.iter().filter(|(_, event)| event.is_call()).map(|(part, event)| {
        (*part, left.parts[*part].theirs.iter().position(|other| other == event))
    });
    let all = theirs.iter().all(|one| there(&left.missing, one))
        && ours.iter().all(|one| there(&left.extra, one))
        && places.by_ref().is_sorted();
    if all {
        let one = |list: &mut Vec<Item>, (part, event): &(usize, Event)| {
            let found = list.iter().position(|item| item.part == *part && item.event == *event);
            found.map(|at| list.remove(at));
        };
        theirs.iter().for_each(|event| one(&mut left.missing, event));
        ours.iter().for_each(|event| one(&mut left.extra, event));
        left.codes.insert(code);
    }
    all
}

/// The name of the chain, if there is one only.
fn ibc(left: &Left<'_>) -> Option<String> {
    let mut steps = left.scenario.steps.iter().filter(|step| step.op == "ibc");
    let name = steps.next()?.fields.get("as")?.as_str()?.to_owned();
    steps.next().is_none().then_some(name)
}

/// D30: the chain refuses the port again, and that is all.
fn bound_before(left: &mut Left<'_>, ends: &Ends) {
    let Some((who, words)) = ibc(left).zip(failing(left, "bindPort")) else { return };
    let address = |step: &Step| step.fields.get("addr").and_then(Value::as_str).map(str::to_owned);
    let Some(name) = left.step(&ends.step).and_then(address) else { return };
    let Some(port) = name.strip_prefix("/ibc-port/") else { return };
    let before = left.scenario.steps.iter().take_while(|step| step.id != ends.step);
    let tried = before.filter(|step| step.op == "bind" && address(step).as_ref() == Some(&name));
    let tried = tried
        .map(|step| left.their_end(&step.id))
        .any(|end| end.is_some_and(|end| end.kind() == Some(Kind::Thrown) && end.text() == words));
    let again = ends.ours.kind() == Some(Kind::Thrown) && ends.ours.text() == words;
    let named = ends.theirs.text().ends_with(&format!(": {port}"));
    if tried && again && named && ends.theirs.kind() == Some(Kind::BoundBefore) {
        let asked = format!("{{packet: {{source_port: {}}}}}", quoted(port));
        if swap(left, "D30", &[], &[(ends.our_part, down(&who, "bindPort", asked))]) {
            left.excuse(ends, "D30");
        }
    }
}

fn bridged(left: &mut Left<'_>, ends: &Ends) {
    let Some(event) = left.step(&ends.step).and_then(event_of).cloned() else { return };
    if ends.their_part != ends.our_part {
        return;
    }
    match (&ends.theirs, &ends.ours) {
        (End::Value(theirs), End::Fault(ours))
            if theirs == "undefined" && ours.kind == Kind::Denied =>
        {
            let words = ours.text.clone();
            denied(left, ends, &event, &words);
        }
        // N19: what is said again is heard, and nothing else.
        (End::Fault(theirs), End::Value(_))
            if theirs.kind == Kind::Denied && was_taken(left, &ends.step, &event) =>
        {
            left.excuse(ends, "N19");
        }
        // D31: nobody listens, and the other side is told so.
        (End::Fault(theirs), End::Value(_))
            if theirs.kind == Kind::NotListening && kind_of(&event) == "channelOpenTry" =>
        {
            opening::nobody(left, ends, &event);
        }
        // D28: nobody waits for the ack.
        (End::Fault(theirs), End::Value(_))
            if theirs.kind == Kind::ChannelForgotten
                && kind_of(&event) == "acknowledgementPacket" =>
        {
            left.excuse(ends, "D28");
        }
        _ => {}
    }
}

/// N18: what IBC's rules are against.
fn denied(left: &mut Left<'_>, ends: &Ends, event: &Value, words: &str) {
    match kind_of(event) {
        "channelCloseInit" if words.ends_with("not one that is relayed") => {
            left.excuse(ends, "N18");
        }
        "channelOpenInit" if words.ends_with("not one that is relayed") => {
            let asks = event.get("asyncVersions").and_then(Value::as_bool) == Some(true);
            let Some((who, opening)) = ibc(left).zip(Opening::tried(event)) else { return };
            let told = asks.then(|| (ends.their_part, opening.begun_down(&who)));
            if swap(left, "N18", told.as_slice(), &[]) {
                left.excuse(ends, "N18");
            }
        }
        "acknowledgementPacket" if words.contains("is out of order") => {
            // It is said again, and taken when it is due.
            let late = left.ends().into_iter().find(|other| {
                other.op == "send"
                    && other.their_part == ends.their_part
                    && other.our_part > other.their_part
                    && other.theirs == other.ours
            });
            let due = late.filter(|other| {
                bridge(left, other.our_part).map(kind_of) == Some("acknowledgementPacket")
            });
            if let Some(late) = due {
                left.excuse(&late, "N18");
                left.excuse(ends, "N18");
            }
        }
        "channelOpenTry" if words.contains("it has not one hop") => {
            opening::over_hops(left, ends, event);
        }
        _ => {}
    }
}
