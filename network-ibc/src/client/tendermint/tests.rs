//! What a client of an honest chain does, and what real chains have proved to it.

use bytes::Bytes;
use ibc_proto::ibc::{
    core::commitment::v1::{MerkleProof, MerkleRoot},
    lightclients::tendermint::v1 as raw,
};
use prost::Message;
use serde_json::Value;

use super::{
    super::{Claim, ClientError, Clients, Status, Updated, memory::Memory, read},
    chain::{Block, Chain, DAY, SECOND, START, Tree, at, key, value},
    state::{self, revision},
    *,
};
use crate::{
    engine::Writes,
    height::{Height, Timestamp},
    ledger::{Ledger, LedgerKey, Trust},
};

/// A client of a chain that knows its block 1.
pub(super) struct Known {
    pub(super) clients: Clients,
    pub(super) chain: Chain,
    pub(super) store: Memory,
}

impl Known {
    pub(super) fn new() -> Self {
        Self::of(Chain::new("hosta-0"))
    }

    pub(super) fn of(chain: Chain) -> Self {
        let mut store = Memory::new("07-tendermint-0");
        let clients = Clients::default();
        let first = Block::new(1, [1; 32]);
        let client_state = read::any(&chain.client_state(1));
        let consensus_state = read::any(&chain.consensus_state(&first));
        let height = clients.create(&mut store, &client_state, &consensus_state, at(0)).unwrap();
        assert_eq!(height.number, 1);
        Self { clients, chain, store }
    }

    pub(super) fn update(&mut self, block: &Block, trusted: u64) -> Result<Updated, ClientError> {
        self.update_at(block, trusted, at(block.number))
    }

    pub(super) fn update_at(
        &mut self,
        block: &Block,
        trusted: u64,
        at: At,
    ) -> Result<Updated, ClientError> {
        let message = self.chain.header(block, trusted);
        self.clients.update(&mut self.store, &message, at)
    }

    pub(super) fn status(&self, at: At) -> Status {
        self.clients.status(&self.store, at).unwrap()
    }
}

pub(super) fn claim<'a>(
    number: u64,
    proof: &'a [u8],
    path: &'a str,
    value: Option<&'a [u8]>,
) -> Claim<'a> {
    Claim {
        height: Height::new(0, number),
        proof,
        prefix: b"ibc",
        path,
        value,
        delay_time: 0,
        delay_blocks: 0,
    }
}

fn heights(numbers: &[u64]) -> Updated {
    Updated::Heights(numbers.iter().map(|number| Height::new(0, *number)).collect())
}

#[test]
fn a_client_follows_its_chain() {
    let mut known = Known::new();
    let tree = Tree::of(8);
    assert_eq!(known.update(&Block::new(2, [2; 32]), 1).unwrap(), heights(&[2]));
    // Over blocks that it never sees.
    assert_eq!(known.update(&Block::new(9, tree.app_hash()), 2).unwrap(), heights(&[9]));
    // And to one in between, which leaves the newest as it is.
    assert_eq!(known.update(&Block::new(5, [5; 32]), 1).unwrap(), heights(&[5]));
    assert_eq!(known.clients.latest_height(&known.store).unwrap(), Height::new(0, 9));
    let time = known.clients.timestamp_at(&known.store, Height::new(0, 5)).unwrap();
    assert_eq!(time.as_nanos(), START + 4 * SECOND);

    let provable: Vec<_> = known.store.provable.keys().map(String::as_str).collect();
    let consensus = ["1", "2", "5", "9"].map(|number| format!("consensusStates/0-{number}"));
    assert_eq!(provable[0], "clientState");
    assert_eq!(provable[1..], consensus);
    let any = ibc_proto::google::protobuf::Any::decode(&known.store.provable["clientState"][..]);
    let stored: raw::ClientState = read::message("", &any.unwrap(), usize::MAX).unwrap();
    assert_eq!(stored, known.chain.client_state(9));
    let any =
        ibc_proto::google::protobuf::Any::decode(&known.store.provable["consensusStates/0-9"][..]);
    let stored: raw::ConsensusState = read::message("", &any.unwrap(), usize::MAX).unwrap();
    assert_eq!(stored, known.chain.consensus_state(&Block::new(9, tree.app_hash())));

    let proof = tree.member(&key(3));
    let value = value(3);
    let there = claim(9, &proof, "x", Some(&value));
    let there = Claim { path: &key(3), ..there };
    known.clients.verify(&mut known.store, &there, at(9)).unwrap();
    for gone in [0, 9] {
        let path = if gone == 0 { "a".to_owned() } else { key(gone) };
        let proof = tree.absent(&path);
        known.clients.verify(&mut known.store, &claim(9, &proof, &path, None), at(9)).unwrap();
    }
    let between = format!("{}5", key(3));
    let proof = tree.absent(&between);
    known.clients.verify(&mut known.store, &claim(9, &proof, &between, None), at(9)).unwrap();
}

