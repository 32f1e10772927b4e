//! From the host to the chain: batches become transactions.

use futures_util::{FutureExt as _, future::try_join_all};
use ibc_proto::{google::protobuf::Any, ibc::core::channel::v1::Packet};
use tokio::{sync::mpsc, time};

use super::{AT_ONCE, FIRST, LONGEST, Relayer, late::Late};
use crate::{
    chain::{Fate, RpcError, TxError},
    client::SOLO_MACHINE,
    engine::{self, Message},
    host::{
        inbox::Command,
        service,
        wire::{Batch, Code, Outcome, Outcomes},
    },
    identifier::{ChannelId, PortId},
    path,
};

impl Relayer {
    /// Takes batches of the host for as long as the node can be reached, and again. `late`: who is
    /// told of packets that the chain did not receive.
    pub(super) async fn outward(&self, late: mpsc::UnboundedSender<Late>) {
        let mut wait = FIRST;
        loop {
            let known = match self.known_there(None).await {
                Ok(known) => known,
                Err(error) => {
                    tracing::debug!(chain = self.chain.id, %error, "the chain cannot be reached");
                    time::sleep(wait).await;
                    wait = LONGEST.min(wait * 2);
                    continue;
                }
            };
            wait = FIRST;
            let peer = service::next_id();
            let (batches, mut wanted) = mpsc::unbounded_channel();
            let (chain, inbox) = (&self.chain.id, &self.shared.inbox);
            inbox.push(Command::PeerUp { chain: chain.clone(), peer, batches, known: Some(known) });
            while let Some(batch) = wanted.recv().await {
                let outcomes = self.relay(batch, &late).await;
                let failed = outcomes.is_none();
                inbox.push(Command::Relayed { chain: chain.clone(), peer, outcomes });
                if failed {
                    break;
                }
            }
            // What was under way is said again.
            inbox.push(Command::PeerDown { chain: chain.clone(), peer });
            time::sleep(LONGEST).await;
        }
    }

    /// Has the messages of a batch executed; `None` if what became of them is not known. What hosts
    /// say to each other besides is nothing to a chain.
    async fn relay(&self, batch: Batch, late: &mpsc::UnboundedSender<Late>) -> Option<Outcomes> {
        let read = batch.messages.iter().map(Message::read);
        let messages: Vec<_> = read.collect::<Result<_, _>>().ok()?;
        let signed: Vec<Any> =
            messages.iter().map(|message| message.signed(&self.chain.signer)).collect();
        // Without the header nothing behind it can be believed, and a solo machine has signed each
        // claim as the one after that before it.
        let needed = |number: usize| {
            let is_header = |message| matches!(message, &Message::UpdateClient(_));
            self.is_solo() || messages.get(number).is_some_and(is_header)
        };
        let fates = self.chain.submitter.submit_needing(signed, needed).await;
        let included = fates.iter().filter_map(|fate| Some(fate.as_ref().ok()?.height)).max();
        let mut fates = fates.into_iter();
        let mut outcomes = Vec::with_capacity(messages.len());
        let mut again = false;
        let mut redundant = Vec::new();
        for message in &messages {
            let fate = fates.next()?;
            // More than one relayer relays, or this one did before it was killed.
            if is_redundant(&fate) {
                redundant.push(message);
                outcomes.push(done());
                continue;
            }
            let outcome = self.outcome(message, fate, late)?;
            again |= matches!(message, Message::UpdateClient(_)) && outcome.code() == Code::Again;
            outcomes.push(outcome);
        }
        if again {
            for outcome in &mut outcomes {
                outcome.set_code(Code::Again);
            }
        }
        for some in redundant.chunks(AT_ONCE) {
            let are_known = try_join_all(some.iter().map(|message| self.is_known(message).boxed()));
            if !are_known.await.ok()?.into_iter().all(|known| known) {
                tracing::debug!(chain = self.chain.id, "what was said is not in a block yet");
                return None;
            }
        }
        // A solo machine has to know after each batch which signature is next.
        let known = if again || self.is_solo() {
            Some(self.known_there(included).await.ok()?)
        } else {
            None
        };
        Some(Outcomes { outcomes, known })
    }

