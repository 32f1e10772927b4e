//! A peer at the other end of a raw stream, which keeps to the protocol as far as a case
//! wants it to.

use std::io;

use bytes::BytesMut;
use network_core::{
    CloseReason, Endpoint, Limits,
    wire::{
        Closing, Frame, FrameLimits, Hello, Output, Reply, Welcome, decode, decode_hello,
        decode_reply,
    },
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{lab::Lab, tools::within, wire::RawStream};

/// Kinds of frames, as `docs/wire-format.md` numbers them.
pub(crate) const RECORD: u8 = 1;
pub(crate) const ACK: u8 = 2;
pub(crate) const REFUSED: u8 = 3;
pub(crate) const DISCARDED: u8 = 4;

/// A raw stream, and what was read from it.
#[derive(Debug)]
pub(crate) struct Peer {
    stream: Box<dyn RawStream>,
    input: BytesMut,
}

/// The hello of a dialer with these limits.
pub(crate) fn hello(lab: &Lab, listening: &Endpoint, limits: &Limits) -> BytesMut {
    let to = lab.wire().path(listening);
    Hello { to, from: String::new(), takes: Welcome::of(limits) }.encode()
}

/// The header of a frame, with nothing behind it.
pub(crate) fn header(kind: u8, id: u32, len: usize) -> Vec<u8> {
    let mut header = vec![kind];
    header.extend_from_slice(&id.to_le_bytes());
    header.extend_from_slice(&(len as u32).to_le_bytes());
    header
}

impl Peer {
    pub(crate) fn new(stream: Box<dyn RawStream>) -> Self {
        Self { stream, input: BytesMut::new() }
    }

    /// Connects to where a port listens, and says nothing.
    pub(crate) async fn dial(lab: &Lab, listening: &Endpoint) -> Self {
        Self::new(within("a raw stream", lab.wire().dial(listening)).await.unwrap())
    }

    /// Writes bytes, as far as the other side takes them.
    pub(crate) async fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        within("a write", self.try_write(bytes)).await.unwrap();
    }

    /// Writes frames that are well formed.
    pub(crate) async fn say(&mut self, frames: impl FnOnce(&mut Output)) {
        self.write(&encoded(frames)).await;
    }

    pub(crate) async fn close(&mut self) {
        self.say(|output| output.close(&Closing::of(&CloseReason::Local, 0))).await;
    }

    /// Says nothing more.
    pub(crate) async fn finish(&mut self) {
        within("the end of writing", self.stream.shutdown()).await.unwrap();
    }

    /// Reads more; false at the end, however it came.
    async fn read(&mut self) -> bool {
        matches!(self.stream.read_buf(&mut self.input).await, Ok(read) if read > 0)
    }

    /// The listener's answer to a hello, or `None` if the stream ends before.
    pub(crate) async fn reply(&mut self) -> Option<Reply> {
        within("a reply", async {
            loop {
                if let Some(reply) = decode_reply(&mut self.input).unwrap() {
                    return Some(reply);
                }
                if !self.read().await {
                    return None;
                }
            }
        })
        .await
    }

    /// What a dialer says first.
    pub(crate) async fn hello(&mut self) -> Hello {
        within("a hello", async {
            loop {
                if let Some(hello) = decode_hello(&mut self.input).unwrap() {
                    return hello;
                }
                assert!(self.read().await, "the stream ended before a hello");
            }
        })
        .await
    }

    /// The next frame, or `None` at the end.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        const ANY: FrameLimits = FrameLimits { record: usize::MAX, ack: usize::MAX };
        within("a frame", async {
            loop {
                if let Some(frame) = decode(&mut self.input, ANY).unwrap() {
                    return Some(frame);
                }
                if !self.read().await {
                    return None;
                }
            }
        })
        .await
    }

    /// All frames up to the end, which must come.
    pub(crate) async fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.frame().await {
            frames.push(frame);
        }
        frames
    }

    /// Waits until the other side has ended the stream, whatever it said.
    pub(crate) async fn is_turned_away(&mut self) {
        within("the end of the stream", async { while self.read().await {} }).await;
    }
}

/// Well-formed frames as bytes.
pub(crate) fn encoded(frames: impl FnOnce(&mut Output)) -> Vec<u8> {
    let mut output = Output::default();
    frames(&mut output);
    let mut bytes = Vec::new();
    while !output.is_empty() {
        let mut slices = [io::IoSlice::new(&[]); 8];
        let set = output.slices(&mut slices);
        let before = bytes.len();
        slices[..set].iter().for_each(|slice| bytes.extend_from_slice(slice));
        let count = bytes.len() - before;
        output.written(count);
    }
    bytes
}