#[test]
fn the_same_header_twice_changes_nothing() {
    let mut known = Known::new();
    known.update(&Block::new(2, [2; 32]), 1).unwrap();
    let before = known.store.clone();
    assert_eq!(known.update(&Block::new(2, [2; 32]), 1).unwrap(), heights(&[2]));
    assert_eq!(known.store, before);
}

#[test]
fn names_say_the_kind() {
    let state = read::any(&Chain::new("a").client_state(1));
    assert_eq!(Clients::default().name(&state, 7).unwrap().as_str(), "07-tendermint-7");
    let other = ibc_proto::google::protobuf::Any { type_url: "/x".into(), value: Vec::new() };
    assert_eq!(
        Clients::default().name(&other, 7).unwrap_err().to_string(),
        "no client of kind /x is known here: make one of 07-tendermint or 06-solomachine"
    );
    for name in ["07-tendermint-", "07-tendermint-1x", "07-tendermint", "08-wasm-0", ""] {
        let error = Clients::default().status(&Memory::new(name), at(0)).unwrap_err();
        assert!(matches!(error, ClientError::UnknownKind { .. }), "{name}: {error}");
    }
    let error = Clients::default().status(&Memory::new("07-tendermint-3"), at(0)).unwrap_err();
    assert!(error.to_string().contains("07-tendermint-3"), "{error}");
    assert!(matches!(error, ClientError::NotFound { .. }));
}

#[test]
fn states_are_validated() {
    let chain = Chain::new("hosta-0");
    let good = chain.client_state(1);
    let refused = |change: &dyn Fn(&mut raw::ClientState), says: &str| {
        let mut state = good.clone();
        change(&mut state);
        let error = state::validate(&state).unwrap_err().to_string();
        assert!(error.contains(says), "{error} says {says}");
    };
    let duration = |seconds, nanos| Some(ibc_proto::google::protobuf::Duration { seconds, nanos });
    let level = |numerator, denominator| Some(raw::Fraction { numerator, denominator });
    state::validate(&good).unwrap();
    refused(&|state| state.chain_id = " ".into(), "names no chain");
    refused(&|state| state.chain_id = "x".repeat(51), "longer than 50");
    refused(&|state| state.chain_id = "a b".into(), "characters");
    for (numerator, denominator) in
        [(0, 0), (1, 4), (1, 1), (3, 2), (0, 3), (u64::MAX / 3, u64::MAX / 2), (1, 0)]
    {
        refused(&|state| state.trust_level = level(numerator, denominator), "trust level");
    }
    refused(&|state| state.trust_level = None, "trust level");
    for bad in [None, duration(0, 0), duration(-1, 0), duration(0, -1), duration(i64::MAX, 0)] {
        refused(&|state| state.trusting_period = bad, "trusting period");
        refused(&|state| state.unbonding_period = bad, "unbonding period");
        refused(&|state| state.max_clock_drift = bad, "clock drift");
    }
    refused(&|state| state.trusting_period = state.unbonding_period, "shorter than its unbonding");
    let height = |revision, number| Some(read::raw_height(Height::new(revision, number)));
    refused(&|state| state.latest_height = height(1, 1), "of revision 0");
    refused(&|state| state.latest_height = height(0, 0), "above 0");
    refused(&|state| state.latest_height = height(0, i64::MAX as u64), "63 bits");
    refused(&|state| state.latest_height = None, "above 0");
    refused(&|state| state.proof_specs.clear(), "proof specs");
    refused(&|state| state.proof_specs.reverse(), "proof specs");
    refused(&|state| state.proof_specs[0].max_depth = 3, "proof specs");
    refused(&|state| state.upgrade_path = vec![" ".into()], "upgrade path");

    let good = chain.consensus_state(&Block::new(1, [1; 32]));
    let refused = |change: &dyn Fn(&mut raw::ConsensusState), says: &str| {
        let mut state = good.clone();
        change(&mut state);
        let error = state::validate_consensus(state, at(0)).unwrap_err().to_string();
        assert!(error.contains(says), "{error} says {says}");
    };
    refused(&|state| state.root = None, "root");
    refused(&|state| state.root = Some(MerkleRoot::default()), "root");
    refused(&|state| state.next_validators_hash.truncate(31), "32 bytes");
    refused(&|state| state.next_validators_hash.clear(), "32 bytes");
    refused(&|state| state.timestamp = None, "time");
    for (seconds, nanos) in [(0, 1), (-5, 0), (1, -1), (1, 1_000_000_000), (i64::MAX, 0)] {
        let time = Some(ibc_proto::google::protobuf::Timestamp { seconds, nanos });
        refused(&|state| state.timestamp = time, "time");
    }
}

