//! Forgetting packets from the chain that it is done with (decision 0023).

use std::collections::HashMap;

use tokio::sync::mpsc;

use super::{Relayer, inward::News};
use crate::{
    chain::RpcError,
    client::Gap,
    engine::{ABSENCES, MOST_ABSENT, Message, MsgSettle, Packet, first_open},
    host::inbox::Command,
    identifier::{ChannelId, PortId},
    path,
};

/// After how many packets of a channel it is looked which the chain is done with. In tests there
/// are fewer.
const TOGETHER: u64 = if cfg!(test) { 64 } else { 1_024 };

/// The chain's end of a channel.
type End = (PortId, ChannelId);

/// Which packets of each channel have come.
pub(super) struct Received {
    /// From which sequence on it is looked again, and what follows from that it is time.
    due: HashMap<End, u64>,
    tell: mpsc::UnboundedSender<Packet>,
}

impl Received {
    /// `settled`: below which sequences is forgotten already.
    pub(super) fn new(
        settled: impl Iterator<Item = (End, u64)>,
        tell: mpsc::UnboundedSender<Packet>,
    ) -> Self {
        let due = settled.map(|(end, settled)| (end, settled + TOGETHER)).collect();
        Self { due, tell }
    }

    /// What the host has been told of.
    pub(super) fn push_all(&mut self, news: &[News]) {
        for news in news {
            if let News::Packet(packet) = news {
                self.push(packet);
            }
        }
    }

    fn push(&mut self, packet: &Packet) {
        let end = (packet.source_port.clone(), packet.source_channel.clone());
        let due = self.due.entry(end).or_insert(TOGETHER);
        if packet.sequence >= *due {
            *due = packet.sequence.saturating_add(TOGETHER);
            let _ = self.tell.send(packet.clone());
        }
    }
}

impl Relayer {
    /// Proves to the host which packets the chain is done with, whenever some have come.
    pub(super) async fn settle(&self, mut received: mpsc::UnboundedReceiver<Packet>) {
        while let Some(packet) = received.recv().await {
            if let Err(error) = self.settle_before(&packet).await {
                // The next ones do for these as well.
                tracing::debug!(chain = self.chain.id, %error, "packets are not forgotten yet");
            }
        }
        // There is nothing more to do than to wait for the end.
        std::future::pending().await
    }

    /// The same of the packets up to one that has come.
    async fn settle_before(&self, packet: &Packet) -> Result<(), RpcError> {
        let sender = (&packet.source_port, &packet.source_channel);
        let chain = self.chain.id.clone();
        let Ok(state) = self.shared.ask(|reply| Command::Chain { chain, reply }).await else {
            return Ok(());
        };
        let end = state.channels.iter().find(|end| (&end.there.0, &end.there.1) == sender);
        let Some(settled) = end.map(|end| end.settled) else { return Ok(()) };
        // As of the last block that the host knows of, so that it needs no other header.
        let Some(height) = self.provable(0).await else { return Ok(()) };
        let (mut proofs, mut gaps) = (Vec::new(), Vec::<Gap>::new());
        let mut next = settled;
        let all = packet.sequence.saturating_add(1).min(settled.saturating_add(MOST_ABSENT));
        while proofs.len() < ABSENCES {
            next = first_open(&gaps, sender, next..all);
            if next >= all {
                break;
            }
            let key = path::commitment(sender.0, sender.1, next);
            let proved = self.chain.rpc.prove(&key, Some(height)).await?;
            if !proved.value.is_empty() {
                break;
            }
            gaps.extend(Gap::of(&proved.proof));
            proofs.push(proved.proof);
            next += 1;
        }
        if !proofs.is_empty() {
            let message = MsgSettle {
                port_id: packet.destination_port.to_string(),
                channel_id: packet.destination_channel.to_string(),
                below: all,
                proof_height: Some(self.chain.at(height + 1).into()),
                absences: proofs,
                received: packet.sequence,
                ..MsgSettle::default()
            };
            self.deliver(&[Message::Settle(message)], height + 1).await;
        }
        Ok(())
    }
}
