//! Who rests, who is checked, and who is let in again.

use std::sync::Arc;
use std::time::Instant;

use crate::balancer::{Balancer, Inner};
use crate::endpoint::{Shared, Slot};
use crate::outlier::{Tally, may_eject, outliers};
use crate::snapshot::Snapshot;
use crate::sync::Ordering;

/// A check that is due; answer with [`Balancer::probe_result`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProbeDue<T> {
    /// Whom to check.
    pub id: String,
    /// Where.
    pub target: T,
}

impl<T: Clone, S> Balancer<T, S> {
    /// The checks that are due, the most overdue first. Each is given once: until
    /// [`Balancer::probe_result`] brings its answer, the same endpoint is not due again. A check whose
    /// answer does not come in the time of [`ProbeConfig::with_patience`] counts as bad. Empty without
    /// [`Config::with_probes`].
    ///
    /// [`ProbeConfig::with_patience`]: crate::ProbeConfig::with_patience
    /// [`Config::with_probes`]: crate::Config::with_probes
    #[must_use]
    pub fn probes_due(&self, now: Instant) -> Vec<ProbeDue<T>> {
        self.probes_due_up_to(usize::MAX, now)
    }

    /// [`Balancer::probes_due`], but at most so many of them: the others are due with the next call.
    #[must_use]
    pub fn probes_due_up_to(&self, most: usize, now: Instant) -> Vec<ProbeDue<T>> {
        let inner = self.inner();
        let Some(config) = inner.config.probes else {
            return Vec::new();
        };
        let snapshot = inner.snapshot.load_full();
        let mut due = Vec::new();
        for slot in &snapshot.all {
            let lost = slot.shared.health.lock().is_probe_lost(&config, now);
            if lost {
                self.probe_result(&slot.endpoint.id, false, now);
            }
            let health = slot.shared.health.lock();
            if health.probing.is_none() && health.probe_at <= now {
                due.push((health.probe_at, slot));
            }
        }
        // Whoever has waited longest, so that nobody starves when there are too many.
        due.sort_by_key(|(at, _)| *at);
        due.truncate(most);
        due.retain(|(_, slot)| {
            let probing = &mut slot.shared.health.lock().probing;
            // Another caller may have been quicker.
            let free = probing.is_none();
            *probing = probing.or(Some(now));
            free
        });
        due.into_iter()
            .map(|(_, slot)| ProbeDue {
                id: slot.endpoint.id.to_string(),
                target: slot.endpoint.target.clone(),
            })
            .collect()
    }
}

impl<T, S> Balancer<T, S> {
    /// Brings the answer of a check, whether it was asked for or not: a registry that pushes health
    /// can use it too. An id that is not listed is ignored, and so is everything without
    /// [`Config::with_probes`](crate::Config::with_probes).
    pub fn probe_result(&self, id: &str, good: bool, now: Instant) {
        let inner = self.inner();
        let Some(config) = inner.config.probes else {
            return;
        };
        let judge_at = inner.change.lock();
        let snapshot = inner.snapshot.load_full();
        let Some(slot) = snapshot.all.iter().find(|slot| *slot.endpoint.id == *id) else {
            return;
        };
        let changed = slot.shared.health.lock().probed(&config, good, now);
        if changed {
            if good {
                let typical = inner.typical_latency(&snapshot, now);
                slot.shared.come_back(typical, now);
            } else {
                slot.shared.failures.store(0, Ordering::Relaxed);
            }
            inner.publish(*judge_at, &snapshot, snapshot.all.clone());
            drop(judge_at);
            tell_probed(id, good);
        }
    }

    /// When there is next something to do: a rest or an interval that ends, or a check that is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let inner = self.inner();
        let snapshot = inner.snapshot.load();
        let probes = inner.config.probes.as_ref();
        let checks = snapshot
            .all
            .iter()
            .filter_map(|slot| probes.map(|config| slot.shared.health.lock().next_probe(config)));
        checks.chain(snapshot.wake_at).min()
    }

    /// Lets in those whose rest is over, and judges the rates of an interval that is over. Call it at
    /// [`Balancer::next_deadline`]; a pick does it too when it is late.
    pub fn handle_timeout(&self, now: Instant) {
        let mut judge_at = self.inner().change.lock();
        self.inner().wake(&mut judge_at, now);
    }
}

impl<T, S> Inner<T, S> {
    /// Puts the next snapshot in force. Only the holder of the change lock may.
    pub(crate) fn publish(
        &self,
        judge_at: Option<Instant>,
        old: &Snapshot<T>,
        all: Vec<Arc<Slot<T>>>,
    ) {
        let next = old.next(all, self.config.panic, judge_at);
        self.snapshot.store(Arc::new(next));
    }

