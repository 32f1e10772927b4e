//! Listening, and the decision over an attempt.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use network_core::{
    AnyHandler, Attempt, Attempts, ConnectError, Connection, ListenError, ListenHandler, Port, Refusal,
    Rejection, accept_all, accept_fn,
};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    lab::{Ground, Lab},
    tools::{limits, Gate, eventually, probe, send, within},
};

/// A listener that tells what it is told.
#[derive(Debug)]
struct Watched {
    told: mpsc::UnboundedSender<&'static str>,
    decision: Gate,
    refuse_to_listen: bool,
}

#[derive(Debug)]
struct Told(mpsc::UnboundedReceiver<&'static str>);

impl Told {
    async fn next(&mut self) -> &'static str {
        within("word from the listener", self.0.recv()).await.unwrap()
    }
}

fn watched(decision: &Gate) -> (Watched, Told) {
    let (told, hear) = mpsc::unbounded_channel();
    (Watched { told, decision: decision.clone(), refuse_to_listen: false }, Told(hear))
}

impl Watched {
    fn tell(&self, what: &'static str) {
        let _ = self.told.send(what);
    }
}

impl ListenHandler for Watched {
    async fn on_listen(&self, _: &Port) -> Result<(), Refusal> {
        self.tell("listen");
        if self.refuse_to_listen {
            return Err(Refusal::new("not today"));
        }
        Ok(())
    }

    async fn on_accept(&self, _: &Port, _: &Attempt) -> Result<AnyHandler, Refusal> {
        self.tell("accept");
        self.decision.pass().await;
        Ok(().into())
    }

    async fn on_reject(&self, _: &Port, _: &Attempt) {
        self.tell("reject");
    }

    async fn on_remove(&self, _: &Port) {
        self.tell("remove");
    }
}

fn open() -> Gate {
    let gate = Gate::new();
    gate.open();
    gate
}

fn declined(error: ConnectError) -> String {
    match error {
        ConnectError::Rejected { reason: Rejection::Declined(refusal), .. } => {
            refusal.text().to_owned()
        }
        other => panic!("expected a declined connect, got {other:?}"),
    }
}

fn nobody_listens(error: ConnectError) {
    expect!(
        error,
        ConnectError::Rejected { reason: Rejection::NotListening, .. }
            | ConnectError::Unreachable { .. }
    );
}

pub(crate) async fn an_attempt_tells_who_dials_whom(lab: Lab) {
    let mut ground = lab.ground(limits(), limits()).await;
    let connecting = ground.client.connect(&ground.address, ());
    let accepting = async {
        let pending = ground.attempts.next().await.unwrap();
        let attempt = pending.attempt().clone();
        (attempt, pending.accept(()).await.unwrap())
    };
    let (dialed, (attempt, accepted)) =
        within("a connection", async { tokio::join!(connecting, accepting) }).await;
    let dialed = dialed.unwrap();
    assert!(attempt.local.starts_with(ground.server.local_endpoint()), "{}", attempt.local);
    assert_eq!(accepted.local_endpoint(), &attempt.local);
    assert_eq!(accepted.remote_endpoint(), &attempt.remote);
    assert!(dialed.remote_endpoint().starts_with(&ground.address), "{}", dialed.remote_endpoint());
    for port in [&ground.server, &ground.client] {
        assert_eq!(port.connections().len(), 1);
    }
    assert_eq!(ground.server.connections(), [accepted]);
    assert_eq!(ground.client.connections(), [dialed]);
    assert_eq!((ground.there.connections(), ground.here.connections()), (1, 1));
}

pub(crate) async fn a_listener_is_told_in_order(lab: Lab) {
    let served = lab.serve(()).await;
    let (listener, mut told) = watched(&open());
    served.server.listen(listener).await.unwrap();
    assert_eq!(told.next().await, "listen");
    let connection = served.connect(()).await;
    assert_eq!(told.next().await, "accept");
    served.server.unlisten().await.unwrap();
    assert_eq!(told.next().await, "remove");
    assert_eq!(within("the listener's end", told.0.recv()).await, None);
    assert_eq!(send(&connection, "still open").await, "");
}

pub(crate) async fn a_declined_dialer_is_told_why_and_asks_once(lab: Lab) {
    let asked = Arc::new(AtomicUsize::new(0));
    let served = lab.serve(()).await;
    let count = asked.clone();
    let decline = accept_fn(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        async { Err(Refusal::new("members only")) }
    });
    served.server.listen(decline).await.unwrap();
    let error = served.client.connect(&served.address, ()).await.unwrap_err();
    assert!(error.to_string().contains("members only"), "{error}");
    assert!(error.to_string().contains(served.address.as_str()), "{error}");
    assert_eq!(declined(error), "members only");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert_eq!(served.here.connections(), 0);
    eventually("no connection there", || served.there.connections() == 0).await;
}

