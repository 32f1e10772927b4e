//! Connections inside one process, at endpoints such as `/local/orders`.
//!
//! The reference for what every backend must do, and the way to run code in tests that
//! will run over TCP, QUIC or IBC in production.
//!
//! ```
//! use network_core::{Bytes, Network, Refusal, accept_all, handler_fn};
//! use network_loopback::Loopback;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let network = Network::builder().protocol(Loopback::new()).build()?;
//! let server = network.bind("/local/upper").await?;
//! let upper = |record: Bytes| async move { Ok(Bytes::from(record.to_ascii_uppercase())) };
//! server.listen(accept_all(handler_fn(upper))).await?;
//!
//! let client = network.bind("/local/").await?;
//! let connection = client.connect("/local/upper", ()).await?;
//! assert_eq!(connection.send("hello").await?, "HELLO");
//! # Ok(())
//! # }
//! ```

mod hub;
mod link;

pub use hub::{Loopback, NameTaken};
