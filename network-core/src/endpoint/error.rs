//! [`EndpointError`].

use super::Endpoint;

/// Why a text is not an [`Endpoint`].
///
/// `at` is a byte position in the text that was parsed (for [`Endpoint::join`] and
/// [`Endpoint::with_name`], the text they put together), and `text` what stands there: at most its
/// first 48 characters, then `…`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// The text is empty or only a `/`.
    #[error("{text:?} names nothing: write components after a '/', as in /ip4/127.0.0.1/tcp/9000")]
    Empty {
        /// Always 0.
        at: usize,
        /// The text.
        text: String,
    },

    /// The text does not start with `/`.
    #[error("{text:?} does not start with '/': write it as in /ip4/127.0.0.1/tcp/9000")]
    MissingSlash {
        /// Always 0.
        at: usize,
        /// The text.
        text: String,
    },

    /// The text, or its canonical form, is longer than [`Endpoint::MAX_LEN`].
    #[error("{text:?} has {len} bytes, more than {}: shorten it", Endpoint::MAX_LEN)]
    TooLong {
        /// [`Endpoint::MAX_LEN`].
        at: usize,
        /// How long it is, in bytes.
        len: usize,
        /// How it starts.
        text: String,
    },

    /// There are more than [`Endpoint::MAX_COMPONENTS`] components.
    #[error(
        "{text:?} at byte {at} is one component more than {}: leave some out",
        Endpoint::MAX_COMPONENTS
    )]
    TooManyComponents {
        /// Where the first component too many starts.
        at: usize,
        /// Its protocol.
        text: String,
    },

    /// A control character (Unicode category Cc).
    #[error("control character in {text:?} at byte {at}: remove it")]
    ControlCharacter {
        /// Where it is.
        at: usize,
        /// The text from there on.
        text: String,
    },

    /// Nothing stands between two `/`.
    #[error("nothing stands before {text:?} at byte {at}: write a name there or one '/' less")]
    EmptyPart {
        /// Where a name is missing.
        at: usize,
        /// The text from there on.
        text: String,
    },

    /// A final `/` that follows a complete component, so that nothing can be named there.
    #[error(
        "the '/' that ends {text:?} at byte {at} follows a complete component: \
         remove it, or end in a protocol that wants a fresh name, as in /local/"
    )]
    TrailingSlash {
        /// Where the final `/` is.
        at: usize,
        /// The text.
        text: String,
    },

    /// A protocol that needs a value has none.
    #[error("{text:?} at byte {at} has no value: write one after it, as in {}", example(text))]
    MissingValue {
        /// Where the protocol is.
        at: usize,
        /// The protocol.
        text: String,
    },

    /// The value of `ip4` is no IPv4 address.
    #[error("{text:?} at byte {at} is no ipv4 address: write four numbers, as in 127.0.0.1")]
    Ip4Address {
        /// Where the value is.
        at: usize,
        /// The value.
        text: String,
    },

    /// The value of `ip6` is no IPv6 address.
    #[error(
        "{text:?} at byte {at} is no ipv6 address: write it without brackets and zone, as in ::1"
    )]
    Ip6Address {
        /// Where the value is.
        at: usize,
        /// The value.
        text: String,
    },

    /// The value of `tcp` or `udp` is no port number.
    #[error(
        "{text:?} at byte {at} is no port number: \
         write 0 to 65535 in digits, without sign and leading zeros"
    )]
    PortNumber {
        /// Where the value is.
        at: usize,
        /// The value.
        text: String,
    },

    /// The value of `dns`, `dns4`, `dns6` or `dnsaddr` is no host name.
    #[error("{text:?} at byte {at} is no host name: {problem}")]
    HostName {
        /// Where the value is.
        at: usize,
        /// What is wrong with it and what to write instead.
        problem: &'static str,
        /// The value.
        text: String,
    },

    /// The value of `p2p` has characters that no peer id has.
    #[error(
        "{text:?} at byte {at} is no peer id: write it in base58, as in 12D3Koo..., \
         or as a cid in lower-case base32, as in bafz..."
    )]
    PeerId {
        /// Where the value is.
        at: usize,
        /// The value.
        text: String,
    },

    /// More components were joined to an endpoint that asks for a fresh name.
    #[error("{text:?} still wants a fresh name at byte {at}: fill that in before joining")]
    FreshName {
        /// Where the name belongs.
        at: usize,
        /// The protocol that wants it.
        text: String,
    },

    /// A name was given to an endpoint that asks for none.
    #[error("{text:?} does not end in '/': a fresh name goes behind a '/', as in /local/")]
    NotFresh {
        /// Where the `/` is missing.
        at: usize,
        /// The endpoint.
        text: String,
    },

    /// A fresh name that is empty or has a `/`.
    #[error("{text:?} cannot name an endpoint: write a name that is not empty and has no '/'")]
    Name {
        /// Where the `/` is, or the name is missing.
        at: usize,
        /// The name.
        text: String,
    },
}

/// For arguments that are already endpoints: `TryInto<Endpoint>` of those cannot fail, and callers
/// convert every argument's error into this one.
impl From<std::convert::Infallible> for EndpointError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

/// The start of `text`, short enough for an error message.
pub(crate) fn excerpt(text: &str) -> String {
    const MAX_CHARS: usize = 48;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => [&text[..end], "…"].concat(),
        None => text.to_owned(),
    }
}

fn example(protocol: &str) -> &'static str {
    match protocol {
        "ip4" => "/ip4/127.0.0.1",
        "ip6" => "/ip6/::1",
        "tcp" => "/tcp/9000",
        "udp" => "/udp/9000",
        "p2p" => "/p2p/12D3Koo...",
        "dns" | "dns4" | "dns6" | "dnsaddr" => "/dns/example.org",
        _ => "/local/orders",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_what_where_and_what_to_do() {
        let message = |text| Endpoint::parse(text).unwrap_err().to_string();
        assert_eq!(
            message("/ip4/1.2.3/tcp/80"),
            "\"1.2.3\" at byte 5 is no ipv4 address: write four numbers, as in 127.0.0.1"
        );
        assert_eq!(
            message("/ip4/1.2.3.4/tcp"),
            "\"tcp\" at byte 13 has no value: write one after it, as in /tcp/9000"
        );
        assert_eq!(
            message("/"),
            "\"/\" names nothing: write components after a '/', as in /ip4/127.0.0.1/tcp/9000"
        );
        assert_eq!(message("/a\n/b"), "control character in \"\\n/b\" at byte 2: remove it");
    }

    #[test]
    fn an_excerpt_is_cut_between_characters() {
        assert_eq!(excerpt(&"é".repeat(48)), "é".repeat(48));
        assert_eq!(excerpt(&"é".repeat(49)), "é".repeat(48) + "…");
    }

    #[test]
    fn an_endpoint_argument_has_an_error_that_converts() {
        fn take<T: TryInto<Endpoint>>(to: T) -> Result<Endpoint, EndpointError>
        where
            EndpointError: From<T::Error>,
        {
            Ok(to.try_into()?)
        }
        let endpoint = take("/local/a").unwrap();
        assert_eq!(take(&endpoint).as_ref(), Ok(&endpoint));
        assert_eq!(take(endpoint.clone()), Ok(endpoint));
        assert!(take("local/a").is_err());
    }
}
