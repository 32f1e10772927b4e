//! Messages of channels, and what the other side says that it has stored.

use super::*;

impl World {
    pub(super) fn order(&mut self) -> i32 {
        if self.chance(20) {
            return self.random.one(&[0, 3, -1]).copied().unwrap_or(0);
        }
        if self.chance(500) { 1 } else { 2 }
    }

    pub(super) fn told_channel(&mut self, mut end: Channel) -> Vec<u8> {
        if self.chance(60) {
            let counterparty = end.counterparty.get_or_insert_default();
            match self.random.below(8) {
                0 => end.state = 1 + end.state % 4,
                1 => end.ordering = 3 - end.ordering,
                2 => counterparty.port_id.push('0'),
                3 => counterparty.channel_id.push('0'),
                4 => end.connection_hops.push("connection-0".to_owned()),
                5 => end.connection_hops.clear(),
                6 => end.version.push('0'),
                _ => end.upgrade_sequence = 1,
            }
        }
        end.encode_to_vec()
    }

    /// Proves what the other end of one of this host's channels is.
    pub(super) fn prove_channel(
        &mut self,
        store: &Memory,
        near: (&str, &str),
        far: (&str, &str),
        hop: &str,
        told: (channel::State, i32, &str),
    ) -> (Vec<u8>, RawHeight) {
        let connection = end(store, hop).unwrap_or_default();
        let other = connection.counterparty.unwrap_or_default();
        let (state, ordering, version) = told;
        let told = Channel {
            state: state as i32,
            ordering,
            counterparty: Some(ChannelCounterparty {
                port_id: near.0.to_owned(),
                channel_id: near.1.to_owned(),
            }),
            connection_hops: vec![other.connection_id],
            version: version.to_owned(),
            upgrade_sequence: 0,
        };
        let told = self.told_channel(told);
        let height = self.proof_height(store, &connection.client_id);
        let prefix = other.prefix.unwrap_or_default().key_prefix;
        let path = format!("channelEnds/ports/{}/channels/{}", far.0, far.1);
        let proof = self.prove(store, &connection.client_id, height, &prefix, &path, Some(&told));
        (proof, height)
    }

    pub(super) fn new_channel(
        &mut self,
        state: channel::State,
        hop: String,
        far: String,
    ) -> Channel {
        let mut channel = Channel {
            state: state as i32,
            ordering: self.order(),
            counterparty: Some(ChannelCounterparty { port_id: self.port(), channel_id: far }),
            connection_hops: vec![hop],
            version: self.channel_version(),
            upgrade_sequence: 0,
        };
        match self.random.below(150) {
            0 => channel.connection_hops.clear(),
            1 => channel.connection_hops.push("connection-0".to_owned()),
            2 => channel.state = 1 + channel.state % 4,
            3 => channel.counterparty = None,
            4 => channel.upgrade_sequence = 1,
            _ => {}
        }
        channel
    }

    pub(super) fn channel_open_init(&mut self, store: &Memory) -> Any {
        let hop = self.connection(store, connection::State::Open);
        let far = if self.chance(20) { self.far_channel() } else { String::new() };
        let channel = self.new_channel(channel::State::Init, hop, far);
        pack(&MsgChannelOpenInit {
            port_id: self.port(),
            channel: Some(channel).filter(|_| !self.chance(10)),
            signer: "relayer".to_owned(),
        })
    }

    #[expect(deprecated, reason = "the field has to be empty, and once is not")]
    pub(super) fn channel_open_try(&mut self, store: &Memory) -> Any {
        let hop = self.connection(store, connection::State::Open);
        let far = self.far_channel();
        let port_id = self.port();
        let channel = self.new_channel(channel::State::Tryopen, hop.clone(), far);
        let counterparty_version = self.channel_version();
        let other = channel.counterparty.clone().unwrap_or_default();
        let (proof_init, height) = self.prove_channel(
            store,
            (&port_id, ""),
            (&other.port_id, &other.channel_id),
            &hop,
            (channel::State::Init, channel.ordering, &counterparty_version),
        );
        pack(&MsgChannelOpenTry {
            port_id,
            previous_channel_id: if self.chance(20) { "channel-0" } else { "" }.to_owned(),
            channel: Some(channel).filter(|_| !self.chance(10)),
            counterparty_version,
            proof_init,
            proof_height: Some(proto(height)),
            signer: "relayer".to_owned(),
        })
    }

    pub(super) fn channel_open_ack(&mut self, store: &Memory) -> Any {
        let (port_id, channel_id) = self.channel(store, channel::State::Init);
        let stored = channel_end(store, &port_id, &channel_id).unwrap_or_default();
        let other = stored.counterparty.unwrap_or_default();
        let hop = stored.connection_hops.first().cloned().unwrap_or_default();
        let counterparty_channel_id = self.far_channel();
        let counterparty_version = self.channel_version();
        let (proof_try, height) = self.prove_channel(
            store,
            (&port_id, &channel_id),
            (&other.port_id, &counterparty_channel_id),
            &hop,
            (channel::State::Tryopen, stored.ordering, &counterparty_version),
        );
        pack(&MsgChannelOpenAck {
            port_id,
            channel_id,
            counterparty_channel_id,
            counterparty_version,
            proof_try,
            proof_height: Some(proto(height)),
            signer: "relayer".to_owned(),
        })
    }

    /// The proof that the other end of a stored channel is in a state.
    pub(super) fn prove_end(
        &mut self,
        store: &Memory,
        id: &(String, String),
        state: channel::State,
    ) -> (Vec<u8>, RawHeight) {
        let stored = channel_end(store, &id.0, &id.1).unwrap_or_default();
        let other = stored.counterparty.unwrap_or_default();
        let hop = stored.connection_hops.first().cloned().unwrap_or_default();
        self.prove_channel(
            store,
            (&id.0, &id.1),
            (&other.port_id, &other.channel_id),
            &hop,
            (state, stored.ordering, &stored.version),
        )
    }

    pub(super) fn channel_open_confirm(&mut self, store: &Memory) -> Any {
        let id = self.channel(store, channel::State::Tryopen);
        let (proof_ack, height) = self.prove_end(store, &id, channel::State::Open);
        pack(&MsgChannelOpenConfirm {
            port_id: id.0,
            channel_id: id.1,
            proof_ack,
            proof_height: Some(proto(height)),
            signer: "relayer".to_owned(),
        })
    }

    pub(super) fn channel_close_init(&mut self, store: &Memory) -> Any {
        let (port_id, channel_id) = self.channel(store, channel::State::Open);
        pack(&MsgChannelCloseInit { port_id, channel_id, signer: "relayer".to_owned() })
    }

    pub(super) fn channel_close_confirm(&mut self, store: &Memory) -> Any {
        let id = self.channel(store, channel::State::Open);
        let (proof_init, height) = self.prove_end(store, &id, channel::State::Closed);
        pack(&MsgChannelCloseConfirm {
            port_id: id.0,
            channel_id: id.1,
            proof_init,
            proof_height: Some(proto(height)),
            signer: "relayer".to_owned(),
            counterparty_upgrade_sequence: 0,
        })
    }
}
