//! The RPC of a CometBFT node, as far as relaying needs it.
//!
//! The node is believed about what the chain *did*: whoever relies on it for more asks for proofs
//! ([`Rpc::prove`]) and headers ([`Rpc::header`]), which the host's client of the chain judges.

use std::time::Duration;

use bytes::Bytes;
use data_encoding::{BASE64, HEXLOWER};
use ibc_proto::{ibc::core::commitment::v1::MerkleProof, ics23::CommitmentProof};
use prost::Message;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    RpcError,
    answer::{
        Checked, ConsensusParams, Envelope, Found, FoundBlocks, Included, NodeError, RawBlock,
        RawCommit, RawParams, RawQuery, RawResults, RawStatus, RawValidators, Response, TxResult,
        is_crowded,
    },
    error::excerpt,
    http::{Http, SHORT},
};
use crate::height::Timestamp;

/// How a node is talked to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RpcSettings {
    /// How long an answer may take. Default: 10 seconds.
    pub timeout: Duration,
    /// How many bytes an answer may have. What happened in one block is one answer. Those of more than
    /// 1 MiB are asked for again, one at a time. Default: 64 MiB.
    pub max_answer: usize,
    /// How often it is looked, over all channels, for packets and acknowledgements that the node has
    /// not told of. What has waited twice is told. Default: 10 minutes.
    pub sweep: Duration,
}

impl Default for RpcSettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            max_answer: 64 << 20,
            sweep: Duration::from_secs(600),
        }
    }
}

/// A question of more bytes than this has a long answer.
const MUCH: usize = SHORT / 16;

/// What a node says of itself and of its chain.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    /// The chain's id.
    pub(crate) chain: String,
    /// The version of CometBFT.
    pub(crate) version: String,
    /// The height of the last block.
    pub(crate) height: u64,
    /// The time of the last block; zero if the node does not say it.
    pub(crate) time: Timestamp,
    /// The height of the first block that the node still has.
    pub(crate) earliest: u64,
    /// The time of that block; zero if the node does not say it.
    pub(crate) earliest_time: Timestamp,
    /// Whether the node is still behind the chain.
    pub(crate) catching_up: bool,
}

/// What is at a key of the chain's IBC store.
#[derive(Clone, Debug)]
pub(crate) struct Proved {
    /// The value; empty if there is none.
    pub(crate) value: Bytes,
    /// The proof of it, or of its absence, as IBC carries proofs (ICS-023).
    pub(crate) proof: Vec<u8>,
    /// The height of the header that the proof is checked with. There may be no such block yet.
    pub(crate) height: u64,
}

/// What a query of the application answers.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) value: Vec<u8>,
    pub(crate) height: u64,
}

/// A node. A clone is the same.
#[derive(Clone, Debug)]
pub(crate) struct Rpc {
    http: Http,
}

impl Rpc {
    pub(crate) fn new(url: &str, settings: &RpcSettings) -> Result<Self, RpcError> {
        Ok(Self { http: Http::new(url, settings.timeout, settings.max_answer)? })
    }

    #[cfg(test)]
    pub(super) fn over(http: Http) -> Self {
        Self { http }
    }

    pub(super) fn http(&self) -> &Http {
        &self.http
    }

    pub(crate) async fn status(&self) -> Result<Status, RpcError> {
        let raw: RawStatus = self.call_short("status", json!({})).await?;
        Ok(Status {
            chain: raw.node_info.network,
            version: raw.node_info.version,
            height: raw.sync_info.latest_block_height,
            time: time(&raw.sync_info.latest_block_time),
            earliest: raw.sync_info.earliest_block_height,
            earliest_time: time(&raw.sync_info.earliest_block_time),
            catching_up: raw.sync_info.catching_up,
        })
    }

    pub(super) async fn consensus_params(&self) -> Result<ConsensusParams, RpcError> {
        // Of the last block: while it is executed, a node has none for the one that it asks itself
        // for if no height is named.
        let height = self.status().await?.height.to_string();
        let params = json!({ "height": height });
        let answer: RawParams = self.call_short("consensus_params", params).await?;
        Ok(answer.consensus_params)
    }

    /// Asks the application something, at a height or at its last one.
    pub(crate) async fn query(
        &self,
        path: &str,
        data: &[u8],
        height: Option<u64>,
    ) -> Result<Answer, RpcError> {
        let raw = self.call_short("abci_query", asked(path, data, height, false)).await?;
        let raw = self.queried(path, raw)?;
        Ok(Answer { value: raw.value, height: raw.height })
    }

    /// The same, where the answer may be long.
    pub(super) async fn long_query(&self, path: &str, data: &[u8]) -> Result<Answer, RpcError> {
        let params = asked(path, data, None, false);
        // A trial of many messages is long, and the node is not to make it twice.
        let raw = if data.len() > MUCH {
            self.call_long("abci_query", params).await?
        } else {
            self.call("abci_query", params).await?
        };
        let raw = self.queried(path, raw)?;
        Ok(Answer { value: raw.value, height: raw.height })
    }

