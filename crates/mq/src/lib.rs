//! A durable queue to embed: work handed over on disk and done later by workers.
