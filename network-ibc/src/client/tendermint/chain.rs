//! A chain to test with: headers signed by a few validators, and proofs of a tree of keys.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use ibc_proto::{
    google::protobuf::Any,
    ibc::{
        core::commitment::v1::{MerkleProof, MerkleRoot},
        lightclients::tendermint::v1 as raw,
    },
};
use ics23::{
    CommitmentProof, ExistenceProof, HashOp, InnerOp, LeafOp, LengthOp, NonExistenceProof,
    commitment_proof::Proof,
};
use prost::Message;
use sha2::{Digest, Sha256};
use tendermint::{
    AppHash, Hash, Signature,
    block::{
        Commit, CommitSig, Header, Id, Round, header::Version, parts, signed_header::SignedHeader,
    },
    validator,
    vote::{CanonicalVote, Type, ValidatorIndex, Vote},
};

use super::super::read;
use crate::height::{At, Height, Timestamp};

pub(super) const SECOND: u64 = 1_000_000_000;
/// The time of the block of height 1; each further one is a second later.
pub(super) const START: u64 = 1_700_000_000 * SECOND;
pub(super) const DAY: u64 = 24 * 3_600 * SECOND;

/// This host at a time after the chain's start.
pub(super) fn at(seconds: u64) -> At {
    At { time: Timestamp::from_nanos(START + seconds * SECOND), height: Height::new(0, seconds) }
}

pub(crate) struct Chain {
    pub(crate) id: String,
    keys: Vec<Ed25519KeyPair>,
    pub(crate) validators: validator::Set,
}

/// What a block may say otherwise than usual.
#[derive(Clone)]
pub(crate) struct Block {
    pub(crate) number: u64,
    pub(crate) time: u64,
    pub(crate) app_hash: [u8; 32],
    pub(crate) next_validators: Option<validator::Set>,
    /// How many of the validators, from the first, sign it.
    pub(crate) signers: usize,
    /// Something in it that no consensus state tells of.
    pub(crate) data_hash: [u8; 32],
}

impl Block {
    pub(crate) fn new(number: u64, app_hash: [u8; 32]) -> Self {
        Self {
            number,
            time: START + (number - 1) * SECOND,
            app_hash,
            next_validators: None,
            signers: usize::MAX,
            data_hash: [7; 32],
        }
    }
}

impl Chain {
    pub(super) fn new(id: &str) -> Self {
        Self::with_keys(id, &[1])
    }

    /// A chain whose validators have keys made of these bytes, and powers 10, 11, and so on.
    pub(crate) fn with_keys(id: &str, seeds: &[u8]) -> Self {
        Self::with_seeds(id, seeds.iter().map(|seed| vec![*seed; 32]))
    }

    /// The same of whole seeds.
    pub(super) fn with_seeds(id: &str, seeds: impl Iterator<Item = Vec<u8>>) -> Self {
        let mut keyed: Vec<_> = seeds
            .zip(10_u32..)
            .map(|(seed, power)| {
                let key = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
                let public = key.public_key().as_ref().to_vec();
                let public = tendermint::PublicKey::from_raw_ed25519(&public).unwrap();
                (validator::Info::new(public, power.into()), key)
            })
            .collect();
        keyed.sort_by_key(|(info, _)| (std::cmp::Reverse(info.power), info.address));
        let (infos, keys): (Vec<_>, Vec<_>) = keyed.into_iter().unzip();
        let proposer = infos.first().cloned();
        Self { id: id.to_owned(), keys, validators: validator::Set::new(infos, proposer) }
    }

