//! What any trace looks like, whoever made it: what a callback is told fits together, nothing is
//! told twice, and the end of a call is where it was waited for.

use serde_json::Value;

use crate::replay::{
    event::{Event, Kind},
    js::quoted,
    left::{Left, Part, mirrored},
    scenario::Step,
};

pub(super) fn check(left: &mut Left<'_>) {
    let mut problems = Vec::new();
    let nested = has_nested_steps(left);
    for (place, part) in left.parts.iter().enumerate() {
        let calls = part.theirs.iter().filter(|event| event.is_call());
        let backend = |who: &str| super::is_backend(left.scenario, who);
        let unfit = |event| unfitting(event).or_else(|| unfitting_backend(event, backend));
        problems.extend(calls.filter_map(unfit).map(|problem| (place, problem)));
        if !nested && stands_alone(left, part) {
            problems.extend(twice(part).map(|problem| (place, problem)));
        }
        problems.extend(elsewhere(left, part).map(|problem| (place, problem)));
    }
    problems.extend(told_again(left));
    problems.extend(received_again(left));
    problems.extend(opened_late(left));
    problems.extend(used_after_close(left));
    left.violations.extend(problems);
}

/// The arguments of a callback that say the same say the same.
fn unfitting(event: &Event) -> Option<String> {
    let Event::Call { who, method, args } = event else { return None };
    let own = |kind: &str| format!("{kind}:{who}");
    let ends = |conn: &str| {
        let inside = conn.strip_prefix("conn(")?.rsplit_once(')')?.0;
        inside.split_once('>').map(|(local, remote)| [quoted(local), quoted(remote)])
    };
    let fits = match (method.as_str(), &args[..]) {
        ("onOpen", [conn, local, remote, own_self]) => {
            let [near, far] = ends(conn)?;
            let whole = [local, remote].iter().all(|text| !text.contains("...<"));
            *own_self == own("handler") && (!whole || (*local == near && *remote == far))
        }
        ("onReceive", [conn, _, own_self, options]) => {
            let optional = options == "undefined" || options.starts_with('{');
            ends(conn).is_some() && *own_self == own("handler") && optional
        }
        ("onClose", [conn, _, own_self]) => ends(conn).is_some() && *own_self == own("handler"),
        ("onAccept" | "onReject", [port, local, remote, own_self]) => {
            let addresses = local.starts_with("\"/") && remote.starts_with("\"/");
            is_port(port) && addresses && *own_self == own("listener")
        }
        ("onListen" | "onRemove", [port, own_self]) => {
            is_port(port) && *own_self == own("listener")
        }
        _ => true,
    };
    (!fits).then(|| format!("{event} does not fit together"))
}

/// The same for a backend, which is told of a port by its object and by its name.
fn unfitting_backend(event: &Event, is_backend: impl Fn(&str) -> bool) -> Option<String> {
    let Event::Call { who, method, args } = event else { return None };
    if method == "downcall" || !is_backend(who) {
        return None;
    }
    let named = |port: &str, name: &str| {
        let inside = port.strip_prefix("port(").and_then(|rest| rest.rsplit_once(')'));
        inside.is_some_and(|(address, _)| quoted(address) == name)
    };
    let fits = match (method.as_str(), &args[..]) {
        ("onBind" | "onRevoke", [port, name, _]) => named(port, name),
        ("onListen" | "onListenRemove", [port, name, listener, _]) => {
            named(port, name) && listener.starts_with("listener:")
        }
        ("generatePortID", [name, _]) => name.starts_with("\"/"),
        _ => true,
    };
    let own_self = args.last() == Some(&format!("protocol:{who}"));
    (!fits || !own_self).then(|| format!("{event} does not fit together"))
}

fn is_port(text: &str) -> bool {
    text.starts_with("port(/")
}

/// Whether handlers of the scenario do steps of their own.
fn has_nested_steps(left: &Left<'_>) -> bool {
    let methods = left.scenario.steps.iter().filter_map(|step| step.fields.get("methods"));
    methods.map(Value::to_string).any(|methods| methods.contains("\"do\":"))
}

/// Whether a part is about one step, of which nothing was begun before.
fn stands_alone(left: &Left<'_>, part: &Part) -> bool {
    let mut steps = left.scenario.steps.iter();
    !steps.any(|step| step.nowait) && left.step(&part.step).is_some()
}

/// What is told twice, for one step.
fn twice(part: &Part) -> Option<String> {
    let calls: Vec<_> = part.theirs.iter().filter(|event| event.is_call()).collect();
    // A fresh name is asked for until one is free, an instance for every prefix.
    let often = |event: &Event| {
        let fresh = event.subject().is_some_and(|name| name.ends_with("/\""));
        event.calls("generatePortID") && fresh
            || ["onInstantiate", "onConnect", "onCreate"].iter().any(|name| event.calls(name))
    };
    let mut again = calls.iter().enumerate().filter(|(_, event)| !often(event));
    let again = again.find(|(at, event)| calls[..*at].contains(event));
    again.map(|(_, event)| format!("{event} is told twice"))
}

