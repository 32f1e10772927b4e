//! Where ibc-core 0.57 does something else than the engine, and ibc-go v10 does as the engine.

use ibc_proto::ibc::core::{
    channel::v1::{MsgTimeout, MsgTimeoutOnClose, Packet},
    client::v1::Height as ProtoHeight,
};
use prost::Name;

use crate::{
    client::ClientError,
    engine::{EngineError, Event},
    height::{Height, Timestamp},
    host::Memory,
    step::Step,
    world::{self, Kind},
};

/// A step that the two sides did not take alike.
pub(crate) struct Case<'a> {
    pub(crate) kind: Kind,
    pub(crate) step: &'a Step,
    pub(crate) ours: &'a Result<Option<Event>, EngineError>,
    pub(crate) theirs: &'a Result<(), String>,
    /// The store before the step.
    pub(crate) store: &'a Memory,
}

impl Case<'_> {
    fn message<M: prost::Message + Name + Default>(&self) -> Option<M> {
        let Step::Deliver { message, .. } = self.step else { return None };
        (message.type_url == M::type_url()).then(|| M::decode(&message.value[..]).ok())?
    }

    fn they_said(&self, text: &str) -> bool {
        self.theirs.as_ref().is_err_and(|error| error.contains(text))
    }

    /// Whether the engine refused with this reason what ibc-core took.
    fn only_we_refused(&self, reason: &str) -> bool {
        let refused = matches!(self.ours, Err(EngineError::Invalid { reason: ours, .. })
            if ours.contains(reason));
        refused && self.theirs.is_ok()
    }

    /// The packet, the sequence that is said to be due, and the height of a timeout's proof.
    fn timeout(&self) -> Option<(Packet, u64, ProtoHeight)> {
        if let Some(message) = self.message::<MsgTimeout>() {
            return Some((message.packet?, message.next_sequence_recv, message.proof_height?));
        }
        let message = self.message::<MsgTimeoutOnClose>()?;
        Some((message.packet?, message.next_sequence_recv, message.proof_height?))
    }

    /// Whether a packet times out at exactly this height or time, and no earlier.
    fn is_at(packet: &Packet, height: Height, time: Timestamp) -> bool {
        let by_height = packet.timeout_height.map(Height::from).unwrap_or_default();
        let by_time = Timestamp::from_nanos(packet.timeout_timestamp);
        let earlier =
            (!by_height.is_zero() && by_height < height) || (!by_time.is_zero() && by_time < time);
        (by_height == height || by_time == time) && !earlier
    }
}

