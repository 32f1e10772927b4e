//! What a `07-tendermint` client stores.
//!
//! | key | provable | holds |
//! |---|---|---|
//! | `clientState` | yes | the client state, as ICS-007 writes it |
//! | `consensusStates/R-N` | yes | a consensus state, as ICS-007 writes it |
//! | `c` | no | [`Client`]: what is asked of the client state, without its proof specs |
//! | `h` and the height, big endian | no | [`Consensus`]: the same of a consensus state, and when it came |
//!
//! A claim is checked with one private value alone. Big-endian heights keep the order of heights,
//! which the provable keys do not (ibc-go, `store.go`, "iteration key").

use std::{fmt::Display, sync::LazyLock};

use bytes::Bytes;
use ibc_proto::{
    google::protobuf::Any,
    ibc::{core::commitment::v1::MerkleRoot, lightclients::tendermint::v1 as raw},
};
use ics23::ProofSpec;
use prost::Message;
use tendermint_light_client_verifier::types::TrustThreshold;

use super::super::{ClientError, ClientStore, read};
use crate::height::{At, Height, Timestamp};

/// An IAVL tree, whose root is in a simple Merkle tree of stores.
static SDK_SPECS: LazyLock<[ProofSpec; 2]> =
    LazyLock::new(|| [ics23::iavl_spec(), ics23::tendermint_spec()]);

const CLIENT: &[u8] = b"c";
const CONSENSUS: &[u8] = b"h";
/// CometBFT's `types.MaxChainIDLen`.
const MAX_CHAIN_ID: usize = 50;
/// Block heights are signed in CometBFT, and one above the trusted height must be one too.
pub(super) const MAX_NUMBER: u64 = i64::MAX as u64 - 1;

/// What is asked of a client's state.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Client {
    #[prost(bool, tag = "1")]
    pub(super) frozen: bool,
    #[prost(uint64, tag = "2")]
    latest_revision: u64,
    #[prost(uint64, tag = "3")]
    latest_number: u64,
    /// The time of the header of the newest height, in nanoseconds.
    #[prost(uint64, tag = "4")]
    latest_time: u64,
    /// How many consensus states there are.
    #[prost(uint32, tag = "5")]
    pub(super) count: u32,
    /// In nanoseconds.
    #[prost(uint64, tag = "6")]
    pub(super) trusting_period: u64,
    /// In nanoseconds.
    #[prost(uint64, tag = "7")]
    pub(super) max_clock_drift: u64,
    #[prost(uint64, tag = "8")]
    trust_numerator: u64,
    #[prost(uint64, tag = "9")]
    trust_denominator: u64,
    #[prost(string, tag = "10")]
    pub(super) chain_id: String,
}

impl Client {
    pub(super) fn get(store: &dyn ClientStore) -> Result<Self, ClientError> {
        let Some(bytes) = store.private(CLIENT) else {
            return Err(ClientError::NotFound { client: store.client().clone() });
        };
        Self::decode(bytes).map_err(|error| read::malformed("stored 07-tendermint client", &error))
    }

    pub(super) fn put(&self, store: &mut dyn ClientStore) {
        store.set_private(CLIENT, Some(Bytes::from(self.encode_to_vec())));
    }

    pub(super) fn latest_height(&self) -> Height {
        Height::new(self.latest_revision, self.latest_number)
    }

    pub(super) fn latest_time(&self) -> Timestamp {
        Timestamp::from_nanos(self.latest_time)
    }

    pub(super) fn set_latest(&mut self, height: Height, time: u64) {
        self.latest_revision = height.revision;
        self.latest_number = height.number;
        self.latest_time = time;
    }

    /// The first moment at which a header of that time is trusted no more.
    pub(super) fn expires(&self, time: Timestamp) -> Timestamp {
        Timestamp::from_nanos(time.as_nanos().saturating_add(self.trusting_period))
    }

    /// `None` cannot be stored: [`validate`] has looked.
    pub(super) fn trust_level(&self) -> Option<TrustThreshold> {
        trust_level(self.trust_numerator, self.trust_denominator)
    }
}

/// What is asked of a consensus state, and when it came.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Consensus {
    /// The header's time, in nanoseconds.
    #[prost(uint64, tag = "1")]
    pub(super) time: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) root: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) next_validators_hash: Bytes,
    /// This host's time when it came, in nanoseconds.
    #[prost(uint64, tag = "4")]
    pub(super) processed_time: u64,
    /// And this host's height.
    #[prost(uint64, tag = "5")]
    pub(super) processed_revision: u64,
    #[prost(uint64, tag = "6")]
    pub(super) processed_number: u64,
}

