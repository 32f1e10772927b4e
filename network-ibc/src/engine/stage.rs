//! What a message writes, until it is known to succeed.

use std::{collections::BTreeMap, ops::Bound};

use bytes::Bytes;

/// The state of a host, to be read.
///
/// The *provable* space is committed to by the host's headers, under the keys of ICS-024. The
/// *private* space is of no concern to anybody else.
pub(crate) trait Store {
    /// The provable value at a key.
    fn get(&self, key: &str) -> Option<Bytes>;
    /// The private value at a key.
    fn private(&self, key: &[u8]) -> Option<Bytes>;
    /// The first private key at or after `from` that starts with `prefix`, and its value.
    fn private_next(&self, prefix: &[u8], from: &[u8]) -> Option<(Vec<u8>, Bytes)>;
    /// The last private key before `before` that starts with `prefix`, and its value.
    fn private_prev(&self, prefix: &[u8], before: &[u8]) -> Option<(Vec<u8>, Bytes)>;
}

/// Changes to both spaces: a value, or `None` to remove it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Writes {
    pub(crate) provable: BTreeMap<String, Option<Bytes>>,
    pub(crate) private: BTreeMap<Vec<u8>, Option<Bytes>>,
}

/// A store with changes on top that nobody else sees yet.
pub(crate) struct Stage<'a> {
    store: &'a dyn Store,
    writes: Writes,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(store: &'a dyn Store) -> Self {
        Self { store, writes: Writes::default() }
    }

    /// What was written, to be applied at once.
    pub(crate) fn into_writes(self) -> Writes {
        self.writes
    }

    pub(crate) fn get(&self, key: &str) -> Option<Bytes> {
        match self.writes.provable.get(key) {
            Some(written) => written.clone(),
            None => self.store.get(key),
        }
    }

    pub(crate) fn set(&mut self, key: String, value: impl Into<Bytes>) {
        self.writes.provable.insert(key, Some(value.into()));
    }

    pub(crate) fn remove(&mut self, key: String) {
        self.writes.provable.insert(key, None);
    }

    pub(crate) fn private(&self, key: &[u8]) -> Option<Bytes> {
        match self.writes.private.get(key) {
            Some(written) => written.clone(),
            None => self.store.private(key),
        }
    }

    pub(crate) fn set_private(&mut self, key: impl Into<Vec<u8>>, value: Option<Bytes>) {
        self.writes.private.insert(key.into(), value);
    }

    pub(crate) fn private_next(&self, prefix: &[u8], from: &[u8]) -> Option<(Vec<u8>, Bytes)> {
        let from = from.max(prefix);
        let written = self
            .writes
            .private
            .range::<[u8], _>((Bound::Included(from), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .find_map(|(key, value)| Some((key.clone(), value.clone()?)));
        let mut at = from.to_vec();
        let stored = loop {
            let Some((key, value)) = self.store.private_next(prefix, &at) else { break None };
            if !self.writes.private.contains_key(&key) {
                break Some((key, value));
            }
            // The next key there can be.
            at = key;
            at.push(0);
        };
        match (written, stored) {
            (Some(written), Some(stored)) if stored.0 < written.0 => Some(stored),
            (None, stored) => stored,
            (written, _) => written,
        }
    }

    pub(crate) fn private_prev(&self, prefix: &[u8], before: &[u8]) -> Option<(Vec<u8>, Bytes)> {
        let written = self
            .writes
            .private
            .range::<[u8], _>((Bound::Unbounded, Bound::Excluded(before)))
            .rev()
            .skip_while(|(key, _)| !key.starts_with(prefix) && key.as_slice() > prefix)
            .take_while(|(key, _)| key.starts_with(prefix))
            .find_map(|(key, value)| Some((key.clone(), value.clone()?)));
        let mut at = before.to_vec();
        let stored = loop {
            let Some((key, value)) = self.store.private_prev(prefix, &at) else { break None };
            if !self.writes.private.contains_key(&key) {
                break Some((key, value));
            }
            at = key;
        };
        match (written, stored) {
            (Some(written), Some(stored)) if stored.0 > written.0 => Some(stored),
            (None, stored) => stored,
            (written, _) => written,
        }
    }

    /// Takes the next number of a counter that starts at `first`.
    pub(crate) fn next_number(&mut self, counter: &str, first: u64) -> u64 {
        let number = self.private(counter.as_bytes()).as_deref().and_then(number).unwrap_or(first);
        let next = Bytes::copy_from_slice(&number.saturating_add(1).to_be_bytes());
        self.set_private(counter, Some(next));
        number
    }
}

/// A number as ibc-go stores it: 8 bytes, the highest first.
pub(crate) fn number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}
