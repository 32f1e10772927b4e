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

use self::{batch::Item, worker::Worker};
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
    /// What a unit of gas costs. Default: nothing, which few chains take.
    pub gas_price: GasPrice,
    /// How much gas a transaction may use, in percent of what it used when it was tried. Default:
    /// 130.
    pub gas_percent: u32,
    /// How much gas a transaction may use, whatever it needs. No more than what a block of the
    /// chain may use counts. Default: 50,000,000.
    pub max_gas: u64,
    /// How many messages a transaction may have. Default: 500.
    pub max_messages: usize,
    /// How many bytes a transaction may have. Default: 480,000, which fill a request of a node
    /// whose limits are the default ones: it holds a transaction in hexadecimal digits.
    pub max_bytes: usize,
    /// Within how many blocks a transaction is included or never. Default: 30.
    pub timeout_blocks: u64,
}

impl Default for TxSettings {
    fn default() -> Self {
        Self {
            gas_price: GasPrice::free(),
            gas_percent: 130,
            max_gas: 50_000_000,
            max_messages: 500,
            max_bytes: 480_000,
            timeout_blocks: 30,
        }
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
        let limit = settings.max_bytes.saturating_sub(OVERHEAD);
        let worker = Worker::new(rpc, chain.to_owned(), key, settings, requests);
        Self { queue, limit, task: tokio::spawn(worker.run()) }
    }

    /// Has messages executed, in their order, and says what became of each. Waits while too many
    /// others wait.
    ///
    /// # Cancel safety
    /// Dropping the future takes nothing back: messages that were queued are sent.
    pub(crate) async fn submit(&self, messages: Vec<Any>) -> Vec<Fate> {
        let (mut items, mut fates) = (Vec::new(), Vec::new());
        for message in messages {
            let (reply, fate) = oneshot::channel();
            fates.push(fate);
            let item = Item::new(message, reply);
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
