//! Nodes that answer what no node should.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::{
    ChainConfig, ChainKey, RpcError, TxError, TxSettings,
    events::{ChainEvents, Heard},
    http::SHORT,
    preflight::{Check, Level, preflight},
    rpc::{Rpc, RpcSettings},
    socket::Socket,
    submit::Submitter,
};
use crate::{
    height::Height,
    identifier::{ChannelId, ConnectionId, PortId},
};

const TIMEOUT: Duration = Duration::from_millis(500);
const MAX_ANSWER: usize = 10_000;

/// What is answered to whoever connects. It ends when this is dropped.
pub(crate) struct Strange {
    pub(crate) rpc: Rpc,
    task: JoinHandle<()>,
}

impl Drop for Strange {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Strange {
    /// Writes the same to all, byte by byte if it is told to, and again if it is told to.
    async fn raw(bytes: impl Into<Vec<u8>>, slow: bool, endless: bool) -> Self {
        let bytes = Arc::new(bytes.into());
        Self::serving(move |mut stream| {
            let bytes = bytes.clone();
            async move {
                let mut request = [0; 4_096];
                let _ = stream.read(&mut request).await;
                let _ = stream.set_nodelay(true);
                let step = if slow { 1 } else { bytes.len().max(1) };
                for chunk in bytes.chunks(step) {
                    if stream.write_all(chunk).await.is_err() {
                        return;
                    }
                    if slow {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
                while endless && stream.write_all(&[b' '; 1_000]).await.is_ok() {}
            }
        })
        .await
    }

    /// Answers each method with what `answer` says: a status and a body.
    async fn answering(answer: impl Fn(&str) -> (u16, String) + Send + Sync + 'static) -> Self {
        Self::asked(move |asked| answer(asked["method"].as_str().unwrap())).await
    }

    /// Answers each request with what `answer` says: a status and a body.
    pub(crate) async fn asked(
        answer: impl Fn(&Value) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        let answer = Arc::new(answer);
        Self::serving(move |mut stream| {
            let answer = answer.clone();
            async move {
                let Some(asked) = request(&mut stream).await else { return };
                let (status, body) = answer(&asked);
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                );
                let _ = stream.write_all((head + &body).as_bytes()).await;
            }
        })
        .await
    }

    /// Answers each method with a result.
    async fn with(result: impl Fn(&str) -> Value + Send + Sync + 'static) -> Self {
        Self::answering(move |method| {
            (200, json!({ "jsonrpc": "2.0", "id": 1, "result": result(method) }).to_string())
        })
        .await
    }

    async fn serving<F: Future<Output = ()> + Send + 'static>(
        serve: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let settings =
            RpcSettings { timeout: TIMEOUT, max_answer: MAX_ANSWER, ..RpcSettings::default() };
        let rpc = Rpc::new(&url, &settings).unwrap();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
        Self { rpc, task }
    }

