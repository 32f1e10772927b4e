//! Accounts on other chains (ICS-027): the controller's side.
//!
//! A host that has the module [`Controller`] at [`port_of`] an owner can have an account on each
//! chain that it has a hop to, which does what the host says: any messages of that chain, signed by
//! nobody. The account is there once a channel was opened, and lasts; the channel may close, an
//! ordered one does when something times out, and is then opened again.
//!
//! ```no_run
//! use std::time::Duration;
//! use ibc_proto::{cosmos::bank::v1beta1::MsgSend, google::protobuf::Any};
//! # async fn example(hop: network_ibc::Hop) -> Result<(), Box<dyn std::error::Error>> {
//! use network_ibc::{Host, Order, ica::{self, Account, Controller, Outcome}};
//! use prost::{Message, Name};
//!
//! let host = Host::builder("host").module(&ica::port_of("alice"), Controller::new())?.in_memory()?;
//! // … and a hop to a chain.
//! let account = Account::open(&host, &hop.connection, "alice", Order::Unordered).await?;
//! let send = MsgSend { from_address: account.address().to_owned(), ..MsgSend::default() };
//! let send = Any { type_url: MsgSend::type_url(), value: send.encode_to_vec() };
//! match account.execute(vec![send], "", Duration::from_secs(600)).await? {
//!     Outcome::Executed(responses) => println!("{} messages", responses.len()),
//!     other => println!("nothing was done: {other:?}"),
//! }
//! # Ok(())
//! # }
//! ```

use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use ibc_proto::{
    cosmos::base::abci::v1beta1::TxMsgData, google::protobuf::Any,
    ibc::applications::interchain_accounts::v1::CosmosTx,
};
use network_core::Refusal;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::{
    address::Order,
    host::{Context, Host, HostError, Module, ModuleChannel, Waiting},
    identifier::{ChannelId, ConnectionId, PortId},
    interchain::IcaChannel,
};

/// Where the channel that is in use is stored, for each hop, and the account's address.
fn channel_key(hop: &ConnectionId) -> String {
    format!("channel/{hop}")
}

fn address_key(hop: &ConnectionId) -> String {
    format!("address/{hop}")
}

/// The port of the accounts of an owner, a name of the program's choice.
#[must_use]
pub fn port_of(owner: &str) -> String {
    format!("icacontroller-{owner}")
}

/// Why there is no account, or nothing was said to it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IcaError {
    /// The host is against it, or the chain refuses the channel.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The channel is closed.
    #[error("the channel of the account is closed: open the account again")]
    Closed,
}

/// What became of messages.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// All were executed; what each answered.
    Executed(Vec<Any>),
    /// None was executed. The chain keeps its reasons to its logs, and says a number.
    Refused(String),
    /// None was executed: they were not received in time. An ordered channel is closed by that.
    NotReceived,
    /// The chain answers with what is no answer of ICS-027.
    Unknown(Bytes),
}

/// What the chain answers to what a channel is opened with. JSON of protobuf has names in either
/// style; ibc-go writes the second.
#[derive(Deserialize)]
struct Metadata {
    version: String,
    #[serde(rename = "controllerConnectionId", alias = "controller_connection_id")]
    controller: String,
    #[serde(rename = "hostConnectionId", alias = "host_connection_id")]
    host: String,
    address: String,
    encoding: String,
    #[serde(rename = "txType", alias = "tx_type")]
    tx_type: String,
}

/// The longest address of an account (ibc-go, `27-interchain-accounts/types/account.go`).
const MAX_ADDRESS: usize = 128;

/// The address in what the chain answers, if it is of an account over that hop which reads what is
/// written here (ibc-go, `27-interchain-accounts/types/metadata.go`, `ValidateControllerMetadata`).
fn address(
    answered: &str,
    hop: &ConnectionId,
    other: Option<&ConnectionId>,
) -> Result<String, Refusal> {
    let metadata: Metadata = serde_json::from_str(answered)?;
    let wanted = IcaChannel::default();
    let at_hop = metadata.controller == hop.as_str()
        && other.is_some_and(|other| metadata.host == other.as_str());
    let is_address = (1..=MAX_ADDRESS).contains(&metadata.address.len())
        && metadata.address.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if metadata.version != wanted.version
        || metadata.encoding != wanted.encoding
        || metadata.tx_type != wanted.tx_type
        || !at_hop
        || !is_address
    {
        return Err(Refusal::new(format!("the chain names no account of ics27-1: {answered}")));
    }
    Ok(metadata.address)
}

