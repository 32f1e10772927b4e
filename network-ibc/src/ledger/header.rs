//! The headers of a chain with one validator, this host (CometBFT specification, "Data
//! structures").

use std::{sync::Arc, time::Duration};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use ibc_proto::{
    google::protobuf::{Any, Duration as RawDuration, Timestamp as RawTimestamp},
    ibc::{
        core::{client::v1::Height as RawHeight, commitment::v1::MerkleRoot},
        lightclients::tendermint::v1::{
            ClientState, ConsensusState, Fraction, Header as RawHeader,
        },
    },
    ics23::ProofSpec,
};
use prost::{Message, Name};
use sha2::{Digest, Sha256};
use tendermint::{
    AppHash, Hash, PublicKey, Signature, Time,
    block::{
        Commit, CommitSig, Header, Id, Round, header::Version, parts, signed_header::SignedHeader,
    },
    validator,
    vote::{CanonicalVote, Type, ValidatorIndex, Vote},
};
use tendermint_proto::{
    Protobuf,
    v0_38::types::{
        CanonicalVote as RawCanonicalVote, SignedHeader as RawSignedHeader, ValidatorSet,
    },
};

use super::error::LedgerError;
use crate::height::{Height, Timestamp};

/// The longest id of a chain, in bytes (CometBFT `MaxChainIDLen`).
const MAX_CHAIN_ID: usize = 50;

/// The key that signs a host's headers: Ed25519.
///
/// Whoever has it is the host, to all who believe its headers.
pub struct LedgerKey(Ed25519KeyPair);

impl LedgerKey {
    /// A key from the 32 bytes of its seed (RFC 8032 §5.1.5).
    ///
    /// # Errors
    /// They make no key, which none do.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, LedgerError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| LedgerError::Key)?;
        Ok(Self(pair))
    }

    /// A new key.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn generate() -> Result<Self, LedgerError> {
        Ok(Self(Ed25519KeyPair::generate().map_err(|_| LedgerError::Key)?))
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        let mut key = [0; 32];
        let public = self.0.public_key().as_ref();
        key.iter_mut().zip(public).for_each(|(to, from)| *to = *from);
        key
    }
}

/// Shows the public half.
impl std::fmt::Debug for LedgerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LedgerKey(")?;
        self.public_key().iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// Makes the headers of one chain.
pub(super) struct Signer {
    key: Arc<LedgerKey>,
    chain: tendermint::chain::Id,
    revision: u64,
    validators: ValidatorSet,
    validators_hash: Hash,
    validator: tendermint::account::Id,
}

/// What a header says of the header before it.
pub(super) type BlockId = Id;

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("chain", &self.chain).field("key", &self.key).finish()
    }
}

/// Whether a text can be the id of a chain.
pub(crate) fn valid_chain(chain: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=MAX_CHAIN_ID).contains(&chain.len()) && chain.bytes().all(valid)
}

