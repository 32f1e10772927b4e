//! Identity and TLS for the backends of `network`.
//!
//! There are two ways to know who is at the other end. A *peer* is known by its key: the
//! endpoint names it, as in `/ip4/192.0.2.1/tcp/9000/tls/p2p/12D3KooW…`, and both sides prove
//! who they are with certificates of
//! [libp2p](https://github.com/libp2p/specs/blob/master/tls/tls.md). A server is known by its
//! *name*: it has a certificate that a trusted authority signed, and who dials it may say who
//! it is, or not.
//!
//! [`Identity`] is the key of a node, [`Certificate`] what an authority gave it, and [`Tls`]
//! what a backend takes its configurations from.
//!
//! ```
//! use network_tls::{Identity, Tls, TlsError};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let identity = Identity::generate()?;
//! let peer = identity.peer_id();
//! let tls = Tls::new().with_identity(identity);
//! assert!(tls.server_for_peers().is_ok());
//! assert!(tls.client_for_peer(&peer).is_ok());
//! assert!(matches!(tls.server_for_name(), Err(TlsError::NoCertificate)));
//! # Ok(())
//! # }
//! ```

mod certificate;
mod crypto;
mod early;
mod error;
mod file;
mod identity;
mod known;
mod peers;
mod tls;
mod trust;
mod verify;

/// The TLS library, in the version whose types are in this interface.
pub use rustls;

pub use certificate::{Certificate, CertificateError};
pub use crypto::ALPN;
pub use error::TlsError;
pub use file::FileError;
pub use identity::{Identity, IdentityError};
pub use tls::Tls;
pub use trust::{Dialer, Listening, Trust};
pub use verify::{MAX_CERTIFICATE_LEN, peer_of};
