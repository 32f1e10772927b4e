#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub use network_core::*;

/// The in-process backend, at `/local/NAME`.
#[cfg(feature = "loopback")]
pub mod loopback {
    pub use network_loopback::*;
}

/// The TCP backend, at `/ip4/…/tcp/…` and the like.
#[cfg(feature = "tcp")]
pub mod tcp {
    pub use network_tcp::*;
}

/// The QUIC backend, at `/ip4/…/udp/…/quic-v1` and the like.
#[cfg(feature = "quic")]
pub mod quic {
    pub use network_quic::*;
}

/// Hosts, which are backends at `/ibc-port/NAME` and `/ibc-hop/CONNECTION/ibc-port/…`.
///
/// `network::builder` registers none: a host has a name and a key, and is registered like any
/// backend, with [`NetworkBuilder::protocol`]. Hops to chains take feature `ibc-chain`.
#[cfg(feature = "ibc")]
pub mod ibc {
    pub use network_ibc::*;
}

/// The guide is code that runs.
#[cfg(all(doctest, feature = "ibc", feature = "loopback"))]
#[doc = include_str!("../docs/ibc-without-a-chain.md")]
mod ibc_without_a_chain {}

/// The guide is code that compiles: it takes a chain to run.
#[cfg(all(doctest, feature = "ibc-chain"))]
#[doc = include_str!("../docs/ibc-with-a-chain.md")]
mod ibc_with_a_chain {}

/// Identity and TLS, for endpoints with `/tls` or `/quic-v1`.
#[cfg(any(feature = "tls", feature = "quic"))]
pub mod tls {
    pub use network_tls::*;
}

/// Starts to configure a network that has every compiled-in backend.
///
/// It is nobody: it cannot listen over TLS or QUIC, and dials there only whom it knows by name.
/// `builder_with_tls` is for a program that is somebody.
pub fn builder() -> NetworkBuilder {
    let builder = in_process();
    #[cfg(feature = "tcp")]
    let builder = builder.protocol(tcp::Tcp::new());
    #[cfg(feature = "quic")]
    let builder = builder.protocol(quic::Quic::new(tls::Tls::new()));
    builder
}

/// As [`builder`], for a program that is somebody: it dials and listens over TLS and QUIC, and is
/// known by the identity or the certificate that `tls` has.
///
/// ```
/// use network::tls::{Identity, Tls};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tls = Tls::new().with_identity(Identity::generate()?);
/// let network = network::builder_with_tls(tls).build()?;
/// # #[cfg(feature = "tls")]
/// let port = network.bind("/ip4/127.0.0.1/tcp/0/tls/port/orders").await?;
/// # #[cfg(not(feature = "tls"))]
/// # let port = network.bind("/ip4/127.0.0.1/udp/0/quic-v1/port/orders").await?;
/// // What others dial: it names this program's key.
/// assert!(port.local_endpoint().as_str().contains("/p2p/12D3KooW"));
/// # Ok(())
/// # }
/// ```
#[cfg(any(feature = "tls", feature = "quic"))]
pub fn builder_with_tls(tls: network_tls::Tls) -> NetworkBuilder {
    let builder = in_process();
    #[cfg(all(feature = "tcp", not(feature = "tls")))]
    let builder = builder.protocol(tcp::Tcp::new());
    #[cfg(feature = "tls")]
    let builder = builder.protocol(tcp::Tcp::new().with_tls(tls.clone()));
    #[cfg(feature = "quic")]
    let builder = builder.protocol(quic::Quic::new(tls.clone()));
    drop(tls);
    builder
}

fn in_process() -> NetworkBuilder {
    let builder = Network::builder();
    #[cfg(feature = "loopback")]
    let builder = builder.protocol(loopback::Loopback::new());
    builder
}

/// A network with every compiled-in backend and the default [`Limits`].
///
/// # Errors
/// Two backends take the same endpoints: not with those that are compiled in.
pub fn new() -> Result<Network, RegisterError> {
    builder().build()
}
