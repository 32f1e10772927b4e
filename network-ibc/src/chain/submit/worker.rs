//! The task that signs, sends, and finds out.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use ibc_proto::cosmos::base::v1beta1::Coin;
use tokio::{sync::mpsc, time::sleep};

use super::{
    Inclusion, TxError, TxSettings,
    batch::{Batch, Item},
    log::{Fault, events},
    witness::{Outcome, Sent, Witness},
};
use crate::chain::{
    RpcError,
    answer::{ConsensusParams, TxResult},
    key::ChainKey,
    query::Account,
    rpc::{Rpc, hash},
    tx::{self, GasPrice, OVERHEAD, Terms},
};

/// How long is waited for a node that does not answer, at first and at most.
const WAIT: (Duration, Duration) = (Duration::from_millis(25), Duration::from_secs(1));
/// What a block has besides its transactions at most, in bytes: its header, and what its last one
/// was signed with by 200 validators.
const BLOCK_OVERHEAD: usize = 25_000;
/// How long a trial should take at most. In its mempool the node does the same again, and then a
/// block has to be made before the transaction's last height.
const TRIAL: Duration = Duration::from_secs(1);
/// How often one batch is begun anew because of the account's sequence.
const SEQUENCE_TRIES: u32 = 20;
/// The most that is added to the gas that a trial used.
const MAX_GAS_PERCENT: u64 = 500;
/// How often one batch is sent without any block taking it.
const SENDING_TRIES: u32 = 5;
/// What of a price above [`TxSettings::gas_price`] is left after each block that took a
/// transaction, in percent: who asks for less than was paid does not say so.
const PRICE_PERCENT: u128 = 90;

pub(super) struct Worker {
    rpc: Rpc,
    chain: String,
    key: ChainKey,
    address: String,
    settings: TxSettings,
    requests: mpsc::Receiver<Vec<Item>>,
    waiting: VecDeque<Item>,
    /// How many messages a transaction has at most, so that it does not take the node too long.
    at_once: usize,
    /// Number and next sequence, once they are known.
    account: Option<Account>,
    /// What the chain lets a transaction be, once that is known.
    limits: Option<Limits>,
    /// What is paid for gas now.
    price: GasPrice,
    /// How much gas a transaction may use, in percent of what it used when it was tried.
    gas_percent: u64,
    witness: Witness,
}