    /// Whether the chain has done what a message about a packet asks for. That the message would be
    /// redundant it says as soon as another transaction that does so waits in its mempool (ibc-go,
    /// `core/ante/ante.go`), and that one may still fail.
    async fn is_known(&self, message: &Message) -> Result<bool, RpcError> {
        let prove = |key: String| async move { self.chain.rpc.prove(&key, None).await };
        let packet = match message {
            Message::RecvPacket(receive) => receive.packet.as_ref(),
            Message::Acknowledgement(acknowledged) => acknowledged.packet.as_ref(),
            Message::Timeout(late) => late.packet.as_ref(),
            Message::TimeoutOnClose(late) => late.packet.as_ref(),
            _ => None,
        };
        let Some(packet) = packet else { return Ok(false) };
        if !matches!(message, Message::RecvPacket(_)) {
            let port = PortId::known(&packet.source_port);
            let channel = ChannelId::known(&packet.source_channel);
            let sent = prove(path::commitment(&port, &channel, packet.sequence)).await?;
            return Ok(sent.value.is_empty());
        }
        let port = PortId::known(&packet.destination_port);
        let channel = ChannelId::known(&packet.destination_channel);
        let receipt = prove(path::receipt(&port, &channel, packet.sequence)).await?;
        if !receipt.value.is_empty() {
            return Ok(true);
        }
        let next = prove(path::next_sequence_recv(&port, &channel)).await?;
        // Of an unordered channel it stays 1.
        Ok(engine::number(&next.value).is_some_and(|next| packet.sequence < next))
    }

    /// Whether the host shows itself as a solo machine.
    fn is_solo(&self) -> bool {
        self.theirs.as_str().starts_with(SOLO_MACHINE)
    }

    fn outcome(
        &self,
        message: &Message,
        fate: Fate,
        late: &mpsc::UnboundedSender<Late>,
    ) -> Option<Outcome> {
        let error = match fate {
            Ok(_) => return Some(done()),
            Err(error) => error,
        };
        let text = error.to_string();
        let log = match error {
            TxError::Refused { log, .. } => log,
            TxError::TooLarge { .. } | TxError::TooMuchGas { .. } => text.clone(),
            TxError::Before => return Some(Outcome { code: Code::Again.into(), text }),
            error => {
                let error = &error as &(dyn std::error::Error + 'static);
                tracing::warn!(chain = self.chain.id, error, "transactions cannot be made");
                return None;
            }
        };
        tracing::debug!(chain = self.chain.id, log, "the chain refuses a message");
        let code = match message {
            // It was said before, and this host has not heard what became of it.
            Message::ConnectionOpenAck(_)
            | Message::ConnectionOpenConfirm(_)
            | Message::ChannelOpenAck(_)
            | Message::ChannelOpenConfirm(_)
                if log.contains("got STATE_OPEN") =>
            {
                Code::Done
            }
            Message::ChannelCloseConfirm(_) if log.contains("CLOSED") => Code::Done,
            Message::UpdateClient(_) => Code::Again,
            // A signature was not the next one: what stood before it was refused.
            _ if log.contains("signature verification failed") && self.is_solo() => Code::Again,
            Message::RecvPacket(receive) => {
                self.not_received(receive.packet.clone()?, &log, late);
                Code::Unreceived
            }
            _ => Code::Refused,
        };
        Some(Outcome { code: code.into(), text })
    }

    /// A packet was not received: it has to be proved that it never will be, if that is so.
    fn not_received(&self, packet: Packet, log: &str, late: &mpsc::UnboundedSender<Late>) {
        if !log.contains("timeout") {
            let sequence = packet.sequence;
            tracing::warn!(chain = self.chain.id, sequence, log, "the chain refuses a packet");
        }
        let _ = late.send(Late::new(packet));
    }
}

fn is_redundant(fate: &Fate) -> bool {
    matches!(fate, Err(TxError::Refused { log, .. }) if log.contains("packet messages are redundant"))
}

fn done() -> Outcome {
    Outcome { code: Code::Done.into(), text: String::new() }
}
