//! What a client is given by those who would deceive it.

use ibc_proto::{
    google::protobuf::Any,
    ibc::{core::commitment::v1::MerkleProof, lightclients::tendermint::v1 as raw},
};
use ics23::{
    BatchEntry, BatchProof, CommitmentProof, CompressedBatchEntry, CompressedBatchProof,
    CompressedExistenceProof, InnerOp, NonExistenceProof, batch_entry, commitment_proof::Proof,
    compressed_batch_entry,
};
use proptest::prelude::*;
use prost::Message;

use super::{
    super::{Claim, ClientError, Status, Updated, memory::Memory, read},
    chain::{Block, Chain, SECOND, START, Tree, at, key, value},
    tests::{Known, claim},
    *,
};
use crate::height::Height;

fn misbehaviour(one: raw::Header, two: raw::Header) -> Any {
    #[allow(deprecated)]
    read::any(&raw::Misbehaviour {
        client_id: String::new(),
        header_1: Some(one),
        header_2: Some(two),
    })
}

fn refused(known: &mut Known, message: &Any, at: At, says: &str) {
    let before = known.store.clone();
    let error = known.clients.update(&mut known.store, message, at).unwrap_err();
    assert!(error.to_string().contains(says), "`{error}` does not say `{says}`");
    assert!(known.store == before, "a refused message has changed the client");
}

#[test]
fn forged_headers_are_refused() {
    let mut known = Known::new();
    let block = Block::new(2, [2; 32]);
    let good = known.chain.raw_header(&block, 1);

    // Another key, with and without the sets of the true one.
    let forger = Chain::with_keys("hosta-0", &[9]);
    let forged = forger.raw_header(&block, 1);
    refused(&mut known, &read::any(&forged), at(2), "not the next validators");
    let mut mixed = forged.clone();
    mixed.trusted_validators = good.trusted_validators.clone();
    refused(&mut known, &read::any(&mixed), at(2), "");
    mixed.validator_set = good.validator_set.clone();
    refused(&mut known, &read::any(&mixed), at(2), "");
    mixed.signed_header.as_mut().unwrap().header =
        good.signed_header.as_ref().unwrap().header.clone();
    refused(&mut known, &read::any(&mixed), at(2), "");

    // The signature of another block, and of another height.
    let other = known.chain.raw_header(&Block::new(2, [3; 32]), 1);
    let mut swapped = good.clone();
    swapped.signed_header.as_mut().unwrap().header = other.signed_header.unwrap().header;
    refused(&mut known, &read::any(&swapped), at(2), "");
    let mut moved = good.clone();
    moved.signed_header.as_mut().unwrap().header.as_mut().unwrap().height = 3;
    refused(&mut known, &read::any(&moved), at(2), "");
    moved.signed_header.as_mut().unwrap().commit.as_mut().unwrap().height = 3;
    refused(&mut known, &read::any(&moved), at(2), "");

    // Nobody has signed, or nobody is there.
    let mut block = block;
    block.signers = 0;
    let unsigned = known.chain.header(&block, 1);
    refused(&mut known, &unsigned, at(2), "");
    let mut empty = good.clone();
    empty.validator_set = Some(Default::default());
    refused(&mut known, &read::any(&empty), at(2), "");
    empty.trusted_validators = Some(Default::default());
    refused(&mut known, &read::any(&empty), at(2), "");

    // Of another chain, and of the same with another revision.
    for id in ["hostb-0", "hosta-1"] {
        let other = Chain::new(id).header(&Block::new(2, [2; 32]), 1);
        refused(&mut known, &other, at(2), "");
    }
    known.clients.update(&mut known.store, &read::any(&good), at(2)).unwrap();
}