    /// What is at a key of the store `ibc` after the block of a height, or after the last one,
    /// with a proof. The proof is checked with the header of the block that follows it.
    pub(crate) async fn prove(&self, key: &str, height: Option<u64>) -> Result<Proved, RpcError> {
        const METHOD: &str = "abci_query";
        const PATH: &str = "store/ibc/key";
        let raw = self.call_short(METHOD, asked(PATH, key.as_bytes(), height, true)).await?;
        let raw = self.queried(PATH, raw)?;
        let unexpected = |reason: &str| self.unexpected(METHOD, reason);
        if raw.key != key.as_bytes() {
            return Err(unexpected("it is of another key"));
        }
        if height.is_some_and(|height| height != raw.height) {
            return Err(unexpected("it is of another height"));
        }
        let ops = raw.proof.map(|proof| proof.ops).unwrap_or_default();
        if ops.is_empty() || ops.iter().any(|op| !op.kind.starts_with("ics23:")) {
            return Err(unexpected("it has no proof of ICS-023"));
        }
        let proofs = ops.iter().map(|op| CommitmentProof::decode(&op.data[..]));
        let proofs = proofs.collect::<Result<_, _>>();
        let proofs = proofs.map_err(|_| unexpected("its proof cannot be read"))?;
        let height = raw.height.checked_add(1).filter(|height| *height > 1);
        Ok(Proved {
            value: raw.value.into(),
            proof: MerkleProof { proofs }.encode_to_vec(),
            height: height.ok_or_else(|| unexpected("it is of no height"))?,
        })
    }

    fn queried(&self, path: &str, answer: Response<RawQuery>) -> Result<RawQuery, RpcError> {
        let raw = answer.response;
        if raw.code != 0 {
            return Err(RpcError::Query {
                url: self.http.url().to_owned(),
                path: path.to_owned(),
                codespace: excerpt(&raw.codespace),
                code: raw.code,
                log: excerpt(&raw.log),
            });
        }
        Ok(raw)
    }

    pub(super) async fn commit(&self, height: u64) -> Result<RawCommit, RpcError> {
        self.call_short("commit", json!({ "height": height.to_string() })).await
    }

    pub(super) async fn validators(
        &self,
        height: u64,
        page: u64,
        per_page: u64,
    ) -> Result<RawValidators, RpcError> {
        let params = json!({
            "height": height.to_string(),
            "page": page.to_string(),
            "per_page": per_page.to_string(),
        });
        let raw: RawValidators = self.call_short("validators", params).await?;
        if raw.block_height == height {
            Ok(raw)
        } else {
            Err(self.unexpected("validators", "they are of another height"))
        }
    }

    /// Gives the node a transaction, and says what its mempool thinks of it.
    pub(super) async fn broadcast(&self, tx: &[u8]) -> Result<Checked, RpcError> {
        const METHOD: &str = "broadcast_tx_sync";
        let params = json!({ "tx": BASE64.encode(tx) });
        let checked: Checked = self.call_short(METHOD, params).await?;
        if checked.hash[..] == hash(tx)[..] {
            Ok(checked)
        } else {
            Err(self.unexpected(METHOD, "it is of another transaction"))
        }
    }

