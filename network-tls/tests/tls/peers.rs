//! Both sides are known by their peer ids.

use std::sync::Arc;

use network_tls::{TlsError, peer_of};
use rustls::{
    CertificateError, ClientConfig, NamedGroup, RootCertStore, ServerConfig,
    crypto::aws_lc_rs::default_provider, version::TLS12,
};

use super::{Seen, authority::Signed, node, rustls_error, shake, try_shake};

#[tokio::test]
async fn both_sides_learn_who_the_other_is() {
    for _ in 0..3 {
        let ((client, dialer), (server, listener)) = (node(), node());
        let client = client.client_for_peer(&listener).unwrap();
        let both = shake(&client, &server.server_for_peers().unwrap(), "127.0.0.1").await;
        let seen = |peer| Seen {
            peer: Some(peer),
            resumed: false,
            group: Some(NamedGroup::X25519MLKEM768),
            alpn: Some("network/1".to_owned()),
        };
        assert_eq!(both.client_sees(), seen(listener));
        assert_eq!(both.server_sees(), seen(dialer));
    }
}

#[tokio::test]
async fn another_peer_than_the_dialed_one_is_named_and_refused() {
    let ((client, dialer), (server, listener), (_, other)) = (node(), node(), node());
    let client = client.client_for_peer(&other).unwrap();
    let server = server.server_for_peers().unwrap();
    let (client, server) = try_shake(&client, &server, "127.0.0.1").await;
    let error = client.unwrap_err();
    let Some(TlsError::WrongPeer { expected, found }) = TlsError::of(&error) else {
        panic!("{error:?}")
    };
    assert_eq!((*expected, *found), (other, listener));
    assert!(matches!(TlsError::of(rustls_error(&error)), Some(TlsError::WrongPeer { .. })));
    let text = TlsError::of(&error).unwrap().to_string();
    assert!(text.contains(&other.to_string()) && text.contains(&listener.to_string()), "{text}");
    assert!(!text.contains(&dialer.to_string()), "{text}");
    assert!(server.is_err());
}

#[tokio::test]
async fn who_has_no_certificate_is_no_peer() {
    let (server, _) = node();
    let anonymous = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(super::unproven::Anyone))
        .with_no_client_auth();
    let server = server.server_for_peers().unwrap();
    let (client, server) = try_shake(&Arc::new(anonymous), &server, "127.0.0.1").await;
    assert!(client.is_err());
    let error = server.unwrap_err();
    assert_eq!(rustls_error(&error), &rustls::Error::NoCertificatesPresented);
}

#[tokio::test]
async fn a_server_with_an_ordinary_certificate_is_no_peer() {
    let ((client, _), (_, other)) = (node(), node());
    let server = Signed::by_itself("localhost").server().server_for_name().unwrap();
    let client = client.client_for_peer(&other).unwrap();
    let error = try_shake(&client, &server, "localhost").await.0.unwrap_err();
    assert!(matches!(TlsError::of(&error), Some(TlsError::Unverifiable { .. })), "{error:?}");
}

#[tokio::test]
async fn without_tls_1_3_nobody_is_dialed() {
    let ((client, _), (_, other)) = (node(), node());
    let signed = Signed::by_itself("localhost");
    let server = old_server(&signed);
    let clients = [
        client.client_for_peer(&other).unwrap(),
        client.with_roots(roots_of(&signed)).client_for_name().unwrap(),
    ];
    for client in clients {
        let (client, server) = try_shake(&client, &server, "localhost").await;
        let error = client.unwrap_err();
        assert!(TlsError::of(&error).is_none(), "{error:?}");
        let error = server.unwrap_err();
        let rustls::Error::PeerIncompatible(_) = rustls_error(&error) else { panic!("{error:?}") };
    }
}

