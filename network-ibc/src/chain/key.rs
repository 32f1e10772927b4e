//! The key of an account on a Cosmos chain: secp256k1.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use bech32::{Bech32, Hrp};
use bip32::{DerivationPath, XPrv};
use bip0039::{English, Mnemonic};
use data_encoding::HEXLOWER_PERMISSIVE;
use k256::ecdsa::{Signature, SigningKey, signature::Signer as _};
use ripemd::{Digest as _, Ripemd160};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Where the key is that wallets of Cosmos chains show first.
const PATH: &str = "m/44'/118'/0'/0/0";
/// The prefix of addresses on the Cosmos Hub, and of chains that have none of their own.
const PREFIX: &str = "cosmos";
/// The longest file with a key, in bytes: 24 words of up to 8 letters, and some blank space.
const MAX_FILE: usize = 1_024;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainKeyError {
    /// The words are no mnemonic.
    #[error(
        "these are no words of BIP-39: write the 12 or 24 English words of the account, in order"
    )]
    Mnemonic,
    /// The path is none.
    #[error("{path:?} is no path of BIP-32: write it like m/44'/118'/0'/0/0")]
    Path {
        /// The path.
        path: String,
    },
    /// The text is no key.
    #[error("this is no key: write 64 hexadecimal digits, or the words of a mnemonic")]
    NotAKey,
    /// An address cannot begin so.
    #[error("no address begins with {prefix:?}: write the chain's own prefix, such as cosmos")]
    Prefix {
        /// The prefix.
        prefix: String,
    },
    /// The file cannot be read.
    #[error("cannot read the key in {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is no file, or a large one.
    #[error("{} is no file with a key: it should hold 64 digits, or words", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// Others than the owner can read the file.
    #[error("others can read {}: run `chmod 600` on it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
}

/// The key of an account on a Cosmos chain, which pays for what a host relays to it.
///
/// It is wiped from memory when it is dropped, and printed it shows the account's address.
#[derive(Clone)]
pub struct ChainKey {
    key: SigningKey,
    prefix: Hrp,
}

impl ChainKey {
    /// The key of a wallet's first account: of the 12 or 24 words of BIP-39, at the path
    /// `m/44'/118'/0'/0/0`.
    ///
    /// # Errors
    /// They are no such words.
    pub fn from_mnemonic(words: &str) -> Result<Self, ChainKeyError> {
        Self::from_mnemonic_at(words, PATH)
    }

    /// The key at another path of BIP-32.
    ///
    /// # Errors
    /// They are no words of BIP-39, or the path is none.
    pub fn from_mnemonic_at(words: &str, path: &str) -> Result<Self, ChainKeyError> {
        let no_path = || ChainKeyError::Path { path: path.to_owned() };
        let path: DerivationPath = path.parse().map_err(|_| no_path())?;
        let words = Zeroizing::new(words.split_whitespace().collect::<Vec<_>>().join(" "));
        let words = Mnemonic::<English>::from_phrase(words.as_str());
        let words = words.map_err(|_| ChainKeyError::Mnemonic)?;
        let seed = Zeroizing::new(words.to_seed(""));
        let key = XPrv::derive_from_path(&seed[..], &path).map_err(|_| no_path())?;
        Ok(Self::of(key.private_key().clone()))
    }

    /// A key from its 32 bytes, as hexadecimal digits.
    ///
    /// # Errors
    /// They are no key.
    pub fn from_hex(digits: &str) -> Result<Self, ChainKeyError> {
        let digits = digits.trim().as_bytes();
        if digits.len() != 64 {
            return Err(ChainKeyError::NotAKey);
        }
        let mut bytes = Zeroizing::new([0; 32]);
        let read = HEXLOWER_PERMISSIVE.decode_mut(digits, &mut bytes[..]);
        read.map_err(|_| ChainKeyError::NotAKey)?;
        let key = SigningKey::from_slice(&bytes[..]).map_err(|_| ChainKeyError::NotAKey)?;
        Ok(Self::of(key))
    }

    /// The key in a file that holds either 64 hexadecimal digits or the words of a mnemonic. On
    /// Unix only its owner may be able to read it.
    ///
    /// # Errors
    /// It cannot be read, others can read it, or it holds no key.
    pub fn from_file(path: &Path) -> Result<Self, ChainKeyError> {
        let text = read(path)?;
        let text = std::str::from_utf8(&text).map_err(|_| ChainKeyError::NotAKey)?.trim();
        if text.contains(char::is_whitespace) {
            Self::from_mnemonic(text)
        } else {
            Self::from_hex(text)
        }
    }

    /// For a chain whose addresses begin with something else than `cosmos`.
    ///
    /// # Errors
    /// No address can begin so.
    pub fn with_prefix(mut self, prefix: &str) -> Result<Self, ChainKeyError> {
        let none = |_| ChainKeyError::Prefix { prefix: prefix.to_owned() };
        self.prefix = Hrp::parse(prefix).map_err(none)?;
        Ok(self)
    }

    /// The account's address.
    #[must_use]
    pub fn address(&self) -> String {
        let account = Ripemd160::digest(Sha256::digest(self.public_key()));
        // An address of 20 bytes is never too long to be written.
        bech32::encode_lower::<Bech32>(self.prefix, &account).unwrap_or_default()
    }

