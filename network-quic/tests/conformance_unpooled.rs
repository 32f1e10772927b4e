//! The QUIC backend against the conformance suite, with a QUIC connection for each connection.

#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::time::Duration;

use network_quic::Quic;
use network_testkit::Simple;
use network_tls::{Identity, Tls};

network_testkit::conformance!(fixture());

/// With time for handshakes: a case that dials 129 at once has as many, which are seconds of work.
fn fixture() -> Simple {
    let tls = Tls::new().with_identity(Identity::generate().unwrap());
    Simple::new("/ip4/127.0.0.1/udp/0/quic-v1/port/", move |network| {
        network.protocol(Quic::new(tls.clone()).without_pooling())
    })
    .with_handshake_time(Duration::from_secs(6))
}
