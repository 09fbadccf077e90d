//! Keys and values as bytes, which is what processes exchange.

/// Keys and values as bytes. Two processes that share a tier, and two releases of one, must agree on it:
/// put a version into the keys and raise it with the format of the values.
pub trait Codec<K, V> {
    /// The bytes of a key: the same for the same key for ever, and never those of another key.
    fn key(&self, key: &K) -> Vec<u8>;

    /// The bytes of a value.
    fn encode(&self, value: &V) -> Vec<u8>;

    /// The value of bytes; nothing if they are none: they are then removed and the store is asked.
    fn decode(&self, bytes: &[u8]) -> Option<V>;
}

#[derive(Debug, Clone, Copy)]
struct Closures<A, B, C>(A, B, C);

/// A codec of three closures, in the order of [`Codec`].
pub fn codec<K, V>(
    key: impl Fn(&K) -> Vec<u8>,
    encode: impl Fn(&V) -> Vec<u8>,
    decode: impl Fn(&[u8]) -> Option<V>,
) -> impl Codec<K, V> {
    Closures(key, encode, decode)
}

impl<K, V, A, B, C> Codec<K, V> for Closures<A, B, C>
where
    A: Fn(&K) -> Vec<u8>,
    B: Fn(&V) -> Vec<u8>,
    C: Fn(&[u8]) -> Option<V>,
{
    fn key(&self, key: &K) -> Vec<u8> {
        self.0(key)
    }

    fn encode(&self, value: &V) -> Vec<u8> {
        self.1(value)
    }

    fn decode(&self, bytes: &[u8]) -> Option<V> {
        self.2(bytes)
    }
}
