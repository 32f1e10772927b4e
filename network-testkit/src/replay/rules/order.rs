//! The order of callbacks: N04, N07, and what our close tells each end (D08).
//!
//! Where ours may be in another order, the trace must still be in the original's: what each
//! `*_out_of_place` says. Otherwise a trace that tells nonsense would pass.

use std::collections::{BTreeMap, BTreeSet};

use crate::replay::{
    event::Event,
    left::{Item, Left, Part, mirrored},
};

/// What an order rule must not hide: that the trace itself has it as the original does, and
/// that ours tells the two ends of a close what is documented.
pub(super) fn check(left: &mut Left<'_>) {
    let mut problems = Vec::new();
    let accepted = left.accepted();
    let opened = opened(left);
    let closers = closers(left);
    for (place, part) in left.parts.iter().enumerate() {
        let reasons = reasons(&part.ours);
        for (connection, reason) in &reasons {
            let far = mirrored(connection).and_then(|far| reasons.get(&far));
            if far.is_some_and(|far| !fits(reason, far)) {
                problems.push((place, format!("the ends of {connection} disagree on {reason}")));
            }
        }
        if left.is_total(&part.step) {
            problems.extend(opens_out_of_place(part, &accepted).map(|problem| (place, problem)));
            let closes = closes_out_of_place(part, &reasons, &opened, &closers);
            problems.extend(closes.map(|problem| (place, problem)));
        }
        problems.extend(revoke_out_of_place(&part.theirs).map(|problem| (place, problem)));
    }
    left.violations.extend(problems);
}

/// The halves in the order in which the trace has them opened.
fn opened(left: &Left<'_>) -> Vec<String> {
    let calls = left.parts.iter().flat_map(|part| &part.theirs);
    let opens = calls.filter(|event| event.calls("onOpen"));
    opens.filter_map(|event| event.subject().map(str::to_owned)).collect()
}

/// The halves that steps close, and the place of the first that does.
fn closers(left: &Left<'_>) -> BTreeMap<String, usize> {
    let mut closers = BTreeMap::new();
    for (place, step) in left.scenario.steps.iter().enumerate() {
        if step.op == "close"
            && let Some(half) = left.connection_of(&step.id)
        {
            closers.entry(half).or_insert(place);
        }
    }
    closers
}

/// The original tells the accepting half first; without a listener, the dialing one.
fn opens_out_of_place(part: &Part, accepted: &BTreeSet<String>) -> Option<String> {
    let opens = subjects(&part.theirs, "onOpen");
    let pair = |at: usize| {
        let far = mirrored(opens.get(at)?)?;
        let other = opens[at + 1..].iter().position(|half| *half == far)?;
        (far != opens[at]).then_some((&opens[at], &opens[at + 1 + other]))
    };
    let dialed: Vec<&str> = part.theirs.iter().filter_map(dialed).collect();
    (0..opens.len()).filter_map(pair).find_map(|(first, second)| {
        let out_of_place = if accepted.contains(first) {
            false
        } else {
            accepted.contains(second) || dialed.contains(&second.as_str())
        };
        out_of_place.then(|| format!("{second} is told after {first} that it is open (N04)"))
    })
}

/// The half that a connect returned.
fn dialed(event: &Event) -> Option<&str> {
    match event {
        Event::Returned { op, value, .. } if op == "connect" => Some(value),
        _ => None,
    }
}

/// The original tells the closing half and at once the other, one connection after the other
/// as they were opened.
fn closes_out_of_place(
    part: &Part,
    reasons: &BTreeMap<String, String>,
    opened: &[String],
    closers: &BTreeMap<String, usize>,
) -> Option<String> {
    let closes = subjects(&part.theirs, "onClose");
    let told_by =
        |half: &String| reasons.get(half).is_some_and(|reason| !reason.contains("Remote"));
    for (at, half) in closes.iter().enumerate() {
        let far = mirrored(half).unwrap_or_default();
        if told_by(half)
            && !told_by(&far)
            && closes.contains(&far)
            && closes.get(at + 1) != Some(&far)
        {
            return Some(format!("{half} closes and {far} is not told at once (N04)"));
        }
    }
    // Where both close, the first that does.
    let both = |half: &&String| {
        told_by(half) && mirrored(half).is_some_and(|far| told_by(&far) && closes.contains(&far))
    };
    let by_steps: Vec<_> =
        closes.iter().filter(both).filter_map(|half| closers.get(half)).collect();
    if !by_steps.is_sorted() {
        return Some("who closes later is told first (N04)".to_owned());
    }
    // Only a revoke closes many; it goes through them in order.
    let revoked = |half: &&String| reasons.get(*half).is_some_and(|reason| reason == "\"Revoked\"");
    let order: Vec<_> = closes
        .iter()
        .filter(revoked)
        .filter_map(|half| opened.iter().position(|other| other == half))
        .collect();
    (!order.is_sorted())
        .then(|| "a revoke closes in another order than was opened (N04)".to_owned())
}

fn subjects(events: &[Event], method: &str) -> Vec<String> {
    let calls = events.iter().filter(|event| event.calls(method));
    calls.filter_map(|event| event.subject().map(str::to_owned)).collect()
}

/// The original tells the backend of a revoke before everything else.
fn revoke_out_of_place(theirs: &[Event]) -> Option<String> {
    let place = |name: &str| theirs.iter().position(|event| event.calls(name));
    let revoked = place("onRevoke")?;
    let removed = ["onListenRemove", "onRemove"].into_iter().filter_map(place).min()?;
    (revoked > removed).then(|| "the original calls onRevoke first (N07)".to_owned())
}