#[test]
fn headers_out_of_place_are_refused() {
    let mut known = Known::new();
    known.update(&Block::new(5, [5; 32]), 1).unwrap();
    for (number, trusted, says) in [
        (4, 5, "which must be below its own"),
        (5, 5, "which must be below its own"),
        (6, 4, "0-4, which is not known"),
        (6, 0, "0-0, which is not known"),
        (6, 9, "which must be below its own"),
    ] {
        let header = known.chain.header(&Block::new(number, [2; 32]), trusted);
        refused(&mut known, &header, at(6), says);
    }
    let mut header = known.chain.raw_header(&Block::new(6, [2; 32]), 5);
    header.trusted_height = Some(read::raw_height(Height::new(1, 5)));
    refused(&mut known, &read::any(&header), at(6), "below its own");
    header.trusted_height = None;
    refused(&mut known, &read::any(&header), at(6), "0-0, which is not known");

    // Of the future: 30 seconds beyond this host's clock, and a nanosecond less.
    let mut early = Block::new(6, [6; 32]);
    early.time = START + 40 * SECOND;
    let header = known.chain.header(&early, 5);
    refused(&mut known, &header, at(10), "");
    let header = known.chain.header(&early, 5);
    known.clients.update(&mut known.store, &header, at(11)).unwrap();
    // No later than the one it builds on.
    let mut late = Block::new(7, [7; 32]);
    late.time = early.time;
    let header = known.chain.header(&late, 6);
    refused(&mut known, &header, at(50), "");
}

#[test]
fn a_conflicting_header_freezes() {
    let mut known = Known::new();
    known.update(&Block::new(2, [2; 32]), 1).unwrap();
    assert_eq!(known.update(&Block::new(2, [3; 32]), 1).unwrap(), Updated::Frozen);
    assert_eq!(known.status(at(3)), Status::Frozen);
    let any = Any::decode(&known.store.provable["clientState"][..]).unwrap();
    let state: raw::ClientState = read::message("", &any, usize::MAX).unwrap();
    assert_eq!(read::height(state.frozen_height), Height::new(0, 1));
    let error = known.update(&Block::new(3, [3; 32]), 2).unwrap_err();
    assert_eq!(
        error.to_string(),
        "client 07-tendermint-0 is frozen, as its chain was seen to sign two things that \
         exclude each other: find out which is true, then recover it, where it is of a chain \
         (`ChainConfig::recover_client`)"
    );
    let claim = claim(2, b"", "a", None);
    let error = known.clients.verify(&mut known.store, &claim, at(3)).unwrap_err();
    assert!(matches!(error, ClientError::Frozen { .. }));
}

#[test]
fn time_that_does_not_pass_freezes() {
    for (number, trusted, time) in [
        // Below a known header, and later; above one, and earlier.
        (5, 1, START + 9 * SECOND),
        (5, 1, START + 10 * SECOND),
        (11, 1, START + 9 * SECOND),
        (11, 1, START + SECOND),
    ] {
        let mut known = Known::new();
        known.update(&Block::new(10, [10; 32]), 1).unwrap();
        let mut block = Block::new(number, [2; 32]);
        block.time = time;
        assert_eq!(known.update_at(&block, trusted, at(12)).unwrap(), Updated::Frozen);
    }
}

