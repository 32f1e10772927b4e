//! The one task of a connection: its control stream, its handler and its end.

use std::{
    future::poll_fn,
    io, mem,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    task::Poll,
    time::Duration,
};

use bytes::BytesMut;
use futures_util::stream::{FuturesUnordered, StreamExt};
use network_core::{
    CloseReason, Delivery, Limits, LinkEvents,
    wire::{CloseCode, Closing, Frame, FrameLimits, Output, decode},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split},
    time::{Instant, sleep_until, timeout},
};

use super::{Expected, Shared, outbound};
use crate::stream::{Stream, look_at};

/// No frame of a control stream carries a payload, but for the text of a close.
const FRAMES: FrameLimits = FrameLimits { record: 0, ack: 0 };

/// Tells the other side, which has its connection or is about to, that this side has none.
pub(super) fn say_revoked(mut stream: Stream, limits: &Limits) {
    let within = limits.close_time;
    tokio::spawn(async move {
        let mut output = Output::default();
        output.close(&Closing::of(&CloseReason::Revoked, 0));
        // It was told as far as that goes.
        let _ = timeout(within, write(&mut stream, &mut output)).await;
    });
}

pub(super) async fn run(
    stream: Stream,
    begun: BytesMut,
    shared: Arc<Shared>,
    mut events: LinkEvents,
    expected: Expected,
    limits: Limits,
) {
    let (reading, writing) = split(stream);
    let mut driver = Driver {
        shared: shared.clone(),
        input: begun,
        output: BytesMut::new(),
        heard: true,
        silence: Duration::ZERO,
        tick: Instant::now() + limits.keepalive_time,
        pings: 0,
        said_close: false,
        heard_close: None,
        told: false,
        said_done: false,
        heard_done: false,
        heard_end: false,
        finished: None,
        parting: None,
        unanswered: None,
        limits,
    };
    let (reason, unacked) = driver.drive(reading, writing, &mut events).await;
    // Records that still come are for nobody, and answers have nowhere to go.
    drop(expected);
    {
        let mut state = shared.lock();
        state.done();
        state.recalls.clear();
    }
    events.closed(&reason, unacked);
    events.finish().await;
}

struct Driver {
    shared: Arc<Shared>,
    input: BytesMut,
    /// What is to be written of frames.
    output: BytesMut,
    /// Whether anything was heard since the last tick, and for how long nothing was.
    heard: bool,
    silence: Duration,
    tick: Instant,
    pings: u32,
    said_close: bool,
    /// Why the other side closes, and how many records it has sent.
    heard_close: Option<(CloseReason, u32)>,
    /// The program has been told so.
    told: bool,
    said_done: bool,
    heard_done: bool,
    /// Nothing is under way any more at the other side.
    heard_end: bool,
    /// The end, of which the other side has been told.
    finished: Option<End>,
    /// Until when the goodbye may take.
    parting: Option<Instant>,
    /// Since when an answer is missing whose stream has ended.
    unanswered: Option<Instant>,
    limits: Limits,
}

type End = (CloseReason, Delivery);

