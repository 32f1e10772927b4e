//! How long a record may take.

use std::time::Duration;

use network_core::{Delivery, SendError, SendOptions};

use crate::{
    lab::Lab,
    tools::{limits, Gate, eventually, probe, send, submit, within},
};

fn short() -> SendOptions {
    SendOptions::default().with_timeout(Duration::from_millis(50))
}

pub(crate) async fn that_pass_before_there_is_room_send_nothing(lab: Lab) {
    let (joined, mut records) = lab.pull(limits().with_window_records(1)).await;
    let first = submit(&joined.dialed, "first").await;
    let error = within("a timeout", joined.dialed.send_with("late", short())).await.unwrap_err();
    assert_eq!(error.delivery(), Delivery::NotDelivered);
    expect!(error, SendError::TimedOut { after, .. } if after == Duration::from_millis(50));
    within("a record", records.recv()).await.unwrap().ack_echo();
    within("an ack", first).await.unwrap();
    let second = submit(&joined.dialed, "second").await;
    let received = within("a record", records.recv()).await.unwrap();
    assert_eq!(received.payload(), "second");
    received.ack_echo();
    within("an ack", second).await.unwrap();
    assert_eq!(joined.dialed.stats().records_sent, 2);
}

pub(crate) async fn that_pass_on_the_way_leave_the_delivery_unknown(lab: Lab) {
    let gate = Gate::new();
    let (handler, mut seen) = probe();
    let limits = limits().with_window_records(2);
    let joined = lab.join_with(limits, handler.gated(&gate), ()).await;
    let error = within("a timeout", joined.dialed.send_with("slow", short())).await.unwrap_err();
    assert_eq!(error.delivery(), Delivery::Unknown);
    expect!(error, SendError::TimedOut { .. });
    assert_eq!(seen.record().await, "slow");
    // It holds its place in the window until its ack.
    assert_eq!(joined.dialed.stats().unacked, 1);
    gate.open();
    for _ in 0..5 {
        assert_eq!(send(&joined.dialed, "next").await, "next");
    }
    eventually("the late ack", || joined.dialed.stats().unacked == 0).await;
    assert!(joined.dialed.close_reason().is_none());
}

pub(crate) async fn that_do_not_pass_change_nothing(lab: Lab) {
    let (handler, _seen) = probe();
    let joined = lab.join(handler, ()).await;
    let ample = SendOptions::default().with_timeout(Duration::from_secs(20));
    for options in [ample, SendOptions::default()] {
        let ack = within("an ack", joined.dialed.send_with("hello", options)).await;
        assert_eq!(ack.unwrap(), "hello");
    }
}

pub(crate) async fn that_are_proved_say_not_delivered(lab: Lab) {
    let (joined, mut records) = lab.pull(limits()).await;
    // Nothing arrives so soon.
    let options = SendOptions::default().with_timeout(Duration::from_nanos(1));
    let error = within("a timeout", joined.dialed.send_with("late", options)).await.unwrap_err();
    expect!(&error, SendError::TimedOut { .. });
    assert_eq!(error.delivery(), Delivery::NotDelivered);
    joined.dialed.close().await;
    assert!(within("the end", records.recv()).await.is_none(), "it is handed to nobody");
}
