//! Endpoints of this backend: a UDP address, whom to trust there, and the name of a port.

use std::net::SocketAddr;

use network_core::{Endpoint, EndpointError, HostPort, PeerIdError};
use network_tls::Trust;

/// Why an endpoint is none of this backend's, or cannot be used as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// It does not begin with a host, a UDP port and `/quic-v1`.
    #[error(
        "{0} does not begin with a host, a UDP port and /quic-v1, like \
         /ip4/127.0.0.1/udp/9000/quic-v1"
    )]
    NotQuic(Endpoint),
    /// What follows `/quic-v1` is not `/p2p/PEER` or `/port/NAME`.
    #[error(
        "in {endpoint}, {rest} follows /quic-v1, which this backend does not speak: it takes \
         /p2p/PEER, with /port/NAME behind it or nothing"
    )]
    NotSpoken {
        /// The endpoint.
        endpoint: Endpoint,
        /// What follows.
        rest: String,
    },
    /// What follows `/p2p/` is no peer id.
    #[error("in {endpoint}, what follows /p2p/ is no peer id")]
    NoPeer {
        /// The endpoint.
        endpoint: Endpoint,
        /// Why not.
        source: PeerIdError,
    },
    /// Ports that are known otherwise have the socket.
    #[error("{0} shares its address with ports that are known otherwise: take another UDP port")]
    OtherTrust(Endpoint),
    /// A socket has as many ports as it may have.
    #[error("{endpoint} would be port {count} of its socket, and {max} is the limit")]
    TooManyPorts {
        /// The endpoint.
        endpoint: Endpoint,
        /// How many there would be.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// A name cannot be bound.
    #[error("{0} names a host by name: bind an address of this machine, like /ip4/0.0.0.0")]
    NameToBind(Endpoint),
    /// Another program has the address.
    #[error("another program has {0}: stop it, or bind another UDP port; /udp/0 takes a free one")]
    InUse(Endpoint),
    /// The address is none of this machine's.
    #[error("{0} is no address of this machine: bind one that is, or /ip4/0.0.0.0 for all")]
    NotHere(Endpoint),
    /// A priority is a number from -128 to 127.
    #[error("{0:?} is no priority: it is a number from -128 to 127, as in /priority/1")]
    NotAPriority(String),
    /// A port number is needed to connect.
    #[error("{0} has no UDP port to connect to: give its number")]
    NoPort(Endpoint),
    /// The socket is of IPv4 and the remote side of IPv6, or the other way round.
    #[error(
        "{remote} has no address that {local} can reach: bind a port of the other family \
         (/ip4/0.0.0.0 or /ip6/::) to dial it"
    )]
    OtherFamily {
        /// Who dials.
        local: Endpoint,
        /// Who is dialed.
        remote: Endpoint,
    },
}

/// An endpoint, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) to: HostPort,
    pub(crate) trust: Trust,
    /// What follows the transport part: `/port/orders`, or empty.
    pub(crate) path: String,
}

impl Address {
    pub(crate) fn parse(endpoint: &Endpoint) -> Result<Self, AddressError> {
        let not_quic = || AddressError::NotQuic(endpoint.clone());
        let (to, rest) = HostPort::parse(endpoint, "udp").ok_or_else(not_quic)?;
        let rest = rest.strip_prefix("/quic-v1").filter(|rest| ends_here(rest));
        let no_peer = |source| AddressError::NoPeer { endpoint: endpoint.clone(), source };
        let (trust, path) = Trust::parse(rest.ok_or_else(not_quic)?).map_err(no_peer)?;
        if !path.is_empty() && !path.strip_prefix("/port").is_some_and(ends_here) {
            let (endpoint, rest) = (endpoint.clone(), path.to_owned());
            return Err(AddressError::NotSpoken { endpoint, rest });
        }
        Ok(Self { to, trust, path: path.to_owned() })
    }
}

/// Whether a component ends before this.
fn ends_here(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('/')
}

/// The transport part for a socket address.
pub(crate) fn endpoint_of(address: SocketAddr, trust: Trust) -> Result<Endpoint, EndpointError> {
    HostPort::endpoint(address, "udp", &format!("/quic-v1{trust}"))
}

/// The priority that what is dialed asks for, `…/priority/N`: among the connections of a session,
/// what waits to be sent of a higher one goes first. Without it, 0.
pub(crate) fn priority(path: &str) -> Result<i32, AddressError> {
    let mut parts = path.split('/').skip(1);
    while let (Some(protocol), value) = (parts.next(), parts.next()) {
        if protocol == "priority" {
            let value = value.unwrap_or_default();
            let bad = || AddressError::NotAPriority(value.to_owned());
            return value.parse::<i8>().map(i32::from).map_err(|_| bad());
        }
    }
    Ok(0)
}

/// Whether what is dialed asks for records in any order: `…/unordered/VERSION`.
pub(crate) fn is_unordered(path: &str) -> bool {
    path.split('/').skip(1).step_by(2).any(|protocol| protocol == "unordered")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";

    fn parse(text: &str) -> Result<Address, AddressError> {
        Address::parse(&Endpoint::parse(text).unwrap())
    }

    #[test]
    fn a_peer_and_the_name_of_a_port_follow() {
        let address = parse("/ip4/1.2.3.4/udp/9/quic-v1/port/orders").unwrap();
        assert_eq!((address.to.port, address.trust), (9, Trust::Name));
        assert_eq!(address.path, "/port/orders");
        let text = format!("/ip6/::1/udp/9/quic-v1/p2p/{PEER}");
        let address = parse(&format!("{text}/port/orders/unordered/v1")).unwrap();
        assert_eq!(address.trust, Trust::Peer(PEER.parse().unwrap()));
        assert_eq!(address.path, "/port/orders/unordered/v1");
        let socket = "[::1]:9".parse().unwrap();
        assert_eq!(endpoint_of(socket, address.trust).unwrap().as_str(), text);
        assert_eq!(parse("/dns/a.example/udp/9/quic-v1").unwrap().path, "");
    }

    #[test]
    fn what_is_not_spoken_here_is_refused() {
        for text in ["/ip4/1.2.3.4/udp/1", "/ip4/1.2.3.4/tcp/1", "/ip4/1.2.3.4/udp/1/quic"] {
            assert!(matches!(parse(text), Err(AddressError::NotQuic(_))), "{text}");
        }
        for rest in ["webtransport", "portal/x", &format!("p2p/{PEER}/p2p-circuit")] {
            let text = format!("/ip4/1.2.3.4/udp/1/quic-v1/{rest}");
            assert!(matches!(parse(&text), Err(AddressError::NotSpoken { .. })), "{text}");
        }
        let bad = parse("/ip4/1.2.3.4/udp/1/quic-v1/p2p/nobody");
        assert!(matches!(bad, Err(AddressError::NoPeer { .. })), "{bad:?}");
    }

    #[test]
    fn a_priority_is_a_component_of_its_own() {
        assert_eq!(priority("/port/a"), Ok(0));
        assert_eq!(priority("/port/priority"), Ok(0));
        assert_eq!(priority("/port/a/priority/-3/unordered/v1"), Ok(-3));
        assert!(priority("/port/a/priority").is_err() && priority("/port/a/priority/999").is_err());
    }

    #[test]
    fn an_order_is_a_component_of_its_own() {
        assert!(is_unordered("/port/a/unordered/v1"));
        assert!(is_unordered("/port/a/unordered"));
        assert!(!is_unordered("/port/unordered"));
        assert!(!is_unordered("/port/unordered/ordered/v1"));
        assert!(!is_unordered(""));
    }
}
