//! Pulling records instead of handling them.

use network_core::{Bytes, CloseReason, Refusal, SendError, handler_fn};

use crate::{
    lab::Lab,
    tools::{limits, eventually, numbered, probe, send, submit, within},
};

pub(crate) async fn gives_records_in_order(lab: Lab) {
    let (joined, mut records) = lab.pull(limits()).await;
    let mut acks = Vec::new();
    for number in 0..500 {
        acks.push(submit(&joined.dialed, numbered(number)).await);
    }
    for number in 0..500 {
        let received = within("a record", records.recv()).await.unwrap();
        assert_eq!(received.payload(), &numbered(number));
        assert_eq!(received.connection(), &joined.accepted);
        received.ack_echo();
    }
    for (number, ack) in acks.into_iter().enumerate() {
        assert_eq!(within("an ack", ack).await.unwrap(), numbered(number));
    }
    assert_eq!(records.connection(), &joined.accepted);
}

pub(crate) async fn refuses_with_a_text(lab: Lab) {
    let (joined, mut records) = lab.pull(limits()).await;
    let ack = submit(&joined.dialed, "hello").await;
    within("a record", records.recv()).await.unwrap().refuse("not now");
    let error = within("a refusal", ack).await.unwrap_err();
    expect!(error, SendError::Refused(refusal) if refusal.text() == "not now");
}

pub(crate) async fn refuses_what_is_dropped(lab: Lab) {
    let (joined, mut records) = lab.pull(limits()).await;
    let ack = submit(&joined.dialed, "hello").await;
    drop(within("a record", records.recv()).await.unwrap());
    let error = within("a refusal", ack).await.unwrap_err();
    expect!(error, SendError::Refused(refusal) if refusal.text().contains("without an answer"));
    let ack = submit(&joined.dialed, "again").await;
    within("a record", records.recv()).await.unwrap().ack_echo();
    assert_eq!(within("an ack", ack).await.unwrap(), "again");
}

pub(crate) async fn can_be_answered_elsewhere_and_later(lab: Lab) {
    let (joined, mut records) = lab.pull(limits()).await;
    let mut acks = Vec::new();
    let mut answering = tokio::task::JoinSet::new();
    for number in 0..100 {
        acks.push(submit(&joined.dialed, numbered(number)).await);
        let received = within("a record", records.recv()).await.unwrap();
        answering.spawn(async move {
            for _ in 0..number % 7 {
                tokio::task::yield_now().await;
            }
            received.ack_echo();
        });
    }
    within("100 answers", answering.join_all()).await;
    for (number, ack) in acks.into_iter().enumerate() {
        assert_eq!(within("an ack", ack).await.unwrap(), numbered(number));
    }
}

pub(crate) async fn closes_when_records_are_dropped(lab: Lab) {
    let (here, mut seen) = probe();
    let (joined, records) = lab.pull_with(limits(), here).await;
    drop(records);
    expect!(seen.close().await, CloseReason::Remote);
    expect!(within("the close", joined.accepted.closed()).await, CloseReason::Local);
}

pub(crate) async fn ends_with_the_connection(lab: Lab) {
    let (joined, mut records) = lab.pull(limits()).await;
    let closing = joined.dialed.close();
    let (end, ()) =
        within("the end", async { tokio::join!(records.recv(), closing) }).await;
    assert!(end.is_none());
    assert!(within("the end", records.recv()).await.is_none());
}

pub(crate) async fn gives_what_came_before_a_remote_close(lab: Lab) {
    let (joined, mut records) = lab.pull(limits()).await;
    let mut acks = Vec::new();
    for number in 0..10 {
        acks.push(submit(&joined.dialed, numbered(number)).await);
    }
    let dialed = joined.dialed.clone();
    let closing = tokio::spawn(async move { dialed.close().await });
    eventually("word of the close", || joined.accepted.close_reason().is_some()).await;
    for number in 0..10 {
        let received = within("a record", records.recv()).await.unwrap();
        assert_eq!(received.payload(), &numbered(number));
        received.ack_echo();
    }
    assert!(within("the end", records.recv()).await.is_none());
    within("a close", closing).await.unwrap();
    for ack in acks {
        if let Err(error) = within("a result", ack).await {
            assert_eq!(error.delivery(), network_core::Delivery::Delivered, "{error}");
        }
    }
}

pub(crate) async fn an_answer_after_the_close_does_no_harm(lab: Lab) {
    let (joined, mut records) = lab.pull(limits()).await;
    let acks = [
        submit(&joined.dialed, "one").await,
        submit(&joined.dialed, "two").await,
        submit(&joined.dialed, "three").await,
    ];
    let mut received = Vec::new();
    for _ in 0..3 {
        received.push(within("a record", records.recv()).await.unwrap());
    }
    within("a close", joined.accepted.close()).await;
    let mut received = received.into_iter();
    received.next().unwrap().ack("late");
    received.next().unwrap().refuse("late");
    drop(received);
    for ack in acks {
        expect!(within("a result", ack).await.unwrap_err(), SendError::AckLost { .. });
    }
}

pub(crate) async fn works_at_both_ends(lab: Lab) {
    let mut ground = lab.ground(limits(), limits()).await;
    let connecting = ground.client.connect_pull(&ground.address);
    let accepting = async { ground.attempts.next().await.unwrap().accept_pull().await.unwrap() };
    let (dialed, (accepted, mut there)) =
        within("a connection", async { tokio::join!(connecting, accepting) }).await;
    let (dialed, mut here) = dialed.unwrap();
    for number in 0..20 {
        let ping = submit(&dialed, numbered(number)).await;
        within("a record", there.recv()).await.unwrap().ack_echo();
        let pong = submit(&accepted, numbered(number)).await;
        within("a record", here.recv()).await.unwrap().ack_echo();
        assert_eq!(within("an ack", ping).await.unwrap(), numbered(number));
        assert_eq!(within("an ack", pong).await.unwrap(), numbered(number));
    }
    drop((dialed, here));
    expect!(within("the close", accepted.closed()).await, CloseReason::Remote);
}

pub(crate) async fn mixes_with_a_handler_at_the_other_end(lab: Lab) {
    let upper = handler_fn(|record: Bytes| async move {
        Ok::<_, Refusal>(Bytes::from(record.to_ascii_uppercase()))
    });
    let (joined, mut records) = lab.pull_with(limits(), upper).await;
    let ack = submit(&joined.dialed, "question").await;
    let received = within("a record", records.recv()).await.unwrap();
    assert_eq!(send(received.connection(), "shout").await, "SHOUT");
    received.ack("answer");
    assert_eq!(within("an ack", ack).await.unwrap(), "answer");
}
