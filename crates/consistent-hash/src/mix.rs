//! Integer mixing, range reduction, rounding and a logarithm that is the same on every machine.

/// The golden ratio in 64 bits: an odd step that visits every value once.
pub(crate) const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): a bijection that spreads every bit.
#[inline]
pub(crate) const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// The `attempt`-th hash derived from `hash`; attempt 0 is not the hash itself.
#[inline]
pub(crate) const fn rehash(hash: u64, attempt: u64) -> u64 {
    mix(hash.wrapping_add(attempt.wrapping_add(1).wrapping_mul(GOLDEN)))
}

/// The upper half.
#[inline]
pub(crate) const fn high32(x: u64) -> u32 {
    (x >> 32) as u32
}

/// The lower half.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the lower half is what is asked for"
)]
pub(crate) const fn low32(x: u64) -> u32 {
    x as u32
}

/// The lower 64 bits.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the lower half is what is asked for"
)]
pub(crate) const fn low64(x: u128) -> u64 {
    x as u64
}

/// The sixteen bits from `shift` on.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "sixteen bits are what is asked for"
)]
pub(crate) const fn bits16(x: u64, shift: u32) -> u16 {
    (x >> shift) as u16
}

/// The lowest eight bits.
#[cfg(feature = "interop")]
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "eight bits are what is asked for"
)]
pub(crate) const fn low8(x: u32) -> u8 {
    x as u8
}

/// An index from a number that is below the length of what it indexes.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "below a length, which is a usize"
)]
pub(crate) const fn ix(x: u64) -> usize {
    debug_assert!(x <= usize::MAX as u64);
    x as usize
}

/// A node or slot count as `u32`; every count in this crate is checked against a bound below 2^32 first.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "counts are bounded below 2^32 where they enter"
)]
pub(crate) const fn to_u32(x: usize) -> u32 {
    debug_assert!(x as u64 <= u32::MAX as u64);
    x as u32
}

/// Maps a hash onto `0..n` by its high bits, without a division (Lemire, 2019).
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the product of 64 and 32 bits, shifted by 64, has 32"
)]
pub(crate) const fn reduce(hash: u64, n: u32) -> u32 {
    (((hash as u128) * (n as u128)) >> 64) as u32
}

/// A whole number as `f64`; exact below 2^53, and everything counted here is.
#[inline]
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub(crate) const fn to_f64(x: u64) -> f64 {
    x as f64
}

/// The whole number at or above `x`, saturating; `core` has no `ceil`.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturating is what is wanted"
)]
pub(crate) fn ceil(x: f64) -> u64 {
    let floor = x as u64;
    if to_f64(floor) < x {
        floor.saturating_add(1)
    } else {
        floor
    }
}

/// The whole number at or below `x`, saturating.
#[cfg(feature = "interop")]
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturating is what is wanted"
)]
pub(crate) fn floor(x: f64) -> u64 {
    x as u64
}

/// The whole number nearest to `x`, halves up, saturating.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturating is what is wanted"
)]
pub(crate) fn round(x: f64) -> u64 {
    (x + 0.5) as u64
}

/// Minus the natural logarithm of `(x + 1/2) / 2^32`, for weighted rendezvous.
///
/// The logarithms of the standard library may differ in the last bit between systems, and two
/// processes that differ there route a key to two places. This one uses only additions,
/// multiplications and divisions, which IEEE 754 defines to the bit, in a fixed order.
#[inline]
pub(crate) fn minus_ln_unit(x: u32) -> f64 {
    const LN_2: f64 = core::f64::consts::LN_2;
    const SQRT_2: f64 = core::f64::consts::SQRT_2;
    let u = (f64::from(x) + 0.5) / 4_294_967_296.0;
    let bits = u.to_bits();
    // u is a normal number in [2^-33, 1): the exponent field is its floor(log2) + 1023.
    #[expect(
        clippy::cast_possible_wrap,
        clippy::cast_precision_loss,
        reason = "an exponent from -33 to -1"
    )]
    let mut exponent = ((bits >> 52) as i64 - 1023) as f64;
    let mut m = f64::from_bits((bits & 0x000F_FFFF_FFFF_FFFF) | 0x3FF0_0000_0000_0000);
    if m > SQRT_2 {
        m *= 0.5;
        exponent += 1.0;
    }
    // ln m = 2 atanh((m - 1) / (m + 1)); |z| <= 0.1716, so that eleven terms reach the last bit.
    let z = (m - 1.0) / (m + 1.0);
    let z2 = z * z;
    let mut series = 1.0 / 21.0;
    for k in (0..10).rev() {
        series = series * z2 + 1.0 / f64::from(2 * k + 1);
    }
    -(exponent * LN_2 + 2.0 * z * series)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_agrees_with_the_standard_one() {
        for i in 0..100_000u64 {
            let x = high32(mix(i));
            let expected = -((f64::from(x) + 0.5) / 4_294_967_296.0).ln();
            let got = minus_ln_unit(x);
            assert!(
                (got - expected).abs() <= 4.0 * f64::EPSILON * expected.max(1e-9),
                "{x}: {got} {expected}"
            );
        }
        assert!(minus_ln_unit(u32::MAX) > 0.0);
        assert!(minus_ln_unit(0) < 23.0);
    }

    #[test]
    fn the_logarithm_never_changes() {
        assert_eq!(minus_ln_unit(0).to_bits(), 4_627_131_636_036_799_422);
        assert_eq!(
            minus_ln_unit(0x8000_0000).to_bits(),
            4_604_418_534_311_344_623
        );
    }

    #[test]
    fn rounding_is_as_in_std() {
        for x in [0.0_f64, 0.2, 0.5, 1.0, 1.49, 1.5, 7.999_999, 1e9 + 0.25] {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "small whole numbers"
            )]
            let wanted = x.round() as u64;
            assert_eq!(round(x), wanted);
        }
    }
}
