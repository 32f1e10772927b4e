//! The task that signs, sends, and finds out.

use std::{collections::VecDeque, time::Duration};

use tokio::{sync::mpsc, time::sleep};

use super::{
    Inclusion, TxError, TxSettings,
    batch::{Batch, Item},
    log::{Fault, events},
    witness::{Outcome, Sent, Witness},
};
use crate::chain::{
    RpcError,
    answer::TxResult,
    key::ChainKey,
    query::Account,
    rpc::{Rpc, hash},
    tx::{self, OVERHEAD, Terms},
};

/// How long is waited for a node that does not answer, at first and at most.
const WAIT: (Duration, Duration) = (Duration::from_millis(25), Duration::from_secs(1));
/// How often one batch is begun anew because of the account's sequence.
const SEQUENCE_TRIES: u32 = 20;
/// The most that is added to the gas that a trial used.
const MAX_GAS_PERCENT: u64 = 500;
/// How often one batch is sent without any block taking it.
const SENDING_TRIES: u32 = 5;

pub(super) struct Worker {
    rpc: Rpc,
    chain: String,
    key: ChainKey,
    address: String,
    settings: TxSettings,
    requests: mpsc::Receiver<Vec<Item>>,
    waiting: VecDeque<Item>,
    /// Number and next sequence, once they are known.
    account: Option<Account>,
    /// The most gas that a transaction may use, once that is known.
    max_gas: Option<u64>,
    /// How much gas a transaction may use, in percent of what it used when it was tried.
    gas_percent: u64,
    witness: Witness,
}

/// What is to be done with a batch.
enum Next {
    Done,
    Again(Batch),
    Halves(Batch),
}

impl Worker {
    pub(super) fn new(
        rpc: Rpc,
        chain: String,
        key: ChainKey,
        settings: TxSettings,
        requests: mpsc::Receiver<Vec<Item>>,
    ) -> Self {
        let address = key.address();
        let witness = Witness::new(rpc.clone(), address.clone());
        Self {
            rpc,
            chain,
            address,
            key,
            requests,
            waiting: VecDeque::new(),
            account: None,
            max_gas: None,
            gas_percent: u64::from(settings.gas_percent.max(100)),
            witness,
            settings,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            if self.waiting.is_empty() {
                match self.requests.recv().await {
                    Some(items) => self.waiting.extend(items),
                    None => return,
                }
            }
            while self.waiting.len() < self.settings.max_messages {
                let Ok(items) = self.requests.try_recv() else { break };
                self.waiting.extend(items);
            }
            let bytes = self.settings.max_bytes.saturating_sub(OVERHEAD);
            let batch = Batch::take(&mut self.waiting, self.settings.max_messages, bytes);
            self.execute(batch).await;
        }
    }

    /// Finds out what becomes of each message of a batch.
    async fn execute(&mut self, batch: Batch) {
        let mut stack = vec![batch];
        let (mut sequences, mut sendings) = (0, 0);
        while let Some(batch) = stack.pop() {
            if batch.0.is_empty() {
                continue;
            }
            match self.attempt(batch, &mut sequences, &mut sendings).await {
                Next::Done => (sequences, sendings) = (0, 0),
                Next::Again(batch) => stack.push(batch),
                Next::Halves(batch) => match batch.halves() {
                    Ok((first, second)) => stack.extend([second, first]),
                    // Whoever asks for halves has made sure that there are two.
                    Err(one) => stack.push(one),
                },
            }
        }
    }

    async fn attempt(&mut self, batch: Batch, sequences: &mut u32, sendings: &mut u32) -> Next {
        let (address, tries) = (self.address.clone(), *sequences);
        if tries >= SEQUENCE_TRIES {
            *sequences = 0;
            batch.fail_all(&TxError::Sequence { address, tries });
            return Next::Done;
        }
        if *sendings >= SENDING_TRIES {
            batch.fail_all(&TxError::NotIncluded { tries: std::mem::take(sendings) });
            return Next::Done;
        }
        let account = match self.account().await {
            Ok(account) => account,
            Err(error) => {
                batch.fail_all(&error);
                return Next::Done;
            }
        };
        let used = match self.try_out(&batch, account).await {
            Ok(used) => used,
            Err((fault, error)) => return self.judge(batch, fault, error, sequences).await,
        };
        let max_gas = self.max_gas().await;
        if used > max_gas {
            if batch.0.len() > 1 {
                return Next::Halves(batch);
            }
            batch.fail_all(&TxError::TooMuchGas { gas: used, limit: max_gas });
            return Next::Done;
        }
        let gas = (used.saturating_mul(self.gas_percent) / 100).min(max_gas);

        let after = match patiently(|| self.rpc.status()).await {
            Ok(status) => status.height,
            Err(source) => {
                batch.fail_all(&TxError::Node { source });
                return Next::Done;
            }
        };
        let until = after.saturating_add(self.settings.timeout_blocks.max(1));
        let terms = Terms {
            chain: &self.chain,
            account: account.number,
            sequence: account.sequence,
            gas,
            fee: self.settings.gas_price.fee(gas),
            timeout_height: until,
        };
        let bytes = tx::sign(&self.key, batch.messages(), &terms);
        let sent = Sent { hash: hash(&bytes), bytes, sequence: account.sequence, after, until };
        if let Err((fault, error)) = self.witness.send(&sent).await {
            return self.judge(batch, fault, error, sequences).await;
        }
        match self.witness.find_out(&sent).await {
            Outcome::Included { height, result } => {
                // Whether it was executed or has failed, its sequence is used up.
                self.account =
                    Some(Account { sequence: account.sequence.saturating_add(1), ..account });
                (*sequences, *sendings) = (0, 0);
                if result.code == 0 {
                    self.gas_percent = u64::from(self.settings.gas_percent.max(100));
                    included(batch, height, sent.hash, result);
                    return Next::Done;
                }
                let fault = Fault::of(&result.codespace, result.code, &result.log);
                let error = refused(result.codespace, result.code, &result.log);
                if fault == Fault::Gas && gas >= max_gas {
                    if batch.0.len() > 1 {
                        return Next::Halves(batch);
                    }
                    batch.fail_all(&TxError::TooMuchGas { gas, limit: max_gas });
                    return Next::Done;
                }
                self.judge(batch, fault, error, sequences).await
            }
            Outcome::Dead => {
                *sendings += 1;
                self.account = None;
                Next::Again(batch)
            }
            Outcome::Overtaken => {
                *sequences += 1;
                self.account = None;
                Next::Again(batch)
            }
            Outcome::Unknown(source) => {
                self.account = None;
                batch.fail_all(&TxError::Unknown { source });
                Next::Done
            }
        }
    }

