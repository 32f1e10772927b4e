//! Who has how much, in the store of the module.

use ruint::aliases::U256;

use super::error::TransferError;
use crate::{host::Context, identifier::ChannelId};

/// The longest name of tokens, with the path that they have come by, in bytes. ibc-go keeps a hash of
/// it and sets no bound, so what comes may have as many as a packet; here it is a part of a key.
const MAX_DENOM: usize = 2_048;

/// Something that can have tokens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Holder<'a> {
    Account(&'a str),
    /// What has gone over a channel, and may come back over it.
    Escrow(&'a ChannelId),
}

impl Holder<'_> {
    /// What all its keys begin with. The length tells apart what would run into the denomination.
    pub(super) fn prefix(self) -> Vec<u8> {
        let (kind, name) = match self {
            Self::Account(name) => (b'a', name),
            Self::Escrow(channel) => (b'e', channel.as_str()),
        };
        let mut key = vec![kind];
        key.extend_from_slice(&u32::try_from(name.len()).unwrap_or(u32::MAX).to_be_bytes());
        key.extend_from_slice(name.as_bytes());
        key
    }

    fn key(self, denom: &str) -> Vec<u8> {
        [&self.prefix(), denom.as_bytes()].concat()
    }

    fn name(self) -> String {
        match self {
            Self::Account(name) => name.to_owned(),
            Self::Escrow(channel) => format!("the escrow of {channel}"),
        }
    }
}

pub(super) fn balance(context: &Context<'_>, holder: Holder<'_>, denom: &str) -> U256 {
    context.get(holder.key(denom)).and_then(|bytes| read(&bytes)).unwrap_or_default()
}

/// All that a holder has.
pub(super) fn balances(context: &Context<'_>, holder: Holder<'_>) -> Vec<(String, U256)> {
    let prefix = holder.prefix();
    let (mut found, mut from) = (Vec::new(), prefix.clone());
    while let Some((key, value)) = context.next(&prefix, &from) {
        from = [&key[..], &[0]].concat();
        let denom = key.get(prefix.len()..).and_then(|denom| std::str::from_utf8(denom).ok());
        if let (Some(denom), Some(amount)) = (denom, read(&value)) {
            found.push((denom.to_owned(), amount));
        }
    }
    found
}

pub(super) fn add(
    context: &mut Context<'_>,
    holder: Holder<'_>,
    denom: &str,
    amount: U256,
) -> Result<(), TransferError> {
    if denom.len() > MAX_DENOM {
        let denom = denom.chars().take(80).collect();
        return Err(TransferError::Denom { denom, reason: "it has more than 2,048 bytes" });
    }
    let overflow = || TransferError::Overflow { account: holder.name(), denom: denom.to_owned() };
    let sum = balance(context, holder, denom).checked_add(amount).ok_or_else(overflow)?;
    context.set(holder.key(denom), sum.to_be_bytes::<32>().to_vec());
    Ok(())
}

pub(super) fn take(
    context: &mut Context<'_>,
    holder: Holder<'_>,
    denom: &str,
    wanted: U256,
) -> Result<(), TransferError> {
    let has = balance(context, holder, denom);
    let insufficient = || TransferError::Insufficient {
        account: holder.name(),
        denom: denom.to_owned(),
        has,
        wanted,
    };
    let left = has.checked_sub(wanted).ok_or_else(insufficient)?;
    if left.is_zero() {
        context.remove(holder.key(denom));
    } else {
        context.set(holder.key(denom), left.to_be_bytes::<32>().to_vec());
    }
    Ok(())
}

fn read(bytes: &[u8]) -> Option<U256> {
    U256::try_from_be_slice(bytes)
}
