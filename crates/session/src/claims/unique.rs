//! Keys that occur twice in one object, which the PASETO specification forbids.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::Deserializer;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};

/// Deepest nesting of arrays and objects inside a payload.
const DEPTH_MAX: usize = 16;

/// Keys that are compared one by one.
const KEYS_MAX: usize = 32;

/// Whether text that is known to be JSON has certainly no key twice in one object: without a backslash in a
/// key, with few keys and not nested deeply. Everything else is left to [`unique`].
pub(super) fn has_unique_keys(json: &str) -> bool {
    let json = json.as_bytes();
    let mut keys: [&[u8]; KEYS_MAX] = [&[]; KEYS_MAX];
    let mut held = 0;
    // For each value that is open, the number of keys before it; `None` of an array.
    let mut open: [Option<usize>; DEPTH_MAX] = [None; DEPTH_MAX];
    let (mut depth, mut at, mut is_key) = (0, 0, false);
    while let Some(byte) = json.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => {
                is_key = *byte == b'{';
                let Some(place) = open.get_mut(depth) else {
                    return false;
                };
                *place = is_key.then_some(held);
                depth += 1;
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                held = open[depth].unwrap_or(held);
                is_key = false;
            }
            b',' => is_key = depth > 0 && open[depth - 1].is_some(),
            b'"' => {
                let start = at;
                while let Some(byte) = json.get(at)
                    && *byte != b'"'
                {
                    if *byte == b'\\' {
                        if is_key {
                            return false;
                        }
                        at += 1;
                    }
                    at += 1;
                }
                let text = json.get(start..at).unwrap_or_default();
                at += 1;
                if is_key {
                    let first = open[depth.saturating_sub(1)].unwrap_or_default();
                    if held == KEYS_MAX || keys[first..held].contains(&text) {
                        return false;
                    }
                    keys[held] = text;
                    held += 1;
                    is_key = false;
                }
            }
            _ => {}
        }
    }
    true
}

/// Refuses JSON in which a key occurs twice in one object, at any depth.
pub(crate) fn unique(json: &[u8]) -> Result<(), serde_json::Error> {
    let mut walk = serde_json::Deserializer::from_slice(json);
    Unique(0).deserialize(&mut walk)?;
    walk.end()
}

/// Walks a value and refuses a key that occurs twice in one object. The PASETO specification asks
/// for it; `serde_json` alone lets the last one win inside maps and unknown fields.
struct Unique(usize);

impl<'de> DeserializeSeed<'de> for Unique {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON with unique keys")
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while seq.next_element_seed(Self(inner))?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut keys: Vec<String> = Vec::new();
        while let Some(key) = map.next_key()? {
            map.next_value_seed(Self(inner))?;
            keys.push(key);
        }
        keys.sort_unstable();
        if keys.windows(2).any(|pair| pair[0] == pair[1]) {
            Err(de::Error::custom("a key occurs twice"))
        } else {
            Ok(())
        }
    }
}

impl Unique {
    fn deeper<E: de::Error>(&self) -> Result<usize, E> {
        if self.0 >= DEPTH_MAX {
            Err(E::custom("nested too deeply"))
        } else {
            Ok(self.0 + 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("1".to_owned()),
            Just("\"a\"".to_owned()),
            Just(r#""},{\"a\":""#.to_owned()),
            Just("null".to_owned()),
        ];
        let key = prop_oneof![
            Just("a"),
            Just("b"),
            Just(""),
            Just("\\u0061"),
            Just("{"),
            Just("ä")
        ];
        leaf.prop_recursive(5, 40, 5, move |inner| {
            let pair =
                (key.clone(), inner.clone()).prop_map(|(key, value)| format!("\"{key}\" :{value}"));
            prop_oneof![
                prop::collection::vec(inner, 0..4)
                    .prop_map(|items| format!("[{}]", items.join(" ,"))),
                prop::collection::vec(pair, 0..4)
                    .prop_map(|pairs| format!("{{{}}}", pairs.join(","))),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_has_certainly_unique_keys_has_them_for_the_walk_too(json in json()) {
            let walked = unique(json.as_bytes()).is_ok();
            let plain = !json.contains("\\u");
            prop_assert!(walked || !has_unique_keys(&json), "{json}");
            prop_assert!(!(walked && plain) || has_unique_keys(&json), "{json}");
        }
    }

    #[test]
    fn what_is_too_deep_or_has_too_many_keys_is_left_to_the_walk() {
        assert!(!has_unique_keys(&"[".repeat(DEPTH_MAX + 1)));
        let keys: Vec<_> = (0..=KEYS_MAX).map(|key| format!("\"{key}\":1")).collect();
        let json = format!("{{{}}}", keys.join(","));
        assert!(!has_unique_keys(&json) && unique(json.as_bytes()).is_ok());
    }
}
