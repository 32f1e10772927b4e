//! Two hosts in two processes with records under way both ways, and SIGKILL at random moments.
//!
//! The children write down all that they do, and what came out is checked over the whole history:
//!
//! - no height has two headers, and heights and times only grow;
//! - of a solo machine, no sequence has two claims with one diversifier;
//! - a record with an ack was handled, once, as it was sent, and in its order if it has one;
//! - no record was handled twice, on channels of any kind;
//! - what counts as delivered was handled, and what counts as not delivered was not;
//! - no send of a process that lived is left without a result;
//! - the hop stays the same one, and records soon go over new channels.
//!
//! `CRASH_SEED=7 cargo test -p network-ibc --test crash` has another seed, `CRASH_KILLS` is the
//! number of kills, and with `CRASH_KEEP=1` the ledgers and logs are kept.

#![cfg(all(unix, feature = "durable"))]
#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

mod child;
mod history;
mod log;

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use history::{History, Run};

/// The hosts: the first dials, the second serves.
pub(crate) const NAMES: [&str; 2] = ["alpha", "beta"];

/// How long hosts may take until records go over new channels again.
const BACK_WITHIN: Duration = Duration::from_secs(20);

/// How long they may take to end when they are asked to.
const END_WITHIN: Duration = Duration::from_secs(30);

/// After how many kills it is looked whether they are back.
const LOOK_EVERY: usize = 5;

/// One after the other: they measure time.
static ONE: Mutex<()> = Mutex::new(());

/// Not a test: the program that is killed. It does nothing unless it is told what to be.
#[test]
fn child() {
    child::main();
}

#[test]
fn some_kills_lose_nothing() {
    rounds(1, 10, 1, &[[false, false]]);
}

#[test]
fn some_kills_of_solo_machines_lose_nothing() {
    rounds(1, 10, 3, &[[true, true]]);
}

/// In rounds with new ledgers: there are more kills while hops are made, and starts stay fast.
#[test]
#[ignore = "takes minutes"]
fn many_kills_lose_nothing() {
    rounds(5, 40, 2, &[[false, false]]);
}

/// Two of them, and one and a chain.
#[test]
#[ignore = "takes minutes"]
fn many_kills_of_solo_machines_lose_nothing() {
    rounds(6, 40, 20, &[[true, true], [true, false], [false, true]]);
}

/// `solo`: which hosts are solo machines, in one round after the other.
fn rounds(rounds: u64, kills: usize, seed: u64, solo: &[[bool; 2]]) {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let seed = from_env("CRASH_SEED").unwrap_or(seed);
    let kills = from_env("CRASH_KILLS").map_or(kills, |kills| usize::try_from(kills).unwrap());
    (seed..seed + rounds)
        .zip(solo.iter().cycle())
        .for_each(|(seed, solo)| kill(kills, seed, *solo));
}

/// Numbers that look random (xorshift64*), the same ones for the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }
}

/// A host that runs.
struct Running {
    child: Child,
    /// It ends with this.
    stdin: Option<ChildStdin>,
    log: PathBuf,
}

