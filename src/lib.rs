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

/// Starts to configure a network that has every compiled-in backend.
pub fn builder() -> NetworkBuilder {
    let builder = Network::builder();
    #[cfg(feature = "loopback")]
    let builder = builder.protocol(loopback::Loopback::new());
    #[cfg(feature = "tcp")]
    let builder = builder.protocol(tcp::Tcp::new());
    builder
}

/// A network with every compiled-in backend and the default [`Limits`].
///
/// # Errors
/// Two backends take the same endpoints: not with those that are compiled in.
pub fn new() -> Result<Network, RegisterError> {
    builder().build()
}
