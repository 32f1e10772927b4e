//! [`RoutePattern`]: which endpoints a backend serves.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::endpoint::{
    Component, Components, Endpoint, EndpointError, Kind, Value, canonical_value, excerpt, scan,
};

/// A pattern of leading components, such as `/ip4/*/tcp/*` or `/ibc-port`.
///
/// A pattern is written like an [`Endpoint`] and has its limits and its canonical form, with two
/// additions:
///
/// * `*` in place of a value stands for any one value, also for the fresh name that an endpoint
///   asks for: `/ip4/*/tcp/*` matches `/ip4/127.0.0.1/tcp/`.
/// * A protocol as the last part, without a value, stands for it with any value or none: `/local`
///   matches `/local/a`, `/local/` and `/local`.
///
/// It matches an endpoint whose first components match it one by one; what follows those is free.
/// So `/ip4/*/tcp/*` matches `/ip4/1.2.3.4/tcp/80/tls`, and not `/ip4/1.2.3.4/udp/9/quic-v1`.
///
/// Where several patterns match an endpoint, the one of the highest
/// [`specificity`](Self::specificity) is meant.
///
/// Cheap to clone; compared and hashed as its canonical text.
///
/// ```
/// use network_core::{Endpoint, RoutePattern};
///
/// let plain: RoutePattern = "/ip4/*/tcp/*".parse()?;
/// let tls: RoutePattern = "/ip4/*/tcp/*/tls".parse()?;
/// let endpoint = Endpoint::parse("/ip4/1.2.3.4/tcp/80/tls")?;
/// assert!(plain.matches(&endpoint) && tls.matches(&endpoint));
/// assert!(tls.specificity() > plain.specificity());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct RoutePattern {
    text: Arc<str>,
    specificity: Specificity,
}

impl RoutePattern {
    /// Parses and canonicalises `text`.
    ///
    /// # Errors
    ///
    /// A [`PatternError`] that says what is wrong and at which byte of `text`.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let canonical = scan(text, |part| {
            if part.protocol.contains('*') {
                let (at, text) = (part.protocol_at, excerpt(part.protocol));
                return Err(PatternError::WildcardProtocol { at, text });
            }
            let at = part.value_at;
            match part.value {
                Value::Absent | Value::Text("*") => Ok(None),
                Value::Fresh => {
                    Err(PatternError::FreshName { at: at - 1, text: excerpt(part.protocol) })
                }
                Value::Text(value) if value.contains('*') => {
                    Err(PatternError::PartialWildcard { at, text: excerpt(value) })
                }
                Value::Text(value) => Ok(canonical_value(part.kind, value, at)?),
            }
        })?;
        let text = canonical.as_deref().unwrap_or(text);
        Ok(Self { text: text.into(), specificity: Specificity::of(Components::of(text)) })
    }

    /// The canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the first components of `endpoint` match this pattern.
    #[must_use]
    pub fn matches(&self, endpoint: &Endpoint) -> bool {
        let mut components = endpoint.components();
        Components::of(&self.text).all(|part| {
            components.next().is_some_and(|component| {
                part.protocol == component.protocol
                    && match part.value {
                        None => true,
                        // Only the last component of an endpoint can want a name.
                        Some("*") => component.value.is_some() || endpoint.wants_fresh_name(),
                        literal => component.value == literal,
                    }
            })
        })
    }

    /// How narrow the pattern is: of the patterns that match an endpoint, the greatest wins.
    #[must_use]
    pub fn specificity(&self) -> Specificity {
        self.specificity
    }

    /// Whether some endpoint matches both patterns and neither is more specific, so that it would
    /// be undecided which is meant.
    ///
    /// That is so for equal patterns only. Patterns of equal specificity have their wildcards and
    /// literals in the same places, and if one endpoint matches both, the literals and protocols
    /// are the same too. `/ip4/1.2.3.4/tcp/*` and `/ip4/*/tcp/80` overlap, but the first wins.
    #[must_use]
    pub fn overlaps_equally(&self, other: &RoutePattern) -> bool {
        self == other
    }
}

