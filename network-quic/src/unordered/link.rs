//! The senders' side.

use std::sync::Arc;

use network_core::{Answer, CloseReason, Link, Record, RecordId, Unsent};
use tokio::sync::oneshot;

use super::{
    Shared, inbound,
    outbound::{self, Begun},
};

#[derive(Debug)]
pub(super) struct UnorderedLink(pub(super) Arc<Shared>);

impl Link for UnorderedLink {
    fn submit(&self, id: RecordId, record: Record) -> Result<(), Unsent> {
        let shared = &self.0;
        let (session, others_wait) = {
            let mut state = shared.lock();
            if state.shut {
                return Err(Unsent);
            }
            state.sent = state.sent.wrapping_add(1);
            state.under_way += 1;
            (state.session.clone(), !state.recalls.is_empty())
        };
        let begun = match session {
            // No record goes before those that wait for room.
            Some(session) if !others_wait => outbound::begin(shared, &session, record.payload),
            _ => Begun::Not(record.payload),
        };
        if let Begun::Wholly(answer) = begun {
            let first = {
                let mut state = shared.lock();
                if state.session.is_none() {
                    // Nobody waits for its answer any more, and it would keep the socket open.
                    drop(state);
                    return Ok(());
                }
                state.begun.push((id, answer));
                state.begun.len() == 1
            };
            if first {
                shared.changed.notify_one();
            }
            return Ok(());
        }
        let (recall, recalled) = oneshot::channel();
        shared.lock().recalls.insert(id.0, recall);
        tokio::spawn(outbound::send(shared.clone(), id, begun, recalled));
        Ok(())
    }

    fn answer(&self, id: RecordId, answer: Answer) {
        inbound::answer(&self.0, id, answer);
    }

    fn abandon(&self, id: RecordId) {
        let recall = {
            let mut state = self.0.lock();
            // After the close it is too late: that says how many records there are.
            let recall = if state.shut { None } else { state.recalls.remove(&id.0) };
            state.recalling += u32::from(recall.is_some());
            recall
        };
        if let Some(recall) = recall {
            // Its task may be done by now.
            let _ = recall.send(());
        }
    }

    fn close(&self, reason: &CloseReason) {
        self.0.lock().closing.get_or_insert_with(|| reason.clone());
        self.0.changed.notify_one();
    }
}
