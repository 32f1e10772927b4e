//! A record that comes in, and its answer.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use network_core::{Answer, RecordId};
use quinn::{RecvStream, SendStream};
use tokio::time::timeout;

use super::{AnswerKind, Load, Shared, Slot, Unacked};
use crate::{
    session::{Inbound, Session},
    stream::{Arrived, ResetCode, look_at},
};

/// How slowly a record may come in, in bytes a second, after the time in which any has to.
const SLOWEST: u64 = 16 << 10;

/// Takes a record that has wholly come with its stream. Any other is given back.
///
/// Records that came together are so handed out together, with no task for each: worth a third of
/// the speed of short ones.
pub(crate) fn receive_now(session: &Session, mut arrived: Arrived) -> Result<(), Arrived> {
    let mut payload = arrived.begun.clone();
    let mut connection = || {
        let control = payload.try_get_u64_le().ok()?;
        session.unordered().get(control)?.connection.get()?.upgrade()
    };
    let Some(shared) = connection() else { return Err(arrived) };
    match look_at(arrived.recv.read_chunk(usize::MAX, true)) {
        Poll::Ready(Ok(None)) => {}
        Poll::Ready(Ok(Some(more))) => {
            arrived.begun = [&arrived.begun[..], &more.bytes[..]].concat().into();
            return Err(arrived);
        }
        // Called back, as below. It must not be read again: a stream that has told that it was
        // reset tells next that it came to its end, and some of a record would be taken for all.
        Poll::Ready(Err(_)) => {
            let _ = arrived.send.finish();
            return Ok(());
        }
        Poll::Pending => return Err(arrived),
    }
    let Arrived { send, mut recv, inbound, .. } = arrived;
    let Some(mut counted) = Counted::begin(&shared, &send) else { return Ok(()) };
    match counted.grow(payload.len()) {
        Grown::Yes => {
            // Copied: a slice would keep all packets that came with it.
            deliver(&shared, counted, (send, inbound), Bytes::copy_from_slice(&payload));
        }
        Grown::NoMemory => turn_down(counted, send, &mut recv),
        Grown::Over(violation) => shared.fault(violation),
    }
    Ok(())
}

/// Takes a stream with one record of an unordered connection.
pub(crate) async fn receive(session: &Session, arrived: Arrived) {
    let Arrived { mut send, mut recv, mut begun, inbound } = arrived;
    let within = session.handshake_time();
    let shared = timeout(within, async {
        while begun.len() < 8 {
            let more = recv.read_chunk(usize::MAX, true).await.ok()??;
            begun = [&begun[..], &more.bytes[..]].concat().into();
        }
        session.unordered().get(begun.get_u64_le())?.wait().await
    });
    let Ok(Some(shared)) = shared.await else {
        let _ = send.reset(ResetCode::Refused.into());
        let _ = recv.stop(ResetCode::Refused.into());
        return;
    };
    let Some(mut counted) = Counted::begin(&shared, &send) else { return };
    let slowest = Duration::from_secs(shared.max_record_len as u64 / SLOWEST);
    let reading = timeout(within + slowest, read(&mut counted, &mut recv, begun));
    match reading.await {
        Ok(Ok(Some(payload))) => deliver(&shared, counted, (send, inbound), payload),
        Ok(Ok(None)) => turn_down(counted, send, &mut recv),
        // Called back, or the connection is over: the end of this half says that it is known.
        // Its sender counts it no more.
        Ok(Err(Broken::Gone)) => {
            drop(counted);
            let _ = send.finish();
        }
        Ok(Err(Broken::Fault(violation))) => shared.fault(violation),
        Err(_) => shared.fault("a record that comes too slowly"),
    }
}

impl Slot {
    async fn wait(self: Arc<Self>) -> Option<Arc<Shared>> {
        let opened = self.opened.notified();
        if self.connection.get().is_none() {
            opened.await;
        }
        self.connection.get()?.upgrade()
    }
}

