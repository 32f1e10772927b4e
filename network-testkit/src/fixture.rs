//! What the suite needs to know of a backend.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use network_core::{Endpoint, Limits, Network, NetworkBuilder};

use crate::wire::Wire;

/// How to make networks of a backend, and addresses for them.
///
/// The suite makes a new fixture for each case, and with it as many networks as the case
/// has programs. All networks of one fixture can reach each other.
#[async_trait]
pub trait Fixture: fmt::Debug + Send + Sync + 'static {
    /// A network of its own with the backend registered, as another program has it.
    async fn network(&self, limits: Limits) -> Network;

    /// What to bind for a port that will listen: asks for a fresh name, so that cases that
    /// run at the same time keep out of each other's way.
    ///
    /// The name that comes back can be bound again once it was revoked. If the backend has
    /// [`prefix_listening`](network_core::Capabilities::prefix_listening), names may be made
    /// longer: characters can be added to it, and components behind it.
    fn listen_at(&self) -> Endpoint;

    /// What to bind for a port that only connects. Asks for a fresh name as well.
    fn dial_from(&self) -> Endpoint {
        self.listen_at()
    }

    /// What another network dials to get to a listening port. The same, unless an address
    /// means different things at different places.
    fn remote(&self, listening: &Endpoint) -> Endpoint {
        listening.clone()
    }

    /// Whether a name that one network has given up can be bound by another.
    fn names_move(&self) -> bool {
        true
    }

    /// Raw access to the transport below, if there is a wire with the common frames.
    fn wire(&self) -> Option<&dyn Wire> {
        None
    }
}

/// A fixture for backends that need nothing but to be registered.
pub struct Simple {
    register: Box<dyn Fn(NetworkBuilder) -> NetworkBuilder + Send + Sync>,
    listen_at: Endpoint,
    dial_from: Endpoint,
    wire: Option<Box<dyn Wire>>,
    handshake_time: Duration,
}

impl Simple {
    /// `address` is where ports are bound, one that asks for a fresh name: `/local/`.
    /// `register` adds the backend to a network to be.
    ///
    /// # Panics
    /// If the address does not parse.
    pub fn new(
        address: &str,
        register: impl Fn(NetworkBuilder) -> NetworkBuilder + Send + Sync + 'static,
    ) -> Self {
        let listen_at = Endpoint::parse(address).unwrap();
        let dial_from = listen_at.clone();
        Self {
            register: Box::new(register),
            listen_at,
            dial_from,
            wire: None,
            handshake_time: Duration::MAX,
        }
    }

    /// Where ports that only connect are bound, if that is elsewhere.
    ///
    /// # Panics
    /// If the address does not parse.
    #[must_use]
    pub fn dialing_from(mut self, address: &str) -> Self {
        self.dial_from = Endpoint::parse(address).unwrap();
        self
    }

    /// Has every network give up a handshake after this time, if it would take longer: for
    /// transports on which nobody says that nobody is there.
    #[must_use]
    pub fn with_handshake_time(mut self, time: Duration) -> Self {
        self.handshake_time = time;
        self
    }

    /// Gives raw access to the transport, for the cases with hostile peers.
    #[must_use]
    pub fn with_wire(mut self, wire: impl Wire) -> Self {
        self.wire = Some(Box::new(wire));
        self
    }
}

#[async_trait]
impl Fixture for Simple {
    async fn network(&self, limits: Limits) -> Network {
        let within = limits.handshake_time.min(self.handshake_time);
        let limits = limits.with_handshake_time(within);
        (self.register)(Network::builder().limits(limits)).build().unwrap()
    }

    fn listen_at(&self) -> Endpoint {
        self.listen_at.clone()
    }

    fn dial_from(&self) -> Endpoint {
        self.dial_from.clone()
    }

    fn wire(&self) -> Option<&dyn Wire> {
        self.wire.as_deref()
    }
}

impl fmt::Debug for Simple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simple")
            .field("listen_at", &self.listen_at)
            .field("dial_from", &self.dial_from)
            .finish_non_exhaustive()
    }
}
