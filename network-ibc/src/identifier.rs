//! The identifiers in an address.

use std::{fmt, str::FromStr};

use crate::error::{AddressError, excerpt};

macro_rules! identifiers {
    ($(
        $(#[$doc:meta])*
        $name:ident, $lengths:expr, $check:expr;
    )*) => {$(
        $(#[$doc])*
        ///
        /// An address may hold identifiers that no chain would give:
        /// [`is_ics24`](Self::is_ics24) tells.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Checks that `text` can stand in an address.
            ///
            /// # Errors
            /// It cannot.
            pub fn new(text: &str) -> Result<Self, AddressError> {
                let check: fn(&str) -> Result<(), AddressError> = $check;
                check(text)?;
                Ok(Self(text.to_owned()))
            }

            /// One that this crate makes.
            #[allow(dead_code, reason = "not every kind is made here")]
            pub(crate) fn known(text: &str) -> Self {
                Self(text.to_owned())
            }

            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether it has the length and the characters of such an identifier in
            /// ICS-024 ("Paths, Identifiers, Separators").
            #[must_use]
            pub fn is_ics24(&self) -> bool {
                let lengths: std::ops::RangeInclusive<usize> = $lengths;
                lengths.contains(&self.0.len()) && self.0.bytes().all(is_ics24)
            }
        }

        impl FromStr for $name {
            type Err = AddressError;

            fn from_str(text: &str) -> Result<Self, AddressError> {
                Self::new(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        /// Prints like a string, in quotes.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    )*};
}

identifiers! {
    /// A hop: an IBC connection between two chains, such as `connection-0`.
    ConnectionId, 10..=64, |text| {
        if text.starts_with("connection-") && !text.contains('/') {
            return Ok(());
        }
        Err(AddressError::Hop { text: excerpt(text) })
    };
    /// A port of a chain, such as `transfer`.
    PortId, 2..=128, |text| part("port", text);
    /// A channel of a chain, such as `channel-41`.
    ChannelId, 8..=64, |text| part("channel", text);
    /// A light client, such as `07-tendermint-0`.
    ClientId, 9..=64, |text| part("client", text);
}

fn part(what: &'static str, text: &str) -> Result<(), AddressError> {
    if text.is_empty() || text.contains('/') {
        return Err(AddressError::Part { what, text: excerpt(text) });
    }
    Ok(())
}

fn is_ics24(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._+-#[]<>".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_stand_in_an_address_is_none() {
        for text in ["", "a/b"] {
            assert!(ConnectionId::new(text).is_err());
            assert!(PortId::new(text).is_err());
            assert!(ChannelId::new(text).is_err());
        }
        assert_eq!(ConnectionId::new("foo"), Err(AddressError::Hop { text: "foo".into() }));
    }

    #[test]
    fn ics24_is_asked_for_apart() {
        let ics24 = |text| PortId::new(text).map(|port| port.is_ics24());
        assert_eq!(ics24("transfer"), Ok(true));
        assert_eq!(ics24("p q"), Ok(false));
        assert_eq!(ics24("p"), Ok(false));
        assert_eq!(ConnectionId::new("connection-0").map(|hop| hop.is_ics24()), Ok(true));
        assert_eq!(ChannelId::new("channel-0").map(|channel| channel.is_ics24()), Ok(true));
    }
}
