//! Another host, and what is to be relayed to it.

use std::{collections::VecDeque, mem};

use ibc_proto::{google::protobuf::Any, ibc::core::client::v1::MsgUpdateClient};
use network_core::{CloseReason, Refusal, Rejection};
use tokio::sync::mpsc;

use super::{
    datagram::Kind,
    error::HostError,
    wire::{Batch, Code, Outcomes, Rejected},
};
use crate::{engine::Message, height::Height, identifier::ChannelId, ledger::Ledger};

/// How many messages a batch has at most, and how many bytes, about: a record of a service
/// connection has 4 MiB at most where nobody has set another limit.
const MAX_MESSAGES: usize = 1_024;
const MAX_BYTES: usize = 1 << 20;

/// How many batches may be under way. With two the other side has work while an answer travels.
const MAX_BATCHES: usize = 2;

/// What is to be relayed, and under which number it is kept.
type Numbered = (u64, Kind);

/// A batch that was sent: its messages in order, without the header before them, and what was
/// said besides. Of one that was taken back nothing is here, and its outcomes say nothing.
#[derive(Default)]
struct Sent {
    messages: Vec<Numbered>,
    aside: Batch,
}

pub(super) struct Peer {
    chain: String,
    queue: VecDeque<Numbered>,
    /// What the other side has not received, as long as that is not proved.
    unproved: Vec<Numbered>,
    next: u64,
    /// How to reach it, while it can be: over the last one. The others stand by.
    links: Vec<Link>,
    /// What is said besides, with the next batch.
    aside: Batch,
}

struct Link {
    id: u64,
    batches: mpsc::UnboundedSender<Batch>,
    /// The client that it has of this host, and the newest height that that knows.
    client: Option<String>,
    trusted: Height,
    under_way: VecDeque<Sent>,
}

impl Peer {
    pub(super) fn new(chain: String) -> Self {
        Self {
            chain,
            queue: VecDeque::new(),
            unproved: Vec::new(),
            next: 0,
            links: Vec::new(),
            aside: Batch::default(),
        }
    }

    pub(super) fn next_number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn push(&mut self, number: u64, kind: Kind) {
        self.next = self.next.max(number);
        self.queue.push_back((number, kind));
    }

    /// Has something relayed that is not stored, unless it is to be relayed anyway.
    pub(super) fn push_new(&mut self, kind: Kind) {
        if !self.queue.iter().any(|(_, queued)| *queued == kind) {
            let number = self.next_number();
            self.queue.push_back((number, kind));
        }
    }

    /// It can be reached. Where two ways lead to it, the newer one is taken, and the older one
    /// again when that is gone: the two sides may not agree on which is the newer one, and so
    /// neither closes one.
    pub(super) fn up(
        &mut self,
        id: u64,
        batches: mpsc::UnboundedSender<Batch>,
        known: Option<(String, Height)>,
    ) {
        self.take_back();
        self.queue.extend(self.unproved.drain(..));
        let (client, trusted) =
            known.map_or((None, Height::ZERO), |(client, height)| (Some(client), height));
        self.links.push(Link { id, batches, client, trusted, under_way: VecDeque::new() });
    }

    pub(super) fn down(&mut self, id: u64) {
        if self.links.last().is_some_and(|link| link.id == id) {
            self.take_back();
        }
        self.links.retain(|link| link.id != id);
    }

    /// The other side has not received a packet, and proves it; if that does not come as long as
    /// it can be reached, it is asked again when it next can be.
    pub(super) fn await_proof(&mut self, number: u64, kind: Kind) {
        self.unproved.push((number, kind));
    }

    /// What was under way is said again: nobody knows whether it was heard.
    fn take_back(&mut self) {
        let Some(link) = self.links.last_mut() else { return };
        let under_way: Vec<_> = link.under_way.iter_mut().map(mem::take).collect();
        self.say_again(under_way);
    }

    /// Puts what was sent before all that waits.
    fn say_again(&mut self, sent: Vec<Sent>) {
        for Sent { messages, aside } in sent.into_iter().rev() {
            for numbered in messages.into_iter().rev() {
                self.queue.push_front(numbered);
            }
            let Batch { messages: _, rejected, withdrawn, closing } = aside;
            self.aside.rejected.extend(rejected);
            self.aside.withdrawn.extend(withdrawn);
            self.aside.closing.extend(closing);
        }
    }