pub(crate) async fn a_port_that_does_not_listen_turns_dialers_away(lab: Lab) {
    let (there, here) = (lab.network().await, lab.network().await);
    let deaf = lab.server(&there).await;
    let client = lab.client(&here).await;
    let error = within("a connect", client.connect(lab.remote(&deaf), ())).await.unwrap_err();
    assert!(error.to_string().contains(lab.remote(&deaf).as_str()), "{error}");
    nobody_listens(error);
}

pub(crate) async fn a_name_that_nobody_has_turns_dialers_away(lab: Lab) {
    let served = lab.serve(()).await;
    served.server.revoke().await.unwrap();
    let connecting = served.client.connect(&served.address, ());
    nobody_listens(within("a connect", connecting).await.unwrap_err());
}

pub(crate) async fn a_listener_without_on_accept_declines(lab: Lab) {
    struct Bare;
    impl ListenHandler for Bare {}
    let served = lab.serve(()).await;
    served.server.listen(Bare).await.unwrap();
    let error = served.client.connect(&served.address, ()).await.unwrap_err();
    assert!(declined(error).contains("on_accept"));
}

pub(crate) async fn another_version_is_agreed_on_or_declined(lab: Lab) {
    let mut ground = lab.ground(limits(), limits()).await;
    let negotiates = ground.there.route(&ground.address).unwrap().capabilities().negotiates;
    // By the attempt and by the handler.
    for by_handler in [false, true] {
        let connecting = ground.client.connect(&ground.address, ());
        let accepting = async {
            let pending = ground.attempts.next().await.unwrap();
            match by_handler {
                true => pending.accept(AnyHandler::new(()).with_version("a/better-one")).await,
                false => pending.with_version("a/better-one").accept(()).await,
            }
        };
        let (dialed, accepted) =
            within("a connection", async { tokio::join!(connecting, accepting) }).await;
        if !negotiates {
            accepted.unwrap_err();
            assert!(declined(dialed.unwrap_err()).contains("negotiates none"));
            continue;
        }
        let (dialed, accepted) = (dialed.unwrap(), accepted.unwrap());
        for end in [&dialed, &accepted] {
            assert!(end.local_endpoint().as_str().contains("better-one"), "{end:?}");
            assert!(end.remote_endpoint().as_str().contains("better-one"), "{end:?}");
        }
        dialed.send("hello").await.unwrap();
    }
}

pub(crate) async fn a_slow_decision_holds_up_nobody_else(lab: Lab) {
    let served = lab.serve(()).await;
    let (gate, first) = (Gate::new(), AtomicUsize::new(0));
    let (asked, mut hear) = mpsc::unbounded_channel();
    let slow = gate.clone();
    let listener = accept_fn(move |_| {
        let wait = (first.fetch_add(1, Ordering::SeqCst) == 0).then(|| slow.clone());
        let _ = asked.send(());
        async move {
            if let Some(gate) = wait {
                gate.pass().await;
            }
            Ok(AnyHandler::new(()))
        }
    });
    served.server.listen(listener).await.unwrap();
    let (client, address) = (served.client.clone(), served.address.clone());
    let slow = tokio::spawn(async move { client.connect(address, ()).await });
    within("the slow decision", hear.recv()).await.unwrap();
    let quick = served.connect(()).await;
    assert_eq!(send(&quick, "hello").await, "");
    assert!(!slow.is_finished());
    gate.open();
    let slow = within("the slow connect", slow).await.unwrap().unwrap();
    assert_eq!(send(&slow, "hello").await, "");
}

pub(crate) async fn a_decision_that_takes_too_long_is_a_no(lab: Lab) {
    let limits = limits().with_accept_time(Duration::from_millis(100));
    let served = lab.serve_with(limits, ()).await;
    let (listener, mut told) = watched(&Gate::new());
    served.server.listen(listener).await.unwrap();
    let connecting = served.client.connect(&served.address, ());
    let error = within("a connect", connecting).await.unwrap_err();
    assert!(declined(error).contains("too long"));
    assert_eq!(told.next().await, "listen");
    assert_eq!(told.next().await, "accept");
    assert_eq!(told.next().await, "reject");
}

pub(crate) async fn a_listener_is_told_of_a_dialer_that_goes_away(lab: Lab) {
    let served = lab.serve(()).await;
    let (listener, mut told) = watched(&Gate::new());
    served.server.listen(listener).await.unwrap();
    assert_eq!(told.next().await, "listen");
    let (client, address) = (served.client.clone(), served.address.clone());
    let connecting = tokio::spawn(async move { client.connect(address, ()).await });
    assert_eq!(told.next().await, "accept");
    connecting.abort();
    assert_eq!(told.next().await, "reject");
    eventually("no connection", || served.there.connections() + served.here.connections() == 0)
        .await;
}

