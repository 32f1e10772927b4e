//! Benchmarks of the `network` workspace: every figure is a ratio of this crate against a
//! reference that was measured in the same run.
//!
//! ```text
//!   main ── cases ── contest ─┬─ cells ── peer ─┬─ ours, ibc  the network crate
//!              │              │    └─ window    └─ hand/*     the same by hand
//!            report           ├─ idle                         two processes of this program
//!                             └─ apart                        benches/{zeromq,peers,ibc}, processes
//! ```
//!
//! In each round subject and references take turns, in an order that turns round every time. Each
//! measures in a fresh runtime of two workers, against a fresh server on 127.0.0.1, after a
//! warm-up of a quarter of its time. A figure is the median of the rounds' own ratios, so what
//! slows the machine for a while slows both sides of it. Round trips and everything else in one
//! process depend on which worker runs whom: look at the span of the rounds before believing
//! a difference of a few percent.

mod apart;
mod cases;
mod cells;
mod contest;
mod hand;
mod ibc;
mod idle;
mod ours;
mod peer;
mod processor;
mod quantile;
mod report;
mod window;

use std::io::{Write, stdout};
use std::process::ExitCode;
use std::time::Duration;

use crate::contest::Case;
use crate::peer::Result;

const USAGE: &str = "\
usage: cargo run --release -p network-bench -- [--json] [--rounds N] [--ms N] [NAME...]

  --json      a line of JSON for each figure, instead of a table
  --rounds N  how often everybody is measured (9)
  --ms N      how long each time, besides a warm-up of a quarter of that (400)
  NAME        a bench or a BENCH/CASE; all if there is none

The references of big and peers are programs of their own, which are fetched and built when they
are first needed; that of peers (libp2p and iroh) takes some minutes.

It ends with 1 if something could not be measured for another reason than that this machine
lacks it; a missed goal is no failure. The cases:
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match words.split_first() {
        Some((first, end)) if first == idle::END => cases::run_end(end).map(|()| true),
        _ => run(&words),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("network-bench: {error}");
            ExitCode::from(2)
        }
    }
}

/// Tells whether everything that this machine has could be measured.
fn run(words: &[String]) -> Result<bool> {
    let cases = cases::all();
    let options = Options::parse(words)?;
    if options.help {
        write!(stdout(), "{USAGE}")?;
        cases.iter().try_for_each(|case| writeln!(stdout(), "  {}", case.name()))?;
        return Ok(true);
    }
    let mut chosen = choose(cases, &options.names)?;
    let count = chosen.len();
    let mut figures = Vec::new();
    for (at, case) in chosen.iter_mut().enumerate() {
        eprint!("[{}/{count}] {}: ", at + 1, case.name());
        let new = case.run(options.rounds, options.time);
        eprintln!("{}", case.summary());
        if options.json {
            new.iter().try_for_each(|figure| writeln!(stdout(), "{}", figure.json()))?;
        }
        figures.extend(new);
    }
    if !options.json {
        write!(stdout(), "{}", report::table(&figures))?;
    }
    let missing = figures.iter().filter_map(|figure| figure.result.as_ref().err());
    Ok(!missing.into_iter().any(|missing| missing.broken))
}

fn choose(mut cases: Vec<Case>, names: &[String]) -> Result<Vec<Case>> {
    if let Some(unknown) = names.iter().find(|name| !cases.iter().any(|case| case.is_called(name)))
    {
        return Err(format!("there is no bench or case {unknown}; --help lists them").into());
    }
    if !names.is_empty() {
        cases.retain(|case| names.iter().any(|name| case.is_called(name)));
    }
    Ok(cases)
}

#[derive(Debug, PartialEq)]
struct Options {
    help: bool,
    json: bool,
    rounds: usize,
    time: Duration,
    names: Vec<String>,
}

impl Options {
    fn parse(words: &[String]) -> Result<Self> {
        let mut options = Self {
            help: false,
            json: false,
            rounds: 9,
            time: Duration::from_millis(400),
            names: Vec::new(),
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut number = || {
                let number = words.next().and_then(|number| number.parse().ok());
                number.filter(|number| *number > 0).ok_or(format!("{word} takes a number above 0"))
            };
            match word.as_str() {
                "--help" | "-h" => options.help = true,
                "--json" => options.json = true,
                "--rounds" => options.rounds = number()? as usize,
                "--ms" => options.time = Duration::from_millis(number()?),
                unknown if unknown.starts_with('-') => {
                    return Err(format!("there is no option {unknown}; --help lists them").into());
                }
                name => options.names.push(name.to_owned()),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_and_names_mix() {
        let options = parse("tcp/rtt --json --rounds 3 idle --ms 50").expect("it is valid");
        let expected = Options {
            help: false,
            json: true,
            rounds: 3,
            time: Duration::from_millis(50),
            names: vec!["tcp/rtt".to_owned(), "idle".to_owned()],
        };
        assert_eq!(options, expected);
        assert!(parse("").expect("it is valid").rounds >= 7);
    }

    #[test]
    fn bad_options_say_what_they_want() {
        let said = |line| parse(line).expect_err("it is not valid").to_string();
        assert_eq!(said("--rounds 0"), "--rounds takes a number above 0");
        assert_eq!(said("--ms"), "--ms takes a number above 0");
        assert_eq!(said("--jsn"), "there is no option --jsn; --help lists them");
    }

    #[test]
    fn names_choose_cases_and_must_exist() {
        let chosen = |name: &str| choose(cases::all(), &[name.to_owned()]).map(|cases| cases.len());
        assert_eq!(chosen("tcp/rtt").expect("it exists"), 1);
        assert_eq!(chosen("loopback").expect("it exists"), 3);
        let unknown = chosen("udp").expect_err("it does not exist").to_string();
        assert_eq!(unknown, "there is no bench or case udp; --help lists them");
    }

    #[test]
    fn every_case_has_a_name_of_its_own() {
        let mut names: Vec<String> = cases::all().iter().map(Case::name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
