//! What is measured against what, and which ratios are the goals.

use crate::apart::Apart;
use crate::cells::Workload;
use crate::contest::{Case, Limit, Of};
use crate::hand::{Chains, Channel, QuicHandler, QuicStreams, TcpHandler, TcpPipe, TlsHandler};
use crate::ibc::{Ordered, Unordered};
use crate::idle;
use crate::ours;
use crate::peer::{Peer, Result};

const KIB: usize = 1024;
const PER_CORE: Workload = Workload::PerCore { width: 1024, size: 256 };

/// Every case there is.
pub(crate) fn all() -> Vec<Case> {
    let flow = |width, size| Workload::Flow { connections: 1, width, size };
    let many = Workload::Flow { connections: 64, width: 16, size: KIB };
    vec![
        tcp("rtt", Workload::RoundTrip),
        tcp("flow-64x64B", flow(64, 64)),
        tcp("flow-64x1KiB", flow(64, KIB)),
        tcp("flow-64x64KiB", flow(64, 64 * KIB)),
        tcp("flow-1024x64B", flow(1024, 64)),
        tcp("flow-1024x1KiB", flow(1024, KIB)),
        tcp("flow-1024x64KiB", flow(1024, 64 * KIB)),
        tcp("connections-64x16x1KiB", many),
        tcp_by_hand("tasks-64x64B", Workload::Tasks(64)),
        tcp_by_hand("open-1", Workload::Open(1)),
        tcp_by_hand("open-32", Workload::Open(32)),
        tls("rtt", Workload::RoundTrip, 1.0 / 1.1),
        tls("flow-64x1KiB", flow(64, KIB), 0.85),
        tls("flow-64x64KiB", flow(64, 64 * KIB), 0.85),
        tls("open-32", Workload::Open(32), 0.90),
        quic("rtt", Workload::RoundTrip, 1.0 / 1.1),
        quic("flow-64x64B", flow(64, 64), 0.90),
        quic("flow-64x1KiB", flow(64, KIB), 0.90),
        quic("flow-64x64KiB", flow(64, 64 * KIB), 0.90),
        quic("flow-1024x64B", flow(1024, 64), 0.90),
        quic("flow-1024x1KiB", flow(1024, KIB), 0.90),
        quic("flow-1024x64KiB", flow(1024, 64 * KIB), 0.90),
        quic_handshakes("open-32", Workload::Open(32)),
        quic_pooled("open-pooled", Workload::Open(1)),
        quic_unordered("unordered-64x64B", flow(64, 64)),
        quic_unordered("unordered-64x1KiB", flow(64, KIB)),
        quic_unordered("unordered-64x64KiB", flow(64, 64 * KIB)),
        peers("rtt", Workload::RoundTrip),
        peers("flow-64x64B", flow(64, 64)),
        peers("flow-64x1KiB", flow(64, KIB)),
        peers("flow-64x64KiB", flow(64, 64 * KIB)),
        peers("flow-1024x64B", flow(1024, 64)),
        peers("flow-1024x1KiB", flow(1024, KIB)),
        peers("flow-1024x64KiB", flow(1024, 64 * KIB)),
        peers_unordered("unordered-64x64B", flow(64, 64)),
        peers_unordered("unordered-64x1KiB", flow(64, KIB)),
        peers_unordered("unordered-64x64KiB", flow(64, 64 * KIB)),
        loopback("rtt", Workload::RoundTrip, 1.0),
        loopback("flow-64x64B", flow(64, 64), 1.5),
        loopback("flow-1024x64B", flow(1024, 64), 1.5),
        big("flow-8x1MiB", flow(8, KIB * KIB)),
        ibc("unordered-1024x256B", flow(1024, 256))
            .against(Apart::ibc_testkit(), 3.0)
            .against(Chains, None),
        ibc("unordered-1024x256B-per-core", PER_CORE)
            .against(Apart::ibc_testkit(), None)
            .against(Chains, 0.5),
        ibc_ordered("ordered-1024x256B", flow(1024, 256)).against(Chains, None),
        ibc_ordered("ordered-1024x256B-per-core", PER_CORE).against(Chains, 0.5),
        ibc("rtt", Workload::RoundTrip).against(Chains, 0.25),
        idle_memory(),
        idle_memory_over_tls(),
        idle_memory_of_pooled(),
        idle_memory_over_quic(),
    ]
}

/// Against the same contract by hand.
fn tcp_by_hand(case: &'static str, workload: Workload) -> Case {
    Case::of(Of::<ours::Tcp>::new(), "tcp", case, workload).against(Of::<TcpHandler>::new(), 0.90)
}

/// The same, and beside it the limit of the transport where that is another.
fn tcp(case: &'static str, workload: Workload) -> Case {
    tcp_by_hand(case, workload).against(Of::<TcpPipe>::new(), None)
}

/// Against the same contract by hand over tokio-rustls.
fn tls(case: &'static str, workload: Workload, goal: f64) -> Case {
    Case::of(Of::<ours::Tls>::new(), "tls", case, workload).against(Of::<TlsHandler>::new(), goal)
}

