//! Listeners that do not keep to the protocol.

use std::time::Duration;

use network_core::{
    CloseReason, ConnectError, Connection, ConnectionHandler, Endpoint, Limits, Network, Rejection,
    SendError,
    wire::{Frame, Reply, Welcome},
};
use tokio::task::JoinHandle;

use crate::{
    lab::Lab,
    peer::{Peer, RECORD, encoded, header, hello},
    tools::{limits, pattern, probe, send, within},
    wire::Impostor,
};

type Connecting = JoinHandle<Result<Connection, ConnectError>>;

/// A victim that connects to an impostor, whose end of the stream is the peer.
async fn trap(lab: &Lab, limits: Limits, handler: impl ConnectionHandler) -> Trap {
    let Impostor { endpoint, mut victims } = lab.wire().impostor().await.unwrap();
    let network = lab.network_with(limits).await;
    let port = lab.client(&network).await;
    let remote = endpoint.clone();
    let connecting = tokio::spawn(async move { port.connect(remote, handler).await });
    let peer = Peer::new(within("a victim", victims.recv()).await.unwrap());
    Trap { endpoint, connecting, peer, network }
}

struct Trap {
    endpoint: Endpoint,
    connecting: Connecting,
    peer: Peer,
    network: Network,
}

impl Trap {
    async fn error(self) -> ConnectError {
        let error = within("the connect", self.connecting).await.unwrap().unwrap_err();
        assert!(error.to_string().contains(self.endpoint.as_str()), "{error}");
        assert_eq!(self.network.connections(), 0);
        error
    }

    async fn opened(self) -> (Connection, Peer) {
        (within("the connect", self.connecting).await.unwrap().unwrap(), self.peer)
    }
}

fn hasty() -> Limits {
    limits().with_connect_time(Duration::from_millis(300))
}

fn welcome(limits: &Limits) -> Vec<u8> {
    Reply::Welcome(Welcome::of(limits)).encode().to_vec()
}

pub(crate) async fn that_talks_garbage_is_incompatible(lab: Lab) {
    let garbage: [&[u8]; 4] =
        [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.6\r\n", &[0; 20_000], b"\n"];
    for bytes in garbage {
        let mut trap = trap(&lab, limits(), ()).await;
        let _ = trap.peer.try_write(bytes).await;
        expect!(trap.error().await, ConnectError::Incompatible { .. });
    }
}

pub(crate) async fn of_another_version_is_incompatible(lab: Lab) {
    let mut trap = trap(&lab, limits(), ()).await;
    let mut other = welcome(&limits());
    other[6] = 77;
    trap.peer.write(&other).await;
    let error = trap.error().await;
    assert!(error.to_string().contains("version 77"), "{error}");
    expect!(error, ConnectError::Incompatible { .. });
}

pub(crate) async fn that_answers_with_a_hello_is_incompatible(lab: Lab) {
    let mut trap = trap(&lab, limits(), ()).await;
    let hello = hello(&lab, &trap.endpoint, &limits());
    trap.peer.write(&hello).await;
    expect!(trap.error().await, ConnectError::Incompatible { .. });
}

pub(crate) async fn with_an_endless_opening_is_incompatible(lab: Lab) {
    let mut trap = trap(&lab, limits(), ()).await;
    let mut endless = welcome(&limits());
    endless[8..10].copy_from_slice(&u16::MAX.to_le_bytes());
    endless.resize(70_000, 200);
    let _ = trap.peer.try_write(&endless).await;
    expect!(trap.error().await, ConnectError::Incompatible { .. });
}

pub(crate) async fn that_is_silent_is_given_up(lab: Lab) {
    let trap = trap(&lab, hasty(), ()).await;
    expect!(trap.error().await, ConnectError::TimedOut { .. });
}

pub(crate) async fn that_stops_in_its_opening_is_given_up(lab: Lab) {
    let mut trap = trap(&lab, hasty(), ()).await;
    let welcome = welcome(&limits());
    trap.peer.write(&welcome[..welcome.len() - 1]).await;
    expect!(trap.error().await, ConnectError::TimedOut { .. });
}

pub(crate) async fn that_hangs_up_is_no_timeout(lab: Lab) {
    let mut trap = trap(&lab, limits(), ()).await;
    trap.peer.finish().await;
    expect!(
        trap.error().await,
        ConnectError::Unreachable { .. } | ConnectError::Incompatible { .. }
    );
}

pub(crate) async fn that_says_no_in_an_unknown_way_is_a_no(lab: Lab) {
    let mut trap = trap(&lab, limits(), ()).await;
    let known = Reply::Reject(Rejection::Busy).encode();
    // The reason is a field of one byte: tag 7, length 1.
    let at = known.windows(3).position(|bytes| bytes == [7, 1, 0]).unwrap() + 3;
    let mut unknown = known.to_vec();
    unknown[at] = 99;
    trap.peer.write(&unknown).await;
    expect!(trap.error().await, ConnectError::Rejected { .. });
}

pub(crate) async fn whose_words_come_with_the_welcome_is_heard(lab: Lab) {
    let (handler, mut seen) = probe();
    let mut trap = trap(&lab, limits(), handler).await;
    let mut both = welcome(&limits());
    both.extend(encoded(|output| {
        output.record(1, "at once".into());
        output.record(2, "and more".into());
    }));
    trap.peer.write(&both).await;
    let (_connection, mut peer) = trap.opened().await;
    assert_eq!(seen.record().await, "at once");
    assert_eq!(seen.record().await, "and more");
    peer.hello().await;
    for expected in [1, 2] {
        expect!(peer.frame().await, Some(Frame::Ack { id, .. }) if id == expected);
    }
}

pub(crate) async fn whose_limits_are_small_is_obeyed(lab: Lab) {
    let mut trap = trap(&lab, limits(), ()).await;
    let small = limits()
        .with_max_record_len(10)
        .with_window_records(2)
        .with_window_bytes(15);
    trap.peer.write(&welcome(&small)).await;
    let (connection, mut peer) = trap.opened().await;
    peer.hello().await;
    expect!(connection.send(pattern(11, 0)).await.unwrap_err(), SendError::TooLarge { max: 10, .. });
    let sender = connection.clone();
    let sending = tokio::spawn(async move {
        let (one, two) = (sender.send(pattern(10, 1)), sender.send(pattern(10, 2)));
        tokio::join!(one, two)
    });
    for number in [1, 2] {
        // The second comes after the ack of the first: both are over the window of bytes.
        match peer.frame().await {
            Some(Frame::Record { id, payload }) => {
                assert_eq!(payload, pattern(10, number));
                assert_eq!(connection.stats().unacked, 1);
                peer.say(|output| output.ack(id, "".into())).await;
            }
            other => panic!("expected a record, got {other:?}"),
        }
    }
    let (one, two) = within("two acks", sending).await.unwrap();
    one.unwrap();
    two.unwrap();
}

pub(crate) async fn that_breaks_the_protocol_is_left(lab: Lab) {
    let (handler, mut seen) = probe();
    let mut trap = trap(&lab, limits().with_max_record_len(1_000), handler).await;
    trap.peer.write(&welcome(&limits())).await;
    let (connection, mut peer) = trap.opened().await;
    peer.write(&header(RECORD, 1, 1_001)).await;
    expect!(within("the close", connection.closed()).await, CloseReason::Protocol(_));
    expect!(seen.close().await, CloseReason::Protocol(_));
    // And it is no worse off than before.
    let served = lab.serve(()).await;
    send(&served.connect(()).await, "hello").await;
}
