//! `tcp-pipe`: the limit of the transport. One task owns the stream and keeps the window full
//! itself, with no future, waker or lock for a record, against a server without a handler.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::duplex::Duplex;
use super::frame;
use super::server::{answer_in_place, listen};
use crate::peer::{Client, Peer, Result, Tally, check, look_at};

/// Stop filling the output once this much waits to be written.
const ENOUGH: usize = 256 * 1024;

pub(crate) struct TcpPipe;

impl Peer for TcpPipe {
    const NAME: &'static str = "tcp-pipe";

    type Client = Pipe;

    async fn start() -> Result<Self> {
        Ok(Self)
    }

    async fn serve(&self) -> Result<String> {
        listen(answer_in_place).await
    }

    async fn connect(&self, address: &str) -> Result<Pipe> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Pipe(Mutex::new(Duplex::new(stream))))
    }
}

pub(crate) struct Pipe(Mutex<Duplex<TcpStream>>);

impl Client for Pipe {
    async fn send(&self, record: Bytes) -> Result<Bytes> {
        let mut duplex = self.0.lock().await;
        duplex.output.push(&record);
        poll_fn(|cx| {
            ready!(duplex.poll_write(cx))?;
            loop {
                if let Some(ack) = frame::next(&mut duplex.input.bytes) {
                    return Poll::Ready(Ok(ack.freeze()));
                }
                if ready!(duplex.poll_read(cx))? {
                    return Poll::Ready(Err("the stream ended".into()));
                }
            }
        })
        .await
    }

    async fn keep_full(&self, record: &Bytes, width: usize, tally: &Tally) -> Result<()> {
        let mut duplex = self.0.lock().await;
        let mut flow = Flow { record, expected: look_at(record), width, in_flight: 0 };
        while flow.in_flight > 0 || !tally.stopped() {
            let acked = poll_fn(|cx| flow.poll_turn(cx, &mut duplex, tally)).await?;
            tally.acked(acked);
        }
        Ok(())
    }
}

struct Flow<'a> {
    record: &'a Bytes,
    expected: u8,
    width: usize,
    in_flight: usize,
}

impl Flow<'_> {
    /// Fills the window, writes, and reads once. Gives the number of acks that came.
    fn poll_turn(
        &mut self,
        cx: &mut Context<'_>,
        duplex: &mut Duplex<TcpStream>,
        tally: &Tally,
    ) -> Poll<Result<u64>> {
        let wanted = if tally.stopped() { 0 } else { self.width };
        while self.in_flight < wanted && duplex.output.len() < ENOUGH {
            duplex.output.push(self.record);
            self.in_flight += 1;
        }
        let written = duplex.poll_write(cx)?.is_ready();
        if self.in_flight == 0 || (written && self.in_flight < wanted) {
            return Poll::Ready(Ok(0));
        }
        if ready!(duplex.poll_read(cx))? {
            return Poll::Ready(Err("the stream ended".into()));
        }
        let mut acked = 0;
        while let Some(ack) = frame::next(&mut duplex.input.bytes) {
            check(&ack, self.expected)?;
            acked += 1;
        }
        self.in_flight -= acked;
        Poll::Ready(Ok(acked as u64))
    }
}
