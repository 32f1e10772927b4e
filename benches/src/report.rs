//! The figures, as a table for people and as lines of JSON for programs.

use serde::Serialize;

use crate::quantile::{median, quantile};

/// One subject against one reference.
pub(crate) struct Figure {
    pub(crate) bench: &'static str,
    pub(crate) case: &'static str,
    pub(crate) against: String,
    pub(crate) goal: Option<f64>,
    pub(crate) higher_is_better: bool,
    pub(crate) unit: &'static str,
    pub(crate) result: Result<Measured, NotMeasured>,
}

#[derive(Debug)]
pub(crate) struct Measured {
    /// The median of the rounds' ratios, and the least and the most of them.
    pub(crate) ratio: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
    /// The median of what the subject reached.
    pub(crate) value: f64,
}

impl Measured {
    pub(crate) fn of(ratios: &[f64], value: f64) -> Option<Self> {
        let (ratio, [least, most]) = (median(ratios)?, [0.0, 1.0].map(|at| quantile(ratios, at)));
        Some(Self { ratio, least: least?, most: most?, value })
    }
}

#[derive(Debug)]
pub(crate) struct NotMeasured {
    pub(crate) reason: String,
    /// Whether something went wrong, rather than being absent here.
    pub(crate) broken: bool,
}

impl NotMeasured {
    pub(crate) fn broken(reason: &str) -> Self {
        Self { reason: reason.to_owned(), broken: true }
    }
}

impl Figure {
    /// Whether the goal is reached, if there is one and something to judge by.
    pub(crate) fn reaches_goal(&self) -> Option<bool> {
        let (ratio, goal) = (self.result.as_ref().ok()?.ratio, self.goal?);
        Some(if self.higher_is_better { ratio >= goal } else { ratio <= goal })
    }

    pub(crate) fn json(&self) -> String {
        /// In the order in which the fields are printed.
        #[derive(Serialize)]
        struct Line<'a> {
            bench: &'a str,
            case: &'a str,
            ratio: Option<f64>,
            goal: Option<f64>,
            higher_is_better: bool,
            value: Option<f64>,
            unit: &'a str,
            against: &'a str,
        }
        let measured = self.result.as_ref().ok();
        let line = Line {
            bench: self.bench,
            case: self.case,
            ratio: measured.map(|measured| rounded(measured.ratio)),
            goal: self.goal,
            higher_is_better: self.higher_is_better,
            value: measured.map(|measured| rounded(measured.value)),
            unit: self.unit,
            against: &self.against,
        };
        serde_json::to_string(&line).expect("text and numbers are always JSON")
    }
}

/// The figures as an aligned table, and under it why some were not measured.
pub(crate) fn table(figures: &[Figure]) -> String {
    let heading = ["bench", "case", "value", "", "ratio", "(rounds)", "goal", "", "against"]
        .map(str::to_owned);
    let rows: Vec<_> = std::iter::once(heading).chain(figures.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..rows[0].len()).filter_map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells =
            row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
                2 | 4 | 6 => format!("{cell:>width$}"),
                _ => format!("{cell:<width$}"),
            });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    let reasons = figures.iter().filter_map(|Figure { bench, case, result, .. }| {
        let missing = result.as_ref().err()?;
        Some(format!("{bench}/{case} was not measured: {}\n", missing.reason))
    });
    let mut reasons: Vec<String> = reasons.collect();
    // A subject that failed is the reason for all figures of its case.
    reasons.dedup();
    text.extend(reasons);
    text
}

fn row(figure: &Figure) -> [String; 9] {
    let (value, ratio, rounds) = match &figure.result {
        Ok(it) => (
            amount(it.value),
            format!("{:.2}", it.ratio),
            format!("({:.2} to {:.2})", it.least, it.most),
        ),
        Err(_) => ("-".to_owned(), "-".to_owned(), "not measured".to_owned()),
    };
    let verdict = match figure.reaches_goal() {
        Some(true) => "reached",
        Some(false) => "MISSED",
        None => "",
    };
    let side = if figure.higher_is_better { "≥" } else { "≤" };
    [
        figure.bench.to_owned(),
        figure.case.to_owned(),
        value,
        figure.unit.to_owned(),
        ratio,
        rounds,
        figure.goal.map_or_else(String::new, |goal| format!("{side} {goal:.2}")),
        verdict.to_owned(),
        figure.against.clone(),
    ]
}

