//! The stand-in as a kind of client of ibc-core.

use super::*;

/// What ibc-core takes for this host's own consensus state at any height.
pub(crate) fn own_consensus() -> Consensus {
    Consensus { time: 1, root: 1 }
}

#[derive(Clone, Debug)]
pub(crate) struct StandIn(State);

#[derive(Clone, Debug)]
pub(crate) struct StandConsensus {
    pub(super) state: Consensus,
    root: CommitmentRoot,
}

impl StandConsensus {
    pub(super) fn new(state: Consensus) -> Self {
        Self { state, root: CommitmentRoot::from_bytes(&state.root.to_be_bytes()) }
    }
}

fn undecodable(what: &str) -> ClientError {
    ClientError::ClientSpecific { description: format!("no {what}") }
}

impl TryFrom<Any> for StandIn {
    type Error = ClientError;

    fn try_from(any: Any) -> Result<Self, ClientError> {
        let state = Some(any).filter(|any| any.type_url == KIND);
        let state = state.and_then(|any| State::read(&any.value));
        state.map(Self).ok_or_else(|| undecodable("state"))
    }
}

impl From<StandIn> for Any {
    fn from(state: StandIn) -> Self {
        Self { type_url: KIND.to_owned(), value: state.0.write() }
    }
}

impl TryFrom<Any> for StandConsensus {
    type Error = ClientError;

    fn try_from(any: Any) -> Result<Self, ClientError> {
        let state = Some(any).filter(|any| any.type_url == stand::CONSENSUS);
        let state = state.and_then(|any| Consensus::read(&any.value));
        state.map(Self::new).ok_or_else(|| undecodable("consensus state"))
    }
}

impl From<StandConsensus> for Any {
    fn from(state: StandConsensus) -> Self {
        Self { type_url: stand::CONSENSUS.to_owned(), value: state.state.write() }
    }
}

impl ConsensusState for StandConsensus {
    fn root(&self) -> &CommitmentRoot {
        &self.root
    }

    fn timestamp(&self) -> Result<Timestamp, ClientError> {
        Ok(Timestamp::from_nanoseconds(self.state.time))
    }
}

fn consensus_path(client: &ClientId, height: RawHeight) -> ClientConsensusStatePath {
    ClientConsensusStatePath::new(client.clone(), height.0, height.1)
}

fn height(raw: RawHeight) -> Result<Height, ClientError> {
    Height::new(raw.0, raw.1)
}

impl StandIn {
    fn known(chain: &Chain, client: &ClientId, height: RawHeight) -> Option<Consensus> {
        let known = chain.consensus_state(&consensus_path(client, height));
        known.ok().map(|known| known.state)
    }

    fn judge(chain: &Chain, client: &ClientId, message: &Any) -> Result<Effect, ClientError> {
        let known = |height| Self::known(chain, client, height);
        stand::judge(&message.type_url, &message.value, known).map_err(undecodable)
    }

    fn check(
        &self,
        prefix: &CommitmentPrefix,
        proof: &CommitmentProofBytes,
        root: &CommitmentRoot,
        path: &PathBytes,
        value: Option<&[u8]>,
    ) -> Result<(), ClientError> {
        let root = root.as_bytes().try_into().map(u64::from_be_bytes);
        let root = root.map_err(|_| undecodable("root"))?;
        let path = std::str::from_utf8(path.as_ref()).map_err(|_| undecodable("path"))?;
        if proof.as_ref() != stand::proof(root, prefix.as_bytes(), path, value) {
            return Err(undecodable("proof but a forged one"));
        }
        Ok(())
    }

    fn add(
        &self,
        chain: &mut Chain,
        client: &ClientId,
        new: RawHeight,
        consensus: Consensus,
    ) -> Result<(), ClientError> {
        chain.store_client_state(ClientStatePath::new(client.clone()), self.clone())?;
        chain.store_consensus_state(consensus_path(client, new), StandConsensus::new(consensus))?;
        let (time, host) = (chain.time, chain.height);
        chain.store_update_meta(client.clone(), height(new)?, time, host)?;
        Ok(())
    }
}

impl ClientStateCommon for StandIn {
    fn verify_consensus_state(
        &self,
        consensus_state: Any,
        host_timestamp: &Timestamp,
    ) -> Result<(), ClientError> {
        let first = StandConsensus::try_from(consensus_state)?.state;
        if self.0.expires(first) <= host_timestamp.nanoseconds() {
            return Err(ClientError::InvalidStatus(Status::Expired));
        }
        Ok(())
    }

