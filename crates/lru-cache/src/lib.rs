//! What to keep in memory: eviction caches with expiry, weights and read-through.
