//! Certificates that were verified before.

use std::collections::HashMap;

use network_core::PeerId;

/// Whom some certificates prove. To verify one takes two signatures, as long as the rest of
/// what a listener does to open a resumed connection.
#[derive(Debug, Default)]
pub(crate) struct KnownPeers {
    /// The younger half, and the older: a certificate that is asked for again moves up.
    young: HashMap<Box<[u8]>, PeerId>,
    old: HashMap<Box<[u8]>, PeerId>,
}

impl KnownPeers {
    /// How many certificates a half has.
    const HALF: usize = 512;
    /// Longer certificates are not kept. Those of libp2p have about 300 bytes.
    const MAX_LEN: usize = 1024;

    pub(crate) fn get(&mut self, certificate: &[u8]) -> Option<PeerId> {
        if let Some(peer) = self.young.get(certificate) {
            return Some(*peer);
        }
        let peer = self.old.remove(certificate)?;
        self.insert(certificate, peer);
        Some(peer)
    }

    pub(crate) fn insert(&mut self, certificate: &[u8], peer: PeerId) {
        if certificate.len() > Self::MAX_LEN {
            return;
        }
        if self.young.len() >= Self::HALF {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(certificate.into(), peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_are_kept_and_no_more_than_so_many() {
        let peer = |number: u8| {
            PeerId::from_bytes(&[&[0x12, 32], [number; 32].as_slice()].concat()).unwrap()
        };
        let mut known = KnownPeers::default();
        assert_eq!(known.get(b"first"), None);
        known.insert(b"first", peer(1));
        for number in 0..10_000_u32 {
            known.insert(&number.to_le_bytes(), peer(2));
            assert_eq!(known.get(b"first"), Some(peer(1)), "who is asked for stays");
        }
        assert!(known.young.len() + known.old.len() <= 2 * KnownPeers::HALF + 1);
        assert_eq!(known.get(&0_u32.to_le_bytes()), None);
        known.insert(&[0; KnownPeers::MAX_LEN + 1], peer(3));
        assert_eq!(known.get(&[0; KnownPeers::MAX_LEN + 1]), None);
    }
}
