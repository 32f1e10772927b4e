//! Revoking a port, at every stage.

use std::sync::Arc;

use network_core::{
    AnyHandler, Attempt, Bytes, CloseReason, ConnectError, Connection, ConnectionHandler, Delivery,
    ListenError, ListenHandler, Port, Refusal, RevokeError, accept_all, accept_fn,
};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
};

use crate::{
    lab::Lab,
    tools::{limits, Event, Gate, eventually, probe, send, submit, within},
};

pub(crate) async fn of_the_listening_port_closes_what_it_accepted(lab: Lab) {
    let ((there, mut there_seen), (here, mut here_seen)) = (probe(), probe());
    let joined = lab.join(there, here).await;
    within("a revoke", joined.ground.server.revoke()).await.unwrap();
    let reason = joined.accepted.close_reason().unwrap();
    assert!(!reason.is_intended());
    expect!(reason, CloseReason::Revoked);
    expect!(there_seen.close().await, CloseReason::Revoked);
    expect!(here_seen.close().await, CloseReason::RemoteRevoked);
    expect!(within("the close", joined.dialed.closed()).await, CloseReason::RemoteRevoked);
    assert_eq!(there_seen.rest().await.len() + here_seen.rest().await.len(), 0);
}

pub(crate) async fn of_the_dialing_port_closes_what_it_dialed(lab: Lab) {
    let ((there, mut there_seen), (here, mut here_seen)) = (probe(), probe());
    let joined = lab.join(there, here).await;
    within("a revoke", joined.ground.client.revoke()).await.unwrap();
    expect!(here_seen.close().await, CloseReason::Revoked);
    expect!(there_seen.close().await, CloseReason::RemoteRevoked);
    expect!(within("the close", joined.accepted.closed()).await, CloseReason::RemoteRevoked);
    assert!(joined.ground.server.connections().is_empty());
}

pub(crate) async fn closes_every_connection_of_the_port(lab: Lab) {
    let served = lab.serve(()).await;
    let mut connections = Vec::new();
    for _ in 0..20 {
        connections.push(served.connect(()).await);
    }
    eventually("all are accepted", || served.server.connections().len() == 20).await;
    assert_eq!(served.client.connections(), connections, "in the order in which they were opened");
    // One that the port dialed itself.
    let other = lab.serve(()).await;
    let dialed = served.server.connect(&other.address, ()).await.unwrap();
    within("a revoke", served.server.revoke()).await.unwrap();
    for connection in &connections {
        expect!(within("the close", connection.closed()).await, CloseReason::RemoteRevoked);
    }
    expect!(within("the close", dialed.closed()).await, CloseReason::Revoked);
    assert_eq!(served.there.connections(), 0);
    assert_eq!(served.client.connections(), []);
}

pub(crate) async fn leaves_other_ports_alone(lab: Lab) {
    let served = lab.serve(()).await;
    let spared = lab.server(&served.there).await;
    spared.listen(accept_all(())).await.unwrap();
    let connection = served.client.connect(lab.remote(&spared), ()).await.unwrap();
    served.server.revoke().await.unwrap();
    assert_eq!(send(&connection, "hello").await, "");
    let again = served.client.connect(lab.remote(&spared), ()).await.unwrap();
    assert_eq!(send(&again, "hello").await, "");
}

pub(crate) async fn twice_is_an_error(lab: Lab) {
    let network = lab.network().await;
    let port = lab.server(&network).await;
    port.clone().revoke().await.unwrap();
    assert!(port.is_revoked());
    let error = port.revoke().await.unwrap_err();
    assert!(error.to_string().contains(port.local_endpoint().as_str()), "{error}");
    expect!(error, RevokeError::AlreadyRevoked { .. });
}

pub(crate) async fn many_times_at_once_works_once(lab: Lab) {
    let joined = lab.join((), ()).await;
    let mut revokes = JoinSet::new();
    for _ in 0..16 {
        let port = joined.ground.server.clone();
        revokes.spawn(async move { port.revoke().await.is_ok() });
    }
    let worked = within("16 revokes", revokes.join_all()).await;
    assert_eq!(worked.into_iter().filter(|worked| *worked).count(), 1);
}

