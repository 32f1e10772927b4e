//! Endpoints that begin with a host and a port number, for the backends over IP.

use std::net::{IpAddr, SocketAddr};

use crate::endpoint::{Endpoint, EndpointError};

/// What an endpoint begins with that is reached over IP: `/ip4/127.0.0.1/tcp/9000`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// The host.
    pub host: Host,
    /// The port number; 0 if it is to be chosen.
    pub port: u16,
}

/// Where an endpoint leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address: `/ip4` or `/ip6`.
    Ip(IpAddr),
    /// A name, and which addresses of it are wanted: `/dns`, `/dns4` or `/dns6`.
    Name(String, Family),
}

/// Which addresses of a name are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// All of them.
    Any,
    /// Those of IPv4.
    V4,
    /// Those of IPv6.
    V6,
}

impl Family {
    /// Whether an address is wanted.
    pub fn has(self, address: &SocketAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }
}

impl HostPort {
    /// Takes an endpoint apart that begins with a host and a port of this protocol, `"tcp"` or
    /// `"udp"`: into those, and the text that follows. `None` if it does not begin so.
    ///
    /// ```
    /// # use network_core::{Endpoint, HostPort};
    /// let endpoint = Endpoint::parse("/ip4/127.0.0.1/tcp/9000/port/orders")?;
    /// let (to, rest) = HostPort::parse(&endpoint, "tcp").unwrap();
    /// assert_eq!((to.port, rest), (9000, "/port/orders"));
    /// assert_eq!(HostPort::parse(&endpoint, "udp"), None);
    /// # Ok::<(), network_core::EndpointError>(())
    /// ```
    pub fn parse<'a>(endpoint: &'a Endpoint, protocol: &str) -> Option<(Self, &'a str)> {
        let mut parts = endpoint.components();
        let (host, port) = parts.next().zip(parts.next())?;
        let name = host.value?;
        let host = match host.protocol {
            "ip4" | "ip6" => Host::Ip(name.parse().ok()?),
            "dns" => Host::Name(name.to_owned(), Family::Any),
            "dns4" => Host::Name(name.to_owned(), Family::V4),
            "dns6" => Host::Name(name.to_owned(), Family::V6),
            _ => return None,
        };
        let port = match port.value {
            _ if port.protocol != protocol => return None,
            Some(port) => port.parse().ok()?,
            None => 0,
        };
        // Each of the four begins with a slash.
        let rest = match parts.next() {
            Some(_) => endpoint.as_str().match_indices('/').nth(4),
            None => None,
        };
        Some((Self { host, port }, rest.map_or("", |(at, _)| &endpoint.as_str()[at..])))
    }

    /// The endpoint that begins with this address and ends with `rest`.
    ///
    /// # Errors
    /// `rest` is no end of an endpoint.
    pub fn endpoint(
        address: SocketAddr,
        protocol: &str,
        rest: &str,
    ) -> Result<Endpoint, EndpointError> {
        let family = if address.is_ipv4() { "ip4" } else { "ip6" };
        let (ip, port) = (address.ip(), address.port());
        Endpoint::parse(&format!("/{family}/{ip}/{protocol}/{port}{rest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<(HostPort, String)> {
        let endpoint = Endpoint::parse(text).unwrap();
        HostPort::parse(&endpoint, "tcp").map(|(to, rest)| (to, rest.to_owned()))
    }

    #[test]
    fn what_follows_the_port_is_kept_as_it_is() {
        let (to, rest) = parse("/ip4/127.0.0.1/tcp/9000/port/orders/ordered/v1").unwrap();
        assert_eq!(to, HostPort { host: Host::Ip([127, 0, 0, 1].into()), port: 9000 });
        assert_eq!(rest, "/port/orders/ordered/v1");
        let (to, rest) = parse("/ip6/::1/tcp/").unwrap();
        assert_eq!((to.port, rest.as_str()), (0, ""));
        let (to, rest) = parse("/dns4/a.example/tcp/1/port/").unwrap();
        assert_eq!(to.host, Host::Name("a.example".to_owned(), Family::V4));
        assert_eq!(rest, "/port/");
    }

    #[test]
    fn what_begins_otherwise_is_not_taken_apart() {
        for text in ["/ip4/1.2.3.4/udp/1", "/local/x", "/tcp/1/ip4/1.2.3.4", "/ip4/1.2.3.4"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_address_makes_an_endpoint() {
        let endpoint = HostPort::endpoint("[::1]:7".parse().unwrap(), "udp", "/quic-v1").unwrap();
        assert_eq!(endpoint.as_str(), "/ip6/::1/udp/7/quic-v1");
    }
}
