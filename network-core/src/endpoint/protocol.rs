//! The protocols that are known: whether each has a value, and what that may be.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{EndpointError, excerpt};

/// What the values of a protocol are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// There is none.
    Valueless,
    Ip4,
    Ip6,
    Port,
    Host,
    Peer,
    /// An unknown protocol: any value, or none in last place.
    Other,
}

impl Kind {
    /// The kind of a protocol, per <https://github.com/multiformats/multiaddr/blob/master/protocols.csv>.
    pub(crate) fn of(protocol: &str) -> Self {
        match protocol {
            "ip4" => Self::Ip4,
            "ip6" => Self::Ip6,
            "tcp" | "udp" => Self::Port,
            "dns" | "dns4" | "dns6" | "dnsaddr" => Self::Host,
            "p2p" => Self::Peer,
            // `Endpoint` documents this list.
            "http" | "https" | "noise" | "p2p-circuit" | "p2p-stardust" | "p2p-webrtc-direct"
            | "p2p-webrtc-star" | "p2p-websocket-star" | "plaintextv2" | "quic" | "quic-v1"
            | "tls" | "udt" | "utp" | "webrtc" | "webrtc-direct" | "webtransport" | "ws"
            | "wss" => Self::Valueless,
            _ => Self::Other,
        }
    }
}

/// Checks a value that stands at byte `at`, and returns its canonical form if it differs.
pub(crate) fn canonical_value(
    kind: Kind,
    value: &str,
    at: usize,
) -> Result<Option<String>, EndpointError> {
    let text = || excerpt(value);
    match kind {
        Kind::Valueless | Kind::Other => Ok(None),
        Kind::Ip4 => match value.parse::<Ipv4Addr>() {
            Ok(_) => Ok(None), // std takes no other form of it
            Err(_) => Err(EndpointError::Ip4Address { at, text: text() }),
        },
        Kind::Ip6 => match value.parse::<Ipv6Addr>() {
            Ok(address) => Ok(Some(address.to_string()).filter(|canonical| canonical != value)),
            Err(_) => Err(EndpointError::Ip6Address { at, text: text() }),
        },
        Kind::Port if is_port_number(value) => Ok(None),
        Kind::Port => Err(EndpointError::PortNumber { at, text: text() }),
        Kind::Host => match host_name_problem(value) {
            Some(problem) => Err(EndpointError::HostName { at, problem, text: text() }),
            None if value.bytes().any(|b| b.is_ascii_uppercase()) => {
                Ok(Some(value.to_ascii_lowercase()))
            }
            None => Ok(None),
        },
        Kind::Peer if is_base58btc(value) || is_base32(value) => Ok(None),
        Kind::Peer => Err(EndpointError::PeerId { at, text: text() }),
    }
}

fn is_port_number(value: &str) -> bool {
    let plain = value == "0" || !value.starts_with(['0', '+']);
    plain && value.parse::<u16>().is_ok()
}

fn host_name_problem(value: &str) -> Option<&'static str> {
    // RFC 1035 §2.3.4: 255 octets on the wire, where each label has a length octet before it and
    // the root has one too. The final dot of an absolute name adds nothing.
    const MAX_NAME: usize = 253;
    const MAX_LABEL: usize = 63;

    let name = value.strip_suffix('.').unwrap_or(value);
    if name.len() > MAX_NAME {
        return Some("it is longer than 253 bytes, shorten it");
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')) {
        return Some("write it in letters, digits, '-', '_' and '.', other letters as xn--...");
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Some("a label between its dots is empty, write it or remove a dot");
        }
        if label.len() > MAX_LABEL {
            return Some("a label between its dots is longer than 63 bytes, shorten it");
        }
        // RFC 1123 §2.1
        if label.starts_with('-') || label.ends_with('-') {
            return Some("a label between its dots starts or ends with '-', remove that");
        }
    }
    None
}

fn is_base58btc(value: &str) -> bool {
    value.bytes().all(|b| b.is_ascii_alphanumeric() && !matches!(b, b'0' | b'O' | b'I' | b'l'))
}

