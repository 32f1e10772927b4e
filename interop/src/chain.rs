//! A chain that runs.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tempfile::TempDir;

use crate::{
    Error,
    build::{run, simd},
};

/// The words of the accounts that a chain begins with, at the paths `m/44'/118'/0'/0/0` to
/// `m/44'/118'/0'/0/9`. Each has 10^12 `stake`.
pub const MNEMONIC: &str = "test test test test test test test test test test test junk";

/// How long the first block may take: a machine may have much else to do.
const FIRST_BLOCK: Duration = Duration::from_secs(60);
/// How long a chain may take to end when it is asked to.
const END: Duration = Duration::from_secs(10);
/// How often a chain is started when another program was faster to take its TCP port.
const TRIES: u32 = 3;

/// What a chain is like.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its id.
    pub chain_id: String,
    /// How long it waits between two blocks.
    pub block_time: Duration,
    /// The lowest price of gas that it takes, such as `0.5stake`.
    pub gas_price: String,
    /// Whether a transaction can be asked for by its hash.
    pub index: bool,
    /// How many validators it has besides the one that runs, each with a thousandth of its power.
    /// After some 20 blocks they lose their place for their silence, one with each block.
    pub silent: u32,
    /// How many blocks its node keeps, with the states after them. All of them if it is 0.
    pub keep: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            chain_id: "chain-a".to_owned(),
            block_time: Duration::from_millis(200),
            gas_price: "0stake".to_owned(),
            index: true,
            silent: 0,
            keep: 0,
        }
    }
}

/// A chain with one validator, which runs until this is dropped.
///
/// It listens on loopback alone. Its calls block the thread.
#[derive(Debug)]
pub struct Chain {
    settings: Settings,
    simd: PathBuf,
    home: TempDir,
    rpc: SocketAddr,
    process: Option<Child>,
}

impl Chain {
    /// Starts a chain and waits for its first block. Builds `simd` if need be.
    ///
    /// # Errors
    /// It cannot be built, or makes no block.
    pub fn start(settings: Settings) -> Result<Self, Error> {
        let simd = simd()?;
        let mut tries = 1;
        loop {
            match Self::try_start(&simd, &settings) {
                Err(error) if tries == TRIES => return Err(error),
                Err(_) => tries += 1,
                Ok(chain) => return Ok(chain),
            }
        }
    }

    fn try_start(simd: &PathBuf, settings: &Settings) -> Result<Self, Error> {
        let home = tempfile::Builder::new()
            .prefix("network-chain-")
            .tempdir()
            .map_err(Error::io("make the home of a chain"))?;
        let rpc = free_address().map_err(Error::io("find a free TCP port"))?;
        let (chain, price) = (&settings.chain_id, &settings.gas_price);
        run(Command::new(simd).arg("home").arg("--home").arg(home.path()).args([
            &format!("--chain-id={chain}"),
            &format!("--rpc={rpc}"),
            &format!("--block-time={}ms", settings.block_time.as_millis()),
            &format!("--gas-price={price}"),
            &format!("--index={}", settings.index),
            &format!("--silent={}", settings.silent),
            &format!("--keep={}", settings.keep),
        ]))?;
        let settings = settings.clone();
        let mut chain = Self { settings, simd: simd.clone(), home, rpc, process: None };
        chain.run()?;
        Ok(chain)
    }

