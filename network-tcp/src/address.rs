//! Endpoints of this backend: a transport part, and the name of a port behind it.

use std::{fmt, net::SocketAddr};

use network_core::{Endpoint, EndpointError, Host, HostPort, PeerIdError};
#[cfg(feature = "tls")]
use network_tls::Trust;

/// Why an endpoint is none of this backend's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// It does not begin with a host and a TCP port.
    #[error("{0} does not begin with a host and a TCP port, like /ip4/127.0.0.1/tcp/9000")]
    NotTcp(Endpoint),
    /// What follows the TCP port is not `/tls`, `/tls/p2p/PEER` or `/port/NAME`.
    #[error(
        "in {endpoint}, {rest} follows the TCP port, which this backend does not speak: it takes \
         plain TCP, /tls or /tls/p2p/PEER, with /port/NAME behind it or nothing"
    )]
    NotSpoken {
        /// The endpoint.
        endpoint: Endpoint,
        /// What follows the TCP port.
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
    /// The endpoint asks for TLS, and the backend has none.
    #[error(
        "{0} asks for TLS, and this TCP backend has none: build with the feature `tls`, and give \
         it with `Tcp::with_tls`"
    )]
    NoTls(Endpoint),
    /// Ports of another kind have the socket.
    #[error("{0} shares its address with ports that are secured otherwise: take another TCP port")]
    OtherSecurity(Endpoint),
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
    pub(crate) security: Security,
    /// What follows the transport part: `/port/orders`, or empty.
    pub(crate) path: String,
}

/// What an endpoint says of who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Security {
    /// Nothing is encrypted and nobody proves anything.
    Plain,
    /// TLS.
    #[cfg(feature = "tls")]
    Tls(Trust),
}

impl fmt::Display for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => f.write_str(""),
            #[cfg(feature = "tls")]
            Self::Tls(trust) => write!(f, "/tls{trust}"),
        }
    }
}

impl Security {
    /// What comes after `/tls`, and then.
    #[cfg(feature = "tls")]
    fn after_tls<'a>(rest: &'a str, endpoint: &Endpoint) -> Result<(Self, &'a str), AddressError> {
        let no_peer = |source| AddressError::NoPeer { endpoint: endpoint.clone(), source };
        let (trust, rest) = Trust::parse(rest).map_err(no_peer)?;
        Ok((Self::Tls(trust), rest))
    }

    #[cfg(not(feature = "tls"))]
    fn after_tls<'a>(_: &'a str, endpoint: &Endpoint) -> Result<(Self, &'a str), AddressError> {
        Err(AddressError::NoTls(endpoint.clone()))
    }

    /// The transport part for a socket address.
    pub(crate) fn endpoint_of(self, address: SocketAddr) -> Result<Endpoint, EndpointError> {
        HostPort::endpoint(address, "tcp", &self.to_string())
    }
}

impl Address {
    pub(crate) fn parse(endpoint: &Endpoint) -> Result<Self, AddressError> {
        let not_tcp = || AddressError::NotTcp(endpoint.clone());
        let (to, rest) = HostPort::parse(endpoint, "tcp").ok_or_else(not_tcp)?;
        let (security, path) = match rest.strip_prefix("/tls").filter(|rest| ends_here(rest)) {
            Some(rest) => Security::after_tls(rest, endpoint)?,
            None => (Security::Plain, rest),
        };
        if !path.is_empty() && !path.strip_prefix("/port").is_some_and(ends_here) {
            let (endpoint, rest) = (endpoint.clone(), path.to_owned());
            return Err(AddressError::NotSpoken { endpoint, rest });
        }
        Ok(Self { host: to.host, port: to.port, security, path: path.to_owned() })
    }
}

/// Whether a component ends before this.
fn ends_here(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('/')
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
        assert_eq!((address.port, address.path.as_str()), (9000, "/port/orders/ordered/v1"));
        assert_eq!(address.security, Security::Plain);
    }

    #[cfg(feature = "tls")]
    const PEER: &str = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";

    #[cfg(feature = "tls")]
    #[test]
    fn tls_goes_by_a_peer_or_by_the_name_of_the_host() {
        let parts = |text: &str| parse(text).map(|address| (address.security, address.path));
        let (named, plain) = (Security::Tls(Trust::Name), Security::Plain);
        assert_eq!(parts("/dns/a.example/tcp/1/tls"), Ok((named, String::new())));
        assert_eq!(parts("/dns/a.example/tcp/1/tls/port/x"), Ok((named, "/port/x".to_owned())));
        assert_eq!(parts("/dns/a.example/tcp/1/port/tls"), Ok((plain, "/port/tls".to_owned())));
        let peer = Security::Tls(Trust::Peer(PEER.parse().unwrap()));
        let text = format!("/ip4/1.2.3.4/tcp/1/tls/p2p/{PEER}");
        assert_eq!(parts(&text), Ok((peer, String::new())));
        assert_eq!(parts(&format!("{text}/port/x/y")), Ok((peer, "/port/x/y".to_owned())));
        let address = "1.2.3.4:1".parse().unwrap();
        assert_eq!(peer.endpoint_of(address).unwrap().as_str(), text);
        let bad = parse("/ip4/1.2.3.4/tcp/1/tls/p2p/nobody");
        assert!(matches!(bad, Err(AddressError::NoPeer { .. })), "{bad:?}");
    }

    #[test]
    fn what_is_not_spoken_here_is_refused() {
        for text in [
            "/ip4/1.2.3.4/tcp/1/ws",
            #[cfg(feature = "tls")]
            "/dns/x/tcp/1/tls/ws",
            "/ip4/1.2.3.4/tcp/1/p2p/x",
            "/ip4/1.2.3.4/tcp/1/noise",
            #[cfg(feature = "tls")]
            "/ip4/1.2.3.4/tcp/1/tls/tls",
            "/ip4/1.2.3.4/tcp/1/portal/x",
        ] {
            assert!(matches!(parse(text), Err(AddressError::NotSpoken { .. })), "{text}");
        }
        assert!(matches!(parse("/ip4/1.2.3.4/udp/1"), Err(AddressError::NotTcp(_))));
    }
}
