//! libp2p and iroh in the cells of network-bench, measured on command.
//!
//! Reads lines `NAME WORKLOAD MS` and answers each with a line: the figure that the peer of this
//! name reached, or what went wrong. The workloads, the window that is kept full and the handler's
//! work are the very modules of network-bench, so that both sides of a ratio are driven alike. It
//! ends when its input does.

// Each program uses its part of what they share.
#[allow(dead_code)]
#[path = "../../src/cells.rs"]
mod cells;
#[allow(dead_code)]
#[path = "../../src/hand/frame.rs"]
mod frame;
mod over_iroh;
mod over_libp2p;
#[allow(dead_code)]
#[path = "../../src/peer.rs"]
mod peer;
#[path = "../../src/processor.rs"]
mod processor;
#[allow(dead_code)]
#[path = "../../src/quantile.rs"]
mod quantile;
#[path = "../../src/window.rs"]
mod window;

use std::io::{Write, stdin, stdout};
use std::time::Duration;

use crate::cells::Workload;
use crate::over_iroh::{IrohOneStream, IrohStreams};
use crate::over_libp2p::Libp2p;
use crate::peer::{Peer, Result};

/// How many streams may be open at a time: more than any cell has records in flight.
const STREAMS: u32 = 4096;

fn main() -> Result<()> {
    for line in stdin().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        match run(&words) {
            Ok(figure) => println!("{figure}"),
            Err(error) => println!("{}", error.to_string().replace('\n', " ")),
        }
        stdout().flush()?;
    }
    Ok(())
}

fn run(words: &[&str]) -> Result<f64> {
    let [name, workload @ .., ms] = words else {
        return Err("nothing was asked for".into());
    };
    let workload = parse(workload).ok_or("there is no such workload here")?;
    let time = Duration::from_millis(ms.parse()?);
    match *name {
        Libp2p::NAME => cells::measure::<Libp2p>(workload, time),
        IrohStreams::NAME => cells::measure::<IrohStreams>(workload, time),
        IrohOneStream::NAME => cells::measure::<IrohOneStream>(workload, time),
        unknown => Err(format!("there is no peer {unknown}").into()),
    }
}

/// Reads what `Workload` writes of those that are measured here.
fn parse(words: &[&str]) -> Option<Workload> {
    match words {
        ["rtt"] => Some(Workload::RoundTrip),
        ["flow", connections, width, size] => Some(Workload::Flow {
            connections: connections.parse().ok()?,
            width: width.parse().ok()?,
            size: size.parse().ok()?,
        }),
        _ => None,
    }
}
