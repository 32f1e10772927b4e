//! Something between a program and a node that does not do as it should.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use super::rpc;
use crate::chain::rpc::Rpc;

/// What is done with a request.
pub(crate) enum Verdict {
    /// The node answers it.
    Pass,
    /// The node gets it, and nobody its answer.
    PassAndLose,
    /// The node answers it, and its result is changed.
    Change(Box<dyn Fn(&mut Value) + Send + Sync>),
    /// The node does not get it: this is the result.
    Answer(Value),
    /// The node does not get it: it fails with this.
    Error(String),
}

/// Passes requests on to a node, or does not.
pub(crate) struct Middle {
    pub(crate) url: String,
    pub(crate) rpc: Rpc,
    task: JoinHandle<()>,
}

impl Middle {
    /// Judges each request by its method and all of it.
    pub(crate) async fn before(
        node: &Rpc,
        judge: impl Fn(&str, &Value) -> Verdict + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let rpc = rpc(&url);
        let (node, judge) = (node.clone(), Arc::new(judge));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (node, judge) = (node.clone(), judge.clone());
                tokio::spawn(async move { serve(stream, &node, &*judge).await });
            }
        });
        Self { url, rpc, task }
    }
}

impl Drop for Middle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Judge = dyn Fn(&str, &Value) -> Verdict + Send + Sync;

/// One request a connection.
async fn serve(mut stream: TcpStream, node: &Rpc, judge: &Judge) {
    let Some(body) = request(&mut stream).await else { return };
    let asked: Value = serde_json::from_slice(&body).unwrap();
    let verdict = judge(asked["method"].as_str().unwrap(), &asked);
    let answer = match &verdict {
        Verdict::Answer(result) => {
            json!({ "jsonrpc": "2.0", "id": asked["id"], "result": result }).to_string()
        }
        Verdict::Error(data) => {
            let error = json!({ "code": -32603, "message": "Internal error", "data": data });
            json!({ "jsonrpc": "2.0", "id": asked["id"], "error": error }).to_string()
        }
        Verdict::Pass | Verdict::PassAndLose | Verdict::Change(_) => {
            let Ok((_, answer)) = node.http().post("any", body, usize::MAX).await else { return };
            let mut answer: Value = serde_json::from_slice(&answer).unwrap();
            if let Verdict::Change(change) = &verdict {
                change(&mut answer["result"]);
            }
            answer.to_string()
        }
    };
    if matches!(verdict, Verdict::PassAndLose) {
        return;
    }
    let length = answer.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all((head + &answer).as_bytes()).await;
}

async fn request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let (_, length) = head.split_once("content-length: ")?;
            let length: usize = length.split("\r\n").next()?.parse().ok()?;
            let from = head.len() + 4;
            if bytes.len() >= from + length {
                return Some(bytes.split_off(from));
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// What a [`Wire`] does with what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// All of it.
    Carry,
    /// Breaks what there is and carries what is new.
    Cut(u32),
    /// Connections of before carry nothing and stay; new ones are as they should.
    Mute(u32),
}

/// Connections to a node, byte by byte.
pub(super) struct Wire {
    pub(super) address: SocketAddr,
    /// How many connections were WebSockets.
    pub(super) sockets: Arc<AtomicU32>,
    pub(super) mode: watch::Sender<Mode>,
    task: JoinHandle<()>,
}

impl Wire {
    pub(super) async fn to(node: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, watched) = watch::channel(Mode::Carry);
        let sockets = Arc::new(AtomicU32::new(0));
        let counted = sockets.clone();
        let task = tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let mut mode = watched.clone();
                mode.mark_unchanged();
                let sockets = counted.clone();
                tokio::spawn(async move {
                    let mut start = [0; 14];
                    if client.peek(&mut start).await.is_ok() && start == *b"GET /websocket" {
                        sockets.fetch_add(1, Ordering::Relaxed);
                    }
                    let Ok(mut node) = TcpStream::connect(node).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut node) => return,
                        _ = mode.changed() => {}
                    }
                    if matches!(*mode.borrow(), Mode::Mute(_)) {
                        // Longer than any test.
                        tokio::time::sleep(Duration::from_secs(600)).await;
                    }
                });
            }
        });
        Self { address, sockets, mode, task }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}
