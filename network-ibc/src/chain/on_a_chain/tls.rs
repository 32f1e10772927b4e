//! A node behind TLS.

use std::{net::Ipv4Addr, sync::Arc};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, crypto::aws_lc_rs::default_provider,
    pki_types::PrivateKeyDer,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::chain::{RpcError, http::Http, socket::Socket};

const TIMEOUT: Duration = Duration::from_secs(5);

#[tokio::test]
#[ignore = "needs Go and builds an ibc-go chain"]
async fn requests_and_the_socket_go_over_tls_to_who_proves_its_name() {
    let node = Node::start();
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let provider = Arc::new(default_provider());
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let behind = node.chain.rpc().trim_start_matches("http://").to_owned();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, behind) = (acceptor.clone(), behind.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let Ok(mut node) = TcpStream::connect(behind).await else { return };
                let _ = copy_bidirectional(&mut stream, &mut node).await;
            });
        }
    });

    let trusting = |roots: RootCertStore| {
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Http::with_tls(&url, TIMEOUT, 1 << 20, config).unwrap()
    };
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let http = trusting(roots);
    let status = Rpc::over(http.clone()).status().await.unwrap();
    assert_eq!(status.chain, "chain-a");
    let told = Socket::open(&http).await.unwrap().height().await.unwrap();
    assert!(told > status.height, "{told}");

    // Nobody vouches for it, so nothing is asked.
    let stranger = trusting(RootCertStore::empty());
    let asked = Rpc::over(stranger.clone()).status().await.map(drop);
    assert!(matches!(asked, Err(RpcError::Unreachable { .. })), "{asked:?}");
    let opened = Socket::open(&stranger).await.map(drop);
    assert!(matches!(opened, Err(RpcError::Unreachable { .. })), "{opened:?}");
    let system = rpc(&url).status().await.map(drop);
    assert!(matches!(system, Err(RpcError::Unreachable { .. })), "{system:?}");
    serving.abort();
}
