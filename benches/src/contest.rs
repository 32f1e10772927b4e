//! How a case is decided: all contestants in turn, round after round.

use std::marker::PhantomData;
use std::time::Duration;

use crate::cells::{self, Workload};
use crate::idle;
use crate::peer::{Error, Peer, Result, Unavailable};
use crate::quantile::median;
use crate::report::{Figure, Measured, NotMeasured, amount};

/// Whoever has a figure in a case.
pub(crate) trait Contestant {
    fn name(&self) -> &str;

    /// What is to be done once, before anyone is measured.
    fn prepare(&mut self) -> Result<()> {
        Ok(())
    }

    fn measure(&mut self, workload: Workload, time: Duration) -> Result<f64>;
}

/// A peer as a contestant.
pub(crate) struct Of<P>(PhantomData<P>);

impl<P> Of<P> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<P: Peer> Contestant for Of<P> {
    fn name(&self) -> &str {
        P::NAME
    }

    fn measure(&mut self, workload: Workload, time: Duration) -> Result<f64> {
        match workload {
            Workload::Idle(connections) => idle::measure(P::NAME, connections),
            _ => cells::measure::<P>(workload, time),
        }
    }
}

/// A number to be held against that nobody has to reach again.
pub(crate) struct Limit {
    pub(crate) name: String,
    pub(crate) value: f64,
}

impl Contestant for Limit {
    fn name(&self) -> &str {
        &self.name
    }

    fn measure(&mut self, _workload: Workload, _time: Duration) -> Result<f64> {
        Ok(self.value)
    }
}

/// One workload, the subject, and the references that it is held against.
pub(crate) struct Case {
    bench: &'static str,
    case: &'static str,
    workload: Workload,
    subject: Entrant,
    references: Vec<Entrant>,
}

impl Case {
    pub(crate) fn of(
        subject: impl Contestant + 'static,
        bench: &'static str,
        case: &'static str,
        workload: Workload,
    ) -> Self {
        let (subject, references) = (Entrant::new(subject, None), Vec::new());
        Self { bench, case, workload, subject, references }
    }

    pub(crate) fn against(
        mut self,
        reference: impl Contestant + 'static,
        goal: impl Into<Option<f64>>,
    ) -> Self {
        self.references.push(Entrant::new(reference, goal.into()));
        self
    }

    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.bench, self.case)
    }

    /// Whether the name is this case's, or its bench's.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        name == self.bench || name == self.name()
    }

    /// Measures every contestant once a round, in an order that turns round every time.
    pub(crate) fn run(&mut self, rounds: usize, time: Duration) -> Vec<Figure> {
        let workload = self.workload;
        self.entrants().for_each(|entrant| entrant.attempt(|one| one.prepare().map(|()| None)));
        for round in 0..rounds {
            let measure = |entrant: &mut Entrant| {
                entrant.attempt(|one| one.measure(workload, time).map(Some));
            };
            match round % 2 {
                0 => self.entrants().for_each(measure),
                _ => self.entrants().rev().for_each(measure),
            }
            if self.subject.failure.is_some() {
                break;
            }
        }
        self.references.iter().map(|reference| self.figure(reference)).collect()
    }

    /// What everybody reached, in a line.
    pub(crate) fn summary(&mut self) -> String {
        let unit = self.workload.unit();
        let results = self.entrants().map(|entrant| match median(&entrant.values) {
            Some(value) => format!("{} {} {unit}", entrant.contestant.name(), amount(value)),
            None => format!("{} not measured", entrant.contestant.name()),
        });
        results.collect::<Vec<_>>().join(", ")
    }

    fn entrants(&mut self) -> impl DoubleEndedIterator<Item = &mut Entrant> {
        [&mut self.subject].into_iter().chain(&mut self.references)
    }

    fn figure(&self, reference: &Entrant) -> Figure {
        Figure {
            bench: self.bench,
            case: self.case,
            against: reference.contestant.name().to_owned(),
            goal: reference.goal,
            higher_is_better: self.workload.higher_is_better(),
            unit: self.workload.unit(),
            result: self.result(reference),
        }
    }

    fn result(&self, reference: &Entrant) -> Result<Measured, NotMeasured> {
        self.subject.check()?;
        reference.check()?;
        let pairs = self.subject.values.iter().zip(&reference.values);
        let ratios: Vec<f64> =
            pairs.map(|(subject, against)| self.workload.ratio(*subject, *against)).collect();
        let value = median(&self.subject.values);
        let measured = value.and_then(|value| Measured::of(&ratios, value));
        measured.ok_or_else(|| NotMeasured::broken("there was no round"))
    }
}

