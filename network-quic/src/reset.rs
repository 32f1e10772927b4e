//! Connection ids, and the resets that answer those of connections which nobody here knows.
//!
//! A process that ended without a word leaves connections at the other side. What they send comes
//! to whoever has the address next: with the same identity, that one proves that it knows nothing
//! of them any more (RFC 9000 §10.3), and the other side need not wait for them.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use aws_lc_rs::{constant_time, hmac};
use network_tls::{Identity, IdentityError};
use quinn::{
    ConnectionId, ConnectionIdGenerator, EndpointConfig,
    crypto::{CryptoError, HmacKey},
};
use quinn_proto::{InvalidCid, RandomConnectionIdGenerator};
use zeroize::Zeroizing;

/// How much of a connection id is random: so much that none comes twice. The token of an id that
/// was reset is known to whoever saw the reset (RFC 9000 §10.3.2).
const RANDOM_LEN: usize = 8;

/// How much of it proves that it was made here: who makes ids up is not answered, and learns no
/// tokens.
const PROOF_LEN: usize = 4;

/// How often an endpoint resets at most. Each reset answers a packet with an id of this endpoint and
/// is shorter than that packet, and a process that comes back may have many to say.
const RESET_INTERVAL: Duration = Duration::from_millis(1);

/// Has an endpoint at `address` reset what an earlier one of the same identity left there.
pub(crate) fn follow(
    config: &mut EndpointConfig,
    identity: &Identity,
    address: SocketAddr,
) -> Result<(), IdentityError> {
    let (tokens, ids) = keys(identity, address)?;
    config
        .reset_key(Arc::new(tokens))
        .cid_generator(move || Box::new(ids.clone()))
        .min_reset_interval(RESET_INTERVAL);
    Ok(())
}

/// The keys of an address: else another socket of the same identity would say the tokens of
/// connections that this one still has, to whoever sends their ids there (RFC 9000 §21.11).
fn keys(identity: &Identity, address: SocketAddr) -> Result<(Tokens, Ids), IdentityError> {
    let address = address.to_string();
    let key = |label| {
        let mut key = Zeroizing::new([0; 32]);
        identity.derive_key(label, address.as_bytes(), &mut key)?;
        Ok::<_, IdentityError>(hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()))
    };
    Ok((Tokens(key("network QUIC stateless reset")?), Ids(key("network QUIC connection id")?)))
}

/// Makes the token of a connection id (RFC 9000 §10.3.2). Of our own: quinn has it for the keys of
/// the one library of two that it was built with, which another crate may choose.
struct Tokens(hmac::Key);

impl HmacKey for Tokens {
    fn sign(&self, data: &[u8], out: &mut [u8]) {
        copy(hmac::sign(&self.0, data).as_ref(), out);
    }

    fn signature_len(&self) -> usize {
        hmac::HMAC_SHA256.digest_algorithm().output_len()
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        hmac::verify(&self.0, data, signature).map_err(|_| CryptoError)
    }
}

/// Connection ids that are told from others, also those of an earlier process. To everybody else
/// they are random.
#[derive(Clone)]
struct Ids(hmac::Key);

impl Ids {
    fn proof(&self, random: &[u8]) -> [u8; PROOF_LEN] {
        let mut proof = [0; PROOF_LEN];
        copy(hmac::sign(&self.0, random).as_ref(), &mut proof);
        proof
    }
}

/// As much as there is room for.
fn copy(from: &[u8], to: &mut [u8]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let random = RandomConnectionIdGenerator::new(RANDOM_LEN).generate_cid();
        ConnectionId::new(&[&random[..], &self.proof(&random)].concat())
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        let (random, proof) = id.split_at_checked(RANDOM_LEN).ok_or(InvalidCid)?;
        constant_time::verify_slices_are_equal(&self.proof(random), proof).map_err(|_| InvalidCid)
    }

    fn cid_len(&self) -> usize {
        RANDOM_LEN + PROOF_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys_at(identity: &Identity, address: &str) -> (Tokens, Ids) {
        keys(identity, address.parse().unwrap()).unwrap()
    }

    fn token(tokens: &Tokens, id: &ConnectionId) -> Vec<u8> {
        let mut token = vec![0; tokens.signature_len()];
        tokens.sign(id, &mut token);
        assert!(tokens.verify(id, &token).is_ok() && tokens.verify(b"another", &token).is_err());
        token
    }

    #[test]
    fn ids_are_known_to_the_next_at_the_address_and_to_nobody_else() {
        let (one, other) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let (tokens, mut ids) = keys_at(&one, "192.0.2.1:9000");
        let id = ids.generate_cid();
        assert_eq!(id.len(), ids.cid_len());
        assert_ne!(id, ids.generate_cid());
        let (next_tokens, next_ids) = keys_at(&one, "192.0.2.1:9000");
        assert!(next_ids.validate(&id).is_ok());
        assert_eq!(token(&tokens, &id), token(&next_tokens, &id));
        for (identity, address) in
            [(&one, "192.0.2.1:9001"), (&one, "192.0.2.2:9000"), (&other, "192.0.2.1:9000")]
        {
            let (other_tokens, other_ids) = keys_at(identity, address);
            assert!(other_ids.validate(&id).is_err(), "{address}");
            assert_ne!(token(&tokens, &id), token(&other_tokens, &id), "{address}");
        }
    }

    #[test]
    fn ids_that_somebody_made_up_are_not_known() {
        let (_, mut ids) = keys_at(&Identity::generate().unwrap(), "192.0.2.1:9000");
        let id = ids.generate_cid();
        for at in 0..id.len() {
            let mut other = id.to_vec();
            other[at] ^= 1;
            assert!(ids.validate(&ConnectionId::new(&other)).is_err(), "{at}");
        }
        for len in [0, 1, 8, 11, 13, 20] {
            assert!(ids.validate(&ConnectionId::new(&vec![0; len])).is_err(), "{len}");
        }
    }
}
