//! A client's store in memory, for tests.

use std::{collections::BTreeMap, ops::Bound};

use bytes::Bytes;

use super::ClientStore;
use crate::identifier::ClientId;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    client: ClientId,
    pub(super) provable: BTreeMap<String, Bytes>,
    pub(super) private: BTreeMap<Vec<u8>, Bytes>,
}

impl Memory {
    pub(crate) fn new(client: &str) -> Self {
        let client = ClientId::known(client);
        Self { client, provable: BTreeMap::new(), private: BTreeMap::new() }
    }
}

impl ClientStore for Memory {
    fn client(&self) -> &ClientId {
        &self.client
    }

    fn get(&self, key: &str) -> Option<Bytes> {
        self.provable.get(key).cloned()
    }

    fn set(&mut self, key: &str, value: Bytes) {
        self.provable.insert(key.to_owned(), value);
    }

    fn remove(&mut self, key: &str) {
        self.provable.remove(key);
    }

    fn private(&self, key: &[u8]) -> Option<Bytes> {
        self.private.get(key).cloned()
    }

    fn set_private(&mut self, key: &[u8], value: Option<Bytes>) {
        match value {
            Some(value) => self.private.insert(key.to_vec(), value),
            None => self.private.remove(key),
        };
    }

    fn private_next(&self, prefix: &[u8], from: &[u8]) -> Option<(Vec<u8>, Bytes)> {
        let range = (Bound::Included(from), Bound::Unbounded);
        let (key, value) = self.private.range::<[u8], _>(range).next()?;
        key.starts_with(prefix).then(|| (key.clone(), value.clone()))
    }

    fn private_prev(&self, prefix: &[u8], before: &[u8]) -> Option<(Vec<u8>, Bytes)> {
        let range = (Bound::Unbounded, Bound::Excluded(before));
        let (key, value) = self.private.range::<[u8], _>(range).next_back()?;
        key.starts_with(prefix).then(|| (key.clone(), value.clone()))
    }
}
