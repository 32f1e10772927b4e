//! Changed traces, which must not pass.

#![allow(unreachable_pub, dead_code, reason = "it is a part of several tests")]

use serde_json::{Value, json};

/// A trace with one thing changed, and what.
pub struct Mutant {
    pub what: String,
    pub json: Value,
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

/// Whether an event is not about a step inside of a handler.
fn of_a_step(event: &Value) -> bool {
    !event["step"].as_str().is_some_and(|step| step.contains('#'))
}

fn callback(event: &Value) -> bool {
    event["ev"] == "cb"
}

pub fn dropped(json: &Value) -> Vec<Mutant> {
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

pub fn swapped(json: &Value) -> Vec<Mutant> {
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

pub fn reasoned(json: &Value) -> Vec<Mutant> {
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

pub fn returned(json: &Value) -> Vec<Mutant> {
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

/// Another argument of a callback, each in turn.
pub fn altered(json: &Value) -> Vec<Mutant> {
    let change = |(at, place): (usize, usize)| {
        let event = &json["trace"][at]["events"][place];
        let arguments = event["args"].as_array().unwrap().len();
        let one = |argument: usize| {
            let mut json = json.clone();
            let event = &mut json["trace"][at]["events"][place];
            let what = format!("another argument {argument} than {event}");
            event["args"][argument] = json!("\"something else\"");
            Mutant { what, json }
        };
        (0..arguments).map(one).collect::<Vec<_>>()
    };
    places(json, callback).into_iter().flat_map(change).collect()
}

/// A callback that is told twice.
pub fn doubled(json: &Value) -> Vec<Mutant> {
    let double = |(at, place): (usize, usize)| {
        let mut json = json.clone();
        let events = json["trace"][at]["events"].as_array_mut().unwrap();
        let event = events[place].clone();
        events.insert(place, event.clone());
        Mutant { what: format!("twice {event}"), json }
    };
    places(json, callback).into_iter().map(double).collect()
}

/// An event that is told one segment later.
pub fn late(json: &Value) -> Vec<Mutant> {
    let later = |(at, place): (usize, usize)| {
        let mut json = json.clone();
        json["trace"].get(at + 1)?;
        let event = json["trace"][at]["events"].as_array_mut()?.remove(place);
        let what = format!("later {event}");
        json["trace"][at + 1]["events"].as_array_mut()?.insert(0, event);
        Some(Mutant { what, json })
    };
    // A step inside a handler ends whenever the handler comes to it.
    places(json, of_a_step).into_iter().filter_map(later).collect()
}

/// A call that fails instead of returning, and one that returns instead of failing.
pub fn ended_otherwise(json: &Value) -> Vec<Mutant> {
    let ends = |event: &Value| (event["ev"] == "ret" || event["ev"] == "err") && of_a_step(event);
    let change = |(at, place): (usize, usize)| {
        let mut json = json.clone();
        let event = json["trace"][at]["events"][place].as_object_mut().unwrap();
        let what = format!("another end than {event:?}");
        if event.remove("val").is_some() {
            event.insert("ev".to_owned(), json!("err"));
            event.insert("name".to_owned(), json!("Error"));
            event.insert("msg".to_owned(), json!("the house is on fire"));
        } else {
            event.insert("ev".to_owned(), json!("ret"));
            event.insert("val".to_owned(), json!("undefined"));
        }
        Mutant { what, json }
    };
    places(json, ends).into_iter().map(change).collect()
}
