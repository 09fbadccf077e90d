//! What a pool has done, through the `metrics` facade.

use metrics::{counter, gauge};

use super::{CopyStats, PoolStats};

impl PoolStats {
    /// Reports through the [`metrics`](https://docs.rs/metrics) facade, under the name of the pool. Call
    /// it every few seconds or before a scrape; a lease costs nothing for it.
    ///
    /// * `stackbeam_replica_pool_requests_total`, `stackbeam_replica_pool_refusals_total`,
    ///   `stackbeam_replica_pool_abandoned_total`, `stackbeam_replica_pool_reads_by_primary_total`
    /// * `stackbeam_replica_pool_leases_total` by `copy` and `outcome`: `success`, `failure`, `cancelled`
    /// * `stackbeam_replica_pool_connections` by `copy` and `state`: `idle`, `out`
    /// * `stackbeam_replica_pool_connect_failures_total` and `stackbeam_replica_pool_waiting` by `copy`
    pub fn report(&self, pool: &str) {
        for (name, value) in [
            ("stackbeam_replica_pool_requests_total", self.asked),
            ("stackbeam_replica_pool_refusals_total", self.refused),
            ("stackbeam_replica_pool_abandoned_total", self.abandoned),
            (
                "stackbeam_replica_pool_reads_by_primary_total",
                self.reads_by_primary,
            ),
        ] {
            counter!(name, "pool" => pool.to_owned()).absolute(value);
        }
        for copy in &self.copies {
            copy.report(pool);
        }
    }
}

impl CopyStats {
    fn report(&self, pool: &str) {
        let labels = [("pool", pool.to_owned()), ("copy", self.member.to_string())];
        let and = |key: &'static str, value: &str| {
            let [pool, copy] = labels.clone();
            [pool, copy, (key, value.to_owned())]
        };
        for (outcome, value) in [
            ("success", self.succeeded),
            ("failure", self.failed),
            ("cancelled", self.cancelled),
        ] {
            let labels = and("outcome", outcome);
            counter!("stackbeam_replica_pool_leases_total", &labels).absolute(value);
        }
        for (state, value) in [("idle", self.idle), ("out", self.out)] {
            let labels = and("state", state);
            gauge!("stackbeam_replica_pool_connections", &labels).set(as_f64(value));
        }
        counter!("stackbeam_replica_pool_connect_failures_total", &labels)
            .absolute(self.connect_failures);
        gauge!("stackbeam_replica_pool_waiting", &labels).set(as_f64(self.waiting));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
const fn as_f64(value: usize) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::{CopyStats, PoolStats};

    #[test]
    fn the_recorder_gets_what_the_stats_say() {
        let stats = PoolStats {
            asked: 7,
            refused: 1,
            copies: vec![CopyStats {
                succeeded: 5,
                failed: 1,
                out: 2,
                ..CopyStats::new(3)
            }],
            ..PoolStats::default()
        };
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            stats.report("users");
            // Counters are absolute: a second report adds nothing.
            stats.report("users");
        });
        let text = recorder.handle().render();
        for line in [
            "stackbeam_replica_pool_requests_total{pool=\"users\"} 7",
            "stackbeam_replica_pool_refusals_total{pool=\"users\"} 1",
            "stackbeam_replica_pool_leases_total{pool=\"users\",copy=\"3\",outcome=\"success\"} 5",
            "stackbeam_replica_pool_leases_total{pool=\"users\",copy=\"3\",outcome=\"failure\"} 1",
            "stackbeam_replica_pool_connections{pool=\"users\",copy=\"3\",state=\"out\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