impl Consensus {
    pub(super) fn new(time: Timestamp, root: Bytes, next_validators_hash: Bytes, at: At) -> Self {
        Self {
            time: time.as_nanos(),
            root,
            next_validators_hash,
            processed_time: at.time.as_nanos(),
            processed_revision: at.height.revision,
            processed_number: at.height.number,
        }
    }

    pub(super) fn time(&self) -> Timestamp {
        Timestamp::from_nanos(self.time)
    }

    /// Whether both are of the same header, as far as a client can tell.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        self.time == other.time
            && self.root == other.root
            && self.next_validators_hash == other.next_validators_hash
    }

    fn raw(&self) -> raw::ConsensusState {
        raw::ConsensusState {
            timestamp: Some(read::raw_timestamp(self.time())),
            root: Some(MerkleRoot { hash: self.root.to_vec() }),
            next_validators_hash: self.next_validators_hash.to_vec(),
        }
    }
}

pub(super) fn consensus(
    store: &dyn ClientStore,
    height: Height,
) -> Result<Option<Consensus>, ClientError> {
    store.private(&consensus_key(height)).map(decode_consensus).transpose()
}

/// The consensus state of the greatest height below this one.
pub(super) fn consensus_before(
    store: &dyn ClientStore,
    height: Height,
) -> Result<Option<(Height, Consensus)>, ClientError> {
    store.private_prev(CONSENSUS, &consensus_key(height)).map(decode_entry).transpose()
}

/// The consensus state of the least height above this one.
pub(super) fn consensus_after(
    store: &dyn ClientStore,
    height: Height,
) -> Result<Option<(Height, Consensus)>, ClientError> {
    let Some(number) = height.number.checked_add(1) else { return Ok(None) };
    let from = consensus_key(Height::new(height.revision, number));
    store.private_next(CONSENSUS, &from).map(decode_entry).transpose()
}

pub(super) fn oldest_consensus(
    store: &dyn ClientStore,
) -> Result<Option<(Height, Consensus)>, ClientError> {
    store.private_next(CONSENSUS, CONSENSUS).map(decode_entry).transpose()
}

pub(super) fn put_consensus(store: &mut dyn ClientStore, height: Height, consensus: &Consensus) {
    let provable = read::any(&consensus.raw()).encode_to_vec();
    store.set(&format!("consensusStates/{height}"), Bytes::from(provable));
    store.set_private(&consensus_key(height), Some(Bytes::from(consensus.encode_to_vec())));
}

pub(super) fn remove_consensus(store: &mut dyn ClientStore, height: Height) {
    store.remove(&format!("consensusStates/{height}"));
    store.set_private(&consensus_key(height), None);
}

/// Changes the provable client state.
pub(super) fn change_provable(
    store: &mut dyn ClientStore,
    change: impl FnOnce(&mut raw::ClientState),
) -> Result<(), ClientError> {
    let what = "stored 07-tendermint client state";
    let Some(bytes) = store.get("clientState") else {
        return Err(ClientError::NotFound { client: store.client().clone() });
    };
    let any: Any = read::bytes(what, &bytes, usize::MAX)?;
    let mut state: raw::ClientState = read::message(what, &any, usize::MAX)?;
    change(&mut state);
    store.set("clientState", Bytes::from(read::any(&state).encode_to_vec()));
    Ok(())
}