#[test]
fn a_client_is_not_created_frozen_or_expired() {
    let chain = Chain::new("hosta-0");
    let consensus = read::any(&chain.consensus_state(&Block::new(1, [1; 32])));
    let clients = Clients::default();
    let mut state = chain.client_state(1);
    let late = at(14 * 24 * 3_600);
    let error = clients
        .create(&mut Memory::new("07-tendermint-0"), &read::any(&state), &consensus, late)
        .unwrap_err();
    assert!(matches!(error, ClientError::Expired { .. }), "{error}");
    state.frozen_height = Some(read::raw_height(Height::new(0, 1)));
    let error = clients
        .create(&mut Memory::new("07-tendermint-0"), &read::any(&state), &consensus, at(0))
        .unwrap_err();
    assert!(matches!(error, ClientError::Frozen { .. }), "{error}");
}

#[test]
fn revisions_are_read_as_ibc_go_reads_them() {
    for (id, expected) in [
        ("cosmoshub-4", 4),
        ("hosta-0", 0),
        ("hosta-01", 0),
        ("hosta", 0),
        ("a--1", 0),
        ("-1", 0),
        ("a-", 0),
        ("a-b-10", 10),
        ("a-1b", 0),
    ] {
        assert_eq!(revision(id), Some(expected), "{id}");
    }
    assert_eq!(revision("a-99999999999999999999"), None);
    let known = Known::of(Chain::new("hub-4"));
    assert_eq!(known.clients.latest_height(&known.store).unwrap(), Height::new(4, 1));
}

#[test]
fn an_expired_client_says_since_when_and_what_to_do() {
    let mut known = Known::new();
    known.update(&Block::new(2, [2; 32]), 1).unwrap();
    let end = 14 * 24 * 3_600 + 1;
    assert_eq!(known.status(at(end - 1)), Status::Active);
    // At the very moment it is expired, as in ibc-go.
    let since = Timestamp::from_nanos(START + SECOND + 14 * DAY);
    assert_eq!(known.status(at(end)), Status::Expired { since });
    let error = known.update_at(&Block::new(end + 1, [3; 32]), 2, at(end)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "client 07-tendermint-0 expired at 2023-11-28T22:13:21Z, when its newest header became \
         older than its trusting period, and takes no more headers: recover it, where it is of \
         a chain (`ChainConfig::recover_client`), and update it more often than its trusting period"
    );
    let claim = claim(2, b"", "a", None);
    let error = known.clients.verify(&mut known.store, &claim, at(end)).unwrap_err();
    assert!(matches!(error, ClientError::Expired { .. }), "{error}");
}

#[test]
fn old_states_are_dropped_one_an_update() {
    let mut known = Known::new();
    known.clients = Clients::of(vec![("07-tendermint", Box::new(Tendermint::keeping(4)))]);
    for number in 2..=20 {
        known.update(&Block::new(number, [2; 32]), number - 1).unwrap();
    }
    let kept: Vec<_> = known.store.provable.keys().skip(1).cloned().collect();
    assert_eq!(kept, ["17", "18", "19", "20"].map(|n| format!("consensusStates/0-{n}")));
    assert_eq!(known.store.private.len(), 1 + 4);
    let error =
        known.clients.verify(&mut known.store, &claim(16, b"", "a", None), at(20)).unwrap_err();
    assert!(matches!(error, ClientError::UnknownHeight { .. }), "{error}");
    let error = known.update_at(&Block::new(30, [2; 32]), 16, at(30)).unwrap_err();
    assert!(error.to_string().contains("builds on the height 0-16"), "{error}");

    // Expired ones go too, though there are few.
    let mut known = Known::new();
    known.update(&Block::new(2, [2; 32]), 1).unwrap();
    known.update(&Block::new(1_000_000, [3; 32]), 2).unwrap();
    let late = 14 * 24 * 3_600 + 2;
    known.update(&Block::new(late, [4; 32]), 1_000_000).unwrap();
    assert!(!known.store.provable.contains_key("consensusStates/0-1"));
    assert!(known.store.provable.contains_key("consensusStates/0-2"));
    assert_eq!(Client::get(&known.store).unwrap().count, 3);
}

