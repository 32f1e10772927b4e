//! iroh between known addresses, without relays and without looking anybody up: `iroh-streams`
//! with a stream for each record, as its documentation suggests, and `iroh-one-stream` with
//! length-prefixed frames over one stream that lives as long as the connection.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use iroh::endpoint::{Connection, QuicTransportConfig, RecvStream, SendStream, VarInt, presets};
use iroh::{Endpoint, EndpointAddr, RelayMode};
use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, oneshot};

use crate::STREAMS;
use crate::frame::{self, Input};
use crate::peer::{Client, Peer, Result, ack};

const ALPN: &[u8] = b"network-bench/1";

/// The most that is read of a record.
const LONGEST: usize = 64 << 20;

/// Records from this size on are written from where they are; smaller ones are copied together.
const BY_REFERENCE: usize = 8 * 1024;

/// The endpoint that all connections of this process are opened from.
struct Iroh(Endpoint);

impl Iroh {
    async fn new() -> Result<Self> {
        Ok(Self(endpoint().await?))
    }

    /// From an endpoint of its own, as an endpoint does not dial itself.
    async fn serve<F>(&self, answer: fn(SendStream, RecvStream) -> F) -> Result<String>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let endpoint = endpoint().await?;
        let socket = *endpoint.bound_sockets().first().ok_or("it is bound to no socket")?;
        let address = format!("{} {socket}", endpoint.id());
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                tokio::spawn(async move {
                    let connection = incoming.await?;
                    while let Ok((send, recv)) = connection.accept_bi().await {
                        tokio::spawn(answer(send, recv));
                    }
                    Result::<()>::Ok(())
                });
            }
        });
        Ok(address)
    }

    async fn connect(&self, address: &str) -> Result<Connection> {
        let (id, socket) = address.split_once(' ').ok_or("no address")?;
        let address = EndpointAddr::new(id.parse()?).with_ip_addr(socket.parse::<SocketAddr>()?);
        Ok(self.0.connect(address, ALPN).await?)
    }
}

/// One that is on 127.0.0.1 only and asks nobody anything.
///
/// Its windows are iroh's own. With larger ones a burst overflows the socket's buffer, and then it
/// is slower, or closes the connection because a stream has more gaps than it keeps account of.
async fn endpoint() -> Result<Endpoint> {
    let transport =
        QuicTransportConfig::builder().max_concurrent_bidi_streams(STREAMS.into()).build();
    let endpoint = Endpoint::builder(presets::Minimal)
        .relay_mode(RelayMode::Disabled)
        .clear_address_lookup()
        .clear_ip_transports()
        .bind_addr("127.0.0.1:0")?
        .alpns(vec![ALPN.to_vec()])
        .transport_config(transport);
    Ok(endpoint.bind().await?)
}

pub(crate) struct IrohStreams(Iroh);

impl Peer for IrohStreams {
    const NAME: &'static str = "iroh-streams";

    type Client = Streams;

    async fn start() -> Result<Self> {
        Ok(Self(Iroh::new().await?))
    }

    async fn serve(&self) -> Result<String> {
        self.0.serve(answer_one).await
    }

    async fn connect(&self, address: &str) -> Result<Streams> {
        Ok(Streams(self.0.connect(address).await?))
    }
}

async fn answer_one(mut send: SendStream, mut recv: RecvStream) -> Result<()> {
    let record = recv.read_to_end(LONGEST).await?;
    send.write_chunk(ack(&record)).await?;
    send.finish()?;
    Ok(())
}

pub(crate) struct Streams(Connection);

impl Client for Streams {
    async fn send(&self, record: Bytes) -> Result<Bytes> {
        let (mut send, mut recv) = self.0.open_bi().await?;
        send.write_chunk(record).await?;
        send.finish()?;
        Ok(recv.read_to_end(1024).await?.into())
    }

    async fn close(self) -> Result<()> {
        self.0.close(VarInt::from_u32(0), b"");
        Ok(())
    }
}