    fn client_type(&self) -> ClientType {
        ClientType::from_str(KIND).expect("a type by the rules")
    }

    fn latest_height(&self) -> Height {
        height(self.0.latest).expect("its number is not 0, as its state was read")
    }

    fn validate_proof_height(&self, _height: Height) -> Result<(), ClientError> {
        Ok(())
    }

    fn verify_upgrade_client(
        &self,
        _state: Any,
        _consensus_state: Any,
        _proof_client: CommitmentProofBytes,
        _proof_consensus: CommitmentProofBytes,
        _root: &CommitmentRoot,
    ) -> Result<(), ClientError> {
        Err(undecodable("upgrade"))
    }

    fn serialize_path(&self, path: Path) -> Result<PathBytes, ClientError> {
        Ok(PathBytes::from_bytes(path.to_string()))
    }

    fn verify_membership_raw(
        &self,
        prefix: &CommitmentPrefix,
        proof: &CommitmentProofBytes,
        root: &CommitmentRoot,
        path: PathBytes,
        value: Vec<u8>,
    ) -> Result<(), ClientError> {
        self.check(prefix, proof, root, &path, Some(&value))
    }

    fn verify_non_membership_raw(
        &self,
        prefix: &CommitmentPrefix,
        proof: &CommitmentProofBytes,
        root: &CommitmentRoot,
        path: PathBytes,
    ) -> Result<(), ClientError> {
        self.check(prefix, proof, root, &path, None)
    }
}

impl ClientStateValidation<Chain> for StandIn {
    fn verify_client_message(
        &self,
        chain: &Chain,
        client: &ClientId,
        message: Any,
    ) -> Result<(), ClientError> {
        Self::judge(chain, client, &message).map(drop)
    }

    fn check_for_misbehaviour(
        &self,
        chain: &Chain,
        client: &ClientId,
        message: Any,
    ) -> Result<bool, ClientError> {
        Ok(Self::judge(chain, client, &message)? == Effect::Freeze)
    }

    fn status(&self, chain: &Chain, client: &ClientId) -> Result<Status, ClientError> {
        if self.0.frozen {
            return Ok(Status::Frozen);
        }
        // A client that is being created has no consensus state yet.
        let newest = Self::known(chain, client, self.0.latest);
        let expired = |newest| self.0.expires(newest) <= chain.time.nanoseconds();
        Ok(if newest.is_some_and(expired) { Status::Expired } else { Status::Active })
    }

    fn check_substitute(&self, _chain: &Chain, _state: Any) -> Result<(), ClientError> {
        Err(undecodable("recovery"))
    }
}

impl ClientStateExecution<Chain> for StandIn {
    fn initialise(
        &self,
        chain: &mut Chain,
        client: &ClientId,
        consensus_state: Any,
    ) -> Result<(), ClientError> {
        let first = StandConsensus::try_from(consensus_state)?.state;
        self.add(chain, client, self.0.latest, first)
    }

    fn update_state(
        &self,
        chain: &mut Chain,
        client: &ClientId,
        header: Any,
    ) -> Result<Vec<Height>, ClientError> {
        match Self::judge(chain, client, &header)? {
            Effect::New(header) => {
                let latest = self.0.latest.max(header.height);
                let newer = Self(State { latest, ..self.0 });
                newer.add(chain, client, header.height, header.consensus)?;
                Ok(vec![height(header.height)?])
            }
            Effect::Known(known) => Ok(vec![height(known)?]),
            Effect::Freeze => Err(undecodable("header")),
        }
    }

    fn update_state_on_misbehaviour(
        &self,
        chain: &mut Chain,
        client: &ClientId,
        _message: Any,
    ) -> Result<(), ClientError> {
        let frozen = Self(State { frozen: true, ..self.0 });
        chain.store_client_state(ClientStatePath::new(client.clone()), frozen)?;
        Ok(())
    }

    fn update_state_on_upgrade(
        &self,
        _chain: &mut Chain,
        _client: &ClientId,
        _state: Any,
        _consensus_state: Any,
    ) -> Result<Height, ClientError> {
        Err(undecodable("upgrade"))
    }

    fn update_on_recovery(
        &self,
        _chain: &mut Chain,
        _client: &ClientId,
        _state: Any,
        _consensus_state: Any,
    ) -> Result<(), ClientError> {
        Err(undecodable("recovery"))
    }
}