pub(crate) async fn another_listener_replaces_the_first(lab: Lab) {
    let served = lab.serve(()).await;
    let (first, mut first_told) = watched(&open());
    let (second, mut second_told) = watched(&open());
    served.server.listen(first).await.unwrap();
    let old = served.connect(()).await;
    served.server.listen(second).await.unwrap();
    assert_eq!(first_told.next().await, "listen");
    assert_eq!(first_told.next().await, "accept");
    assert_eq!(first_told.next().await, "remove");
    assert_eq!(second_told.next().await, "listen");
    served.connect(()).await;
    assert_eq!(second_told.next().await, "accept");
    assert_eq!(send(&old, "still open").await, "");
}

pub(crate) async fn a_refused_on_listen_leaves_a_port_as_it_was(lab: Lab) {
    let (there, here) = (lab.network().await, lab.network().await);
    let (server, client) = (lab.server(&there).await, lab.client(&here).await);
    let refuses = || {
        let (mut listener, told) = watched(&open());
        listener.refuse_to_listen = true;
        (listener, told)
    };
    let error = server.listen(refuses().0).await.unwrap_err();
    assert!(error.to_string().contains("not today"), "{error}");
    expect!(error, ListenError::Refused { .. });
    nobody_listens(client.connect(lab.remote(&server), ()).await.unwrap_err());

    server.listen(accept_all(())).await.unwrap();
    let (listener, mut told) = refuses();
    expect!(server.listen(listener).await.unwrap_err(), ListenError::Refused { .. });
    assert_eq!(told.next().await, "listen");
    assert_eq!(within("its end", told.0.recv()).await, None);
    let connection = client.connect(lab.remote(&server), ()).await.unwrap();
    assert_eq!(send(&connection, "hello").await, "");
}

pub(crate) async fn a_port_can_stop_listening_and_listen_again(lab: Lab) {
    let served = lab.serve(()).await;
    let connection = served.connect(()).await;
    served.server.unlisten().await.unwrap();
    expect!(served.server.unlisten().await.unwrap_err(), ListenError::NotListening { .. });
    nobody_listens(served.client.connect(&served.address, ()).await.unwrap_err());
    assert_eq!(send(&connection, "still open").await, "");
    served.server.listen(accept_all(())).await.unwrap();
    assert_eq!(send(&served.connect(()).await, "hello").await, "");
}

pub(crate) async fn a_listener_that_panics_declines(lab: Lab) {
    let served = lab.serve(()).await;
    let calls = AtomicUsize::new(0);
    let listener = accept_fn(move |_| {
        assert!(calls.fetch_add(1, Ordering::SeqCst) > 0, "on purpose");
        async { Ok(AnyHandler::new(())) }
    });
    served.server.listen(listener).await.unwrap();
    let error = served.client.connect(&served.address, ()).await.unwrap_err();
    assert!(declined(error).contains("panicked"));
    assert_eq!(send(&served.connect(()).await, "hello").await, "");
}

pub(crate) async fn attempts_are_accepted_rejected_or_dropped(lab: Lab) {
    let mut ground = lab.ground(limits(), limits()).await;
    let (client, address) = (ground.client.clone(), ground.address.clone());
    let connect = || {
        let (client, address) = (client.clone(), address.clone());
        tokio::spawn(async move { client.connect(address, ()).await })
    };
    let outcome = connect();
    within("an attempt", ground.attempts.next()).await.unwrap().reject("full up");
    assert_eq!(declined(outcome.await.unwrap().unwrap_err()), "full up");

    let outcome = connect();
    drop(within("an attempt", ground.attempts.next()).await.unwrap());
    declined(outcome.await.unwrap().unwrap_err());

    let outcome = connect();
    let pending = within("an attempt", ground.attempts.next()).await.unwrap();
    let (handler, mut seen) = probe();
    pending.accept(handler).await.unwrap();
    assert_eq!(send(&outcome.await.unwrap().unwrap(), "hello").await, "hello");
    assert_eq!(seen.record().await, "hello");

    drop(ground.attempts);
    declined(connect().await.unwrap().unwrap_err());
}

pub(crate) async fn accepting_an_attempt_that_is_over_fails(lab: Lab) {
    let mut ground = lab.ground(limits(), limits()).await;
    let (client, address) = (ground.client.clone(), ground.address.clone());
    let connecting = tokio::spawn(async move { client.connect(address, ()).await });
    let pending = within("an attempt", ground.attempts.next()).await.unwrap();
    connecting.abort();
    eventually("the attempt is over", || ground.there.connections() == 0).await;
    let accepting = pending.accept(());
    within("an accept", accepting).await.unwrap_err();
}

