//! What the recorded behaviour of the original package says of ours.

#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use network_testkit::replay::{
    self, Counts, DIFFERENCES, Line, Scenario, Vector, Verdict, difference,
};

const SCENARIOS: &str = include_str!("../data/upstream/scenarios.jsonl");
const VECTORS: &str = include_str!("../data/upstream/vectors.jsonl");
const PAGE: &str = include_str!("../../docs/differences.md");

/// The scenarios of the families that need no host of IBC: those are replayed where there is one.
fn open() -> Vec<(Scenario, Verdict)> {
    let all = SCENARIOS.lines().map(|line| Scenario::parse(line).unwrap());
    all.filter(|scenario| scenario.family != "ibc").map(|one| (one.clone(), one.replay())).collect()
}

fn counted(lines: impl Iterator<Item = Line>) -> Counts {
    let mut counts = Counts::default();
    for line in lines {
        println!("{line}");
        counts.add(&line.verdict);
    }
    println!("{counts}");
    counts
}

#[test]
fn every_scenario_is_the_same_or_differs_by_design() {
    let counts = counted(replay::scenarios(SCENARIOS));
    assert_eq!(counts.differs, 0);
    assert_eq!(counts.total(), 191);
}

#[test]
fn few_scenarios_are_not_applicable() {
    let all = open();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for (_, verdict) in &all {
        if let Verdict::NotApplicable(reason) = verdict {
            *reasons.entry(reason.clone()).or_default() += 1;
        }
    }
    println!("{reasons:#?}");
    assert!(reasons.values().sum::<usize>() * 10 < all.len(), "{reasons:#?}");
    for reason in reasons.keys() {
        let known =
            ["types rule it out", "acks are bytes", "base64 is no part", "core finds the listener"];
        assert!(known.iter().any(|words| reason.contains(words)), "{reason}");
    }
}

#[test]
fn the_family_ibc_needs_a_host() {
    let all = SCENARIOS.lines().map(|line| Scenario::parse(line).unwrap());
    for scenario in all.filter(|scenario| scenario.family == "ibc") {
        let verdict = scenario.replay().to_string();
        assert_eq!(
            verdict, "not applicable: needs a host, which network-ibc has",
            "{}",
            scenario.id
        );
    }
}

#[test]
fn every_vector_is_the_same_or_differs_by_design() {
    let counts = counted(replay::vectors(VECTORS));
    assert_eq!((counts.differs, counts.total()), (0, 98));
    assert!(counts.not_applicable <= 1);
}

#[test]
fn a_vector_with_another_answer_differs() {
    let mut changed = 0;
    for line in VECTORS.lines() {
        let mut json: serde_json::Value = serde_json::from_str(line).unwrap();
        if json.get("err").is_some() {
            json.as_object_mut().unwrap().remove("err");
        }
        json["ok"] = "something else".into();
        let vector = Vector::parse(&json.to_string()).unwrap();
        let verdict = vector.check();
        if matches!(verdict, Verdict::NotApplicable(_)) {
            continue;
        }
        changed += 1;
        assert!(!verdict.passed(), "{line}: {verdict}");
    }
    assert!(changed > 90, "{changed}");
}

#[test]
fn every_defect_that_a_trace_shows_is_in_the_table() {
    let all = SCENARIOS.lines().map(|line| Scenario::parse(line).unwrap());
    let shown: BTreeSet<String> = all.flat_map(|scenario| scenario.defects).collect();
    assert!(shown.len() >= 30, "{shown:?}");
    for code in &shown {
        assert!(difference(code).is_some(), "{code}");
    }
}

#[test]
fn the_codes_of_a_scenario_do_not_come_from_its_name_or_its_list() {
    for line in SCENARIOS.lines() {
        let mut json: serde_json::Value = serde_json::from_str(line).unwrap();
        let told = Scenario::parse(line).unwrap().replay();
        json["id"] = "another".into();
        json["title"] = "another".into();
        json["defects"] = serde_json::json!([]);
        let verdict = Scenario::parse(&json.to_string()).unwrap().replay();
        assert_eq!(verdict.to_string(), told.to_string());
    }
}

#[test]
fn the_table_is_in_order_and_every_field_says_something() {
    assert!(DIFFERENCES.is_sorted_by(|a, b| a.code < b.code));
    for one in DIFFERENCES {
        for text in [one.original, one.ours, one.why, one.check] {
            assert!(text.ends_with('.') && !text.contains('|') && !text.contains("  "), "{one:?}");
        }
    }
}

#[test]
fn the_page_shows_the_table() {
    assert!(
        PAGE.contains(&replay::markdown()),
        "docs/differences.md is not the table: `replay --differences` prints it"
    );
}

/// Runs the program: its exit code, and its last line.
fn program(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_replay")).args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), text.lines().last().unwrap_or_default().to_owned())
}

#[test]
fn the_program_says_how_many_passed_and_fails_if_one_differs() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/data/upstream");
    let scenarios = format!("{data}/scenarios.jsonl");
    assert_eq!(program(&[&scenarios]), (Some(0), "191 passed, 0 failed".to_owned()));
    let vectors = format!("{data}/vectors.jsonl");
    assert_eq!(program(&["--vectors", &vectors]), (Some(0), "98 passed, 0 failed".to_owned()));

    let changed = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("changed.jsonl");
    let first = SCENARIOS.lines().next().unwrap().replace("port(/local/x)", "port(/local/y)");
    std::fs::write(&changed, format!("{first}\n\nnonsense\n")).unwrap();
    let changed = changed.to_str().unwrap();
    assert_eq!(program(&[changed]), (Some(1), "0 passed, 2 failed".to_owned()));
    assert_eq!(program(&[&scenarios, changed]), (Some(1), "191 passed, 2 failed".to_owned()));
}

#[test]
fn the_program_refuses_what_it_cannot_read() {
    let empty = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("empty.jsonl");
    std::fs::write(&empty, "").unwrap();
    for arguments in [&[][..], &["--vectors"], &["--nonsense"], &["/nonexistent"]] {
        assert_eq!(program(arguments).0, Some(2), "{arguments:?}");
    }
    assert_eq!(program(&[empty.to_str().unwrap()]).0, Some(2));
}
