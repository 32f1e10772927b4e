//! Another host that believes no header of this one.

use tokio::{sync::mpsc, time::sleep};

use super::*;
use crate::host::{
    inbox::Command,
    wire::{Code, Outcome, Outcomes},
};

#[tokio::test]
async fn headers_that_are_never_believed_are_shown_ever_more_rarely() {
    let pair = pair().await;
    let (_server, _client, connection) = connected(&pair, "ordered").await;
    let (alpha, beta) = (&pair.alpha.0.0, &pair.beta.0.0);
    let known =
        beta.ask(|reply| Command::Knows { chain: "alpha".to_owned(), reply }).await.unwrap();
    // A way that is taken as it is the newer one.
    let (peer, chain) = (u64::MAX, || "beta".to_owned());
    let (batches, mut wanted) = mpsc::unbounded_channel();
    alpha.inbox.push(Command::PeerUp { chain: chain(), peer, batches, known: known.clone() });
    let mut sending = std::pin::pin!(connection.send("hello"));
    let (mut shown, time) = (0, sleep(Duration::from_secs(3)));
    tokio::pin!(time);
    loop {
        let batch = tokio::select! {
            batch = wanted.recv() => batch.unwrap(),
            ack = &mut sending => panic!("nobody has heard of it: {ack:?}"),
            () = &mut time => break,
        };
        shown += 1;
        assert!(batch.messages[0].type_url.ends_with("MsgUpdateClient"), "{batch:?}");
        let refused = Outcome { code: Code::Again.into(), text: "no".to_owned() };
        let outcomes = vec![refused; batch.messages.len()];
        let outcomes = Some(Outcomes { outcomes, known: known.clone() });
        alpha.inbox.push(Command::Relayed { chain: chain(), peer, outcomes });
    }
    // After 0.1 s, 0.3 s, 0.7 s and 1.5 s.
    assert!((3..=5).contains(&shown), "{shown} headers in three seconds");
    // By the other way it comes at once.
    alpha.inbox.push(Command::PeerDown { chain: chain(), peer });
    assert_eq!(timeout(Duration::from_secs(3), sending).await.unwrap().unwrap(), "hello");
}
