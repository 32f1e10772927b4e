//! What a listener needs that takes data before the handshake is over (RFC 8446 §2.3).

use std::sync::Arc;

use rustls::{
    ServerConfig,
    server::{ProducesTickets, ServerSessionMemoryCache, StoresServerSessions},
};

use crate::Certificate;

/// How many sessions a listener keeps. Each has the certificate of its client.
const SESSIONS: usize = 4096;

/// The same, and takes early data. `certificate` is what it shows, if that can change.
pub(crate) fn taking(config: &ServerConfig, certificate: Option<Certificate>) -> ServerConfig {
    let mut config = config.clone();
    // QUIC knows this number and 0 (RFC 9001 §4.6.1).
    config.max_early_data_size = u32::MAX;
    // A session is taken out when it is resumed, so that what is sent twice is early data once
    // (RFC 8446 §8.1). With tickets that hold the session themselves nothing would tell that.
    config.ticketer = Arc::new(NoTickets);
    config.session_storage =
        Arc::new(Sessions { kept: ServerSessionMemoryCache::new(SESSIONS), certificate });
    config
}

#[derive(Debug)]
struct NoTickets;

impl ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _plain: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _cipher: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

/// The sessions of one listener. No other may have them: to resume is not to be asked for a
/// certificate.
#[derive(Debug)]
struct Sessions {
    kept: Arc<ServerSessionMemoryCache>,
    certificate: Option<Certificate>,
}

impl Sessions {
    /// Goes before each session: those of a certificate that was replaced are not resumed.
    fn edition(&self) -> [u8; 8] {
        self.certificate.as_ref().map_or(0, Certificate::edition).to_be_bytes()
    }

    fn current(&self, session: Vec<u8>) -> Option<Vec<u8>> {
        session.strip_prefix(&self.edition()).map(<[u8]>::to_vec)
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.kept.put(key, [&self.edition()[..], &value].concat())
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.current(self.kept.get(key)?)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.current(self.kept.take(key)?)
    }

    fn can_cache(&self) -> bool {
        true
    }
}
