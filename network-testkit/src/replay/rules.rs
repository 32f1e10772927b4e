//! What a difference by design may excuse, and how our side of it is checked.
//!
//! Each rule is about one code of the table in [`differences`](super::differences). It looks
//! for exactly the events that the code is about, in the trace, and for exactly what we
//! document instead, in ours, and takes both away. What no rule takes differs.

mod chain;
mod closing;
mod connecting;
mod form;
mod listening;
mod naming;
mod order;
mod original;
mod revoking;
mod routing;
mod sending;

use super::{left::Left, scenario::Scenario};

/// Lets every rule take what it is about, until none takes more.
pub(super) fn apply(left: &mut Left<'_>) {
    form::check(left);
    original::check(left);
    chain::check(left);
    order::check(left);
    connecting::check(left);
    loop {
        let before = (left.missing.len(), left.extra.len());
        order::apply(left);
        naming::apply(left);
        routing::apply(left);
        connecting::apply(left);
        listening::apply(left);
        revoking::apply(left);
        sending::apply(left);
        closing::apply(left);
        chain::apply(left);
        connecting::ghosts(left);
        if (left.missing.len(), left.extra.len()) == before {
            return;
        }
    }
}

/// Whether somebody of that name is a backend.
pub(super) fn is_backend(scenario: &Scenario, who: &str) -> bool {
    scenario.steps.iter().any(|step| {
        matches!(step.op.as_str(), "loopback" | "protocolHandler" | "ibc")
            && step.fields.get("as").and_then(serde_json::Value::as_str) == Some(who)
    })
}

/// The code that says why an argument of a callback is another with us.
pub(super) fn excused_argument(
    scenario: &Scenario,
    method: &str,
    place: usize,
    theirs: &str,
    ours: &str,
) -> Option<&'static str> {
    match (method, place) {
        ("onClose", 1) => closing::excused_reason(theirs, ours),
        ("onReceive", 3) => sending::excused_options(scenario, theirs, ours),
        _ => None,
    }
}
