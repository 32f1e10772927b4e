//! Closing, from either side and at every stage.

use std::{pin::pin, sync::Arc, time::Duration};

use network_core::{
    Ack, Bytes, CloseReason, Connection, ConnectionHandler, Delivery, Refusal, SendError,
};
use tokio::sync::mpsc;

use crate::{
    lab::Lab,
    tools::{limits, 
        Event, Gate, eventually, probe, send, submit, within,
    },
};

/// Closes either from the dialed or from the accepted end; what is dialed comes first.
const EITHER: [bool; 2] = [true, false];

fn closes(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event, Event::Close(_))).count()
}

pub(crate) async fn tells_both_handlers_once(lab: Lab) {
    for from_dialed in EITHER {
        let ((there, mut there_seen), (here, mut here_seen)) = (probe(), probe());
        let joined = lab.join(there, here).await;
        send(&joined.dialed, "hello").await;
        assert_eq!(there_seen.record().await, "hello");
        let (near, far, near_seen, far_seen) = if from_dialed {
            (&joined.dialed, &joined.accepted, &mut here_seen, &mut there_seen)
        } else {
            (&joined.accepted, &joined.dialed, &mut there_seen, &mut here_seen)
        };
        within("a close", near.close()).await;
        expect!(near.close_reason(), Some(CloseReason::Local));
        expect!(within("the close", near.closed()).await, CloseReason::Local);
        expect!(within("the close", far.closed()).await, CloseReason::Remote);
        assert!(far.close_reason().unwrap().is_intended());
        expect!(near_seen.close().await, CloseReason::Local);
        expect!(far_seen.close().await, CloseReason::Remote);
        // The handlers end with their connection, and nothing else is told to them.
        assert_eq!(closes(&near_seen.rest().await) + closes(&far_seen.rest().await), 0);
    }
}

pub(crate) async fn has_called_on_close_when_it_returns(lab: Lab) {
    let (here, mut seen) = probe();
    let joined = lab.join((), here).await;
    within("a close", joined.dialed.close()).await;
    // No wait: it must be here.
    let mut told = pin!(seen.next());
    match crate::tools::poll_once(told.as_mut()).await {
        std::task::Poll::Ready(Event::Close(CloseReason::Local)) => {}
        other => panic!("expected that `on_close` was called, got {other:?}"),
    }
}

pub(crate) async fn twice_changes_nothing(lab: Lab) {
    let (here, mut seen) = probe();
    let joined = lab.join((), here).await;
    let other = joined.dialed.clone();
    within("two closes", async { tokio::join!(joined.dialed.close(), other.close()) }).await;
    within("a third", joined.dialed.close()).await;
    expect!(within("the close", joined.accepted.closed()).await, CloseReason::Remote);
    within("the other side's", joined.accepted.close()).await;
    expect!(joined.accepted.close_reason(), Some(CloseReason::Remote));
    assert_eq!(closes(&seen.rest().await), 1);
}

pub(crate) async fn from_both_sides_at_once_is_one_close(lab: Lab) {
    for _ in 0..20 {
        let ((there, mut there_seen), (here, mut here_seen)) = (probe(), probe());
        let joined = lab.join(there, here).await;
        let (dialed, accepted) = (joined.dialed.clone(), joined.accepted.clone());
        let near = tokio::spawn(async move { dialed.close().await });
        let far = tokio::spawn(async move { accepted.close().await });
        within("one close", near).await.unwrap();
        within("the other close", far).await.unwrap();
        for connection in [&joined.dialed, &joined.accepted] {
            let reason = connection.close_reason().unwrap();
            assert!(reason.is_intended(), "{reason}");
        }
        assert_eq!(closes(&here_seen.rest().await), 1);
        assert_eq!(closes(&there_seen.rest().await), 1);
    }
}

pub(crate) async fn ends_sending_on_both_sides(lab: Lab) {
    let joined = lab.join((), ()).await;
    within("a close", joined.dialed.close()).await;
    within("the close", joined.accepted.closed()).await;
    for connection in [&joined.dialed, &joined.accepted] {
        let error = within("an error", connection.send("late")).await.unwrap_err();
        assert_eq!(error.delivery(), Delivery::NotDelivered);
        expect!(error, SendError::Closed { .. });
        expect!(within("an error", connection.reserve(1)).await.unwrap_err(), SendError::Closed { .. });
    }
}

