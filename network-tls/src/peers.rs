//! The configurations to dial peers with.

use std::{collections::HashMap, sync::Arc};

use network_core::PeerId;
use rustls::ClientConfig;

/// The configurations of the peers that were dialed last, one for each. What resumes a
/// connection to a peer is kept with them, and so never reaches another peer.
#[derive(Debug, Default)]
pub(crate) struct PeerClients {
    by_peer: HashMap<PeerId, Kept>,
    /// How often one was asked for.
    asked: u64,
}

#[derive(Debug)]
struct Kept {
    config: Arc<ClientConfig>,
    last_asked: u64,
}

impl PeerClients {
    /// How many peers are kept.
    const MAX: usize = 256;

    pub(crate) fn get_or_make<E>(
        &mut self,
        peer: &PeerId,
        make: impl FnOnce() -> Result<ClientConfig, E>,
    ) -> Result<Arc<ClientConfig>, E> {
        self.asked += 1;
        if let Some(kept) = self.by_peer.get_mut(peer) {
            kept.last_asked = self.asked;
            return Ok(kept.config.clone());
        }
        let config = Arc::new(make()?);
        if self.by_peer.len() >= Self::MAX {
            let oldest = self.by_peer.iter().min_by_key(|(_, kept)| kept.last_asked);
            if let Some(oldest) = oldest.map(|(peer, _)| *peer) {
                self.by_peer.remove(&oldest);
            }
        }
        self.by_peer.insert(*peer, Kept { config: config.clone(), last_asked: self.asked });
        Ok(config)
    }
}