impl Driver {
    async fn drive(
        &mut self,
        mut reading: ReadHalf<Stream>,
        mut writing: WriteHalf<Stream>,
        events: &mut LinkEvents,
    ) -> End {
        let mut clock = pin!(sleep_until(self.tick));
        // Here, and not in a task each: what comes together is then looked at in one turn.
        let mut answers = FuturesUnordered::new();
        let end = loop {
            if let Err(reason) = self.take_frames(events) {
                break self.broken(reason, writing).await;
            }
            let (fault, begun) = {
                let mut state = self.shared.lock();
                (state.fault.take(), mem::take(&mut state.begun))
            };
            for (id, answer) in begun {
                answers.push(outbound::finish(self.shared.clone(), id, answer));
            }
            if let Some(reason) = fault {
                break self.broken(reason, writing).await;
            }
            let drained = self.told
                && poll_fn(|cx| {
                    let _ = events.poll(cx);
                    Poll::Ready(events.poll_drained(cx).is_ready())
                })
                .await;
            self.step(drained, events);
            if self.finished.is_none() {
                self.finished = self.end();
                if self.finished.is_some() {
                    // The other side learns by the end of the stream that all that was under way
                    // from here has come.
                    let within = self.limits.close_time;
                    let _ = timeout(within, flush(&mut writing, &mut self.output)).await;
                }
            }
            if self.heard_end
                && let Some(end) = self.finished.take()
            {
                break end;
            }
            let shared = self.shared.clone();
            let until = self.parting.map_or(self.tick, |parting| parting.min(self.tick));
            if clock.deadline() != until {
                clock.as_mut().reset(until);
            }
            tokio::select! {
                read = reading.read_buf(&mut self.input), if !self.heard_end => match read {
                    Ok(0) if self.heard_done => self.heard_end = true,
                    Ok(0) => break self.cut_off(CloseReason::cut_off()),
                    Ok(_) => self.heard = true,
                    Err(error) => {
                        break self.finished.take().unwrap_or_else(|| self.cut_off(error.into()));
                    }
                },
                wrote = writing.write_buf(&mut self.output), if !self.output.is_empty() => {
                    if let Err(error) = wrote {
                        break self.cut_off(error.into());
                    }
                }
                () = shared.changed.notified() => {}
                () = poll_fn(|cx| {
                    while let Poll::Ready(Some(())) = answers.poll_next_unpin(cx) {}
                    let _ = events.poll(cx);
                    // Wakes this task when the rest has been handed out.
                    if self.told && !self.said_done && events.poll_drained(cx).is_ready() {
                        return Poll::Ready(());
                    }
                    Poll::Pending
                }) => {}
                () = &mut clock => {
                    if let Some(end) = self.tick() {
                        break end;
                    }
                }
            }
        };
        let begun = {
            let mut state = self.shared.lock();
            state.session = None;
            state.shut = true;
            mem::take(&mut state.begun)
        };
        for (id, answer) in begun {
            answers.push(outbound::finish(self.shared.clone(), id, answer));
        }
        // Answers that have come by now are answers, whatever came right behind them.
        while let Poll::Ready(Some(())) = look_at(answers.next()) {}
        end
    }

    fn take_frames(&mut self, events: &mut LinkEvents) -> Result<(), CloseReason> {
        loop {
            let frame = decode(&mut self.input, FRAMES).map_err(CloseReason::protocol)?;
            let Some(frame) = frame else { return Ok(()) };
            if self.heard_done {
                return Err(CloseReason::protocol("a frame after its last word"));
            }
            match frame {
                Frame::Close(closing) => {
                    if self.heard_close.is_some() {
                        return Err(CloseReason::protocol("a second close"));
                    }
                    let reason = closing.reason();
                    if matches!(closing.code, CloseCode::Protocol | CloseCode::TimedOut) {
                        // It has given up on this connection and says nothing more.
                        events.closing(&reason);
                        self.told = true;
                        self.parting = Some(Instant::now());
                    }
                    self.heard_close = Some((reason, closing.unacked));
                }
                Frame::Done if self.heard_close.is_some() && self.said_close => {
                    self.heard_done = true;
                }
                Frame::Done => {
                    return Err(CloseReason::protocol("a last word before both sides closed"));
                }
                Frame::Ping { id } => self.say(|output| output.pong(id)),
                Frame::Pong { .. } => {}
                _ => return Err(CloseReason::protocol("a record on a control stream")),
            }
        }
    }