    /// What is said with the next batch and without proof. Nothing, while it cannot be reached.
    pub(super) fn aside(&mut self) -> Option<&mut Batch> {
        (!self.links.is_empty()).then_some(&mut self.aside)
    }

    /// Sends what can be sent, with proofs of the last block. Adds to `gone` what there is nothing
    /// to relay of any more.
    pub(super) fn relay(
        &mut self,
        ledger: &Ledger,
        gone: &mut Vec<(String, u64)>,
    ) -> Result<(), HostError> {
        let Some(block) = ledger.latest() else { return Ok(()) };
        let Some(link) = self.links.last_mut() else { return Ok(()) };
        while link.under_way.len() < MAX_BATCHES {
            let mut batch = mem::take(&mut self.aside);
            let aside = batch.clone();
            let mut sent = Vec::new();
            if let Some(client) = &link.client {
                let mut bytes = 0;
                while sent.len() < MAX_MESSAGES
                    && bytes < MAX_BYTES
                    && let Some((number, kind)) = self.queue.pop_front()
                {
                    let Some(message) = kind.message(ledger, block.height)? else {
                        gone.push((self.chain.clone(), number));
                        continue;
                    };
                    if batch.messages.is_empty() && link.trusted < block.height {
                        let header = ledger.header(block.height, link.trusted)?;
                        batch.messages.push(update(client, header));
                    }
                    bytes += message.value.len() + 64;
                    batch.messages.push(message);
                    sent.push((number, kind));
                }
            }
            if batch == Batch::default() {
                break;
            }
            if !sent.is_empty() {
                link.trusted = link.trusted.max(block.height);
            }
            let _ = link.batches.send(batch);
            link.under_way.push_back(Sent { messages: sent, aside });
        }
        Ok(())
    }

    /// What became of the oldest batch that is under way: each datagram that needs not be said
    /// again.
    pub(super) fn relayed(
        &mut self,
        id: u64,
        outcomes: Option<Outcomes>,
        known: Option<(String, Height)>,
    ) -> Vec<(u64, Kind, Code, String)> {
        let Some(link) = self.links.iter_mut().find(|link| link.id == id) else {
            return Vec::new();
        };
        // Without outcomes the way is gone: `down` follows, and takes all back in order.
        let Some(outcomes) = outcomes else { return Vec::new() };
        let Some(sent) = link.under_way.pop_front() else { return Vec::new() };
        let mut results = outcomes.outcomes;
        if results.len() > sent.messages.len() {
            let header = results.remove(0);
            if header.code() == Code::Again {
                // All of it again, from the height that it knows.
                tracing::debug!(chain = self.chain, text = header.text, "a header was not taken");
                if let Some((client, height)) = known {
                    (link.client, link.trusted) = (Some(client), height);
                }
                // Also what followed it, which may not have been taken without it.
                let followed = link.under_way.iter_mut().map(mem::take);
                let again = [sent].into_iter().chain(followed).collect();
                self.say_again(again);
                return Vec::new();
            }
        }
        sent.messages
            .into_iter()
            .zip(results)
            .map(|((number, kind), outcome)| (number, kind, outcome.code(), outcome.text))
            .collect()
    }
}

fn update(client: &str, header: Any) -> Any {
    Message::UpdateClient(MsgUpdateClient {
        client_id: client.to_owned(),
        client_message: Some(header),
        signer: String::new(),
    })
    .write()
}

/// A rejection as numbers and text, and back.
pub(super) fn rejected(channel: &ChannelId, why: &Rejection) -> Rejected {
    let (reason, text) = match why {
        Rejection::NotListening => (1, String::new()),
        Rejection::Declined(refusal) => (2, refusal.text().to_owned()),
        Rejection::Busy => (3, String::new()),
        Rejection::ShuttingDown => (4, String::new()),
        Rejection::NotAllowed => (5, String::new()),
        Rejection::Unproven => (6, String::new()),
        other => (2, other.to_string()),
    };
    Rejected { channel: channel.to_string(), reason, text }
}

/// A reason for a close as numbers and text, and back.
pub(super) fn closing(channel: &ChannelId, why: &CloseReason) -> Rejected {
    let (reason, text) = match why {
        CloseReason::Revoked => (1, ""),
        CloseReason::Shutdown => (2, ""),
        CloseReason::HandlerPanicked => (3, ""),
        CloseReason::Protocol(text) => (4, &**text),
        _ => (0, ""),
    };
    Rejected { channel: channel.to_string(), reason, text: text.to_owned() }
}

