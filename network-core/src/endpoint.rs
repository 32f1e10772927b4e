//! [`Endpoint`]: the address of a port, local or remote.

mod components;
mod error;
mod protocol;
mod scan;
#[cfg(test)]
pub(crate) mod strategy;

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

pub use self::components::{Component, Components, Prefixes};
pub use self::error::EndpointError;
pub(crate) use self::error::excerpt;
pub(crate) use self::protocol::{Kind, canonical_value};
pub(crate) use self::scan::{Value, scan};

/// A multiaddress-style address such as `/ip4/127.0.0.1/tcp/9000/port/orders`.
///
/// An endpoint is canonical text: it is parsed once, and two endpoints are equal, ordered and
/// hashed as their texts are. It is one shared string, so that a clone costs a counter. It
/// borrows as a `str`, so a map keyed by endpoints can be asked with what [`Endpoint::prefixes`]
/// yields.
///
/// # Grammar
///
/// The text starts with `/` and is a sequence of components, at most
/// [`MAX_COMPONENTS`](Self::MAX_COMPONENTS) of them in [`MAX_LEN`](Self::MAX_LEN) bytes. A
/// component is a pair `/protocol/value`, and neither part is empty, holds a `/` or a control
/// character. Protocols are matched with case. The exceptions to the pair:
///
/// * These protocols never have a value: `http`, `https`, `noise`, `p2p-circuit`, `p2p-stardust`,
///   `p2p-webrtc-direct`, `p2p-webrtc-star`, `p2p-websocket-star`, `plaintextv2`, `quic`,
///   `quic-v1`, `tls`, `udt`, `utp`, `webrtc`, `webrtc-direct`, `webtransport`, `ws`, `wss` (those
///   of size 0 in the [multiaddr protocol table]).
/// * An unknown protocol may be the last part, without a value: `/echo`.
/// * One `/` after a last protocol asks for a fresh name: `/local/`, `/ip4/127.0.0.1/tcp/`.
///
/// # Known protocols
///
/// | protocol | value | canonical form |
/// |---|---|---|
/// | `ip4` | four numbers, no leading zeros | as it is |
/// | `ip6` | RFC 4291 §2.2, no zone | that of RFC 5952 (as `std` prints it) |
/// | `tcp`, `udp` | 0 to 65535, no sign, no leading zeros; or a fresh name | as it is |
/// | `dns`, `dns4`, `dns6`, `dnsaddr` | a host name, labels of 63 bytes, 253 in all (RFC 1035 §2.3.4), letters, digits, `-` inside a label (RFC 1123 §2.1) and `_`; a final dot is kept | lower case |
/// | `p2p` | letters and digits of base58btc, or of lower-case base32; the peer id is not decoded | as it is |
///
/// Every other protocol (`local`, `port`, `ibc-port`, `ibc-hop`, `ordered`, `memory`, `unix`, ...)
/// takes any value, spaces and Unicode included, and is kept as it was written.
///
/// ```
/// use network_core::Endpoint;
///
/// let endpoint: Endpoint = "/dns/EXAMPLE.org/tcp/9000/tls/port/orders".parse()?;
/// assert_eq!(endpoint.as_str(), "/dns/example.org/tcp/9000/tls/port/orders");
/// assert_eq!(endpoint.value_of("port"), Some("orders"));
///
/// let socket = Endpoint::parse("/dns/example.org/tcp/9000/tls")?;
/// assert_eq!(endpoint.strip_prefix(&socket), Some("/port/orders"));
/// # Ok::<(), network_core::EndpointError>(())
/// ```
///
/// [multiaddr protocol table]: https://github.com/multiformats/multiaddr/blob/master/protocols.csv
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint(Arc<str>);

impl Endpoint {
    /// The longest text of an endpoint, in bytes, as written and in canonical form.
    pub const MAX_LEN: usize = 4096;

    /// The most components an endpoint can have.
    pub const MAX_COMPONENTS: usize = 64;