    /// The chain's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.settings.chain_id
    }

    /// The URL of its RPC.
    #[must_use]
    pub fn rpc(&self) -> String {
        format!("http://{}", self.rpc)
    }

    /// The height of its last block, as it says itself.
    #[must_use]
    pub fn height(&self) -> Option<u64> {
        let status = get(self.rpc, "/status").ok()?;
        let (_, rest) = status.split_once("\"latest_block_height\":\"")?;
        rest.split_once('"')?.0.parse().ok()
    }

    /// Stops all of it between two instructions, as a machine that is suspended does.
    ///
    /// # Errors
    /// It does not run.
    pub fn pause(&self) -> Result<(), Error> {
        let pid = self.signal(Signal::STOP)?;
        // Its threads stop a little later than they are told to.
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let until = Instant::now() + END;
        loop {
            match waitid(WaitId::Pid(pid), options) {
                Ok(Some(_)) => return Ok(()),
                Ok(None) if Instant::now() < until => sleep(Duration::from_millis(1)),
                Ok(None) => {
                    let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
                    return Err(Error::io("pause simd")(late));
                }
                Err(errno) => return Err(Error::io("pause simd")(errno.into())),
            }
        }
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It does not run.
    pub fn resume(&self) -> Result<(), Error> {
        self.signal(Signal::CONT).map(drop)
    }

    /// Asks the process to end, and waits until it has.
    ///
    /// # Errors
    /// It does not run.
    pub fn stop(&mut self) -> Result<(), Error> {
        self.signal(Signal::TERM)?;
        let Some(mut process) = self.process.take() else { return Ok(()) };
        let until = Instant::now() + END;
        while process.try_wait().map_err(Error::io("wait for simd"))?.is_none() {
            if Instant::now() > until {
                process.kill().map_err(Error::io("end simd"))?;
            }
            sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Runs it again after [`stop`](Self::stop), at the same address, and waits for a block.
    ///
    /// # Errors
    /// It makes no block.
    pub fn run(&mut self) -> Result<(), Error> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .and_then(|file| Ok((file.try_clone()?, file)))
            .map_err(Error::io("open the log of simd"))?;
        let process = Command::new(&self.simd)
            .args(["start", "--until-stdin-ends", "--home"])
            .arg(self.home.path())
            // It ends with this process, however that ends.
            .stdin(Stdio::piped())
            .stdout(log.0)
            .stderr(log.1)
            .spawn()
            .map_err(Error::io("start simd"))?;
        self.process = Some(process);

        let until = Instant::now() + FIRST_BLOCK;
        // Of the first block nothing can be proved.
        while self.height().is_none_or(|height| height < 2) {
            let process = self.process.as_mut();
            let ended = process.map(|process| process.try_wait()).transpose();
            let ended = ended.map_err(Error::io("wait for simd"))?.flatten();
            if let Some(status) = ended {
                self.process = None;
                let command = "simd start".to_owned();
                return Err(Error::Command { command, status, output: self.log() });
            }
            if Instant::now() > until {
                return Err(Error::NoBlock { seconds: FIRST_BLOCK.as_secs(), log: self.log() });
            }
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The end of what the chain wrote.
    #[must_use]
    pub fn log(&self) -> String {
        let text = fs::read(self.log_path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let from = text.len().saturating_sub(4_000);
        text.char_indices().find(|(at, _)| *at >= from).map_or("", |(at, _)| &text[at..]).to_owned()
    }

    fn log_path(&self) -> PathBuf {
        self.home.path().join("simd.log")
    }

    fn signal(&self, signal: Signal) -> Result<Pid, Error> {
        let Some(process) = &self.process else {
            let ended = std::io::Error::other("it was stopped");
            return Err(Error::io("signal simd")(ended));
        };
        let pid = Pid::from_child(process);
        let signalled = kill_process(pid, signal);
        signalled.map(|()| pid).map_err(|errno| Error::io("signal simd")(errno.into()))
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Its home goes too, so there is nothing that it could leave in disorder.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// A request that needs no more than what a chain on this machine does.
fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(1 << 20).read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHY: Duration = Duration::from_secs(20);

    fn grows_above(chain: &Chain, height: u64) -> bool {
        let until = Instant::now() + WHY;
        while chain.height().is_none_or(|now| now <= height) {
            if Instant::now() > until {
                return false;
            }
            sleep(Duration::from_millis(50));
        }
        true
    }

    #[test]
    #[ignore = "needs Go and builds an ibc-go chain"]
    fn a_chain_is_paused_stopped_and_run_again_on_a_chain() {
        let mut chain = Chain::start(Settings::default()).unwrap();
        let (home, pid) = (chain.home.path().to_owned(), chain.process.as_ref().unwrap().id());

        chain.pause().unwrap();
        assert_eq!(chain.height(), None, "a paused chain answers");
        chain.resume().unwrap();
        let height = chain.height().unwrap();
        assert!(grows_above(&chain, height));

        chain.stop().unwrap();
        assert_eq!(chain.height(), None);
        assert!(chain.pause().is_err(), "there is nothing to pause");
        chain.run().unwrap();
        assert!(grows_above(&chain, height), "it has forgotten its blocks");

        let again = chain.process.as_ref().unwrap().id();
        drop(chain);
        assert!(!home.exists());
        for pid in [pid, again] {
            let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
            assert!(rustix::process::test_kill_process(pid).is_err(), "simd still runs");
        }
    }

    #[test]
    #[ignore = "needs Go and builds an ibc-go chain"]
    fn it_ends_with_the_program_that_started_it_on_a_chain() {
        let mut chain = Chain::start(Settings::default()).unwrap();
        // As the system does with what a program held that was killed.
        drop(chain.process.as_mut().unwrap().stdin.take());
        let until = Instant::now() + WHY;
        while chain.process.as_mut().unwrap().try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "it outlives the program");
            sleep(Duration::from_millis(10));
        }
    }
}
