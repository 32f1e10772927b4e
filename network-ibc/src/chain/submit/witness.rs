//! What becomes of a transaction that was sent.

use std::time::Duration;

use tokio::time::sleep;

use super::{
    TxError,
    log::Fault,
    worker::{of_rpc, refused},
};
use crate::chain::{
    RpcError,
    answer::{Checked, TxResult},
    rpc::Rpc,
};

/// How long is waited between looks for a transaction, at first and at most.
const WAIT: (Duration, Duration) = (Duration::from_millis(25), Duration::from_secs(1));
/// How often the index is asked for a transaction that must have been included.
const INDEX_TRIES: u32 = 8;
/// After how many looks a transaction is given to the node again, which may have lost it.
const LOOKS: u32 = 10;

/// A transaction that was sent.
pub(super) struct Sent {
    pub(super) bytes: Vec<u8>,
    pub(super) hash: [u8; 32],
    pub(super) sequence: u64,
    /// The height after which it was sent, and the last one that may include it.
    pub(super) after: u64,
    pub(super) until: u64,
}

/// What became of a transaction.
pub(super) enum Outcome {
    Included {
        height: u64,
        result: TxResult,
    },
    /// It is in no block and never will be: another one has its sequence.
    Overtaken,
    /// It is in no block and never will be: its time is over.
    Dead,
    /// It may be in a block that the node does not show.
    Unknown(RpcError),
}

/// Sends transactions of one account, and finds out about them.
pub(super) struct Witness {
    rpc: Rpc,
    address: String,
    /// Whether the node can be asked for transactions by their hash.
    index: bool,
}

impl Witness {
    pub(super) fn new(rpc: Rpc, address: String) -> Self {
        Self { rpc, address, index: true }
    }

    /// Gives the node a transaction. `Ok` if the node has it or may have it.
    pub(super) async fn send(&self, sent: &Sent) -> Result<(), (Fault, TxError)> {
        match self.rpc.broadcast(&sent.bytes).await {
            Ok(Checked { code: 0, .. }) => Ok(()),
            Ok(Checked { code, codespace, log, .. }) => match Fault::of(&codespace, code, &log) {
                Fault::Known => Ok(()),
                fault => Err((fault, refused(codespace, code, &log))),
            },
            Err(RpcError::Node { message, .. })
                if message.contains("tx already exists in cache")
                    || message.contains("mempool is full") =>
            {
                Ok(())
            }
            // The node has said no, or has not read it.
            Err(error @ (RpcError::Node { .. } | RpcError::Status { status: 400 | 413, .. })) => {
                Err(of_rpc(error))
            }
            // Whether the node has it is not known: it is given to it again while it is looked for.
            Err(error) => {
                tracing::debug!(%error, "whether a transaction was sent is not known");
                Ok(())
            }
        }
    }

    /// Waits until it is certain what became of a transaction.
    ///
    /// It is not in a block as long as the account's sequence is its own. It never will be when
    /// that holds after the last block that may include it, or when the sequence is used up and no
    /// block since it was sent has it.
    pub(super) async fn find_out(&mut self, sent: &Sent) -> Outcome {
        let (mut wait, mut looks, mut used) = (WAIT.0, 0_u32, 0_u32);
        loop {
            sleep(wait).await;
            wait = (wait * 5 / 4).min(WAIT.1);
            looks += 1;
            if self.index {
                match self.rpc.tx(&sent.hash).await {
                    Ok(Some(found)) => {
                        let (height, result) = (found.height, found.tx_result);
                        return Outcome::Included { height, result };
                    }
                    Ok(None) => {}
                    Err(RpcError::Node { message, .. }) if message.contains("disabled") => {
                        self.index = false;
                    }
                    Err(error) if error.may_pass() => continue,
                    // The account tells, too.
                    Err(error) => tracing::debug!(%error, "the index is of no use"),
                }
            }
            let Ok(Some(account)) = self.rpc.account(&self.address).await else { continue };
            if account.sequence > sent.sequence {
                used += 1;
                // The index comes a little later than the block, and costs less.
                if self.index && used < INDEX_TRIES {
                    wait = WAIT.0;
                    continue;
                }
                match self.look_through(sent, account.height).await {
                    Ok(outcome) => return outcome,
                    Err(error) if error.may_pass() => {}
                    Err(source) if used > INDEX_TRIES * 2 => return Outcome::Unknown(source),
                    Err(_) => {}
                }
            } else if account.height >= sent.until {
                return Outcome::Dead;
            } else if looks.is_multiple_of(LOOKS) {
                // Its answer is of no matter: what counts is what is in blocks.
                let _ = self.rpc.broadcast(&sent.bytes).await;
            }
        }
    }

    /// Looks for a transaction in all blocks that may have it.
    async fn look_through(&self, sent: &Sent, to: u64) -> Result<Outcome, RpcError> {
        for height in sent.after.saturating_add(1)..=to.min(sent.until) {
            if let Some(result) = self.rpc.tx_in(&sent.hash, height).await? {
                return Ok(Outcome::Included { height, result });
            }
        }
        Ok(Outcome::Overtaken)
    }
}
