//! What Prometheus would scrape.
#![cfg(feature = "metrics")]
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use metrics_exporter_prometheus::PrometheusBuilder;
use stackbeam_mq::Queue;

#[test]
fn the_recorder_gets_what_the_stats_say() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Queue::open(dir.path()).unwrap();
    let photos = queue.topic("photos").unwrap();
    let workers = photos.group("workers").unwrap();
    for n in 0..3 {
        photos.publish_blocking(format!("photo {n}")).unwrap();
    }
    let mut leases = workers.take_blocking(2, None).unwrap();
    leases.pop().unwrap().ack_blocking().unwrap();

    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        queue.stats().report();
        // Counters are absolute: a second report adds nothing.
        queue.stats().report();
    });
    let text = recorder.handle().render();
    let of_group = "topic=\"photos\",group=\"workers\"";
    for line in [
        "stackbeam_mq_published_messages_total{topic=\"photos\"} 3".to_owned(),
        format!("stackbeam_mq_acked_messages_total{{{of_group}}} 1"),
        format!("stackbeam_mq_deliveries_total{{{of_group}}} 2"),
        format!("stackbeam_mq_messages{{{of_group},state=\"ready\"}} 1"),
        format!("stackbeam_mq_messages{{{of_group},state=\"leased\"}} 1"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
}
