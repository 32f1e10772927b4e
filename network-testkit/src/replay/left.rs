//! What is left of a trace and of ours when all that is alike is gone.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    event::{Event, Fault, Kind},
    js::{cut, quoted},
    run::Seen,
    scenario::{Order, Scenario, Step},
};

/// An event and where it was seen.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) part: usize,
    pub(super) event: Event,
}

/// One segment, of the original's and of ours.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) step: String,
    pub(super) theirs: Vec<Event>,
    pub(super) ours: Vec<Event>,
}

/// An object that only the original has, and the code that says why.
#[derive(Clone, Debug)]
pub(super) struct Ghost {
    pub(super) step: String,
    pub(super) text: String,
    pub(super) code: &'static str,
}

/// What is not alike, for the rules to take from.
#[derive(Debug)]
pub(super) struct Left<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) seen: &'a Seen,
    pub(super) parts: Vec<Part>,
    /// In the trace, and not seen.
    pub(super) missing: Vec<Item>,
    /// Seen, and not in the trace.
    pub(super) extra: Vec<Item>,
    pub(super) ghosts: Vec<Ghost>,
    pub(super) codes: BTreeSet<&'static str>,
    /// What no rule may excuse.
    pub(super) violations: Vec<(usize, String)>,
}

/// How a call of a step ended in the trace, and with us, where the two differ.
#[derive(Clone, Debug)]
pub(super) struct Ends {
    pub(super) step: String,
    pub(super) op: String,
    pub(super) theirs: End,
    pub(super) ours: End,
    pub(super) their_part: usize,
    pub(super) our_part: usize,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    Value(String),
    Fault(Fault),
    Open,
}

impl End {
    fn of(event: &Event) -> Option<Self> {
        match event {
            Event::Call { .. } => None,
            Event::Returned { value, .. } => Some(Self::Value(value.clone())),
            Event::Failed { fault, .. } => Some(Self::Fault(fault.clone())),
            Event::Stalled { .. } | Event::Pending { .. } => Some(Self::Open),
        }
    }

    pub(super) fn kind(&self) -> Option<Kind> {
        match self {
            Self::Fault(fault) => Some(fault.kind),
            _ => None,
        }
    }

