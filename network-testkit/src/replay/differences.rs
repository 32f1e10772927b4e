//! Where ours differs from the original on purpose.

use std::{cmp::Ordering, fmt::Write};

mod table;

pub use table::DIFFERENCES;

/// One difference by design.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// Its code: `Dnn` is a defect of the original as the traces number them, `Nnn` is ours.
    pub code: &'static str,
    /// What the original does.
    pub original: &'static str,
    /// What we do instead.
    pub ours: &'static str,
    /// Why.
    pub why: &'static str,
    /// Which events of a trace it may excuse, and what the runner checks of ours instead.
    pub check: &'static str,
}

impl PartialOrd for Difference {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Difference {
    fn cmp(&self, other: &Self) -> Ordering {
        self.code.cmp(other.code)
    }
}

/// The difference that has this code.
pub fn difference(code: &str) -> Option<&'static Difference> {
    DIFFERENCES.iter().find(|difference| difference.code == code)
}

/// The table as `docs/differences.md` shows it.
pub fn markdown() -> String {
    let mut text = String::from(
        "| code | the original | here | why | what it may excuse, and what is checked |\n\
         |---|---|---|---|---|\n",
    );
    for difference in DIFFERENCES {
        let Difference { code, original, ours, why, check } = difference;
        // Writing into a string does not fail.
        let _ = writeln!(text, "| {code} | {original} | {ours} | {why} | {check} |");
    }
    text
}
