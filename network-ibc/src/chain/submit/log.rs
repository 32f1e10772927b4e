//! What the texts of the Cosmos SDK say: they are all that tells some things.

use ibc_proto::cosmos::base::v1beta1::Coin;
use serde::Deserialize;

use crate::chain::answer::{Event, TxResult};

/// What is wrong with a transaction.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fault {
    /// The account's sequence is another one, if it says which.
    Sequence(Option<u64>),
    /// The message with that number, from 0, fails.
    Message(usize),
    /// It needs more gas than it said.
    Gas,
    /// Its fee is too low, and any one of these would do, as far as the node says it.
    Fee(Vec<Coin>),
    /// It is the account that cannot, for want of coins. No other transaction of it would do
    /// better.
    Account,
    /// It came too late.
    Late,
    /// The node has it already.
    Known,
    /// The node answers with what is no answer, and would to any part of it.
    Node,
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
            // A message may fail for want of coins or of a fee, too.
            ("sdk", 4 | 5) => return message(log).map_or(Self::Account, Self::Message),
            ("sdk", 13) => {
                return message(log).map_or_else(|| Self::Fee(required(log)), Self::Message);
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

/// What a fee has to be, of the texts of the SDK (`x/auth/ante/validator_tx_fee.go`) and of modules
/// that make a market of fees: `got: 1stake required: 5stake,3other`.
fn required(log: &str) -> Vec<Coin> {
    let Some((_, rest)) = log.split_once("required: ") else { return Vec::new() };
    let coins = rest.split_whitespace().next().unwrap_or_default();
    let coins = coins.trim_end_matches([':', ',', '.', ';']).split(',');
    let coin = |text: &str| {
        let (amount, denom) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
        let coin = Coin { denom: denom.to_owned(), amount: amount.to_owned() };
        (!amount.is_empty()).then_some(coin)
    };
    coins.filter_map(coin).collect()
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
        assert_eq!(Fault::of("sdk", 13, failed), Fault::Message(7));
        assert_eq!(Fault::of("sdk", 11, "out of gas in location: x"), Fault::Gas);
        assert_eq!(Fault::of("channel", 22, "packet messages are redundant"), Fault::Other);
        assert_eq!(Fault::of("", 1, "message index: 99999999999999999999999"), Fault::Other);
    }

    #[test]
    fn a_fee_that_is_too_low_says_what_is_enough() {
        let wanted = |log| match Fault::of("sdk", 13, log) {
            Fault::Fee(coins) => {
                let texts = coins.iter().map(|coin| format!("{} {}", coin.amount, coin.denom));
                texts.collect::<Vec<_>>().join(" or ")
            }
            other => panic!("{other:?}"),
        };
        let of_sdk = "insufficient fees; got: 10stake required: 123stake: insufficient fee";
        assert_eq!(wanted(of_sdk), "123 stake");
        let of_sdk = "insufficient fees; got:  required: 5ibc/AB12,123stake: insufficient fee";
        assert_eq!(wanted(of_sdk), "5 ibc/AB12 or 123 stake");
        let of_market = "error checking fee: got: 1uatom required: 22uatom, minGasPrice: 0.005";
        assert_eq!(wanted(of_market), "22 uatom");
        for none in
            ["", "insufficient fee", "required: ", "required: : x", "required: 5", "required: x"]
        {
            assert_eq!(wanted(none), "", "{none}");
        }
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
