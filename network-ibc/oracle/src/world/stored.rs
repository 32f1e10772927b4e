//! What the host has stored.

use super::*;

pub(crate) fn end(store: &Memory, id: &str) -> Option<ConnectionEnd> {
    let stored = store.provable.get(&format!("connections/{id}"))?;
    ConnectionEnd::decode(&stored[..]).ok()
}

pub(crate) fn channel_end(store: &Memory, port: &str, id: &str) -> Option<Channel> {
    let stored = store.provable.get(&format!("channelEnds/ports/{port}/channels/{id}"))?;
    Channel::decode(&stored[..]).ok()
}

pub(crate) fn hop_of(store: &Memory, id: (&str, &str)) -> ConnectionEnd {
    let channel = channel_end(store, id.0, id.1).unwrap_or_default();
    let hop = channel.connection_hops.first().cloned().unwrap_or_default();
    end(store, &hop).unwrap_or_default()
}

pub(crate) fn state(store: &Memory, client: &str) -> Option<State> {
    let stored = store.provable.get(&format!("clients/{client}/clientState"))?;
    State::read(&Any::decode(&stored[..]).ok()?.value)
}

pub(crate) fn consensus(store: &Memory, client: &str, height: RawHeight) -> Option<Consensus> {
    let key = format!("clients/{client}/consensusStates/{}-{}", height.0, height.1);
    Consensus::read(&Any::decode(&store.provable.get(&key)?[..]).ok()?.value)
}

/// Whether a packet is under way, and timed out at what is newest of the other side.
pub(crate) fn is_late(store: &Memory, packet: &Packet) -> bool {
    let key = packet_path("commitments", &packet.source_port, &packet.source_channel)
        + &packet.sequence.to_string();
    let hop = hop_of(store, (&packet.source_port, &packet.source_channel));
    let Some(latest) = state(store, &hop.client_id).map(|state| state.latest) else { return false };
    let time = consensus(store, &hop.client_id, latest).map_or(0, |known| known.time);
    let by_height = packet.timeout_height.unwrap_or_default();
    let by_height = (by_height.revision_number, by_height.revision_height);
    store.provable.contains_key(&key)
        && (by_height != (0, 0) && by_height <= latest
            || packet.timeout_timestamp != 0 && packet.timeout_timestamp <= time)
}

/// The time of the other side of a packet's channel at a height.
pub(crate) fn time_at(store: &Memory, packet: &Packet, height: Height) -> Option<u64> {
    let hop = hop_of(store, (&packet.source_port, &packet.source_channel));
    let known = consensus(store, &hop.client_id, (height.revision, height.number))?;
    Some(known.time)
}

pub(crate) fn counter(store: &Memory, key: &str) -> Option<u64> {
    Some(u64::from_be_bytes(store.provable.get(key)?[..].try_into().ok()?))
}
