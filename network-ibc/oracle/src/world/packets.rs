//! Packets, and messages of packets.

use super::*;

impl World {
    /// A timeout around a height and a time, often at exactly one of them.
    pub(super) fn timeout(&mut self, height: RawHeight, time: u64) -> (Option<ProtoHeight>, u64) {
        let by_height = match self.random.below(20) {
            0..9 => None,
            9 => Some((height.0, height.1)),
            10 => Some((height.0, height.1.saturating_sub(1))),
            11 => Some((height.0 + 1, self.random.below(3))),
            12 => Some((0, 0)),
            _ => Some((height.0, height.1 + self.random.within(1, 12))),
        };
        let by_time = match self.random.below(20) {
            0..5 => 0,
            5 => time,
            6 => time - 1,
            7 => time + 1,
            _ => time + self.random.below(40 * SECOND),
        };
        (by_height.map(proto), by_time)
    }

    pub(super) fn data(&mut self) -> Vec<u8> {
        if self.chance(15) {
            return Vec::new();
        }
        self.random.next().to_be_bytes().to_vec()
    }

    pub(super) fn send_packet(&mut self, store: &Memory) -> Step {
        let (port, id) = self.channel(store, channel::State::Open);
        let stored = channel_end(store, &port, &id).unwrap_or_default();
        let other = stored.counterparty.unwrap_or_default();
        let hop = stored.connection_hops.first().cloned().unwrap_or_default();
        let client = end(store, &hop).unwrap_or_default().client_id;
        let latest = state(store, &client).map_or((1, 1), |state| state.latest);
        let time = consensus(store, &client, latest).map_or(self.time, |known| known.time);
        let (timeout_height, timeout_timestamp) = self.timeout(latest, time);
        let next = format!("nextSequenceSend/ports/{port}/channels/{id}");
        Step::Send {
            packet: Packet {
                sequence: counter(store, &next).unwrap_or(1),
                source_port: port,
                source_channel: id,
                destination_port: other.port_id,
                destination_channel: other.channel_id,
                data: self.data(),
                timeout_height: Some(timeout_height.unwrap_or_default()),
                timeout_timestamp,
            },
        }
    }

    pub(super) fn recv_packet(&mut self, store: &Memory) -> Any {
        let (port, id) = self.channel(store, channel::State::Open);
        let stored = channel_end(store, &port, &id).unwrap_or_default();
        let other = stored.counterparty.clone().unwrap_or_default();
        let next = format!("nextSequenceRecv/ports/{port}/channels/{id}");
        let due = counter(store, &next).unwrap_or(1);
        let sequence = match self.random.below(10) {
            _ if stored.ordering == channel::Order::Unordered as i32 => self.random.within(1, 12),
            0 => due + 1,
            1 => due.saturating_sub(1).max(1),
            _ => due,
        };
        let (timeout_height, timeout_timestamp) = self.timeout((1, self.height), self.time);
        let mut packet = Packet {
            sequence,
            source_port: other.port_id,
            source_channel: other.channel_id,
            destination_port: port,
            destination_channel: id,
            data: self.data(),
            timeout_height,
            timeout_timestamp,
        };
        if self.chance(100) {
            packet = self.packet(false);
        }
        if self.chance(40) {
            self.alter(&mut packet);
        }
        let proved = commitment(&packet);
        let path = packet_path("commitments", &packet.source_port, &packet.source_channel)
            + &packet.sequence.to_string();
        let (proof_commitment, height) = self.prove_packet(
            store,
            (&packet.destination_port, &packet.destination_channel),
            &path,
            Some(&proved),
        );
        if self.chance(30) {
            self.alter(&mut packet);
        }
        pack(&MsgRecvPacket {
            packet: Some(packet).filter(|_| !self.chance(5)),
            proof_commitment,
            proof_height: Some(proto(height)),
            signer: "relayer".to_owned(),
        })
    }

    /// Proves something of the other side of a channel.
    pub(super) fn prove_packet(
        &mut self,
        store: &Memory,
        id: (&str, &str),
        path: &str,
        value: Option<&[u8]>,
    ) -> (Vec<u8>, RawHeight) {
        let height = self.packet_height(store, id);
        (self.prove_packet_at(store, id, height, path, value), height)
    }

    pub(super) fn packet_height(&mut self, store: &Memory, id: (&str, &str)) -> RawHeight {
        let client = hop_of(store, id).client_id;
        self.proof_height(store, &client)
    }

    pub(super) fn prove_packet_at(
        &mut self,
        store: &Memory,
        id: (&str, &str),
        height: RawHeight,
        path: &str,
        value: Option<&[u8]>,
    ) -> Vec<u8> {
        let hop = hop_of(store, id);
        let prefix = hop.counterparty.unwrap_or_default().prefix.unwrap_or_default().key_prefix;
        self.prove(store, &hop.client_id, height, &prefix, path, value)
    }