pub(crate) async fn ends_all_uses_of_the_port(lab: Lab) {
    let served = lab.serve(()).await;
    let port = &served.server;
    port.revoke().await.unwrap();
    expect!(port.listen(accept_all(())).await.unwrap_err(), ListenError::Revoked { .. });
    expect!(port.attempts().await.unwrap_err(), ListenError::Revoked { .. });
    let other = lab.serve(()).await;
    let error = port.connect(&other.address, ()).await.unwrap_err();
    assert!(error.to_string().contains(port.local_endpoint().as_str()), "{error}");
    expect!(error, ConnectError::Revoked { .. });
    assert_eq!(other.there.connections(), 0);
}

pub(crate) async fn removes_the_listener(lab: Lab) {
    struct Told(mpsc::UnboundedSender<()>);
    impl ListenHandler for Told {
        async fn on_remove(&self, _: &Port) {
            let _ = self.0.send(());
        }
    }
    let (told, mut hear) = mpsc::unbounded_channel();
    let served = lab.serve(()).await;
    served.server.listen(Told(told)).await.unwrap();
    served.server.revoke().await.unwrap();
    hear.try_recv().unwrap();
    assert!(within("the listener's end", hear.recv()).await.is_none());
}

pub(crate) async fn ends_the_attempts(lab: Lab) {
    let mut ground = lab.ground(limits(), limits()).await;
    ground.server.revoke().await.unwrap();
    assert!(within("the end of attempts", ground.attempts.next()).await.is_none());
}

pub(crate) async fn tells_what_became_of_records(lab: Lab) {
    let gate = Gate::new();
    let (there, mut seen) = probe();
    let joined = lab.join(there.gated(&gate).serial(), ()).await;
    let running = submit(&joined.dialed, "running").await;
    assert_eq!(seen.record().await, "running");
    let queued = submit(&joined.dialed, "queued").await;
    eventually("both there", || joined.accepted.stats().records_received == 2).await;
    within("a revoke", joined.ground.server.revoke()).await.unwrap();
    let error = within("a result", running).await.unwrap_err();
    assert_eq!(error.delivery(), Delivery::Delivered, "{error}");
    let error = within("a result", queued).await.unwrap_err();
    assert_eq!(error.delivery(), Delivery::NotDelivered, "{error}");
    gate.open();
}

/// A listener that says when it is asked, and waits.
fn slow_listener(gate: &Gate) -> (impl ListenHandler, Arc<Notify>) {
    let asked = Arc::new(Notify::new());
    let (gate, ask) = (gate.clone(), asked.clone());
    let listener = accept_fn(move |_| {
        ask.notify_one();
        let gate = gate.clone();
        async move {
            gate.pass().await;
            Ok(AnyHandler::new(()))
        }
    });
    (listener, asked)
}

pub(crate) async fn of_the_dialing_port_ends_a_connect(lab: Lab) {
    let served = lab.serve(()).await;
    let (listener, asked) = slow_listener(&Gate::new());
    served.server.listen(listener).await.unwrap();
    let (client, address) = (served.client.clone(), served.address.clone());
    let connecting = tokio::spawn(async move { client.connect(address, ()).await });
    within("the question", asked.notified()).await;
    within("a revoke", served.client.revoke()).await.unwrap();
    let error = within("the connect", connecting).await.unwrap().unwrap_err();
    expect!(error, ConnectError::Revoked { .. });
    eventually("nothing is open", || served.there.connections() == 0).await;
}

pub(crate) async fn of_the_listening_port_ends_a_connect(lab: Lab) {
    let served = lab.serve(()).await;
    let gate = Gate::new();
    let (listener, asked) = slow_listener(&gate);
    served.server.listen(listener).await.unwrap();
    let (client, address) = (served.client.clone(), served.address.clone());
    let connecting = tokio::spawn(async move { client.connect(address, ()).await });
    within("the question", asked.notified()).await;
    within("a revoke", served.server.revoke()).await.unwrap();
    gate.open();
    // The decision came too late: either the connect fails, or what it opened is closed.
    match within("the connect", connecting).await.unwrap() {
        Err(error) => expect!(
            error,
            ConnectError::Rejected { .. } | ConnectError::Unreachable { .. }
        ),
        Ok(connection) => {
            within("the close", connection.closed()).await;
        }
    }
    eventually("nothing is open", || {
        served.there.connections() == 0 && served.here.connections() == 0
    })
    .await;
}

