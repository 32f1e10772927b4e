//! What is to be thought of what a node has answered, where a host may relay nevertheless.

use std::{error::Error as _, time::Duration};

use ibc_proto::ibc::applications::interchain_accounts::host::v1::Params;

use super::{
    must,
    report::{Check, Finding},
};
use crate::{
    chain::{
        ChainError, GasPrice, RpcError, TxSettings, answer::BlockParams, connect::trusting_period,
        query::Versions, rpc::Status,
    },
    client::{SOLO_MACHINE, TENDERMINT},
    height::Timestamp,
    ledger::Trust,
};

/// From how many blocks before the last one a proof is asked for, until one comes.
pub(super) const BACK: [u64; 3] = [1_000, 100, 20];
/// A difference between clocks that is worth a word.
const DRIFT: Duration = Duration::from_secs(10);
/// A host that may be away for less is easily forgotten.
const SHORT_TRUST: Duration = Duration::from_secs(86_400);
/// How much gas an account should be able to pay for: some thousand records.
const ENOUGH_GAS: u128 = 100_000_000;
/// How much gas is needed for the longest thing that is done at once, the opening of a channel.
const LEAST_GAS: u64 = 1_000_000;

/// What a block should have room for: a large record and what makes a block of it.
const LEAST_BYTES: u64 = 100_000;

/// Of how many blocks the node has shown that it can prove things, and of how many it was asked to.
pub(super) struct Provable {
    pub(super) blocks: Option<u64>,
    pub(super) wanted: u64,
}

/// The chain is not as it must be.
pub(super) fn refused(check: Check, error: &ChainError) -> Finding {
    match error {
        ChainError::Rpc(error) => failed(check, error),
        error => told(check, error.to_string()),
    }
}

/// The node does not say what must be known.
pub(super) fn failed(check: Check, error: &RpcError) -> Finding {
    match error {
        RpcError::Url { .. } | RpcError::Status { .. } | RpcError::TooLarge { .. } => {
            told(check, error.to_string())
        }
        RpcError::Unreachable { .. } | RpcError::Tls { .. } => {
            let mut finding = told(check, error.to_string());
            let mut cause = error.source();
            while let Some(deeper) = cause.and_then(|cause| cause.source()) {
                cause = Some(deeper);
            }
            if let Some(cause) = cause {
                finding.found = format!("{} ({cause})", finding.found);
            }
            finding
        }
        // Who says it is the node, in its own words.
        error => Finding::problem(check, error.to_string()),
    }
}

/// Errors say what is wrong, and behind a colon what is to be done.
fn told(check: Check, text: String) -> Finding {
    match text.rsplit_once(": ") {
        Some((found, advice)) => Finding::problem(check, found).advise(advice),
        None => Finding::problem(check, text),
    }
}

/// The node does not say what it would be good to know.
fn unknown(check: Check, error: &RpcError) -> Finding {
    Finding::warning(check, format!("not known: {error}"))
}

pub(super) fn node(status: &Status, url: &str, took: Duration) -> Finding {
    let (version, took) = (&status.version, took.as_millis());
    Finding::good(Check::Node, format!("{url}, CometBFT {version}, answers in {took} ms"))
}

pub(super) fn clock(now: Timestamp, block: Timestamp) -> Finding {
    const CHECK: Check = Check::Clock;
    if block.is_zero() {
        return Finding::warning(CHECK, "the node does not say when the last block was made");
    }
    let most = Trust::default().max_clock_drift;
    let (late, apart) = (now >= block, between(now, block));
    let (found, advice) = if late {
        let advice = "set the clock of this machine, or see why the chain makes no blocks: it \
                      takes no header of a host that is more than 40 s ahead of its time";
        (format!("the last block is {} old", span(apart)), advice)
    } else {
        let advice = "set the clock of this machine: a host takes no header that is more than \
                      40 s ahead of its time";
        (format!("the last block is {} ahead of this machine's clock", span(apart)), advice)
    };
    if apart > most {
        Finding::problem(CHECK, found).advise(advice)
    } else if apart > DRIFT {
        Finding::warning(CHECK, found).advise(advice)
    } else {
        Finding::good(CHECK, found)
    }
}

pub(super) fn services(versions: &Versions) -> Finding {
    let Versions { app, app_version, sdk, .. } = versions;
    let app = format!("{app} {app_version}");
    Finding::good(Check::Services, format!("{}, Cosmos SDK {sdk}", app.trim_end()))
}

