//! Packets that come too late, many of them.

use bytes::Bytes;

use super::*;
use crate::{Context, LedgerKey, Module, ModuleChannel, engine::Store as _, identifier::PortId};

/// Counts what comes too late, and takes nothing.
struct Late;

impl Module for Late {
    fn on_receive(
        &mut self,
        _: &mut Context<'_>,
        _: &ModuleChannel,
        _: &Bytes,
    ) -> Result<Bytes, Refusal> {
        Err(Refusal::new("it came"))
    }

    fn on_timeout(&mut self, context: &mut Context<'_>, _: &ModuleChannel, number: u64, _: &Bytes) {
        context.set(number.to_be_bytes(), "late");
    }
}

#[tokio::test]
async fn nothing_is_left_of_packets_that_came_too_late() {
    const ALL: usize = 3_000;
    let late = PortId::known("late");
    let folder = tempfile::tempdir().unwrap();
    let key = || LedgerKey::from_seed(&[4; 32]).unwrap();
    let build = |chain| Host::builder(chain).module("late", Late).unwrap();
    let alpha = build("alpha").open(folder.path(), key()).unwrap();
    let beta = build("beta").in_memory().unwrap();
    let way = Network::builder().protocol(Loopback::new()).build().unwrap();
    beta.serve(&way.bind("/local/beta").await.unwrap()).await.unwrap();
    let hop = alpha.connect_hop(&way.bind("/local/").await.unwrap(), "/local/beta").await.unwrap();
    let remote = format!("/ibc-hop/{}/ibc-port/late/unordered/v", hop.connection);
    let channel = alpha.open_channel(&late, &remote).await.unwrap().channel;

    let send = move |_: &mut Late, context: &mut Context<'_>| {
        for _ in 0..ALL {
            context.send(&channel, vec![7; 100], Duration::from_nanos(1))?;
        }
        Ok::<_, HostError>(())
    };
    alpha.with_module(&late, send).await.unwrap();
    let count = |_: &mut Late, context: &mut Context<'_>| {
        let (mut found, mut from) = (0, Vec::new());
        while let Some((key, _)) = context.next(b"", &from) {
            from = [&key[..], &[0]].concat();
            found += 1;
        }
        Ok::<_, HostError>(found)
    };
    let all = async {
        while alpha.with_module(&late, count).await.unwrap() < ALL {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(30), all).await.unwrap();

    alpha.end().await;
    let ledger = Ledger::open(folder.path(), Arc::new(key()), "alpha", 16).unwrap();
    assert_eq!(ledger.private_next(b"host/out/", b"host/out/"), None);
}
