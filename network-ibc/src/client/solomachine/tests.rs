//! What real chains took of a solo machine, and what its counterparties must not.

use ibc_proto::{google::protobuf::Any, ibc::lightclients::solomachine::v3 as raw};
use proptest::prelude::*;
use prost::Message;
use serde_json::Value;

use super::{
    super::{Claim, ClientError, Clients, Status, Updated, memory::Memory, read},
    *,
};
use crate::height::{Height, Timestamp};

const AT: At = At { time: Timestamp::from_nanos(1), height: Height::new(0, 1) };

/// A machine, and a client of it.
struct Pair {
    clients: Clients,
    store: Memory,
    signer: SoloKey,
    state: SoloState,
}

impl Pair {
    fn new(signer: SoloKey) -> Self {
        let state = SoloState::new("hop", time(10)).unwrap();
        let clients = Clients::default();
        let (client_state, consensus_state) = signer.states(&state);
        let mut store = Memory::new(Clients::default().name(&client_state, 0).unwrap().as_str());
        let height = clients.create(&mut store, &client_state, &consensus_state, AT).unwrap();
        assert_eq!(height, Height::new(0, 1));
        Self { clients, store, signer, state }
    }

    fn prove(&mut self, path: &str, value: Option<&[u8]>) -> Bytes {
        let turn = self.state.take(time(20)).unwrap();
        self.signer.prove(turn, path, value).unwrap()
    }

    fn verify(
        &mut self,
        path: &str,
        value: Option<&[u8]>,
        proof: &[u8],
    ) -> Result<(), ClientError> {
        self.clients.verify(&mut self.store, &claim(path, value, proof), AT)
    }

    fn update(&mut self, message: &Any) -> Result<Updated, ClientError> {
        self.clients.update(&mut self.store, message, AT)
    }
}

fn both() -> [Pair; 2] {
    [SoloKey::secp256k1(&[3; 32]), SoloKey::ed25519(&[3; 32])]
        .map(|signer| Pair::new(signer.unwrap()))
}

fn time(nanos: u64) -> Timestamp {
    Timestamp::from_nanos(nanos)
}

fn claim<'a>(path: &'a str, value: Option<&'a [u8]>, proof: &'a [u8]) -> Claim<'a> {
    Claim {
        height: Height::new(0, 9),
        proof,
        prefix: b"ibc",
        path,
        value,
        delay_time: 0,
        delay_blocks: 0,
    }
}

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// `tests/data/solo-*.json`: each signature was taken by a chain, in this order.
#[test]
fn what_ibc_go_took_is_signed_and_taken_to_the_byte() {
    let states: Value =
        serde_json::from_str(include_str!("../../../tests/data/solo-client-state.json")).unwrap();
    let consensus: Value =
        serde_json::from_str(include_str!("../../../tests/data/solo-consensus-state.json"))
            .unwrap();
    assert_eq!(states["@type"], CLIENT_STATE);
    let texts = [
        include_str!("../../../tests/data/solo-vectors.json"),
        include_str!("../../../tests/data/solo-vectors-chain-init.json"),
    ];
    for text in texts {
        let file: Value = serde_json::from_str(text).unwrap();
        let signer = SoloKey::secp256k1(&hex(&file["private_key"]).try_into().unwrap()).unwrap();
        let first = consensus["timestamp"].as_str().unwrap().parse().unwrap();
        let mut state = SoloState::new(consensus["diversifier"].as_str().unwrap(), time(first));
        let state = state.as_mut().unwrap();
        assert_eq!(state.sequence().to_string(), states["sequence"].as_str().unwrap());
        assert_eq!(signer.to_any().type_url, consensus["public_key"]["@type"]);

        let clients = Clients::default();
        let mut store = Memory::new("06-solomachine-0");
        let (client_state, consensus_state) = signer.states(state);
        clients.create(&mut store, &client_state, &consensus_state, AT).unwrap();

        for vector in file["vectors"].as_array().unwrap() {
            let at = time(vector["timestamp"].as_str().unwrap().parse().unwrap());
            let path = vector["path"].as_str().unwrap();
            let data = hex(&vector["data"]);
            let bytes = raw::SignBytes {
                sequence: state.sequence(),
                timestamp: at.as_nanos(),
                diversifier: vector["diversifier"].as_str().unwrap().to_owned(),
                path: path.as_bytes().to_vec(),
                data: data.clone(),
            };
            assert_eq!(bytes.encode_to_vec(), hex(&vector["sign_bytes"]));
            assert_eq!(vector["sequence"], bytes.sequence);

            if path.as_bytes() == HEADER_PATH {
                let rotation = state.take_rotation(at, &bytes.diversifier).unwrap();
                let header = signer.rotate(rotation, &signer).unwrap();
                let raw: raw::Header = read::message("", &header, MAX_HEADER).unwrap();
                assert_eq!(raw.signature, hex(&vector["signature_data"]));
                clients.update(&mut store, &header, AT).unwrap();
            } else {
                let value = (!data.is_empty()).then_some(&data[..]);
                let proof = signer.prove(state.take(at).unwrap(), path, value).unwrap();
                assert_eq!(proof, hex(&vector["proof"]), "{}", vector["what"]);
                clients.verify(&mut store, &claim(path, value, &proof), AT).unwrap();
            }
            let latest = clients.latest_height(&store).unwrap();
            assert_eq!(latest.number, state.sequence());
            assert_eq!(clients.timestamp_at(&store, latest).unwrap(), at);
        }
    }
}

