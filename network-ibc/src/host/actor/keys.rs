//! Under which keys the host stores what no proof is of.

use crate::identifier::{ClientId, ConnectionId};

/// Which client this host has of a chain.
pub(super) fn client_of(chain: &str) -> Vec<u8> {
    format!("host/clients/{chain}").into_bytes()
}

/// The key of the host that a client was made of.
pub(super) fn key_of(chain: &str) -> Vec<u8> {
    format!("host/keys/{chain}").into_bytes()
}

/// Which chain a client is of.
pub(super) fn chain_of(client: &ClientId) -> Vec<u8> {
    format!("host/chains/{client}").into_bytes()
}

/// Which connection of this host is the one that a counterparty began.
pub(super) fn tried(client: &str, connection: &str) -> Vec<u8> {
    format!("host/tried/{client}/{connection}").into_bytes()
}

/// The same, for a channel over a hop.
pub(super) fn tried_channel(hop: &str, port: &str, channel: &str) -> Vec<u8> {
    format!("host/tried/{hop}/{port}/{channel}").into_bytes()
}

pub(super) const KEYS: &[u8] = b"host/keys/";

pub(super) const HOPS: &[u8] = b"host/hops/";

/// A connection of this host; its value is the chain at the other end.
pub(super) fn hop(connection: &ConnectionId) -> Vec<u8> {
    [HOPS, connection.as_str().as_bytes()].concat()
}

/// The client that a chain has of this host.
#[cfg(feature = "chain")]
pub(super) fn theirs(chain: &str) -> Vec<u8> {
    format!("host/theirs/{chain}").into_bytes()
}

/// Up to which height everything that happened on a chain was dealt with.
#[cfg(feature = "chain")]
pub(super) fn seen(chain: &str) -> Vec<u8> {
    format!("host/seen/{chain}").into_bytes()
}

/// That the chain has sent something that its node had forgotten.
#[cfg(feature = "chain")]
pub(super) fn forgotten(chain: &str) -> Vec<u8> {
    format!("host/forgotten/{chain}").into_bytes()
}

/// Who validates the block after the last one that this host knows of a chain.
#[cfg(feature = "chain")]
pub(super) fn validators(chain: &str) -> Vec<u8> {
    format!("host/validators/{chain}").into_bytes()
}

pub(super) const OUT: &[u8] = b"host/out/";

/// What is to be relayed to a chain.
pub(super) fn out(chain: &str, number: u64) -> Vec<u8> {
    [OUT, chain.as_bytes(), b"/", &number.to_be_bytes()].concat()
}

/// The chain and the number of such a key.
pub(super) fn read_out(key: &[u8]) -> Option<(&str, u64)> {
    let (chain, number) = key.strip_prefix(OUT)?.split_last_chunk::<8>()?;
    let chain = std::str::from_utf8(chain.strip_suffix(b"/")?).ok()?;
    Some((chain, u64::from_be_bytes(*number)))
}
