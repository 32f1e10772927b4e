//! IBC by hand: two chains of one validator each and their relayer, in one thread and one value,
//! with no API, no network and no choice. What the protocol itself costs, as far as one can see.
//!
//! Records go in batches: a block of packets, a header, a proof each; a block of acks, a header, a
//! proof each. All that is encoded is decoded again.

mod header;
mod tree;

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use ibc_proto::ibc::core::channel::v1::{MsgAcknowledgement, MsgRecvPacket, Packet};
use ibc_proto::ibc::core::client::v1::Height;
use ibc_proto::ibc::core::commitment::v1::MerkleProof;
use ibc_proto::ics23::commitment_proof::Proof;
use ibc_proto::ics23::{CommitmentProof, ExistenceProof};
use ics23::{HostFunctionsManager, ProofSpec};
use prost::Message;
use sha2::{Digest, Sha256};

use self::header::{Client, Signer};
use self::tree::{Tree, leaf_op};
use crate::cells::{Workload, processor_time, record_of};
use crate::contest::Contestant;
use crate::peer::{Result, ack, look_at};

const STORE: &[u8] = b"ibc";
const PORT: &str = "bench";
const CHANNEL: &str = "channel-0";
const CLIENT: &str = "07-tendermint-0";
/// How many records a block has.
const BATCH: usize = 100;

static IAVL: LazyLock<ProofSpec> = LazyLock::new(ics23::iavl_spec);
static STORES: LazyLock<ProofSpec> = LazyLock::new(ics23::tendermint_spec);

/// The exchange by hand, or the two headers that one record at a time needs.
pub(crate) struct Chains;

impl Contestant for Chains {
    fn name(&self) -> &str {
        "ibc-by-hand"
    }

    fn measure(&mut self, workload: Workload, time: Duration) -> Result<f64> {
        match workload {
            Workload::RoundTrip => two_headers(time),
            Workload::Flow { size, .. } => rate(size, time).map(|(by_clock, _)| by_clock),
            Workload::PerCore { size, .. } => rate(size, time).map(|(_, by_core)| by_core),
            other => Err(format!("nobody does {other:?} by hand").into()),
        }
    }
}

/// Records a second, and records a second of processor time.
fn rate(size: usize, time: Duration) -> Result<(f64, f64)> {
    let mut pair = Pair::new(size)?;
    let warm = Instant::now();
    while warm.elapsed() < time / 4 {
        pair.exchange()?;
    }
    let (start, before, mut records) = (Instant::now(), processor_time()?, 0);
    while start.elapsed() < time {
        records += pair.exchange()?;
    }
    let (elapsed, used) = (start.elapsed(), processor_time()? - before);
    Ok((records as f64 / elapsed.as_secs_f64(), records as f64 / used.as_secs_f64()))
}

/// Microseconds for two headers, each made, signed, encoded, decoded and believed.
fn two_headers(time: Duration) -> Result<f64> {
    let mut ends = [Signer::new()?, Signer::new()?].map(|signer| {
        let client = Client::of(&signer);
        (signer, client)
    });
    let (mut start, mut turns) = (Instant::now(), 0_u32);
    let mut warm = false;
    loop {
        for (signer, client) in &mut ends {
            client.update(&signer.next([turns as u8; 32])?)?;
        }
        turns += 1;
        if !warm && start.elapsed() > time / 4 {
            (start, turns, warm) = (Instant::now(), 0, true);
        } else if warm && start.elapsed() > time {
            return Ok(start.elapsed().as_secs_f64() * 1e6 / f64::from(turns));
        }
    }
}

struct Pair {
    sender: Chain,
    receiver: Chain,
    data: Vec<u8>,
}

struct Chain {
    tree: Tree,
    signer: Signer,
    /// Of the other chain.
    client: Client,
    next: u64,
}

fn key(kind: &str, sequence: u64) -> String {
    format!("{kind}/ports/{PORT}/channels/{CHANNEL}/sequences/{sequence}")
}

fn commitment(packet: &Packet) -> [u8; 32] {
    let height = packet.timeout_height.unwrap_or_default();
    let mut hash = Sha256::new();
    hash.update(packet.timeout_timestamp.to_be_bytes());
    hash.update(height.revision_number.to_be_bytes());
    hash.update(height.revision_height.to_be_bytes());
    hash.update(Sha256::digest(&packet.data));
    hash.finalize().into()
}

impl Chain {
    fn commit(&mut self) -> Result<(Vec<u8>, [u8; 32])> {
        let root = self.tree.commit();
        let mut image = vec![0, STORE.len() as u8];
        image.extend_from_slice(STORE);
        image.push(32);
        image.extend_from_slice(&Sha256::digest(root));
        Ok((self.signer.next(Sha256::digest(image).into())?, root))
    }

    fn prove(&self, root: &[u8; 32], key: &str) -> Result<Vec<u8>> {
        let found = self.tree.prove(key.as_bytes()).ok_or("a key is gone")?;
        let store = ExistenceProof {
            key: STORE.to_vec(),
            value: root.to_vec(),
            leaf: Some(leaf_op(vec![0])),
            path: Vec::new(),
        };
        let proofs = [found, store].map(Proof::Exist);
        let proofs = proofs.map(|proof| CommitmentProof { proof: Some(proof) }).into();
        Ok(MerkleProof { proofs }.encode_to_vec())
    }

