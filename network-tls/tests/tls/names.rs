//! Servers that are known by their names.

use std::{fs, sync::Arc};

use network_tls::{Certificate, CertificateError, Tls, TlsError};
use rustls::{
    CertificateError as Refused, ClientConfig, NamedGroup, crypto::aws_lc_rs::default_provider,
};

use super::{
    authority::{Authority, Signed},
    node, rustls_error, shake, try_shake,
};

#[tokio::test]
async fn a_server_is_trusted_for_its_authority_and_its_name() {
    let authority = Authority::new("trusted");
    let server = authority.sign("a.example").server().server_for_name().unwrap();
    let client = authority.client().client_for_name().unwrap();
    let both = shake(&client, &server, "a.example").await;
    let (near, far) = (both.client_sees(), both.server_sees());
    assert_eq!((near.peer, far.peer), (None, None));
    assert_eq!(near.group, Some(NamedGroup::X25519MLKEM768));
    assert_eq!(near.alpn.as_deref(), Some("network/1"));
    assert!(shake(&client, &server, "a.example").await.client_sees().resumed);
}

#[tokio::test]
async fn a_server_is_refused_without_either() {
    let (authority, other) = (Authority::new("trusted"), Authority::new("other"));
    let impostor = Authority::new("trusted");
    let client = authority.client().client_for_name().unwrap();
    type Expected = fn(&Refused) -> bool;
    let cases: [(Signed, Expected); 5] = [
        (Signed::by_itself("a.example"), |why| *why == Refused::UnknownIssuer),
        (other.sign("a.example"), |why| *why == Refused::UnknownIssuer),
        (impostor.sign("a.example"), |why| *why == Refused::BadSignature),
        (authority.sign_expired("a.example"), |why| {
            matches!(why, Refused::Expired | Refused::ExpiredContext { .. })
        }),
        (authority.sign("b.example"), |why| {
            matches!(why, Refused::NotValidForName | Refused::NotValidForNameContext { .. })
        }),
    ];
    for (number, (signed, expected)) in cases.into_iter().enumerate() {
        let server = signed.server().server_for_name().unwrap();
        let error = try_shake(&client, &server, "a.example").await.0.unwrap_err();
        let rustls::Error::InvalidCertificate(why) = rustls_error(&error) else {
            panic!("{number}: {error:?}")
        };
        assert!(expected(why), "{number}: {why:?}");
    }
}

#[tokio::test]
async fn the_platform_does_not_trust_what_nobody_signed() {
    let Ok(client) = Tls::new().client_for_name() else {
        // This machine has no authorities at all: nothing to test.
        return;
    };
    let server = Signed::by_itself("a.example").server().server_for_name().unwrap();
    let error = try_shake(&client, &server, "a.example").await.0.unwrap_err();
    assert!(matches!(rustls_error(&error), rustls::Error::InvalidCertificate(_)), "{error:?}");
}

#[tokio::test]
async fn a_client_is_known_if_it_says_who_it_is() {
    let authority = Authority::new("trusted");
    let server = authority.sign("a.example").server().server_for_name().unwrap();
    let (tls, dialer) = node();
    let silent = tls.with_roots(authority.roots());
    let presenting = silent.clone().presenting_identity();
    for (tls, peer) in [(silent, None), (presenting, Some(dialer))] {
        let client = tls.client_for_name().unwrap();
        for resumed in [false, true] {
            let seen = shake(&client, &server, "a.example").await.server_sees();
            assert_eq!((seen.peer, seen.resumed), (peer, resumed));
        }
    }
}

/// It does not matter to a server of another kind what is offered in ALPN.
#[tokio::test]
async fn a_server_without_alpn_is_dialed() {
    let authority = Authority::new("trusted");
    let server = authority.sign("a.example").server().server_for_name().unwrap();
    let mut plain = (*server).clone();
    plain.alpn_protocols.clear();
    let client = authority.client().client_for_name().unwrap();
    let both = shake(&client, &Arc::new(plain), "a.example").await;
    assert_eq!(both.client_sees().alpn, None);
    let mut plain = (*client).clone();
    plain.alpn_protocols.clear();
    let both = shake(&Arc::new(plain), &server, "a.example").await;
    assert_eq!(both.server_sees().alpn, None);
}

#[tokio::test]
async fn the_configurations_of_the_program_are_taken_as_they_are() {
    let authority = Authority::new("trusted");
    let (server, client) = (
        authority.sign("a.example").server().server_for_name().unwrap(),
        authority.client().client_for_name().unwrap(),
    );
    let (tls, peer) = node();
    let tls = tls.with_client_config(client.clone()).with_server_config(server.clone());
    assert!(Arc::ptr_eq(&tls.client_for_name().unwrap(), &client));
    assert!(Arc::ptr_eq(&tls.server_for_name().unwrap(), &server));
    assert!(Arc::ptr_eq(&tls.client_config().unwrap(), &client));
    assert!(Arc::ptr_eq(&tls.server_config().unwrap(), &server));
    assert!(tls.has_certificate());
    assert!(!Arc::ptr_eq(&tls.client_for_peer(&peer).unwrap(), &client));
    assert!(!Arc::ptr_eq(&tls.server_for_peers().unwrap(), &server));
}

