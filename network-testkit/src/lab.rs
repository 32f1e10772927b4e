//! What a case works with: networks, ports and connections of the backend under test.

use network_core::{
    AnyHandler, Attempts, Connection, ConnectionHandler, Endpoint, Limits, Network, Port, Records,
    accept_all,
};

use crate::{
    fixture::Fixture,
    tools::{limits, within},
    wire::Wire,
};

/// The backend under test.
#[derive(Debug)]
pub(crate) struct Lab {
    fixture: Box<dyn Fixture>,
}

impl Lab {
    pub(crate) fn new(fixture: Box<dyn Fixture>) -> Self {
        Self { fixture }
    }

    pub(crate) async fn network(&self) -> Network {
        self.network_with(limits()).await
    }

    pub(crate) async fn network_with(&self, limits: Limits) -> Network {
        within("a network", self.fixture.network(limits)).await
    }

    pub(crate) fn listen_at(&self) -> Endpoint {
        self.fixture.listen_at()
    }

    pub(crate) fn dial_from(&self) -> Endpoint {
        self.fixture.dial_from()
    }

    pub(crate) fn wire(&self) -> &dyn Wire {
        self.fixture.wire().unwrap()
    }

    /// Binds a port that will listen.
    pub(crate) async fn server(&self, network: &Network) -> Port {
        within("a bind", network.bind(self.listen_at())).await.unwrap()
    }

    /// Binds a port that will connect.
    pub(crate) async fn client(&self, network: &Network) -> Port {
        within("a bind", network.bind(self.dial_from())).await.unwrap()
    }

    /// What to dial to get to a port.
    pub(crate) fn remote(&self, port: &Port) -> Endpoint {
        self.fixture.remote(port.local_endpoint())
    }

    /// What to dial to get to an endpoint.
    pub(crate) fn remote_of(&self, listening: &Endpoint) -> Endpoint {
        self.fixture.remote(listening)
    }

    /// Two networks: one with a port that listens for everybody with a handler, one with a
    /// port to connect from.
    pub(crate) async fn serve(&self, handler: impl ConnectionHandler) -> Served {
        self.serve_with(limits(), handler).await
    }

    pub(crate) async fn serve_with(
        &self,
        limits: Limits,
        handler: impl ConnectionHandler,
    ) -> Served {
        let there = self.network_with(limits.clone()).await;
        let here = self.network_with(limits).await;
        let server = self.server(&there).await;
        within("listen", server.listen(accept_all(handler))).await.unwrap();
        let client = self.client(&here).await;
        let address = self.remote(&server);
        Served { there, here, server, client, address }
    }

    /// A connection between two networks with a handler at each end.
    pub(crate) async fn join(
        &self,
        server: impl Into<AnyHandler>,
        client: impl ConnectionHandler,
    ) -> Joined {
        self.join_with(limits(), server, client).await
    }

    pub(crate) async fn join_with(
        &self,
        limits: Limits,
        server: impl Into<AnyHandler>,
        client: impl ConnectionHandler,
    ) -> Joined {
        self.join_different(limits.clone(), limits, server, client).await
    }

    /// With limits of its own for each side, the listening one first.
    pub(crate) async fn join_different(
        &self,
        server_limits: Limits,
        client_limits: Limits,
        server: impl Into<AnyHandler>,
        client: impl ConnectionHandler,
    ) -> Joined {
        let mut ground = self.ground(server_limits, client_limits).await;
        let connecting = ground.client.connect(ground.address.clone(), client);
        let accepting = async {
            let attempt = ground.attempts.next().await.unwrap();
            attempt.accept(server).await.unwrap()
        };
        let (dialed, accepted) =
            within("a connection", async { tokio::join!(connecting, accepting) }).await;
        Joined { dialed: dialed.unwrap(), accepted, ground }
    }

    /// A connection whose accepted end is pulled from.
    pub(crate) async fn pull(&self, limits: Limits) -> (Joined, Records) {
        self.pull_with(limits, ()).await
    }

    /// A connection whose accepted end is pulled from, with a handler at the dialed one.
    pub(crate) async fn pull_with(
        &self,
        limits: Limits,
        client: impl ConnectionHandler,
    ) -> (Joined, Records) {
        let mut ground = self.ground(limits.clone(), limits).await;
        let connecting = ground.client.connect(ground.address.clone(), client);
        let accepting = async {
            let attempt = ground.attempts.next().await.unwrap();
            attempt.accept_pull().await.unwrap()
        };
        let (dialed, (accepted, records)) =
            within("a connection", async { tokio::join!(connecting, accepting) }).await;
        (Joined { dialed: dialed.unwrap(), accepted, ground }, records)
    }

    /// Two networks, with a port that listens and one to connect from.
    pub(crate) async fn ground(&self, server_limits: Limits, client_limits: Limits) -> Ground {
        let there = self.network_with(server_limits).await;
        let here = self.network_with(client_limits).await;
        let server = self.server(&there).await;
        let attempts = within("listen", server.attempts()).await.unwrap();
        let client = self.client(&here).await;
        let address = self.remote(&server);
        Ground { there, here, server, client, address, attempts }
    }
}

/// A port that listens for everybody, and one to connect from, in two networks.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) there: Network,
    pub(crate) here: Network,
    pub(crate) server: Port,
    pub(crate) client: Port,
    /// What the client dials.
    pub(crate) address: Endpoint,
}

impl Served {
    pub(crate) async fn connect(&self, handler: impl ConnectionHandler) -> Connection {
        let connecting = self.client.connect(self.address.clone(), handler);
        within("a connection", connecting).await.unwrap()
    }
}

/// A port whose attempts are pulled, and one to connect from, in two networks.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) there: Network,
    pub(crate) here: Network,
    pub(crate) server: Port,
    pub(crate) client: Port,
    pub(crate) address: Endpoint,
    pub(crate) attempts: Attempts,
}

/// Both ends of a connection between two networks.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) dialed: Connection,
    pub(crate) accepted: Connection,
    pub(crate) ground: Ground,
}