    async fn status(&self) -> RpcError {
        let began = Instant::now();
        let error = self.rpc.status().await.unwrap_err();
        assert!(began.elapsed() < TIMEOUT * 4, "it took {:?}", began.elapsed());
        assert!(error.to_string().len() < 1_000, "the error is as long as the answer");
        error
    }
}

/// What is asked; `None` if the connection ends before.
async fn request(stream: &mut TcpStream) -> Option<Value> {
    let mut request = Vec::new();
    loop {
        let Ok(1..) = stream.read_buf(&mut request).await else { return None };
        let text = String::from_utf8_lossy(&request);
        let Some((_, body)) = text.split_once("\r\n\r\n") else { continue };
        if let Ok(asked) = serde_json::from_str::<Value>(body) {
            return Some(asked);
        }
    }
}

#[test]
fn what_is_no_url_of_an_rpc_is_refused() {
    let new = |url: &str| Rpc::new(url, &RpcSettings::default()).map(drop);
    for url in [
        "",
        "127.0.0.1:26657",
        "tcp://127.0.0.1:26657",
        "http://",
        "https://a/?b",
        "http:///a",
        "https://name:password@a/",
    ] {
        assert!(matches!(new(url), Err(RpcError::Url { .. })), "{url}");
    }
    for url in ["http://127.0.0.1:26657", "https://rpc.example.org:443/hub/", "http://[::1]:1"] {
        new(url).unwrap();
    }
}

#[tokio::test]
async fn the_path_of_a_url_is_shown_to_nobody() {
    let rpc = Rpc::new("http://127.0.0.1:1/secret/", &RpcSettings::default()).unwrap();
    let error = rpc.status().await.unwrap_err();
    assert!(matches!(error, RpcError::Unreachable { .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
}

#[tokio::test]
async fn the_socket_is_below_the_path_of_the_url() {
    let (said, heard) = tokio::sync::oneshot::channel();
    let said = std::sync::Mutex::new(Some(said));
    let node = Strange::serving(move |mut stream| {
        let said = said.lock().unwrap().take();
        async move {
            let mut request = vec![0; 4_096];
            let _ = stream.read(&mut request).await;
            let text = String::from_utf8_lossy(&request).into_owned();
            let _ = said.map(|said| said.send(text));
        }
    })
    .await;
    let url = format!("{}/hub/", node.rpc.http().url()).replace("http", "HTTP");
    let rpc = Rpc::new(&url, &RpcSettings::default()).unwrap();
    assert!(Socket::open(rpc.http()).await.is_err());
    assert!(heard.await.unwrap().starts_with("GET /hub/websocket HTTP/1.1"));
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let endless = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n";
    let node = Strange::raw(endless, false, true).await;
    assert!(matches!(node.status().await, RpcError::TooLarge { limit: MAX_ANSWER, .. }));
    let long = "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n";
    let node = Strange::raw(long, false, true).await;
    assert!(matches!(node.status().await, RpcError::TooLarge { .. }));
    let node = Strange::raw("HTTP/1.1 200 OK\r\nX: ", false, true).await;
    assert!(matches!(node.status().await, RpcError::Unreachable { .. }));
}

/// How much of its long answers a node has written at once to whoever still listens.
#[derive(Default)]
struct Held {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// A node at height 8 whose answers of what happened in a block are long and take their time.
async fn loud(held: Arc<Held>) -> Strange {
    const LONG: usize = SHORT * 2;
    Strange::serving(move |mut stream| {
        let held = held.clone();
        async move {
            let Some(asked) = request(&mut stream).await else { return };
            let result = match asked["method"].as_str().unwrap() {
                "block_results" => json!({ "height": asked["params"]["height"] }),
                _ => status("8"),
            };
            let body = json!({ "jsonrpc": "2.0", "id": 1, "result": result }).to_string();
            let is_long = asked["method"] == "block_results";
            let spaces = if is_long { LONG } else { 0 };
            let length = spaces + body.len();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            let begun = [head.into_bytes(), vec![b' '; spaces]].concat();
            if stream.write_all(&begun).await.is_err() {
                return;
            }
            if is_long {
                // Whoever does not want that much is gone soon.
                let mut more = [0; 1];
                let gone = stream.read(&mut more);
                if tokio::time::timeout(Duration::from_millis(150), gone).await.is_ok() {
                    return;
                }
                let now = held.now.fetch_add(1, Ordering::Relaxed) + 1;
                held.most.fetch_max(now, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(150)).await;
                held.now.fetch_sub(1, Ordering::Relaxed);
            }
            let _ = stream.write_all(body.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    })
    .await
}

fn patient(node: &Strange, timeout: Duration) -> Rpc {
    let settings = RpcSettings { timeout, ..RpcSettings::default() };
    Rpc::new(node.rpc.http().url(), &settings).unwrap()
}

#[tokio::test]
async fn of_long_answers_one_is_held_at_a_time_and_all_of_them_come() {
    let held = Arc::new(Held::default());
    let node = loud(held.clone()).await;
    // Less than all of them take.
    let rpc = patient(&node, Duration::from_millis(1_500));
    let mut events = ChainEvents::from(rpc.clone(), 1);
    let blocks = async {
        for wanted in 1..=8 {
            let heard = events.next().await;
            assert!(matches!(heard, Heard::Block { height, .. } if height == wanted), "{heard:?}");
        }
    };
    let others = futures_util::future::join_all((1..=6).map(|height| rpc.block_results(height)));
    let all = async { tokio::join!(blocks, others) };
    let ((), others) = tokio::time::timeout(Duration::from_secs(60), all).await.unwrap();
    for (height, results) in (1..=6).zip(others) {
        assert_eq!(results.unwrap().height, height);
    }
    assert_eq!(held.most.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_has_no_reason_to_be_long_is_not_taken() {
    let node = Strange::with(|method| match method {
        "abci_query" => json!({ "response": { "code": 0, "value": "A".repeat(SHORT) } }),
        _ => json!({ "log": "x".repeat(SHORT) }),
    })
    .await;
    let rpc = patient(&node, Duration::from_secs(10));
    let long = |asked: Option<RpcError>| {
        let Some(RpcError::Unexpected { reason, .. }) = asked else { panic!("{asked:?}") };
        assert!(reason.contains("longer than any of its kind"), "{reason}");
    };
    long(rpc.status().await.err());
    long(rpc.commit(7).await.err());
    long(rpc.validators(7, 1, 100).await.err());
    long(rpc.broadcast(b"tx").await.err());
    long(rpc.prove("key", Some(7)).await.err());
    long(rpc.query("/", &[], None).await.err());
}

#[tokio::test]
async fn an_answer_has_no_more_in_it_than_it_has_bytes_for() {
    let event = format!(r#"{{"type":"","attributes":[{}]}}"#, vec!["{}"; 50].join(","));
    for (list, one) in [("txs_results", "{}"), ("finalize_block_events", &event)] {
        let many = vec![one; 8_000 / (one.len() + 1)].join(",");
        let body =
            format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"height":"7","{list}":[{many}]}}}}"#);
        let node = Strange::answering(move |_| (200, body.clone())).await;
        let error = node.rpc.block_results(7).await.map(drop).unwrap_err();
        let RpcError::Unexpected { reason, .. } = &error else { panic!("{error}") };
        assert!(reason.contains("more in it"), "{reason}");
    }
    // What is quoted is no structure.
    let text = r#"{\"a\":[{},{},{}]},"#.repeat(400);
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"result":{{"height":"7","txs_results":[{{"log":"{text}"}}]}}}}"#
    );
    let node = Strange::answering(move |_| (200, body.clone())).await;
    assert_eq!(node.rpc.block_results(7).await.unwrap().txs_results.len(), 1);

    let hop = ConnectionId::known("connection-0");
    for (entries, taken) in [(30, true), (33, false)] {
        let value = data_encoding::BASE64.encode(&[0x0A, 0].repeat(entries));
        let answer = json!({ "response": { "code": 0, "value": value, "height": "7" } });
        let node = Strange::with(move |_| answer.clone()).await;
        assert_eq!(node.rpc.channels_over(&hop).await.is_ok(), taken);
    }
}

#[tokio::test]
async fn a_list_is_no_longer_than_an_answer_may_be() {
    use ibc_proto::{
        cosmos::base::query::v1beta1::PageResponse,
        ibc::core::channel::v1::{PacketState, QueryPacketCommitmentsResponse},
    };
    use prost::Message as _;

    let state = PacketState { data: vec![7; 1_000], ..PacketState::default() };
    let pagination = Some(PageResponse { next_key: vec![1], total: 0 });
    let page =
        QueryPacketCommitmentsResponse { commitments: vec![state; 3], pagination, height: None };
    let value = data_encoding::BASE64.encode(&page.encode_to_vec());
    let answer = json!({ "response": { "code": 0, "value": value, "height": "7" } });
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let node = Strange::with(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        answer.clone()
    })
    .await;
    let (port, channel) = (PortId::known("port"), ChannelId::known("channel-0"));
    let error = node.rpc.commitments(&port, &channel).await.unwrap_err();
    assert!(error.to_string().contains("too long together"), "{error}");
    assert_eq!(asked.load(Ordering::Relaxed), MAX_ANSWER / 3_000 + 1);
}

#[tokio::test]
async fn a_slow_answer_is_given_up() {
    // No byte for long enough is too long in all.
    let slow = [b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n".to_vec(), vec![b' '; 5_000]];
    let node = Strange::raw(slow.concat(), true, false).await;
    assert!(matches!(node.status().await, RpcError::Timeout { after: TIMEOUT, .. }));
    let silent = Strange::serving(|stream| async move {
        tokio::time::sleep(TIMEOUT * 10).await;
        drop(stream);
    });
    assert!(matches!(silent.await.status().await, RpcError::Timeout { method: "status", .. }));
}

#[tokio::test]
async fn what_is_no_rpc_is_told_apart() {
    let node = Strange::raw("SSH-2.0-OpenSSH_9.9\r\n", false, false).await;
    assert!(matches!(node.status().await, RpcError::Unreachable { .. }));
    let node = Strange::raw("", false, false).await;
    assert!(matches!(node.status().await, RpcError::Unreachable { .. }));
    for status in [404, 429, 502] {
        let node = Strange::answering(move |_| (status, "<html>".to_owned())).await;
        let error = node.status().await;
        assert!(matches!(error, RpcError::Status { status: said, .. } if said == status));
        assert_eq!(error.may_pass(), status != 404);
    }
    for body in [
        "<html>".to_owned(),
        "[]".to_owned(),
        "[".repeat(9_000),
        r#"{"jsonrpc":"2.0","id":1}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"result":null}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"result":{"node_info":{}}}"#.to_owned(),
    ] {
        let node = Strange::answering(move |_| (200, body.clone())).await;
        let error = node.status().await;
        assert!(matches!(error, RpcError::Unexpected { .. }), "{error}");
        assert!(!error.may_pass());
    }
}

fn status(height: &str) -> Value {
    json!({
        "node_info": { "network": "chain-a", "version": "0.38.17" },
        "sync_info": {
            "latest_block_height": height,
            "earliest_block_height": "1",
            "catching_up": false,
        },
    })
}

#[tokio::test]
async fn an_answer_to_something_else_is_none() {
    for id in [json!(2), json!(null), json!(-1)] {
        let body = json!({ "jsonrpc": "2.0", "id": id, "result": status("7") }).to_string();
        let node = Strange::answering(move |_| (200, body.clone())).await;
        assert!(matches!(node.status().await, RpcError::Unexpected { .. }));
    }
    for height in ["-1", "18446744073709551616", "x", "1.5"] {
        let node = Strange::with(move |_| status(height)).await;
        assert!(matches!(node.status().await, RpcError::Unexpected { .. }), "{height}");
    }
    let error = json!({ "code": -32603, "message": "Internal error", "data": "x".repeat(9_000) });
    let body = json!({ "jsonrpc": "2.0", "id": 1, "error": error }).to_string();
    let node = Strange::answering(move |_| (500, body.clone())).await;
    assert!(matches!(node.status().await, RpcError::Node { code: -32603, .. }));

    let node = Strange::with(|method| match method {
        "block_results" => json!({ "height": "8" }),
        "tx" => json!({ "hash": "00", "height": "7", "tx_result": {} }),
        "broadcast_tx_sync" => json!({ "code": 0, "hash": "00" }),
        "commit" => json!({ "signed_header": { "header": null, "commit": null } }),
        _ => json!({}),
    })
    .await;
    let rpc = &node.rpc;
    assert!(matches!(rpc.block_results(7).await, Err(RpcError::Unexpected { .. })));
    assert!(matches!(rpc.tx(&[7; 32]).await, Err(RpcError::Unexpected { .. })));
    assert!(matches!(rpc.broadcast(b"tx").await, Err(RpcError::Unexpected { .. })));
    assert!(matches!(rpc.signed(7).await, Err(RpcError::Unexpected { .. })));
}

#[tokio::test]
async fn a_proof_of_something_else_is_none() {
    // An empty proof, as protobuf writes it, is no reason to refuse: the client is to judge.
    let right = || {
        json!({
            "code": 0, "key": "a2V5", "value": "dmFsdWU=", "height": "7",
            "proofOps": { "ops": [{ "type": "ics23:iavl", "data": "" }] },
        })
    };
    let ask = async |answer: Value| {
        let node = Strange::with(move |_| json!({ "response": answer })).await;
        node.rpc.prove("key", Some(7)).await
    };
    assert_eq!(ask(right()).await.unwrap().height, 8);
    for (part, wrong) in [
        ("key", json!("b3RoZXI=")),
        ("key", json!(null)),
        ("key", json!("!")),
        ("height", json!("8")),
        ("height", json!(null)),
        ("proofOps", json!(null)),
        ("proofOps", json!({ "ops": [] })),
        ("proofOps", json!({ "ops": [{ "type": "simple:v", "data": "" }] })),
        ("proofOps", json!({ "ops": [{ "type": "ics23:iavl", "data": "/////w==" }] })),
    ] {
        let mut answer = right();
        answer[part] = wrong.clone();
        let asked = ask(answer).await;
        assert!(matches!(asked, Err(RpcError::Unexpected { .. })), "{part} {wrong}: {asked:?}");
    }
    let answer = json!({ "response": { "code": 0, "height": "18446744073709551615", "key": "a2V5",
        "proofOps": { "ops": [{ "type": "ics23:iavl", "data": "" }] } } });
    let node = Strange::with(move |_| answer.clone()).await;
    assert!(matches!(node.rpc.prove("key", None).await, Err(RpcError::Unexpected { .. })));
    let answer = json!({ "response": { "code": 38, "codespace": "sdk", "log": "no" } });
    let node = Strange::with(move |_| answer.clone()).await;
    let asked = node.rpc.prove("key", None).await;
    assert!(matches!(asked, Err(RpcError::Query { code: 38, .. })), "{asked:?}");
}

/// A header of height 9, as a node with one validator gave it; what it says of others is changed.
const COMMIT: &str = r#"{"signed_header":{"header":{"version":{"block":"11"},
    "chain_id":"chain-a","height":"9","time":"2026-11-23T10:35:52.077676648Z",
    "last_block_id":{"hash":"","parts":{"total":0,"hash":""}},"last_commit_hash":"",
    "data_hash":"","validators_hash":"00","next_validators_hash":"00","consensus_hash":"00",
    "app_hash":"00","last_results_hash":"","evidence_hash":"","proposer_address":"00"},
    "commit":{"height":"9","round":0,"block_id":{"hash":"","parts":{"total":0,"hash":""}},
    "signatures":[]}}}"#;

