//! How a host begins.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
};

use super::{
    Handle, Host, Shared,
    actor::Actor,
    backend::Ports,
    error::HostError,
    face::Face,
    module::{Module, Modules},
};
use crate::{
    EngineError, LedgerKey, SoloKey,
    client::Clients,
    engine::Engine,
    identifier::PortId,
    ledger::{Ledger, Trust},
};

/// How many blocks proofs can be made of.
const KEPT_BLOCKS: usize = 64;

/// What a host is made of; made by [`Host::builder`].
#[must_use = "it makes a host when it is told where its ledger is to be"]
pub struct HostBuilder {
    chain: String,
    modules: Modules,
    face: Face,
}

impl fmt::Debug for HostBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostBuilder")
            .field("chain", &self.chain)
            .field("modules", &self.modules)
            .field("face", &self.face)
            .finish()
    }
}

impl HostBuilder {
    pub(super) fn new(chain: &str) -> Self {
        Self { chain: chain.to_owned(), modules: Modules::default(), face: Face::default() }
    }

    /// Has a module at a port, which nobody can bind then. Name the same ones whenever a ledger is
    /// opened again: the channels of ports without a module are closed then.
    ///
    /// # Errors
    /// The name is none of a port, or is taken.
    pub fn module(mut self, port: &str, module: impl Module) -> Result<Self, HostError> {
        let name = PortId::new(port)?;
        if !name.is_ics24() {
            return Err(EngineError::invalid("name of a port", port).into());
        }
        if self.modules.has(&name) {
            return Err(HostError::PortTaken { port: port.to_owned() });
        }
        self.modules.insert(name, Box::new(module));
        Ok(self)
    }

    /// Has the host show itself to others as a solo machine (ICS-006): it signs each claim with
    /// this key, and has no headers and no proofs from a tree. Without this it is a chain with one
    /// validator (ICS-007). Others may be either, whatever this one is.
    ///
    /// Every chain can check a signature, and one message costs less this way; many at once cost
    /// more, as each has a signature of its own, and one batch waits for the other.
    pub fn solo_machine(mut self, key: SoloKey) -> Self {
        self.face = Face::Solo(Arc::new(key));
        self
    }

    /// A host that ends with this process, with a key of its own.
    ///
    /// # Errors
    /// The id is none that a chain can have.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn in_memory(self) -> Result<Host, HostError> {
        let key = Arc::new(LedgerKey::generate()?);
        let mut ledger = Ledger::in_memory(key.clone(), &self.chain, KEPT_BLOCKS)?;
        self.face.claim(&mut ledger)?;
        Ok(self.over(ledger, key))
    }

    /// A host whose ledger is in a folder: a new one, or the one that is there, with its hops, its
    /// modules and their channels, and all that was to be relayed. Channels of ports that were
    /// bound are closed: whoever handled their records has ended.
    ///
    /// # Errors
    /// The folder cannot be used, is in use, or is of another host or one that shows itself as
    /// something else.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    #[cfg(feature = "durable")]
    pub fn open(
        self,
        path: impl AsRef<std::path::Path>,
        key: LedgerKey,
    ) -> Result<Host, HostError> {
        let key = Arc::new(key);
        let mut ledger = Ledger::open(path.as_ref(), key.clone(), &self.chain, KEPT_BLOCKS)?;
        self.face.claim(&mut ledger)?;
        Ok(self.over(ledger, key))
    }

    pub(super) fn over(self, ledger: Ledger, key: Arc<LedgerKey>) -> Host {
        let ports = Ports::new(self.modules.ports().cloned().collect());
        let shared = Arc::new(Shared {
            chain: ledger.chain().to_owned(),
            key,
            inbox: Arc::default(),
            hops: Arc::default(),
            ports: Arc::new(ports),
            ways: Mutex::default(),
            others: Mutex::default(),
            #[cfg(feature = "chain")]
            kind: self.face.kind(),
        });
        let actor = Actor {
            ledger,
            engine: Engine::new(Clients::default()),
            inbox: shared.inbox.clone(),
            hops: shared.hops.clone(),
            ports: shared.ports.clone(),
            trust: Trust::default(),
            face: self.face,
            channels: HashMap::new(),
            peers: HashMap::new(),
            waiting_open: Vec::new(),
            asked: HashMap::new(),
            waiting: Vec::new(),
            modules: self.modules,
            module_openings: HashMap::new(),
            done: HashMap::new(),
            after: Vec::new(),
        };
        tokio::spawn(actor.run());
        Host(Arc::new(Handle(shared)))
    }
}
