//! The TCP backend against the conformance suite.

use network_tcp::Tcp;
use network_testkit::{Simple, TcpWire};

network_testkit::conformance!(
    Simple::new("/ip4/127.0.0.1/tcp/0/port/", |network| network.protocol(Tcp::new()))
        .with_wire(TcpWire)
);
