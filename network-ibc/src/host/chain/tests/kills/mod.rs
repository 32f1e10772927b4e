//! A host in a process of its own that is killed at random moments (SIGKILL), from its first
//! transaction on, and the chain that it is connected to.
//!
//! What came of it is read from what the processes wrote down, from the ledger, and from the chain:
//!
//! - there is one client that is used, one connection that is open, and one channel of each kind;
//!   of what was begun twice nothing is open in the end, and there is at most one for each kill;
//! - each record of the module came to the chain once, each that the chain sent came back once, and
//!   each acknowledgement came home once; all of it in order where the channel has one;
//! - of records of a port, whose senders die with their process: what was acknowledged came to the
//!   chain, what counts as not delivered did not, and nothing came twice.
//!
//! `KILLS_SEED` is another seed, and with `KILLS_KEEP` the ledger and the journal are kept.

mod child;
mod found;

use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Child, ChildStdin, Command as Process, Stdio},
    time::Instant,
};

use self::found::Found;
use super::*;
use crate::engine::{self, ConnectionState};

/// How often the host is killed.
const KILLS: u32 = 18;

/// How many records each of the module's two channels carries, each way.
const EACH: u32 = 1_000;

/// Numbers that look random (xorshift64*), the same ones for the same seed.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }
}

/// Not a test: the program that is killed. It does nothing unless it is told what to be.
#[test]
fn child() {
    child::main();
}

/// A process of the host.
struct Running {
    child: Child,
    /// It ends with this.
    stdin: Option<ChildStdin>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Killed {
    folder: PathBuf,
    rpc: String,
    seed: u64,
}

impl Killed {
    fn journal(&self) -> PathBuf {
        self.folder.join("journal")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.journal()).unwrap_or_default()
    }

    fn start(&self, run: u32) -> Running {
        let errors = fs::File::create(self.folder.join(format!("errors-{run}"))).unwrap();
        let (_, module) = module_path!().split_once("::").unwrap();
        let mut child = Process::new(std::env::current_exe().unwrap())
            .args([&*format!("{module}::child"), "--exact", "--nocapture", "--test-threads=1"])
            .env(child::FOLDER, self.folder.join("ledger"))
            .env(child::JOURNAL, self.journal())
            .env(child::RPC, &self.rpc)
            .env(child::RUN, run.to_string())
            .env(child::SEED, self.seed.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        Running { child, stdin }
    }
}

/// The chain's ends of what it has with the host.
struct Ends {
    clients: u32,
    connections: Vec<(ConnectionId, engine::Connection)>,
    channels: Vec<(ChannelId, engine::Channel)>,
}

async fn ends(rpc: &Rpc) -> Ends {
    let (mut clients, mut connections, mut channels) = (0, Vec::new(), Vec::new());
    let client = |number| ClientId::known(&format!("07-tendermint-{number}"));
    while rpc.client_state(&client(clients)).await.unwrap().is_some() {
        clients += 1;
    }
    loop {
        let id = ConnectionId::known(&format!("connection-{}", connections.len()));
        let Some(end) = rpc.connection(&id).await.unwrap() else { break };
        connections.push((id, end));
    }
    loop {
        let id = ChannelId::known(&format!("channel-{}", channels.len()));
        let Some(end) = rpc.channel(&PortId::known("mock"), &id).await.unwrap() else { break };
        channels.push((id, end));
    }
    Ends { clients, connections, channels }
}

/// When a process is killed: so long after something is there.
async fn moment(run: u32, random: &mut Random, rpc: &Rpc) {
    let is_there = async |ends: &Ends| match run {
        1 => ends.clients > 0,
        2 => !ends.connections.is_empty(),
        3 => ends.connections.iter().any(|(_, end)| end.state == ConnectionState::Open),
        4 => !ends.channels.is_empty(),
        _ => true,
    };
    until("it goes on", async || is_there(&ends(rpc).await).await).await;
    let most = match run {
        0 => 300,
        1..=4 => 60,
        _ if run.is_multiple_of(3) => 4_500,
        _ => 1_500,
    };
    time::sleep(Duration::from_millis(random.below(most))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn a_host_that_is_killed_at_any_moment_loses_and_repeats_nothing() {
    let seed = std::env::var("KILLS_SEED").map_or(1, |seed| seed.parse().unwrap());
    let (begun, mut random) = (Instant::now(), Random::new(seed));
    println!("seed {seed}");
    let there = There::start();
    // It stays where something is wrong.
    let folder = tempfile::tempdir().unwrap().keep();
    println!("see {}", folder.display());
    let killed = Killed { folder, rpc: there.simd.rpc(), seed };
    for run in 0..KILLS {
        let mut running = killed.start(run);
        moment(run, &mut random, &there.rpc).await;
        assert!(running.child.try_wait().unwrap().is_none(), "run {run} has ended by itself");
        drop(running);
        let text = killed.text();
        let last = text.lines().next_back().unwrap_or_default();
        println!("{:6.1?}: killed after `{last}`", begun.elapsed());
    }
    let mut last = killed.start(KILLS);
    // However long that takes, as long as it goes on.
    while !killed.text().contains("\ndone\n") {
        let before = killed.text().len();
        until("it goes on", async || {
            assert!(last.child.try_wait().unwrap().is_none(), "the last run has ended by itself");
            killed.text().len() > before
        })
        .await;
    }
    last.stdin.as_mut().unwrap().write_all(b"stop\n").unwrap();
    until("it ends", async || last.child.try_wait().unwrap().is_some()).await;

    let text = killed.text();
    let found = Found::read(&text);
    println!("{:6.1?}: {found:?}", begun.elapsed());
    let host = child::opened(&killed.folder.join("ledger"), child::Journal::new(&killed.journal()));
    host.connect_chain(there.config()).await.unwrap();
    found.check(&there.rpc, &host).await;
    host.end().await;
    if std::env::var("KILLS_KEEP").is_err() {
        fs::remove_dir_all(&killed.folder).unwrap();
    }
}