#[tokio::test]
async fn validators_that_cannot_be_are_refused() {
    let validator = |power: &str| {
        json!({
            "address": "064796CCE525A2CA3C06769E8F13DC85A910C4A3",
            "pub_key": { "type": "tendermint/PubKeyEd25519",
                "value": "mjPow+AMpGPyHaNM1hM6CaEe+G/oMRAqLMYnjRXPDX0=" },
            "voting_power": power,
            "proposer_priority": "0",
        })
    };
    let largest = "9223372036854775807";
    for (why, height, total, validators) in [
        ("validators are others", "9", "1", vec![validator("1")]),
        ("more than 512", "9", "513", vec![validator("1")]),
        ("not as many as it says", "9", "2", vec![]),
        ("not as many as it says", "9", "1", vec![validator("1"), validator("1")]),
        ("of another height", "8", "1", vec![validator("1")]),
        ("total voting power", "9", "2", vec![validator(largest), validator(largest)]),
        ("negative power", "9", "1", vec![validator("-5")]),
    ] {
        let node = Strange::with(move |method| match method {
            "commit" => serde_json::from_str(COMMIT).unwrap(),
            _ => json!({ "block_height": height, "total": total, "validators": validators }),
        })
        .await;
        let asked = node.rpc.header(9, Height::new(0, 8), None).await;
        let Err(RpcError::Unexpected { reason, .. }) = asked else { panic!("{why}: {asked:?}") };
        assert!(reason.contains(why), "{reason}");
    }
}