fn reasons(events: &[Event]) -> BTreeMap<String, String> {
    let of = |event: &Event| match event {
        Event::Call { method, args, .. } if method == "onClose" => {
            Some((args.first()?.clone(), args.get(1)?.clone()))
        }
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

/// Whether two ends of one connection may say so.
fn fits(one: &str, other: &str) -> bool {
    let pair = [one.trim_matches('"'), other.trim_matches('"')];
    matches!(
        pair,
        ["Local", "Remote" | "Local"]
            | ["Remote", "Local"]
            | ["Revoked", "RemoteRevoked" | "Revoked"]
            | ["RemoteRevoked", "Revoked"]
    )
}

pub(super) fn apply(left: &mut Left<'_>) {
    for part in 0..left.parts.len() {
        // Two ends, and two connections, are told each for itself.
        if opened_alike(left, part) {
            in_its_run(left, part, "onOpen");
        }
        in_its_run(left, part, "onClose");
        if received_alike(left, part) {
            in_its_run(left, part, "onReceive");
        }
        // A name is released when everything else is done.
        if left.parts[part].ours.iter().rfind(|event| event.is_call()).is_some_and(is_revoke) {
            take_moved(left, part, "N07", is_revoke);
        }
    }
}

fn is_revoke(event: &Event) -> bool {
    event.calls("onRevoke")
}

/// Takes calls of a method that came at another place among calls of that method which follow
/// each other: as many other calls come before each in the trace as in ours.
fn in_its_run(left: &mut Left<'_>, part: usize, method: &str) {
    let Part { theirs, ours, .. } = &left.parts[part];
    let before = |events: &[Event], others: &[Event]| {
        let mut found: Vec<(Event, usize)> = Vec::new();
        let mut count = 0;
        for event in events.iter().filter(|event| event.is_call()) {
            if event.calls(method) {
                found.push((event.clone(), count));
            } else if others.iter().any(|other| same_call(event, other) || same_call(other, event))
            {
                count += 1;
            }
        }
        found
    };
    let (theirs, ours) = (before(theirs, ours), before(ours, theirs));
    let place = |calls: &[(Event, usize)], event: &Event| {
        calls.iter().find(|(other, _)| other == event).map(|(_, count)| *count)
    };
    let mut moved = pairs(left, part, |event| event.calls(method));
    moved.retain(|(a, b)| place(&theirs, a) == place(&ours, b));
    take(left, part, "N04", moved);
}

fn take_moved(
    left: &mut Left<'_>,
    part: usize,
    code: &'static str,
    which: impl Fn(&Event) -> bool,
) {
    let moved = pairs(left, part, which);
    take(left, part, code, moved);
}

/// Calls that both have and that came at another place.
fn pairs(left: &Left<'_>, part: usize, which: impl Fn(&Event) -> bool) -> Vec<(Event, Event)> {
    let here = |item: &&Item| item.part == part;
    let missing = left.missing.iter().filter(here).filter(|item| which(&item.event));
    let found = missing.filter_map(|item| {
        let same = |other: &&Item| other.part == part && same_call(&item.event, &other.event);
        Some((item.event.clone(), left.extra.iter().find(same)?.event.clone()))
    });
    found.collect()
}

fn take(left: &mut Left<'_>, part: usize, code: &'static str, pairs: Vec<(Event, Event)>) {
    for (theirs, ours) in pairs {
        left.take_missing(code, |item| item.part == part && item.event == theirs);
        left.take_extra(code, |item| item.part == part && item.event == ours);
        if theirs.calls("onClose") {
            left.codes.insert("D08");
        }
    }
}

/// Whether the connections of a part were opened in the same order in both.
fn opened_alike(left: &Left<'_>, part: usize) -> bool {
    let connections = |events: &[Event]| {
        let mut connections: Vec<String> = Vec::new();
        for half in subjects(events, "onOpen") {
            let far = mirrored(&half).unwrap_or_default();
            let connection = half.min(far);
            if connections.last() != Some(&connection) {
                connections.push(connection);
            }
        }
        connections
    };
    let part = &left.parts[part];
    connections(&part.theirs) == connections(&part.ours)
}

/// Whether each connection's records came in the same order in both, and over all connections
/// in the trace in the order in which they were sent.
fn received_alike(left: &Left<'_>, part: usize) -> bool {
    let received = |events: &[Event]| -> Vec<(String, String)> {
        let of = |event: &Event| match event {
            Event::Call { method, args, .. } if method == "onReceive" => {
                Some((args.first()?.clone(), args.get(1)?.clone()))
            }
            _ => None,
        };
        events.iter().filter_map(of).collect()
    };
    let part = &left.parts[part];
    let (theirs, ours) = (received(&part.theirs), received(&part.ours));
    let on = |list: &[(String, String)], connection: &String| -> Vec<String> {
        list.iter().filter(|(other, _)| other == connection).map(|(_, text)| text.clone()).collect()
    };
    let alike =
        theirs.iter().all(|(connection, _)| on(&theirs, connection) == on(&ours, connection));
    let mut sent = left.scenario.steps.iter().filter(|step| step.op == "send");
    let in_order = theirs.iter().all(|(_, text)| {
        sent.any(|step| left.shown_field(&step.id, "data").as_ref() == Some(text))
    });
    alike && in_order
}

fn same_call(theirs: &Event, ours: &Event) -> bool {
    let (Event::Call { who, method, args }, Event::Call { who: w, method: m, args: our_args }) =
        (theirs, ours)
    else {
        return false;
    };
    let alike = |place: usize, a: &String, b: &String| {
        let reason = || super::closing::excused_reason(a, b).is_some();
        a == b || method == "onClose" && place == 1 && reason()
    };
    let mut args = args.iter().zip(our_args).enumerate();
    who == w && method == m && args.all(|(place, (a, b))| alike(place, a, b))
}
