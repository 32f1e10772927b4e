//! Having messages executed by a chain, from one account.

mod batch;
mod log;
mod witness;
mod worker;

use ibc_proto::google::protobuf::Any;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use self::{
    batch::{Call, Item},
    worker::Worker,
};
use super::{
    RpcError,
    answer::Event,
    key::ChainKey,
    rpc::Rpc,
    tx::{GasPrice, OVERHEAD},
};

/// How many calls of [`Submitter::submit`] may wait for their turn.
const QUEUE: usize = 64;

/// How transactions are made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TxSettings {
    /// What is paid for a unit of gas. Default: nothing, which few chains take.
    pub gas_price: GasPrice,
    /// Up to what is paid for it when the chain wants more, in the same coin. Each time the chain
    /// says that a fee is too low, as much is paid as it says, and after each block less again.
    /// Default: none, so that never more than [`gas_price`](Self::gas_price) is paid.
    pub max_gas_price: Option<GasPrice>,
    /// How much gas a transaction may use, in percent of what it used when it was tried. Default:
    /// 130.
    ///
    /// A transaction of more than two thirds of [`max_bytes`](Self::max_bytes) is tried without its
    /// last messages, which are taken to be like the first.
    pub gas_percent: u32,
    /// How much gas a transaction may use, whatever it needs. No more than what a block of the
    /// chain may use counts. Default: 50,000,000.
    pub max_gas: u64,
    /// How many messages a transaction may have. Default: 1,000.
    pub max_messages: usize,
    /// How many bytes a transaction may have; one message two thirds of it. No more than what a
    /// block of the chain may have counts. Default: 740,000, which fill a request of a node whose
    /// limits are the default ones (CometBFT, `max_body_bytes`).
    pub max_bytes: usize,
    /// Within how many blocks a transaction is included or never. Default: 30.
    pub timeout_blocks: u64,
}

impl Default for TxSettings {
    fn default() -> Self {
        Self {
            gas_price: GasPrice::free(),
            max_gas_price: None,
            gas_percent: 130,
            max_gas: 50_000_000,
            max_messages: 1_000,
            max_bytes: 740_000,
            timeout_blocks: 30,
        }
    }
}

impl TxSettings {
    /// How many bytes of a transaction can be tried: a node takes what is to be tried in
    /// hexadecimal digits, and what is to be executed in base 64.
    fn trial_bytes(&self) -> usize {
        self.max_bytes / 3 * 2
    }
}

/// Why a message was not executed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TxError {
    /// The chain refuses it.
    #[error("the chain refuses the message: {log} (code {code} of {codespace})")]
    Refused {
        /// Whose code it is.
        codespace: String,
        /// The code. Of a message that was refused when it was tried, it is the one of all
        /// refusals.
        code: u32,
        /// What the chain says.
        log: String,
    },
    /// It does not fit into a transaction.
    #[error("the message has {size} bytes, and a transaction may have {limit}")]
    TooLarge {
        /// How many bytes it has.
        size: usize,
        /// How many it may have.
        limit: usize,
    },
    /// It uses more gas than a transaction may.
    #[error("the message uses {gas} units of gas, and a transaction may use {limit}")]
    TooMuchGas {
        /// How much it uses.
        gas: u64,
        /// How much it may use.
        limit: u64,
    },
    /// The chain does not know the account.
    #[error("the chain does not know {address}: send some of its coins there")]
    NoAccount {
        /// The account's address.
        address: String,
    },
    /// The account has too little, or may not pay as much as the chain wants.
    #[error(
        "{address} cannot pay for a transaction: {log}: send coins there, or raise \
         `TxSettings::gas_price`"
    )]
    CannotPay {
        /// The account's address.
        address: String,
        /// What the chain says.
        log: String,
    },
    /// Others use the account.
    #[error(
        "the sequence of {address} was another one {tries} times in a row: let no other program \
         sign with its key"
    )]
    Sequence {
        /// The account's address.
        address: String,
        /// How often it was tried.
        tries: u32,
    },
    /// No block took it.
    #[error(
        "no block took the transaction in {tries} tries: see whether the price of gas is high \
         enough"
    )]
    NotIncluded {
        /// How often it was tried.
        tries: u32,
    },
    /// The node does not answer as one should, so nothing was sent.
    #[error("the node of the chain is of no use for transactions: take another one")]
    Node {
        /// What is wrong with it.
        #[source]
        source: RpcError,
    },
    /// The node does not show the blocks that the message may be in.
    #[error("what became of the message is not known: the node does not show the last blocks")]
    Unknown {
        /// Why not.
        #[source]
        source: RpcError,
    },
    /// One that was to be executed before it was not.
    #[error("the message was not sent, as one that goes before it was refused")]
    Before,
    /// The submitter was dropped before the fate of the message was known.
    #[error("what became of the message is not known: the submitter has ended")]
    Ended,
}

