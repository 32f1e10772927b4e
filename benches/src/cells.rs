//! The workloads, and how one peer is measured in one of them.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::Builder;
use tokio::task::{JoinSet, consume_budget};
use tokio::time::{sleep, timeout};

use crate::peer::{Client, Peer, Result, Tally, Unavailable, check, look_at};
use crate::processor;
use crate::quantile::median;

/// A cell that takes longer than this is stuck.
const STUCK: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Workload {
    /// One record of 64 B at a time: microseconds from send to ack.
    RoundTrip,
    /// Every connection has `width` records of `size` bytes un-acked, kept so by one task:
    /// records a second.
    Flow { connections: usize, width: usize, size: usize },
    /// The same on one connection: records a second of processor time, of all threads together.
    PerCore { width: usize, size: usize },
    /// One connection, shared by that many tasks that each send one record of 64 B at a time:
    /// records a second.
    Tasks(usize),
    /// Connections opened, used once and closed, by that many tasks: connections a second.
    Open(usize),
    /// Memory of an idle connection, both ends, with that many open: kilobytes.
    Idle(usize),
}

impl Workload {
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::RoundTrip => "µs",
            Self::Flow { .. } | Self::Tasks(_) => "records/s",
            Self::PerCore { .. } => "records/s of a core",
            Self::Open(_) => "opens/s",
            Self::Idle(_) => "KB",
        }
    }

    /// What the subject's measure is against the reference's.
    ///
    /// Round trips compare as rates, so that more is better as with every other rate.
    pub(crate) fn ratio(self, subject: f64, reference: f64) -> f64 {
        match self {
            Self::RoundTrip => reference / subject,
            _ => subject / reference,
        }
    }

    /// Whether a larger ratio is the better one.
    pub(crate) fn higher_is_better(self) -> bool {
        !matches!(self, Self::Idle(_))
    }
}

/// As one program asks another for it.
impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RoundTrip => f.write_str("rtt"),
            Self::Flow { connections, width, size } => {
                write!(f, "flow {connections} {width} {size}")
            }
            Self::PerCore { width, size } => write!(f, "per-core {width} {size}"),
            Self::Tasks(tasks) => write!(f, "tasks {tasks}"),
            Self::Open(at_a_time) => write!(f, "open {at_a_time}"),
            Self::Idle(connections) => write!(f, "idle {connections}"),
        }
    }
}

/// Measures a peer in a runtime and against a server of its own, so that no cell inherits
/// another's state.
pub(crate) fn measure<P: Peer>(workload: Workload, time: Duration) -> Result<f64> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let cell = runtime.spawn(async move { timeout(STUCK, run::<P>(workload, time)).await });
    let result = runtime.block_on(cell);
    runtime.shutdown_timeout(Duration::from_secs(1));
    result?.map_err(|_| "it did not end within a minute")?
}

async fn run<P: Peer>(workload: Workload, time: Duration) -> Result<f64> {
    let peer = P::start().await?;
    let address = peer.serve().await?;
    match workload {
        Workload::RoundTrip => round_trip(&peer, &address, time).await,
        Workload::Flow { connections, width, size } => {
            let mut flows = Flows::new(record_of(size));
            for _ in 0..connections {
                let client = flows.open(&peer, &address).await?;
                flows.pipeline(client, width);
            }
            flows.measure(time).await
        }
        Workload::PerCore { width, size } => {
            let mut flows = Flows::new(record_of(size));
            let client = flows.open(&peer, &address).await?;
            flows.pipeline(client, width);
            flows.measure_per_core(time).await
        }
        Workload::Tasks(tasks) => {
            let mut flows = Flows::new(record_of(64));
            let client = Arc::new(flows.open(&peer, &address).await?);
            for _ in 0..tasks {
                flows.one_by_one(client.clone());
            }
            // The connection closes with the last task.
            drop(client);
            flows.measure(time).await
        }
        Workload::Open(at_a_time) => open(peer, address, at_a_time, time).await,
        Workload::Idle(_) => Err("idle connections are measured from outside".into()),
    }
}

pub(crate) fn record_of(size: usize) -> Bytes {
    (0..size).map(|at| (at * 31 + 7) as u8).collect()
}

/// Sends one record and verifies its ack.
pub(crate) async fn exchange(client: &impl Client, record: &Bytes) -> Result<()> {
    check(&client.send(record.clone()).await?, look_at(record))
}

