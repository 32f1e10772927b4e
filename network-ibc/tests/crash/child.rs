//! A host with channels of both kinds to another, as much traffic as goes, until it is killed.

use std::{
    env,
    hash::{DefaultHasher, Hash, Hasher},
    io::BufRead,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use network_core::{
    AnyHandler, Attempt, Bytes, Connection, ConnectionHandler, Delivery, Endpoint, Limits,
    ListenHandler, Network, Port, Refusal, SendError, SendOptions,
};
use network_ibc::{Host, LedgerKey, SoloKey};
use network_tcp::Tcp;
use tokio::{sync::Semaphore, time};

use crate::{
    NAMES, Random,
    log::{Blocks, Log},
};

pub(crate) const NAME: &str = "CRASH_CHILD_NAME";
pub(crate) const LEDGER: &str = "CRASH_CHILD_LEDGER";
pub(crate) const LOG: &str = "CRASH_CHILD_LOG";
pub(crate) const RUN: &str = "CRASH_CHILD_RUN";
pub(crate) const TCP: &str = "CRASH_CHILD_TCP";
pub(crate) const SEED: &str = "CRASH_CHILD_SEED";
pub(crate) const SOLO: &str = "CRASH_CHILD_SOLO";

pub(crate) const ORDERS: [&str; 2] = ["ordered", "unordered"];

/// How many records are under way on a channel at most.
const IN_FLIGHT: usize = 8;

/// After which a send that has no result counts as stuck.
const STUCK: Duration = Duration::from_secs(20);

/// What the tasks of a child share.
struct Shared {
    name: String,
    run: u64,
    seed: u64,
    log: Log,
    next: AtomicU64,
    stopped: AtomicBool,
}

pub(crate) fn main() {
    let Ok(name) = env::var(NAME) else { return };
    let var = |name| env::var(name).unwrap();
    let log = Log::new(&PathBuf::from(var(LOG)));
    tracing::subscriber::set_global_default(Blocks(log.clone())).unwrap();
    log.line(format_args!("start"));
    let (run, seed) = (var(RUN).parse().unwrap(), var(SEED).parse().unwrap());
    let (next, stopped) = (AtomicU64::new(0), AtomicBool::new(false));
    let shared = Arc::new(Shared { name, run, seed, log, next, stopped });
    let told = shared.clone();
    thread::spawn(move || {
        let mut line = String::new();
        let _ = std::io::stdin().lock().read_line(&mut line);
        told.stopped.store(true, Ordering::Release);
        // Whoever started this is gone, or wants it to be.
        let _ = std::io::stdin().lock().read_line(&mut line);
        std::process::exit(0);
    });
    // The ledger writes on one thread while handlers run on the other.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(host(shared, PathBuf::from(var(LEDGER)), var(TCP)));
}

async fn host(shared: Arc<Shared>, ledger: PathBuf, tcp: String) {
    let dials = shared.name == NAMES[0];
    let key = LedgerKey::from_seed(&[if dials { 1 } else { 2 }; 32]).unwrap();
    let mut host = Host::builder(&shared.name);
    if env::var(SOLO).unwrap() == "true" {
        host = host.solo_machine(SoloKey::ed25519(&[if dials { 3 } else { 4 }; 32]).unwrap());
    }
    let host = host.open(ledger, key).unwrap();
    let limits = Limits::default()
        .with_close_time(Duration::from_millis(500))
        .with_connect_time(Duration::from_secs(8));
    let network = Network::builder().limits(limits).protocol(host.clone()).build().unwrap();
    let sink = network.bind("/ibc-port/sink").await.unwrap();
    sink.listen(Sinks(shared.clone())).await.unwrap();

    let way = Network::builder().protocol(Tcp::new()).build().unwrap();
    let served = format!("/ip4/127.0.0.1/tcp/{tcp}/port/host");
    let hop = if dials {
        let port = way.bind("/ip4/127.0.0.1/tcp/").await.unwrap();
        if shared.run.is_multiple_of(2) {
            tokio::spawn(cut(shared.clone(), port.clone()));
        }
        loop {
            match host.connect_hop(&port, served.as_str()).await {
                Ok(hop) => break hop,
                Err(error) => shared.log.line(format_args!("# no hop: {error}")),
            }
            time::sleep(Duration::from_millis(20)).await;
        }
    } else {
        host.serve(&way.bind(served.as_str()).await.unwrap()).await.unwrap();
        loop {
            if let Some(hop) = host.hops().into_iter().find(|hop| hop.open) {
                break hop;
            }
            time::sleep(Duration::from_millis(10)).await;
        }
    };
    shared.log.line(format_args!("hop {} of {}", hop.connection, host.hops().len()));

    let port = network.bind("/ibc-port/source").await.unwrap();
    let mut tasks = Vec::new();
    for (number, order) in ORDERS.into_iter().enumerate() {
        let remote = format!("/ibc-hop/{}/ibc-port/sink/{order}/v1", hop.connection);
        let random = Random::new(shared.seed ^ (shared.run << 8) ^ (number as u64));
        let (shared, port) = (shared.clone(), port.clone());
        tasks.push(tokio::spawn(traffic(shared, port, remote, order, random)));
    }
    for task in tasks {
        task.await.unwrap();
    }
    shared.log.line(format_args!("hop {} of {}", hop.connection, host.hops().len()));
    shared.log.line(format_args!("done"));
    // The other one may still want something of this.
    std::future::pending::<()>().await;
}

/// Cuts the way to the other host now and then: nobody ends, and nothing may be lost by it.
async fn cut(shared: Arc<Shared>, port: Port) {
    let mut random = Random::new(shared.seed ^ (shared.run << 8) ^ 0xff);
    while !shared.stopped.load(Ordering::Acquire) {
        time::sleep(Duration::from_millis(100 + random.below(600))).await;
        for connection in port.connections() {
            shared.log.line(format_args!("# cut"));
            connection.close().await;
        }
    }
}

/// Opens one channel after the other and sends over each until it closes, or for a while.
async fn traffic(
    shared: Arc<Shared>,
    port: Port,
    remote: String,
    order: &'static str,
    mut random: Random,
) {
    while !shared.stopped.load(Ordering::Acquire) {
        let begun = Instant::now();
        let connection = match port.connect(remote.as_str(), ()).await {
            Ok(connection) => connection,
            Err(error) => {
                let took = begun.elapsed();
                shared.log.line(format_args!("# no channel {order} after {took:?}: {error:?}"));
                time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let channel = channel_of(connection.local_endpoint());
        shared.log.line(format_args!("open {order} {channel} {:?}", begun.elapsed()));
        pump(&shared, &connection, order, &channel, &mut random).await;
        connection.close().await;
    }
}

async fn pump(
    shared: &Arc<Shared>,
    connection: &Connection,
    order: &'static str,
    channel: &str,
    random: &mut Random,
) {
    let room = Arc::new(Semaphore::new(IN_FLIGHT));
    for _ in 0..50 + random.below(400) {
        if shared.stopped.load(Ordering::Acquire) || connection.close_reason().is_some() {
            break;
        }
        let Ok(permit) = room.clone().acquire_owned().await else { break };
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        let key = format!("{}/{}/{number}", shared.name, shared.run);
        let padding = "x".repeat(usize::try_from(random.below(200)).unwrap());
        let record = Bytes::from(format!("{key} {channel} {padding}"));
        let hash = hash(&record);
        let short = order == "unordered" && number.is_multiple_of(11);
        let (shared, line) = (shared.clone(), format!("send {order} {key} {channel} {hash:016x}"));
        let result = if short {
            shared.log.line(format_args!("{line}"));
            let (connection, timeout) = (connection.clone(), Duration::from_millis(300));
            tokio::spawn(async move {
                let options = SendOptions::default().with_timeout(timeout);
                connection.send_with(record, options).await
            })
        } else {
            // In the order of their numbers.
            let Ok(reserved) = connection.reserve(record.len()).await else { break };
            shared.log.line(format_args!("{line}"));
            match reserved.send(record) {
                Ok(ack) => tokio::spawn(ack.into_owned()),
                Err(error) => tokio::spawn(async move { Err(error) }),
            }
        };
        tokio::spawn(async move {
            let (log, _permit) = (&shared.log, permit);
            let begun = Instant::now();
            let result = match time::timeout(STUCK, result).await {
                Ok(result) => result.unwrap(),
                Err(_) => return log.line(format_args!("stuck {order} {key}")),
            };
            match result {
                Ok(ack) if ack == key => log.line(format_args!("ack {order} {key}")),
                Ok(ack) => log.line(format_args!("wrong {order} {key} {ack:?}")),
                Err(error) => {
                    let (fate, took) = (fate(&error), begun.elapsed().as_millis());
                    log.line(format_args!("fail {order} {key} {fate} {took} ms: {error}"));
                }
            }
        });
        if random.below(4) == 0 {
            time::sleep(Duration::from_millis(random.below(4))).await;
        }
    }
    // Half of the time it is closed with records under way.
    if shared.stopped.load(Ordering::Acquire) || random.below(2) == 0 {
        let _ = room.acquire_many(u32::try_from(IN_FLIGHT).unwrap()).await;
    }
}

pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

fn fate(error: &SendError) -> &'static str {
    match error.delivery() {
        Delivery::NotDelivered => "not-delivered",
        Delivery::Delivered => "delivered",
        Delivery::Unknown => "unknown",
    }
}

/// The name of a channel, which an endpoint ends with.
fn channel_of(endpoint: &Endpoint) -> String {
    endpoint.as_str().rsplit('/').next().unwrap().to_owned()
}

struct Sinks(Arc<Shared>);

impl ListenHandler for Sinks {
    async fn on_accept(&self, _: &Port, _: &Attempt) -> Result<AnyHandler, Refusal> {
        Ok(AnyHandler::new(Sink(self.0.clone())))
    }
}

struct Sink(Arc<Shared>);

impl ConnectionHandler for Sink {
    async fn on_receive(&self, connection: &Connection, record: Bytes) -> Result<Bytes, Refusal> {
        let channel = channel_of(connection.remote_endpoint());
        let key = String::from_utf8_lossy(&record);
        let key = key.split(' ').next().unwrap_or_default().to_owned();
        let hash = hash(&record);
        self.0.log.line(format_args!("handled {key} {channel} {hash:016x}"));
        if hash.is_multiple_of(3) {
            time::sleep(Duration::from_millis(hash % 7)).await;
        }
        if hash.is_multiple_of(13) {
            return Err(Refusal::new("not this one"));
        }
        Ok(Bytes::from(key))
    }
}