#[test]
fn a_delay_by_time_and_blocks_must_pass() {
    let mut known = Known::new();
    let tree = Tree::of(2);
    known.update(&Block::new(9, tree.app_hash()), 1).unwrap();
    let proof = tree.member(&key(1));
    let (path, value) = (key(1), value(1));
    let base = claim(9, &proof, &path, Some(&value));
    let mut verify = |claim: &Claim<'_>, at| known.clients.verify(&mut known.store, claim, at);
    let timed = Claim { delay_time: 5 * SECOND, ..base };
    let error = verify(&timed, at(13)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the delay of the connection has not passed: the header 0-9 of client 07-tendermint-0 \
         proves from 2023-11-14T22:13:34Z and this host's block 0-9 on"
    );
    verify(&timed, at(14)).unwrap();
    let counted = Claim { delay_blocks: 3, ..base };
    assert!(matches!(verify(&counted, at(11)), Err(ClientError::Delay { .. })));
    verify(&counted, at(12)).unwrap();
    let never = Claim { delay_time: u64::MAX, delay_blocks: u64::MAX, ..base };
    assert!(matches!(verify(&never, at(99)), Err(ClientError::Delay { .. })));
}

#[test]
fn many_validators_and_a_changing_set() {
    let old = Chain::with_keys("hub-4", &[1, 2, 3, 4]);
    let new = Chain::with_keys("hub-4", &[1, 2, 3, 5]);
    let height = |number| Updated::Heights(vec![Height::new(4, number)]);
    let mut known = Known::of(old);
    // Three of four sign: more than two thirds.
    let mut second = Block::new(2, [2; 32]);
    second.signers = 3;
    assert_eq!(known.update(&second, 1).unwrap(), height(2));
    // Two of four do not.
    let mut third = Block::new(3, [3; 32]);
    third.signers = 2;
    let error = known.update(&third, 2).unwrap_err();
    assert!(matches!(error, ClientError::Header { .. }), "{error}");

    // The next block hands over to another set.
    third.signers = usize::MAX;
    third.next_validators = Some(new.validators.clone());
    assert_eq!(known.update(&third, 2).unwrap(), height(3));
    let trusted = known.chain.raw_header(&third, 2).trusted_validators;
    let fourth = Block::new(4, [4; 32]);
    known.chain = new;
    assert_eq!(known.update(&fourth, 3).unwrap(), height(4));
    // Over unseen blocks, more than a third of the old set has signed.
    let mut header = known.chain.raw_header(&Block::new(9, [9; 32]), 2);
    header.trusted_validators = trusted.clone();
    known.clients.update(&mut known.store, &read::any(&header), at(9)).unwrap();
    // But one of that set alone is too few.
    let strange = Chain::with_keys("hub-4", &[1, 6, 7, 8]);
    let mut header = strange.raw_header(&Block::new(12, [9; 32]), 2);
    header.trusted_validators = trusted;
    let error = known.clients.update(&mut known.store, &read::any(&header), at(12)).unwrap_err();
    assert!(error.to_string().contains("too few of the trusted validators"), "{error}");
}