#[test]
fn every_proof_counts_once() {
    for mut pair in both() {
        let one = pair.prove("a", Some(b"x"));
        let two = pair.prove("b", None);
        // Not before its turn, and not after it.
        pair.verify("b", None, &two).unwrap_err();
        pair.verify("a", Some(b"x"), &one).unwrap();
        let error = pair.verify("a", Some(b"x"), &one).unwrap_err().to_string();
        assert!(error.contains("with the sequence 2"), "{error}");
        pair.verify("b", None, &two).unwrap();
        // Of something else, at its turn.
        let three = pair.prove("c", Some(b"x"));
        let before = pair.store.clone();
        pair.verify("d", Some(b"x"), &three).unwrap_err();
        pair.verify("c", Some(b"y"), &three).unwrap_err();
        pair.verify("c", None, &three).unwrap_err();
        pair.verify("c", Some(b""), &three).unwrap_err();
        let good = claim("c", Some(b"x"), &three);
        let bad = Claim { prefix: b"", ..good };
        pair.clients.verify(&mut pair.store, &bad, AT).unwrap_err();
        assert!(pair.store == before);
        pair.verify("c", Some(b"x"), &three).unwrap();
    }
}

#[test]
fn an_absence_is_no_empty_value() {
    for mut pair in both() {
        let absent = pair.prove("a", None);
        let error = pair.verify("a", Some(b""), &absent).unwrap_err().to_string();
        assert!(error.contains("an empty value cannot be proved"), "{error}");
        let turn = pair.state.take(time(30)).unwrap();
        pair.signer.prove(turn, "a", Some(b"")).unwrap_err();
    }
}

#[test]
fn time_goes_forward() {
    for mut pair in both() {
        let late = pair.state.take(time(100)).unwrap();
        let late = pair.signer.prove(late, "a", None).unwrap();
        pair.verify("a", None, &late).unwrap();
        assert_eq!(pair.clients.timestamp_at(&pair.store, Height::ZERO).unwrap(), time(100));
        // A clock that went back gives no earlier time.
        let turn = pair.state.take(time(50)).unwrap();
        assert_eq!(turn.timestamp, 100);
        let earlier = Turn { timestamp: 99, ..turn };
        let earlier = pair.signer.prove(earlier, "b", None).unwrap();
        let error = pair.verify("b", None, &earlier).unwrap_err().to_string();
        assert!(error.contains("before the last thing"), "{error}");
    }
}

