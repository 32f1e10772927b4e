//! Dropping a future at any await leaves nothing half done.

use std::{pin::pin, sync::Arc, time::Duration};

use network_core::{AnyHandler, Limits, accept_all, accept_fn};
use tokio::sync::Notify;

use crate::{
    lab::Lab,
    tools::{limits, 
        Gate, eventually, numbered, poll_once, probe, send, still_pending, submit, within,
    },
};

fn one() -> Limits {
    limits().with_window_records(1)
}

pub(crate) async fn of_a_send_before_there_was_room_sends_nothing(lab: Lab) {
    let (joined, mut records) = lab.pull(one()).await;
    let first = submit(&joined.dialed, "first").await;
    {
        let mut given_up = pin!(joined.dialed.send("given up"));
        still_pending("a send", given_up.as_mut()).await;
    }
    within("a record", records.recv()).await.unwrap().ack_echo();
    within("an ack", first).await.unwrap();
    let second = submit(&joined.dialed, "second").await;
    let received = within("a record", records.recv()).await.unwrap();
    assert_eq!(received.payload(), "second");
    received.ack_echo();
    within("an ack", second).await.unwrap();
    assert_eq!(joined.dialed.stats().records_sent, 2);
}

pub(crate) async fn of_a_send_on_its_way_takes_nothing_back(lab: Lab) {
    let (joined, mut records) = lab.pull(one()).await;
    {
        let mut given_up = pin!(joined.dialed.send("on its way"));
        still_pending("a send", given_up.as_mut()).await;
    }
    let mut next = pin!(joined.dialed.send("next"));
    still_pending("the next send", next.as_mut()).await;
    let received = within("a record", records.recv()).await.unwrap();
    assert_eq!(received.payload(), "on its way");
    received.ack("for nobody");
    still_pending("the next send", next.as_mut()).await;
    let answering = async {
        let received = records.recv().await.unwrap();
        assert_eq!(received.payload(), "next");
        received.ack("for next");
    };
    let (ack, ()) = within("the next", async { tokio::join!(next, answering) }).await;
    assert_eq!(ack.unwrap(), "for next");
    assert_eq!(joined.dialed.stats().unacked, 0);
}

pub(crate) async fn of_an_ack_throws_only_that_away(lab: Lab) {
    let (handler, mut seen) = probe();
    let joined = lab.join_with(limits().with_window_records(4), handler, ()).await;
    for number in 0..1_000 {
        drop(submit(&joined.dialed, numbered(number)).await);
    }
    assert_eq!(send(&joined.dialed, "last").await, "last");
    let mut handed = Vec::new();
    for _ in 0..=1_000 {
        handed.push(seen.record().await);
    }
    // Not every backend keeps their order.
    handed.sort();
    let mut sent: Vec<_> = (0..1_000).map(numbered).chain(["last".into()]).collect();
    sent.sort();
    assert_eq!(handed, sent);
    eventually("all acked", || joined.dialed.stats().unacked == 0).await;
}

pub(crate) async fn of_a_reserve_passes_its_turn_on(lab: Lab) {
    let joined = lab.join_with(one(), (), ()).await;
    let connection = &joined.dialed;
    let permit = connection.reserve(1).await.unwrap();
    let mut first = Box::pin(connection.reserve(1));
    let mut second = Box::pin(connection.reserve(1));
    let mut third = Box::pin(connection.reserve(1));
    still_pending("the first", first.as_mut()).await;
    still_pending("the second", second.as_mut()).await;
    still_pending("the third", third.as_mut()).await;
    // Out of the middle, while nothing is free.
    drop(second);
    // From the front, when its turn has come but it has not been polled.
    drop(permit);
    drop(first);
    drop(within("the third permit", third).await.unwrap());
    assert_eq!(connection.stats().unacked, 0);
}

pub(crate) async fn of_a_reserve_in_a_task_passes_its_turn_on(lab: Lab) {
    let joined = lab.join_with(one(), (), ()).await;
    for _ in 0..50 {
        let permit = joined.dialed.reserve(1).await.unwrap();
        let waits = joined.dialed.stats().window_waits;
        let wait = |connection: network_core::Connection| {
            tokio::spawn(async move { drop(connection.reserve(1).await.unwrap()) })
        };
        let first = wait(joined.dialed.clone());
        eventually("the first waits", || joined.dialed.stats().window_waits > waits).await;
        let second = wait(joined.dialed.clone());
        eventually("the second waits", || joined.dialed.stats().window_waits > waits + 1).await;
        drop(permit);
        first.abort();
        within("the second", second).await.unwrap();
    }
}

pub(crate) async fn of_a_recv_loses_no_record(lab: Lab) {
    let (joined, mut records) = lab.pull(limits()).await;
    let connection = joined.dialed.clone();
    let sending = tokio::spawn(async move {
        for number in 0..200 {
            assert_eq!(connection.send(numbered(number)).await.unwrap(), numbered(number));
        }
    });
    let mut next = 0;
    within("200 records", async {
        while next < 200 {
            let polled = poll_once(pin!(records.recv())).await;
            let received = match polled {
                std::task::Poll::Ready(received) => received.unwrap(),
                std::task::Poll::Pending => {
                    tokio::task::yield_now().await;
                    continue;
                }
            };
            assert_eq!(received.payload(), &numbered(next));
            received.ack_echo();
            next += 1;
        }
    })
    .await;
    within("the sender", sending).await.unwrap();
}

