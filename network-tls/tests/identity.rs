//! Identities: where they come from, and where they are kept.

#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::{error::Error as _, fs, path::PathBuf};

use libp2p_identity::Keypair;
use network_core::PeerId;
use network_tls::{FileError, Identity, IdentityError};

/// A folder of its own for a test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("network-tls-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(unix)]
fn set_mode(path: &std::path::Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Written by `openssl genpkey -algorithm ed25519`; `openssl pkey -pubout` gives `PUBLIC`.
const OPENSSL: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIAPBY7lz96D+RyulKREQPUUFHnLoEspdQ4Q3tGtY0E4N
-----END PRIVATE KEY-----
";

const PUBLIC: [u8; 32] = [
    0xf4, 0x5d, 0xee, 0x55, 0xfe, 0x7b, 0x99, 0x77, 0x7c, 0xd1, 0xeb, 0x72, 0xf3, 0xd7, 0x5c, 0x46,
    0x1d, 0xa9, 0xba, 0x40, 0x39, 0x52, 0x12, 0x31, 0xe7, 0xce, 0xd6, 0xde, 0x8a, 0xf0, 0x45, 0x24,
];

/// The example of RFC 8410, section 10.3, without a public key.
const RFC_V1: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
-----END PRIVATE KEY-----
";

/// The same with attributes and the public key.
const RFC_V2: &str = "-----BEGIN PRIVATE KEY-----
MHICAQEwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
oB8wHQYKKoZIhvcNAQkJFDEPDA1DdXJkbGUgQ2hhaXJzgSEAGb9ECWmEzf6FQbrB
Z9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PRIVATE KEY-----
";

fn peer_of_public(public: &[u8; 32]) -> PeerId {
    PeerId::from_bytes(&[&[0, 36, 8, 1, 18, 32], &public[..]].concat()).unwrap()
}

#[test]
fn a_seed_is_a_key_and_is_wiped() {
    let mut seed = [7; 32];
    let identity = Identity::from_bytes(&mut seed).unwrap();
    assert_eq!(seed, [0; 32]);
    let theirs = Keypair::ed25519_from_bytes([7; 32]).unwrap();
    assert_eq!(identity.peer_id().to_string(), theirs.public().to_peer_id().to_string());
    assert_eq!(identity.clone().peer_id(), identity.peer_id());
}

#[test]
fn every_new_key_is_another() {
    let [one, other] = [(); 2].map(|()| Identity::generate().unwrap().peer_id());
    assert_ne!(one, other);
    assert!(one.to_string().starts_with("12D3KooW"));
}

#[test]
fn keys_of_other_programs_are_read() {
    let identity = Identity::from_pkcs8_pem(OPENSSL).unwrap();
    assert_eq!(identity.peer_id(), peer_of_public(&PUBLIC));
    let [v1, v2] = [RFC_V1, RFC_V2].map(|pem| Identity::from_pkcs8_pem(pem).unwrap().peer_id());
    assert_eq!(v1, v2);
    let public = &RFC_V2_PUBLIC;
    assert_eq!(v1, peer_of_public(public));
}

const RFC_V2_PUBLIC: [u8; 32] = [
    0x19, 0xbf, 0x44, 0x09, 0x69, 0x84, 0xcd, 0xfe, 0x85, 0x41, 0xba, 0xc1, 0x67, 0xdc, 0x3b, 0x96,
    0xc8, 0x50, 0x86, 0xaa, 0x30, 0xb6, 0xb6, 0xcb, 0x0c, 0x5c, 0x38, 0xad, 0x70, 0x31, 0x66, 0xe1,
];

/// PKCS#8 of the seed, with this public key if any.
fn der(seed: [u8; 32], public: Option<[u8; 32]>) -> Vec<u8> {
    let mut body = vec![2, 1, public.is_some().into(), 0x30, 5, 6, 3, 0x2b, 0x65, 0x70];
    body.extend([4, 34, 4, 32]);
    body.extend(seed);
    if let Some(public) = public {
        body.extend([0x81, 33, 0]);
        body.extend(public);
    }
    [&[0x30, body.len() as u8], &body[..]].concat()
}

#[test]
fn a_public_key_in_pkcs8_is_that_of_the_key() {
    let pair = Keypair::ed25519_from_bytes([7; 32]).unwrap();
    let public = pair.public().try_into_ed25519().unwrap().to_bytes();
    let ours = peer_of_public(&public);
    for der in [der([7; 32], None), der([7; 32], Some(public))] {
        assert_eq!(Identity::from_pkcs8_der(&der).unwrap().peer_id(), ours);
    }
    let other = Identity::from_pkcs8_der(&der([7; 32], Some(PUBLIC))).unwrap_err();
    assert!(matches!(other, IdentityError::OtherPublicKey), "{other:?}");
}

#[test]
fn what_is_no_key_is_refused() {
    let good = der([7; 32], None);
    for at in 0..good.len() {
        assert!(Identity::from_pkcs8_der(&good[..at]).is_err(), "cut at {at}");
    }
    assert!(Identity::from_pkcs8_der(&[&good[..], &[0]].concat()).is_err());
    let mut x25519 = good;
    x25519[11] = 0x6e;
    assert!(Identity::from_pkcs8_der(&x25519).is_err());
    for text in ["", "key", &OPENSSL[..40], &OPENSSL.replace("PRIVATE", "EC PRIVATE")] {
        let error = Identity::from_pkcs8_pem(text).unwrap_err();
        assert!(matches!(error, IdentityError::NotAKey { .. }), "{error:?}");
        assert!(error.to_string().contains("openssl genpkey"), "{error}");
    }
}

#[test]
fn a_key_comes_back_from_its_file_and_is_never_overwritten() {
    let folder = Folder::new("save");
    let path = folder.file("node.pem");
    let identity = Identity::generate().unwrap();
    identity.save(&path).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.starts_with("-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEI"),
        "{}",
        text.len()
    );
    assert_eq!(Identity::load(&path).unwrap().peer_id(), identity.peer_id());
    let error = Identity::generate().unwrap().save(&path).unwrap_err();
    assert!(matches!(error, IdentityError::File(FileError::Exists { .. })), "{error:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    }
    let nowhere = folder.file("nowhere").join("node.pem");
    let error = identity.save(&nowhere).unwrap_err();
    assert!(matches!(error, IdentityError::File(FileError::Write { .. })), "{error:?}");
}

#[test]
fn a_key_is_made_where_there_is_none() {
    let folder = Folder::new("first");
    let path = folder.file("node.pem");
    let [first, again] = [(); 2].map(|()| Identity::load_or_generate(&path).unwrap().peer_id());
    assert_eq!(first, again);
    fs::write(&path, "not a key").unwrap();
    let error = Identity::load_or_generate(&path).unwrap_err();
    assert!(matches!(error, IdentityError::InFile { .. }), "{error:?}");
    assert!(error.to_string().contains("node.pem"), "{error}");
    assert!(error.source().unwrap().to_string().contains("PKCS#8"), "{error:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "not a key");
}

#[cfg(unix)]
#[test]
fn a_file_that_others_can_read_is_refused() {
    let folder = Folder::new("modes");
    let path = folder.file("node.pem");
    Identity::generate().unwrap().save(&path).unwrap();
    for mode in [0o640, 0o604, 0o660, 0o644, 0o620, 0o601, 0o777] {
        set_mode(&path, mode);
        let error = Identity::load(&path).unwrap_err();
        let IdentityError::File(FileError::Exposed { .. }) = error else { panic!("{error:?}") };
        let text = error.to_string();
        let mode = format!("{mode:04o}");
        assert!(text.contains(&mode) && text.contains("chmod 600"), "{text}");
        assert!(text.contains(path.to_str().unwrap()), "{text}");
        assert!(Identity::load_or_generate(&path).is_err());
    }
    for mode in [0o600, 0o400, 0o700] {
        set_mode(&path, mode);
        Identity::load(&path).unwrap();
    }
}

#[test]
fn a_file_is_a_file_and_short() {
    let folder = Folder::new("files");
    let error = Identity::load(&folder.0).unwrap_err();
    assert!(matches!(error, IdentityError::File(FileError::NotAFile { .. })), "{error:?}");
    let error = Identity::load(folder.file("none.pem")).unwrap_err();
    let IdentityError::File(problem) = &error else { panic!("{error:?}") };
    assert!(problem.is_not_found() && error.to_string().contains("none.pem"), "{error}");
    for (length, too_long) in [(16 * 1024, false), (16 * 1024 + 1, true)] {
        let path = folder.file("long.pem");
        fs::write(&path, vec![b'a'; length]).unwrap();
        #[cfg(unix)]
        set_mode(&path, 0o600);
        let error = Identity::load(&path).unwrap_err();
        let is = matches!(error, IdentityError::File(FileError::TooLong { max: 16_384, .. }));
        assert_eq!(is, too_long, "{error:?}");
    }
    let path = folder.file("bytes.pem");
    fs::write(&path, [0xff; 9]).unwrap();
    #[cfg(unix)]
    set_mode(&path, 0o600);
    let error = Identity::load(&path).unwrap_err();
    assert!(matches!(error, IdentityError::InFile { .. }), "{error:?}");
}

#[cfg(unix)]
#[test]
fn a_pipe_is_not_waited_for() {
    let folder = Folder::new("pipe");
    let path = folder.file("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    if !made.is_ok_and(|status| status.success()) {
        return;
    }
    let error = Identity::load(&path).unwrap_err();
    assert!(matches!(error, IdentityError::File(FileError::NotAFile { .. })), "{error:?}");
}

/// Ours and libp2p's peer ids are the same, in bytes and as text.
#[test]
fn peer_ids_are_those_of_libp2p() {
    let agree = |theirs: libp2p_identity::PeerId| {
        let ours = PeerId::from_bytes(&theirs.to_bytes()).unwrap();
        assert_eq!(ours.as_bytes(), theirs.to_bytes());
        assert_eq!(ours.to_string(), theirs.to_base58());
        assert_eq!(theirs.to_base58().parse::<PeerId>(), Ok(ours));
        assert_eq!(ours.to_string().parse::<libp2p_identity::PeerId>().unwrap(), theirs);
    };
    for _ in 0..100 {
        let pair = Keypair::generate_ed25519();
        agree(pair.public().to_peer_id());
        let mut seed = pair.try_into_ed25519().unwrap().secret().as_ref().try_into().unwrap();
        let theirs = Keypair::ed25519_from_bytes(seed).unwrap().public().to_peer_id();
        let ours = Identity::from_bytes(&mut seed).unwrap();
        assert_eq!(ours.peer_id().as_bytes(), theirs.to_bytes());
    }
    // The hash of a long key, such as RSA; and what short keys of other kinds look like.
    for number in 0..=255 {
        let hashed = [&[0x12, 32], &[number; 32][..]].concat();
        agree(libp2p_identity::PeerId::from_bytes(&hashed).unwrap());
        let length = number % 43;
        let inline = [&[0, length], &vec![number; length.into()][..]].concat();
        agree(libp2p_identity::PeerId::from_bytes(&inline).unwrap());
    }
}

/// What is taken for a peer id here is one in libp2p too, whatever the bytes. It also takes a
/// SHA2-256 of another length than 32, which no key has.
#[test]
fn what_is_no_peer_id_is_none_in_libp2p_either() {
    for code in [0_u8, 1, 0x11, 0x12, 0x13, 0x16, 0x80, 0xff] {
        for stated in [0_u8, 1, 31, 32, 33, 36, 41, 42, 43, 64, 0x80] {
            for length in [0, 1, 31, 32, 33, 36, 41, 42, 43, 64] {
                let bytes = [&[code, stated], &vec![9; length][..]].concat();
                let ours = PeerId::from_bytes(&bytes).is_ok();
                let theirs = libp2p_identity::PeerId::from_bytes(&bytes).is_ok();
                let no_hash = code == 0x12 && stated != 32;
                assert_eq!(ours, theirs && !no_hash, "{code:#x} {stated} {length}");
            }
        }
    }
}

#[test]
fn a_derived_key_is_of_the_identity_the_label_and_the_context() {
    let derived = |identity: &Identity, label: &str, context: &[u8]| {
        let mut key = [0; 32];
        identity.derive_key(label, context, &mut key).unwrap();
        key
    };
    let identity = Identity::from_pkcs8_pem(OPENSSL).unwrap();
    let key = derived(&identity, "label", b"context");
    assert_eq!(key, derived(&identity.clone(), "label", b"context"));
    // Made with another implementation of RFC 5869. It must not change: what a process left behind
    // is told by it.
    let known = [
        0x4a, 0x9c, 0xec, 0x17, 0x8e, 0x4f, 0x3f, 0xb3, 0x6a, 0xa9, 0x2d, 0xa9, 0x03, 0x4e, 0xc6,
        0xd8, 0xd4, 0xfb, 0x27, 0xf1, 0x14, 0x15, 0x2a, 0x6e, 0x33, 0xc3, 0xfd, 0xa7, 0x96, 0x00,
        0x72, 0xad,
    ];
    assert_eq!(key, known);
    for other in [
        derived(&identity, "other", b"context"),
        derived(&identity, "label", b"other"),
        derived(&identity, "labelcontext", b""),
        derived(&Identity::generate().unwrap(), "label", b"context"),
    ] {
        assert_ne!(key, other);
    }
}
