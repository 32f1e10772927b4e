//! Messages of connections, and what the other side says that it has stored.

use super::*;

impl World {
    pub(super) fn counterparty(&mut self, connection_id: String) -> Counterparty {
        let prefix: &[u8] = match self.random.below(40) {
            0 => b"",
            1..5 => b"elsewhere",
            _ => b"ibc",
        };
        Counterparty {
            client_id: self.far_client(),
            connection_id,
            prefix: Some(MerklePrefix { key_prefix: prefix.to_vec() }).filter(|_| !self.chance(10)),
        }
    }

    pub(super) fn version(&mut self) -> Version {
        match self.random.below(30) {
            0 => version(&[]),
            1 => version(&["ORDER_ORDERED", ""]),
            2 => version(&["ORDER_ORDERED", "ORDER_DAG"]),
            3 => Version { identifier: "2".to_owned(), ..version(&["ORDER_ORDERED"]) },
            4 => Version { identifier: " ".to_owned(), ..version(&["ORDER_ORDERED"]) },
            5..8 => version(&["ORDER_ORDERED"]),
            8..11 => version(&["ORDER_UNORDERED"]),
            11..13 => version(&["ORDER_UNORDERED", "ORDER_ORDERED"]),
            _ => version(&["ORDER_ORDERED", "ORDER_UNORDERED"]),
        }
    }

    pub(super) fn delay(&mut self) -> u64 {
        self.random.one(&[0, 0, 0, 0, SECOND, 31 * SECOND, 60 * SECOND]).copied().unwrap_or(0)
    }

    /// What the other side has stored of a connection, which is not always what it should be.
    pub(super) fn told_connection(&mut self, mut end: ConnectionEnd) -> Vec<u8> {
        if self.chance(60) {
            let counterparty = end.counterparty.get_or_insert_default();
            match self.random.below(8) {
                0 => end.state = 1 + i32::from(end.state == 1),
                1 => end.client_id.push('0'),
                2 => counterparty.client_id.push('0'),
                3 => counterparty.connection_id.push('0'),
                4 => counterparty.prefix = Some(MerklePrefix { key_prefix: b"ibc2".to_vec() }),
                5 => end.versions.push(version(&["ORDER_ORDERED"])),
                6 => end.versions.clear(),
                _ => end.delay_period += 1,
            }
        }
        end.encode_to_vec()
    }

    pub(super) fn connection_open_init(&mut self) -> Any {
        let begun = if self.chance(30) { self.far_connection() } else { String::new() };
        pack(&MsgConnectionOpenInit {
            client_id: self.client(),
            counterparty: Some(self.counterparty(begun)).filter(|_| !self.chance(10)),
            version: if self.chance(600) { None } else { Some(self.version()) },
            delay_period: self.delay(),
            signer: "relayer".to_owned(),
        })
    }

    #[expect(deprecated, reason = "the field has to be empty, and once is not")]
    pub(super) fn connection_open_try(&mut self, store: &Memory) -> Any {
        let client_id = self.client();
        let name = self.far_connection();
        let counterparty = self.counterparty(name);
        let delay_period = self.delay();
        let counterparty_versions: Vec<Version> =
            (0..self.random.within(1, 3)).map(|_| self.version()).collect();
        let told = ConnectionEnd {
            client_id: counterparty.client_id.clone(),
            versions: counterparty_versions.clone(),
            state: connection::State::Init as i32,
            counterparty: Some(Counterparty {
                client_id: client_id.clone(),
                connection_id: String::new(),
                prefix: Some(MerklePrefix { key_prefix: b"ibc".to_vec() }),
            }),
            delay_period,
        };
        let told = self.told_connection(told);
        let height = self.proof_height(store, &client_id);
        let prefix = counterparty.prefix.clone().unwrap_or_default().key_prefix;
        let path = format!("connections/{}", counterparty.connection_id);
        let proof_init = self.prove(store, &client_id, height, &prefix, &path, Some(&told));
        let own = self.own(store, &client_id, height, &prefix, &counterparty.client_id);
        pack(&MsgConnectionOpenTry {
            client_id,
            previous_connection_id: if self.chance(20) { "connection-0" } else { "" }.to_owned(),
            client_state: Some(own.state),
            counterparty: Some(counterparty).filter(|_| !self.chance(10)),
            delay_period,
            counterparty_versions,
            proof_height: Some(proto(height)),
            proof_init,
            proof_client: own.proof_state,
            proof_consensus: own.proof_consensus,
            consensus_height: Some(own.height),
            signer: "relayer".to_owned(),
            host_consensus_state_proof: Vec::new(),
        })
    }