/// `tests/data/one-validator-sample.json`: a header and proofs of a host.
#[test]
fn what_a_host_has_proved_to_ibc_go_is_taken() {
    let sample: Value =
        serde_json::from_str(include_str!("../../../tests/data/one-validator-sample.json"))
            .unwrap();
    let chain = Chain::new(sample["chain_id"].as_str().unwrap());
    let mut store = Memory::new("07-tendermint-0");
    let nanos = |name: &str| Timestamp::from_nanos(sample[name].as_u64().unwrap());
    let consensus = raw::ConsensusState {
        timestamp: Some(read::raw_timestamp(nanos("trusted_time_ns"))),
        root: Some(MerkleRoot { hash: hex(&sample["trusted_root"]) }),
        next_validators_hash: hex(&sample["next_validators_hash"]),
    };
    let at = At { time: nanos("now_ns"), height: Height::new(0, 1) };
    let clients = Clients::default();
    let state = read::any(&chain.client_state(sample["trusted_height"].as_u64().unwrap()));
    clients.create(&mut store, &state, &read::any(&consensus), at).unwrap();
    let header = ibc_proto::google::protobuf::Any {
        type_url: HEADER.to_owned(),
        value: hex(&sample["header"]),
    };
    clients.update(&mut store, &header, at).unwrap();

    let number = sample["height"].as_u64().unwrap();
    let (proof, value) = (hex(&sample["proof"]), hex(&sample["value"]));
    let path = sample["key"].as_str().unwrap();
    clients.verify(&mut store, &claim(number, &proof, path, Some(&value)), at).unwrap();
    let proof = hex(&sample["absent_proof"]);
    let path = sample["absent_key"].as_str().unwrap();
    clients.verify(&mut store, &claim(number, &proof, path, None), at).unwrap();
}

/// `tests/data/proof-sample*.json`: what a chain answers who asks for proofs.
#[test]
fn what_ibc_go_proves_is_taken() {
    let response = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
    let commit = response(include_str!("../../../tests/data/proof-sample-commit.json"));
    let header = &commit["result"]["signed_header"]["header"];
    let chain = Chain::new(header["chain_id"].as_str().unwrap());
    let number = header["height"].as_str().unwrap().parse().unwrap();
    let time: tendermint::Time = header["time"].as_str().unwrap().parse().unwrap();
    let time = read::timestamp_of(time).unwrap();
    let consensus = raw::ConsensusState {
        timestamp: Some(read::raw_timestamp(time)),
        root: Some(MerkleRoot { hash: hex(&header["app_hash"]) }),
        next_validators_hash: hex(&header["next_validators_hash"]),
    };
    let at = At { time, height: Height::new(0, 1) };
    let clients = Clients::default();
    let mut store = Memory::new("07-tendermint-0");
    let state = read::any(&chain.client_state(number));
    clients.create(&mut store, &state, &read::any(&consensus), at).unwrap();

    for text in [
        include_str!("../../../tests/data/proof-sample.json"),
        include_str!("../../../tests/data/proof-sample-absence.json"),
    ] {
        let response = response(text);
        let response = &response["result"]["response"];
        let ops = response["proofOps"]["ops"].as_array().unwrap();
        let proofs = ops
            .iter()
            .map(|op| ics23::CommitmentProof::decode(&base64(&op["data"])[..]).unwrap())
            .collect();
        let proof = MerkleProof { proofs }.encode_to_vec();
        let path = String::from_utf8(base64(&response["key"])).unwrap();
        let value = response["value"].as_str().map(|_| base64(&response["value"]));
        let claim = claim(number, &proof, &path, value.as_deref());
        clients.verify(&mut store, &claim, at).unwrap();
        let app_hash = hex(&header["app_hash"]);
        assert_eq!(quick::proves(&app_hash, &claim, 128), claim.value.is_some());
        let other = Claim { value: Some(b"other"), ..claim };
        clients.verify(&mut store, &other, at).unwrap_err();
    }
}

