//! ZeroMQ as a reference: a program of its own, built when it is first needed and run beside
//! this one, because libzmq takes a C++ compiler that no other part of the workspace needs.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::cells::Workload;
use crate::contest::Contestant;
use crate::peer::{Result, Unavailable};

const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/zeromq/Cargo.toml");

#[derive(Default)]
pub(crate) struct ZeroMq(Option<Running>);

impl Contestant for ZeroMq {
    fn name(&self) -> &str {
        "zeromq"
    }

    fn prepare(&mut self) -> Result<()> {
        if self.0.is_none() {
            eprint!("(building benches/zeromq) ");
            self.0 = Some(Running::start(&build()?)?);
        }
        Ok(())
    }

    fn measure(&mut self, workload: Workload, time: Duration) -> Result<f64> {
        let Workload::Flow { connections: 1, width, size } = workload else {
            return Err(format!("benches/zeromq does not do {workload:?}").into());
        };
        let running = self.0.as_mut().ok_or("benches/zeromq does not run")?;
        running.measure(width, size, time)
    }
}

/// Builds the program, and gives its path.
fn build() -> Result<String> {
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let built = Command::new(cargo)
        .args(["build", "--release", "--locked", "--message-format=json", "--manifest-path"])
        .arg(MANIFEST)
        .output()?;
    if !built.status.success() {
        return Err(Unavailable(why_not(&String::from_utf8_lossy(&built.stderr))).into());
    }
    executable(&built.stdout).ok_or_else(|| "cargo names no executable".into())
}

/// The path among cargo's messages, a JSON object a line.
fn executable(messages: &[u8]) -> Option<String> {
    let messages = serde_json::Deserializer::from_slice(messages).into_iter::<serde_json::Value>();
    messages.flatten().find_map(|message| message["executable"].as_str().map(str::to_owned))
}

/// What to do about a build that failed, from what cargo said.
fn why_not(said: &str) -> String {
    if said.contains("failed to find tool") {
        return "libzmq is built from source, which takes a C++ compiler: \
                install one (on Debian and Ubuntu: apt-get install g++)"
            .to_owned();
    }
    let error = said.lines().rfind(|line| line.starts_with("error")).unwrap_or("cargo failed");
    format!("benches/zeromq does not build: {error}")
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

    fn measure(&mut self, width: usize, size: usize, time: Duration) -> Result<f64> {
        let input = self.process.stdin.as_mut().ok_or("the process has no input")?;
        writeln!(input, "run {width} {size} {}", time.as_millis())?;
        let mut answer = String::new();
        self.output.read_line(&mut answer)?;
        answer.trim().parse().map_err(|_| "benches/zeromq ended early".into())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