/// A call of a step that is waited for ends there, or the trace says that it does not.
fn elsewhere(left: &Left<'_>, part: &Part) -> Option<String> {
    part.theirs.iter().find_map(|event| {
        let step = match event {
            Event::Returned { step, .. } | Event::Failed { step, .. } => step,
            _ => return None,
        };
        if *step == part.step || left.step(step)?.nowait {
            return None;
        }
        let own = left.parts.iter().find(|other| other.step == *step)?;
        let stalled = Event::Stalled { step: step.clone() };
        (!own.theirs.contains(&stalled)).then(|| format!("{event} comes at another step"))
    })
}

/// A connection opens and closes once.
fn told_again(left: &Left<'_>) -> Option<(usize, String)> {
    let once = ["onOpen", "onClose"];
    let mut told: Vec<&Event> = Vec::new();
    for (place, part) in left.parts.iter().enumerate() {
        for event in part.theirs.iter().filter(|event| once.iter().any(|name| event.calls(name))) {
            if told.contains(&event) {
                return Some((place, format!("{event} is told twice")));
            }
            told.push(event);
        }
    }
    None
}

/// A record is received as often as it is sent, where only steps send.
fn received_again(left: &Left<'_>) -> Option<(usize, String)> {
    let methods = left.scenario.steps.iter().filter_map(|step| step.fields.get("methods"));
    if left.has_op("bridge")
        || left.has_op("call")
        || methods.map(Value::to_string).any(|text| text.contains("\"send\""))
    {
        return None;
    }
    let sent = |data: &String| {
        let steps = left.scenario.steps.iter();
        let same = |step: &&Step| left.shown_field(&step.id, "data").as_ref() == Some(data);
        steps.filter(|step| step.op == "send").filter(same).count()
    };
    let mut told: Vec<&Event> = Vec::new();
    for (place, part) in left.parts.iter().enumerate() {
        for event in part.theirs.iter().filter(|event| event.calls("onReceive")) {
            told.push(event);
            let Event::Call { args, .. } = event else { continue };
            let often = told.iter().filter(|other| **other == event).count();
            if let Some(data) = args.get(1)
                && often > 1
                && often > sent(data)
            {
                return Some((place, format!("{event} is told more often than sent")));
            }
        }
    }
    None
}

/// Whoever connects is told that the connection is open before it is returned.
fn opened_late(left: &Left<'_>) -> Option<(usize, String)> {
    // Elsewhere two connections can have the same ends.
    if left.has_op("protocolHandler") {
        return None;
    }
    let mut returned: Vec<&str> = Vec::new();
    for (place, part) in left.parts.iter().enumerate() {
        let late = part.theirs.iter().find(|event| {
            let half = event.subject().unwrap_or_default();
            let far = mirrored(half).unwrap_or_default();
            event.calls("onOpen")
                && !half.contains('#')
                && (returned.contains(&half) || returned.contains(&&*far))
        });
        if let Some(event) = late {
            return Some((place, format!("{event} comes after the connect")));
        }
        returned.extend(part.theirs.iter().filter_map(|event| match event {
            Event::Returned { op, value, .. } if op == "connect" => Some(value.as_str()),
            _ => None,
        }));
    }
    None
}

/// A half that was closed sends nothing, and neither half closes again. With an echo kit, no
/// connection of its does (D16).
fn used_after_close(left: &Left<'_>) -> Option<(usize, String)> {
    let (mut closed, mut kit_closed): (Vec<String>, _) = (Vec::new(), false);
    let kit = only_kits(left);
    for step in &left.scenario.steps {
        kit_closed |= kit && step.op == "revoke" && left.their_end(&step.id).is_some();
        let one = left.is_of_one_connection(step);
        let uses = one && (step.op == "send" || step.op == "close");
        let Some(half) = left.connection_of(&step.id).filter(|_| uses) else { continue };
        let end = left.their_end(&step.id);
        let returned = end.as_ref().is_some_and(|end| end.value().is_some());
        let far = mirrored(&half).unwrap_or_default();
        let over =
            kit_closed || closed.contains(&half) || step.op == "close" && closed.contains(&far);
        if returned && over {
            let place = left.parts.iter().position(|part| part.step == step.id);
            let problem = format!("step {} uses {half} after its close", step.id);
            return Some((place.unwrap_or_default(), problem));
        }
        // Also by a close that fails because the other half has closed.
        let forgotten = end.and_then(|end| end.kind()) == Some(Kind::Forgotten);
        if step.op == "close" && (returned || forgotten) {
            closed.push(half);
            kit_closed |= kit;
        }
    }
    None
}

/// Whether only echo kits listen.
fn only_kits(left: &Left<'_>) -> bool {
    let added = left.scenario.steps.iter().filter(|step| step.op == "addListener");
    let kit = |step: &Step| {
        let name = step.fields.get("listener").and_then(Value::as_str);
        name.is_some_and(|name| name.ends_with(".listener"))
    };
    left.has_op("echoKit") && added.clone().count() > 0 && added.clone().all(kit)
}
