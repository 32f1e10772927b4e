//! What a relayer asks a chain, without proofs: to know what there is to do.
//!
//! The services are the chain's gRPC services, called by `abci_query`, so that a node's RPC is all
//! that is needed.

use std::time::Duration;

use ibc_proto::{
    cosmos::{
        auth::v1beta1::{BaseAccount, QueryAccountRequest, QueryAccountResponse},
        bank::v1beta1::{QueryBalanceRequest, QueryBalanceResponse},
        base::{
            abci::v1beta1::GasInfo,
            query::v1beta1::{PageRequest, PageResponse},
            tendermint::v1beta1::{GetNodeInfoRequest, GetNodeInfoResponse},
        },
        staking::v1beta1::{QueryParamsRequest, QueryParamsResponse},
        tx::v1beta1::SimulateRequest,
    },
    google::protobuf::Any,
    ibc::applications::interchain_accounts::host::v1 as ica_host,
    ibc::core::{
        channel::v1::{
            Channel as RawChannel, QueryConnectionChannelsRequest, QueryConnectionChannelsResponse,
            QueryPacketAcknowledgementsRequest, QueryPacketAcknowledgementsResponse,
            QueryPacketCommitmentsRequest, QueryPacketCommitmentsResponse,
        },
        client::v1::{
            QueryClientParamsRequest, QueryClientParamsResponse, QueryClientStateRequest,
            QueryClientStateResponse, QueryClientStatusRequest, QueryClientStatusResponse,
        },
        connection::v1::{
            QueryClientConnectionsRequest, QueryClientConnectionsResponse, QueryConnectionRequest,
            QueryConnectionResponse,
        },
    },
};
use prost::{Message, encoding, encoding::DecodeContext};

use super::{RpcError, error::excerpt, rpc::Rpc};
use crate::{
    engine::{Channel, Connection},
    identifier::{ChannelId, ClientId, ConnectionId, PortId},
};

/// How many things are asked for at once, where there may be many. In tests there are fewer.
const PAGE: u64 = if cfg!(test) { 30 } else { 500 };
/// How many pages are asked for, in all.
const MAX_PAGES: usize = 200;
/// How many are where the chain goes through all of its channels.
const CHANNEL_PAGES: usize = 2_000;

/// What an account is to the transactions that it signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    /// Its number: nothing that changes.
    pub(crate) number: u64,
    /// How many transactions it has signed.
    pub(crate) sequence: u64,
    /// The height that this is of.
    pub(crate) height: u64,
}

/// What a chain is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Versions {
    /// The application, such as `gaia`.
    pub(crate) app: String,
    /// Its version.
    pub(crate) app_version: String,
    /// That of the Cosmos SDK.
    pub(crate) sdk: String,
    /// That of ibc-go, such as `v10.7.0`, if the application says what it was built of.
    pub(crate) ibc: Option<String>,
}

/// One packet of a channel, by its sequence, and what the chain committed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PacketState {
    pub(crate) sequence: u64,
    pub(crate) data: Vec<u8>,
}

impl Rpc {
    /// The account at an address; `None` if the chain knows none, as before its first coin.
    pub(crate) async fn account(&self, address: &str) -> Result<Option<Account>, RpcError> {
        const PATH: &str = "/cosmos.auth.v1beta1.Query/Account";
        let request = QueryAccountRequest { address: address.to_owned() };
        let asked = self.ask::<QueryAccountResponse>(PATH, &request, None).await;
        let Some((answer, height)) = found(asked)? else { return Ok(None) };
        let account = answer.account.unwrap_or_default();
        // Of the kinds of account, those that can sign for themselves begin with this one.
        let base = if account.type_url == "/cosmos.auth.v1beta1.BaseAccount" {
            BaseAccount::decode(&account.value[..]).ok()
        } else {
            Nested::decode(&account.value[..]).ok().and_then(|nested| nested.base)
        };
        let strange = || {
            let kind = &account.type_url;
            self.unexpected("abci_query", &format!("no account of the kind {kind} is known here"))
        };
        let base = base.filter(|base| base.address == address).ok_or_else(strange)?;
        Ok(Some(Account { number: base.account_number, sequence: base.sequence, height }))
    }