    /// Parses and canonicalises `text`, in one pass over it.
    ///
    /// # Errors
    ///
    /// An [`EndpointError`] that says what is wrong and at which byte of `text`.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let canonical = scan(text, |part| match part.value {
            Value::Text(value) => canonical_value(part.kind, value, part.value_at),
            Value::Fresh if matches!(part.kind, Kind::Port | Kind::Other) => Ok(None),
            Value::Absent if matches!(part.kind, Kind::Valueless | Kind::Other) => Ok(None),
            Value::Fresh | Value::Absent => Err(EndpointError::MissingValue {
                at: part.protocol_at,
                text: excerpt(part.protocol),
            }),
        })?;
        Ok(Self(canonical.as_deref().unwrap_or(text).into()))
    }

    /// The canonical text. Parsing it gives an equal endpoint.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The components from left to right.
    #[must_use]
    pub fn components(&self) -> Components<'_> {
        Components::of(&self.0)
    }

    /// Whether the last component asks for a fresh name: the text ends in `/`.
    ///
    /// `/tcp/0` leaves the choice to the system too, but is a complete address.
    #[must_use]
    pub fn wants_fresh_name(&self) -> bool {
        self.0.ends_with('/')
    }

    /// Whether `prefix` is this endpoint or its leading components, whole ones.
    ///
    /// `/local/a` is no prefix of `/local/ab`, and neither `/local` nor `/local/` is one of
    /// `/local/a`: a component with a value is not the component without it.
    #[must_use]
    pub fn starts_with(&self, prefix: &Endpoint) -> bool {
        self.strip_prefix(prefix).is_some()
    }

    /// What follows `prefix`: `""` if the two are equal, else text such as `"/port/orders"`; `None`
    /// if this endpoint does not start with `prefix`.
    ///
    /// [`prefix.join(rest)`](Self::join) gives this endpoint back.
    #[must_use]
    pub fn strip_prefix(&self, prefix: &Endpoint) -> Option<&str> {
        let rest = self.0.strip_prefix(prefix.as_str())?;
        let whole = rest.is_empty() || (rest.starts_with('/') && prefix.unfinished().is_none());
        whole.then_some(rest)
    }

    /// The endpoint's text, then each shorter prefix that ends where a component ends, the longest
    /// first. The empty text is not among them.
    ///
    /// `/ip4/1.2.3.4/tcp/80/tls` has the prefixes `/ip4/1.2.3.4/tcp/80/tls`, `/ip4/1.2.3.4/tcp/80`
    /// and `/ip4/1.2.3.4`.
    #[must_use]
    pub fn prefixes(&self) -> Prefixes<'_> {
        Prefixes::of(&self.0)
    }

    /// This endpoint with more components behind it: `rest` is `"/port/orders"` or
    /// `"port/orders"`. With an empty `rest` it is this endpoint.
    ///
    /// # Errors
    ///
    /// [`EndpointError::FreshName`] or [`EndpointError::MissingValue`] if the last component has no
    /// value yet, since `rest` would become its value; else as [`Endpoint::parse`]. Positions count
    /// in the joined text.
    pub fn join(&self, rest: &str) -> Result<Endpoint, EndpointError> {
        if rest.is_empty() {
            return Ok(self.clone());
        }
        if let Some(protocol) = self.unfinished() {
            let text = excerpt(protocol);
            return Err(if self.wants_fresh_name() {
                EndpointError::FreshName { at: self.0.len(), text }
            } else {
                EndpointError::MissingValue { at: self.0.len() - protocol.len(), text }
            });
        }
        let slash = if rest.starts_with('/') { "" } else { "/" };
        Self::parse(&[self.as_str(), slash, rest].concat())
    }

    /// This endpoint with the fresh name it asks for: `/local/` with `p7` is `/local/p7`.
    ///
    /// # Errors
    ///
    /// [`EndpointError::NotFresh`] if it asks for none, [`EndpointError::Name`] if `name` is empty
    /// or has a `/`; else as [`Endpoint::parse`] (the name for `/tcp/` must be a port number).
    /// Positions count in the text with the name.
    pub fn with_name(&self, name: &str) -> Result<Endpoint, EndpointError> {
        let end = self.0.len();
        if !self.wants_fresh_name() {
            return Err(EndpointError::NotFresh { at: end, text: excerpt(&self.0) });
        }
        match name.find('/') {
            None if !name.is_empty() => Self::parse(&[self.as_str(), name].concat()),
            slash => Err(EndpointError::Name {
                at: end + slash.unwrap_or_default(),
                text: excerpt(name),
            }),
        }
    }

    /// The value of the first component that has this protocol and a value.
    #[must_use]
    pub fn value_of(&self, protocol: &str) -> Option<&str> {
        self.components().filter(|component| component.protocol == protocol).find_map(|c| c.value)
    }

    /// The protocol of the last component, if what follows would become its value.
    fn unfinished(&self) -> Option<&str> {
        self.components()
            .last()
            .filter(|last| last.value.is_none() && Kind::of(last.protocol) != Kind::Valueless)
            .map(|last| last.protocol)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&*self.0, f)
    }
}

/// Prints like a string, in quotes.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        Self::parse(text)
    }
}

impl TryFrom<&str> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: &str) -> Result<Self, EndpointError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: String) -> Result<Self, EndpointError> {
        Self::parse(&text)
    }
}