#[tokio::test]
async fn without_tls_1_3_nobody_dials() {
    let signed = Signed::by_itself("localhost");
    let old = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_root_certificates(roots_of(&signed))
        .with_no_client_auth();
    let (old, (peers, _)) = (Arc::new(old), node());
    let names = signed.server().server_for_name().unwrap();
    for server in [peers.server_for_peers().unwrap(), names] {
        let (client, server) = try_shake(&old, &server, "localhost").await;
        assert!(client.is_err());
        let error = server.unwrap_err();
        let rustls::Error::PeerIncompatible(_) = rustls_error(&error) else { panic!("{error:?}") };
    }
}

fn roots_of(signed: &Signed) -> RootCertStore {
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(signed.chain.as_bytes()).unwrap()).unwrap();
    roots
}

fn old_server(signed: &Signed) -> Arc<ServerConfig> {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(signed.chain.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(signed.key.as_bytes()).unwrap(),
        );
    Arc::new(config.unwrap())
}

#[tokio::test]
async fn a_resumed_connection_knows_both_peers() {
    let ((client, dialer), (server, listener)) = (node(), node());
    let server = server.server_for_peers().unwrap();
    for round in 0..4 {
        let client = client.client_for_peer(&listener).unwrap();
        let both = shake(&client, &server, "127.0.0.1").await;
        let (near, far) = (both.client_sees(), both.server_sees());
        assert_eq!((near.resumed, far.resumed), (round > 0, round > 0), "round {round}");
        assert_eq!((near.peer, far.peer), (Some(listener), Some(dialer)), "round {round}");
        assert_eq!(near.group, Some(NamedGroup::X25519MLKEM768), "round {round}");
    }
}

#[tokio::test]
async fn a_connection_is_never_resumed_with_another_peer_at_its_address() {
    let ((client, _), (server, listener), (_, other)) = (node(), node(), node());
    let server = server.server_for_peers().unwrap();
    shake(&client.client_for_peer(&listener).unwrap(), &server, "127.0.0.1").await;
    for _ in 0..3 {
        let config = client.client_for_peer(&other).unwrap();
        let error = try_shake(&config, &server, "127.0.0.1").await.0.unwrap_err();
        let wrong = TlsError::of(&error);
        assert!(matches!(wrong, Some(TlsError::WrongPeer { .. })), "{error:?}");
    }
    let again = shake(&client.client_for_peer(&listener).unwrap(), &server, "127.0.0.1").await;
    assert!(again.client_sees().resumed);
}

#[tokio::test]
async fn a_peer_that_took_over_the_address_cannot_resume_and_is_refused() {
    let ((client, _), (server, listener), (usurper, found)) = (node(), node(), node());
    let client = client.client_for_peer(&listener).unwrap();
    shake(&client, &server.server_for_peers().unwrap(), "127.0.0.1").await;
    let usurper = usurper.server_for_peers().unwrap();
    let error = try_shake(&client, &usurper, "127.0.0.1").await.0.unwrap_err();
    let Some(TlsError::WrongPeer { found: named, .. }) = TlsError::of(&error) else {
        panic!("{error:?}")
    };
    assert_eq!(*named, found);
}

/// Else a listener that lets anybody in would hand out what opens one that does not.
#[tokio::test]
async fn a_ticket_of_a_listener_for_anybody_is_none_for_peers() {
    let (tls, _) = node();
    let tls = tls.with_certificate(Signed::by_itself("localhost").certificate());
    let anonymous = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(super::unproven::Anyone))
        .with_no_client_auth();
    let anonymous = Arc::new(anonymous);
    let (names, peers) = (tls.server_for_name().unwrap(), tls.server_for_peers().unwrap());
    shake(&anonymous, &names, "localhost").await;
    assert!(shake(&anonymous, &names, "localhost").await.client_sees().resumed);
    let (_, server) = try_shake(&anonymous, &peers, "localhost").await;
    assert_eq!(rustls_error(&server.unwrap_err()), &rustls::Error::NoCertificatesPresented);
}

