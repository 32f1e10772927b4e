//! Runs every example as a program of its own and checks what it prints.

#![cfg(all(feature = "loopback", feature = "tcp"))]
#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

/// How long anything may take.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn the_tour_checks_every_ack_over_every_backend() {
    let mut tour = Program::start("tour", &["--quick"]);
    let (status, out) = tour.finish();
    assert!(status.success(), "{out}{}", tour.errors());
    let rows: Vec<&str> = out.lines().filter(|line| line.starts_with('/')).collect();
    let sockets = 2 + usize::from(cfg!(feature = "tls")) + usize::from(cfg!(feature = "quic"));
    let backends = sockets + usize::from(cfg!(feature = "ibc"));
    assert_eq!(rows.len(), backends, "{out}");
    assert!(rows[0].starts_with("/local/tour "), "{out}");
    assert!(rows[1].starts_with("/ip4/127.0.0.1/tcp/"), "{out}");
    assert!(rows[1].contains("/port/tour "), "{out}");
    if cfg!(feature = "tls") {
        assert!(rows[2].contains("/tls/p2p/"), "{out}");
    }
    if cfg!(feature = "quic") {
        assert!(rows[sockets - 1].contains("/quic-v1/p2p/"), "{out}");
    }
    if cfg!(feature = "ibc") {
        assert!(rows[backends - 1].starts_with("/ibc-hop/connection-0/ibc-port/tour/"), "{out}");
    }
    assert!(out.contains("Every ack was the SHA-256 of its record"), "{out}");
    assert!(out.lines().all(|line| line.chars().count() <= 100), "too wide:\n{out}");
    let progress = format!("[2/{backends}] tcp");
    assert!(tour.errors().contains(&progress), "no progress on standard error");
}

#[test]
fn the_tour_says_what_options_there_are() {
    let mut tour = Program::start("tour", &["--slow"]);
    let (status, _) = tour.finish();
    assert_eq!(status.code(), Some(1));
    assert!(tour.errors().contains("the only one is --quick"), "{}", tour.errors());
}

#[test]
fn echo_over_tcp_gives_every_line_back() {
    let mut server = Program::start("echo_server", &["/ip4/127.0.0.1/tcp/0/port/echo"]);
    let endpoint = server.listening();

    let mut client = Program::start("echo_client", &[&endpoint, "one line"]);
    let (status, out) = client.finish();
    assert!(status.success(), "{}", client.errors());
    assert_eq!(out, "one line\n");

    let mut client = Program::start("echo_client", &[&endpoint]);
    client.say("first");
    assert_eq!(client.line(), "first");
    client.say("zwölf");
    assert_eq!(client.line(), "zwölf");
    client.hang_up();
    let (status, _) = client.finish();
    assert!(status.success(), "{}", client.errors());

    assert!(server.line().starts_with("open: /ip4/127.0.0.1/tcp/"));
    assert!(server.line().starts_with("closed by the remote side: /ip4/127.0.0.1/tcp/"));
}

#[test]
fn the_echo_server_listens_over_any_backend() {
    assert_eq!(Program::start("echo_server", &["/local/echo"]).listening(), "/local/echo");
    let endpoint = Program::start("echo_server", &["/local/"]).listening();
    assert!(!endpoint.ends_with('/'), "{endpoint}");
}

#[test]
fn the_echo_client_says_why_it_cannot_connect() {
    for (endpoint, why) in [
        ("/ip4/127.0.0.1/tcp/1", "cannot reach /ip4/127.0.0.1/tcp/1"),
        ("/local/nobody", "nobody listens there"),
        ("local/nobody", "does not start with '/'"),
    ] {
        let mut client = Program::start("echo_client", &[endpoint, "hello"]);
        let (status, _) = client.finish();
        assert_eq!(status.code(), Some(1));
        assert!(client.errors().contains(why), "{}", client.errors());
    }
}

