//! base64url without padding, the text of every token: one text for each value, nothing else is read.

use alloc::string::String;
use alloc::vec::Vec;

use base64_simd::URL_SAFE_NO_PAD;

/// Appends the text of `bytes`.
pub(crate) fn encode_onto(text: &mut String, bytes: &[u8]) {
    URL_SAFE_NO_PAD.encode_append(bytes, text);
}

/// The bytes of `text`; `None` for padding, a character that is none of the alphabet, a length that no bytes
/// have, and bits at the end that no bytes leave.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode_to_vec(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as STRICT;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn as_another_library_writes_and_reads_it(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            at in any::<prop::sample::Index>(),
            other in any::<u8>(),
        ) {
            let mut text = String::new();
            encode_onto(&mut text, &bytes);
            prop_assert_eq!(&text, &STRICT.encode(&bytes));
            prop_assert_eq!(decode(&text), Some(bytes));
            let mut changed = text.into_bytes();
            if !changed.is_empty() {
                let at = at.index(changed.len());
                changed[at] = other;
            }
            if let Ok(changed) = String::from_utf8(changed) {
                prop_assert_eq!(decode(&changed), STRICT.decode(&changed).ok());
            }
        }
    }

    #[test]
    fn a_value_has_one_text() {
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+/ .\n";
        for length in 0..=70 {
            for last in alphabet {
                let mut text = "A".repeat(length);
                text.push(char::from(*last));
                assert_eq!(decode(&text), STRICT.decode(&text).ok(), "{text}");
                text.push('A');
                assert_eq!(decode(&text), STRICT.decode(&text).ok(), "{text}");
            }
        }
    }
}
