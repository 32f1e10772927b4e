//! Another host, and what is to be relayed to it.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    time::Duration,
};

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
const MAX_MESSAGES: usize = 1_024;
const MAX_BYTES: usize = 1 << 20;

/// How long nothing is proved to a side that has not taken a header: at first, and twice as long each
/// time, up to the most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

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
    /// When the way is to [go on](Peer::go_on), if it pauses.
    pub(super) pause: Option<Duration>,
}

pub(super) struct Peer {
    chain: String,
    face: Face,
    queue: VecDeque<Numbered>,
    /// Packets that the other side has not received, as long as that is not proved: by the channel
    /// that they were sent over, and their sequence.
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
        let wait = PAUSE.0.saturating_mul(1 << self.disbelieved.min(16));
        self.disbelieved = self.disbelieved.saturating_add(1);
        self.paused = true;
        wait.min(PAUSE.1)
    }
}

impl Peer {
    pub(super) fn new(chain: String, face: Face) -> Self {
        Self {
            chain,
            face,
            queue: VecDeque::new(),
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
        known: Option<Known>,
    ) {
        self.take_back();
        self.queue.extend(mem::take(&mut self.unproved).into_values());
        let theirs = known.and_then(|known| Theirs::new(&self.face, &self.chain, known));
        let under_way = VecDeque::new();
        self.links.push(Link { id, batches, theirs, under_way, disbelieved: 0, paused: false });
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
        if let Kind::Packet(packet) = &kind {
            let key = (packet.source_channel.clone(), packet.sequence);
            self.unproved.insert(key, (number, kind));
        }
    }

    /// A packet is done with. Gives the number under which it is kept, if it was not received.
    pub(super) fn done_with(&mut self, channel: &ChannelId, sequence: u64) -> Option<u64> {
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
            let mut batch = mem::take(&mut self.aside);
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

    /// Proves things again over a way after a pause.
    pub(super) fn go_on(&mut self, id: u64) {
        if let Some(link) = self.links.iter_mut().find(|link| link.id == id) {
            link.paused = false;
        }
    }

    /// What became of the oldest batch that is under way.
    pub(super) fn relayed(&mut self, id: u64, outcomes: Option<Outcomes>) -> Relayed {
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
                return Relayed { pause: Some(wait), ..Relayed::default() };
            }
            link.disbelieved = 0;
        }
        let results = sent.messages.into_iter().zip(results);
        // Of a solo machine also if nothing can be shown over this way any more: another one goes on.
        if matches!(self.face, Face::Chain) {
            let done = results.map(|(message, outcome)| message.became(outcome));
            return Relayed { done: done.collect(), pause: None };
        }
        // Over another way it may have been shown more meanwhile, and what it has counted is not this.
        let is_this = |theirs: &&Theirs| link.theirs.as_ref().is_some_and(|it| it.is_of(theirs));
        let counted_here = theirs.as_ref().filter(is_this).and_then(Theirs::counted);
        let taken = counted_here.unwrap_or_default();
        let sure = sent.header && counted_here.is_some();
        // If nothing was signed in vain, what is to be signed next is as it was thought to be.
        let as_expected = |theirs: &Theirs| link.theirs.as_ref().is_some_and(|it| it.is_at(theirs));
        if !theirs.as_ref().is_some_and(as_expected) {
            link.theirs = theirs;
        }
        let (done, again) = of_those_that_count(results, taken, sure);
        self.say_again(vec![Sent { messages: again, ..Sent::default() }]);
        Relayed { done, pause: None }
    }
}

/// What became of messages whose proofs count, and which of them are to be said again: those that
/// followed on one that did not count. `sure`: the first one was as the client was to have it.
fn of_those_that_count(
    results: impl Iterator<Item = (Message, Outcome)>,
    taken: u64,
    mut sure: bool,
) -> (Vec<Became>, Vec<Message>) {
    let (mut done, mut again) = (Vec::new(), Vec::new());
    for (message, outcome) in results {
        let counted = message.counted.is_some_and(|counted| counted <= taken);
        // What follows on all that counted can only be refused for what it is.
        if outcome.code() == Code::Again && !counted && !sure {
            again.push(message);
        } else {
            done.push(message.became(outcome));
        }
        sure = counted;
    }
    (done, again)
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
        assert_eq!((relayed.done, relayed.pause), (vec![], Some(PAUSE.0)));
        assert_eq!(queued(&peer), [1, 2, 3, 4, 5]);
        // It had no header of its own.
        assert_eq!(peer.relayed(7, Some(outcomes(&[Code::Refused, Code::Refused]))).done, []);
        assert_eq!(queued(&peer), [1, 2, 3, 4, 5]);
        let link = peer.links.last().unwrap();
        assert_eq!(link.under_way.len(), 0);
        let known = Theirs::new(&Face::Chain, "beta", known(4));
        assert_eq!(format!("{:?}", link.theirs), format!("{known:?}"));
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
            let (done, again) = of_those_that_count(results, taken, sure);
            let done: Vec<_> =
                done.into_iter().map(|(number, _, code, _)| (number, code)).collect();
            (done, again.into_iter().map(|message| message.numbered.0).collect::<Vec<_>>())
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
            waited.push(relayed.pause.unwrap());
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
            peer.go_on(7);
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
