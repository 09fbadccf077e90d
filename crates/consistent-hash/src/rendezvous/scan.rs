//! Finding the best of many scores: with the CPU's vectors, and one by one.

#[cfg(feature = "simd")]
use super::score::Block;
use super::score::{Key, Rank};
#[cfg(feature = "simd")]
use super::{firsts, vector};

/// Nodes of one weight: their seeds, in order, and in whole blocks. Lanes of the last block that are left
/// over repeat its first node, so that no score is in the way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nodes<'a> {
    #[cfg(feature = "simd")]
    pub(super) blocks: &'a [Block],
    pub(super) seeds: &'a [u64],
}

#[cfg(feature = "simd")]
impl Nodes<'_> {
    /// The rank of the node at a place; `None` if it is a lane left over.
    #[inline(always)]
    pub(super) fn rank(&self, key: Key, at: usize) -> Option<Rank> {
        let seed = *self.seeds.get(at)?;
        Some(key.rank(seed, crate::mix::to_u32(at)))
    }
}

/// The largest ranks, from the largest down, and [`Rank::LAST`] where there are no more nodes.
pub(super) type Top<const K: usize> = [Rank; K];

/// Keeps the largest ranks, without a branch, because none could be foretold.
#[inline(always)]
pub(super) fn insert<const K: usize>(top: &mut Top<K>, mut rank: Rank) {
    for kept in top {
        let larger = (*kept).max(rank);
        rank = (*kept).min(rank);
        *kept = larger;
    }
}

/// What finds the best: with the feature `simd` the widest vectors of this CPU, chosen once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scanner {
    #[cfg(feature = "simd")]
    level: fearless_simd::Level,
}

/// Which vectors a machine has is no part of a placement.
impl PartialEq for Scanner {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[cfg(not(feature = "simd"))]
impl Scanner {
    pub(super) const fn detect() -> Self {
        Self {}
    }

    /// The place of the first in the order.
    #[inline]
    pub(super) fn first(self, key: Key, nodes: Nodes<'_>) -> usize {
        scalar::first(key, nodes)
    }

    /// The first K of the order.
    #[inline]
    pub(super) fn top<const K: usize>(self, key: Key, nodes: Nodes<'_>) -> Top<K> {
        scalar::top(key, nodes)
    }

    /// The places of the first K of the order, of at least so many nodes.
    #[inline]
    pub(super) fn firsts<const K: usize>(self, key: Key, nodes: Nodes<'_>) -> [u32; K] {
        scalar::top(key, nodes).map(Rank::at)
    }

    /// The first K of the order, of at least so many nodes.
    #[inline]
    pub(super) fn few<const K: usize>(self, key: Key, nodes: Nodes<'_>) -> Top<K> {
        scalar::top(key, nodes)
    }
}

#[cfg(feature = "simd")]
impl Scanner {
    pub(super) fn detect() -> Self {
        #[cfg(feature = "std")]
        let level = fearless_simd::Level::new();
        #[cfg(not(feature = "std"))]
        let level = fearless_simd::Level::baseline();
        Self { level }
    }

    /// The place of the first in the order.
    #[inline]
    pub(super) fn first(self, key: Key, nodes: Nodes<'_>) -> usize {
        if let [block] = nodes.blocks {
            // So few that the call into code for other vectors costs more than it gains.
            let level = fearless_simd::Level::baseline();
            fearless_simd::dispatch!(level, simd => vector::first_of_block(simd, key, block, nodes))
        } else {
            fearless_simd::dispatch!(self.level, simd => vector::first(simd, key, nodes))
        }
    }

    /// The first K of the order.
    #[inline]
    pub(super) fn top<const K: usize>(self, key: Key, nodes: Nodes<'_>) -> Top<K> {
        fearless_simd::dispatch!(self.level, simd => vector::top(simd, key, nodes))
    }

    /// The places of the first K of the order, of at least so many nodes.
    #[inline]
    pub(super) fn firsts<const K: usize>(self, key: Key, nodes: Nodes<'_>) -> [u32; K] {
        fearless_simd::dispatch!(self.level, simd => firsts::firsts(simd, key, nodes))
            .unwrap_or_else(|| self.top(key, nodes).map(Rank::at))
    }

