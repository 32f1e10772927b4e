//! Connects a host to a chain that runs ibc-go, opens a channel to one of its ports, and sends a
//! record:
//!
//! ```text
//! cargo run --release --example ibc_chain --features ibc-chain -- --rpc URL --key FILE
//! ```
//!
//! With `--help` it says which options there are, with `--check` it only looks. Else the account
//! pays for what is made on the chain: a client of this host, a connection and a channel.

use std::{
    env,
    error::Error,
    future::Future,
    io::{IsTerminal, Write, stderr},
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use network::{
    Bytes, Connection, ConnectionHandler, Network, Refusal, SendError,
    ibc::{ChainConfig, ChainKey, GasPrice, Host, Order, PortId, TxSettings, Version, preflight},
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

const USAGE: &str = "\
usage: ibc_chain --rpc URL --key FILE [OPTION VALUE]...

  --rpc URL           the RPC of a node, such as https://rpc.example.org:443
  --key FILE          64 hexadecimal digits or the words of a mnemonic; chmod 600
  --prefix TEXT       how addresses of the chain begin           (cosmos)
  --gas-price PRICE   such as 0.025uatom                         (nothing is paid)
  --max-gas-price PRICE
                      up to what is paid when the chain wants more
  --chain ID          refuse any other chain
  --port NAME         the chain's port to connect to             (mock)
  --order ORDER       ordered or unordered                       (ordered)
  --version TEXT      the version of the channel                 (any)
  --message TEXT      the record to send                         (hello)
  --check             look whether it would work, and make nothing

`mock` is a port of test chains. Every chain has `transfer`, with
  --port transfer --order unordered --version ics20-1
which takes records that are tokens, and refuses any other.";

/// How long a channel may take to open, and the record to be acknowledged.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long is waited for a record from the chain.
const LISTEN: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => failed(&*error),
    }
}

/// Says whether all went well.
async fn run() -> Result<bool, Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{USAGE}");
        return Ok(true);
    }
    let options = Options::read(args.into_iter())?;
    let config = options.config()?;
    let began = Instant::now();

    println!("preflight");
    let report = step("asking the node", preflight(&config)).await;
    report.to_string().lines().for_each(|line| println!("  {line}"));
    if options.check || !report.is_good() {
        return Ok(report.is_good());
    }

    println!("hop");
    let host = Host::in_memory("ibc-chain-example")?;
    // Boxed: much is done on the way.
    let connecting = Box::pin(host.connect_chain(config));
    let hop = step("making clients and a connection", async {
        tokio::join!(connecting, clients_made(&host)).0
    });
    let (hop, took) = timed(hop).await;
    let hop = hop?;
    let there = hop.counterparty.as_ref().map_or("?", |connection| connection.as_str());
    done(took, format_args!("{} to {}'s {there} is open", hop.connection, hop.chain));

    println!("channel");
    let port = Network::builder().protocol(host.clone()).build()?.bind("/ibc-port/example").await?;
    let Options { port: there, order, version, message, .. } = &options;
    let version = version.escape();
    let remote = format!("/ibc-hop/{}/ibc-port/{there}/{order}/{version}", hop.connection);
    let (heard, mut records) = mpsc::unbounded_channel();
    let open = timeout(PATIENCE, port.connect(remote.as_str(), Heard(heard)));
    let (connection, took) = timed(step("opening", open)).await;
    let connection = connection.map_err(|_| "the chain did not open the channel in time")??;
    done(took, format_args!("open to {}", connection.remote_endpoint()));

    println!("record");
    let send = timeout(PATIENCE, connection.send(message.clone()));
    let (ack, took) = timed(step("waiting for the acknowledgement", send)).await;
    let taken = match ack.map_err(|_| "the chain did not acknowledge the record in time")? {
        Ok(ack) => {
            done(took, format_args!("{message:?} is acknowledged: {}", text(&ack)));
            true
        }
        Err(SendError::Refused(why)) => {
            done(took, format_args!("{message:?} is refused by the chain: {}", why.text()));
            false
        }
        Err(error) => return Err(error.into()),
    };
    if taken {
        let answer = timeout(LISTEN, records.recv());
        match timed(step("listening for records from the chain", answer)).await {
            (Ok(Some(record)), took) => {
                done(took, format_args!("the chain has sent {:?}", text(&record)));
            }
            (_, took) => done(took, format_args!("the chain has sent nothing")),
        }
    }
    println!("done in {:.2} s", began.elapsed().as_secs_f32());
    host.end().await;
    Ok(taken)
}