#[test]
fn keys_rotate() {
    for mut pair in both() {
        let next = SoloKey::ed25519(&[4; 32]).unwrap();
        let rotation = pair.state.take_rotation(time(30), "other").unwrap();
        let header = pair.signer.rotate(rotation, &next).unwrap();
        let before = pair.store.clone();
        let mut bad: raw::Header = read::message("", &header, MAX_HEADER).unwrap();
        bad.new_diversifier = "another".to_owned();
        pair.update(&read::any(&bad)).unwrap_err();
        bad.new_diversifier = " ".to_owned();
        let error = pair.update(&read::any(&bad)).unwrap_err().to_string();
        assert!(error.contains("spaces only"), "{error}");
        let mut bad: raw::Header = read::message("", &header, MAX_HEADER).unwrap();
        bad.new_public_key = Some(SoloKey::ed25519(&[5; 32]).unwrap().to_any());
        pair.update(&read::any(&bad)).unwrap_err();
        bad.new_public_key = None;
        pair.update(&read::any(&bad)).unwrap_err();
        let mut bad: raw::Header = read::message("", &header, MAX_HEADER).unwrap();
        for time in [0, 9, 31] {
            bad.timestamp = time;
            pair.update(&read::any(&bad)).unwrap_err();
        }
        assert!(pair.store == before);
        let updated = pair.update(&header).unwrap();
        assert_eq!(updated, Updated::Heights(vec![Height::new(0, 2)]));
        pair.update(&header).unwrap_err();

        let old = pair.prove("a", None);
        pair.verify("a", None, &old).unwrap_err();
        let turn = Turn { sequence: 2, timestamp: 40, diversifier: "other".into() };
        let new = next.prove(turn, "a", None).unwrap();
        pair.verify("a", None, &new).unwrap();
    }
}

#[test]
fn double_signing_freezes() {
    for mut pair in both() {
        let path = MerklePath { key_path: vec![b"ibc".to_vec(), b"a".to_vec()] }.encode_to_vec();
        let signed = |signer: &SoloKey, sequence, path: &[u8], data: &[u8]| {
            let turn = Turn { sequence, timestamp: 20, diversifier: "hop".into() };
            let path = String::from_utf8(path.to_vec()).unwrap();
            let proof = signer.prove(turn, &path, Some(data)).unwrap();
            let proof = raw::TimestampedSignatureData::decode(proof).unwrap();
            raw::SignatureAndData {
                signature: proof.signature_data,
                path: path.into_bytes(),
                data: data.to_vec(),
                timestamp: 20,
            }
        };
        let evidence = |one: &raw::SignatureAndData, two: &raw::SignatureAndData, sequence| {
            read::any(&raw::Misbehaviour {
                sequence,
                signature_one: Some(one.clone()),
                signature_two: Some(two.clone()),
            })
        };
        let one = signed(&pair.signer, 7, &path, b"x");
        let two = signed(&pair.signer, 7, &path, b"y");
        let plain = signed(&pair.signer, 7, b"connections/connection-0", b"y");
        let later = signed(&pair.signer, 8, &path, b"y");
        let forged = signed(&SoloKey::ed25519(&[9; 32]).unwrap(), 7, &path, b"y");
        let mut empty = two.clone();
        empty.data.clear();
        let mut same = one.clone();
        same.timestamp = 21;
        // Two headers at one sequence are no evidence either.
        MerklePath::decode(HEADER_PATH).unwrap_err();
        let before = pair.store.clone();
        for bad in [
            evidence(&one, &one, 7),
            evidence(&one, &same, 7),
            evidence(&one, &plain, 7),
            evidence(&one, &later, 7),
            evidence(&one, &forged, 7),
            evidence(&one, &empty, 7),
            evidence(&one, &two, 8),
            evidence(&one, &two, 0),
            read::any(&raw::Misbehaviour { sequence: 7, ..Default::default() }),
        ] {
            let error = pair.update(&bad).unwrap_err();
            assert!(matches!(error, ClientError::Evidence { .. }), "{error}");
        }
        assert!(pair.store == before);
        assert_eq!(pair.update(&evidence(&one, &two, 7)).unwrap(), Updated::Frozen);
        assert_eq!(pair.clients.status(&pair.store, AT).unwrap(), Status::Frozen);
        let proof = pair.prove("a", None);
        let error = pair.verify("a", None, &proof).unwrap_err();
        assert!(matches!(error, ClientError::Frozen { .. }), "{error}");
        let error = pair.update(&evidence(&one, &two, 7)).unwrap_err();
        assert!(matches!(error, ClientError::Frozen { .. }), "{error}");
    }
}

