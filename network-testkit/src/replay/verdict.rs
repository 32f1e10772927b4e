//! What becomes of a scenario.

use std::{collections::BTreeSet, fmt, sync::Arc};

use super::{
    chain::Chains,
    differences::{Difference, difference},
    left::Left,
    matching::side_by_side,
    rules, run,
    scenario::Scenario,
};

/// What replaying a scenario shows.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Verdict {
    /// Ours does what the trace tells.
    Same,
    /// Ours differs on purpose, as documented, and nowhere else.
    ByDesign(Vec<&'static Difference>),
    /// Nothing here has a counterpart; says what.
    NotApplicable(String),
    /// Ours does something else; says what first.
    Differs(String),
}

impl Verdict {
    /// Whether the scenario counts as passed.
    pub fn passed(&self) -> bool {
        !matches!(self, Self::Differs(_))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same => f.write_str("same"),
            Self::ByDesign(differences) => {
                f.write_str("by design:")?;
                let mut separator = " ";
                for difference in differences {
                    write!(f, "{separator}{} {}", difference.code, difference.ours)?;
                    separator = "; ";
                }
                Ok(())
            }
            Self::NotApplicable(reason) => write!(f, "not applicable: {reason}"),
            Self::Differs(what) => write!(f, "differs: {what}"),
        }
    }
}

impl Scenario {
    /// Does what the scenario says on our API, and compares. One that needs a host of IBC is not
    /// applicable.
    pub fn replay(&self) -> Verdict {
        self.compare(None)
    }

    /// As [`replay`](Self::replay), with hosts of IBC.
    pub fn replay_with(&self, chains: Arc<dyn Chains>) -> Verdict {
        self.compare(Some(chains))
    }

    fn compare(&self, chains: Option<Arc<dyn Chains>>) -> Verdict {
        let seen = match run::run(self, chains) {
            Ok(seen) => seen,
            Err(problem) => return Verdict::Differs(problem),
        };
        if let Some(reason) = seen.notes.inapplicable {
            return Verdict::NotApplicable(reason);
        }
        if let Some(reason) = only_untyped(self, &seen) {
            return Verdict::NotApplicable(reason);
        }
        let mut left = side_by_side(self, &seen);
        rules::apply(&mut left);
        verdict(&left)
    }
}

fn verdict(left: &Left<'_>) -> Verdict {
    if let Some((part, problem)) = first(left) {
        let step = left.parts.get(part).map_or("end", |part| part.step.as_str());
        return Verdict::Differs(format!("step {step}: {problem}"));
    }
    let codes: BTreeSet<_> = left.codes.iter().filter_map(|code| difference(code)).collect();
    if codes.is_empty() { Verdict::Same } else { Verdict::ByDesign(codes.into_iter().collect()) }
}

/// The first thing that nothing excuses.
fn first(left: &Left<'_>) -> Option<(usize, String)> {
    let missing = left.missing.iter().map(|item| (item.part, format!("expected {}", item.event)));
    let extra = left.extra.iter().map(|item| (item.part, format!("unexpected {}", item.event)));
    let violations = left.violations.iter().cloned();
    let all = violations.chain(missing).chain(extra);
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|(part, _)| *part);
    let (part, mut problem) = all.first()?.clone();
    if let Some((_, beside)) = all.get(1).filter(|(other, _)| *other == part) {
        problem = format!("{problem}, and {beside}");
    }
    Some((part, problem))
}

/// Whether all that is left of a scenario, from its first argument of a type that ours cannot
/// have, are more of those.
fn only_untyped(scenario: &Scenario, seen: &run::Seen) -> Option<String> {
    let (first, what) = seen.notes.untyped.first()?;
    let untyped = |id: &String| seen.notes.untyped.iter().any(|(step, _)| step == id);
    let after = scenario.steps.iter().skip_while(|step| step.id != *first);
    let told = |id: &String| scenario.trace.iter().any(|segment| segment.step == *id);
    let all = after.filter(|step| told(&step.id)).all(|step| untyped(&step.id));
    all.then(|| format!("an argument that is {what}: types rule it out"))
}
