use std::{collections::BTreeMap, time::Duration};

use ibc_proto::ibc::{
    core::commitment::v1::MerkleProof,
    lightclients::tendermint::v1::{ConsensusState, Header},
};
use ics23::{HostFunctionsManager, commitment_proof::Proof};
use tendermint::block::signed_header::SignedHeader as Signed;
use tendermint_light_client_verifier::{
    ProdVerifier, Verdict, Verifier,
    options::Options,
    types::{TrustThreshold, TrustedBlockState, UntrustedBlockState, ValidatorSet},
};

use super::*;
use crate::engine::Store as _;

const SEED: [u8; 32] = [7; 32];

fn key() -> Arc<LedgerKey> {
    Arc::new(LedgerKey::from_seed(&SEED).unwrap())
}

fn nanos(nanos: u64) -> Timestamp {
    Timestamp::from_nanos(1_800_000_000_000_000_000 + nanos)
}

/// The same numbers in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

fn writes(changes: impl IntoIterator<Item = (String, Option<Bytes>)>) -> engine::Writes {
    engine::Writes { provable: changes.into_iter().collect(), ..engine::Writes::default() }
}

/// Verifies as a chain does: against an app hash alone.
fn verifies(proof: &[u8], app_hash: &[u8], key: &str, value: Option<&[u8]>) -> bool {
    let written = proof;
    let proof = MerkleProof::decode(written).unwrap();
    assert_eq!(proof.encode_to_vec(), written, "as protobuf writes it");
    let [inner, outer] = &proof.proofs[..] else { panic!("not two proofs") };
    let Some(Proof::Exist(store)) = &outer.proof else { panic!("no proof of the store") };
    let root = &store.value;
    let app_hash = app_hash.to_vec();
    let spec = ics23::tendermint_spec();
    if !ics23::verify_membership::<HostFunctionsManager>(outer, &spec, &app_hash, b"ibc", root) {
        return false;
    }
    let spec = ics23::iavl_spec();
    match value {
        Some(value) => ics23::verify_membership::<HostFunctionsManager>(
            inner,
            &spec,
            root,
            key.as_bytes(),
            value,
        ),
        None => {
            ics23::verify_non_membership::<HostFunctionsManager>(inner, &spec, root, key.as_bytes())
        }
    }
}

#[test]
fn a_hundred_thousand_proofs_verify_and_prove_nothing_else() {
    const BLOCKS: u64 = 250;
    const PROOFS: u64 = 400;
    let mut random = Random(0x5eed);
    let mut ledger = Ledger::in_memory(key(), "host-3", 4).unwrap();
    let mut model = BTreeMap::<String, Bytes>::new();
    let mut old = VecDeque::new();
    let name = |random: &mut Random| format!("key/{}", random.below(3_000));
    let (mut there, mut absent) = (0, 0);
    for block in 0..BLOCKS {
        for _ in 0..random.below(60) {
            let key = name(&mut random);
            // More are added than removed at first, and fewer in the end.
            let value = (random.below(BLOCKS) > block)
                .then(|| Bytes::from(random.next().to_be_bytes().to_vec()));
            match &value {
                Some(value) => model.insert(key.clone(), value.clone()),
                None => model.remove(&key),
            };
            ledger.apply(writes([(key, value)]));
        }
        let made = ledger.commit(nanos(block)).unwrap();
        old.push_back((made.height, made.app_hash, model.clone()));
        if old.len() > 4 {
            old.pop_front();
        }
        for _ in 0..PROOFS {
            let (height, app_hash, model) = &old[random.below(old.len() as u64) as usize];
            let key = name(&mut random);
            let proof = ledger.prove(&key, *height).unwrap();
            let value = model.get(&key);
            assert!(verifies(&proof, app_hash, &key, value.map(|value| &value[..])), "{key}");
            match value {
                Some(_) => {
                    there += 1;
                    assert!(!verifies(&proof, app_hash, &key, Some(b"another")));
                    assert!(!verifies(&proof, app_hash, &format!("{key}0"), value.map(|v| &v[..])));
                }
                None => {
                    absent += 1;
                    assert!(!verifies(&proof, app_hash, &key, Some(b"any")));
                    // The neighbours are there, whatever was asked for.
                    let neighbour = model.range(key.clone()..).next();
                    if let Some((neighbour, _)) = neighbour {
                        assert!(!verifies(&proof, app_hash, neighbour, None));
                    }
                }
            }
        }
    }
    assert_eq!(there + absent, BLOCKS * PROOFS);
    assert!(there > 20_000 && absent > 20_000, "{there} and {absent}");
}

