//! A host that sends over channels of a module and of a port until it is killed.
//!
//! What it writes down it does after the block is stored: a line that is there has happened.

use std::{
    env,
    fs::File,
    io::{BufRead as _, Write as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use network_core::{Delivery, Refusal, handler_fn};

use super::{super::*, EACH, KILLS, Random};
use crate::{Context, LedgerKey, Module, ModuleChannel};

pub(super) const FOLDER: &str = "KILLS_CHILD_FOLDER";
pub(super) const JOURNAL: &str = "KILLS_CHILD_JOURNAL";
pub(super) const RPC: &str = "KILLS_CHILD_RPC";
pub(super) const RUN: &str = "KILLS_CHILD_RUN";
pub(super) const SEED: &str = "KILLS_CHILD_SEED";

pub(super) const ORDERS: [&str; 2] = ["ordered", "unordered"];

/// How long a channel that an earlier process has begun may take before another one is begun.
const RESUMED: Duration = Duration::from_secs(4);

/// How many records a run sends from its port at most.
pub(super) const FROM_PORT: usize = 30;

/// A line for each thing that happened, by one call: a process that is killed has written it or not.
#[derive(Clone)]
pub(super) struct Journal(Arc<File>);

impl Journal {
    pub(super) fn new(path: &Path) -> Self {
        Self(Arc::new(File::options().create(true).append(true).open(path).unwrap()))
    }

    fn line(&self, line: impl std::fmt::Display) {
        (&*self.0).write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

/// Sends numbers over a channel of each kind, and keeps what came of each.
struct Numbers(Journal);

impl Numbers {
    /// Keeps that something has happened to a number, and says so where that may not be.
    fn happened(
        &self,
        context: &mut Context<'_>,
        what: &'static str,
        channel: &ModuleChannel,
        record: &[u8],
    ) {
        let Ok(number) = record.try_into().map(u32::from_be_bytes) else {
            return self.wrong(context, format!("{what} {record:?}"));
        };
        let order = channel.order.as_str();
        let key = format!("{what}/{order}/{number:06}");
        if context.get(&key).is_some() {
            self.wrong(context, format!("{key} twice"));
        }
        context.set(&key, b"|".as_slice());
        let last = format!("last/{what}/{order}");
        let due = context.get(&last).map_or(0, |last| number_of(&last) + 1);
        if order == "ordered" && due != number {
            self.wrong(context, format!("{key} instead of {due}"));
        }
        context.set(last, number.to_be_bytes().to_vec());
        self.say(context, key);
    }

    fn wrong(&self, context: &mut Context<'_>, what: String) {
        context.set(format!("wrong/{what}"), b"|".as_slice());
        self.say(context, format!("wrong {what}"));
    }

    fn say(&self, context: &mut Context<'_>, line: String) {
        let journal = self.0.clone();
        context.once_stored(move || journal.line(line));
    }
}

impl Module for Numbers {
    fn on_open(
        &mut self,
        context: &mut Context<'_>,
        channel: &ModuleChannel,
    ) -> Result<(), Refusal> {
        let key = format!("channel/{}", channel.order);
        if context.get(&key).is_some() {
            return Err(Refusal::new("one was begun by each of two processes"));
        }
        context.set(&key, channel.channel.as_str().as_bytes().to_vec());
        self.say(context, format!("channel {} {}", channel.order, channel.channel));
        Ok(())
    }

    fn on_receive(
        &mut self,
        context: &mut Context<'_>,
        channel: &ModuleChannel,
        record: &Bytes,
    ) -> Result<Bytes, Refusal> {
        self.happened(context, "back", channel, record);
        Ok(Bytes::from_static(b"well"))
    }

    fn on_ack(
        &mut self,
        context: &mut Context<'_>,
        channel: &ModuleChannel,
        _: u64,
        record: &Bytes,
        ack: Result<Bytes, Refusal>,
    ) {
        if ack.as_ref().is_ok_and(|ack| ack == OK) {
            self.happened(context, "acked", channel, record);
        } else {
            self.wrong(context, format!("{record:?} has the ack {ack:?}"));
        }
    }

    fn on_timeout(&mut self, context: &mut Context<'_>, _: &ModuleChannel, _: u64, record: &Bytes) {
        self.wrong(context, format!("{record:?} has timed out"));
    }

    fn on_close(&mut self, context: &mut Context<'_>, channel: &ModuleChannel) {
        let key = format!("channel/{}", channel.order);
        if context.get(key).is_some_and(|open| open == channel.channel.as_str()) {
            self.wrong(context, format!("{} is closed", channel.channel));
        }
    }
}

fn number_of(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(0, u32::from_be_bytes)
}

fn port() -> PortId {
    PortId::known("numbers")
}

/// How many keys of the module begin so.
pub(super) async fn count(host: &Host, prefix: String) -> u32 {
    let count = move |_: &mut Numbers, context: &mut Context<'_>| {
        let (mut found, mut from) = (0, prefix.clone().into_bytes());
        while let Some((key, _)) = context.next(prefix.as_bytes(), &from) {
            from = [&key[..], &[0]].concat();
            found += 1;
        }
        Ok::<_, HostError>(found)
    };
    host.with_module(&port(), count).await.unwrap()
}

/// What the module has at a key.
async fn value(host: &Host, key: String) -> Option<Bytes> {
    let get =
        move |_: &mut Numbers, context: &mut Context<'_>| Ok::<_, HostError>(context.get(key));
    host.with_module(&port(), get).await.unwrap()
}

/// The chain's end of the module's channel of an order.
pub(super) async fn other_end(host: &Host, order: &str) -> ChannelId {
    let key = format!("channel/{order}");
    let get = move |_: &mut Numbers, context: &mut Context<'_>| {
        let channel = context.get(key).unwrap();
        let channel = ChannelId::known(std::str::from_utf8(&channel).unwrap());
        Ok::<_, HostError>(context.channel(&channel).unwrap().counterparty.unwrap())
    };
    host.with_module(&port(), get).await.unwrap()
}

pub(super) fn opened(folder: &Path, journal: Journal) -> Host {
    let builder = Host::builder("host").module("numbers", Numbers(journal)).unwrap();
    builder.open(folder, LedgerKey::from_seed(&[3; 32]).unwrap()).unwrap()
}

pub(super) fn main() {
    let Ok(folder) = env::var(FOLDER) else { return };
    let var = |name| env::var(name).unwrap();
    let journal = Journal::new(var(JOURNAL).as_ref());
    let run: u64 = var(RUN).parse().unwrap();
    let random = Random::new(var(SEED).parse::<u64>().unwrap() ^ (run << 8));
    let told = Arc::new(AtomicBool::new(false));
    let tell = told.clone();
    std::thread::spawn(move || {
        let mut line = String::new();
        let asked = std::io::stdin().lock().read_line(&mut line);
        if asked.is_ok_and(|length| length > 0) {
            return tell.store(true, SeqCst);
        }
        // Whoever started this is gone.
        std::process::exit(1);
    });
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(live(folder.as_ref(), &var(RPC), run, random, journal, told));
}

async fn live(
    folder: &Path,
    rpc: &str,
    run: u64,
    mut random: Random,
    journal: Journal,
    told: Arc<AtomicBool>,
) {
    journal.line(format_args!("run {run}"));
    let host = opened(folder, journal.clone());
    let hop = loop {
        match host.connect_chain(ChainConfig::new(rpc, key(0))).await {
            Ok(hop) => break hop,
            Err(error) => journal.line(format_args!("# no hop: {error}")),
        }
    };
    journal.line(format_args!("hop {} of {}", hop.connection, host.hops().len()));
    let from_port = tokio::spawn(send_from_port(host.clone(), hop.clone(), run, journal.clone()));
    let channels = [channel(&host, &hop, 0).await, channel(&host, &hop, 1).await];
    let until = u32::try_from(run + 1).unwrap().min(KILLS + 1) * EACH / (KILLS + 1);
    let mut last = false;
    while !last {
        time::sleep(Duration::from_millis(random.below(30))).await;
        let most = u32::try_from(random.below(20)).unwrap();
        last = true;
        for (order, channel) in ORDERS.into_iter().zip(channels.clone()) {
            last &= send(&host, order, channel, most, until).await >= until;
        }
    }
    from_port.await.unwrap();
    while !told.load(SeqCst) {
        let mut done = true;
        for what in ["acked", "back"] {
            done &= count(&host, format!("{what}/")).await == 2 * EACH;
        }
        if done {
            journal.line("done");
        }
        time::sleep(Duration::from_millis(100)).await;
    }
    host.end().await;
}

/// The module's channel of an order: that of an earlier process, or a new one.
async fn channel(host: &Host, hop: &Hop, order: usize) -> ChannelId {
    let order = ORDERS[order];
    let key = format!("channel/{order}");
    let begun = format!("begun/{order}");
    let there = async || value(host, key.clone()).await;
    if value(host, begun.clone()).await.is_some() {
        let wait = async {
            while there().await.is_none() {
                time::sleep(Duration::from_millis(20)).await;
            }
        };
        let _ = time::timeout(RESUMED, wait).await;
    }
    loop {
        if let Some(channel) = there().await {
            return ChannelId::known(std::str::from_utf8(&channel).unwrap());
        }
        let begins = begun.clone();
        let begin = move |_: &mut Numbers, context: &mut Context<'_>| {
            context.set(begins, b"|".as_slice());
            Ok::<_, HostError>(())
        };
        host.with_module(&port(), begin).await.unwrap();
        let remote = format!("/ibc-hop/{}/ibc-port/mock/{order}/any", hop.connection);
        // It may be refused as there is one by then.
        let _ = host.open_channel(&port(), &remote).await;
    }
}

/// Sends up to `most` numbers, but none from `until` on; gives the next one.
async fn send(host: &Host, order: &'static str, channel: ChannelId, most: u32, until: u32) -> u32 {
    let send = move |numbers: &mut Numbers, context: &mut Context<'_>| {
        let key = format!("next/{order}");
        let from = context.get(&key).map_or(0, |next| number_of(&next));
        let to = (from + most).min(until).max(from);
        for number in from..to {
            let record = number.to_be_bytes().to_vec();
            context.send(&channel, record, Duration::from_secs(3_600))?;
        }
        context.set(&key, to.to_be_bytes().to_vec());
        numbers.say(context, format!("sent {order} {to}"));
        Ok::<_, HostError>(to)
    };
    host.with_module(&port(), send).await.unwrap()
}

