//! Bad input: each kind has a typed error, whose text says what is wrong and what to do.

#![cfg(all(feature = "loopback", feature = "tcp"))]
#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::{error::Error, io, time::Duration};

use bytes::BytesMut;
use network::{
    AcceptAll, AnyHandler, BindError, Bytes, CloseReason, ConnectError, Connection,
    ConnectionHandler, Delivery, EndpointError, Limits, Network, Port, Refusal, Rejection,
    SendError, accept_all, handler_fn,
    tcp::AddressError,
    wire::{Hello, Reply, VERSION, Welcome, decode_hello},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

const LOOPBACK: &str = "/local/";
const TCP: &str = "/ip4/127.0.0.1/tcp/0/port/";

// ---- endpoints -----------------------------------------------------------------------

#[tokio::test]
async fn an_endpoint_that_does_not_parse_is_shown_where() {
    let network = network::new().unwrap();
    for (text, says) in [
        ("local/orders", &["\"local/orders\"", "does not start with '/'", "write it as in"][..]),
        ("", &["names nothing", "write components after a '/'"]),
        ("/local//orders", &["\"/orders\" at byte 7", "write a name there or one '/' less"]),
        ("/ip4/127.0.0.256/tcp/9000", &["\"127.0.0.256\" at byte 5", "write four numbers"]),
        ("/ip4/127.0.0.1/tcp/99999", &["\"99999\" at byte 19", "write 0 to 65535"]),
    ] {
        let error = network.bind(text).await.unwrap_err();
        assert!(matches!(error, BindError::Endpoint(_)), "{error:?}");
        assert_says(&error, says);
    }
    let port = network.bind(LOOPBACK).await.unwrap();
    let error = port.connect("no slash", ()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Endpoint(EndpointError::MissingSlash { .. })));
    assert_says(&error, &["\"no slash\"", "write it as in"]);
}

#[tokio::test]
async fn an_endpoint_of_no_backend_is_told_what_there_is() {
    let network = network::new().unwrap();
    let error = network.bind("/carrier-pigeon/orders").await.unwrap_err();
    assert!(matches!(&error, BindError::NoBackend(none) if none.feature.is_none()), "{error:?}");
    assert_says(
        &error,
        &["no backend takes /carrier-pigeon/orders", "/local (loopback)", "/ip4/*/tcp/* (tcp)"],
    );

    let port = network.bind(LOOPBACK).await.unwrap();
    let error = port.connect("/carrier-pigeon/orders", ()).await.unwrap_err();
    assert!(matches!(error, ConnectError::NoBackend(_)), "{error:?}");
}

#[tokio::test]
async fn an_endpoint_of_a_backend_that_is_left_out_is_told_its_feature() {
    let network = Network::builder().protocol(network::loopback::Loopback::new()).build().unwrap();
    let error = network.bind("/ip4/127.0.0.1/tcp/9000").await.unwrap_err();
    assert!(matches!(&error, BindError::NoBackend(none) if none.feature == Some("tcp")));
    assert_says(&error, &["enable feature \"tcp\" of package `network`", "register its backend"]);

    let nothing = Network::builder().build().unwrap();
    let error = nothing.bind("/local/orders").await.unwrap_err();
    assert_says(&error, &["nothing: register a backend first", "enable feature \"loopback\""]);
}

#[tokio::test]
async fn an_endpoint_of_another_backend_is_told_apart() {
    let network = network::new().unwrap();
    let port = network.bind("/local/orders").await.unwrap();
    let error = port.connect("/ip4/127.0.0.1/tcp/9000", ()).await.unwrap_err();
    assert!(matches!(error, ConnectError::OtherBackend { .. }), "{error:?}");
    assert_says(
        &error,
        &["/local/orders is a port of loopback", "connect from a port of that backend"],
    );
}

#[tokio::test]
async fn a_bound_endpoint_cannot_be_bound_again() {
    let network = network::new().unwrap();
    for endpoint in [LOOPBACK, TCP] {
        let port = network.bind(endpoint).await.unwrap();
        let error = network.bind(port.local_endpoint()).await.unwrap_err();
        assert!(
            matches!(&error, BindError::AlreadyBound { endpoint } if endpoint == port.local_endpoint())
        );
        assert_says(
            &error,
            &[port.local_endpoint().as_str(), "revoke that port first, or bind another name"],
        );
    }
}

