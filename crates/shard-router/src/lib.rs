//! Which shard holds this row: versioned shard maps, batches and scatter-gather.