/// `InterchainAccountPacketData`, its fields sorted as ibc-go writes them.
#[derive(Serialize)]
struct PacketData<'a> {
    data: String,
    memo: &'a str,
    r#type: &'static str,
}

#[derive(Deserialize)]
struct Acknowledgement {
    result: String,
}

/// The module of ICS-027's controller. See [the page of `ica`](self).
#[derive(Debug, Default)]
pub struct Controller {
    /// Who waits for what became of a packet.
    waiting: Waiting<Outcome>,
}

impl Controller {
    /// One that knows of no accounts, or of those that the ledger has.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Module for Controller {
    fn on_try(&mut self, _: &mut Context<'_>, _: &ModuleChannel) -> Result<String, Refusal> {
        Err(Refusal::new("a controller of accounts opens its channels itself"))
    }

    fn on_open(
        &mut self,
        context: &mut Context<'_>,
        channel: &ModuleChannel,
    ) -> Result<(), Refusal> {
        let other = context.counterparty_of(&channel.hop);
        let address = address(&channel.version, &channel.hop, other.as_ref())?;
        context.set(address_key(&channel.hop), address);
        context.set(channel_key(&channel.hop), channel.channel.to_string());
        Ok(())
    }

    fn on_receive(
        &mut self,
        _: &mut Context<'_>,
        _: &ModuleChannel,
        _: &Bytes,
    ) -> Result<Bytes, Refusal> {
        Err(Refusal::new("a controller of accounts is told nothing"))
    }

    fn on_ack(
        &mut self,
        context: &mut Context<'_>,
        channel: &ModuleChannel,
        sequence: u64,
        _: &Bytes,
        ack: Result<Bytes, Refusal>,
    ) {
        let outcome = match ack {
            Ok(ack) => responses(&ack).map_or(Outcome::Unknown(ack), Outcome::Executed),
            Err(refusal) => Outcome::Refused(refusal.text().to_owned()),
        };
        self.waiting.tell(context, channel, sequence, outcome);
    }

    fn on_timeout(
        &mut self,
        context: &mut Context<'_>,
        channel: &ModuleChannel,
        sequence: u64,
        _: &Bytes,
    ) {
        self.waiting.tell(context, channel, sequence, Outcome::NotReceived);
    }

    fn on_close(&mut self, context: &mut Context<'_>, channel: &ModuleChannel) {
        let key = channel_key(&channel.hop);
        if context.get(&key).is_some_and(|open| open == channel.channel.as_str()) {
            context.remove(key);
        }
    }
}

/// What the messages of a packet have answered.
fn responses(ack: &[u8]) -> Option<Vec<Any>> {
    let ack: Acknowledgement = serde_json::from_slice(ack).ok()?;
    let data = TxMsgData::decode(&BASE64.decode(ack.result.as_bytes()).ok()?[..]).ok()?;
    Some(data.msg_responses)
}

