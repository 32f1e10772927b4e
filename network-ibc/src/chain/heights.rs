//! How high a chain is, told as soon as a node knows it.
//!
//! A node's WebSocket tells of every block, until it does not: subscriptions are known to fall
//! silent with the connection in the best of health. So the node is also asked, rarely while the
//! socket speaks and often while there is none.

use std::time::Duration;

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::{rpc::Rpc, socket::Socket};

/// After how many times the usual time between blocks silence is looked into.
const SILENT_BLOCKS: u32 = 5;
/// How many times in a row asking must find what the socket did not tell.
const DEAF: u32 = 2;
/// How long it may take until a socket is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// The height of a chain, followed by a task that ends when this is dropped.
#[derive(Debug)]
pub(super) struct Heights {
    pub(super) latest: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

impl Heights {
    /// Follows a chain.
    pub(super) fn follow(rpc: Rpc) -> Self {
        let (told, latest) = watch::channel(0);
        let follower = Follower { rpc, told, pace: Pace::new(Instant::now()) };
        Self { latest, task: tokio::spawn(follower.run()) }
    }
}

impl Drop for Heights {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Follower {
    rpc: Rpc,
    told: watch::Sender<u64>,
    pace: Pace,
}

impl Follower {
    async fn run(mut self) {
        let mut wait = RETRY.0;
        loop {
            let opened = Instant::now();
            match Socket::open(self.rpc.http()).await {
                Ok(mut socket) => {
                    self.listen(&mut socket).await;
                    // A socket that held for a while is worth another one at once.
                    if opened.elapsed() > RETRY.1 {
                        wait = RETRY.0;
                    }
                }
                Err(error) => tracing::debug!(%error, "no subscription to blocks"),
            }
            let until = Instant::now() + wait;
            while Instant::now() < until {
                self.ask().await;
                sleep(self.pace.between_asking().min(until - Instant::now())).await;
            }
            wait = (wait * 2).min(RETRY.1);
        }
    }

    /// Listens until the socket breaks, or is found to keep silent.
    async fn listen(&mut self, socket: &mut Socket) {
        // What came before the subscription it does not tell.
        self.ask().await;
        let mut missed = 0;
        while missed < DEAF {
            tokio::select! {
                height = socket.height() => match height {
                    Ok(height) => {
                        self.tell(height);
                        missed = 0;
                    }
                    Err(error) => {
                        tracing::debug!(%error, "the subscription to blocks ended");
                        return;
                    }
                },
                () = sleep(self.pace.silence()) => {
                    if self.ask().await {
                        missed += 1;
                    }
                }
            }
        }
        tracing::warn!(url = self.rpc.http().url(), "the subscription fell silent: made anew");
    }

    /// Asks the node, and says whether it knows of a new block.
    async fn ask(&mut self) -> bool {
        match self.rpc.status().await {
            Ok(status) => self.tell(status.height),
            Err(error) => {
                tracing::debug!(%error, "the height is not known");
                false
            }
        }
    }

    fn tell(&mut self, height: u64) -> bool {
        let before = *self.told.borrow();
        if height <= before {
            return false;
        }
        if before > 0 {
            self.pace.blocks(height - before, Instant::now());
        }
        self.told.send_replace(height);
        true
    }
}

/// How fast blocks come.
#[derive(Debug)]
struct Pace {
    /// The usual time between two blocks.
    block: Duration,
    last: Instant,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { block: Duration::from_secs(1), last: now }
    }

    /// Learns from blocks that came. One long pause is no new pace.
    fn blocks(&mut self, count: u64, now: Instant) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let each = (now - self.last) / count;
        self.last = now;
        self.block = (self.block * 7 + each.min(self.block * 4)) / 8;
    }

    fn silence(&self) -> Duration {
        (self.block * SILENT_BLOCKS).clamp(Duration::from_secs(1), Duration::from_secs(60))
    }

    fn between_asking(&self) -> Duration {
        (self.block / 2).clamp(Duration::from_millis(50), Duration::from_secs(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_of_blocks_is_learnt_and_a_pause_is_forgotten() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        for _ in 0..100 {
            now += Duration::from_millis(200);
            pace.blocks(1, now);
        }
        let near = |pace: &Pace| {
            (Duration::from_millis(190)..Duration::from_millis(210)).contains(&pace.block)
        };
        assert!(near(&pace), "{pace:?}");
        assert_eq!(pace.silence(), Duration::from_secs(1).max(pace.block * SILENT_BLOCKS));
        // Blocks of a batch count each.
        now += Duration::from_secs(2);
        pace.blocks(10, now);
        assert!(near(&pace), "{pace:?}");
        now += Duration::from_secs(3_600);
        pace.blocks(1, now);
        assert!(pace.block < Duration::from_millis(300), "{pace:?}");
    }
}
