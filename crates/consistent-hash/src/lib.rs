//! Which node owns a key: consistent hashing for sharding, caches and load balancing.
