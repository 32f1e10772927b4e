//! What idle connections hold in memory: the resident sets of two processes, one for each end,
//! before and after many connections were opened.

use std::fs;
use std::io::{BufRead, BufReader, Write, stdin, stdout};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::cells::{exchange, record_of};
use crate::peer::{Peer, Result};

/// The option with which this program starts itself as one end.
pub(crate) const END: &str = "--end";

/// How many connections this machine's limit of open files allows one process to hold.
pub(crate) fn affordable(wanted: usize) -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    wanted.min(open_files(&limits).unwrap_or(wanted).saturating_sub(64))
}

fn open_files(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Kilobytes (of 1,000 bytes) that a connection holds, both ends together.
pub(crate) fn measure(peer: &str, connections: usize) -> Result<f64> {
    let mut server = End::start(&["serve", peer])?;
    let address = server.line()?;
    let mut client = End::start(&["hold", peer, &address])?;
    client.hold(1)?;
    let before = server.resident()? + client.resident()?;
    client.hold(connections)?;
    let grown = server.resident()? + client.resident()? - before;
    Ok(grown / connections as f64)
}

/// One end, in a process of its own. It ends when its input closes, that is when this is dropped.
struct End {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl End {
    fn start(arguments: &[&str]) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(END)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = process.stdout.take().ok_or("the process has no output")?;
        Ok(Self { process, output: BufReader::new(output) })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.is_empty() {
            return Err("a process that holds the connections ended early".into());
        }
        Ok(line.trim().to_owned())
    }

    /// Has this end open so many more connections.
    fn hold(&mut self, connections: usize) -> Result<()> {
        let input = self.process.stdin.as_mut().ok_or("the process has no input")?;
        writeln!(input, "{connections}")?;
        self.line()?;
        Ok(())
    }

    /// Resident kilobytes, once what was under way has settled.
    fn resident(&self) -> Result<f64> {
        sleep(Duration::from_millis(200));
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        Ok(resident_kib(&status).ok_or("the process has no resident set")? * 1.024)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

fn resident_kib(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// The end that accepts: prints its address, and serves until its input closes.
pub(crate) fn serve<P: Peer>() -> Result<()> {
    let runtime = runtime()?;
    let peer = runtime.block_on(P::start())?;
    println!("{}", runtime.block_on(peer.serve())?);
    stdin().lock().lines().for_each(drop);
    Ok(())
}

/// The end that connects: for each number that it reads opens so many connections more, uses each
/// once, and holds them until its input closes.
pub(crate) fn hold<P: Peer>(address: &str) -> Result<()> {
    const STUCK: Duration = Duration::from_secs(60);
    let runtime = runtime()?;
    let peer = runtime.block_on(P::start())?;
    let mut held = Vec::new();
    for line in stdin().lock().lines() {
        let opening = open(&peer, address, line?.trim().parse()?, &mut held);
        runtime.block_on(async { timeout(STUCK, opening).await })??;
        println!("{}", held.len());
        stdout().flush()?;
    }
    Ok(())
}

async fn open<P: Peer>(
    peer: &P,
    address: &str,
    connections: usize,
    held: &mut Vec<P::Client>,
) -> Result<()> {
    let record = record_of(64);
    held.reserve_exact(connections);
    for _ in 0..connections {
        let client = peer.connect(address).await?;
        exchange(&client, &record).await?;
        held.push(client);
    }
    Ok(())
}

fn runtime() -> Result<Runtime> {
    Ok(Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_tells() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            1024                 524288               files\n";
        assert_eq!(open_files(limits), Some(1024));
        assert_eq!(open_files("Max open files            unlimited  unlimited  files"), None);
        assert_eq!(resident_kib("Name:\tx\nVmRSS:\t    2000 kB\nThreads:\t1\n"), Some(2000.0));
    }
}
