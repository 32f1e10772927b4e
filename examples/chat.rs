//! A chat room. Everybody who joined is sent what anybody says, over the connections that
//! they opened: records go both ways on each.
//!
//! ```text
//! cargo run --example chat -- listen ENDPOINT
//! cargo run --example chat -- join ENDPOINT NAME
//! ```
//!
//! ENDPOINT is `/ip4/127.0.0.1/tcp/9000/port/chat`, for instance. A guest's name is the name of
//! the port that it connects from.

use std::{
    collections::HashMap,
    env,
    error::Error,
    io,
    process::ExitCode,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use network::{
    AnyHandler, Attempt, Bytes, CloseReason, Connection, ConnectionHandler, Endpoint,
    ListenHandler, Network, Port, Refusal, SendOptions,
};
use tokio::{sync::mpsc, task::JoinSet};

const USAGE: &str = "usage: chat listen ENDPOINT, or chat join ENDPOINT NAME";

#[tokio::main]
async fn main() -> ExitCode {
    match chat().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&*error),
    }
}

async fn chat() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let network = network::new()?;
    match args[..] {
        ["listen", endpoint] => listen(&network, endpoint).await,
        ["join", endpoint, name] => join(&network, &Endpoint::parse(endpoint)?, name).await,
        _ => Err(USAGE.into()),
    }
}

// ---- the room ------------------------------------------------------------------------

async fn listen(network: &Network, endpoint: &str) -> Result<(), Box<dyn Error>> {
    let port = network.bind(endpoint).await?;
    port.listen(Door(Arc::default())).await?;
    println!("listening at {}", port.local_endpoint());
    tokio::signal::ctrl_c().await?;
    network.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

/// Who is there, by name.
#[derive(Default)]
struct Room(Mutex<HashMap<String, Connection>>);

impl Room {
    fn guests(&self) -> MutexGuard<'_, HashMap<String, Connection>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a line to everybody else and counts who acks it.
    async fn tell(&self, from: &str, line: String) -> usize {
        let line = Bytes::from(line);
        let mut sends = JoinSet::new();
        for (name, guest) in self.guests().iter() {
            if name != from {
                let (guest, line) = (guest.clone(), line.clone());
                let options = SendOptions::default().with_timeout(Duration::from_secs(5));
                sends.spawn(async move { guest.send_with(line, options).await.is_ok() });
            }
        }
        sends.join_all().await.into_iter().filter(|heard| *heard).count()
    }
}

/// Decides who may come in.
struct Door(Arc<Room>);

impl ListenHandler for Door {
    async fn on_accept(&self, _: &Port, attempt: &Attempt) -> Result<AnyHandler, Refusal> {
        let name = name_of(&attempt.remote).ok_or_else(|| Refusal::new("guests have names"))?;
        if self.0.guests().contains_key(name) {
            return Err(Refusal::new(format!("{name} is here already, take another name")));
        }
        Ok(Guest { name: name.to_owned(), room: self.0.clone() }.into())
    }
}

/// The room's side of one connection.
struct Guest {
    name: String,
    room: Arc<Room>,
}

impl ConnectionHandler for Guest {
    async fn on_open(&self, connection: &Connection) {
        // The connection calls back: what others say is sent over it.
        let before = self.room.guests().insert(self.name.clone(), connection.clone());
        if let Some(before) = before {
            // Two of one name came at the same time.
            before.close().await;
        }
        println!("{} came from {}", self.name, connection.remote_endpoint());
        self.room.tell(&self.name, format!("* {} is here", self.name)).await;
    }

    async fn on_receive(&self, _: &Connection, line: Bytes) -> Result<Bytes, Refusal> {
        let line = std::str::from_utf8(&line)?;
        println!("{}: {line}", self.name);
        let heard = self.room.tell(&self.name, format!("{}: {line}", self.name)).await;
        Ok(Bytes::from(format!("heard by {heard}")))
    }

    async fn on_close(&self, connection: &Connection, reason: &CloseReason) {
        {
            let mut guests = self.room.guests();
            if guests.get(&self.name) != Some(connection) {
                return;
            }
            guests.remove(&self.name);
        }
        println!("{} left: {reason}", self.name);
        self.room.tell(&self.name, format!("* {} left", self.name)).await;
    }

    /// What one guest says reaches the others in the order in which it was said.
    fn one_at_a_time(&self) -> bool {
        true
    }
}

// ---- a guest -------------------------------------------------------------------------

async fn join(network: &Network, room: &Endpoint, name: &str) -> Result<(), Box<dyn Error>> {
    let port = network.bind(own_endpoint(room, name)).await?;
    let connection = port.connect(room, Screen).await?;
    println!("joined as {name}: type what to say");
    let mut lines = lines_of_stdin();
    loop {
        tokio::select! {
            reason = connection.closed() => return Err(format!("the room is gone: {reason}").into()),
            line = lines.recv() => match line {
                Some(line) => {
                    let ack = connection.send(line).await?;
                    println!("({})", String::from_utf8_lossy(&ack));
                }
                None => break,
            },
        }
    }
    connection.close().await;
    Ok(())
}

/// Prints what the room sends.
struct Screen;

impl ConnectionHandler for Screen {
    async fn on_receive(&self, _: &Connection, line: Bytes) -> Result<Bytes, Refusal> {
        println!("{}", String::from_utf8_lossy(&line));
        Ok(Bytes::new())
    }
}

/// Reads on a thread of its own, which holds up nothing when the program ends.
fn lines_of_stdin() -> mpsc::Receiver<String> {
    let (lines, received) = mpsc::channel(16);
    thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    received
}

// ---- names ---------------------------------------------------------------------------

/// The endpoint of a guest's port, of the backend that takes `room`.
fn own_endpoint(room: &Endpoint, name: &str) -> String {
    match room.components().next().map(|first| first.protocol) {
        Some("ip6") => format!("/ip6/::1/tcp/0/port/{name}"),
        Some("ip4" | "dns" | "dns4" | "dns6") => format!("/ip4/127.0.0.1/tcp/0/port/{name}"),
        _ => format!("/local/{name}"),
    }
}

/// What the guest's port is called. It says so itself: nothing proves it.
fn name_of(guest: &Endpoint) -> Option<&str> {
    guest.value_of("port").or_else(|| guest.value_of("local"))
}

/// Says what went wrong, and why.
fn failed(error: &dyn Error) -> ExitCode {
    eprintln!("error: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        eprintln!("  because {cause}");
        source = cause.source();
    }
    ExitCode::FAILURE
}
