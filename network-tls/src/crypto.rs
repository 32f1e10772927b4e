//! What every configuration of this crate is made with.

use std::sync::Arc;

use rustls::{SupportedProtocolVersion, crypto::CryptoProvider, version::TLS13};

/// The one version of TLS that is spoken.
pub(crate) static VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13];

/// The protocol of this workspace, as ALPN names it.
pub const ALPN: &[u8] = b"network/1";

/// What libp2p calls its own.
const LIBP2P: &[u8] = b"libp2p";

/// What is offered where peers are known by their keys: our own name, and that of libp2p, for
/// its other implementations.
pub(crate) fn alpn_for_peers() -> Vec<Vec<u8>> {
    vec![ALPN.to_vec(), LIBP2P.to_vec()]
}

/// What is offered where a server is known by its name. A server without ALPN ignores it.
pub(crate) fn alpn_for_names() -> Vec<Vec<u8>> {
    vec![ALPN.to_vec()]
}

/// The cryptography. Never the default of the process, which is for the program to choose.
///
/// The first key exchange is X25519MLKEM768, for the feature `prefer-post-quantum`.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