pub(super) fn version(found: Option<String>) -> Finding {
    match found {
        Some(found) => Finding::good(Check::Version, found),
        None => Finding::warning(Check::Version, "the chain does not say which ibc-go it has")
            .advise("see that it is v7.8, v8.5, or what came after"),
    }
}

pub(super) fn trust(unbonding: Result<Duration, RpcError>) -> Finding {
    const CHECK: Check = Check::Trust;
    let unbonding = match unbonding {
        Ok(unbonding) => unbonding,
        Err(error) => return failed(CHECK, &error),
    };
    let trust = trusting_period(unbonding);
    if trust.is_zero() {
        return Finding::problem(
            CHECK,
            "validators are held to nothing: the unbonding time is zero",
        );
    }
    let found = format!("a host may be away for {} ({} to unbond)", span(trust), span(unbonding));
    if trust < SHORT_TRUST {
        return Finding::warning(CHECK, found)
            .advise("see that the host is restarted soon whenever it ends: its hop is lost then");
    }
    Finding::good(CHECK, found)
}

pub(super) fn blocks(status: &Status, unbonding: Option<Duration>) -> Finding {
    const CHECK: Check = Check::Blocks;
    if status.earliest <= 1 {
        return Finding::good(CHECK, "the node has all of them");
    }
    let kept = between(status.time, status.earliest_time);
    let found = format!("the node has those of the last {}, from {}", span(kept), status.earliest);
    let wanted = unbonding.map(trusting_period);
    if wanted.is_some_and(|wanted| kept >= wanted) {
        return Finding::good(CHECK, found);
    }
    let wanted =
        wanted.map_or_else(|| "more".to_owned(), |wanted| format!("those of {}", span(wanted)));
    Finding::warning(CHECK, found).advise(format!(
        "a host that was away for longer needs a node that has {wanted} (min-retain-blocks in \
         app.toml)"
    ))
}

pub(super) fn proofs(provable: Result<Provable, RpcError>) -> Finding {
    const CHECK: Check = Check::Proofs;
    match provable {
        Ok(Provable { wanted: 0, .. }) => Finding::good(CHECK, "the chain has just begun"),
        Ok(Provable { blocks: Some(blocks), .. }) => {
            Finding::good(CHECK, format!("of the last {} blocks at least", grouped(blocks.into())))
        }
        Ok(Provable { blocks: None, wanted }) => {
            Finding::warning(CHECK, format!("not even of the last {wanted} blocks")).advise(
                "ask a node that keeps the states of more blocks (pruning in app.toml): much at \
                 once would be proved again and again",
            )
        }
        Err(error) => unknown(CHECK, &error),
    }
}

pub(super) fn index(asked: Result<(), RpcError>) -> Finding {
    const CHECK: Check = Check::Index;
    match asked {
        Ok(()) => Finding::good(CHECK, "transactions can be looked up"),
        Err(error) if error.message().is_some_and(|message| message.contains("disabled")) => {
            Finding::warning(CHECK, "transactions cannot be looked up").advise(
                "ask a node with an index (indexer in config.toml): with this one, what packets \
                 say is lost if the host was away for longer than it has blocks",
            )
        }
        Err(error) => unknown(CHECK, &error),
    }
}

pub(super) fn accounts(params: Result<Option<Params>, RpcError>) -> Finding {
    const CHECK: Check = Check::Accounts;
    let params = match params {
        Ok(Some(params)) => params,
        Ok(None) => return Finding::warning(CHECK, "the chain has no interchain accounts"),
        Err(error) => return unknown(CHECK, &error),
    };
    let allowed = &params.allow_messages;
    match &allowed[..] {
        _ if !params.host_enabled => {
            Finding::warning(CHECK, "the chain has turned interchain accounts off")
        }
        [] => Finding::warning(CHECK, "interchain accounts may do nothing"),
        [all] if all == "*" => Finding::good(CHECK, "interchain accounts may do everything"),
        [one] => Finding::good(CHECK, format!("interchain accounts may do {one}")),
        [one, others @ ..] => {
            let others = others.len();
            Finding::good(CHECK, format!("interchain accounts may do {one} and {others} others"))
        }
    }
}

pub(super) fn clients(chain: &str, allowed: Result<Vec<String>, RpcError>) -> Finding {
    const CHECK: Check = Check::Clients;
    let allowed = match allowed {
        Ok(allowed) => allowed,
        Err(error) => return refused(CHECK, &error.into()),
    };
    match must::take_hosts(chain, &allowed, TENDERMINT) {
        Ok(found) => Finding::good(CHECK, found),
        Err(error) => match must::take_hosts(chain, &allowed, SOLO_MACHINE) {
            Ok(found) => Finding::warning(CHECK, format!("{found} only"))
                .advise("show the host as a solo machine: `HostBuilder::solo_machine`"),
            Err(_) => refused(CHECK, &error),
        },
    }
}