/// What a transaction may be at most.
#[derive(Clone, Copy)]
struct Limits {
    gas: u64,
    bytes: usize,
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
            at_once: settings.max_messages,
            account: None,
            limits: None,
            price: settings.gas_price.clone(),
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
            let bytes = self.limits().await.bytes.saturating_sub(OVERHEAD);
            let batch = Batch::take(&mut self.waiting, self.at_once, bytes);
            self.execute(batch).await;
        }
    }

    /// Finds out what becomes of each message of a batch.
    async fn execute(&mut self, batch: Batch) {
        let mut stack = vec![batch];
        let (mut sequences, mut sendings) = (0, 0);
        while let Some(mut batch) = stack.pop() {
            batch.drop_worthless();
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
        if batch.0.len() > self.at_once {
            return Next::Halves(batch);
        }
        let max_gas = self.limits().await.gas;
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
            fee: self.price.fee(gas),
            timeout_height: until,
        };
        let bytes = tx::sign(&self.key, batch.messages(batch.0.len()), &terms);
        let sent = Sent { hash: hash(&bytes), bytes, sequence: account.sequence, after, until };
        if let Err((fault, error)) = self.witness.send(&sent).await {
            if let Fault::Fee(wanted) = &fault
                && self.pay(wanted, gas)
            {
                return Next::Again(batch);
            }
            return self.judge(batch, fault, error, sequences).await;
        }
        match self.witness.find_out(&sent).await {
            Outcome::Included { height, result } => {
                // Whether it was executed or has failed, its sequence is used up.
                self.account =
                    Some(Account { sequence: account.sequence.saturating_add(1), ..account });
                (*sequences, *sendings) = (0, 0);
                let less = self.price.per_billion / 100 * PRICE_PERCENT;
                self.price.per_billion = less.max(self.settings.gas_price.per_billion);
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
                // It may be too much for the node.
                if batch.0.len() > 1 { Next::Halves(batch) } else { Next::Again(batch) }
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
        tracing::debug!(
            ?fault,
            error = &error as &(dyn std::error::Error + 'static),
            messages = batch.0.len(),
            "a transaction fails"
        );
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
            Fault::Node => {
                batch.fail_all(&error);
                Next::Done
            }
            Fault::Account | Fault::Fee(_) => {
                let (address, log) = (self.address.clone(), error.to_string());
                batch.fail_all(&TxError::CannotPay { address, log });
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

    async fn limits(&mut self) -> Limits {
        let TxSettings { max_gas, max_bytes, .. } = self.settings;
        if self.limits.is_none() {
            let rpc = &self.rpc;
            // A node that does not tell has no say in it, this time.
            if let Ok(ConsensusParams { block }) = patiently(|| rpc.consensus_params()).await {
                // Less than none is as much as one likes.
                let gas = u64::try_from(block.max_gas).map_or(max_gas, |gas| gas.min(max_gas));
                let bytes = usize::try_from(block.max_bytes);
                let bytes = bytes
                    .map_or(max_bytes, |bytes| bytes.saturating_sub(BLOCK_OVERHEAD).min(max_bytes));
                self.limits = Some(Limits { gas, bytes });
            }
        }
        self.limits.unwrap_or(Limits { gas: max_gas, bytes: max_bytes })
    }

    /// Tries a batch, and says how much gas it uses. Of one that is too large to be tried, as many
    /// messages are tried as fit, and the others are taken to be alike.
    async fn try_out(&mut self, batch: &Batch, account: Account) -> Result<u64, (Fault, TxError)> {
        let terms = Terms {
            chain: &self.chain,
            account: account.number,
            sequence: account.sequence,
            gas: 0,
            fee: Vec::new(),
            timeout_height: 0,
        };
        let limit = self.settings.trial_bytes().saturating_sub(OVERHEAD);
        let (tried, whole) = (batch.first(limit), batch.first(usize::MAX));
        let tx = tx::unsigned(&self.key, batch.messages(tried.messages), &terms);
        let begun = Instant::now();
        let used = patiently(|| self.rpc.simulate(tx.clone())).await.map_err(of_rpc)?;
        let took = begun.elapsed();
        if took > TRIAL {
            self.at_once = (tried.messages / 2).max(1);
        } else if took < TRIAL / 4 {
            self.at_once = self.at_once.saturating_mul(2).min(self.settings.max_messages);
        }
        // Gas is for what messages do, and for their bytes.
        let by = |part: usize, of: usize| {
            let (part, of) = (part.max(1) as u128, of as u128);
            u64::try_from(u128::from(used).saturating_mul(of).div_ceil(part)).unwrap_or(u64::MAX)
        };
        Ok(by(tried.messages, whole.messages).max(by(tried.bytes, whole.bytes)))
    }

    /// Pays more, if it is known how much is wanted for an amount of gas, and that may be paid.
    fn pay(&mut self, wanted: &[Coin], gas: u64) -> bool {
        let Some(most) = &self.settings.max_gas_price else { return false };
        let may = |wanted: &&Coin| {
            let (wanted, most) = (wanted.amount.parse::<u128>(), most.fee_amount(gas));
            wanted.is_ok_and(|wanted| wanted <= most)
        };
        let of_ours = |coin: &&Coin| coin.denom == self.price.denom && coin.denom == most.denom;
        let wanted = wanted.iter().filter(of_ours).find(may);
        let Some(price) = wanted.and_then(|wanted| GasPrice::for_fee(wanted, gas)) else {
            return false;
        };
        // A fee is rounded up, and so is the price that it tells.
        let per_billion = price.per_billion.min(most.per_billion);
        // Each time it is more, so there is an end to it.
        let more = per_billion > self.price.per_billion;
        if more {
            self.price.per_billion = per_billion;
            tracing::debug!(price = %self.price, "the chain wants more for gas");
        }
        more
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
        source @ RpcError::Unexpected { .. } => (Fault::Node, TxError::Node { source }),
        // The node says no to what it is given, for example because it is too much.
        source => (Fault::Other, TxError::Node { source }),
    }
}

pub(super) fn refused(codespace: String, code: u32, log: &str) -> TxError {
    TxError::Refused { codespace, code, log: crate::chain::error::excerpt(log) }
}