    /// A transaction that is in a block, if the node keeps an index and has come as far.
    pub(super) async fn tx(&self, hash: &[u8; 32]) -> Result<Option<Included>, RpcError> {
        const METHOD: &str = "tx";
        match self.call::<Included>(METHOD, json!({ "hash": BASE64.encode(hash) })).await {
            Ok(found) if found.hash[..] == hash[..] => Ok(Some(found)),
            Ok(_) => Err(self.unexpected(METHOD, "it is of another transaction")),
            Err(RpcError::Node { message, .. }) if message.contains("not found") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The transactions with an event such as `recv_packet.packet_sequence='7'`: a page of them,
    /// the oldest first, and how many there are.
    pub(super) async fn tx_search(
        &self,
        query: &str,
        page: u64,
        per_page: u64,
    ) -> Result<Found, RpcError> {
        let params = json!({
            "query": query,
            "prove": false,
            "page": page.to_string(),
            "per_page": per_page.to_string(),
            "order_by": "asc",
        });
        self.call("tx_search", params).await
    }

    /// The heights of blocks with an event that no transaction has told of, the oldest first.
    pub(super) async fn block_search(
        &self,
        query: &str,
        per_page: u64,
    ) -> Result<Vec<u64>, RpcError> {
        let params = json!({
            "query": query,
            "page": "1",
            "per_page": per_page.to_string(),
            "order_by": "asc",
        });
        let found: FoundBlocks = self.call("block_search", params).await?;
        Ok(found.blocks.into_iter().map(|found| found.block.header.height).collect())
    }

    pub(super) async fn block_results(&self, height: u64) -> Result<RawResults, RpcError> {
        let params = json!({ "height": height.to_string() });
        self.results_of(height, self.call("block_results", params).await?)
    }

    /// The same, if the answer is short.
    pub(super) async fn short_block_results(&self, height: u64) -> Result<RawResults, RpcError> {
        let params = json!({ "height": height.to_string() });
        let (_, short) = self.http.limits();
        self.results_of(height, self.call_within("block_results", &params, short).await?)
    }

    fn results_of(&self, height: u64, raw: RawResults) -> Result<RawResults, RpcError> {
        if raw.height == height {
            Ok(raw)
        } else {
            Err(self.unexpected("block_results", "they are of another height"))
        }
    }

    /// What a transaction did in a block, if it is in it. Needs no index.
    pub(super) async fn tx_in(
        &self,
        hash: &[u8; 32],
        height: u64,
    ) -> Result<Option<TxResult>, RpcError> {
        let raw: RawBlock = self.call("block", json!({ "height": height.to_string() })).await?;
        let is_it =
            |tx: String| BASE64.decode(tx.as_bytes()).is_ok_and(|tx| self::hash(&tx) == *hash);
        let place = raw.block.data.txs.into_iter().position(is_it);
        let Some(place) = place else { return Ok(None) };
        let results = self.block_results(height).await?;
        let result = results.txs_results.into_iter().nth(place);
        let missing = || self.unexpected("block_results", "a transaction is missing");
        result.map(Some).ok_or_else(missing)
    }

    /// Asks for what may be long: then it is asked for again, when it is its turn. To stop reading
    /// until then would keep what has come, and a node does not wait with what it writes.
    async fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<T, RpcError> {
        let (limit, short) = self.http.limits();
        match self.call_within(method, &params, short).await {
            Err(RpcError::TooLarge { .. }) if short < limit => self.call_long(method, params).await,
            answered => answered,
        }
    }

    /// Asks for what is long.
    async fn call_long<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<T, RpcError> {
        let _turn = self.http.turn().await;
        self.call_within(method, &params, self.http.limits().0).await
    }

    async fn call_short<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<T, RpcError> {
        let (limit, short) = self.http.limits();
        match self.call_within(method, &params, short).await {
            Err(RpcError::TooLarge { .. }) if short < limit => {
                Err(self.unexpected(method, "it is longer than any of its kind"))
            }
            answered => answered,
        }
    }

    async fn call_within<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: &Value,
        limit: usize,
    ) -> Result<T, RpcError> {
        // One request a connection at a time: the id tells nothing that is not known, and is
        // checked because a cache between here and the node may think otherwise.
        const ID: i64 = 1;
        let body = json!({ "jsonrpc": "2.0", "id": ID, "method": method, "params": params });
        let (status, body) = self.http.post(method, body.to_string().into_bytes(), limit).await?;
        let url = || self.http.url().to_owned();
        if is_crowded(&body) {
            return Err(self.unexpected(method, "it has more in it than it has bytes for"));
        }
        let envelope: Envelope<T> = match serde_json::from_slice(&body) {
            Ok(envelope) => envelope,
            Err(_) if !status.is_success() => {
                return Err(RpcError::Status { url: url(), method, status: status.as_u16() });
            }
            Err(error) => return Err(self.unexpected(method, &error.to_string())),
        };
        if let Some(NodeError { code, message, data }) = envelope.error {
            let message = excerpt(&[message, data].join(": "));
            return Err(RpcError::Node { url: url(), method, code, message });
        }
        if !status.is_success() {
            return Err(RpcError::Status { url: url(), method, status: status.as_u16() });
        }
        if envelope.id != Some(ID) {
            return Err(self.unexpected(method, "it has the id of another request"));
        }
        envelope.result.ok_or_else(|| self.unexpected(method, "it has no result"))
    }

    pub(crate) fn unexpected(&self, method: &'static str, reason: &str) -> RpcError {
        let (url, reason) = (self.http.url().to_owned(), excerpt(reason));
        RpcError::Unexpected { url, method, reason }
    }
}

/// The parameters of a question to the application.
fn asked(path: &str, data: &[u8], height: Option<u64>, prove: bool) -> Value {
    let mut params = json!({ "path": path, "data": HEXLOWER.encode(data), "prove": prove });
    if let (Some(height), Some(params)) = (height, params.as_object_mut()) {
        params.insert("height".to_owned(), json!(height.to_string()));
    }
    params
}

/// A time, as Go writes it (RFC 3339).
fn time(text: &str) -> Timestamp {
    let read = tendermint::Time::parse_from_rfc3339(text).ok();
    let nanos = read.map(|time| time.unix_timestamp_nanos());
    Timestamp::from_nanos(nanos.and_then(|nanos| u64::try_from(nanos).ok()).unwrap_or(0))
}

/// The hash that a transaction is known by.
pub(super) fn hash(tx: &[u8]) -> [u8; 32] {
    Sha256::digest(tx).into()
}
