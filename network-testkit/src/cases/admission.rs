//! Who is let in.

use network_core::{
    AcceptPolicy, AnyHandler, Attempt, ConnectError, ListenHandler, Peer, Port, Refusal, Rejection,
    Unauthenticated,
};
use tokio::sync::mpsc;

use crate::{
    lab::{Lab, Served},
    tools::{eventually, limits, within},
};

/// What a connect is told that is not let in.
async fn rejection(served: &Served) -> Rejection {
    let connecting = served.client.connect(served.address.clone(), ());
    match within("an answer", connecting).await {
        Err(ConnectError::Rejected { reason, .. }) => reason,
        other => panic!("expected a rejection, got {other:?}"),
    }
}

pub(crate) async fn both_ends_know_who_the_other_is_or_neither_does(lab: Lab) {
    let joined = lab.join((), ()).await;
    let [there, here] = [&joined.accepted, &joined.dialed].map(|end| end.peer().cloned());
    assert_eq!(there.is_some(), here.is_some(), "{there:?} and {here:?}");
}

/// Tells the attempts that it is asked about, and accepts them.
struct Telling(mpsc::UnboundedSender<Attempt>);

impl ListenHandler for Telling {
    async fn on_accept(&self, _port: &Port, attempt: &Attempt) -> Result<AnyHandler, Refusal> {
        self.0.send(attempt.clone())?;
        Ok(().into())
    }
}

pub(crate) async fn a_listener_sees_whom_the_connection_then_names(lab: Lab) {
    let served = lab.serve(()).await;
    let (tell, mut told) = mpsc::unbounded_channel();
    within("listen", served.server.listen(Telling(tell))).await.unwrap();
    let dialed = served.connect(()).await;
    let attempt = within("an attempt", told.recv()).await.unwrap();
    eventually("it is accepted", || served.server.connections().len() == 1).await;
    let accepted = &served.server.connections()[0];
    assert_eq!(attempt.peer.as_ref(), accepted.peer());
    assert!(attempt.local.as_str().starts_with(served.server.local_endpoint().as_str()));
    assert_eq!(attempt.remote, *accepted.remote_endpoint());
    drop(dialed);
}

pub(crate) async fn who_is_denied_is_told_so_and_the_listener_is_not_asked(lab: Lab) {
    let served = lab.serve(()).await;
    let (tell, mut told) = mpsc::unbounded_channel();
    within("listen", served.server.listen(Telling(tell))).await.unwrap();
    let policy = AcceptPolicy::new();
    served.server.set_accept_policy(Some(policy.clone()));
    let first = served.connect(()).await;
    let peer = within("an attempt", told.recv()).await.unwrap().peer;
    // Denied any sooner, it would not come in.
    eventually("it is open there", || served.server.connections().len() == 1).await;
    let expected = match peer {
        Some(Peer::Id(peer)) => {
            policy.deny(peer);
            Rejection::NotAllowed
        }
        _ => {
            policy.allow_only([]);
            Rejection::Unproven
        }
    };
    assert_eq!(rejection(&served).await, expected);
    assert!(told.try_recv().is_err(), "the listener is not asked");
    // Who is in stays in.
    within("an ack", first.send("x")).await.unwrap();
    // The network's own policy knows nothing of it.
    served.server.set_accept_policy(None);
    served.connect(()).await;
}

pub(crate) async fn who_is_denied_while_the_listener_decides_does_not_come_in(lab: Lab) {
    let mut ground = lab.ground(limits(), limits()).await;
    for on_port in [false, true] {
        let policy = if on_port {
            let policy = AcceptPolicy::new();
            ground.server.set_accept_policy(Some(policy.clone()));
            policy
        } else {
            ground.there.accept_policy().clone()
        };
        let connecting = ground.client.connect(&ground.address, ());
        let deciding = async {
            let attempt = ground.attempts.next().await.unwrap();
            let expected = match &attempt.attempt().peer {
                Some(Peer::Id(peer)) => {
                    policy.deny(*peer);
                    Rejection::NotAllowed
                }
                _ => {
                    policy.allow_only([]);
                    Rejection::Unproven
                }
            };
            attempt.accept(()).await.unwrap_err();
            expected
        };
        let (told, expected) =
            within("an answer", async { tokio::join!(connecting, deciding) }).await;
        expect!(told.unwrap_err(), ConnectError::Rejected { reason, .. } if reason == expected);
        assert_eq!(ground.server.connections(), []);
        eventually("the place is free", || policy.connections() == 0).await;
    }
}

