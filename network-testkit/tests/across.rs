//! One test body over several backends.

use network_core::{
    Bytes, ConnectError, Endpoint, Limits, Network, Rejection, accept_all, handler_fn,
};
use network_loopback::Loopback;
use network_tcp::Tcp;
use network_testkit::{Simple, skips};

fn loopback() -> Simple {
    let loopback = Loopback::new();
    Simple::new("/local/", move |network| network.protocol(loopback.clone()))
}

fn tcp() -> Simple {
    Simple::new("/ip4/127.0.0.1/tcp/0/port/", |network| network.protocol(Tcp::new()))
}

network_testkit::across! {
    on {
        loopback: loopback();
        tcp: tcp();
        #[cfg(any())]
        absent: compile_error!("a backend that is not compiled");
    }

    async fn echo(network: Network, listen: Endpoint) {
        let server = network.bind(listen.clone()).await.unwrap();
        server.listen(accept_all(handler_fn(|record: Bytes| async move { Ok(record) }))).await.unwrap();
        let client = network.bind(listen).await.unwrap();
        let connection = client.connect(server.local_endpoint(), ()).await.unwrap();
        assert_eq!(connection.send("hello").await.unwrap(), "hello");
    }

    /// A body may return a result.
    async fn nobody_there(network: Network, listen: Endpoint) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let server = network.bind(listen.clone()).await?;
        let client = network.bind(listen).await?;
        match client.connect(server.local_endpoint(), ()).await {
            Err(ConnectError::Rejected { reason: Rejection::NotListening, .. }) => Ok(()),
            Err(ConnectError::Unreachable { .. }) => Ok(()),
            other => Err(format!("{other:?}").into()),
        }
    }

    #[should_panic]
    async fn attributes_are_kept(network: Network, _: Endpoint) {
        assert_eq!(network.limits(), &Limits::default());
        panic!("and a body that fails fails its test");
    }
}

/// What each backend may skip is held in place here, so that no skip goes unnoticed.
#[test]
fn what_is_skipped_is_known() {
    let of = |skips: Vec<network_testkit::Skip>| -> Vec<&str> {
        let mut names: Vec<_> = skips.iter().map(|skip| skip.case).collect();
        let wire = ["openings::", "hostile::", "impostor::"];
        names.retain(|name| !wire.iter().any(|group| name.starts_with(group)));
        names
    };
    assert_eq!(
        of(skips(loopback())),
        [
            "naming::ports_share_a_socket_by_the_rest_of_their_names",
            "naming::the_allocator_names_ibc_ports",
            "accepting::too_many_handshakes_are_turned_away",
            "deadlines::that_are_proved_say_not_delivered",
        ]
    );
    assert_eq!(
        of(skips(tcp())),
        [
            "naming::the_allocator_names_local_ports",
            "naming::the_allocator_names_ibc_ports",
            "deadlines::that_are_proved_say_not_delivered",
        ]
    );
    let wired = skips(tcp().with_wire(network_testkit::TcpWire));
    assert!(!wired.iter().any(|skip| skip.case.starts_with("hostile::")));
}
