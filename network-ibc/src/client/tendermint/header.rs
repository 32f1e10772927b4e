//! Headers, evidence of misbehaviour, and whether to believe them.

use std::time::Duration;

use bytes::Bytes;
use ibc_proto::{google::protobuf::Any, ibc::lightclients::tendermint::v1 as raw};
use tendermint::{Hash, block::signed_header::SignedHeader, chain, validator};
use tendermint_light_client_verifier::{
    PredicateVerifier, Verdict, Verifier as _,
    errors::VerificationError,
    operations::{ProdCommitValidator, ProvidedVotingPowerCalculator},
    options::Options,
    predicates::{ProdPredicates, VerificationPredicates},
    types::{TrustedBlockState, UntrustedBlockState},
};

use super::{
    super::{ClientError, ClientStore, ed25519::Ed25519, error::excerpt, read},
    state::{self, Client, Consensus, MAX_NUMBER},
};
use crate::{
    height::{At, Height, Timestamp},
    identifier::ClientId,
};

/// How many bytes a header may have: above that of 512 validators (about 290 bytes each, with
/// their signature, in both sets).
const MAX_HEADER: usize = 256 * 1024;
/// How many validators a set may have. The largest chains have some 200. A header of 512 strangers,
/// who all have signed, costs 8 ms before it is refused.
const MAX_VALIDATORS: usize = 512;
/// How many bytes a header's app hash may have. The SDK's have 32.
const MAX_APP_HASH: usize = 64;

type Calculator = ProvidedVotingPowerCalculator<Ed25519>;
type Verifier = PredicateVerifier<ProdPredicates, Calculator, ProdCommitValidator>;

/// A header, in reach of a client's trusted state.
pub(super) struct Header {
    pub(super) height: Height,
    time: Timestamp,
    signed: SignedHeader,
    validators: validator::Set,
    trusted_height: Height,
    trusted_validators: validator::Set,
}

impl Header {
    /// Reads a header, and checks what can be checked without the client (ibc-go, `header.go`,
    /// `ValidateBasic`).
    pub(super) fn read(client: &ClientId, message: &Any) -> Result<Self, ClientError> {
        let raw = read::message("07-tendermint header", message, MAX_HEADER)?;
        Self::from_raw(client, raw)
    }

    fn from_raw(client: &ClientId, raw: raw::Header) -> Result<Self, ClientError> {
        const WHAT: &str = "07-tendermint header";
        let signed = raw.signed_header.ok_or_else(|| read::missing(WHAT, "signed header"))?;
        let validators = raw.validator_set.ok_or_else(|| read::missing(WHAT, "validators"))?;
        let trusted =
            raw.trusted_validators.ok_or_else(|| read::missing(WHAT, "trusted validators"))?;
        let votes = signed.commit.as_ref().map_or(0, |commit| commit.signatures.len());
        let most = votes.max(validators.validators.len()).max(trusted.validators.len());
        if most > MAX_VALIDATORS {
            let reason = format!("it has {most} validators, and may have {MAX_VALIDATORS}");
            return Err(ClientError::Malformed { what: WHAT, reason });
        }

        let signed =
            SignedHeader::try_from(signed).map_err(|error| read::malformed(WHAT, &error))?;
        let validators =
            validator::Set::try_from(validators).map_err(|error| read::malformed(WHAT, &error))?;
        let trusted_validators =
            validator::Set::try_from(trusted).map_err(|error| read::malformed(WHAT, &error))?;
        let revision = state::revision(signed.header.chain_id.as_str())
            .ok_or_else(|| read::malformed(WHAT, &"the revision in its chain id is above 2^64"))?;
        let header = Self {
            height: Height::new(revision, signed.header.height.value()),
            time: read::timestamp_of(signed.header.time)
                .ok_or_else(|| read::malformed(WHAT, &"its time is before 1970 or after 2554"))?,
            signed,
            validators,
            trusted_height: read::height(raw.trusted_height),
            trusted_validators,
        };
        if header.signed.header.app_hash.as_bytes().len() > MAX_APP_HASH {
            return Err(read::malformed(WHAT, &"its app hash has more than 64 bytes"));
        }
        if header.height.number > MAX_NUMBER {
            return Err(read::malformed(WHAT, &"its height does not fit in 63 bits"));
        }
        if !matches!(header.signed.header.next_validators_hash, Hash::Sha256(_)) {
            return Err(read::missing(WHAT, "hash of the next validators"));
        }
        if header.trusted_height >= header.height {
            let trusted = header.trusted_height;
            return Err(header.refused(
                client,
                &format_args!(
                    "it builds on the trusted height {trusted}, which must be below its own"
                ),
            ));
        }
        Ok(header)
    }

