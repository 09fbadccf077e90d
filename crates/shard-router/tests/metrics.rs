//! What an operator sees through the `metrics` facade.
#![cfg(feature = "metrics")]

use metrics_exporter_prometheus::PrometheusBuilder;
use stackbeam_shard_router::{Modulo, Router, ShardMap};

#[test]
fn versions_updates_and_stale_requests_are_published() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let map = |version, shards| ShardMap::new(version, Modulo::new(shards).unwrap());
    let router = Router::new(map(3, 2));
    router.update(map(5, 4)).unwrap();
    assert!(router.update(map(4, 8)).is_err());
    assert!(router.check(3).is_err());
    assert!(router.check(5).is_ok());
    metrics::with_local_recorder(&recorder, || {
        router.stats().report("users");
        router.stats().report("users");
    });
    let text = recorder.handle().render();
    for line in [
        "stackbeam_shard_router_map_version{router=\"users\"} 5",
        "stackbeam_shard_router_shards{router=\"users\"} 4",
        "stackbeam_shard_router_map_updates_total{router=\"users\",outcome=\"taken\"} 1",
        "stackbeam_shard_router_map_updates_total{router=\"users\",outcome=\"outdated\"} 1",
        "stackbeam_shard_router_stale_requests_total{router=\"users\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
