//! A host and a chain that runs ibc-go, with a block every 200 ms.
//!
//! `cargo run --release -p network-bench --example ibc_with_a_chain -- [SECONDS]`
//!
//! Needs Go, which builds the chain when it is first needed. Latencies are in blocks of the chain,
//! as it is what they wait for.

use std::{
    env, fs,
    time::{Duration, Instant},
};

use network::Network;
use network_ibc::{
    ChainConfig, ChainKey, Host,
    transfer::{self, Send, Tokens, Transfer, U256},
};
use network_interop::{Chain, MNEMONIC, Settings};
use tokio::time::sleep;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// How many records are sent one after the other.
const RECORDS: usize = 100;
/// How many packets of tokens are sent at once.
const PACKETS: usize = 500;
/// How long nothing is done.
const IDLE: Duration = Duration::from_secs(15);

/// Says what it costs to do nothing.
async fn idle(when: &str) -> Result<()> {
    sleep(Duration::from_secs(2)).await;
    let ((before, _), began) = (used()?, Instant::now());
    sleep(IDLE).await;
    let (after, resident) = used()?;
    let share = (after - before) / began.elapsed().as_secs_f64() * 100.0;
    println!("idle {when}: {share:.2} % of a core, {resident:.0} MB");
    Ok(())
}

/// How much processor time this process has used, in seconds, and its memory in MB.
fn used() -> Result<(f64, f64)> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no stat")?;
    let steps = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    let seconds = steps.sum::<Result<f64, _>>()? / 100.0;
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let resident = line.trim_end_matches("kB").trim().parse::<f64>()? / 1024.0;
    Ok((seconds, resident))
}

#[tokio::main]
async fn main() -> Result<()> {
    let seconds = env::args().nth(1).map_or(Ok(20), |text| text.parse())?;
    let chain =
        Chain::start(Settings { block_time: Duration::from_millis(200), ..Settings::default() })?;
    // How long a block really takes.
    let (began, first) = (Instant::now(), chain.height().ok_or("no height")?);
    sleep(Duration::from_secs(5)).await;
    let made = chain.height().ok_or("no height")? - first;
    let block = began.elapsed().div_f64(made as f64);
    let blocks = |time: Duration| time.as_secs_f64() / block.as_secs_f64();
    println!("a block takes {block:.1?}");

    let key = ChainKey::from_mnemonic(MNEMONIC)?;
    let host = Host::builder("bench").module(transfer::PORT, Transfer::new())?.in_memory()?;
    let began = Instant::now();
    let hop = host.connect_chain(ChainConfig::new(&chain.rpc(), key)).await?;
    let hopped = began.elapsed();
    let port = Network::builder().protocol(host.clone()).build()?.bind("/ibc-port/bench").await?;
    let remote = format!("/ibc-hop/{}/ibc-port/mock/unordered/any", hop.connection);
    let connection = port.connect(remote.as_str(), ()).await?;
    let opened = began.elapsed();
    println!("from nothing to a hop {hopped:.1?}, {:.1} blocks", blocks(hopped));
    println!("from nothing to a channel {opened:.1?}, {:.1} blocks", blocks(opened));

    idle("with one channel").await?;

    let mut acks = Vec::new();
    for number in 0..RECORDS {
        let began = Instant::now();
        connection.send(vec![number as u8; 200]).await?;
        acks.push(began.elapsed());
    }
    acks.sort();
    let (p50, p99) = (acks[RECORDS / 2], acks[RECORDS * 99 / 100]);
    println!(
        "an ack p50 {p50:.1?}, {:.1} blocks; p99 {p99:.1?}, {:.1} blocks",
        blocks(p50),
        blocks(p99)
    );

    let tokens = Tokens::of(&host);
    tokens.mint("alice", "apple", U256::from(u64::MAX)).await?;
    let channel = tokens.open(&hop.connection).await?.channel;
    let receiver = ChainKey::from_mnemonic_at(MNEMONIC, "m/44'/118'/0'/0/1")?.address();
    let send = || Send::new(channel.clone(), "alice", &*receiver, "apple", U256::from(1));
    let began = Instant::now();
    let mut sent = Vec::new();
    for _ in 0..PACKETS {
        sent.push(tokens.send(send()).await?);
    }
    for sent in sent {
        sent.outcome().await?;
    }
    println!("{PACKETS} packets of ICS-20 acknowledged in {:.1?}", began.elapsed());

    // As many as come back, without end.
    let (began, mut done) = (Instant::now(), 0_usize);
    let mut under_way = tokio::task::JoinSet::new();
    while began.elapsed() < Duration::from_secs(seconds) {
        while under_way.len() < 4 * PACKETS {
            let sent = tokens.send(send()).await?;
            under_way.spawn(sent.outcome());
        }
        if let Some(outcome) = under_way.join_next().await {
            outcome??;
            done += 1;
        }
    }
    println!(
        "over {seconds} s {:.0} packets of ICS-20 a second, acknowledged",
        done as f64 / began.elapsed().as_secs_f64()
    );
    while under_way.join_next().await.is_some() {}

    idle("with all of that behind it").await
}
