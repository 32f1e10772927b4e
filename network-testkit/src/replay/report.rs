//! A whole file.

use std::fmt;

use super::{scenario::Scenario, vectors::Vector, verdict::Verdict};

/// What became of a line of a file.
#[derive(Clone, Debug)]
pub struct Line {
    /// The scenario's or the vector's name.
    pub id: String,
    /// What became of it.
    pub verdict: Verdict,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.id, self.verdict)
    }
}

/// Replays every scenario of a file, one a line. A line that is none differs.
pub fn scenarios(text: &str) -> impl Iterator<Item = Line> {
    lines(text).map(|(number, line)| match Scenario::parse(line) {
        Ok(scenario) => Line { verdict: scenario.replay(), id: scenario.id },
        Err(error) => unreadable(number, error),
    })
}

/// Checks every vector of a file, one a line. A line that is none differs.
pub fn vectors(text: &str) -> impl Iterator<Item = Line> {
    lines(text).map(|(number, line)| match Vector::parse(line) {
        Ok(vector) => Line { verdict: vector.check(), id: vector.id },
        Err(error) => unreadable(number, error),
    })
}

fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(at, line)| (at + 1, line));
    numbered.filter(|(_, line)| !line.trim().is_empty())
}

fn unreadable(number: usize, error: impl fmt::Display) -> Line {
    Line { id: format!("line {number}"), verdict: Verdict::Differs(error.to_string()) }
}

/// How many lines came out how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// The same.
    pub same: usize,
    /// Different by design.
    pub by_design: usize,
    /// Without a counterpart.
    pub not_applicable: usize,
    /// Different.
    pub differs: usize,
}

impl Counts {
    /// Counts one more.
    pub fn add(&mut self, verdict: &Verdict) {
        *match verdict {
            Verdict::Same => &mut self.same,
            Verdict::ByDesign(_) => &mut self.by_design,
            Verdict::NotApplicable(_) => &mut self.not_applicable,
            Verdict::Differs(_) => &mut self.differs,
        } += 1;
    }

    /// How many there were.
    pub fn total(&self) -> usize {
        self.passed() + self.differs
    }

    /// How many passed.
    pub fn passed(&self) -> usize {
        self.same + self.by_design + self.not_applicable
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { same, by_design, not_applicable, differs } = self;
        writeln!(f, "{same} same, {by_design} by design, {not_applicable} not applicable")?;
        write!(f, "{} passed, {differs} failed", self.passed())
    }
}
