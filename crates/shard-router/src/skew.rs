//! Does a candidate for a shard key spread evenly?

use std::collections::BTreeMap;

use crate::key::{ShardId, ShardKey};
use crate::map::ShardMap;

/// The load of one shard in a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardLoad {
    /// Whose.
    pub shard: ShardId,
    /// Sampled accesses.
    pub accesses: u64,
    /// How many of these were for its busiest key.
    pub busiest: u64,
}

/// How a sample of accesses spreads over the shards of a map.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Skew {
    /// Every shard of the map, in ascending order, with its load.
    pub shards: Vec<ShardLoad>,
    /// The busiest shard's load over the mean; 1 is perfectly even, the number of shards is everything
    /// on one.
    pub peak_to_mean: f64,
    /// The share of all accesses that goes to the one busiest key, 0 to 1. Above one over the number
    /// of shards no partition by this key can be even: that key is a celebrity.
    pub busiest_key_share: f64,
}

impl Skew {
    /// Places a sample of accesses. Memory is one count for each distinct key of the sample.
    #[expect(clippy::cast_precision_loss, reason = "ratios for a reader")]
    pub fn of<K: ShardKey>(map: &ShardMap, sample: impl IntoIterator<Item = K>) -> Self {
        let mut keys: BTreeMap<(ShardId, u64), u64> = BTreeMap::new();
        for key in sample {
            let place = (map.shard(&key), key.shard_key().hash());
            *keys.entry(place).or_default() += 1;
        }
        let mut shards: Vec<ShardLoad> = map
            .shards()
            .iter()
            .map(|shard| ShardLoad {
                shard: *shard,
                accesses: 0,
                busiest: 0,
            })
            .collect();
        for ((shard, _), count) in &keys {
            // A map lists its shards in ascending order.
            let at = shards.binary_search_by_key(shard, |load| load.shard);
            if let Some(load) = at.ok().and_then(|at| shards.get_mut(at)) {
                load.accesses += count;
                load.busiest = load.busiest.max(*count);
            }
        }
        let total: u64 = keys.values().sum();
        let peak = shards.iter().map(|load| load.accesses).max().unwrap_or(0);
        let busiest = shards.iter().map(|load| load.busiest).max().unwrap_or(0);
        let share = |part: u64| {
            if total == 0 {
                0.0
            } else {
                part as f64 / total as f64
            }
        };
        Self {
            peak_to_mean: share(peak) * shards.len() as f64,
            busiest_key_share: share(busiest),
            shards,
        }
    }
}