    pub(super) fn value(&self) -> Option<&str> {
        match self {
            Self::Value(value) => Some(value),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> &str {
        match self {
            Self::Fault(fault) => &fault.text,
            _ => "",
        }
    }
}

impl Left<'_> {
    /// The calls whose ends differ.
    pub(super) fn ends(&self) -> Vec<Ends> {
        let mut ends = Vec::new();
        for item in &self.missing {
            let (Some(step), Some(theirs)) = (item.event.step(), End::of(&item.event)) else {
                continue;
            };
            let same = |other: &&Item| other.event.step() == Some(step);
            let Some(other) = self.extra.iter().find(same) else { continue };
            let Some(ours) = End::of(&other.event) else { continue };
            ends.push(Ends {
                step: step.to_owned(),
                op: self.op_of(step, &item.event),
                theirs,
                ours,
                their_part: item.part,
                our_part: other.part,
            });
        }
        ends
    }

    fn op_of(&self, step: &str, event: &Event) -> String {
        match event {
            Event::Returned { op, .. } | Event::Failed { op, .. } => op.clone(),
            _ => self.step(step).map_or_else(String::new, |step| step.op.clone()),
        }
    }

    /// Takes both ends of a call.
    pub(super) fn excuse(&mut self, ends: &Ends, code: &'static str) {
        let of = |item: &Item| item.event.step() == Some(&ends.step);
        if let Some(at) = self.missing.iter().position(of) {
            self.missing.remove(at);
        }
        if let Some(at) = self.extra.iter().position(of) {
            self.extra.remove(at);
        }
        self.codes.insert(code);
    }

    /// Takes both ends of a call that makes something only in the original.
    pub(super) fn excuse_ghost(&mut self, ends: &Ends, code: &'static str) {
        self.excuse(ends, code);
        if let End::Value(text) = &ends.theirs {
            self.ghosts.push(Ghost { step: ends.step.clone(), text: text.clone(), code });
        }
    }

    /// Takes calls of the trace that we do not make; how many there were.
    pub(super) fn take_missing(
        &mut self,
        code: &'static str,
        which: impl Fn(&Item) -> bool,
    ) -> usize {
        let taken = take(&mut self.missing, which);
        if taken > 0 {
            self.codes.insert(code);
        }
        taken
    }

    /// Takes calls of ours that the trace does not have; how many there were.
    pub(super) fn take_extra(
        &mut self,
        code: &'static str,
        which: impl Fn(&Item) -> bool,
    ) -> usize {
        let taken = take(&mut self.extra, which);
        if taken > 0 {
            self.codes.insert(code);
        }
        taken
    }

    /// A step, also one inside a handler.
    pub(super) fn step(&self, id: &str) -> Option<&Step> {
        self.scenario.steps.iter().find(|step| step.id == id)
    }

    /// A field of a step, as traces write strings.
    pub(super) fn shown_field(&self, step: &str, name: &str) -> Option<String> {
        match self.step(step)?.fields.get(name)? {
            Value::String(text) => Some(cut(quoted(text))),
            _ => None,
        }
    }

    /// How the call of a step ended with us, whether or not the trace agrees.
    pub(super) fn our_end(&self, step: &str) -> Option<End> {
        let mut ours = self.parts.iter().flat_map(|part| &part.ours);
        ours.find(|event| event.step() == Some(step)).and_then(End::of)
    }

    /// How the call of a step ended in the trace.
    pub(super) fn their_end(&self, step: &str) -> Option<End> {
        let mut theirs = self.parts.iter().flat_map(|part| &part.theirs);
        theirs.find(|event| event.step() == Some(step)).and_then(End::of)
    }

    /// The steps of an operation that fail with us in such a way.
    pub(super) fn fails_with_us(&self, op: &str, kind: Kind) -> Vec<&Step> {
        let failing = |step: &&Step| {
            step.op == op && self.our_end(&step.id).and_then(|end| end.kind()) == Some(kind)
        };
        self.scenario.steps.iter().filter(failing).collect()
    }

    /// The connection that a step is about, as we name it.
    pub(super) fn connection_of(&self, step: &str) -> Option<String> {
        let name = self.step(step)?.fields.get("conn")?.as_str()?;
        let shown = self.seen.notes.shown.iter().rev().find(|(other, _)| other == name);
        shown.map(|(_, text)| text.clone())
    }

    /// Whether the name of the connection that a step is about never was that of another.
    pub(super) fn is_of_one_connection(&self, step: &Step) -> bool {
        let name = step.fields.get("conn").and_then(Value::as_str);
        let shown = self.seen.notes.shown.iter().filter(|(other, _)| Some(other.as_str()) == name);
        shown.map(|(_, text)| text).collect::<BTreeSet<_>>().len() == 1
    }

    /// The name that a step gives what it makes.
    pub(super) fn name_of(&self, step: &str) -> Option<&str> {
        self.step(step)?.fields.get("as")?.as_str()
    }

    /// All that the trace tells.
    pub(super) fn theirs(&self) -> impl Iterator<Item = &Event> {
        self.parts.iter().flat_map(|part| &part.theirs)
    }

    /// The halves that a listener was asked about.
    pub(super) fn accepted(&self) -> BTreeSet<String> {
        let half = |event: &Event| match event {
            Event::Call { method, args, .. } if method == "onAccept" => {
                let [local, remote] =
                    [args.get(1)?, args.get(2)?].map(|text| text.trim_matches('"'));
                Some(format!("conn({local}>{remote})"))
            }
            _ => None,
        };
        let parts = self.parts.iter().flat_map(|part| part.ours.iter().chain(&part.theirs));
        parts.filter_map(half).collect()
    }

    /// Whether what a step makes of that name has a method.
    pub(super) fn has_method(&self, name: &str, method: &str) -> bool {
        self.behaviour(name, method).is_some()
    }

    /// Whether a method does nothing but throw, whenever it is called.
    pub(super) fn always_throws(&self, name: &str, method: &str) -> bool {
        self.behaviour(name, method).is_some_and(|behaviour| behaviour.get("throw").is_some())
    }

    fn behaviour(&self, name: &str, method: &str) -> Option<&Value> {
        let named = |step: &&Step| step.fields.get("as").and_then(Value::as_str) == Some(name);
        self.scenario.steps.iter().find(named)?.fields.get("methods")?.get(method)
    }

    /// Whether every backend tells of the calls of a method.
    pub(super) fn backends_hear(&self, method: &str) -> bool {
        let mut backends = self.scenario.steps.iter().filter_map(|step| match step.op.as_str() {
            "loopback" => step.fields.get("spy").and_then(Value::as_bool).or(Some(false)),
            "protocolHandler" => Some(step.fields.get("methods")?.get(method).is_some()),
            _ => None,
        });
        backends.clone().next().is_some() && backends.all(|hears| hears)
    }

    /// Whether the handler of a half has a method.
    pub(super) fn hears(&self, half: &str, method: &str) -> bool {
        let has = |name: &str| self.has_method(name, method);
        let called = self.theirs().find_map(|event| match event {
            Event::Call { who, args, method, .. }
                if args.first().is_some_and(|arg| arg == half) =>
            {
                ["onOpen", "onReceive", "onClose"].contains(&method.as_str()).then_some(who)
            }
            _ => None,
        });
        if let Some(who) = called {
            return has(who);
        }
        // Whoever dials says which; else it is what the listeners return.
        let dialed = self.theirs().find_map(|event| match event {
            Event::Returned { step, op, value } if op == "connect" && value == half => {
                self.step(step)?.fields.get("handler")?.as_str()
            }
            _ => None,
        });
        if let Some(who) = dialed {
            return has(who);
        }
        let listeners = self.scenario.steps.iter().filter(|step| step.op == "listener");
        let accept = |step: &Step| step.fields.get("methods")?.get("onAccept")?.get("ret").cloned();
        let returned: Vec<_> = listeners.map(accept).collect();
        let name = |ret: &Option<Value>| ret.as_ref()?.get("name")?.as_str().map(str::to_owned);
        let names: Vec<_> = returned.iter().map(name).collect();
        self.accepted().contains(half)
            && !names.is_empty()
            && names.iter().all(|name| name.as_deref().is_some_and(has))
    }

    /// Whether the order of a segment's events is fixed.
    pub(super) fn is_total(&self, step: &str) -> bool {
        let mut trace = self.scenario.trace.iter();
        trace.any(|segment| segment.step == step && segment.order == Order::Total)
    }

    pub(super) fn has_op(&self, op: &str) -> bool {
        self.scenario.steps.iter().any(|step| step.op == op)
    }

    pub(super) fn violate(&mut self, part: usize, problem: impl Into<String>) {
        self.violations.push((part, problem.into()));
    }
}

fn take(list: &mut Vec<Item>, which: impl Fn(&Item) -> bool) -> usize {
    let before = list.len();
    list.retain(|item| !which(item));
    before - list.len()
}

/// The other end of `conn(A>B)`.
pub(super) fn mirrored(connection: &str) -> Option<String> {
    let (ends, _) = connection.strip_prefix("conn(")?.rsplit_once(')')?;
    let (local, remote) = ends.split_once('>')?;
    Some(format!("conn({remote}>{local})"))
}
