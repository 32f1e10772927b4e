//! [`IbcEndpoint`]: an address as its parts.

use std::{fmt, str::FromStr};

use network_core::{Endpoint, EndpointError};

use crate::{
    error::{AddressError, excerpt},
    identifier::{ChannelId, ConnectionId, PortId},
};

/// An IBC address:
/// `(/ibc-hop/CONNECTION)*/ibc-port/PORT[/ORDER/VERSION[/ibc-channel/CHANNEL]]`.
///
/// Every hop counts, in the order in which they are written. What is put together prints as an
/// address, and parsing that gives the same parts back.
///
/// # Limits
/// A text of more than [`MAX_LEN`](Self::MAX_LEN) bytes does not parse. Identifiers and
/// versions may hold any character but a slash; an [`Endpoint`] takes no control characters,
/// so such an address [cannot be one](Self::to_endpoint).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IbcEndpoint {
    /// The connections on the way, the nearest first.
    pub hops: Vec<ConnectionId>,
    /// The port at the end of the way.
    pub port: PortId,
    /// What kind of channel, where that is said.
    pub channel: Option<Channel>,
}

/// What an address says of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Channel {
    /// Whether its packets keep their order.
    pub order: Order,
    /// What its ends speak.
    pub version: Version,
    /// Its name, once it is open.
    pub id: Option<ChannelId>,
}

/// Whether the packets of a channel keep their order (ICS-004).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// They do, and a timeout closes the channel.
    Ordered,
    /// They do not.
    Unordered,
}

/// The version of a channel: any text that is not empty.
///
/// In an address a slash is written `\x2f`. So that every version can be told from every
/// other, a backslash that stands before `x2f` or `x5c` is written `\x5c`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Version(String);

/// What a connect needs to know: all of a remote address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote<'a> {
    /// The connections on the way, the nearest first.
    pub hops: &'a [ConnectionId],
    /// The port at the end of the way.
    pub port: &'a PortId,
    /// Whether packets keep their order.
    pub order: Order,
    /// What to speak.
    pub version: &'a Version,
}

impl IbcEndpoint {
    /// The longest text of an address, in bytes: that of an [`Endpoint`].
    pub const MAX_LEN: usize = Endpoint::MAX_LEN;

    /// Parses an address.
    ///
    /// # Errors
    /// The text is none, or too long.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.len() > Self::MAX_LEN {
            return Err(AddressError::TooLong { len: text.len(), max: Self::MAX_LEN });
        }
        let malformed = || AddressError::Malformed { text: excerpt(text) };
        let mut parts = text.strip_prefix('/').ok_or_else(malformed)?.split('/');
        let mut part = || parts.next().filter(|part| !part.is_empty());
        let mut hops = Vec::new();
        let mut protocol = part();
        while protocol == Some("ibc-hop") {
            hops.push(part().ok_or_else(malformed)?);
            protocol = part();
        }
        if protocol != Some("ibc-port") {
            return Err(malformed());
        }
        let port = part().ok_or_else(malformed)?;
        let rest: Vec<&str> = parts.collect();
        let (order, version, id) = match rest[..] {
            [] => (None, "", None),
            [order, version] => (Some(order), version, None),
            [order, version, "ibc-channel", id] => (Some(order), version, Some(id)),
            _ => return Err(malformed()),
        };
        if order.is_some() && version.is_empty() || id == Some("") {
            return Err(malformed());
        }
        let channel = match order {
            None => None,
            Some(order) => Some(Channel {
                order: Order::written(order).ok_or_else(malformed)?,
                version: Version::unescape(version)?,
                id: id.map(ChannelId::new).transpose()?,
            }),
        };
        let hops = hops.into_iter().map(ConnectionId::new).collect::<Result<_, _>>()?;
        Ok(Self { hops, port: PortId::new(port)?, channel })
    }

    /// A port without hops and channel: one to bind.
    pub fn of_port(port: PortId) -> Self {
        Self { hops: Vec::new(), port, channel: None }
    }

    /// The hops of `text`, which is nothing but hops.
    ///
    /// # Errors
    /// It has something else, or one of them is no connection.
    pub fn parse_hops(text: &str) -> Result<Vec<ConnectionId>, AddressError> {
        let malformed = || AddressError::Malformed { text: excerpt(text) };
        let mut hops = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let hop = rest.strip_prefix("/ibc-hop/").ok_or_else(malformed)?;
            let end = hop.find('/').unwrap_or(hop.len());
            hops.push(ConnectionId::new(&hop[..end])?);
            rest = &hop[end..];
        }
        Ok(hops)
    }

    /// What a connect to this address needs.
    ///
    /// # Errors
    /// Order and version are missing, or a channel is named: the chain names it.
    pub fn remote(&self) -> Result<Remote<'_>, AddressError> {
        self.no_channel()?;
        let Some(channel) = &self.channel else {
            return Err(AddressError::MissingOrder { address: self.to_string() });
        };
        let (order, version) = (channel.order, &channel.version);
        Ok(Remote { hops: &self.hops, port: &self.port, order, version })
    }

    /// Checks that no channel is named.
    ///
    /// # Errors
    /// One is.
    pub fn no_channel(&self) -> Result<(), AddressError> {
        match self.channel.as_ref().and_then(|channel| channel.id.as_ref()) {
            None => Ok(()),
            Some(id) => {
                let (address, channel) = (self.to_string(), id.to_string());
                Err(AddressError::HasChannel { address, channel })
            }
        }
    }

    /// The port of an address that says nothing else.
    ///
    /// # Errors
    /// It says more.
    pub fn local_port(&self) -> Result<&PortId, AddressError> {
        let what = if !self.hops.is_empty() {
            "hops"
        } else if self.channel.is_some() {
            "an order"
        } else {
            return Ok(&self.port);
        };
        Err(AddressError::NotAPort { address: self.to_string(), what })
    }

    /// The address as an endpoint of a network.
    ///
    /// # Errors
    /// A control character, or too many hops.
    pub fn to_endpoint(&self) -> Result<Endpoint, EndpointError> {
        Endpoint::parse(&self.to_string())
    }
}

