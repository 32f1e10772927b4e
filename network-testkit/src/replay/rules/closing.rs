//! Close: D04, D08, D16, N01, N02, N03.

use crate::replay::{
    event::Kind,
    left::{End, Left},
};

/// What the original says of every close.
const THEIR_REASON: &str = "\"closed-by-finalizer\"";

/// Our reasons for a close that somebody asked for.
const OUR_REASONS: [&str; 4] = ["\"Local\"", "\"Remote\"", "\"Revoked\"", "\"RemoteRevoked\""];

/// D08: the fixed text there, who closed here.
pub(super) fn excused_reason(theirs: &str, ours: &str) -> Option<&'static str> {
    (theirs == THEIR_REASON && OUR_REASONS.contains(&ours)).then_some("D08")
}

pub(super) fn apply(left: &mut Left<'_>) {
    for ends in left.ends() {
        let returned = ends.ours.value().is_some();
        match (ends.op.as_str(), ends.theirs.kind()) {
            // A connection has one state, and closing it again changes nothing.
            ("close", Some(Kind::Forgotten)) if returned => left.excuse(&ends, "D04"),
            ("close", Some(Kind::Closed)) if returned => left.excuse(&ends, "N01"),
            ("close", Some(Kind::KitClosed)) if returned => left.excuse(&ends, "D16"),
            // Who is told of an end cannot hold it up.
            ("close" | "revoke" | "removeListener" | "addListener", Some(Kind::Thrown))
                if returned && told_of_an_end(left, ends.their_part, ends.theirs.text()) =>
            {
                left.excuse(&ends, "N02");
            }
            // Our close returns when `on_close` was called, whether or not it has ended.
            ("close" | "revoke", _)
                if returned && ends.their_part > ends.our_part && ends.theirs.kind().is_none() =>
            {
                left.excuse(&ends, "N03");
            }
            _ => {}
        }
    }
    late(left);
}

/// A wait in the trace for an `onClose` that has not ended: it stalls, and returns later.
fn late(left: &mut Left<'_>) {
    for ends in left.ends() {
        let waits = matches!(ends.op.as_str(), "close" | "revoke") && ends.theirs == End::Open;
        if waits && ends.ours.value().is_some() {
            left.excuse(&ends, "N03");
            let step = ends.step;
            left.take_missing("N03", |item| item.event.step() == Some(&step));
        }
    }
}

/// Whether a method that only tells of an end was called in that part, and throws this.
fn told_of_an_end(left: &Left<'_>, part: usize, text: &str) -> bool {
    const METHODS: [&str; 3] = ["onClose", "onRemove", "onListenRemove"];
    let called = |event: &crate::replay::event::Event| METHODS.iter().any(|name| event.calls(name));
    let throws = |step: &crate::replay::scenario::Step| {
        let methods = step.fields.get("methods");
        let told = METHODS.iter().filter_map(|name| methods?.get(name));
        told.into_iter().any(|behaviour| behaviour.to_string().contains(&json(text)))
    };
    left.parts[part].ours.iter().any(called) && left.scenario.steps.iter().any(throws)
}

fn json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}
