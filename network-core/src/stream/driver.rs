//! The one task of a connection: it moves both directions and runs the handler.
//!
//! One task instead of a reader, a writer and a handler task: a record then costs no wake-up
//! between them, all acks of one read go out in one write, and an idle connection is small.

use std::{
    future::Future,
    io::{self, IoSlice},
    mem,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, Sleep, sleep, timeout},
};

use super::link::{Load, Shared, inbound_id, shared_id};
use crate::{
    budget::Share,
    close::{CloseReason, Delivery},
    flag::Flag,
    limits::Limits,
    seam::{LinkEvents, RecordId},
    window::Answer,
    wire::{CloseCode, Closing, Frame, FrameLimits, Input, Output},
};

/// How many slices a vectored write takes: 32 records by reference.
const SLICES: usize = 64;

/// From this much output on, the driver lets go of its worker once before it writes. The write
/// takes long, and a worker that wakes up for it looks after the sockets meanwhile: without it
/// a client and a server in one process took turns on one core, at 0.6 of the speed.
const LARGE: usize = 256 << 10;

/// How many bytes a second of a frame must come, on average and beyond the first
/// `idle_time`: what has come of it holds memory that others could have.
const LEAST_RATE: u64 = 16 << 10;

/// How often a turn reads and writes before other tasks have theirs. Tokio's own streams stop
/// earlier by its budget; those of others need not.
const TURNS: usize = 128;

pub(super) struct Driver<S> {
    stream: S,
    input: Input,
    /// Whether `input` holds bytes that nobody has looked at.
    begun: bool,
    /// How many records were taken to be written and have no answer: no honest peer answers
    /// what it cannot have read.
    unanswered: u64,
    /// Whether the last write had to wait.
    blocked: bool,
    /// What is being written. What is to be written next is in `shared`.
    output: Output,
    flushed: bool,
    shared: Arc<Shared>,
    events: LinkEvents,
    /// Answers to records of this side; empty between turns.
    acked: Vec<(RecordId, Answer)>,
    /// How much the peer may have un-acked, and how much it has.
    granted: Load,
    used: Load,
    /// The memory that records without an answer take, and answers that are not written.
    share: Share,
    /// What of it the answers in `output` take.
    leaving: usize,
    /// How many senders the last acks woke, until their next records are gathered.
    woken: u32,
    pong: Option<u32>,
    /// Why the peer closes, and how many of its records were un-acked then.
    heard_close: Option<(CloseReason, u32)>,
    heard_done: bool,
    /// Why the stream has ended, once it has.
    ended: Option<CloseReason>,
    /// Ticks for the keepalive, and, once this side closes, runs out for the goodbye.
    tick: Pin<Box<Sleep>>,
    said_close: bool,
    /// Whether the close of this side is in `output`, or was.
    close_taken: bool,
    parting: bool,
    ticked: Flag,
    /// Whether anything was read since the last tick, and for how many nothing was.
    heard: bool,
    silence: u32,
    pings: u32,
    keepalive_time: Millis,
    idle_time: Millis,
    close_time: Millis,
}

/// A time in half the space of a [`Duration`]: a driver is in every idle connection.
#[derive(Clone, Copy)]
struct Millis(u64);

