//! Who somebody is: what a transport has proved of the remote side.

use std::{fmt, str::FromStr};

/// The name of a key: a libp2p peer id.
///
/// It is the hash of the peer's public key, or the key itself where that is short, as the
/// [libp2p specification](https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md)
/// writes it. The text is base58, such as
/// `12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA`; it is what stands behind `/p2p/` in an
/// endpoint. That a text is a peer id says nothing of who has the key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId {
    /// The multihash; what is behind `len` is zero.
    bytes: [u8; PeerId::MAX_LEN],
    len: u8,
}

/// Why a text, or bytes, are no peer id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerIdError {
    /// The text is not base58.
    #[error("{text:?} is no peer id: it is not base58, as in 12D3KooW…")]
    Text {
        /// How it starts.
        text: String,
    },
    /// The bytes are no multihash of a key.
    #[error("these {len} bytes are no peer id: they are no multihash of a public key")]
    Bytes {
        /// How many there are.
        len: usize,
    },
}

impl PeerId {
    /// The longest peer id, in bytes: a key of 42 bytes, and what it is.
    const MAX_LEN: usize = 44;
    /// The longest text that is looked at, in characters.
    const MAX_TEXT_LEN: usize = 64;

    const IDENTITY: u8 = 0x00;
    const SHA2_256: u8 = 0x12;

    /// The peer id that these bytes are: a multihash, the identity of at most 42 bytes or
    /// SHA2-256.
    ///
    /// # Errors
    /// They are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PeerIdError> {
        let known = match bytes {
            [Self::IDENTITY, len, key @ ..] => usize::from(*len) == key.len() && key.len() <= 42,
            [Self::SHA2_256, 32, hash @ ..] => hash.len() == 32,
            _ => false,
        };
        if !known {
            return Err(PeerIdError::Bytes { len: bytes.len() });
        }
        let mut all = [0; Self::MAX_LEN];
        all[..bytes.len()].copy_from_slice(bytes);
        Ok(Self { bytes: all, len: bytes.len() as u8 })
    }

    /// The multihash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl FromStr for PeerId {
    type Err = PeerIdError;

    fn from_str(text: &str) -> Result<Self, PeerIdError> {
        let no_text =
            || PeerIdError::Text { text: text.chars().take(Self::MAX_TEXT_LEN).collect() };
        if text.len() > Self::MAX_TEXT_LEN {
            return Err(no_text());
        }
        let bytes = bs58::decode(text).into_vec().map_err(|_| no_text())?;
        Self::from_bytes(&bytes)
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bs58::encode(self.as_bytes()).into_string())
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({self})")
    }
}

/// What the transport has proved of a remote side. Where it proves nothing, as plain TCP
/// does, there is none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Peer {
    /// It has the key of this peer id.
    Id(PeerId),
    /// It has a certificate for this name that a trusted authority signed.
    Name(Box<str>),
}

impl Peer {
    /// The peer id, if that is what is proved.
    pub fn id(&self) -> Option<&PeerId> {
        match self {
            Self::Id(id) => Some(id),
            Self::Name(_) => None,
        }
    }
}

impl From<PeerId> for Peer {
    fn from(id: PeerId) -> Self {
        Self::Id(id)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the libp2p specification of peer ids.
    const KNOWN: [&str; 3] = [
        "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA",
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
        "16Uiu2HAmLhLvBoYaoZfaMUKuibM6ac163GwKY74c5kiSLg5KvLpY",
    ];

    #[test]
    fn a_peer_id_comes_back_as_text_and_as_bytes() {
        for text in KNOWN {
            let id: PeerId = text.parse().unwrap();
            assert_eq!(id.to_string(), text);
            assert_eq!(PeerId::from_bytes(id.as_bytes()), Ok(id));
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in ["", "0", "12D3KooW", "not base58!", "Qm", &"1".repeat(100)] {
            assert!(text.parse::<PeerId>().is_err(), "{text}");
        }
        for bytes in [
            &[][..],
            &[0x12, 32, 1],
            &[0x11, 1, 1],
            &[0, 43],
            &[[0, 43].as_slice(), &[1; 43]].concat(),
        ] {
            assert_eq!(PeerId::from_bytes(bytes), Err(PeerIdError::Bytes { len: bytes.len() }));
        }
    }
}
