//! The headers of a chain with one validator, and a client that believes them.

use std::time::{Duration, SystemTime};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use ibc_proto::ibc::core::client::v1::Height;
use ibc_proto::ibc::lightclients::tendermint::v1::Header as RawHeader;
use prost::Message;
use sha2::{Digest, Sha256};
use tendermint::block::signed_header::SignedHeader;
use tendermint::block::{Commit, CommitSig, Header, Id, Round, header::Version, parts};
use tendermint::crypto::signature::{Error as Unsigned, Verifier as Verify};
use tendermint::vote::{CanonicalVote, Type, ValidatorIndex, Vote};
use tendermint::{AppHash, Hash, PublicKey, Signature, Time, validator};
use tendermint_light_client_verifier::operations::{
    ProdCommitValidator, ProvidedVotingPowerCalculator,
};
use tendermint_light_client_verifier::options::Options;
use tendermint_light_client_verifier::predicates::ProdPredicates;
use tendermint_light_client_verifier::types::{
    TrustThreshold, TrustedBlockState, UntrustedBlockState,
};
use tendermint_light_client_verifier::{PredicateVerifier, Verdict, Verifier as _};
use tendermint_proto::Protobuf;
use tendermint_proto::v0_38::types::CanonicalVote as RawVote;

use crate::peer::Result;

const CHAIN: &str = "hand-made";

/// Makes headers.
pub(super) struct Signer {
    key: Ed25519KeyPair,
    validators: validator::Set,
    hash: Hash,
    address: tendermint::account::Id,
    chain: tendermint::chain::Id,
    last: Option<Id>,
    pub(super) height: u64,
    nanos: u128,
}

impl Signer {
    pub(super) fn new() -> Result<Self> {
        let key = Ed25519KeyPair::generate().map_err(|_| "the system has no randomness")?;
        let public = PublicKey::from_raw_ed25519(key.public_key().as_ref()).ok_or("no key")?;
        let one = validator::Info::new(public, 1_u32.into());
        let address = one.address;
        let validators = validator::Set::new(vec![one.clone()], Some(one));
        let (hash, chain) = (validators.hash(), CHAIN.parse()?);
        Ok(Self { key, validators, hash, address, chain, last: None, height: 0, nanos: 0 })
    }

    /// The next header, as one who knows the height before it takes it.
    pub(super) fn next(&mut self, app_hash: [u8; 32]) -> Result<Vec<u8>> {
        self.height += 1;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos();
        self.nanos = now.max(self.nanos + 1);
        let (seconds, nanos) = (self.nanos / 1_000_000_000, self.nanos % 1_000_000_000);
        let time = Time::from_unix_timestamp(seconds as i64, nanos as u32)?;
        let nothing = Hash::Sha256(Sha256::digest([]).into());
        let header = Header {
            version: Version { block: 11, app: 0 },
            chain_id: self.chain.clone(),
            height: self.height.try_into()?,
            time,
            last_block_id: self.last,
            last_commit_hash: Some(nothing),
            data_hash: Some(nothing),
            validators_hash: self.hash,
            next_validators_hash: self.hash,
            consensus_hash: nothing,
            app_hash: AppHash::try_from(app_hash.to_vec())?,
            last_results_hash: Some(nothing),
            evidence_hash: Some(nothing),
            proposer_address: self.address,
        };
        let hash = header.hash();
        let block_id = Id { hash, part_set_header: parts::Header::new(1, hash)? };
        let vote = Vote {
            vote_type: Type::Precommit,
            height: header.height,
            round: Round::default(),
            block_id: Some(block_id),
            timestamp: Some(time),
            validator_address: self.address,
            validator_index: ValidatorIndex::try_from(0_u32)?,
            signature: None,
            extension: Vec::new(),
            extension_signature: None,
        };
        let vote = CanonicalVote::new(vote, self.chain.clone());
        let vote = Protobuf::<RawVote>::encode_length_delimited_vec(vote);
        let signature = self.key.sign(&vote);
        let commit = Commit {
            height: header.height,
            round: Round::default(),
            block_id,
            signatures: vec![CommitSig::BlockIdFlagCommit {
                validator_address: self.address,
                timestamp: time,
                signature: Signature::new(signature.as_ref())?,
            }],
        };
        self.last = Some(block_id);
        let raw = RawHeader {
            signed_header: Some(SignedHeader::new(header, commit)?.into()),
            validator_set: Some(self.validators.clone().into()),
            trusted_height: Some(Height { revision_number: 0, revision_height: self.height - 1 }),
            trusted_validators: Some(self.validators.clone().into()),
        };
        Ok(raw.encode_to_vec())
    }
}

