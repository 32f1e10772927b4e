//! The same tests over every compiled backend.

#![cfg(any(feature = "loopback", feature = "tcp", feature = "quic"))]
#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use network::{
    Bytes, CloseReason, Delivery, Endpoint, Network, Refusal, SendError, accept_all, handler_fn,
};
use network_testkit::{Simple, across};

across! {
    on {
        #[cfg(feature = "loopback")]
        loopback: Simple::new("/local/", |network| {
            network.protocol(network::loopback::Loopback::new())
        });
        #[cfg(feature = "tcp")]
        tcp: Simple::new("/ip4/127.0.0.1/tcp/0/port/", |network| {
            network.protocol(network::tcp::Tcp::new())
        });
        #[cfg(feature = "tls")]
        tls: Simple::new("/ip4/127.0.0.1/tcp/0/tls/port/", |network| {
            let identity = network::tls::Identity::generate().unwrap();
            let tls = network::tls::Tls::new().with_identity(identity);
            network.protocol(network::tcp::Tcp::new().with_tls(tls))
        });
        #[cfg(feature = "quic")]
        quic: Simple::new("/ip4/127.0.0.1/udp/0/quic-v1/port/", |network| {
            let identity = network::tls::Identity::generate().unwrap();
            let tls = network::tls::Tls::new().with_identity(identity);
            network.protocol(network::quic::Quic::new(tls))
        });
    }

    async fn numbers_are_doubled(network: Network, listen: Endpoint) {
        let server = network.bind(&listen).await.unwrap();
        server.listen(accept_all(handler_fn(double))).await.unwrap();
        let client = network.bind(&listen).await.unwrap();
        let connection = client.connect(server.local_endpoint(), ()).await.unwrap();
        assert_eq!(connection.send("21").await.unwrap(), "42");

        let error = connection.send("many").await.unwrap_err();
        assert!(matches!(error, SendError::Refused(_)));
        assert_eq!(error.delivery(), Delivery::Delivered);
    }

    async fn a_revoke_is_no_intended_close(network: Network, listen: Endpoint) {
        let server = network.bind(&listen).await.unwrap();
        server.listen(accept_all(())).await.unwrap();
        let client = network.bind(&listen).await.unwrap();
        let connection = client.connect(server.local_endpoint(), ()).await.unwrap();
        server.revoke().await.unwrap();
        let reason = connection.closed().await;
        assert!(matches!(reason, CloseReason::RemoteRevoked));
        assert!(!reason.is_intended());
    }
}

async fn double(record: Bytes) -> Result<Bytes, Refusal> {
    let number: u64 = std::str::from_utf8(&record)?.parse()?;
    Ok(Bytes::from((2 * number).to_string()))
}