impl TryFrom<&String> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: &String) -> Result<Self, EndpointError> {
        Self::parse(text)
    }
}

impl From<&Endpoint> for Endpoint {
    fn from(endpoint: &Endpoint) -> Self {
        endpoint.clone()
    }
}

impl AsRef<str> for Endpoint {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Equality, order and hash of an endpoint are those of its text.
impl Borrow<str> for Endpoint {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use proptest::prelude::*;

    use super::strategy::{endpoint_text, wild_text};
    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        Endpoint::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
    }

    #[test]
    fn a_final_slash_asks_for_a_fresh_name() {
        for (text, protocol, name) in [
            ("/local/", "local", "p7"),
            ("/ibc-port/", "ibc-port", "port1"),
            ("/ip4/127.0.0.1/tcp/", "tcp", "4242"),
        ] {
            let fresh = endpoint(text);
            assert!(fresh.wants_fresh_name());
            assert_eq!(fresh.components().last(), Some(Component { protocol, value: None }));
            assert_eq!(fresh.value_of(protocol), None);
            let named = fresh.with_name(name).unwrap();
            assert_eq!(named.as_str(), format!("{text}{name}"));
            assert_eq!(named.value_of(protocol), Some(name));
            assert!(!named.wants_fresh_name());
        }
    }

    #[test]
    fn a_fresh_name_is_one_part_and_fits_its_protocol() {
        let name = |text: &str, name: &str| endpoint(text).with_name(name).unwrap_err();
        assert_eq!(name("/local/", "a/b"), EndpointError::Name { at: 8, text: "a/b".into() });
        assert_eq!(name("/local/", ""), EndpointError::Name { at: 7, text: "".into() });
        assert_eq!(
            name("/local/x", "y"),
            EndpointError::NotFresh { at: 8, text: "/local/x".into() }
        );
        assert_eq!(
            name("/ip4/1.2.3.4/tcp/", "p7"),
            EndpointError::PortNumber { at: 17, text: "p7".into() }
        );
    }

    #[test]
    fn canonical_text_makes_equal_endpoints() {
        for (written, canonical) in [
            ("/ip6/0:0:0:0:0:0:0:1/tcp/80", "/ip6/::1/tcp/80"),
            ("/ip6/2001:DB8::0A/udp/9/quic-v1", "/ip6/2001:db8::a/udp/9/quic-v1"),
            ("/dns/Example.ORG/tcp/443/tls/ws", "/dns/example.org/tcp/443/tls/ws"),
            ("/dnsaddr/A.b/ip6/::0/local/Kept As Is", "/dnsaddr/a.b/ip6/::/local/Kept As Is"),
        ] {
            assert_eq!(endpoint(written), endpoint(canonical));
            assert_eq!(endpoint(written).as_str(), canonical);
        }
    }

    #[test]
    fn unknown_components_are_kept_unchanged() {
        for text in
            ["/a b/ç", "/a?b/c#d", "/%2f/\\x2f", "/TCP/007", "/local/ /port/\u{202e}x", "/é"]
        {
            assert_eq!(endpoint(text).to_string(), text);
        }
    }

    #[test]
    fn a_prefix_is_of_whole_components() {
        let rest = |text, prefix| endpoint(text).strip_prefix(&endpoint(prefix)).map(str::to_owned);
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(rest("/local/a/port/b", "/local/a"), some("/port/b"));
        assert_eq!(rest("/local/a/tls", "/local/a/tls"), some(""));
        assert_eq!(rest("/tls/port/b", "/tls"), some("/port/b"));
        assert_eq!(rest("/local/a/port/", "/local/a"), some("/port/"));
        assert_eq!(rest("/local/ab", "/local/a"), None);
        assert_eq!(rest("/local/a", "/local"), None);
        assert_eq!(rest("/local/a", "/local/"), None);
        assert_eq!(rest("/local/", "/local"), None);
        assert_eq!(rest("/local", "/local/"), None);
        assert!(endpoint("/local/").starts_with(&endpoint("/local/")));
    }

    #[test]
    fn join_adds_whole_components() {
        let socket = endpoint("/ip4/1.2.3.4/tcp/80");
        let joined = endpoint("/ip4/1.2.3.4/tcp/80/port/orders");
        assert_eq!(socket.join("/port/orders"), Ok(joined.clone()));
        assert_eq!(socket.join("port/orders"), Ok(joined));
        assert_eq!(socket.join(""), Ok(socket.clone()));
        assert_eq!(
            socket.join("port/").unwrap().with_name("x").unwrap().value_of("port"),
            Some("x")
        );
        assert_eq!(
            socket.join("/").unwrap_err(),
            EndpointError::TrailingSlash { at: 19, text: "/ip4/1.2.3.4/tcp/80/".into() }
        );
    }

