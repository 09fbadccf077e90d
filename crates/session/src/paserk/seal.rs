//! PKE: a symmetric key sealed to a public key; only the owner of its secret half opens it.

#[cfg(feature = "std")]
use alloc::string::String;

use curve25519_dalek::montgomery::MontgomeryPoint;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{PaserkError, decode, stream};
use crate::hash::{keyed, plain};
use crate::key::{Key, KeyError};
use crate::keypair::SecretKey;
#[cfg(feature = "std")]
use crate::{key::encode, keypair::PublicKey};

const HEADER: &str = "k4.seal.";
const TAG: usize = 32;

/// Seals `key` to the Ed25519 key `to`, by its X25519 form: `k4.seal.…`.
///
/// # Errors
/// [`KeyError::NotAPoint`] when `to` cannot be used, [`KeyError::Random`] without randomness.
#[cfg(feature = "std")]
pub fn seal(key: &Key, to: &PublicKey) -> Result<String, KeyError> {
    let theirs = to.point().ok_or(KeyError::NotAPoint)?.to_montgomery();
    let mut secret = Zeroizing::new([0; 32]);
    crate::random::system(&mut secret[..])?;
    let ours = MontgomeryPoint::mul_base_clamped(*secret);
    let shared = Zeroizing::new(theirs.mul_clamped(*secret).to_bytes());
    let derived = derive(&shared, &ours, &theirs);
    let mut text = Zeroizing::new(*key.bytes());
    stream(&derived.cipher, &derived.nonce, &mut text[..]);
    let mut raw = derived.tag(&ours, &text[..]).to_vec();
    raw.extend_from_slice(&ours.to_bytes());
    raw.extend_from_slice(&text[..]);
    Ok(encode(HEADER, &raw).as_str().into())
}

/// Opens what [`seal`] made for the public half of `key`.
///
/// # Errors
/// [`PaserkError::Malformed`] for another kind of text, [`PaserkError::NotAuthentic`] under another key.
pub fn unseal(text: &str, key: &SecretKey) -> Result<Key, PaserkError> {
    let mut raw = decode(text, HEADER, TAG + 32 + 32)?;
    let (tag, rest) = raw.split_at_mut(TAG);
    let (theirs, text) = rest.split_at_mut(32);
    let theirs: [u8; 32] = (&*theirs).try_into().map_err(|_| PaserkError::Malformed)?;
    let theirs = MontgomeryPoint(theirs);
    let ours = key
        .public()
        .point()
        .ok_or(KeyError::NotAPoint)?
        .to_montgomery();
    let scalar = Zeroizing::new(key.signing().to_scalar_bytes());
    let shared = Zeroizing::new(theirs.mul_clamped(*scalar).to_bytes());
    let derived = derive(&shared, &theirs, &ours);
    if !bool::from(derived.tag(&theirs, text).ct_eq(tag)) {
        return Err(PaserkError::NotAuthentic);
    }
    stream(&derived.cipher, &derived.nonce, text);
    Ok(Key::from_bytes(text)?)
}

struct Derived {
    cipher: Zeroizing<[u8; 32]>,
    nonce: [u8; 24],
    mac: Zeroizing<[u8; 32]>,
}

fn derive(shared: &[u8; 32], ephemeral: &MontgomeryPoint, to: &MontgomeryPoint) -> Derived {
    let (ephemeral, to) = (ephemeral.as_bytes(), to.as_bytes());
    let mut derived = Derived {
        cipher: Zeroizing::new([0; 32]),
        nonce: [0; 24],
        mac: Zeroizing::new([0; 32]),
    };
    let header = HEADER.as_bytes();
    plain(
        &mut derived.cipher[..],
        &[&[1], header, shared, ephemeral, to],
    );
    plain(&mut derived.mac[..], &[&[2], header, shared, ephemeral, to]);
    plain(&mut derived.nonce, &[ephemeral, to]);
    derived
}

impl Derived {
    fn tag(&self, ephemeral: &MontgomeryPoint, text: &[u8]) -> [u8; TAG] {
        let mut tag = [0; TAG];
        keyed(
            &mut tag,
            &self.mac[..],
            &[HEADER.as_bytes(), ephemeral.as_bytes(), text],
        );
        tag
    }
}
