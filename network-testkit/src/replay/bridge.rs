//! The bridge of the family `ibc`: what the original's chain is told and tells, as traces have
//! it, and what that is for a host and the chain at the other end of its hops.

use std::{collections::BTreeMap, sync::Arc};

use data_encoding::BASE64;
use network_ibc::IbcEndpoint;
use serde_json::Value;

use super::{
    chain::{End, Hears, Ibc, Packet, Says, Setting, Told},
    event::{Fault, Kind},
    js::Js,
    scenario::Step,
    world::{Stop, World, fault},
};

/// How far apart the numbers of hops may be.
const MOST: u64 = 64;

impl Setting {
    /// What the steps take for granted: the hops that they name, and the name of the first channel.
    ///
    /// # Errors
    /// No host can begin so; says why.
    pub(super) fn of(steps: &[Step]) -> Result<Self, String> {
        let mut hops: Vec<u64> = Vec::new();
        for value in steps.iter().flat_map(|step| step.fields.values()) {
            named_hops(value, &mut hops);
        }
        hops.sort_unstable();
        hops.dedup();
        if let (Some(first), Some(last)) = (hops.first(), hops.last())
            && last - first > MOST
        {
            return Err("hops whose numbers are far apart".to_owned());
        }
        let next_channel = next_channel(&channels(steps)).ok_or_else(|| {
            "channels in another order: a host numbers them as they begin".to_owned()
        })?;
        Ok(Self { hops, next_channel })
    }
}

/// The numbers of the channels in the order in which they begin, as far as they are told.
fn channels(steps: &[Step]) -> Vec<Option<u64>> {
    let mut begun: Vec<Option<u64>> = Vec::new();
    // Channels that the host has begun, and to which ports.
    let mut dialed: Vec<(usize, String)> = Vec::new();
    for step in steps {
        if step.op == "connect" {
            let to = step.fields.get("to").and_then(Value::as_str);
            let to = to.and_then(|to| IbcEndpoint::parse(to).ok());
            if let Some(remote) = to.as_ref().and_then(|to| to.remote().ok()) {
                dialed.push((begun.len(), remote.port.to_string()));
                begun.push(None);
            }
        }
        let Some(event) = step.fields.get("event").filter(|_| step.op == "bridge") else {
            continue;
        };
        let kind = event.get("event").and_then(Value::as_str);
        let number = event.get("channelID").and_then(Value::as_str);
        let number = number.and_then(|name| numbered(name, "channel-"));
        if kind == Some("channelOpenTry") && !begun.contains(&number) {
            begun.push(number);
        }
        if kind == Some("channelOpenAck") && !begun.contains(&number) {
            let port = event.get("counterparty").and_then(|end| end.get("port_id")?.as_str());
            let oldest = dialed.iter().position(|(_, to)| Some(to.as_str()) == port);
            if let Some((at, _)) = oldest.map(|oldest| dialed.remove(oldest)) {
                begun[at] = number;
            }
        }
    }
    begun
}

/// The number of the first, if they are numbered as they begin.
fn next_channel(begun: &[Option<u64>]) -> Option<u64> {
    let told = begun.iter().enumerate().filter_map(|(at, number)| Some((at as u64, (*number)?)));
    let mut first = told.map(|(at, number)| number.checked_sub(at));
    let Some(next) = first.next() else { return Some(0) };
    if first.all(|other| other == next) { next } else { None }
}

fn named_hops(value: &Value, hops: &mut Vec<u64>) {
    match value {
        Value::String(text) => {
            hops.extend(text.split('/').filter_map(|part| numbered(part, "connection-")));
        }
        Value::Array(list) => list.iter().for_each(|item| named_hops(item, hops)),
        Value::Object(map) => map.values().for_each(|item| named_hops(item, hops)),
        _ => {}
    }
}

fn numbered(name: &str, prefix: &str) -> Option<u64> {
    name.strip_prefix(prefix)?.parse().ok()
}