#[test]
fn the_tree_holds_what_was_set_and_stays_shallow() {
    let mut random = Random(41);
    let (mut tree, mut model) = (Tree::default(), BTreeMap::new());
    for version in 1..400 {
        for _ in 0..random.below(100) {
            let key = random.below(5_000).to_be_bytes();
            if random.below(3) == 0 {
                assert_eq!(tree.remove(&key, version), model.remove(&key).is_some());
            } else {
                let value = Bytes::copy_from_slice(&random.next().to_be_bytes());
                tree.set(&key, value.clone(), version);
                model.insert(key, value);
            }
        }
        if random.below(2) == 0 {
            tree.commit();
        }
        assert_eq!(tree.len(), model.len() as u64);
        check(tree.root());
    }
    for key in 0..5_000_u64 {
        let key = key.to_be_bytes();
        assert_eq!(tree.get(&key), model.get(&key));
    }
    for key in model.keys() {
        assert!(tree.remove(key, 400));
    }
    assert!(tree.root().is_none() && tree.commit().is_none());
}

/// Heights differ by one at most, keys are in order, and versions and sizes are what they have to
/// be. Gives the least key, the greatest, and the height.
fn check(root: Option<&std::sync::Arc<tree::Node>>) {
    fn walk(node: &tree::Node) -> (Vec<u8>, Vec<u8>, u32, u64) {
        let Some((left, right)) = node.children() else {
            return (node.key().to_vec(), node.key().to_vec(), 0, 1);
        };
        let (least, end, left_height, left_size) = walk(left);
        let (start, greatest, right_height, right_size) = walk(right);
        assert!(end < start && node.key() == start, "the key is the least on the right");
        assert!(left_height.abs_diff(right_height) <= 1, "{left_height} beside {right_height}");
        let (height, size) = (1 + left_height.max(right_height), left_size + right_size);
        let header = node.header();
        assert_eq!(u32::from(header.as_slice()[0]), height << 1);
        (least, greatest, height, size)
    }
    root.map(|root| walk(root));
}

#[test]
fn headers_are_believed_by_a_light_client() {
    let mut ledger = Ledger::in_memory(key(), "host-3", 100).unwrap();
    let first = ledger.commit(nanos(0)).unwrap().height;
    assert_eq!(first, Height::new(3, 1));
    let (state, consensus) = ledger.client_of(first, &Trust::default()).unwrap();
    assert_eq!(state.type_url, "/ibc.lightclients.tendermint.v1.ClientState");
    let consensus = ConsensusState::decode(&consensus.value[..]).unwrap();
    for number in 2..50_u64 {
        ledger.apply(writes([(format!("key{number}"), Some(Bytes::from_static(b"value")))]));
        let time = nanos(number * 1_000);
        assert_eq!(ledger.commit(time).unwrap().time, time);
    }
    // The next one, and one that skips many.
    for (number, drift) in [(2, 60), (40, 60)] {
        let height = Height::new(3, number);
        let any = ledger.header(height, first).unwrap();
        let header = Header::decode(&any.value[..]).unwrap();
        let signed: Signed = header.signed_header.unwrap().try_into().unwrap();
        let validators: ValidatorSet = header.validator_set.unwrap().try_into().unwrap();
        let trusted: ValidatorSet = header.trusted_validators.unwrap().try_into().unwrap();
        let timestamp = consensus.timestamp.as_ref().unwrap();
        let verdict = ProdVerifier::default().verify_update_header(
            UntrustedBlockState {
                signed_header: &signed,
                validators: &validators,
                next_validators: None,
            },
            TrustedBlockState {
                chain_id: &"host-3".parse().unwrap(),
                header_time: tendermint::Time::from_unix_timestamp(
                    timestamp.seconds,
                    timestamp.nanos as u32,
                )
                .unwrap(),
                height: 1_u32.into(),
                next_validators: &trusted,
                next_validators_hash: tendermint::Hash::try_from(
                    consensus.next_validators_hash.clone(),
                )
                .unwrap(),
            },
            &Options {
                trust_threshold: TrustThreshold::ONE_THIRD,
                trusting_period: Duration::from_secs(3_600),
                clock_drift: Duration::from_secs(drift),
            },
            header::time(nanos(100_000)).unwrap(),
        );
        assert_eq!(verdict, Verdict::Success, "block {number}");
        let block = ledger.block(height).unwrap();
        assert_eq!(signed.header.app_hash.as_bytes(), block.app_hash);
    }
}

#[test]
fn time_goes_on_where_the_clock_does_not() {
    let mut ledger = Ledger::in_memory(key(), "host", 10).unwrap();
    assert_eq!(ledger.commit(nanos(50)).unwrap().time, nanos(50));
    assert_eq!(ledger.at(nanos(10)), At { time: nanos(50), height: Height::new(0, 2) });
    assert_eq!(ledger.commit(nanos(50)).unwrap().time, nanos(51));
    assert_eq!(ledger.commit(nanos(3)).unwrap().time, nanos(52));
    assert_eq!(ledger.at(nanos(60)).time, nanos(60));
}