#[test]
fn evidence_freezes() {
    // Two blocks at one height, neither of them known.
    let mut known = Known::new();
    let mut block = Block::new(5, [5; 32]);
    let one = known.chain.raw_header(&block, 1);
    block.data_hash = [8; 32];
    let two = known.chain.raw_header(&block, 1);
    let evidence = misbehaviour(one.clone(), two);
    let updated = known.clients.update(&mut known.store, &evidence, at(9)).unwrap();
    assert_eq!(updated, Updated::Frozen);

    // A higher one that is not later, and even one that is older than what is trusted.
    for time in [START + 3 * SECOND, START - SECOND] {
        let mut known = Known::new();
        let low = known.chain.raw_header(&Block::new(4, [4; 32]), 1);
        let mut block = Block::new(5, [5; 32]);
        block.time = time;
        let high = known.chain.raw_header(&block, 1);
        let evidence = misbehaviour(high, low);
        let updated = known.clients.update(&mut known.store, &evidence, at(9)).unwrap();
        assert_eq!(updated, Updated::Frozen);
    }

    // One header twice, and two honest ones, prove nothing and change nothing.
    let mut known = Known::new();
    let low = known.chain.raw_header(&Block::new(4, [4; 32]), 1);
    for evidence in [misbehaviour(one.clone(), one.clone()), misbehaviour(one.clone(), low.clone())]
    {
        let before = known.store.clone();
        let updated = known.clients.update(&mut known.store, &evidence, at(9)).unwrap();
        assert_eq!(updated, Updated::Heights(Vec::new()));
        assert!(known.store == before);
    }

    // Forged evidence freezes nobody.
    let forger = Chain::with_keys("hosta-0", &[9]);
    let mut forged = forger.raw_header(&Block::new(5, [9; 32]), 1);
    refused(&mut known, &misbehaviour(one.clone(), forged.clone()), at(9), "");
    forged.trusted_validators = one.trusted_validators.clone();
    refused(&mut known, &misbehaviour(one.clone(), forged), at(9), "");
    let mut edited = one.clone();
    edited.signed_header.as_mut().unwrap().header.as_mut().unwrap().app_hash = vec![9; 32];
    refused(&mut known, &misbehaviour(one.clone(), edited), at(9), "");
    refused(&mut known, &misbehaviour(low.clone(), one.clone()), at(9), "exchange them");
    let other = Chain::new("hostb-0").raw_header(&Block::new(5, [9; 32]), 1);
    refused(&mut known, &misbehaviour(one.clone(), other), at(9), "two chains");
    let mut unknown = one.clone();
    unknown.trusted_height = Some(read::raw_height(Height::new(0, 3)));
    refused(&mut known, &misbehaviour(one.clone(), unknown), at(9), "not known");
    let late = at(14 * 24 * 3_600 - 1);
    known.update_at(&Block::new(late.height.number, [5; 32]), 1, late).unwrap();
    let evidence = misbehaviour(one, low);
    refused(&mut known, &evidence, at(14 * 24 * 3_600), "has expired");
}