/// Sends from a port, whose channels end with the process.
async fn send_from_port(host: Host, hop: Hop, run: u64, journal: Journal) {
    let order = ORDERS[usize::try_from(run % 2).unwrap()];
    let local = bound(&host, "/ibc-port/me").await;
    let (told, (tell, mut handled)) = (journal.clone(), mpsc::unbounded_channel());
    let handler = handler_fn(move |record: Bytes| {
        told.line(format_args!("handled {}", String::from_utf8_lossy(&record)));
        let _ = tell.send(());
        async { Ok(Bytes::from_static(b"well")) }
    });
    let remote = format!("/ibc-hop/{}/ibc-port/mock/{order}/any", hop.connection);
    // It waits behind what the module has to say.
    let connection = loop {
        match local.connect(remote.as_str(), handler.clone()).await {
            Ok(connection) => break connection,
            Err(error) => journal.line(format_args!("# no connection: {error}")),
        }
    };
    let there = connection.remote_endpoint().as_str().rsplit('/').next().unwrap().to_owned();
    journal.line(format_args!("open {order} {there}"));
    let sends = (0..FROM_PORT).map(|number| {
        let (record, there) = (format!("{run}/{number:03}"), &there);
        journal.line(format_args!("send {there} {record}"));
        let (journal, acked) = (&journal, connection.send(record.clone()));
        async move {
            match acked.await {
                Ok(ack) if ack == OK => journal.line(format_args!("ack {there} {record}")),
                Ok(ack) => journal.line(format_args!("wrong ack of {record}: {ack:?}")),
                Err(error) => {
                    let fate = match error.delivery() {
                        Delivery::NotDelivered => "not-delivered",
                        Delivery::Delivered => "delivered",
                        Delivery::Unknown => "unknown",
                    };
                    journal.line(format_args!("fail {fate} {record} {error}"));
                }
            }
        }
    });
    futures_util::future::join_all(sends).await;
    for _ in 0..FROM_PORT {
        within(handled.recv()).await;
    }
    journal.line("all from the port");
    connection.close().await;
}