#[tokio::test]
async fn a_tcp_port_of_another_program_cannot_be_bound() {
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("/ip4/127.0.0.1/tcp/{}", other.local_addr().unwrap().port());
    let error = network::new().unwrap().bind(&endpoint).await.unwrap_err();
    assert!(matches!(error, BindError::Backend { protocol: "tcp", .. }), "{error:?}");
    assert_says(
        &error,
        &[
            &format!("cannot bind {endpoint} over tcp"),
            "another program has",
            "stop it, or bind another TCP port; /tcp/0 takes a free one",
        ],
    );
    let cause = error.source().and_then(|source| source.downcast_ref::<AddressError>());
    assert!(matches!(cause, Some(AddressError::InUse(_))), "{cause:?}");
}

// ---- connecting ----------------------------------------------------------------------

#[tokio::test]
async fn nobody_answers() {
    let network = network::new().unwrap();
    let port = network.bind(LOOPBACK).await.unwrap();
    let error = port.connect("/local/nobody", ()).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::Rejected { reason: Rejection::NotListening, .. }),
        "{error:?}"
    );
    assert_says(
        &error,
        &[
            "/local/nobody",
            "nobody listens there: check the name of the port, or start its listener",
        ],
    );

    let port = network.bind(TCP).await.unwrap();
    let error = port.connect(nobody(), ()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
    assert_says(&error, &["cannot reach /ip4/127.0.0.1/tcp/", "refused"]);
    let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    assert_eq!(cause.map(io::Error::kind), Some(io::ErrorKind::ConnectionRefused));
}

#[tokio::test]
async fn a_port_does_not_listen() {
    let network = network::new().unwrap();
    for endpoint in [LOOPBACK, TCP] {
        let server = serve(&network, endpoint, accept_all(())).await;
        server.unlisten().await.unwrap();
        let client = network.bind(endpoint).await.unwrap();
        let error = client.connect(server.local_endpoint(), ()).await.unwrap_err();
        assert!(
            matches!(error, ConnectError::Rejected { reason: Rejection::NotListening, .. }),
            "{error:?}"
        );
        assert_says(
            &error,
            &[
                server.local_endpoint().as_str(),
                "nobody listens there: check the name of the port, or start its listener",
            ],
        );
    }
}

#[tokio::test]
async fn a_listener_declines() {
    let network = network::new().unwrap();
    for endpoint in [LOOPBACK, TCP] {
        let server = network.bind(endpoint).await.unwrap();
        let decline = |_| async { Err::<AnyHandler, _>(Refusal::new("members only")) };
        server.listen(network::accept_fn(decline)).await.unwrap();
        let client = network.bind(endpoint).await.unwrap();
        let error = client.connect(server.local_endpoint(), ()).await.unwrap_err();
        let reason = match &error {
            ConnectError::Rejected { reason: Rejection::Declined(refusal), .. } => refusal.text(),
            _ => panic!("{error:?}"),
        };
        assert_eq!(reason, "members only");
        assert_says(&error, &["rejected the connection", "members only"]);
    }
}

#[tokio::test]
async fn a_peer_speaks_another_protocol() {
    let endpoint = peer_that_answers(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()).await;
    let client = network::new().unwrap().bind(TCP).await.unwrap();
    let error = client.connect(&endpoint, ()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Incompatible { .. }), "{error:?}");
    assert_says(
        &error,
        &[&format!("{endpoint} does not speak this protocol"), "another protocol is spoken there"],
    );
}

#[tokio::test]
async fn a_peer_speaks_another_version() {
    let welcome = Reply::Welcome(Welcome::of(&Limits::default())).encode();
    let endpoint = peer_that_answers(of_version(VERSION + 1, &welcome)).await;
    let client = network::new().unwrap().bind(TCP).await.unwrap();
    let error = client.connect(&endpoint, ()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Incompatible { .. }), "{error:?}");
    assert_says(&error, &["speaks version 2, this side speaks version 1", "update the older side"]);
}

