//! Against a chain with ibc-go, which `network-interop` builds and runs.

mod clients;
mod connect;
mod events;
pub(super) mod middle;
mod preflight;
mod rpc;
mod submit;
mod tls;

use std::time::{Duration, Instant};

use ibc_proto::{
    cosmos::{bank::v1beta1::MsgSend, base::v1beta1::Coin},
    google::protobuf::Any,
};
use network_interop::{Chain, IbcGo, MNEMONIC, Settings};
use prost::{Message, Name};

use super::{
    key::ChainKey,
    rpc::{Rpc, RpcSettings},
};

/// A chain, and the way to it.
struct Node {
    chain: Chain,
    rpc: Rpc,
}

impl Node {
    fn start() -> Self {
        Self::with(|settings| settings.block_time = Duration::from_millis(100))
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::default();
        change(&mut settings);
        let chain = Chain::start(settings).unwrap();
        let rpc = rpc(&chain.rpc());
        Self { chain, rpc }
    }

    async fn height(&self) -> u64 {
        self.rpc.status().await.unwrap().height
    }

    /// Waits until the chain has a block of a height.
    async fn reaches(&self, height: u64) {
        let until = Instant::now() + Duration::from_secs(30);
        while self.height().await < height {
            assert!(Instant::now() < until, "no block {height}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn balance(&self, address: &str) -> u128 {
        self.rpc.balance(address, "stake").await.unwrap()
    }
}

/// What the chain is built of, which is what it says as well.
struct Built {
    ibc_go: String,
    sdk: String,
    comet: String,
}

impl Built {
    fn this() -> Self {
        let version = IbcGo::wanted().unwrap();
        let of = |module: &str| version.built_with(module).unwrap();
        let comet = of("github.com/cometbft/cometbft");
        Self {
            ibc_go: of(&format!("github.com/cosmos/ibc-go/{}", version.name())),
            sdk: of("github.com/cosmos/cosmos-sdk"),
            comet: comet.trim_start_matches('v').to_owned(),
        }
    }
}

fn rpc(url: &str) -> Rpc {
    // A chain that is paused should not take the tests' time.
    let settings = RpcSettings { timeout: Duration::from_secs(2), ..RpcSettings::default() };
    Rpc::new(url, &settings).unwrap()
}

/// The key of one of the accounts that the chain begins with: 0 to 9.
fn key(account: u32) -> ChainKey {
    let path = format!("m/44'/118'/0'/0/{account}");
    ChainKey::from_mnemonic_at(MNEMONIC, &path).unwrap()
}

/// An account that nobody has seen before.
fn stranger(seed: u8) -> String {
    ChainKey::from_hex(&format!("{seed:02x}").repeat(32)).unwrap().address()
}

fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

/// Gives coins away.
fn send(from: &ChainKey, to: &str, amount: u64) -> Any {
    any(&MsgSend {
        from_address: from.address(),
        to_address: to.to_owned(),
        amount: vec![Coin { denom: "stake".to_owned(), amount: amount.to_string() }],
    })
}
