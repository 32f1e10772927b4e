//! HTTP to a node: what is asked is small, what is answered is bounded in size and in time.
//!
//! Many are asked at once, so most answers have to be short; of long ones there is one at a time.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{Method, Request, StatusCode, Uri, header, service::Service as _};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustls::ClientConfig;
use tokio::sync::{Mutex, MutexGuard};

use super::RpcError;

/// How many connections are kept for the next request.
const IDLE: usize = 4;
/// A connection that was silent for longer may have been forgotten by whatever is between.
const IDLE_FOR: Duration = Duration::from_secs(20);

/// How many bytes an answer may have beside others.
pub(super) const SHORT: usize = 1 << 20;

/// A connection of its own to a node.
pub(super) type Stream = TokioIo<MaybeHttpsStream<TokioIo<tokio::net::TcpStream>>>;

/// Requests to one URL.
#[derive(Clone, Debug)]
pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    connector: HttpsConnector<HttpConnector>,
    uri: Uri,
    /// Without its path, which may hold a key to the service.
    shown: Arc<str>,
    timeout: Duration,
    limit: usize,
    /// Whoever asks for a long answer.
    turn: Arc<Mutex<()>>,
}

impl Http {
    /// TLS trusts whom the system trusts.
    pub(super) fn new(url: &str, timeout: Duration, limit: usize) -> Result<Self, RpcError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = |error| RpcError::Tls { source: Arc::new(error) };
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(tls)?;
        let verifier = rustls_platform_verifier::Verifier::new(provider).map_err(tls)?;
        let config = config
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Self::with_tls(url, timeout, limit, config)
    }

    pub(super) fn with_tls(
        url: &str,
        timeout: Duration,
        limit: usize,
        tls: ClientConfig,
    ) -> Result<Self, RpcError> {
        let none = || RpcError::Url { url: super::error::excerpt(url) };
        let uri: Uri = url.parse().map_err(|_| none())?;
        let (Some(scheme @ ("http" | "https")), Some(host)) = (uri.scheme_str(), uri.authority())
        else {
            return Err(none());
        };
        // A name and a password would be sent nowhere.
        if host.host().is_empty() || host.as_str().contains('@') || uri.query().is_some() {
            return Err(none());
        }
        let shown = format!("{scheme}://{host}").into();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_FOR)
            .pool_max_idle_per_host(IDLE)
            .build(connector.clone());
        Ok(Self { client, connector, uri, shown, timeout, limit, turn: Arc::default() })
    }

    /// The URL, as it may be shown to anybody.
    pub(super) fn url(&self) -> &str {
        &self.shown
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// How many bytes an answer may have, and how many beside others.
    pub(super) fn limits(&self) -> (usize, usize) {
        (self.limit, self.limit.min(SHORT))
    }

    /// The turn to have a long answer, until it was read. Who has it before is done in the time of an
    /// answer.
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Sends a body and takes the one that comes back, with its status. `limit`: how many bytes that
    /// may have.
    ///
    /// # Cancel safety
    /// Dropping the future ends the request; the node may have had it.
    pub(super) async fn post(
        &self,
        method: &'static str,
        body: Vec<u8>,
        limit: usize,
    ) -> Result<(StatusCode, Bytes), RpcError> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.uri.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| self.unreachable(error))?;
        let answer = async {
            let response =
                self.client.request(request).await.map_err(|error| self.unreachable(error))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, limit).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    RpcError::TooLarge { url: self.shown.to_string(), method, limit }
                } else {
                    RpcError::Unreachable { url: self.shown.to_string(), source: error.into() }
                }
            })?;
            Ok((head.status, body.to_bytes()))
        };
        tokio::time::timeout(self.timeout, answer).await.unwrap_or_else(|_| {
            Err(RpcError::Timeout { url: self.shown.to_string(), method, after: self.timeout })
        })
    }

    /// A connection to what is under the URL at `path`, for something else than requests, and the
    /// address of that with the scheme `ws`.
    pub(super) async fn connect(&self, path: &str) -> Result<(Stream, String), RpcError> {
        const METHOD: &str = "connect";
        let connecting = TowerToHyperService::new(self.connector.clone()).call(self.uri.clone());
        let stream = tokio::time::timeout(self.timeout, connecting).await.map_err(|_| {
            RpcError::Timeout { url: self.shown.to_string(), method: METHOD, after: self.timeout }
        })?;
        let stream = stream.map_err(|source| RpcError::Unreachable {
            url: self.shown.to_string(),
            source: source.into(),
        })?;
        // `ws` for `http`, and `wss` for `https`.
        let rest = self.shown.strip_prefix("http").unwrap_or(&self.shown);
        let above = self.uri.path().trim_end_matches('/');
        Ok((TokioIo::new(stream), format!("ws{rest}{above}/{path}")))
    }

    fn unreachable(&self, error: impl std::error::Error + Send + Sync + 'static) -> RpcError {
        RpcError::Unreachable { url: self.shown.to_string(), source: Arc::new(error) }
    }
}
