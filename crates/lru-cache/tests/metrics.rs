//! What Prometheus would scrape.
#![cfg(feature = "metrics")]

use metrics_exporter_prometheus::PrometheusBuilder;
use stackbeam_lru_cache::{Lru, sync};

#[test]
fn the_recorder_gets_what_the_stats_say() {
    let cache = sync::Builder::new(2).build::<Lru>();
    for key in 0..3_u64 {
        cache.insert(key, key);
    }
    let _hit = cache.get(&2);
    let _miss = cache.get(&9);

    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        cache.stats().report("pages");
        // Counters are absolute: a second report adds nothing.
        cache.stats().report("pages");
    });
    let text = recorder.handle().render();
    let stats = cache.stats();
    for line in [
        "stackbeam_lru_cache_inserts_total{cache=\"pages\"} 3".to_owned(),
        "stackbeam_lru_cache_lookups_total{cache=\"pages\",outcome=\"hit\"} 1".to_owned(),
        "stackbeam_lru_cache_lookups_total{cache=\"pages\",outcome=\"miss\"} 1".to_owned(),
        format!(
            "stackbeam_lru_cache_departures_total{{cache=\"pages\",cause=\"evicted\"}} {}",
            stats.evicted
        ),
        format!(
            "stackbeam_lru_cache_entries{{cache=\"pages\"}} {}",
            stats.entries
        ),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    assert!(stats.evicted > 0, "{stats:?}");
}
