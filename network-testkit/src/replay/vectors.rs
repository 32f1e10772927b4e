//! The vectors of the original's IBC address functions.

use network_ibc::{
    AddressError, Channel, ChannelId, ConnectionId, IbcEndpoint, IcaChannel, Order, PortId,
    Version, account_address, icq_channel,
};
use serde_json::{Map, Value, json};

use super::{differences::difference, scenario::FormatError, verdict::Verdict};

/// One call of a function, and what it gave.
#[derive(Clone, Debug)]
pub struct Vector {
    /// Its name.
    pub id: String,
    function: String,
    args: Vec<Value>,
    /// What it returned, or the words of its error.
    outcome: Result<Value, String>,
}

/// What ours gives.
#[derive(Debug)]
enum Ours {
    Value(Value),
    Error(AddressError),
    /// An argument of a type that ours cannot have.
    Untyped(&'static str),
    Unknown,
}

impl Vector {
    /// Reads one line.
    ///
    /// # Errors
    /// The line is not of the format.
    pub fn parse(line: &str) -> Result<Self, FormatError> {
        let json: Value =
            serde_json::from_str(line).map_err(|error| FormatError::Json(error.to_string()))?;
        let shape = |problem: &str| FormatError::Shape(problem.to_owned());
        let text = |name: &str| json.get(name).and_then(Value::as_str).map(str::to_owned);
        let outcome = match (json.get("ok"), json.get("err")) {
            (Some(value), None) => Ok(value.clone()),
            (None, Some(error)) => {
                let words = error.get("msg").and_then(Value::as_str);
                Err(words.ok_or_else(|| shape("`err` has no words"))?.to_owned())
            }
            _ => return Err(shape("a vector has either `ok` or `err`")),
        };
        let args = json.get("args").and_then(Value::as_array);
        Ok(Self {
            id: text("id").ok_or_else(|| shape("`id` is no string"))?,
            function: text("fn").ok_or_else(|| shape("`fn` is no string"))?,
            args: args.ok_or_else(|| shape("`args` is no list"))?.clone(),
            outcome,
        })
    }

    /// Asks ours the same.
    pub fn check(&self) -> Verdict {
        let ours = match self.ask() {
            Ours::Unknown => {
                return Verdict::NotApplicable(format!("unknown function {}", self.function));
            }
            Ours::Untyped(what) => {
                let reason = format!("an argument that is {what}: types rule it out");
                return Verdict::NotApplicable(reason);
            }
            Ours::Value(value) => Ok(value),
            Ours::Error(error) => Err(error),
        };
        let same = match (&self.outcome, &ours) {
            (Ok(theirs), Ok(ours)) => theirs == ours,
            (Err(words), Err(error)) => is_meant(words, error),
            _ => false,
        };
        if same {
            return Verdict::Same;
        }
        match self.by_design(&ours).and_then(difference) {
            Some(known) => Verdict::ByDesign(vec![known]),
            None => {
                let expected = match &self.outcome {
                    Ok(value) => value.to_string(),
                    Err(words) => words.clone(),
                };
                let ours = ours.map_or_else(|error| error.to_string(), |value| value.to_string());
                Verdict::Differs(format!("expected {expected}, and got {ours}"))
            }
        }
    }