pub(crate) async fn frees_both_ports(lab: Lab) {
    let joined = lab.join((), ()).await;
    within("a close", joined.dialed.close()).await;
    within("the close", joined.accepted.closed()).await;
    let ground = &joined.ground;
    assert!(ground.client.connections().is_empty() && ground.server.connections().is_empty());
    assert_eq!((ground.here.connections(), ground.there.connections()), (0, 0));
}

pub(crate) async fn ends_the_wait_for_room(lab: Lab) {
    for from_dialed in EITHER {
        // The dialed end waits for nobody to pull the record that is held.
        let limits =
            limits().with_window_records(1).with_close_time(Duration::from_millis(100));
        let (joined, _records) = lab.pull(limits).await;
        let _held = submit(&joined.dialed, "held").await;
        let connection = joined.dialed.clone();
        let waiting = tokio::spawn(async move { connection.send("waiting").await });
        eventually("it waits", || joined.dialed.stats().window_waits == 1).await;
        let near = if from_dialed { &joined.dialed } else { &joined.accepted };
        within("a close", near.close()).await;
        let error = within("a result", waiting).await.unwrap().unwrap_err();
        // It may have got the room of the record that the close discarded, and shared its fate.
        assert_eq!(error.delivery(), Delivery::NotDelivered);
        expect!(error, SendError::Closed { .. } | SendError::AckLost { .. });
    }
}

pub(crate) async fn makes_a_permit_useless(lab: Lab) {
    for from_dialed in EITHER {
        let joined = lab.join((), ()).await;
        let permit = joined.dialed.reserve(10).await.unwrap();
        let other = joined.dialed.reserve(10).await.unwrap();
        let near = if from_dialed { &joined.dialed } else { &joined.accepted };
        within("a close", near.close()).await;
        within("the close", joined.dialed.closed()).await;
        expect!(permit.send("late").unwrap_err(), SendError::Closed { .. });
        drop(other);
    }
}

/// Closes its connection when it is told of `when`, and waits until that is done.
struct Closer {
    when: &'static str,
    done: mpsc::UnboundedSender<()>,
}

impl Closer {
    async fn close(&self, now: &str, connection: &Connection) {
        if self.when == now {
            connection.close().await;
            let _ = self.done.send(());
        }
    }
}

impl ConnectionHandler for Closer {
    async fn on_open(&self, connection: &Connection) {
        self.close("open", connection).await;
    }

    async fn on_receive(&self, connection: &Connection, record: Bytes) -> Result<Bytes, Refusal> {
        self.close("receive", connection).await;
        Ok(record)
    }

    async fn on_close(&self, connection: &Connection, _: &CloseReason) {
        self.close("close", connection).await;
    }
}

fn closer(when: &'static str) -> (Closer, mpsc::UnboundedReceiver<()>) {
    let (done, hear) = mpsc::unbounded_channel();
    (Closer { when, done }, hear)
}

pub(crate) async fn from_on_open_works(lab: Lab) {
    let (there, mut done) = closer("open");
    let (here, mut seen) = probe();
    let joined = lab.join(there, here).await;
    expect!(seen.close().await, CloseReason::Remote);
    expect!(within("the close", joined.accepted.closed()).await, CloseReason::Local);
    within("`close` to return", done.recv()).await.unwrap();
}

pub(crate) async fn from_on_receive_works(lab: Lab) {
    let (there, mut done) = closer("receive");
    let (here, mut seen) = probe();
    let joined = lab.join(there, here).await;
    let outcome = within("a result", joined.dialed.send("close!")).await;
    assert_eq!(outcome.unwrap_err().delivery(), Delivery::Delivered);
    expect!(seen.close().await, CloseReason::Remote);
    within("`close` to return", done.recv()).await.unwrap();
}

pub(crate) async fn from_on_close_works(lab: Lab) {
    for from_dialed in EITHER {
        let (there, mut done) = closer("close");
        let joined = lab.join(there, ()).await;
        let near = if from_dialed { &joined.dialed } else { &joined.accepted };
        within("a close", near.close()).await;
        within("`close` to return", done.recv()).await.unwrap();
    }
}

