//! Which version of ibc-go a chain has.

use std::path::PathBuf;

use crate::Error;

/// What says which version is wanted.
const WANTED: &str = "NETWORK_TEST_IBC_GO";

/// A version of ibc-go that there is a chain with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IbcGo {
    /// The oldest that takes hosts, with CometBFT 0.37.
    V7,
    /// That of most chains.
    V8,
    /// That of most tests.
    #[default]
    V10,
    /// The newest.
    V11,
}

impl IbcGo {
    /// The one that the environment variable `NETWORK_TEST_IBC_GO` names, or else v10.
    ///
    /// # Errors
    /// There is no chain with what it names.
    pub fn wanted() -> Result<Self, Error> {
        let Some(wanted) = std::env::var_os(WANTED) else { return Ok(Self::default()) };
        let all = [Self::V7, Self::V8, Self::V10, Self::V11].into_iter();
        let mut found = all.filter(|version| wanted == version.name());
        found.next().ok_or_else(|| Error::NoVersion { wanted: wanted.display().to_string() })
    }

    /// `v8`, for example.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V7 => "v7",
            Self::V8 => "v8",
            Self::V10 => "v10",
            Self::V11 => "v11",
        }
    }

    /// The version of a Go module, such as `github.com/cometbft/cometbft`, that the chain is built
    /// with: `v0.38.11`, for example.
    ///
    /// # Errors
    /// It is built without that module.
    pub fn built_with(self, module: &str) -> Result<String, Error> {
        let pins = self.sources().join("go.mod");
        let text = std::fs::read_to_string(&pins)
            .map_err(Error::io(format!("read {}", pins.display())))?;
        let found = text.lines().find_map(|line| {
            let (path, rest) = line.trim().split_once(' ')?;
            (path == module).then(|| rest.split(' ').next().unwrap_or_default().to_owned())
        });
        found.ok_or_else(|| Error::NotPinned { module: module.to_owned(), pins })
    }

    /// Where its `main.go` is.
    pub(crate) fn sources(self) -> PathBuf {
        shared().join(self.name())
    }
}

/// Where that is which all versions share.
pub(crate) fn shared() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("chain")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_version_is_built_with_is_what_its_documentation_says() {
        let readme = std::fs::read_to_string(shared().join("README.md")).unwrap();
        for version in [IbcGo::V7, IbcGo::V8, IbcGo::V10, IbcGo::V11] {
            let name = version.name();
            let of = |module: &str| version.built_with(module).unwrap();
            let ibc_go = of(&format!("github.com/cosmos/ibc-go/{name}"));
            let sdk = of("github.com/cosmos/cosmos-sdk");
            let comet = of("github.com/cometbft/cometbft");
            let row = format!("| `{name}` | {ibc_go} | {sdk} | {comet} |");
            assert!(readme.contains(&row), "no {row}");
            assert!(matches!(version.built_with("no.such/module"), Err(Error::NotPinned { .. })));
        }
    }
}