    /// Goes on with the goodbye as far as that is possible now.
    fn step(&mut self, drained: bool, events: &mut LinkEvents) {
        let shared = self.shared.clone();
        let mut state = shared.lock();
        state.counting |= state.closing.is_some() || self.heard_close.is_some();
        if let Some((reason, sent)) = &self.heard_close {
            // The other side counts modulo 2³².
            if !self.told && state.come == *sent {
                self.told = true;
                events.closing(reason);
                // What it has to hand out is known with the next turn.
                shared.changed.notify_one();
            }
            if state.closing.is_none() && drained {
                state.closing = Some(CloseReason::Local);
            }
        }
        if state.closing.is_some() {
            state.shut = true;
        }
        let parting = self.heard_close.is_some() || state.closing.is_some();
        if parting && self.parting.is_none() {
            self.parting = Some(Instant::now() + self.limits.close_time);
        }
        // Those that are being called back count or do not: soon it is known.
        let settled = state.recalling == 0 && !self.said_close;
        if let Some(reason) = state.closing.clone().filter(|_| settled) {
            self.said_close = true;
            let sent = state.sent;
            self.say(|output| output.close(&Closing::of(&reason, sent)));
        }
        if self.said_close && drained && !self.said_done {
            self.said_done = true;
            state.done();
            self.say(Output::done);
        }
        if state.unanswered && !parting && self.unanswered.is_none() {
            self.unanswered = Some(Instant::now());
        }
    }

    /// The end, once all that is to be known of the records is known.
    fn end(&self) -> Option<End> {
        let state = self.shared.lock();
        if !self.said_done || !self.heard_done || state.under_way > 0 {
            return None;
        }
        let unacked = if state.lost { Delivery::Unknown } else { Delivery::Delivered };
        Some((self.reason(CloseReason::Local), unacked))
    }

    fn tick(&mut self) -> Option<End> {
        let now = Instant::now();
        if self.parting.is_some_and(|parting| now >= parting) {
            if let Some(end) = self.finished.take() {
                return Some(end);
            }
            return Some((self.reason(CloseReason::TimedOut), Delivery::Unknown));
        }
        if now < self.tick {
            return None;
        }
        self.tick = now + self.limits.keepalive_time;
        if self.unanswered.is_some_and(|since| now - since >= self.limits.close_time) {
            self.shared.fault("a record's stream that ends without an answer");
        }
        self.heard |= self.shared.heard.swap(false, Ordering::Relaxed);
        if mem::take(&mut self.heard) {
            self.silence = Duration::ZERO;
        } else {
            self.silence += self.limits.keepalive_time;
            if self.silence >= self.limits.idle_time {
                return Some((self.reason(CloseReason::TimedOut), Delivery::Unknown));
            }
            if self.output.is_empty() && !self.said_close {
                self.pings = self.pings.wrapping_add(1);
                let ping = self.pings;
                self.say(|output| output.ping(ping));
            }
        }
        None
    }

    /// The other side broke the protocol: it is told so.
    async fn broken(&mut self, reason: CloseReason, mut writing: WriteHalf<Stream>) -> End {
        if !self.said_close {
            self.say(|output| output.close(&Closing::of(&reason, 0)));
        }
        let within = self.limits.close_time.min(Duration::from_secs(1));
        let _ = timeout(within, flush(&mut writing, &mut self.output)).await;
        (reason, Delivery::Unknown)
    }

    fn cut_off(&self, reason: CloseReason) -> End {
        (self.reason(reason), Delivery::Unknown)
    }

    /// Theirs if they have given one.
    fn reason(&self, other: CloseReason) -> CloseReason {
        self.heard_close.as_ref().map_or(other, |(reason, _)| reason.clone())
    }

    fn say(&mut self, what: impl FnOnce(&mut Output)) {
        // Whoever does not read answers to its pings gets no more of them.
        const MOST: usize = 4 << 10;
        if self.output.len() > MOST {
            return;
        }
        let mut output = Output::default();
        what(&mut output);
        let mut slices = [io::IoSlice::new(&[]); 4];
        let set = output.slices(&mut slices);
        slices[..set].iter().for_each(|slice| self.output.extend_from_slice(slice));
    }
}

async fn flush(writing: &mut WriteHalf<Stream>, output: &mut BytesMut) -> io::Result<()> {
    while !output.is_empty() {
        writing.write_buf(output).await?;
    }
    writing.shutdown().await
}

async fn write(stream: &mut Stream, output: &mut Output) -> io::Result<()> {
    while !output.is_empty() {
        let mut slices = [io::IoSlice::new(&[]); 4];
        let set = output.slices(&mut slices);
        let written = stream.write_vectored(&slices[..set]).await?;
        output.written(written);
    }
    stream.shutdown().await
}