/// ibc-go, `client_state.go`, `Validate`.
pub(super) fn validate(raw: &raw::ClientState) -> Result<Client, ClientError> {
    let invalid = |reason: &dyn Display| ClientError::Invalid {
        what: "07-tendermint client state",
        reason: reason.to_string(),
    };

    if raw.chain_id.trim().is_empty() {
        return Err(invalid(&"it names no chain"));
    }
    if raw.chain_id.len() > MAX_CHAIN_ID {
        return Err(invalid(&"its chain id is longer than 50 bytes"));
    }
    if tendermint::chain::Id::try_from(raw.chain_id.as_str()).is_err() {
        return Err(invalid(&"its chain id has characters other than a-z A-Z 0-9 - _ ."));
    }
    let level = raw.trust_level.unwrap_or_default();
    if trust_level(level.numerator, level.denominator).is_none() {
        return Err(invalid(&format_args!(
            "its trust level is {}/{}, and must be from 1/3 to below 1, in 32-bit terms",
            level.numerator, level.denominator
        )));
    }
    let period = |name: &str, raw| {
        read::duration(raw).ok_or_else(|| {
            invalid(&format_args!("its {name} must be more than nothing and below 584 years"))
        })
    };
    let trusting_period = period("trusting period", raw.trusting_period)?;
    let unbonding_period = period("unbonding period", raw.unbonding_period)?;
    let max_clock_drift = period("maximal clock drift", raw.max_clock_drift)?;
    let latest = read::height(raw.latest_height);
    let revision = revision(&raw.chain_id)
        .ok_or_else(|| invalid(&"the revision in its chain id is above 2^64"))?;
    if latest.revision != revision {
        return Err(invalid(&format_args!(
            "its latest height is {latest}, and its chain id {} is of revision {revision}",
            raw.chain_id
        )));
    }
    if latest.number == 0 || latest.number > MAX_NUMBER {
        return Err(invalid(&"its latest height must be above 0 and fit in 63 bits"));
    }
    if trusting_period >= unbonding_period {
        return Err(invalid(&"its trusting period must be shorter than its unbonding period"));
    }
    if raw.proof_specs != *SDK_SPECS {
        return Err(invalid(
            &"its proof specs are not the Cosmos SDK's, which are an IAVL tree in a simple \
             Merkle tree, and no other proofs can be checked here",
        ));
    }
    if raw.upgrade_path.iter().any(|key| key.trim().is_empty()) {
        return Err(invalid(&"a key of its upgrade path is empty"));
    }

    Ok(Client {
        frozen: !read::height(raw.frozen_height).is_zero(),
        latest_revision: latest.revision,
        latest_number: latest.number,
        trusting_period,
        max_clock_drift,
        trust_numerator: level.numerator,
        trust_denominator: level.denominator,
        chain_id: raw.chain_id.clone(),
        ..Client::default()
    })
}

/// ibc-go, `consensus_state.go`, `ValidateBasic`.
pub(super) fn validate_consensus(
    raw: raw::ConsensusState,
    at: At,
) -> Result<Consensus, ClientError> {
    let invalid = |reason: &str| ClientError::Invalid {
        what: "07-tendermint consensus state",
        reason: reason.to_owned(),
    };
    let root = raw.root.unwrap_or_default().hash;
    if root.is_empty() {
        return Err(invalid("its root is empty"));
    }
    if raw.next_validators_hash.len() != 32 {
        return Err(invalid("the hash of its next validators has not 32 bytes"));
    }
    let Some(time) = read::timestamp(raw.timestamp) else {
        return Err(invalid("its time must be after 1970 and before 2554"));
    };
    Ok(Consensus::new(time, Bytes::from(root), Bytes::from(raw.next_validators_hash), at))
}

/// The revision in a chain id: the number after the last `-`, written without leading zeros and
/// after something that is no `-`; else 0 (ibc-go, `02-client/types/height.go`,
/// `IsRevisionFormat`). `None` if it is above 2^64.
pub(super) fn revision(chain_id: &str) -> Option<u64> {
    let Some((name, number)) = chain_id.rsplit_once('-') else { return Some(0) };
    let digits = !number.starts_with('0') && number.bytes().all(|byte| byte.is_ascii_digit());
    if number.is_empty() || !digits || name.is_empty() || name.ends_with(['-', '\n']) {
        return Some(0);
    }
    number.parse().ok()
}

fn trust_level(numerator: u64, denominator: u64) -> Option<TrustThreshold> {
    // Within 32 bits the constructor's products cannot overflow.
    if numerator >= denominator || denominator > u64::from(u32::MAX) {
        return None;
    }
    TrustThreshold::new(numerator, denominator).ok()
}

fn consensus_key(height: Height) -> [u8; 17] {
    let mut key = [0; 17];
    let (kind, rest) = key.split_at_mut(1);
    let (revision, number) = rest.split_at_mut(8);
    kind.copy_from_slice(CONSENSUS);
    revision.copy_from_slice(&height.revision.to_be_bytes());
    number.copy_from_slice(&height.number.to_be_bytes());
    key
}

fn decode_entry((key, value): (Vec<u8>, Bytes)) -> Result<(Height, Consensus), ClientError> {
    let height = key
        .split_at_checked(1)
        .and_then(|(_, heights)| heights.split_first_chunk::<8>())
        .and_then(|(revision, number)| Some((revision, number.first_chunk::<8>()?)))
        .map(|(revision, number)| {
            Height::new(u64::from_be_bytes(*revision), u64::from_be_bytes(*number))
        })
        .ok_or_else(|| read::missing("stored 07-tendermint consensus state", "height"))?;
    Ok((height, decode_consensus(value)?))
}

fn decode_consensus(bytes: Bytes) -> Result<Consensus, ClientError> {
    Consensus::decode(bytes)
        .map_err(|error| read::malformed("stored 07-tendermint consensus state", &error))
}
