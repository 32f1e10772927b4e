//! Dialers that do not keep to the protocol. Each costs its own connection, and no more.

use std::time::Duration;

use network_core::{
    Bytes, CloseReason, Connection, Delivery, Limits, SendError,
    wire::{CloseCode, Frame, Reply},
};

use crate::{
    lab::{Ground, Lab},
    peer::{ACK, DISCARDED, Peer, RECORD, REFUSED, encoded, header, hello},
    tools::{limits, Gate, Probe, Seen, eventually, pattern, poll_once, probe, send, submit, within},
};

/// A connection that a raw peer has opened.
#[derive(Debug)]
struct Victim {
    peer: Peer,
    connection: Connection,
    seen: Seen,
    ground: Ground,
}

async fn victim(lab: &Lab, limits: Limits) -> Victim {
    let (handler, seen) = probe();
    victim_with(lab, limits, handler, seen).await
}

async fn victim_with(lab: &Lab, theirs: Limits, handler: Probe, seen: Seen) -> Victim {
    let mut ground = lab.ground(theirs, limits()).await;
    let listening = ground.server.local_endpoint().clone();
    let mut peer = Peer::dial(lab, &listening).await;
    peer.write(&hello(lab, &listening, &limits())).await;
    let attempt = within("an attempt", ground.attempts.next()).await.unwrap();
    let connection = attempt.accept(handler).await.unwrap();
    expect!(peer.reply().await, Some(Reply::Welcome(_)));
    Victim { peer, connection, seen, ground }
}

impl Victim {
    /// The connection closed for a broken protocol, the peer was told, and a neighbour is
    /// served.
    async fn left(mut self) -> Seen {
        let last = self.peer.rest().await.pop();
        expect!(last, Some(Frame::Close(closing))
            if closing.code == CloseCode::Protocol && !closing.text.text().is_empty());
        drop(self.peer);
        let reason = within("the close", self.connection.closed()).await;
        assert!(!reason.is_intended());
        expect!(reason, CloseReason::Protocol(_));
        send(&neighbour(&mut self.ground).await, "hello").await;
        self.seen
    }
}

/// A connection beside that of the victim, by somebody who behaves.
async fn neighbour(ground: &mut Ground) -> Connection {
    let connecting = ground.client.connect(&ground.address, ());
    let accepting = async { ground.attempts.next().await.unwrap().accept(()).await.unwrap() };
    let (neighbour, _) = within("a neighbour", async { tokio::join!(connecting, accepting) }).await;
    neighbour.unwrap()
}

pub(crate) async fn a_record_over_the_limit_breaks_the_protocol(lab: Lab) {
    for len in [1_001, 1 << 24, u32::MAX as usize] {
        let mut victim = victim(&lab, limits().with_max_record_len(1_000)).await;
        // Its header is enough.
        victim.peer.write(&header(RECORD, 1, len)).await;
        let mut seen = victim.left().await;
        expect!(seen.close().await, CloseReason::Protocol(_));
    }
}

pub(crate) async fn records_over_the_window_break_the_protocol(lab: Lab) {
    let gate = Gate::new();
    let (handler, seen) = probe();
    let limits = limits().with_window_records(4);
    let mut victim = victim_with(&lab, limits, handler.gated(&gate), seen).await;
    for id in 0..4 {
        victim.peer.say(|output| output.record(id, "held".into())).await;
        assert_eq!(victim.seen.record().await, "held");
    }
    victim.peer.say(|output| output.record(4, "too many".into())).await;
    let mut seen = victim.left().await;
    expect!(seen.close().await, CloseReason::Protocol(_));
    gate.open();
}

pub(crate) async fn bytes_over_the_window_break_the_protocol(lab: Lab) {
    let gate = Gate::new();
    let (handler, seen) = probe();
    let limits = limits().with_max_record_len(1_000).with_window_bytes(2_500);
    let mut victim = victim_with(&lab, limits, handler.gated(&gate), seen).await;
    for id in 0..2 {
        victim.peer.say(|output| output.record(id, pattern(1_000, 0))).await;
        assert_eq!(victim.seen.record().await.len(), 1_000);
    }
    victim.peer.say(|output| output.record(2, pattern(501, 0))).await;
    let mut seen = victim.left().await;
    expect!(seen.close().await, CloseReason::Protocol(_));
    gate.open();
}

pub(crate) async fn an_unknown_frame_breaks_the_protocol(lab: Lab) {
    for kind in [0, 9, 100, 255] {
        let mut victim = victim(&lab, limits()).await;
        victim.peer.write(&header(kind, 0, 0)).await;
        victim.left().await;
    }
}

pub(crate) async fn a_stale_ack_breaks_the_protocol(lab: Lab) {
    for kind in [ACK, REFUSED, DISCARDED] {
        for id in [0, 1, 70_000, u32::MAX] {
            let mut victim = victim(&lab, limits()).await;
            victim.peer.write(&header(kind, id, 0)).await;
            victim.left().await;
        }
    }
}

