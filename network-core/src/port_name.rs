//! [`PortName`]: the checked name of a port.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::endpoint::excerpt;

/// The name of a port, such as `orders` or `icacontroller-1`.
///
/// 2 to 128 characters out of `a-z A-Z 0-9 . , _ + - # < > [ ]`. Length and characters are those of
/// a port identifier in ICS-024 ("Paths, Identifiers, Separators"), and the comma, which is not in
/// ICS-024: a chain refuses a port whose name has one. A name has no `/` and is always one whole
/// component of an [`Endpoint`](crate::endpoint::Endpoint).
///
/// Cheap to clone; compared, ordered and hashed as its text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortName(Arc<str>);

impl PortName {
    /// The length of the shortest name, in bytes (all characters are ASCII).
    pub const MIN_LEN: usize = 2;

    /// The length of the longest name, in bytes (all characters are ASCII).
    pub const MAX_LEN: usize = 128;

    /// Checks `name`.
    ///
    /// # Errors
    ///
    /// A [`PortNameError`]: the first character that is not allowed, else the length.
    pub fn parse(name: &str) -> Result<Self, PortNameError> {
        let bad = |(_, character): &(usize, char)| !is_allowed(*character);
        // A name too long is looked at no further than a good one goes.
        if let Some((at, character)) = name.char_indices().take(Self::MAX_LEN).find(bad) {
            return Err(PortNameError::BadCharacter { at, character, name: excerpt(name) });
        }
        match name.len() {
            len if len < Self::MIN_LEN => Err(PortNameError::TooShort { len, name: excerpt(name) }),
            len if len > Self::MAX_LEN => Err(PortNameError::TooLong { len, name: excerpt(name) }),
            _ => Ok(Self(name.into())),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is not a [`PortName`]. `name` is at most its first 48 characters, then `…`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PortNameError {
    /// A character that no port name has.
    #[error(
        "port name {name:?} has {character:?} at byte {at}: \
         write it in letters, digits and .,_+-#<>[]"
    )]
    BadCharacter {
        /// Where the first such character is, in bytes.
        at: usize,
        /// The character.
        character: char,
        /// The name.
        name: String,
    },

    /// Shorter than [`PortName::MIN_LEN`].
    #[error("port name {name:?} has length {len}: write at least {} characters", PortName::MIN_LEN)]
    TooShort {
        /// The length, in bytes.
        len: usize,
        /// The name.
        name: String,
    },

    /// Longer than [`PortName::MAX_LEN`].
    #[error("port name {name:?} has length {len}: write at most {} characters", PortName::MAX_LEN)]
    TooLong {
        /// The length, in bytes.
        len: usize,
        /// How the name starts.
        name: String,
    },
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&*self.0, f)
    }
}

/// Prints like a string, in quotes.
impl fmt::Debug for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl FromStr for PortName {
    type Err = PortNameError;

    fn from_str(name: &str) -> Result<Self, PortNameError> {
        Self::parse(name)
    }
}

impl TryFrom<&str> for PortName {
    type Error = PortNameError;

    fn try_from(name: &str) -> Result<Self, PortNameError> {
        Self::parse(name)
    }
}

impl TryFrom<String> for PortName {
    type Error = PortNameError;

    fn try_from(name: String) -> Result<Self, PortNameError> {
        Self::parse(&name)
    }
}

impl AsRef<str> for PortName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Equality, order and hash of a name are those of its text.
impl Borrow<str> for PortName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

// ICS-024 "Paths, Identifiers, Separators", and ','.
fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || matches!(c, '.' | ',' | '_' | '+' | '-' | '#' | '<' | '>' | '[' | ']')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::endpoint::Endpoint;

    #[test]
    fn names_have_two_to_128_characters() {
        let short = |len, name: &str| PortNameError::TooShort { len, name: name.into() };
        assert_eq!(PortName::parse(""), Err(short(0, "")));
        assert_eq!(PortName::parse("a"), Err(short(1, "a")));
        assert!(PortName::parse("ab").is_ok());
        assert!(PortName::parse(&"a".repeat(128)).is_ok());
        let long = "a".repeat(129);
        assert_eq!(
            PortName::parse(&long),
            Err(PortNameError::TooLong { len: 129, name: excerpt(&long) })
        );
    }

    #[test]
    fn the_first_bad_character_is_named_with_its_position() {
        for (name, at, character) in
            [("x/y", 1, '/'), ("é!", 0, 'é'), (" ", 0, ' '), ("ok\n", 2, '\n'), ("a*b/", 1, '*')]
        {
            let error = PortName::parse(name).unwrap_err();
            assert_eq!(error, PortNameError::BadCharacter { at, character, name: name.into() });
        }
        assert_eq!(
            PortName::parse("x/y").unwrap_err().to_string(),
            "port name \"x/y\" has '/' at byte 1: write it in letters, digits and .,_+-#<>[]"
        );
    }

    #[test]
    fn every_allowed_mark_is_taken() {
        let name: PortName = "aZ09.,_+-#<>[]".parse().unwrap();
        assert_eq!(name.as_str(), "aZ09.,_+-#<>[]");
        assert_eq!(format!("{name} {name:?}"), "aZ09.,_+-#<>[] \"aZ09.,_+-#<>[]\"");
    }

    proptest! {
        #[test]
        fn a_name_is_one_component_of_an_endpoint(name in "[a-zA-Z0-9.,_+\\-#<>\\[\\]]{2,128}") {
            let name = PortName::parse(&name).unwrap();
            let endpoint = Endpoint::parse("/port/").unwrap().with_name(name.as_str()).unwrap();
            prop_assert_eq!(endpoint.value_of("port"), Some(name.as_str()));
            prop_assert_eq!(endpoint.components().count(), 1);
        }

        #[test]
        fn checking_never_panics_and_errors_stay_short(name in any::<String>(), times in 0..100_usize) {
            if let Err(error) = PortName::parse(&name.repeat(times)) {
                prop_assert!(error.to_string().len() < 1024);
            }
        }
    }
}