    pub(crate) fn signed(&self, block: &Block) -> SignedHeader {
        let hash = |bytes: [u8; 32]| Hash::Sha256(bytes);
        let some = Some(hash(block.data_hash));
        let next = block.next_validators.as_ref().unwrap_or(&self.validators);
        let time = read::time_of(Timestamp::from_nanos(block.time)).unwrap();
        let header = Header {
            version: Version { block: 11, app: 0 },
            chain_id: self.id.parse().unwrap(),
            height: block.number.try_into().unwrap(),
            time,
            last_block_id: None,
            last_commit_hash: some,
            data_hash: some,
            validators_hash: self.validators.hash(),
            next_validators_hash: next.hash(),
            consensus_hash: hash([7; 32]),
            app_hash: AppHash::try_from(block.app_hash.to_vec()).unwrap(),
            last_results_hash: some,
            evidence_hash: some,
            proposer_address: self.validators.validators()[0].address,
        };
        let hash = header.hash();
        let id = Id { hash, part_set_header: parts::Header::new(1, hash).unwrap() };
        let signatures = self
            .keys
            .iter()
            .zip(self.validators.validators())
            .enumerate()
            .map(|(index, (key, info))| {
                if index >= block.signers {
                    return CommitSig::BlockIdFlagAbsent;
                }
                let vote = Vote {
                    vote_type: Type::Precommit,
                    height: header.height,
                    round: Round::default(),
                    block_id: Some(id),
                    timestamp: Some(time),
                    validator_address: info.address,
                    validator_index: ValidatorIndex::try_from(index).unwrap(),
                    signature: None,
                    extension: Vec::new(),
                    extension_signature: None,
                };
                let vote = CanonicalVote::new(vote, header.chain_id.clone());
                let mut bytes = Vec::new();
                tendermint_proto::Protobuf::<tendermint_proto::types::CanonicalVote>::
                    encode_length_delimited(vote, &mut bytes).unwrap();
                CommitSig::BlockIdFlagCommit {
                    validator_address: info.address,
                    timestamp: time,
                    signature: Signature::new(key.sign(&bytes)).unwrap(),
                }
            })
            .collect();
        let commit =
            Commit { height: header.height, round: Round::default(), block_id: id, signatures };
        SignedHeader::new(header, commit).unwrap()
    }

    pub(super) fn raw_header(&self, block: &Block, trusted: u64) -> raw::Header {
        let revision = super::state::revision(&self.id).unwrap();
        let mut validators = tendermint_proto::types::ValidatorSet::from(self.validators.clone());
        validators.total_voting_power = 0;
        raw::Header {
            signed_header: Some(self.signed(block).into()),
            validator_set: Some(validators.clone()),
            trusted_height: Some(read::raw_height(Height::new(revision, trusted))),
            trusted_validators: Some(validators),
        }
    }

    /// The header of a block, for a client that knows the block `trusted`.
    pub(super) fn header(&self, block: &Block, trusted: u64) -> Any {
        read::any(&self.raw_header(block, trusted))
    }

    pub(super) fn client_state(&self, number: u64) -> raw::ClientState {
        let days = |days: i64| {
            Some(ibc_proto::google::protobuf::Duration { seconds: days * 24 * 3_600, nanos: 0 })
        };
        #[allow(deprecated)]
        raw::ClientState {
            chain_id: self.id.clone(),
            trust_level: Some(raw::Fraction { numerator: 1, denominator: 3 }),
            trusting_period: days(14),
            unbonding_period: days(21),
            max_clock_drift: Some(ibc_proto::google::protobuf::Duration { seconds: 30, nanos: 0 }),
            frozen_height: Some(read::raw_height(Height::ZERO)),
            latest_height: Some(read::raw_height(Height::new(
                super::state::revision(&self.id).unwrap(),
                number,
            ))),
            proof_specs: vec![ics23::iavl_spec(), ics23::tendermint_spec()],
            upgrade_path: vec!["upgrade".to_owned(), "upgradedIBCState".to_owned()],
            allow_update_after_expiry: false,
            allow_update_after_misbehaviour: false,
        }
    }

    pub(super) fn consensus_state(&self, block: &Block) -> raw::ConsensusState {
        let next = block.next_validators.as_ref().unwrap_or(&self.validators);
        raw::ConsensusState {
            timestamp: Some(read::raw_timestamp(Timestamp::from_nanos(block.time))),
            root: Some(MerkleRoot { hash: block.app_hash.to_vec() }),
            next_validators_hash: next.hash().as_bytes().to_vec(),
        }
    }
}

/// A balanced tree in the form of an IAVL tree of one version, in the store `ibc`.
pub(super) struct Tree {
    entries: Vec<(Vec<u8>, Vec<u8>)>,
    /// The hashes, from the leaves up: pairs of one level make the next.
    levels: Vec<Vec<[u8; 32]>>,
}