/// Tells when each has a client of the other: the connection begins then.
async fn clients_made(host: &Host) {
    let began = Instant::now();
    // No longer than the hop may take.
    while began.elapsed() < PATIENCE {
        if !host.hops().is_empty() {
            done(began.elapsed(), format_args!("each has a client of the other"));
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Keeps what the chain sends.
struct Heard(mpsc::UnboundedSender<Bytes>);

impl ConnectionHandler for Heard {
    async fn on_receive(&self, _: &Connection, record: Bytes) -> Result<Bytes, Refusal> {
        self.0.send(record)?;
        Ok(Bytes::from_static(b"heard"))
    }
}

// ---- options -------------------------------------------------------------------------

struct Options {
    rpc: String,
    key: String,
    prefix: String,
    tx: TxSettings,
    chain: Option<String>,
    port: PortId,
    order: Order,
    version: Version,
    message: String,
    check: bool,
}

impl Options {
    fn read(mut args: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let (mut rpc, mut key) = (None, None);
        let mut options = Self {
            rpc: String::new(),
            key: String::new(),
            prefix: "cosmos".to_owned(),
            tx: TxSettings::default(),
            chain: None,
            port: PortId::new("mock")?,
            order: Order::Ordered,
            version: Version::new("any")?,
            message: "hello".to_owned(),
            check: false,
        };
        while let Some(option) = args.next() {
            let mut value = || args.next().ok_or(format!("{option} needs a value\n\n{USAGE}"));
            match option.as_str() {
                "--rpc" => rpc = Some(value()?),
                "--key" => key = Some(value()?),
                "--prefix" => options.prefix = value()?,
                "--gas-price" => options.tx.gas_price = price(&value()?)?,
                "--max-gas-price" => options.tx.max_gas_price = Some(price(&value()?)?),
                "--chain" => options.chain = Some(value()?),
                "--port" => options.port = PortId::new(&value()?)?,
                "--order" => {
                    options.order = match value()?.as_str() {
                        "ordered" => Order::Ordered,
                        "unordered" => Order::Unordered,
                        other => return Err(format!("{other:?} is no order\n\n{USAGE}").into()),
                    }
                }
                "--version" => options.version = Version::new(&value()?)?,
                "--message" => options.message = value()?,
                "--check" => options.check = true,
                other => return Err(format!("there is no option {other}\n\n{USAGE}").into()),
            }
        }
        let missing = |name| move || format!("{name} is missing\n\n{USAGE}");
        options.rpc = rpc.ok_or_else(missing("--rpc"))?;
        options.key = key.ok_or_else(missing("--key"))?;
        Ok(options)
    }

    fn config(&self) -> Result<ChainConfig, Box<dyn Error>> {
        let key = ChainKey::from_file(Path::new(&self.key))?.with_prefix(&self.prefix)?;
        let mut config = ChainConfig::new(&self.rpc, key);
        config.id.clone_from(&self.chain);
        Ok(config.with_tx(self.tx.clone()))
    }
}

fn price(text: &str) -> Result<GasPrice, String> {
    GasPrice::parse(text).ok_or_else(|| format!("{text:?} is no price: write it like 0.025uatom"))
}

// ---- what is printed -----------------------------------------------------------------

/// Shows on a terminal what is waited for, and for how long.
async fn step<T>(what: &str, step: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let waiting = async {
        loop {
            if stderr().is_terminal() {
                eprint!("\r  {:6.2} s  {what} ...", began.elapsed().as_secs_f32());
                let _ = stderr().flush();
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    let outcome = tokio::select! {
        biased;
        outcome = step => outcome,
        () = waiting => unreachable!("it waits for ever"),
    };
    clear();
    outcome
}

/// Clears what `step` shows.
fn clear() {
    if stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}

fn done(took: Duration, what: std::fmt::Arguments<'_>) {
    clear();
    println!("  {:6.2} s  {what}", took.as_secs_f32());
}

async fn timed<T>(what: impl Future<Output = T>) -> (T, Duration) {
    let began = Instant::now();
    (what.await, began.elapsed())
}

/// What may be shown on a terminal, whatever the chain has sent.
fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().take(200).filter(|letter| !letter.is_control()).collect()
}

/// Says what went wrong, and why.
fn failed(error: &dyn Error) -> ExitCode {
    clear();
    eprintln!("error: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        eprintln!("  because {cause}");
        source = cause.source();
    }
    ExitCode::FAILURE
}
