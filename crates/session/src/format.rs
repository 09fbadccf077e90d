//! Which key makes which token. The type of the key decides, never the token.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Debug;

use crate::key::{Key, KeyError, KeyId};
use crate::keypair::{PublicKey, SecretKey};
use crate::paseto;
use crate::wipe::Wiped;

pub(crate) use sealed::{Cut, Encoding};

/// Longest footer in characters.
const FOOTER_MAX: usize = 683;

/// A key that verifies tokens of one format: [`Key`] those of `v4.local`, [`SecretKey`] and
/// [`PublicKey`] those of `v4.public`, `CompactKey` (feature `compact`) the shortest. Sealed.
pub trait TokenKey: sealed::TokenKey {}

/// A [`TokenKey`] that makes tokens too. Sealed.
pub trait IssuingKey: TokenKey + sealed::IssuingKey {}

/// A key that 32 derived bytes make, for [`KeyRing::derived`](crate::KeyRing::derived). Sealed.
pub trait DerivedKey: IssuingKey + sealed::DerivedKey {}

pub(crate) mod sealed {
    use super::{Debug, KeyError, KeyId, String};
    use crate::paseto::Parts;
    use crate::wipe::Wiped;

    /// How claims are written inside.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    #[expect(unnameable_types, reason = "sealed")]
    pub enum Encoding {
        Json,
        #[cfg(feature = "compact")]
        Postcard,
    }

    /// A token cut into pieces, nothing of it authenticated.
    #[expect(unnameable_types, missing_debug_implementations, reason = "sealed")]
    pub struct Cut<'a> {
        pub(crate) id: KeyId,
        pub(crate) parts: Parts<'a>,
    }

    #[expect(unnameable_types, reason = "sealed")]
    pub trait TokenKey: Clone + Debug + Send + Sync + 'static {
        const ENCODING: Encoding;
        fn key_id(&self) -> KeyId;
        /// The whole PASERK id, where there is one.
        fn kid(&self) -> Option<String> {
            None
        }
        /// Refuses a key that nothing may rest on.
        fn self_test(&self) -> Result<(), KeyError>;
        fn cut(token: &str) -> Option<Cut<'_>>;
        fn open(&self, cut: Cut<'_>, implicit: &[u8]) -> Option<Wiped>;
    }

    #[expect(unnameable_types, reason = "sealed")]
    pub trait IssuingKey: TokenKey {
        /// Bytes of room that stand before the payload when it is sealed.
        const FRONT: usize;
        /// `footer` is what names the key: the bytes of its id, or its [`kid`](TokenKey::kid). `random` makes the nonce,
        /// where the format has one; never the same twice.
        fn seal(
            &self,
            footer: &[u8],
            random: &[u8; 32],
            payload: Wiped,
            implicit: &[u8],
        ) -> Result<String, KeyError>;
    }

    #[expect(unnameable_types, reason = "sealed")]
    pub trait DerivedKey: IssuingKey {
        fn from_derived(bytes: &[u8; 32]) -> Result<Self, KeyError>;
    }
}

fn cut<'a>(token: &'a str, header: &str, kid: &str) -> Option<Cut<'a>> {
    let parts = paseto::split(token, header, FOOTER_MAX).ok()?;
    let id = match parts.footer.as_slice().try_into() {
        Ok(id) => KeyId(id),
        Err(_) => id_of_kid(&parts.footer, kid)?,
    };
    Some(Cut { id, parts })
}

const KID: (&str, &str) = ("{\"kid\":\"", "\"}");

/// The footer that other implementations read: `{"kid":"k4.lid.…"}`, of this form alone.
#[cfg(feature = "std")]
pub(crate) fn kid_footer(kid: &str) -> String {
    [KID.0, kid, KID.1].concat()
}

/// The id of the key that such a footer names.
fn id_of_kid(footer: &[u8], kind: &str) -> Option<KeyId> {
    let footer = core::str::from_utf8(footer).ok()?;
    let kid = footer.strip_prefix(KID.0)?.strip_suffix(KID.1)?;
    let digest = crate::text::decode(kid.strip_prefix(kind)?)?;
    Some(KeyId::of(digest.as_slice().try_into().ok()?))
}

