//! Inputs that are the same in every run.

/// Well-mixed 64-bit numbers from a seed (SplitMix64).
pub fn keys(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// Draws from 0 to n - 1 in which rank r is as likely as 1 / (r + 1)^exponent.
#[derive(Debug, Clone)]
pub struct Zipf {
    cumulative: Vec<f64>,
}

impl Zipf {
    /// A table of `n` ranks.
    #[must_use]
    pub fn new(n: u32, exponent: f64) -> Self {
        let mut sum = 0.0;
        let cumulative = (1..=n)
            .map(|rank| {
                sum += f64::from(rank).powf(-exponent);
                sum
            })
            .collect();
        Self { cumulative }
    }

    /// `count` ranks, the same for the same seed.
    #[must_use]
    pub fn draw(&self, seed: u64, count: usize) -> Vec<u64> {
        let total = self.cumulative.last().copied().unwrap_or_default();
        keys(seed)
            .map(|key| {
                let at = (key >> 11) as f64 / (1_u64 << 53) as f64 * total;
                self.cumulative.partition_point(|sum| *sum < at) as u64
            })
            .take(count)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rank_of_a_zipf_comes_about_as_often_as_it_should() {
        let zipf = Zipf::new(1000, 1.0);
        let draws = zipf.draw(1, 100_000);
        let first = draws.iter().filter(|rank| **rank == 0).count() as f64 / 100_000.0;
        // 1 / H(1000) = 0.1336
        assert!((first - 0.1336).abs() < 0.005, "{first}");
        assert!(draws.iter().all(|rank| *rank < 1000));
    }
}
