//! Acks every record with itself, over any compiled backend:
//!
//! ```text
//! cargo run --example echo_server -- [ENDPOINT]
//! cargo run --example echo_client -- [ENDPOINT] [LINE]
//! ```
//!
//! Without an endpoint it listens at `/ip4/127.0.0.1/tcp/9000/port/echo`; `/tcp/0` takes a
//! free TCP port. Ctrl-C ends it: records that are on their way are acked first.

use std::{env, error::Error, process::ExitCode, time::Duration};

use network::{Bytes, CloseReason, Connection, ConnectionHandler, Refusal, accept_all};

const DEFAULT: &str = "/ip4/127.0.0.1/tcp/9000/port/echo";

/// One for all connections.
struct Echo;

impl ConnectionHandler for Echo {
    async fn on_open(&self, connection: &Connection) {
        println!("open: {}", connection.remote_endpoint());
    }

    async fn on_receive(&self, _: &Connection, record: Bytes) -> Result<Bytes, Refusal> {
        Ok(record)
    }

    async fn on_close(&self, connection: &Connection, reason: &CloseReason) {
        println!("{reason}: {}", connection.remote_endpoint());
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&*error),
    }
}

async fn serve() -> Result<(), Box<dyn Error>> {
    let endpoint = env::args().nth(1).unwrap_or_else(|| DEFAULT.to_owned());
    let network = network::new()?;
    let port = network.bind(endpoint).await?;
    port.listen(accept_all(Echo)).await?;
    println!("listening at {}", port.local_endpoint());

    tokio::signal::ctrl_c().await?;
    network.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

/// Says what went wrong, and why.
fn failed(error: &dyn Error) -> ExitCode {
    eprintln!("error: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        eprintln!("  because {cause}");
        source = cause.source();
    }
    ExitCode::FAILURE
}