    fn ask(&self) -> Ours {
        let first = self.args.first().unwrap_or(&Value::Null);
        let answer = |result: Result<Value, AddressError>| match result {
            Ok(value) => Ours::Value(value),
            Err(error) => Ours::Error(error),
        };
        if let "encodeIbcEndpoint" = self.function.as_str() {
            let Some(parts) = first.as_object() else { return Ours::Untyped("no record") };
            return encode(parts);
        }
        if let "encodeRemoteIbcAddress" | "encodeLocalIbcAddress" = self.function.as_str() {
            let names: &[&str] = match self.function.as_str() {
                "encodeRemoteIbcAddress" => &["hops", "portID", "order", "version", "channelID"],
                _ => &["portID", "order", "version"],
            };
            let mut parts: Map<String, Value> = Map::new();
            for (name, value) in names.iter().zip(&self.args) {
                // Here the empty channel is as none.
                let none = is_undefined(value) || (*name == "channelID" && value == "");
                if !none {
                    parts.insert((*name).to_owned(), value.clone());
                }
            }
            return encode(&parts);
        }
        if self.function == "makeICAChannelAddress" {
            return ica(&self.args);
        }
        let text = match first {
            Value::String(text) => text.as_str(),
            value if is_undefined(value) => "",
            _ => return Ours::Untyped("no string"),
        };
        match self.function.as_str() {
            "decodeIbcEndpoint" => answer(IbcEndpoint::parse(text).map(|found| decoded(&found))),
            "validateIbcAddress" => answer(IbcEndpoint::parse(text).map(|found| groups(&found))),
            "decodeRemoteIbcAddress" => answer(decode_remote(text)),
            "validateRemoteIbcAddress" => answer(
                IbcEndpoint::parse(text).and_then(|found| found.no_channel()).map(|()| json!(true)),
            ),
            "localAddrToPortID" => answer(
                IbcEndpoint::parse(text)
                    .and_then(|found| found.local_port().map(|port| json!(port.as_str()))),
            ),
            "decodeIbcHops" => answer(IbcEndpoint::parse_hops(text).map(|hops| names(&hops))),
            "encodeSlashes" if text.is_empty() => Ours::Value(json!("")),
            "decodeSlashes" if text.is_empty() => Ours::Value(json!("")),
            "encodeSlashes" => answer(Version::new(text).map(|version| json!(version.escape()))),
            "decodeSlashes" => {
                answer(Version::unescape(text).map(|version| json!(version.as_str())))
            }
            "makeICQChannelAddress" => {
                let version = match self.args.get(1) {
                    Some(Value::String(version)) => version,
                    None => "icq-1",
                    Some(value) if is_undefined(value) => "icq-1",
                    Some(Value::Object(options)) => {
                        options.get("version").and_then(Value::as_str).unwrap_or("icq-1")
                    }
                    Some(_) => return Ours::Untyped("no string"),
                };
                let hop = ConnectionId::new(text);
                answer(hop.and_then(|hop| icq_channel(&hop, version)).map(|made| printed(&made)))
            }
            "findAddressField" => Ours::Value(match account_address(text) {
                Some(address) => json!(address),
                None => json!({"$": "undefined"}),
            }),
            _ => Ours::Unknown,
        }
    }

    /// The code of what ours does otherwise on purpose, and only that.
    fn by_design(&self, ours: &Result<Value, AddressError>) -> Option<&'static str> {
        let text = self.args.first().and_then(Value::as_str).unwrap_or_default();
        match (self.function.as_str(), &self.outcome, ours) {
            // Several hops: theirs has the last, ours all of them.
            (
                "decodeIbcEndpoint" | "decodeRemoteIbcAddress" | "validateIbcAddress",
                Ok(theirs),
                Ok(ours),
            ) if text.matches("/ibc-hop/").count() > 1 => {
                let all = text.starts_with(&all_hops(ours));
                (all && last_hop_only(ours) == *theirs).then_some("D27")
            }
            // Only the last hop is looked at there, and with us every one.
            (
                "decodeIbcEndpoint" | "decodeRemoteIbcAddress",
                Ok(theirs),
                Err(AddressError::Hop { .. }),
            ) => {
                let last = &text[text.rfind("/ibc-hop/").filter(|at| *at > 0)?..];
                let ours = if self.function == "decodeIbcEndpoint" {
                    IbcEndpoint::parse(last).map(|found| decoded(&found))
                } else {
                    decode_remote(last)
                };
                (ours.as_ref() == Ok(theirs)).then_some("D27")
            }
            // What checks the form alone says nothing of hops there.
            (
                "validateIbcAddress" | "validateRemoteIbcAddress" | "localAddrToPortID",
                _,
                Err(AddressError::Hop { .. }),
            ) => Some("D32"),
            // An address that nobody could read.
            (_, Ok(Value::String(theirs)), Err(AddressError::Hop { .. })) => {
                let unread = matches!(IbcEndpoint::parse(theirs), Err(AddressError::Hop { .. }));
                unread.then_some("D32")
            }
            // Parts that were dropped.
            (_, Ok(theirs), Err(AddressError::MissingOrder { address })) => {
                (theirs == address).then_some("D32")
            }
            // A text that reads like an escape.
            ("encodeSlashes", Ok(Value::String(theirs)), Ok(Value::String(ours))) => {
                let plain = text.replace('/', "\\x2f") == *theirs;
                let back = Version::unescape(ours).ok()?;
                (plain && back.as_str() == text).then_some("D32")
            }
            ("decodeSlashes", Ok(Value::String(theirs)), Ok(Value::String(ours))) => {
                let plain = text.replace("\\x2f", "/") == *theirs;
                let back = Version::new(ours).ok()?.escape();
                (plain && Version::unescape(&back).ok()?.as_str() == ours).then_some("D32")
            }
            (
                "encodeIbcEndpoint"
                | "encodeRemoteIbcAddress"
                | "encodeLocalIbcAddress"
                | "makeICAChannelAddress"
                | "makeICQChannelAddress",
                Ok(Value::String(theirs)),
                Ok(Value::String(ours)),
            ) => (ours.replace("\\x5c", "\\") == *theirs).then_some("D32"),
            ("decodeIbcEndpoint" | "decodeRemoteIbcAddress", Ok(theirs), Ok(ours)) => {
                let unescaped = |value: &Value| value.to_string().replace("\\\\x5c", "\\\\");
                (unescaped(theirs) == unescaped(ours)).then_some("D32")
            }
            // The version's escapes are read before its fields; there it is no JSON then.
            ("findAddressField", Ok(theirs), Ok(Value::String(_))) => {
                (is_undefined(theirs) && text.contains("\\x2f")).then_some("D32")
            }
            _ => None,
        }
    }
}

