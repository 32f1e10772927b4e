//! The addresses of interchain accounts and queries.

use serde_json::Value;

use crate::{
    address::{Channel, IbcEndpoint, Order, Version},
    error::AddressError,
    identifier::{ConnectionId, PortId},
};

/// Where the host of interchain accounts listens (ICS-027).
const ICA_HOST: &str = "icahost";
/// Where the host of interchain queries listens.
const ICQ_HOST: &str = "icqhost";

/// A channel to the host of interchain accounts (ICS-027 §"Channel lifecycle management"): what
/// its version says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IcaChannel {
    /// The protocol's version. Default: `ics27-1`.
    pub version: String,
    /// How transactions are encoded. Default: `proto3`.
    pub encoding: String,
    /// Whether packets keep their order. Default: they do.
    pub order: Order,
    /// What a packet holds. Default: `sdk_multi_msg`.
    pub tx_type: String,
}

impl Default for IcaChannel {
    fn default() -> Self {
        Self {
            version: "ics27-1".to_owned(),
            encoding: "proto3".to_owned(),
            order: Order::Ordered,
            tx_type: "sdk_multi_msg".to_owned(),
        }
    }
}

impl IcaChannel {
    /// Sets the protocol's version.
    #[must_use]
    pub fn with_version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.version);
        self
    }

    /// Sets how transactions are encoded.
    #[must_use]
    pub fn with_encoding(mut self, encoding: &str) -> Self {
        encoding.clone_into(&mut self.encoding);
        self
    }

    /// Sets the order.
    #[must_use]
    pub fn with_order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Sets what a packet holds.
    #[must_use]
    pub fn with_tx_type(mut self, tx_type: &str) -> Self {
        tx_type.clone_into(&mut self.tx_type);
        self
    }

    /// The address to connect to. `host` is the host's name of the connection and
    /// `controller` this side's. The account's own address is left empty: the host says it
    /// when the channel opens.
    #[must_use]
    pub fn address(&self, host: &ConnectionId, controller: &ConnectionId) -> IbcEndpoint {
        let quoted = |text: &str| Value::from(text).to_string();
        let version = format!(
            "{{\"version\":{},\"controllerConnectionId\":{},\"hostConnectionId\":{},\
             \"address\":\"\",\"encoding\":{},\"txType\":{}}}",
            quoted(&self.version),
            quoted(controller.as_str()),
            quoted(host.as_str()),
            quoted(&self.encoding),
            quoted(&self.tx_type),
        );
        to_host(controller, ICA_HOST, self.order, Version::known(version))
    }
}

/// The address to connect to for interchain queries, over this side's connection. The usual
/// version is `icq-1`.
///
/// # Errors
/// The version is empty.
pub fn icq_channel(controller: &ConnectionId, version: &str) -> Result<IbcEndpoint, AddressError> {
    Ok(to_host(controller, ICQ_HOST, Order::Unordered, Version::new(version)?))
}

fn to_host(controller: &ConnectionId, port: &str, order: Order, version: Version) -> IbcEndpoint {
    IbcEndpoint {
        hops: vec![controller.clone()],
        port: PortId::known(port),
        channel: Some(Channel { order, version, id: None }),
    }
}

/// The account's address in a text that holds a version as [`IcaChannel`] makes them, such as
/// the remote endpoint of an open connection; `None` if there is none.
///
/// The version is taken from the first `{` to the next `}`; what is escaped there is read.
#[must_use]
pub fn account_address(text: &str) -> Option<String> {
    let start = text.find('{')?;
    let end = start + text[start..].find('}')? + 1;
    let version = Version::unescape(&text[start..end]).ok()?;
    let json: Value = serde_json::from_str(version.as_str()).ok()?;
    let address = json.get("address")?.as_str()?;
    (!address.is_empty()).then(|| address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(name: &str) -> ConnectionId {
        ConnectionId::new(name).unwrap()
    }

    #[test]
    fn the_version_says_both_ends() {
        let address = IcaChannel::default()
            .with_tx_type("t/x")
            .address(&connection("connection-1"), &connection("connection-0"));
        assert_eq!(
            address.to_string(),
            "/ibc-hop/connection-0/ibc-port/icahost/ordered/{\"version\":\"ics27-1\",\
             \"controllerConnectionId\":\"connection-0\",\"hostConnectionId\":\"connection-1\",\
             \"address\":\"\",\"encoding\":\"proto3\",\"txType\":\"t\\x2fx\"}"
        );
        assert_eq!(account_address(&address.to_string()), None);
        assert_eq!(IbcEndpoint::parse(&address.to_string()), Ok(address));
    }

    #[test]
    fn queries_have_a_version_too() {
        let address = icq_channel(&connection("connection-0"), "icq-1").unwrap();
        assert_eq!(address.to_string(), "/ibc-hop/connection-0/ibc-port/icqhost/unordered/icq-1");
        assert!(icq_channel(&connection("connection-0"), "").is_err());
    }

    #[test]
    fn an_account_is_found_in_any_text_or_not() {
        let found = |version: &str| account_address(&format!("/ibc-port/p/ordered/{version}"));
        assert_eq!(found("{\"address\":\"osmo1abc\"}"), Some("osmo1abc".to_owned()));
        assert_eq!(found("{\"address\":\"a\\x2fb\"}"), Some("a/b".to_owned()));
        for none in ["v1", "{", "}{", "{}", "{\"address\":\"\"}", "{\"address\":5}", "{nonsense}"] {
            assert_eq!(found(none), None);
        }
    }
}
