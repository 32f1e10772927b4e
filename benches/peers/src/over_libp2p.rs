//! The request-response behaviour of rust-libp2p over QUIC: a stream for each record, on which
//! both sides first agree on the protocol.

use std::collections::HashMap;
use std::io;

use bytes::Bytes;
use futures_util::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::multiaddr::Protocol;
use libp2p::request_response::{
    Behaviour, Codec, Config, Event, Message, OutboundFailure, ProtocolSupport,
};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder};
use tokio::sync::{mpsc, oneshot};

use crate::STREAMS;
use crate::peer::{Client, Peer, Result, ack};

pub(crate) struct Libp2p;

impl Peer for Libp2p {
    const NAME: &'static str = "libp2p-request-response";

    type Client = Requester;

    async fn start() -> Result<Self> {
        Ok(Self)
    }

    async fn serve(&self) -> Result<String> {
        let mut swarm = swarm()?;
        swarm.listen_on("/ip4/127.0.0.1/udp/0/quic-v1".parse()?)?;
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address.with(Protocol::P2p(*swarm.local_peer_id()));
            }
        };
        tokio::spawn(answer(swarm));
        Ok(address.to_string())
    }

    /// With a swarm of its own, as a swarm does not dial itself.
    async fn connect(&self, address: &str) -> Result<Requester> {
        let address: Multiaddr = address.parse()?;
        let Some(Protocol::P2p(server)) = address.iter().last() else {
            return Err("the address names no peer".into());
        };
        let mut swarm = swarm()?;
        swarm.dial(address)?;
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::ConnectionEstablished { .. } => break,
                SwarmEvent::OutgoingConnectionError { error, .. } => return Err(error.into()),
                _ => {}
            }
        }
        let (requests, queue) = mpsc::unbounded_channel();
        tokio::spawn(request(swarm, server, queue));
        Ok(Requester(requests))
    }
}

/// With libp2p's own settings, but for those that would keep records from being in flight.
fn swarm() -> Result<Swarm<Behaviour<Prefixed>>> {
    let protocol = (StreamProtocol::new("/network-bench/1"), ProtocolSupport::Full);
    let config = Config::default().with_max_concurrent_streams(STREAMS as usize);
    let swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_quic_config(|mut config| {
            config.max_concurrent_stream_limit = STREAMS;
            config
        })
        .with_behaviour(|_| Behaviour::new([protocol], config))?
        .with_swarm_config(|config| config.with_max_negotiating_inbound_streams(STREAMS as usize))
        .build();
    Ok(swarm)
}

/// Acks every request.
async fn answer(mut swarm: Swarm<Behaviour<Prefixed>>) {
    loop {
        if let SwarmEvent::Behaviour(Event::Message {
            message: Message::Request { request, channel, .. },
            ..
        }) = swarm.select_next_some().await
        {
            // Fails if the connection has closed meanwhile.
            let _ = swarm.behaviour_mut().send_response(channel, ack(&request));
        }
    }
}

/// A record, and where its ack goes.
type Request = (Bytes, oneshot::Sender<Result<Bytes, OutboundFailure>>);

/// Makes the requests that are asked for until nobody is left to ask.
async fn request(
    mut swarm: Swarm<Behaviour<Prefixed>>,
    server: PeerId,
    mut queue: mpsc::UnboundedReceiver<Request>,
) {
    let mut waiting = HashMap::new();
    loop {
        let (request, result) = tokio::select! {
            asked = queue.recv() => {
                let Some((record, acked)) = asked else { return };
                waiting.insert(swarm.behaviour_mut().send_request(&server, record), acked);
                continue;
            }
            event = swarm.select_next_some() => match event {
                SwarmEvent::Behaviour(Event::Message {
                    message: Message::Response { request_id, response },
                    ..
                }) => (request_id, Ok(response)),
                SwarmEvent::Behaviour(Event::OutboundFailure { request_id, error, .. }) => {
                    (request_id, Err(error))
                }
                _ => continue,
            },
        };
        if let Some(acked) = waiting.remove(&request) {
            // Fails if the sender no longer waits.
            let _ = acked.send(result);
        }
    }
}

pub(crate) struct Requester(mpsc::UnboundedSender<Request>);

impl Client for Requester {
    async fn send(&self, record: Bytes) -> Result<Bytes> {
        let (done, acked) = oneshot::channel();
        self.0.send((record, done)).map_err(|_| "the swarm has ended")?;
        Ok(acked.await??)
    }
}

/// A four-byte length, then that many bytes, both ways: nothing is encoded.
#[derive(Clone, Default)]
struct Prefixed;

/// The most that is read of a record.
const LONGEST: usize = 64 << 20;

async fn read(io: &mut (impl AsyncRead + Unpin)) -> io::Result<Bytes> {
    let mut length = [0; 4];
    io.read_exact(&mut length).await?;
    let length = u32::from_le_bytes(length) as usize;
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    io.read_exact(&mut bytes).await?;
    Ok(bytes.into())
}

async fn write(io: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    io.write_all(&(bytes.len() as u32).to_le_bytes()).await?;
    io.write_all(bytes).await
}

impl Codec for Prefixed {
    type Protocol = StreamProtocol;
    type Request = Bytes;
    type Response = Bytes;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Bytes>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Bytes>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io).await
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        record: Bytes,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &record).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        ack: Bytes,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &ack).await
    }
}
