//! The family `ibc`: D07, D27 to D31, N16 to N21, and N04 for a close that the chain hears of.
//!
//! Each rule knows every event that the original has at such a place, with all of its arguments,
//! and takes them all or none.

mod told;

use network_ibc::IbcEndpoint;
use serde_json::Value;

use self::told::{Opening, base64, down, event_of, sent};
use crate::replay::{
    event::{Event, Kind},
    js::quoted,
    left::{End, Ends, Item, Left},
    scenario::Step,
};

/// What the original always does that a rule may take.
pub(super) fn check(left: &mut Left<'_>) {
    let problems: Vec<_> = (0..left.parts.len())
        .filter_map(|part| Some((part, unasked(left, part).or_else(|| opened_twice(left, part))?)))
        .collect();
    left.violations.extend(problems);
}

/// N20: a chain that refuses to open a channel was asked to, once for each.
fn unasked(left: &Left<'_>, part: usize) -> Option<String> {
    let words = failing(left, "startChannelOpenInit")?;
    let failed = |event: &&Event| matches!(event, Event::Failed { op, fault, .. } if op == "connect" && fault.text == words);
    let theirs = &left.parts[part].theirs;
    let asked = theirs.iter().filter(|event| is_down(event, "startChannelOpenInit"));
    (theirs.iter().filter(failed).count() != asked.count())
        .then(|| "a chain that refuses is asked once (N20)".to_owned())
}

/// N19: a channel that is open is not opened again.
fn opened_twice(left: &Left<'_>, part: usize) -> Option<String> {
    let step = &left.parts[part].step;
    let event = bridge(left, part).filter(|event| kind_of(event) == "channelOpenAck")?;
    let again = was_taken(left, step, event) && returns(left, step);
    again.then(|| "a channel that is open opens again (N19)".to_owned())
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
        asked_early(left, part);
        emptied(left, part);
        refused(left, part);
        told_later(left, part);
    }
    for ends in left.ends() {
        match ends.op.as_str() {
            "bind" => bound_before(left, &ends),
            "connect" => connects(left, &ends),
            "send" => sends(left, &ends),
            "bridge" => bridged(left, &ends),
            _ => {}
        }
    }
    before_any_chain(left);
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

/// N16: the original asks its listener when the channel is open, ours when it is tried.
fn asked_early(left: &mut Left<'_>, part: usize) {
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

/// The name of the chain, if there is one only.
fn ibc(left: &Left<'_>) -> Option<String> {
    let mut steps = left.scenario.steps.iter().filter(|step| step.op == "ibc");
    let name = steps.next()?.fields.get("as")?.as_str()?.to_owned();
    steps.next().is_none().then_some(name)
}

/// N17: what stands for an empty ack.
fn emptied(left: &mut Left<'_>, part: usize) {
    let (theirs, ours) = (base64(&[0]), base64(&[1]));
    let acks: Vec<_> = left.missing.iter().filter(|item| item.part == part).cloned().collect();
    for item in acks.into_iter().filter(|item| is_down(&item.event, "receiveExecuted")) {
        let Event::Call { who, method, args } = &item.event else { continue };
        let theirs = format!("{{ack: {},", quoted(&theirs));
        let ours = format!("{{ack: {},", quoted(&ours));
        let args = args.iter().map(|arg| arg.replacen(&theirs, &ours, 1)).collect();
        let event = Event::Call { who: who.clone(), method: method.clone(), args };
        let calls: Vec<_> = left.parts[part].theirs.iter().filter(|call| call.is_call()).collect();
        let last = calls.last() == Some(&&item.event);
        if last && event != item.event {
            swap(left, "N17", &[(part, item.event)], &[(part, event)]);
        }
    }
}

/// D29: a refusal is an error acknowledgement.
fn refused(left: &mut Left<'_>, part: usize) {
    let received = left.parts[part].theirs.iter().any(|event| event.calls("onReceive"));
    let acked = left.parts[part].theirs.iter().any(|event| is_down(event, "receiveExecuted"));
    let Some(packet) = bridge(left, part).filter(|event| kind_of(event) == "receivePacket") else {
        return;
    };
    if !received || acked {
        return;
    }
    let packet = told::received(packet);
    for words in thrown(left, "onReceive") {
        let envelope = serde_json::json!({ "error": words }).to_string();
        let ack = quoted(&base64(envelope.as_bytes()));
        let Some((who, packet)) = ibc(left).zip(packet.clone()) else { return };
        let told = down(&who, "receiveExecuted", format!("{{ack: {ack}, packet: {packet}}}"));
        swap(left, "D29", &[], &[(part, told)]);
    }
}

/// What handlers throw in a method.
fn thrown(left: &Left<'_>, method: &str) -> Vec<String> {
    let behaviours = left.scenario.steps.iter().filter(|step| step.op == "handler");
    let behaviours = behaviours.filter_map(|step| step.fields.get("methods")?.get(method));
    let one = |behaviour: &Value| Some(behaviour.get("throw")?.get("msg")?.as_str()?.to_owned());
    let all = |behaviour: &Value| match behaviour {
        Value::Array(list) => list.iter().filter_map(one).collect::<Vec<_>>(),
        other => one(other).into_iter().collect(),
    };
    behaviours.flat_map(all).collect()
}

/// N04: the other end of a channel hears of a close for itself.
fn told_later(left: &mut Left<'_>, part: usize) {
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

/// D27: ours does not open a channel over two hops; the original opens one over the last.
fn connects(left: &mut Left<'_>, ends: &Ends) {
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

fn sends(left: &mut Left<'_>, ends: &Ends) {
    match (&ends.theirs, &ends.ours) {
        // D28: the channel is closed.
        (End::Fault(theirs), End::Fault(ours))
            if theirs.kind == Kind::ChannelForgotten && ours.kind == Kind::Closed =>
        {
            let Some(asked) = ibc(left).and_then(|who| sent(left, &who, &ends.step)) else {
                return;
            };
            if swap(left, "D28", &[(ends.their_part, asked)], &[]) {
                left.excuse(ends, "D28");
            }
        }
        // D07: over IBC the original tells of the close, and not what became of the record.
        (End::Fault(theirs), End::Fault(ours))
            if theirs.kind == Kind::Closed
                && ours.kind == Kind::AckLost
                && ends.their_part == ends.our_part =>
        {
            left.excuse(ends, "D07");
        }
        // N21: nobody waits for a number.
        (End::Value(theirs), End::Value(ours))
            if theirs == ours && ends.our_part < ends.their_part && numbered(left, ends) =>
        {
            left.excuse(ends, "N21");
        }
        _ => {}
    }
}

/// Whether a send returns in the trace as the chain gives it a number.
fn numbered(left: &Left<'_>, ends: &Ends) -> bool {
    let mut steps = left.scenario.steps.iter().filter(|step| step.op == "ibc");
    let gate = steps.find_map(|step| step.fields.get("await")?.get("sendPacket")?.as_str());
    let opens = left.step(&left.parts[ends.their_part].step).filter(|step| step.op == "resolve");
    let opened = opens.and_then(|step| step.fields.get("gate")?.as_str());
    gate.is_some() && gate == opened
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
            over_hops(left, ends, event);
        }
        _ => {}
    }
}

/// N18: a channel over several hops, which the original accepts.
fn over_hops(left: &mut Left<'_>, ends: &Ends, event: &Value) {
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
fn before_any_chain(left: &mut Left<'_>) {
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
