//! What an [`Endpoint`] is made of: [`Component`], and the iterators [`Components`] and [`Prefixes`].

use std::fmt;
use std::iter::FusedIterator;

use super::{Endpoint, Kind};

/// One component of an [`Endpoint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Component<'a> {
    /// What the component is about, such as `tcp`; never empty.
    pub protocol: &'a str,
    /// The value, such as `9000`; never empty. `None` for protocols that never have one, and for a
    /// last component that asks for a fresh name or is an unknown protocol alone.
    pub value: Option<&'a str>,
}

impl<'a> Component<'a> {
    /// Splits the first component off `rest`, which starts with the `/` of a component or is empty.
    /// What remains does too.
    ///
    /// Total: malformed text gives empty protocols and values, for the scanner to refuse.
    pub(crate) fn split(rest: &'a str) -> Option<(Self, &'a str)> {
        let (protocol, rest) = split_part(rest.strip_prefix('/')?);
        if Kind::of(protocol) == Kind::Valueless {
            return Some((Self { protocol, value: None }, rest));
        }
        match rest.strip_prefix('/') {
            None | Some("") => Some((Self { protocol, value: None }, "")),
            Some(rest) => {
                let (value, rest) = split_part(rest);
                Some((Self { protocol, value: Some(value) }, rest))
            }
        }
    }
}

fn split_part(text: &str) -> (&str, &str) {
    text.split_at(text.find('/').unwrap_or(text.len()))
}

/// The components of an [`Endpoint`] from left to right, made by [`Endpoint::components`].
#[derive(Clone)]
pub struct Components<'a> {
    rest: &'a str,
}

impl<'a> Components<'a> {
    /// The components of a text that was scanned.
    pub(crate) fn of(text: &'a str) -> Self {
        Self { rest: text }
    }
}

impl<'a> Iterator for Components<'a> {
    type Item = Component<'a>;

    fn next(&mut self) -> Option<Component<'a>> {
        let (component, rest) = Component::split(self.rest)?;
        self.rest = rest;
        Some(component)
    }
}

impl FusedIterator for Components<'_> {}

impl fmt::Debug for Components<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

/// The prefixes of an [`Endpoint`], the longest first, made by [`Endpoint::prefixes`].
#[derive(Clone)]
pub struct Prefixes<'a> {
    text: &'a str,
    /// Where each component ends; those that are `left` have not been yielded.
    ends: [u16; Endpoint::MAX_COMPONENTS],
    left: usize,
}

impl<'a> Prefixes<'a> {
    /// The prefixes of a text that was scanned.
    pub(crate) fn of(text: &'a str) -> Self {
        let mut components = Components::of(text);
        let mut prefixes = Self { text, ends: [0; Endpoint::MAX_COMPONENTS], left: 0 };
        for end in &mut prefixes.ends {
            if components.next().is_none() {
                break;
            }
            const { assert!(Endpoint::MAX_LEN <= u16::MAX as usize) };
            *end = (text.len() - components.rest.len()) as u16;
            prefixes.left += 1;
        }
        prefixes
    }
}

impl<'a> Iterator for Prefixes<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.left = self.left.checked_sub(1)?;
        let end = self.ends.get(self.left)?;
        self.text.get(..usize::from(*end))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Prefixes<'_> {}
impl FusedIterator for Prefixes<'_> {}

impl fmt::Debug for Prefixes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        Endpoint::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
    }

    fn pairs(text: &str) -> Vec<(String, Option<String>)> {
        let own = |c: Component<'_>| (c.protocol.to_owned(), c.value.map(str::to_owned));
        endpoint(text).components().map(own).collect()
    }

    fn pair(protocol: &str, value: &str) -> (String, Option<String>) {
        (protocol.to_owned(), Some(value.to_owned()))
    }

    fn lone(protocol: &str) -> (String, Option<String>) {
        (protocol.to_owned(), None)
    }

    #[test]
    fn components_come_in_pairs() {
        assert_eq!(pairs("/ip4/1.2.3.4/tcp/80"), [pair("ip4", "1.2.3.4"), pair("tcp", "80")]);
        assert_eq!(
            pairs("/ibc-hop/connection-1/ibc-port/echo/ordered/{\"v\": 1}"),
            [
                pair("ibc-hop", "connection-1"),
                pair("ibc-port", "echo"),
                pair("ordered", "{\"v\": 1}")
            ]
        );
    }

    #[test]
    fn protocols_of_the_table_take_no_value() {
        assert_eq!(
            pairs("/ip4/1.2.3.4/udp/9/quic-v1/p2p/12D3Koo/p2p-circuit/port/tls"),
            [
                pair("ip4", "1.2.3.4"),
                pair("udp", "9"),
                lone("quic-v1"),
                pair("p2p", "12D3Koo"),
                lone("p2p-circuit"),
                pair("port", "tls"),
            ]
        );
    }

    #[test]
    fn an_unknown_last_protocol_may_have_no_value() {
        assert_eq!(pairs("/echo"), [lone("echo")]);
        assert_eq!(pairs("/ip4/1.2.3.4/tcp/80/echo")[2], lone("echo"));
        assert!(!endpoint("/echo").wants_fresh_name());
    }

    #[test]
    fn prefixes_end_at_components_longest_first() {
        let prefixes = |text| endpoint(text).prefixes().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            prefixes("/ip4/1.2.3.4/udp/9/quic-v1/port/a"),
            [
                "/ip4/1.2.3.4/udp/9/quic-v1/port/a",
                "/ip4/1.2.3.4/udp/9/quic-v1",
                "/ip4/1.2.3.4/udp/9",
                "/ip4/1.2.3.4",
            ]
        );
        assert_eq!(prefixes("/a/b/c"), ["/a/b/c", "/a/b"]);
        assert_eq!(prefixes("/local/"), ["/local/"]);
        assert_eq!(prefixes("/ip4/1.2.3.4/tcp/"), ["/ip4/1.2.3.4/tcp/", "/ip4/1.2.3.4"]);
        assert_eq!(endpoint("/a/b/c").prefixes().len(), 2);
    }
}
