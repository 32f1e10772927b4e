//! What a node answers, as CometBFT from 0.37 on writes it: numbers of 64 bits and bytes are text.

use std::{
    fmt::{self, Display},
    marker::PhantomData,
    str::FromStr,
};

use data_encoding::{BASE64, HEXUPPER_PERMISSIVE};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, Visitor},
};
use tendermint_proto::v0_38::types::{SignedHeader, Validator};

/// What every answer is in.
#[derive(Deserialize)]
pub(super) struct Envelope<T> {
    pub(super) id: Option<i64>,
    pub(super) result: Option<T>,
    pub(super) error: Option<NodeError>,
}

#[derive(Deserialize)]
pub(super) struct NodeError {
    pub(super) code: i64,
    #[serde(default)]
    pub(super) message: String,
    #[serde(default)]
    pub(super) data: String,
}

/// The part of a status that matters here.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct RawStatus {
    pub(super) node_info: NodeInfo,
    pub(super) sync_info: SyncInfo,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct NodeInfo {
    pub(super) network: String,
    pub(super) version: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct SyncInfo {
    #[serde(deserialize_with = "number")]
    pub(super) latest_block_height: u64,
    #[serde(deserialize_with = "number")]
    pub(super) earliest_block_height: u64,
    #[serde(default)]
    pub(super) latest_block_time: String,
    #[serde(default)]
    pub(super) earliest_block_time: String,
    pub(super) catching_up: bool,
}

/// What is inside of `response`, as in the answers of the application.
#[derive(Deserialize)]
pub(super) struct Response<T> {
    pub(super) response: T,
}

#[derive(Deserialize)]
pub(super) struct RawQuery {
    #[serde(default)]
    pub(super) code: u32,
    #[serde(default)]
    pub(super) log: String,
    #[serde(default)]
    pub(super) codespace: String,
    #[serde(default, deserialize_with = "base64")]
    pub(super) key: Vec<u8>,
    #[serde(default, deserialize_with = "base64")]
    pub(super) value: Vec<u8>,
    #[serde(rename = "proofOps")]
    pub(super) proof: Option<RawProof>,
    #[serde(default, deserialize_with = "number")]
    pub(super) height: u64,
}

#[derive(Deserialize)]
pub(super) struct RawProof {
    #[serde(default)]
    pub(super) ops: Vec<RawProofOp>,
}

#[derive(Deserialize)]
pub(super) struct RawProofOp {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default, deserialize_with = "base64")]
    pub(super) data: Vec<u8>,
}

#[derive(Deserialize)]
pub(super) struct RawCommit {
    pub(super) signed_header: SignedHeader,
}

#[derive(Deserialize)]
pub(super) struct RawValidators {
    #[serde(deserialize_with = "number")]
    pub(super) block_height: u64,
    pub(super) validators: Vec<Validator>,
    #[serde(deserialize_with = "number")]
    pub(super) total: u64,
}

/// What the mempool said of a transaction.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Checked {
    #[serde(default)]
    pub(super) code: u32,
    #[serde(default)]
    pub(super) codespace: String,
    #[serde(default)]
    pub(super) log: String,
    #[serde(deserialize_with = "hex")]
    pub(super) hash: Vec<u8>,
}

/// A transaction in a block.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Included {
    #[serde(deserialize_with = "hex")]
    pub(super) hash: Vec<u8>,
    #[serde(deserialize_with = "number")]
    pub(super) height: u64,
    pub(super) tx_result: TxResult,
}

/// What a transaction did.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TxResult {
    pub(super) code: u32,
    pub(super) codespace: String,
    pub(super) log: String,
    #[serde(deserialize_with = "number")]
    pub(super) gas_used: i64,
    #[serde(deserialize_with = "list")]
    pub(super) events: Vec<Event>,
}

/// An event, as the chain writes it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Event {
    /// Its type.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// What it says.
    #[serde(default, deserialize_with = "list")]
    pub(crate) attributes: Vec<Attribute>,
}

/// One thing that an event says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Attribute {
    /// Of what.
    #[serde(default, deserialize_with = "text")]
    pub(crate) key: String,
    /// What.
    #[serde(default, deserialize_with = "text")]
    pub(crate) value: String,
}

impl Event {
    /// The first attribute with a key.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|attribute| attribute.key == key);
        found.map(|attribute| attribute.value.as_str())
    }
}

#[derive(Deserialize)]
pub(super) struct Found {
    #[serde(deserialize_with = "list")]
    pub(super) txs: Vec<Included>,
}

