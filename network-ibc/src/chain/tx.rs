//! Transactions: messages, signed by one account (Cosmos SDK, `SIGN_MODE_DIRECT`).

use std::fmt;

use ibc_proto::{
    cosmos::{
        base::v1beta1::Coin,
        crypto::secp256k1,
        tx::{
            signing::v1beta1::SignMode,
            v1beta1::{
                AuthInfo, Fee, ModeInfo, SignDoc, SignerInfo, TxBody, TxRaw,
                mode_info::{Single, Sum},
            },
        },
    },
    google::protobuf::Any,
};
use prost::{Message, Name, encoding::encoded_len_varint};

use super::key::ChainKey;

/// What a transaction without messages may have at most, in bytes: its fee, its signature, and who
/// made it.
pub(super) const OVERHEAD: usize = 1_024;

/// How many places after its point a price has at most.
const PLACES: usize = 9;
/// What a price counts for.
const BILLION: u128 = 1_000_000_000;

/// What a chain asks for its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GasPrice {
    /// The name of the coin.
    pub denom: String,
    /// How much of it 1,000,000,000 units of gas cost.
    pub per_billion: u128,
}

impl GasPrice {
    /// Nothing.
    #[must_use]
    pub fn free() -> Self {
        Self { denom: String::new(), per_billion: 0 }
    }

    /// A price, such as `0.025uatom`, with up to nine places after the point.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, places, denom) = parts(text)?;
        if places.len() > PLACES {
            return None;
        }
        Self::of(whole, places, denom)
    }

    /// A price with any number of places, rounded up: whoever pays that pays enough.
    pub(super) fn at_least(text: &str) -> Option<Self> {
        let (whole, places, denom) = parts(text)?;
        let (places, rest) = places.split_at_checked(PLACES).unwrap_or((places, ""));
        let mut price = Self::of(whole, places, denom)?;
        if rest.bytes().any(|digit| digit != b'0') {
            price.per_billion = price.per_billion.checked_add(1)?;
        }
        Some(price)
    }

    fn of(whole: &str, places: &str, denom: &str) -> Option<Self> {
        let places: u128 = format!("{places:0<PLACES$}").parse().ok()?;
        let whole: u128 = whole.parse().ok()?;
        let per_billion = whole.checked_mul(BILLION)?.checked_add(places)?;
        Some(Self { denom: denom.to_owned(), per_billion })
    }

    /// What an amount of gas costs.
    pub(super) fn fee_amount(&self, gas: u64) -> u128 {
        // What is too much to count is more than there is.
        u128::from(gas).saturating_mul(self.per_billion).div_ceil(BILLION)
    }

    /// The same, as coins.
    pub(super) fn fee(&self, gas: u64) -> Vec<Coin> {
        // The SDK refuses a coin of nothing.
        match self.fee_amount(gas) {
            0 => Vec::new(),
            amount => vec![Coin { denom: self.denom.clone(), amount: amount.to_string() }],
        }
    }

    /// The least price at which an amount of gas costs as much as this.
    pub(super) fn for_fee(fee: &Coin, gas: u64) -> Option<Self> {
        let amount: u128 = fee.amount.parse().ok()?;
        let per_billion = amount.checked_mul(BILLION)?.div_ceil(u128::from(gas.max(1)));
        Some(Self { denom: fee.denom.clone(), per_billion })
    }
}

/// As it is parsed.
impl fmt::Display for GasPrice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, places) = (self.per_billion / BILLION, self.per_billion % BILLION);
        write!(f, "{whole}")?;
        if places > 0 {
            write!(f, ".{}", format!("{places:0>PLACES$}").trim_end_matches('0'))?;
        }
        f.write_str(&self.denom)
    }
}

/// A price's amount, before and after the point, and its coin.
fn parts(text: &str) -> Option<(&str, &str, &str)> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (amount, denom) = text.split_at(split);
    let (whole, places) = amount.split_once('.').unwrap_or((amount, "0"));
    // What the SDK takes for a coin.
    let known = |c: char| c.is_ascii_alphanumeric() || "/:._-".contains(c);
    let named = (3..=128).contains(&denom.len()) && denom.chars().all(known);
    let named = named && denom.starts_with(|c: char| c.is_ascii_alphabetic());
    (named && !places.is_empty() && !places.contains('.')).then_some((whole, places, denom))
}