pub(super) fn price(settings: &TxSettings, least: Result<Option<String>, RpcError>) -> Finding {
    const CHECK: Check = Check::Price;
    let (ours, most) = (&settings.gas_price, settings.max_gas_price.as_ref());
    let most = most.filter(|most| most.denom == ours.denom).unwrap_or(ours);
    let paid = match (ours.per_billion, most.per_billion) {
        (0, 0) => "nothing".to_owned(),
        (from, to) if from >= to => ours.to_string(),
        _ => format!("{ours} to {most}"),
    };
    let least = match least {
        Ok(Some(least)) => least,
        Ok(None) => {
            return Finding::warning(CHECK, format!("{paid}; what the node takes is not known"));
        }
        Err(error) => return unknown(CHECK, &error),
    };
    // Any one of them will do (SDK, `CheckTxFeeWithValidatorMinGasPrices`).
    let prices = least.split(',').map(str::trim).filter(|price| !price.is_empty());
    let prices: Option<Vec<_>> = prices.map(GasPrice::at_least).collect();
    let Some(mut prices) = prices else {
        let (what, least) =
            ("what the node wants cannot be read", crate::chain::error::excerpt(&least));
        return Finding::warning(CHECK, format!("{paid}; {what}: {least}"));
    };
    prices.retain(|price| price.per_billion > 0);
    let enough =
        |least: &GasPrice| least.denom == most.denom && most.per_billion >= least.per_billion;
    if prices.is_empty() {
        return Finding::good(CHECK, format!("{paid}; the node wants nothing"));
    }
    let wanted = prices.iter().take(3).map(GasPrice::to_string).collect::<Vec<_>>().join(" or ");
    if prices.iter().any(enough) {
        return Finding::good(CHECK, format!("{paid}; the node wants {wanted}"));
    }
    Finding::problem(CHECK, format!("{paid}, and the node wants {wanted}"))
        .advise(format!("set `TxSettings::gas_price` to {wanted}"))
}

pub(super) fn balance(price: &GasPrice, balance: Result<u128, RpcError>) -> Finding {
    const CHECK: Check = Check::Balance;
    if price.per_billion == 0 {
        return Finding::good(CHECK, "nothing is paid");
    }
    let balance = match balance {
        Ok(balance) => balance,
        Err(error) => return unknown(CHECK, &error),
    };
    let gas = balance.saturating_mul(1_000_000_000) / price.per_billion;
    let (coins, gas_text) = (grouped(balance), grouped(gas / 1_000_000));
    let found = format!("{coins} {}: {gas_text} million units of gas", price.denom);
    let advice = format!("send some {} to the account", price.denom);
    if gas < u128::from(LEAST_GAS) {
        Finding::problem(CHECK, found).advise(advice)
    } else if gas < ENOUGH_GAS {
        Finding::warning(CHECK, found).advise(advice)
    } else {
        Finding::good(CHECK, found)
    }
}

pub(super) fn limits(block: Result<BlockParams, RpcError>) -> Finding {
    const CHECK: Check = Check::Limits;
    let BlockParams { max_bytes, max_gas } = match block {
        Ok(block) => block,
        Err(error) => return unknown(CHECK, &error),
    };
    let (bytes, gas) = (u64::try_from(max_bytes).ok(), u64::try_from(max_gas).ok());
    let most = |most: Option<u64>, unit| match most {
        Some(most) => format!("{} {unit}", grouped(most.into())),
        None => format!("any number of {unit}"),
    };
    let found =
        format!("a block may have {} and {}", most(bytes, "bytes"), most(gas, "units of gas"));
    if bytes.is_some_and(|bytes| bytes < LEAST_BYTES) {
        return Finding::warning(CHECK, found).advise("send small records");
    }
    if gas.is_some_and(|gas| gas < LEAST_GAS) {
        return Finding::warning(CHECK, found).advise("channels may be too much for it");
    }
    Finding::good(CHECK, found)
}

/// The time between two times.
fn between(one: Timestamp, other: Timestamp) -> Duration {
    Duration::from_nanos(one.as_nanos().abs_diff(other.as_nanos()))
}