/// As libp2p has it; nobody on the way learns whom it is for.
#[tokio::test]
async fn a_peer_is_dialed_without_a_name() {
    let ((client, _), (server, listener)) = (node(), node());
    let client = client.client_for_peer(&listener).unwrap();
    let both = shake(&client, &server.server_for_peers().unwrap(), "a.example").await;
    assert_eq!(both.server.get_ref().1.server_name(), None);
}

#[test]
fn there_is_one_configuration_for_a_peer_and_not_one_for_all() {
    let ((tls, _), (_, first), (_, second)) = (node(), node(), node());
    let config = tls.client_for_peer(&first).unwrap();
    assert!(Arc::ptr_eq(&config, &tls.clone().client_for_peer(&first).unwrap()));
    assert!(!Arc::ptr_eq(&config, &tls.client_for_peer(&second).unwrap()));
    let servers = || tls.server_for_peers().unwrap();
    assert!(Arc::ptr_eq(&servers(), &servers()));
}

#[test]
fn the_peers_dialed_last_are_kept() {
    let (tls, _) = node();
    let peer = |number: u16| {
        let mut bytes = [0; 34];
        bytes[..2].copy_from_slice(&[0x12, 32]);
        bytes[2..4].copy_from_slice(&number.to_be_bytes());
        network_core::PeerId::from_bytes(&bytes).unwrap()
    };
    let often = tls.client_for_peer(&peer(0)).unwrap();
    let once = tls.client_for_peer(&peer(1)).unwrap();
    for number in 2..=256 {
        tls.client_for_peer(&peer(number)).unwrap();
        assert!(Arc::ptr_eq(&often, &tls.client_for_peer(&peer(0)).unwrap()), "{number}");
    }
    assert_eq!(Arc::strong_count(&once), 1);
    assert!(!Arc::ptr_eq(&once, &tls.client_for_peer(&peer(1)).unwrap()));
    assert_eq!(Arc::strong_count(&often), 2);
}

#[test]
fn what_is_missing_is_said() {
    let tls = network_tls::Tls::new();
    let (_, peer) = node();
    for error in [tls.client_for_peer(&peer).unwrap_err(), tls.server_for_peers().unwrap_err()] {
        assert!(matches!(error, TlsError::NoIdentity));
        assert!(error.to_string().contains("with_identity"), "{error}");
    }
    let error = tls.server_for_name().unwrap_err();
    assert!(error.to_string().contains("with_certificate"), "{error}");
    assert!(!tls.has_certificate() && tls.identity().is_none() && tls.client_config().is_none());
    let error = tls.presenting_identity().with_roots(roots_of(&Signed::by_itself("x")));
    assert!(matches!(error.client_for_name(), Err(TlsError::NoIdentity)));
    assert_eq!(peer_of(None), None);
    assert_eq!(peer_of(Some(&[])), None);
}

#[test]
fn nothing_is_early_or_logged() {
    let (tls, peer) = node();
    let tls = tls.with_certificate(Signed::by_itself("x").certificate());
    for client in [tls.client_for_peer(&peer).unwrap(), tls.client_for_name().unwrap()] {
        assert!(!client.enable_early_data);
        assert!(!client.key_log.will_log("CLIENT_TRAFFIC_SECRET_0"));
    }
    for server in [tls.server_for_peers().unwrap(), tls.server_for_name().unwrap()] {
        assert_eq!(server.max_early_data_size, 0);
        assert!(!server.send_half_rtt_data);
        assert!(!server.key_log.will_log("CLIENT_TRAFFIC_SECRET_0"));
    }
}

#[test]
fn an_error_is_found_where_it_is_wrapped() {
    let inner = rustls::Error::from(TlsError::OldVersion);
    let error = std::io::Error::other(std::io::Error::other(inner));
    assert!(matches!(TlsError::of(&error), Some(TlsError::OldVersion)));
    let error = rustls::Error::InvalidCertificate(CertificateError::Expired);
    assert!(TlsError::of(&error).is_none());
}
