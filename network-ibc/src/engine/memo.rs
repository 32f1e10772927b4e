//! What was read before: every packet asks for its channel and its connection, which rarely change.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;

use super::error::EngineError;

/// How many values are remembered. Where there are more in use they are read again.
const MOST: usize = 256;

/// Remembers what bytes say, by the bytes: so it is never out of date.
#[derive(Debug)]
pub(super) struct Memo<T>(Mutex<HashMap<Bytes, Arc<T>>>);

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Memo<T> {
    pub(super) fn read(
        &self,
        stored: &Bytes,
        decode: impl FnOnce(&[u8]) -> Result<T, EngineError>,
    ) -> Result<Arc<T>, EngineError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(stored) {
            return Ok(found.clone());
        }
        let new = Arc::new(decode(stored)?);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(stored.clone(), new.clone());
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_again_is_the_same_and_not_all_is_kept() {
        let memo = Memo::default();
        let read = |n: usize| memo.read(&n.to_string().into(), |bytes| Ok(bytes.len()));
        let one = read(7).unwrap();
        assert!(Arc::ptr_eq(&one, &read(7).unwrap()));
        for n in 0..3 * MOST {
            assert_eq!(*read(n).unwrap(), n.to_string().len());
        }
        assert!(memo.0.lock().unwrap().len() <= MOST);
        let refused = || EngineError::invalid("number", "it is none");
        assert!(Memo::<()>::default().read(&Bytes::new(), |_| Err(refused())).is_err());
    }
}