#[test]
fn a_chat_reaches_everybody_else() {
    let mut room = Program::start("chat", &["listen", "/ip4/127.0.0.1/tcp/0/port/chat"]);
    let endpoint = room.listening();
    let mut ada = Program::start("chat", &["join", &endpoint, "ada"]);
    assert_eq!(ada.line(), "joined as ada: type what to say");
    assert!(room.line().starts_with("ada came from /ip4/127.0.0.1/tcp/"));
    let mut bob = Program::start("chat", &["join", &endpoint, "bob"]);
    assert_eq!(bob.line(), "joined as bob: type what to say");
    assert_eq!(ada.line(), "* bob is here");

    ada.say("hello");
    assert_eq!(bob.line(), "ada: hello");
    assert_eq!(ada.line(), "(heard by 1)");
    bob.say("hello yourself");
    assert_eq!(ada.line(), "bob: hello yourself");
    assert_eq!(bob.line(), "(heard by 1)");

    let mut other = Program::start("chat", &["join", &endpoint, "ada"]);
    assert_eq!(other.finish().0.code(), Some(1));
    assert!(other.errors().contains("ada is here already"), "{}", other.errors());

    bob.hang_up();
    assert!(bob.finish().0.success(), "{}", bob.errors());
    assert_eq!(ada.line(), "* bob left");

    // Whoever stays learns that the room is gone, although nobody said so.
    drop(room);
    assert_eq!(ada.finish().0.code(), Some(1));
    assert!(ada.errors().contains("the room is gone"), "{}", ada.errors());
}

#[cfg(unix)]
#[test]
fn the_custom_protocol_carries_records() {
    let mut program = Program::start("custom_protocol", &[]);
    let (status, out) = program.finish();
    assert!(status.success(), "{}", program.errors());
    assert!(out.contains("listening at /unix/upper\n"), "{out}");
    assert!(out.contains("connected to /unix/upper/v1\n"), "{out}");
    assert!(out.contains("in order -> IN ORDER\n"), "{out}");
    assert!(out.contains("after the revoke: cannot reach /unix/upper: check the address"), "{out}");
}

#[cfg(feature = "ibc-chain")]
#[test]
fn the_host_says_what_is_wrong_with_what_it_is_told() {
    let mut host = Program::start("ibc_chain", &["--help"]);
    let (status, out) = host.finish();
    assert!(status.success() && out.starts_with("usage: ibc_chain --rpc URL"), "{out}");
    for (args, why) in [
        (&["--rpc", "http://127.0.0.1:1"][..], "--key is missing"),
        (&["--rpc"], "--rpc needs a value"),
        (&["--gas-price", "cheap"], "is no price"),
        (&["--order", "sideways"], "is no order"),
        (&["--quick"], "no option --quick"),
        (&["--rpc", "http://127.0.0.1:1", "--key", "/no/such/file"], "cannot read the key"),
    ] {
        let mut host = Program::start("ibc_chain", args);
        assert_eq!(host.finish().0.code(), Some(1));
        assert!(host.errors().contains(why), "{}", host.errors());
    }
}