    #[test]
    fn join_never_turns_what_follows_into_a_value() {
        assert_eq!(
            endpoint("/ip4/1.2.3.4/echo").join("/port/orders"),
            Err(EndpointError::MissingValue { at: 13, text: "echo".into() })
        );
        assert_eq!(
            endpoint("/local/").join("/port/orders"),
            Err(EndpointError::FreshName { at: 7, text: "local".into() })
        );
    }

    #[test]
    fn value_of_is_the_first_with_a_value() {
        let text = "/ibc-hop/connection-1/ibc-hop/connection-2/tls/ibc-port/far";
        assert_eq!(endpoint(text).value_of("ibc-hop"), Some("connection-1"));
        assert_eq!(endpoint(text).value_of("tls"), None);
        assert_eq!(endpoint(text).value_of("ibc"), None);
    }

    #[test]
    fn maps_of_endpoints_are_asked_with_text() {
        let hashed = HashMap::from([(endpoint("/local/a"), 1)]);
        let sorted = BTreeMap::from([(endpoint("/local/a"), 1)]);
        let dialed = endpoint("/local/a/port/b");
        assert_eq!(dialed.prefixes().find_map(|prefix| hashed.get(prefix)), Some(&1));
        assert_eq!(dialed.prefixes().find_map(|prefix| sorted.get(prefix)), Some(&1));
    }

    #[test]
    fn conversions_agree() {
        let want = endpoint("/local/a");
        assert_eq!("/local/a".parse().as_ref(), Ok(&want));
        assert_eq!(Endpoint::try_from("/local/a").as_ref(), Ok(&want));
        assert_eq!(Endpoint::try_from(String::from("/local/a")).as_ref(), Ok(&want));
        assert_eq!(Endpoint::try_from(&String::from("/local/a")).as_ref(), Ok(&want));
        assert_eq!(Endpoint::from(&want), want);
        assert_eq!(want.as_ref(), "/local/a");
        assert_eq!(format!("{want:?} {want:>10}"), "\"/local/a\"   /local/a");
    }

    #[test]
    fn an_endpoint_is_two_words() {
        assert_eq!(size_of::<Option<Endpoint>>(), 2 * size_of::<usize>());
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_errors_stay_short(text in wild_text()) {
            if let Err(error) = Endpoint::parse(&text) {
                prop_assert!(error.to_string().len() < 1024);
            }
        }

        #[test]
        fn what_parses_round_trips(text in prop_oneof![endpoint_text(), wild_text()]) {
            let Ok(parsed) = Endpoint::parse(&text) else { return Ok(()) };
            let again = Endpoint::parse(parsed.as_str());
            prop_assert_eq!(again.as_ref(), Ok(&parsed));
            prop_assert_eq!(parsed.to_string(), parsed.as_str());

            let mut rebuilt = String::new();
            for component in parsed.components() {
                rebuilt.extend(["/", component.protocol]);
                rebuilt.extend(component.value.into_iter().flat_map(|value| ["/", value]));
            }
            rebuilt.extend(parsed.wants_fresh_name().then_some("/"));
            prop_assert_eq!(rebuilt, parsed.as_str());
        }

        #[test]
        fn generated_endpoints_parse(text in endpoint_text()) {
            prop_assert!(Endpoint::parse(&text).is_ok());
        }

        #[test]
        fn prefixes_are_endpoints_and_join_gives_the_whole(text in endpoint_text()) {
            let whole = endpoint(&text);
            let count = whole.components().count();
            prop_assert_eq!(whole.prefixes().len(), count);
            for (i, text) in whole.prefixes().enumerate() {
                let prefix = endpoint(text);
                prop_assert_eq!(prefix.as_str(), text);
                prop_assert!(prefix.components().eq(whole.components().take(count - i)));
                let rest = whole.strip_prefix(&prefix);
                prop_assert!(rest.is_some());
                let joined = prefix.join(rest.unwrap_or("?"));
                prop_assert_eq!(joined.as_ref(), Ok(&whole));
            }
        }

        #[test]
        fn starts_with_is_membership_in_prefixes(a in endpoint_text(), b in endpoint_text(), cut in 0..64_usize) {
            let whole = endpoint(&a);
            let other = whole.as_str().get(..cut).and_then(|text| Endpoint::parse(text).ok());
            for prefix in [endpoint(&b), other.unwrap_or_else(|| whole.clone())] {
                let member = whole.prefixes().any(|text| text == prefix.as_str());
                prop_assert_eq!(whole.starts_with(&prefix), member);
            }
        }
    }
}