pub(crate) struct IrohOneStream(Iroh);

impl Peer for IrohOneStream {
    const NAME: &'static str = "iroh-one-stream";

    type Client = OneStream;

    async fn start() -> Result<Self> {
        Ok(Self(Iroh::new().await?))
    }

    async fn serve(&self) -> Result<String> {
        self.0.serve(answer_all).await
    }

    async fn connect(&self, address: &str) -> Result<OneStream> {
        let connection = self.0.connect(address).await?;
        let (send, recv) = connection.open_bi().await?;
        let (records, queue) = mpsc::unbounded_channel();
        let (written, expected) = mpsc::unbounded_channel();
        tokio::spawn(write_records(send, queue, written));
        tokio::spawn(read_acks(recv, expected));
        Ok(OneStream { records, connection })
    }
}

async fn answer_all(mut send: SendStream, mut recv: RecvStream) -> Result<()> {
    let (mut input, mut output) = (Input::new(), Output::default());
    loop {
        let read = recv.read_buf(input.prepare()).await?;
        if read == 0 {
            return Ok(());
        }
        input.grew_by(read);
        while let Some(record) = frame::next(&mut input.bytes) {
            output.push(ack(&record));
        }
        output.write(&mut send).await?;
    }
}

/// Where the ack of a record goes.
type Acked = oneshot::Sender<Bytes>;

/// Writes what is queued, all that there is at a time.
async fn write_records(
    mut send: SendStream,
    mut queue: mpsc::UnboundedReceiver<(Bytes, Acked)>,
    written: mpsc::UnboundedSender<Acked>,
) -> Result<()> {
    let (mut records, mut output) = (Vec::new(), Output::default());
    while queue.recv_many(&mut records, 1024).await > 0 {
        for (record, acked) in records.drain(..) {
            output.push(record);
            written.send(acked)?;
        }
        output.write(&mut send).await?;
    }
    Ok(())
}

/// Hands out the acks, which come in the order of the records.
async fn read_acks(
    mut recv: RecvStream,
    mut expected: mpsc::UnboundedReceiver<Acked>,
) -> Result<()> {
    let mut input = Input::new();
    loop {
        let read = recv.read_buf(input.prepare()).await?;
        if read == 0 {
            return Ok(());
        }
        input.grew_by(read);
        while let Some(ack) = frame::next(&mut input.bytes) {
            let acked = expected.recv().await.ok_or("an ack of nothing")?;
            // Fails if the sender no longer waits.
            let _ = acked.send(ack.freeze());
        }
    }
}

/// Frames for a stream that takes bytes by reference.
#[derive(Default)]
struct Output {
    chunks: Vec<Bytes>,
    tail: BytesMut,
}

impl Output {
    fn push(&mut self, bytes: Bytes) {
        self.tail.put_u32_le(bytes.len() as u32);
        if bytes.len() < BY_REFERENCE {
            self.tail.put_slice(&bytes);
        } else {
            self.chunks.extend([self.tail.split().freeze(), bytes]);
        }
    }

    async fn write(&mut self, send: &mut SendStream) -> Result<()> {
        if !self.tail.is_empty() {
            self.chunks.push(self.tail.split().freeze());
        }
        send.write_all_chunks(&mut self.chunks).await?;
        self.chunks.clear();
        Ok(())
    }
}

/// A task writes, another reads, and each record has a channel for its ack.
pub(crate) struct OneStream {
    records: mpsc::UnboundedSender<(Bytes, Acked)>,
    connection: Connection,
}

impl Client for OneStream {
    async fn send(&self, record: Bytes) -> Result<Bytes> {
        let (done, acked) = oneshot::channel();
        self.records.send((record, done)).map_err(|_| "the connection is closed")?;
        Ok(acked.await?)
    }

    async fn close(self) -> Result<()> {
        self.connection.close(VarInt::from_u32(0), b"");
        Ok(())
    }
}