/// The headers and proofs of this crate's own hosts, whose trees turn and whose nodes have many
/// versions.
#[test]
fn a_host_believes_another() {
    let key = std::sync::Arc::new(LedgerKey::from_seed(&[3; 32]).unwrap());
    let mut ledger = Ledger::in_memory(key, "host-3", 4).unwrap();
    let time = |block: u64| Timestamp::from_nanos(START + block * SECOND / 500);
    let first = ledger.commit(time(0)).unwrap().height;
    let (state, consensus) = ledger.client_of(first, &Trust::default()).unwrap();
    let clients = Clients::default();
    let mut store = Memory::new("07-tendermint-0");
    clients.create(&mut store, &state, &consensus, at(0)).unwrap();

    let path = |n: u64| format!("receipts/ports/p/channels/c/sequences/{n}");
    let mut trusted = first;
    let mut next = 0;
    for block in 1..1_500 {
        let mut writes = Writes::default();
        for _ in 0..block % 7 {
            writes.provable.insert(path(next), Some(Bytes::from(next.to_string())));
            // Each third is gone again, after a while.
            if next % 3 == 0 && next >= 300 {
                writes.provable.insert(path(next - 300), None);
            }
            next += 1;
        }
        ledger.apply(writes);
        let height = ledger.commit(time(block)).unwrap().height;
        let header = ledger.header(height, trusted).unwrap();
        assert_eq!(
            clients.update(&mut store, &header, at(block / 500)).unwrap(),
            Updated::Heights(vec![height])
        );
        trusted = height;
        let root = state::consensus(&store, height).unwrap().unwrap().root;
        for n in [next.saturating_sub(1), next / 2, next * 7 % 400, next + 5] {
            let proof = ledger.prove(&path(n), height).unwrap();
            let path = path(n);
            let is_there = n < next && !(n % 3 == 0 && n + 300 < next);
            let value = is_there.then(|| n.to_string());
            let value = value.as_ref().map(String::as_bytes);
            let claim = Claim { height, ..claim(0, &proof, &path, value) };
            clients.verify(&mut store, &claim, at(3)).unwrap();
            assert_eq!(quick::proves(&root, &claim, 128), is_there);
            let other = Claim { value: Some(b"other"), ..claim };
            clients.verify(&mut store, &other, at(3)).unwrap_err();
        }
    }
    let client = Client::get(&store).unwrap();
    assert_eq!(client.count, KEEP);
    assert_eq!(store.private.len(), 1 + KEEP as usize);
}

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn base64(value: &Value) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    let (mut bits, mut held) = (0_u32, 0);
    for digit in value.as_str().unwrap().bytes().filter(|digit| *digit != b'=') {
        let digit = DIGITS.iter().position(|other| *other == digit).unwrap();
        bits = bits << 6 | digit as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}

#[test]
fn a_root_of_another_size_is_kept_as_it_is() {
    // The SDK's have 32 bytes; ibc-go v10 takes others, so nothing here may count on it.
    let time = Timestamp::from_nanos(START);
    let short = Consensus::new(time, Bytes::from_static(b"r"), Bytes::from(vec![0; 32]), at(0));
    let mut store = Memory::new("07-tendermint-0");
    state::put_consensus(&mut store, Height::new(0, 1), &short);
    assert_eq!(state::consensus(&store, Height::new(0, 1)).unwrap(), Some(short));
}

#[cfg(feature = "chain")]
#[test]
fn a_client_that_is_of_no_use_is_recovered() {
    const LATE: u64 = 15 * 86_400;
    let states_of = |chain: &Chain, number: u64| {
        let block = Block { time: START + LATE * SECOND, ..Block::new(number, [8; 32]) };
        (read::any(&chain.client_state(number)), read::any(&chain.consensus_state(&block)))
    };
    for frozen in [false, true] {
        let mut known = Known::new();
        known.update(&Block::new(3, [3; 32]), 1).unwrap();
        if frozen {
            assert_eq!(known.update(&Block::new(3, [4; 32]), 1).unwrap(), Updated::Frozen);
        }
        let now = at(LATE);
        assert_ne!(known.status(now), Status::Active);
        let before = known.store.clone();
        let recover = |states: &(_, _), time| {
            let mut store = before.clone();
            let done = known.clients.recover(&mut store, &states.0, &states.1, time);
            done.map(|()| store).map_err(|error| error.to_string())
        };
        let refused = |done: Result<Memory, String>, why: &str| {
            let error = done.unwrap_err();
            assert!(error.contains(why), "{error}");
        };
        refused(
            recover(&states_of(&Chain::new("hostb-0"), 9), now),
            "are of hostb-0, and it is of hosta-0",
        );
        refused(recover(&states_of(&known.chain, 3), now), "of height 0-3, and it is at 0-3");
        refused(recover(&states_of(&known.chain, 9), at(2 * LATE)), "expired");
        if !frozen {
            refused(recover(&states_of(&known.chain, 9), at(5)), "is active");
        }

        known.store = recover(&states_of(&known.chain, 9), now).unwrap();
        assert_eq!(known.status(now), Status::Active);
        let provable: Vec<_> = known.store.provable.keys().map(String::as_str).collect();
        assert_eq!(provable, ["clientState", "consensusStates/0-9"]);
        assert_eq!(known.store.private.len(), 2, "something is left of what it knew");
        let next = Block { time: START + (LATE + 1) * SECOND, ..Block::new(10, [9; 32]) };
        assert_eq!(known.update_at(&next, 9, now).unwrap(), heights(&[10]));
    }
}