    /// Checks that the client should believe the header (ibc-go, `update.go`, `verifyHeader`).
    pub(super) fn verify(
        &self,
        store: &dyn ClientStore,
        client: &Client,
        at: At,
    ) -> Result<(), ClientError> {
        let refused = |reason: &dyn std::fmt::Display| self.refused(store.client(), reason);
        let trusted = self.trusted(store)?;
        if self.height.revision != self.trusted_height.revision {
            return Err(refused(&"its revision is not that of the trusted height"));
        }
        let (options, chain_id) = self.rules(store.client(), client)?;
        let Some(now) = read::time_of(at.time) else { return Err(refused(&"no time is known")) };
        let untrusted = UntrustedBlockState {
            signed_header: &self.signed,
            validators: &self.validators,
            next_validators: None,
        };
        let Some(trusted) = self.trusted_block(&trusted, &chain_id) else {
            return Err(refused(&"what it builds on is no block"));
        };
        match verifier().verify_update_header(untrusted, trusted, &options, now) {
            Verdict::Success => Ok(()),
            Verdict::NotEnoughTrust(tally) => Err(refused(&format_args!(
                "too few of the trusted validators signed it ({} of {} of the power): relay a \
                 header between it and the trusted height first",
                tally.tallied, tally.total
            ))),
            Verdict::Invalid(error) => Err(refused(&error)),
        }
    }

    /// Checks that validators whom the client trusts signed the header. Unlike [`verify`], it may
    /// be a header of any time (ibc-go, `misbehaviour_handle.go`, `checkMisbehaviourHeader`, and
    /// `misbehaviour.go`, `validCommit`).
    ///
    /// [`verify`]: Self::verify
    fn verify_as_evidence(
        &self,
        store: &dyn ClientStore,
        client: &Client,
        at: At,
    ) -> Result<(), ClientError> {
        let refused = |reason: &dyn std::fmt::Display| self.refused(store.client(), reason);
        let trusted = self.trusted(store)?;
        if client.expires(trusted.time()) <= at.time {
            return Err(refused(&"the trusted height it builds on has expired"));
        }
        let (options, chain_id) = self.rules(store.client(), client)?;
        let untrusted = UntrustedBlockState {
            signed_header: &self.signed,
            validators: &self.validators,
            next_validators: None,
        };
        match verifier().verify_validator_sets(&untrusted) {
            Verdict::Success => {}
            Verdict::NotEnoughTrust(tally) => return Err(refused(&tally)),
            Verdict::Invalid(error) => return Err(refused(&error)),
        }
        let predicates = ProdPredicates;
        predicates
            .is_matching_chain_id(&self.signed.header.chain_id, &chain_id)
            .map_err(|VerificationError(error, _)| refused(&error))?;
        predicates
            .has_sufficient_validators_and_signers_overlap(
                &self.signed,
                &self.trusted_validators,
                &options.trust_threshold,
                &self.validators,
                &Calculator::default(),
            )
            .map_err(|VerificationError(error, _)| refused(&error))
    }

    /// What the client knows of the trusted height. The trusted validators are its next ones
    /// (ibc-go, `update.go`, `checkTrustedHeader`).
    fn trusted(&self, store: &dyn ClientStore) -> Result<Consensus, ClientError> {
        let Some(trusted) = state::consensus(store, self.trusted_height)? else {
            return Err(self.refused(
                store.client(),
                &format_args!(
                    "it builds on the height {}, which is not known, or no longer: let it build \
                     on one that is",
                    self.trusted_height
                ),
            ));
        };
        if self.trusted_validators.hash().as_bytes() != trusted.next_validators_hash {
            return Err(self.refused(
                store.client(),
                &"its trusted validators are not the next validators of the trusted height",
            ));
        }
        Ok(trusted)
    }

