//! A backend of your own, and that it works:
//!
//! ```text
//! cargo run --example custom_protocol
//! ```
//!
//! `backend.rs` is the whole backend: records over Unix sockets. Windows, acks, order,
//! handlers, keepalive and the goodbye are core's. `tests/custom_protocol.rs` runs the
//! conformance suite on it.

#[cfg(unix)]
mod backend;

#[cfg(unix)]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    use network::{Bytes, Network, accept_all, handler_fn};

    let directory = std::env::temp_dir().join(format!("network-unix-{}", std::process::id()));
    std::fs::create_dir(&directory)?;

    // Two networks stand for two programs: they share nothing but the directory.
    let here = Network::builder().protocol(backend::Unix::new(&directory)).build()?;
    let there = Network::builder().protocol(backend::Unix::new(&directory)).build()?;

    let server = there.bind("/unix/upper").await?;
    let upper = |record: Bytes| async move { Ok(Bytes::from(record.to_ascii_uppercase())) };
    server.listen(accept_all(handler_fn(upper))).await?;
    println!("listening at {}", server.local_endpoint());

    let client = here.bind("/unix/").await?;
    let connection = client.connect("/unix/upper/v1", ()).await?;
    println!("{} connected to {}", connection.local_endpoint(), connection.remote_endpoint());
    for record in ["records arrive whole", "in order", "and each has an ack"] {
        let ack = connection.send(record).await?;
        println!("{record} -> {}", String::from_utf8_lossy(&ack));
    }

    connection.close().await;
    server.revoke().await?;
    match client.connect("/unix/upper", ()).await {
        Ok(_) => return Err("a port that was revoked took a connection".into()),
        Err(error) => println!("after the revoke: {error}"),
    }
    client.revoke().await?;
    // Empty: every port has released its file.
    std::fs::remove_dir(&directory)?;
    Ok(())
}

#[cfg(not(unix))]
fn main() {
    println!("this example's backend needs Unix sockets");
}
