//! The TCP backend against the conformance suite, over TLS with peer ids.

#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::{io, net::Ipv4Addr};

use async_trait::async_trait;
use network_core::Endpoint;
use network_tcp::Tcp;
use network_testkit::{Impostor, RawStream, Simple, Wire};
use network_tls::{Identity, Tls};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, rustls::pki_types::ServerName};

network_testkit::conformance!(fixture());

/// All networks of a fixture have one identity: a name has it in it, and can be bound by
/// whoever has it.
fn fixture() -> Simple {
    let tls = tls();
    Simple::new("/ip4/127.0.0.1/tcp/0/tls/port/", move |network| {
        network.protocol(Tcp::new().with_tls(tls.clone()))
    })
    .with_wire(TlsWire)
}

/// With an identity of its own.
fn tls() -> Tls {
    Tls::new().with_identity(Identity::generate().unwrap())
}

/// TLS streams, to and from peers that prove who they are and break what comes after that.
#[derive(Debug)]
struct TlsWire;

#[async_trait]
impl Wire for TlsWire {
    async fn dial(&self, listening: &Endpoint) -> io::Result<Box<dyn RawStream>> {
        let port = listening.value_of("tcp").unwrap().parse::<u16>().unwrap();
        let peer = listening.value_of("p2p").unwrap().parse().unwrap();
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(tls().client_for_peer(&peer).unwrap());
        let name = ServerName::from(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST));
        Ok(Box::new(connector.connect(name, stream).await?))
    }

    fn path(&self, listening: &Endpoint) -> String {
        let text = listening.as_str();
        text.find("/port/").map_or_else(String::new, |at| text[at..].to_owned())
    }

    async fn impostor(&self) -> io::Result<Impostor> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (port, tls) = (listener.local_addr()?.port(), tls());
        let peer = tls.identity().unwrap().peer_id();
        let endpoint = format!("/ip4/127.0.0.1/tcp/{port}/tls/p2p/{peer}/port/impostor");
        let endpoint = Endpoint::parse(&endpoint).map_err(io::Error::other)?;
        let (come, victims) = mpsc::channel::<Box<dyn RawStream>>(16);
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(tls.server_for_peers().unwrap());
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                if come.send(Box::new(stream)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Impostor { endpoint, victims })
    }
}
