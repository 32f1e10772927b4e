//! A node's WebSocket, over which it tells of new blocks.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::time::timeout;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Error, Message, protocol::WebSocketConfig},
};

use super::{
    RpcError,
    answer::{Announced, Envelope},
    http::{Http, Stream},
};

/// How many bytes a message may have. What is subscribed to are headers.
const MAX_MESSAGE: usize = 1 << 20;
/// What a URL of a node's RPC has at its end where the WebSocket is.
const PATH: &str = "websocket";
/// For errors: what was asked.
const METHOD: &str = "subscribe";

/// A subscription to the headers of new blocks.
pub(super) struct Socket {
    stream: WebSocketStream<Stream>,
    http: Http,
}

impl Socket {
    pub(super) async fn open(http: &Http) -> Result<Self, RpcError> {
        let (stream, address) = http.connect(PATH).await?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let opening = client_async_with_config(address, stream, Some(config));
        let opened = timeout(http.timeout(), Box::pin(opening)).await;
        let opened = opened.map_err(|_| silent(http, http.timeout()))?;
        let (stream, _) = opened.map_err(|error| broken(http, error))?;
        let mut socket = Self { stream, http: http.clone() };
        timeout(http.timeout(), socket.subscribe())
            .await
            .unwrap_or_else(|_| Err(silent(http, http.timeout())))?;
        Ok(socket)
    }

    async fn subscribe(&mut self) -> Result<(), RpcError> {
        let request = json!({
            "jsonrpc": "2.0",
            "id": 1,
            "method": METHOD,
            "params": { "query": "tm.event='NewBlockHeader'" },
        });
        let sent = self.stream.send(Message::text(request.to_string())).await;
        sent.map_err(|error| broken(&self.http, error))?;
        self.receive::<IgnoredAny>().await.map(drop)
    }

    /// The height of the next block that the node tells of.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(super) async fn height(&mut self) -> Result<u64, RpcError> {
        let announced: Announced = self.receive().await?;
        Ok(announced.data.value.header.height)
    }

    async fn receive<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, RpcError> {
        loop {
            let message = self.stream.next().await.unwrap_or(Err(Error::ConnectionClosed));
            let text = match message.map_err(|error| broken(&self.http, error))? {
                Message::Text(text) => text,
                Message::Close(_) => return Err(broken(&self.http, Error::ConnectionClosed)),
                _ => continue,
            };
            let unexpected = |reason: &str| {
                let (url, reason) = (self.http.url().to_owned(), super::error::excerpt(reason));
                RpcError::Unexpected { url, method: METHOD, reason }
            };
            let envelope: Envelope<T> =
                serde_json::from_str(&text).map_err(|error| unexpected(&error.to_string()))?;
            if let Some(error) = envelope.error {
                return Err(RpcError::Node {
                    url: self.http.url().to_owned(),
                    method: METHOD,
                    code: error.code,
                    message: super::error::excerpt(&[error.message, error.data].join(": ")),
                });
            }
            return envelope.result.ok_or_else(|| unexpected("it has no result"));
        }
    }
}

fn broken(http: &Http, error: Error) -> RpcError {
    RpcError::Unreachable { url: http.url().to_owned(), source: std::sync::Arc::new(error) }
}

fn silent(http: &Http, after: Duration) -> RpcError {
    RpcError::Timeout { url: http.url().to_owned(), method: METHOD, after }
}
