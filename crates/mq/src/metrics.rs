//! What a queue has done, through the `metrics` facade.

use metrics::{counter, gauge};

use crate::stats::{GroupStats, Stats, TopicStats};

impl Stats {
    /// Reports these counters to the installed recorder. Call it when the recorder is read or at an
    /// interval; a publish itself reports nothing and costs nothing.
    ///
    /// * `stackbeam_mq_disk_faults_total`
    /// * With `topic`: `stackbeam_mq_published_messages_total`,
    ///   `stackbeam_mq_duplicate_messages_total`, `stackbeam_mq_held_messages`, `stackbeam_mq_held_bytes`
    /// * With `topic` and `group`: `stackbeam_mq_messages` with `state` (`ready`, `leased`, `delayed`),
    ///   `stackbeam_mq_acked_messages_total`, `stackbeam_mq_dead_messages_total`,
    ///   `stackbeam_mq_deliveries_total`, `stackbeam_mq_redeliveries_total`,
    ///   `stackbeam_mq_expired_leases_total`, `stackbeam_mq_oldest_ready_seconds`
    pub fn report(&self) {
        counter!("stackbeam_mq_disk_faults_total").absolute(self.disk_faults);
        for topic in &self.topics {
            topic.report();
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
impl TopicStats {
    fn report(&self) {
        let labels = [("topic", self.name.clone())];
        counter!("stackbeam_mq_published_messages_total", &labels).absolute(self.published);
        counter!("stackbeam_mq_duplicate_messages_total", &labels).absolute(self.duplicates);
        gauge!("stackbeam_mq_held_messages", &labels).set(self.held as f64);
        gauge!("stackbeam_mq_held_bytes", &labels).set(self.held_bytes as f64);
        for group in &self.groups {
            group.report(&self.name);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
impl GroupStats {
    fn report(&self, topic: &str) {
        let labels = [("topic", topic.to_owned()), ("group", self.name.clone())];
        for (state, count) in [
            ("ready", self.ready),
            ("leased", self.leased),
            ("delayed", self.delayed),
        ] {
            let [topic, group] = labels.clone();
            let labels = [topic, group, ("state", state.to_owned())];
            gauge!("stackbeam_mq_messages", &labels).set(count as f64);
        }
        counter!("stackbeam_mq_acked_messages_total", &labels).absolute(self.acked);
        counter!("stackbeam_mq_dead_messages_total", &labels).absolute(self.dead);
        counter!("stackbeam_mq_deliveries_total", &labels).absolute(self.delivered);
        counter!("stackbeam_mq_redeliveries_total", &labels).absolute(self.redelivered);
        counter!("stackbeam_mq_expired_leases_total", &labels).absolute(self.expired);
        gauge!("stackbeam_mq_oldest_ready_seconds", &labels).set(self.oldest_ready.as_secs_f64());
    }
}
