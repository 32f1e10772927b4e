//! What is printed: the table on standard output, progress on standard error.

use std::{
    fmt,
    io::{IsTerminal, Write, stderr},
    time::Duration,
};

use crate::measure::Figures;

// `round` and `trip` are read as one, over both of their columns.
const HEADER: [[&str; 6]; 2] = [
    ["", "", "round", "trip", "in flight", "bytes"],
    ["endpoint", "connect", "p50", "p99", "records/s", "verified"],
];

/// Rows of figures, aligned when they are printed.
#[derive(Default)]
pub(crate) struct Table(Vec<[String; 6]>);

impl Table {
    pub(crate) fn row(&mut self, endpoint: &str, figures: &Figures) {
        self.0.push([
            endpoint.to_owned(),
            time(figures.connect),
            time(figures.round_trip_p50),
            time(figures.round_trip_p99),
            count(figures.records_per_second as u64),
            bytes(figures.bytes_verified),
        ]);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = HEADER.map(|row| row.map(str::to_owned));
        let mut widths = [0; 6];
        for row in header.iter().chain(&self.0) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        header.iter().try_for_each(|row| line(f, row, &widths))?;
        line(f, &widths.map(|width| "-".repeat(width)), &widths)?;
        self.0.iter().try_for_each(|row| line(f, row, &widths))
    }
}

/// The first cell to the left, the others to the right.
fn line(f: &mut fmt::Formatter<'_>, cells: &[String; 6], widths: &[usize; 6]) -> fmt::Result {
    write!(f, "{:<width$}", cells[0], width = widths[0])?;
    for (cell, width) in cells.iter().zip(widths).skip(1) {
        write!(f, "  {cell:>width$}")?;
    }
    writeln!(f)
}

/// Says what is going on: in one line that is written over, or a line each where nobody
/// looks on.
#[derive(Default)]
pub(crate) struct Progress {
    stop: String,
    written: usize,
}

impl Progress {
    pub(crate) fn stop(&mut self, number: usize, of: usize, backend: &str) {
        self.stop = format!("[{number}/{of}] {backend}");
    }

    pub(crate) fn part(&mut self, part: &str) {
        let text = format!("{}: {part} ...", self.stop);
        if stderr().is_terminal() {
            eprint!("\r{text:<width$}", width = self.written);
            // It is only for show.
            let _ = stderr().flush();
            self.written = text.len();
        } else {
            eprintln!("{text}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.written > 0 {
            eprint!("\r{:width$}\r", "", width = self.written);
            let _ = stderr().flush();
        }
    }
}

/// Three figures and a unit: `28.4 µs`.
fn time(time: Duration) -> String {
    let nanos = time.as_nanos() as f64;
    let (value, unit) = match nanos {
        ..1e3 => (nanos, "ns"),
        1e3..1e6 => (nanos / 1e3, "µs"),
        1e6..1e9 => (nanos / 1e6, "ms"),
        _ => (nanos / 1e9, "s"),
    };
    format!("{} {unit}", three_figures(value))
}

/// Three figures and a unit: `1.25 MB`.
pub(crate) fn bytes(count: u64) -> String {
    match count {
        ..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{} kB", three_figures(count as f64 / 1e3)),
        1_000_000..1_000_000_000 => format!("{} MB", three_figures(count as f64 / 1e6)),
        _ => format!("{} GB", three_figures(count as f64 / 1e9)),
    }
}

fn three_figures(value: f64) -> String {
    let decimals = match value {
        ..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// Digits in groups: `61,234`.
pub(crate) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
