//! Messages of clients.

use super::*;

impl World {
    pub(super) fn create_client(&mut self) -> Any {
        let latest = (self.random.within(0, 1), self.random.within(1, 40));
        let trusting = if self.chance(300) { 100 } else { 1_000_000 } * SECOND;
        let mut state = any(KIND, State { latest, trusting, frozen: self.chance(50) }.write());
        let age = if self.chance(70) { trusting } else { self.random.below(50 * SECOND) };
        let first = Consensus { time: self.time - age, root: self.random.next() >> 1 };
        let mut first = any(stand::CONSENSUS, first.write());
        match self.random.below(60) {
            0 => state.value.clear(),
            1 => first.value.clear(),
            2 => first.type_url = KIND.to_owned(),
            3 => state.type_url = "11-unknown".to_owned(),
            _ => {}
        }
        pack(&MsgCreateClient {
            client_state: Some(state).filter(|_| !self.chance(20)),
            consensus_state: Some(first).filter(|_| !self.chance(20)),
            signer: "relayer".to_owned(),
        })
    }

    pub(super) fn update_client(&mut self, store: &Memory) -> Any {
        let client_id = self.client();
        let latest = state(store, &client_id).map_or((1, 1), |state| state.latest);
        let mut height = (latest.0, latest.1 + self.random.within(1, 3));
        let mut consensus_state = Consensus {
            time: self.time - self.random.below(3 * SECOND),
            root: self.random.next() >> 1,
        };
        match self.random.below(100) {
            // As before.
            0..8 => {
                height = self.proof_height(store, &client_id);
                if let Some(known) = consensus(store, &client_id, height) {
                    consensus_state = known;
                }
            }
            // Not as before, which freezes the client.
            8 if self.chance(300) => height = latest,
            9 => height = (latest.0, latest.1.saturating_sub(1)),
            10 => height = (latest.0 + 1, 1),
            // Exactly when a packet times out.
            11..40 => {
                let packet = self.packet(true);
                let by_height = packet.timeout_height.unwrap_or_default();
                let by_height = (by_height.revision_number, by_height.revision_height);
                if by_height > latest && by_height.0 == latest.0 {
                    height = by_height;
                }
                if packet.timeout_timestamp > self.time - 60 * SECOND {
                    consensus_state.time = packet.timeout_timestamp.min(self.time);
                }
            }
            _ => {}
        }
        let genuine = !self.chance(100);
        let header = Header { height, consensus: consensus_state, genuine };
        let message = match self.random.below(200) {
            0 => any(stand::EVIDENCE, stand::evidence(true)),
            1..6 => any(stand::EVIDENCE, stand::evidence(false)),
            6 => any("/stand.Nothing", Vec::new()),
            7 => any(stand::HEADER, Vec::new()),
            _ => any(stand::HEADER, header.write()),
        };
        self.heights.entry(client_id.clone()).or_default().push(height);
        pack(&MsgUpdateClient {
            client_id,
            client_message: Some(message).filter(|_| !self.chance(10)),
            signer: "relayer".to_owned(),
        })
    }
}