/// How narrow a [`RoutePattern`] is: greater is narrower. A total order.
///
/// More components beat fewer. Of two patterns with equally many, the leftmost component that
/// differs in kind decides: a literal value, or a protocol that never has one, beats `*`, which
/// beats a last protocol that stands for any value or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Specificity {
    // Compared in this order.
    components: u8,
    /// Two bits a component, the first in the highest place.
    ranks: u128,
}

impl Specificity {
    fn of(components: Components<'_>) -> Self {
        const { assert!(Endpoint::MAX_COMPONENTS * 2 <= u128::BITS as usize) };
        let mut specificity = Self { components: 0, ranks: 0 };
        for component in components {
            specificity.components += 1;
            let place = u128::BITS - 2 * u32::from(specificity.components);
            specificity.ranks |= rank(component) << place;
        }
        specificity
    }
}

fn rank(component: Component<'_>) -> u128 {
    match component.value {
        None if Kind::of(component.protocol) != Kind::Valueless => 1,
        Some("*") => 2,
        _ => 3,
    }
}

/// Why a text is not a [`RoutePattern`].
///
/// `at` is a byte position in the text that was parsed, and `text` what stands there: at most its
/// first 48 characters, then `…`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// What is wrong would be wrong in an endpoint too.
    #[error(transparent)]
    Address(#[from] EndpointError),

    /// A `*` in a protocol.
    #[error(
        "{text:?} at byte {at} has a '*' where a protocol stands: \
         name the protocol, '*' stands for a value"
    )]
    WildcardProtocol {
        /// Where the protocol is.
        at: usize,
        /// The protocol.
        text: String,
    },

    /// A `*` that is only a part of a value.
    #[error(
        "{text:?} at byte {at} has a '*' beside other text: write '*' alone, for a whole value"
    )]
    PartialWildcard {
        /// Where the value is.
        at: usize,
        /// The value.
        text: String,
    },

    /// A final `/`, which only endpoints have.
    #[error(
        "the '/' behind {text:?} at byte {at} ends the pattern: \
         remove it to match any value or none, or write '*' after it"
    )]
    FreshName {
        /// Where the final `/` is.
        at: usize,
        /// The protocol before it.
        text: String,
    },
}

impl PartialEq for RoutePattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for RoutePattern {}

impl std::hash::Hash for RoutePattern {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Display for RoutePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&*self.text, f)
    }
}

/// Prints like a string, in quotes.
impl fmt::Debug for RoutePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.text, f)
    }
}