/// What a transaction says of who makes it, and of what it may cost.
#[derive(Clone, Debug)]
pub(super) struct Terms<'a> {
    pub(super) chain: &'a str,
    pub(super) account: u64,
    pub(super) sequence: u64,
    pub(super) gas: u64,
    pub(super) fee: Vec<Coin>,
    /// The last height that may include it.
    pub(super) timeout_height: u64,
}

/// Writes and signs a transaction.
pub(super) fn sign(key: &ChainKey, messages: Vec<Any>, terms: &Terms<'_>) -> Vec<u8> {
    write(key, messages, terms, |document| key.sign(document))
}

/// A transaction to be tried only, which no chain would take.
pub(super) fn unsigned(key: &ChainKey, messages: Vec<Any>, terms: &Terms<'_>) -> Vec<u8> {
    write(key, messages, terms, |_| vec![0; 64])
}

fn write(
    key: &ChainKey,
    messages: Vec<Any>,
    terms: &Terms<'_>,
    sign: impl FnOnce(&[u8]) -> Vec<u8>,
) -> Vec<u8> {
    let body = TxBody { messages, timeout_height: terms.timeout_height, ..TxBody::default() };
    let public_key = secp256k1::PubKey { key: key.public_key() };
    let signer = SignerInfo {
        public_key: Some(Any {
            type_url: secp256k1::PubKey::type_url(),
            value: public_key.encode_to_vec(),
        }),
        mode_info: Some(ModeInfo {
            sum: Some(Sum::Single(Single { mode: SignMode::Direct.into() })),
        }),
        sequence: terms.sequence,
    };
    let fee = Fee { amount: terms.fee.clone(), gas_limit: terms.gas, ..Fee::default() };
    #[allow(deprecated, reason = "the tip, which is left out, is a field of it")]
    let info = AuthInfo { signer_infos: vec![signer], fee: Some(fee), tip: None };
    let (body_bytes, auth_info_bytes) = (body.encode_to_vec(), info.encode_to_vec());
    let document = SignDoc {
        body_bytes: body_bytes.clone(),
        auth_info_bytes: auth_info_bytes.clone(),
        chain_id: terms.chain.to_owned(),
        account_number: terms.account,
    };
    let signatures = vec![sign(&document.encode_to_vec())];
    TxRaw { body_bytes, auth_info_bytes, signatures }.encode_to_vec()
}

/// How many bytes a message adds to a transaction.
pub(super) fn size(message: &Any) -> usize {
    let length = message.encoded_len();
    1 + encoded_len_varint(length as u64) + length
}

#[cfg(test)]
mod tests {
    use ibc_proto::cosmos::tx::v1beta1::Tx;
    use k256::ecdsa::{Signature, VerifyingKey, signature::Verifier as _};

    use super::*;

    fn key() -> ChainKey {
        ChainKey::from_hex(&"07".repeat(32)).unwrap()
    }

