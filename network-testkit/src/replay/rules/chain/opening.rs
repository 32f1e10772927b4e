//! Channels: who is asked about them and when, and how they open and close: D27, D31, N04, N16,
//! N18, N19, N20.

use network_ibc::IbcEndpoint;
use serde_json::Value;

use super::{
    bridge, failing, ibc, is_down, kind_of, returns, swap,
    told::{self, Opening},
    was_taken,
};
use crate::replay::{
    event::{Event, Kind},
    js::quoted,
    left::{End, Ends, Left},
    scenario::Step,
};

/// N16: the original asks its listener when the channel is open, ours when it is tried.
pub(super) fn asked_early(left: &mut Left<'_>, part: usize) {
    let Some(tried) = bridge(left, part).and_then(Opening::tried) else { return };
    let asked: Vec<_> = left.extra.iter().filter(|item| item.part == part).cloned().collect();
    for item in asked.into_iter().filter(|item| item.event.calls("onAccept")) {
        let Some(confirmed) = confirmed(left, &tried) else { continue };
        let first = left.parts[confirmed].theirs.iter().find(|event| event.is_call());
        if first == Some(&item.event) {
            swap(left, "N16", &[(confirmed, item.event.clone())], &[(part, item.event)]);
        } else if first.is_none() && revoked_between(left, part, confirmed) {
            given_up(left, &tried, (part, item.event), confirmed);
        }
    }
    declined(left, part, &tried);
}

/// The part in which a channel is confirmed.
fn confirmed(left: &Left<'_>, tried: &Opening) -> Option<usize> {
    let of = |part: &usize| {
        let event = bridge(left, *part);
        event.is_some_and(|event| kind_of(event) == "channelOpenConfirm" && tried.is_named(event))
    };
    (0..left.parts.len()).find(of)
}

fn revoked_between(left: &Left<'_>, first: usize, last: usize) -> bool {
    let revokes = |event: &Event| matches!(event, Event::Returned { op, .. } if op == "revoke");
    left.parts[first..last].iter().any(|part| part.theirs.iter().any(revokes))
}

/// D31: who was accepted by a port that is revoked meanwhile is told so: the channel is closed.
fn given_up(left: &mut Left<'_>, tried: &Opening, asked: (usize, Event), confirmed: usize) {
    let Some(who) = ibc(left) else { return };
    swap(left, "D31", &[], &[asked, (confirmed, tried.close_down(&who))]);
}

/// D31: who is declined is told so.
fn declined(left: &mut Left<'_>, part: usize, tried: &Opening) {
    let rejected = |event: &Event| match event {
        Event::Call { args, .. } if is_down(event, "rejected") => {
            args.get(1).is_some_and(|told| told.contains(&quoted(&tried.far_channel)))
        }
        _ => false,
    };
    let opened = confirmed(left, tried).is_some_and(|confirmed| {
        left.parts[confirmed].theirs.iter().any(|event| event.calls("onOpen"))
    });
    if !opened {
        left.take_extra("D31", |item| item.part == part && rejected(&item.event));
    }
}

/// D27: ours does not open a channel over two hops; the original opens one over the last.
pub(super) fn connects(left: &mut Left<'_>, ends: &Ends) {
    if ends.ours.kind() != Some(Kind::Hops) {
        return;
    }
    let Some(who) = ibc(left) else { return };
    let text = |step: &Step, name: &str| Some(step.fields.get(name)?.as_str()?.to_owned());
    let Some(step) = left.step(&ends.step) else { return };
    let Some(mut to) = text(step, "to").and_then(|to| IbcEndpoint::parse(&to).ok()) else { return };
    to.hops = to.hops.split_off(to.hops.len().saturating_sub(1));
    let handler = text(step, "handler").filter(|name| left.has_method(name, "onOpen"));
    let Some(near_port) = told::port_of(left, step) else { return };
    let Some(begun) = told::begun(&who, &near_port, &to) else { return };
    let answered = (0..left.parts.len()).find_map(|part| {
        let event = bridge(left, part).filter(|event| kind_of(event) == "channelOpenAck")?;
        let opening = Opening::answered(event, &to)?;
        returns(left, &left.parts[part].step).then_some((part, opening))
    });
    let Some((part, opening)) = answered else { return };
    let connection = opening.connection();
    if ends.theirs.value() != Some(&connection) || ends.their_part != part {
        return;
    }
    let mut theirs = vec![(ends.our_part, begun)];
    theirs.extend(handler.map(|name| (part, opening.opened(&name))));
    let denied =
        left.ends().into_iter().find(|other| other.their_part == part && other.op == "bridge");
    let Some(denied) = denied.filter(|other| other.ours.kind() == Some(Kind::Denied)) else {
        return;
    };
    let named = left.name_of(&ends.step).map(str::to_owned);
    let Some(asked) = addresses_of(left, named.as_deref(), &opening) else { return };
    if swap(left, "D27", &[theirs, asked].concat(), &[]) {
        left.excuse(&denied, "D27");
        left.excuse(ends, "D27");
    }
}

/// What the trace tells of the addresses of a connection that we do not have; `None` if that is
/// wrong.
fn addresses_of(
    left: &Left<'_>,
    name: Option<&str>,
    opening: &Opening,
) -> Option<Vec<(usize, Event)>> {
    let mut found = Vec::new();
    for (step, missing) in &left.seen.notes.missing {
        if Some(missing.as_str()) != name {
            continue;
        }
        let op = left.step(step)?.op.clone();
        let value = match op.as_str() {
            "getLocalAddress" => quoted(&opening.local),
            "getRemoteAddress" => quoted(&opening.remote),
            _ => return None,
        };
        let part = left.parts.iter().position(|part| part.step == *step)?;
        found.push((part, Event::Returned { step: step.clone(), op, value }));
    }
    Some(found)
}

