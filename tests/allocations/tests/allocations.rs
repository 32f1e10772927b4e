//! A record in steady state allocates nothing in core, however it is sent and taken.
//!
//! Each case runs on the current thread alone, warms up, and then counts every allocation of
//! the thread over many records. Payloads and acks are static, so all that is counted is
//! ours. Where a figure is not what it should be, the failure shows where the first
//! allocations were made.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    backtrace::Backtrace,
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::{Future, poll_fn},
    task::Poll,
};

use network_core::{
    Ack, Bytes, Connection, ConnectionHandler, Endpoint, Network, Port, ProtocolImpl, Refusal,
    accept_all,
};
use network_loopback::Loopback;
use network_tcp::Tcp;
use tokio::{runtime, task::JoinHandle};

// ---- counting --------------------------------------------------------------------------

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many allocations are shown.
const SHOWN: usize = 2;

thread_local! {
    static COUNTS: Cell<bool> = const { Cell::new(false) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static PLACES: RefCell<Vec<Backtrace>> = const { RefCell::new(Vec::new()) };
}

impl Counting {
    fn count() {
        // Fails while the thread ends, when nothing is counted.
        if COUNTS.try_with(|counts| counts.replace(false)).unwrap_or(false) {
            COUNT.with(|count| count.set(count.get() + 1));
            PLACES.with_borrow_mut(|places| {
                if places.len() < SHOWN {
                    places.push(Backtrace::force_capture());
                }
            });
            COUNTS.with(|counts| counts.set(true));
        }
    }
}

// SAFETY: everything is left to `System`.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count();
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count();
        // SAFETY: as above.
        unsafe { System.realloc(ptr, layout, size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}

/// What this thread allocated while a future ran.
struct Counted {
    allocations: u64,
    places: Vec<Backtrace>,
}

impl Counted {
    /// Where in this workspace, and in its buffers, the first allocations were made.
    fn places(&self) -> String {
        let ours = |line: &&str| line.contains(" at ") && line.contains("/src/");
        let named = |line: &&str| ["/network-", "/bytes-"].iter().any(|name| line.contains(name));
        let short = |place: &Backtrace| {
            let text = place.to_string();
            text.lines().filter(ours).filter(named).map(str::trim).collect::<Vec<_>>().join("\n")
        };
        self.places.iter().map(short).collect::<Vec<_>>().join("\n\n")
    }
}

async fn counted(work: impl Future<Output = ()>) -> Counted {
    COUNT.set(0);
    PLACES.take();
    COUNTS.set(true);
    work.await;
    COUNTS.set(false);
    Counted { allocations: COUNT.get(), places: PLACES.take() }
}

#[test]
fn allocations_are_counted() {
    let runtime = runtime::Builder::new_current_thread().build().unwrap();
    let counted = runtime.block_on(counted(async { drop(std::hint::black_box(Box::new(1))) }));
    assert_eq!((counted.allocations, counted.places.len()), (1, 1));
}

// ---- two ends --------------------------------------------------------------------------

const WARM_UP: usize = 20_000;
const RECORDS: usize = 10_000;
const ACK: Bytes = Bytes::from_static(b"taken");

/// How the receiving side takes records.
#[derive(Clone, Copy, Debug)]
enum Takes {
    /// A handler that answers at once.
    Push,
    /// A handler that is pending once for each record.
    PushWaiting,
    /// A handler that is pending once, called for one record at a time.
    PushOneAtATime,
    /// `recv().await`.
    Pull,
    /// `recv().await`, and acks only once 8 records are there, the last first.
    PullLate,
}

const WAYS: [Takes; 5] =
    [Takes::Push, Takes::PushWaiting, Takes::PushOneAtATime, Takes::Pull, Takes::PullLate];

/// How the sending side sends them.
#[derive(Clone, Copy, Debug)]
enum Sends {
    /// `send().await`, one after the other.
    One,
    /// One task with this many permits in use.
    Pipelined(usize),
    /// This many tasks, each `send().await`.
    Tasks(usize),
}

struct Handler {
    waits: bool,
    one_at_a_time: bool,
}

impl ConnectionHandler for Handler {
    async fn on_receive(&self, _: &Connection, _: Bytes) -> Result<Bytes, Refusal> {
        if self.waits {
            pending_once().await;
        }
        Ok(ACK)
    }

    fn one_at_a_time(&self) -> bool {
        self.one_at_a_time
    }
}

async fn pending_once() {
    let mut polled = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut polled, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

struct Pair {
    connection: Connection,
    _ports: [Port; 2],
}

async fn connect(backend: impl ProtocolImpl, server: &str, client: &str, takes: Takes) -> Pair {
    let network = Network::builder().protocol(backend).build().unwrap();
    let server = network.bind(server).await.unwrap();
    let handler = |waits, one_at_a_time| accept_all(Handler { waits, one_at_a_time });
    match takes {
        Takes::Push => server.listen(handler(false, false)).await.unwrap(),
        Takes::PushWaiting => server.listen(handler(true, false)).await.unwrap(),
        Takes::PushOneAtATime => server.listen(handler(true, true)).await.unwrap(),
        Takes::Pull => pull(&server, 1).await,
        Takes::PullLate => pull(&server, 8).await,
    }
    let client = network.bind(client).await.unwrap();
    let remote: &Endpoint = server.local_endpoint();
    let connection = client.connect(remote.clone(), ()).await.unwrap();
    Pair { connection, _ports: [server, client] }
}

/// Acks `held` records together, or fewer if no more come.
async fn pull(server: &Port, held: usize) {
    let mut attempts = server.attempts().await.unwrap();
    tokio::spawn(async move {
        let attempt = attempts.next().await.unwrap();
        let (_connection, mut records) = attempt.accept_pull().await.unwrap();
        let mut late = Vec::with_capacity(held);
        while let Some(record) = records.recv().await {
            late.push(record);
            while late.len() < held {
                let mut next = std::pin::pin!(records.recv());
                let next = poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await;
                let Poll::Ready(Some(record)) = next else { break };
                late.push(record);
            }
            while let Some(record) = late.pop() {
                record.ack(ACK);
            }
        }
    });
}

fn payload(len: usize) -> Bytes {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    Bytes::from_static(&ZEROS[..len])
}

/// Sends records and checks their acks; allocates nothing itself once it is warm.
struct Sender {
    connection: Connection,
    payload: Bytes,
    /// For [`Sends::Tasks`]: each runs while there is something left to send.
    tasks: Vec<JoinHandle<()>>,
    go: std::rc::Rc<Go>,
}

#[derive(Default)]
struct Go {
    left: Cell<usize>,
    done: Cell<usize>,
    start: tokio::sync::Notify,
    finish: tokio::sync::Notify,
}

impl Sender {
    fn new(connection: Connection, len: usize, sends: Sends) -> Self {
        let go = std::rc::Rc::<Go>::default();
        let payload = payload(len);
        let tasks = if let Sends::Tasks(count) = sends { count } else { 0 };
        let tasks = (0..tasks).map(|_| {
            let (connection, payload, go) = (connection.clone(), payload.clone(), go.clone());
            tokio::task::spawn_local(async move {
                loop {
                    while go.left.get() == 0 {
                        go.start.notified().await;
                    }
                    go.left.set(go.left.get() - 1);
                    assert_eq!(connection.send(payload.clone()).await.unwrap(), ACK);
                    go.done.set(go.done.get() + 1);
                    go.finish.notify_one();
                }
            })
        });
        let tasks = tasks.collect();
        Self { connection, payload, tasks, go }
    }

    async fn send(&self, count: usize, sends: Sends, flight: &mut VecDeque<Ack<'static>>) {
        match sends {
            Sends::One => {
                for _ in 0..count {
                    assert_eq!(self.connection.send(self.payload.clone()).await.unwrap(), ACK);
                }
            }
            Sends::Pipelined(depth) => {
                for _ in 0..count {
                    if flight.len() == depth {
                        assert_eq!(flight.pop_front().unwrap().await.unwrap(), ACK);
                    }
                    let permit = self.connection.reserve(self.payload.len()).await.unwrap();
                    flight.push_back(permit.send(self.payload.clone()).unwrap().into_owned());
                }
                while let Some(ack) = flight.pop_front() {
                    assert_eq!(ack.await.unwrap(), ACK);
                }
            }
            Sends::Tasks(_) => {
                self.go.done.set(0);
                self.go.left.set(count);
                self.go.start.notify_waiters();
                while self.go.done.get() < count {
                    self.go.finish.notified().await;
                }
            }
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Runs one case and counts; `connect` is run on the runtime that is counted.
fn allocations(connect: impl Future<Output = Pair>, len: usize, sends: Sends) -> Counted {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    let counted = local.block_on(&runtime, async {
        let pair = connect.await;
        let sender = Sender::new(pair.connection.clone(), len, sends);
        let mut flight = VecDeque::with_capacity(1024);
        sender.send(WARM_UP, sends, &mut flight).await;
        counted(sender.send(RECORDS, sends, &mut flight)).await
    });
    runtime.shutdown_background();
    counted
}

// ---- the cases -------------------------------------------------------------------------

const SENDS: [Sends; 3] = [Sends::One, Sends::Pipelined(64), Sends::Tasks(64)];

#[test]
fn a_record_over_loopback_allocates_nothing() {
    for (takes, sends) in cases() {
        let pair = connect(Loopback::new(), "/local/server", "/local/client", takes);
        let counted = allocations(pair, 64, sends);
        println!("loopback, {takes:?}, {sends:?}: {} in {RECORDS} records", counted.allocations);
        assert_eq!(counted.allocations, 0, "{takes:?}, {sends:?}\n{}", counted.places());
    }
}

/// Read buffers are shared by the records of several reads, and used again once those are
/// gone. Where the program still holds a record while its side reads on, one at a time, a
/// buffer is soon full and cannot be used again.
#[test]
fn a_small_record_over_tcp_allocates_next_to_nothing() {
    for (takes, sends) in cases() {
        let counted = allocations(tcp(takes), 64, sends);
        println!("tcp, {takes:?}, {sends:?}: {} in {RECORDS} records", counted.allocations);
        let held = matches!((takes, sends), (Takes::Pull | Takes::PullLate, Sends::One));
        let most = RECORDS as u64 / if held { 2 } else { 10 };
        assert!(counted.allocations < most, "{takes:?}, {sends:?}\n{}", counted.places());
    }
}

#[test]
fn a_large_record_over_tcp_allocates_its_buffers() {
    for sends in SENDS {
        let counted = allocations(tcp(Takes::Push), 64 << 10, sends);
        println!("tcp, 64 KiB, {sends:?}: {} in {RECORDS} records", counted.allocations);
        assert!(counted.allocations < 4 * RECORDS as u64, "{sends:?}\n{}", counted.places());
    }
}

fn cases() -> impl Iterator<Item = (Takes, Sends)> {
    WAYS.into_iter().flat_map(|takes| SENDS.into_iter().map(move |sends| (takes, sends)))
}

async fn tcp(takes: Takes) -> Pair {
    connect(Tcp::new(), "/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0", takes).await
}