#[tokio::test]
async fn the_version_of_ibc_go_is_not_that_of_one_of_its_parts() {
    use ibc_proto::cosmos::base::tendermint::v1beta1::{GetNodeInfoResponse, Module, VersionInfo};
    use prost::Message as _;

    let ibc_of = async |parts: &[(&str, &str)]| {
        let parts = parts.iter().map(|&(path, version)| Module {
            path: format!("github.com/{path}"),
            version: version.to_owned(),
            sum: String::new(),
        });
        let version = VersionInfo { build_deps: parts.collect(), ..VersionInfo::default() };
        let info =
            GetNodeInfoResponse { application_version: Some(version), default_node_info: None };
        let value = data_encoding::BASE64.encode(&info.encode_to_vec());
        let answer = json!({ "response": { "code": 0, "value": value, "height": "7" } });
        let node = Strange::with(move |_| answer.clone()).await;
        node.rpc.versions().await.unwrap().ibc
    };
    // As chains list them: in the order of their paths.
    let parts = [
        ("cosmos/ibc-apps/middleware/packet-forward-middleware/v8", "v8.0.2"),
        ("cosmos/ibc-go/modules/capability", "v1.0.1"),
        ("cosmos/ibc-go/modules/light-clients/08-wasm", "v0.4.1"),
        ("cosmos/ibc-go/v8", "v8.5.2"),
        ("cosmos/ibc-go/v8/testing", "v0.1.0"),
    ];
    assert_eq!(ibc_of(&parts).await.as_deref(), Some("v8.5.2"));
    assert_eq!(ibc_of(&[("cosmos/ibc-go", "v1.5.0")]).await.as_deref(), Some("v1.5.0"));
    assert_eq!(ibc_of(&parts[..3]).await, None);
}

