//! Ed25519 keys for `v4.public` tokens.

use alloc::string::String;
use core::fmt;

use ed25519_dalek::{Signer as _, SigningKey, Verifier as _, VerifyingKey};
use zeroize::Zeroizing;

use crate::key::{KeyError, KeyId, decode, encode, id_digest, id_text, not_a_placeholder};

const PUBLIC: &str = "k4.public.";
const SECRET: &str = "k4.secret.";

/// An Ed25519 public key: verifies `v4.public` tokens and makes none.
///
/// Any 32 bytes have a PASERK text and an id, as the specification has it. Whether they are a point of
/// the curve that may be used is decided once, here; a key that is not verifies nothing.
#[derive(Clone)]
pub struct PublicKey {
    bytes: [u8; 32],
    point: Option<VerifyingKey>,
}

impl PublicKey {
    /// A key of 32 bytes.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] for another length.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| KeyError::Malformed)?;
        // Not canonical is refused too, so that one key has one text; after that, plain
        // verification is as strict as the strict one.
        let point = VerifyingKey::from_bytes(&bytes)
            .ok()
            .filter(|point| !point.is_weak() && point.to_edwards().compress().0 == bytes);
        Ok(Self { bytes, point })
    }

    /// Reads PASERK `k4.public.…` text.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] for anything else.
    pub fn from_paserk(text: &str) -> Result<Self, KeyError> {
        Self::from_bytes(&decode(text, PUBLIC)?)
    }

    /// The PASERK `k4.public.…` text.
    #[must_use]
    pub fn to_paserk(&self) -> String {
        encode(PUBLIC, &self.bytes).as_str().into()
    }

    /// The full PASERK id, `k4.pid.…`.
    #[must_use]
    pub fn paserk_id(&self) -> String {
        id_text("k4.pid.", &self.digest())
    }

    /// The public name of the key in tokens: the first 8 bytes of its PASERK `k4.pid`.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId::of(&self.digest())
    }

    /// The key's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    fn digest(&self) -> [u8; 33] {
        id_digest("k4.pid.", &self.to_paserk())
    }

    pub(crate) fn point(&self) -> Option<&VerifyingKey> {
        self.point.as_ref()
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.point
            .as_ref()
            .is_some_and(|point| point.verify(message, &signature).is_ok())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({:?})", self.id())
    }
}

/// An Ed25519 secret key with its public half: makes and verifies `v4.public` tokens.
///
/// Wiped on drop; `Debug` shows its id alone.
#[derive(Clone)]
pub struct SecretKey {
    bytes: Zeroizing<[u8; 64]>,
    signing: SigningKey,
    public: PublicKey,
    #[cfg(feature = "aws-lc-rs")]
    fast: Option<alloc::sync::Arc<aws_lc_rs::signature::Ed25519KeyPair>>,
}

impl SecretKey {
    /// A new random key from the operating system.
    ///
    /// # Errors
    /// [`KeyError::Random`] when the system has no randomness.
    #[cfg(feature = "std")]
    pub fn generate() -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        crate::random::system(&mut seed[..])?;
        Self::from_seed(&seed[..])
    }

    /// The key of a seed of 32 bytes, as RFC 8032 makes it.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] for another length.
    pub fn from_seed(seed: &[u8]) -> Result<Self, KeyError> {
        let seed: &[u8; 32] = seed.try_into().map_err(|_| KeyError::Malformed)?;
        let pair = SigningKey::from_bytes(seed);
        Self::from_bytes(&Zeroizing::new(pair.to_keypair_bytes())[..])
    }

    /// A key of 64 bytes: the seed, then the public key.
    ///
    /// A public half that is not that of the seed is kept, so that texts come back as they were, but
    /// signs nothing.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] for another length.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let bytes: [u8; 64] = bytes.try_into().map_err(|_| KeyError::Malformed)?;
        let bytes = Zeroizing::new(bytes);
        let (seed, public) = bytes.split_at(32);
        let seed: &[u8; 32] = seed.try_into().map_err(|_| KeyError::Malformed)?;
        Ok(Self {
            signing: SigningKey::from_bytes(seed),
            public: PublicKey::from_bytes(public)?,
            #[cfg(feature = "aws-lc-rs")]
            fast: aws_lc_rs::signature::Ed25519KeyPair::from_seed_and_public_key(seed, public)
                .ok()
                .map(alloc::sync::Arc::new),
            bytes,
        })
    }

    /// Reads PASERK `k4.secret.…` text.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] for anything else.
    pub fn from_paserk(text: &str) -> Result<Self, KeyError> {
        Self::from_bytes(&decode(text, SECRET)?)
    }

    /// The PASERK `k4.secret.…` text: the secret itself, for a vault.
    #[must_use]
    pub fn to_paserk(&self) -> Zeroizing<String> {
        encode(SECRET, &self.bytes[..])
    }

    /// The full PASERK id of the secret key, `k4.sid.…`.
    #[must_use]
    pub fn paserk_id(&self) -> String {
        id_text("k4.sid.", &id_digest("k4.sid.", &self.to_paserk()))
    }

    /// The public half, for those who only verify.
    #[must_use]
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The public name of the key in tokens, that of [`public`](Self::public).
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.public.id()
    }

    /// The seed and the public key, 64 bytes.
    pub(crate) fn bytes(&self) -> &[u8; 64] {
        &self.bytes
    }

    pub(crate) fn signing(&self) -> &SigningKey {
        &self.signing
    }

    /// Whether the public half is that of the seed, and the seed is no placeholder.
    pub(crate) fn check(&self) -> Result<(), KeyError> {
        self.whole()?;
        not_a_placeholder(&self.bytes[..32])
    }

    fn whole(&self) -> Result<(), KeyError> {
        // Signing with another public half than the seed's gives the seed away.
        if self.signing.verifying_key().as_bytes() == self.public.as_bytes() {
            Ok(())
        } else {
            Err(KeyError::NotAPoint)
        }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<[u8; 64], KeyError> {
        self.whole()?;
        #[cfg(feature = "aws-lc-rs")]
        if let Some(fast) = &self.fast
            && let Ok(signature) = fast.sign(message).as_ref().try_into()
        {
            return Ok(signature);
        }
        Ok(self.signing.sign(message).to_bytes())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({:?})", self.id())
    }
}