pub(crate) async fn beside_connects_leaves_nothing_open(lab: Lab) {
    for round in 0..40 {
        let served = lab.serve(()).await;
        let mut connects = JoinSet::new();
        for _ in 0..4 {
            let (client, address) = (served.client.clone(), served.address.clone());
            connects.spawn(async move { client.connect(address, ()).await });
        }
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        let port = if round % 2 == 0 { &served.server } else { &served.client };
        within("a revoke", port.revoke()).await.unwrap();
        for connection in within("4 connects", connects.join_all()).await.into_iter().flatten() {
            within("the close", connection.closed()).await;
        }
        eventually("nothing is open", || {
            served.there.connections() == 0 && served.here.connections() == 0
        })
        .await;
        assert!(served.server.connections().is_empty() && served.client.connections().is_empty());
    }
}

pub(crate) async fn is_told_to_who_was_just_welcomed(lab: Lab) {
    for _ in 0..100 {
        let served = lab.serve(()).await;
        let (client, address) = (served.client.clone(), served.address.clone());
        let connecting = tokio::spawn(async move { client.connect(address, ()).await });
        eventually("an attempt", || served.there.connections() == 1).await;
        within("a revoke", served.server.revoke()).await.unwrap();
        if let Ok(connection) = within("the connect", connecting).await.unwrap() {
            let reason = within("the close", connection.closed()).await;
            expect!(reason, CloseReason::RemoteRevoked);
        }
    }
}

pub(crate) async fn beside_binds_gives_the_name_to_one(lab: Lab) {
    let network = lab.network().await;
    let mut port = lab.server(&network).await;
    let name = port.local_endpoint().clone();
    for _ in 0..20 {
        let revoking = tokio::spawn(async move { port.revoke().await.unwrap() });
        let bound = within("the name", async {
            loop {
                if let Ok(port) = network.bind(&name).await {
                    break port;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
        within("a revoke", revoking).await.unwrap();
        assert!(!bound.is_revoked());
        network.bind(&name).await.unwrap_err();
        port = bound;
    }
}

pub(crate) async fn from_a_handler_works(lab: Lab) {
    struct Revokes(Port, mpsc::UnboundedSender<()>);
    impl ConnectionHandler for Revokes {
        async fn on_receive(&self, _: &Connection, record: Bytes) -> Result<Bytes, Refusal> {
            self.0.revoke().await?;
            let _ = self.1.send(());
            Ok(record)
        }
    }
    let served = lab.serve(()).await;
    let (done, mut hear) = mpsc::unbounded_channel();
    let port = served.server.clone();
    let listener = accept_fn(move |_: Attempt| {
        let handler = Revokes(port.clone(), done.clone());
        async { Ok(handler.into()) }
    });
    served.server.listen(listener).await.unwrap();
    let connection = served.connect(()).await;
    let error = within("a result", connection.send("revoke!")).await.unwrap_err();
    assert_eq!(error.delivery(), Delivery::Delivered, "{error}");
    within("`revoke` to return", hear.recv()).await.unwrap();
}

pub(crate) async fn from_on_accept_works(lab: Lab) {
    let served = lab.serve(()).await;
    let port = served.server.clone();
    let listener = accept_fn(move |_: Attempt| {
        let port = port.clone();
        async move {
            port.revoke().await?;
            Ok(AnyHandler::new(()))
        }
    });
    served.server.listen(listener).await.unwrap();
    let connecting = served.client.connect(&served.address, ());
    if let Ok(connection) = within("the connect", connecting).await {
        within("the close", connection.closed()).await;
    }
    eventually("nothing is open", || {
        served.there.connections() == 0 && served.here.connections() == 0
    })
    .await;
    assert!(served.server.is_revoked());
}

pub(crate) async fn beside_a_close_is_one_close(lab: Lab) {
    for _ in 0..20 {
        let ((there, mut there_seen), (here, mut here_seen)) = (probe(), probe());
        let joined = lab.join(there, here).await;
        let revoking = joined.ground.server.revoke();
        let closing = joined.dialed.close();
        let (revoked, ()) =
            within("both", async { tokio::join!(revoking, closing) }).await;
        revoked.unwrap();
        for seen in [&mut there_seen, &mut here_seen] {
            let rest = seen.rest().await;
            let closes = rest.iter().filter(|event| matches!(event, Event::Close(_)));
            assert_eq!(closes.count(), 1);
        }
    }
}
