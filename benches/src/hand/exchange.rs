//! `tcp-handler`, `tls-handler` and `quic-handler`: the fastest client found that answers every
//! `send` with its own future, against a server whose asynchronous handler gets owned bytes.
//!
//! Senders frame their record straight into a shared output under a short lock, and take
//! a numbered slot. One task a connection drives both directions: it swaps the shared
//! output for its own, writes it in one go, and fills the slots of all acks that a read
//! brings under one lock. No allocation or channel message is made for a record.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::mem::{replace, swap};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::net::TcpStream;

use super::duplex::Duplex;
use super::frame::{self, Output};
use super::server::{Ack, Handler, answer_through, listen};
use super::wire::{Plain, Secured, Stream, Wire};
use crate::peer::{Client, Peer, Result};

/// The exchange over plain TCP.
pub(crate) type TcpHandler = Over<Plain>;

/// The exchange over TLS.
pub(crate) type TlsHandler = Over<Secured>;

pub(crate) struct Over<W> {
    wire: Arc<W>,
}

impl<W: Wire> Peer for Over<W> {
    const NAME: &'static str = W::NAME;

    type Client = Exchange;

    async fn start() -> Result<Self> {
        Ok(Self { wire: Arc::new(W::new()) })
    }

    async fn serve(&self) -> Result<String> {
        let (handler, wire): (Arc<dyn Handler>, _) = (Arc::new(Ack), self.wire.clone());
        let answer = move |stream| {
            let (handler, wire) = (handler.clone(), wire.clone());
            async move { answer_through(wire.accept(stream).await?, handler).await }
        };
        Ok(self.wire.address(listen(answer).await?))
    }

    async fn connect(&self, address: &str) -> Result<Exchange> {
        let stream = TcpStream::connect(self.wire.socket(address)).await?;
        stream.set_nodelay(true)?;
        Ok(Exchange::over(self.wire.dial(stream, address).await?))
    }
}

pub(crate) struct Exchange {
    shared: Arc<Mutex<Shared>>,
}

impl Exchange {
    pub(super) fn over(stream: impl Stream) -> Self {
        let shared = Arc::new(Mutex::new(Shared::default()));
        tokio::spawn(drive(Duplex::new(stream), shared.clone()));
        Self { shared }
    }
}

impl Client for Exchange {
    fn send(&self, record: Bytes) -> impl Future<Output = Result<Bytes>> + Send {
        Acked { shared: &self.shared, record: Some(record), number: 0 }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut shared = self.shared.lock();
        shared.closed = true;
        if let Some(driver) = shared.driver.take() {
            driver.wake();
        }
    }
}

#[derive(Default)]
struct Shared {
    output: Output,
    /// The slots of the un-acked records, and of those whose ack is not yet taken.
    slots: VecDeque<Slot>,
    /// The number of the record that the first slot belongs to.
    first: u64,
    /// How many slots from the front have been acked.
    acked: usize,
    /// The driving task, when it sleeps with nothing left to write.
    driver: Option<Waker>,
    closed: bool,
}

enum Slot {
    Waiting(Option<Waker>),
    Acked(Bytes),
    Taken,
}

impl Shared {
    fn unacked(&self) -> usize {
        self.slots.len() - self.acked
    }

    /// Fills the slots whose acks have come, and collects whom to wake.
    fn take_acks(&mut self, input: &mut BytesMut, woken: &mut Vec<Waker>) {
        while let Some(ack) = frame::next(input) {
            let slot = &mut self.slots[self.acked];
            if let Slot::Waiting(waker) = replace(slot, Slot::Acked(ack.freeze())) {
                woken.extend(waker);
            }
            self.acked += 1;
        }
    }
}

/// Waits for the ack of one record; sends the record when first polled.
struct Acked<'a> {
    shared: &'a Mutex<Shared>,
    record: Option<Bytes>,
    number: u64,
}

impl Future for Acked<'_> {
    type Output = Result<Bytes>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut shared = self.shared.lock();
        if shared.closed {
            return Poll::Ready(Err("the connection is closed".into()));
        }
        if let Some(record) = self.record.take() {
            shared.output.push(&record);
            shared.slots.push_back(Slot::Waiting(Some(cx.waker().clone())));
            self.number = shared.first + shared.slots.len() as u64 - 1;
            let driver = shared.driver.take();
            drop(shared);
            if let Some(driver) = driver {
                driver.wake();
            }
            return Poll::Pending;
        }
        let at = (self.number - shared.first) as usize;
        let slot = &mut shared.slots[at];
        match replace(slot, Slot::Taken) {
            Slot::Acked(ack) => {
                while let Some(Slot::Taken) = shared.slots.front() {
                    shared.slots.pop_front();
                    shared.first += 1;
                    shared.acked -= 1;
                }
                Poll::Ready(Ok(ack))
            }
            Slot::Waiting(_) => {
                *slot = Slot::Waiting(Some(cx.waker().clone()));
                Poll::Pending
            }
            Slot::Taken => unreachable!("an ack was taken twice"),
        }
    }
}

/// Moves records out and acks in until either side closes.
///
/// New records are not written at once while others are un-acked: first the driver
/// goes once to the back of the runtime's queue, so that all senders which the last acks
/// woke can add theirs. Without that turn, senders on tasks of their own get a write each.
async fn drive<S: Stream>(mut duplex: Duplex<S>, shared: Arc<Mutex<Shared>>) {
    let mut woken = Vec::new();
    let mut gathered = false;
    // However it ends, the senders learn that the connection is closed.
    let _: io::Result<()> = poll_fn(|cx| {
        loop {
            let read = match duplex.poll_read(cx)? {
                Poll::Ready(true) => return Poll::Ready(Ok(())),
                Poll::Ready(false) => true,
                Poll::Pending => false,
            };
            if read {
                shared.lock().take_acks(&mut duplex.input.bytes, &mut woken);
                woken.drain(..).for_each(Waker::wake);
            }
            if duplex.output.is_empty() {
                let mut shared = shared.lock();
                if shared.closed {
                    return Poll::Ready(Ok(()));
                }
                if shared.output.is_empty() {
                    shared.driver = Some(cx.waker().clone());
                } else if gathered || shared.unacked() == 1 {
                    gathered = false;
                    swap(&mut duplex.output, &mut shared.output);
                } else {
                    gathered = true;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
            let wrote = !duplex.is_written() && duplex.poll_write(cx)?.is_ready();
            if !wrote && !read {
                return Poll::Pending;
            }
        }
    })
    .await;
    let mut shared = shared.lock();
    shared.closed = true;
    for slot in &mut shared.slots {
        if let Slot::Waiting(waker) = slot {
            woken.extend(waker.take());
        }
    }
    drop(shared);
    woken.drain(..).for_each(Waker::wake);
}
