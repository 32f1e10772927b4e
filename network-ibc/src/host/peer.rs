//! Another host, and what is to be relayed to it.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    time::Duration,
};

use ibc_proto::ibc::core::channel::v1 as channel;
use network_core::{CloseReason, Refusal, Rejection};
use tokio::sync::mpsc;

use super::{
    datagram::Kind,
    error::HostError,
    face::{Face, Theirs},
    wire::{Batch, Code, Known, Outcome, Outcomes, Rejected},
};
use crate::{error::excerpt, identifier::ChannelId, ledger::Ledger};

/// How many messages a batch has at most, and how many bytes, about: a record of a service
/// connection has 4 MiB at most where nobody has set another limit.
pub(super) const MAX_MESSAGES: usize = 1_024;
const MAX_BYTES: usize = 1 << 20;

/// How much it says besides, of each kind.
pub(super) const MAX_ASIDE: usize = 512;

/// How much may wait to be relayed to the other side, but for packets: it has asked for that, and may
/// never take it. In tests there is less.
pub(super) const MAX_OWED: usize = if cfg!(test) { 1 << 20 } else { 64 << 20 };

/// What each thing counts besides its bytes.
const OVERHEAD: usize = 1_024;

/// How long nothing is proved to a side that has not taken a header: at first, and twice as long each
/// time, up to the most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// The same of what a side puts off that has to take other things first.
const HOLD: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What is to be relayed, and under which number it is kept.
type Numbered = (u64, Kind);

/// A batch that was sent. Of one that was taken back no messages are here, and their outcomes say
/// nothing.
#[derive(Default)]
struct Sent {
    /// Whether a header comes before the messages.
    header: bool,
    /// The messages in order.
    messages: Vec<Message>,
    /// What was said besides.
    aside: Batch,
}

impl Sent {
    /// Takes back what is to be said again. What becomes of the header is still of interest.
    fn take(&mut self) -> Self {
        let (messages, aside) = (mem::take(&mut self.messages), mem::take(&mut self.aside));
        Self { header: false, messages, aside }
    }
}

struct Message {
    numbered: Numbered,
    /// How many proofs the client has taken once it has taken those of this message, if it counts
    /// them.
    counted: Option<u64>,
}

impl Message {
    fn became(self, outcome: Outcome) -> Became {
        let (number, kind) = self.numbered;
        (number, kind, outcome.code(), outcome.text)
    }
}

/// What became of something that was relayed, and its text.
type Became = (u64, Kind, Code, String);

/// What becomes of a batch.
#[derive(Default)]
pub(super) struct Relayed {
    /// Each datagram that needs not be said again.
    pub(super) done: Vec<Became>,
    /// When what pauses is to [go on](Peer::go_on), if anything does.
    pub(super) pause: Option<(Pause, Duration)>,
}

/// What pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// All that needs a proof.
    Proofs,
    /// Packets, and what else asks for an answer and was put off.
    Packets,
}

pub(super) struct Peer {
    chain: String,
    face: Face,
    queue: VecDeque<Numbered>,
    /// What waits behind all of that until the other side has taken more: packets, and what it has
    /// put off.
    held: Option<VecDeque<Numbered>>,
    /// How often in a row it has put off all packets.
    put_off: u32,
    /// How much is owed to it: what waits or is under way, but for packets.
    owed: usize,
    /// Whether that is too much.
    behind: bool,
    /// Packets that the other side has not received, as long as that is not proved: by channel and
    /// sequence.
    unproved: BTreeMap<(String, u64), Numbered>,
    next: u64,
    /// How to reach it, while it can be: over the last one. The others stand by.
    links: Vec<Link>,
    /// What is said besides, with the next batch.
    aside: Batch,
}

struct Link {
    id: u64,
    batches: mpsc::UnboundedSender<Batch>,
    /// The client that it has of this host. Without one nothing can be proved to it.
    theirs: Option<Theirs>,
    under_way: VecDeque<Sent>,
    /// How many headers in a row were not taken.
    disbelieved: u32,
    /// Nothing is proved to it until it is told to go on.
    paused: bool,
}

impl Link {
    /// A header was not taken. Gives how long to wait before another one is shown.
    fn pause(&mut self) -> Duration {
        self.paused = true;
        longer(PAUSE, &mut self.disbelieved)
    }
}

/// The next wait of a row.
fn longer((first, longest): (Duration, Duration), waited: &mut u32) -> Duration {
    let wait = first.saturating_mul(1 << (*waited).min(16));
    *waited = waited.saturating_add(1);
    wait.min(longest)
}

/// What of the memory for answers something takes.
fn cost(kind: &Kind) -> usize {
    if is_packet(kind) { 0 } else { kind.encoded_len() + OVERHEAD }
}

