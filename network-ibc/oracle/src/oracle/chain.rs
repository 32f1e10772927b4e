//! The store of ibc-core, which holds the values as bytes under the keys that ibc-core gives
//! them.

use super::*;

#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) store: BTreeMap<String, Vec<u8>>,
    /// When and at which height the client took a header. No part of ICS-024.
    pub(super) meta: BTreeMap<(String, Height), (Timestamp, Height)>,
    pub(crate) counters: Counters,
    /// What the keys had before, in the order of the writes.
    pub(super) journal: Vec<(String, Option<Vec<u8>>)>,
    pub(super) time: Timestamp,
    pub(super) height: Height,
}

impl Default for Chain {
    fn default() -> Self {
        Self {
            store: BTreeMap::new(),
            meta: BTreeMap::new(),
            counters: Counters::default(),
            journal: Vec::new(),
            time: Timestamp::from_nanoseconds(0),
            height: Height::min(0),
        }
    }
}

impl Chain {
    fn get(&self, path: &impl ToString) -> Result<&Vec<u8>, HostError> {
        let key = path.to_string();
        self.store.get(&key).ok_or_else(|| HostError::missing_state(key))
    }

    fn set(&mut self, path: &impl ToString, value: Option<Vec<u8>>) {
        let key = path.to_string();
        let before = match value {
            Some(value) => self.store.insert(key.clone(), value),
            None => self.store.remove(&key),
        };
        self.journal.push((key, before));
    }

    fn sequence(&self, path: &impl ToString) -> Result<Sequence, HostError> {
        let bytes = self.get(path)?.as_slice().try_into();
        Ok(u64::from_be_bytes(bytes.map_err(|_| HostError::invalid_state("a sequence"))?).into())
    }

    fn set_sequence(&mut self, path: &impl ToString, sequence: Sequence) {
        self.set(path, Some(sequence.value().to_be_bytes().to_vec()));
    }
}

fn encoded<T: Into<Any>>(state: T) -> Vec<u8> {
    state.into().encode_to_vec()
}

fn decoded<T: TryFrom<Any>>(bytes: &[u8]) -> Result<T, HostError> {
    let any = Any::decode(bytes).map_err(HostError::invalid_state)?;
    T::try_from(any).map_err(|_| HostError::invalid_state("a state of a client"))
}

impl ValidationContext for Chain {
    type V = Self;
    type HostClientState = StandIn;
    type HostConsensusState = StandConsensus;

    fn get_client_validation_context(&self) -> &Self {
        self
    }

    fn host_height(&self) -> Result<Height, HostError> {
        Ok(self.height)
    }

    fn host_timestamp(&self) -> Result<Timestamp, HostError> {
        Ok(self.time)
    }

    fn host_consensus_state(&self, _height: &Height) -> Result<StandConsensus, HostError> {
        Ok(StandConsensus::new(own_consensus()))
    }

    fn client_counter(&self) -> Result<u64, HostError> {
        Ok(self.counters.clients)
    }

    fn connection_end(&self, id: &ConnectionId) -> Result<ConnectionEnd, HostError> {
        let bytes = self.get(&ConnectionPath::new(id))?;
        ConnectionEnd::decode_vec(bytes).map_err(HostError::invalid_state)
    }

    fn validate_self_client(&self, _state: StandIn) -> Result<(), HostError> {
        Ok(())
    }

    fn commitment_prefix(&self) -> CommitmentPrefix {
        CommitmentPrefix::from_bytes(b"ibc")
    }

    fn connection_counter(&self) -> Result<u64, HostError> {
        Ok(self.counters.connections)
    }

    fn channel_end(&self, path: &ChannelEndPath) -> Result<ChannelEnd, HostError> {
        ChannelEnd::decode_vec(self.get(path)?).map_err(HostError::invalid_state)
    }

    fn get_next_sequence_send(&self, path: &SeqSendPath) -> Result<Sequence, HostError> {
        self.sequence(path)
    }

    fn get_next_sequence_recv(&self, path: &SeqRecvPath) -> Result<Sequence, HostError> {
        self.sequence(path)
    }

    fn get_next_sequence_ack(&self, path: &SeqAckPath) -> Result<Sequence, HostError> {
        self.sequence(path)
    }

    fn get_packet_commitment(&self, path: &CommitmentPath) -> Result<PacketCommitment, HostError> {
        Ok(self.get(path)?.clone().into())
    }

    fn get_packet_receipt(&self, path: &ReceiptPath) -> Result<Receipt, HostError> {
        Ok(if self.get(path).is_ok() { Receipt::Ok } else { Receipt::None })
    }

    fn get_packet_acknowledgement(
        &self,
        path: &AckPath,
    ) -> Result<AcknowledgementCommitment, HostError> {
        Ok(self.get(path)?.clone().into())
    }

    fn channel_counter(&self) -> Result<u64, HostError> {
        Ok(self.counters.channels)
    }

    fn max_expected_time_per_block(&self) -> Duration {
        // As the engine and ibc-go have it.
        Duration::from_secs(30)
    }