    pub(super) fn write_acknowledgement(&mut self) -> Step {
        let mut packet = self.random.one(&self.received).cloned().unwrap_or_default();
        match self.random.below(60) {
            0 => packet.sequence += 1,
            1 => packet.destination_port = self.port(),
            2 => packet.destination_channel = self.far_channel(),
            _ => {}
        }
        let acknowledgement = if self.chance(30) { Vec::new() } else { self.data() };
        Step::Acknowledge { packet, acknowledgement }
    }

    pub(super) fn acknowledge_packet(&mut self, store: &Memory) -> Any {
        let mut packet = self.packet(true);
        // The ones that are due on an ordered channel.
        let next = packet_path("nextSequenceAck", &packet.source_port, &packet.source_channel);
        let due = counter(store, next.trim_end_matches("/sequences/"));
        let is_due = |sent: &&Packet| {
            sent.source_channel == packet.source_channel && Some(sent.sequence) == due
        };
        let ordered = channel_end(store, &packet.source_port, &packet.source_channel)
            .is_some_and(|end| end.ordering == channel::Order::Ordered as i32);
        if ordered && self.random.of_thousand(700) {
            packet = self.sent.iter().find(is_due).cloned().unwrap_or(packet);
        }
        let acknowledgement = if self.chance(20) { Vec::new() } else { vec![4, 5] };
        let path = packet_path("acks", &packet.destination_port, &packet.destination_channel)
            + &packet.sequence.to_string();
        let (proof_acked, height) = self.prove_packet(
            store,
            (&packet.source_port, &packet.source_channel),
            &path,
            Some(&Sha256::digest(&acknowledgement)),
        );
        if self.chance(30) {
            self.alter(&mut packet);
        }
        pack(&MsgAcknowledgement {
            packet: Some(packet).filter(|_| !self.chance(5)),
            acknowledgement,
            proof_acked,
            proof_height: Some(proto(height)),
            signer: "relayer".to_owned(),
        })
    }

    /// The proof that a packet was not received, and the sequence that was due instead.
    pub(super) fn prove_unreceived(
        &mut self,
        store: &Memory,
        packet: &Packet,
        height: RawHeight,
    ) -> (Vec<u8>, u64) {
        let id = (packet.source_port.as_str(), packet.source_channel.as_str());
        let (port, far) = (&packet.destination_port, &packet.destination_channel);
        let next = match self.random.below(10) {
            0 => packet.sequence + 1,
            1..4 => self.random.within(1, packet.sequence.max(1)),
            4 if self.chance(200) => 0,
            _ => packet.sequence,
        };
        let ordered = channel_end(store, id.0, id.1)
            .is_some_and(|end| end.ordering == channel::Order::Ordered as i32);
        let proof = if ordered {
            let path = format!("nextSequenceRecv/ports/{port}/channels/{far}");
            let told = if self.chance(50) { next + 1 } else { next };
            self.prove_packet_at(store, id, height, &path, Some(&told.to_be_bytes()))
        } else {
            let path = packet_path("receipts", port, far) + &packet.sequence.to_string();
            self.prove_packet_at(store, id, height, &path, None)
        };
        (proof, next)
    }

    pub(super) fn timeout_packet(&mut self, store: &Memory) -> Any {
        let mut packet = self.packet(true);
        if self.chance(400) {
            packet = self.sent.iter().find(|sent| is_late(store, sent)).cloned().unwrap_or(packet);
        }
        let height = self.packet_height(store, (&packet.source_port, &packet.source_channel));
        let (proof_unreceived, next_sequence_recv) = self.prove_unreceived(store, &packet, height);
        if self.chance(30) {
            self.alter(&mut packet);
        }
        pack(&MsgTimeout {
            packet: Some(packet).filter(|_| !self.chance(5)),
            proof_unreceived,
            proof_height: Some(proto(height)),
            next_sequence_recv,
            signer: "relayer".to_owned(),
        })
    }

    pub(super) fn timeout_on_close(&mut self, store: &Memory) -> Any {
        let mut packet = self.packet(true);
        let id = (packet.source_port.clone(), packet.source_channel.clone());
        let (proof_close, height) = self.prove_end(store, &id, channel::State::Closed);
        let (proof_unreceived, next_sequence_recv) = self.prove_unreceived(store, &packet, height);
        if self.chance(30) {
            self.alter(&mut packet);
        }
        pack(&MsgTimeoutOnClose {
            packet: Some(packet).filter(|_| !self.chance(5)),
            proof_unreceived,
            proof_close,
            proof_height: Some(proto(height)),
            next_sequence_recv,
            signer: "relayer".to_owned(),
            counterparty_upgrade_sequence: 0,
        })
    }
}