impl Millis {
    /// Rounded up: a short time is not none.
    fn of(time: Duration) -> Self {
        Self(u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
    }

    fn time(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

/// A driver from its first turn until `on_close` has run.
///
/// Written by hand: as an `async fn` it would be two and a half times the size, in every
/// idle connection, and too large for the allocator's caches of its thread.
#[expect(clippy::large_enum_variant, reason = "the large one is the one that lasts")]
pub(super) enum Running<S> {
    Driving(Driver<S>),
    Finishing(LinkEvents),
    Over,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Future for Running<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            *self = match &mut *self {
                Self::Driving(driver) => {
                    let end = ready!(driver.poll(cx));
                    let Self::Driving(mut driver) = mem::replace(&mut *self, Self::Over) else {
                        return Poll::Ready(());
                    };
                    match end {
                        // The socket goes here: it does not wait for `on_close`.
                        Ok((reason, unacked)) => {
                            driver.events.closed(&reason, unacked);
                            let Driver { shared, share, leaving, events, .. } = driver;
                            shared.retire(share, leaving);
                            Self::Finishing(events)
                        }
                        Err(Fault(reason)) => {
                            driver.events.closed(&reason, Delivery::Unknown);
                            let Driver { stream, mut output, close_time, events, .. } = driver;
                            let Driver { shared, share, leaving, .. } = driver;
                            shared.retire(share, 0);
                            if !driver.close_taken {
                                output.close(&Closing::of(&reason, 0));
                            }
                            // In a task of its own: `on_close` does not wait for it.
                            tokio::spawn(async move {
                                part(stream, output, close_time.time()).await;
                                shared.parted(leaving);
                            });
                            Self::Finishing(events)
                        }
                    }
                }
                Self::Finishing(events) => {
                    ready!(events.poll(cx));
                    Self::Over
                }
                Self::Over => return Poll::Ready(()),
            }
        }
    }
}

/// How a connection ended, and what became of the records without an answer.
type End = (CloseReason, Delivery);

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Driver<S> {
    /// `begun` are bytes that were read already.
    pub(super) fn new(
        stream: S,
        begun: BytesMut,
        shared: Arc<Shared>,
        events: LinkEvents,
        limits: &Limits,
        share: Share,
    ) -> Self {
        let frames = FrameLimits { record: limits.max_record_len, ack: limits.max_ack_len };
        Self {
            stream,
            begun: !begun.is_empty(),
            unanswered: 0,
            blocked: false,
            input: Input::new(begun, frames),
            output: Output::default(),
            flushed: true,
            shared,
            events,
            acked: Vec::new(),
            granted: Load { records: limits.window_records, bytes: limits.window_bytes },
            used: Load::default(),
            share,
            leaving: 0,
            woken: 0,
            pong: None,
            heard_close: None,
            heard_done: false,
            ended: None,
            said_close: false,
            close_taken: false,
            parting: false,
            tick: Box::pin(sleep(limits.keepalive_time)),
            ticked: Flag::default(),
            heard: false,
            silence: 0,
            pings: 0,
            keepalive_time: Millis::of(limits.keepalive_time),
            idle_time: Millis::of(limits.idle_time),
            close_time: Millis::of(limits.close_time),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<End, Fault>> {
        let mut written = false;
        for _ in 0..TURNS {
            let read = self.poll_read(cx);
            let acked = self.acked.len() as u32;
            let Some(unanswered) = self.unanswered.checked_sub(u64::from(acked)) else {
                return Poll::Ready(Err(Fault::protocol("an ack for a record that was not sent")));
            };
            self.unanswered = unanswered;
            if acked > 0 && self.events.answers(self.acked.drain(..)).is_err() {
                return Poll::Ready(Err(Fault::protocol("an ack for a record that has none due")));
            }
            let read = read?;
            let _ = self.events.poll(cx);
            let drained = self.heard_close.is_some() && self.events.poll_drained(cx).is_ready();
            if self.merge(acked, drained, written && !read, cx).is_pending() {
                return Poll::Pending;
            }
            let wrote = match self.poll_write(cx) {
                Poll::Ready(Ok(wrote)) => wrote,
                Poll::Ready(Err(error)) => return Poll::Ready(Ok(self.end(error.into()))),
                Poll::Pending => false,
            };
            written |= wrote;
            if let Some(reason) = self.ended.take() {
                return Poll::Ready(Ok(self.end(reason)));
            }
            if self.heard_close.is_some() && self.all_said() {
                // No shutdown first: the frames have said the end, the stream need not.
                return Poll::Ready(Ok(self.end(CloseReason::Remote)));
            }
            if self.parting && Instant::now() >= self.tick.deadline() {
                let reason = self.remote_reason().unwrap_or(CloseReason::TimedOut);
                return Poll::Ready(Ok((reason, Delivery::Unknown)));
            }
            if !read && !wrote {
                return self.poll_timers(cx).map(Ok);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads once and takes in all whole frames; false if nothing was there.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<bool, Fault> {
        if self.ended.is_some() || self.heard_done {
            return Ok(false);
        }
        if mem::take(&mut self.begun) {
            // The peer's first frames may have come with its opening.
            self.take_frames()?;
            return Ok(true);
        }
        let reading = pin!(self.stream.read_buf(self.input.prepare())).poll(cx);
        match reading {
            Poll::Pending => return Ok(false),
            Poll::Ready(Ok(0)) => {
                self.ended = Some(CloseReason::cut_off());
                return Ok(false);
            }
            Poll::Ready(Err(error)) => {
                self.ended = Some(error.into());
                return Ok(false);
            }
            Poll::Ready(Ok(read)) => self.input.grew_by(read),
        }
        self.heard = true;
        self.take_frames()?;
        Ok(true)
    }

    fn take_frames(&mut self) -> Result<(), Fault> {
        loop {
            if let Some((id, len)) = self.input.skipped() {
                let record = self.count_record(id, len)?;
                self.shared.lock().push_answer(record, Answer::NoRoom);
            }
            match self.input.next_frame().map_err(Fault::protocol)? {
                Some(frame) => self.take_in(frame)?,
                None => break,
            }
        }
        if let Some(len) = self.input.announced() {
            // Before any of it is kept: may it be?
            self.with_record(len)?;
        }
        // A large record is coming in: is there memory for it?
        let coming = self.input.waiting();
        if coming > Share::FREE && !self.share.cover(coming) {
            self.input.skip_record();
            self.share.settle(0);
        }
        Ok(())
    }

    /// What the peer has un-acked with one record more.
    fn with_record(&self, len: usize) -> Result<Load, Fault> {
        if self.heard_close.is_some() {
            return Err(Fault::protocol("a record after its close"));
        }
        let Load { records, bytes } = self.used;
        let used = Load { records: records + 1, bytes: bytes + len as u64 };
        if used.records > self.granted.records || used.bytes > self.granted.bytes {
            return Err(Fault::protocol("more un-acked records than its window"));
        }
        Ok(used)
    }

    /// Counts a record against the window.
    fn count_record(&mut self, id: u32, len: usize) -> Result<RecordId, Fault> {
        self.used = self.with_record(len)?;
        Ok(inbound_id(id, len))
    }

    /// Takes in a record, if there is memory for it.
    fn take_record(&mut self, record: RecordId, payload: Bytes) {
        let len = payload.len();
        if self.input.is_shared() {
            let (shared, extra) = shared_id(record);
            if self.share.hold_with(len, extra) {
                return self.events.record(shared, payload);
            }
            // A copy needs less.
            if self.share.hold(len) {
                return self.events.record(record, Bytes::copy_from_slice(&payload));
            }
        } else if self.share.hold(len) {
            return self.events.record(record, payload);
        }
        self.shared.lock().push_answer(record, Answer::NoRoom);
    }

    fn take_in(&mut self, frame: Frame) -> Result<(), Fault> {
        if self.heard_done {
            return Err(Fault::protocol("a frame after its last word"));
        }
        match frame {
            Frame::Record { id, payload } => {
                let record = self.count_record(id, payload.len())?;
                self.take_record(record, payload);
            }
            Frame::Ack { id, payload } => self.answered(id, Answer::Ack(payload)),
            Frame::Refused { id, refusal } => self.answered(id, Answer::Refused(refusal)),
            Frame::Discarded { id } => self.answered(id, Answer::Discarded),
            Frame::NoRoom { id } => self.answered(id, Answer::NoRoom),
            Frame::Close(closing) => {
                if self.heard_close.is_some() {
                    return Err(Fault::protocol("a second close"));
                }
                let reason = closing.reason();
                if closing.code == CloseCode::Protocol || closing.code == CloseCode::TimedOut {
                    // It has given up on this connection and says nothing more.
                    self.ended = Some(reason.clone());
                }
                self.events.closing(&reason);
                self.heard_close = Some((reason, closing.unacked));
            }
            Frame::Done => {
                // What was not written yet, the peer cannot have read.
                let said_close = self.close_taken && self.output.is_empty();
                if self.heard_close.is_none() || !said_close {
                    return Err(Fault::protocol("a last word before both sides closed"));
                }
                self.heard_done = true;
            }
            Frame::Ping { id } => self.pong = Some(id),
            Frame::Pong { .. } => {}
        }
        Ok(())
    }

    fn answered(&mut self, id: u32, answer: Answer) {
        self.acked.push((RecordId(u64::from(id)), answer));
    }

    /// Adds what this turn brought to what senders have added, and takes it all to be
    /// written, unless something is still being written. Pending: others go first.
    fn merge(&mut self, acked: u32, drained: bool, again: bool, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.shared.lock();
        let state = &mut *state;
        self.woken = self.woken.max(acked);
        let (change, unshared) = (mem::take(&mut state.change), mem::take(&mut state.unshared));
        if change != 0 || unshared != 0 {
            self.share.change(change, unshared);
            self.share.settle(self.input.waiting());
        }
        if drained && !state.said_done {
            let theirs = self.heard_close.as_ref().map_or(0, |(_, unacked)| *unacked);
            let ours = self.events.unacked();
            state.said_done = true;
            if theirs == 0 && ours == 0 {
                // Nobody has anything left to learn: the end of the stream says it all, which
                // saves a write and a read for each connection that ends in peace.
                state.said_close = state.said_close.or(Some(0));
            } else {
                state.push_close(&CloseReason::Local, ours);
                if theirs > 0 {
                    state.output.done();
                }
            }
        }
        self.said_close = state.said_close.is_some();
        if state.task.is_none() {
            state.task = Some(cx.waker().clone());
        }
        if !self.output.is_empty() {
            return Poll::Ready(());
        }
        if let Some(id) = self.pong.take()
            && state.said_close.is_none()
        {
            state.output.pong(id);
        }
        if state.output.is_empty() {
            match &mut state.driver {
                Some(waker) => waker.clone_from(cx.waker()),
                None => state.driver = Some(cx.waker().clone()),
            }
            return Poll::Ready(());
        }
        // Senders on tasks of their own, woken by the acks of one read, each add one record:
        // going once to the back of the run queue, behind them, turns 64 writes into one.
        // Where one task sends for all, or nothing else is under way, it writes at once.
        //
        // `again`: it has just written, and there is more: a sender on another core adds record
        // after record. Two that take turns at one lock are slow: leaving it to the sender is
        // worth a third of the speed over QUIC, whose writes are short.
        let expected = mem::take(&mut self.woken);
        let large = expected > 0 && state.output.len() >= LARGE;
        if state.answered.records == 0
            && (state.queued < expected / 2 || large || again)
            && state.said_close.is_none()
        {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.unanswered += u64::from(mem::take(&mut state.queued));
        self.close_taken = self.said_close;
        mem::swap(&mut self.output, &mut state.output);
        // From here on the peer may have the answers and use its window again.
        let answered = mem::take(&mut state.answered);
        self.used.records = self.used.records.saturating_sub(answered.records);
        self.used.bytes = self.used.bytes.saturating_sub(answered.bytes);
        self.leaving += mem::take(&mut state.leaving);
        Poll::Ready(())
    }

    /// Writes and flushes what is taken; true if it wrote all of something.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut wrote = false;
        while !self.output.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let set = self.output.slices(&mut slices);
            let stream = Pin::new(&mut self.stream);
            // A write that goes on after it was blocked: the peer reads, so it is there.
            let Poll::Ready(written) = stream.poll_write_vectored(cx, &slices[..set])? else {
                self.blocked = true;
                return Poll::Pending;
            };
            self.heard |= mem::take(&mut self.blocked);
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let before = self.output.len();
            self.output.written(written);
            self.answers_left(before);
            self.flushed = false;
            wrote = true;
        }
        // Also with nothing left to write: a flush that is pending is work that is pending.
        if !self.flushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.flushed = true;
        }
        Poll::Ready(Ok(wrote))
    }

    /// Gives back what answers held that have been written, of `before` bytes that waited.
    #[inline]
    fn answers_left(&mut self, before: usize) {
        let left = match self.output.len() {
            0 => 0,
            // Some are parts of larger records, which stay whole until the last of them left.
            _ if self.leaving > before => self.leaving,
            len => self.leaving.min(len),
        };
        if left < self.leaving {
            self.share.change(left as isize - self.leaving as isize, 0);
            self.share.settle(self.input.waiting());
            self.leaving = left;
        }
    }

    /// Whether all was said: the last word of this side has left, and that of the peer is
    /// here, or not needed.
    fn all_said(&self) -> bool {
        self.output.is_empty() && self.flushed && {
            let state = self.shared.lock();
            let told = self.heard_done || state.said_close == Some(0);
            told && state.said_done && state.output.is_empty()
        }
    }

    fn poll_timers(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.said_close && !self.parting {
            self.parting = true;
            self.tick.as_mut().reset(Instant::now() + self.close_time.time());
        }
        let Some(ticked) = self.ticked.take(false, cx) else { return Poll::Pending };
        let mut ticked = Context::from_waker(ticked);
        while self.tick.as_mut().poll(&mut ticked).is_ready() {
            if self.parting {
                let reason = self.remote_reason().unwrap_or(CloseReason::TimedOut);
                return Poll::Ready((reason, Delivery::Unknown));
            }
            let (period, idle_time) = (self.keepalive_time.time(), self.idle_time.time());
            self.tick.as_mut().reset(Instant::now() + period);
            if let Some((ticks, come)) = self.input.tick() {
                // It began between two ticks.
                let spent = period.saturating_mul(ticks - 1);
                let due = Duration::from_millis(come as u64 * 1000 / LEAST_RATE);
                if spent >= idle_time.saturating_add(due) {
                    return Poll::Ready((CloseReason::TimedOut, Delivery::Unknown));
                }
            }
            if mem::take(&mut self.heard) {
                self.silence = 0;
                continue;
            }
            self.silence += 1;
            if period.saturating_mul(self.silence) >= idle_time {
                return Poll::Ready((CloseReason::TimedOut, Delivery::Unknown));
            }
            self.acked = Vec::new();
            self.input.shrink();
            self.output.shrink();
            let mut state = self.shared.lock();
            state.output.shrink();
            if state.said_close.is_none() && self.output.is_empty() {
                self.pings = self.pings.wrapping_add(1);
                state.output.ping(self.pings);
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }

    /// The end of the stream. After a complete goodbye all is known: what the peer did not
    /// answer or discard, it has handed to its handler.
    fn end(&self, reason: CloseReason) -> End {
        let complete = self.heard_done && self.shared.lock().said_done;
        let unacked = if complete { Delivery::Delivered } else { Delivery::Unknown };
        (self.remote_reason().unwrap_or(reason), unacked)
    }

    fn remote_reason(&self) -> Option<CloseReason> {
        self.heard_close.as_ref().map(|(reason, _)| reason.clone())
    }
}

/// Says the last word to a peer, such as what it did that breaks the protocol, as far as it
/// listens: for a moment and for so many bytes, and no longer. What else it sends is thrown away; without reading on,
/// the reset of the socket could overtake the word.
pub(super) async fn part<S>(mut stream: S, mut output: Output, close_time: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    const MOST: usize = 1 << 20;
    let telling = async {
        while !output.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let set = output.slices(&mut slices);
            let written = stream.write_vectored(&slices[..set]).await?;
            if written == 0 {
                return Ok(());
            }
            output.written(written);
        }
        stream.shutdown().await?;
        let mut scratch = vec![0; 16 << 10];
        let mut thrown = 0;
        while thrown < MOST {
            match stream.read(&mut scratch).await? {
                0 => break,
                read => thrown += read,
            }
        }
        io::Result::Ok(())
    };
    // It was told as far as that goes.
    let _ = timeout(close_time.min(Duration::from_secs(1)), telling).await;
}

/// The peer broke the protocol.
struct Fault(CloseReason);

impl Fault {
    fn protocol(violation: impl std::fmt::Display) -> Self {
        Self(CloseReason::protocol(violation))
    }
}
