//! Changes on top of a store, against a store that has them.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::host::Memory;
use crate::engine::{Stage, number};

#[derive(Clone, Debug)]
enum Change {
    Set(String, Vec<u8>),
    Remove(String),
    SetPrivate(Vec<u8>, Option<Vec<u8>>),
}

/// Few letters, so that keys meet: equal, one the start of another, and with the lowest and the
/// highest byte at the end.
fn private_key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(vec![0, b'a', b'b', 255]), 0..4)
}

fn provable_key() -> impl Strategy<Value = String> {
    "[ab]{0,3}"
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..3)
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (provable_key(), value()).prop_map(|(key, value)| Change::Set(key, value)),
        provable_key().prop_map(Change::Remove),
        (private_key(), prop::option::of(value()))
            .prop_map(|(key, value)| Change::SetPrivate(key, value)),
    ]
}

fn store() -> impl Strategy<Value = Memory> {
    let provable = prop::collection::btree_map(provable_key(), value(), 0..8);
    let private = prop::collection::btree_map(private_key(), value(), 0..16);
    (provable, private).prop_map(|(provable, private)| Memory {
        provable: provable.into_iter().map(|(key, value)| (key, value.into())).collect(),
        private: private.into_iter().map(|(key, value)| (key, value.into())).collect(),
    })
}

fn between<'a>(
    model: &'a BTreeMap<Vec<u8>, Bytes>,
    prefix: &'a [u8],
    is: impl Fn(&[u8]) -> bool + 'a,
) -> impl DoubleEndedIterator<Item = (Vec<u8>, Bytes)> + 'a {
    let found = model.iter().filter(move |(key, _)| key.starts_with(prefix) && is(key));
    found.map(|(key, value)| (key.clone(), value.clone()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_stage_reads_as_if_its_changes_were_in_the_store(
        store in store(),
        changes in prop::collection::vec(change(), 0..24),
        prefix in private_key(),
        at in private_key(),
    ) {
        let mut provable = store.provable.clone();
        let mut private = store.private.clone();
        let mut stage = Stage::new(&store);
        for change in changes {
            match change {
                Change::Set(key, value) => {
                    provable.insert(key.clone(), value.clone().into());
                    stage.set(key, value);
                }
                Change::Remove(key) => {
                    provable.remove(&key);
                    stage.remove(key);
                }
                Change::SetPrivate(key, value) => {
                    match value.clone() {
                        Some(value) => private.insert(key.clone(), value.into()),
                        None => private.remove(&key),
                    };
                    stage.set_private(key, value.map(Bytes::from));
                }
            }
        }
        for key in store.provable.keys().chain(provable.keys()) {
            prop_assert_eq!(stage.get(key), provable.get(key).cloned());
        }
        for key in store.private.keys().chain(private.keys()) {
            prop_assert_eq!(stage.private(key), private.get(key).cloned());
        }
        let next = between(&private, &prefix, |key| key >= at.as_slice()).next();
        prop_assert_eq!(stage.private_next(&prefix, &at), next);
        let prev = between(&private, &prefix, |key| key < at.as_slice()).next_back();
        prop_assert_eq!(stage.private_prev(&prefix, &at), prev);

        // Applied, it is what it read as.
        let writes = stage.into_writes();
        let mut applied = Memory { provable: store.provable.clone(), private: store.private.clone() };
        applied.apply(writes);
        prop_assert_eq!(applied.provable, provable);
        prop_assert_eq!(applied.private, private);
    }
}

#[test]
fn numbers_count_from_the_first_and_stay_in_the_stage() {
    let mut store = Memory::default();
    let mut stage = Stage::new(&store);
    assert_eq!([7, 8, 9], [(); 3].map(|()| stage.next_number("counter", 7)));
    assert_eq!(stage.next_number("other", 0), 0);
    let writes = stage.into_writes();
    assert!(store.private.is_empty());
    store.apply(writes);
    assert_eq!(Stage::new(&store).next_number("counter", 7), 10);
}

#[test]
fn a_number_has_eight_bytes() {
    assert_eq!(number(&258_u64.to_be_bytes()), Some(258));
    assert_eq!(number(&[1; 7]), None);
    assert_eq!(number(&[1; 9]), None);
}
