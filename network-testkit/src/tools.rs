//! What cases are written with: bounded waits, gates, handlers that are watched.

use std::{future::Future, pin::Pin, sync::Arc, task::Poll, time::Duration};

use network_core::{Ack, Bytes, CloseReason, Connection, ConnectionHandler, Limits, Refusal};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};

use crate::run::TIME_LIMIT;

/// How long anything may take that should take no time.
const SOON: Duration = Duration::from_secs(10);

/// Fails unless a value matches a pattern, and shows the value.
macro_rules! expect {
    ($value:expr, $pattern:pat $(if $guard:expr)?) => {
        match $value {
            $pattern $(if $guard)? => {}
            other => panic!(
                "expected {}, got {other:?}",
                stringify!($pattern $(if $guard)?)
            ),
        }
    };
}

/// The limits that cases begin with. A close that gets no answer takes longer than anything
/// may, so that a lost goodbye shows.
pub(crate) fn limits() -> Limits {
    Limits::default().with_close_time(TIME_LIMIT)
}

/// Awaits something that must come soon.
pub(crate) async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(SOON, work).await.unwrap_or_else(|_| panic!("waited {SOON:?} for {what}"))
}

/// Waits until something holds that no event tells of.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    within(what, async {
        while !holds() {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// Polls a future once, with a waker that counts.
pub(crate) async fn poll_once<F: Future + ?Sized>(mut work: Pin<&mut F>) -> Poll<F::Output> {
    std::future::poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await
}

/// Fails if a future is ready.
pub(crate) async fn still_pending<F: Future + ?Sized>(what: &str, work: Pin<&mut F>) {
    assert!(poll_once(work).await.is_pending(), "{what} did not wait");
}

/// Submits a record: it is on its way when this returns.
pub(crate) async fn submit(connection: &Connection, record: impl Into<Bytes>) -> Ack<'static> {
    let record = record.into();
    let permit = within("room for a record", connection.reserve(record.len())).await.unwrap();
    permit.send(record).unwrap().into_owned()
}

/// Sends a record that must be acked. An empty ack is empty, however the backend writes that.
pub(crate) async fn send(connection: &Connection, record: impl Into<Bytes>) -> Bytes {
    empty_or(connection, within("an ack", connection.send(record)).await.unwrap())
}

/// The ack, or nothing if it stands for an empty one.
pub(crate) fn empty_or(connection: &Connection, ack: Bytes) -> Bytes {
    if connection.takes_empty_records() || ack != [1][..] { ack } else { Bytes::new() }
}

/// The least length of a record.
pub(crate) fn least(connection: &Connection) -> usize {
    usize::from(!connection.takes_empty_records())
}

/// Bytes that tell where a mix-up came from.
pub(crate) fn pattern(len: usize, seed: usize) -> Bytes {
    (0..len).map(|at| (at.wrapping_mul(31) ^ (at >> 8) ^ seed.wrapping_mul(97)) as u8).collect()
}

/// The record called by a number.
pub(crate) fn numbered(number: usize) -> Bytes {
    Bytes::from(number.to_string())
}

/// Holds back who passes, until it is opened.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Lets one pass.
    pub(crate) fn let_one(&self) {
        self.0.add_permits(1);
    }

    /// Lets everybody pass from now on.
    pub(crate) fn open(&self) {
        self.0.close();
    }

    pub(crate) async fn pass(&self) {
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
    }
}

/// What a watched handler was told.
#[derive(Debug)]
pub(crate) enum Event {
    Open,
    Record(Bytes),
    Close(CloseReason),
}

/// A handler that acks a record with itself and is watched.
#[derive(Debug)]
pub(crate) struct Probe {
    events: mpsc::UnboundedSender<Event>,
    gate: Option<Gate>,
    open_gate: Option<Gate>,
    serial: bool,
}

/// What a [`Probe`] was told, in order.
#[derive(Debug)]
pub(crate) struct Seen(mpsc::UnboundedReceiver<Event>);

/// A handler that acks a record with itself, and what it is told.
pub(crate) fn probe() -> (Probe, Seen) {
    let (events, seen) = mpsc::unbounded_channel();
    (Probe { events, gate: None, open_gate: None, serial: false }, Seen(seen))
}

impl Probe {
    /// Each record passes the gate before it is acked.
    pub(crate) fn gated(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    /// `on_open` passes the gate.
    pub(crate) fn open_gated(mut self, gate: &Gate) -> Self {
        self.open_gate = Some(gate.clone());
        self
    }

    /// One record at a time.
    pub(crate) fn serial(mut self) -> Self {
        self.serial = true;
        self
    }

    fn tell(&self, event: Event) {
        // A case that has seen enough looks no further.
        let _ = self.events.send(event);
    }
}

impl ConnectionHandler for Probe {
    async fn on_open(&self, _: &Connection) {
        self.tell(Event::Open);
        if let Some(gate) = &self.open_gate {
            gate.pass().await;
        }
    }

    async fn on_receive(&self, _: &Connection, record: Bytes) -> Result<Bytes, Refusal> {
        self.tell(Event::Record(record.clone()));
        if let Some(gate) = &self.gate {
            gate.pass().await;
        }
        Ok(record)
    }

    async fn on_close(&self, _: &Connection, reason: &CloseReason) {
        self.tell(Event::Close(reason.clone()));
    }

    fn one_at_a_time(&self) -> bool {
        self.serial
    }
}

impl Seen {
    /// The next event, openings left out.
    pub(crate) async fn next(&mut self) -> Event {
        loop {
            match within("an event at the handler", self.0.recv()).await {
                Some(Event::Open) => {}
                Some(event) => return event,
                None => panic!("the handler is gone"),
            }
        }
    }

    /// The next event, which must be a record.
    pub(crate) async fn record(&mut self) -> Bytes {
        match self.next().await {
            Event::Record(record) => record,
            other => panic!("expected a record, got {other:?}"),
        }
    }

    /// The next event, which must be the close.
    pub(crate) async fn close(&mut self) -> CloseReason {
        match self.next().await {
            Event::Close(reason) => reason,
            other => panic!("expected the close, got {other:?}"),
        }
    }

    /// The records that are here already.
    pub(crate) fn records_so_far(&mut self) -> Vec<Bytes> {
        let mut records = Vec::new();
        while let Ok(event) = self.0.try_recv() {
            match event {
                Event::Open => {}
                Event::Record(record) => records.push(record),
                Event::Close(reason) => panic!("closed: {reason}"),
            }
        }
        records
    }

    /// All that is left, once the handler is dropped.
    pub(crate) async fn rest(&mut self) -> Vec<Event> {
        within("the end of the handler", async {
            let mut rest = Vec::new();
            while let Some(event) = self.0.recv().await {
                rest.push(event);
            }
            rest
        })
        .await
    }
}
