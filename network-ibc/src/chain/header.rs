//! Headers of a chain for clients of it, made of what its node says.

use futures_util::{FutureExt as _, try_join};
use ibc_proto::{
    google::protobuf::Any,
    ibc::{
        core::{client::v1::Height as RawHeight, commitment::v1::MerkleRoot},
        lightclients::tendermint::v1::{ConsensusState, Header},
    },
};
use prost::{Message as _, Name as _};
use tendermint::{Hash, validator};
use tendermint_proto::v0_38::types::{SignedHeader, Validator, ValidatorSet};

use super::{RpcError, rpc::Rpc};
use crate::{
    height::Height,
    ledger::{self, Trust},
};

/// How many validators are asked for at once: no node gives more.
const PAGE: u64 = 100;
/// How many validators a chain may have. Clients here take no more than 512.
const MAX_VALIDATORS: u64 = 512;

impl Rpc {
    /// The header of a block, for a client that knows an earlier block of the chain. `kept`: who
    /// validates the block after that one, for a node that has forgotten it.
    pub(crate) async fn header(
        &self,
        height: u64,
        trusted: Height,
        kept: Option<&ValidatorSet>,
    ) -> Result<Header, RpcError> {
        const METHOD: &str = "commit";
        let next = trusted.number.checked_add(1);
        let next =
            next.ok_or_else(|| self.unexpected(METHOD, "no block follows the trusted one"))?;
        // Who signs the next block is what a client knows of a block.
        let trusted_validators = async {
            match self.validator_set(next).await {
                Err(error) if error.is_forgotten() => kept.cloned().ok_or(error),
                asked => asked,
            }
        };
        // Boxed: the futures hold what the node answers.
        let (signed, validators, trusted_validators) = try_join!(
            self.signed(height).boxed(),
            self.validator_set(height).boxed(),
            trusted_validators.boxed(),
        )?;
        let header = signed.header.as_ref();
        let header = header.ok_or_else(|| self.unexpected(METHOD, "it has no header"))?;
        if header.validators_hash != hash(self, &validators)?.as_bytes() {
            return Err(self.unexpected(METHOD, "its validators are others"));
        }
        let proposer = &header.proposer_address;
        Ok(Header {
            validator_set: Some(led_by(validators, proposer)),
            trusted_validators: Some(led_by(trusted_validators, proposer)),
            trusted_height: Some(RawHeight::from(trusted)),
            signed_header: Some(signed),
        })
    }

    /// Who validates the block after that of a header, unless those are `known`.
    pub(crate) async fn next_validators(
        &self,
        header: &Header,
        known: Option<&ValidatorSet>,
    ) -> Result<Option<ValidatorSet>, RpcError> {
        let of = header.signed_header.as_ref().and_then(|signed| signed.header.as_ref());
        let of = of.ok_or_else(|| self.unexpected("commit", "it has no header"))?;
        let is = |set: &ValidatorSet| {
            Ok::<_, RpcError>(of.next_validators_hash == hash(self, set)?.as_bytes())
        };
        if known.map(is).transpose()?.unwrap_or_default() {
            return Ok(None);
        }
        let next = u64::try_from(of.height).unwrap_or_default().saturating_add(1);
        let set = self.validator_set(next).await?;
        if is(&set)? {
            Ok(Some(set))
        } else {
            Err(self.unexpected("validators", "they are not those of the header before"))
        }
    }

    /// The states of a new client of the chain, which begins with a block.
    pub(crate) async fn client_of(
        &self,
        height: u64,
        trust: &Trust,
    ) -> Result<(Any, Any), RpcError> {
        let header = self.signed(height).await?.header.unwrap_or_default();
        let consensus = ConsensusState {
            timestamp: header.time,
            root: Some(MerkleRoot { hash: header.app_hash }),
            next_validators_hash: header.next_validators_hash,
        };
        let height = Height::new(ledger::revision(&header.chain_id), height);
        let consensus =
            Any { type_url: ConsensusState::type_url(), value: consensus.encode_to_vec() };
        Ok((ledger::client_state(&header.chain_id, height, trust), consensus))
    }

    /// The header of a block and who signed it.
    pub(crate) async fn signed(&self, height: u64) -> Result<SignedHeader, RpcError> {
        let signed = self.commit(height).await?.signed_header;
        let of = signed.header.as_ref().map(|header| header.height);
        if of == i64::try_from(height).ok() && signed.commit.is_some() {
            Ok(signed)
        } else {
            Err(self.unexpected("commit", "it is of another height"))
        }
    }

    async fn validator_set(&self, height: u64) -> Result<ValidatorSet, RpcError> {
        const METHOD: &str = "validators";
        let mut all: Vec<Validator> = Vec::new();
        for page in 1.. {
            let raw = self.validators(height, page, PAGE).await?;
            if raw.total > MAX_VALIDATORS {
                return Err(self.unexpected(METHOD, "they are more than 512"));
            }
            let none = raw.validators.is_empty();
            all.extend(raw.validators);
            match (all.len() as u64).cmp(&raw.total) {
                std::cmp::Ordering::Equal => break,
                std::cmp::Ordering::Less if !none => {}
                _ => return Err(self.unexpected(METHOD, "they are not as many as it says")),
            }
        }
        // Of the total, CometBFT writes nothing, and computes it.
        Ok(ValidatorSet { validators: all, proposer: None, total_voting_power: 0 })
    }
}

/// The proposer is nothing that a client looks at, but ibc-go reads no set without one.
fn led_by(mut set: ValidatorSet, proposer: &[u8]) -> ValidatorSet {
    let found = set.validators.iter().find(|validator| validator.address == proposer);
    set.proposer = found.or(set.validators.first()).cloned();
    set
}

fn hash(rpc: &Rpc, set: &ValidatorSet) -> Result<Hash, RpcError> {
    let set = validator::Set::try_from(set.clone());
    Ok(set.map_err(|error| rpc.unexpected("validators", &error.detail().to_string()))?.hash())
}
