//! The server's half: one task a connection reads, handles and answers in batches.

use std::io::{self, IoSlice};
use std::pin::Pin;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::frame::{self, HEADER, Input, Output};
use super::wire::Stream;
use crate::peer::{Result, ack, look_at};

/// An asynchronous handler behind a trait object, as every server has one in the end.
pub(super) trait Handler: Send + Sync {
    fn handle(&self, record: Bytes) -> Pin<Box<dyn Future<Output = Bytes> + Send + '_>>;
}

/// The handler of every bench.
pub(super) struct Ack;

impl Handler for Ack {
    fn handle(&self, record: Bytes) -> Pin<Box<dyn Future<Output = Bytes> + Send + '_>> {
        Box::pin(async move { ack(&record) })
    }
}

/// Listens on 127.0.0.1, gives every connection a task, and returns the address.
pub(super) async fn listen<F>(answer: impl Fn(TcpStream) -> F + Send + 'static) -> Result<String>
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            tokio::spawn(answer(stream));
        }
    });
    Ok(address.to_string())
}

/// Hands every record as owned bytes to a handler that may wait.
///
/// All records that one read brings are handled before their acks are written together.
pub(super) async fn answer_through(
    mut stream: impl Stream,
    handler: impl AsRef<dyn Handler>,
) -> io::Result<()> {
    let handler = handler.as_ref();
    let mut input = Input::new();
    let mut acks = Output::default();
    loop {
        let read = stream.read_buf(input.prepare()).await?;
        if read == 0 {
            return Ok(());
        }
        input.grew_by(read);
        while let Some(record) = frame::next(&mut input.bytes) {
            acks.push(&handler.handle(record.freeze()).await);
        }
        while !acks.is_empty() {
            let mut slices = [IoSlice::new(&[]); 16];
            let set = acks.slices(&mut slices);
            let written = stream.write_vectored(&slices[..set]).await?;
            acks.written(written);
        }
        stream.flush().await?;
    }
}

/// As [`answer_through`], but looks at every record where it was read.
pub(super) async fn answer_in_place(mut stream: TcpStream) -> io::Result<()> {
    let mut input = Input::new();
    let mut acks = BytesMut::new();
    loop {
        let read = stream.read_buf(input.prepare()).await?;
        if read == 0 {
            return Ok(());
        }
        input.grew_by(read);
        let mut at = 0;
        while let Some(length) = frame::whole(&input.bytes[at..]) {
            acks.put_u32_le(1);
            acks.put_u8(look_at(&input.bytes[at + HEADER..at + HEADER + length]));
            at += HEADER + length;
        }
        input.bytes.advance(at);
        stream.write_all(&acks).await?;
        acks.clear();
    }
}
