//! What came out, and whether it may.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
};

/// A process of a host.
pub(crate) struct Run {
    pub(crate) host: &'static str,
    pub(crate) number: usize,
    /// It was not killed.
    pub(crate) lived: bool,
}

#[derive(Default)]
pub(crate) struct History {
    records: BTreeMap<String, Record>,
    /// By the sender's host and channel: the numbers of the records that were handled, in order.
    handled_on: HashMap<(String, String), Vec<(usize, u64)>>,
    /// The ordered channels, by host and name.
    ordered: HashSet<(String, String)>,
    /// The last block of each host: height and time.
    blocks: HashMap<&'static str, (u64, u64)>,
    block_count: usize,
    /// What solo machines claimed, by host, sequence and diversifier.
    signed: HashMap<(&'static str, String), String>,
    hops: HashMap<&'static str, String>,
    opened: usize,
    wrong: Vec<String>,
}

#[derive(Default)]
struct Record {
    sent: Option<Sent>,
    result: Option<Fate>,
    /// Channel and hash of what was handled.
    handled: Vec<(String, String)>,
}

struct Sent {
    ordered: bool,
    channel: String,
    hash: String,
    lived: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Acked,
    Delivered,
    NotDelivered,
    Unknown,
}

impl History {
    /// Takes the log of a run; those of one host in their order.
    pub(crate) fn read(&mut self, run: &Run, text: &str) {
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            let mut words = line.split(' ');
            let mut word = || words.next().unwrap_or_default().to_owned();
            match &*word() {
                "block" => {
                    let (height, time) = (word().parse().unwrap(), word().parse().unwrap());
                    self.block(run, height, time);
                }
                "signed" => self.signed(run, line),
                "hop" => self.hop(run, &line["hop ".len()..]),
                "open" => self.opened += 1,
                "send" => {
                    let (order, key, channel, hash) = (word(), word(), word(), word());
                    let (ordered, lived) = (order == "ordered", run.lived);
                    if ordered {
                        self.ordered.insert((run.host.to_owned(), channel.clone()));
                    }
                    self.record(&key).sent = Some(Sent { ordered, channel, hash, lived });
                }
                "ack" => {
                    let (_, key) = (word(), word());
                    self.record(&key).result = Some(Fate::Acked);
                }
                "fail" => {
                    let (_, key, fate) = (word(), word(), word());
                    self.record(&key).result = Some(match &*fate {
                        "delivered" => Fate::Delivered,
                        "not-delivered" => Fate::NotDelivered,
                        _ => Fate::Unknown,
                    });
                }
                "handled" => {
                    let (key, channel, hash) = (word(), word(), word());
                    let mut parts = key.rsplitn(3, '/');
                    let number = parts.next().and_then(|number| number.parse().ok()).unwrap_or(0);
                    let host = key.split('/').next().unwrap_or_default().to_owned();
                    let on = self.handled_on.entry((host, channel.clone())).or_default();
                    on.push((run.number, number));
                    self.record(&key).handled.push((channel, hash));
                }
                "stuck" | "wrong" => {
                    self.wrong.push(format!("{} {}: {line}", run.host, run.number))
                }
                _ => {}
            }
        }
    }

    fn record(&mut self, key: &str) -> &mut Record {
        self.records.entry(key.to_owned()).or_default()
    }

    /// Heights and times only grow: so no height has two headers.
    fn block(&mut self, run: &Run, height: u64, time: u64) {
        let (last_height, last_time) =
            self.blocks.insert(run.host, (height, time)).unwrap_or((0, 0));
        self.block_count += 1;
        if height <= last_height || time <= last_time {
            self.wrong.push(format!(
                "{} {}: block {height} at {time} after {last_height} at {last_time}",
                run.host, run.number
            ));
        }
    }

    /// No two things are claimed at one sequence with one diversifier.
    fn signed(&mut self, run: &Run, line: &str) {
        let Some((turn, claim)) = line.split_once(" path=") else {
            return self.wrong.push(format!("{} {}: {line}", run.host, run.number));
        };
        let before = self.signed.insert((run.host, turn.to_owned()), claim.to_owned());
        if let Some(before) = before.filter(|before| before != claim) {
            self.wrong.push(format!("{} {}: {line}, before {before}", run.host, run.number));
        }
    }

    /// The hop stays the same, and the only one.
    fn hop(&mut self, run: &Run, hop: &str) {
        let first = self.hops.entry(run.host).or_insert_with(|| hop.to_owned());
        if first != hop || !hop.ends_with(" of 1") {
            self.wrong.push(format!("{} {}: hop {hop}, at first {first}", run.host, run.number));
        }
    }

    pub(crate) fn check(mut self) -> Outcome {
        let mut outcome = Outcome {
            blocks: self.block_count,
            claims: self.signed.len(),
            opened: self.opened,
            ..Outcome::default()
        };
        for (key, Record { sent, result, handled }) in &self.records {
            let mut wrong = |what: &str| outcome.wrong.push(format!("{key}: {what}"));
            let times = handled.len();
            let Some(sent) = sent else {
                wrong("it was handled and not sent");
                continue;
            };
            if times > 1 {
                let order = if sent.ordered { "an ordered" } else { "an unordered" };
                wrong(&format!("it was handled {times} times on {order} channel"));
            }
            if handled.iter().any(|(channel, hash)| *channel != sent.channel || *hash != sent.hash)
            {
                wrong("another one was handled than was sent");
            }
            outcome.sent += 1;
            outcome.handled += times;
            match result {
                Some(Fate::Acked) => {
                    outcome.acked += 1;
                    if times == 0 {
                        wrong("it was acked and not handled");
                    }
                }
                Some(Fate::Delivered) => {
                    outcome.refused += 1;
                    if times == 0 {
                        wrong("it counts as delivered and was not handled");
                    }
                }
                Some(Fate::NotDelivered) => {
                    outcome.not_delivered += 1;
                    if times > 0 {
                        wrong("it counts as not delivered and was handled");
                    }
                }
                Some(Fate::Unknown) => {
                    outcome.unknown += 1;
                    outcome.unknown_handled += times;
                }
                None if sent.lived => wrong("its sender lives and has no result"),
                None => outcome.died += 1,
            }
        }
        for ((host, channel), numbers) in &self.handled_on {
            let is_ordered = self.ordered.contains(&(host.clone(), channel.clone()));
            if is_ordered && !numbers.is_sorted() {
                outcome.wrong.push(format!("{host} {channel}: handled out of order"));
            }
        }
        outcome.wrong.append(&mut self.wrong);
        if outcome.acked == 0 {
            outcome.wrong.push("no record was acked".to_owned());
        }
        outcome
    }
}

#[derive(Default)]
pub(crate) struct Outcome {
    blocks: usize,
    claims: usize,
    opened: usize,
    sent: usize,
    handled: usize,
    acked: usize,
    refused: usize,
    not_delivered: usize,
    unknown: usize,
    unknown_handled: usize,
    died: usize,
    pub(crate) wrong: Vec<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { blocks, claims, opened, sent, handled, acked, refused, .. } = self;
        let Self { not_delivered, unknown, unknown_handled, died, .. } = self;
        writeln!(
            f,
            "{blocks} blocks, {claims} signed claims, {opened} channels; {sent} records sent, {handled} handled: {acked} \
             acked, {refused} refused, {not_delivered} not delivered, {unknown} unknown of which \
             {unknown_handled} were handled, {died} whose sender died first"
        )?;
        self.wrong.iter().take(50).try_for_each(|wrong| writeln!(f, "wrong: {wrong}"))
    }
}
