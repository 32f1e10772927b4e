//! Shutting a network down.

use std::time::Duration;

use network_core::{BindError, CloseReason, ConnectError, Delivery, Rejection};

use crate::{
    lab::Lab,
    tools::{Gate, eventually, probe, send, submit, within},
};

const AMPLE: Duration = Duration::from_secs(60);

pub(crate) async fn lets_records_of_both_directions_be_acked(lab: Lab) {
    let (gate, other_gate) = (Gate::new(), Gate::new());
    let ((there, mut there_seen), (here, mut here_seen)) = (probe(), probe());
    let mut joined = lab.join(there.gated(&gate), here.gated(&other_gate)).await;
    let inbound = submit(&joined.dialed, "inbound").await;
    let outbound = submit(&joined.accepted, "outbound").await;
    there_seen.record().await;
    here_seen.record().await;
    let network = joined.ground.there.clone();
    let shutting_down = tokio::spawn(async move { network.shutdown(AMPLE).await });
    // It has begun once the port listens no more.
    assert!(within("the shutdown to begin", joined.ground.attempts.next()).await.is_none());
    assert!(!shutting_down.is_finished());
    gate.open();
    assert_eq!(within("an ack", inbound).await.unwrap(), "inbound");
    assert!(!shutting_down.is_finished());
    other_gate.open();
    assert_eq!(within("an ack", outbound).await.unwrap(), "outbound");
    within("the shutdown", shutting_down).await.unwrap();
    expect!(there_seen.close().await, CloseReason::Shutdown);
    expect!(here_seen.close().await, CloseReason::RemoteShutdown);
}

pub(crate) async fn ends_binding_at_once(lab: Lab) {
    let gate = Gate::new();
    let (there, mut seen) = probe();
    let mut joined = lab.join(there.gated(&gate), ()).await;
    let _held = submit(&joined.dialed, "held").await;
    seen.record().await;
    let network = joined.ground.there.clone();
    let shutting_down = tokio::spawn(async move { network.shutdown(AMPLE).await });
    assert!(within("the shutdown to begin", joined.ground.attempts.next()).await.is_none());
    let binding = joined.ground.there.bind(lab.listen_at());
    expect!(within("a bind", binding).await.unwrap_err(), BindError::Shutdown { .. });
    assert!(!shutting_down.is_finished());
    gate.open();
    within("the shutdown", shutting_down).await.unwrap();
}

pub(crate) async fn cuts_at_its_deadline(lab: Lab) {
    let gate = Gate::new();
    let (there, mut seen) = probe();
    let joined = lab.join(there.gated(&gate), ()).await;
    let held = submit(&joined.dialed, "held").await;
    seen.record().await;
    let shutdown = joined.ground.there.shutdown(Duration::from_millis(50));
    within("the shutdown", shutdown).await;
    let error = within("a result", held).await.unwrap_err();
    assert_eq!(error.delivery(), Delivery::Delivered, "{error}");
    expect!(seen.close().await, CloseReason::Shutdown);
    expect!(within("the close", joined.dialed.closed()).await, CloseReason::RemoteShutdown);
    gate.open();
}

pub(crate) async fn ends_every_use_of_the_network(lab: Lab) {
    let served = lab.serve(()).await;
    let connection = served.connect(()).await;
    within("the shutdown", served.there.shutdown(AMPLE)).await;
    within("the close", connection.closed()).await;
    assert!(served.server.is_revoked());
    assert_eq!(served.there.connections(), 0);
    let error = served.there.bind(lab.listen_at()).await.unwrap_err();
    expect!(error, BindError::Shutdown { .. });
    let error = served.server.connect(&served.address, ()).await.unwrap_err();
    expect!(error, ConnectError::Revoked { .. });
}

pub(crate) async fn turns_dialers_away(lab: Lab) {
    let served = lab.serve(()).await;
    within("the shutdown", served.there.shutdown(AMPLE)).await;
    let connecting = served.client.connect(&served.address, ());
    expect!(
        within("the connect", connecting).await.unwrap_err(),
        ConnectError::Rejected { reason: Rejection::NotListening | Rejection::ShuttingDown, .. }
            | ConnectError::Unreachable { .. }
    );
}

pub(crate) async fn frees_names_for_another_network(lab: Lab) {
    let served = lab.serve(()).await;
    let name = served.server.local_endpoint().clone();
    within("the shutdown", served.there.shutdown(AMPLE)).await;
    let next = lab.network().await;
    let port = next.bind(&name).await.unwrap();
    port.listen(network_core::accept_all(())).await.unwrap();
    send(&served.connect(()).await, "hello").await;
}

pub(crate) async fn twice_changes_nothing(lab: Lab) {
    let served = lab.serve(()).await;
    served.connect(()).await;
    let (one, two) = (served.there.shutdown(AMPLE), served.there.shutdown(AMPLE));
    within("both", async { tokio::join!(one, two) }).await;
    within("a third", served.there.shutdown(Duration::ZERO)).await;
}

pub(crate) async fn of_the_dialing_side_closes_too(lab: Lab) {
    let (there, mut seen) = probe();
    let joined = lab.join(there, ()).await;
    within("the shutdown", joined.ground.here.shutdown(Duration::ZERO)).await;
    expect!(seen.close().await, CloseReason::RemoteShutdown);
    eventually("nothing is open", || joined.ground.there.connections() == 0).await;
    expect!(joined.dialed.close_reason(), Some(CloseReason::Shutdown));
}
