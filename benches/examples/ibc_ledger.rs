//! What a packet that waits costs a host, and how long the host takes to be opened again.
//!
//! `cargo run --release -p network-bench --example ibc_ledger -- [PACKETS] [BYTES]`
//!
//! A module sends packets to a host that has gone: each is a commitment in the tree, and kept for
//! the relayer. Then the host is opened again by a process of its own. Before that, records go one
//! by one between two hosts that last, and their blocks are counted.

use std::{
    env, fs,
    path::Path,
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use network::Refusal;
use network::loopback::Loopback;
use network::{Bytes, Network};
use network_ibc::{Context, Host, HostError, LedgerKey, Module, ModuleChannel, PortId};

/// How many records go one by one.
const RECORDS: u32 = 500;

/// Counts the blocks that all hosts make.
struct Blocks;

static MADE: AtomicU64 = AtomicU64::new(0);

impl tracing::Subscriber for Blocks {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "network_ibc::ledger" && metadata.is_event()
    }

    fn event(&self, _: &tracing::Event<'_>) {
        MADE.fetch_add(1, Ordering::Relaxed);
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

struct Sender;

impl Module for Sender {
    fn on_receive(
        &mut self,
        _: &mut Context<'_>,
        _: &ModuleChannel,
        _: &Bytes,
    ) -> Result<Bytes, Refusal> {
        Err(Refusal::new("nothing is to come here"))
    }
}

/// What this process has in memory, in bytes.
fn resident() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim_end_matches("kB").trim().parse::<f64>()? * 1024.0)
}

fn size(path: &Path) -> Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(path)? {
        let (path, about) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)))?;
        size += if about.is_dir() { self::size(&path)? } else { about.len() };
    }
    Ok(size)
}

fn host(path: &Path) -> Result<Host> {
    let key = LedgerKey::from_seed(&[1; 32])?;
    Ok(Host::builder("alpha").module("sender", Sender)?.open(path, key)?)
}

fn port() -> Result<PortId> {
    Ok(PortId::new("sender")?)
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    if let [flag, path] = &arguments[..]
        && flag == "--open"
    {
        return open(Path::new(path)).await;
    }
    let number =
        |at: usize, otherwise| arguments.get(at).map_or(Ok(otherwise), |text| text.parse());
    let (packets, bytes): (usize, usize) = (number(0, 1_000_000)?, number(1, 256)?);
    let folder = env::temp_dir().join(format!("network-ibc-ledger-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    one_by_one(&folder).await?;
    let outcome = fill(&folder.join("alpha"), packets, bytes).await;
    let opened = match &outcome {
        Ok(()) => {
            Command::new(env::current_exe()?).arg("--open").arg(folder.join("alpha")).status()
        }
        Err(_) => Ok(Default::default()),
    };
    fs::remove_dir_all(&folder)?;
    outcome?;
    if opened?.success() { Ok(()) } else { Err("the host was not opened again".into()) }
}

/// Sends records one after the other, between hosts in memory and between hosts that last.
async fn one_by_one(folder: &Path) -> Result<()> {
    tracing::subscriber::set_global_default(Blocks)?;
    let last = |chain: &str, seed| -> Result<Host> {
        let path = folder.join("one-by-one").join(chain);
        fs::create_dir_all(&path)?;
        Ok(Host::open(path, chain, LedgerKey::from_seed(&[seed; 32])?)?)
    };
    let in_memory = (Host::in_memory("one")?, Host::in_memory("two")?);
    let lasting = (last("one", 1)?, last("two", 2)?);
    for (kind, (one, two)) in [("in memory", in_memory), ("on disk", lasting)] {
        let way = Network::builder().protocol(Loopback::new()).build()?;
        two.serve(&way.bind("/local/two").await?).await?;
        let hop = one.connect_hop(&way.bind("/local/").await?, "/local/two").await?.connection;
        let server = Network::builder().protocol(two).build()?.bind("/ibc-port/two").await?;
        server.listen(network::accept_all(())).await?;
        let client = Network::builder().protocol(one).build()?.bind("/ibc-port/one").await?;
        let remote = format!("/ibc-hop/{hop}/ibc-port/two/ordered/any");
        let connection = client.connect(remote.as_str(), ()).await?;
        connection.send(vec![7; 256]).await?;
        let (before, began) = (MADE.load(Ordering::Relaxed), Instant::now());
        for _ in 0..RECORDS {
            connection.send(vec![7; 256]).await?;
        }
        let each = began.elapsed() / RECORDS;
        let blocks = (MADE.load(Ordering::Relaxed) - before) as f64 / f64::from(RECORDS);
        println!("one record at a time, {kind:<9} {each:>8.0?}, {blocks:.1} blocks of both hosts");
    }
    Ok(())
}

async fn fill(folder: &Path, packets: usize, bytes: usize) -> Result<()> {
    let way = Network::builder().protocol(Loopback::new()).build()?;
    let alpha = host(folder)?;
    let beta = Host::builder("beta").module("sender", Sender)?.in_memory()?;
    let served = way.bind("/local/beta").await?;
    beta.serve(&served).await?;
    let hop = alpha.connect_hop(&way.bind("/local/").await?, "/local/beta").await?.connection;
    let remote = format!("/ibc-hop/{hop}/ibc-port/sender/unordered/any");
    let channel = alpha.open_channel(&port()?, &remote).await?.channel;
    served.revoke().await?;
    drop(beta);

    let (before, began) = (resident()?, Instant::now());
    const TOGETHER: usize = 1_000;
    for _ in 0..packets.div_ceil(TOGETHER) {
        let channel = channel.clone();
        alpha
            .with_module(&port()?, move |_: &mut Sender, context: &mut Context<'_>| {
                for _ in 0..TOGETHER {
                    context.send(&channel, vec![7; bytes], Duration::from_secs(86_400))?;
                }
                Ok::<_, HostError>(())
            })
            .await?;
    }
    let (elapsed, count) = (began.elapsed(), packets as f64);
    println!("{packets} packets of {bytes} bytes wait, in blocks of {TOGETHER}");
    println!("  sent and stored   {:>8.0} packets/s", count / elapsed.as_secs_f64());
    println!("  in memory         {:>8.0} bytes a packet", (resident()? - before) / count);
    alpha.end().await;
    println!("  on disk           {:>8.0} bytes a packet", size(folder)? as f64 / count);
    Ok(())
}

async fn open(folder: &Path) -> Result<()> {
    let (before, began) = (resident()?, Instant::now());
    let host = host(folder)?;
    // Answered once all is there.
    host.with_module(&port()?, |_: &mut Sender, _: &mut Context<'_>| Ok::<_, HostError>(()))
        .await?;
    println!("  opened again in   {:>8.2} s", began.elapsed().as_secs_f64());
    println!("  then in memory    {:>8.0} MB", (resident()? - before) / 1e6);
    Ok(())
}
