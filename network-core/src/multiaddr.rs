//! Conversions to and from the closed set of addresses that crate `multiaddr` knows.

use multiaddr::Multiaddr;

use crate::endpoint::{Endpoint, EndpointError};

/// The multiaddress of an endpoint, where all its components are ones that multiaddr has.
///
/// # Errors
/// A component that multiaddr does not know, such as `/port/orders`, or a fresh name.
impl TryFrom<&Endpoint> for Multiaddr {
    type Error = multiaddr::Error;

    fn try_from(endpoint: &Endpoint) -> Result<Self, Self::Error> {
        endpoint.as_str().parse()
    }
}

/// The endpoint of a multiaddress.
///
/// # Errors
/// It is empty, or over the limits of an endpoint.
impl TryFrom<&Multiaddr> for Endpoint {
    type Error = EndpointError;

    fn try_from(address: &Multiaddr) -> Result<Self, Self::Error> {
        Self::parse(&address.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_multiaddr_knows_converts_both_ways() {
        for text in
            ["/ip4/127.0.0.1/tcp/9000", "/dns/example.org/udp/443/quic-v1", "/ip6/::1/tcp/1"]
        {
            let endpoint = Endpoint::parse(text).unwrap();
            let address = Multiaddr::try_from(&endpoint).unwrap();
            assert_eq!(Endpoint::try_from(&address).unwrap(), endpoint);
        }
    }

    #[test]
    fn what_multiaddr_does_not_know_is_refused() {
        for text in ["/local/a", "/ip4/127.0.0.1/tcp/9000/port/orders", "/ibc-port/transfer"] {
            assert!(Multiaddr::try_from(&Endpoint::parse(text).unwrap()).is_err(), "{text}");
        }
    }
}
