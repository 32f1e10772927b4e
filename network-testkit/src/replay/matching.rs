//! Which event of a trace is which of ours.

use super::{
    event::{Event, Fault, Kind},
    left::{Item, Left, Part},
    names::{Names, UsedUp},
    rules,
    run::Seen,
    scenario::{Order, Scenario},
};

/// Puts a trace and ours side by side and takes away what is alike.
pub(super) fn side_by_side<'a>(scenario: &'a Scenario, seen: &'a Seen) -> Left<'a> {
    let mut left = Left {
        scenario,
        seen,
        parts: Vec::new(),
        missing: Vec::new(),
        extra: Vec::new(),
        ghosts: Vec::new(),
        codes: std::collections::BTreeSet::new(),
        violations: Vec::new(),
    };
    let mut matching = Matching { scenario, names: Names::default(), used: UsedUp::default() };
    let mut taken = vec![false; scenario.trace.len()];
    for (place, (step, ours)) in seen.segments.iter().enumerate() {
        let found = scenario.trace.iter().position(|segment| segment.step == *step);
        let (theirs, order) = match found {
            Some(at) => {
                taken[at] = true;
                (scenario.trace[at].events.clone(), scenario.trace[at].order.clone())
            }
            None => (Vec::new(), Order::Total),
        };
        let part = Part { step: step.clone(), theirs, ours: ours.clone() };
        matching.part(place, &part, &order, &mut left);
        left.parts.push(part);
    }
    for (segment, _) in scenario.trace.iter().zip(taken).filter(|(_, taken)| !taken) {
        let step = &segment.step;
        left.violate(
            0,
            format!("the trace has a segment of step {step}, after which nobody waits"),
        );
    }
    let missing = left.missing.iter_mut().map(|item| &mut item.event);
    let parts = left.parts.iter_mut().flat_map(|part| &mut part.theirs);
    missing.chain(parts).for_each(|event| translate(event, &matching.names));
    if matching.names.renumbered() {
        left.codes.insert("D26");
    }
    left
}

/// Puts our names into an event of the original's.
fn translate(event: &mut Event, names: &Names) {
    match event {
        Event::Call { args, .. } => {
            args.iter_mut().for_each(|arg| *arg = names.translate(arg));
        }
        Event::Returned { value, .. } => *value = names.translate(value),
        _ => {}
    }
}

struct Matching<'a> {
    scenario: &'a Scenario,
    names: Names,
    used: UsedUp,
}

impl Matching<'_> {
    fn part(&mut self, place: usize, part: &Part, order: &Order, left: &mut Left<'_>) {
        self.count(part, order);
        let mut pairs = match order {
            Order::Total => self.in_order(part),
            Order::Partial(_) | Order::Schedule => {
                self.in_any_order(part, *order == Order::Schedule)
            }
        };
        if let Order::Partial(before) = order {
            drop_out_of_order(&mut pairs, before, part);
        }
        for (at, event) in part.theirs.iter().enumerate().filter(|(_, event)| !event.is_call()) {
            let same = |ours: &Event| self.alike(event, ours) || loosely(order, event, ours);
            if let Some(found) = part.ours.iter().position(same) {
                pairs.push((at, found));
            }
        }
        pairs.sort_unstable();
        // What an earlier pair has settled may part a later one.
        pairs.retain(|(a, b)| {
            let (theirs, ours) = (&part.theirs[*a], &part.ours[*b]);
            self.learn(theirs, ours, &mut left.codes) || *order == Order::Schedule
        });
        for (at, event) in part.theirs.iter().enumerate() {
            if !pairs.iter().any(|(a, _)| *a == at) {
                left.missing.push(Item { part: place, event: event.clone() });
            }
        }
        for (at, event) in part.ours.iter().enumerate() {
            if !pairs.iter().any(|(_, b)| *b == at) {
                left.extra.push(Item { part: place, event: event.clone() });
            }
        }
    }

    /// Counts the numbers that the original uses up in a part.
    fn count(&mut self, part: &Part, order: &Order) {
        for event in &part.theirs {
            let (op, failed) = match event {
                Event::Returned { op, .. } => (op.as_str(), false),
                Event::Failed { op, .. } => (op.as_str(), true),
                _ => continue,
            };
            match op {
                "bind" | "implBind" | "allocate" => self.used.ports += 1,
                "connect" if failed => self.used.instances += 1,
                "inbound" => self.used.instances += 1,
                _ => {}
            }
        }
        let connects = part.theirs.iter().filter(|event| event.calls("onAccept")).count();
        if connects > 1 && *order != Order::Total {
            self.used.instances += 1;
        }
    }

    /// The longest run of calls that both have in the same order.
    fn in_order(&self, part: &Part) -> Vec<(usize, usize)> {
        let calls = |events: &[Event]| -> Vec<usize> {
            (0..events.len()).filter(|at| events[*at].is_call()).collect()
        };
        let (theirs, ours) = (calls(&part.theirs), calls(&part.ours));
        let alike = |a: usize, b: usize| self.alike(&part.theirs[theirs[a]], &part.ours[ours[b]]);
        let width = ours.len() + 1;
        let mut longest = vec![0_usize; (theirs.len() + 1) * width];
        for a in (0..theirs.len()).rev() {
            for b in (0..ours.len()).rev() {
                longest[a * width + b] = if alike(a, b) {
                    longest[(a + 1) * width + b + 1] + 1
                } else {
                    longest[(a + 1) * width + b].max(longest[a * width + b + 1])
                };
            }
        }
        let (mut a, mut b, mut pairs) = (0, 0, Vec::new());
        while a < theirs.len() && b < ours.len() {
            if alike(a, b) && longest[a * width + b] == longest[(a + 1) * width + b + 1] + 1 {
                pairs.push((theirs[a], ours[b]));
                (a, b) = (a + 1, b + 1);
            } else if longest[(a + 1) * width + b] >= longest[a * width + b + 1] {
                a += 1;
            } else {
                b += 1;
            }
        }
        pairs
    }

    fn in_any_order(&self, part: &Part, loosely: bool) -> Vec<(usize, usize)> {
        let mut pairs: Vec<(usize, usize)> = Vec::new();
        for exactly in [true, false] {
            if !exactly && !loosely {
                break;
            }
            for (a, theirs) in part.theirs.iter().enumerate().filter(|(_, event)| event.is_call()) {
                let free = |b: &usize| !pairs.iter().any(|(_, taken)| taken == b);
                let alike = |b: &usize| {
                    let ours = &part.ours[*b];
                    if exactly { self.alike(theirs, ours) } else { same_method(theirs, ours) }
                };
                if !pairs.iter().any(|(taken, _)| *taken == a)
                    && let Some(b) = (0..part.ours.len()).filter(free).find(alike)
                {
                    pairs.push((a, b));
                }
            }
        }
        pairs
    }

    /// Whether the two mean the same, by what is known so far.
    fn alike(&self, theirs: &Event, ours: &Event) -> bool {
        let mut names = self.names.clone();
        alike(self.scenario, &mut names, self.used, theirs, ours).is_some()
    }

    /// As [`alike`](Self::alike), and keeps what it says of names and values.
    fn learn(
        &mut self,
        theirs: &Event,
        ours: &Event,
        codes: &mut std::collections::BTreeSet<&'static str>,
    ) -> bool {
        let mut names = self.names.clone();
        let Some(found) = alike(self.scenario, &mut names, self.used, theirs, ours) else {
            return false;
        };
        self.names = names;
        codes.extend(found);
        true
    }
}

