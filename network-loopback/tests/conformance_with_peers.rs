//! The loopback backend against the conformance suite, with a peer id for each network.

use std::sync::atomic::{AtomicU8, Ordering};

use network_core::PeerId;
use network_loopback::Loopback;
use network_testkit::Simple;

network_testkit::conformance!(fixture());

fn fixture() -> Simple {
    let loopback = Loopback::new();
    let count = AtomicU8::new(0);
    Simple::new("/local/", move |network| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        let hash = [[0x12, 32].as_slice(), &[number; 32]].concat();
        let peer = PeerId::from_bytes(&hash).expect("a multihash of 32 bytes");
        network.protocol(loopback.clone().with_peer(peer))
    })
}
