//! Connections whose records keep no order: each record has a stream of its own, so that a lost
//! packet or a long record holds up no other.
//!
//! ```text
//! control stream   1 | opening | frames: close, done, ping, pong
//! record stream    2 | control stream u64 | the record, to the end of the stream
//!       its answer kind u8 | the ack, to the end of the stream
//! ```
//!
//! `docs/wire-format.md` is the description.

mod driver;
mod inbound;
mod link;
mod outbound;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use network_core::{
    AckSink, Connection, MemoryShare, PortRevoked, RecordId, RecordSink, stream::Agreed,
};
use quinn::{RecvStream, SendStream, VarInt};
use tokio::sync::{Notify, oneshot};

use crate::{
    session::{Inbound, Session},
    stream::Stream,
};

/// The answer of a record stream: the first byte, with the numbers of the frames that say the
/// same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum AnswerKind {
    Ack = 2,
    Refused = 3,
    Discarded = 4,
    NoRoom = 9,
}

impl AnswerKind {
    fn of(byte: u8) -> Option<Self> {
        [Self::Ack, Self::Refused, Self::Discarded, Self::NoRoom]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// What a record's stream is reset with that was called back.
const CALLED_BACK: VarInt = VarInt::from_u32(2);

/// The unordered connections of a session, by their control streams.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<HashMap<u64, Arc<Slot>>>);

/// A connection that its records may come before.
#[derive(Debug, Default)]
struct Slot {
    connection: OnceLock<Weak<Shared>>,
    opened: Notify,
}

impl Known {
    /// Expects records of a connection from now on, until what comes back is dropped.
    pub(crate) fn expect(&self, session: &Arc<Session>, control: u64) -> Expected {
        let slot = Arc::<Slot>::default();
        self.lock().insert(control, slot.clone());
        Expected { session: session.clone(), control, slot }
    }

    fn get(&self, control: u64) -> Option<Arc<Slot>> {
        self.lock().get(&control).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Slot>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Known::expect`].
#[derive(Debug)]
pub(crate) struct Expected {
    session: Arc<Session>,
    control: u64,
    slot: Arc<Slot>,
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.session.unordered().lock().remove(&self.control);
        // Records that waited for it are for nobody.
        self.slot.opened.notify_waiters();
    }
}

/// What the tasks of a connection share.
#[derive(Debug)]
struct Shared {
    control: u64,
    /// That of all its streams.
    priority: i32,
    acks: AckSink,
    records: RecordSink,
    /// What this side lets the other send, and how long its acks may be.
    max_record_len: usize,
    max_ack_len: usize,
    granted: Load,
    /// What the records hold that are un-acked, also after the end.
    share: MemoryShare,
    state: Mutex<State>,
    /// Tells the driver that something has changed, where it wants to know.
    changed: Notify,
    /// Whether records or answers have come since the driver last looked.
    heard: AtomicBool,
}

/// A part of a window.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    records: u32,
    bytes: u64,
}

#[derive(Debug)]
struct State {
    /// Until the end of the connection: a handle of it must not keep the socket open.
    session: Option<Arc<Session>>,
    /// How many records were taken to be sent and not called back, and how many of all are still
    /// under way.
    sent: u32,
    under_way: u32,
    /// Records that are on their way, and whose answers the driver has yet to wait for.
    begun: Vec<(RecordId, RecvStream)>,
    /// A record's stream broke: what became of it, nobody knows.
    lost: bool,
    /// The other side has ended a stream without an answer.
    unanswered: bool,
    /// Records that somebody waits for, and how to call them back.
    recalls: HashMap<u64, oneshot::Sender<()>>,
    /// How many records are being called back.
    recalling: u32,
    /// The driver counts what is under way: the connection closes.
    counting: bool,
    /// No record goes out any more.
    shut: bool,
    /// Why this side wants to close.
    closing: Option<network_core::CloseReason>,
    /// How many records of the other side have come, whole or as far as this side wanted them.
    come: u32,
    /// How much the other side has un-acked.
    used: Load,
    next: u64,
    /// Records without an answer.
    unacked: HashMap<u64, Unacked>,
    /// No answer goes out any more.
    said_done: bool,
    /// What the other side did that breaks the protocol.
    fault: Option<network_core::CloseReason>,
}

/// A record of the other side, until it is answered.
#[derive(Debug)]
struct Unacked {
    /// `None` once nothing can be said any more; what the record holds counts until its answer.
    answer: Option<(SendStream, Inbound)>,
    len: usize,
}

impl State {
    /// No answer goes out any more: the ends of their streams say that the records were handed
    /// out.
    fn done(&mut self) {
        self.said_done = true;
        self.unacked.values_mut().for_each(|unacked| unacked.answer = None);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A record has come, or an answer. Wakes the driver only where it counts them: else that
    /// would be a wake for each.
    fn came(&self, state: MutexGuard<'_, State>) {
        let counting = state.counting || state.unanswered;
        drop(state);
        if !self.heard.load(Ordering::Relaxed) {
            self.heard.store(true, Ordering::Relaxed);
        }
        if counting {
            self.changed.notify_one();
        }
    }

    fn fault(&self, violation: &str) {
        let reason = network_core::CloseReason::protocol(violation);
        self.lock().fault.get_or_insert(reason);
        self.changed.notify_one();
    }
}

/// Opens a connection that both sides have agreed on over its control stream.
pub(crate) fn open(
    stream: Stream,
    expected: Expected,
    agreed: Agreed,
    priority: i32,
) -> Result<Connection, PortRevoked> {
    let Agreed { seed, info, begun } = agreed;
    let limits = seed.limits().clone();
    let share = seed.memory_share();
    let max_ack_len = info.max_ack_len;
    let open = seed.agree(info);
    let shared = Arc::new(Shared {
        control: expected.control,
        priority,
        acks: open.acks(),
        records: open.records(),
        max_record_len: limits.max_record_len,
        max_ack_len: limits.max_ack_len.max(max_ack_len),
        granted: Load { records: limits.window_records, bytes: limits.window_bytes },
        share,
        state: Mutex::new(State {
            session: Some(expected.session.clone()),
            sent: 0,
            under_way: 0,
            begun: Vec::new(),
            lost: false,
            unanswered: false,
            recalls: HashMap::new(),
            recalling: 0,
            counting: false,
            shut: false,
            closing: None,
            come: 0,
            used: Load::default(),
            next: 0,
            unacked: HashMap::new(),
            said_done: false,
            fault: None,
        }),
        changed: Notify::new(),
        heard: AtomicBool::new(true),
    });
    let established = open.establish(Arc::new(link::UnorderedLink(shared.clone())));
    let (connection, events) = match established {
        Ok(established) => established,
        Err(revoked) => {
            driver::say_revoked(stream, &limits);
            return Err(revoked);
        }
    };
    // It was empty: this is the only place that sets it.
    let _ = expected.slot.connection.set(Arc::downgrade(&shared));
    expected.slot.opened.notify_waiters();
    tokio::spawn(driver::run(stream, begun, shared, events, expected, limits));
    Ok(connection)
}

pub(crate) use inbound::{receive, receive_now};
