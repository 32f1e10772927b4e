//! References that are programs of their own, built when they are first needed and run beside this
//! one, because they take what no other part of the workspace needs: a C++ compiler for libzmq, and
//! for iroh and libp2p three hundred crates, and for ibc-testkit two hundred.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::cells::Workload;
use crate::contest::Contestant;
use crate::peer::{Result, Unavailable};

/// A network that a program in a folder of its own measures on command.
pub(crate) struct Apart {
    folder: &'static str,
    name: &'static str,
    running: Option<Running>,
}

impl Apart {
    /// DEALER and ROUTER of libzmq over TCP.
    pub(crate) fn zeromq() -> Self {
        Self { folder: "zeromq", name: "zeromq", running: None }
    }

    /// The contexts of ibc-testkit.
    pub(crate) fn ibc_testkit() -> Self {
        Self { folder: "ibc", name: "ibc-testkit", running: None }
    }

    /// One of those in `benches/peers`.
    pub(crate) fn peer(name: &'static str) -> Self {
        Self { folder: "peers", name, running: None }
    }
}

impl Contestant for Apart {
    fn name(&self) -> &str {
        self.name
    }

    fn prepare(&mut self) -> Result<()> {
        if self.running.is_none() {
            eprint!("(building benches/{}) ", self.folder);
            self.running = Some(Running::start(&build(self.folder)?)?);
        }
        Ok(())
    }

    fn measure(&mut self, workload: Workload, time: Duration) -> Result<f64> {
        let running = self.running.as_mut().ok_or("its program does not run")?;
        let answer = running.ask(&format!("{} {workload} {}", self.name, time.as_millis()))?;
        // What is no number says what went wrong.
        answer.parse().map_err(|_| match answer.as_str() {
            "" => "its program ended early".into(),
            reason => reason.into(),
        })
    }
}

/// Builds the program, and gives its path.
fn build(folder: &str) -> Result<String> {
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let built = Command::new(cargo)
        .args(["build", "--release", "--locked", "--message-format=json", "--manifest-path"])
        .arg(format!("{}/{folder}/Cargo.toml", env!("CARGO_MANIFEST_DIR")))
        .output()?;
    if !built.status.success() {
        let said = String::from_utf8_lossy(&built.stderr);
        let reason = why_not(folder, &said);
        // Code that is ours has to build everywhere.
        let broken = said.contains("could not compile `network-bench-");
        return Err(if broken { reason.into() } else { Unavailable(reason).into() });
    }
    executable(&built.stdout).ok_or_else(|| "cargo names no executable".into())
}

/// The path among cargo's messages, a JSON object a line.
fn executable(messages: &[u8]) -> Option<String> {
    let messages = serde_json::Deserializer::from_slice(messages).into_iter::<serde_json::Value>();
    messages.flatten().find_map(|message| message["executable"].as_str().map(str::to_owned))
}

/// What to do about a build that failed, from what cargo said.
fn why_not(folder: &str, said: &str) -> String {
    if said.contains("failed to find tool") {
        return format!(
            "benches/{folder} is built from source, which takes a C or C++ compiler: \
             install one (on Debian and Ubuntu: apt-get install g++)"
        );
    }
    let error = said.lines().rfind(|line| line.starts_with("error")).unwrap_or("cargo failed");
    format!("benches/{folder} does not build: {error}")
}

/// The program at work. It ends when its input closes, that is when this is dropped.
struct Running {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Running {
    fn start(program: &str) -> Result<Self> {
        let mut process =
            Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = process.stdout.take().ok_or("the process has no output")?;
        Ok(Self { process, output: BufReader::new(output) })
    }

    /// Gives the line that answers a line; an empty one if the program has ended.
    fn ask(&mut self, line: &str) -> Result<String> {
        let input = self.process.stdin.as_mut().ok_or("the process has no input")?;
        writeln!(input, "{line}")?;
        let mut answer = String::new();
        self.output.read_line(&mut answer)?;
        Ok(answer.trim().to_owned())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