/// A time as people say it.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", time.as_secs_f32()),
        10..120 => format!("{seconds} s"),
        120..7_200 => format!("{} minutes", seconds / 60),
        7_200..172_800 => format!("{} hours", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A number with commas.
fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::chain::preflight::Level::{self, Good, Problem, Warning};

    const DAY: Duration = Duration::from_secs(86_400);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    fn node_says(message: &str) -> RpcError {
        let (url, message) = ("http://node".to_owned(), message.to_owned());
        RpcError::Node { url, method: "tx", code: -32_603, message }
    }

    #[track_caller]
    fn is(finding: Finding, level: Level, found: &str) {
        assert_eq!(finding.level, level, "{finding:?}");
        assert!(finding.found.contains(found), "{finding:?}");
    }

    #[test]
    fn clocks_that_are_apart_are_seen() {
        is(clock(at(1_000), at(999)), Good, "1.0 s old");
        is(clock(at(1_000), at(985)), Warning, "15 s old");
        is(clock(at(1_000), at(960)), Warning, "40 s old");
        is(clock(at(1_000), at(959)), Problem, "41 s old");
        is(clock(at(1_000), at(1_002)), Good, "2.0 s ahead");
        is(clock(at(1_000), at(1_041)), Problem, "41 s ahead");
        is(clock(at(1_000), Timestamp::ZERO), Warning, "does not say");
    }

    #[test]
    fn what_a_host_may_be_away_for_is_said() {
        is(trust(Ok(DAY * 21)), Good, "away for 14 days (21 days to unbond)");
        is(trust(Ok(DAY)), Warning, "away for 16 hours");
        is(trust(Ok(Duration::ZERO)), Problem, "held to nothing");
        is(trust(Err(node_says("no staking"))), Problem, "no staking");
        let status = |earliest, since| Status {
            chain: "chain-a".to_owned(),
            version: String::new(),
            height: 900_000,
            time: at(100 * 86_400),
            earliest,
            earliest_time: at(since),
            catching_up: false,
        };
        is(blocks(&status(1, 0), None), Good, "all of them");
        is(blocks(&status(7, 86 * 86_400), Some(DAY * 21)), Good, "last 14 days, from 7");
        is(blocks(&status(7, 87 * 86_400), Some(DAY * 21)), Warning, "last 13 days");
        is(blocks(&status(7, 0), None), Warning, "last 100 days");
        let proved = |blocks| proofs(Ok(Provable { blocks, wanted: 20 }));
        is(proved(Some(1_000)), Good, "last 1,000 blocks");
        is(proved(None), Warning, "not even of the last 20 blocks");
        is(proofs(Ok(Provable { blocks: None, wanted: 0 })), Good, "just begun");
        is(proofs(Err(node_says("busy"))), Warning, "busy");
    }

    #[test]
    fn an_index_is_missed() {
        is(index(Ok(())), Good, "can be looked up");
        is(index(Err(node_says("transaction indexing is disabled"))), Warning, "cannot be");
        is(index(Err(node_says("busy"))), Warning, "busy");
    }

    #[test]
    fn what_interchain_accounts_may_do_is_said() {
        let may = |host_enabled, allowed: &[&str]| {
            let allow_messages = allowed.iter().map(|&kind| kind.to_owned()).collect();
            accounts(Ok(Some(Params { host_enabled, allow_messages })))
        };
        is(may(true, &["*"]), Good, "everything");
        is(may(true, &["/a.B"]), Good, "may do /a.B");
        is(may(true, &["/a.B", "/a.C", "/a.D"]), Good, "/a.B and 2 others");
        is(may(true, &[]), Warning, "nothing");
        is(may(false, &["*"]), Warning, "off");
        is(accounts(Ok(None)), Warning, "no interchain accounts");
    }

    #[test]
    fn a_price_is_compared_with_what_the_node_wants() {
        let judged = |ours: &str, least: &str| {
            let (from, to) = ours.split_once('-').unwrap_or((ours, ""));
            let settings = TxSettings {
                gas_price: GasPrice::parse(from).unwrap_or_else(GasPrice::free),
                max_gas_price: GasPrice::parse(to),
                ..TxSettings::default()
            };
            price(&settings, Ok(Some(least.to_owned())))
        };
        // As the SDK writes it, with 18 places.
        is(
            judged("0.5stake", "0.500000000000000000stake"),
            Good,
            "0.5stake; the node wants 0.5stake",
        );
        is(judged("0.499stake", "0.500000000000000000stake"), Problem, "0.499stake, and");
        is(judged("0.5uatom", "0.500000000000000000stake"), Problem, "wants 0.5stake");
        is(judged("", "0.5stake"), Problem, "nothing, and the node wants 0.5stake");
        is(judged("1uatom", "0.5stake,0.1uatom"), Good, "0.5stake or 0.1uatom");
        is(judged("", ""), Good, "the node wants nothing");
        is(judged("0.1stake-1stake", "0.5stake"), Good, "0.1stake to 1stake; the node wants");
        is(judged("0.1stake-0.4stake", "0.5stake"), Problem, "0.1stake to 0.4stake, and the node");
        is(judged("0.1stake-1uatom", "0.5stake,0.5uatom"), Problem, "0.1stake, and the node");
        is(judged("", "0stake"), Good, "the node wants nothing");
        // Rounded up, or the node would find it too little.
        is(judged("1stake", "1.000000000000000001stake"), Problem, "wants 1.000000001stake");
        is(judged("1stake", "much"), Warning, "cannot be read: much");
        is(price(&TxSettings::default(), Ok(None)), Warning, "not known");
    }

    #[test]
    fn a_chain_may_take_hosts_as_one_kind_of_client_only() {
        let judged = |allowed: &[&str]| {
            clients("a-1", Ok(allowed.iter().map(|&kind| kind.to_owned()).collect()))
        };
        is(judged(&["*"]), Good, "07-tendermint");
        is(judged(&["06-solomachine", "07-tendermint"]), Good, "07-tendermint");
        is(judged(&["06-solomachine"]), Warning, "06-solomachine only");
        is(judged(&["08-wasm"]), Problem, "07-tendermint");
    }

    #[test]
    fn a_balance_is_counted_in_gas() {
        let price = GasPrice::parse("0.025stake").unwrap();
        let judged = |coins| balance(&price, Ok(coins));
        is(judged(1_000_000_000_000), Good, "1,000,000,000,000 stake: 40,000,000 million");
        is(judged(2_500_000), Good, "100 million");
        is(judged(2_499_999), Warning, "99 million");
        is(judged(24_999), Problem, "24,999 stake: 0 million");
        is(judged(0), Problem, "0 stake");
        is(judged(u128::MAX), Good, "million units of gas");
        is(balance(&GasPrice::free(), Ok(0)), Good, "nothing is paid");
    }

    #[test]
    fn transactions_fit_into_blocks() {
        let judged = |max_bytes, max_gas| limits(Ok(BlockParams { max_bytes, max_gas }));
        is(judged(22_020_096, -1), Good, "22,020,096 bytes and any number of units of gas");
        is(judged(-1, 40_000_000), Good, "any number of bytes and 40,000,000 units of gas");
        is(judged(200_000, -1), Good, "200,000 bytes");
        is(judged(99_999, -1), Warning, "99,999 bytes");
        is(judged(-1, 500_000), Warning, "500,000 units of gas");
    }

    #[test]
    fn errors_are_told_with_what_to_do() {
        let url = || "http://node".to_owned();
        let refused = |error: ChainError| refused(Check::Chain, &error);
        for error in [
            ChainError::Other { url: url(), found: "a-1".to_owned(), wanted: "b-1".to_owned() },
            ChainError::Behind { url: url(), chain: "a-1".to_owned() },
            ChainError::NoServices { url: url() },
            ChainError::TooOld { chain: "a-1".to_owned(), version: "v7.0.0".to_owned() },
            ChainError::NoAccount { chain: "a-1".to_owned(), address: "me".to_owned() },
            RpcError::Url { url: "x".to_owned() }.into(),
            RpcError::Status { url: url(), method: "status", status: 404 }.into(),
            RpcError::TooLarge { url: url(), method: "status", limit: 7 }.into(),
        ] {
            let text = error.to_string();
            let finding = refused(error);
            assert_eq!(finding.level, Problem);
            let advice = finding.advice.expect(&text);
            assert_eq!(format!("{}: {advice}", finding.found), text);
        }
        let no_hosts = refused(ChainError::NoHosts { chain: "a-1".to_owned(), kind: TENDERMINT });
        assert_eq!((no_hosts.level, no_hosts.advice), (Problem, None));
        let source = Arc::new(std::io::Error::other("refused by the kernel"));
        let finding = refused(RpcError::Unreachable { url: url(), source }.into());
        is(finding.clone(), Problem, "cannot be reached (refused by the kernel)");
        assert!(finding.advice.is_some());
        // What a node says is no advice.
        let finding = refused(node_says("height 7: not there").into());
        assert_eq!(finding.advice, None);
        is(finding, Problem, "height 7: not there");
    }
}
