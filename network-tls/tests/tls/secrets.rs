//! Keys are shown nowhere.

use network_tls::{Certificate, Identity, Tls};

use super::authority::Signed;

const SEED: [u8; 32] = *b"thirty-two bytes of secret seed!";

/// The ways that the bytes could be written.
fn spellings(secret: &[u8]) -> Vec<String> {
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let base64 = |bytes: &[u8]| {
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let triple = |part: &[u8]| {
            let number = part.iter().fold(0_usize, |number, byte| number << 8 | usize::from(*byte));
            [18, 12, 6, 0].map(|shift| char::from(LETTERS[number >> shift & 63]))
        };
        bytes.chunks_exact(3).flat_map(triple).collect::<String>()
    };
    let debug = format!("{:?}", &secret[4..12]);
    let mut all = vec![
        hex[8..24].to_owned(),
        hex[8..24].to_uppercase(),
        debug.trim_matches(['[', ']']).to_owned(),
        String::from_utf8_lossy(&secret[4..12]).into_owned(),
    ];
    // Base64 of a part depends on where it begins.
    all.extend((0..3).map(|from| base64(&secret[from..])[4..16].to_owned()));
    all
}

fn assert_hidden(text: &str, secret: &[u8]) {
    for spelling in spellings(secret) {
        assert!(!text.contains(&spelling), "{spelling} is in {text}");
    }
}

#[test]
fn no_text_shows_a_key() {
    let identity = Identity::from_bytes(&mut SEED.clone()).unwrap();
    let signed = Signed::by_itself("a.example");
    let certificate = signed.certificate();
    let tls = Tls::new().with_identity(identity.clone()).with_certificate(certificate.clone());
    let peer = identity.peer_id();
    let made = (
        tls.client_for_peer(&peer).unwrap(),
        tls.server_for_peers().unwrap(),
        tls.server_for_name().unwrap(),
    );
    let mut texts = vec![
        format!("{identity:?} {identity:#?}"),
        format!("{tls:?} {tls:#?} {certificate:?} {certificate:#?}"),
        format!("{made:?}"),
    ];
    assert!(texts[0].contains(&peer.to_string()) && texts[1].contains(&peer.to_string()));

    let folder = std::env::temp_dir().join(format!("network-tls-secret-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("key.pem");
    identity.save(&path).unwrap();
    let pem = std::fs::read_to_string(&path).unwrap();
    let error = identity.save(&path).unwrap_err();
    texts.push(format!("{error} {error:?}"));
    // What is nearly a key.
    let damaged = [&pem[..pem.len() / 2], &pem.replace("PRIVATE", "PUBLIC"), &pem[1..]];
    for damaged in damaged {
        let error = Identity::from_pkcs8_pem(damaged).unwrap_err();
        texts.push(format!("{error} {error:?}"));
        let error = Certificate::from_pem(signed.chain.as_bytes(), damaged.as_bytes());
        texts.push(format!("{error:?}"));
    }
    std::fs::remove_dir_all(&folder).unwrap();
    let base64 = pem.lines().nth(1).unwrap();
    for text in texts {
        assert_hidden(&text, &SEED);
        assert!(!text.contains(&base64[24..40]), "{text}");
        let key = signed.key.lines().nth(1).unwrap();
        assert!(!text.contains(&key[20..40]), "{text}");
    }
    // And the search finds what there is.
    assert!(spellings(&SEED).iter().any(|spelling| pem.contains(spelling)));
}