#[test]
fn to_trust_nobody_is_an_error() {
    let nobody = Tls::new().with_roots(rustls::RootCertStore::empty());
    let error = nobody.client_for_name().unwrap_err();
    assert!(matches!(error, TlsError::NoRoots { .. }), "{error:?}");
    assert!(error.to_string().contains("with_roots"), "{error}");
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_old_ones_stay() {
    let authority = Authority::new("trusted");
    let certificate = authority.sign("a.example").certificate();
    let server = Tls::new().with_certificate(certificate.clone()).server_for_name().unwrap();
    let client = authority.client().client_for_name().unwrap();
    let mut old = shake(&client, &server, "a.example").await;
    let resumed = shake(&client, &server, "a.example").await;
    assert!(resumed.client_sees().resumed);
    assert_eq!(resumed.shown(), old.shown());

    let new = authority.sign("a.example");
    certificate.replace_pem(new.chain.as_bytes(), new.key.as_bytes()).unwrap();
    let other = shake(&client, &server, "a.example").await;
    assert!(!other.client_sees().resumed);
    assert_ne!(other.shown(), old.shown());
    old.talk().await;

    // A bad one changes nothing.
    let (chain, key) = (authority.sign("a.example").chain, authority.sign("a.example").key);
    let error = certificate.replace_pem(chain.as_bytes(), key.as_bytes()).unwrap_err();
    assert!(matches!(error, CertificateError::Unusable { .. }), "{error:?}");
    assert!(matches!(certificate.reload(), Err(CertificateError::NoFiles)));
    let same = shake(&client, &server, "a.example").await;
    assert_eq!(same.shown(), other.shown());
    assert!(same.client_sees().resumed);
}

#[tokio::test]
async fn a_certificate_is_read_from_its_files_again() {
    let folder = std::env::temp_dir().join(format!("network-tls-reload-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (chain, key) = (folder.join("chain.pem"), folder.join("key.pem"));
    let write = |signed: &Signed| {
        fs::write(&chain, &signed.chain).unwrap();
        fs::write(&key, &signed.key).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        }
    };
    let authority = Authority::new("trusted");
    write(&authority.sign("a.example"));
    let certificate = Certificate::load(&chain, &key).unwrap();
    let server = Tls::new().with_certificate(certificate.clone()).server_for_name().unwrap();
    let client = authority.client().client_for_name().unwrap();
    let first = shake(&client, &server, "a.example").await;
    write(&authority.sign("a.example"));
    certificate.reload().unwrap();
    let second = shake(&client, &server, "a.example").await;
    assert_ne!(first.shown(), second.shown());

    fs::write(&chain, "nothing").unwrap();
    assert!(matches!(certificate.reload(), Err(CertificateError::NoChain)));
    fs::remove_file(&chain).unwrap();
    let error = certificate.reload().unwrap_err();
    assert!(error.to_string().contains("chain.pem"), "{error}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        write(&authority.sign("a.example"));
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        let error = certificate.reload().unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
    let third = shake(&client, &server, "a.example").await;
    assert_eq!(third.shown(), second.shown());
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_is_no_certificate_is_said() {
    let signed = Signed::by_itself("a.example");
    let (chain, key) = (signed.chain.as_bytes(), signed.key.as_bytes());
    let from = |chain, key| Certificate::from_pem(chain, key).unwrap_err();
    assert!(matches!(from(b"", key), CertificateError::NoChain));
    assert!(matches!(from(key, key), CertificateError::NoChain));
    assert!(matches!(from(chain, b""), CertificateError::NoKey));
    assert!(matches!(from(chain, chain), CertificateError::NoKey));
    let cut = &chain[..chain.len() / 2];
    assert!(matches!(from(cut, key), CertificateError::Pem { what: "certificate", .. }));
    let other = Signed::by_itself("a.example");
    let error = from(chain, other.key.as_bytes());
    let CertificateError::Unusable { source } = error else { panic!("{error:?}") };
    assert!(matches!(source, rustls::Error::InconsistentKeys(_)), "{source:?}");
    // Both in one text, in either order.
    for both in [[chain, key].concat(), [key, chain].concat()] {
        Certificate::from_pem(&both, &both).unwrap();
    }
}

#[tokio::test]
async fn a_client_that_speaks_something_else_is_refused() {
    let authority = Authority::new("trusted");
    let server = authority.sign("a.example").server().server_for_name().unwrap();
    let mut client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(authority.roots())
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec()];
    let error = try_shake(&Arc::new(client), &server, "a.example").await.1.unwrap_err();
    assert_eq!(rustls_error(&error), &rustls::Error::NoApplicationProtocol);
}