/// The next record that the victim sends.
async fn next_record(peer: &mut Peer) -> (u32, Bytes) {
    match peer.frame().await {
        Some(Frame::Record { id, payload }) => (id, payload),
        other => panic!("expected a record, got {other:?}"),
    }
}

pub(crate) async fn a_second_ack_breaks_the_protocol(lab: Lab) {
    let mut victim = victim(&lab, limits()).await;
    let ack = submit(&victim.connection, "hello").await;
    let (id, _) = next_record(&mut victim.peer).await;
    victim.peer.say(|output| output.ack(id, "once".into())).await;
    assert_eq!(within("an ack", ack).await.unwrap(), "once");
    victim.peer.say(|output| output.ack(id, "twice".into())).await;
    victim.left().await;
}

pub(crate) async fn an_ack_over_the_limit_breaks_the_protocol(lab: Lab) {
    let mut victim = victim(&lab, limits().with_max_ack_len(100)).await;
    let ack = submit(&victim.connection, "hello").await;
    let (id, _) = next_record(&mut victim.peer).await;
    victim.peer.write(&header(ACK, id, 101)).await;
    let error = within("a result", ack).await.unwrap_err();
    assert_eq!(error.delivery(), Delivery::Unknown);
    victim.left().await;
}

pub(crate) async fn a_text_that_is_none_breaks_the_protocol(lab: Lab) {
    let mut victim = victim(&lab, limits()).await;
    let ack = submit(&victim.connection, "hello").await;
    let (id, _) = next_record(&mut victim.peer).await;
    let mut refusal = header(REFUSED, id, 2);
    refusal.extend_from_slice(&[0xc3, 0x28]);
    victim.peer.write(&refusal).await;
    within("a result", ack).await.unwrap_err();
    victim.left().await;
}

pub(crate) async fn a_record_after_a_close_breaks_the_protocol(lab: Lab) {
    let gate = Gate::new();
    let (handler, seen) = probe();
    // Something is still to be handled, so that the goodbye is not over yet.
    let handler = handler.gated(&gate).serial();
    let mut victim = victim_with(&lab, limits(), handler, seen).await;
    victim.peer.say(|output| output.record(1, "one".into())).await;
    victim.peer.say(|output| output.record(2, "two".into())).await;
    assert_eq!(victim.seen.record().await, "one");
    victim.peer.close().await;
    victim.peer.say(|output| output.record(3, "after the close".into())).await;
    let frames = victim.peer.rest().await;
    expect!(frames.last(), Some(Frame::Close(closing)) if closing.code == CloseCode::Protocol);
    gate.open();
    let rest = victim.seen.rest().await;
    assert!(!format!("{rest:?}").contains("after the close"), "{rest:?}");
}

pub(crate) async fn a_second_close_breaks_the_protocol(lab: Lab) {
    let gate = Gate::new();
    let (handler, seen) = probe();
    let handler = handler.gated(&gate).serial();
    let mut victim = victim_with(&lab, limits(), handler, seen).await;
    victim.peer.say(|output| output.record(1, "one".into())).await;
    victim.peer.say(|output| output.record(2, "two".into())).await;
    assert_eq!(victim.seen.record().await, "one");
    victim.peer.close().await;
    victim.peer.close().await;
    let frames = victim.peer.rest().await;
    expect!(frames.last(), Some(Frame::Close(closing)) if closing.code == CloseCode::Protocol);
    gate.open();
}

pub(crate) async fn a_last_word_too_early_breaks_the_protocol(lab: Lab) {
    let mut victim = victim(&lab, limits()).await;
    victim.peer.say(|output| output.done()).await;
    victim.left().await;
}

pub(crate) async fn a_record_cut_short_reaches_nobody(lab: Lab) {
    for len in [0, 1, 50, 99] {
        let mut victim = victim(&lab, limits()).await;
        victim.peer.say(|output| output.record(1, "whole".into())).await;
        assert_eq!(victim.seen.record().await, "whole");
        let mut part = header(RECORD, 2, 100);
        part.resize(part.len() + len, 7);
        victim.peer.write(&part).await;
        drop(victim.peer);
        let reason = victim.seen.close().await;
        assert!(!reason.is_intended());
        expect!(reason, CloseReason::Io(_));
    }
}

pub(crate) async fn a_peer_that_vanishes_leaves_delivery_unknown(lab: Lab) {
    let mut victim = victim(&lab, limits()).await;
    let ack = submit(&victim.connection, "hello").await;
    next_record(&mut victim.peer).await;
    drop(victim.peer);
    let error = within("a result", ack).await.unwrap_err();
    assert_eq!(error.delivery(), Delivery::Unknown);
    expect!(error, SendError::AckLost { reason: CloseReason::Io(_), .. });
    expect!(victim.seen.close().await, CloseReason::Io(_));
    assert_eq!(victim.seen.rest().await.len(), 0);
    eventually("nothing is open", || victim.ground.there.connections() == 0).await;
}

