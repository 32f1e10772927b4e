//! The senders' side.

use std::sync::Arc;

use network_core::{Answer, CloseReason, Link, Record, RecordId, Unsent};
use tokio::sync::oneshot;

use super::{Shared, inbound, outbound};

#[derive(Debug)]
pub(super) struct UnorderedLink(pub(super) Arc<Shared>);

impl Link for UnorderedLink {
    fn submit(&self, id: RecordId, record: Record) -> Result<(), Unsent> {
        let (recall, recalled) = oneshot::channel();
        {
            let mut state = self.0.lock();
            if state.shut {
                return Err(Unsent);
            }
            state.sent = state.sent.wrapping_add(1);
            state.under_way += 1;
            state.recalls.insert(id.0, recall);
        }
        tokio::spawn(outbound::send(self.0.clone(), id, record.payload, recalled));
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