    /// The first K of the order, of at least so many nodes, where K is two or three. (Apart from
    /// [`firsts`](Self::firsts), because that is faster while it is called at one place.)
    #[inline]
    pub(super) fn few<const K: usize>(self, key: Key, nodes: Nodes<'_>) -> Top<K> {
        fearless_simd::dispatch!(self.level, simd => {
            firsts::firsts::<_, K>(simd, key, nodes)
                .map(|places| places.map(|at| key.rank(nodes.seeds[at as usize], at)))
        })
        .unwrap_or_else(|| self.top(key, nodes))
    }
}

/// One by one: without the feature `simd`, and what the vectors are checked against.
#[cfg(any(not(feature = "simd"), test))]
pub(super) mod scalar {
    use super::{Key, Nodes, Rank, Top, insert};

    pub(in super::super) fn first(key: Key, nodes: Nodes<'_>) -> usize {
        let [best] = top(key, nodes);
        best.at() as usize
    }

    pub(in super::super) fn top<const K: usize>(key: Key, nodes: Nodes<'_>) -> Top<K> {
        let mut top = [Rank::LAST; K];
        for (at, seed) in nodes.seeds.iter().enumerate() {
            if key.score(*seed) >= top[K - 1].score() {
                insert(&mut top, key.rank(*seed, crate::mix::to_u32(at)));
            }
        }
        top
    }
}

#[cfg(all(test, feature = "simd"))]
mod tests {
    use alloc::vec::Vec;

    use fearless_simd::Level;
    use proptest::prelude::*;

    use super::super::INLINE;
    use super::super::score::LANES;
    use super::*;

    /// Each kind of vectors that this CPU has.
    fn scanners() -> Vec<Scanner> {
        let best = Scanner::detect().level;
        #[cfg(target_arch = "x86_64")]
        let others = [
            best.as_sse4_2().map(Level::Sse4_2),
            best.as_avx2().map(Level::Avx2),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let others: [Option<Level>; 0] = [];
        let levels = [best, Level::baseline()].into_iter();
        let levels = levels.chain(others.into_iter().flatten());
        levels.map(|level| Scanner { level }).collect()
    }

    fn check(scanners: &[Scanner], key: Key, seeds: &[u64]) {
        let blocks: Vec<Block> = seeds.chunks(LANES).map(Block::new).collect();
        let (blocks, count) = (&*blocks, seeds.len());
        let nodes = Nodes { blocks, seeds };
        let places = |[a, b, c]: Top<3>| [a, b, c].map(Rank::at);
        let three = places(scalar::top(key, nodes));
        for scanner in scanners {
            assert_eq!(scanner.first(key, nodes), scalar::first(key, nodes));
            assert_eq!(scanner.top::<1>(key, nodes), scalar::top(key, nodes));
            assert_eq!(scanner.top::<INLINE>(key, nodes), scalar::top(key, nodes));
            if count > 1 {
                assert_eq!(scanner.firsts::<2>(key, nodes)[..], three[..2]);
            }
            if count > 2 {
                assert_eq!(scanner.firsts::<3>(key, nodes), three);
                assert_eq!(scanner.few::<3>(key, nodes), scalar::top(key, nodes));
            }
        }
    }

    #[test]
    fn vectors_find_what_a_look_at_each_node_finds() {
        let scanners = scanners();
        for count in [1, 2, 3, 4, 15, 16, 17, 31, 32, 33, 256, 257, 1_000, 5_000] {
            let seeds: Vec<u64> = (0..count).map(|n| crate::mix::rehash(7, n)).collect();
            for n in 0..if count < 300 { 200 } else { 40 } {
                check(&scanners, Key(crate::mix::rehash(8, n)), &seeds);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn vectors_find_it_among_equal_scores(
            key in any::<u64>(),
            // Few different lower halves, so that many scores are equal, and of these a few second ones.
            seeds in prop::collection::vec((0..40_u64, 0..3_u64), 1..200),
            few in 1..40_u64,
        ) {
            let seeds: Vec<u64> = seeds
                .into_iter()
                .map(|(low, high)| crate::mix::rehash(1, low % few) & 0xFFFF_FFFF | high << 50)
                .collect();
            check(&scanners(), Key(key), &seeds);
        }

        #[test]
        fn vectors_find_it_where_one_lane_has_equal_scores(
            key in any::<u64>(), count in 33..120_usize, lane in 0..LANES, seed in any::<u64>(),
        ) {
            let mut seeds: Vec<u64> = (0..count as u64).map(|n| crate::mix::rehash(seed, n)).collect();
            let (first, second) = (seeds[lane] & 0xFFFF_FFFF, seeds[lane + LANES] & 0xFFFF_FFFF);
            for (seed, n) in seeds.iter_mut().skip(lane).step_by(LANES).zip(0..) {
                *seed = [first, second][n % 2] | (*seed & !0xFFFF_FFFF);
            }
            check(&scanners(), Key(key), &seeds);
        }
    }
}