/// The median of the times of short runs of exchanges, in microseconds an exchange.
async fn round_trip<P: Peer>(peer: &P, address: &str, time: Duration) -> Result<f64> {
    /// So many, that reading the clock costs next to nothing.
    const RUN: u32 = 16;
    let client = peer.connect(address).await?;
    let record = record_of(64);
    let start = Instant::now();
    let mut runs = Vec::with_capacity(1 << 17);
    loop {
        let before = Instant::now();
        for _ in 0..RUN {
            exchange(&client, &record).await?;
        }
        let after = Instant::now();
        if after - start > time + time / 4 {
            break;
        }
        if after - start > time / 4 {
            runs.push((after - before).as_secs_f64() * 1e6 / f64::from(RUN));
        }
        consume_budget().await;
    }
    client.close().await?;
    median(&runs).ok_or_else(|| "not one run of round trips fit into the time".into())
}

/// How long this process has computed so far.
pub(crate) fn processor_time() -> Result<Duration> {
    let told = processor::time();
    Ok(told.map_err(|_| Unavailable("processor time is read from Linux's /proc".to_owned()))?)
}

/// Tasks that send until they are stopped, and the count of what was acked.
struct Flows {
    record: Bytes,
    tallies: Vec<Arc<Tally>>,
    tasks: JoinSet<Result<()>>,
}

impl Flows {
    fn new(record: Bytes) -> Self {
        Self { record, tallies: Vec::new(), tasks: JoinSet::new() }
    }

    async fn open<P: Peer>(&self, peer: &P, address: &str) -> Result<P::Client> {
        let client = peer.connect(address).await?;
        exchange(&client, &self.record).await?;
        Ok(client)
    }

    /// One task keeps the window of one connection full.
    fn pipeline(&mut self, client: impl Client, width: usize) {
        let (record, tally) = (self.record.clone(), self.tally());
        self.tasks.spawn(async move {
            client.keep_full(&record, width, &tally).await?;
            client.close().await
        });
    }

    /// One task sends one record at a time on a connection that it shares.
    fn one_by_one(&mut self, client: Arc<impl Client>) {
        let (record, tally) = (self.record.clone(), self.tally());
        self.tasks.spawn(async move {
            while !tally.stopped() {
                exchange(&*client, &record).await?;
                tally.acked(1);
            }
            Ok(())
        });
    }

    fn tally(&mut self) -> Arc<Tally> {
        let tally = Arc::new(Tally::default());
        self.tallies.push(tally.clone());
        tally
    }

    /// The acks a second of all tasks together, after a warm-up of a quarter of the time.
    async fn measure(self, time: Duration) -> Result<f64> {
        let start = Instant::now();
        self.measure_by(time, || Ok(start.elapsed())).await
    }

    /// The acks a second of processor time. That has steps of 10 ms, so the time should be long.
    async fn measure_per_core(self, time: Duration) -> Result<f64> {
        self.measure_by(time, processor_time).await
    }

    async fn measure_by(
        mut self,
        time: Duration,
        clock: impl Fn() -> Result<Duration>,
    ) -> Result<f64> {
        sleep(time / 4).await;
        let (start, before) = (clock()?, self.total());
        sleep(time).await;
        let (elapsed, acked) = (clock()? - start, self.total() - before);
        self.tallies.iter().for_each(|tally| tally.stop());
        while let Some(task) = self.tasks.join_next().await {
            task??;
        }
        match acked {
            0 => Err("no record was acked while measuring".into()),
            acked => Ok(acked as f64 / elapsed.as_secs_f64()),
        }
    }

    fn total(&self) -> u64 {
        self.tallies.iter().map(|tally| tally.total()).sum()
    }
}

async fn open<P: Peer>(peer: P, address: String, tasks: usize, time: Duration) -> Result<f64> {
    /// Closed connections keep their socket address for a minute, and there are 28,000.
    const AT_MOST: usize = 10_000;
    let (peer, address, record) = (Arc::new(peer), Arc::<str>::from(address), record_of(64));
    for _ in 0..3 {
        open_once(&*peer, &address, &record).await?;
    }
    let mut openers = JoinSet::<Result<usize>>::new();
    let start = Instant::now();
    for _ in 0..tasks {
        let (peer, address, record) = (peer.clone(), address.clone(), record.clone());
        openers.spawn(async move {
            let mut opened = 0;
            while start.elapsed() < time && opened < AT_MOST / tasks {
                open_once(&*peer, &address, &record).await?;
                opened += 1;
            }
            Ok(opened)
        });
    }
    let mut opened = 0;
    while let Some(opener) = openers.join_next().await {
        opened += opener??;
    }
    Ok(opened as f64 / start.elapsed().as_secs_f64())
}

async fn open_once<P: Peer>(peer: &P, address: &str, record: &Bytes) -> Result<()> {
    let client = peer.connect(address).await?;
    exchange(&client, record).await?;
    client.close().await
}