/// RFC 4648 §6 in lower case, as multibase has it under `b`.
fn is_base32(value: &str) -> bool {
    value.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The canonical value, or whether it is refused.
    fn canonical(protocol: &str, value: &str) -> Result<String, EndpointError> {
        let changed = canonical_value(Kind::of(protocol), value, 0)?;
        Ok(changed.unwrap_or_else(|| value.to_owned()))
    }

    fn takes(protocol: &str, values: &[&str]) {
        for value in values {
            assert_eq!(canonical(protocol, value).as_deref(), Ok(*value), "{protocol}");
        }
    }

    fn refuses(protocol: &str, values: &[&str]) {
        for value in values {
            assert!(canonical(protocol, value).is_err(), "{protocol} took {value:?}");
        }
    }

    #[test]
    fn ip4_is_four_numbers_without_leading_zeros() {
        takes("ip4", &["127.0.0.1", "0.0.0.0", "255.255.255.255"]);
        refuses("ip4", &["127.0.0.01", "127.1", "256.0.0.1", "1.2.3.4.", " 1.2.3.4", "::1", "*"]);
    }

    #[test]
    fn ip6_is_printed_in_the_form_of_rfc_5952() {
        takes("ip6", &["::1", "::", "fe80::1", "2001:db8::a", "::ffff:1.2.3.4"]);
        refuses("ip6", &["[::1]", "fe80::1%eth0", "1.2.3.4", ":::", "12345::"]);
        for (value, form) in [
            ("0:0:0:0:0:0:0:1", "::1"),
            ("2001:0DB8:0:0:1:0:0:0", "2001:db8:0:0:1::"),
            ("::FFFF:102:304", "::ffff:1.2.3.4"),
        ] {
            assert_eq!(canonical("ip6", value).as_deref(), Ok(form));
        }
    }

    #[test]
    fn ports_are_sixteen_bits_in_plain_digits() {
        for protocol in ["tcp", "udp"] {
            takes(protocol, &["0", "80", "65535"]);
            refuses(protocol, &["65536", "080", "00", "+80", "-1", "http", "8 0", "٨٠", ""]);
        }
    }

    #[test]
    fn host_names_keep_the_limits_of_rfc_1035() {
        let label = "a".repeat(63);
        let longest = [&label[..], &label, &label, &label[..61]].join(".");
        assert_eq!(longest.len(), 253);
        takes(
            "dns",
            &["localhost", "a.b", "a.b.", "127.0.0.1", "_srv.my_host", "xn--bcher-kva.ch"],
        );
        takes("dns4", &[&label, &longest, &format!("{longest}.")]);
        refuses("dns6", &["", ".", "a..b", ".a", "a..", "bücher.ch", "a b", "-a", "a-.b", "*.a"]);
        refuses(
            "dnsaddr",
            &[&format!("a{label}"), &format!("{longest}a"), &format!("a.{longest}")],
        );
    }

    #[test]
    fn host_names_are_lower_cased() {
        assert_eq!(canonical("dns", "Example.ORG.").as_deref(), Ok("example.org."));
    }

    #[test]
    fn peer_ids_are_base58_or_base32() {
        takes(
            "p2p",
            &[
                "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA",
                "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
                "bafzbeie5745rpv2m6tjyuugywy4d5ewrqgqqhfnf445he3omzpjbx5xqxe",
            ],
        );
        refuses("p2p", &["12D3KooW0", "QmO", "bafzI", "12D3-Koo", "é"]);
    }

    #[test]
    fn protocols_are_matched_with_case() {
        assert_eq!(Kind::of("tls"), Kind::Valueless);
        assert_eq!(Kind::of("TLS"), Kind::Other);
        assert_eq!(Kind::of("TCP"), Kind::Other);
    }

    #[test]
    fn names_of_ports_and_of_ibc_take_values() {
        for protocol in [
            "local",
            "port",
            "ibc-port",
            "ibc-hop",
            "ibc-channel",
            "ordered",
            "unordered",
            "unix",
            "memory",
        ] {
            assert_eq!(Kind::of(protocol), Kind::Other, "{protocol}");
        }
    }
}
