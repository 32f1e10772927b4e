//! Why something is no IBC address.

/// Why a text, or a part, is no IBC address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// The text is not of the form of an address.
    #[error(
        "{text:?} is no ibc address: write it like \
         (/ibc-hop/CONNECTION)*/ibc-port/PORT[/ordered|unordered/VERSION[/ibc-channel/CHANNEL]]"
    )]
    Malformed {
        /// How it starts.
        text: String,
    },
    /// The text is longer than an endpoint can be.
    #[error("an ibc address of {len} bytes is over the limit of {max} bytes: shorten it")]
    TooLong {
        /// How long it is, in bytes.
        len: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// A hop is no connection.
    #[error("{text:?} is no hop: a hop is a connection, as in connection-0")]
    Hop {
        /// What stands there.
        text: String,
    },
    /// A port, a channel or a client is empty or has a slash.
    #[error("{text:?} is no {what}: it is empty or has a '/'")]
    Part {
        /// What it should be: `port`, `channel` or `client`.
        what: &'static str,
        /// What stands there.
        text: String,
    },
    /// No order of that name.
    #[error("{text:?} is no order of channels: write ordered or unordered")]
    Order {
        /// What stands there.
        text: String,
    },
    /// A version is empty.
    #[error("the version is missing: a channel's version is not empty")]
    MissingVersion,
    /// A remote address says nothing of order and version.
    #[error("{address} has no order and version: a remote address needs both")]
    MissingOrder {
        /// The address.
        address: String,
    },
    /// A remote address names a channel.
    #[error("{address} names channel {channel}: the channel of a remote address is not known yet")]
    HasChannel {
        /// The address.
        address: String,
        /// The channel.
        channel: String,
    },
    /// The address of a local port says more than the port.
    #[error("{address} has {what}: a port to bind is /ibc-port/PORT and nothing else")]
    NotAPort {
        /// The address.
        address: String,
        /// What it has too many.
        what: &'static str,
    },
}

/// The start of a text, short enough for a message.
pub(crate) fn excerpt(text: &str) -> String {
    const MAX_CHARS: usize = 48;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => [&text[..end], "…"].concat(),
        None => text.to_owned(),
    }
}
