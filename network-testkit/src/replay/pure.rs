//! The original's functions on addresses and octets.

use network_core::Endpoint;

use super::{
    event::Kind,
    js::{Js, latin1},
    world::{Stop, fault},
};

/// What our counterpart of a function answers.
pub(super) fn pure(function: &str, args: &[Js]) -> Result<Js, Stop> {
    let first = args.first().unwrap_or(&Js::Undefined);
    match function {
        "parse" => Ok(components(&endpoint(first)?)),
        "unparse" => Ok(Js::Text(endpoint(first)?.to_string())),
        "getPrefixes" => {
            let endpoint = endpoint(first)?;
            let prefixes = endpoint.prefixes().map(|prefix| Js::Text(prefix.to_owned()));
            Ok(Js::List(prefixes.collect()))
        }
        "toBytes" | "bytesToString" => octets(first).map(|octets| Js::Text(latin1(&octets))),
        "coerceToByteSource" => octets(first).map(|_| first.clone()),
        "byteSourceToBase64" | "base64ToBytes" => {
            Err(Stop::Inapplicable("base64 is no part of this API".to_owned()))
        }
        other => Err(Stop::Inapplicable(format!("unknown function {other}"))),
    }
}

/// The bytes of a string of octets, a typed array, or an array of octets.
fn octets(value: &Js) -> Result<Vec<u8>, Stop> {
    if let Js::List(list) = value {
        let octet = |item: &Js| match item {
            Js::Number(number) => number.as_u64().and_then(|number| u8::try_from(number).ok()),
            _ => None,
        };
        let octets: Option<Vec<u8>> = list.iter().map(octet).collect();
        return octets.ok_or_else(|| Stop::Untyped("an array of other things".to_owned()));
    }
    match value.octets() {
        None => Err(Stop::Untyped(value.kind().to_owned())),
        Some(Err(char)) => Err(fault(Kind::NoOctet, char)),
        Some(Ok(octets)) => Ok(octets.to_vec()),
    }
}

/// An address, as text or parsed: what is parsed is put together again first.
fn endpoint(address: &Js) -> Result<Endpoint, Stop> {
    let text = match address {
        Js::Text(text) => text.clone(),
        Js::List(list) => {
            let mut text = String::new();
            for component in list {
                let Js::List(parts) = component else { return untyped(component) };
                for part in parts {
                    let Js::Text(part) = part else { return untyped(part) };
                    text.extend(["/", part]);
                }
            }
            text
        }
        other => return untyped(other),
    };
    Endpoint::parse(&text).map_err(|error| fault(Kind::BadEndpoint, error))
}

fn untyped<T>(value: &Js) -> Result<T, Stop> {
    Err(Stop::Untyped(format!("an address that is {}", value.kind())))
}

fn components(endpoint: &Endpoint) -> Js {
    let text = |part: &str| Js::Text(part.to_owned());
    let list = endpoint.components().map(|component| {
        Js::List(
            Some(text(component.protocol)).into_iter().chain(component.value.map(text)).collect(),
        )
    });
    Js::List(list.collect())
}