#[tokio::test]
async fn a_dialer_of_another_protocol_or_version_is_told() {
    let network = network::new().unwrap();
    let server = serve(&network, "/ip4/127.0.0.1/tcp/0", accept_all(())).await;
    let port = server.local_endpoint().value_of("tcp").unwrap();
    let takes = Welcome::of(&Limits::default());
    let hello = Hello { to: String::new(), from: String::new(), takes }.encode();
    for (opening, says) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "another protocol is spoken there"),
        (of_version(VERSION + 1, &hello), "update the older side"),
    ] {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap();
        stream.write_all(&opening).await.unwrap();
        let mut reply = Vec::new();
        soon(stream.read_to_end(&mut reply)).await.unwrap();
        let reply = network::wire::decode_reply(&mut reply[..].into()).unwrap().unwrap();
        let Reply::Reject(reason @ Rejection::BadOpening(_)) = reply else {
            panic!("{reply:?}");
        };
        assert_says(&reason, &["could not take the opening frame", says]);
    }
    // Nobody else is affected.
    let client = network.bind(TCP).await.unwrap();
    let connection = client.connect(server.local_endpoint(), ()).await.unwrap();
    assert_eq!(connection.send("hello").await.unwrap(), "");
}

#[tokio::test]
async fn a_peer_says_nothing() {
    let limits = Limits::default().with_connect_time(Duration::from_millis(100));
    let network = network::builder().limits(limits).build().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("/ip4/127.0.0.1/tcp/{}", silent.local_addr().unwrap().port());
    let client = network.bind(TCP).await.unwrap();
    let error = soon(client.connect(&endpoint, ())).await.unwrap_err();
    assert!(matches!(error, ConnectError::TimedOut { .. }), "{error:?}");
    assert_says(&error, &[&endpoint, "took longer than 100ms"]);
}

// ---- records -------------------------------------------------------------------------

#[tokio::test]
async fn a_record_is_over_the_limit() {
    let limits = Limits::default().with_max_record_len(1000);
    for endpoint in [LOOPBACK, TCP] {
        let network = network::builder().limits(limits.clone()).build().unwrap();
        let connection = connected(&network, endpoint, ()).await;
        let error = connection.send(vec![0; 1001]).await.unwrap_err();
        assert!(matches!(error, SendError::TooLarge { len: 1001, max: 1000 }), "{error:?}");
        assert_eq!(error.delivery(), Delivery::NotDelivered);
        assert_says(
            &error,
            &["1001 bytes", "limit of 1000 bytes", "send less, or raise `Limits::max_record_len`"],
        );
        // The connection goes on.
        assert_eq!(connection.send(vec![0; 1000]).await.unwrap(), "");
    }
}

#[tokio::test]
async fn an_ack_is_over_the_limit() {
    let limits = Limits::default().with_max_ack_len(10);
    for endpoint in [LOOPBACK, TCP] {
        let network = network::builder().limits(limits.clone()).build().unwrap();
        let echo = handler_fn(|record: Bytes| async move { Ok(record) });
        let connection = connected(&network, endpoint, echo).await;
        let error = connection.send("eleven chars").await.unwrap_err();
        assert!(matches!(error, SendError::Refused(_)), "{error:?}");
        assert_eq!(error.delivery(), Delivery::Delivered);
        assert_says(
            &error,
            &["over the limit of 10 bytes", "ack less, or raise `Limits::max_ack_len`"],
        );
        assert_eq!(connection.send("ten chars.").await.unwrap(), "ten chars.");
    }
}

#[tokio::test]
async fn a_handler_refuses() {
    let network = network::new().unwrap();
    for endpoint in [LOOPBACK, TCP] {
        let number = handler_fn(|record: Bytes| async move {
            let number: u32 = std::str::from_utf8(&record)?.parse()?;
            Ok(Bytes::from((number + 1).to_string()))
        });
        let connection = connected(&network, endpoint, number).await;
        let error = connection.send("x").await.unwrap_err();
        let SendError::Refused(refusal) = &error else { panic!("{error:?}") };
        assert_eq!(refusal.text(), "invalid digit found in string");
        assert_says(&error, &["the remote handler refused the record", "invalid digit"]);
        assert_eq!(connection.send("41").await.unwrap(), "42");
    }
}