pub(crate) async fn a_new_policy_holds_for_who_waits_for_the_listener(lab: Lab) {
    let mut ground = lab.ground(limits(), limits()).await;
    let connecting = ground.client.connect(&ground.address, ());
    let deciding = async {
        let attempt = ground.attempts.next().await.unwrap();
        let policy = AcceptPolicy::new();
        policy.allow_only([]);
        ground.server.set_accept_policy(Some(policy));
        attempt.accept(()).await.unwrap_err();
    };
    let (told, ()) = within("an answer", async { tokio::join!(connecting, deciding) }).await;
    expect!(
        told.unwrap_err(),
        ConnectError::Rejected { reason: Rejection::NotAllowed | Rejection::Unproven, .. }
    );
    assert_eq!(ground.server.connections(), []);
}

pub(crate) async fn the_networks_policy_holds_for_its_ports(lab: Lab) {
    let served = lab.serve(()).await;
    served.there.accept_policy().allow_only([]);
    let told = rejection(&served).await;
    assert!(matches!(told, Rejection::NotAllowed | Rejection::Unproven), "{told}");
    served.server.set_accept_policy(Some(AcceptPolicy::new()));
    served.connect(()).await;
    served.server.set_accept_policy(None);
    rejection(&served).await;
    served.there.accept_policy().allow_everybody();
    served.connect(()).await;
}

pub(crate) async fn only_who_proves_a_peer_id_comes_in_where_that_is_asked_for(lab: Lab) {
    let served = lab.serve(()).await;
    let policy = AcceptPolicy::new().with_unauthenticated(Unauthenticated::Reject);
    served.server.set_accept_policy(Some(policy));
    let proves = lab.join((), ()).await.accepted.peer().and_then(Peer::id).is_some();
    if proves {
        served.connect(()).await;
    } else {
        assert_eq!(rejection(&served).await, Rejection::Unproven);
    }
}

pub(crate) async fn no_more_connections_than_a_cap_are_open(lab: Lab) {
    let served = lab.serve(()).await;
    let policy = AcceptPolicy::new().with_max_connections(2);
    served.server.set_accept_policy(Some(policy.clone()));
    let first = served.connect(()).await;
    let _second = served.connect(()).await;
    assert_eq!(rejection(&served).await, Rejection::Busy);
    within("a close", first.close()).await;
    eventually("there is room", || policy.connections() == 1).await;
    served.connect(()).await;
}

pub(crate) async fn a_peer_and_a_source_have_no_more_than_their_share(lab: Lab) {
    let served = lab.serve(()).await;
    let (tell, mut told) = mpsc::unbounded_channel();
    within("listen", served.server.listen(Telling(tell))).await.unwrap();
    let _first = served.connect(()).await;
    let attempt = within("an attempt", told.recv()).await.unwrap();
    if attempt.peer.is_some() {
        served.server.set_accept_policy(Some(AcceptPolicy::new().with_max_per_peer(1)));
        let _one = served.connect(()).await;
        assert_eq!(rejection(&served).await, Rejection::Busy);
    }
    if attempt.source.is_some() {
        served.server.set_accept_policy(Some(AcceptPolicy::new().with_max_per_source(1)));
        let _one = served.connect(()).await;
        assert_eq!(rejection(&served).await, Rejection::Busy);
        let [rate, burst] = [1, 2].map(|n| std::num::NonZeroU32::new(n).unwrap());
        let slow = AcceptPolicy::new().with_rate_per_source(rate, burst);
        served.server.set_accept_policy(Some(slow));
        let _two = [served.connect(()).await, served.connect(()).await];
        assert_eq!(rejection(&served).await, Rejection::Busy);
    }
    if attempt.peer.is_none() && attempt.source.is_none() {
        // Nobody to tell apart: only the cap of all holds, which has its own case.
        let policy = AcceptPolicy::new().with_max_per_peer(0).with_max_per_source(0);
        served.server.set_accept_policy(Some(policy));
        served.connect(()).await;
    }
}

pub(crate) async fn a_place_is_given_back_whatever_ends_an_attempt(lab: Lab) {
    let ground = lab.ground(limits(), limits()).await;
    let policy = AcceptPolicy::new().with_max_connections(1);
    ground.server.set_accept_policy(Some(policy.clone()));
    let mut ground = ground;
    for how in 0..3 {
        let connecting = ground.client.connect(ground.address.clone(), ());
        let attempts = &mut ground.attempts;
        let deciding = async {
            let attempt = attempts.next().await.unwrap();
            match how {
                0 => attempt.reject("no"),
                1 => drop(attempt),
                _ => {
                    attempt.accept(()).await.unwrap();
                }
            }
        };
        let (opened, ()) = within("a decision", async { tokio::join!(connecting, deciding) }).await;
        assert_eq!(opened.is_ok(), how == 2, "{opened:?}");
        if let Ok(connection) = opened {
            within("a close", connection.close()).await;
        }
    }
    eventually("the place is free", || policy.connections() == 0).await;
}