    fn terms() -> Terms<'static> {
        Terms {
            chain: "chain-a",
            account: 7,
            sequence: 3,
            gas: 100_000,
            fee: GasPrice::parse("0.025uatom").unwrap().fee(100_000),
            timeout_height: 99,
        }
    }

    fn message(bytes: usize) -> Any {
        Any { type_url: "/a.B".to_owned(), value: vec![7; bytes] }
    }

    #[test]
    fn a_price_is_an_amount_and_a_coin() {
        let price = |text| GasPrice::parse(text).map(|price| (price.per_billion, price.denom));
        assert_eq!(price("0.025uatom"), Some((25_000_000, "uatom".to_owned())));
        assert_eq!(price("1stake"), Some((1_000_000_000, "stake".to_owned())));
        assert_eq!(price("0.000000001a/b"), Some((1, "a/b".to_owned())));
        assert_eq!(price("0ibc/AB12"), Some((0, "ibc/AB12".to_owned())));
        for none in [
            "",
            "1",
            "uatom",
            "1.uatom",
            ".1uatom",
            "1.1.1uatom",
            "-1uatom",
            "1u!om",
            "1ua",
            "0.0000000001uatom",
            "999999999999999999999999999999uatom",
        ] {
            assert_eq!(price(none), None, "{none}");
        }
        for text in ["0.025uatom", "1stake", "0.000000001a/b", "12.5ibc/AB12"] {
            assert_eq!(GasPrice::parse(text).unwrap().to_string(), text);
        }
        let at_least = |text| GasPrice::at_least(text).map(|price| price.to_string());
        assert_eq!(at_least("0.025000000000000000uatom").as_deref(), Some("0.025uatom"));
        assert_eq!(at_least("0.025000000100000000uatom").as_deref(), Some("0.025000001uatom"));
        assert_eq!(at_least("much"), None);
    }

    #[test]
    fn a_fee_is_rounded_up_and_none_is_left_out() {
        let fee = |price: &str, gas| {
            GasPrice::parse(price).unwrap().fee(gas).first().map(|coin| coin.amount.clone())
        };
        assert_eq!(fee("0.025uatom", 100_000).as_deref(), Some("2500"));
        assert_eq!(fee("0.025uatom", 100_001).as_deref(), Some("2501"));
        assert_eq!(fee("0uatom", 100_000), None);
        assert_eq!(GasPrice::free().fee(u64::MAX), []);
        // Of large numbers, in Python: 18446744073 * (2**60 - 1).
        assert_eq!(
            fee("18446744073uatom", (1 << 60) - 1).as_deref(),
            Some("21267647931740596631299229175")
        );
        // Nobody has that much.
        assert_eq!(
            fee("99999999999999999999999999999uatom", u64::MAX).as_deref(),
            Some("340282366920938463463374607432")
        );
    }

    #[test]
    fn a_fee_tells_the_price() {
        let price = |amount: &str, gas| {
            let fee = Coin { denom: "uatom".to_owned(), amount: amount.to_owned() };
            GasPrice::for_fee(&fee, gas).map(|price| price.to_string())
        };
        assert_eq!(price("2500", 100_000).as_deref(), Some("0.025uatom"));
        // Rounded up, so that the fee is enough.
        assert_eq!(price("1", 3).as_deref(), Some("0.333333334uatom"));
        assert_eq!(price("7", 0).as_deref(), Some("7uatom"));
        assert_eq!(price("-1", 1), None);
        assert_eq!(price(&u128::MAX.to_string(), 1), None);
    }

    #[test]
    fn a_transaction_is_signed_as_it_is_written() {
        let tx = sign(&key(), vec![message(10)], &terms());
        let raw = TxRaw::decode(&tx[..]).unwrap();
        let document = SignDoc {
            body_bytes: raw.body_bytes,
            auth_info_bytes: raw.auth_info_bytes,
            chain_id: "chain-a".to_owned(),
            account_number: 7,
        };
        let public = VerifyingKey::from_sec1_bytes(&key().public_key()).unwrap();
        let signature = Signature::from_slice(&raw.signatures[0]).unwrap();
        public.verify(&document.encode_to_vec(), &signature).unwrap();
        assert!(signature.normalize_s().is_none(), "the SDK takes only the lower S");

        let tx = Tx::decode(&tx[..]).unwrap();
        let body = tx.body.unwrap();
        assert_eq!((body.messages, body.timeout_height), (vec![message(10)], 99));
        let info = tx.auth_info.unwrap();
        assert_eq!(info.signer_infos[0].sequence, 3);
        assert_eq!(info.fee.unwrap().amount[0].amount, "2500");
    }

    #[test]
    fn the_size_is_known_before() {
        let terms = Terms {
            chain: "chain-a",
            account: u64::MAX,
            sequence: u64::MAX,
            gas: u64::MAX,
            fee: GasPrice { denom: "x".repeat(128), per_billion: u128::MAX }.fee(u64::MAX),
            timeout_height: u64::MAX,
        };
        for count in [0, 1, 500] {
            let messages = vec![message(900); count];
            let sum: usize = messages.iter().map(size).sum();
            let length = sign(&key(), messages, &terms).len();
            assert!((sum..=sum + OVERHEAD).contains(&length), "{count}: {length} of {sum}");
        }
    }
}
