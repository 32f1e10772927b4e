//! ibc-core on a store in memory, which holds the values as bytes under the keys that ibc-core
//! gives them.

mod app;
mod chain;
mod client;

use std::{collections::BTreeMap, str::FromStr as _, time::Duration};

use ibc_core::{
    channel::{
        handler::{commit_packet_acknowledgment, send_packet},
        types::{
            Version,
            acknowledgement::Acknowledgement,
            channel::{ChannelEnd, Counterparty, Order},
            commitment::{AcknowledgementCommitment, PacketCommitment},
            error::ChannelError,
            packet::{Packet, Receipt},
            proto::v1::Packet as RawPacket,
        },
    },
    client::{
        context::{
            ClientExecutionContext, ClientValidationContext,
            client_state::{ClientStateCommon, ClientStateExecution, ClientStateValidation},
            consensus_state::ConsensusState,
        },
        types::{Height, Status, error::ClientError},
    },
    commitment_types::commitment::{CommitmentPrefix, CommitmentProofBytes, CommitmentRoot},
    connection::types::ConnectionEnd,
    entrypoint::dispatch,
    handler::types::{events::IbcEvent, msgs::MsgEnvelope},
    host::{
        ExecutionContext, ValidationContext,
        types::{
            error::HostError,
            identifiers::{ChannelId, ClientId, ClientType, ConnectionId, PortId, Sequence},
            path::{
                AckPath, ChannelEndPath, ClientConnectionPath, ClientConsensusStatePath,
                ClientStatePath, CommitmentPath, ConnectionPath, Path, PathBytes, ReceiptPath,
                SeqAckPath, SeqRecvPath, SeqSendPath,
            },
        },
    },
    primitives::{
        Signer, Timestamp,
        proto::{Any, Protobuf},
    },
    router::{
        module::Module,
        router::Router,
        types::module::{ModuleExtras, ModuleId},
    },
};
use prost::Message as _;

use crate::{
    height::At,
    stand::{self, Consensus, Effect, KIND, RawHeight, State},
    step::{Counters, Step},
};

use app::App;
pub(crate) use chain::Chain;
pub(crate) use client::own_consensus;
use client::{StandConsensus, StandIn};

/// ibc-core's state, and what it takes for the application behind it.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) chain: Chain,
    app: App,
}

impl Oracle {
    /// Takes a step, and names the keys that it wrote. A step that fails leaves nothing behind,
    /// as a transaction would.
    pub(crate) fn take(&mut self, step: &Step, at: At) -> Result<Vec<String>, String> {
        let counters = self.chain.counters;
        self.chain.journal.clear();
        self.chain.time = Timestamp::from_nanoseconds(at.time.as_nanos());
        self.chain.height =
            Height::new(at.height.revision, at.height.number).map_err(|error| error.to_string())?;
        let taken = self.try_step(step);
        let journal = std::mem::take(&mut self.chain.journal);
        if let Err(error) = taken {
            for (key, before) in journal.into_iter().rev() {
                match before {
                    Some(before) => self.chain.store.insert(key, before),
                    None => self.chain.store.remove(&key),
                };
            }
            self.chain.counters = counters;
            return Err(error);
        }
        Ok(journal.into_iter().map(|(key, _)| key).collect())
    }

    fn try_step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Deliver { message, accept, acknowledgement } => {
                self.app.accept.clone_from(accept);
                // An application of ibc-core cannot give an empty acknowledgement.
                let acknowledgement = acknowledgement.clone();
                self.app.acknowledgement =
                    acknowledgement.and_then(|bytes| Acknowledgement::try_from(bytes).ok());
                let any = Any { type_url: message.type_url.clone(), value: message.value.clone() };
                let message =
                    MsgEnvelope::try_from(any).map_err(|error| format!("decode: {error}"))?;
                dispatch(&mut self.chain, &mut self.app, message)
                    .map_err(|error| format!("{error:?}"))
            }
            Step::Send { packet } => {
                let packet = read(packet)?;
                send_packet(&mut self.chain, packet).map_err(|error| format!("{error:?}"))
            }
            Step::Acknowledge { packet, acknowledgement } => {
                let acknowledgement = Acknowledgement::try_from(acknowledgement.clone())
                    .map_err(|error| error.to_string())?;
                commit_packet_acknowledgment(&mut self.chain, &read(packet)?, &acknowledgement)
                    .map_err(|error| format!("{error:?}"))
            }
        }
    }
}

/// The crate has another version of the same types.
fn read(packet: &ibc_proto::ibc::core::channel::v1::Packet) -> Result<Packet, String> {
    let raw = RawPacket {
        sequence: packet.sequence,
        source_port: packet.source_port.clone(),
        source_channel: packet.source_channel.clone(),
        destination_port: packet.destination_port.clone(),
        destination_channel: packet.destination_channel.clone(),
        data: packet.data.clone(),
        timeout_height: packet.timeout_height.map(|height| {
            ibc_core::client::types::proto::v1::Height {
                revision_number: height.revision_number,
                revision_height: height.revision_height,
            }
        }),
        timeout_timestamp: packet.timeout_timestamp,
    };
    Packet::try_from(raw).map_err(|error| format!("decode: {error}"))
}