/// One way in which ibc-core deviates.
pub(crate) struct Deviation {
    pub(crate) name: &'static str,
    /// What ibc-core does, and what ibc-go does, where.
    pub(crate) reason: &'static str,
    pub(crate) applies: fn(&Case<'_>) -> bool,
}

/// All of them. Each has to come up in a run.
pub(crate) const KNOWN: &[Deviation] = &[
    Deviation {
        name: "at the timeout, sending and receiving",
        reason: "`has_expired` is `>`; ICS-004 and ibc-go (04-channel/types/timeout.go) have `>=`",
        applies: |case| {
            let (Err(EngineError::TimedOut { time, height, .. }), true) =
                (case.ours, case.theirs.is_ok())
            else {
                return false;
            };
            case.packet().is_some_and(|packet| Case::is_at(&packet, *height, *time))
        },
    },
    Deviation {
        name: "at the timeout, timing out",
        reason: "as above: what a receiver may still take there, ibc-go refunds already",
        applies: |case| {
            let Some((packet, _, height)) = case.timeout() else { return false };
            let height = Height::from(height);
            case.ours.is_ok()
                && case.they_said("InsufficientPacketTimeout")
                && world::time_at(case.store, &packet, height)
                    .is_some_and(|time| Case::is_at(&packet, height, Timestamp::from_nanos(time)))
        },
    },
    Deviation {
        name: "a packet that has its acknowledgement comes again",
        reason: "an error, which fails the transaction of a slower relayer; a no-op in ibc-go \
                 (`applyReplayProtection`), where an acknowledgement is looked for when one is \
                 written and not before",
        applies: |case| {
            case.kind == Kind::RecvPacket
                && case.ours.is_ok()
                && case.they_said("DuplicateAcknowledgment")
        },
    },
    Deviation {
        name: "sending before the channel is open",
        reason: "sends on any channel that is not CLOSED; ibc-go (`SendPacket`) wants it OPEN",
        applies: |case| {
            let early = matches!(case.ours, Err(EngineError::State { state: "TRYOPEN", .. }));
            case.kind == Kind::SendPacket && early && case.theirs.is_ok()
        },
    },
    Deviation {
        name: "timing out on a channel that is not open",
        reason: "wants it OPEN, so that what is under way when it closes is stuck; ibc-go \
                 (`TimeoutPacket`) looks at no state",
        applies: |case| {
            case.kind == Kind::TimeoutPacket
                && case.ours.is_ok()
                && case.they_said("InvalidState { expected: \"OPEN\", actual: \"CLOSED\" }")
        },
    },
    Deviation {
        name: "a timeout of what is no longer under way, with a proof from before it",
        reason: "looks first whether the packet is under way, and does nothing if not; ibc-go \
                 (`TimeoutPacket`) first checks that it has timed out at the proof's height",
        applies: |case| {
            let early = matches!(
                case.ours,
                Err(EngineError::NotTimedOut { .. }
                    | EngineError::Client(ClientError::UnknownHeight { .. }))
            );
            case.kind == Kind::TimeoutPacket && early && case.theirs.is_ok()
        },
    },
    Deviation {
        name: "a timeout on an ordered channel, where an earlier packet is due",
        reason: "wants the proof that this very packet is due; ibc-go (`TimeoutPacket`, \
                 `TimeoutOnClose`) wants the proof of the sequence that the message names, which \
                 may be an earlier one",
        applies: |case| {
            let differs = case.timeout().is_some_and(|(packet, due, _)| due < packet.sequence);
            let forged = matches!(case.ours, Err(EngineError::Client(ClientError::Proof { .. })));
            differs
                && (case.ours.is_ok() && case.they_said("a forged one")
                    || forged && case.theirs.is_ok())
        },
    },
    Deviation {
        name: "heights whose number is 0",
        reason: "are none; ibc-go takes `1-0` for a timeout, and looks at the height of a proof \
                 only if there is something to prove",
        applies: |case| {
            case.ours.is_ok()
                && (case.they_said("height of 0 not allowed") || case.they_said("proof height"))
        },
    },
    Deviation {
        name: "names on the other side that are not numbered",
        reason: "wants `channel-N` and `connection-N`; ibc-go's validators (24-host) want no more \
                 than ICS-024's length and characters",
        applies: |case| {
            case.ours.is_ok()
                && ["-x", "-01"].iter().any(|name| case.they_said(&format!("{name}`")))
        },
    },
    Deviation {
        name: "closing a channel in INIT",
        reason: "stores that it is CLOSED and then fails, as it knows no counterparty to put \
                 into the event; ibc-go (`ChanCloseInit`) closes it",
        applies: |case| {
            case.kind == Kind::ChannelCloseInit
                && case.ours.is_ok()
                && case.they_said("MissingCounterparty")
        },
    },
    Deviation {
        name: "a channel with an upgrade sequence",
        reason: "drops the field in a handshake; ibc-go v10 has no such field, and the SDK \
                 refuses a message with a field that it does not know",
        applies: |case| case.only_we_refused("upgraded"),
    },
    Deviation {
        name: "a counterparty without a prefix",
        reason: "takes it for the empty prefix; ibc-go (`Counterparty.ValidateBasic` of \
                 03-connection) refuses that",
        applies: |case| case.only_we_refused("prefix"),
    },
    Deviation {
        name: "crossing hellos",
        reason: "drops `previous_connection_id` and `previous_channel_id`; ibc-go refuses a \
                 message that has one, or does not know the field any more",
        applies: |case| case.only_we_refused("crossing hellos"),
    },
    Deviation {
        name: "acknowledging late",
        reason: "its function for that (`commit_packet_acknowledgment`) checks nothing; ibc-go's \
                 (`WriteAcknowledgement`) wants an OPEN channel and no acknowledgement before",
        applies: |case| {
            let refused = matches!(
                case.ours,
                Err(EngineError::Acknowledged { .. }
                    | EngineError::State { .. }
                    | EngineError::NotFound { what: "channel", .. })
            );
            case.kind == Kind::WriteAcknowledgement && refused && case.theirs.is_ok()
        },
    },
];

impl Case<'_> {
    /// The packet that is sent or received.
    fn packet(&self) -> Option<Packet> {
        if let Step::Send { packet } = self.step {
            return Some(packet.clone());
        }
        self.message::<ibc_proto::ibc::core::channel::v1::MsgRecvPacket>()?.packet
    }
}
