//! What came of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{
    super::*,
    EACH, Ends, KILLS,
    child::{FROM_PORT, ORDERS, count, other_end},
    ends,
};
use crate::engine::{ChannelState, ConnectionState};

/// How many channels a process begins: two of the module, and one of the port.
const BEGUN: u32 = 3;

/// What the processes wrote down.
#[derive(Default)]
pub(super) struct Found {
    hops: BTreeSet<String>,
    /// Of the module: what happened to which number, how often.
    happened: BTreeMap<String, u32>,
    /// The module's channels.
    channels: BTreeSet<String>,
    /// Of ports, by the chain's channel: how many were sent and acknowledged.
    over: BTreeMap<String, (u64, u64)>,
    /// What was sent from ports came back this often.
    handled: BTreeMap<String, u32>,
    not_delivered: BTreeSet<String>,
    wrong: Vec<String>,
}

impl Found {
    pub(super) fn read(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let mut words = line.split(' ');
            let mut word = || words.next().unwrap_or_default().to_owned();
            match &*word() {
                "hop" => drop(found.hops.insert(line.to_owned())),
                "channel" => drop(found.channels.insert(line.to_owned())),
                "send" => found.over.entry(word()).or_default().0 += 1,
                "ack" => found.over.entry(word()).or_default().1 += 1,
                "handled" => *found.handled.entry(word()).or_default() += 1,
                "fail" if word() == "not-delivered" => drop(found.not_delivered.insert(word())),
                "wrong" => found.wrong.push(line.to_owned()),
                what if what.starts_with("acked/") || what.starts_with("back/") => {
                    *found.happened.entry(what.to_owned()).or_default() += 1;
                }
                _ => {}
            }
        }
        found
    }

    /// Checks it, what the host has kept, and what is there on the chain. The host is connected:
    /// it may still have something to say.
    pub(super) async fn check(&self, rpc: &Rpc, host: &Host) {
        assert_eq!(self.wrong, [""; 0]);
        assert_eq!(self.hops.len(), 1, "{:?}", self.hops);
        let twice = self.happened.iter().chain(&self.handled).find(|(_, times)| **times > 1);
        assert_eq!(twice, None);
        let received = self.handled.keys().find(|record| self.not_delivered.contains(*record));
        assert_eq!(received, None, "it counts as not delivered");
        let whole = |record: &&String| record.starts_with(&format!("{KILLS}/"));
        assert_eq!(
            self.handled.keys().filter(whole).count(),
            FROM_PORT,
            "of the one that was not killed"
        );

        let of_module = check_the_ledger(host).await;
        let port = PortId::known("mock");
        for there in &of_module {
            // The chain sends back each record that it receives, so it counts them.
            assert_eq!(rpc.next_send(&port, there).await.unwrap(), u64::from(EACH) + 1);
            until("the chain has all acks", async || {
                rpc.commitments(&port, there).await.unwrap().is_empty()
            })
            .await;
        }
        for (there, (sent, acked)) in &self.over {
            let received = rpc.next_send(&port, &ChannelId::known(there)).await.unwrap() - 1;
            assert!((*acked..=*sent).contains(&received), "{there}: {acked}, {received}, {sent}");
        }
        let of_module: BTreeSet<_> = of_module.into_iter().collect();
        until("nothing but the module's channels is open", async || {
            let channels = ends(rpc).await.channels.into_iter();
            let open = channels.filter(|(_, end)| end.state == ChannelState::Open);
            open.map(|(id, _)| id).collect::<BTreeSet<_>>() == of_module
        })
        .await;
        check_ends(&ends(rpc).await);
    }
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sent, acked) =
            self.over.values().fold((0, 0), |all, over| (all.0 + over.0, all.1 + over.1));
        write!(
            f,
            "{} things told of the module's records; of ports' records {sent} sent, {acked} \
             acknowledged, {} back, {} not delivered",
            self.happened.len(),
            self.handled.len(),
            self.not_delivered.len()
        )
    }
}

/// Checks what the module has kept; gives the chain's ends of its channels.
async fn check_the_ledger(host: &Host) -> Vec<ChannelId> {
    assert_eq!(count(host, "wrong/".to_owned()).await, 0);
    let mut there = Vec::new();
    for order in ORDERS {
        for what in ["acked", "back"] {
            assert_eq!(count(host, format!("{what}/{order}/")).await, EACH);
        }
        there.push(other_end(host, order).await);
    }
    assert_eq!(host.hops().len(), 1);
    there
}

/// Checks that what was begun twice is harmless: half open for ever, and not much.
fn check_ends(Ends { clients, connections, channels }: &Ends) {
    let open = |end: &&crate::engine::Connection| end.state == ConnectionState::Open;
    let ends = connections.iter().map(|(_, end)| end);
    let opened = ends.clone().filter(open).count();
    let half_open = ends.filter(|end| end.state == ConnectionState::TryOpen).count();
    let mut states: BTreeMap<String, u32> = BTreeMap::new();
    for (_, end) in channels {
        *states.entry(format!("{:?}", end.state)).or_default() += 1;
    }
    println!(
        "on the chain: {clients} clients, {opened} connections and {half_open} half open, \
         channels: {states:?}"
    );
    assert!(*clients <= 1 + KILLS, "one for each process that did not hear of its own");
    assert_eq!((opened, opened + half_open), (1, connections.len()));
    // What was under way when a process was killed is said again.
    assert!(connections.len() <= 1 + usize::try_from(KILLS).unwrap(), "{connections:?}");
    let half_open = states.get("TryOpen").copied().unwrap_or_default();
    assert!(half_open <= BEGUN * KILLS, "{states:?}");
}