#[test]
fn proofs_of_something_else_are_refused() {
    let mut known = Known::new();
    let tree = Tree::of(16);
    known.update(&Block::new(2, tree.app_hash()), 1).unwrap();
    known.update(&Block::new(3, Tree::of(8).app_hash()), 2).unwrap();
    let (path, content, proof) = (key(5), value(5), tree.member(&key(5)));
    let gone = format!("{path}5");
    let absent = tree.absent(&gone);
    let good = claim(2, &proof, &path, Some(&content));
    let missing = claim(2, &absent, &gone, None);
    let mut verify = |claim: &Claim<'_>| known.clients.verify(&mut known.store, claim, at(4));
    verify(&good).unwrap();
    verify(&missing).unwrap();

    let (other_path, other_value) = (key(6), value(6));
    let shortened = Tree::of(8).member(&path);
    for (bad, says) in [
        (Claim { height: Height::new(0, 3), ..good }, "does not lead to the header's app hash"),
        (Claim { path: &other_path, ..good }, "of another key"),
        (Claim { value: Some(&other_value), ..good }, "has another value"),
        (Claim { value: Some(b""), ..good }, "empty value"),
        (Claim { value: None, ..good }, "no proof of absence"),
        (Claim { prefix: b"bank", ..good }, "another store"),
        (Claim { prefix: b"", ..good }, "prefix is empty"),
        (Claim { proof: b"", ..good }, "0 parts"),
        (Claim { proof: &shortened, ..good }, "does not lead to the header's app hash"),
        (Claim { value: Some(&content), ..missing }, "no proof of existence"),
        (Claim { path: &path, ..missing }, "does not show that the key is absent"),
        (Claim { path: &other_path, ..missing }, "does not show that the key is absent"),
        (Claim { height: Height::new(0, 3), ..missing }, "app hash"),
        (Claim { height: Height::new(0, 4), ..good }, "knows no header of height 0-4"),
        (Claim { height: Height::new(1, 2), ..good }, "knows no header of height 1-2"),
        (Claim { height: Height::ZERO, ..good }, "knows no header of height 0-0"),
    ] {
        let error = verify(&bad).unwrap_err().to_string();
        assert!(error.contains(says), "`{error}` does not say `{says}`");
    }

    // Each part, and what else a proof may be made of.
    let inner = |proof: Proof| MerkleProof {
        proofs: vec![CommitmentProof { proof: Some(proof) }, tree.store()],
    };
    let exist = tree.exist(5);
    let batch = Proof::Batch(BatchProof {
        entries: vec![BatchEntry { proof: Some(batch_entry::Proof::Exist(exist.clone())) }],
    });
    let compressed = Proof::Compressed(CompressedBatchProof {
        entries: vec![CompressedBatchEntry {
            proof: Some(compressed_batch_entry::Proof::Exist(CompressedExistenceProof {
                key: exist.key.clone(),
                value: exist.value.clone(),
                leaf: exist.leaf.clone(),
                path: vec![0, -1, i32::MAX],
            })),
        }],
        lookup_inners: exist.path.clone(),
    });
    let mut deep = exist.clone();
    deep.path = vec![exist.path[0].clone(); 129];
    let mut bare = exist.clone();
    bare.path.clear();
    let mut leafless = exist.clone();
    leafless.leaf = None;
    let mut odd = exist.clone();
    odd.path[0] = InnerOp::default();
    let (before, after) = (tree.exist(5), tree.exist(6));
    let neighbours = |left: Option<&ics23::ExistenceProof>, right: Option<&_>| {
        Proof::Nonexist(NonExistenceProof {
            key: gone.clone().into_bytes(),
            left: left.cloned(),
            right: right.cloned(),
        })
    };
    let mut stripped = after.clone();
    stripped.path.clear();
    for (proof, value) in [
        (inner(batch), Some(&content)),
        (inner(compressed), Some(&content)),
        (inner(Proof::Exist(deep.clone())), Some(&content)),
        (inner(Proof::Exist(bare.clone())), Some(&content)),
        (inner(Proof::Exist(leafless)), Some(&content)),
        (inner(Proof::Exist(odd)), Some(&content)),
        (MerkleProof { proofs: vec![tree.store(), tree.store()] }, Some(&content)),
        (MerkleProof { proofs: vec![tree.store()] }, Some(&content)),
        (MerkleProof { proofs: vec![CommitmentProof::default(); 2] }, Some(&content)),
        (MerkleProof { proofs: vec![tree.store(); 3] }, Some(&content)),
        (inner(neighbours(None, None)), None),
        (inner(neighbours(Some(&before), None)), None),
        (inner(neighbours(None, Some(&after))), None),
        (inner(neighbours(Some(&before), Some(&before))), None),
        (inner(neighbours(Some(&after), Some(&before))), None),
        (inner(neighbours(Some(&tree.exist(4)), Some(&after))), None),
        (inner(neighbours(Some(&before), Some(&tree.exist(7)))), None),
        (inner(neighbours(Some(&bare), Some(&stripped))), None),
        (inner(neighbours(Some(&before), Some(&stripped))), None),
        (inner(neighbours(Some(&deep), Some(&after))), None),
    ] {
        let proof = proof.encode_to_vec();
        let path = if value.is_some() { &path } else { &gone };
        let bad = claim(2, &proof, path, value.map(Vec::as_slice));
        let error = verify(&bad).unwrap_err();
        assert!(matches!(error, ClientError::Proof { .. }), "{error}");
    }
}

#[test]
fn no_changed_byte_of_a_header_passes() {
    let mut known = Known::of(Chain::with_keys("hosta-0", &[1, 2]));
    let block = Block::new(2, [2; 32]);
    let good = known.chain.header(&block, 1);
    known.update(&block, 1).unwrap();
    let after = known.store.clone();
    let fresh = Known::of(Chain::with_keys("hosta-0", &[1, 2]));
    for place in 0..good.value.len() {
        for bit in 0..8 {
            let mut message = good.clone();
            message.value[place] ^= 1 << bit;
            let mut store = fresh.store.clone();
            // What is not signed, such as a proposer's priority, may change nothing.
            match fresh.clients.update(&mut store, &message, at(2)) {
                Ok(_) => assert!(store == after, "byte {place}, bit {bit} has changed something"),
                Err(_) => assert!(store == fresh.store, "byte {place}, bit {bit}"),
            }
        }
    }
    for length in 0..good.value.len() {
        let mut message = good.clone();
        message.value.truncate(length);
        let mut store = fresh.store.clone();
        fresh.clients.update(&mut store, &message, at(2)).unwrap_err();
    }
}