    /// How much of a coin an account has.
    pub(crate) async fn balance(&self, address: &str, denom: &str) -> Result<u128, RpcError> {
        const PATH: &str = "/cosmos.bank.v1beta1.Query/Balance";
        let request = QueryBalanceRequest { address: address.to_owned(), denom: denom.to_owned() };
        let (answer, _) = self.ask::<QueryBalanceResponse>(PATH, &request, None).await?;
        let amount = answer.balance.map(|coin| coin.amount).unwrap_or_default();
        amount.parse().map_err(|_| self.unexpected("abci_query", "the balance is no number"))
    }

    /// Tries a transaction, and says how much gas it uses.
    pub(super) async fn simulate(&self, tx: Vec<u8>) -> Result<u64, RpcError> {
        const PATH: &str = "/cosmos.tx.v1beta1.Service/Simulate";
        let request = SimulateRequest { tx_bytes: tx, ..SimulateRequest::default() };
        let (answer, _) = self.ask_long::<Trial>(PATH, &request).await?;
        let used = answer.gas_info.map(|info| info.gas_used);
        used.ok_or_else(|| self.unexpected("abci_query", "it says nothing of gas"))
    }

    /// What the chain is made of.
    pub(crate) async fn versions(&self) -> Result<Versions, RpcError> {
        const PATH: &str = "/cosmos.base.tendermint.v1beta1.Service/GetNodeInfo";
        let (answer, _) =
            self.ask::<GetNodeInfoResponse>(PATH, &GetNodeInfoRequest {}, None).await?;
        let version = answer.application_version.unwrap_or_default();
        let parts = version.build_deps.iter().map(|part| (&part.path[..], &part.version[..]));
        Ok(Versions {
            ibc: ibc_go(parts).map(str::to_owned),
            app: version.app_name,
            app_version: version.version,
            sdk: version.cosmos_sdk_version,
        })
    }

    /// How long a validator can be held to what it signed: a client that trusts for longer trusts
    /// those who have nothing to lose.
    pub(crate) async fn unbonding_time(&self) -> Result<Duration, RpcError> {
        const PATH: &str = "/cosmos.staking.v1beta1.Query/Params";
        let (answer, _) =
            self.ask::<QueryParamsResponse>(PATH, &QueryParamsRequest {}, None).await?;
        let time = answer.params.and_then(|params| params.unbonding_time);
        time.and_then(|time| {
            let (seconds, nanos) = (u64::try_from(time.seconds), u32::try_from(time.nanos));
            Some(Duration::new(seconds.ok()?, nanos.ok()?))
        })
        .ok_or_else(|| self.unexpected("abci_query", "it says no unbonding time"))
    }

    /// The kinds of client that the chain takes, such as `07-tendermint`; `*` is all of them.
    pub(crate) async fn allowed_clients(&self) -> Result<Vec<String>, RpcError> {
        const PATH: &str = "/ibc.core.client.v1.Query/ClientParams";
        let (answer, _) =
            self.ask::<QueryClientParamsResponse>(PATH, &QueryClientParamsRequest {}, None).await?;
        Ok(answer.params.map(|params| params.allowed_clients).unwrap_or_default())
    }