    /// Decides what to do about a transaction that was refused or has failed.
    async fn judge(
        &mut self,
        mut batch: Batch,
        fault: Fault,
        error: TxError,
        sequences: &mut u32,
    ) -> Next {
        tracing::debug!(?fault, %error, messages = batch.0.len(), "a transaction fails");
        match fault {
            Fault::Sequence(expected) => {
                *sequences += 1;
                // A transaction of another program may wait for its block, of which only the text
                // tells. If the text is wrong, asking twice in a row finds the truth.
                let known = self.account.filter(|_| *sequences % 2 == 1);
                self.account =
                    known.zip(expected).map(|(known, sequence)| Account { sequence, ..known });
                sleep(WAIT.0 * *sequences).await;
                Next::Again(batch)
            }
            Fault::Message(index) if batch.fail(index, error.clone()) => Next::Again(batch),
            Fault::Gas if self.gas_percent < MAX_GAS_PERCENT => {
                self.gas_percent = self.gas_percent.saturating_mul(5) / 4;
                Next::Again(batch)
            }
            Fault::Late | Fault::Known => {
                *sequences += 1;
                sleep(WAIT.0 * *sequences).await;
                Next::Again(batch)
            }
            Fault::Account => {
                batch.fail_all(&error);
                Next::Done
            }
            Fault::Message(_) | Fault::Gas | Fault::Other if batch.0.len() > 1 => {
                Next::Halves(batch)
            }
            Fault::Message(_) | Fault::Gas | Fault::Other => {
                batch.fail_all(&error);
                Next::Done
            }
        }
    }

    async fn account(&mut self) -> Result<Account, TxError> {
        if let Some(account) = self.account {
            return Ok(account);
        }
        let (rpc, address) = (&self.rpc, &self.address);
        let found = patiently(|| rpc.account(address)).await;
        let found = found.map_err(|source| TxError::Node { source })?;
        let found = found.ok_or_else(|| TxError::NoAccount { address: address.clone() })?;
        self.account = Some(found);
        Ok(found)
    }

    async fn max_gas(&mut self) -> u64 {
        let limit = self.settings.max_gas;
        if self.max_gas.is_none() {
            let rpc = &self.rpc;
            // A node that does not tell has no say in it, this time.
            let asked = patiently(|| rpc.max_gas()).await;
            self.max_gas = asked.ok().map(|block| block.map_or(limit, |block| block.min(limit)));
        }
        self.max_gas.unwrap_or(limit)
    }

    /// Tries a batch, and says how much gas it used.
    async fn try_out(&self, batch: &Batch, account: Account) -> Result<u64, (Fault, TxError)> {
        let terms = Terms {
            chain: &self.chain,
            account: account.number,
            sequence: account.sequence,
            gas: 0,
            fee: Vec::new(),
            timeout_height: 0,
        };
        let tx = tx::unsigned(&self.key, batch.messages(), &terms);
        let tried = patiently(|| self.rpc.simulate(tx.clone())).await;
        tried.map_err(of_rpc)
    }
}

/// Asks until the node answers, one way or the other.
async fn patiently<T, F: Future<Output = Result<T, RpcError>>>(
    ask: impl Fn() -> F,
) -> Result<T, RpcError> {
    let mut wait = WAIT.0;
    loop {
        match ask().await {
            Err(error) if error.may_pass() => {
                tracing::debug!(%error, "the node is asked again");
                sleep(wait).await;
                wait = (wait * 2).min(WAIT.1);
            }
            answer => return answer,
        }
    }
}

fn included(batch: Batch, height: u64, tx: [u8; 32], result: TxResult) {
    let events = events(result, batch.0.len());
    for (item, events) in batch.0.into_iter().zip(events) {
        item.reply(Ok(Inclusion { height, tx, events }));
    }
}

pub(super) fn of_rpc(error: RpcError) -> (Fault, TxError) {
    match error {
        RpcError::Query { codespace, code, log, .. } => {
            (Fault::of(&codespace, code, &log), refused(codespace, code, &log))
        }
        // The node says no to what it is given, for example because it is too much.
        source => (Fault::Other, TxError::Node { source }),
    }
}

pub(super) fn refused(codespace: String, code: u32, log: &str) -> TxError {
    TxError::Refused { codespace, code, log: crate::chain::error::excerpt(log) }
}