pub(crate) async fn during_on_open_calls_on_close_all_the_same(lab: Lab) {
    let gate = Gate::new();
    let (there, mut seen) = probe();
    let joined = lab.join(there.open_gated(&gate), ()).await;
    within("a close", joined.dialed.close()).await;
    expect!(seen.close().await, CloseReason::Remote);
    within("the close", joined.accepted.closed()).await;
    gate.open();
    assert_eq!(closes(&seen.rest().await), 0);
}

/// A connection with a record in a handler that never ends, and one behind it; each end
/// waits for the other's closing word for a moment only.
async fn stuck(lab: &Lab) -> (crate::lab::Joined, Gate, crate::tools::Seen, [Ack<'static>; 2]) {
    let limits = limits().with_close_time(Duration::from_millis(200));
    let gate = Gate::new();
    let (there, mut seen) = probe();
    let joined = lab.join_with(limits, there.gated(&gate).serial(), ()).await;
    let running = submit(&joined.dialed, "running").await;
    assert_eq!(seen.record().await, "running");
    let acks = [running, submit(&joined.dialed, "queued").await];
    eventually("both there", || joined.accepted.stats().records_received == 2).await;
    (joined, gate, seen, acks)
}

pub(crate) async fn does_not_wait_for_a_handler_that_never_ends(lab: Lab) {
    for from_dialed in EITHER {
        let (joined, gate, _seen, [running, queued]) = stuck(&lab).await;
        let near = if from_dialed { &joined.dialed } else { &joined.accepted };
        within("a close", near.close()).await;
        within("the close", joined.dialed.closed()).await;
        let running = within("a result", running).await.unwrap_err().delivery();
        assert_ne!(running, Delivery::NotDelivered);
        within("a result", queued).await.unwrap_err();
        gate.open();
    }
}

pub(crate) async fn ends_where_a_handler_never_ends(lab: Lab) {
    let (joined, gate, _seen, _acks) = stuck(&lab).await;
    within("a close", joined.dialed.close()).await;
    eventually("the link is over", || joined.ground.there.connections() == 0).await;
    within("a close of the other end", joined.accepted.close()).await;
    within("the close of the other end", joined.accepted.closed()).await;
    gate.open();
}

pub(crate) async fn lets_a_handler_that_still_runs_go_on(lab: Lab) {
    let gate = Gate::new();
    let (finished, mut hear) = mpsc::unbounded_channel();
    struct Slow(Gate, mpsc::UnboundedSender<()>);
    impl ConnectionHandler for Slow {
        async fn on_receive(&self, _: &Connection, record: Bytes) -> Result<Bytes, Refusal> {
            self.0.pass().await;
            let _ = self.1.send(());
            Ok(record)
        }
    }
    let joined = lab.join(Slow(gate.clone(), finished), ()).await;
    let ack = submit(&joined.dialed, "hello").await;
    eventually("it is there", || joined.accepted.stats().records_received == 1).await;
    within("a close", joined.dialed.close()).await;
    within("a result", ack).await.unwrap_err();
    gate.open();
    within("the handler's end", hear.recv()).await.unwrap();
}

pub(crate) async fn does_not_happen_when_handles_are_dropped(lab: Lab) {
    let served = lab.serve(()).await;
    let (here, mut seen) = probe();
    drop(served.connect(here).await);
    eventually("it is accepted", || served.server.connections().len() == 1).await;
    let accepted = served.server.connections().remove(0);
    assert_eq!(send(&accepted, "still there?").await, "still there?");
    assert_eq!(seen.record().await, "still there?");
    within("a close", accepted.close()).await;
    expect!(seen.close().await, CloseReason::Remote);
}

pub(crate) async fn drops_the_handler(lab: Lab) {
    struct Counted(Arc<()>);
    impl ConnectionHandler for Counted {}
    let alive = Arc::new(());
    let (there, here) = (Counted(alive.clone()), Counted(alive.clone()));
    assert_eq!(Arc::strong_count(&there.0), 3);
    let joined = lab.join(there, here).await;
    send(&joined.dialed, "hello").await;
    within("a close", joined.accepted.close()).await;
    eventually("both are dropped", || Arc::strong_count(&alive) == 1).await;
}