impl TokenKey for Key {}
impl sealed::TokenKey for Key {
    const ENCODING: Encoding = Encoding::Json;
    fn key_id(&self) -> KeyId {
        self.id()
    }
    fn kid(&self) -> Option<String> {
        Some(self.paserk_id())
    }
    fn self_test(&self) -> Result<(), KeyError> {
        self.not_a_placeholder()?;
        // With a nonce of its own, so that it needs no randomness.
        let sealed = paseto::seal_local(self, &[7; 32], TEST, &self.id().0, b"i");
        behaves::<Self>(self, &sealed)
    }
    fn cut(token: &str) -> Option<Cut<'_>> {
        cut(token, paseto::LOCAL, "k4.lid.")
    }
    fn open(&self, cut: Cut<'_>, implicit: &[u8]) -> Option<Wiped> {
        paseto::open_local(self, &cut.parts, implicit).ok()
    }
}

#[cfg(feature = "std")]
impl IssuingKey for Key {}
#[cfg(feature = "std")]
impl sealed::IssuingKey for Key {
    const FRONT: usize = paseto::NONCE;
    fn seal(
        &self,
        footer: &[u8],
        random: &[u8; 32],
        payload: Wiped,
        implicit: &[u8],
    ) -> Result<String, KeyError> {
        Ok(paseto::seal_local_in_place(
            self, random, payload, footer, implicit,
        ))
    }
}
#[cfg(feature = "std")]
impl DerivedKey for Key {}
#[cfg(feature = "std")]
impl sealed::DerivedKey for Key {
    fn from_derived(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        Self::from_bytes(bytes)
    }
}

impl TokenKey for SecretKey {}
impl sealed::TokenKey for SecretKey {
    const ENCODING: Encoding = Encoding::Json;
    fn key_id(&self) -> KeyId {
        self.id()
    }
    fn kid(&self) -> Option<String> {
        Some(self.public().paserk_id())
    }
    fn self_test(&self) -> Result<(), KeyError> {
        self.check()?;
        sealed::TokenKey::self_test(self.public())?;
        let sealed = paseto::seal_public(self, TEST, &self.id().0, b"i")?;
        behaves(self, &sealed)
    }
    fn cut(token: &str) -> Option<Cut<'_>> {
        cut(token, paseto::PUBLIC, "k4.pid.")
    }
    fn open(&self, cut: Cut<'_>, implicit: &[u8]) -> Option<Wiped> {
        sealed::TokenKey::open(self.public(), cut, implicit)
    }
}
impl IssuingKey for SecretKey {}
impl sealed::IssuingKey for SecretKey {
    const FRONT: usize = 0;
    fn seal(
        &self,
        footer: &[u8],
        _random: &[u8; 32],
        payload: Wiped,
        implicit: &[u8],
    ) -> Result<String, KeyError> {
        paseto::seal_public_in_place(self, payload, footer, implicit)
    }
}
impl DerivedKey for SecretKey {}
impl sealed::DerivedKey for SecretKey {
    fn from_derived(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        Self::from_seed(bytes)
    }
}

impl TokenKey for PublicKey {}
impl sealed::TokenKey for PublicKey {
    const ENCODING: Encoding = Encoding::Json;
    fn key_id(&self) -> KeyId {
        self.id()
    }
    fn kid(&self) -> Option<String> {
        Some(self.paserk_id())
    }
    fn self_test(&self) -> Result<(), KeyError> {
        self.point().map(|_| ()).ok_or(KeyError::NotAPoint)
    }
    fn cut(token: &str) -> Option<Cut<'_>> {
        cut(token, paseto::PUBLIC, "k4.pid.")
    }
    fn open(&self, cut: Cut<'_>, implicit: &[u8]) -> Option<Wiped> {
        paseto::open_public(self, &cut.parts, implicit).ok()
    }
}

pub(crate) const TEST: &[u8] = b"self-test";

/// Known behaviour of a key before anything is issued under it: it opens what it sealed, and refuses
/// one flipped bit, another implicit assertion and a truncation.
pub(crate) fn behaves<K: sealed::TokenKey>(key: &K, sealed: &str) -> Result<(), KeyError> {
    let opens = |text: &str, implicit: &[u8]| K::cut(text).and_then(|cut| key.open(cut, implicit));
    let middle = sealed.len() / 2;
    let mut flipped = Vec::from(sealed);
    flipped[middle] = if flipped[middle] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap_or_default();
    let good = opens(sealed, b"i").is_some_and(|text| &text[..] == TEST)
        && opens(&flipped, b"i").is_none()
        && opens(sealed, b"j").is_none()
        && opens(&sealed[..middle], b"i").is_none();
    if good {
        Ok(())
    } else {
        Err(KeyError::SelfTest)
    }
}
