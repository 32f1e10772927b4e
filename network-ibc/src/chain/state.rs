//! What tests ask a chain besides.

use ibc_proto::{
    google::protobuf::Any,
    ibc::core::{
        channel::v1::{QueryChannelRequest, QueryChannelResponse},
        client::v1::{QueryConsensusStateRequest, QueryConsensusStateResponse},
    },
};

use prost::Message as _;

use super::{RpcError, query::found, rpc::Rpc};
use crate::{
    engine::Channel,
    height::Height,
    identifier::{ChannelId, ClientId, PortId},
    path,
};

impl Rpc {
    /// What a client on the chain knows of a height; of its newest, if none is named.
    pub(crate) async fn consensus_state(
        &self,
        client: &ClientId,
        height: Option<Height>,
    ) -> Result<Option<Any>, RpcError> {
        const PATH: &str = "/ibc.core.client.v1.Query/ConsensusState";
        let of = height.unwrap_or_default();
        let request = QueryConsensusStateRequest {
            client_id: client.to_string(),
            revision_number: of.revision,
            revision_height: of.number,
            latest_height: height.is_none(),
        };
        let asked = self.ask::<QueryConsensusStateResponse>(PATH, &request, None).await;
        Ok(found(asked)?.and_then(|(answer, _)| answer.consensus_state))
    }

    /// A channel of the chain.
    pub(crate) async fn channel(
        &self,
        port: &PortId,
        channel: &ChannelId,
    ) -> Result<Option<Channel>, RpcError> {
        const PATH: &str = "/ibc.core.channel.v1.Query/Channel";
        let (port_id, channel_id) = (port.to_string(), channel.to_string());
        let asked = self
            .ask::<QueryChannelResponse>(PATH, &QueryChannelRequest { port_id, channel_id }, None)
            .await;
        let raw = found(asked)?.and_then(|(answer, _)| answer.channel);
        let read = raw.map(|raw| Channel::decode(&raw.encode_to_vec())).transpose();
        read.map_err(|error| self.unexpected("abci_query", &error.to_string()))
    }

    /// The sequence of the packet that a channel sends next. The service that tells it came with v8.
    pub(crate) async fn next_send(
        &self,
        port: &PortId,
        channel: &ChannelId,
    ) -> Result<u64, RpcError> {
        let found = self.prove(&path::next_sequence_send(port, channel), None).await?;
        let bytes = found.value[..].try_into();
        let bytes =
            bytes.map_err(|_| self.unexpected("abci_query", "the sequence is no number"))?;
        Ok(u64::from_be_bytes(bytes))
    }
}