#[tokio::test]
async fn a_record_is_sent_after_the_close() {
    let network = network::new().unwrap();
    for endpoint in [LOOPBACK, TCP] {
        let connection = connected(&network, endpoint, ()).await;
        connection.close().await;
        let error = connection.send("late").await.unwrap_err();
        assert!(matches!(error, SendError::Closed { reason: CloseReason::Local, .. }), "{error:?}");
        assert_eq!(error.delivery(), Delivery::NotDelivered);
        assert_says(&error, &["was not sent", "closed by this side"]);
    }
}

// ---- handlers ------------------------------------------------------------------------

/// Panics at one word and acks all others empty.
struct Fragile;

impl ConnectionHandler for Fragile {
    async fn on_receive(&self, _: &Connection, record: Bytes) -> Result<Bytes, Refusal> {
        assert_ne!(record, "panic", "asked for");
        Ok(Bytes::new())
    }
}

#[tokio::test]
async fn a_handler_panics() {
    let network = network::new().unwrap();
    for endpoint in [LOOPBACK, TCP] {
        let server = serve(&network, endpoint, accept_all(Fragile)).await;
        let client = network.bind(endpoint).await.unwrap();
        let other = client.connect(server.local_endpoint(), ()).await.unwrap();
        let connection = client.connect(server.local_endpoint(), ()).await.unwrap();

        // The record is refused ...
        let error = soon(connection.send("panic")).await.unwrap_err();
        assert!(matches!(error, SendError::Refused(_)), "{error:?}");
        assert_says(&error, &["refused the record", "the handler panicked"]);
        assert_eq!(error.delivery(), Delivery::Delivered);
        // ... its connection closes with that reason ...
        let reason = soon(connection.closed()).await;
        assert!(matches!(reason, CloseReason::RemoteHandlerPanicked), "{reason:?}");
        assert!(!reason.is_intended());
        assert_eq!(reason.to_string(), "a handler of the remote side panicked");
        // ... and nothing else is affected, though the handler is shared.
        assert_eq!(soon(other.send("fine")).await.unwrap(), "");
        let again = client.connect(server.local_endpoint(), ()).await.unwrap();
        assert_eq!(soon(again.send("fine")).await.unwrap(), "");
    }
}

// ---- what the tests are written with -------------------------------------------------

/// Fails unless the error's text, with its causes, contains all of this.
#[track_caller]
fn assert_says(error: &dyn Error, parts: &[&str]) {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), work).await.expect("it hangs")
}

async fn serve<H: ConnectionHandler>(
    network: &Network,
    endpoint: &str,
    listener: AcceptAll<H>,
) -> Port {
    let server = network.bind(endpoint).await.unwrap();
    server.listen(listener).await.unwrap();
    server
}

/// A connection to a port with this handler.
async fn connected(
    network: &Network,
    endpoint: &str,
    handler: impl ConnectionHandler,
) -> Connection {
    let server = serve(network, endpoint, accept_all(handler)).await;
    let client = network.bind(endpoint).await.unwrap();
    client.connect(server.local_endpoint(), ()).await.unwrap()
}

/// An endpoint with a TCP port that was free a moment ago.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("/ip4/127.0.0.1/tcp/{}", listener.local_addr().unwrap().port())
}

/// A TCP server that answers one hello with bytes of its own.
async fn peer_that_answers(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("/ip4/127.0.0.1/tcp/{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut input = BytesMut::new();
        while decode_hello(&mut input).unwrap().is_none() {
            stream.read_buf(&mut input).await.unwrap();
        }
        stream.write_all(&answer).await.unwrap();
        // Until the dialer has seen enough.
        let _ = stream.read_buf(&mut input).await;
    });
    endpoint
}

/// An opening with another version in it: two bytes after the six of the magic.
fn of_version(version: u16, opening: &[u8]) -> Vec<u8> {
    let mut opening = opening.to_vec();
    opening[6..8].copy_from_slice(&version.to_le_bytes());
    opening
}
