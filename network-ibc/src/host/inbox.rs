//! How the rest of a process talks to the task that is the host.

use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use network_core::{Answer, CloseReason, ConnectError, Connection, LinkSeed, RecordId, Rejection};
use tokio::sync::{Notify, mpsc, oneshot};

#[cfg(feature = "chain")]
use super::chain::{ChainState, Learnt};
use super::{
    error::HostError,
    module::{Act, OpenForModule},
    peer::Pause,
    wire::{Batch, Client, Known, Outcomes},
};
use crate::{
    address::Order,
    engine::ChannelAttempt,
    identifier::{ChannelId, ConnectionId, PortId},
};

/// What the host is to do.
pub(super) enum Command {
    /// Opens a channel from this side.
    Open(Opening),
    /// Opens a channel of a module.
    OpenForModule(OpenForModule),
    /// Calls a module.
    CallModule {
        port: PortId,
        act: Act,
    },
    /// Nobody waits any more for a channel that was to be opened.
    Withdraw {
        number: u64,
    },
    /// Somebody has decided over a channel that the other side began.
    Decided {
        attempt: ChannelAttempt,
        decision: Result<Box<LinkSeed>, Rejection>,
    },
    Send {
        channel: ChannelId,
        id: RecordId,
        payload: Bytes,
        timeout: Option<std::time::Duration>,
    },
    Answer {
        channel: ChannelId,
        sequence: u64,
        answer: Answer,
    },
    /// Closes a channel once nothing is under way on it.
    Close {
        channel: ChannelId,
        reason: CloseReason,
    },
    /// Waits no more for handlers before it closes.
    LeaveHandlers {
        channel: ChannelId,
    },
    /// Closes it whatever is under way.
    CloseNow {
        channel: ChannelId,
    },
    /// A host that has proved who it is can be reached.
    PeerUp {
        chain: String,
        peer: u64,
        batches: mpsc::UnboundedSender<Batch>,
        known: Option<Known>,
    },
    PeerDown {
        chain: String,
        peer: u64,
    },
    /// A pause of what is relayed to it is over.
    GoOn {
        chain: String,
        peer: u64,
        what: Pause,
    },
    /// What this host knows of another one.
    Knows {
        chain: String,
        reply: oneshot::Sender<Option<Known>>,
    },
    /// The states of a new client of this host, at another chain.
    States {
        chain: String,
        reply: oneshot::Sender<Result<Client, HostError>>,
    },
    /// Whether a key is that of the chain, as far as that is known.
    IsKey {
        chain: String,
        key: [u8; 32],
        reply: oneshot::Sender<bool>,
    },
    /// A client of another host is wanted, which may be there.
    MakeClient {
        chain: String,
        key: [u8; 32],
        states: Client,
        reply: oneshot::Sender<Result<Known, HostError>>,
    },
    /// A hop to another host is wanted, which may be there: the one over its client `other`.
    MakeHop {
        chain: String,
        other: String,
        reply: oneshot::Sender<Result<ConnectionId, HostError>>,
    },
    /// Messages that another host relays.
    Deliver {
        chain: String,
        batch: Batch,
        reply: oneshot::Sender<Outcomes>,
    },
    /// What became of the messages that this host has relayed.
    Relayed {
        chain: String,
        peer: u64,
        outcomes: Option<Outcomes>,
    },
    /// What is stored of a chain.
    #[cfg(feature = "chain")]
    Chain {
        chain: String,
        reply: oneshot::Sender<ChainState>,
    },
    /// This host's client of a chain is to be of use: where it is not, it is recovered from these
    /// states, if there are any.
    #[cfg(feature = "chain")]
    UseClient {
        chain: String,
        states: Option<Client>,
        reply: oneshot::Sender<Result<(), HostError>>,
    },
    /// Stores something of a chain.
    #[cfg(feature = "chain")]
    SetChain {
        chain: String,
        learnt: Learnt,
        reply: oneshot::Sender<()>,
    },
    Stop,
    /// Ends the host; the sender is dropped once the ledger is closed.
    End {
        ended: oneshot::Sender<std::convert::Infallible>,
    },
}

/// See [`Command::Open`].
pub(super) struct Opening {
    /// Names it, until the channel has a name.
    pub(super) number: u64,
    pub(super) port: PortId,
    pub(super) hop: ConnectionId,
    pub(super) counterparty_port: PortId,
    pub(super) order: Order,
    pub(super) version: String,
    pub(super) seed: Box<LinkSeed>,
    pub(super) remote: network_core::Endpoint,
    pub(super) reply: oneshot::Sender<Result<Connection, ConnectError>>,
}

/// Commands in the order in which they came.
///
/// Not a channel: a sender pays for a short lock, and what came in one go is handled in one go.
#[derive(Default)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    came: Notify,
}

#[derive(Default)]
struct Waiting {
    commands: Vec<Command>,
    /// The host has ended.
    closed: bool,
}

impl Inbox {
    pub(super) fn push(&self, command: Command) {
        self.push_all([command]);
    }

    pub(super) fn push_all(&self, new: impl IntoIterator<Item = Command>) {
        let first = {
            let Waiting { commands, closed } = &mut *self.lock();
            if *closed {
                // Whoever waits for an answer learns it as what was to bring it is dropped.
                return;
            }
            let before = commands.len();
            commands.extend(new);
            before == 0 && !commands.is_empty()
        };
        if first {
            self.came.notify_one();
        }
    }

    /// Waits for commands, and takes all that there are.
    pub(super) async fn take(&self, into: &mut Vec<Command>) {
        loop {
            mem::swap(&mut self.lock().commands, into);
            if !into.is_empty() {
                return;
            }
            self.came.notified().await;
        }
    }

    /// The host has ended: nothing is taken any more, and what waits is given up.
    pub(super) fn close(&self) {
        let waiting = {
            let mut waiting = self.lock();
            waiting.closed = true;
            mem::take(&mut waiting.commands)
        };
        drop(waiting);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").field("waiting", &self.lock().commands.len()).finish()
    }
}
