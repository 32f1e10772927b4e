//! Tokens over channels (ICS-020): between hosts, and between a host and a chain.
//!
//! A host that has the module [`Transfer`] at [`PORT`] keeps balances. Tokens that leave it are put
//! aside (*escrow*), and vouchers of them are made at the other side; tokens of the other side are
//! vouchers here. A voucher's denomination is the path that it has come by: `transfer/channel-0/uatom`
//! is the other side's `uatom`, over `channel-0` of this host.
//!
//! ```
//! use network_core::Network;
//! use network_ibc::{Host, transfer::{self, Outcome, Send, Tokens, Transfer, U256}};
//! use network_loopback::Loopback;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let way = Network::builder().protocol(Loopback::new()).build()?;
//! let bank = |chain| Host::builder(chain).module(transfer::PORT, Transfer::new())?.in_memory();
//! let (alpha, beta) = (bank("alpha")?, bank("beta")?);
//! beta.serve(&way.bind("/local/beta").await?).await?;
//! let hop = alpha.connect_hop(&way.bind("/local/").await?, "/local/beta").await?;
//!
//! let (here, there) = (Tokens::of(&alpha), Tokens::of(&beta));
//! here.mint("alice", "apple", U256::from(10)).await?;
//! let channel = here.open(&hop.connection).await?;
//! let send = Send::new(channel.channel, "alice", "bob", "apple", U256::from(4));
//! assert_eq!(here.send(send).await?.outcome().await?, Outcome::Delivered);
//!
//! assert_eq!(here.balance("alice", "apple").await?, U256::from(6));
//! assert_eq!(there.balance("bob", "transfer/channel-0/apple").await?, U256::from(4));
//! # Ok(())
//! # }
//! ```

mod bank;
mod data;
mod error;

use std::time::Duration;

use bytes::Bytes;
pub use error::TransferError;
use network_core::Refusal;
pub use ruint::aliases::U256;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use self::{
    bank::Holder,
    data::{PacketData, prefix},
};
use crate::{
    address::Order,
    host::{Context, Host, HostError, Module, ModuleChannel, Waiting},
    identifier::{ChannelId, ConnectionId, PortId},
};

/// The port that ICS-020 has everywhere.
pub const PORT: &str = "transfer";

/// The version of the channels.
pub const VERSION: &str = "ics20-1";

/// The acknowledgement of tokens that have arrived, as ibc-go writes it.
const DELIVERED: &[u8] = br#"{"result":"AQ=="}"#;

/// How long tokens may be under way where nobody says otherwise.
const TIMEOUT: Duration = Duration::from_secs(600);

/// The module of ICS-020. See [the page of `transfer`](self).
#[derive(Debug, Default)]
pub struct Transfer {
    /// Who waits for what became of a packet.
    waiting: Waiting<Outcome>,
}

impl Transfer {
    /// A bank without tokens, or the one that the ledger has.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives tokens back to who has sent them.
    fn refund(context: &mut Context<'_>, channel: &ModuleChannel, record: &[u8]) {
        let given_back = PacketData::read(record).and_then(|data| {
            let amount = data.check()?;
            let (denom, to) = (&data.denom, Holder::Account(&data.sender));
            if denom.starts_with(&prefix(&channel.port, &channel.channel)) {
                return bank::add(context, to, denom, amount);
            }
            let aside = Holder::Escrow(&channel.channel);
            bank::take(context, aside, denom, amount)?;
            bank::add(context, to, denom, amount).inspect_err(|_| {
                // It was there a moment ago.
                let _ = bank::add(context, aside, denom, amount);
            })
        });
        if let Err(error) = given_back {
            // It was written by `send`, so either the sender has more by now than can be counted,
            // or this is a fault of ours.
            tracing::error!(channel = %channel.channel, %error, "tokens were not given back");
        }
    }
}

impl Module for Transfer {
    fn on_try(&mut self, _: &mut Context<'_>, channel: &ModuleChannel) -> Result<String, Refusal> {
        if channel.order == Order::Ordered {
            return Err(Refusal::new("ICS-020 takes unordered channels"));
        }
        // Whatever is proposed: this is the one that there is (ibc-go, `OnChanOpenTry`).
        Ok(VERSION.to_owned())
    }

    fn on_open(&mut self, _: &mut Context<'_>, channel: &ModuleChannel) -> Result<(), Refusal> {
        if channel.version != VERSION {
            return Err(Refusal::new(format!("{} is not {VERSION}", channel.version)));
        }
        Ok(())
    }