/// A number with three digits or so, as people read it.
pub(crate) fn amount(number: f64) -> String {
    match number {
        large if large >= 999_500.0 => format!("{:.2} M", large / 1e6),
        large if large >= 9_995.0 => format!("{:.1} k", large / 1e3),
        middle if middle >= 99.95 => format!("{middle:.0}"),
        small if small >= 9.995 => format!("{small:.1}"),
        tiny => format!("{tiny:.2}"),
    }
}

fn rounded(number: f64) -> f64 {
    (number * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(result: Result<Measured, NotMeasured>) -> Figure {
        Figure {
            bench: "tcp",
            case: "rtt",
            against: "tcp-handler".to_owned(),
            goal: Some(0.9),
            higher_is_better: true,
            unit: "µs",
            result,
        }
    }

    fn measured(ratio: f64) -> Result<Measured, NotMeasured> {
        Ok(Measured { ratio, least: 0.9, most: 1.0, value: 11.65 })
    }

    #[test]
    fn the_measured_span_is_that_of_the_rounds() {
        let measured = Measured::of(&[0.8, 1.2, 1.0], 7.0).expect("there are rounds");
        let Measured { ratio, least, most, value } = measured;
        assert_eq!([ratio, least, most, value], [1.0, 0.8, 1.2, 7.0]);
        assert!(Measured::of(&[], 7.0).is_none());
    }

    #[test]
    fn amounts_keep_three_digits() {
        let texts =
            [2_346_000.0, 999_600.0, 94_321.0, 9_990.0, 123.4, 99.96, 11.66, 0.123].map(amount);
        assert_eq!(texts, ["2.35 M", "1.00 M", "94.3 k", "9990", "123", "100", "11.7", "0.12"]);
    }

    #[test]
    fn json_has_the_fields_in_order() {
        assert_eq!(
            figure(measured(0.951_234)).json(),
            r#"{"bench":"tcp","case":"rtt","ratio":0.9512,"goal":0.9,"higher_is_better":true,"value":11.65,"unit":"µs","against":"tcp-handler"}"#
        );
    }

    #[test]
    fn json_says_null_for_what_was_not_measured() {
        let mut missing = figure(Err(NotMeasured::broken("no reason")));
        missing.goal = None;
        assert_eq!(
            missing.json(),
            r#"{"bench":"tcp","case":"rtt","ratio":null,"goal":null,"higher_is_better":true,"value":null,"unit":"µs","against":"tcp-handler"}"#
        );
    }

    #[test]
    fn goals_look_in_the_direction_that_is_better() {
        let mut figure = figure(measured(0.95));
        assert_eq!(figure.reaches_goal(), Some(true));
        figure.higher_is_better = false;
        assert_eq!(figure.reaches_goal(), Some(false));
        figure.goal = None;
        assert_eq!(figure.reaches_goal(), None);
    }

    #[test]
    fn the_table_is_aligned_and_says_why_something_is_missing() {
        let missing = || Figure {
            case: "flow-64x64B",
            higher_is_better: false,
            unit: "records/s",
            ..figure(Err(NotMeasured::broken("no reason")))
        };
        let figures = [figure(measured(0.951)), figure(measured(0.899)), missing(), missing()];
        let expected = "\
bench  case         value             ratio  (rounds)          goal           against
tcp    rtt           11.7  µs          0.95  (0.90 to 1.00)  ≥ 0.90  reached  tcp-handler
tcp    rtt           11.7  µs          0.90  (0.90 to 1.00)  ≥ 0.90  MISSED   tcp-handler
tcp    flow-64x64B      -  records/s      -  not measured    ≤ 0.90           tcp-handler
tcp    flow-64x64B      -  records/s      -  not measured    ≤ 0.90           tcp-handler
tcp/flow-64x64B was not measured: no reason
";
        assert_eq!(table(&figures), expected);
    }
}
