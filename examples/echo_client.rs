//! Sends lines as records and prints their acks, over any compiled backend:
//!
//! ```text
//! cargo run --example echo_client -- [ENDPOINT] [LINE]
//! ```
//!
//! Without an endpoint it connects to where `echo_server` listens by default; without a line
//! it sends those of its standard input. Exits with 1 if a record is not acked.

use std::{env, error::Error, process::ExitCode};

use network::{Connection, Endpoint};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

const DEFAULT: &str = "/ip4/127.0.0.1/tcp/9000/port/echo";

#[tokio::main]
async fn main() -> ExitCode {
    match talk().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&*error),
    }
}

async fn talk() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let server = Endpoint::parse(&args.next().unwrap_or_else(|| DEFAULT.to_owned()))?;
    let network = network::new()?;
    let port = network.bind(own_endpoint(&server)).await?;
    // The server sends nothing by itself, so that `()` handles what it sends.
    let connection = port.connect(&server, ()).await?;

    if let Some(line) = args.next() {
        echo(&connection, line).await?;
    } else {
        let mut lines = BufReader::new(stdin()).lines();
        while let Some(line) = lines.next_line().await? {
            echo(&connection, line).await?;
        }
    }
    connection.close().await;
    Ok(())
}

async fn echo(connection: &Connection, line: String) -> Result<(), Box<dyn Error>> {
    let ack = connection.send(line).await.map_err(|error| {
        // Whether it is safe to send the line again.
        format!("{error} ({})", error.delivery())
    })?;
    println!("{}", String::from_utf8_lossy(&ack));
    Ok(())
}

/// A fresh name of the backend that takes `remote`.
fn own_endpoint(remote: &Endpoint) -> &'static str {
    match remote.components().next().map(|first| first.protocol) {
        Some("ip6") => "/ip6/::1/tcp/",
        Some("ip4" | "dns" | "dns4" | "dns6") => "/ip4/127.0.0.1/tcp/",
        _ => "/local/",
    }
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