    pub(super) fn connection_open_ack(&mut self, store: &Memory) -> Any {
        let connection_id = self.connection(store, connection::State::Init);
        let stored = end(store, &connection_id).unwrap_or_default();
        let far = stored.counterparty.clone().unwrap_or_default();
        let counterparty_connection_id = self.far_connection();
        let version = match stored.versions.first() {
            Some(version) if self.chance(750) => version.clone(),
            _ => self.version(),
        };
        let told = ConnectionEnd {
            client_id: far.client_id.clone(),
            versions: vec![version.clone()],
            state: connection::State::Tryopen as i32,
            counterparty: Some(Counterparty {
                client_id: stored.client_id.clone(),
                connection_id: connection_id.clone(),
                prefix: Some(MerklePrefix { key_prefix: b"ibc".to_vec() }),
            }),
            delay_period: stored.delay_period,
        };
        let told = self.told_connection(told);
        let height = self.proof_height(store, &stored.client_id);
        let prefix = far.prefix.unwrap_or_default().key_prefix;
        let path = format!("connections/{counterparty_connection_id}");
        let proof_try = self.prove(store, &stored.client_id, height, &prefix, &path, Some(&told));
        let own = self.own(store, &stored.client_id, height, &prefix, &far.client_id);
        pack(&MsgConnectionOpenAck {
            connection_id,
            counterparty_connection_id,
            version: Some(version).filter(|_| !self.chance(10)),
            client_state: Some(own.state),
            proof_height: Some(proto(height)),
            proof_try,
            proof_client: own.proof_state,
            proof_consensus: own.proof_consensus,
            consensus_height: Some(own.height),
            signer: "relayer".to_owned(),
            host_consensus_state_proof: Vec::new(),
        })
    }

    /// What ibc-core asks besides: that the other side knows this one as it is. Always granted,
    /// as nobody else looks at it.
    pub(super) fn own(
        &self,
        store: &Memory,
        client: &str,
        height: RawHeight,
        prefix: &[u8],
        far_client: &str,
    ) -> Own {
        let root = consensus(store, client, height).map_or(7, |known| known.root);
        let state = any(KIND, State { latest: (1, 1), trusting: 1, frozen: false }.write());
        let consensus = any(stand::CONSENSUS, own_consensus().write());
        let proof = |path: &str, value: &Any| {
            stand::proof(root, prefix, path, Some(&value.encode_to_vec()))
        };
        Own {
            proof_state: proof(&format!("clients/{far_client}/clientState"), &state),
            proof_consensus: proof(
                &format!("clients/{far_client}/consensusStates/1-1"),
                &consensus,
            ),
            state,
            height: proto((1, 1)),
        }
    }

    pub(super) fn connection_open_confirm(&mut self, store: &Memory) -> Any {
        let connection_id = self.connection(store, connection::State::Tryopen);
        let stored = end(store, &connection_id).unwrap_or_default();
        let far = stored.counterparty.clone().unwrap_or_default();
        let told = ConnectionEnd {
            client_id: far.client_id.clone(),
            versions: stored.versions.clone(),
            state: connection::State::Open as i32,
            counterparty: Some(Counterparty {
                client_id: stored.client_id.clone(),
                connection_id: connection_id.clone(),
                prefix: Some(MerklePrefix { key_prefix: b"ibc".to_vec() }),
            }),
            delay_period: stored.delay_period,
        };
        let told = self.told_connection(told);
        let height = self.proof_height(store, &stored.client_id);
        let prefix = far.prefix.unwrap_or_default().key_prefix;
        let path = format!("connections/{}", far.connection_id);
        let proof_ack = self.prove(store, &stored.client_id, height, &prefix, &path, Some(&told));
        pack(&MsgConnectionOpenConfirm {
            connection_id,
            proof_ack,
            proof_height: Some(proto(height)),
            signer: "relayer".to_owned(),
        })
    }
}

/// What ibc-core asks for in a handshake of connections.
pub(super) struct Own {
    state: Any,
    proof_state: Vec<u8>,
    proof_consensus: Vec<u8>,
    height: ProtoHeight,
}
