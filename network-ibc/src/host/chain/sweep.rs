//! What the node has not told of though it could, found by the chain's state.
//!
//! A node that leaves out an event, or answers one question wrongly, is not asked again: the block
//! is seen. So now and then it is found out what waits on the chain, and what has waited since the
//! time before is told.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::time;

use super::{
    Relayer,
    missed::{End, Missed, Waiting},
};
use crate::{chain::RpcError, host::inbox::Command};

/// How short a while is at least.
const SHORTEST: Duration = Duration::from_secs(1);

/// By the chain's ends of channels.
type Waits = BTreeMap<End, Waiting>;

/// The search, which begins again whenever it has ended.
pub(super) struct Sweep<'a> {
    relayer: &'a Relayer,
    search: BoxFuture<'a, (Missed, Waits)>,
}

impl<'a> Sweep<'a> {
    pub(super) fn new(relayer: &'a Relayer) -> Self {
        Self { relayer, search: relayer.sweep(Waits::new()).boxed() }
    }

    /// Waits for what has waited for too long.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(super) async fn found(&mut self) -> Missed {
        loop {
            let (missed, waits) = (&mut self.search).await;
            self.search = self.relayer.sweep(waits).boxed();
            if !missed.is_none() {
                return missed;
            }
        }
    }
}

impl Relayer {
    /// Finds, after a while, what waits now and did before. What is found is told, so it begins to
    /// wait anew.
    async fn sweep(&self, before: Waits) -> (Missed, Waits) {
        loop {
            // Even where somebody wants none.
            time::sleep(self.chain.sweep.max(SHORTEST)).await;
            match self.swept(&before).await {
                Ok(found) => return found,
                Err(error) => {
                    tracing::debug!(chain = self.chain.id, %error, "it is not known what waits");
                }
            }
        }
    }

    async fn swept(&self, before: &Waits) -> Result<(Missed, Waits), RpcError> {
        let (mut missed, mut waits) = (Missed::default(), Waits::new());
        let chain = self.chain.id.clone();
        let asked = self.shared.ask(|reply| Command::Chain { chain, reply }).await;
        // Ended, if not.
        let Ok(state) = asked else { return Ok((missed, waits)) };
        for end in &state.channels {
            let mut now = self.waiting_at(end).await?;
            let mut late = Waiting::default();
            if let Some(before) = before.get(&end.there) {
                late.sent.extend(now.sent.extract_if(.., |waits| before.sent.contains(waits)));
                let answered = now.answered.extract_if(.., |waits| before.answered.contains(waits));
                late.answered.extend(answered);
            }
            self.packets_missed(end, late, 1, &mut missed).await?;
            if now != Waiting::default() {
                waits.insert(end.there.clone(), now);
            }
        }
        Ok((missed, waits))
    }
}
