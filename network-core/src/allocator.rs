//! Port names by convention.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::{
    error::BindError,
    network::Network,
    port::Port,
    port_name::{PortName, PortNameError},
};

/// Binds ports under the names that chains expect: the original's `PortAllocator`.
///
/// Clones share their counters; a number that was given out is not given out again, also
/// not after a revoke.
#[derive(Clone, Debug)]
pub struct PortAllocator {
    network: Network,
    ica: Arc<AtomicU64>,
    icq: Arc<AtomicU64>,
}

/// Why a port could not be allocated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AllocateError {
    /// The name is not one that a port can have.
    #[error(transparent)]
    Name(#[from] PortNameError),
    /// The port could not be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
}

impl PortAllocator {
    pub(crate) fn new(network: Network) -> Self {
        Self { network, ica: Arc::default(), icq: Arc::default() }
    }

    /// Binds `/ibc-port/custom-NAME`, or a fresh `/ibc-port/…` without a name.
    ///
    /// # Errors
    /// The name is malformed (ICS-024), or cannot be bound.
    pub async fn custom_ibc_port(&self, name: Option<&str>) -> Result<Port, AllocateError> {
        self.custom("/ibc-port/", name).await
    }

    /// Binds the next `/ibc-port/icacontroller-N`, N from 1 (ICS-027).
    ///
    /// # Errors
    /// It cannot be bound.
    pub async fn ica_controller_port(&self) -> Result<Port, AllocateError> {
        self.numbered("icacontroller", &self.ica).await
    }

    /// Binds the next `/ibc-port/icqcontroller-N`, N from 1.
    ///
    /// # Errors
    /// It cannot be bound.
    pub async fn icq_controller_port(&self) -> Result<Port, AllocateError> {
        self.numbered("icqcontroller", &self.icq).await
    }

    /// Binds `/local/custom-NAME`, or a fresh `/local/…` without a name.
    ///
    /// # Errors
    /// The name is malformed, or cannot be bound.
    pub async fn custom_local_port(&self, name: Option<&str>) -> Result<Port, AllocateError> {
        self.custom("/local/", name).await
    }

    async fn custom(&self, under: &str, name: Option<&str>) -> Result<Port, AllocateError> {
        let Some(name) = name else {
            return Ok(self.network.bind(under).await?);
        };
        let name = PortName::parse(name)?;
        Ok(self.network.bind(format!("{under}custom-{name}")).await?)
    }

    async fn numbered(&self, kind: &str, counter: &AtomicU64) -> Result<Port, AllocateError> {
        let number = counter.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(self.network.bind(format!("/ibc-port/{kind}-{number}")).await?)
    }
}
