//! Which messages go into one transaction.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use ibc_proto::google::protobuf::Any;
use tokio::sync::oneshot;

use super::{Fate, TxError};
use crate::chain::tx;

/// A message, and whoever waits for its fate.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) message: Any,
    /// How many bytes it adds to a transaction.
    pub(super) size: usize,
    reply: oneshot::Sender<Fate>,
    /// What it was given together with.
    call: Call,
    /// Its number there.
    number: usize,
    /// Whether those behind it are worth nothing without it.
    needed: bool,
}

/// What was given in one call, as far as messages hang together: the number of the first that has
/// failed and was needed.
#[derive(Clone, Debug)]
pub(super) struct Call(Arc<AtomicUsize>);

impl Call {
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicUsize::new(usize::MAX)))
    }
}

impl Item {
    pub(super) fn new(
        message: Any,
        reply: oneshot::Sender<Fate>,
        call: &Call,
        number: usize,
        needed: bool,
    ) -> Self {
        Self { size: tx::size(&message), message, reply, call: call.clone(), number, needed }
    }

    fn is_worthless(&self) -> bool {
        self.call.0.load(Ordering::Relaxed) < self.number
    }

    pub(super) fn reply(self, fate: Fate) {
        if self.needed && fate.is_err() {
            self.call.0.fetch_min(self.number, Ordering::Relaxed);
        }
        // Whoever asked may have gone.
        let _ = self.reply.send(fate);
    }
}

/// How much there is of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

/// The messages of one transaction.
#[derive(Debug, Default)]
pub(super) struct Batch(pub(super) Vec<Item>);

impl Batch {
    /// Takes as many messages as fit, from the first, and at least one.
    pub(super) fn take(waiting: &mut VecDeque<Item>, messages: usize, bytes: usize) -> Self {
        let (mut count, mut sum) = (0, 0_usize);
        for item in waiting.iter() {
            sum = sum.saturating_add(item.size);
            if count > 0 && (count >= messages || sum > bytes) {
                break;
            }
            count += 1;
        }
        Self(waiting.drain(..count).collect())
    }

    /// The first of its messages.
    pub(super) fn messages(&self, count: usize) -> Vec<Any> {
        self.0.iter().take(count).map(|item| item.message.clone()).collect()
    }

    /// As many of its first messages as fit, and at least one.
    pub(super) fn first(&self, bytes: usize) -> Size {
        let mut size = Size { messages: 0, bytes: 0 };
        for item in &self.0 {
            let sum = size.bytes.saturating_add(item.size);
            if size.messages > 0 && sum > bytes {
                break;
            }
            size = Size { messages: size.messages + 1, bytes: sum };
        }
        size
    }

    /// Takes one message out and says why it fails, if there is one with that number.
    pub(super) fn fail(&mut self, index: usize, error: TxError) -> bool {
        let found = index < self.0.len();
        if found {
            self.0.remove(index).reply(Err(error));
        }
        found
    }

    /// Takes out those that are worth nothing any more.
    pub(super) fn drop_worthless(&mut self) {
        for item in self.0.extract_if(.., |item| item.is_worthless()) {
            item.reply(Err(TxError::Before));
        }
    }

    pub(super) fn fail_all(self, error: &TxError) {
        for item in self.0 {
            item.reply(Err(error.clone()));
        }
    }

    /// The two halves, if there are two.
    pub(super) fn halves(mut self) -> Result<(Self, Self), Self> {
        if self.0.len() < 2 {
            return Err(self);
        }
        let second = self.0.split_off(self.0.len().div_ceil(2));
        Ok((self, Self(second)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(bytes: usize) -> Item {
        let message = Any { type_url: "/a".to_owned(), value: vec![0; bytes] };
        Item::new(message, oneshot::channel().0, &Call::new(), 0, false)
    }

    fn counts(sizes: &[usize], messages: usize, bytes: usize) -> Vec<usize> {
        let mut waiting: VecDeque<_> = sizes.iter().map(|size| item(*size)).collect();
        let mut counts = Vec::new();
        while !waiting.is_empty() {
            counts.push(Batch::take(&mut waiting, messages, bytes).0.len());
        }
        counts
    }

    #[test]
    fn as_many_messages_as_fit_go_into_one_transaction() {
        assert_eq!(counts(&[1; 10], 4, 1_000), [4, 4, 2]);
        let each = item(90).size;
        assert_eq!(counts(&[90; 7], 100, 3 * each), [3, 3, 1]);
        assert_eq!(counts(&[90; 7], 100, 3 * each - 1), [2, 2, 2, 1]);
        // None is left for ever.
        assert_eq!(counts(&[500, 1, 500], 100, 100), [1, 1, 1]);
        assert_eq!(counts(&[1, 1], 0, 100), [1, 1]);
    }

    #[test]
    fn as_many_as_fit_are_the_first() {
        let batch = Batch((0..3).map(|_| item(90)).collect());
        let each = batch.0[0].size;
        let first = |bytes| {
            let Size { messages, bytes } = batch.first(bytes);
            (messages, bytes / each)
        };
        assert_eq!([first(0), first(each * 2 - 1), first(each * 2)], [(1, 1), (1, 1), (2, 2)]);
        assert_eq!(first(usize::MAX), (3, 3));
        assert_eq!(batch.messages(2).len(), 2);
    }

    #[test]
    fn what_is_behind_one_that_is_needed_fails_with_it() {
        let (one, other) = (Call::new(), Call::new());
        let (mut batch, mut fates) = (Batch::default(), Vec::new());
        for (number, (call, needed)) in
            [(&one, false), (&one, true), (&one, true), (&one, false), (&other, true)]
                .into_iter()
                .enumerate()
        {
            let (reply, fate) = oneshot::channel();
            batch.0.push(Item::new(Any::default(), reply, call, number, needed));
            fates.push(fate);
        }
        let mut told = || -> Vec<_> {
            let text = |fate: Fate| fate.unwrap_err().to_string();
            fates.iter_mut().map(|fate| fate.try_recv().ok().map(text)).collect()
        };
        assert!(batch.fail(0, TxError::Ended));
        batch.drop_worthless();
        assert_eq!((batch.0.len(), told()[0].is_some()), (4, true));
        assert!(batch.fail(1, TxError::Ended));
        batch.drop_worthless();
        assert_eq!(batch.0.len(), 2, "the one before it, and that of another call");
        let before = Some(TxError::Before.to_string());
        assert_eq!(told(), [None, None, Some(TxError::Ended.to_string()), before, None]);
    }

    #[test]
    fn halves_keep_the_order() {
        let batch = Batch((1..=5).map(item).collect());
        let sizes =
            |batch: &Batch| batch.0.iter().map(|item| item.message.value.len()).collect::<Vec<_>>();
        let (first, second) = batch.halves().unwrap();
        assert_eq!((sizes(&first), sizes(&second)), (vec![1, 2, 3], vec![4, 5]));
        assert!(Batch(vec![item(1)]).halves().is_err());
    }
}