/// Starts the host of a step `ibc`, and its chain.
pub(super) async fn start(world: &Arc<World>, name: &str, step: &Step) -> Result<Ibc, Stop> {
    let Some(chains) = world.chains.clone() else {
        return Err(Stop::Inapplicable("needs a host, which network-ibc has".to_owned()));
    };
    let given = |field: &str| -> BTreeMap<String, String> {
        let map = step.fields.get(field).and_then(Value::as_object);
        let texts = map.into_iter().flatten();
        texts
            .map(|(method, value)| (method.clone(), value.as_str().unwrap_or_default().to_owned()))
            .collect()
    };
    let (fail, waits) = (given("fail"), given("await"));
    let refused =
        fail.keys().find(|method| !["bindPort", "startChannelOpenInit"].contains(&&***method));
    if let Some(method) = refused {
        let reason = format!("a chain that fails at {method}: a host does that itself");
        return Err(Stop::Inapplicable(reason));
    }
    if let Some(method) = waits.keys().find(|method| *method != "sendPacket") {
        let reason = format!("a chain that takes its time at {method}: a host does that itself");
        return Err(Stop::Inapplicable(reason));
    }
    let mut setting = world.setting.clone().map_err(Stop::Inapplicable)?;
    if fail.contains_key("startChannelOpenInit") {
        setting.hops.clear();
    }
    let (weak, who) = (Arc::downgrade(world), name.to_owned());
    let told: Told = Arc::new(move |heard| {
        if let Some(world) = weak.upgrade() {
            hears(&world, &who, heard);
        }
    });
    let chain = chains.start(&setting, told).await;
    Ok(Ibc { chain: chain.map_err(|problem| fault(Kind::Other, problem))?, fail })
}

/// An event of the bridge.
pub(super) async fn event(world: &Arc<World>, ibc: &Ibc, event: &Value) -> Result<Js, Stop> {
    if event.get("event").and_then(Value::as_str) == Some("timeoutPacket") {
        let reason = "a timeout is proved when its time has passed, and here none passes";
        return Err(Stop::Inapplicable(reason.to_owned()));
    }
    let says = read(event).ok_or_else(|| Stop::Inapplicable(format!("unknown event {event}")))?;
    if let Says::OpenTry { far, .. } = &says
        && event.get("asyncVersions").and_then(Value::as_bool) == Some(true)
    {
        world.asks_version(far);
    }
    match ibc.chain.says(says).await {
        Ok(()) => Ok(Js::Undefined),
        Err(denied) => Err(Fault::new(Kind::Denied, denied.0).into()),
    }
}

fn read(event: &Value) -> Option<Says> {
    let text = |name: &str| Some(event.get(name)?.as_str()?.to_owned());
    let near = || Some(End { port: text("portID")?, channel: text("channelID")? });
    let other = |name: &str| Some(event.get("counterparty")?.get(name)?.as_str()?.to_owned());
    let far = || Some(End { port: other("port_id")?, channel: other("channel_id")? });
    let hops = || -> Option<Vec<String>> {
        let list = event.get("connectionHops")?.as_array()?;
        list.iter().map(|hop| hop.as_str().map(str::to_owned)).collect()
    };
    let ordered = || match event.get("order")?.as_str()? {
        "ORDERED" => Some(true),
        "UNORDERED" => Some(false),
        _ => None,
    };
    Some(match event.get("event")?.as_str()? {
        "channelOpenInit" => Says::OpenInit {
            near: near()?,
            far_port: other("port_id")?,
            hops: hops()?,
            ordered: ordered()?,
            version: text("version")?,
        },
        "channelOpenTry" => Says::OpenTry {
            near: near()?,
            far: far()?,
            hops: hops()?,
            ordered: ordered()?,
            version: text("counterpartyVersion")?,
        },
        "channelOpenAck" => {
            Says::OpenAck { near: near()?, far: far()?, version: text("counterpartyVersion")? }
        }
        "channelOpenConfirm" => Says::OpenConfirm { near: near()? },
        "channelCloseInit" => Says::CloseInit { near: near()? },
        "channelCloseConfirm" => Says::CloseConfirm { near: near()? },
        "receivePacket" => Says::Packet(read_packet(event)?),
        "acknowledgementPacket" => {
            let ack = BASE64.decode(event.get("acknowledgement")?.as_str()?.as_bytes()).ok()?;
            Says::Ack(read_packet(event)?, ack)
        }
        _ => return None,
    })
}