/// As after another node that has told of blocks that there never were.
#[tokio::test]
async fn blocks_beyond_the_end_of_the_chain_are_not_waited_for() {
    let node = Strange::with(|method| match method {
        "status" => status("7"),
        "block_results" => json!({ "height": "8" }),
        _ => json!({}),
    })
    .await;
    let first = async |from| {
        let mut events = ChainEvents::from(node.rpc.clone(), from);
        tokio::time::timeout(TIMEOUT, events.next()).await
    };
    let missed = first(1_000_000).await.unwrap();
    assert!(matches!(missed, Heard::Missed { to: 7, .. }), "{missed:?}");
    let missed = first(u64::MAX).await.unwrap();
    assert!(matches!(missed, Heard::Missed { to: 7, .. }), "{missed:?}");
    // It may be a little behind that one.
    assert!(first(20).await.is_err());
}

#[tokio::test]
async fn a_node_that_is_none_does_not_hold_messages_up() {
    let node = Strange::with(|_| json!({})).await;
    let key = ChainKey::from_hex(&"07".repeat(32)).unwrap();
    let submitter = Submitter::spawn(node.rpc.clone(), "chain-a", key, TxSettings::default());
    let message = ibc_proto::google::protobuf::Any::default();
    let fates = submitter.submit(vec![message.clone(), message]);
    let fates = tokio::time::timeout(TIMEOUT * 10, fates).await.unwrap();
    assert!(fates.iter().all(|fate| matches!(fate, Err(TxError::Node { .. }))), "{fates:?}");
    assert_eq!(fates.len(), 2);
}