#[test]
fn blocks_that_are_not_kept_prove_nothing() {
    let mut ledger = Ledger::in_memory(key(), "host", 2).unwrap();
    let missing = |ledger: &Ledger, number| match ledger.prove("any", Height::new(0, number)) {
        Err(LedgerError::NoBlock { height, first, last }) => (height.number, first, last),
        other => panic!("{other:?}"),
    };
    assert_eq!(missing(&ledger, 1), (1, 0, 0));
    (0..5).for_each(|time| drop(ledger.commit(nanos(time)).map(|block| block.height)));
    assert_eq!(missing(&ledger, 3), (3, 4, 5));
    assert_eq!(missing(&ledger, 6), (6, 4, 5));
    assert_eq!(missing(&ledger, 0), (0, 4, 5));
    assert!(ledger.prove("any", Height::new(0, 4)).is_ok());
    assert!(ledger.prove("any", Height::new(1, 4)).is_err(), "another revision");
}

#[test]
fn the_revision_is_in_the_id() {
    for (id, revision) in [
        ("host", 0),
        ("host-1", 1),
        ("a-b-42", 42),
        ("host-01", 0),
        ("host-0", 0),
        ("host-", 0),
        ("-1", 0),
        ("host-1x", 0),
    ] {
        assert_eq!(header::revision(id), revision, "{id}");
    }
    let long = "x".repeat(51);
    for id in ["", &long[..]] {
        let error = Ledger::in_memory(key(), id, 1).unwrap_err();
        assert!(matches!(error, LedgerError::ChainId { .. }), "{id:?}: {error}");
    }
}

#[test]
fn the_key_is_not_shown() {
    let shown = format!("{:?}", key());
    assert!(shown.starts_with("LedgerKey(") && !shown.contains("0707"), "{shown}");
}

#[test]
fn both_spaces_are_read_in_order() {
    let mut ledger = Ledger::in_memory(key(), "host", 1).unwrap();
    let mut changes = engine::Writes::default();
    for key in ["a/1", "a/3", "b/1"] {
        changes.private.insert(key.into(), Some(Bytes::from_static(b"value")));
    }
    ledger.apply(changes);
    assert!(ledger.is_dirty());
    let name =
        |found: Option<(Vec<u8>, Bytes)>| found.map(|(key, _)| String::from_utf8(key).unwrap());
    assert_eq!(name(ledger.private_next(b"a/", b"")), Some("a/1".to_owned()));
    assert_eq!(name(ledger.private_next(b"a/", b"a/2")), Some("a/3".to_owned()));
    assert_eq!(name(ledger.private_next(b"a/", b"a/4")), None);
    assert_eq!(name(ledger.private_prev(b"a/", b"a/3")), Some("a/1".to_owned()));
    assert_eq!(name(ledger.private_prev(b"a/", b"zzz")), Some("a/3".to_owned()));
    assert_eq!(name(ledger.private_prev(b"a/", b"a/1")), None);
    assert_eq!(name(ledger.private_prev(b"a/", b"a")), None);
}

#[cfg(feature = "durable")]
mod on_disk {
    use super::*;

    fn open(path: &std::path::Path) -> Ledger {
        Ledger::open(path, key(), "host", 8).unwrap()
    }

    #[test]
    fn a_ledger_that_is_opened_again_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = open(folder.path());
        let mut changes = writes([("key".to_owned(), Some(Bytes::from_static(b"value")))]);
        changes.private.insert(b"own".to_vec(), Some(Bytes::from_static(b"state")));
        ledger.apply(changes);
        let last = {
            ledger.commit(nanos(5)).unwrap();
            ledger.last
        };
        ledger.apply(writes([("lost".to_owned(), Some(Bytes::from_static(b"value")))]));
        drop(ledger);

        let mut ledger = open(folder.path());
        assert_eq!((ledger.height, ledger.time, ledger.last), (1, nanos(5), last));
        assert_eq!(ledger.get("key").as_deref(), Some(&b"value"[..]));
        assert_eq!(ledger.private(b"own").as_deref(), Some(&b"state"[..]));
        assert_eq!(ledger.get("lost"), None, "nothing commits to it");
        assert!(ledger.latest().is_none() && !ledger.is_dirty());
        let block = ledger.commit(nanos(1)).unwrap();
        assert_eq!((block.height.number, block.time), (2, nanos(6)));
        let (height, app_hash) = (block.height, block.app_hash);
        let proof = ledger.prove("key", height).unwrap();
        assert!(verifies(&proof, &app_hash, "key", Some(b"value")));
    }

    #[test]
    fn one_at_a_time_and_its_owner_alone_opens_a_ledger() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = open(folder.path());
        ledger.commit(nanos(0)).unwrap();
        let error = Ledger::open(folder.path(), key(), "host", 8).unwrap_err();
        assert!(matches!(error, LedgerError::Locked { .. }), "{error}");
        drop(ledger);
        let other = Arc::new(LedgerKey::from_seed(&[8; 32]).unwrap());
        for (key, chain) in [(other, "host"), (key(), "guest")] {
            let error = Ledger::open(folder.path(), key, chain, 8).unwrap_err();
            assert!(matches!(error, LedgerError::Other { .. }), "{error}");
        }
        drop(open(folder.path()));
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = Ledger::open(&file, key(), "host", 8).unwrap_err();
        assert!(matches!(error, LedgerError::Folder { .. }), "{error}");
    }
}