fn read_packet(event: &Value) -> Option<Packet> {
    let packet = event.get("packet")?;
    let text = |name: &str| Some(packet.get(name)?.as_str()?.to_owned());
    let end = |port, channel| Some(End { port: text(port)?, channel: text(channel)? });
    Some(Packet {
        source: end("source_port", "source_channel")?,
        destination: end("destination_port", "destination_channel")?,
        sequence: packet.get("sequence")?.as_u64()?,
        data: BASE64.decode(text("data")?.as_bytes()).ok()?,
    })
}

/// Writes down what the chain has heard, as a call down of the original's.
fn hears(world: &World, who: &str, heard: Hears) {
    let (method, args) = match heard {
        Hears::OpenInit { near_port, far_port, hop, ordered, version } => {
            let packet = record([
                ("source_port", Js::Text(near_port)),
                ("destination_port", Js::Text(far_port)),
            ]);
            ("startChannelOpenInit", opening(&hop, ordered, version, packet))
        }
        Hears::OpenTry { near, far, hop, ordered, version } => {
            // The original's chain does not hear of it unless it asks.
            if !world.was_asked_version(&far) {
                return;
            }
            ("tryOpenExecuted", opening(&hop, ordered, version, ends(far, near)))
        }
        Hears::Rejected { channel, why } => {
            ("rejected", record([("channel", Js::Text(channel)), ("why", Js::Text(why))]))
        }
        Hears::Packet(Packet { source, destination, data, .. }, timeout) => {
            let packet = with(ends(source, destination), [("data", base64(&data))]);
            let nanos = Js::BigInt(timeout.as_nanos().to_string());
            ("sendPacket", record([("packet", packet), ("relativeTimeoutNs", nanos)]))
        }
        Hears::Ack(Packet { source, destination, sequence, data }, ack) => {
            let numbered = [("data", base64(&data)), ("sequence", Js::Number(sequence.into()))];
            let packet = with(ends(source, destination), numbered);
            ("receiveExecuted", record([("ack", base64(&ack)), ("packet", packet)]))
        }
        Hears::Close { near } => {
            let packet = record([
                ("source_port", Js::Text(near.port)),
                ("source_channel", Js::Text(near.channel)),
            ]);
            ("startChannelCloseInit", record([("packet", packet)]))
        }
        Hears::Nonsense(what) => ("nonsense", Js::Text(what)),
    };
    down(world, who, method, args);
}

/// Writes down a call down.
pub(super) fn down(world: &World, who: &str, method: &str, args: Js) {
    world.call(who, "downcall", &[Js::Text(method.to_owned()), args]);
}

/// What the original asks its chain for a port by.
pub(super) fn binding(port: &str) -> Js {
    record([("packet", record([("source_port", Js::Text(port.to_owned()))]))])
}

fn opening(hop: &str, ordered: bool, version: String, packet: Js) -> Js {
    let order = if ordered { "ORDERED" } else { "UNORDERED" };
    record([
        ("hops", Js::List(vec![Js::Text(hop.to_owned())])),
        ("order", Js::Text(order.to_owned())),
        ("packet", packet),
        ("version", Js::Text(version)),
    ])
}

fn ends(source: End, destination: End) -> Js {
    record([
        ("source_port", Js::Text(source.port)),
        ("source_channel", Js::Text(source.channel)),
        ("destination_port", Js::Text(destination.port)),
        ("destination_channel", Js::Text(destination.channel)),
    ])
}

fn record<const N: usize>(fields: [(&str, Js); N]) -> Js {
    with(Js::Record(BTreeMap::new()), fields)
}

fn with<const N: usize>(to: Js, fields: [(&str, Js); N]) -> Js {
    let mut map = if let Js::Record(map) = to { map } else { BTreeMap::new() };
    map.extend(fields.map(|(name, value)| (name.to_owned(), value)));
    Js::Record(map)
}

fn base64(octets: &[u8]) -> Js {
    Js::Text(BASE64.encode(octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_numbered_as_they_begin() {
        for (begun, next) in [
            (&[][..], Some(0)),
            (&[None, None], Some(0)),
            (&[Some(5), None, Some(7)], Some(5)),
            (&[None, Some(1)], Some(0)),
            (&[Some(6), Some(5)], None),
            (&[Some(5), Some(9)], None),
            (&[None, Some(0)], None),
        ] {
            assert_eq!(next_channel(begun), next, "{begun:?}");
        }
    }
}