    /// What the chain lets interchain accounts do; `None` if it has no such module.
    pub(super) async fn ica_host(&self) -> Result<Option<ica_host::Params>, RpcError> {
        const PATH: &str = "/ibc.applications.interchain_accounts.host.v1.Query/Params";
        let asked = self
            .ask::<ica_host::QueryParamsResponse>(PATH, &ica_host::QueryParamsRequest {}, None)
            .await;
        match asked {
            Ok((answer, _)) => Ok(Some(answer.params.unwrap_or_default())),
            Err(error) if error.no_service() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The least price of gas that the node takes, such as `0.025uatom,0.1ibc/AB12`; empty is
    /// nothing. `None` if the node does not say it.
    pub(super) async fn least_price(&self) -> Result<Option<String>, RpcError> {
        const PATH: &str = "/cosmos.base.node.v1beta1.Service/Config";
        match self.ask::<NodeConfig>(PATH, &(), None).await {
            Ok((answer, _)) => Ok(Some(answer.minimum_gas_price)),
            Err(error) if error.no_service() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A connection of the chain.
    pub(crate) async fn connection(
        &self,
        connection: &ConnectionId,
    ) -> Result<Option<Connection>, RpcError> {
        const PATH: &str = "/ibc.core.connection.v1.Query/Connection";
        let request = QueryConnectionRequest { connection_id: connection.to_string() };
        let asked = self.ask::<QueryConnectionResponse>(PATH, &request, None).await;
        let raw = found(asked)?.and_then(|(answer, _)| answer.connection);
        let read = raw.map(|raw| Connection::decode(&raw.encode_to_vec())).transpose();
        read.map_err(|error| self.unexpected("abci_query", &error.to_string()))
    }

    /// The state of a client on the chain.
    pub(crate) async fn client_state(&self, client: &ClientId) -> Result<Option<Any>, RpcError> {
        const PATH: &str = "/ibc.core.client.v1.Query/ClientState";
        let request = QueryClientStateRequest { client_id: client.to_string() };
        let asked = self.ask::<QueryClientStateResponse>(PATH, &request, None).await;
        Ok(found(asked)?.and_then(|(answer, _)| answer.client_state))
    }

    /// Whether a client on the chain can be used, in the words of ibc-go
    /// (`modules/core/exported/client.go`): `Active`, or why not.
    pub(crate) async fn client_status(&self, client: &ClientId) -> Result<String, RpcError> {
        const PATH: &str = "/ibc.core.client.v1.Query/ClientStatus";
        let request = QueryClientStatusRequest { client_id: client.to_string() };
        let (answer, _) = self.ask::<QueryClientStatusResponse>(PATH, &request, None).await?;
        Ok(excerpt(&answer.status))
    }

    /// The connections over a client on the chain, whoever began them.
    pub(crate) async fn connections_of(
        &self,
        client: &ClientId,
    ) -> Result<Vec<ConnectionId>, RpcError> {
        const PATH: &str = "/ibc.core.connection.v1.Query/ClientConnections";
        let request = QueryClientConnectionsRequest { client_id: client.to_string() };
        let asked = self.ask::<QueryClientConnectionsResponse>(PATH, &request, None).await;
        // They are names, and no paths.
        let names = found(asked)?.map(|(answer, _)| answer.connection_paths).unwrap_or_default();
        let read = names.iter().filter_map(|name| ConnectionId::new(name).ok());
        Ok(read.filter(ConnectionId::is_ics24).collect())
    }

    /// The channels over a connection of the chain, whoever began them, but for those in a state
    /// that hosts do not know.
    pub(crate) async fn channels_over(
        &self,
        connection: &ConnectionId,
    ) -> Result<Vec<(PortId, ChannelId, Channel)>, RpcError> {
        const PATH: &str = "/ibc.core.channel.v1.Query/ConnectionChannels";
        self.paged_up_to(CHANNEL_PAGES, |page| async move {
            let request = QueryConnectionChannelsRequest {
                connection: connection.to_string(),
                pagination: Some(page),
            };
            let (answer, _) =
                self.ask_long::<QueryConnectionChannelsResponse>(PATH, &request).await?;
            let bytes = answer.encoded_len();
            let read = answer.channels.into_iter().filter_map(|raw| {
                let port = PortId::new(&raw.port_id).ok().filter(PortId::is_ics24)?;
                let id = ChannelId::new(&raw.channel_id).ok().filter(ChannelId::is_ics24)?;
                let raw = RawChannel {
                    state: raw.state,
                    ordering: raw.ordering,
                    counterparty: raw.counterparty,
                    connection_hops: raw.connection_hops,
                    version: raw.version,
                    upgrade_sequence: raw.upgrade_sequence,
                };
                Some((port, id, Channel::decode(&raw.encode_to_vec()).ok()?))
            });
            Ok(Page { some: read.collect(), next: answer.pagination, bytes })
        })
        .await
    }

    /// The packets that the channel has sent and that are not acknowledged yet, by sequence.
    pub(crate) async fn commitments(
        &self,
        port: &PortId,
        channel: &ChannelId,
    ) -> Result<Vec<PacketState>, RpcError> {
        const PATH: &str = "/ibc.core.channel.v1.Query/PacketCommitments";
        let all = self
            .paged(|page| async move {
                let request = QueryPacketCommitmentsRequest {
                    port_id: port.to_string(),
                    channel_id: channel.to_string(),
                    pagination: Some(page),
                };
                let (answer, _) =
                    self.ask::<QueryPacketCommitmentsResponse>(PATH, &request, None).await?;
                let bytes = answer.encoded_len();
                let states = answer.commitments.into_iter();
                let states =
                    states.map(|raw| PacketState { sequence: raw.sequence, data: raw.data });
                Ok(Page { some: states.collect(), next: answer.pagination, bytes })
            })
            .await;
        // The chain lists them by the text of their keys: 1, 10, 2.
        all.map(|mut all: Vec<PacketState>| {
            all.sort_by_key(|state| state.sequence);
            all
        })
    }

    /// The hashes of the acknowledgements that the channel has written, of packets with these
    /// sequences.
    pub(crate) async fn acknowledgements(
        &self,
        port: &PortId,
        channel: &ChannelId,
        sequences: &[u64],
    ) -> Result<Vec<PacketState>, RpcError> {
        const PATH: &str = "/ibc.core.channel.v1.Query/PacketAcknowledgements";
        let mut all = Vec::new();
        for sequences in sequences.chunks(PAGE as usize) {
            let request = QueryPacketAcknowledgementsRequest {
                port_id: port.to_string(),
                channel_id: channel.to_string(),
                pagination: None,
                packet_commitment_sequences: sequences.to_vec(),
            };
            let (answer, _) =
                self.ask::<QueryPacketAcknowledgementsResponse>(PATH, &request, None).await?;
            let states = answer.acknowledgements.into_iter();
            all.extend(states.map(|raw| PacketState { sequence: raw.sequence, data: raw.data }));
        }
        Ok(all)
    }

    /// Calls a service, and says at what height it answered.
    pub(super) async fn ask<A: Message + Default>(
        &self,
        path: &str,
        request: &impl Message,
        height: Option<u64>,
    ) -> Result<(A, u64), RpcError> {
        let answer = self.query(path, &request.encode_to_vec(), height).await?;
        Ok((self.read(&answer.value)?, answer.height))
    }

    /// The same of what others on the chain may have made long.
    async fn ask_long<A: Message + Default>(
        &self,
        path: &str,
        request: &impl Message,
    ) -> Result<(A, u64), RpcError> {
        let answer = self.long_query(path, &request.encode_to_vec()).await?;
        // An entry of two bytes is read as one with all of its fields.
        if fields(&answer.value).is_none_or(|fields| fields > PAGE as usize + 2) {
            return Err(self.unexpected("abci_query", "it has more entries than were asked for"));
        }
        Ok((self.read(&answer.value)?, answer.height))
    }

    fn read<A: Message + Default>(&self, value: &[u8]) -> Result<A, RpcError> {
        A::decode(value).map_err(|error| self.unexpected("abci_query", &error.to_string()))
    }

    async fn paged<T, F: Future<Output = Result<Page<T>, RpcError>>>(
        &self,
        ask: impl Fn(PageRequest) -> F,
    ) -> Result<Vec<T>, RpcError> {
        self.paged_up_to(MAX_PAGES, ask).await
    }

    async fn paged_up_to<T, F: Future<Output = Result<Page<T>, RpcError>>>(
        &self,
        pages: usize,
        ask: impl Fn(PageRequest) -> F,
    ) -> Result<Vec<T>, RpcError> {
        let (mut all, mut key, mut left) = (Vec::new(), Vec::new(), self.http().limits().0);
        for _ in 0..pages {
            let page = PageRequest { key, limit: PAGE, ..PageRequest::default() };
            let Page { some, next, bytes } = ask(page).await?;
            let Some(rest) = left.checked_sub(bytes) else {
                return Err(self.unexpected("abci_query", "its pages are too long together"));
            };
            left = rest;
            all.extend(some);
            key = next.map(|next| next.next_key).unwrap_or_default();
            if key.is_empty() {
                return Ok(all);
            }
        }
        Err(self.unexpected("abci_query", &format!("there are more than {pages} pages of them")))
    }
}

/// A part of a list.
struct Page<T> {
    some: Vec<T>,
    next: Option<PageResponse>,
    /// How long it was.
    bytes: usize,
}

/// How many fields a message has at its top; `None` if it is none.
fn fields(mut message: &[u8]) -> Option<usize> {
    let mut fields = 0;
    while !message.is_empty() {
        let (tag, kind) = encoding::decode_key(&mut message).ok()?;
        encoding::skip_field(kind, tag, &mut message, DecodeContext::default()).ok()?;
        fields += 1;
    }
    Some(fields)
}

/// Of the Go modules that a program is built of, each with its version, the version of ibc-go.
///
/// The repository has other modules, with versions of their own: the capabilities that go with v8,
/// or the client `08-wasm`. Of several major versions the newest is what runs: a program has older
/// ones for their types.
fn ibc_go<'a>(parts: impl Iterator<Item = (&'a str, &'a str)>) -> Option<&'a str> {
    let versions = parts.filter_map(|(path, version)| {
        let major = match path.strip_prefix("github.com/cosmos/ibc-go")? {
            "" => 1,
            major => major.strip_prefix("/v")?.parse::<u32>().ok()?,
        };
        Some((major, version))
    });
    versions.max_by_key(|(major, _)| *major).map(|(_, version)| version)
}

/// The part of a node's configuration (SDK, `cosmos.base.node.v1beta1.ConfigResponse`) that matters
/// here.
#[derive(Clone, PartialEq, Message)]
struct NodeConfig {
    #[prost(string, tag = "1")]
    minimum_gas_price: String,
}

/// The part of what a trial says (SDK, `cosmos.tx.v1beta1.SimulateResponse`) that matters here. The
/// events in it have the data of packets, until v9 of ibc-go as they are, so what ought to be text
/// is none.
#[derive(Clone, PartialEq, Message)]
struct Trial {
    #[prost(message, optional, tag = "1")]
    gas_info: Option<GasInfo>,
}

/// An account with more to it, whose first part is the base account: a vesting one, for example,
/// has that inside of its first part again.
#[derive(Clone, PartialEq, Message)]
struct Nested {
    #[prost(message, optional, tag = "1")]
    base: Option<BaseAccount>,
}

/// Takes the chain's "not found" for an answer (gRPC status 5, which the SDK turns into its own
/// error 22 or 38, by version).
pub(super) fn found<T>(asked: Result<T, RpcError>) -> Result<Option<T>, RpcError> {
    match asked {
        Ok(answer) => Ok(Some(answer)),
        Err(RpcError::Query { log, .. }) if log.contains("not found") => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use ibc_proto::cosmos::{base::abci::v1beta1::Result, tx::v1beta1::SimulateResponse};
    use tendermint_proto::v0_38::abci::{Event, EventAttribute};

    use super::*;

    #[test]
    fn a_trial_may_tell_of_data_that_is_no_text() {
        let data = EventAttribute { key: "packet_data".into(), value: "?".into(), index: true };
        let event = Event { r#type: "send_packet".into(), attributes: vec![data] };
        let answer = SimulateResponse {
            gas_info: Some(GasInfo { gas_wanted: 0, gas_used: 5 }),
            result: Some(Result { events: vec![event], ..Result::default() }),
        };
        let mut answer = answer.encode_to_vec();
        *answer.iter_mut().find(|byte| **byte == b'?').unwrap() = 0xFF;
        assert!(SimulateResponse::decode(&answer[..]).is_err());
        assert_eq!(Trial::decode(&answer[..]).unwrap().gas_info.unwrap().gas_used, 5);
    }

    #[test]
    fn ibc_go_is_told_from_the_other_modules_of_its_repository() {
        let sdk = ("github.com/cosmos/cosmos-sdk", "v0.50.9");
        let capability = ("github.com/cosmos/ibc-go/modules/capability", "v1.0.1");
        let wasm = ("github.com/cosmos/ibc-go/modules/light-clients/08-wasm/v10", "v10.3.0");
        let of = |parts: &[(&'static str, &'static str)]| ibc_go(parts.iter().copied());
        let eight = ("github.com/cosmos/ibc-go/v8", "v8.8.0");
        let eleven = ("github.com/cosmos/ibc-go/v11", "v11.2.0");
        assert_eq!(of(&[sdk, capability, wasm, eight]), Some("v8.8.0"));
        assert_eq!(of(&[sdk, eleven, eight]), Some("v11.2.0"));
        assert_eq!(of(&[("github.com/cosmos/ibc-go", "v1.5.0")]), Some("v1.5.0"));
        assert_eq!(of(&[sdk, capability, ("github.com/cosmos/ibc-go-extras/v3", "v3.0.0")]), None);
    }
}