    fn trusted_block<'a>(
        &'a self,
        trusted: &Consensus,
        chain_id: &'a chain::Id,
    ) -> Option<TrustedBlockState<'a>> {
        Some(TrustedBlockState {
            chain_id,
            header_time: read::time_of(trusted.time())?,
            // It is below the header's own, so that the verifier can count on from it.
            height: self.trusted_height.number.try_into().ok()?,
            next_validators: &self.trusted_validators,
            next_validators_hash: Hash::try_from(trusted.next_validators_hash.to_vec()).ok()?,
        })
    }

    fn rules(&self, id: &ClientId, client: &Client) -> Result<(Options, chain::Id), ClientError> {
        let level = client.trust_level();
        let chain_id = chain::Id::try_from(client.chain_id.as_str());
        let (Some(trust_threshold), Ok(chain_id)) = (level, chain_id) else {
            return Err(self.refused(id, &"the client's own state cannot be used"));
        };
        // The verifier multiplies powers without looking (ibc-go refuses for the same reason in
        // CometBFT's VerifyCommitLightTrusting).
        for set in [&self.validators, &self.trusted_validators] {
            let power = set.total_voting_power().value();
            if power.checked_mul(trust_threshold.denominator().max(3)).is_none() {
                return Err(self.refused(
                    id,
                    &"the validators have too much power for the client's trust level: create a \
                      client whose level has smaller terms",
                ));
            }
        }
        let options = Options {
            trust_threshold,
            trusting_period: Duration::from_nanos(client.trusting_period),
            clock_drift: Duration::from_nanos(client.max_clock_drift),
        };
        Ok((options, chain_id))
    }

    pub(super) fn consensus(&self, at: At) -> Consensus {
        let header = &self.signed.header;
        Consensus::new(
            self.time,
            Bytes::copy_from_slice(header.app_hash.as_bytes()),
            Bytes::copy_from_slice(header.next_validators_hash.as_bytes()),
            at,
        )
    }

    fn refused(&self, client: &ClientId, reason: &dyn std::fmt::Display) -> ClientError {
        ClientError::Header {
            client: client.clone(),
            height: self.height,
            reason: excerpt(&reason.to_string()),
        }
    }
}

/// Two headers that should not both be.
pub(super) struct Evidence {
    one: Header,
    two: Header,
}

impl Evidence {
    /// Reads evidence (ibc-go, `misbehaviour.go`, `ValidateBasic`).
    pub(super) fn read(client: &ClientId, message: &Any) -> Result<Self, ClientError> {
        const WHAT: &str = "07-tendermint evidence of misbehaviour";
        let raw: raw::Misbehaviour = read::message(WHAT, message, 2 * MAX_HEADER)?;
        let one = raw.header_1.ok_or_else(|| read::missing(WHAT, "first header"))?;
        let two = raw.header_2.ok_or_else(|| read::missing(WHAT, "second header"))?;
        let one = Header::from_raw(client, one)?;
        let two = Header::from_raw(client, two)?;
        let refused = |reason: &str| ClientError::Evidence {
            client: client.clone(),
            reason: reason.to_owned(),
        };
        if one.trusted_height.number == 0 || two.trusted_height.number == 0 {
            return Err(refused("one of its headers builds on no height"));
        }
        if one.signed.header.chain_id != two.signed.header.chain_id {
            return Err(refused("its headers are of two chains"));
        }
        if one.height < two.height {
            return Err(refused("its first header is below the second: exchange them"));
        }
        Ok(Self { one, two })
    }

    /// Checks that the client would have believed each header on its own (ibc-go,
    /// `misbehaviour_handle.go`, `verifyMisbehaviour`).
    pub(super) fn verify(
        &self,
        store: &dyn ClientStore,
        client: &Client,
        at: At,
    ) -> Result<(), ClientError> {
        self.one.verify_as_evidence(store, client, at)?;
        self.two.verify_as_evidence(store, client, at)
    }

    /// Whether the headers exclude each other: two blocks at one height, or time that does not
    /// pass from the lower to the higher (ibc-go, `misbehaviour_handle.go`,
    /// `CheckForMisbehaviour`).
    pub(super) fn proves_misbehaviour(&self) -> bool {
        if self.one.height == self.two.height {
            return self.one.signed.commit.block_id.hash != self.two.signed.commit.block_id.hash;
        }
        self.one.time <= self.two.time
    }
}

fn verifier() -> Verifier {
    Verifier::new(ProdPredicates, Calculator::default(), ProdCommitValidator)
}