/// N18: a channel over several hops, which the original accepts.
pub(super) fn over_hops(left: &mut Left<'_>, ends: &Ends, event: &Value) {
    let Some(tried) = Opening::tried(event) else { return };
    let Some(part) = confirmed(left, &tried) else { return };
    let confirm = left.ends().into_iter().find(|other| {
        other.op == "bridge"
            && other.their_part == part
            && other.theirs.value() == Some("undefined")
            && other.ours.kind() == Some(Kind::Denied)
    });
    let Some((confirm, listener)) = confirm.zip(told::listener_of(left, &tried)) else { return };
    let mut theirs = vec![(part, tried.asked(&listener.name))];
    if let Some(handler) = &listener.handler {
        theirs.extend(listener.opens.then(|| (part, tried.opened(handler))));
    }
    let Some(asked) = addresses_of(left, listener.saved.as_deref(), &tried) else { return };
    if swap(left, "N18", &[theirs, asked].concat(), &[]) {
        left.excuse(ends, "N18");
        left.excuse(&confirm, "N18");
    }
}

/// N20: a channel that cannot begin.
pub(super) fn before_any_chain(left: &mut Left<'_>) {
    let Some((who, words)) = ibc(left).zip(failing(left, "startChannelOpenInit")) else { return };
    let connects = left.scenario.steps.iter().filter(|step| step.op == "connect");
    let failed = |end: Option<End>| {
        end.is_some_and(|end| end.kind() == Some(Kind::Thrown) && end.text() == words)
    };
    let failing = connects
        .filter(|step| failed(left.their_end(&step.id)) && failed(left.our_end(&step.id)))
        .filter_map(|step| {
            let to = IbcEndpoint::parse(step.fields.get("to")?.as_str()?).ok()?;
            let begun = told::begun(&who, &told::port_of(left, step)?, &to)?;
            let part = left
                .parts
                .iter()
                .position(|part| part.theirs.iter().any(|event| event.step() == Some(&step.id)))?;
            Some((part, begun))
        });
    let failing: Vec<_> = failing.collect();
    for begun in failing {
        swap(left, "N20", &[begun], &[]);
    }
}

/// D31: the other side is told that nobody listens, and nothing else happens.
pub(super) fn nobody(left: &mut Left<'_>, ends: &Ends, event: &Value) {
    let part = ends.our_part;
    let Some(tried) = Opening::tried(event) else { return };
    let calls: Vec<_> =
        left.parts[part].ours.iter().filter(|event| event.is_call()).cloned().collect();
    if let [told] = &calls[..]
        && is_down(told, "rejected")
    {
        declined(left, part, &tried);
        left.excuse(ends, "D31");
    }
}

/// D06: the original's revoke closes nothing that its port has dialed.
fn revoked_dialed(left: &mut Left<'_>, part: usize) {
    let Some(who) = ibc(left) else { return };
    let part_of = &left.parts[part];
    let revokes = |event: &Event| matches!(event, Event::Returned { op, .. } if op == "revoke");
    if !part_of.theirs.iter().any(revokes)
        || part_of.theirs.iter().any(|event| event.calls("onClose"))
    {
        return;
    }
    let closed = part_of.ours.iter().filter_map(|event| match event {
        Event::Call { method, args, .. } if method == "onClose" => match &args[..] {
            [half, reason, ..] if reason == "\"Revoked\"" => told::closed(&who, half),
            _ => None,
        },
        _ => None,
    });
    let closed: Vec<_> = closed.collect();
    for event in closed {
        swap(left, "D06", &[], &[(part, event)]);
    }
}

/// N04: the other end of a channel hears of a close for itself.
pub(super) fn told_later(left: &mut Left<'_>, part: usize) {
    revoked_dialed(left, part);
    let closes: Vec<_> = left.missing.iter().filter(|item| item.part == part).cloned().collect();
    for item in closes.into_iter().filter(|item| is_down(&item.event, "startChannelCloseInit")) {
        let theirs = &left.parts[part].theirs;
        let place = |which: &dyn Fn(&Event) -> bool| theirs.iter().position(which);
        let told = place(&|event| *event == item.event);
        let closed = place(&|event| event.calls("onClose"));
        let removed = place(&|event| event.calls("onRemove"));
        let in_place = closed < told && removed.is_none_or(|removed| told < Some(removed));
        if in_place {
            swap(left, "N04", &[(part, item.event.clone())], &[(part, item.event)]);
        }
    }
}

/// N20: a chain that refuses to open a channel was asked to, once for each.
pub(super) fn unasked(left: &Left<'_>, part: usize) -> Option<String> {
    let words = failing(left, "startChannelOpenInit")?;
    let failed = |event: &&Event| matches!(event, Event::Failed { op, fault, .. } if op == "connect" && fault.text == words);
    let theirs = &left.parts[part].theirs;
    let asked = theirs.iter().filter(|event| is_down(event, "startChannelOpenInit"));
    (theirs.iter().filter(failed).count() != asked.count())
        .then(|| "a chain that refuses is asked once (N20)".to_owned())
}

/// N19: a channel that is open is not opened again.
pub(super) fn opened_twice(left: &Left<'_>, part: usize) -> Option<String> {
    let step = &left.parts[part].step;
    let event = bridge(left, part).filter(|event| kind_of(event) == "channelOpenAck")?;
    let again = was_taken(left, step, event) && returns(left, step);
    again.then(|| "a channel that is open opens again (N19)".to_owned())
}
