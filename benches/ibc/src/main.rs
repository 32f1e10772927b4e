//! The contexts of ibc-testkit in cells of network-bench, measured on command.
//!
//! Reads lines `NAME WORKLOAD MS` and answers each with a line: the figure that was reached, or what
//! went wrong. It ends when its input does.
//!
//! Two contexts with Tendermint hosts and their relayer, in one thread, in batches of 100: packets
//! are sent, a block is made, its header and the packets are handed to the other context as values
//! (nothing but the header is encoded), and the acks come back the same way. Each block takes a
//! millisecond of the hosts' own clocks, so that none of them runs ahead.

#[path = "../../src/processor.rs"]
mod processor;

use std::io::{Write, stdin, stdout};
use std::time::{Duration, Instant};

use ibc::core::channel::handler::send_packet;
use ibc::core::channel::types::msgs::{MsgAcknowledgement, MsgRecvPacket, PacketMsg};
use ibc::core::channel::types::packet::Packet;
use ibc::core::channel::types::timeout::{TimeoutHeight, TimeoutTimestamp};
use ibc::core::client::types::Height;
use ibc::core::client::types::msgs::{ClientMsg, MsgUpdateClient};
use ibc::core::handler::types::events::IbcEvent;
use ibc::core::handler::types::msgs::MsgEnvelope;
use ibc::core::host::types::identifiers::{ChannelId, ClientId, PortId, Sequence};
use ibc::core::host::types::path::{AckPath, CommitmentPath, Path};
use ibc::primitives::Signer;
use ibc_query::core::context::ProvableContext;
use ibc_testkit::context::TendermintContext;
use ibc_testkit::fixtures::core::signer::dummy_account_id;
use ibc_testkit::hosts::{TendermintHost, TestBlock, TestHost};
use ibc_testkit::relayer::utils::TypedRelayerOps;

type Error = Box<dyn std::error::Error>;
type Result<T, E = Error> = std::result::Result<T, E>;

/// How many packets a block has.
const BATCH: usize = 100;
/// How many blocks two contexts make, before others take their place: their stores, which are for
/// tests, become slower the more they hold.
const BATCHES: usize = 10;

fn main() -> Result<()> {
    for line in stdin().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        match run(&words) {
            Ok(figure) => println!("{figure}"),
            Err(error) => println!("{}", error.to_string().replace('\n', " ")),
        }
        stdout().flush()?;
    }
    Ok(())
}

fn run(words: &[&str]) -> Result<f64> {
    // How many are in flight is for the batch to say.
    let (size, per_core, ms) = match words {
        ["ibc-testkit", "flow", "1", _, size, ms] => (size, false, ms),
        ["ibc-testkit", "per-core", _, size, ms] => (size, true, ms),
        _ => return Err("there is no such workload here".into()),
    };
    let (size, time) = (size.parse()?, Duration::from_millis(ms.parse()?));
    let (begun, mut elapsed, mut packets) = (Instant::now(), Duration::ZERO, 0);
    while packets == 0 || begun.elapsed() < time {
        let mut pair = Pair::new(size);
        pair.exchange()?;
        let (start, before) = (Instant::now(), processor::time()?);
        for _ in 0..BATCHES {
            packets += pair.exchange()?;
        }
        elapsed += if per_core { processor::time()? - before } else { start.elapsed() };
    }
    Ok(packets as f64 / elapsed.as_secs_f64())
}

struct Pair {
    here: Side,
    there: Side,
    signer: Signer,
    next: u64,
    data: Vec<u8>,
}

struct Side {
    context: TendermintContext,
    /// Its client of the other side.
    client: ClientId,
    channel: ChannelId,
}

type Ops = TypedRelayerOps<TendermintHost, TendermintHost>;

/// Makes a block of what was done.
fn advance(context: &mut TendermintContext) {
    context.advance_block_height_with_params(Duration::from_millis(1), &Default::default());
    // They would be kept for ever.
    context.ibc_store().events.lock().clear();
    context.ibc_store().logs.lock().clear();
}

