//! Learning what happens.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use ibc_proto::ibc::core::client::v1::MsgCreateClient;

use super::{
    middle::{Middle, Mode, Verdict, Wire},
    *,
};
use crate::{
    chain::{
        event::IbcEvent,
        events::{ChainEvents, Heard},
        submit::{Submitter, TxSettings},
    },
    height::Timestamp,
    ledger::{Ledger, LedgerKey, Trust},
};

/// How long anything here may take.
const LIMIT: Duration = Duration::from_secs(90);

/// What is heard: the clients that were created, by height.
type Created = BTreeMap<u64, Vec<String>>;

/// Creates clients, as the chain's events.
struct Creator {
    submitter: Submitter,
    message: Any,
}

impl Creator {
    fn new(node: &Node) -> Self {
        let key = Arc::new(LedgerKey::from_seed(&[5; 32]).unwrap());
        let mut ledger = Ledger::in_memory(key, "host", 8).unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let past = now - Duration::from_secs(10);
        let height = ledger.commit(Timestamp::ZERO.saturating_add(past)).unwrap().height;
        let (client, consensus) = ledger.client_of(height, &Trust::default()).unwrap();
        let message = any(&MsgCreateClient {
            client_state: Some(client),
            consensus_state: Some(consensus),
            signer: super::key(0).address(),
        });
        let submitter =
            Submitter::spawn(node.rpc.clone(), "chain-a", super::key(0), TxSettings::default());
        Self { submitter, message }
    }

