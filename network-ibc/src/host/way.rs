//! Ways to other hosts: service connections that this host dials, and dials again.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use network_core::{ConnectError, Connection, Endpoint, Port};
use tokio::{sync::oneshot, time};

use super::{
    Shared,
    error::{HopError, HostError},
    service::HOP_TIME,
};

/// How long it is until the first dial after a connection has ended, and between dials at most.
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

/// Lets go of a way when it is dropped. Nothing is ever sent.
pub(super) type Way = oneshot::Sender<Infallible>;

impl Shared {
    pub(super) fn ways(&self) -> MutexGuard<'_, HashMap<String, Way>> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps up the way to another host, in place of the one that there was.
    pub(super) fn keep(
        self: &Arc<Self>,
        port: Port,
        remote: Endpoint,
        chain: String,
        connection: Connection,
    ) {
        let (way, let_go) = oneshot::channel();
        self.ways().insert(chain.clone(), way);
        tokio::spawn(keep(self.clone(), port, remote, chain, connection, let_go));
    }
}

/// Waits for the end of a connection and dials again, until the way is let go.
async fn keep(
    shared: Arc<Shared>,
    port: Port,
    remote: Endpoint,
    chain: String,
    mut connection: Connection,
    mut let_go: oneshot::Receiver<Infallible>,
) {
    let mut wait = FIRST;
    loop {
        let opened = Instant::now();
        tokio::select! {
            reason = connection.closed() => {
                tracing::debug!(chain, %reason, "the connection to a host has ended");
            }
            _ = &mut let_go => return connection.close().await,
        }
        // One that ends at once is no better than none.
        if opened.elapsed() > wait {
            wait = FIRST;
        }
        connection = tokio::select! {
            again = dial(&shared, &port, &remote, &chain, &mut wait) => match again {
                Some(connection) => connection,
                None => return,
            },
            _ = &mut let_go => return,
        };
    }
}

/// Dials until it succeeds; `None` if it never will.
async fn dial(
    shared: &Arc<Shared>,
    port: &Port,
    remote: &Endpoint,
    chain: &str,
    wait: &mut Duration,
) -> Option<Connection> {
    loop {
        time::sleep(jittered(*wait)).await;
        *wait = LONGEST.min(*wait * 2);
        let reached = shared.reach(port, remote.clone(), Some(chain));
        match time::timeout(HOP_TIME, reached).await {
            Ok(Ok((connection, _))) => return Some(connection),
            Ok(Err(
                HopError::Connect(ConnectError::Revoked { .. }) | HopError::Host(HostError::Ended),
            )) => return None,
            Ok(Err(error)) => tracing::debug!(chain, %error, "a host cannot be reached"),
            Err(_) => tracing::debug!(chain, "a host does not answer"),
        }
    }
}

/// Half of a time at least, so that hosts that lost the same one do not all come back at once.
fn jittered(time: Duration) -> Duration {
    let mut random = [0_u8; 1];
    // Without random numbers it is the shortest time.
    let _ = aws_lc_rs::rand::fill(&mut random);
    time / 2 + time * u32::from(random[0]) / 512
}