fn is_undefined(value: &Value) -> bool {
    value.get("$").and_then(Value::as_str) == Some("undefined")
}

fn printed(address: &IbcEndpoint) -> Value {
    json!(address.to_string())
}

fn names(hops: &[ConnectionId]) -> Value {
    hops.iter().map(|hop| json!(hop.as_str())).collect()
}

fn decoded(address: &IbcEndpoint) -> Value {
    let mut value = json!({"hops": names(&address.hops), "portID": address.port.as_str()});
    if let Some(Channel { order, version, id }) = &address.channel {
        value["order"] = json!(order.as_str().to_ascii_uppercase());
        value["version"] = json!(version.as_str());
        if let Some(id) = id {
            value["channelID"] = json!(id.as_str());
        }
    }
    value
}

fn groups(address: &IbcEndpoint) -> Value {
    let mut value = json!({"portID": address.port.as_str()});
    if !address.hops.is_empty() {
        let hops: String = address.hops.iter().map(|hop| format!("/ibc-hop/{hop}")).collect();
        value["hops"] = json!(hops);
    }
    if let Some(Channel { order, version, id }) = &address.channel {
        value["order"] = json!(order.as_str());
        value["version"] = json!(version.escape());
        if let Some(id) = id {
            value["channelID"] = json!(id.as_str());
        }
    }
    json!({"groups": value})
}

fn decode_remote(text: &str) -> Result<Value, AddressError> {
    let address = IbcEndpoint::parse(text)?;
    let remote = address.remote()?;
    Ok(json!({
        "rPortID": remote.port.as_str(),
        "order": remote.order.as_str().to_ascii_uppercase(),
        "version": remote.version.as_str(),
        "hops": names(remote.hops),
    }))
}

/// The hops of ours, as an address begins with them.
fn all_hops(ours: &Value) -> String {
    match (ours.get("hops"), ours.pointer("/groups/hops")) {
        (Some(Value::Array(hops)), _) => {
            hops.iter().filter_map(Value::as_str).map(|hop| format!("/ibc-hop/{hop}")).collect()
        }
        (_, Some(Value::String(hops))) => hops.clone(),
        _ => String::new(),
    }
}

/// Ours, with the last hop alone, as the original has it.
fn last_hop_only(ours: &Value) -> Value {
    let mut value = ours.clone();
    if let Some(hops) = value.get_mut("hops").and_then(Value::as_array_mut) {
        hops.drain(..hops.len().saturating_sub(1));
    }
    if let Some(Value::String(hops)) = value.pointer_mut("/groups/hops")
        && let Some(at) = hops.rfind("/ibc-hop/")
    {
        hops.drain(..at);
    }
    value
}

