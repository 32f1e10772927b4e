//! The events of IBC, as ibc-go writes them (`modules/core/*/types/events.go`).

use bytes::Bytes;
use data_encoding::HEXLOWER_PERMISSIVE;

use super::answer::{Event, RawResults};
use crate::{
    engine::Packet,
    height::{Height, Timestamp},
    identifier::{ChannelId, ClientId, ConnectionId, PortId},
};

/// Something that happened on a chain, of what IBC's core knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IbcEvent {
    ClientCreated {
        client: ClientId,
    },
    ClientUpdated {
        client: ClientId,
        heights: Vec<Height>,
    },
    ClientFrozen {
        client: ClientId,
    },
    Connection(Step, ConnectionEvent),
    Channel(Step, ChannelEvent),
    /// A channel was closed: by its application, because the other side was, or by a timeout.
    ChannelClosed(ChannelEvent),
    Sent(Packet),
    Received(Packet),
    /// A packet that was received has its acknowledgement.
    Answered {
        packet: Packet,
        acknowledgement: Bytes,
    },
    /// A packet that was sent has been acknowledged.
    Acknowledged(PacketName),
    /// A packet that was sent has timed out.
    TimedOut(PacketName),
}

/// A step of a handshake that the chain has made (ICS-003, ICS-004).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Init,
    Try,
    Ack,
    Confirm,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionEvent {
    pub(crate) connection: ConnectionId,
    pub(crate) client: ClientId,
    pub(crate) counterparty_client: ClientId,
    /// Not known yet in the first half of a handshake.
    pub(crate) counterparty: Option<ConnectionId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChannelEvent {
    pub(crate) port: PortId,
    pub(crate) channel: ChannelId,
    pub(crate) hop: ConnectionId,
    pub(crate) counterparty_port: PortId,
    /// Not known yet in the first half of a handshake.
    pub(crate) counterparty: Option<ChannelId>,
}

/// A packet without what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PacketName {
    pub(crate) sequence: u64,
    pub(crate) source_port: PortId,
    pub(crate) source_channel: ChannelId,
    pub(crate) destination_port: PortId,
    pub(crate) destination_channel: ChannelId,
}

impl IbcEvent {
    /// Reads an event; `None` if it is none of IBC's core, or is not of its form.
    pub(crate) fn read(event: &Event) -> Option<Self> {
        Some(match event.kind.as_str() {
            "create_client" => Self::ClientCreated { client: client(event, "client_id")? },
            "update_client" => {
                Self::ClientUpdated { client: client(event, "client_id")?, heights: heights(event) }
            }
            "client_misbehaviour" => Self::ClientFrozen { client: client(event, "client_id")? },
            "connection_open_init" => Self::Connection(Step::Init, ConnectionEvent::read(event)?),
            "connection_open_try" => Self::Connection(Step::Try, ConnectionEvent::read(event)?),
            "connection_open_ack" => Self::Connection(Step::Ack, ConnectionEvent::read(event)?),
            "connection_open_confirm" => {
                Self::Connection(Step::Confirm, ConnectionEvent::read(event)?)
            }
            "channel_open_init" => Self::Channel(Step::Init, ChannelEvent::read(event)?),
            "channel_open_try" => Self::Channel(Step::Try, ChannelEvent::read(event)?),
            "channel_open_ack" => Self::Channel(Step::Ack, ChannelEvent::read(event)?),
            "channel_open_confirm" => Self::Channel(Step::Confirm, ChannelEvent::read(event)?),
            "channel_close_init" | "channel_close_confirm" | "channel_close" => {
                Self::ChannelClosed(ChannelEvent::read(event)?)
            }
            "send_packet" => Self::Sent(packet(event)?),
            "recv_packet" => Self::Received(packet(event)?),
            "write_acknowledgement" => Self::Answered {
                packet: packet(event)?,
                acknowledgement: bytes(event, "packet_ack_hex", "packet_ack")?,
            },
            "acknowledge_packet" => Self::Acknowledged(PacketName::read(event)?),
            "timeout_packet" => Self::TimedOut(PacketName::read(event)?),
            _ => return None,
        })
    }

    /// All events of IBC in a block, in the order in which they happened.
    pub(super) fn all_of(results: &RawResults) -> Vec<Self> {
        let at_end = |event: &&Event| event.get("mode") == Some("EndBlock");
        let finalize = results.finalize_block_events.iter();
        let begin = finalize.clone().filter(|event| !at_end(event));
        // What a transaction that failed tells of did not happen.
        let done = results.txs_results.iter().filter(|result| result.code == 0);
        let events = results.begin_block_events.iter().chain(begin);
        let events = events.chain(done.flat_map(|result| &result.events));
        let events = events.chain(&results.end_block_events).chain(finalize.filter(at_end));
        events.filter_map(Self::read).collect()
    }
}

