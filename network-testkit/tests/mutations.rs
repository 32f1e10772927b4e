//! A recorded trace that is changed does not pass: the runner can fail.

#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use network_testkit::replay::{Scenario, Verdict};
use serde_json::{Value, json};

const SCENARIOS: &str = include_str!("../data/upstream/scenarios.jsonl");

/// A trace with one thing changed, and what.
struct Mutant {
    what: String,
    json: Value,
}

/// Each recorded scenario that passes for what it does, and whose events are fixed.
fn recorded() -> impl Iterator<Item = Value> {
    let all = SCENARIOS.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|json| {
        let verdict = Scenario::parse(&json.to_string()).unwrap().replay();
        matches!(verdict, Verdict::Same | Verdict::ByDesign(_))
    })
}

/// The places of the events of a scenario that `which` picks, by segment and place.
fn places(json: &Value, which: impl Fn(&Value) -> bool) -> Vec<(usize, usize)> {
    let segments = json["trace"].as_array().unwrap().iter().enumerate();
    let fixed = segments.filter(|(_, segment)| segment["order"] != "schedule-dependent");
    fixed
        .flat_map(|(at, segment)| {
            let events = segment["events"].as_array().unwrap().iter().enumerate();
            events
                .filter(|(_, event)| which(event))
                .map(move |(place, _)| (at, place))
                .collect::<Vec<_>>()
        })
        .collect()
}

fn name(event: &Value) -> String {
    event.to_string()
}

fn callback(event: &Value) -> bool {
    event["ev"] == "cb"
}

fn dropped(json: &Value) -> Vec<Mutant> {
    let drop = |(at, place): (usize, usize)| {
        let mut json = json.clone();
        let segment = &mut json["trace"][at];
        let event = segment["events"].as_array_mut().unwrap().remove(place);
        if let Some(before) = segment.get_mut("before").and_then(Value::as_array_mut) {
            let place = place as u64;
            before.retain(|pair| pair[0] != place && pair[1] != place);
            for end in before.iter_mut().flat_map(|pair| pair.as_array_mut().unwrap()) {
                let old = end.as_u64().unwrap();
                *end = json!(old - u64::from(old > place));
            }
        }
        Mutant { what: format!("dropped {}", name(&event)), json }
    };
    places(json, callback).into_iter().map(drop).collect()
}

fn swapped(json: &Value) -> Vec<Mutant> {
    let all = places(json, callback);
    let mut mutants = Vec::new();
    for (one, (segment, a)) in all.iter().enumerate() {
        for (other, b) in &all[one + 1..] {
            let at = |place: usize| &json["trace"][*segment]["events"][place];
            if segment != other || json["trace"][*segment]["order"] != "total" || at(*a) == at(*b) {
                continue;
            }
            let mut json = json.clone();
            json["trace"][*segment]["events"].as_array_mut().unwrap().swap(*a, *b);
            mutants.push(Mutant {
                what: format!("swapped {} and {}", name(at(*a)), name(at(*b))),
                json,
            });
        }
    }
    mutants
}

fn reasoned(json: &Value) -> Vec<Mutant> {
    let closes = places(json, |event| event["m"] == "onClose" || event["m"] == "onReject");
    let mut mutants: Vec<_> = closes
        .into_iter()
        .map(|(at, place)| {
            let mut json = json.clone();
            let reason = json["trace"][at]["events"][place]["args"].as_array_mut().unwrap();
            let what = format!("another reason than {reason:?}");
            *reason.get_mut(1).unwrap() = json!("\"on fire\"");
            Mutant { what, json }
        })
        .collect();
    for (at, place) in places(json, |event| event["ev"] == "err") {
        let mut json = json.clone();
        let event = &mut json["trace"][at]["events"][place];
        let what = format!("another error than {event}");
        event["msg"] = json!("the house is on fire");
        mutants.push(Mutant { what, json });
    }
    mutants
}

fn returned(json: &Value) -> Vec<Mutant> {
    let returns = places(json, |event| event["ev"] == "ret");
    let change = |(at, place): (usize, usize)| {
        let mut json = json.clone();
        let event = &mut json["trace"][at]["events"][place];
        let what = format!("another value than {event}");
        event["val"] = json!("\"something else\"");
        Mutant { what, json }
    };
    returns.into_iter().map(change).collect()
}

fn survivors(mutate: impl Fn(&Value) -> Vec<Mutant>) -> (usize, Vec<String>) {
    let (mut tried, mut survived) = (0, Vec::new());
    for json in recorded() {
        for mutant in mutate(&json) {
            tried += 1;
            let verdict = Scenario::parse(&mutant.json.to_string()).unwrap().replay();
            if verdict.passed() {
                survived.push(format!("{}: {}: {verdict}", json["id"], mutant.what));
            }
        }
    }
    (tried, survived)
}

#[track_caller]
fn none_survives(mutate: impl Fn(&Value) -> Vec<Mutant>) {
    let (tried, survived) = survivors(mutate);
    assert!(tried > 100, "{tried} mutants");
    assert!(survived.is_empty(), "{} of {tried} pass:\n{}", survived.len(), survived.join("\n"));
}

#[test]
fn a_callback_that_is_dropped_fails() {
    none_survives(dropped);
}

#[test]
fn two_callbacks_that_are_swapped_fail() {
    none_survives(swapped);
}

#[test]
fn a_reason_that_is_changed_fails() {
    none_survives(reasoned);
}

#[test]
fn a_value_that_is_changed_fails() {
    none_survives(returned);
}