/// A contestant and what became of it so far.
struct Entrant {
    contestant: Box<dyn Contestant>,
    goal: Option<f64>,
    /// A value a round.
    values: Vec<f64>,
    /// Why it has no further values.
    failure: Option<Error>,
}

impl Entrant {
    fn new(contestant: impl Contestant + 'static, goal: Option<f64>) -> Self {
        Self { contestant: Box::new(contestant), goal, values: Vec::new(), failure: None }
    }

    fn attempt(&mut self, step: impl FnOnce(&mut dyn Contestant) -> Result<Option<f64>>) {
        if self.failure.is_none() {
            match step(&mut *self.contestant) {
                Ok(value) => self.values.extend(value),
                Err(failure) => self.failure = Some(failure),
            }
        }
    }

    fn check(&self) -> Result<(), NotMeasured> {
        let Some(failure) = &self.failure else {
            return Ok(());
        };
        Err(NotMeasured {
            reason: format!("{}: {failure}", self.contestant.name()),
            broken: !failure.is::<Unavailable>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reaches one value after the other, and fails when there are no more.
    struct Scripted(&'static str, Vec<f64>);

    impl Contestant for Scripted {
        fn name(&self) -> &str {
            self.0
        }

        fn measure(&mut self, _workload: Workload, _time: Duration) -> Result<f64> {
            Ok(self.1.pop().ok_or("no more")?)
        }
    }

    fn case(workload: Workload, reference: Vec<f64>) -> Case {
        let subject = Scripted("subject", vec![4.0, 8.0, 6.0]);
        let limit = Limit { name: "16".to_owned(), value: 16.0 };
        Case::of(subject, "bench", "case", workload)
            .against(Scripted("reference", reference), 0.5)
            .against(limit, None)
    }

    fn ratios(figures: Vec<Figure>) -> Vec<Option<(f64, f64)>> {
        let results = figures.into_iter().map(|figure| figure.result.ok());
        results.map(|result| result.map(|result| (result.ratio, result.value))).collect()
    }

    #[test]
    fn the_ratio_is_the_median_of_each_rounds_own() {
        let figures = case(Workload::Open(1), vec![8.0, 4.0, 6.0]).run(3, Duration::ZERO);
        assert_eq!(ratios(figures), [Some((1.0, 6.0)), Some((0.375, 6.0))]);
    }

    #[test]
    fn round_trips_compare_as_rates() {
        let figures = case(Workload::RoundTrip, vec![8.0, 8.0, 8.0]).run(3, Duration::ZERO);
        assert_eq!(ratios(figures)[0], Some((8.0 / 6.0, 6.0)));
    }

    #[test]
    fn a_reference_that_fails_leaves_the_others() {
        let figures = case(Workload::Open(1), vec![1.0]).run(3, Duration::ZERO);
        let missing = figures[0].result.as_ref().expect_err("it failed");
        assert_eq!((missing.reason.as_str(), missing.broken), ("reference: no more", true));
        assert!(figures[1].result.is_ok());
    }

    #[test]
    fn a_subject_that_fails_leaves_nothing() {
        let figures = case(Workload::Open(1), vec![1.0; 9]).run(4, Duration::ZERO);
        assert_eq!(ratios(figures), [None, None]);
    }

    #[test]
    fn goes_by_its_name_and_its_benchs() {
        let case = case(Workload::Open(1), Vec::new());
        assert!(case.is_called("bench") && case.is_called("bench/case"));
        assert!(!case.is_called("case") && !case.is_called("bench/"));
    }
}
