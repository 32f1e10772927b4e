//! Connections over TCP, at endpoints such as `/ip4/127.0.0.1/tcp/9000/port/orders` and
//! `/dns/example.org/tcp/9000`.
//!
//! Plain TCP: nothing is encrypted, and nobody proves who they are; with the feature `tls`,
//! `…/tls/p2p/PEER` and `/dns/HOST/tcp/…/tls` are TLS 1.3. The frames are those
//! of `docs/wire-format.md`.
//!
//! ```
//! use network_core::{Bytes, Network, accept_all, handler_fn};
//! use network_tcp::Tcp;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let network = Network::builder().protocol(Tcp::new()).build()?;
//! let server = network.bind("/ip4/127.0.0.1/tcp/0/port/upper").await?;
//! let upper = |record: Bytes| async move { Ok(Bytes::from(record.to_ascii_uppercase())) };
//! server.listen(accept_all(handler_fn(upper))).await?;
//!
//! let client = network.bind("/ip4/127.0.0.1/tcp/").await?;
//! let connection = client.connect(server.local_endpoint(), ()).await?;
//! assert_eq!(connection.send("hello").await?, "HELLO");
//! # Ok(())
//! # }
//! ```

mod address;
mod backend;
mod socket;
#[cfg(feature = "tls")]
mod tls;

pub use address::AddressError;
pub use backend::Tcp;
