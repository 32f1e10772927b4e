//! A channel as core's link, and the task of its connection.

use std::{future::poll_fn, sync::Arc, task::Poll};

use network_core::{Answer, CloseReason, Delivery, Link, LinkEvents, Record, RecordId, Unsent};
use tokio::sync::mpsc;

use super::inbox::{Command, Inbox};
use crate::identifier::ChannelId;

#[derive(Debug)]
pub(super) struct ChannelLink {
    pub(super) inbox: Arc<Inbox>,
    pub(super) channel: ChannelId,
}

impl Link for ChannelLink {
    fn submit(&self, id: RecordId, record: Record) -> Result<(), Unsent> {
        let Record { payload, timeout } = record;
        self.inbox.push(Command::Send { channel: self.channel.clone(), id, payload, timeout });
        Ok(())
    }

    fn answer(&self, id: RecordId, answer: Answer) {
        let (channel, sequence) = (self.channel.clone(), id.0);
        self.inbox.push(Command::Answer { channel, sequence, answer });
    }

    fn answers(&self, answers: &mut Vec<(RecordId, Answer)>, _more: bool) {
        self.inbox.push_all(answers.drain(..).map(|(id, answer)| Command::Answer {
            channel: self.channel.clone(),
            sequence: id.0,
            answer,
        }));
    }

    fn close(&self, reason: &CloseReason) {
        self.inbox.push(Command::Close { channel: self.channel.clone(), reason: reason.clone() });
    }
}

/// What the host tells the task of a connection.
pub(super) enum Tell {
    /// The other side closes: no more records come.
    Closing(CloseReason),
    /// The channel is closed, and what became of the records without an answer.
    Over(CloseReason, Delivery),
}

/// Runs the handler of a connection until the channel is closed and the handler has ended.
pub(super) async fn run(mut events: LinkEvents, mut told: mpsc::UnboundedReceiver<Tell>) {
    let (reason, unacked) = loop {
        let tell = poll_fn(|cx| {
            let _ = events.poll(cx);
            told.poll_recv(cx)
        });
        match tell.await {
            Some(Tell::Closing(reason)) => events.closing(&reason),
            Some(Tell::Over(reason, unacked)) => break (reason, unacked),
            // The host has ended.
            None => break (CloseReason::cut_off(), Delivery::Unknown),
        }
    };
    // What came before the end is still handed out.
    let _ = tokio::time::timeout(
        std::time::Duration::from_secs(1),
        poll_fn(|cx| {
            let _ = events.poll(cx);
            match events.poll_drained(cx) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => Poll::Pending,
            }
        }),
    )
    .await;
    events.closed(&reason, unacked);
    events.finish().await;
}