#[test]
fn no_changed_byte_of_a_proof_passes() {
    let mut known = Known::new();
    let tree = Tree::of(16);
    known.update(&Block::new(2, tree.app_hash()), 1).unwrap();
    let (path, content) = (key(5), value(5));
    let gone = format!("{path}5");
    let mut verify = |proof: &[u8], path: &str, value: Option<&[u8]>| {
        known.clients.verify(&mut known.store, &claim(2, proof, path, value), at(4))
    };
    let mut harmless = 0;
    for (good, path, value) in
        [(tree.member(&path), &path, Some(&content[..])), (tree.absent(&gone), &gone, None)]
    {
        for place in 0..good.len() {
            for bit in 0..8 {
                let mut proof = good.clone();
                proof[place] ^= 1 << bit;
                // The key that a proof of absence names of itself is looked at by nobody.
                harmless += u32::from(verify(&proof, path, value).is_ok());
                // But what is proved never changes.
                verify(&proof, &key(6), value).unwrap_err();
                verify(&proof, path, Some(b"other")).unwrap_err();
            }
            verify(&good[..place], path, value).unwrap_err();
        }
    }
    assert!(harmless <= 8 * (gone.len() as u32 + 2), "{harmless} changes are harmless");
}

#[test]
fn huge_messages_are_refused_unread() {
    let mut known = Known::new();
    let huge = vec![0x0a; 8 << 20];
    for type_url in [HEADER, MISBEHAVIOUR] {
        let message = Any { type_url: type_url.to_owned(), value: huge.clone() };
        refused(&mut known, &message, at(2), "8388608 bytes");
    }
    let message = Any { type_url: "x".repeat(1 << 20), value: Vec::new() };
    refused(&mut known, &message, at(2), "should be a Header or Misbehaviour");
    let error =
        known.clients.verify(&mut known.store, &claim(1, &huge, "a", None), at(2)).unwrap_err();
    assert!(error.to_string().len() < 300, "{error}");
    let state = Any { type_url: CLIENT_STATE.to_owned(), value: huge };
    let error = known
        .clients
        .create(&mut Memory::new("07-tendermint-1"), &state, &state, at(0))
        .unwrap_err();
    assert!(matches!(error, ClientError::TooLarge { .. }), "{error}");

    // Very many validators, in few bytes.
    let mut header = known.chain.raw_header(&Block::new(2, [2; 32]), 1);
    header.validator_set.as_mut().unwrap().validators = vec![Default::default(); 100_000];
    refused(&mut known, &read::any(&header), at(2), "100000 validators");
    let mut header = known.chain.raw_header(&Block::new(2, [2; 32]), 1);
    let commit = header.signed_header.as_mut().unwrap().commit.as_mut().unwrap();
    commit.signatures = vec![Default::default(); 100_000];
    refused(&mut known, &read::any(&header), at(2), "100000 validators");
}