impl fmt::Display for IbcEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for hop in &self.hops {
            write!(f, "/ibc-hop/{hop}")?;
        }
        write!(f, "/ibc-port/{}", self.port)?;
        let Some(Channel { order, version, id }) = &self.channel else { return Ok(()) };
        write!(f, "/{order}/{}", version.escape())?;
        id.iter().try_for_each(|id| write!(f, "/ibc-channel/{id}"))
    }
}

impl FromStr for IbcEndpoint {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

impl TryFrom<&Endpoint> for IbcEndpoint {
    type Error = AddressError;

    fn try_from(endpoint: &Endpoint) -> Result<Self, AddressError> {
        Self::parse(endpoint.as_str())
    }
}

impl Order {
    /// The order as addresses write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ordered => "ordered",
            Self::Unordered => "unordered",
        }
    }

    fn written(text: &str) -> Option<Self> {
        [Self::Ordered, Self::Unordered].into_iter().find(|order| order.as_str() == text)
    }
}

/// Takes `ordered` and `unordered`, and both in capitals, as chains write them.
impl FromStr for Order {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text {
            "ordered" | "ORDERED" => Ok(Self::Ordered),
            "unordered" | "UNORDERED" => Ok(Self::Unordered),
            _ => Err(AddressError::Order { text: excerpt(text) }),
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

const SLASH: &str = "\\x2f";
const BACKSLASH: &str = "\\x5c";

impl Version {
    /// A version.
    ///
    /// # Errors
    /// It is empty.
    pub fn new(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() {
            return Err(AddressError::MissingVersion);
        }
        Ok(Self(text.to_owned()))
    }

    /// A version that this crate makes.
    pub(crate) fn known(text: String) -> Self {
        Self(text)
    }

    /// The version as its ends say it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The version as addresses write it.
    #[must_use]
    pub fn escape(&self) -> String {
        let mut escaped = String::with_capacity(self.0.len());
        for (at, char) in self.0.char_indices() {
            match char {
                '/' => escaped.push_str(SLASH),
                '\\' if [SLASH, BACKSLASH].iter().any(|code| self.0[at..].starts_with(code)) => {
                    escaped.push_str(BACKSLASH);
                }
                other => escaped.push(other),
            }
        }
        escaped
    }

