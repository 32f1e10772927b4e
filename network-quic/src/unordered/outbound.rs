//! A record on its way out, and its answer.

use std::{io, pin::pin, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use network_core::{Answer, RecordId, Refusal};
use quinn::RecvStream;
use tokio::sync::oneshot;

use super::{AnswerKind, CALLED_BACK, Shared};
use crate::stream::Purpose;

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

/// Sends a record, and reports its answer. Where nobody waits for that any more while the record
/// waits for room, it is called back.
pub(super) async fn send(
    shared: Arc<Shared>,
    id: RecordId,
    payload: Bytes,
    recalled: oneshot::Receiver<()>,
) {
    let fate = exchange(&shared, payload, recalled).await.unwrap_or(Fate::Lost);
    let (mut lost, mut unanswered, mut called_back) = (false, false, false);
    // Before it counts as done: what has no answer then is taken to be delivered. Each record has
    // one task, and so one answer.
    match fate {
        Fate::Answered(answer) => {
            let _ = shared.acks.answer(id, answer);
        }
        Fate::CalledBack => {
            called_back = true;
            let _ = shared.acks.answer(id, Answer::Discarded);
        }
        Fate::Fault(violation) => shared.fault(violation),
        Fate::Unanswered => unanswered = true,
        Fate::Lost => lost = true,
    }
    let mut state = shared.lock();
    state.under_way -= 1;
    state.lost |= lost;
    state.unanswered |= unanswered;
    if called_back {
        state.sent = state.sent.wrapping_sub(1);
    }
    if state.recalls.remove(&id.0).is_none() {
        state.recalling = state.recalling.saturating_sub(1);
    }
    shared.came(state);
}

async fn exchange(
    shared: &Shared,
    payload: Bytes,
    recalled: oneshot::Receiver<()>,
) -> io::Result<Fate> {
    // Biased: what need not wait is on its way, whether or not somebody waits for its answer.
    let session = shared.lock().session.clone().ok_or(io::ErrorKind::NotConnected)?;
    let opening = session.connection().open_bi();
    let mut recalled = pin!(recalled);
    let (mut send, mut recv) = tokio::select! {
        biased;
        opened = opening => opened?,
        Ok(()) = &mut recalled => return Ok(Fate::CalledBack),
    };
    if shared.priority != 0 {
        // It is open: nothing was reset.
        let _ = send.set_priority(shared.priority);
    }
    let mut head = BytesMut::with_capacity(9);
    head.put_u8(Purpose::Record as u8);
    head.put_u64_le(shared.control);
    let mut said = [head.freeze(), payload];
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
