//! Counters for the `metrics` facade.

use metrics::{counter, gauge};

use crate::RouterStats;

impl RouterStats {
    /// Reports through the [`metrics`](https://docs.rs/metrics) facade, under the name of the
    /// router. Call it whenever the metrics are to be up to date; routes cost nothing for it.
    ///
    /// * `stackbeam_shard_router_map_version`, `stackbeam_shard_router_shards`
    /// * `stackbeam_shard_router_map_updates_total` by `outcome`: `taken`, `outdated`
    /// * `stackbeam_shard_router_stale_requests_total`
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    pub fn report(&self, router: &str) {
        let label = || router.to_owned();
        gauge!("stackbeam_shard_router_map_version", "router" => label()).set(self.version as f64);
        gauge!("stackbeam_shard_router_shards", "router" => label()).set(self.shards as f64);
        for (outcome, value) in [("taken", self.updates), ("outdated", self.outdated_updates)] {
            counter!(
                "stackbeam_shard_router_map_updates_total",
                "router" => label(),
                "outcome" => outcome
            )
            .absolute(value);
        }
        counter!("stackbeam_shard_router_stale_requests_total", "router" => label())
            .absolute(self.stale_requests);
    }
}