/// A message that was executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inclusion {
    /// The height of the block.
    pub(crate) height: u64,
    /// The hash of the transaction, in which others may be too.
    pub(crate) tx: [u8; 32],
    /// What the message brought about.
    pub(crate) events: Vec<Event>,
}

/// What became of a message.
pub(crate) type Fate = Result<Inclusion, TxError>;

/// Signs with one account, of which nobody else should. Its task ends when it is dropped.
///
/// Messages that wait are packed into one transaction, so the more there are the less each costs.
/// One transaction at a time is under way. It says until which height it is valid, so what becomes
/// of it is always found out: a message that is reported as executed was executed once by it, and
/// one that is not never was.
///
/// A transaction fails as a whole when one of its messages does. That message is told so, and the
/// others are sent again without it, in the same order.
///
/// While the node is away, messages wait. What is under way when the process ends is forgotten by
/// it and may be executed yet, so messages that begin anew should be such that do nothing twice,
/// as those of IBC are.
#[derive(Debug)]
pub(crate) struct Submitter {
    queue: mpsc::Sender<Vec<Item>>,
    limit: usize,
    task: JoinHandle<()>,
}

impl Submitter {
    /// Begins to sign for the chain with that id.
    pub(crate) fn spawn(rpc: Rpc, chain: &str, key: ChainKey, settings: TxSettings) -> Self {
        let (queue, requests) = mpsc::channel(QUEUE);
        let limit = settings.trial_bytes().saturating_sub(OVERHEAD);
        let worker = Worker::new(rpc, chain.to_owned(), key, settings, requests);
        Self { queue, limit, task: tokio::spawn(worker.run()) }
    }

    /// Has messages executed, in their order, and says what became of each. Waits while too many
    /// others wait.
    ///
    /// # Cancel safety
    /// Dropping the future takes nothing back: messages that were queued are sent.
    pub(crate) async fn submit(&self, messages: Vec<Any>) -> Vec<Fate> {
        self.submit_needing(messages, |_| false).await
    }

    /// The same of messages of which some are needed by all behind them: once such a one fails,
    /// those behind it are not sent.
    pub(crate) async fn submit_needing(
        &self,
        messages: Vec<Any>,
        needed: impl Fn(usize) -> bool,
    ) -> Vec<Fate> {
        let call = Call::new();
        let (mut items, mut fates) = (Vec::new(), Vec::new());
        for (number, message) in messages.into_iter().enumerate() {
            let (reply, fate) = oneshot::channel();
            fates.push(fate);
            let item = Item::new(message, reply, &call, number, needed(number));
            if item.size > self.limit {
                let size = item.size;
                item.reply(Err(TxError::TooLarge { size, limit: self.limit }));
            } else {
                items.push(item);
            }
        }
        if !items.is_empty() {
            // If nobody takes them, the replies say so.
            let _ = self.queue.send(items).await;
        }
        let mut all = Vec::with_capacity(fates.len());
        for fate in fates {
            all.push(fate.await.unwrap_or(Err(TxError::Ended)));
        }
        all
    }
}

impl Drop for Submitter {
    fn drop(&mut self) {
        self.task.abort();
    }
}