/// The revision in the id of a chain: the number behind its last dash, if that is one without
/// leading zeros (ibc-go `ParseChainID`).
pub(crate) fn revision(chain: &str) -> u64 {
    let number =
        chain.rsplit_once('-').filter(|(name, _)| !name.is_empty()).map(|(_, number)| number);
    number
        .filter(|number| !number.starts_with(['0', '+']))
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

/// The id of a block, by its hash.
pub(super) fn block_id(hash: &[u8]) -> Result<BlockId, LedgerError> {
    let hash = Hash::try_from(hash.to_vec()).map_err(broken)?;
    Ok(Id { hash, part_set_header: parts::Header::new(1, hash).map_err(broken)? })
}

fn broken(error: impl std::fmt::Display) -> LedgerError {
    LedgerError::Header { reason: error.to_string() }
}

pub(super) fn time(time: Timestamp) -> Result<Time, LedgerError> {
    let nanos = time.as_nanos();
    let (seconds, nanos) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    Time::from_unix_timestamp(i64::try_from(seconds).map_err(broken)?, nanos as u32).map_err(broken)
}

impl Signer {
    pub(super) fn new(key: Arc<LedgerKey>, chain: &str) -> Result<Self, LedgerError> {
        if !valid_chain(chain) {
            return Err(LedgerError::ChainId { id: crate::error::excerpt(chain) });
        }
        let id = chain.parse();
        let id = id.map_err(|_| LedgerError::ChainId { id: crate::error::excerpt(chain) })?;
        let public = PublicKey::from_raw_ed25519(&key.public_key()).ok_or(LedgerError::Key)?;
        // Its power is of no matter where there is no other.
        let one = validator::Info::new(public, 1_u32.into());
        let validator = one.address;
        let validators = validator::Set::new(vec![one.clone()], Some(one));
        Ok(Self {
            key,
            revision: revision(chain),
            chain: id,
            validators_hash: validators.hash(),
            validators: validators.into(),
            validator,
        })
    }

    pub(super) fn chain(&self) -> &str {
        self.chain.as_str()
    }

    pub(super) fn public_key(&self) -> [u8; 32] {
        self.key.public_key()
    }

    pub(super) fn height(&self, number: u64) -> Height {
        Height::new(self.revision, number)
    }

    /// Signs a header. Never call it twice for one height with different contents: who sees both
    /// believes this host no more.
    pub(super) fn sign(
        &self,
        number: u64,
        at: Timestamp,
        app_hash: [u8; 32],
        last: Option<BlockId>,
    ) -> Result<(RawSignedHeader, BlockId), LedgerError> {
        let at = time(at)?;
        let nothing = Hash::Sha256(Sha256::digest([]).into());
        let header = Header {
            version: Version { block: 11, app: 0 },
            chain_id: self.chain.clone(),
            height: number.try_into().map_err(broken)?,
            time: at,
            last_block_id: last,
            last_commit_hash: Some(nothing),
            data_hash: Some(nothing),
            validators_hash: self.validators_hash,
            next_validators_hash: self.validators_hash,
            consensus_hash: nothing,
            app_hash: AppHash::try_from(app_hash.to_vec()).map_err(broken)?,
            last_results_hash: Some(nothing),
            evidence_hash: Some(nothing),
            proposer_address: self.validator,
        };
        let hash = header.hash();
        let id = Id { hash, part_set_header: parts::Header::new(1, hash).map_err(broken)? };
        let vote = Vote {
            vote_type: Type::Precommit,
            height: header.height,
            round: Round::default(),
            block_id: Some(id),
            timestamp: Some(at),
            validator_address: self.validator,
            validator_index: ValidatorIndex::try_from(0_u32).map_err(broken)?,
            signature: None,
            extension: Vec::new(),
            extension_signature: None,
        };
        let vote = CanonicalVote::new(vote, self.chain.clone());
        let vote = Protobuf::<RawCanonicalVote>::encode_length_delimited_vec(vote);
        let signature = self.key.0.sign(&vote);
        let commit = Commit {
            height: header.height,
            round: Round::default(),
            block_id: id,
            signatures: vec![CommitSig::BlockIdFlagCommit {
                validator_address: self.validator,
                timestamp: at,
                signature: Signature::new(signature.as_ref()).map_err(broken)?,
            }],
        };
        let signed = SignedHeader::new(header, commit).map_err(broken)?;
        Ok((signed.into(), id))
    }

    /// What moves a client of this host from a height that it knows to that of `signed`.
    pub(super) fn header(&self, signed: &RawSignedHeader, trusted: Height) -> Any {
        any(&RawHeader {
            signed_header: Some(signed.clone()),
            validator_set: Some(self.validators.clone()),
            trusted_height: Some(trusted.into()),
            trusted_validators: Some(self.validators.clone()),
        })
    }

    /// What a new client of this host is to believe (ICS-007).
    pub(super) fn client_state(&self, height: Height, trust: &Trust) -> Any {
        client_state(self.chain.as_str(), height, trust)
    }

    /// What it is to know of the height that it begins with.
    pub(super) fn consensus_state(&self, at: Timestamp, app_hash: &[u8; 32]) -> Any {
        let nanos = at.as_nanos();
        any(&ConsensusState {
            timestamp: Some(RawTimestamp {
                seconds: i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX),
                nanos: (nanos % 1_000_000_000) as i32,
            }),
            root: Some(MerkleRoot { hash: app_hash.to_vec() }),
            next_validators_hash: self.validators_hash.as_bytes().to_vec(),
        })
    }
}

/// How long others may believe what they know of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trust {
    /// For how long after a header's time another one can be checked against it. Default: ten
    /// years of 365 days: a host has one validator, whose stake nobody can withdraw.
    pub trusting_period: Duration,
    /// More than that. Default: twenty years.
    pub unbonding_period: Duration,
    /// How far ahead of the other side's clock a header may be. Default: 40 seconds.
    pub max_clock_drift: Duration,
}

impl Default for Trust {
    fn default() -> Self {
        const YEAR: u64 = 365 * 86_400;
        Self {
            trusting_period: Duration::from_secs(10 * YEAR),
            unbonding_period: Duration::from_secs(20 * YEAR),
            max_clock_drift: Duration::from_secs(40),
        }
    }
}

/// The state of a new client of a chain that has the Cosmos SDK's stores, as hosts have.
pub(crate) fn client_state(chain: &str, height: Height, trust: &Trust) -> Any {
    let specs = [ics23::iavl_spec(), ics23::tendermint_spec()];
    #[expect(deprecated, reason = "two fields that chains have and do not read")]
    any(&ClientState {
        chain_id: chain.to_owned(),
        trust_level: Some(Fraction { numerator: 1, denominator: 3 }),
        trusting_period: Some(raw_duration(trust.trusting_period)),
        unbonding_period: Some(raw_duration(trust.unbonding_period)),
        max_clock_drift: Some(raw_duration(trust.max_clock_drift)),
        frozen_height: Some(RawHeight::default()),
        latest_height: Some(height.into()),
        proof_specs: specs.iter().filter_map(spec).collect(),
        upgrade_path: vec!["upgrade".to_owned(), "upgradedIBCState".to_owned()],
        allow_update_after_expiry: false,
        allow_update_after_misbehaviour: false,
    })
}

/// The crate's own type is the message's, made by another version of its code.
fn spec(spec: &ics23::ProofSpec) -> Option<ProofSpec> {
    ProofSpec::decode(&spec.encode_to_vec()[..]).ok()
}

fn raw_duration(duration: Duration) -> RawDuration {
    RawDuration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: duration.subsec_nanos() as i32,
    }
}

fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}
