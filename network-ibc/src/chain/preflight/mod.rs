//! Finding out about a chain before anything is made there.
//!
//! ```no_run
//! use network_ibc::{ChainConfig, ChainKey, preflight, preflight::Level};
//!
//! # async fn look() -> Result<(), Box<dyn std::error::Error>> {
//! let key = ChainKey::from_file("relayer.key".as_ref())?;
//! let report = preflight(&ChainConfig::new("https://rpc.example.org:443", key)).await;
//! println!("{report}");
//! for finding in report.findings.iter().filter(|finding| finding.level == Level::Problem) {
//!     eprintln!("{}: {}", finding.check, finding.found);
//! }
//! # Ok(())
//! # }
//! ```

mod judge;
pub(super) mod must;
mod report;

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use futures_util::{FutureExt as _, join};
pub use report::{Check, Finding, Level, Report};

use super::{
    ChainConfig, ChainError, RpcError,
    rpc::{Rpc, Status},
};
use crate::height::Timestamp;

/// A key of every chain's IBC store: what is asked for is the proof.
const SOME_KEY: &str = "nextClientSequence";

/// Finds out whether a host can relay to a chain, and how well: asks the node for all that
/// [`Host::connect_chain`](crate::Host::connect_chain) asks for, and for what shows only later.
/// Nothing is changed on the chain, and nothing is paid.
///
/// It goes on after a problem where it can, so that one report has them all. It takes no longer
/// than a few answers of the node, each within
/// [`RpcSettings::timeout`](crate::RpcSettings::timeout).
pub async fn preflight(config: &ChainConfig) -> Report {
    let began = Instant::now();
    let asked = async {
        let rpc = Rpc::new(&config.url, &config.rpc)?;
        let status = rpc.status().await?;
        Ok::<_, RpcError>((rpc, status))
    };
    let (rpc, status) = match asked.await {
        Ok(answered) => answered,
        // There is nobody to ask.
        Err(error) => return Report { findings: vec![judge::failed(Check::Node, &error)] },
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = Timestamp::ZERO.saturating_add(now);
    let mut findings = vec![
        judge::node(&status, rpc.http().url(), began.elapsed()),
        must(Check::Chain, must::be_meant(rpc.http().url(), &status, config.id.as_deref())),
        must(Check::Sync, must::be_there(rpc.http().url(), &status)),
        judge::clock(now, status.time),
    ];
    // Boxed: the futures hold what the node answers.
    let (made_of, clients, history, index, accounts, payer, limits) = join!(
        made_of(&rpc, &status.chain).boxed(),
        clients(&rpc, &status.chain).boxed(),
        history(&rpc, &status).boxed(),
        rpc.tx(&[0; 32]).boxed(),
        rpc.ica_host().boxed(),
        payer(&rpc, config, &status.chain).boxed(),
        limits(&rpc).boxed(),
    );
    findings.extend(made_of);
    findings.push(clients);
    findings.extend(history);
    findings.push(judge::index(index.map(drop)));
    findings.push(judge::accounts(accounts));
    findings.extend(payer);
    findings.push(limits);
    Report { findings }
}

fn must(check: Check, judged: Result<String, ChainError>) -> Finding {
    match judged {
        Ok(found) => Finding::good(check, found),
        Err(error) => judge::refused(check, &error),
    }
}

async fn made_of(rpc: &Rpc, chain: &str) -> Vec<Finding> {
    match must::serve(rpc.http().url(), rpc.versions().await) {
        Ok(versions) => {
            let served = judge::services(&versions);
            let version = match must::be_new_enough(chain, &versions) {
                Ok(found) => judge::version(found),
                Err(error) => judge::refused(Check::Version, &error),
            };
            vec![served, version]
        }
        Err(error) => vec![judge::refused(Check::Services, &error)],
    }
}

async fn clients(rpc: &Rpc, chain: &str) -> Finding {
    judge::clients(chain, rpc.allowed_clients().await)
}

async fn history(rpc: &Rpc, status: &Status) -> [Finding; 3] {
    let unbonding = rpc.unbonding_time().await;
    let blocks = judge::blocks(status, unbonding.as_ref().ok().copied());
    [judge::trust(unbonding), blocks, judge::proofs(provable(rpc, status.height).await)]
}

/// Of how many blocks the node can prove things at least, or of how many it cannot.
async fn provable(rpc: &Rpc, height: u64) -> Result<judge::Provable, RpcError> {
    // A node tells of a block before its application has executed it.
    let last = height.saturating_sub(1);
    let mut wanted = 0;
    for back in judge::BACK {
        // Nothing can be proved of the first block.
        wanted = back.min(last.saturating_sub(2));
        if wanted == 0 {
            break;
        }
        match rpc.prove(SOME_KEY, Some(last - wanted)).await {
            Ok(_) => return Ok(judge::Provable { blocks: Some(wanted), wanted }),
            // It says no.
            Err(RpcError::Node { .. } | RpcError::Query { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(judge::Provable { blocks: None, wanted })
}

async fn payer(rpc: &Rpc, config: &ChainConfig, chain: &str) -> [Finding; 3] {
    let address = config.key.address();
    let (settings, price) = (&config.tx, &config.tx.gas_price);
    let account = async { must::know(chain, &address, rpc.account(&address).await?) };
    let (account, least, balance) = join!(
        account.boxed(),
        rpc.least_price().boxed(),
        async {
            if price.denom.is_empty() { Ok(0) } else { rpc.balance(&address, &price.denom).await }
        }
        .boxed(),
    );
    [must(Check::Account, account), judge::price(settings, least), judge::balance(price, balance)]
}

async fn limits(rpc: &Rpc) -> Finding {
    judge::limits(rpc.consensus_params().await.map(|params| params.block))
}
