//! `channel`: the same exchange inside one process, over tokio's mpsc and a oneshot for each ack.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::server::{Ack, Handler};
use crate::peer::{Client, Peer, Result};

type Delivery = (Bytes, oneshot::Sender<Bytes>);

pub(crate) struct Channel {
    arrivals: mpsc::Sender<mpsc::Receiver<Delivery>>,
}

impl Peer for Channel {
    const NAME: &'static str = "channel";

    type Client = ChannelClient;

    /// A task a connection takes records from a channel and answers through a oneshot each.
    async fn start() -> Result<Self> {
        let (arrivals, mut accepted) = mpsc::channel::<mpsc::Receiver<Delivery>>(64);
        tokio::spawn(async move {
            let handler: Arc<dyn Handler> = Arc::new(Ack);
            while let Some(records) = accepted.recv().await {
                tokio::spawn(answer(records, handler.clone()));
            }
        });
        Ok(Self { arrivals })
    }

    async fn serve(&self) -> Result<String> {
        Ok("here".to_owned())
    }

    async fn connect(&self, _address: &str) -> Result<ChannelClient> {
        let (records, arriving) = mpsc::channel(1024);
        self.arrivals.send(arriving).await?;
        Ok(ChannelClient(records))
    }
}

async fn answer(mut records: mpsc::Receiver<Delivery>, handler: Arc<dyn Handler>) {
    while let Some((record, ack)) = records.recv().await {
        let _ = ack.send(handler.handle(record).await);
    }
}

pub(crate) struct ChannelClient(mpsc::Sender<Delivery>);

impl Client for ChannelClient {
    async fn send(&self, record: Bytes) -> Result<Bytes> {
        let (ack, acked) = oneshot::channel();
        self.0.send((record, ack)).await?;
        Ok(acked.await?)
    }
}