    /// Begins the first interval, if rates are judged.
    pub(crate) fn start_judging(&self, judge_at: &mut Option<Instant>, now: Instant) {
        if judge_at.is_none() && self.config.ejection.judges_rates() {
            *judge_at = now.checked_add(self.config.ejection.interval);
        }
    }

    /// What [`Balancer::handle_timeout`] does.
    pub(crate) fn wake(&self, judge_at: &mut Option<Instant>, now: Instant) {
        let snapshot = self.snapshot.load_full();
        if snapshot.wake_at.is_none_or(|at| at > now) {
            return;
        }
        for slot in &snapshot.all {
            let woken = slot.shared.health.lock().wake(now);
            if woken {
                let typical = self.typical_latency(&snapshot, now);
                slot.shared.come_back(typical, now);
                tell_woken(&slot.endpoint.id);
            }
        }
        if judge_at.is_some_and(|at| at <= now) {
            *judge_at = None;
            self.start_judging(judge_at, now);
            self.judge_rates(&snapshot, now);
        }
        self.publish(*judge_at, &snapshot, snapshot.all.clone());
    }

    /// Sends the outliers of the interval that is over to rest.
    fn judge_rates(&self, snapshot: &Snapshot<T>, now: Instant) {
        let config = &self.config.ejection;
        let tallies: Vec<Tally> = snapshot
            .all
            .iter()
            .map(|slot| {
                let totals = (
                    slot.shared.succeeded.load(Ordering::Relaxed),
                    slot.shared.failed.load(Ordering::Relaxed),
                );
                let mut health = slot.shared.health.lock();
                let before = std::mem::replace(&mut health.interval_start, totals);
                let mut tally = Tally::new(
                    totals.0.saturating_sub(before.0),
                    totals.1.saturating_sub(before.1),
                );
                tally.ejected = health.ejected_until().is_some();
                tally
            })
            .collect();
        let found = outliers(
            &tallies,
            config.success_rate.as_ref(),
            config.failure_percentage.as_ref(),
            config.percent_max,
            || self.rng.next(),
        );
        for slot in found
            .into_iter()
            .filter_map(|index| snapshot.all.get(index))
        {
            self.rest(snapshot, slot, now);
        }
    }

    /// An endpoint failed too often in a row: it rests, if enough others stay.
    pub(crate) fn eject(&self, shared: &Arc<Shared>, now: Instant) {
        let judge_at = self.change.lock();
        let snapshot = self.snapshot.load_full();
        let slot = snapshot
            .all
            .iter()
            .find(|slot| Arc::ptr_eq(&slot.shared, shared));
        if slot.is_some_and(|slot| self.rest(&snapshot, slot, now)) {
            self.publish(*judge_at, &snapshot, snapshot.all.clone());
        }
    }

    /// Sends one to rest if it does not rest yet and the share that may is not used up. True if it
    /// was. The limit is on those that rest already, so that one may always rest.
    fn rest(&self, snapshot: &Snapshot<T>, slot: &Slot<T>, now: Instant) -> bool {
        let resting = |slot: &Slot<T>| slot.shared.health.lock().ejected_until().is_some();
        let count = snapshot.all.iter().filter(|slot| resting(slot)).count();
        let allowed = may_eject(count, snapshot.all.len(), self.config.ejection.percent_max);
        if !allowed || resting(slot) {
            return false;
        }
        slot.shared.health.lock().eject(&self.config.ejection, now);
        slot.shared.failures.store(0, Ordering::Relaxed);
        slot.shared.ejections.fetch_add(1, Ordering::Relaxed);
        self.ejections.fetch_add(1, Ordering::Relaxed);
        tell_ejected(&slot.endpoint.id, count + 1, snapshot.all.len());
        true
    }
}

// What an operator would look for in the log. Without the feature these are nothing.

fn tell_ejected(id: &str, resting: usize, known: usize) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        endpoint = id,
        resting,
        known,
        "endpoint ejected after failures"
    );
    #[cfg(not(feature = "tracing"))]
    let _: (&str, usize, usize) = (id, resting, known);
}

fn tell_woken(id: &str) {
    #[cfg(feature = "tracing")]
    tracing::info!(endpoint = id, "endpoint let in again after its rest");
    #[cfg(not(feature = "tracing"))]
    let _: &str = id;
}

fn tell_probed(id: &str, good: bool) {
    #[cfg(feature = "tracing")]
    if good {
        tracing::info!(endpoint = id, "endpoint let in again by its checks");
    } else {
        tracing::warn!(endpoint = id, "endpoint taken out by its checks");
    }
    #[cfg(not(feature = "tracing"))]
    let _: (&str, bool) = (id, good);
}