/// Connects until one more attempt waits than may, and then one is declined.
async fn until_one_is_declined(ground: &mut Ground) -> JoinSet<Result<Connection, ConnectError>> {
    let mut connects = JoinSet::new();
    let connect = |connects: &mut JoinSet<_>| {
        let (client, address) = (ground.client.clone(), ground.address.clone());
        connects.spawn(async move { client.connect(address, ()).await });
    };
    connect(&mut connects);
    let attempt = within("an attempt", ground.attempts.next()).await.unwrap();
    let room = match attempt.attempt().source {
        Some(_) => Attempts::MAX_WAITING_PER_SOURCE,
        None => Attempts::MAX_WAITING,
    };
    drop(attempt);
    declined(within("a refusal", connects.join_next()).await.unwrap().unwrap().unwrap_err());
    // Some at a time: where each has a handshake of its own, all at once take longer than one may.
    const AT_ONCE: usize = 16;
    for wait in 1..=room {
        connect(&mut connects);
        if wait % AT_ONCE == 0 {
            eventually("they wait", || ground.there.connections() == wait).await;
        }
    }
    connect(&mut connects);
    let first = within("one to be declined", connects.join_next()).await.unwrap();
    let text = declined(first.unwrap().unwrap_err());
    assert!(text.contains("too many attempts"), "{text}");
    assert_eq!(connects.len(), room);
    connects
}

pub(crate) async fn too_many_waiting_attempts_are_declined(lab: Lab) {
    let mut ground = lab.ground(limits(), limits()).await;
    until_one_is_declined(&mut ground).await;
}

pub(crate) async fn waiting_attempts_whose_dialer_has_gone_make_room(lab: Lab) {
    let mut ground = lab.ground(limits(), limits()).await;
    until_one_is_declined(&mut ground).await.abort_all();
    eventually("all have gone", || ground.there.connections() == 0).await;
    let connecting = ground.client.connect(&ground.address, ());
    let accepting = async { ground.attempts.next().await.unwrap().accept(()).await };
    let (dialed, accepted) =
        within("a connection", async { tokio::join!(connecting, accepting) }).await;
    accepted.unwrap();
    assert_eq!(send(&dialed.unwrap(), "hello").await, "");
}

pub(crate) async fn a_network_holds_no_more_connections_than_its_limit(lab: Lab) {
    let few = limits().with_max_connections(2);
    let ground = lab.ground(few.clone(), limits()).await;
    ground.server.listen(accept_all(())).await.unwrap();
    let connect = || ground.client.connect(&ground.address, ());
    let first = connect().await.unwrap();
    let _second = connect().await.unwrap();
    let error = connect().await.unwrap_err();
    expect!(error, ConnectError::Rejected { reason: Rejection::Busy, .. });
    first.close().await;
    eventually("room there", || ground.there.connections() == 1).await;
    let third = connect().await.unwrap();
    assert_eq!(send(&third, "hello").await, "");

    let here = lab.network_with(few).await;
    let roomy = lab.serve(()).await;
    let client = lab.client(&here).await;
    let connect = || client.connect(&roomy.address, ());
    let _first = connect().await.unwrap();
    let _second = connect().await.unwrap();
    expect!(connect().await.unwrap_err(), ConnectError::TooManyConnections { max: 2, .. });
    assert_eq!(here.connections(), 2);
}

pub(crate) async fn too_many_handshakes_are_turned_away(lab: Lab) {
    let served = lab.serve_with(limits().with_max_handshakes(1), ()).await;
    let gate = Gate::new();
    let (listener, mut told) = watched(&gate);
    served.server.listen(listener).await.unwrap();
    assert_eq!(told.next().await, "listen");
    let (client, address) = (served.client.clone(), served.address.clone());
    let first = tokio::spawn(async move { client.connect(address, ()).await });
    assert_eq!(told.next().await, "accept");
    let second = within("a connect", served.client.connect(&served.address, ())).await;
    expect!(
        second.unwrap_err(),
        ConnectError::Unreachable { .. } | ConnectError::Rejected { reason: Rejection::Busy, .. }
    );
    gate.open();
    let first = within("the first connect", first).await.unwrap().unwrap();
    assert_eq!(send(&first, "hello").await, "");
}

pub(crate) async fn a_port_can_listen_and_connect_in_one_network(lab: Lab) {
    let network = lab.network().await;
    let port = lab.server(&network).await;
    let (handler, mut seen) = probe();
    port.listen(accept_all(handler)).await.unwrap();
    let connection = within("a connect", port.connect(lab.remote(&port), ())).await.unwrap();
    assert_eq!(send(&connection, "to myself").await, "to myself");
    assert_eq!(seen.record().await, "to myself");
    assert_eq!(port.connections().len(), 2);
    assert_eq!(network.connections(), 2);
}
