//! What the original tells of a channel, as traces show it.

use data_encoding::BASE64;
use network_ibc::{Channel, ChannelId, ConnectionId, IbcEndpoint, Order, PortId, Version};
use serde_json::Value;

use crate::replay::{event::Event, js::quoted, left::Left, scenario::Step};

/// A channel that is being opened.
pub(super) struct Opening {
    near_port: String,
    near_channel: String,
    far_port: String,
    pub(super) far_channel: String,
    hops: Vec<String>,
    order: Order,
    version: String,
    pub(super) local: String,
    pub(super) remote: String,
}

/// The event of a step of the bridge.
pub(super) fn event_of(step: &Step) -> Option<&Value> {
    if step.op == "bridge" { step.fields.get("event") } else { None }
}

fn text<'a>(event: &'a Value, name: &str) -> Option<&'a str> {
    event.get(name)?.as_str()
}

impl Opening {
    /// One that the chain has begun.
    pub(super) fn tried(event: &Value) -> Option<Self> {
        if !matches!(text(event, "event")?, "channelOpenTry" | "channelOpenInit") {
            return None;
        }
        let order = match text(event, "order")? {
            "ORDERED" => Order::Ordered,
            _ => Order::Unordered,
        };
        let version = text(event, "counterpartyVersion").or_else(|| text(event, "version"))?;
        Self::of(event, order, version)
    }

    /// One to `to` that the chain accepts.
    pub(super) fn answered(event: &Value, to: &IbcEndpoint) -> Option<Self> {
        let order = to.channel.as_ref()?.order;
        let opening = Self::of(event, order, text(event, "counterpartyVersion")?)?;
        let same = opening.far_port == to.port.as_str()
            && opening.hops.iter().map(String::as_str).eq(to.hops.iter().map(ConnectionId::as_str));
        same.then_some(opening)
    }

    fn of(event: &Value, order: Order, version: &str) -> Option<Self> {
        let other = event.get("counterparty")?;
        let hops = event.get("connectionHops")?.as_array()?;
        let hops: Vec<_> = hops.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let [near_port, near_channel] = [text(event, "portID")?, text(event, "channelID")?];
        let [far_port, far_channel] = [text(other, "port_id")?, text(other, "channel_id")?];
        Some(Self {
            local: address(&[], near_port, order, version, near_channel)?,
            remote: address(&hops, far_port, order, version, far_channel)?,
            near_port: near_port.to_owned(),
            near_channel: near_channel.to_owned(),
            far_port: far_port.to_owned(),
            far_channel: far_channel.to_owned(),
            hops,
            order,
            version: version.to_owned(),
        })
    }

    /// Whether an event names it.
    pub(super) fn is_named(&self, event: &Value) -> bool {
        text(event, "portID") == Some(&self.near_port)
            && text(event, "channelID") == Some(&self.near_channel)
    }

    pub(super) fn connection(&self) -> String {
        format!("conn({}>{})", self.local, self.remote)
    }

    fn ends(&self) -> [String; 2] {
        [quoted(&self.local), quoted(&self.remote)]
    }

    /// That a handler is told that it is open.
    pub(super) fn opened(&self, handler: &str) -> Event {
        let [local, remote] = self.ends();
        let args = vec![self.connection(), local, remote, format!("handler:{handler}")];
        Event::Call { who: handler.to_owned(), method: "onOpen".to_owned(), args }
    }

    /// That a listener is asked about it.
    pub(super) fn asked(&self, listener: &str) -> Event {
        let [local, remote] = self.ends();
        let port = format!("port(/ibc-port/{})", self.near_port);
        let args = vec![port, local, remote, format!("listener:{listener}")];
        Event::Call { who: listener.to_owned(), method: "onAccept".to_owned(), args }
    }

    /// That it is begun, as a chain asks to be told.
    pub(super) fn begun_down(&self, who: &str) -> Event {
        let packet = packet([
            ("destination_channel", &self.far_channel),
            ("destination_port", &self.far_port),
            ("source_channel", &self.near_channel),
            ("source_port", &self.near_port),
        ]);
        let hops: Vec<_> = self.hops.iter().map(|hop| quoted(hop)).collect();
        down(who, "initOpenExecuted", opening(&hops.join(", "), self.order, &packet, &self.version))
    }

    /// That it is closed.
    pub(super) fn close_down(&self, who: &str) -> Event {
        let packet =
            packet([("source_channel", &self.near_channel), ("source_port", &self.near_port)]);
        down(who, "startChannelCloseInit", format!("{{packet: {packet}}}"))
    }
}

fn address(
    hops: &[String],
    port: &str,
    order: Order,
    version: &str,
    channel: &str,
) -> Option<String> {
    let hops = hops.iter().map(|hop| ConnectionId::new(hop)).collect::<Result<_, _>>().ok()?;
    let id = Some(ChannelId::new(channel).ok()?);
    let channel = Some(Channel { order, version: Version::new(version).ok()?, id });
    let endpoint = IbcEndpoint { hops, port: PortId::new(port).ok()?, channel }.to_endpoint();
    Some(endpoint.ok()?.to_string())
}

fn packet<const N: usize>(fields: [(&str, &str); N]) -> String {
    let fields = fields.map(|(name, value)| format!("{name}: {}", quoted(value)));
    format!("{{{}}}", fields.join(", "))
}

