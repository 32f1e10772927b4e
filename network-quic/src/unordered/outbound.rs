//! A record on its way out, and its answer.

use std::{
    io,
    pin::pin,
    sync::{Arc, MutexGuard},
    task::Poll,
};

use bytes::{BufMut, Bytes, BytesMut};
use network_core::{Answer, RecordId, Refusal};
use quinn::{RecvStream, SendStream};
use tokio::sync::oneshot;

use super::{AnswerKind, CALLED_BACK, Shared, State};
use crate::{
    session::Session,
    stream::{Purpose, look_at},
};

/// What became of a record.
enum Fate {
    Answered(Answer),
    /// The stream ended in order, and without an answer.
    Unanswered,
    /// It was called back, and was not all there.
    CalledBack,
    /// It broke.
    Lost,
    /// The answer breaks the protocol.
    Fault(&'static str),
}

/// How far a record has come.
pub(super) enum Begun {
    /// It has no stream yet.
    Not(Bytes),
    /// Some of it is left to be written.
    Partly(SendStream, RecvStream, [Bytes; 2]),
    /// All of it is on its way, and its stream is finished.
    Wholly(RecvStream),
}

/// Writes as much of a record as goes without waiting: mostly all.
///
/// Here, and not in a task: the records that one task sends in one go then leave in the same
/// packets, which is worth a quarter of the speed.
pub(super) fn begin(shared: &Shared, session: &Session, payload: Bytes) -> Begun {
    let Poll::Ready(Ok((mut send, recv))) = look_at(session.connection().open_bi()) else {
        return Begun::Not(payload);
    };
    let mut said = prepare(shared, &send, payload);
    match look_at(send.write_all_chunks(&mut said)) {
        Poll::Ready(Ok(())) => {
            // Not finished before, and not reset.
            let _ = send.finish();
            Begun::Wholly(recv)
        }
        // Where it failed, it fails again, and that is told then.
        _ => Begun::Partly(send, recv, said),
    }
}

fn prepare(shared: &Shared, send: &SendStream, payload: Bytes) -> [Bytes; 2] {
    if shared.priority != 0 {
        // It is open: nothing was reset.
        let _ = send.set_priority(shared.priority);
    }
    let mut head = BytesMut::with_capacity(9);
    head.put_u8(Purpose::Record as u8);
    head.put_u64_le(shared.control);
    [head.freeze(), payload]
}

/// Reports the answer to a record that is on its way.
pub(super) async fn finish(shared: Arc<Shared>, id: RecordId, mut recv: RecvStream) {
    let fate = read_answer(&shared, &mut recv).await.unwrap_or(Fate::Lost);
    let mut state = report(&shared, id, fate);
    state.under_way -= 1;
    shared.came(state);
}

/// Sends the rest of a record, and reports its answer. Where nobody waits for that any more while
/// the record waits for room, it is called back.
pub(super) async fn send(
    shared: Arc<Shared>,
    id: RecordId,
    begun: Begun,
    recalled: oneshot::Receiver<()>,
) {
    let fate = exchange(&shared, begun, recalled).await.unwrap_or(Fate::Lost);
    let called_back = matches!(fate, Fate::CalledBack);
    let mut state = report(&shared, id, fate);
    state.under_way -= 1;
    if called_back {
        state.sent = state.sent.wrapping_sub(1);
    }
    if state.recalls.remove(&id.0).is_none() {
        state.recalling = state.recalling.saturating_sub(1);
    }
    shared.came(state);
}

/// Tells what became of a record, before it counts as done: what has no answer then is taken to
/// be delivered. Each record has one task, and so one answer.
fn report(shared: &Shared, id: RecordId, fate: Fate) -> MutexGuard<'_, State> {
    let (mut lost, mut unanswered) = (false, false);
    match fate {
        Fate::Answered(answer) => {
            let _ = shared.acks.answer(id, answer);
        }
        Fate::CalledBack => {
            let _ = shared.acks.answer(id, Answer::Discarded);
        }
        Fate::Fault(violation) => shared.fault(violation),
        Fate::Unanswered => unanswered = true,
        Fate::Lost => lost = true,
    }
    let mut state = shared.lock();
    state.lost |= lost;
    state.unanswered |= unanswered;
    state
}

async fn exchange(
    shared: &Shared,
    begun: Begun,
    recalled: oneshot::Receiver<()>,
) -> io::Result<Fate> {
    let Some(session) = shared.lock().session.clone() else {
        if let Begun::Partly(mut send, ..) = begun {
            // Dropped as it is, some of the record would pass for all of it.
            let _ = send.reset(CALLED_BACK);
        }
        return Err(io::ErrorKind::NotConnected.into());
    };
    let mut recalled = pin!(recalled);
    let (mut send, mut recv, mut said) = match begun {
        Begun::Wholly(mut recv) => return read_answer(shared, &mut recv).await,
        Begun::Partly(send, recv, said) => (send, recv, said),
        Begun::Not(payload) => {
            // Biased: what need not wait is on its way, whether or not somebody waits for its
            // answer.
            let (send, recv) = tokio::select! {
                biased;
                opened = session.connection().open_bi() => opened?,
                Ok(()) = &mut recalled => return Ok(Fate::CalledBack),
            };
            let said = prepare(shared, &send, payload);
            (send, recv, said)
        }
    };
    let written = tokio::select! {
        biased;
        // Where it fails, the other side wants no more of it, and says why.
        written = send.write_all_chunks(&mut said) => written.is_ok(),
        Ok(()) = &mut recalled => false,
    };
    if written {
        // Not finished before, and not reset.
        let _ = send.finish();
        return read_answer(shared, &mut recv).await;
    }
    // It is over otherwise, and then there is an answer.
    let _ = send.reset(CALLED_BACK);
    match read_answer(shared, &mut recv).await {
        // The other side has seen the reset, and not all of the record; it may not even know
        // what the stream was for.
        Ok(Fate::Unanswered) => Ok(Fate::CalledBack),
        Err(_) if session.connection().close_reason().is_none() => Ok(Fate::CalledBack),
        fate => fate,
    }
}

async fn read_answer(shared: &Shared, recv: &mut RecvStream) -> io::Result<Fate> {
    let mut said = BytesMut::new();
    while let Some(chunk) = recv.read_chunk(usize::MAX, true).await? {
        let most = shared.max_ack_len.max(Refusal::MAX_LEN);
        if said.len() + chunk.bytes.len() > 1 + most {
            return Ok(Fate::Fault("an ack that is too long"));
        }
        said.extend_from_slice(&chunk.bytes);
    }
    let Some((&kind, _)) = said.split_first() else { return Ok(Fate::Unanswered) };
    let rest = said.freeze().slice(1..);
    let answer = match AnswerKind::of(kind) {
        Some(AnswerKind::Ack) if rest.len() <= shared.max_ack_len => Answer::Ack(rest),
        Some(AnswerKind::Refused) if rest.len() <= Refusal::MAX_LEN => {
            match std::str::from_utf8(&rest) {
                Ok(text) => Answer::Refused(Refusal::new(text)),
                Err(_) => return Ok(Fate::Fault("a refusal that is no text")),
            }
        }
        Some(AnswerKind::Discarded) if rest.is_empty() => Answer::Discarded,
        Some(AnswerKind::NoRoom) if rest.is_empty() => Answer::NoRoom,
        _ => return Ok(Fate::Fault("an answer of no known kind or length")),
    };
    Ok(Fate::Answered(answer))
}
