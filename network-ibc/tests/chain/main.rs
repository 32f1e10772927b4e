//! A host and a real chain that runs ibc-go.

#![cfg(feature = "chain")]
#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

mod channels;

use std::time::Duration;

use network_core::{Network, Port};
use network_ibc::{ChainConfig, ChainKey, Host};
use network_interop::{Chain, MNEMONIC, Settings};

/// The key of one of the accounts that the chain begins with: 0 to 9.
fn key(account: u32) -> ChainKey {
    ChainKey::from_mnemonic_at(MNEMONIC, &format!("m/44'/118'/0'/0/{account}")).unwrap()
}

fn chain() -> Chain {
    let mut settings = Settings::default();
    settings.block_time = Duration::from_millis(100);
    Chain::start(settings).unwrap()
}

fn config(chain: &Chain) -> ChainConfig {
    ChainConfig::new(chain.rpc(), key(0))
}

async fn bound(host: &Host, name: &str) -> Port {
    Network::builder().protocol(host.clone()).build().unwrap().bind(name).await.unwrap()
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.unwrap()
}

/// Shows what the host does when a test is run with `--nocapture`.
fn log() {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
}