impl Running {
    fn end(mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

struct Hosts {
    folder: PathBuf,
    tcp: u16,
    seed: u64,
    solo: [bool; 2],
    running: Vec<Running>,
    /// How often each was started.
    started: [usize; 2],
}

impl Hosts {
    fn start(&mut self, which: usize) -> Running {
        let (name, number) = (NAMES[which], self.started[which]);
        self.started[which] += 1;
        let log = self.log(which, number);
        let errors = fs::File::create(log.with_extension("err")).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture", "--test-threads=1"])
            .env(child::NAME, name)
            .env(child::LEDGER, self.folder.join(name))
            .env(child::LOG, &log)
            .env(child::RUN, number.to_string())
            .env(child::TCP, self.tcp.to_string())
            .env(child::SEED, self.seed.to_string())
            .env(child::SOLO, self.solo[which].to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        Running { child, stdin, log }
    }

    fn log(&self, which: usize, number: usize) -> PathBuf {
        self.folder.join(format!("{}-{number}.log", NAMES[which]))
    }

    /// Kills one, and starts it again.
    fn kill(&mut self, which: usize) {
        let running = &mut self.running[which];
        running.child.kill().unwrap();
        running.child.wait().unwrap();
        self.running[which] = self.start(which);
    }

    /// Waits until records go over new channels of every kind, both ways; gives how long it took.
    fn wait_until_back(&mut self) -> Duration {
        let begun = Instant::now();
        // What a host logged before this does not count.
        let from: Vec<_> = self.running.iter().map(|running| length(&running.log)).collect();
        loop {
            let back = self.running.iter().zip(&from).all(|(running, from)| {
                let text = fs::read(&running.log).unwrap_or_default();
                let new = String::from_utf8_lossy(&text[(*from).min(text.len())..]).into_owned();
                child::ORDERS
                    .iter()
                    .all(|order| new.lines().any(|line| line.starts_with(&format!("ack {order} "))))
            });
            if back {
                return begun.elapsed();
            }
            assert!(
                begun.elapsed() < BACK_WITHIN,
                "no records over every kind of channel {BACK_WITHIN:?} after a kill; runs {:?}, see {}",
                self.started.map(|started| started - 1),
                self.folder.display()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Has both end what they do, and waits for it.
    fn stop(&mut self) {
        use std::io::Write;
        for running in &mut self.running {
            running.stdin.as_mut().unwrap().write_all(b"stop\n").unwrap();
        }
        let begun = Instant::now();
        for running in &self.running {
            while !fs::read_to_string(&running.log).unwrap_or_default().contains("\ndone") {
                assert!(begun.elapsed() < END_WITHIN, "{:?} does not end", running.log);
                thread::sleep(Duration::from_millis(10));
            }
        }
        self.running.drain(..).for_each(Running::end);
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        self.running.drain(..).for_each(Running::end);
    }
}

fn length(path: &Path) -> usize {
    fs::metadata(path).map_or(0, |found| usize::try_from(found.len()).unwrap())
}

/// A free port below those that systems take for connections: one of those could be taken by the
/// very dial to it.
fn free_tcp_port(random: &mut Random) -> u16 {
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let mut ports = (0..100).map(|_| 20_000 + u16::try_from(random.below(10_000)).unwrap());
    ports.find(free).unwrap()
}

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn kill(kills: usize, seed: u64, solo: [bool; 2]) {
    let mut random = Random::new(seed);
    let begun = Instant::now();
    // It stays where something is wrong.
    let folder = tempfile::tempdir().unwrap().keep();
    let tcp = free_tcp_port(&mut Random::new(u64::from(std::process::id())));
    let mut hosts = Hosts { folder, tcp, seed, solo, running: Vec::new(), started: [0; 2] };
    for which in 0..NAMES.len() {
        let running = hosts.start(which);
        hosts.running.push(running);
    }
    // Kills come at once, while the hop is made, and later.
    let longest = |done| if done < 4 { 200 } else { 900 };
    let (mut done, mut looked, mut slowest) = (0, 0, Duration::ZERO);
    while done < kills {
        thread::sleep(Duration::from_millis(20 + random.below(longest(done))));
        let which: &[usize] = match random.below(10) {
            0 => &[0, 1],
            1..=5 => &[0],
            _ => &[1],
        };
        which.iter().for_each(|which| hosts.kill(*which));
        done += which.len();
        if done >= looked + LOOK_EVERY {
            looked = done;
            slowest = slowest.max(hosts.wait_until_back());
        }
    }
    slowest = slowest.max(hosts.wait_until_back());
    hosts.stop();

    let mut history = History::default();
    for (which, host) in NAMES.into_iter().enumerate() {
        for number in 0..hosts.started[which] {
            let lived = number + 1 == hosts.started[which];
            let run = Run { host, number, lived };
            let text = fs::read_to_string(hosts.log(which, number)).unwrap_or_default();
            history.read(&run, &text);
        }
    }
    let outcome = history.check();
    println!(
        "{done} kills with seed {seed} in {:.1?}, back within {slowest:.1?} at the slowest\n{outcome}",
        begun.elapsed()
    );
    let wrong = outcome.wrong.len();
    assert!(wrong == 0, "{wrong} things are wrong, see {}", hosts.folder.display());
    if from_env("CRASH_KEEP").is_none() {
        fs::remove_dir_all(&hosts.folder).unwrap();
    }
}