fn impatient() -> Limits {
    limits()
        .with_keepalive_time(Duration::from_millis(50))
        .with_idle_time(Duration::from_millis(200))
}

pub(crate) async fn a_peer_that_falls_silent_is_given_up(lab: Lab) {
    let mut victim = victim(&lab, impatient()).await;
    let ack = submit(&victim.connection, "hello").await;
    expect!(victim.seen.close().await, CloseReason::TimedOut);
    let error = within("a result", ack).await.unwrap_err();
    assert_eq!(error.delivery(), Delivery::Unknown);
    let frames = victim.peer.rest().await;
    assert!(frames.iter().any(|frame| matches!(frame, Frame::Ping { .. })), "{frames:?}");
}

pub(crate) async fn a_peer_that_answers_pings_is_kept(lab: Lab) {
    let mut victim = victim(&lab, impatient()).await;
    // More than it may be silent for.
    for _ in 0..10 {
        match victim.peer.frame().await {
            Some(Frame::Ping { id }) => victim.peer.say(|output| output.pong(id)).await,
            other => panic!("expected a ping, got {other:?}"),
        }
    }
    assert!(victim.connection.close_reason().is_none());
    victim.peer.say(|output| output.ping(99)).await;
    expect!(victim.peer.frame().await, Some(Frame::Pong { id: 99 }));
}

pub(crate) async fn a_peer_that_never_says_goodbye_is_not_waited_for(lab: Lab) {
    let limits = limits().with_close_time(Duration::from_millis(200));
    let mut victim = victim(&lab, limits).await;
    let ack = submit(&victim.connection, "hello").await;
    next_record(&mut victim.peer).await;
    within("a close", victim.connection.close()).await;
    let error = within("a result", ack).await.unwrap_err();
    assert_eq!(error.delivery(), Delivery::Unknown);
    expect!(victim.seen.close().await, CloseReason::Local);
    victim.peer.is_turned_away().await;
}

/// Writes until that much is written, or the other side has ended the stream or takes no
/// more for a second.
async fn flood(peer: &mut Peer, bytes: &[u8], most: usize) {
    let mut written = 0;
    while written < most {
        let writing = tokio::time::timeout(Duration::from_secs(1), peer.try_write(bytes));
        if !matches!(writing.await, Ok(Ok(()))) {
            return;
        }
        written += bytes.len();
    }
}

pub(crate) async fn a_flood_that_reads_no_acks_is_bounded(lab: Lab) {
    let limits = limits().with_window_bytes(1 << 20).with_max_record_len(64 << 10);
    let mut victim = victim(&lab, limits).await;
    let records = encoded(|output| (0..16).for_each(|id| output.record(id, pattern(60_000, 0))));
    let mut peer = victim.peer;
    let flooding = tokio::spawn(async move { flood(&mut peer, &records, usize::MAX).await });
    // Meanwhile a neighbour is served.
    let neighbour = neighbour(&mut victim.ground).await;
    for _ in 0..100 {
        send(&neighbour, "hello").await;
    }
    within("the end of the flood", flooding).await.unwrap();
    // It had more un-acked than its window: acks that it does not read give nothing back.
    expect!(within("the close", victim.connection.closed()).await, CloseReason::Protocol(_));
    // What was taken until then is its window, and acks in the buffers of the transport.
    let received = victim.connection.stats().bytes_received;
    assert!(received < 64 << 20, "{received} bytes were taken from a peer that reads no acks");
    send(&neighbour, "hello").await;
}

pub(crate) async fn a_flood_of_pings_is_bounded(lab: Lab) {
    let mut victim = victim(&lab, limits()).await;
    let pings = encoded(|output| (0..10_000).for_each(|id| output.ping(id)));
    let neighbour = neighbour(&mut victim.ground).await;
    let mut flooding = Box::pin(flood(&mut victim.peer, &pings, 32 << 20));
    for _ in 0..100 {
        let _ = poll_once(flooding.as_mut()).await;
        send(&neighbour, "hello").await;
    }
    within("the end of the flood", flooding).await;
    send(&neighbour, "hello").await;
    // If it is still there, it still does its work.
    if victim.connection.close_reason().is_none() {
        let mut work = Box::pin(victim.connection.send("hello"));
        let _ = poll_once(work.as_mut()).await;
        let (id, _) = within("the record among the pongs", async {
            loop {
                match victim.peer.frame().await {
                    Some(Frame::Record { id, payload }) => break (id, payload),
                    Some(_) => {}
                    None => panic!("the stream ended"),
                }
            }
        })
        .await;
        victim.peer.say(|output| output.ack(id, "done".into())).await;
        assert_eq!(within("an ack", work).await.unwrap(), "done");
    }
}
