//! Endpoints of this backend: a transport part, and the name of a port behind it.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use network_core::{Endpoint, EndpointError, PeerId, PeerIdError};

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
    /// The endpoint names a peer, and it is another's.
    #[error("{endpoint} is to be bound by {named}, and this is {own}: bind it as /tls/p2p/{own}")]
    OtherPeer {
        /// The endpoint.
        endpoint: Endpoint,
        /// The peer that it names.
        named: PeerId,
        /// The peer that binds.
        own: PeerId,
    },
    /// TLS to an address, with nothing to verify whoever answers by.
    #[error(
        "{0} does not say who is to answer: name the peer (/tls/p2p/PEER), or dial a host by a \
         name that its certificate is for (/dns/HOST/tcp/…/tls), or give your own rustls \
         configuration (`Tls::with_client_config`)"
    )]
    NobodyToVerify(Endpoint),
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
    /// What a dialer named in its opening is no name of a port.
    #[error("{0:?} names no port: it is /port/NAME, or nothing")]
    NotAName(String),
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
    /// TLS; who it is goes by the name of the host.
    Named,
    /// TLS; who it is goes by the peer id.
    Peer(PeerId),
}

impl fmt::Display for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => Ok(()),
            Self::Named => f.write_str("/tls"),
            Self::Peer(peer) => write!(f, "/tls/p2p/{peer}"),
        }
    }
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
        let mut security = Security::Plain;
        let mut slashes = 4;
        let mut next = parts.next();
        if next.is_some_and(|part| part.protocol == "tls") {
            (security, slashes, next) = (Security::Named, 5, parts.next());
        }
        if let Some(part) = next.filter(|part| part.protocol == "p2p" && slashes == 5) {
            let peer = part.value.unwrap_or_default().parse();
            let no_peer = |source| AddressError::NoPeer { endpoint: endpoint.clone(), source };
            (security, slashes, next) = (Security::Peer(peer.map_err(no_peer)?), 7, parts.next());
        }
        let path = match next {
            None => "",
            Some(_) => rest_after(endpoint, slashes),
        };
        if next.is_some_and(|part| part.protocol != "port") {
            let (endpoint, rest) = (endpoint.clone(), path.to_owned());
            return Err(AddressError::NotSpoken { endpoint, rest });
        }
        Ok(Self { host, port, security, path: path.to_owned() })
    }
}

/// The text from the slash that so many come before.
fn rest_after(endpoint: &Endpoint, slashes: usize) -> &str {
    let text = endpoint.as_str();
    text.match_indices('/').nth(slashes).map_or("", |(at, _)| &text[at..])
}

/// The transport part for a socket address.
pub(crate) fn endpoint_of(
    address: SocketAddr,
    security: Security,
) -> Result<Endpoint, EndpointError> {
    let family = if address.is_ipv4() { "ip4" } else { "ip6" };
    Endpoint::parse(&format!("/{family}/{}/tcp/{}{security}", address.ip(), address.port()))
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

    const PEER: &str = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";

    #[test]
    fn tls_goes_by_a_peer_or_by_the_name_of_the_host() {
        let parts = |text: &str| parse(text).map(|address| (address.security, address.path));
        let (named, plain) = (Security::Named, Security::Plain);
        assert_eq!(parts("/dns/a.example/tcp/1/tls"), Ok((named, String::new())));
        assert_eq!(parts("/dns/a.example/tcp/1/tls/port/x"), Ok((named, "/port/x".to_owned())));
        assert_eq!(parts("/dns/a.example/tcp/1/port/tls"), Ok((plain, "/port/tls".to_owned())));
        let peer = Security::Peer(PEER.parse().unwrap());
        let text = format!("/ip4/1.2.3.4/tcp/1/tls/p2p/{PEER}");
        assert_eq!(parts(&text), Ok((peer, String::new())));
        assert_eq!(parts(&format!("{text}/port/x/y")), Ok((peer, "/port/x/y".to_owned())));
        let address = "1.2.3.4:1".parse().unwrap();
        assert_eq!(endpoint_of(address, peer).unwrap().as_str(), text);
        let bad = parse("/ip4/1.2.3.4/tcp/1/tls/p2p/nobody");
        assert!(matches!(bad, Err(AddressError::NoPeer { .. })), "{bad:?}");
    }

    #[test]
    fn what_is_not_spoken_here_is_refused() {
        for text in [
            "/ip4/1.2.3.4/tcp/1/ws",
            "/dns/x/tcp/1/tls/ws",
            "/ip4/1.2.3.4/tcp/1/p2p/x",
            "/ip4/1.2.3.4/tcp/1/noise",
            "/ip4/1.2.3.4/tcp/1/tls/tls",
        ] {
            assert!(matches!(parse(text), Err(AddressError::NotSpoken { .. })), "{text}");
        }
        assert!(matches!(parse("/ip4/1.2.3.4/udp/1"), Err(AddressError::NotTcp(_))));
    }
}