    fn on_receive(
        &mut self,
        context: &mut Context<'_>,
        channel: &ModuleChannel,
        record: &Bytes,
    ) -> Result<Bytes, Refusal> {
        let data = PacketData::read(record)?;
        let amount = data.check()?;
        let other = channel.counterparty.as_ref().ok_or_else(|| Refusal::new("no channel"))?;
        let to = Holder::Account(&data.receiver);
        match data.denom.strip_prefix(&prefix(&channel.counterparty_port, other)) {
            // They are from here, and come back.
            Some(denom) => {
                bank::take(context, Holder::Escrow(&channel.channel), denom, amount)?;
                bank::add(context, to, denom, amount)?;
            }
            None => {
                let denom = prefix(&channel.port, &channel.channel) + &data.denom;
                bank::add(context, to, &denom, amount)?;
            }
        }
        Ok(Bytes::from_static(DELIVERED))
    }

    fn on_ack(
        &mut self,
        context: &mut Context<'_>,
        channel: &ModuleChannel,
        sequence: u64,
        record: &Bytes,
        ack: Result<Bytes, Refusal>,
    ) {
        let outcome = match ack {
            Ok(_) => Outcome::Delivered,
            Err(refusal) => {
                Self::refund(context, channel, record);
                Outcome::Refunded(Why::Refused(refusal.text().to_owned()))
            }
        };
        self.waiting.tell(context, channel, sequence, outcome);
    }

    fn on_timeout(
        &mut self,
        context: &mut Context<'_>,
        channel: &ModuleChannel,
        sequence: u64,
        record: &Bytes,
    ) {
        Self::refund(context, channel, record);
        self.waiting.tell(context, channel, sequence, Outcome::Refunded(Why::NotReceived));
    }
}

/// What became of tokens that were sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The receiver has them.
    Delivered,
    /// The sender has them again.
    Refunded(Why),
}

/// Why tokens were given back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// The other side refuses them. A chain keeps its reasons to its logs, and says a number.
    Refused(String),
    /// It is proved that they were not received: their time has passed, or the channel is closed.
    NotReceived,
}

/// Tokens to be sent.
#[derive(Clone, Debug)]
pub struct Send {
    channel: ChannelId,
    from: String,
    to: String,
    denom: String,
    amount: U256,
    memo: String,
    timeout: Duration,
}

impl Send {
    /// Sends `amount` of `denom` over a channel of this host, from an account of this host to one
    /// of the other side.
    pub fn new(
        channel: ChannelId,
        from: impl Into<String>,
        to: impl Into<String>,
        denom: impl Into<String>,
        amount: U256,
    ) -> Self {
        let (from, to, denom) = (from.into(), to.into(), denom.into());
        Self { channel, from, to, denom, amount, memo: String::new(), timeout: TIMEOUT }
    }

    /// A memo for the other side, of at most 32,768 bytes.
    #[must_use]
    pub fn memo(mut self, memo: impl Into<String>) -> Self {
        self.memo = memo.into();
        self
    }

    /// How long they may be under way: 10 minutes if this is not called.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

/// Tokens that are under way. Dropping it changes nothing.
#[derive(Debug)]
#[must_use = "`outcome` tells what becomes of them"]
pub struct Sent {
    /// The packet that they are in.
    pub sequence: u64,
    outcome: oneshot::Receiver<Outcome>,
}

impl Sent {
    /// Waits until the tokens are delivered or given back.
    ///
    /// # Errors
    /// The host has ended. The tokens are safe: it goes on with them when it is opened again.
    pub async fn outcome(self) -> Result<Outcome, HostError> {
        self.outcome.await.map_err(|_| HostError::Ended)
    }
}

/// The tokens of a host that has the module [`Transfer`] at [`PORT`].
///
/// Accounts are names of up to 2,048 bytes, and mean what the program wants them to mean. Everything
/// resolves once it is stored. Dropping a future cancels nothing that was begun.
#[derive(Clone, Debug)]
pub struct Tokens {
    host: Host,
    port: PortId,
}

impl Tokens {
    /// Those of a host.
    #[must_use]
    pub fn of(host: &Host) -> Self {
        Self { host: host.clone(), port: PortId::known(PORT) }
    }

    async fn with<T: std::marker::Send + 'static>(
        &self,
        act: impl FnOnce(&mut Transfer, &mut Context<'_>) -> Result<T, TransferError>
        + std::marker::Send
        + 'static,
    ) -> Result<T, TransferError> {
        self.host.with_module(&self.port, act).await
    }

