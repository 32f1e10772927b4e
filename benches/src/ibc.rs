//! The subject over IBC: two hosts in memory, a hop between them over loopback, and a channel.
//! Every record is committed to, signed for, proved, believed and acked the same way.

use std::marker::PhantomData;

use bytes::Bytes;
use network::{
    Connection, Limits, Network, Port, Records, accept_all, handler_fn, loopback::Loopback,
};
use network_ibc::Host;

use crate::peer::{self, Client, Peer, Result};

/// Over an unordered channel.
pub(crate) type Unordered = Ibc<ByAny>;

/// Over an ordered one.
pub(crate) type Ordered = Ibc<InTurn>;

pub(crate) trait Order: Send + Sync + 'static {
    const NAME: &'static str;
    const ORDER: &'static str;
}

pub(crate) struct ByAny;

impl Order for ByAny {
    const NAME: &'static str = "network-ibc-unordered";
    const ORDER: &'static str = "unordered";
}

pub(crate) struct InTurn;

impl Order for InTurn {
    const NAME: &'static str = "network-ibc-ordered";
    const ORDER: &'static str = "ordered";
}

pub(crate) struct Ibc<O> {
    client: Port,
    server: Port,
    /// The connection between the hosts, at this side.
    hop: String,
    _between: [Port; 2],
    order: PhantomData<O>,
}

async fn port(host: Host, name: &str) -> Result<Port> {
    // Room for the widest cell.
    let limits = Limits::default().with_window_bytes(16 << 20);
    let network = Network::builder().limits(limits).protocol(host).build()?;
    Ok(network.bind(name).await?)
}

impl<O: Order> Peer for Ibc<O> {
    const NAME: &'static str = O::NAME;

    type Client = Open;

    async fn start() -> Result<Self> {
        let between = Network::builder().protocol(Loopback::new()).build()?;
        let (near, far) = (between.bind("/local/near").await?, between.bind("/local/far").await?);
        let (here, there) = (Host::in_memory("here")?, Host::in_memory("there")?);
        there.serve(&far).await?;
        let hop = here.connect_hop(&near, "/local/far").await?.connection.to_string();
        let client = port(here, "/ibc-port/client").await?;
        let server = port(there, "/ibc-port/server").await?;
        Ok(Self { client, server, hop, _between: [near, far], order: PhantomData })
    }

    async fn serve(&self) -> Result<String> {
        let handler = handler_fn(|record: Bytes| async move { Ok(peer::ack(&record)) });
        self.server.listen(accept_all(handler)).await?;
        Ok(format!("/ibc-hop/{}/ibc-port/server/{}/bench-1", self.hop, O::ORDER))
    }

    async fn connect(&self, address: &str) -> Result<Open> {
        let (connection, records) = self.client.connect_pull(address).await?;
        Ok(Open { connection, _records: records })
    }
}

/// A connection that closes when it is dropped.
pub(crate) struct Open {
    connection: Connection,
    _records: Records,
}

impl Client for Open {
    async fn send(&self, record: Bytes) -> Result<Bytes> {
        Ok(self.connection.send(record).await?)
    }
}