#[derive(Deserialize)]
pub(super) struct FoundBlocks {
    #[serde(deserialize_with = "list")]
    pub(super) blocks: Vec<FoundBlock>,
}

#[derive(Deserialize)]
pub(super) struct FoundBlock {
    pub(super) block: HeaderOnly,
}

/// Something with a header, of which the height is all that matters.
#[derive(Deserialize)]
pub(super) struct HeaderOnly {
    pub(super) header: HeightOnly,
}

#[derive(Deserialize)]
pub(super) struct HeightOnly {
    #[serde(deserialize_with = "number")]
    pub(super) height: u64,
}

/// What the transactions of a block did, and the block itself.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawResults {
    #[serde(deserialize_with = "number")]
    pub(super) height: u64,
    #[serde(deserialize_with = "list")]
    pub(super) txs_results: Vec<TxResult>,
    /// Until CometBFT 0.37.
    #[serde(deserialize_with = "list")]
    pub(super) begin_block_events: Vec<Event>,
    /// Until CometBFT 0.37.
    #[serde(deserialize_with = "list")]
    pub(super) end_block_events: Vec<Event>,
    /// From CometBFT 0.38 on: both, told apart by an attribute `mode`.
    #[serde(deserialize_with = "list")]
    pub(super) finalize_block_events: Vec<Event>,
}

#[derive(Deserialize)]
pub(super) struct RawBlock {
    pub(super) block: BlockBody,
}

#[derive(Deserialize)]
pub(super) struct BlockBody {
    pub(super) data: BlockData,
}

#[derive(Deserialize)]
pub(super) struct BlockData {
    #[serde(default, deserialize_with = "list")]
    pub(super) txs: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct RawParams {
    pub(super) consensus_params: ConsensusParams,
}

/// What bounds a block.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ConsensusParams {
    pub(super) block: BlockParams,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct BlockParams {
    /// How many bytes it may have; -1 is as many as CometBFT takes.
    #[serde(deserialize_with = "number")]
    pub(super) max_bytes: i64,
    /// How much gas it may use; -1 is without bound.
    #[serde(deserialize_with = "number")]
    pub(super) max_gas: i64,
}

/// What a subscription tells of a new block.
#[derive(Deserialize)]
pub(super) struct Announced {
    pub(super) data: AnnouncedData,
}

#[derive(Deserialize)]
pub(super) struct AnnouncedData {
    pub(super) value: HeaderOnly,
}

/// Bytes that a value in an answer has on average, at least: names, quotes and what it says. Those of
/// what happens in a block have more than eight.
const VALUE: usize = 6;
/// How many there may be without regard to that.
const VALUES: usize = 1_000;

/// Whether an answer consists of more values than an honest one can: `{}` is three bytes with its
/// comma, and read it is an object with all of its fields. So what is read takes no more than some
/// times the memory of the text.
pub(super) fn is_crowded(text: &[u8]) -> bool {
    let (mut quoted, mut escaped, mut values) = (false, false, 0_usize);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b',' | b'{' | b'[' if !quoted => values += 1,
            _ => {}
        }
    }
    values > VALUES + text.len() / VALUE
}

/// A number, which may be written as text and may be missing.
fn number<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display> + TryFrom<i64> + TryFrom<u64> + Default,
{
    // Not an untagged enum, which would keep whatever stands there to try it twice.
    struct Number<T>(PhantomData<T>);

    impl<T: FromStr<Err: Display> + TryFrom<i64> + TryFrom<u64> + Default> Visitor<'_> for Number<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            if text.is_empty() { Ok(T::default()) } else { text.parse().map_err(E::custom) }
        }

        fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<T, E> {
            T::try_from(number).map_err(|_| E::custom("a number is too small"))
        }

        fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<T, E> {
            T::try_from(number).map_err(|_| E::custom("a number is too large"))
        }

        fn visit_unit<E: serde::de::Error>(self) -> Result<T, E> {
            Ok(T::default())
        }
    }

    from.deserialize_any(Number(PhantomData))
}

fn base64<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = Option::<String>::deserialize(from)?.unwrap_or_default();
    BASE64.decode(text.as_bytes()).map_err(D::Error::custom)
}

fn hex<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(from)?;
    HEXUPPER_PERMISSIVE.decode(text.as_bytes()).map_err(D::Error::custom)
}

/// A list, which Go writes as null if it is empty.
fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}