#[cfg(all(unix, feature = "ibc-chain"))]
#[test]
#[ignore = "needs Go and builds an ibc-go chain"]
fn a_host_has_a_record_acknowledged_on_a_chain() {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use network_interop::{Chain, MNEMONIC, Settings};

    let price = "0.025stake";
    let settings = Settings { gas_price: price.to_owned(), ..Settings::default() };
    let mut chain = Chain::start(settings).unwrap();
    let (folder, rpc) = (tempfile::tempdir().unwrap(), chain.rpc());
    let key = folder.path().join("key");
    fs::write(&key, MNEMONIC).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let with = ["--rpc", &rpc, "--key", key.to_str().unwrap()];
    let paying = [&with[..], &["--gas-price", price]].concat();

    let mut host = Program::start("ibc_chain", &[&with[..], &["--check"]].concat());
    let (status, out) = host.finish();
    assert_eq!(status.code(), Some(1));
    assert!(out.contains("PROBLEM  gas price  nothing, and the node wants 0.025stake"), "{out}");

    let mut host = Program::start("ibc_chain", &paying);
    let (status, out) = host.finish();
    assert!(status.success(), "{out}{}", host.errors());
    for line in [
        "a host can relay to this chain: ",
        " s  each has a client of the other",
        " s  connection-0 to chain-a's connection-0 is open",
        " s  open to /ibc-hop/connection-0/ibc-port/mock/ordered/any/ibc-channel/channel-0",
        " s  \"hello\" is acknowledged: {\"result\":\"AQ==\"}",
        " s  the chain has sent \"hello\"",
    ] {
        assert!(out.contains(line), "no {line:?} in\n{out}");
    }

    let tokens = ["--port", "transfer", "--order", "unordered", "--version", "ics20-1"];
    let mut host = Program::start("ibc_chain", &[&paying[..], &tokens].concat());
    let (status, out) = host.finish();
    assert_eq!(status.code(), Some(1));
    assert!(out.contains("\"hello\" is refused by the chain"), "{out}{}", host.errors());

    chain.stop().unwrap();
    let mut host = Program::start("ibc_chain", &paying);
    let (status, out) = host.finish();
    assert_eq!(status.code(), Some(1));
    assert!(out.contains("PROBLEM  node") && out.contains("cannot be reached"), "{out}");
}

/// A running example. Dropping it ends it.
struct Program {
    name: &'static str,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    stderr: Receiver<String>,
    errors: String,
}

impl Program {
    fn start(name: &'static str, args: &[&str]) -> Self {
        let mut child = Command::new(path_of(name))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("cannot run example {name}, build it with `cargo build --examples`: {error}")
            });
        let stdin = child.stdin.take();
        let (line, lines) = mpsc::channel();
        let stdout = child.stdout.take().unwrap();
        thread::spawn(move || {
            for text in BufReader::new(stdout).lines().map_while(Result::ok) {
                if line.send(text).is_err() {
                    return;
                }
            }
        });
        let (all, stderr) = mpsc::channel();
        let mut pipe = child.stderr.take().unwrap();
        thread::spawn(move || {
            let mut text = String::new();
            let _ = pipe.read_to_string(&mut text);
            let _ = all.send(text);
        });
        Self { name, child, stdin, lines, stderr, errors: String::new() }
    }

    /// The endpoint that a server prints first.
    fn listening(&mut self) -> String {
        let line = self.line();
        line.strip_prefix("listening at ").unwrap_or_else(|| panic!("{line}")).to_owned()
    }

    /// The next line of its output.
    fn line(&mut self) -> String {
        self.lines.recv_timeout(SOON).unwrap_or_else(|_| {
            let _ = self.child.kill();
            let name = self.name;
            panic!("{name} printed no further line; its errors: {}", self.errors())
        })
    }

    fn say(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Ends its input.
    fn hang_up(&mut self) {
        self.stdin = None;
    }

    /// Waits until it ends; also gives the rest of its output.
    fn finish(&mut self) -> (ExitStatus, String) {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let rest = self.lines.iter().map(|line| line + "\n").collect();
                return (status, rest);
            }
            assert!(started.elapsed() < SOON, "{} does not end", self.name);
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it wrote to standard error, once it has ended.
    fn errors(&mut self) -> &str {
        if let Ok(errors) = self.stderr.recv_timeout(SOON) {
            self.errors = errors;
        }
        &self.errors
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Examples are built next to the tests. `cargo test` builds both; with `--test examples` it
/// builds the tests alone, and what runs is what `cargo build --examples` left.
fn path_of(example: &str) -> PathBuf {
    let test = env::current_exe().unwrap();
    let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
    profile.join("examples").join(format!("{example}{}", env::consts::EXE_SUFFIX))
}
