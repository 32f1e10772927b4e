//! What is measured over one backend. Every ack that comes is checked.

use std::{
    collections::VecDeque,
    error::Error,
    fmt,
    time::{Duration, Instant},
};

use network::{Bytes, ConnectError, Connection, Endpoint, Port, SendError};

use crate::{
    files::{File, Files},
    table::Progress,
};

/// How many records are un-acked at a time in the last part.
pub(crate) const IN_FLIGHT: usize = 64;

/// How many connections are opened, one after the other.
pub(crate) const CONNECTS: usize = 32;

/// How long each part takes at least; every part also sends every file once.
#[derive(Clone, Copy)]
pub(crate) struct Pace(Duration);

impl Pace {
    pub(crate) fn new(part: Duration) -> Self {
        Self(part)
    }
}

/// What came of one backend.
pub(crate) struct Figures {
    pub(crate) connect: Duration,
    pub(crate) round_trip_p50: Duration,
    pub(crate) round_trip_p99: Duration,
    pub(crate) records_per_second: f64,
    pub(crate) bytes_verified: u64,
    pub(crate) acks: u64,
}

pub(crate) async fn measure(
    client: &Port,
    server: &Endpoint,
    files: &Files,
    pace: Pace,
    progress: &mut Progress,
) -> Result<Figures, Box<dyn Error>> {
    let mut verified = Verified::default();

    progress.part("connecting");
    let connect = connects(client, server).await?;

    let connection = client.connect(server, ()).await?;
    progress.part("records one at a time");
    let mut round_trips = one_at_a_time(&connection, files, pace, &mut verified).await?;
    progress.part("records with 64 in flight");
    let records_per_second = in_flight(&connection, files, pace, &mut verified).await?;
    connection.close().await;

    Ok(Figures {
        connect,
        round_trip_p50: percentile(&mut round_trips, 50),
        round_trip_p99: percentile(&mut round_trips, 99),
        records_per_second,
        bytes_verified: verified.bytes,
        acks: verified.acks,
    })
}

/// The median time to open a connection.
async fn connects(client: &Port, server: &Endpoint) -> Result<Duration, ConnectError> {
    let mut times = Vec::with_capacity(CONNECTS);
    for _ in 0..CONNECTS {
        let started = Instant::now();
        let connection = client.connect(server, ()).await?;
        times.push(started.elapsed());
        connection.close().await;
    }
    Ok(percentile(&mut times, 50))
}

/// The round trips of records that are sent one by one: the handler's work is part of each.
async fn one_at_a_time(
    connection: &Connection,
    files: &Files,
    pace: Pace,
    verified: &mut Verified,
) -> Result<Vec<Duration>, Box<dyn Error>> {
    let mut times = Vec::new();
    let started = Instant::now();
    for file in files.in_turn() {
        if times.len() >= files.len() && started.elapsed() >= pace.0 {
            break;
        }
        let sent = Instant::now();
        let ack = connection.send(file.contents.clone()).await;
        times.push(sent.elapsed());
        verified.check(connection, file, ack)?;
    }
    Ok(times)
}

/// The records a second that one task gets acked.
async fn in_flight(
    connection: &Connection,
    files: &Files,
    pace: Pace,
    verified: &mut Verified,
) -> Result<f64, Box<dyn Error>> {
    let mut sent = 0;
    let mut waiting = VecDeque::with_capacity(IN_FLIGHT);
    let started = Instant::now();
    for file in files.in_turn() {
        if sent >= files.len() && started.elapsed() >= pace.0 {
            break;
        }
        if waiting.len() == IN_FLIGHT
            && let Some((file, ack)) = waiting.pop_front()
        {
            verified.check(connection, file, ack.await)?;
        }
        let permit = connection.reserve(file.contents.len()).await?;
        waiting.push_back((file, permit.send(file.contents.clone())?));
        sent += 1;
    }
    for (file, ack) in waiting {
        verified.check(connection, file, ack.await)?;
    }
    Ok(sent as f64 / started.elapsed().as_secs_f64())
}

/// Counts the acks that were as they must be.
#[derive(Default)]
struct Verified {
    acks: u64,
    bytes: u64,
}

impl Verified {
    fn check(
        &mut self,
        connection: &Connection,
        file: &File,
        ack: Result<Bytes, SendError>,
    ) -> Result<(), Box<dyn Error>> {
        let over = connection.remote_endpoint();
        let ack = ack.map_err(|error| format!("{} over {over}: {error}", file.name))?;
        if ack != file.sha256[..] {
            return Err(format!(
                "{} over {over}: the ack is {}, and the SHA-256 of the file is {}",
                file.name,
                Hex(&ack),
                Hex(&file.sha256),
            )
            .into());
        }
        self.acks += 1;
        self.bytes += file.contents.len() as u64;
        Ok(())
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times.get(at).copied().unwrap_or_default()
}