impl Tree {
    /// The number of entries must be a power of two.
    pub(super) fn new(mut entries: Vec<(Vec<u8>, Vec<u8>)>) -> Self {
        assert!(entries.len().is_power_of_two());
        entries.sort();
        let mut levels = vec![
            entries
                .iter()
                .map(|(key, value)| {
                    let mut image = vec![0, 2, 2];
                    prost::encode_length_delimiter(key.len(), &mut image).unwrap();
                    image.extend(key);
                    image.push(32);
                    image.extend(Sha256::digest(value));
                    Sha256::digest(image).into()
                })
                .collect::<Vec<[u8; 32]>>(),
        ];
        while let Some(last) = levels.last().filter(|last| last.len() > 1) {
            let height = levels.len();
            let next = last
                .chunks(2)
                .map(|pair| {
                    let mut image = header(height);
                    for hash in pair {
                        image.push(32);
                        image.extend(hash);
                    }
                    Sha256::digest(image).into()
                })
                .collect();
            levels.push(next);
        }
        Self { entries, levels }
    }

    pub(super) fn of(count: usize) -> Self {
        Self::new((0..count).map(|n| (key(n).into_bytes(), value(n))).collect())
    }

    fn root(&self) -> [u8; 32] {
        self.levels.last().unwrap()[0]
    }

    pub(super) fn app_hash(&self) -> [u8; 32] {
        let mut image = vec![0, 3];
        image.extend(b"ibc");
        image.push(32);
        image.extend(Sha256::digest(self.root()));
        Sha256::digest(image).into()
    }

    pub(super) fn exist(&self, index: usize) -> ExistenceProof {
        let (key, value) = self.entries[index].clone();
        let path = self.levels[..self.levels.len() - 1]
            .iter()
            .enumerate()
            .map(|(level, hashes)| {
                let place = index >> level;
                let mut prefix = header(level + 1);
                prefix.push(32);
                let mut suffix = Vec::new();
                if place.is_multiple_of(2) {
                    suffix.push(32);
                    suffix.extend(hashes[place + 1]);
                } else {
                    prefix.extend(hashes[place - 1]);
                    prefix.push(32);
                }
                InnerOp { hash: HashOp::Sha256.into(), prefix, suffix }
            })
            .collect();
        ExistenceProof { key, value, leaf: Some(leaf(vec![0, 2, 2])), path }
    }

    pub(super) fn member(&self, key: &str) -> Vec<u8> {
        let index = self.entries.binary_search_by(|(other, _)| other[..].cmp(key.as_bytes()));
        self.chained(Proof::Exist(self.exist(index.unwrap())))
    }

    pub(super) fn absent(&self, key: &str) -> Vec<u8> {
        let next = self.entries.partition_point(|(other, _)| &other[..] < key.as_bytes());
        self.chained(Proof::Nonexist(NonExistenceProof {
            key: key.as_bytes().to_vec(),
            left: next.checked_sub(1).map(|index| self.exist(index)),
            right: (next < self.entries.len()).then(|| self.exist(next)),
        }))
    }

    pub(super) fn chained(&self, inner: Proof) -> Vec<u8> {
        MerkleProof { proofs: vec![CommitmentProof { proof: Some(inner) }, self.store()] }
            .encode_to_vec()
    }

    pub(super) fn store(&self) -> CommitmentProof {
        CommitmentProof {
            proof: Some(Proof::Exist(ExistenceProof {
                key: b"ibc".to_vec(),
                value: self.root().to_vec(),
                leaf: Some(leaf(vec![0])),
                path: Vec::new(),
            })),
        }
    }
}

pub(super) fn key(n: usize) -> String {
    format!("commitments/ports/echo/channels/channel-0/sequences/{n:07}")
}

pub(super) fn value(n: usize) -> Vec<u8> {
    Sha256::digest(n.to_be_bytes()).to_vec()
}

/// What an inner node of the tree begins with: its height, its size and its version, as signed
/// numbers in protobuf's zigzag form.
fn header(height: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in [height as u64, 1 << height, 1] {
        prost::encoding::encode_varint(number << 1, &mut bytes);
    }
    bytes
}

fn leaf(prefix: Vec<u8>) -> LeafOp {
    LeafOp {
        hash: HashOp::Sha256.into(),
        prehash_key: HashOp::NoHash.into(),
        prehash_value: HashOp::Sha256.into(),
        length: LengthOp::VarProto.into(),
        prefix,
    }
}