/// The codes of what differs between two events that mean the same, or `None`.
fn alike(
    scenario: &Scenario,
    names: &mut Names,
    used: UsedUp,
    theirs: &Event,
    ours: &Event,
) -> Option<Vec<&'static str>> {
    match (theirs, ours) {
        (Event::Call { who, method, args }, Event::Call { who: w, method: m, args: our_args }) => {
            if who != w || method != m || args.len() != our_args.len() {
                return None;
            }
            let backend = rules::is_backend(scenario, who);
            let mut codes = Vec::new();
            for (place, (arg, our_arg)) in args.iter().zip(our_args).enumerate() {
                if backend && arg.starts_with("port(") {
                    // A backend is told a name, not an object.
                    if without_number(arg) != without_number(our_arg) {
                        names
                            .learn(without_number(arg), without_number(our_arg), used)
                            .then_some(())?;
                    }
                } else if !names.learn(arg, our_arg, used) {
                    codes.push(rules::excused_argument(scenario, method, place, arg, our_arg)?);
                }
            }
            Some(codes)
        }
        (
            Event::Returned { step, op, value },
            Event::Returned { step: s, op: o, value: our_value },
        ) => (step == s && op == o && names.learn(value, our_value, used)).then(Vec::new),
        (Event::Failed { step, op, fault }, Event::Failed { step: s, op: o, fault: our_fault }) => {
            let same = step == s && op == o && fault.matches(our_fault);
            same.then(|| worded_otherwise(fault, our_fault).into_iter().collect())
        }
        (Event::Stalled { step }, Event::Stalled { step: s })
        | (Event::Pending { step }, Event::Pending { step: s }) => (step == s).then(Vec::new),
        _ => None,
    }
}

/// The code for an error whose kind is the same and whose words give away what is odd.
fn worded_otherwise(theirs: &Fault, ours: &Fault) -> Option<&'static str> {
    match theirs.kind {
        _ if ours.kind == Kind::Thrown => None,
        Kind::NotListening if theirs.text.contains("\"localAddr\"") => Some("D34"),
        Kind::NotListening if theirs.text.contains("\"listening\"") => Some("D23"),
        Kind::AlreadyBound => Some("D10"),
        Kind::TooLarge | Kind::AckTooLarge => Some("D21"),
        Kind::NoListener if ours.text == "the port has another listener" => Some("N12"),
        _ => None,
    }
}

/// In a part that depends on the schedule, a call that settled is one, however it ended.
fn loosely(order: &Order, theirs: &Event, ours: &Event) -> bool {
    let settled = |event: &Event| matches!(event, Event::Returned { .. } | Event::Failed { .. });
    *order == Order::Schedule && settled(theirs) && settled(ours) && theirs.step() == ours.step()
}

fn same_method(theirs: &Event, ours: &Event) -> bool {
    matches!((theirs, ours), (
        Event::Call { who, method, .. },
        Event::Call { who: w, method: m, .. },
    ) if who == w && method == m)
}

fn without_number(object: &str) -> &str {
    object.rsplit_once('#').map_or(object, |(object, _)| object)
}

/// Parts pairs of calls that came in another order than the trace lets them.
fn drop_out_of_order(pairs: &mut Vec<(usize, usize)>, before: &[(usize, usize)], part: &Part) {
    let calls = |(a, b): &&(usize, usize)| part.theirs[*a].is_call() && part.theirs[*b].is_call();
    for (first, second) in before.iter().filter(calls) {
        let ours = |theirs: usize| pairs.iter().find(|(a, _)| *a == theirs).map(|(_, b)| *b);
        if let (Some(a), Some(b)) = (ours(*first), ours(*second))
            && a > b
        {
            pairs.retain(|(theirs, _)| theirs != second);
        }
    }
}
