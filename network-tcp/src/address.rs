//! Endpoints of this backend: a transport part, and the name of a port behind it.

use std::net::{IpAddr, SocketAddr};

use network_core::{Endpoint, EndpointError};

/// Why an endpoint is none of this backend's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// It does not begin with a host and a TCP port.
    #[error("{0} does not begin with a host and a TCP port, like /ip4/127.0.0.1/tcp/9000")]
    NotTcp(Endpoint),
    /// What follows the TCP port is not `/port/NAME`.
    #[error(
        "in {endpoint}, {rest} follows the TCP port, which this backend does not speak: it takes \
         plain TCP, with /port/NAME behind it or nothing"
    )]
    NotPlain {
        /// The endpoint.
        endpoint: Endpoint,
        /// What follows the TCP port.
        rest: String,
    },
    /// A name cannot be bound.
    #[error("{0} names a host by name: bind an address of this machine, like /ip4/0.0.0.0")]
    NameToBind(Endpoint),
    /// Another program has the address.
    #[error("another program has {0}: stop it, or bind another TCP port; /tcp/0 takes a free one")]
    InUse(Endpoint),
    /// The address is none of this machine's.
    #[error("{0} is no address of this machine: bind one that is, or /ip4/0.0.0.0 for all")]
    NotHere(Endpoint),
    /// A port number is needed to connect.
    #[error("{0} has no TCP port to connect to: give its number")]
    NoPort(Endpoint),
    /// The name has no addresses of the wanted family.
    #[error("{0} has no address of the family asked for")]
    NoAddress(Endpoint),
}

/// An endpoint, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) host: Host,
    /// 0 if it is to be chosen.
    pub(crate) port: u16,
    /// What follows the transport part: `/port/orders`, or empty.
    pub(crate) path: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Ip(IpAddr),
    Name(String, Family),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Any,
    V4,
    V6,
}

impl Family {
    pub(crate) fn has(self, address: &SocketAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }
}

impl Address {
    pub(crate) fn parse(endpoint: &Endpoint) -> Result<Self, AddressError> {
        let not_tcp = || AddressError::NotTcp(endpoint.clone());
        let mut parts = endpoint.components();
        let (host, tcp) = parts.next().zip(parts.next()).ok_or_else(not_tcp)?;
        let name = host.value.ok_or_else(not_tcp)?;
        let host = match host.protocol {
            "ip4" | "ip6" => Host::Ip(name.parse().map_err(|_| not_tcp())?),
            "dns" => Host::Name(name.to_owned(), Family::Any),
            "dns4" => Host::Name(name.to_owned(), Family::V4),
            "dns6" => Host::Name(name.to_owned(), Family::V6),
            _ => return Err(not_tcp()),
        };
        let port = match (tcp.protocol, tcp.value) {
            ("tcp", Some(port)) => port.parse().map_err(|_| not_tcp())?,
            ("tcp", None) => 0,
            _ => return Err(not_tcp()),
        };
        let path: String = match parts.next() {
            None => String::new(),
            Some(first) => {
                let rest = rest_after(endpoint, 2);
                if first.protocol != "port" {
                    return Err(AddressError::NotPlain { endpoint: endpoint.clone(), rest });
                }
                rest
            }
        };
        Ok(Self { host, port, path })
    }
}

/// The text after the first `count` components, each of which is a pair.
fn rest_after(endpoint: &Endpoint, count: usize) -> String {
    let text = endpoint.as_str();
    let ends = text.match_indices('/').nth(2 * count);
    ends.map_or_else(String::new, |(at, _)| text[at..].to_owned())
}

/// The transport part for a socket address.
pub(crate) fn endpoint_of(address: SocketAddr) -> Result<Endpoint, EndpointError> {
    let family = if address.is_ipv4() { "ip4" } else { "ip6" };
    Endpoint::parse(&format!("/{family}/{}/tcp/{}", address.ip(), address.port()))
}

/// The endpoint with a port's name behind it.
pub(crate) fn with_path(transport: &Endpoint, path: &str) -> Result<Endpoint, EndpointError> {
    if path.is_empty() { Ok(transport.clone()) } else { transport.join(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Address, AddressError> {
        Address::parse(&Endpoint::parse(text).unwrap())
    }

    #[test]
    fn a_name_of_a_port_follows_the_transport() {
        let address = parse("/ip4/127.0.0.1/tcp/9000/port/orders/ordered/v1").unwrap();
        assert_eq!(address.port, 9000);
        assert_eq!(address.path, "/port/orders/ordered/v1");
        assert_eq!(parse("/ip6/::1/tcp/").unwrap().port, 0);
        assert_eq!(parse("/dns4/a.example/tcp/1/port/").unwrap().path, "/port/");
    }

    #[test]
    fn what_asks_for_more_than_plain_tcp_is_refused() {
        for text in ["/ip4/1.2.3.4/tcp/1/tls", "/ip4/1.2.3.4/tcp/1/ws", "/dns/x/tcp/1/tls/port/a"] {
            assert!(matches!(parse(text), Err(AddressError::NotPlain { .. })), "{text}");
        }
        assert!(matches!(parse("/ip4/1.2.3.4/udp/1"), Err(AddressError::NotTcp(_))));
    }
}
