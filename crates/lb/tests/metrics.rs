//! What an operator sees through the `metrics` facade.
#![cfg(feature = "metrics")]

use std::time::Instant;

use metrics_exporter_prometheus::PrometheusBuilder;
use stackbeam_lb::{Balancer, Config, EjectionConfig, Endpoint, Outcome, RoundRobin};

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "tests count from the clock's present"
)]
fn counters_and_states_are_published_and_published_again() {
    let now = Instant::now();
    let recorder = PrometheusBuilder::new().build_recorder();
    let ejection = EjectionConfig::default().with_failures(1);
    let balancer = Balancer::new(RoundRobin::new(), Config::default().with_ejection(ejection));
    balancer.set_endpoints(
        [
            Endpoint::new("a", ()),
            Endpoint::new("b", ()),
            Endpoint::new("c", ()).with_draining(true),
            Endpoint::new("d", ()).with_weight(0),
        ],
        now,
    );
    balancer.pick(now).unwrap().report(Outcome::Failure, now);
    let held = balancer.pick(now).unwrap();
    drop(balancer.pick(now).unwrap());
    metrics::with_local_recorder(&recorder, || {
        balancer.stats(now).report("web");
        balancer.stats(now).report("web");
    });
    held.report(Outcome::Success, now);
    let text = recorder.handle().render();
    for line in [
        "stackbeam_lb_picks_total{balancer=\"web\"} 3",
        "stackbeam_lb_requests_total{balancer=\"web\",outcome=\"failure\"} 1",
        "stackbeam_lb_requests_total{balancer=\"web\",outcome=\"cancelled\"} 1",
        "stackbeam_lb_requests_total{balancer=\"web\",outcome=\"success\"} 0",
        "stackbeam_lb_requests_in_flight{balancer=\"web\"} 1",
        "stackbeam_lb_ejections_total{balancer=\"web\"} 1",
        "stackbeam_lb_endpoints{balancer=\"web\",state=\"ready\"} 1",
        "stackbeam_lb_endpoints{balancer=\"web\",state=\"ejected\"} 1",
        "stackbeam_lb_endpoints{balancer=\"web\",state=\"draining\"} 1",
        "stackbeam_lb_endpoints{balancer=\"web\",state=\"idle\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