pub(crate) async fn of_an_attempt_s_next_loses_no_attempt(lab: Lab) {
    let mut ground = lab.ground(limits(), limits()).await;
    still_pending("the next attempt", pin!(ground.attempts.next())).await;
    let (client, address) = (ground.client.clone(), ground.address.clone());
    let connecting = tokio::spawn(async move { client.connect(address, ()).await });
    within("an attempt", ground.attempts.next()).await.unwrap().accept(()).await.unwrap();
    within("a connect", connecting).await.unwrap().unwrap();
}

pub(crate) async fn of_a_connect_opens_nothing(lab: Lab) {
    let (gate, asked) = (Gate::new(), Arc::new(Notify::new()));
    let served = lab.serve(()).await;
    let (slow, ask) = (gate.clone(), asked.clone());
    let listener = accept_fn(move |_| {
        ask.notify_one();
        let gate = slow.clone();
        async move {
            gate.pass().await;
            Ok(AnyHandler::new(()))
        }
    });
    served.server.listen(listener).await.unwrap();
    let (client, address) = (served.client.clone(), served.address.clone());
    let connecting = tokio::spawn(async move { client.connect(address, ()).await });
    within("the question", asked.notified()).await;
    connecting.abort();
    eventually("nothing is open", || {
        served.here.connections() == 0 && served.there.connections() == 0
    })
    .await;
    assert!(served.server.connections().is_empty() && served.client.connections().is_empty());
    gate.open();
    send(&served.connect(()).await, "hello").await;
}

pub(crate) async fn of_a_connect_at_any_poll_opens_nothing(lab: Lab) {
    let served = lab.serve(()).await;
    for polls in 0..40 {
        let mut connecting = Box::pin(served.client.connect(&served.address, ()));
        for _ in 0..polls / 2 {
            if poll_once(connecting.as_mut()).await.is_ready() {
                break;
            }
            tokio::time::sleep(Duration::from_micros(50)).await;
        }
    }
    // A connection with a handler lasts until it is closed, also if nobody holds it.
    for connection in served.client.connections() {
        within("a close", connection.close()).await;
    }
    eventually("nothing is open", || {
        served.here.connections() == 0 && served.there.connections() == 0
    })
    .await;
    send(&served.connect(()).await, "hello").await;
}

pub(crate) async fn of_a_bind_leaves_the_name_free(lab: Lab) {
    let network = lab.network().await;
    let port = lab.server(&network).await;
    let name = port.local_endpoint().clone();
    port.revoke().await.unwrap();
    let _ = poll_once(pin!(network.bind(&name))).await;
    within("the name to be free", async {
        loop {
            match network.bind(&name).await {
                Ok(port) => break port.revoke().await.unwrap(),
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    })
    .await;
}

pub(crate) async fn of_a_listen_goes_on(lab: Lab) {
    let (there, here) = (lab.network().await, lab.network().await);
    let (server, client) = (lab.server(&there).await, lab.client(&here).await);
    let _ = poll_once(pin!(server.listen(accept_all(())))).await;
    let connection = within("a connect", async {
        loop {
            match client.connect(lab.remote(&server), ()).await {
                Ok(connection) => break connection,
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    })
    .await;
    send(&connection, "hello").await;
}

pub(crate) async fn of_a_close_goes_on(lab: Lab) {
    let (handler, mut seen) = probe();
    let joined = lab.join(handler, ()).await;
    let _ = poll_once(pin!(joined.dialed.close())).await;
    expect!(seen.close().await, network_core::CloseReason::Remote);
    expect!(within("the close", joined.dialed.closed()).await, network_core::CloseReason::Local);
}

pub(crate) async fn of_a_closed_changes_nothing(lab: Lab) {
    let joined = lab.join((), ()).await;
    still_pending("`closed`", pin!(joined.dialed.closed())).await;
    send(&joined.dialed, "hello").await;
}

pub(crate) async fn of_a_revoke_goes_on(lab: Lab) {
    let (handler, mut seen) = probe();
    let joined = lab.join(handler, ()).await;
    let server = joined.ground.server.clone();
    let _ = poll_once(pin!(server.revoke())).await;
    expect!(seen.close().await, network_core::CloseReason::Revoked);
    within("the name to be free", async {
        while joined.ground.there.bind(server.local_endpoint()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

pub(crate) async fn of_a_shutdown_leaves_the_rest_to_another(lab: Lab) {
    let gate = Gate::new();
    let (handler, mut seen) = probe();
    let joined = lab.join(handler.gated(&gate), ()).await;
    let ack = submit(&joined.dialed, "held").await;
    seen.record().await;
    {
        let mut given_up = pin!(joined.ground.there.shutdown(Duration::from_secs(60)));
        still_pending("a shutdown", given_up.as_mut()).await;
    }
    gate.open();
    let shutdown = joined.ground.there.shutdown(Duration::from_secs(60));
    within("a shutdown", shutdown).await;
    assert_eq!(within("an ack", ack).await.unwrap(), "held");
    assert_eq!(joined.ground.there.connections(), 0);
}
