//! The engine of network-ibc against ibc-core: both get the same messages at the same time, and
//! have to say the same and to store the same.
//!
//! `cargo run -- [STEPS [SEED]]`: each world has 2,000 steps and the seed after that of the one
//! before, so `cargo run -- 2000 SEED` repeats the world that a failure names.

// The engine is compiled in here, and not all of it is used.
#[path = "../../src/address.rs"]
#[allow(dead_code)]
mod address;
#[path = "../../src/client/mod.rs"]
#[allow(dead_code, unused_imports)]
mod client;
#[path = "../../src/engine/mod.rs"]
#[allow(dead_code, unused_imports)]
mod engine;
#[path = "../../src/error.rs"]
#[allow(dead_code)]
mod error;
#[path = "../../src/height.rs"]
#[allow(dead_code)]
mod height;
#[path = "../../src/identifier.rs"]
#[allow(dead_code)]
mod identifier;
#[path = "../../src/path.rs"]
#[allow(dead_code)]
mod path;

mod deviation;
#[path = "../../src/engine/tests/host.rs"]
mod host;
mod oracle;
mod random;
#[path = "../../src/engine/tests/stand.rs"]
mod stand;
mod step;
mod subject;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
    time::Instant,
};

use deviation::{Case, KNOWN};
use engine::{Event, Message};
use oracle::Oracle;
use step::Step;
use subject::Subject;
use world::{Kind, World};

const STEPS: u64 = 120_000;
const STEPS_OF_A_WORLD: u64 = 2_000;

/// What a side makes of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Accepted,
    /// Taken, and nothing written.
    Nothing,
    Refused,
}