fn is_packet(kind: &Kind) -> bool {
    matches!(kind, Kind::Packet(_))
}

impl Peer {
    pub(super) fn new(chain: String, face: Face) -> Self {
        Self {
            chain,
            face,
            queue: VecDeque::new(),
            held: None,
            put_off: 0,
            owed: 0,
            behind: false,
            unproved: BTreeMap::new(),
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
        self.owed += cost(&kind);
        match &mut self.held {
            // Behind those before it.
            Some(held) if is_packet(&kind) => held.push_back((number, kind)),
            _ => self.queue.push_back((number, kind)),
        }
    }

    /// Has something relayed that is not stored, unless it is to be relayed anyway.
    pub(super) fn push_new(&mut self, kind: Kind) {
        let mut waiting = self.queue.iter().chain(self.held.iter().flatten());
        if !waiting.any(|(_, queued)| *queued == kind) {
            let number = self.next_number();
            self.push(number, kind);
        }
    }

    /// Whether so much waits for the other side that nothing is taken from it that asks for more.
    /// What is none of that is: so it can always take what waits, and two hosts that are behind both
    /// do not wait for each other.
    pub(super) fn is_behind(&mut self) -> bool {
        let Batch { messages: _, rejected, withdrawn, closing } = &self.aside;
        let aside = rejected.len() + withdrawn.len() + closing.len();
        // Each with a text, which may be as long.
        let owed = self.owed + aside * 2 * OVERHEAD;
        let behind = owed >= MAX_OWED;
        if behind && !self.behind {
            let chain = &self.chain;
            tracing::warn!(chain, owed, "it takes too little: what it sends is put off");
        }
        self.behind = behind;
        behind
    }

    /// Whether nothing was ever said to it.
    pub(super) fn is_unused(&self) -> bool {
        self.next == 0 && self.links.is_empty() && self.aside == Batch::default()
    }

    /// It can be reached. Where two ways lead to it, the newer one is taken, and the older one
    /// again when that is gone: the two sides may not agree on which is the newer one, and so
    /// neither closes one.
    pub(super) fn up(
        &mut self,
        id: u64,
        batches: mpsc::UnboundedSender<Batch>,
        known: Option<Known>,
    ) {
        self.take_back();
        self.release();
        self.queue.extend(mem::take(&mut self.unproved).into_values());
        let theirs = known.and_then(|known| Theirs::new(&self.face, &self.chain, known));
        let under_way = VecDeque::new();
        self.links.push(Link { id, batches, theirs, under_way, disbelieved: 0, paused: false });
    }

    pub(super) fn down(&mut self, id: u64) {
        if self.links.last().is_some_and(|link| link.id == id) {
            self.take_back();
            self.release();
        }
        self.links.retain(|link| link.id != id);
    }

    /// The other side has not received a packet, and proves it; if that does not come as long as
    /// it can be reached, it is asked again when it next can be.
    pub(super) fn await_proof(&mut self, number: u64, packet: channel::Packet) {
        let name = (packet.source_channel.clone(), packet.sequence);
        self.unproved.insert(name, (number, Kind::Packet(packet)));
    }

    /// It is proved what became of a packet. Gives the number that it was kept under if it was told
    /// that it was not received.
    pub(super) fn proved(&mut self, channel: &ChannelId, sequence: u64) -> Option<u64> {
        if self.unproved.is_empty() {
            return None;
        }
        let (number, _) = self.unproved.remove(&(channel.to_string(), sequence))?;
        Some(number)
    }

    /// What was under way is said again: nobody knows whether it was heard.
    fn take_back(&mut self) {
        let Some(link) = self.links.last_mut() else { return };
        let under_way: Vec<_> = link.under_way.iter_mut().map(Sent::take).collect();
        self.say_again(under_way);
    }

    /// Puts what was sent before all that waits.
    fn say_again(&mut self, sent: Vec<Sent>) {
        for Sent { messages, aside, .. } in sent.into_iter().rev() {
            for Message { numbered, .. } in messages.into_iter().rev() {
                self.queue.push_front(numbered);
            }
            let Batch { messages: _, rejected, withdrawn, closing } = aside;
            self.aside.rejected.extend(rejected);
            self.aside.withdrawn.extend(withdrawn);
            self.aside.closing.extend(closing);
        }
    }

    /// Holds packets back, and what was put off (`true`), behind what else is to be said again and
    /// all that waits. So the other side is told what it has to take first.
    fn hold(&mut self, again: Vec<(Message, bool)>) {
        let (mut held, mut others) = (VecDeque::new(), Vec::new());
        for (message, put_off) in again {
            match put_off || is_packet(&message.numbered.1) {
                true => held.push_back(message.numbered),
                false => others.push(message.numbered),
            }
        }
        others.into_iter().rev().for_each(|numbered| self.queue.push_front(numbered));
        let waiting = mem::take(&mut self.queue);
        let (packets, others) = waiting.into_iter().partition(|(_, kind)| is_packet(kind));
        self.queue = others;
        let packets: VecDeque<_> = packets;
        held.extend(packets);
        held.extend(self.held.take().into_iter().flatten());
        self.held = Some(held);
    }

    fn release(&mut self) {
        self.queue.extend(self.held.take().into_iter().flatten());
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
        while link.under_way.len() < self.face.batches() {
            let mut batch = some_of(&mut self.aside);
            let mut sent = Sent { aside: batch.clone(), ..Sent::default() };
            if let Some(theirs) = &mut link.theirs
                && !link.paused
            {
                let mut bytes = 0;
                while sent.messages.len() < MAX_MESSAGES
                    && bytes < MAX_BYTES
                    && let Some((number, kind)) = self.queue.pop_front()
                {
                    let first = theirs.wants_header(&kind, block, sent.header);
                    if first && !batch.messages.is_empty() {
                        self.queue.push_front((number, kind));
                        break;
                    }
                    // What is made for nothing is as if it had not been made: nobody has seen it.
                    let mut then = theirs.clone();
                    let header = first.then(|| then.header(ledger, block)).transpose()?;
                    let Some(message) = kind.message(ledger, block, &mut then)? else {
                        self.owed = self.owed.saturating_sub(cost(&kind));
                        gone.push((self.chain.clone(), number));
                        continue;
                    };
                    *theirs = then;
                    if let Some(header) = header {
                        batch.messages.push(header);
                        sent.header = true;
                    }
                    bytes += message.value.len() + 64;
                    batch.messages.push(message);
                    let counted = theirs.counted();
                    sent.messages.push(Message { numbered: (number, kind), counted });
                }
            }
            if batch == Batch::default() {
                break;
            }
            let _ = link.batches.send(batch);
            link.under_way.push_back(sent);
        }
        Ok(())
    }

    /// Goes on over a way after a pause.
    pub(super) fn go_on(&mut self, id: u64, what: Pause) {
        let Some(link) = self.links.iter_mut().find(|link| link.id == id) else { return };
        match what {
            Pause::Proofs => link.paused = false,
            Pause::Packets => self.release(),
        }
    }

    /// What became of the oldest batch that is under way.
    pub(super) fn relayed(&mut self, id: u64, outcomes: Option<Outcomes>) -> Relayed {
        let relayed = self.became(id, outcomes);
        let done: usize = relayed.done.iter().map(|(_, kind, ..)| cost(kind)).sum();
        self.owed = self.owed.saturating_sub(done);
        relayed
    }

    fn became(&mut self, id: u64, outcomes: Option<Outcomes>) -> Relayed {
        let Some(link) = self.links.iter_mut().find(|link| link.id == id) else {
            return Relayed::default();
        };
        // Without outcomes the way is gone: `down` follows, and takes all back in order.
        let Some(Outcomes { outcomes: mut results, known }) = outcomes else {
            return Relayed::default();
        };
        let Some(sent) = link.under_way.pop_front() else { return Relayed::default() };
        let theirs = known.and_then(|known| Theirs::new(&self.face, &self.chain, known));
        if sent.header && !results.is_empty() {
            let header = results.remove(0);
            if header.code() == Code::Again {
                // All of it again, from what it knows. It may not take the next one either.
                link.theirs = theirs;
                let wait = link.pause();
                tracing::warn!(
                    chain = self.chain,
                    text = excerpt(&header.text),
                    ?wait,
                    "a header is not believed: another one is shown later"
                );
                // Also what followed it, which may not have been taken without it.
                let followed = link.under_way.iter_mut().map(Sent::take);
                let again = [sent].into_iter().chain(followed).collect();
                self.say_again(again);
                return Relayed { pause: Some((Pause::Proofs, wait)), ..Relayed::default() };
            }
            link.disbelieved = 0;
        }
        let results = sent.messages.into_iter().zip(results);
        // Of a solo machine also if nothing can be shown over this way any more: another one goes on.
        let fates = if matches!(self.face, Face::Chain) {
            let mut fates = Fates::default();
            results.for_each(|(message, outcome)| fates.add(message, outcome));
            fates
        } else {
            // Over another way it may have been shown more meanwhile, and what it has counted is not
            // this.
            let is_this =
                |theirs: &&Theirs| link.theirs.as_ref().is_some_and(|it| it.is_of(theirs));
            let counted_here = theirs.as_ref().filter(is_this).and_then(Theirs::counted);
            let taken = counted_here.unwrap_or_default();
            let sure = sent.header && counted_here.is_some();
            // If nothing was signed in vain, what is to be signed next is as it was thought to be.
            let as_expected =
                |theirs: &Theirs| link.theirs.as_ref().is_some_and(|it| it.is_at(theirs));
            if !theirs.as_ref().is_some_and(as_expected) {
                link.theirs = theirs;
            }
            of_those_that_count(results, taken, sure)
        };
        let Fates { done, mut again, put_off } = fates;
        if done.iter().any(|(_, kind, ..)| is_packet(kind)) {
            self.put_off = 0;
        }
        if !put_off {
            let messages = again.into_iter().map(|(message, _)| message).collect();
            self.say_again(vec![Sent { messages, ..Sent::default() }]);
            return Relayed { done, pause: None };
        }
        // What followed may be refused for coming before what was put off.
        let followed = link.under_way.iter_mut().flat_map(|sent| mem::take(&mut sent.messages));
        again.extend(followed.map(|message| (message, false)));
        self.hold(again);
        let wait = longer(HOLD, &mut self.put_off);
        tracing::debug!(chain = self.chain, ?wait, "packets are held back: it has much to take");
        Relayed { done, pause: Some((Pause::Packets, wait)) }
    }
}

/// What became of messages.
#[derive(Default)]
struct Fates {
    done: Vec<Became>,
    /// Those that are to be said again in their order, and whether they were put off.
    again: Vec<(Message, bool)>,
    /// Whether any was.
    put_off: bool,
}

impl Fates {
    fn add(&mut self, message: Message, outcome: Outcome) {
        if outcome.code() == Code::Later {
            self.put_off = true;
            self.again.push((message, true));
        } else {
            self.done.push(message.became(outcome));
        }
    }
}

/// What became of messages whose proofs count: those are to be said again too that followed on one
/// that did not count. `sure`: the first one was as the client was to have it.
fn of_those_that_count(
    results: impl Iterator<Item = (Message, Outcome)>,
    taken: u64,
    mut sure: bool,
) -> Fates {
    let mut fates = Fates::default();
    for (message, outcome) in results {
        let counted = message.counted.is_some_and(|counted| counted <= taken);
        // What follows on all that counted can only be refused for what it is.
        if outcome.code() == Code::Again && !counted && !sure {
            fates.again.push((message, false));
        } else {
            fates.add(message, outcome);
        }
        sure = counted;
    }
    fates
}

/// As much of what is said besides as goes into one batch.
fn some_of(aside: &mut Batch) -> Batch {
    fn some<T>(all: &mut Vec<T>) -> Vec<T> {
        all.drain(..all.len().min(MAX_ASIDE)).collect()
    }
    let Batch { messages: _, rejected, withdrawn, closing } = aside;
    let (rejected, withdrawn) = (some(rejected), some(withdrawn));
    Batch { messages: Vec::new(), rejected, withdrawn, closing: some(closing) }
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
    use std::sync::Arc;

    use ibc_proto::ibc::{
        core::client::v1::MsgUpdateClient, lightclients::solomachine::v3 as solomachine,
    };
    use prost::Message as _;

    use super::*;
    use crate::{
        LedgerKey, SoloKey,
        engine::{Connection, ConnectionState, Writes},
        height::Timestamp,
        identifier::{ClientId, ConnectionId},
        path,
    };

    fn sent(header: bool, messages: Vec<Numbered>) -> Sent {
        let messages =
            messages.into_iter().map(|numbered| Message { numbered, counted: None }).collect();
        Sent { header, messages, aside: Batch::default() }
    }

    fn known(height: u64) -> Known {
        let client = "07-tendermint-0".to_owned();
        Known { client, height, ..Known::default() }
    }

    /// One with two batches under way and something that waits.
    fn two_under_way() -> Peer {
        let mut peer = Peer::new("beta".to_owned(), Face::Chain);
        let (batches, _) = mpsc::unbounded_channel();
        peer.up(7, batches, Some(known(5)));
        let kind = |number: u64| (number, Kind::Connection(format!("connection-{number}")));
        let link = peer.links.last_mut().unwrap();
        let first = sent(true, vec![kind(1), kind(2)]);
        let second = sent(false, vec![kind(3), kind(4)]);
        link.under_way.extend([first, second]);
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
        assert_eq!(peer.relayed(7, None).done, []);
        let why = rejected(&ChannelId::known("channel-3"), &Rejection::Busy);
        peer.links.last_mut().unwrap().under_way[1].aside.rejected.push(why.clone());
        peer.down(7);
        assert_eq!(queued(&peer), [1, 2, 3, 4, 5]);
        assert_eq!(peer.aside.rejected, [why]);
    }

    #[test]
    fn what_followed_a_header_that_was_not_taken_is_said_again_in_its_order() {
        let mut peer = two_under_way();
        let mut refused = outcomes(&[Code::Again, Code::Refused, Code::Refused]);
        refused.known = Some(known(4));
        let relayed = peer.relayed(7, Some(refused));
        assert_eq!((relayed.done, relayed.pause), (vec![], Some((Pause::Proofs, PAUSE.0))));
        assert_eq!(queued(&peer), [1, 2, 3, 4, 5]);
        // It had no header of its own.
        assert_eq!(peer.relayed(7, Some(outcomes(&[Code::Refused, Code::Refused]))).done, []);
        assert_eq!(queued(&peer), [1, 2, 3, 4, 5]);
        let link = peer.links.last().unwrap();
        assert_eq!(link.under_way.len(), 0);
        let known = Theirs::new(&Face::Chain, "beta", known(4));
        assert_eq!(format!("{:?}", link.theirs), format!("{known:?}"));
    }

    fn packet(number: u64) -> Numbered {
        let source_channel = "channel-3".to_owned();
        (
            number,
            Kind::Packet(channel::Packet {
                sequence: number,
                source_channel,
                ..channel::Packet::default()
            }),
        )
    }

    #[test]
    fn what_was_put_off_is_said_again_in_its_order_behind_all_else() {
        let mut peer = two_under_way();
        peer.queue.clear();
        let link = peer.links.last_mut().unwrap();
        let state = |number: u64| (number, Kind::Connection(format!("connection-{number}")));
        link.under_way = [
            sent(false, vec![packet(1), state(2), packet(3)]),
            sent(false, vec![packet(4), state(5), packet(6)]),
        ]
        .into();
        for (number, kind) in [packet(7), state(8), packet(9), state(10)] {
            peer.push(number, kind);
        }
        let relayed = peer.relayed(7, Some(outcomes(&[Code::Done, Code::Done, Code::Later])));
        let done: Vec<_> = relayed.done.iter().map(|(number, ..)| *number).collect();
        assert_eq!((done, relayed.pause), (vec![1, 2], Some((Pause::Packets, HOLD.0))));
        // Packets come after it, and no others.
        let (number, kind) = packet(11);
        peer.push(number, kind);
        let (number, kind) = state(12);
        peer.push(number, kind);
        assert_eq!(queued(&peer), [5, 8, 10, 12]);
        // What became of those that followed says nothing: they were taken back.
        let refused = peer.relayed(7, Some(outcomes(&[Code::Refused; 3])));
        assert_eq!((refused.done, refused.pause), (vec![], None));
        peer.go_on(7, Pause::Packets);
        assert_eq!(queued(&peer), [5, 8, 10, 12, 3, 4, 6, 7, 9, 11]);
        assert_eq!(peer.held, None);
    }

    #[test]
    fn who_puts_all_off_is_asked_ever_more_rarely() {
        let mut peer = two_under_way();
        let mut waited = Vec::new();
        for _ in 0..10 {
            peer.links[0].under_way = [sent(false, vec![packet(1)])].into();
            let relayed = peer.relayed(7, Some(outcomes(&[Code::Later])));
            waited.push(relayed.pause.unwrap().1);
            peer.go_on(7, Pause::Packets);
            peer.queue.clear();
        }
        assert_eq!((waited[0], waited[1], waited[9]), (HOLD.0, HOLD.0 * 2, HOLD.1));
        peer.links[0].under_way = [sent(false, vec![packet(1), packet(2)])].into();
        let relayed = peer.relayed(7, Some(outcomes(&[Code::Unreceived, Code::Later])));
        assert_eq!(relayed.pause, Some((Pause::Packets, HOLD.0)), "it goes on");
    }

    #[test]
    fn what_is_owed_is_counted_until_it_is_taken() {
        let mut peer = Peer::new("beta".to_owned(), Face::Chain);
        let late = |sequence| {
            let data = vec![7; 100_000];
            Kind::TimedOut(channel::Packet { sequence, data, ..channel::Packet::default() })
        };
        for number in 1..=20 {
            assert_eq!(peer.is_behind(), number > 11, "{number}");
            peer.push(number, late(number));
            peer.push(100 + number, packet(number).1);
        }
        let (batches, _) = mpsc::unbounded_channel();
        peer.up(7, batches, Some(known(5)));
        let messages = peer.queue.drain(..).collect();
        peer.links[0].under_way.push_back(sent(false, messages));
        assert!(peer.is_behind());
        assert_eq!(peer.relayed(7, Some(outcomes(&[Code::Done; 40]))).done.len(), 40);
        assert_eq!((peer.owed, peer.is_behind()), (0, false));
        // What is said besides counts too.
        let why = rejected(&ChannelId::known("channel-3"), &Rejection::Busy);
        peer.aside().unwrap().rejected.extend(vec![why; 2_000]);
        assert!(peer.is_behind());
    }

    #[test]
    fn what_is_said_besides_goes_in_parts() {
        let (mut peer, ledger, mut sent) = solo();
        let why = rejected(&ChannelId::known("channel-3"), &Rejection::Busy);
        peer.aside().unwrap().rejected.extend(vec![why; 1_000]);
        for said in [MAX_ASIDE, 1_000 - MAX_ASIDE] {
            peer.relay(&ledger, &mut Vec::new()).unwrap();
            assert_eq!(batch(&mut sent).unwrap().rejected.len(), said);
            let heard =
                Outcomes { known: Some(solo_known(5, "beta/0123456789abcdef")), ..outcomes(&[]) };
            assert_eq!(peer.relayed(7, Some(heard)).done, []);
        }
    }

    #[test]
    fn what_is_proved_is_not_said_again() {
        let mut peer = two_under_way();
        peer.queue.clear();
        peer.links[0].under_way.clear();
        for number in [10, 2, 3] {
            let (number, Kind::Packet(packet)) = packet(number) else { unreachable!() };
            peer.await_proof(number, packet);
        }
        let channel = ChannelId::known("channel-3");
        assert_eq!((peer.proved(&channel, 3), peer.proved(&channel, 4)), (Some(3), None));
        peer.down(7);
        let (batches, _) = mpsc::unbounded_channel();
        peer.up(8, batches, None);
        assert_eq!(queued(&peer), [2, 10], "in the order of their channel");
        assert!(peer.unproved.is_empty());
    }

    #[test]
    fn what_was_signed_after_something_that_did_not_count_is_said_again() {
        use Code::{Again, Done, Refused, Unreceived};
        let said = |codes: &[Code], taken: u64, sure: bool| {
            let messages = (1..).map(|number: u64| {
                let numbered = (number, Kind::Connection(String::new()));
                Message { numbered, counted: Some(10 + number) }
            });
            let results = messages.zip(outcomes(codes).outcomes);
            let Fates { done, again, .. } = of_those_that_count(results, taken, sure);
            let done: Vec<_> =
                done.into_iter().map(|(number, _, code, _)| (number, code)).collect();
            (done, again.into_iter().map(|(message, _)| message.numbered.0).collect::<Vec<_>>())
        };
        assert_eq!(said(&[Done, Done], 12, false), (vec![(1, Done), (2, Done)], vec![]));
        // The second one was no news.
        let done = vec![(1, Done), (2, Done), (4, Unreceived)];
        assert_eq!(said(&[Done, Done, Again, Unreceived, Again], 11, false), (done, vec![3, 5]));
        // It is refused for itself; and where it is not known why, it is tried again.
        let done = vec![(1, Done), (2, Refused)];
        assert_eq!(said(&[Done, Refused, Again], 11, false), (done, vec![3]));
        assert_eq!(said(&[Again, Again], 10, false), (vec![], vec![1, 2]));
        assert_eq!(said(&[Again, Again], 10, true), (vec![(1, Again)], vec![2]));
        assert_eq!(said(&[Done, Again, Again], 11, true), (vec![(1, Done), (2, Again)], vec![3]));
    }

    /// A solo machine's, and what it sends.
    fn solo() -> (Peer, Ledger, mpsc::UnboundedReceiver<Batch>) {
        let key = Arc::new(LedgerKey::from_seed(&[1; 32]).unwrap());
        let mut ledger = Ledger::in_memory(key, "alpha", 4).unwrap();
        let connection = Connection {
            state: ConnectionState::Init,
            client: ClientId::known("07-tendermint-0"),
            counterparty_client: ClientId::known("06-solomachine-0"),
            counterparty: None,
            prefix: b"ibc".to_vec(),
            versions: Vec::new(),
            delay: 0,
        };
        let mut writes = Writes::default();
        let key = path::connection(&ConnectionId::known("connection-0"));
        writes.provable.insert(key, Some(connection.encode().into()));
        ledger.apply(writes);
        ledger.commit(Timestamp::from_nanos(1_000)).unwrap();
        let face = Face::Solo(Arc::new(SoloKey::ed25519(&[2; 32]).unwrap()));
        let mut peer = Peer::new("beta".to_owned(), face);
        let (batches, sent) = mpsc::unbounded_channel();
        peer.up(7, batches, Some(solo_known(5, "beta/0123456789abcdef")));
        (peer, ledger, sent)
    }

    fn solo_known(height: u64, diversifier: &str) -> Known {
        let client = "06-solomachine-0".to_owned();
        Known { client, revision: 0, height, diversifier: diversifier.to_owned() }
    }

    fn batch(sent: &mut mpsc::UnboundedReceiver<Batch>) -> Option<Batch> {
        sent.try_recv().ok()
    }

    /// The diversifier that a header names, and the one that it is signed with is not told.
    fn next_diversifier(header: &ibc_proto::google::protobuf::Any) -> String {
        let update = MsgUpdateClient::decode(&header.value[..]).unwrap();
        let header = update.client_message.unwrap();
        solomachine::Header::decode(&header.value[..]).unwrap().new_diversifier
    }

    #[test]
    fn what_was_signed_in_vain_is_followed_by_a_header_with_a_new_diversifier() {
        let (mut peer, ledger, mut sent) = solo();
        let kind = || Kind::Connection("connection-0".to_owned());
        for number in 1..=3 {
            peer.push(number, kind());
        }
        peer.push(4, Kind::Connection("connection-9".to_owned()));
        let mut gone = Vec::new();
        peer.relay(&ledger, &mut gone).unwrap();
        assert_eq!(gone, [("beta".to_owned(), 4)], "it is not there");
        let first = batch(&mut sent).unwrap();
        assert_eq!(first.messages.len(), 4);
        let one = next_diversifier(&first.messages[0]);
        // One batch at a time.
        peer.push(5, kind());
        peer.relay(&ledger, &mut gone).unwrap();
        assert_eq!(batch(&mut sent), None);

        // The second of the three was no news.
        let codes = [Code::Done, Code::Done, Code::Done, Code::Again];
        let said = Outcomes { known: Some(solo_known(7, &one)), ..outcomes(&codes) };
        let done = peer.relayed(7, Some(said)).done;
        assert_eq!(done.iter().map(|(number, ..)| *number).collect::<Vec<_>>(), [1, 2]);
        peer.relay(&ledger, &mut gone).unwrap();
        let second = batch(&mut sent).unwrap();
        assert_eq!(second.messages.len(), 3, "a header and what is left");
        let two = next_diversifier(&second.messages[0]);
        assert_ne!(one, two);

        // All counted: no header is needed.
        let codes = [Code::Done; 3];
        let said = Outcomes { known: Some(solo_known(10, &two)), ..outcomes(&codes) };
        assert_eq!(peer.relayed(7, Some(said)).done.len(), 2);
        peer.push(6, kind());
        peer.relay(&ledger, &mut gone).unwrap();
        assert_eq!(batch(&mut sent).unwrap().messages.len(), 1);
        // And if nobody knows what became of it, one is.
        peer.down(7);
        let (batches, mut sent) = mpsc::unbounded_channel();
        peer.up(8, batches, Some(solo_known(10, &two)));
        peer.relay(&ledger, &mut gone).unwrap();
        let again = batch(&mut sent).unwrap();
        assert_eq!(again.messages.len(), 2);
        assert!(next_diversifier(&again.messages[0]) != two);
    }

    #[test]
    fn who_does_not_believe_is_shown_another_header_ever_more_rarely() {
        let (mut peer, ledger, mut sent) = solo();
        peer.push(1, Kind::Connection("connection-0".to_owned()));
        let other = "beta/00112233445566aa";
        let refused = || Outcomes {
            known: Some(solo_known(6, other)),
            ..outcomes(&[Code::Again, Code::Again])
        };
        let mut waited = Vec::new();
        for _ in 0..12 {
            peer.relay(&ledger, &mut Vec::new()).unwrap();
            assert!(batch(&mut sent).is_some());
            let relayed = peer.relayed(7, Some(refused()));
            assert_eq!(relayed.done, []);
            let Some((Pause::Proofs, wait)) = relayed.pause else { panic!("no pause") };
            waited.push(wait);
            // Not before, but for what needs no proof.
            peer.relay(&ledger, &mut Vec::new()).unwrap();
            assert_eq!(batch(&mut sent), None);
            let closing = closing(&ChannelId::known("channel-3"), &CloseReason::Shutdown);
            peer.aside().unwrap().closing.push(closing.clone());
            peer.relay(&ledger, &mut Vec::new()).unwrap();
            let said = batch(&mut sent).unwrap();
            assert_eq!((said.messages, said.closing), (vec![], vec![closing]));
            let heard = Outcomes { known: Some(solo_known(6, other)), ..outcomes(&[]) };
            assert_eq!(peer.relayed(7, Some(heard)).done, []);
            peer.go_on(7, Pause::Proofs);
        }
        assert_eq!((waited[0], waited[1], waited[11]), (PAUSE.0, PAUSE.0 * 2, PAUSE.1));
        assert!(waited.is_sorted(), "{waited:?}");

        // Once it believes one, all is as it was.
        peer.relay(&ledger, &mut Vec::new()).unwrap();
        let header = batch(&mut sent).unwrap().messages.remove(0);
        let known = Some(solo_known(8, &next_diversifier(&header)));
        let taken = Outcomes { known, ..outcomes(&[Code::Done, Code::Done]) };
        assert_eq!(peer.relayed(7, Some(taken)).done.len(), 1);
        assert_eq!(peer.links[0].disbelieved, 0);
    }

    #[test]
    fn what_was_signed_while_another_way_was_taken_is_not_refused() {
        let (mut peer, ledger, mut sent) = solo();
        let kind = || Kind::Connection("connection-0".to_owned());
        let mut gone = Vec::new();
        let said = |codes: &[Code], known| Some(Outcomes { known, ..outcomes(codes) });
        let nothing = Vec::<Became>::new();
        peer.push(1, kind());
        peer.push(2, kind());
        peer.relay(&ledger, &mut gone).unwrap();
        let one = next_diversifier(&batch(&mut sent).unwrap().messages[0]);
        // It is said again over another way, which ends before it is known what became of it.
        let (batches, mut newer) = mpsc::unbounded_channel();
        peer.up(8, batches, Some(solo_known(6, &one)));
        peer.relay(&ledger, &mut gone).unwrap();
        let two = next_diversifier(&batch(&mut newer).unwrap().messages[0]);
        let known = Some(solo_known(8, &one));
        assert_eq!(peer.relayed(7, said(&[Code::Done; 3], known)).done, nothing);
        peer.down(8);
        assert_eq!(queued(&peer), [1, 2]);
        peer.relay(&ledger, &mut gone).unwrap();
        assert_eq!(batch(&mut sent).unwrap().messages.len(), 2, "as if it were there yet");

        // It is further, but not by these.
        let known = Some(solo_known(20, &two));
        assert_eq!(peer.relayed(7, said(&[Code::Again; 2], known)).done, nothing);
        assert_eq!(queued(&peer), [1, 2]);
        // Nor are they what it has counted if it took the header and was then shown another one.
        peer.relay(&ledger, &mut gone).unwrap();
        assert_eq!(batch(&mut sent).unwrap().messages.len(), 3);
        let known = Some(solo_known(40, "beta/00112233445566aa"));
        let codes = [Code::Done, Code::Again, Code::Again];
        assert_eq!(peer.relayed(7, said(&codes, known)).done, nothing);
        assert_eq!(queued(&peer), [1, 2]);
        // If it does not say what it knows, nothing more is shown over this way.
        peer.relay(&ledger, &mut gone).unwrap();
        assert_eq!(batch(&mut sent).unwrap().messages.len(), 3);
        assert_eq!(peer.relayed(7, said(&codes, None)).done, nothing);
        assert_eq!(queued(&peer), [1, 2]);
        peer.relay(&ledger, &mut gone).unwrap();
        assert_eq!((batch(&mut sent), gone), (None, vec![]));
    }

    #[test]
    fn nothing_is_signed_for_a_client_that_is_none_of_this_host() {
        let face = Face::Solo(Arc::new(SoloKey::ed25519(&[2; 32]).unwrap()));
        let taken = |height, diversifier: &str| {
            Theirs::new(&face, "beta", solo_known(height, diversifier)).is_some()
        };
        assert!(taken(1, "beta/0123456789abcdef"));
        // Another one's, and what no batch may begin with.
        for diversifier in [
            "",
            "gamma/0123456789abcdef",
            "beta",
            "beta/",
            "beta/0123",
            "beta/0123456789abcdeg",
            "beta//0123456789abcde",
        ] {
            assert!(!taken(1, diversifier), "{diversifier}");
        }
        for height in [0, u64::MAX, u64::MAX - 1_000] {
            assert!(!taken(height, "beta/0123456789abcdef"), "{height}");
        }
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
        let link = peer.links.last_mut().unwrap();
        link.under_way.push_back(sent(false, vec![numbered]));
        for _ in 0..2 {
            let done = outcomes(&[Code::Done, Code::Done]);
            assert_eq!(peer.relayed(7, Some(done)).done, []);
        }
        let done = peer.relayed(7, Some(outcomes(&[Code::Done]))).done;
        assert_eq!(done.iter().map(|(number, ..)| *number).collect::<Vec<_>>(), [1]);
        peer.down(7);
        assert_eq!((queued(&peer), peer.links.len()), (vec![2, 3, 4, 5], 0));
    }
}