enum Broken {
    Fault(&'static str),
    Gone,
}

/// Reads a record to its end; `None` if there is no memory for it.
async fn read(
    counted: &mut Counted,
    recv: &mut RecvStream,
    mut chunk: Bytes,
) -> Result<Option<Bytes>, Broken> {
    let mut payload = BytesMut::with_capacity(chunk.len());
    loop {
        match counted.grow(chunk.len()) {
            // Copied: a slice would keep all packets that came with it.
            Grown::Yes => payload.extend_from_slice(&chunk),
            Grown::Over(violation) => return Err(Broken::Fault(violation)),
            Grown::NoMemory => return Ok(None),
        }
        chunk = match recv.read_chunk(usize::MAX, true).await {
            Ok(Some(chunk)) => chunk.bytes,
            Ok(None) => return Ok(Some(payload.freeze())),
            Err(_) => return Err(Broken::Gone),
        };
    }
}

/// Answers a record that there is no memory for.
fn turn_down(counted: Counted, send: SendStream, recv: &mut RecvStream) {
    // The window first: the answer may bring the next record.
    counted.came();
    drop(counted);
    // It may have come to its end.
    let _ = recv.stop(ResetCode::Refused.into());
    say(send, &Answer::NoRoom);
}

fn deliver(
    shared: &Arc<Shared>,
    mut counted: Counted,
    answer: (SendStream, Inbound),
    payload: Bytes,
) {
    let id = {
        let mut state = shared.lock();
        let id = state.next;
        state.next += 1;
        state.unacked.insert(id, Unacked { answer: Some(answer), len: counted.len });
        RecordId(id)
    };
    counted.keep();
    if let Err(now) = shared.records.record(id, payload) {
        self::answer(shared, id, now);
    }
    // Now, so that a close comes behind it.
    counted.came();
}

/// Gives a record its answer.
pub(super) fn answer(shared: &Shared, id: RecordId, answer: Answer) {
    let stream = {
        let mut state = shared.lock();
        let Some(unacked) = state.unacked.remove(&id.0) else { return };
        state.used.records -= 1;
        state.used.bytes -= unacked.len as u64;
        shared.share.release(unacked.len);
        unacked.answer
    };
    if let Some((stream, _inbound)) = stream {
        say(stream, &answer);
    }
}

/// Says an answer and ends the stream: at once if there is room for it, as there is for most.
fn say(mut stream: SendStream, answer: &Answer) {
    let (kind, rest) = match answer {
        Answer::Ack(ack) => (AnswerKind::Ack, &ack[..]),
        Answer::Refused(refusal) => (AnswerKind::Refused, refusal.text().as_bytes()),
        Answer::Discarded => (AnswerKind::Discarded, &[][..]),
        Answer::NoRoom => (AnswerKind::NoRoom, &[][..]),
    };
    let mut said = BytesMut::with_capacity(1 + rest.len());
    said.extend_from_slice(&[kind as u8]);
    said.extend_from_slice(rest);
    let mut left = said.freeze();
    let cx = &mut Context::from_waker(Waker::noop());
    while !left.is_empty() {
        match Pin::new(&mut stream).poll_write(cx, &left) {
            Poll::Ready(Ok(written)) => left = left.slice(written..),
            // It has called the record back, or is gone.
            Poll::Ready(Err(_)) => return,
            Poll::Pending => {
                tokio::spawn(async move {
                    if stream.write_all(&left).await.is_ok() {
                        let _ = stream.finish();
                    }
                });
                return;
            }
        }
    }
    let _ = stream.finish();
}

/// A record's part in the window and in the memory, given back unless it is kept.
struct Counted {
    shared: Arc<Shared>,
    len: usize,
    kept: bool,
}

enum Grown {
    Yes,
    /// It breaks the protocol.
    Over(&'static str),
    NoMemory,
}

impl Counted {
    /// `None` if the window is full, which is a fault of the other side. The answer has the
    /// priority of the connection.
    fn begin(shared: &Arc<Shared>, answer: &SendStream) -> Option<Self> {
        {
            let mut state = shared.lock();
            if state.used.records >= shared.granted.records {
                drop(state);
                shared.fault("more un-acked records than its window");
                return None;
            }
            state.used.records += 1;
        }
        if shared.priority != 0 {
            // It is open: nothing was reset.
            let _ = answer.set_priority(shared.priority);
        }
        Some(Self { shared: shared.clone(), len: 0, kept: false })
    }

    fn grow(&mut self, more: usize) -> Grown {
        if self.len + more > self.shared.max_record_len {
            return Grown::Over("a record that is too long");
        }
        let mut state = self.shared.lock();
        let Load { bytes, .. } = state.used;
        if bytes + more as u64 > self.shared.granted.bytes {
            return Grown::Over("more un-acked bytes than its window");
        }
        if !self.shared.share.hold(more) {
            return Grown::NoMemory;
        }
        state.used.bytes += more as u64;
        self.len += more;
        Grown::Yes
    }

    fn keep(&mut self) {
        self.kept = true;
    }

    /// One more of those that the other side says that it has sent.
    fn came(&self) {
        let mut state = self.shared.lock();
        state.come = state.come.wrapping_add(1);
        self.shared.came(state);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if !self.kept {
            let mut state = self.shared.lock();
            state.used.records -= 1;
            state.used.bytes -= self.len as u64;
            self.shared.share.release(self.len);
        }
    }
}
