//! Counters for the `metrics` facade.

use metrics::{counter, gauge};

use crate::Stats;

impl Stats {
    /// Reports through the [`metrics`](https://docs.rs/metrics) facade, under the name of the balancer.
    /// Call it whenever the metrics are to be up to date, such as every few seconds or before a scrape;
    /// picks cost nothing for it.
    ///
    /// * `stackbeam_lb_picks_total`, `stackbeam_lb_refusals_total`, `stackbeam_lb_ejections_total`
    /// * `stackbeam_lb_requests_total` by `outcome`: `success`, `failure`, `busy`, `cancelled`
    /// * `stackbeam_lb_requests_in_flight`
    /// * `stackbeam_lb_endpoints` by `state`: `ready`, `ejected`, `down`, `draining`, `idle` (listed with
    ///   weight 0)
    pub fn report(&self, balancer: &str) {
        let total = |name: &'static str, value: u64| {
            counter!(name, "balancer" => balancer.to_owned()).absolute(value);
        };
        total("stackbeam_lb_picks_total", self.picked);
        total("stackbeam_lb_refusals_total", self.refused);
        total("stackbeam_lb_ejections_total", self.ejections);
        for (outcome, value) in [
            ("success", self.succeeded),
            ("failure", self.failed),
            ("busy", self.busy),
            ("cancelled", self.cancelled),
        ] {
            counter!(
                "stackbeam_lb_requests_total",
                "balancer" => balancer.to_owned(),
                "outcome" => outcome
            )
            .absolute(value);
        }
        gauge!("stackbeam_lb_requests_in_flight", "balancer" => balancer.to_owned())
            .set(as_f64(self.in_flight));
        let mut states = [
            ("ready", 0_u64),
            ("ejected", 0),
            ("down", 0),
            ("draining", 0),
            ("idle", 0),
        ];
        for endpoint in &self.endpoints {
            let state = if endpoint.ready {
                0
            } else if endpoint.ejected {
                1
            } else if !endpoint.up {
                2
            } else if endpoint.draining {
                3
            } else {
                4
            };
            states[state].1 += 1;
        }
        for (state, value) in states {
            gauge!(
                "stackbeam_lb_endpoints",
                "balancer" => balancer.to_owned(),
                "state" => state
            )
            .set(as_f64(value));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
const fn as_f64(value: u64) -> f64 {
    value as f64
}
