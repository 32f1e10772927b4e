//! Dialers whose opening does not keep to the protocol.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use network_core::{
    AnyHandler, Limits, Rejection, accept_fn,
    wire::{Frame, Hello, MAX_OPENING_LEN, Reply, Welcome},
};

use crate::{
    lab::{Lab, Served},
    peer::{Peer, encoded, hello},
    tools::{eventually, limits, probe, send, within},
};

/// A port whose listener counts how often it is asked.
async fn counting(lab: &Lab, limits: Limits) -> (Served, Arc<AtomicUsize>) {
    let served = lab.serve_with(limits, ()).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let listener = accept_fn(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        async { Ok(AnyHandler::new(())) }
    });
    served.server.listen(listener).await.unwrap();
    (served, asked)
}

async fn dial(lab: &Lab, served: &Served) -> Peer {
    Peer::dial(lab, served.server.local_endpoint()).await
}

/// Nobody was asked, nothing is left, and whoever behaves is served.
async fn nothing_happened(served: &Served, asked: &AtomicUsize) {
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    eventually("nothing is open", || served.there.connections() == 0).await;
    send(&served.connect(()).await, "hello").await;
}

pub(crate) async fn garbage_is_turned_away(lab: Lab) {
    let (served, asked) = counting(&lab, limits()).await;
    let garbage: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        &[0; 5_000],
        &[0xff; 40_000],
        b"\n",
    ];
    for bytes in garbage {
        let mut peer = dial(&lab, &served).await;
        // It may be turned away before it has said all.
        let _ = peer.try_write(bytes).await;
        peer.is_turned_away().await;
    }
    nothing_happened(&served, &asked).await;
}

pub(crate) async fn an_opening_cut_short_is_turned_away(lab: Lab) {
    let (served, asked) = counting(&lab, limits()).await;
    let hello = hello(&lab, served.server.local_endpoint(), &limits());
    for len in 0..hello.len() {
        let mut peer = dial(&lab, &served).await;
        peer.write(&hello[..len]).await;
        peer.finish().await;
        peer.is_turned_away().await;
    }
    nothing_happened(&served, &asked).await;
}

fn bad_opening(reply: Option<Reply>) -> String {
    match reply {
        Some(Reply::Reject(Rejection::BadOpening(refusal))) => refusal.text().to_owned(),
        other => panic!("expected a reject for a bad opening, got {other:?}"),
    }
}

pub(crate) async fn another_version_is_told_so(lab: Lab) {
    let (served, asked) = counting(&lab, limits()).await;
    let mut other = hello(&lab, served.server.local_endpoint(), &limits());
    other[6] = 77;
    let mut peer = dial(&lab, &served).await;
    peer.write(&other).await;
    let text = bad_opening(peer.reply().await);
    assert!(text.contains("version 77"), "{text}");
    peer.is_turned_away().await;
    nothing_happened(&served, &asked).await;
}

pub(crate) async fn an_endless_opening_is_turned_away(lab: Lab) {
    let (served, asked) = counting(&lab, limits()).await;
    let mut endless = hello(&lab, served.server.local_endpoint(), &limits());
    endless[8..10].copy_from_slice(&u16::MAX.to_le_bytes());
    endless.resize(4 * MAX_OPENING_LEN, 200);
    let mut peer = dial(&lab, &served).await;
    let _ = peer.try_write(&endless).await;
    peer.is_turned_away().await;
    nothing_happened(&served, &asked).await;
}

pub(crate) async fn an_impossible_window_is_turned_away(lab: Lab) {
    let (served, asked) = counting(&lab, limits()).await;
    let to = lab.wire().path(served.server.local_endpoint());
    let good = Welcome::of(&limits());
    let impossible = [
        Welcome { window_records: 0, ..good },
        Welcome { window_bytes: u64::from(good.max_record_len) - 1, ..good },
    ];
    for takes in impossible {
        let mut peer = dial(&lab, &served).await;
        peer.write(&Hello { to: to.clone(), from: String::new(), takes }.encode()).await;
        bad_opening(peer.reply().await);
    }
    nothing_happened(&served, &asked).await;
}

pub(crate) async fn words_before_the_welcome_end_the_attempt(lab: Lab) {
    let mut ground = lab.ground(limits(), limits()).await;
    let listening = ground.server.local_endpoint().clone();
    let mut peer = Peer::dial(&lab, &listening).await;
    peer.write(&hello(&lab, &listening, &limits())).await;
    let pending = within("an attempt", ground.attempts.next()).await.unwrap();
    peer.say(|output| output.record(1, "too early".into())).await;
    peer.is_turned_away().await;
    within("an accept", pending.accept(())).await.unwrap_err();
    eventually("nothing is open", || ground.there.connections() == 0).await;
}

pub(crate) async fn a_slow_opening_is_cut_off(lab: Lab) {
    let hasty = limits().with_handshake_time(Duration::from_millis(200));
    let (served, asked) = counting(&lab, hasty).await;
    let hello = hello(&lab, served.server.local_endpoint(), &limits());
    let mut peer = dial(&lab, &served).await;
    let dripping = async {
        for byte in &hello[..hello.len() - 1] {
            if peer.try_write(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        peer.is_turned_away().await;
    };
    within("the end", dripping).await;
    nothing_happened(&served, &asked).await;
}

pub(crate) async fn silence_is_cut_off(lab: Lab) {
    let limits = limits().with_handshake_time(Duration::from_millis(400));
    let (served, asked) = counting(&lab, limits).await;
    dial(&lab, &served).await.is_turned_away().await;
    nothing_happened(&served, &asked).await;
}

pub(crate) async fn silent_peers_keep_nobody_out(lab: Lab) {
    let (served, asked) = counting(&lab, limits()).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(dial(&lab, &served).await);
    }
    nothing_happened(&served, &asked).await;
}

pub(crate) async fn a_peer_that_writes_byte_by_byte_is_understood(lab: Lab) {
    let mut ground = lab.ground(limits(), limits()).await;
    let listening = ground.server.local_endpoint().clone();
    let mut peer = Peer::dial(&lab, &listening).await;
    for byte in hello(&lab, &listening, &limits()) {
        peer.write(&[byte]).await;
    }
    let (handler, mut seen) = probe();
    let attempt = within("an attempt", ground.attempts.next()).await.unwrap();
    attempt.accept(handler).await.unwrap();
    expect!(peer.reply().await, Some(Reply::Welcome(_)));
    for byte in encoded(|output| output.record(7, "slowly".into())) {
        peer.write(&[byte]).await;
    }
    assert_eq!(seen.record().await, "slowly");
    expect!(peer.frame().await, Some(Frame::Ack { id: 7, payload }) if payload == "slowly");
}
