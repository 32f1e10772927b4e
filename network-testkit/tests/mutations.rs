//! A recorded trace that is changed does not pass: the runner can fail.

#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

mod mutants;

use mutants::{
    Mutant, altered, doubled, dropped, ended_otherwise, late, reasoned, returned, swapped,
};
use network_testkit::replay::{Scenario, Verdict};
use serde_json::Value;

const SCENARIOS: &str = include_str!("../data/upstream/scenarios.jsonl");

/// Each recorded scenario that passes for what it does, and whose events are fixed.
fn recorded() -> impl Iterator<Item = Value> {
    let all = SCENARIOS.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|json| {
        let verdict = Scenario::parse(&json.to_string()).unwrap().replay();
        matches!(verdict, Verdict::Same | Verdict::ByDesign(_))
    })
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
    println!("{tried} changed traces");
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

#[test]
fn an_argument_that_is_changed_fails() {
    none_survives(altered);
}

#[test]
fn a_callback_that_is_told_twice_fails() {
    none_survives(doubled);
}

#[test]
fn an_event_that_is_told_late_fails() {
    none_survives(late);
}

#[test]
fn a_call_that_ends_otherwise_fails() {
    none_survives(ended_otherwise);
}
