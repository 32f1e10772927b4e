//! To the host: messages, behind the header that their proofs are checked with.

use std::{
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use ibc_proto::{
    google::protobuf::Any, ibc::core::client::v1::MsgUpdateClient,
    ibc::lightclients::tendermint::v1::Header,
};
use prost::{Message as _, Name as _};
use tendermint_proto::v0_38::types::ValidatorSet;
use tokio::{sync::oneshot, time};

use super::{LONGEST, Learnt, Relayer};
use crate::{
    engine::Message,
    height::Height,
    host::{
        inbox::Command,
        wire::{Batch, Code},
    },
};

/// How often the next header is asked for.
const POLL: Duration = Duration::from_millis(20);

/// How long is waited until the chain has taken more of what the host has for it.
const BEHIND: Duration = Duration::from_secs(1);

impl Relayer {
    /// Gives messages to the host, behind the header of the block that their proofs are checked
    /// with. Gives whether that could be: it cannot if the node has forgotten that block meanwhile, or
    /// has only said that there is one.
    ///
    /// A client takes no header if less than a third of those who have signed it are validators of
    /// the block that it knows. It is moved there by halves then.
    pub(super) async fn deliver(&self, messages: &[Message], height: u64) -> bool {
        let messages: Vec<Any> = messages.iter().map(Message::write).collect();
        // How far it is moved at most by one header.
        let mut step = u64::MAX;
        loop {
            let chain = self.chain.id.clone();
            let asked = self.shared.ask(|reply| Command::Knows { chain, reply }).await;
            let Ok(Some(known)) = asked else { return true };
            let trusted = Height::new(known.revision, known.height);
            let mut batch = Batch::default();
            let mut learnt = Learnt::default();
            let before = self.validators().clone();
            let next = height.min(trusted.number.saturating_add(step));
            if trusted.number < next {
                let header = if next == height {
                    let Some(header) = self.header(height, trusted).await else { return false };
                    header
                } else {
                    let header = self.chain.rpc.header(next, trusted, before.as_ref()).await;
                    let Ok(header) = header else {
                        // Forgotten, maybe: the other reasons why the last one is not taken may
                        // pass.
                        time::sleep(LONGEST).await;
                        step = u64::MAX;
                        continue;
                    };
                    header
                };
                let validators = self.next_validators(&header).await;
                learnt.validators = validators.map(|set| set.encode_to_vec().into());
                let header = Any { type_url: Header::type_url(), value: header.encode_to_vec() };
                batch.messages.push(
                    Message::UpdateClient(MsgUpdateClient {
                        client_id: self.ours.clone(),
                        client_message: Some(header),
                        signer: String::new(),
                    })
                    .write(),
                );
            }
            if next == height {
                batch.messages.extend(messages.iter().cloned());
            }
            let chain = self.chain.id.clone();
            // In one block: a client is of no use without those who go on from where it is.
            let (reply, delivered) = oneshot::channel();
            let deliver = Command::Deliver { chain: chain.clone(), batch, reply };
            let set = learnt.validators.is_some().then(|| {
                let reply = oneshot::channel().0;
                Command::SetChain { chain, learnt, reply }
            });
            self.shared.inbox.push_all([deliver].into_iter().chain(set));
            let Ok(outcomes) = delivered.await else { return true };
            let again = outcomes.outcomes.iter().find(|outcome| outcome.code() == Code::Again);
            if let Some(again) = again {
                // The client is where it was, and goes on from those.
                let validators = before.as_ref().map(|set| set.encode_to_vec().into());
                *self.validators() = before;
                let learnt = Learnt { validators, ..Learnt::default() };
                let (chain, reply) = (self.chain.id.clone(), oneshot::channel().0);
                self.shared.inbox.push(Command::SetChain { chain, learnt, reply });
                step = next.saturating_sub(trusted.number) / 2;
                if step > 0 {
                    tracing::debug!(
                        chain = self.chain.id,
                        text = again.text,
                        step,
                        "a header is not believed"
                    );
                    continue;
                }
                step = u64::MAX;
                tracing::warn!(
                    chain = self.chain.id,
                    text = again.text,
                    "a header is not believed"
                );
                time::sleep(LONGEST).await;
                continue;
            }
            if next < height {
                step = u64::MAX;
                continue;
            }
            if outcomes.outcomes.iter().any(|outcome| outcome.code() == Code::Later) {
                // All again: what was taken is taken as done.
                time::sleep(BEHIND).await;
                continue;
            }
            for outcome in outcomes.outcomes {
                if outcome.code() == Code::Refused {
                    tracing::debug!(chain = self.chain.id, text = outcome.text, "the host refuses");
                }
            }
            return true;
        }
    }

    /// The header of a block, which may be the next one that the chain makes. `None` if the node
    /// has forgotten it, or never had it.
    async fn header(&self, height: u64, trusted: Height) -> Option<Header> {
        let mut wait = POLL;
        let mut told = false;
        loop {
            let kept = self.validators().clone();
            match self.chain.rpc.header(height, trusted, kept.as_ref()).await {
                Ok(header) => return Some(header),
                Err(error) if error.is_forgotten() => {
                    let status = self.chain.rpc.status().await;
                    if status.is_ok_and(|status| height < status.earliest) {
                        return None;
                    }
                    tracing::error!(
                        chain = self.chain.id, %error,
                        "connect by a node that keeps blocks for as long as the host was away"
                    );
                    time::sleep(LONGEST).await;
                }
                Err(error) => {
                    tracing::trace!(chain = self.chain.id, %error, "no header yet");
                    time::sleep(wait).await;
                    // A block may take its time, and a node that is away as well.
                    wait = Duration::from_secs(1).min(wait + POLL / 2);
                    if wait == Duration::from_secs(1)
                        && let Ok(status) = self.chain.rpc.status().await
                        && status.height.saturating_add(1) < height
                    {
                        tracing::warn!(
                            chain = self.chain.id,
                            height,
                            latest = status.height,
                            "the node has spoken of a block that it does not have"
                        );
                        return None;
                    }
                    if wait == Duration::from_secs(1) && !std::mem::replace(&mut told, true) {
                        let (chain, trusted) = (&self.chain.id, trusted.number);
                        tracing::warn!(
                            chain, height, trusted, %error,
                            "there is no header of a block yet: if the node has forgotten it, or \
                             the validators of the trusted one, connect by one that keeps more"
                        );
                    }
                }
            }
        }
    }

    fn validators(&self) -> MutexGuard<'_, Option<ValidatorSet>> {
        self.validators.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who validates the block after that of a header, if those are others than before. They are
    /// kept: the node may have forgotten them when the next header is to be made.
    async fn next_validators(&self, header: &Header) -> Option<ValidatorSet> {
        let known = self.validators().clone();
        match self.chain.rpc.next_validators(header, known.as_ref()).await {
            Ok(Some(next)) => {
                self.validators().replace(next.clone());
                Some(next)
            }
            Ok(None) => None,
            Err(error) => {
                tracing::debug!(chain = self.chain.id, %error, "the next validators are not known");
                None
            }
        }
    }
}