    /// The version that an address writes so.
    ///
    /// # Errors
    /// It is empty.
    pub fn unescape(escaped: &str) -> Result<Self, AddressError> {
        let mut text = String::with_capacity(escaped.len());
        let mut rest = escaped;
        while let Some(char) = rest.chars().next() {
            let (char, len) = match char {
                '\\' if rest.starts_with(SLASH) => ('/', SLASH.len()),
                '\\' if rest.starts_with(BACKSLASH) => ('\\', BACKSLASH.len()),
                other => (other, other.len_utf8()),
            };
            text.push(char);
            rest = &rest[len..];
        }
        Self::new(&text)
    }
}

/// Prints like a string, in quotes.
impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_hop_counts() {
        let text = "/ibc-hop/connection-0/ibc-hop/connection-1/ibc-port/echo/ordered/v1";
        let address = IbcEndpoint::parse(text).unwrap();
        let hops: Vec<_> = address.hops.iter().map(ConnectionId::as_str).collect();
        assert_eq!(hops, ["connection-0", "connection-1"]);
        assert_eq!(address.to_string(), text);
        assert_eq!(address.to_endpoint().unwrap().as_str(), text);
        assert_eq!(IbcEndpoint::try_from(&address.to_endpoint().unwrap()), Ok(address));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "/",
            "/ibc-port",
            "/ibc-port/",
            "/ibc-port/p/",
            "/ibc-port/p/ordered",
            "/ibc-port/p/ordered/",
            "/ibc-port/p/ORDERED/v1",
            "/ibc-port/p/ordered/v1/",
            "/ibc-port/p/ordered/v1/ibc-channel",
            "/ibc-port/p/ordered/v1/ibc-channel/",
            "/ibc-port/p/ibc-channel/channel-1",
            "/ibc-hop/connection-1",
            "/ibc-hop//ibc-port/p",
            "//ibc-port/p",
            "/local/p",
        ] {
            let error = IbcEndpoint::parse(text).unwrap_err();
            assert!(matches!(error, AddressError::Malformed { .. }), "{text}: {error}");
        }
        let error = IbcEndpoint::parse("/ibc-hop/foo/ibc-port/p").unwrap_err();
        assert_eq!(error, AddressError::Hop { text: "foo".into() });
        let long = format!("/ibc-port/{}", "p".repeat(IbcEndpoint::MAX_LEN));
        assert!(matches!(IbcEndpoint::parse(&long), Err(AddressError::TooLong { .. })));
    }

    #[test]
    fn a_remote_address_has_an_order_and_no_channel() {
        let remote = |text| IbcEndpoint::parse(text).unwrap().remote().map(|remote| remote.order);
        assert_eq!(remote("/ibc-port/p/unordered/v1"), Ok(Order::Unordered));
        assert!(matches!(remote("/ibc-port/p"), Err(AddressError::MissingOrder { .. })));
        assert!(matches!(
            remote("/ibc-port/p/ordered/v1/ibc-channel/channel-1"),
            Err(AddressError::HasChannel { .. })
        ));
    }

    #[test]
    fn a_port_to_bind_is_nothing_else() {
        let port = |text| IbcEndpoint::parse(text).unwrap().local_port().map(PortId::to_string);
        assert_eq!(port("/ibc-port/p"), Ok("p".to_owned()));
        assert!(port("/ibc-port/p/ordered/v1").is_err());
        assert!(port("/ibc-hop/connection-0/ibc-port/p").is_err());
        let bound = IbcEndpoint::of_port(PortId::new("p").unwrap());
        assert_eq!(bound.to_string(), "/ibc-port/p");
    }

    #[test]
    fn slashes_and_what_reads_like_one_are_told_apart() {
        for (version, escaped) in [
            ("a/b", "a\\x2fb"),
            ("a\\x2fb", "a\\x5cx2fb"),
            ("\\/", "\\\\x2f"),
            ("\\x5c", "\\x5cx5c"),
            ("\\", "\\"),
            ("\\X2F", "\\X2F"),
        ] {
            let version = Version::new(version).unwrap();
            assert_eq!(version.escape(), escaped);
            assert_eq!(Version::unescape(escaped), Ok(version));
        }
    }

    proptest! {
        #[test]
        fn every_version_comes_back(text in "[\\\\x25fc/a]{1,24}") {
            let version = Version::new(&text).unwrap();
            prop_assert!(!version.escape().contains('/'));
            prop_assert_eq!(Version::unescape(&version.escape()), Ok(version));
        }

        #[test]
        fn no_text_panics(text in "(/(ibc-hop|ibc-port|ordered|ibc-channel|connection-1|x|)){0,9}") {
            if let Ok(address) = IbcEndpoint::parse(&text) {
                prop_assert_eq!(IbcEndpoint::parse(&address.to_string()), Ok(address));
            }
        }
    }
}