    /// The public key, compressed.
    pub(super) fn public_key(&self) -> Vec<u8> {
        self.key.verifying_key().to_encoded_point(true).as_bytes().to_vec()
    }

    /// The signature of the SHA-256 of bytes: R and S, the lower of the two that there are.
    pub(super) fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        let signature: Signature = self.key.sign(bytes);
        signature.normalize_s().unwrap_or(signature).to_vec()
    }

    fn of(key: SigningKey) -> Self {
        Self { key, prefix: Hrp::parse_unchecked(PREFIX) }
    }
}

/// Shows the address.
impl fmt::Debug for ChainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainKey({})", self.address())
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, ChainKeyError> {
    let failed = |source| ChainKeyError::Read { path: path.to_owned(), source };
    let not_a_file = || ChainKeyError::NotAFile { path: path.to_owned() };
    // Asked before it is opened: to open a pipe waits for who writes to it.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(not_a_file());
    }
    let file = File::open(path).map_err(failed)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // Of what was opened, which may be another by now.
        let mode = file.metadata().map_err(failed)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(ChainKeyError::Exposed { path: path.to_owned() });
        }
    }
    // It never grows, which would leave a copy of the key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE + 1));
    file.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > MAX_FILE { Err(not_a_file()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JUNK: &str = "test test test test test test test test test test test junk";
    /// Of the Cosmos SDK's own keyring, for the words above.
    const ADDRESS: &str = "cosmos15yk64u7zc9g9k2yr2wmzeva5qgwxps6yxj00e7";

    #[test]
    fn words_make_the_account_that_wallets_make_of_them() {
        assert_eq!(ChainKey::from_mnemonic(JUNK).unwrap().address(), ADDRESS);
        let spaced = format!("\n {} ", JUNK.replace(' ', "  "));
        assert_eq!(ChainKey::from_mnemonic(&spaced).unwrap().address(), ADDRESS);
        let about = "abandon abandon abandon abandon abandon abandon abandon abandon abandon \
                     abandon abandon about";
        let key = ChainKey::from_mnemonic(about).unwrap();
        assert_eq!(key.address(), "cosmos19rl4cm2hmr8afy4kldpxz3fka4jguq0auqdal4");
        let other = ChainKey::from_mnemonic_at(JUNK, "m/44'/118'/0'/0/1").unwrap();
        assert_ne!(other.address(), ADDRESS);
    }

    #[test]
    fn the_prefix_is_the_chains() {
        let key = ChainKey::from_mnemonic(JUNK).unwrap().with_prefix("osmo").unwrap();
        assert!(key.address().starts_with("osmo15yk64u7zc9g9k2yr2wmzeva5qgwxps6"));
        assert!(matches!(key.with_prefix(""), Err(ChainKeyError::Prefix { .. })));
    }

    #[test]
    fn a_wrong_word_makes_no_key() {
        for words in ["", "test", &JUNK.replace("junk", "test"), &JUNK.replace("junk", "junkk")] {
            let made = ChainKey::from_mnemonic(words);
            assert!(matches!(made, Err(ChainKeyError::Mnemonic)), "{words}");
        }
        for path in ["", "m/x", "44/0"] {
            let made = ChainKey::from_mnemonic_at(JUNK, path);
            assert!(matches!(made, Err(ChainKeyError::Path { .. })), "{path}");
        }
    }

    #[test]
    fn hexadecimal_digits_are_32_bytes_of_a_key() {
        let digits = "01".repeat(32);
        assert_eq!(
            ChainKey::from_hex(&digits).unwrap().address(),
            ChainKey::from_hex(&format!(" {digits}\n")).unwrap().address()
        );
        let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
        for digits in ["", "01", &"01".repeat(33), &"0g".repeat(32), &"00".repeat(32), order] {
            assert!(matches!(ChainKey::from_hex(digits), Err(ChainKeyError::NotAKey)), "{digits}");
        }
    }

    #[test]
    fn a_key_does_not_show_itself() {
        let key = ChainKey::from_mnemonic(JUNK).unwrap();
        assert_eq!(format!("{key:?}"), format!("ChainKey({ADDRESS})"));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let permit = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        fs::write(&path, JUNK).unwrap();
        permit(0o640);
        assert!(matches!(ChainKey::from_file(&path), Err(ChainKeyError::Exposed { .. })));
        permit(0o600);
        assert_eq!(ChainKey::from_file(&path).unwrap().address(), ADDRESS);

        fs::write(&path, format!("{}\n", "01".repeat(32))).unwrap();
        ChainKey::from_file(&path).unwrap();
        fs::write(&path, "01".repeat(MAX_FILE)).unwrap();
        assert!(matches!(ChainKey::from_file(&path), Err(ChainKeyError::NotAFile { .. })));
        assert!(matches!(ChainKey::from_file(folder.path()), Err(ChainKeyError::NotAFile { .. })));
        let none = folder.path().join("none");
        assert!(matches!(ChainKey::from_file(&none), Err(ChainKeyError::Read { .. })));
    }
}