pub(super) fn close_reason(closing: &Rejected) -> CloseReason {
    match closing.reason {
        1 => CloseReason::RemoteRevoked,
        2 => CloseReason::RemoteShutdown,
        3 => CloseReason::RemoteHandlerPanicked,
        4 => CloseReason::RemoteProtocol(Refusal::new(closing.text.as_str()).text().into()),
        _ => CloseReason::Remote,
    }
}

pub(super) fn rejection(rejected: &Rejected) -> Rejection {
    match rejected.reason {
        1 => Rejection::NotListening,
        3 => Rejection::Busy,
        4 => Rejection::ShuttingDown,
        5 => Rejection::NotAllowed,
        6 => Rejection::Unproven,
        _ => Rejection::Declined(Refusal::new(rejected.text.as_str())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::wire::Outcome;

    fn sent(messages: Vec<Numbered>) -> Sent {
        Sent { messages, ..Sent::default() }
    }

    /// One with two batches under way and something that waits.
    fn two_under_way() -> Peer {
        let mut peer = Peer::new("beta".to_owned());
        let (batches, _) = mpsc::unbounded_channel();
        peer.up(7, batches, Some(("07-tendermint-0".to_owned(), Height::new(0, 5))));
        let kind = |number: u64| (number, Kind::Connection(format!("connection-{number}")));
        let link = peer.links.last_mut().unwrap();
        link.under_way.extend([sent(vec![kind(1), kind(2)]), sent(vec![kind(3), kind(4)])]);
        peer.queue.push_back(kind(5));
        peer
    }

    fn queued(peer: &Peer) -> Vec<u64> {
        peer.queue.iter().map(|(number, _)| *number).collect()
    }

    fn outcomes(codes: &[Code]) -> Outcomes {
        let outcome = |code: &Code| Outcome { code: (*code).into(), text: String::new() };
        Outcomes { outcomes: codes.iter().map(outcome).collect(), known: None }
    }

    #[test]
    fn what_was_under_way_is_said_again_in_its_order() {
        let mut peer = two_under_way();
        assert_eq!(peer.relayed(7, None, None), []);
        let why = rejected(&ChannelId::known("channel-3"), &Rejection::Busy);
        peer.links.last_mut().unwrap().under_way[1].aside.rejected.push(why.clone());
        peer.down(7);
        assert_eq!(queued(&peer), [1, 2, 3, 4, 5]);
        assert_eq!(peer.aside.rejected, [why]);
    }

    #[test]
    fn what_followed_a_header_that_was_not_taken_is_said_again_in_its_order() {
        let mut peer = two_under_way();
        let known = Some(("07-tendermint-0".to_owned(), Height::new(0, 4)));
        let refused = outcomes(&[Code::Again, Code::Refused, Code::Refused]);
        assert_eq!(peer.relayed(7, Some(refused), known), []);
        assert_eq!(queued(&peer), [1, 2, 3, 4, 5]);
        // It had no header of its own.
        assert_eq!(peer.relayed(7, Some(outcomes(&[Code::Refused, Code::Refused])), None), []);
        assert_eq!(queued(&peer), [1, 2, 3, 4, 5]);
        let link = peer.links.last().unwrap();
        assert_eq!((link.under_way.len(), link.trusted), (0, Height::new(0, 4)));
    }
    #[test]
    fn the_older_of_two_ways_is_taken_again_when_the_newer_one_is_gone() {
        let mut peer = two_under_way();
        let (batches, _) = mpsc::unbounded_channel();
        peer.up(8, batches, None);
        assert_eq!(queued(&peer), [1, 2, 3, 4, 5]);
        peer.down(8);
        assert_eq!(peer.links.last().map(|link| link.id), Some(7));
        // What is said of batches that were taken back settles nothing else.
        let numbered = peer.queue.pop_front().unwrap();
        peer.links.last_mut().unwrap().under_way.push_back(sent(vec![numbered]));
        for _ in 0..2 {
            let done = outcomes(&[Code::Done, Code::Done]);
            assert_eq!(peer.relayed(7, Some(done), None), []);
        }
        let done = peer.relayed(7, Some(outcomes(&[Code::Done])), None);
        assert_eq!(done.iter().map(|(number, ..)| *number).collect::<Vec<_>>(), [1]);
        peer.down(7);
        assert_eq!((queued(&peer), peer.links.len()), (vec![2, 3, 4, 5], 0));
    }
}
