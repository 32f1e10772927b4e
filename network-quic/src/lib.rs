//! Connections over QUIC, at endpoints such as
//! `/ip4/192.0.2.1/udp/9000/quic-v1/p2p/12D3KooW…/port/orders` and
//! `/dns/example.org/udp/9000/quic-v1`.
//!
//! A QUIC connection ([RFC 9000](https://www.rfc-editor.org/rfc/rfc9000)) is always encrypted
//! and its server always proves who it is: with `/p2p/PEER` both ends do, by their keys;
//! without, the server does, by a certificate for its name. All connections between a socket
//! and an address share one QUIC connection, so that another one costs a stream and no
//! handshake. The frames are those of `docs/wire-format.md`.
//!
//! ```
//! use network_core::{Bytes, Network, accept_all, handler_fn};
//! use network_quic::Quic;
//! use network_tls::{Identity, Tls};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let tls = Tls::new().with_identity(Identity::generate()?);
//! let network = Network::builder().protocol(Quic::new(tls)).build()?;
//! let server = network.bind("/ip4/127.0.0.1/udp/0/quic-v1/port/upper").await?;
//! let upper = |record: Bytes| async move { Ok(Bytes::from(record.to_ascii_uppercase())) };
//! server.listen(accept_all(handler_fn(upper))).await?;
//!
//! let client = network.bind("/ip4/127.0.0.1/udp/0/quic-v1").await?;
//! let connection = client.connect(server.local_endpoint(), ()).await?;
//! assert_eq!(connection.send("hello").await?, "HELLO");
//! # Ok(())
//! # }
//! ```

mod address;
mod backend;
mod dialing;
mod listening;
#[cfg(feature = "qlog")]
mod qlog;
mod reset;
mod session;
mod settings;
mod socket;
mod stream;
mod unordered;

pub use address::AddressError;
pub use backend::Quic;
#[cfg(feature = "qlog")]
pub use qlog::QlogError;
pub use settings::{Congestion, EarlyData};