#[tokio::test]
async fn a_preflight_of_a_node_that_is_none_ends_and_says_so() {
    let look = async |node: &Strange| {
        let key = ChainKey::from_hex(&"07".repeat(32)).unwrap();
        let mut config = ChainConfig::new(node.rpc.http().url(), key);
        (config.rpc.timeout, config.rpc.max_answer) = (TIMEOUT, MAX_ANSWER);
        tokio::time::timeout(TIMEOUT * 10, preflight(&config)).await.unwrap()
    };
    let node = Strange::with(|method| match method {
        "status" => status("7"),
        _ => json!({}),
    })
    .await;
    let report = look(&node).await;
    let of = |level| {
        let found = report.findings.iter().filter(move |finding| finding.level == level);
        found.map(|finding| finding.check).collect::<Vec<_>>()
    };
    assert_eq!(
        of(Level::Good),
        [Check::Node, Check::Chain, Check::Sync, Check::Blocks, Check::Balance]
    );
    let problems = [Check::Services, Check::Clients, Check::Trust, Check::Account];
    assert_eq!(of(Level::Problem), problems, "{report}");

    let endless = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n";
    let report = look(&Strange::raw(endless, false, true).await).await;
    assert_eq!(report.findings.len(), 1);
    assert!(report.findings[0].found.contains("more than 10000 bytes"), "{report}");
    let loud = format!("\x1b[2J{}", "\n".repeat(3_000));
    let error = json!({ "code": -32603, "message": loud, "data": "" });
    let body = json!({ "jsonrpc": "2.0", "id": 1, "error": error }).to_string();
    let report = look(&Strange::answering(move |_| (500, body.clone())).await).await.to_string();
    assert!(report.len() < 1_000 && report.lines().count() == 2, "{report}");
    assert!(!report.contains('\x1b'));
}