impl FromStr for RoutePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::endpoint::strategy::{endpoint_text, wild_text};

    fn pattern(text: &str) -> RoutePattern {
        RoutePattern::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
    }

    fn matches(text: &str, endpoint: &str) -> bool {
        pattern(text).matches(&Endpoint::parse(endpoint).unwrap())
    }

    /// Which of the two wins: both overlap, so that it matters.
    fn compare(a: &str, b: &str) -> Ordering {
        pattern(a).specificity().cmp(&pattern(b).specificity())
    }

    #[test]
    fn a_pattern_matches_leading_components() {
        for endpoint in [
            "/ip4/127.0.0.1/tcp/80",
            "/ip4/127.0.0.1/tcp/80/tls/p2p/12D3Koo",
            "/ip4/127.0.0.1/tcp/80/port/orders",
            "/ip4/127.0.0.1/tcp/",
        ] {
            assert!(matches("/ip4/*/tcp/*", endpoint), "{endpoint}");
        }
        for endpoint in
            ["/ip4/1.2.3.4/udp/9/quic-v1", "/ip4/1.2.3.4", "/ip6/::1/tcp/80", "/local/ip4"]
        {
            assert!(!matches("/ip4/*/tcp/*", endpoint), "{endpoint}");
        }
        assert!(matches("/ip4/*/udp/*/quic-v1", "/ip4/1.2.3.4/udp/9/quic-v1/port/a"));
        assert!(!matches("/ip4/*/udp/*/quic-v1", "/ip4/1.2.3.4/udp/9"));
        assert!(!matches("/ip4/*/udp/*/quic-v1", "/ip4/1.2.3.4/udp/9/port/quic-v1"));
    }

    #[test]
    fn a_last_protocol_matches_with_any_value_or_none() {
        for endpoint in ["/local", "/local/", "/local/a", "/local/a/port/b"] {
            assert!(matches("/local", endpoint), "{endpoint}");
        }
        assert!(!matches("/local", "/locale/a"));
        assert!(matches("/ip4/*/tcp", "/ip4/1.2.3.4/tcp/80"));
    }

    #[test]
    fn a_star_wants_a_value_or_the_wish_for_one() {
        assert!(matches("/local/*", "/local/a"));
        assert!(matches("/local/*", "/local/"));
        assert!(!matches("/local/*", "/local"));
    }

    #[test]
    fn a_literal_matches_the_equal_value_in_any_spelling() {
        assert!(matches("/ip6/0:0::1/tcp/*", "/ip6/::1/tcp/80"));
        assert!(matches("/dns/EXAMPLE.org", "/dns/example.ORG/tcp/80"));
        assert!(matches("/local/a", "/local/a/port/b"));
        assert!(!matches("/local/a", "/local/ab"));
        assert!(!matches("/local/a", "/local/"));
        assert_eq!(pattern("/dns/EXAMPLE.org/tcp/*").to_string(), "/dns/example.org/tcp/*");
    }

    #[test]
    fn more_components_beat_fewer() {
        assert_eq!(compare("/ip4/*/tcp/*/tls", "/ip4/*/tcp/*"), Ordering::Greater);
        assert_eq!(compare("/ip4/*/tcp/*/tls", "/ip4/1.2.3.4/tcp/80"), Ordering::Greater);
    }

    #[test]
    fn the_leftmost_literal_decides_at_equal_length() {
        assert_eq!(compare("/ip4/1.2.3.4/tcp/*", "/ip4/*/tcp/*"), Ordering::Greater);
        assert_eq!(compare("/ip4/1.2.3.4/tcp/*", "/ip4/*/tcp/80"), Ordering::Greater);
        assert_eq!(compare("/local/*", "/local"), Ordering::Greater);
        assert_eq!(compare("/local/a", "/local/*"), Ordering::Greater);
        assert_eq!(compare("/local/a", "/local/b"), Ordering::Equal);
    }

    #[test]
    fn only_equal_patterns_tie() {
        let tie = |a, b| pattern(a).overlaps_equally(&pattern(b));
        assert!(tie("/ip4/*/tcp/*", "/ip4/*/tcp/*"));
        assert!(tie("/ip6/::1/tcp/*", "/ip6/0::1/tcp/*"));
        assert!(!tie("/ip4/1.2.3.4/tcp/*", "/ip4/*/tcp/80"));
        assert!(!tie("/local", "/local/*"));
        assert!(!tie("/local/a", "/local/b"));
        assert!(!tie("/ip4/*/tcp/*/tls", "/ip4/*/tcp/*/ws"));
    }

    #[test]
    fn stars_stand_for_whole_values_only() {
        let refusal = |text| RoutePattern::parse(text).unwrap_err();
        for (text, at, found) in [("/*", 1, "*"), ("/ip4/*/*", 7, "*"), ("/a*/b", 1, "a*")] {
            let text_error = PatternError::WildcardProtocol { at, text: found.into() };
            assert_eq!(refusal(text), text_error);
        }
        for (text, at, found) in
            [("/local/custom-*", 7, "custom-*"), ("/ip4/10.*/tcp/*", 5, "10.*"), ("/a/**", 3, "**")]
        {
            assert_eq!(refusal(text), PatternError::PartialWildcard { at, text: found.into() });
        }
    }

    #[test]
    fn patterns_keep_the_rules_of_endpoints() {
        let refusal = |text| RoutePattern::parse(text).unwrap_err();
        assert_eq!(refusal("/local/"), PatternError::FreshName { at: 6, text: "local".into() });
        assert!(matches!(refusal("/"), PatternError::Address(EndpointError::Empty { .. })));
        assert!(matches!(refusal("//"), PatternError::Address(EndpointError::EmptyPart { .. })));
        assert_eq!(
            refusal("/ip4/*/tcp/x"),
            PatternError::Address(EndpointError::PortNumber { at: 11, text: "x".into() })
        );
    }

    #[test]
    fn the_longest_pattern_has_a_specificity() {
        let long = pattern(&"/a/*".repeat(64));
        let longer_end = pattern(&format!("{}/a/b", "/a/*".repeat(63)));
        assert!(longer_end.specificity() > long.specificity());
        assert!(RoutePattern::parse(&"/a/*".repeat(65)).is_err());
    }

    /// Patterns over few protocols and values, so that many overlap.
    fn close_pattern() -> impl Strategy<Value = RoutePattern> {
        const PARTS: &[&str] =
            &["/local/*", "/local/a", "/local/b", "/tcp/*", "/tcp/1", "/tls", "/ws"];
        const ENDS: &[&str] = &["", "", "/local", "/tcp"];
        (prop::collection::vec(select(PARTS), 1..4), select(ENDS))
            .prop_map(|(parts, end)| pattern(&(parts.concat() + end)))
    }

    fn close_endpoint() -> impl Strategy<Value = Endpoint> {
        const PARTS: &[&str] = &["/local/a", "/local/b", "/tcp/1", "/tcp/2", "/tls", "/ws"];
        const ENDS: &[&str] = &["", "/local", "/local/", "/tcp/"];
        (prop::collection::vec(select(PARTS), 1..5), select(ENDS))
            .prop_map(|(parts, end)| Endpoint::parse(&(parts.concat() + end)).unwrap())
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_what_parses_round_trips(text in wild_text()) {
            if let Ok(parsed) = RoutePattern::parse(&text) {
                prop_assert_eq!(RoutePattern::parse(&parsed.to_string()), Ok(parsed));
            }
        }

        #[test]
        fn an_endpoint_without_stars_matches_itself_and_its_prefixes(text in endpoint_text()) {
            let endpoint = Endpoint::parse(&text).unwrap();
            let plain = !endpoint.as_str().contains('*') && !endpoint.wants_fresh_name();
            for prefix in endpoint.prefixes().filter(|_| plain) {
                prop_assert!(pattern(prefix).matches(&endpoint));
            }
        }

        #[test]
        fn specificity_is_total_antisymmetric_and_transitive(
            a in close_pattern(), b in close_pattern(), c in close_pattern(),
        ) {
            let [x, y, z] = [&a, &b, &c].map(RoutePattern::specificity);
            prop_assert_eq!(x.cmp(&y), y.cmp(&x).reverse());
            prop_assert_eq!(x.cmp(&y) == Ordering::Equal, x == y);
            prop_assert!(!(x <= y && y <= z) || x <= z);
        }

        #[test]
        fn patterns_that_match_one_endpoint_tie_only_if_they_overlap_equally(
            a in close_pattern(), b in close_pattern(), endpoint in close_endpoint(),
        ) {
            prop_assert_eq!(a.overlaps_equally(&b), b.overlaps_equally(&a));
            if a.matches(&endpoint) && b.matches(&endpoint) {
                prop_assert_eq!(a.overlaps_equally(&b), a.specificity() == b.specificity());
            }
        }
    }
}
