//! What a network must offer to be measured.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use bytes::Bytes;

use crate::window;

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// A network under measurement: a server that acks records, and connections to it.
///
/// Every measurement starts one of its own, in a fresh runtime, and drops it with that runtime.
/// All that the connections of one process share (a network, a port, a resolver) belongs into the
/// implementing value.
pub(crate) trait Peer: Sized + Send + Sync + 'static {
    /// What the figures and the progress call it.
    const NAME: &'static str;

    type Client: Client;

    /// Prepares one process, be it the server's, the client's or both.
    fn start() -> impl Future<Output = Result<Self>> + Send;

    /// Starts a server that answers every record with [`ack`], and gives the address for
    /// [`connect`](Peer::connect). It runs for as long as this value lives.
    fn serve(&self) -> impl Future<Output = Result<String>> + Send;

    /// Opens one connection.
    ///
    /// The address may come from the `serve` of another process, except where the peer is never
    /// measured across processes.
    fn connect(&self, address: &str) -> impl Future<Output = Result<Self::Client>> + Send;
}

/// One open connection.
pub(crate) trait Client: Send + Sync + 'static {
    /// Delivers one record and waits for its ack.
    fn send(&self, record: Bytes) -> impl Future<Output = Result<Bytes>> + Send;

    /// Keeps `width` copies of the record un-acked until the tally stops it.
    ///
    /// Overridden only where no `send` is made for a record, that is by a limit.
    fn keep_full(
        &self,
        record: &Bytes,
        width: usize,
        tally: &Tally,
    ) -> impl Future<Output = Result<()>> + Send {
        let expected = look_at(record);
        window::keep_full(width, tally, move || async move {
            check(&self.send(record.clone()).await?, expected)
        })
    }

    /// Closes the connection; dropping it may do the same.
    fn close(self) -> impl Future<Output = Result<()>> + Send
    where
        Self: Sized,
    {
        async { Ok(()) }
    }
}

/// The work of every handler: the ack of this record.
pub(crate) fn ack(record: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&[look_at(record)])
}

/// Touches both ends of a record, so that it really has to be there; gives the ack's one byte.
pub(crate) fn look_at(record: &[u8]) -> u8 {
    let (first, last) = (record.first(), record.last());
    let (first, last) = first.zip(last).expect("no bench sends an empty record");
    first.wrapping_add(*last).wrapping_add(0xAC)
}

/// Whether the handler saw the record that was sent.
pub(crate) fn check(ack: &[u8], expected: u8) -> Result<()> {
    if ack == [expected] { Ok(()) } else { Err(format!("a wrong ack: {ack:?}").into()) }
}

/// Counts the acks of one connection, and tells its senders when to stop.
#[derive(Default)]
pub(crate) struct Tally {
    acked: AtomicU64,
    stopped: AtomicBool,
}

impl Tally {
    pub(crate) fn acked(&self, records: u64) {
        self.acked.fetch_add(records, Relaxed);
    }

    pub(crate) fn total(&self) -> u64 {
        self.acked.load(Relaxed)
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Relaxed);
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }
}

/// Something that this machine or this build lacks, as opposed to something that went wrong.
#[derive(Debug)]
pub(crate) struct Unavailable(pub(crate) String);

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unavailable {}
