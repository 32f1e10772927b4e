//! Against a chain with ibc-go, which `network-interop` builds and runs.

mod accounts;
mod channels;
mod fees;
mod forgotten;
mod headers;
mod kills;
mod recovery;
mod tokens;
mod trust;

use std::{future::Future, time::Duration};

use ibc_proto::google::protobuf::Any;
use network_core::{Bytes, ConnectionHandler, Network, Port, handler_fn};
use network_interop::{Chain as Simd, MNEMONIC, Settings};
use prost::{Message, Name};
use tokio::sync::mpsc;

use super::*;
use crate::chain::{ChainKey, GasPrice, Rpc, RpcSettings, Submitter, TxError, TxSettings};

/// How the chain calls the connection to the host: its first one.
const THERE: &str = "connection-0";

/// The key of one of the accounts that the chain begins with: 0 to 9. The host has the first one.
fn key(account: u32) -> ChainKey {
    ChainKey::from_mnemonic_at(MNEMONIC, &format!("m/44'/118'/0'/0/{account}")).unwrap()
}

/// A chain, and somebody on it.
struct There {
    simd: Simd,
    rpc: Rpc,
    somebody: Submitter,
    address: String,
}

impl There {
    fn start() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings =
            Settings { block_time: Duration::from_millis(100), ..Settings::default() };
        change(&mut settings);
        let gas_price = GasPrice::parse(&settings.gas_price).unwrap();
        let tx = TxSettings { gas_price, ..TxSettings::default() };
        let simd = Simd::start(settings).unwrap();
        let rpc = Rpc::new(&simd.rpc(), &RpcSettings::default()).unwrap();
        let (key, id) = (key(1), simd.id().to_owned());
        let address = key.address();
        let somebody = Submitter::spawn(rpc.clone(), &id, key, tx);
        Self { simd, rpc, somebody, address }
    }

    fn config(&self) -> ChainConfig {
        ChainConfig::new(&self.simd.rpc(), key(0))
    }

    /// Has somebody do something on the chain.
    async fn does<M: Message + Name>(&self, message: &M) -> Result<(), TxError> {
        let message = Any { type_url: M::type_url(), value: message.encode_to_vec() };
        within(self.somebody.submit(vec![message])).await.pop().unwrap().map(drop)
    }
}

async fn bound(host: &Host, name: &str) -> Port {
    Network::builder().protocol(host.clone()).build().unwrap().bind(name).await.unwrap()
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    time::timeout(Duration::from_secs(60), what).await.unwrap()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(time::timeout(Duration::from_secs(60), waiting).await.is_ok(), "{what}");
}

/// Acks every record with its length, and tells of it.
fn teller() -> (impl ConnectionHandler, mpsc::UnboundedReceiver<Bytes>) {
    let (tell, told) = mpsc::unbounded_channel();
    let handler = handler_fn(move |record: Bytes| {
        let length = Bytes::from(record.len().to_string());
        let _ = tell.send(record);
        async move { Ok(length) }
    });
    (handler, told)
}

/// What the chain's ports acknowledge with.
const OK: &str = "{\"result\":\"AQ==\"}";