#[derive(Default)]
struct Tally {
    verdicts: BTreeMap<(Kind, Verdict), u64>,
    deviations: Vec<u64>,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse());
    let (steps, seed) = match (arguments.next(), arguments.next(), arguments.next()) {
        (None, None, None) => (STEPS, 1),
        (Some(Ok(steps)), None, None) => (steps, 1),
        (Some(Ok(steps)), Some(Ok(seed)), None) => (steps, seed),
        _ => {
            eprintln!("usage: network-ibc-oracle [STEPS [SEED]]");
            return ExitCode::FAILURE;
        }
    };
    let start = Instant::now();
    let mut tally = Tally { deviations: vec![0; KNOWN.len()], ..Tally::default() };
    for world in 0..steps.div_ceil(STEPS_OF_A_WORLD) {
        let left = steps - world * STEPS_OF_A_WORLD;
        if let Err(failure) = run(seed + world, left.min(STEPS_OF_A_WORLD), &mut tally) {
            eprintln!("{failure}");
            return ExitCode::FAILURE;
        }
    }
    let missing = tally.print();
    println!("{steps} steps from seed {seed} in {:.1} s", start.elapsed().as_secs_f64());
    // A few worlds need not have it all.
    if steps >= 100_000 && !missing.is_empty() {
        eprintln!("too rare to say that it was tested: {}", missing.join(", "));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Runs one world, up to the first difference that is not known.
fn run(seed: u64, steps: u64, tally: &mut Tally) -> Result<(), String> {
    let mut world = World::new(seed);
    let mut subject = Subject::new();
    let mut oracle = Oracle::default();
    for number in 0..steps {
        let at = world.tick();
        let (kind, step) = world.draw(&subject.store);
        let (ours, writes) = match subject.take(&step, at) {
            Ok((event, writes)) => (Ok(event), writes),
            Err(error) => (Err(error), engine::Writes::default()),
        };
        let (theirs, touched) = match oracle.take(&step, at) {
            Ok(touched) => (Ok(()), touched),
            Err(error) => (Err(error), Vec::new()),
        };
        let our_keys: BTreeSet<&String> = writes.provable.keys().collect();
        let changed = |key: &&String| {
            let written = writes.provable.get(*key).cloned().flatten();
            written != subject.store.provable.get(*key).cloned()
        };
        let our_verdict = verdict(ours.is_ok(), our_keys.iter().copied().any(|key| changed(&key)));
        let before = |key: &String| subject.store.provable.get(key).map(|value| &value[..]);
        let now = |key: &String| oracle.chain.store.get(key).map(|value| &value[..]);
        let their_verdict =
            verdict(theirs.is_ok(), touched.iter().any(|key| before(key) != now(key)));
        let keys: BTreeSet<String> =
            our_keys.into_iter().cloned().chain(touched.iter().cloned()).collect();

        let case = Case { kind, step: &step, ours: &ours, theirs: &theirs, store: &subject.store };
        let known = KNOWN.iter().position(|deviation| (deviation.applies)(&case));
        subject.store.apply(writes);
        let stored = keys.iter().find(|key| {
            let ours = subject.store.provable.get(*key).map(|value| &value[..]);
            ours != oracle.chain.store.get(*key).map(|value| &value[..])
        });
        let same = our_verdict == their_verdict
            && stored.is_none()
            && subject.counters() == oracle.chain.counters;
        match known {
            _ if same => {}
            // What the engine has done is right, so both go on from there.
            Some(deviation) => {
                tally.deviations[deviation] += 1;
                for key in keys {
                    match subject.store.provable.get(&key) {
                        Some(value) => oracle.chain.store.insert(key, value.to_vec()),
                        None => oracle.chain.store.remove(&key),
                    };
                }
                oracle.chain.counters = subject.counters();
            }
            None => {
                return Err(format!(
                    "seed {seed}, step {number}, {kind:?}: the engine says {our_verdict:?} \
                     ({ours:?}), ibc-core {their_verdict:?} ({theirs:?}); other values at \
                     {stored:?}; counters {:?} and {:?}; at {at:?}\n{}",
                    subject.counters(),
                    oracle.chain.counters,
                    shown(&step),
                ));
            }
        }
        // What was relayed before is said to be nothing, and nothing else is.
        let said_nothing = matches!(ours, Ok(Some(Event::Nothing)));
        if said_nothing != (our_verdict == Verdict::Nothing) && kind != Kind::UpdateClient {
            return Err(format!("seed {seed}, step {number}: {ours:?} is {our_verdict:?}"));
        }
        *tally.verdicts.entry((kind, our_verdict)).or_default() += 1;
        if let Ok(event) = &ours {
            world.learn(&step, event.as_ref());
        }
        if (number + 1) % 500 == 0 || number + 1 == steps {
            let ours = subject.store.provable.iter().map(|(key, value)| (key, &value[..]));
            let theirs = oracle.chain.store.iter().map(|(key, value)| (key, &value[..]));
            if !ours.eq(theirs) {
                return Err(format!("seed {seed}, step {number}: the stores differ as a whole"));
            }
        }
    }
    Ok(())
}

fn verdict(taken: bool, changed: bool) -> Verdict {
    match (taken, changed) {
        (false, _) => Verdict::Refused,
        (true, false) => Verdict::Nothing,
        (true, true) => Verdict::Accepted,
    }
}

/// A step with its message read, if it can be read.
fn shown(step: &Step) -> String {
    match step {
        Step::Deliver { message, accept, acknowledgement } => format!(
            "{:#?}\naccept {accept:?}, acknowledgement {acknowledgement:?}\n{message:?}",
            Message::read(message)
        ),
        other => format!("{other:#?}"),
    }
}

impl Tally {
    /// Prints what there was, and says what there was too little of.
    fn print(&self) -> Vec<String> {
        let mut missing = Vec::new();
        let kinds: BTreeSet<Kind> = self.verdicts.keys().map(|(kind, _)| *kind).collect();
        println!("{:24}{:>10}{:>10}{:>10}", "", "accepted", "no-op", "refused");
        for (kind, _) in world::WEIGHTS {
            let count = |verdict| self.verdicts.get(&(kind, verdict)).copied().unwrap_or(0);
            let (accepted, nothing, refused) =
                (count(Verdict::Accepted), count(Verdict::Nothing), count(Verdict::Refused));
            println!("{:24}{accepted:>10}{nothing:>10}{refused:>10}", format!("{kind:?}"));
            let repeats = matches!(
                kind,
                Kind::UpdateClient
                    | Kind::RecvPacket
                    | Kind::AcknowledgePacket
                    | Kind::TimeoutPacket
                    | Kind::TimeoutOnClose
            );
            if accepted < 200 || refused < 200 || (repeats && nothing < 200) {
                missing.push(format!("{kind:?}"));
            }
            if !kinds.contains(&kind) {
                missing.push(format!("{kind:?}"));
            }
        }
        println!("\nwhere ibc-core deviates, and ibc-go does as the engine:");
        for (deviation, count) in KNOWN.iter().zip(&self.deviations) {
            println!("{count:>7}  {}: {}", deviation.name, deviation.reason);
            if *count == 0 {
                missing.push(format!("\"{}\"", deviation.name));
            }
        }
        missing
    }
}
