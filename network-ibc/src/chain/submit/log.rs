//! What the texts of the Cosmos SDK say: they are all that tells some things.

use serde::Deserialize;

use crate::chain::answer::{Event, TxResult};

/// What is wrong with a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The account's sequence is another one, if it says which.
    Sequence(Option<u64>),
    /// The message with that number, from 0, fails.
    Message(usize),
    /// It needs more gas than it said.
    Gas,
    /// It is the account that cannot: it has no coins, or the fee is too low. No other transaction
    /// of it would do better.
    Account,
    /// It came too late.
    Late,
    /// The node has it already.
    Known,
    /// Something else, which concerns one of its messages or all.
    Other,
}

impl Fault {
    /// Judges an error by its code, and by its text where codes are lost on the way.
    pub(super) fn of(codespace: &str, code: u32, log: &str) -> Self {
        // Cosmos SDK, `types/errors/errors.go`.
        match (codespace, code) {
            ("sdk", 32) => return Self::Sequence(number_after(log, "expected ")),
            ("sdk", 11) => return Self::Gas,
            ("sdk", 4 | 5 | 13) => {
                // A message may fail for want of coins, too.
                return message(log).map_or(Self::Account, Self::Message);
            }
            ("sdk", 30) => return Self::Late,
            ("sdk", 19) => return Self::Known,
            _ => {}
        }
        if log.contains("account sequence mismatch") {
            return Self::Sequence(number_after(log, "expected "));
        }
        message(log).map_or(Self::Other, Self::Message)
    }
}

/// SDK, `baseapp/baseapp.go`, `runMsgs`.
fn message(log: &str) -> Option<usize> {
    number_after(log, "message index: ").and_then(|index| usize::try_from(index).ok())
}

fn number_after(text: &str, what: &str) -> Option<u64> {
    let (_, rest) = text.split_once(what)?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

/// The events of each message of a transaction that was executed.
pub(super) fn events(result: TxResult, messages: usize) -> Vec<Vec<Event>> {
    let mut all = vec![Vec::new(); messages];
    let mut numbered = false;
    for event in result.events {
        let index = event.get("msg_index").and_then(|index| index.parse::<usize>().ok());
        if let Some(of) = index.and_then(|index| all.get_mut(index)) {
            numbered = true;
            of.push(event);
        }
    }
    if !numbered {
        // Until SDK 0.47 it is the log that says which message an event is of.
        for (place, logged) in logged(&result.log).into_iter().enumerate() {
            if let Some(of) = all.get_mut(logged.msg_index.unwrap_or(place)) {
                *of = logged.events;
            }
        }
    }
    all
}

#[derive(Deserialize)]
struct Logged {
    msg_index: Option<usize>,
    #[serde(default)]
    events: Vec<Event>,
}

fn logged(log: &str) -> Vec<Logged> {
    serde_json::from_str(log).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_told_by_code_and_text() {
        let mismatch = "account sequence mismatch, expected 12, got 11: incorrect account sequence";
        assert_eq!(Fault::of("sdk", 32, mismatch), Fault::Sequence(Some(12)));
        assert_eq!(Fault::of("sdk", 32, "?"), Fault::Sequence(None));
        // A trial loses the codes.
        assert_eq!(Fault::of("sdk", 18, mismatch), Fault::Sequence(Some(12)));
        let failed = "failed to execute message; message index: 7: light client is expired";
        assert_eq!(Fault::of("client", 5, failed), Fault::Message(7));
        assert_eq!(Fault::of("sdk", 5, failed), Fault::Message(7));
        assert_eq!(Fault::of("sdk", 5, "1stake is smaller than 2stake"), Fault::Account);
        assert_eq!(Fault::of("sdk", 11, "out of gas in location: x"), Fault::Gas);
        assert_eq!(Fault::of("channel", 22, "packet messages are redundant"), Fault::Other);
        assert_eq!(Fault::of("", 1, "message index: 99999999999999999999999"), Fault::Other);
    }

    fn event(kind: &str, index: Option<&str>) -> String {
        let index = index
            .map(|index| format!(r#"{{"key":"msg_index","value":"{index}"}}"#))
            .unwrap_or_default();
        format!(r#"{{"type":"{kind}","attributes":[{index}]}}"#)
    }

    fn kinds(result: &str, messages: usize) -> Vec<Vec<String>> {
        let result: TxResult = serde_json::from_str(result).unwrap();
        let events = events(result, messages).into_iter();
        events.map(|of| of.into_iter().map(|event| event.kind).collect()).collect()
    }

    #[test]
    fn events_are_given_to_the_message_they_are_of() {
        let json = format!(
            r#"{{"events":[{},{},{},{},{}]}}"#,
            event("fee", None),
            event("a", Some("0")),
            event("b", Some("2")),
            event("c", Some("2")),
            event("stray", Some("3")),
        );
        let expected: [&[&str]; 3] = [&["a"], &[], &["b", "c"]];
        assert_eq!(kinds(&json, 3), expected);
    }

    #[test]
    fn events_of_older_chains_are_in_the_log() {
        let log = format!(
            r#"[{{"msg_index":0,"events":[{}]}},{{"msg_index":1,"events":[{}]}}]"#,
            event("a", None),
            event("b", None)
        );
        let json = serde_json::json!({ "log": log, "events": [] }).to_string();
        assert_eq!(kinds(&json, 2), [["a"], ["b"]]);
        assert_eq!(kinds(r#"{"log":"out of gas"}"#, 1), [[""; 0]]);
    }
}
