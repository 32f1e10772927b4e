//! What happens on a chain, block by block.

use std::{collections::VecDeque, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesOrdered};
use tokio::time::sleep;

use super::{
    RpcError,
    answer::RawResults,
    event::IbcEvent,
    heights::Heights,
    rpc::{Rpc, Status},
};

/// How many blocks are asked for at once while catching up.
const AHEAD: usize = 8;
/// How often a node is asked again that has said what makes no sense.
const TRIES: u32 = 10;
/// How many blocks a node may be behind another one that was asked before.
const BEHIND: u64 = 1_000;
/// How long is waited between two tries.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// What there is to know of one block, or of several.
#[derive(Clone, Debug)]
pub(crate) enum Heard {
    /// A block, with all events of IBC in it, in the order in which they happened.
    Block { height: u64, events: Vec<IbcEvent> },
    /// The node cannot tell what happened in these blocks: what came of it is to be asked for.
    Missed { from: u64, to: u64 },
}

/// All events of IBC on a chain from a height on: each block once, and in order.
///
/// The node may be away, paused or restarted for as long as it likes, and its WebSocket may be
/// deaf or missing: what is late is not lost.
pub(crate) struct ChainEvents {
    rpc: Rpc,
    heights: Heights,
    /// The next height to ask for.
    next: u64,
    /// Whether it is known that the node still has that block.
    begun: bool,
    asked: FuturesOrdered<BoxFuture<'static, Ahead>>,
    answered: VecDeque<Ahead>,
    /// The next block to tell of, if there is much to tell.
    long: Option<BoxFuture<'static, Heard>>,
}

/// What was asked for ahead of its turn. Blocks of which there is much to tell wait for theirs: else
/// as many of them would be held.
enum Ahead {
    Short(Heard),
    Long(u64),
}

impl ChainEvents {
    /// The events from a height on.
    pub(crate) fn from(rpc: Rpc, height: u64) -> Self {
        let heights = Heights::follow(rpc.clone());
        let (asked, answered) = (FuturesOrdered::new(), VecDeque::new());
        Self { rpc, heights, next: height.max(1), begun: false, asked, answered, long: None }
    }

    /// Waits for the next block.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: the next call waits for the same block.
    pub(crate) async fn next(&mut self) -> Heard {
        if !self.begun
            && let Some(missed) = self.begin().await
        {
            return missed;
        }
        loop {
            if self.long.is_none() {
                match self.answered.pop_front() {
                    Some(Ahead::Short(heard)) => return heard,
                    Some(Ahead::Long(height)) => {
                        self.long = Some(heard(self.rpc.clone(), height).boxed());
                    }
                    None => {}
                }
            }
            let latest = *self.heights.latest.borrow_and_update();
            while self.asked.len() + self.answered.len() < AHEAD && self.next <= latest {
                self.asked.push_back(ahead(self.rpc.clone(), self.next).boxed());
                self.next += 1;
            }
            tokio::select! {
                heard = answer(&mut self.long) => {
                    self.long = None;
                    return heard;
                }
                Some(ahead) = self.asked.next() => self.answered.push_back(ahead),
                changed = self.heights.latest.changed() => {
                    // The task that tells lasts as long as this: not so only if it has panicked.
                    if changed.is_err() {
                        self.heights = Heights::follow(self.rpc.clone());
                    }
                }
            }
        }
    }

    /// Finds the first block that the node has and that is to be told of.
    async fn begin(&mut self) -> Option<Heard> {
        let mut wait = RETRY.0;
        let Status { earliest, height: latest, .. } = loop {
            match self.rpc.status().await {
                Ok(status) => break status,
                Err(error) => tracing::debug!(%error, "the first block is not known"),
            }
            sleep(wait).await;
            wait = (wait * 2).min(RETRY.1);
        };
        self.begun = true;
        if self.next > latest.saturating_add(BEHIND) {
            // Another node has told of blocks that there never were, and not of those that there
            // were.
            tracing::warn!(from = self.next, latest, "what is to come was seen already");
            self.next = latest + 1;
            return Some(Heard::Missed { from: latest, to: latest });
        }
        // No more of what a node says of itself is believed than can be.
        let earliest = earliest.min(latest.saturating_add(1));
        if self.next >= earliest {
            return None;
        }
        let from = std::mem::replace(&mut self.next, earliest);
        Some(Heard::Missed { from, to: earliest - 1 })
    }
}

impl std::fmt::Debug for ChainEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChainEvents").field("next", &self.next).finish_non_exhaustive()
    }
}

/// Waits for what is asked for; never ends if that is nothing.
async fn answer(asked: &mut Option<BoxFuture<'static, Heard>>) -> Heard {
    match asked {
        Some(asked) => asked.await,
        None => std::future::pending().await,
    }
}

/// Asks for a block until there is an answer that will not change, however long that is.
async fn heard(rpc: Rpc, height: u64) -> Heard {
    match asked(height, || rpc.block_results(height)).await {
        Ok(heard) => heard,
        Err(error) => missed(height, &error),
    }
}

/// The same ahead of its turn.
async fn ahead(rpc: Rpc, height: u64) -> Ahead {
    match asked(height, || rpc.short_block_results(height)).await {
        Ok(heard) => Ahead::Short(heard),
        Err(RpcError::TooLarge { .. }) => Ahead::Long(height),
        Err(error) => Ahead::Short(missed(height, &error)),
    }
}

fn missed(height: u64, error: &RpcError) -> Heard {
    tracing::warn!(height, %error, "what happened in a block cannot be known");
    Heard::Missed { from: height, to: height }
}

/// Asks until there is an answer, or no hope of one.
async fn asked<F: Future<Output = Result<RawResults, RpcError>>>(
    height: u64,
    ask: impl Fn() -> F,
) -> Result<Heard, RpcError> {
    let (mut wait, mut tries) = (RETRY.0, 0);
    loop {
        let error = match ask().await {
            Ok(results) => {
                return Ok(Heard::Block { height, events: IbcEvent::all_of(&results) });
            }
            Err(error) => error,
        };
        if !may_come(&error) {
            tries += 1;
        }
        if gone(&error) || tries == TRIES {
            return Err(error);
        }
        tracing::debug!(height, %error, "what happened in a block is not known yet");
        sleep(wait).await;
        wait = (wait * 2).min(RETRY.1);
    }
}

/// Whether waiting may help: the node is away, or not as far as the one that told of the block.
fn may_come(error: &RpcError) -> bool {
    let behind = error.message().is_some_and(|message| message.contains("must be less than or"));
    behind || error.may_pass()
}

/// Whether waiting cannot help: the node has forgotten the block, never keeps what happened, or
/// has more to say than is listened to.
fn gone(error: &RpcError) -> bool {
    match error {
        RpcError::TooLarge { .. } => true,
        RpcError::Node { message, .. } if message.contains("not persisting") => true,
        error => error.is_forgotten(),
    }
}