#[test]
fn numbers_at_their_limits_break_nothing() {
    let max = i64::MAX;
    for change in [
        |header: &mut raw::Header| {
            header.validator_set.as_mut().unwrap().validators[0].voting_power = i64::MAX / 8;
        },
        |header: &mut raw::Header| {
            header.trusted_validators.as_mut().unwrap().validators[0].voting_power = i64::MAX;
        },
        |header: &mut raw::Header| {
            header.trusted_height = Some(read::raw_height(Height::new(u64::MAX, u64::MAX)));
        },
        |header: &mut raw::Header| {
            let header = header.signed_header.as_mut().unwrap();
            header.header.as_mut().unwrap().height = i64::MAX;
            header.commit.as_mut().unwrap().height = i64::MAX;
        },
        |header: &mut raw::Header| {
            let header = header.signed_header.as_mut().unwrap().header.as_mut().unwrap();
            header.time.as_mut().unwrap().seconds = 253_402_300_799;
        },
        |header: &mut raw::Header| {
            let header = header.signed_header.as_mut().unwrap().header.as_mut().unwrap();
            header.chain_id = format!("a-{}", u64::MAX);
        },
        |header: &mut raw::Header| {
            let header = header.signed_header.as_mut().unwrap().header.as_mut().unwrap();
            header.chain_id = "a-99999999999999999999".to_owned();
        },
        |header: &mut raw::Header| {
            let header = header.signed_header.as_mut().unwrap().header.as_mut().unwrap();
            header.next_validators_hash.clear();
        },
        |header: &mut raw::Header| {
            let header = header.signed_header.as_mut().unwrap().header.as_mut().unwrap();
            header.app_hash = vec![0; 65];
        },
    ] {
        let mut known = Known::new();
        let mut header = known.chain.raw_header(&Block::new(2, [2; 32]), 1);
        change(&mut header);
        refused(&mut known, &read::any(&header), at(2), "");
    }

    // Validators so powerful that counting their votes would overflow.
    let mut chain = Chain::new("hosta-0");
    let mut info = chain.validators.validators()[0].clone();
    info.power = (max as u64 / 8).try_into().unwrap();
    chain.validators = tendermint::validator::Set::new(vec![info.clone()], Some(info));
    let mut state = chain.client_state(1);
    state.trust_level = Some(raw::Fraction { numerator: 20, denominator: 59 });
    let mut store = Memory::new("07-tendermint-0");
    let clients = super::super::Clients::default();
    let consensus = read::any(&chain.consensus_state(&Block::new(1, [1; 32])));
    clients.create(&mut store, &read::any(&state), &consensus, at(0)).unwrap();
    let mut known = Known { clients, chain, store };
    let header = known.chain.header(&Block::new(9, [2; 32]), 1);
    refused(&mut known, &header, at(9), "too much power");
}

proptest! {
    #[test]
    fn no_bytes_break_a_client(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        place in 0_usize..2_000,
        number in 0_u64..4,
    ) {
        let mut known = Known::new();
        let tree = Tree::of(16);
        known.update(&Block::new(2, tree.app_hash()), 1).unwrap();
        let before = known.store.clone();
        for type_url in [HEADER, MISBEHAVIOUR, CLIENT_STATE, ""] {
            let message = Any { type_url: type_url.to_owned(), value: bytes.clone() };
            prop_assert!(known.clients.update(&mut known.store, &message, at(2)).is_err());
            let mut other = Memory::new("07-tendermint-1");
            prop_assert!(known.clients.create(&mut other, &message, &message, at(2)).is_err());
        }
        // Random bytes in the midst of good ones.
        let splice = |good: &[u8]| {
            let mut spliced = good.to_vec();
            let start = place % good.len();
            let end = good.len().min(start + bytes.len() % 40);
            spliced.splice(start..end, bytes.iter().take(20).copied());
            spliced
        };
        let mut message = known.chain.header(&Block::new(3, [3; 32]), 2);
        message.value = splice(&message.value);
        let _ = known.clients.update(&mut known.store, &message, at(3));
        let one = known.chain.raw_header(&Block::new(3, [3; 32]), 1);
        let mut message = misbehaviour(one.clone(), one);
        message.value = splice(&message.value);
        let _ = known.clients.update(&mut known.store, &message, at(3));
        prop_assert!(known.status(at(3)) != Status::Frozen);
        known.store = before;

        let (path, value) = (key(5), value(5));
        for (path, value) in [(&path[..], Some(&value[..])), ("a", None)] {
            for proof in [bytes.clone(), splice(&tree.member(&key(5))), splice(&tree.absent("b"))] {
                let claim = claim(number, &proof, path, value);
                let taken = known.clients.verify(&mut known.store, &claim, at(3)).is_ok();
                prop_assert!(!taken || number == 2);
                let false_claim = Claim { value: Some(b"false"), ..claim };
                prop_assert!(known.clients.verify(&mut known.store, &false_claim, at(3)).is_err());
            }
        }
    }
}