#[test]
fn states_are_validated() {
    let signer = SoloKey::ed25519(&[1; 32]).unwrap();
    let (client, consensus) = signer.states(&SoloState::new("", time(1)).unwrap());
    let good_client: raw::ClientState = read::message("", &client, MAX_HEADER).unwrap();
    let good: raw::ConsensusState = read::message("", &consensus, MAX_HEADER).unwrap();
    let refused = |client: &raw::ClientState, consensus: &raw::ConsensusState, says: &str| {
        let mut store = Memory::new("06-solomachine-0");
        let (client, consensus) = (read::any(client), read::any(consensus));
        let error = Clients::default().create(&mut store, &client, &consensus, AT).unwrap_err();
        assert!(error.to_string().contains(says), "`{error}` does not say `{says}`");
    };
    let with = |consensus: &raw::ConsensusState| raw::ClientState {
        consensus_state: Some(consensus.clone()),
        ..good_client.clone()
    };
    refused(&raw::ClientState { sequence: 0, ..good_client.clone() }, &good, "sequence");
    refused(&raw::ClientState { is_frozen: true, ..good_client.clone() }, &good, "frozen");
    refused(
        &raw::ClientState { consensus_state: None, ..good_client.clone() },
        &good,
        "no consensus state",
    );
    let mut other = good.clone();
    other.timestamp = 2;
    refused(&good_client, &other, "beside it");
    other.timestamp = 0;
    refused(&with(&other), &other, "time");
    let mut other = good.clone();
    other.diversifier = "  ".to_owned();
    refused(&with(&other), &other, "spaces only");
    let (ed, secp) = ("/cosmos.crypto.ed25519.PubKey", "/cosmos.crypto.secp256k1.PubKey");
    for (type_url, value, says) in [
        (ed, vec![0x0a, 31], "cannot be read"),
        (ed, Vec::new(), "32 bytes"),
        (secp, [vec![0x0a, 32], vec![2; 32]].concat(), "33 bytes"),
        (secp, [vec![0x0a, 33], vec![0; 33]].concat(), "no point"),
        (secp, [vec![0x0a, 33], vec![0xff; 33]].concat(), "no point"),
        (secp, vec![0; 1_000], "cannot be read"),
        ("/cosmos.crypto.multisig.LegacyAminoPubKey", Vec::new(), "use one of"),
    ] {
        let mut other = good.clone();
        other.public_key = Some(Any { type_url: type_url.to_owned(), value });
        refused(&with(&other), &other, says);
    }
    let mut other = good.clone();
    other.public_key = None;
    refused(&with(&other), &other, "no public key");

    SoloState::new(" ", time(1)).unwrap_err();
    SoloState::new("", Timestamp::ZERO).unwrap_err();
    SoloKey::secp256k1(&[0; 32]).unwrap_err();
    SoloKey::secp256k1(&[0xff; 32]).unwrap_err();
}

#[test]
fn a_state_goes_on_where_the_client_is_and_secrets_do_not_show() {
    let mut state = SoloState::new("hop", time(10)).unwrap();
    let _ = state.take(time(20)).unwrap();
    let _ = state.take_rotation(time(30), "other").unwrap();
    assert_eq!(state, SoloState::at(3, "other", time(30)).unwrap());
    SoloState::at(0, "other", time(30)).unwrap_err();
    SoloState::at(3, " ", time(30)).unwrap_err();
    let mut last = SoloState { sequence: u64::MAX, ..state };
    last.take(time(30)).unwrap_err();
    assert_eq!(last.sequence, u64::MAX);

    for signer in [SoloKey::secp256k1(&[0x2a; 32]), SoloKey::ed25519(&[0x2a; 32])] {
        let shown = format!("{:?}", signer.unwrap());
        assert!(!shown.contains("2a2a") && !shown.contains("42, 42"), "{shown}");
    }
}

