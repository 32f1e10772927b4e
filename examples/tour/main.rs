//! A tour of every compiled backend, over real input and without any set-up:
//!
//! ```text
//! cargo run --release --example tour --features full
//! ```
//!
//! Reads this repository's own files, serves them as records to a handler that answers with
//! the SHA-256 of each, over one backend after the other, and checks every ack against a hash
//! computed here. Prints a table; exits with 1 if anything differs. With `--quick` it measures
//! for a moment only.

mod files;
mod measure;
mod table;

use std::{env, error::Error, process::ExitCode, time::Duration};

use files::Files;
use measure::{Figures, Pace};
use network::{Bytes, Endpoint, Network, Refusal, accept_all, handler_fn};
use sha2::{Digest, Sha256};
use table::{Progress, Table};

/// Where the server of one backend listens, and the port that its client connects from.
struct Stop {
    backend: &'static str,
    listen: &'static str,
    from: &'static str,
}

/// One line a backend.
const STOPS: &[Stop] = &[
    #[cfg(feature = "loopback")]
    Stop { backend: "loopback", listen: "/local/tour", from: "/local/" },
    #[cfg(feature = "tcp")]
    Stop {
        backend: "tcp",
        listen: "/ip4/127.0.0.1/tcp/0/port/tour",
        from: "/ip4/127.0.0.1/tcp/0/port/guest",
    },
    #[cfg(feature = "tls")]
    Stop {
        backend: "tcp",
        listen: "/ip4/127.0.0.1/tcp/0/tls/port/tour",
        from: "/ip4/127.0.0.1/tcp/0/tls/port/guest",
    },
    #[cfg(feature = "quic")]
    Stop {
        backend: "quic",
        listen: "/ip4/127.0.0.1/udp/0/quic-v1/port/tour",
        from: "/ip4/127.0.0.1/udp/0/quic-v1/port/guest",
    },
    #[cfg(all(feature = "ibc", feature = "loopback"))]
    Stop { backend: "ibc", listen: "/ibc-port/tour", from: "/ibc-port/guest" },
];

/// The longest record of all stops: that of IBC, in bytes.
const LONGEST: usize = 262_144;

#[tokio::main]
async fn main() -> ExitCode {
    match tour().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&*error),
    }
}

async fn tour() -> Result<(), Box<dyn Error>> {
    let quick = match env::args().nth(1).as_deref() {
        None => false,
        Some("--quick") => true,
        Some(other) => return Err(format!("{other} is no option: the only one is --quick").into()),
    };
    let network = network()?;
    for protocol in network.protocols() {
        if !STOPS.iter().any(|stop| stop.backend == protocol.name()) {
            return Err(format!("backend {} has no stop in this tour", protocol.name()).into());
        }
    }
    if STOPS.is_empty() {
        return Err("no backend is compiled in: add --features full".into());
    }

    let files = Files::of_this_repository(network.limits().max_record_len.min(LONGEST))?;
    println!("{files}\n");

    // The whole tour takes about ten seconds, however many stops it has.
    let time = Duration::from_secs(8) / STOPS.len() as u32;
    let pace = if quick { Pace::new(Duration::from_millis(100)) } else { Pace::new(time / 2) };
    let mut table = Table::default();
    let mut progress = Progress::default();
    let mut acks = 0;
    for (at, stop) in STOPS.iter().enumerate() {
        progress.stop(at + 1, STOPS.len(), stop.backend);
        let (there, here, hop) = networks(&network, stop).await?;
        let (endpoint, figures) =
            visit(&there, &here, &hop, stop, &files, pace, &mut progress).await?;
        acks += figures.acks;
        table.row(&endpoint, &figures);
    }
    drop(progress);
    print!("{table}");
    println!("\nEvery ack was the SHA-256 of its record: {} acks checked.", table::count(acks));
    println!(
        "Connects are the median of {}; round trips include the hash; {} records are in flight.",
        measure::CONNECTS,
        measure::IN_FLIGHT
    );
    network.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

/// Every compiled backend; with an identity, if there is a use for one.
fn network() -> Result<Network, Box<dyn Error>> {
    #[cfg(any(feature = "tls", feature = "quic"))]
    {
        use network::tls::{Identity, Tls};

        let tls = Tls::new().with_identity(Identity::generate()?);
        Ok(network::builder_with_tls(tls).build()?)
    }
    #[cfg(not(any(feature = "tls", feature = "quic")))]
    Ok(network::new()?)
}

/// The networks of the server and of the client, and what the client dials before the server's
/// name: for most backends one network does for both.
async fn networks(
    network: &Network,
    stop: &Stop,
) -> Result<(Network, Network, String), Box<dyn Error>> {
    match stop.backend {
        #[cfg(all(feature = "ibc", feature = "loopback"))]
        "ibc" => {
            use network::ibc::Host;

            // Two hosts, who reach each other in process here.
            let (there, here) = (Host::in_memory("tour")?, Host::in_memory("guest")?);
            there.serve(&network.bind("/local/host").await?).await?;
            let hop = here.connect_hop(&network.bind("/local/").await?, "/local/host").await?;
            let of = |host| Network::builder().protocol(host).build();
            Ok((of(there)?, of(here)?, format!("/ibc-hop/{}", hop.connection)))
        }
        _ => Ok((network.clone(), network.clone(), String::new())),
    }
}

/// Serves the files over one backend; the same handler for all of them.
async fn visit(
    there: &Network,
    here: &Network,
    hop: &str,
    stop: &Stop,
    files: &Files,
    pace: Pace,
    progress: &mut Progress,
) -> Result<(String, Figures), Box<dyn Error>> {
    let server = there.bind(stop.listen).await?;
    server.listen(accept_all(handler_fn(sha256))).await?;
    let client = here.bind(stop.from).await?;
    let endpoint = match hop {
        "" => server.local_endpoint().clone(),
        hop => Endpoint::parse(&format!("{hop}{}/ordered/tour-1", server.local_endpoint()))?,
    };

    let figures = measure::measure(&client, &endpoint, files, pace, progress).await?;
    client.revoke().await?;
    server.revoke().await?;
    Ok((shown(&endpoint), figures))
}

/// An endpoint, with the end of a peer id only, which is 52 characters long.
fn shown(endpoint: &Endpoint) -> String {
    let text = endpoint.to_string();
    match endpoint.value_of("p2p").filter(|peer| peer.len() > 8) {
        Some(peer) => text.replacen(peer, &format!("…{}", &peer[peer.len() - 4..]), 1),
        None => text,
    }
}

/// The handler: its ack is the SHA-256 of the record.
async fn sha256(record: Bytes) -> Result<Bytes, Refusal> {
    Ok(Bytes::copy_from_slice(&Sha256::digest(&record)))
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