impl ConnectionEvent {
    fn read(event: &Event) -> Option<Self> {
        Some(Self {
            connection: connection(event, "connection_id")?,
            client: client(event, "client_id")?,
            counterparty_client: client(event, "counterparty_client_id")?,
            counterparty: known(event, "counterparty_connection_id", connection)?,
        })
    }
}

impl ChannelEvent {
    fn read(event: &Event) -> Option<Self> {
        Some(Self {
            port: port(event, "port_id")?,
            channel: channel(event, "channel_id")?,
            hop: connection(event, "connection_id")?,
            counterparty_port: port(event, "counterparty_port_id")?,
            counterparty: known(event, "counterparty_channel_id", channel)?,
        })
    }
}

impl PacketName {
    fn read(event: &Event) -> Option<Self> {
        Some(Self {
            sequence: number(event, "packet_sequence")?,
            source_port: port(event, "packet_src_port")?,
            source_channel: channel(event, "packet_src_channel")?,
            destination_port: port(event, "packet_dst_port")?,
            destination_channel: channel(event, "packet_dst_channel")?,
        })
    }
}

fn packet(event: &Event) -> Option<Packet> {
    let name = PacketName::read(event)?;
    Some(Packet {
        sequence: name.sequence,
        source_port: name.source_port,
        source_channel: name.source_channel,
        destination_port: name.destination_port,
        destination_channel: name.destination_channel,
        data: bytes(event, "packet_data_hex", "packet_data")?,
        timeout_height: height(event.get("packet_timeout_height")?)?,
        timeout: Timestamp::from_nanos(number(event, "packet_timeout_timestamp")?),
    })
}

/// Bytes in hexadecimal digits, or as they are, which is how chains with ibc-go before v2 write
/// them and others do in addition until v9.
fn bytes(event: &Event, hex: &str, plain: &str) -> Option<Bytes> {
    match event.get(hex) {
        Some(text) => HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok().map(Bytes::from),
        None => event.get(plain).map(|text| Bytes::copy_from_slice(text.as_bytes())),
    }
}

/// `4-1000`.
fn height(text: &str) -> Option<Height> {
    let (revision, number) = text.split_once('-')?;
    Some(Height::new(revision.parse().ok()?, number.parse().ok()?))
}

fn heights(event: &Event) -> Vec<Height> {
    let all = event.get("consensus_heights").or(event.get("consensus_height"));
    all.unwrap_or_default().split(',').filter_map(height).collect()
}

fn number(event: &Event, key: &str) -> Option<u64> {
    event.get(key)?.parse().ok()
}

macro_rules! identifier {
    ($name:ident, $kind:ident) => {
        fn $name(event: &Event, key: &str) -> Option<$kind> {
            $kind::new(event.get(key)?).ok().filter($kind::is_ics24)
        }
    };
}

identifier!(client, ClientId);
identifier!(connection, ConnectionId);
identifier!(port, PortId);
identifier!(channel, ChannelId);