fn opening(hops: &str, order: Order, packet: &str, version: &str) -> String {
    let order = match order {
        Order::Ordered => "ORDERED",
        Order::Unordered => "UNORDERED",
    };
    let (order, version) = (quoted(order), quoted(version));
    format!("{{hops: [{hops}], order: {order}, packet: {packet}, version: {version}}}")
}

pub(super) fn base64(octets: &[u8]) -> String {
    BASE64.encode(octets)
}

/// A call down.
pub(super) fn down(who: &str, method: &str, told: String) -> Event {
    let args = vec![quoted(method), told];
    Event::Call { who: who.to_owned(), method: "downcall".to_owned(), args }
}

/// The name of the port that a step is about.
pub(super) fn port_of(left: &Left<'_>, step: &Step) -> Option<String> {
    let name = step.fields.get("port")?.as_str()?;
    let bound = left.theirs().filter_map(|event| match event {
        Event::Returned { step, value, .. } if left.name_of(step) == Some(name) => {
            value.strip_prefix("port(/ibc-port/")?.split(')').next()
        }
        _ => None,
    });
    bound.last().map(str::to_owned)
}

/// That a channel to an address is begun.
pub(super) fn begun(who: &str, near_port: &str, to: &IbcEndpoint) -> Option<Event> {
    let Channel { order, version, .. } = to.channel.as_ref()?;
    let packet = packet([("destination_port", to.port.as_str()), ("source_port", near_port)]);
    let hops: Vec<_> = to.hops.iter().map(|hop| quoted(hop.as_str())).collect();
    let told = opening(&hops.join(", "), *order, &packet, version.as_str());
    Some(down(who, "startChannelOpenInit", told))
}

/// A packet that was received, as the trace shows it.
pub(super) fn received(event: &Value) -> Option<String> {
    let packet = event.get("packet")?;
    let field = |name| Some(format!("{name}: {}", quoted(text(packet, name)?)));
    let sequence = format!("sequence: {}", packet.get("sequence")?.as_u64()?);
    let [data, channel, port] = ["data", "destination_channel", "destination_port"].map(field);
    let [from_channel, from_port] = ["source_channel", "source_port"].map(field);
    let fields = [data?, channel?, port?, sequence, from_channel?, from_port?];
    Some(format!("{{{}}}", fields.join(", ")))
}

/// That the channel of a half is closed.
pub(super) fn closed(who: &str, half: &str) -> Option<Event> {
    let local = half.strip_prefix("conn(")?.split('>').next()?;
    let near = IbcEndpoint::parse(local).ok()?;
    let channel = near.channel.as_ref()?.id.as_ref()?;
    let ends = [("source_channel", channel.as_str()), ("source_port", near.port.as_str())];
    Some(down(who, "startChannelCloseInit", format!("{{packet: {}}}", packet(ends))))
}

/// That a send goes down.
pub(super) fn sent(left: &Left<'_>, who: &str, step: &str) -> Option<Event> {
    let connection = left.connection_of(step)?;
    let (local, remote) = connection.strip_prefix("conn(")?.split_once('>')?;
    let [near, far] =
        [local, remote.trim_end_matches(')')].map(|address| IbcEndpoint::parse(address).ok());
    let (near, far) = (near?, far?);
    let id = |end: &IbcEndpoint| Some(end.channel.as_ref()?.id.as_ref()?.to_string());
    let fields = &left.step(step)?.fields;
    let data = base64(fields.get("data")?.as_str()?.as_bytes());
    let packet = packet([
        ("data", &data),
        ("destination_channel", &id(&far)?),
        ("destination_port", far.port.as_str()),
        ("source_channel", &id(&near)?),
        ("source_port", near.port.as_str()),
    ]);
    let given = fields.get("opts").and_then(|opts| opts.get("relativeTimeoutNs"));
    let nanos = match given.map(|given| given.get("v")) {
        None => "3600000000000".to_owned(),
        Some(Some(Value::String(digits))) => digits.clone(),
        Some(digits) => digits?.to_string(),
    };
    Some(down(who, "sendPacket", format!("{{packet: {packet}, relativeTimeoutNs: {nanos}n}}")))
}

/// Who listens at the port of a channel.
pub(super) struct Listener {
    pub(super) name: String,
    pub(super) handler: Option<String>,
    /// Whether the handler is told that it is open.
    pub(super) opens: bool,
    /// As what the handler saves its connection.
    pub(super) saved: Option<String>,
}

pub(super) fn listener_of(left: &Left<'_>, tried: &Opening) -> Option<Listener> {
    let mut added = left.scenario.steps.iter().filter(|step| {
        step.op == "addListener" && port_of(left, step).as_ref() == Some(&tried.near_port)
    });
    let name = added.next_back()?.fields.get("listener")?.as_str()?.to_owned();
    let methods = |name: &str| {
        let named = |step: &&Step| step.fields.get("as").and_then(Value::as_str) == Some(name);
        left.scenario.steps.iter().find(named)?.fields.get("methods")
    };
    let accepts = methods(&name)?.get("onAccept")?.get("ret");
    let handler = accepts.and_then(|ret| ret.get("name")?.as_str()).map(str::to_owned);
    let opens = handler.as_ref().and_then(|handler| methods(handler)?.get("onOpen"));
    let saved = opens.and_then(|opens| opens.get("save")?.get("as")?.as_str()).map(str::to_owned);
    Some(Listener { opens: opens.is_some(), name, handler, saved })
}
