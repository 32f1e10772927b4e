//! Pipelined records over ZeroMQ, measured on command.
//!
//! Reads lines `zeromq flow 1 WINDOW SIZE MS` and answers each with a line: the records a second
//! that one DEALER reached against one ROUTER over TCP on 127.0.0.1, each on a thread of its own
//! beside libzmq's. Every run has fresh sockets. It ends when its input does.

use std::error::Error;
use std::io::{BufRead, Write};
use std::thread;
use std::time::{Duration, Instant};

use zmq::{Context, DEALER, DONTWAIT, ROUTER, SNDMORE, Socket};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// How long a socket waits before the run counts as stuck.
const STUCK_MS: i32 = 20_000;

fn main() -> Result<()> {
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["zeromq", "flow", "1", window, size, ms] = words[..] else {
            return Err(format!("no such command: {line}").into());
        };
        let time = Duration::from_millis(ms.parse()?);
        println!("{}", run(window.parse()?, size.parse()?, time)?);
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// The records a second that came back acked, after a warm-up of a quarter of the time.
fn run(window: usize, size: usize, time: Duration) -> Result<f64> {
    let context = Context::new();
    let router = socket(&context, ROUTER)?;
    router.bind("tcp://127.0.0.1:*")?;
    let address = router
        .get_last_endpoint()?
        .map_err(|_| "the address is not text")?;
    let server = thread::spawn(move || answer(&router));
    let dealer = socket(&context, DEALER)?;
    dealer.connect(&address)?;

    let record: Vec<u8> = (0..size).map(|at| (at * 31 + 7) as u8).collect();
    let mut flow = Flow {
        dealer,
        expected: look_at(&record),
        record,
        window,
        in_flight: 0,
    };
    flow.run_for(time / 4)?;
    let start = Instant::now();
    let acked = flow.run_for(time)?;
    let elapsed = start.elapsed();
    flow.drain()?;
    flow.dealer.send("", 0)?;
    server.join().map_err(|_| "the server panicked")??;
    Ok(acked as f64 / elapsed.as_secs_f64())
}

fn socket(context: &Context, kind: zmq::SocketType) -> Result<Socket> {
    let socket = context.socket(kind)?;
    socket.set_sndhwm(0)?;
    socket.set_rcvhwm(0)?;
    socket.set_linger(0)?;
    socket.set_rcvtimeo(STUCK_MS)?;
    socket.set_sndtimeo(STUCK_MS)?;
    Ok(socket)
}

/// Acks every record until an empty one.
fn answer(router: &Socket) -> Result<()> {
    loop {
        let from = router.recv_msg(0)?;
        let record = router.recv_msg(0)?;
        if record.is_empty() {
            return Ok(());
        }
        router.send(from, SNDMORE)?;
        router.send(&[look_at(&record)][..], 0)?;
    }
}

/// What every handler of the benchmarks does with a record; its ack is this byte.
fn look_at(record: &[u8]) -> u8 {
    record[0]
        .wrapping_add(record[record.len() - 1])
        .wrapping_add(0xAC)
}

struct Flow {
    dealer: Socket,
    record: Vec<u8>,
    expected: u8,
    window: usize,
    in_flight: usize,
}

impl Flow {
    /// Keeps the window full for this long, and tells how many acks came.
    fn run_for(&mut self, time: Duration) -> Result<usize> {
        let start = Instant::now();
        let mut acked = 0;
        while start.elapsed() < time {
            while self.in_flight < self.window {
                self.dealer.send(&self.record[..], 0)?;
                self.in_flight += 1;
            }
            acked += self.take_acks()?;
        }
        Ok(acked)
    }

    fn drain(&mut self) -> Result<()> {
        while self.in_flight > 0 {
            self.take_acks()?;
        }
        Ok(())
    }

    /// Waits for one ack, and takes those that are there already besides.
    fn take_acks(&mut self) -> Result<usize> {
        let mut acked = 0;
        let mut next = self.dealer.recv_msg(0);
        loop {
            match next {
                Ok(ack) if ack[..] == [self.expected] => acked += 1,
                Ok(_) => return Err("a wrong ack".into()),
                Err(zmq::Error::EAGAIN) if acked > 0 => break,
                Err(error) => return Err(error.into()),
            }
            next = self.dealer.recv_msg(DONTWAIT);
        }
        self.in_flight -= acked;
        Ok(acked)
    }
}