/// The packet that has messages executed (ICS-027, `TYPE_EXECUTE_TX`).
fn packet(messages: Vec<Any>, memo: &str) -> Result<Vec<u8>, Refusal> {
    let data = BASE64.encode(&CosmosTx { messages }.encode_to_vec());
    Ok(serde_json::to_vec(&PacketData { data, memo, r#type: "TYPE_EXECUTE_TX" })?)
}

/// An account on another chain.
#[derive(Clone, Debug)]
pub struct Account {
    host: Host,
    port: PortId,
    hop: ConnectionId,
    address: String,
}

impl Account {
    /// The account that an owner has over a hop, with an open channel to it: the one that there is,
    /// or another one. It is the same account each time, whatever became of earlier channels.
    ///
    /// # Errors
    /// The host has no [`Controller`] at the owner's port, there is no such hop, or the chain
    /// refuses: it has no module of accounts, or none for this order.
    ///
    /// # Cancel safety
    /// The channel goes on opening; the next call may open one more.
    pub async fn open(
        host: &Host,
        hop: &ConnectionId,
        owner: &str,
        order: Order,
    ) -> Result<Self, IcaError> {
        let port = PortId::new(&port_of(owner)).map_err(HostError::from)?;
        let (of, there) = (hop.clone(), hop.clone());
        let state = host.with_module(&port, move |_: &mut Controller, context| {
            let text = |key: String| {
                let stored = context.get(key)?;
                String::from_utf8(stored.to_vec()).ok()
            };
            let open = text(channel_key(&of)).is_some();
            let other = context.counterparty_of(&of);
            Ok::<_, HostError>((open, text(address_key(&of)), other))
        });
        let (open, known, other) = state.await?;
        let account =
            |address| Self { host: host.clone(), port: port.clone(), hop: there, address };
        if let (true, Some(known)) = (open, known) {
            return Ok(account(known));
        }
        let other = other.ok_or_else(|| HostError::NoHop { hop: hop.clone() })?;
        let channel = IcaChannel::default().with_order(order);
        // Longer than an endpoint may be, if anything.
        let remote = channel.address(&other, hop).to_endpoint();
        let remote = remote.map_err(|error| HostError::Refused(Refusal::new(error.to_string())))?;
        let opened = host.open_channel(&port, remote.as_str()).await?;
        let named = address(&opened.version, hop, Some(&other)).map_err(HostError::Refused)?;
        Ok(account(named))
    }

    /// Its address on the other chain.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Has messages executed: all of them or none, in their order. Resolves once it is known what
    /// became of them, which for what is not received in time takes until that time has passed at
    /// the chain.
    ///
    /// # Errors
    /// The channel is closed: [`open`](Self::open) opens another one. Or the host has ended; what
    /// becomes of the messages is then not told.
    ///
    /// # Cancel safety
    /// The messages may be executed nevertheless.
    pub async fn execute(
        &self,
        messages: Vec<Any>,
        memo: &str,
        timeout: Duration,
    ) -> Result<Outcome, IcaError> {
        let record = packet(messages, memo).map_err(HostError::Refused)?;
        let hop = self.hop.clone();
        let (tell, told) = oneshot::channel();
        let send = move |controller: &mut Controller, context: &mut Context<'_>| {
            let channel = context.get(channel_key(&hop)).ok_or(IcaError::Closed)?;
            let channel = ChannelId::known(&String::from_utf8_lossy(&channel));
            let sequence = context.send(&channel, record, timeout)?;
            controller.waiting.push(channel, sequence, tell);
            Ok::<_, IcaError>(())
        };
        self.host.with_module(&self.port, send).await?;
        Ok(told.await.map_err(|_| HostError::Ended)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_written_as_ibc_go_reads_them() {
        let message = Any { type_url: "/a.B".to_owned(), value: vec![1, 2] };
        let written = packet(vec![message], "hi").unwrap();
        assert_eq!(
            std::str::from_utf8(&written).unwrap(),
            r#"{"data":"CgoKBC9hLkISAgEC","memo":"hi","type":"TYPE_EXECUTE_TX"}"#
        );
    }

    #[test]
    fn an_account_has_to_be_the_one_that_was_asked_for() {
        let (hop, other) =
            (ConnectionId::known("connection-0"), ConnectionId::known("connection-7"));
        let fields = [
            ("version", "ics27-1"),
            ("controllerConnectionId", "connection-0"),
            ("host_connection_id", "connection-7"),
            ("address", "cosmos1abc"),
            ("encoding", "proto3"),
            ("txType", "sdk_multi_msg"),
        ];
        let answer = |changed: Option<(&str, &str)>| {
            let value = |name: &str, usual: &str| match changed {
                Some((of, value)) if of == name => value.to_owned(),
                _ => usual.to_owned(),
            };
            let fields = fields.map(|(name, usual)| (name, value(name, usual)));
            let text = serde_json::to_string(&std::collections::BTreeMap::from(fields)).unwrap();
            address(&text, &hop, Some(&other))
        };
        assert_eq!(answer(None).unwrap(), "cosmos1abc");
        let long = "a".repeat(129);
        for (name, value) in [
            ("version", "ics27-2"),
            ("controllerConnectionId", "connection-7"),
            ("host_connection_id", "connection-0"),
            ("address", ""),
            ("address", "cosmos1/abc"),
            ("address", &long),
            ("encoding", "proto3json"),
            ("txType", "one"),
        ] {
            let error = answer(Some((name, value))).unwrap_err();
            assert!(error.text().contains("no account of ics27-1"), "{name}: {}", error.text());
        }
        assert!(address("{}", &hop, Some(&other)).is_err());
    }

    #[test]
    fn answers_are_read() {
        let response = Any { type_url: "/a.BResponse".to_owned(), value: vec![7] };
        let data = TxMsgData { msg_responses: vec![response.clone()], ..TxMsgData::default() };
        let ack = format!("{{\"result\":\"{}\"}}", BASE64.encode(&data.encode_to_vec()));
        assert_eq!(responses(ack.as_bytes()), Some(vec![response]));
        for ack in ["", "{}", "{\"result\":1}", "{\"result\":\"?\"}", "{\"result\":\"AQ==\"}"] {
            assert_eq!(responses(ack.as_bytes()), None, "{ack}");
        }
    }
}
