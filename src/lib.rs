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

/// Identity and TLS, for endpoints with `/tls`.
#[cfg(feature = "tls")]
pub mod tls {
    pub use network_tls::*;
}

/// Starts to configure a network that has every compiled-in backend.
pub fn builder() -> NetworkBuilder {
    let builder = in_process();
    #[cfg(feature = "tcp")]
    let builder = builder.protocol(tcp::Tcp::new());
    builder
}

/// As [`builder`], for a program that is somebody: it dials and listens over TLS too, and is
/// known by the identity or the certificate that `tls` has.
///
/// ```
/// use network::tls::{Identity, Tls};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tls = Tls::new().with_identity(Identity::generate()?);
/// let network = network::builder_with_tls(tls).build()?;
/// let port = network.bind("/ip4/127.0.0.1/tcp/0/tls/port/orders").await?;
/// // What others dial: it names this program's key.
/// assert!(port.local_endpoint().as_str().contains("/tls/p2p/12D3KooW"));
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "tls")]
pub fn builder_with_tls(tls: network_tls::Tls) -> NetworkBuilder {
    in_process().protocol(tcp::Tcp::new().with_tls(tls))
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