/// Shows the last block of one context to the client that another has of it.
fn update(
    context: &mut TendermintContext,
    of: &TendermintContext,
    client: &ClientId,
    signer: &Signer,
) -> Result<()> {
    let trusted = context.light_client_latest_height(client);
    let trusted = of.host.get_block(&trusted).ok_or("a block is gone")?;
    let block = of.query_latest_block().ok_or("there is no block")?;
    context.dispatch(MsgEnvelope::Client(ClientMsg::UpdateClient(MsgUpdateClient {
        client_id: client.clone(),
        client_message: block.into_header_with_trusted(&trusted).into(),
        signer: signer.clone(),
    })))?;
    Ok(())
}

fn proof(
    context: &TendermintContext,
    path: impl Into<Path>,
) -> Result<ibc::core::commitment_types::commitment::CommitmentProofBytes> {
    let proof = context.ibc_store().get_proof(context.latest_height(), &path.into());
    Ok(proof.ok_or("there is no proof")?.try_into()?)
}

impl Pair {
    fn new(size: usize) -> Self {
        let signer = dummy_account_id();
        let (mut a, mut b) = (TendermintContext::default(), TendermintContext::default());
        let near = Ops::create_client_on_a(&mut a, &b, signer.clone());
        let far = Ops::create_client_on_a(&mut b, &a, signer.clone());
        let (hop_a, hop_b) =
            Ops::create_connection_on_a(&mut a, &mut b, near.clone(), far.clone(), signer.clone());
        let (channel_a, channel_b) = Ops::create_channel_on_a(
            &mut a,
            &mut b,
            near.clone(),
            hop_a,
            PortId::transfer(),
            far.clone(),
            hop_b,
            PortId::transfer(),
            signer.clone(),
        );
        Ops::sync_clock_on_a(&mut a, &b);
        Ops::sync_clock_on_a(&mut b, &a);
        Self {
            here: Side { context: a, client: near, channel: channel_a },
            there: Side { context: b, client: far, channel: channel_b },
            signer,
            next: 1,
            data: (0..size).map(|at| (at * 31 + 7) as u8).collect(),
        }
    }

    /// Takes a batch of packets there and their acks back; tells how many.
    fn exchange(&mut self) -> Result<usize> {
        let Self { here, there, signer, next, data } = self;
        let mut packets = Vec::with_capacity(BATCH);
        for _ in 0..BATCH {
            let packet = Packet {
                seq_on_a: Sequence::from(*next),
                port_id_on_a: PortId::transfer(),
                chan_id_on_a: here.channel.clone(),
                port_id_on_b: PortId::transfer(),
                chan_id_on_b: there.channel.clone(),
                data: data.clone(),
                timeout_height_on_b: TimeoutHeight::At(Height::new(0, u64::MAX)?),
                timeout_timestamp_on_b: TimeoutTimestamp::Never,
            };
            *next += 1;
            send_packet(here.context.ibc_store_mut(), packet.clone())?;
            packets.push(packet);
        }
        advance(&mut here.context);

        update(&mut there.context, &here.context, &there.client, signer)?;
        for packet in &packets {
            let path =
                CommitmentPath::new(&packet.port_id_on_a, &packet.chan_id_on_a, packet.seq_on_a);
            let message = PacketMsg::Recv(MsgRecvPacket {
                packet: packet.clone(),
                proof_commitment_on_a: proof(&here.context, path)?,
                proof_height_on_a: here.context.latest_height(),
                signer: signer.clone(),
            });
            there.context.dispatch(MsgEnvelope::Packet(message))?;
        }
        let events = there.context.ibc_store().events.lock().clone();
        let acks: Vec<_> = events
            .into_iter()
            .filter_map(|event| match event {
                IbcEvent::WriteAcknowledgement(written) => Some(written.acknowledgement().clone()),
                _ => None,
            })
            .collect();
        if acks.len() != packets.len() {
            return Err("a packet has no ack".into());
        }
        advance(&mut there.context);

        update(&mut here.context, &there.context, &here.client, signer)?;
        for (packet, acknowledgement) in packets.into_iter().zip(acks) {
            let path = AckPath::new(&packet.port_id_on_b, &packet.chan_id_on_b, packet.seq_on_a);
            let message = PacketMsg::Ack(MsgAcknowledgement {
                packet,
                acknowledgement,
                proof_acked_on_b: proof(&there.context, path)?,
                proof_height_on_b: there.context.latest_height(),
                signer: signer.clone(),
            });
            here.context.dispatch(MsgEnvelope::Packet(message))?;
        }
        Ok(BATCH)
    }
}