/// What a client knows of a chain.
pub(super) struct Client {
    chain: tendermint::chain::Id,
    time: Time,
    height: u64,
    next: Hash,
    pub(super) app_hash: Vec<u8>,
}

/// The signature of one vote, by the same code that made it.
#[derive(Clone, Copy, Default)]
struct AwsLc;

impl Verify for AwsLc {
    fn verify(key: PublicKey, message: &[u8], signature: &Signature) -> Result<(), Unsigned> {
        let key = UnparsedPublicKey::new(&ED25519, key.to_bytes());
        key.verify(message, signature.as_bytes()).map_err(|_| Unsigned::VerificationFailed)
    }
}

type Calculator = ProvidedVotingPowerCalculator<AwsLc>;

impl Client {
    /// One that begins before the first header of a chain.
    pub(super) fn of(signer: &Signer) -> Self {
        let (time, next) = (Time::unix_epoch(), signer.hash);
        Self { chain: signer.chain.clone(), time, height: 0, next, app_hash: Vec::new() }
    }

    pub(super) fn update(&mut self, header: &[u8]) -> Result<()> {
        let raw = RawHeader::decode(header)?;
        let signed = SignedHeader::try_from(raw.signed_header.ok_or("no header")?)?;
        let validators = validator::Set::try_from(raw.validator_set.ok_or("no validators")?)?;
        let trusted = validator::Set::try_from(raw.trusted_validators.ok_or("none trusted")?)?;
        if self.height == 0 {
            // As with a client that is made with this header's state.
            self.time = signed.header.time;
        } else {
            let verifier: PredicateVerifier<_, _, _> =
                PredicateVerifier::new(ProdPredicates, Calculator::default(), ProdCommitValidator);
            let untrusted = UntrustedBlockState {
                signed_header: &signed,
                validators: &validators,
                next_validators: None,
            };
            let known = TrustedBlockState {
                chain_id: &self.chain,
                header_time: self.time,
                height: self.height.try_into()?,
                next_validators: &trusted,
                next_validators_hash: self.next,
            };
            let options = Options {
                trust_threshold: TrustThreshold::ONE_THIRD,
                trusting_period: Duration::from_secs(14 * 86_400),
                clock_drift: Duration::from_secs(30),
            };
            match verifier.verify_update_header(untrusted, known, &options, Time::now()) {
                Verdict::Success => {}
                other => return Err(format!("a header was not believed: {other:?}").into()),
            }
        }
        self.height = signed.header.height.value();
        self.time = signed.header.time;
        self.next = signed.header.next_validators_hash;
        self.app_hash = signed.header.app_hash.as_bytes().to_vec();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_believed_and_a_forged_one_is_not() {
        let mut signer = Signer::new().expect("there is randomness");
        let mut client = Client::of(&signer);
        for n in 0..3 {
            client.update(&signer.next([n; 32]).expect("it is made")).expect("it is believed");
            assert_eq!(client.app_hash, [n; 32]);
        }
        let mut other = Signer::new().expect("there is randomness");
        (other.height, other.last) = (signer.height, signer.last);
        let forged = other.next([9; 32]).expect("it is made");
        assert!(client.update(&forged).is_err());
    }
}
