//! What a packet of ICS-020 says.

use ruint::aliases::U256;
use serde::{Deserialize, Serialize};

use super::error::TransferError;
use crate::identifier::{ChannelId, PortId};

/// The longest receiver and the longest memo, in bytes (ibc-go, `apps/transfer/types/packet.go`).
const MAX_RECEIVER: usize = 2_048;
const MAX_MEMO: usize = 32_768;

/// `FungibleTokenPacketData`. Its fields are in the order in which ibc-go writes them: sorted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PacketData {
    amount: String,
    /// The path that the tokens have come by, and what they are where they are from.
    pub(super) denom: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) memo: String,
    pub(super) receiver: String,
    pub(super) sender: String,
}

impl PacketData {
    pub(super) fn new(denom: &str, amount: U256, sender: &str, receiver: &str, memo: &str) -> Self {
        Self {
            amount: amount.to_string(),
            denom: denom.to_owned(),
            memo: memo.to_owned(),
            receiver: receiver.to_owned(),
            sender: sender.to_owned(),
        }
    }

    pub(super) fn read(record: &[u8]) -> Result<Self, TransferError> {
        serde_json::from_slice(record).map_err(|error| TransferError::Packet(error.to_string()))
    }

    pub(super) fn write(&self) -> Result<Vec<u8>, TransferError> {
        serde_json::to_vec(self).map_err(|error| TransferError::Packet(error.to_string()))
    }

    /// Checks the fields (ibc-go, `FungibleTokenPacketData.ValidateBasic`), and gives the amount.
    pub(super) fn check(&self) -> Result<U256, TransferError> {
        let blank = |text: &str| text.trim().is_empty();
        if blank(&self.denom) {
            return Err(TransferError::Denom { denom: self.denom.clone(), reason: "it is blank" });
        }
        for account in [&self.sender, &self.receiver] {
            if blank(account) || account.len() > MAX_RECEIVER {
                return Err(TransferError::Account { max: MAX_RECEIVER });
            }
        }
        if self.memo.len() > MAX_MEMO {
            return Err(TransferError::Memo { len: self.memo.len(), max: MAX_MEMO });
        }
        amount(&self.amount)
    }
}

/// An amount above zero. Go reads `012` as octal and `0x12` as hexadecimal, so neither is taken.
fn amount(text: &str) -> Result<U256, TransferError> {
    let invalid = || TransferError::Amount { amount: text.chars().take(80).collect() };
    let digits = !text.is_empty() && text.len() <= 78 && text.bytes().all(|b| b.is_ascii_digit());
    if !digits || text.starts_with('0') {
        return Err(invalid());
    }
    U256::from_str_radix(text, 10).map_err(|_| invalid())
}

/// What the denominations of tokens begin with that have come over a channel.
pub(super) fn prefix(port: &PortId, channel: &ChannelId) -> String {
    format!("{port}/{channel}/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(memo: &str) -> PacketData {
        PacketData::new("transfer/channel-0/uatom", U256::from(5), "alice", "bob", memo)
    }

    #[test]
    fn it_is_written_as_ibc_go_writes_it() {
        let written = data("").write().unwrap();
        assert_eq!(
            std::str::from_utf8(&written).unwrap(),
            r#"{"amount":"5","denom":"transfer/channel-0/uatom","receiver":"bob","sender":"alice"}"#
        );
        let written = data("hi").write().unwrap();
        assert_eq!(
            std::str::from_utf8(&written).unwrap(),
            r#"{"amount":"5","denom":"transfer/channel-0/uatom","memo":"hi","receiver":"bob","sender":"alice"}"#
        );
        assert_eq!(PacketData::read(&written).unwrap(), data("hi"));
    }

    #[test]
    fn amounts_are_plain_numbers_above_zero() {
        let most = U256::MAX.to_string();
        assert_eq!(amount(&most).unwrap(), U256::MAX);
        assert_eq!(amount("10").unwrap(), U256::from(10));
        let over = format!("{}{}", &most[..most.len() - 1], 6);
        for text in ["", "0", "-1", "+1", "012", "0x12", "1_000", "1.0", "1e3", " 1", &over] {
            assert!(amount(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_missing_or_too_long_is_refused() {
        assert!(data("").check().is_ok());
        let long = "m".repeat(MAX_MEMO + 1);
        assert!(matches!(data(&long).check(), Err(TransferError::Memo { .. })));
        for (denom, sender, receiver) in [(" ", "a", "b"), ("d", "", "b"), ("d", "a", " ")] {
            let data = PacketData::new(denom, U256::from(1), sender, receiver, "");
            assert!(data.check().is_err(), "{data:?}");
        }
        for text in
            ["", "[]", "{}", r#"{"amount":"1","denom":"d","receiver":"b","sender":"a","x":1}"#]
        {
            assert!(PacketData::read(text.as_bytes()).is_err(), "{text}");
        }
    }
}
