//! The loopback backend against the conformance suite.

use network_loopback::Loopback;
use network_testkit::Simple;

network_testkit::conformance!(fixture());

fn fixture() -> Simple {
    let loopback = Loopback::new();
    Simple::new("/local/", move |network| network.protocol(loopback.clone()))
}
