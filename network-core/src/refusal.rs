//! A handler's answer that it will not.

use std::{error::Error, fmt};

/// A handler's answer that it will not: not take this record, not accept this connection.
///
/// It holds a text for the sender. Any error converts into one, so `?` works in handlers;
/// the text is then the error and its chain of sources, `: ` between them. It deliberately
/// does not implement [`Error`] itself, like other catch-all conversions.
///
/// # Limits
/// At most [`Refusal::MAX_LEN`] bytes of text are kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Refusal(Box<str>);

impl Refusal {
    /// The longest text that is kept, in bytes.
    pub const MAX_LEN: usize = 1024;

    /// A refusal with this text, cut at [`Self::MAX_LEN`] bytes.
    pub fn new(text: impl Into<String>) -> Self {
        let mut text = text.into();
        text.truncate(text.floor_char_boundary(Self::MAX_LEN));
        Self(text.into())
    }

    /// What the handler said.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl<E: Error> From<E> for Refusal {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            if text.len() > Self::MAX_LEN {
                break;
            }
            source = cause.source();
        }
        Self::new(text)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Refusal").field(&self.text()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_becomes_its_chain_of_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::num::ParseIntError);
        let inner = "x".parse::<u8>().unwrap_err();
        assert_eq!(Refusal::from(Outer(inner)).text(), "outer: invalid digit found in string");
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let refusal = Refusal::new("é".repeat(1000));
        assert_eq!(refusal.text().len(), Refusal::MAX_LEN);
        assert!(Refusal::new(format!("x{}", "é".repeat(1000))).text().len() < Refusal::MAX_LEN);
    }
}
