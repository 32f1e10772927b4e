//! What a chain must be for a host to relay to it at all, for the preflight and for the connect
//! alike. What is as it must be is told in words.

use crate::chain::{
    ChainError, RpcError,
    query::{Account, Versions},
    rpc::Status,
};

/// It is the chain that was meant.
pub(in crate::chain) fn be_meant(
    url: &str,
    status: &Status,
    wanted: Option<&str>,
) -> Result<String, ChainError> {
    match wanted {
        Some(wanted) if wanted != status.chain => Err(ChainError::Other {
            url: url.to_owned(),
            found: status.chain.clone(),
            wanted: wanted.to_owned(),
        }),
        _ => Ok(status.chain.clone()),
    }
}

/// The node has come to the end of the chain.
pub(in crate::chain) fn be_there(url: &str, status: &Status) -> Result<String, ChainError> {
    if status.catching_up {
        return Err(ChainError::Behind { url: url.to_owned(), chain: status.chain.clone() });
    }
    Ok(format!("at the end of the chain, block {}", status.height))
}

/// The node serves queries of the application: this was the answer to the first one.
pub(in crate::chain) fn serve(
    url: &str,
    versions: Result<Versions, RpcError>,
) -> Result<Versions, ChainError> {
    match versions {
        Err(error) if error.no_service() => Err(ChainError::NoServices { url: url.to_owned() }),
        versions => Ok(versions?),
    }
}

/// The version of ibc-go does not check what a host knows of the chain, as those up to v7.7 and
/// from v8.0 to v8.4 do. `None`: the application does not say which one it has, and is tried.
pub(in crate::chain) fn be_new_enough(
    chain: &str,
    versions: &Versions,
) -> Result<Option<String>, ChainError> {
    let Some(version) = &versions.ibc else { return Ok(None) };
    let mut parts = version.trim_start_matches('v').split('.').map(|part| part.parse::<u32>());
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else { return Ok(None) };
    if major < 7 || (major == 7 && minor < 8) || (major == 8 && minor < 5) {
        return Err(ChainError::TooOld { chain: chain.to_owned(), version: version.clone() });
    }
    Ok(Some(format!("ibc-go {version}")))
}

/// The chain takes clients of the kind that the host is.
pub(in crate::chain) fn take_hosts(
    chain: &str,
    allowed: &[String],
    kind: &'static str,
) -> Result<String, ChainError> {
    if allowed.iter().any(|allowed| allowed == kind || allowed == "*") {
        return Ok(format!("takes clients of the kind {kind}"));
    }
    Err(ChainError::NoHosts { chain: chain.to_owned(), kind })
}

/// The chain knows the account that pays.
pub(in crate::chain) fn know(
    chain: &str,
    address: &str,
    account: Option<Account>,
) -> Result<String, ChainError> {
    match account {
        Some(Account { number, sequence, .. }) => {
            Ok(format!("{address}, number {number}, {sequence} transactions signed"))
        }
        None => Err(ChainError::NoAccount { chain: chain.to_owned(), address: address.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        client::{SOLO_MACHINE, TENDERMINT},
        height::Timestamp,
    };

    #[test]
    fn versions_that_check_a_client_of_themselves_are_known() {
        let asked = |version: Option<&str>| {
            let versions = Versions {
                app: String::new(),
                app_version: String::new(),
                sdk: String::new(),
                ibc: version.map(str::to_owned),
            };
            be_new_enough("chain-a", &versions)
        };
        for version in ["v4.6.0", "v6.3.1", "v7.0.0", "v7.7.0", "v8.0.0", "v8.4.0", "v8.4.0-rc.1"] {
            let asked = asked(Some(version));
            assert!(matches!(asked, Err(ChainError::TooOld { .. })), "{version}");
        }
        for version in ["v7.8.0", "v7.10.0", "v8.5.0", "v8.8.0", "v9.0.0", "v10.7.0", "v11.2.0"] {
            assert_eq!(asked(Some(version)).unwrap(), Some(format!("ibc-go {version}")));
        }
        assert_eq!(asked(None).unwrap(), None);
        assert_eq!(asked(Some("(devel)")).unwrap(), None);
    }

    #[test]
    fn what_is_not_as_it_must_be_is_refused() {
        let mut status = Status {
            chain: "chain-a".to_owned(),
            version: "0.38.17".to_owned(),
            height: 7,
            time: Timestamp::ZERO,
            earliest: 1,
            earliest_time: Timestamp::ZERO,
            catching_up: false,
        };
        assert_eq!(be_meant("u", &status, None).unwrap(), "chain-a");
        assert_eq!(be_meant("u", &status, Some("chain-a")).unwrap(), "chain-a");
        let other = be_meant("u", &status, Some("chain-b"));
        assert!(matches!(other, Err(ChainError::Other { .. })), "{other:?}");
        assert_eq!(be_there("u", &status).unwrap(), "at the end of the chain, block 7");
        status.catching_up = true;
        assert!(matches!(be_there("u", &status), Err(ChainError::Behind { .. })));

        let kinds = |kinds: &[&str]| {
            let kinds: Vec<_> = kinds.iter().map(|&kind| kind.to_owned()).collect();
            [TENDERMINT, SOLO_MACHINE].map(|kind| take_hosts("chain-a", &kinds, kind).is_ok())
        };
        assert_eq!(kinds(&["*"]), [true, true]);
        assert_eq!(kinds(&["08-wasm", "07-tendermint"]), [true, false]);
        assert_eq!(kinds(&["06-solomachine", "08-wasm"]), [false, true]);
        assert_eq!(kinds(&[]), [false, false]);
        assert!(matches!(know("chain-a", "me", None), Err(ChainError::NoAccount { .. })));
        let account = Account { number: 3, sequence: 8, height: 1 };
        assert_eq!(
            know("chain-a", "me", Some(account)).unwrap(),
            "me, number 3, 8 transactions signed"
        );

        let query = |code, log: &str| RpcError::Query {
            url: "u".to_owned(),
            path: "/a.B/C".to_owned(),
            codespace: "sdk".to_owned(),
            code,
            log: log.to_owned(),
        };
        let served = serve("u", Err(query(6, "unknown query path: unknown request")));
        assert!(matches!(served, Err(ChainError::NoServices { .. })));
        let served = serve("u", Err(query(18, "unknown query path")));
        assert!(matches!(served, Err(ChainError::Rpc(_))));
    }
}
