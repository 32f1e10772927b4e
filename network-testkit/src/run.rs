//! Runs one case, in time and by name.

use std::{
    fmt,
    future::Future,
    io::{self, Write},
    panic::resume_unwind,
    pin::Pin,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use network_core::{Endpoint, Limits};
use tokio::runtime::{Builder, Runtime};

use crate::{cases::CASES, fixture::Fixture, lab::Lab};

/// How long a case may take: one that takes longer hangs, and fails.
pub const TIME_LIMIT: Duration = Duration::from_secs(30);

/// One case of the suite.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) needs: &'static [Need],
    pub(crate) body: fn(Lab) -> Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// What a case needs of a backend or of its fixture.
#[allow(non_camel_case_types, reason = "spelled as in the list of cases")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    ordered,
    proves_timeouts,
    local_deadlines,
    proves_delivery,
    prefix_listening,
    empty_records,
    agrees_on_limits,
    acks_overtake,
    reaches_itself,
    names_move,
    shares_sockets,
    wire,
    raw,
    local_names,
    ibc_ports,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ordered => "capability `ordered`",
            Self::proves_timeouts => "capability `proves_timeouts`",
            Self::local_deadlines => "a backend without capability `proves_timeouts`",
            Self::proves_delivery => "capability `proves_delivery`",
            Self::prefix_listening => "capability `prefix_listening`",
            Self::empty_records => "capability `empty_records`",
            Self::agrees_on_limits => "capability `agrees_on_limits`",
            Self::acks_overtake => "capability `acks_overtake`",
            Self::reaches_itself => "capability `reaches_itself`",
            Self::names_move => "names that another network can bind (`Fixture::names_move`)",
            Self::shares_sockets => "capability `shares_sockets`",
            Self::wire => "capability `wire`",
            Self::raw => "raw access to a wire (`Fixture::wire`)",
            Self::local_names => "a backend at `/local/NAME`",
            Self::ibc_ports => "a backend at `/ibc-port/NAME`",
        })
    }
}

/// A case that does not apply to a backend, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    /// The name of the case: `hostile::stale_ack`.
    pub case: &'static str,
    /// What the backend or its fixture lacks.
    pub needs: String,
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "skipped: {} needs {}", self.case, self.needs)
    }
}

/// The names of all cases, in the order of the list.
pub fn case_names() -> impl Iterator<Item = &'static str> {
    CASES.iter().map(|case| case.name)
}

/// The cases that do not apply to a backend.
///
/// # Panics
/// If the fixture cannot make a network.
pub fn skips(fixture: impl Fixture) -> Vec<Skip> {
    let runtime = runtime("skips");
    runtime.block_on(async {
        let mut skips = Vec::new();
        for case in CASES {
            skips.extend(skip(case, &fixture).await);
        }
        skips
    })
}

/// Runs the case called `name`: what [`conformance!`](crate::conformance) expands to.
///
/// # Panics
/// If the case fails, takes too long, or does not exist.
pub fn run(name: &'static str, fixture: Box<dyn Fixture>) {
    let case = CASES.iter().find(|case| case.name == name);
    let case = case.unwrap_or_else(|| panic!("there is no case {name}"));
    bounded(name, TIME_LIMIT, async move {
        if let Some(skip) = skip(case, &*fixture).await {
            // Straight to the terminal: the test harness hides what a test that passes prints.
            // In one piece, or those of other threads come between.
            let _ = io::stderr().write_all(format!("{skip}\n").as_bytes());
            return;
        }
        (case.body)(Lab::new(fixture)).await;
    });
}

/// Runs a test body on a runtime of its own. One that hangs fails, also one that blocks
/// every thread of the runtime.
pub(crate) fn bounded(
    name: &'static str,
    limit: Duration,
    body: impl Future<Output = ()> + Send + 'static,
) {
    let (done, outcome) = mpsc::channel();
    let body = move || {
        let runtime = runtime(name);
        let ended = runtime.block_on(runtime.spawn(body));
        // What still runs there is no longer of interest.
        runtime.shutdown_background();
        let _ = done.send(ended);
    };
    // Of the test's own threads, so that what they print is the test's output.
    thread::Builder::new().name(name.to_owned()).spawn(body).unwrap();
    match outcome.recv_timeout(limit) {
        Ok(Ok(())) => {}
        Ok(Err(failed)) => resume_unwind(failed.into_panic()),
        Err(RecvTimeoutError::Timeout) => panic!("{name} hangs: not done after {limit:?}"),
        Err(RecvTimeoutError::Disconnected) => panic!("{name} lost its runtime"),
    }
}

fn runtime(name: &str) -> Runtime {
    Builder::new_multi_thread().worker_threads(2).thread_name(name).enable_all().build().unwrap()
}

async fn skip(case: &Case, fixture: &dyn Fixture) -> Option<Skip> {
    if case.needs.is_empty() {
        return None;
    }
    let network = fixture.network(Limits::default()).await;
    let can = network.route(&fixture.listen_at()).unwrap().capabilities();
    let routes = |text| network.route(&Endpoint::parse(text).unwrap()).is_ok();
    let has = |need: &Need| match need {
        Need::ordered => can.ordered,
        Need::proves_timeouts => can.proves_timeouts,
        Need::local_deadlines => !can.proves_timeouts,
        Need::proves_delivery => can.proves_delivery,
        Need::prefix_listening => can.prefix_listening,
        Need::empty_records => can.empty_records,
        Need::agrees_on_limits => can.agrees_on_limits,
        Need::acks_overtake => can.acks_overtake,
        Need::reaches_itself => can.reaches_itself,
        Need::names_move => fixture.names_move(),
        Need::shares_sockets => can.shares_sockets,
        Need::wire => can.wire,
        Need::raw => fixture.wire().is_some(),
        Need::local_names => routes("/local/name"),
        Need::ibc_ports => routes("/ibc-port/name"),
    };
    let missing: Vec<_> =
        case.needs.iter().filter(|need| !has(need)).map(ToString::to_string).collect();
    (!missing.is_empty()).then(|| Skip { case: case.name, needs: missing.join(" and ") })
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        panic::{AssertUnwindSafe, catch_unwind},
    };

    use super::*;

    fn failure(body: impl Future<Output = ()> + Send + 'static) -> String {
        let run = || bounded("group::case", Duration::from_millis(100), body);
        let failed = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
        let text = failed.downcast_ref::<String>().cloned();
        text.unwrap_or_else(|| (*failed.downcast_ref::<&str>().unwrap()).to_owned())
    }

    #[test]
    fn a_case_that_hangs_fails_by_its_name() {
        assert!(failure(pending()).contains("group::case hangs"));
    }

    #[test]
    fn a_case_that_blocks_every_thread_hangs_too() {
        let blocks = async {
            let block = || thread::sleep(Duration::from_secs(2));
            tokio::spawn(async move { block() });
            block();
        };
        assert!(failure(blocks).contains("group::case hangs"));
    }

    #[test]
    fn a_case_that_panics_fails_with_its_own_words() {
        assert_eq!(failure(async { panic!("on purpose") }), "on purpose");
    }

    #[test]
    fn every_case_has_a_name_of_its_own() {
        let mut names: Vec<_> = case_names().collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