    /// Opens a channel for tokens over a hop.
    ///
    /// # Errors
    /// As [`Host::open_channel`].
    pub async fn open(&self, hop: &ConnectionId) -> Result<ModuleChannel, HostError> {
        let remote = format!("/ibc-hop/{hop}/ibc-port/{PORT}/unordered/{VERSION}");
        self.host.open_channel(&self.port, &remote).await
    }

    /// Makes tokens of this host.
    ///
    /// # Errors
    /// The denomination is blank, longer than 2,048 bytes or one of vouchers, the account is blank,
    /// or there would be too many.
    pub async fn mint(
        &self,
        account: &str,
        denom: &str,
        amount: U256,
    ) -> Result<(), TransferError> {
        let (account, denom) = (account.to_owned(), denom.to_owned());
        // What a packet may say.
        PacketData::new(&denom, amount, &account, &account, "").check()?;
        if denom.starts_with("transfer/") {
            let reason = "vouchers are made for tokens of the other side only";
            return Err(TransferError::Denom { denom, reason });
        }
        self.with(move |_, context| bank::add(context, Holder::Account(&account), &denom, amount))
            .await
    }

    /// Ends tokens, of whatever kind.
    ///
    /// # Errors
    /// The account has not that many.
    pub async fn burn(
        &self,
        account: &str,
        denom: &str,
        amount: U256,
    ) -> Result<(), TransferError> {
        let (account, denom) = (account.to_owned(), denom.to_owned());
        self.with(move |_, context| bank::take(context, Holder::Account(&account), &denom, amount))
            .await
    }

    /// How many tokens of a kind an account has.
    ///
    /// # Errors
    /// The host has no such module, or has ended.
    pub async fn balance(&self, account: &str, denom: &str) -> Result<U256, TransferError> {
        let (account, denom) = (account.to_owned(), denom.to_owned());
        self.with(move |_, context| Ok(bank::balance(context, Holder::Account(&account), &denom)))
            .await
    }

    /// All that an account has, by denomination.
    ///
    /// # Errors
    /// As [`balance`](Self::balance).
    pub async fn balances(&self, account: &str) -> Result<Vec<(String, U256)>, TransferError> {
        let account = account.to_owned();
        self.with(move |_, context| Ok(bank::balances(context, Holder::Account(&account)))).await
    }

    /// All that has left over a channel and has not come back, by denomination.
    ///
    /// # Errors
    /// As [`balance`](Self::balance).
    pub async fn escrowed(
        &self,
        channel: &ChannelId,
    ) -> Result<Vec<(String, U256)>, TransferError> {
        let channel = channel.clone();
        self.with(move |_, context| Ok(bank::balances(context, Holder::Escrow(&channel)))).await
    }

    /// Sends tokens. Resolves once they are put aside and their packet is stored.
    ///
    /// # Errors
    /// The account has not that many, something about them is not as it has to be, or the channel
    /// is not open; nothing has changed then.
    pub async fn send(&self, send: Send) -> Result<Sent, TransferError> {
        let Send { channel, from, to, denom, amount, memo, timeout } = send;
        let data = PacketData::new(&denom, amount, &from, &to, &memo);
        data.check()?;
        let record = data.write()?;
        let port = self.port.clone();
        let (tell, outcome) = oneshot::channel();
        let sequence = self.with(move |transfer, context| {
            bank::take(context, Holder::Account(&from), &denom, amount)?;
            // Vouchers end here when they go back to where their tokens are from.
            if !denom.starts_with(&prefix(&port, &channel)) {
                bank::add(context, Holder::Escrow(&channel), &denom, amount)?;
            }
            let sequence = context.send(&channel, record, timeout)?;
            transfer.waiting.push(channel, sequence, tell);
            Ok(sequence)
        });
        Ok(Sent { sequence: sequence.await?, outcome })
    }
}

/// What a chain calls a voucher of its own: `ibc/` and the hash of the path.
///
/// ```
/// let name = network_ibc::transfer::voucher("transfer/channel-0/uatom");
/// assert_eq!(name, "ibc/27394FB092D2ECCD56123C74F36E4C1F926001CEADA9CA97EA622B25F41E5EB2");
/// ```
#[must_use]
pub fn voucher(path: &str) -> String {
    use std::fmt::Write as _;
    let mut name = String::from("ibc/");
    for byte in Sha256::digest(path) {
        let _ = write!(name, "{byte:02X}");
    }
    name
}