/// Against the same contract by hand over one stream of quinn.
fn quic(case: &'static str, workload: Workload, goal: f64) -> Case {
    Case::of(Of::<ours::Quic>::new(), "quic", case, workload)
        .against(Of::<QuicHandler>::new(), goal)
}

/// A handshake for each connection, by hand as well.
fn quic_handshakes(case: &'static str, workload: Workload) -> Case {
    Case::of(Of::<ours::QuicEach>::new(), "quic", case, workload)
        .against(Of::<QuicHandler>::new(), 0.90)
}

/// A connection where there is a session already, against one with a handshake.
fn quic_pooled(case: &'static str, workload: Workload) -> Case {
    Case::of(Of::<ours::Quic>::new(), "quic", case, workload)
        .against(Of::<ours::QuicEach>::new(), 10.0)
}

/// Against a stream for each record by hand.
fn quic_unordered(case: &'static str, workload: Workload) -> Case {
    Case::of(Of::<ours::QuicUnordered>::new(), "quic", case, workload)
        .against(Of::<QuicStreams>::new(), 0.90)
}

/// Against what others offer over QUIC: ahead of them.
fn peers(case: &'static str, workload: Workload) -> Case {
    against_peers(Case::of(Of::<ours::Quic>::new(), "peers", case, workload))
        .against(Apart::peer("iroh-one-stream"), 1.0)
}

/// The same with a stream for each record on this side too, as they have it.
fn peers_unordered(case: &'static str, workload: Workload) -> Case {
    against_peers(Case::of(Of::<ours::QuicUnordered>::new(), "peers", case, workload))
}

fn against_peers(case: Case) -> Case {
    case.against(Apart::peer("libp2p-request-response"), 1.0)
        .against(Apart::peer("iroh-streams"), 1.0)
}

fn loopback(case: &'static str, workload: Workload, goal: f64) -> Case {
    Case::of(Of::<ours::Loopback>::new(), "loopback", case, workload)
        .against(Of::<Channel>::new(), goal)
}

fn big(case: &'static str, workload: Workload) -> Case {
    Case::of(Of::<ours::Tcp>::new(), "big", case, workload)
        .against(Apart::zeromq(), 1.0)
        .against(Of::<TcpHandler>::new(), None)
}

/// Two hosts and a hop between them, all in this process. The other side of a round trip is what
/// two headers cost by hand.
fn ibc(case: &'static str, workload: Workload) -> Case {
    Case::of(Of::<Unordered>::new(), "ibc", case, workload)
}

fn ibc_ordered(case: &'static str, workload: Workload) -> Case {
    Case::of(Of::<Ordered>::new(), "ibc", case, workload)
}

fn idle_memory() -> Case {
    const WANTED: usize = 10_000;
    const AT_MOST_KB: f64 = 16.0;
    let connections = idle::affordable(WANTED);
    let mut name = format!("{AT_MOST_KB} KB at {connections} connections");
    if connections < WANTED {
        name.push_str(" (the limit of open files allows no more)");
    }
    Case::of(Of::<ours::Tcp>::new(), "idle", "memory", Workload::Idle(connections))
        .against(Limit { name, value: AT_MOST_KB }, 1.0)
        .against(Of::<TcpHandler>::new(), None)
}

/// What TLS costs at both ends together is in the reference as well.
fn idle_memory_over_tls() -> Case {
    let connections = idle::affordable(4_000);
    Case::of(Of::<ours::Tls>::new(), "idle", "tls-memory", Workload::Idle(connections))
        .against(Of::<TlsHandler>::new(), None)
}

/// Connections over one session: what a stream costs.
fn idle_memory_of_pooled() -> Case {
    const AT_MOST_KB: f64 = 16.4;
    let name = "16 KiB".to_owned();
    Case::of(Of::<ours::Quic>::new(), "idle", "quic-pooled", Workload::Idle(4_000))
        .against(Limit { name, value: AT_MOST_KB }, 1.0)
}

/// A QUIC connection each, on one socket at each end.
fn idle_memory_over_quic() -> Case {
    Case::of(Of::<ours::QuicEach>::new(), "idle", "quic-memory", Workload::Idle(1_000))
        .against(Limit { name: "177 KB, as iroh needs".to_owned(), value: 177.0 }, 1.0)
        .against(Of::<QuicHandler>::new(), None)
}

/// Runs one end of [`idle::measure`], as told by the words after [`idle::END`].
pub(crate) fn run_end(words: &[String]) -> Result<()> {
    fn end<P: Peer>(words: &[&str]) -> Option<Result<()>> {
        match words {
            ["serve", name] if *name == P::NAME => Some(idle::serve::<P>()),
            ["hold", name, address] if *name == P::NAME => Some(idle::hold::<P>(address)),
            _ => None,
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ended = end::<ours::Tcp>(&words)
        .or_else(|| end::<ours::Tls>(&words))
        .or_else(|| end::<ours::Quic>(&words))
        .or_else(|| end::<ours::QuicEach>(&words))
        .or_else(|| end::<QuicHandler>(&words))
        .or_else(|| end::<TcpHandler>(&words))
        .or_else(|| end::<TlsHandler>(&words));
    ended.unwrap_or_else(|| Err(format!("no such end: {words:?}").into()))
}