    /// Checks what the other chain has proved.
    fn check(&self, proof: &[u8], key: &str, value: &[u8]) -> Result<()> {
        let proof = MerkleProof::decode(proof)?;
        let [inner, outer] = &proof.proofs[..] else { return Err("not two parts".into()) };
        let Some(Proof::Exist(store)) = &outer.proof else { return Err("no store".into()) };
        let (root, hash) = (&store.value, &self.client.app_hash);
        let of_store =
            ics23::verify_membership::<HostFunctionsManager>(outer, &STORES, hash, STORE, root);
        let of_key = ics23::verify_membership::<HostFunctionsManager>(
            inner,
            &IAVL,
            root,
            key.as_bytes(),
            value,
        );
        if of_store && of_key { Ok(()) } else { Err("a proof does not hold".into()) }
    }
}

impl Pair {
    fn new(size: usize) -> Result<Self> {
        let signers = (Signer::new()?, Signer::new()?);
        let clients = (Client::of(&signers.1), Client::of(&signers.0));
        let chain = |signer, client| Chain { tree: Tree::default(), signer, client, next: 1 };
        Ok(Self {
            sender: chain(signers.0, clients.0),
            receiver: chain(signers.1, clients.1),
            data: record_of(size).to_vec(),
        })
    }

    /// Takes a batch of records there and their acks back; tells how many.
    fn exchange(&mut self) -> Result<usize> {
        let Self { sender, receiver, data } = self;
        let mut packets = Vec::with_capacity(BATCH);
        for _ in 0..BATCH {
            let packet = Packet {
                sequence: sender.next,
                source_port: PORT.to_owned(),
                source_channel: CHANNEL.to_owned(),
                destination_port: PORT.to_owned(),
                destination_channel: CHANNEL.to_owned(),
                data: data.clone(),
                timeout_height: None,
                timeout_timestamp: u64::MAX,
            };
            sender.next += 1;
            let key = key("commitments", packet.sequence);
            sender.tree.set(key.as_bytes(), &commitment(&packet));
            packets.push(packet);
        }
        let (header, root) = sender.commit()?;
        let at =
            |signer: &Signer| Some(Height { revision_number: 0, revision_height: signer.height });
        let mut messages = Vec::with_capacity(BATCH);
        for packet in packets {
            let message = MsgRecvPacket {
                proof_commitment: sender.prove(&root, &key("commitments", packet.sequence))?,
                packet: Some(packet),
                proof_height: at(&sender.signer),
                signer: CLIENT.to_owned(),
            };
            messages.push(message.encode_to_vec());
        }

        receiver.client.update(&header)?;
        let mut received = Vec::with_capacity(BATCH);
        for message in messages {
            let message = MsgRecvPacket::decode(&message[..])?;
            let packet = message.packet.ok_or("no packet")?;
            if packet.source_port != PORT
                || packet.source_channel != CHANNEL
                || packet.destination_port != PORT
                || packet.destination_channel != CHANNEL
            {
                return Err("a packet of another channel".into());
            }
            let (sent, receipt) =
                (key("commitments", packet.sequence), key("receipts", packet.sequence));
            receiver.check(&message.proof_commitment, &sent, &commitment(&packet))?;
            if receiver.tree.get(receipt.as_bytes()).is_some() {
                return Err("a packet came twice".into());
            }
            receiver.tree.set(receipt.as_bytes(), &[1]);
            let acknowledgement = ack(&packet.data);
            let written = key("acks", packet.sequence);
            receiver.tree.set(written.as_bytes(), &Sha256::digest(&acknowledgement));
            received.push((packet, acknowledgement));
        }
        let (header, root) = receiver.commit()?;
        let mut messages = Vec::with_capacity(BATCH);
        for (packet, acknowledgement) in received {
            let message = MsgAcknowledgement {
                proof_acked: receiver.prove(&root, &key("acks", packet.sequence))?,
                packet: Some(packet),
                acknowledgement: acknowledgement.to_vec(),
                proof_height: at(&receiver.signer),
                signer: CLIENT.to_owned(),
            };
            messages.push(message.encode_to_vec());
        }

        sender.client.update(&header)?;
        let expected = look_at(data);
        for message in messages {
            let message = MsgAcknowledgement::decode(&message[..])?;
            let packet = message.packet.ok_or("no packet")?;
            let sent = key("commitments", packet.sequence);
            if sender.tree.get(sent.as_bytes()) != Some(&commitment(&packet)) {
                return Err("an ack of another packet".into());
            }
            let digest = Sha256::digest(&message.acknowledgement);
            sender.check(&message.proof_acked, &key("acks", packet.sequence), &digest)?;
            crate::peer::check(&message.acknowledgement, expected)?;
            sender.tree.remove(sent.as_bytes());
        }
        Ok(BATCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_go_and_come() {
        let mut pair = Pair::new(256).expect("there is randomness");
        for _ in 0..5 {
            assert_eq!(pair.exchange().expect("all is proved"), BATCH);
        }
        assert!(pair.sender.tree.get(key("commitments", 1).as_bytes()).is_none());
        assert!(pair.receiver.tree.get(key("acks", 500).as_bytes()).is_some());
    }
}