    /// Creates clients, three in a transaction, until there are so many.
    async fn create(&self, count: usize) -> Created {
        let mut created = Created::new();
        for _ in 0..count / 3 {
            for fate in self.submitter.submit(vec![self.message.clone(); 3]).await {
                let inclusion = fate.unwrap();
                let event = inclusion.events.iter().find(|event| event.kind == "create_client");
                let client = event.unwrap().get("client_id").unwrap().to_owned();
                created.entry(inclusion.height).or_default().push(client);
            }
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        created
    }
}

/// Listens to so many blocks, each of which must be the one after the last.
async fn listen(events: &mut ChainEvents, from: u64, blocks: u64) -> Created {
    let mut created = Created::new();
    for expected in from..from + blocks {
        let heard = tokio::time::timeout(LIMIT, events.next()).await.expect("no block");
        let Heard::Block { height, events } = heard else { panic!("{heard:?}") };
        assert_eq!(height, expected);
        for event in events {
            if let IbcEvent::ClientCreated { client } = event {
                created.entry(height).or_default().push(client.to_string());
            }
        }
    }
    created
}

fn wire_rpc(wire: &Wire) -> Rpc {
    rpc(&format!("http://{}", wire.address))
}

async fn wire(node: &Node) -> Wire {
    Wire::to(node.chain.rpc().trim_start_matches("http://").parse().unwrap()).await
}

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn every_event_of_a_hundred_blocks_is_heard_once_though_the_socket_is_cut() {
    let node = Node::start();
    let (wire, creator) = (wire(&node).await, Creator::new(&node));
    let mut events = ChainEvents::from(wire_rpc(&wire), 1);
    let ended = tokio::sync::Notify::new();
    let cutting = async {
        for turn in 0.. {
            tokio::select! {
                () = ended.notified() => break,
                () = tokio::time::sleep(Duration::from_millis(1_300)) => {}
            }
            wire.mode.send_replace(Mode::Cut(turn));
        }
    };
    let listening = async {
        let heard = listen(&mut events, 1, 120).await;
        ended.notify_one();
        heard
    };
    // Some 90 blocks' worth.
    let (created, heard, ()) = tokio::join!(creator.create(60), listening, cutting);
    let last = *created.keys().last().unwrap();
    assert!(created.len() >= 20 && last <= 120, "{last}");
    assert_eq!(heard, created);
    assert!(wire.sockets.load(Ordering::Relaxed) > 3, "it was not cut, or not made anew");
}

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn a_socket_that_falls_silent_is_noticed_and_replaced() {
    let node = Node::start();
    let (wire, creator) = (wire(&node).await, Creator::new(&node));
    let from = node.height().await + 1;
    let mut events = ChainEvents::from(wire_rpc(&wire), from);
    let mut heard = listen(&mut events, from, 20).await;

    // All that is connected now is mute for ever, and looks as well as before.
    wire.mode.send_replace(Mode::Mute(0));
    let muted = Instant::now();
    let (created, more) = tokio::join!(creator.create(15), listen(&mut events, from + 20, 40));
    heard.extend(more);
    assert_eq!(heard, created);
    // Asking has told of these. The socket is given up once asking has told of more than it twice.
    let mut next = from + 60;
    while wire.sockets.load(Ordering::Relaxed) < 2 {
        assert!(muted.elapsed() < Duration::from_secs(30), "the mute socket is still listened to");
        listen(&mut events, next, 1).await;
        next += 1;
    }
}

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn a_node_may_pause_and_restart_while_it_is_listened_to() {
    let node = Node::start();
    let creator = Creator::new(&node);
    let mut events = ChainEvents::from(node.rpc.clone(), 1);
    let mut heard = listen(&mut events, 1, 10).await;
    let disturbing = tokio::task::spawn_blocking(move || {
        let mut node = node;
        node.chain.pause().unwrap();
        std::thread::sleep(Duration::from_secs(5));
        node.chain.resume().unwrap();
        std::thread::sleep(Duration::from_secs(1));
        node.chain.stop().unwrap();
        std::thread::sleep(Duration::from_secs(1));
        node.chain.run().unwrap();
        node
    });
    let (created, more, node) =
        tokio::join!(creator.create(30), listen(&mut events, 11, 110), disturbing);
    heard.extend(more);
    assert_eq!(heard, created);
    drop(node.unwrap());
}

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn without_a_socket_the_same_is_heard() {
    let node = Node::start();
    let creator = Creator::new(&node);
    let lowest = 4;
    // It knows no WebSocket, and says that it has forgotten two blocks.
    let middle = Middle::before(&node.rpc, move |method, asked| match method {
        "block_results" if asked["params"]["height"] == "12" => {
            let why = "height 12 is not available, lowest height is 13";
            Verdict::Error(why.to_owned())
        }
        "status" => Verdict::Change(Box::new(move |result| {
            result["sync_info"]["earliest_block_height"] = lowest.to_string().into();
        })),
        _ => Verdict::Pass,
    })
    .await;
    let created = creator.create(15).await;
    let mut events = ChainEvents::from(middle.rpc.clone(), 1);
    let missed = events.next().await;
    assert!(matches!(missed, Heard::Missed { from: 1, to: 3 }), "{missed:?}");
    let mut heard = listen(&mut events, 4, 8).await;
    let missed = events.next().await;
    assert!(matches!(missed, Heard::Missed { from: 12, to: 12 }), "{missed:?}");
    let (mut more, later) = tokio::join!(creator.create(15), listen(&mut events, 13, 90));
    heard.extend(later);
    more.extend(created);
    more.retain(|height, _| *height >= lowest && *height != 12);
    assert_eq!(heard, more);
}

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn what_happened_before_is_caught_up_with() {
    let node = Node::start();
    let created = Creator::new(&node).create(9).await;
    let height = node.height().await;
    let mut events = ChainEvents::from(node.rpc.clone(), 1);
    let heard = listen(&mut events, 1, height).await;
    assert_eq!(heard, created);
    // And it goes on from there, as it does for a second one that begins in the middle.
    assert_eq!(listen(&mut events, height + 1, 5).await, Created::new());
    let middle = *created.keys().nth(1).unwrap();
    let mut events = ChainEvents::from(node.rpc.clone(), middle);
    let heard = listen(&mut events, middle, height + 1 - middle).await;
    assert_eq!(heard, created.clone().split_off(&middle));
}