    fn validate_message_signer(&self, _signer: &Signer) -> Result<(), HostError> {
        Ok(())
    }
}

impl ExecutionContext for Chain {
    type E = Self;

    fn get_client_execution_context(&mut self) -> &mut Self {
        self
    }

    fn increase_client_counter(&mut self) -> Result<(), HostError> {
        self.counters.clients += 1;
        Ok(())
    }

    fn store_connection(
        &mut self,
        path: &ConnectionPath,
        end: ConnectionEnd,
    ) -> Result<(), HostError> {
        self.set(path, Some(end.encode_vec()));
        Ok(())
    }

    /// A list for queries, which nobody proves: the engine keeps none.
    fn store_connection_to_client(
        &mut self,
        _path: &ClientConnectionPath,
        _connection: ConnectionId,
    ) -> Result<(), HostError> {
        Ok(())
    }

    fn increase_connection_counter(&mut self) -> Result<(), HostError> {
        self.counters.connections += 1;
        Ok(())
    }

    fn store_packet_commitment(
        &mut self,
        path: &CommitmentPath,
        commitment: PacketCommitment,
    ) -> Result<(), HostError> {
        self.set(path, Some(commitment.into_vec()));
        Ok(())
    }

    fn delete_packet_commitment(&mut self, path: &CommitmentPath) -> Result<(), HostError> {
        self.set(path, None);
        Ok(())
    }

    fn store_packet_receipt(&mut self, path: &ReceiptPath, _: Receipt) -> Result<(), HostError> {
        self.set(path, Some(vec![1]));
        Ok(())
    }

    fn store_packet_acknowledgement(
        &mut self,
        path: &AckPath,
        commitment: AcknowledgementCommitment,
    ) -> Result<(), HostError> {
        self.set(path, Some(commitment.into_vec()));
        Ok(())
    }

    fn delete_packet_acknowledgement(&mut self, path: &AckPath) -> Result<(), HostError> {
        self.set(path, None);
        Ok(())
    }

    fn store_channel(&mut self, path: &ChannelEndPath, end: ChannelEnd) -> Result<(), HostError> {
        self.set(path, Some(end.encode_vec()));
        Ok(())
    }

    fn store_next_sequence_send(
        &mut self,
        path: &SeqSendPath,
        sequence: Sequence,
    ) -> Result<(), HostError> {
        self.set_sequence(path, sequence);
        Ok(())
    }

    fn store_next_sequence_recv(
        &mut self,
        path: &SeqRecvPath,
        sequence: Sequence,
    ) -> Result<(), HostError> {
        self.set_sequence(path, sequence);
        Ok(())
    }

    fn store_next_sequence_ack(
        &mut self,
        path: &SeqAckPath,
        sequence: Sequence,
    ) -> Result<(), HostError> {
        self.set_sequence(path, sequence);
        Ok(())
    }

    fn increase_channel_counter(&mut self) -> Result<(), HostError> {
        self.counters.channels += 1;
        Ok(())
    }

    fn emit_ibc_event(&mut self, _event: IbcEvent) -> Result<(), HostError> {
        Ok(())
    }

    fn log_message(&mut self, _message: String) -> Result<(), HostError> {
        Ok(())
    }
}

impl ClientValidationContext for Chain {
    type ClientStateRef = StandIn;
    type ConsensusStateRef = StandConsensus;

    fn client_state(&self, client: &ClientId) -> Result<StandIn, HostError> {
        decoded(self.get(&ClientStatePath::new(client.clone()))?)
    }

    fn consensus_state(
        &self,
        path: &ClientConsensusStatePath,
    ) -> Result<StandConsensus, HostError> {
        decoded(self.get(path)?)
    }

    fn client_update_meta(
        &self,
        client: &ClientId,
        height: &Height,
    ) -> Result<(Timestamp, Height), HostError> {
        let meta = self.meta.get(&(client.to_string(), *height)).copied();
        meta.ok_or_else(|| HostError::missing_state("when the client was updated"))
    }
}

impl ClientExecutionContext for Chain {
    type ClientStateMut = StandIn;

    fn store_client_state(
        &mut self,
        path: ClientStatePath,
        state: StandIn,
    ) -> Result<(), HostError> {
        self.set(&path, Some(encoded(state)));
        Ok(())
    }

    fn store_consensus_state(
        &mut self,
        path: ClientConsensusStatePath,
        state: StandConsensus,
    ) -> Result<(), HostError> {
        self.set(&path, Some(encoded(state)));
        Ok(())
    }

    fn delete_consensus_state(&mut self, path: ClientConsensusStatePath) -> Result<(), HostError> {
        self.set(&path, None);
        Ok(())
    }

    fn store_update_meta(
        &mut self,
        client: ClientId,
        height: Height,
        time: Timestamp,
        host: Height,
    ) -> Result<(), HostError> {
        self.meta.insert((client.to_string(), height), (time, host));
        Ok(())
    }

    fn delete_update_meta(&mut self, client: ClientId, height: Height) -> Result<(), HostError> {
        self.meta.remove(&(client.to_string(), height));
        Ok(())
    }
}
