//! The one pass over text that endpoints and route patterns share.

use super::{Component, Endpoint, EndpointError, Kind, excerpt};

/// A component as the scanner found it, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a> {
    pub(crate) protocol: &'a str,
    pub(crate) protocol_at: usize,
    pub(crate) kind: Kind,
    pub(crate) value: Value<'a>,
    pub(crate) value_at: usize,
}

/// What stands in the place of a component's value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    /// Nothing: the protocol never has one, or the text ends with the protocol.
    Absent,
    /// The final `/` of the text.
    Fresh,
    /// A value, not empty.
    Text(&'a str),
}

/// Checks everything about `text` that does not depend on protocols, and hands each component to
/// `check`, which may return another text for its value. Returns the whole text with these, or
/// `None` if it was canonical.
pub(crate) fn scan<'a, E>(
    text: &'a str,
    mut check: impl FnMut(Part<'a>) -> Result<Option<String>, E>,
) -> Result<Option<String>, E>
where
    E: From<EndpointError>,
{
    check_length(text)?;
    check_start(text)?;

    let mut canonical = String::new();
    let mut copied = 0; // bytes of `text` that are in `canonical`
    let mut rest = text;
    let mut left = Endpoint::MAX_COMPONENTS;
    while let Some((component, after)) = Component::split(rest) {
        let part = part(text, rest, component)?;
        if left == 0 {
            let (at, text) = (part.protocol_at, excerpt(part.protocol));
            return Err(EndpointError::TooManyComponents { at, text }.into());
        }
        if let Some(value) = check(part)? {
            canonical.push_str(&text[copied..part.value_at]);
            canonical.push_str(&value);
            copied = text.len() - after.len();
        }
        left -= 1;
        rest = after;
    }

    if copied == 0 {
        return Ok(None);
    }
    canonical.push_str(&text[copied..]);
    check_length(&canonical)?; // ::ffff:ffff:ffff grows to ::ffff:255.255.255.255
    Ok(Some(canonical))
}

fn check_length(text: &str) -> Result<(), EndpointError> {
    let (at, len) = (Endpoint::MAX_LEN, text.len());
    if len > at {
        return Err(EndpointError::TooLong { at, len, text: excerpt(text) });
    }
    Ok(())
}

fn check_start(text: &str) -> Result<(), EndpointError> {
    if text.is_empty() || text == "/" {
        return Err(EndpointError::Empty { at: 0, text: text.to_owned() });
    }
    if !text.starts_with('/') {
        return Err(EndpointError::MissingSlash { at: 0, text: excerpt(text) });
    }
    if let Some(at) = text.find(char::is_control) {
        return Err(EndpointError::ControlCharacter { at, text: excerpt(&text[at..]) });
    }
    Ok(())
}

/// The first component of `rest`, the end of `text`.
fn part<'a>(
    text: &'a str,
    rest: &'a str,
    Component { protocol, value }: Component<'a>,
) -> Result<Part<'a>, EndpointError> {
    let protocol_at = text.len() - rest.len() + 1;
    let value_at = protocol_at + protocol.len() + 1;
    let empty_part = |at: usize| EndpointError::EmptyPart { at, text: excerpt(&text[at..]) };

    if protocol.is_empty() && protocol_at == text.len() {
        return Err(EndpointError::TrailingSlash { at: protocol_at - 1, text: excerpt(text) });
    }
    if protocol.is_empty() {
        return Err(empty_part(protocol_at));
    }
    let kind = Kind::of(protocol);
    let value = match value {
        Some("") => return Err(empty_part(value_at)),
        Some(value) => Value::Text(value),
        // The '/' that ends the text is not one that follows a valueless protocol.
        None if kind != Kind::Valueless && value_at == text.len() => Value::Fresh,
        None => Value::Absent,
    };
    Ok(Part { protocol, protocol_at, kind, value, value_at })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> EndpointError {
        Endpoint::parse(text).unwrap_err()
    }

    #[test]
    fn nothing_is_no_address() {
        assert_eq!(refusal(""), EndpointError::Empty { at: 0, text: "".into() });
        assert_eq!(refusal("/"), EndpointError::Empty { at: 0, text: "/".into() });
    }

    #[test]
    fn an_address_starts_with_a_slash() {
        for text in ["a", "a/b", " /a", "ip4/1.2.3.4", "é"] {
            assert_eq!(refusal(text), EndpointError::MissingSlash { at: 0, text: text.into() });
        }
    }

    #[test]
    fn empty_parts_are_refused_where_they_are() {
        for (text, at) in [
            ("//", 1),
            ("//a", 1),
            ("/local//", 7),
            ("/a//b", 3),
            ("/a/b//c", 5),
            ("/tls//", 5),
            ("/a/b//", 5),
        ] {
            assert_eq!(refusal(text), EndpointError::EmptyPart { at, text: text[at..].into() });
        }
    }

    #[test]
    fn a_final_slash_follows_a_protocol_that_wants_a_value() {
        for text in ["/local/a/", "/ip4/1.2.3.4/", "/ip4/1.2.3.4/udp/9/quic-v1/", "/tls/"] {
            let at = text.len() - 1;
            assert_eq!(refusal(text), EndpointError::TrailingSlash { at, text: text.into() });
        }
    }

    #[test]
    fn addresses_hosts_and_peers_cannot_be_fresh_or_missing() {
        for protocol in ["ip4", "ip6", "dns", "dns4", "dns6", "dnsaddr", "p2p"] {
            for end in ["", "/"] {
                let text = format!("/local/a/{protocol}{end}");
                let missing = EndpointError::MissingValue { at: 9, text: protocol.into() };
                assert_eq!(refusal(&text), missing);
            }
        }
        assert_eq!(refusal("/tcp"), EndpointError::MissingValue { at: 1, text: "tcp".into() });
    }

    #[test]
    fn control_characters_are_refused() {
        for control in ['\0', '\t', '\n', '\r', '\u{1b}', '\u{7f}', '\u{85}', '\u{9f}'] {
            let text = format!("/é{control}b/c");
            let rest = format!("{control}b/c");
            assert_eq!(refusal(&text), EndpointError::ControlCharacter { at: 3, text: rest });
        }
    }

    #[test]
    fn length_is_limited_as_written_and_in_canonical_form() {
        let long = |len: usize| format!("/local/{}", "x".repeat(len - 7));
        assert!(Endpoint::parse(&long(Endpoint::MAX_LEN)).is_ok());
        let text = excerpt(&long(4097));
        assert_eq!(refusal(&long(4097)), EndpointError::TooLong { at: 4096, len: 4097, text });

        let growing = format!("{}/ip6/::ffff:ffff:ffff", long(4096 - 21));
        assert_eq!(growing.len(), 4096);
        let text = excerpt(&growing);
        assert_eq!(refusal(&growing), EndpointError::TooLong { at: 4096, len: 4102, text });
    }

    #[test]
    fn components_are_limited() {
        let many = |count| "/tls".repeat(count);
        let endpoint = Endpoint::parse(&many(64)).unwrap();
        assert_eq!(endpoint.components().count(), Endpoint::MAX_COMPONENTS);
        assert_eq!(endpoint.prefixes().len(), 64);
        let too_many = EndpointError::TooManyComponents { at: 64 * 4 + 1, text: "tls".into() };
        assert_eq!(refusal(&many(65)), too_many);
    }

    #[test]
    fn a_position_counts_bytes_of_the_text_as_written() {
        assert_eq!(
            refusal("/dns/EXAMPLE.org/ip6/0:0::1/é/è/tcp/x"),
            EndpointError::PortNumber { at: 38, text: "x".into() }
        );
    }
}
