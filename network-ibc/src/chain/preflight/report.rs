//! What a preflight has found.

use std::fmt;

use crate::chain::error::excerpt;

/// What was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Check {
    /// Whether the node answers.
    Node,
    /// Whether it is the chain that was meant.
    Chain,
    /// Whether the node is at the end of the chain.
    Sync,
    /// Whether the chain's time is this machine's.
    Clock,
    /// Whether the node serves queries of the application.
    Services,
    /// Whether the version of ibc-go takes hosts.
    Version,
    /// Whether the chain takes clients of the kind that hosts are.
    Clients,
    /// For how long a host may be away before the chain is not believed any more.
    Trust,
    /// How far back the node has blocks.
    Blocks,
    /// How far back it can prove things.
    Proofs,
    /// Whether transactions can be found by what they did.
    Index,
    /// Whether the chain executes what interchain accounts tell it to (ICS-027).
    Accounts,
    /// Whether the account that pays is there.
    Account,
    /// Whether the price of gas is one that the node takes.
    Price,
    /// What the account can pay for.
    Balance,
    /// How large transactions may be.
    Limits,
}

impl Check {
    /// How the table calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Chain => "chain",
            Self::Sync => "sync",
            Self::Clock => "clock",
            Self::Services => "services",
            Self::Version => "version",
            Self::Clients => "clients",
            Self::Trust => "trust",
            Self::Blocks => "blocks",
            Self::Proofs => "proofs",
            Self::Index => "index",
            Self::Accounts => "ica host",
            Self::Account => "account",
            Self::Price => "gas price",
            Self::Balance => "balance",
            Self::Limits => "limits",
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What is to be thought of a finding. A later one is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// It is as it should be.
    Good,
    /// A host can relay, but less well than it might, or not for ever.
    Warning,
    /// A host cannot relay.
    Problem,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Good => "ok",
            Self::Warning => "warning",
            Self::Problem => "PROBLEM",
        })
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// What is to be thought of it.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do about it, if anything can be done.
    pub advice: Option<String>,
}

impl Finding {
    fn new(check: Check, level: Level, found: impl Into<String>) -> Self {
        Self { check, level, found: line(&found.into()), advice: None }
    }

    pub(super) fn good(check: Check, found: impl Into<String>) -> Self {
        Self::new(check, Level::Good, found)
    }

    pub(super) fn warning(check: Check, found: impl Into<String>) -> Self {
        Self::new(check, Level::Warning, found)
    }

    pub(super) fn problem(check: Check, found: impl Into<String>) -> Self {
        Self::new(check, Level::Problem, found)
    }

    pub(super) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(line(&advice.into()));
        self
    }
}

/// One line that can be shown, whatever the node has said.
fn line(text: &str) -> String {
    excerpt(text).chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// What [`preflight`](super::preflight) has found. Printed, it is a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// All of it, in the order in which it was looked at.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether there is no problem. There may be warnings.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.findings.iter().all(|finding| finding.level < Level::Problem)
    }

    /// What was found of one thing; `None` if the preflight did not come that far.
    #[must_use]
    pub fn of(&self, check: Check) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.check == check)
    }

    fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }
}

/// A line for each finding, one below it with the advice, and one with the outcome.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { check, level, found, advice } in &self.findings {
            writeln!(f, "{level:<7}  {check:<9}  {found}")?;
            if let Some(advice) = advice {
                writeln!(f, "{:7}  {:9}  > {advice}", "", "")?;
            }
        }
        let counted = |count, what| match count {
            1 => format!("1 {what}"),
            count => format!("{count} {what}s"),
        };
        let problems = self.count(Level::Problem);
        let warnings = counted(self.count(Level::Warning), "warning");
        match problems {
            0 => write!(f, "a host can relay to this chain: {warnings}"),
            problems => {
                write!(f, "no host can relay so: {}, {warnings}", counted(problems, "problem"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_says_is_one_line_that_can_be_shown() {
        let said = format!("\x1b[31mred\r\n{}", "x".repeat(100_000));
        let finding = Finding::problem(Check::Node, &*said).advise(said);
        for shown in [finding.found, finding.advice.unwrap()] {
            assert!(shown.starts_with(" [31mred  xxx") && shown.len() < 500, "{shown}");
        }
    }

    #[test]
    fn a_report_is_a_table_of_lines() {
        let mut report = Report {
            findings: vec![
                Finding::good(Check::Node, "it answers"),
                Finding::warning(Check::Price, "nothing is paid").advise("pay"),
            ],
        };
        assert!(report.is_good());
        let table = "ok       node       it answers\n\
                     warning  gas price  nothing is paid\n\
                     \x20                   > pay\n\
                     a host can relay to this chain: 1 warning";
        assert_eq!(report.to_string(), table);
        report.findings.push(Finding::problem(Check::Account, "nobody"));
        assert!(!report.is_good());
        let table = report.to_string();
        assert!(table.ends_with("no host can relay so: 1 problem, 1 warning"), "{table}");
        assert_eq!(report.of(Check::Account).map(|finding| finding.level), Some(Level::Problem));
        assert_eq!(report.of(Check::Clock), None);
    }
}