#[test]
fn no_signature_has_a_twin() {
    let mut pair = both().into_iter().next().unwrap();
    let proof = pair.prove("a", None);
    let mut twin = raw::TimestampedSignatureData::decode(proof.clone()).unwrap();
    let low = signature(&twin.signature_data).unwrap();
    let low = k256::ecdsa::Signature::from_slice(&low).unwrap();
    let high = k256::ecdsa::Signature::from_scalars(*low.r(), -*low.s()).unwrap();
    let single = ibc_proto::cosmos::tx::signing::v1beta1::signature_descriptor::data::Single {
        mode: 0,
        signature: high.to_vec(),
    };
    twin.signature_data = SignatureData { sum: Some(Sum::Single(single)) }.encode_to_vec();
    pair.verify("a", None, &twin.encode_to_vec()).unwrap_err();
    pair.verify("a", None, &proof).unwrap();
}

#[test]
fn no_changed_byte_passes() {
    for mut pair in both() {
        let proof = pair.prove("a", Some(b"x"));
        let fresh = pair.store.clone();
        pair.verify("a", Some(b"x"), &proof).unwrap();
        let after = std::mem::replace(&mut pair.store, fresh.clone());
        for place in 0..proof.len() {
            for bit in 0..8 {
                let mut bad = proof.to_vec();
                bad[place] ^= 1 << bit;
                // The field of the mode, which says nothing, may come out of a changed byte.
                match pair.verify("a", Some(b"x"), &bad) {
                    Ok(()) => assert!(pair.store == after, "byte {place}, bit {bit}"),
                    Err(_) => assert!(pair.store == fresh, "byte {place}, bit {bit}"),
                }
                pair.store = fresh.clone();
            }
            pair.verify("a", Some(b"x"), &proof[..place]).unwrap_err();
        }

        let rotation = pair.state.clone().take_rotation(time(30), "other").unwrap();
        let rotation = Rotation { turn: Turn { sequence: 1, ..rotation.turn }, ..rotation };
        let header = pair.signer.rotate(rotation, &pair.signer).unwrap();
        pair.update(&header).unwrap();
        let after = std::mem::replace(&mut pair.store, fresh.clone());
        for place in 0..header.value.len() {
            for bit in 0..8 {
                let mut bad = header.clone();
                bad.value[place] ^= 1 << bit;
                match pair.update(&bad) {
                    Ok(_) => assert!(pair.store == after, "byte {place}, bit {bit}"),
                    Err(_) => assert!(pair.store == fresh, "byte {place}, bit {bit}"),
                }
                pair.store = fresh.clone();
            }
            let mut bad = header.clone();
            bad.value.truncate(place);
            pair.update(&bad).unwrap_err();
        }
    }
}

#[test]
fn huge_messages_are_refused_unread() {
    for mut pair in both() {
        let huge = vec![0x0a; 8 << 20];
        let error = pair.verify("a", None, &huge).unwrap_err().to_string();
        assert!(error.contains("8388608 bytes") && error.len() < 200, "{error}");
        for type_url in [HEADER, MISBEHAVIOUR] {
            let message = Any { type_url: type_url.to_owned(), value: huge.clone() };
            let error = pair.update(&message).unwrap_err();
            assert!(matches!(error, ClientError::TooLarge { .. }), "{error}");
        }
        let mut store = Memory::new("06-solomachine-1");
        let state = Any { type_url: CLIENT_STATE.to_owned(), value: huge };
        let error = pair.clients.create(&mut store, &state, &state, AT).unwrap_err();
        assert!(matches!(error, ClientError::TooLarge { .. }), "{error}");
    }
}

proptest! {
    #[test]
    fn no_bytes_break_a_client(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        place in 0_usize..100,
    ) {
        for mut pair in both() {
            prop_assert!(pair.verify("a", None, &bytes).is_err());
            let mut spliced = pair.prove("a", Some(b"x")).to_vec();
            let place = place % spliced.len();
            spliced.splice(place.., bytes.iter().copied());
            let _ = pair.verify("b", Some(b"x"), &spliced);
            for type_url in [HEADER, MISBEHAVIOUR, CLIENT_STATE, ""] {
                let message = Any { type_url: type_url.to_owned(), value: bytes.clone() };
                prop_assert!(pair.update(&message).is_err());
                let mut store = Memory::new("06-solomachine-1");
                prop_assert!(pair.clients.create(&mut store, &message, &message, AT).is_err());
            }
            prop_assert_eq!(pair.clients.latest_height(&pair.store).unwrap().number, 1);
        }
    }
}
