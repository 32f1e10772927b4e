//! Packets and their acknowledgements: D07, D28, D29, N17, N21, N22.

use serde_json::Value;

use super::{
    bridge, ibc, is_down, kind_of, swap,
    told::{self, base64, down, sent},
};
use crate::replay::{
    event::{Event, Kind},
    js::quoted,
    left::{End, Ends, Left},
};

/// N17: what stands for an empty ack.
pub(super) fn emptied(left: &mut Left<'_>, part: usize) {
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
pub(super) fn refused(left: &mut Left<'_>, part: usize) {
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

pub(super) fn sends(left: &mut Left<'_>, ends: &Ends) {
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
        // N22: nothing is sent.
        (theirs, End::Fault(ours)) if ours.kind == Kind::Empty => {
            let returned = !matches!(theirs, End::Fault(_));
            let asked = ibc(left).and_then(|who| sent(left, &who, &ends.step));
            let Some(asked) = asked.filter(|_| returned) else { return };
            if swap(left, "N22", &[(ends.our_part, asked)], &[]) {
                left.excuse(ends, "N22");
            }
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