/// An address of parts; no more of them may be lost.
fn encode(parts: &Map<String, Value>) -> Ours {
    match encoded(parts) {
        Ok(Ok(address)) => Ours::Value(printed(&address)),
        Ok(Err(error)) => Ours::Error(error),
        Err(what) => Ours::Untyped(what),
    }
}

fn encoded(parts: &Map<String, Value>) -> Result<Result<IbcEndpoint, AddressError>, &'static str> {
    let text = |name: &str| match parts.get(name) {
        None => Ok(None),
        Some(value) if is_undefined(value) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err("no string"),
    };
    let hops = match parts.get("hops") {
        None => Vec::new(),
        Some(Value::Array(hops)) => {
            let hops = hops.iter().map(|hop| hop.as_str().ok_or("no string"));
            hops.collect::<Result<Vec<_>, _>>()?
        }
        Some(value) if is_undefined(value) => Vec::new(),
        Some(_) => return Err("no list"),
    };
    let (order, version, id) = (text("order")?, text("version")?, text("channelID")?);
    let port = text("portID")?.ok_or("undefined")?;
    let make = || {
        let hops = hops.into_iter().map(ConnectionId::new).collect::<Result<_, _>>()?;
        let port = PortId::new(port)?;
        let channel = match order {
            Some(order) => Some(Channel {
                order: order.parse::<Order>()?,
                version: Version::new(version.unwrap_or_default())?,
                id: id.map(ChannelId::new).transpose()?,
            }),
            None => None,
        };
        let dropped = channel.is_none() && (version.is_some() || id.is_some());
        let address = IbcEndpoint { hops, port, channel };
        if dropped {
            return Err(AddressError::MissingOrder { address: address.to_string() });
        }
        Ok(address)
    };
    Ok(make())
}

fn ica(args: &[Value]) -> Ours {
    let mut ends = Vec::new();
    for place in 0..2 {
        match args.get(place) {
            Some(Value::String(text)) => ends.push(text.as_str()),
            Some(value) if !is_undefined(value) => return Ours::Untyped("no string"),
            _ => ends.push(""),
        }
    }
    let mut channel = IcaChannel::default();
    let option = |name: &str| args.get(2).and_then(|options| options.get(name)?.as_str());
    if let Some(version) = option("version") {
        channel = channel.with_version(version);
    }
    if let Some(encoding) = option("encoding") {
        channel = channel.with_encoding(encoding);
    }
    if let Some(tx_type) = option("txType") {
        channel = channel.with_tx_type(tx_type);
    }
    let order = option("ordering").map_or(Ok(Order::Ordered), str::parse);
    let made = order.and_then(|order| {
        let (host, controller) = (ConnectionId::new(ends[0])?, ConnectionId::new(ends[1])?);
        Ok(channel.with_order(order).address(&host, &controller))
    });
    match made {
        Ok(address) => Ours::Value(printed(&address)),
        Err(error) => Ours::Error(error),
    }
}

/// Whether our error says what the original's words say.
fn is_meant(words: &str, ours: &AddressError) -> bool {
    let starts = |start: &str| words.starts_with(start);
    match ours {
        AddressError::Malformed { .. } | AddressError::TooLong { .. } => {
            words.contains(" must be '(/ibc-hop")
                || words.contains("expected \"/ibc-port/PORT\"")
                || starts("internal: ")
        }
        AddressError::Hop { .. } => {
            starts("invalid hop") || starts("Check failed") || words.ends_with(" is required")
        }
        AddressError::Part { what: "port", .. } => starts("invalid portID"),
        AddressError::Part { .. } => starts("invalid channelID"),
        AddressError::Order { .. } => starts("invalid order"),
        AddressError::MissingVersion => starts("missing version"),
        AddressError::MissingOrder { .. } => starts("missing order"),
        AddressError::HasChannel { .. } => words.contains("must not include channelID"),
        AddressError::NotAPort { what, .. } => words.contains(match *what {
            "hops" => "unexpected hops=",
            _ => "unexpected order=",
        }),
        _ => false,
    }
}
