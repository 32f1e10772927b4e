//! Replays what the original package, `@agoric/network`, did.
//!
//! A scenario is data: steps to do, and a trace of what the package did. The runner does the
//! same steps on this API and puts both side by side. Addresses, callbacks, their arguments
//! and their order, returned values and the kinds of errors must be the same. Where ours
//! differs on purpose, a rule about one code of [`DIFFERENCES`] takes exactly the events that
//! the code is about and checks what we document instead; what no rule takes makes the
//! scenario [differ](Verdict::Differs). The rules also check that a trace is one that the
//! package can have told, so that a trace with a mistake in it does not pass as a difference.
//!
//! Everything is decided from the data: a file that was never seen before works as well.
//! Scenarios of the family `ibc` need a host and a chain beside it, which is for `network-ibc` to
//! have: [`Scenario::replay`] leaves them out, [`Scenario::replay_with`] takes [`Chains`].
//!
//! ```
//! use network_testkit::replay::{Scenario, Verdict};
//!
//! let line = r#"{"id": "bind", "family": "bind",
//!     "steps": [{"op": "loopback", "as": "lo"},
//!               {"op": "protocol", "as": "net", "handler": "lo"},
//!               {"op": "bind", "on": "net", "addr": "/local/x", "as": "x"}],
//!     "trace": [{"step": "3", "order": "total",
//!                "events": [{"ev": "ret", "step": "3", "op": "bind", "val": "port(/local/x)"}]}]}"#;
//! assert!(matches!(Scenario::parse(line)?.replay(), Verdict::Same));
//! assert!(matches!(
//!     Scenario::parse(&line.replace("port(/local/x)", "port(/local/y)"))?.replay(),
//!     Verdict::Differs(_)
//! ));
//! # Ok::<(), network_testkit::replay::FormatError>(())
//! ```

mod address;
mod backend;
mod bridge;
mod chain;
mod differences;
mod event;
mod faults;
mod inbound;
mod js;
mod left;
mod making;
mod matching;
mod names;
mod pure;
mod report;
mod router;
mod rules;
mod run;
mod scenario;
mod script;
mod steps;
mod vectors;
mod verdict;
mod world;

pub use chain::{Chain, Chains, Denied, End, Hears, Meaning, Packet, Says, Setting, Told};
pub use differences::{DIFFERENCES, Difference, difference, markdown};
pub use report::{Counts, Line, scenarios, vectors};
pub use run::TIME_LIMIT;
pub use scenario::{FormatError, Scenario};
pub use vectors::Vector;
pub use verdict::Verdict;

/// The limits of every network that a replay makes: the original's, as far as it has any.
const MAX_RECORD_LEN: usize = 100_000;
const MAX_ACK_LEN: usize = 131_072;