/// An identifier that may be missing or empty, and is read otherwise.
fn known<T>(
    event: &Event,
    key: &str,
    read: impl FnOnce(&Event, &str) -> Option<T>,
) -> Option<Option<T>> {
    match event.get(key) {
        None | Some("") => Some(None),
        Some(_) => read(event, key).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of ibc-go v10.7.0.
    const RECEIVED: &str = r#"{"type":"recv_packet","attributes":[
        {"key":"packet_data_hex","value":"7b7d","index":true},
        {"key":"packet_timeout_height","value":"0-0","index":true},
        {"key":"packet_timeout_timestamp","value":"1795378957103995556","index":true},
        {"key":"packet_sequence","value":"7","index":true},
        {"key":"packet_src_port","value":"transfer","index":true},
        {"key":"packet_src_channel","value":"channel-0","index":true},
        {"key":"packet_dst_port","value":"mock","index":true},
        {"key":"packet_dst_channel","value":"channel-41","index":true},
        {"key":"packet_channel_ordering","value":"ORDER_UNORDERED","index":true},
        {"key":"packet_connection","value":"connection-0","index":true},
        {"key":"connection_id","value":"connection-0","index":true},
        {"key":"msg_index","value":"0","index":true}]}"#;

    fn event(json: &str) -> Event {
        serde_json::from_str(json).unwrap()
    }

    fn received() -> Packet {
        Packet {
            sequence: 7,
            source_port: PortId::known("transfer"),
            source_channel: ChannelId::known("channel-0"),
            destination_port: PortId::known("mock"),
            destination_channel: ChannelId::known("channel-41"),
            data: Bytes::from_static(b"{}"),
            timeout_height: Height::ZERO,
            timeout: Timestamp::from_nanos(1_795_378_957_103_995_556),
        }
    }

    #[test]
    fn a_packet_is_read_with_what_is_in_it() {
        assert_eq!(IbcEvent::read(&event(RECEIVED)), Some(IbcEvent::Received(received())));
        let plain = RECEIVED.replace("packet_data_hex", "packet_data").replace("7b7d", "{}");
        assert_eq!(IbcEvent::read(&event(&plain)), Some(IbcEvent::Received(received())));
        let answered = RECEIVED.replace("recv_packet", "write_acknowledgement").replace(
            r#"{"key":"connection_id""#,
            r#"{"key":"packet_ack_hex","value":"01FF"},{"key":"connection_id""#,
        );
        let acknowledgement = Bytes::from_static(&[1, 255]);
        assert_eq!(
            IbcEvent::read(&event(&answered)),
            Some(IbcEvent::Answered { packet: received(), acknowledgement })
        );
    }

    #[test]
    fn what_is_not_of_the_form_is_no_event() {
        for (right, wrong) in [
            ("\"7\"", "\"-7\""),
            ("\"7\"", "\"18446744073709551616\""),
            ("7b7d", "7b7"),
            ("7b7d", "zz"),
            ("0-0", "0"),
            ("\"mock\"", "\"\""),
            ("channel-41", "channel/41"),
            ("packet_sequence", "sequence"),
            ("recv_packet", "recv"),
        ] {
            let json = RECEIVED.replace(right, wrong);
            assert_ne!(json, RECEIVED);
            assert_eq!(IbcEvent::read(&event(&json)), None, "{wrong}");
        }
        // A packet of IBC v2 has the same name.
        let v2 = r#"{"type":"send_packet","attributes":[{"key":"encoded_packet_hex","value":"00"},
            {"key":"packet_source_client","value":"07-tendermint-0"}]}"#;
        assert_eq!(IbcEvent::read(&event(v2)), None);
    }

    #[test]
    fn handshakes_and_clients_are_read() {
        let opened = event(
            r#"{"type":"channel_open_init","attributes":[{"key":"port_id","value":"transfer"},
            {"key":"channel_id","value":"channel-0"},{"key":"counterparty_port_id","value":"mock"},
            {"key":"counterparty_channel_id","value":""},
            {"key":"connection_id","value":"connection-0"},{"key":"version","value":"v"}]}"#,
        );
        let Some(IbcEvent::Channel(Step::Init, channel)) = IbcEvent::read(&opened) else {
            panic!("{opened:?}")
        };
        assert_eq!((channel.port.as_str(), channel.counterparty), ("transfer", None));
        let updated = event(
            r#"{"type":"update_client","attributes":[{"key":"client_id","value":"07-tendermint-3"},
            {"key":"consensus_heights","value":"1-5,1-6"}]}"#,
        );
        assert_eq!(
            IbcEvent::read(&updated),
            Some(IbcEvent::ClientUpdated {
                client: ClientId::known("07-tendermint-3"),
                heights: vec![Height::new(1, 5), Height::new(1, 6)],
            })
        );
    }

    #[test]
    fn a_block_is_read_in_its_order_without_what_failed() {
        let named = |name: u64, mode: &str| {
            format!(
                r#"{{"type":"create_client","attributes":[
                {{"key":"client_id","value":"07-tendermint-{name}"}},
                {{"key":"mode","value":"{mode}"}}]}}"#
            )
        };
        let tx = |code: u32, name| {
            format!(r#"{{"code":{code},"gas_used":"5","events":[{}]}}"#, named(name, ""))
        };
        let json = format!(
            r#"{{"height":"9","txs_results":[{},{},{}],"begin_block_events":[{}],
            "end_block_events":[{}],"finalize_block_events":[{},{}]}}"#,
            tx(0, 3),
            tx(5, 99),
            tx(0, 4),
            named(1, ""),
            named(5, ""),
            named(6, "EndBlock"),
            named(2, "BeginBlock"),
        );
        let results: RawResults = serde_json::from_str(&json).unwrap();
        let clients = IbcEvent::all_of(&results).into_iter().map(|event| match event {
            IbcEvent::ClientCreated { client } => client.to_string(),
            other => panic!("{other:?}"),
        });
        let expected: Vec<_> = (1..=6).map(|name| format!("07-tendermint-{name}")).collect();
        assert_eq!(clients.collect::<Vec<_>>(), expected);
    }
}
