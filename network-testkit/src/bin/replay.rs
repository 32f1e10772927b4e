//! Replays recorded traces of the original package on this API.
//!
//! `replay [--vectors] FILE…` prints a line for each scenario or vector, then how many passed
//! and failed. It fails if any differs, or if there is none. `replay --differences` prints the
//! table of what differs by design.

use std::{io::Write, process::ExitCode};

use network_testkit::replay::{self, Counts, Line};

const USAGE: &str = "usage: replay [--vectors] FILE…\n       replay --differences";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--differences"] => {
            say(&replay::markdown().trim_end());
            ExitCode::SUCCESS
        }
        ["--vectors", ref files @ ..] => all(files, |text| Box::new(replay::vectors(text))),
        ref files => all(files, |text| Box::new(replay::scenarios(text))),
    }
}

fn all(files: &[&str], lines: fn(&str) -> Box<dyn Iterator<Item = Line> + '_>) -> ExitCode {
    let wrong = |problem: &str| {
        eprintln!("{problem}");
        ExitCode::from(2)
    };
    if files.is_empty() || files.iter().any(|file| file.starts_with("--")) {
        return wrong(USAGE);
    }
    let mut counts = Counts::default();
    for file in files {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) => return wrong(&format!("{file}: {error}")),
        };
        for line in lines(&text) {
            counts.add(&line.verdict);
            say(&line);
        }
    }
    say(&counts);
    if counts.total() == 0 {
        return wrong("nothing was replayed: the files have no lines");
    }
    if counts.differs == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whoever reads may have gone: the result still counts.
fn say(line: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
