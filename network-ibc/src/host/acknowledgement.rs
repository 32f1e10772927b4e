//! Answers as acknowledgements (ICS-004, "Acknowledgement envelope").

use bytes::Bytes;
use network_core::{Answer, Refusal};

/// What stands for an ack that is empty: IBC has no empty acknowledgements.
const EMPTY: &[u8] = &[1];

/// The refusals that a host gives where no handler saw the record. They are ordinary errors to
/// everybody else.
const DISCARDED: &str = "network: the connection closes, no handler saw the record";
const NO_ROOM: &str = "network: there is no memory for the record";

/// Writes an answer.
pub(super) fn write(answer: Answer) -> Bytes {
    match answer {
        Answer::Ack(ack) if ack.is_empty() => Bytes::from_static(EMPTY),
        Answer::Ack(ack) => ack,
        Answer::Refused(refusal) => error(refusal.text()),
        Answer::Discarded => error(DISCARDED),
        Answer::NoRoom => error(NO_ROOM),
    }
}

/// Reads an answer. An acknowledgement that is an error in the envelope is a refusal, all else is
/// an ack.
pub(super) fn read(acknowledgement: Bytes) -> Answer {
    // Cheap for what cannot be one.
    if acknowledgement.first() != Some(&b'{') {
        return Answer::Ack(acknowledgement);
    }
    match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&acknowledgement) {
        Ok(envelope) if envelope.len() == 1 => match envelope.get("error") {
            Some(serde_json::Value::String(text)) if text == DISCARDED => Answer::Discarded,
            Some(serde_json::Value::String(text)) if text == NO_ROOM => Answer::NoRoom,
            Some(serde_json::Value::String(text)) => Answer::Refused(Refusal::new(text.as_str())),
            _ => Answer::Ack(acknowledgement),
        },
        _ => Answer::Ack(acknowledgement),
    }
}

/// The envelope of an error, in the one form that ibc-go takes: as Go writes JSON, which escapes
/// what means something in HTML.
fn error(text: &str) -> Bytes {
    let mut out = String::from("{\"error\":");
    for part in serde_json::Value::from(text).to_string().chars() {
        match part {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            other => out.push(other),
        }
    }
    out.push('}');
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_back_as_they_were() {
        for answer in [
            Answer::Ack("yes".into()),
            Answer::Ack("{\"result\":\"AQ==\"}".into()),
            Answer::Ack("{\"error\":1}".into()),
            Answer::Ack("{\"error\":\"a\",\"more\":1}".into()),
            Answer::Refused(Refusal::new("no \"quotes\" \\ <b>&\u{2028}\n ok")),
            Answer::Discarded,
            Answer::NoRoom,
        ] {
            let written = write(answer.clone());
            assert_eq!(format!("{:?}", read(written)), format!("{answer:?}"));
        }
    }

    #[test]
    fn nothing_is_one_byte() {
        assert_eq!(write(Answer::Ack(Bytes::new())), &[1][..]);
    }

    #[test]
    fn errors_are_written_as_go_writes_them() {
        let written = write(Answer::Refused(Refusal::new("<a> & \"b\"")));
        assert_eq!(written, "{\"error\":\"\\u003ca\\u003e \\u0026 \\\"b\\\"\"}");
    }
}
