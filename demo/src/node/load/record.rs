//! What the requests came to: counts, a sliding histogram, and single samples for the drills.

use std::collections::VecDeque;
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::client::{Class, Failure};

/// Intervals over which percentiles slide: two seconds at four a second, so that a percentile rests
/// on more than a handful of requests.
const INTERVALS: usize = 8;

/// The longest latency that is told apart, in microseconds; longer ones count as this.
const LATENCY_MAX_US: u64 = 60_000_000;

/// Samples that are kept for a drill at most. Beyond it the newest are dropped, and the drill is told.
const SAMPLES_MAX: usize = 500_000;

/// Failures whose reasons are kept for a person at most; later ones are only counted.
const REASONS_MAX: usize = 200;

/// The share of late arrivals, in percent, above which the generator itself was the bottleneck.
const LATE_PERCENT_MAX: u64 = 5;

/// How one request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Good,
    /// Somebody else's write is not visible yet, which only its writer is promised.
    Stale,
    Failed(Class),
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// What it was for.
    pub(crate) what: &'static str,
    /// Whether it is a GET.
    pub(crate) read: bool,
    /// The one shard that it concerns, where it concerns one alone.
    pub(crate) shard: Option<u16>,
    /// When it was meant to start: latency counts from here.
    pub(crate) intended: Instant,
    pub(crate) ended: Instant,
    pub(crate) outcome: Outcome,
}

/// Counters that only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Totals {
    /// Requests with an answer in order, stale ones among them.
    pub(crate) ok: u64,
    pub(crate) failed: u64,
    pub(crate) failed_gets: u64,
    /// Failures in the order of [`Class::ALL`].
    pub(crate) by_class: [u64; Class::ALL.len()],
    pub(crate) stale: u64,
    /// Writes that were acknowledged, and writes of which nobody knows.
    pub(crate) acked: u64,
    pub(crate) unknown: u64,
    /// Arrivals by the schedule; those that were sent late, and those not sent at all.
    pub(crate) arrivals: u64,
    pub(crate) late: u64,
    pub(crate) unsent: u64,
}

impl Totals {
    /// Whether the generator could not keep its own schedule, so that latencies say nothing.
    pub(crate) const fn saturated(&self) -> bool {
        self.unsent > 0 || self.late * 100 > self.arrivals * LATE_PERCENT_MAX
    }

    const fn since(&self, earlier: &Self) -> Self {
        let mut by_class = self.by_class;
        let mut place = 0;
        while place < by_class.len() {
            by_class[place] -= earlier.by_class[place];
            place += 1;
        }
        Self {
            ok: self.ok - earlier.ok,
            failed: self.failed - earlier.failed,
            failed_gets: self.failed_gets - earlier.failed_gets,
            by_class,
            stale: self.stale - earlier.stale,
            acked: self.acked - earlier.acked,
            unknown: self.unknown - earlier.unknown,
            arrivals: self.arrivals - earlier.arrivals,
            late: self.late - earlier.late,
            unsent: self.unsent - earlier.unsent,
        }
    }
}

/// Takes notes of all requests of a generator.
#[derive(Debug)]
pub(crate) struct Recorder {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    totals: Totals,
    /// Totals and latencies of the last intervals, the open one last.
    intervals: VecDeque<Interval>,
    keep: bool,
    samples: Vec<Sample>,
    dropped: u64,
    reasons: Vec<String>,
}

#[derive(Debug)]
struct Interval {
    from: Instant,
    totals: Totals,
    latencies: Histogram<u64>,
}

impl Interval {
    fn open(from: Instant, totals: Totals) -> Self {
        let latencies = Histogram::new_with_max(LATENCY_MAX_US, 2)
            .expect("two digits and a minute are within the histogram's bounds");
        Self {
            from,
            totals,
            latencies,
        }
    }
}

/// What arrivals came to beside their requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    OnTime,
    Late,
    Unsent,
}

impl Recorder {
    /// `keep` holds single samples too, for a run of bounded length.
    pub(crate) fn new(now: Instant, keep: bool) -> Self {
        Self {
            inner: Mutex::new(Inner {
                totals: Totals::default(),
                intervals: VecDeque::from([Interval::open(now, Totals::default())]),
                keep,
                samples: Vec::new(),
                dropped: 0,
                reasons: Vec::new(),
            }),
        }
    }

    pub(crate) fn arrival(&self, arrival: Arrival) {
        let totals = &mut self.inner.lock().totals;
        totals.arrivals += 1;
        match arrival {
            Arrival::OnTime => {}
            Arrival::Late => totals.late += 1,
            Arrival::Unsent => totals.unsent += 1,
        }
    }

    pub(crate) fn acked(&self) {
        self.inner.lock().totals.acked += 1;
    }

    pub(crate) fn unknown(&self) {
        self.inner.lock().totals.unknown += 1;
    }

    pub(crate) fn good(&self, sample: Sample) {
        self.inner.lock().note(sample);
    }

    pub(crate) fn failed(&self, sample: Sample, failure: &Failure) {
        let mut inner = self.inner.lock();
        if inner.reasons.len() < REASONS_MAX {
            let shard = sample
                .shard
                .map_or_else(String::new, |shard| format!(" (shard {shard})"));
            let after = sample.ended - sample.intended;
            inner.reasons.push(format!(
                "{}{shard}: {} after {} ms: {}",
                sample.what,
                failure.class.name(),
                after.as_millis(),
                failure.why
            ));
        }
        inner.note(sample);
    }

    pub(crate) fn totals(&self) -> Totals {
        self.inner.lock().totals.clone()
    }

    /// The samples so far, and how many did not fit.
    pub(crate) fn samples(&self) -> (Vec<Sample>, u64) {
        let inner = self.inner.lock();
        (inner.samples.clone(), inner.dropped)
    }

    /// Why requests failed, as far as that is kept.
    pub(crate) fn reasons(&self) -> Vec<String> {
        self.inner.lock().reasons.clone()
    }

    /// Closes an interval and says how it went, in the fields that the page reads.
    pub(crate) fn report(&self, now: Instant) -> Value {
        let mut inner = self.inner.lock();
        let totals = inner.totals.clone();
        let mut latencies = Histogram::<u64>::new_with_max(LATENCY_MAX_US, 2)
            .expect("two digits and a minute are within the histogram's bounds");
        for interval in &inner.intervals {
            latencies
                .add(&interval.latencies)
                .expect("all have the same bounds");
        }
        let window = inner
            .intervals
            .front()
            .map_or_else(Totals::default, |first| totals.since(&first.totals));
        let (last, seconds) = inner.intervals.back().map_or_else(
            || (Totals::default(), 0.0),
            |last| {
                let seconds = now.saturating_duration_since(last.from).as_secs_f64();
                (totals.since(&last.totals), seconds)
            },
        );
        if inner.intervals.len() == INTERVALS {
            inner.intervals.pop_front();
        }
        inner
            .intervals
            .push_back(Interval::open(now, totals.clone()));
        let by_class = |counts: &Totals| -> Value {
            Class::ALL
                .iter()
                .zip(counts.by_class)
                .map(|(class, count)| (class.name().to_owned(), count.into()))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        json!({
            "rps": per_second(last.ok + last.failed, seconds),
            "p50_ms": quantile_ms(&latencies, 0.5),
            "p99_ms": quantile_ms(&latencies, 0.99),
            "ok": last.ok,
            "failed": last.failed,
            "failed_gets": last.failed_gets,
            "failed_by_class": by_class(&last),
            "ok_total": totals.ok,
            "failed_total": totals.failed,
            "failed_gets_total": totals.failed_gets,
            "failed_by_class_total": by_class(&totals),
            "stale_total": totals.stale,
            "acked_total": totals.acked,
            "unknown_total": totals.unknown,
            "arrivals_total": totals.arrivals,
            "late_total": totals.late,
            "unsent_total": totals.unsent,
            "saturated": window.saturated(),
        })
    }
}

impl Inner {
    fn note(&mut self, sample: Sample) {
        let totals = &mut self.totals;
        match sample.outcome {
            Outcome::Good => totals.ok += 1,
            Outcome::Stale => {
                totals.ok += 1;
                totals.stale += 1;
            }
            Outcome::Failed(class) => {
                totals.failed += 1;
                totals.failed_gets += u64::from(sample.read);
                for (known, count) in Class::ALL.iter().zip(&mut totals.by_class) {
                    *count += u64::from(*known == class);
                }
            }
        }
        if let Some(open) = self.intervals.back_mut() {
            open.latencies
                .saturating_record(micros(sample.ended - sample.intended));
        }
        if !self.keep {
            return;
        }
        if self.samples.len() < SAMPLES_MAX {
            self.samples.push(sample);
        } else {
            self.dropped += 1;
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "a latency below a minute fits")]
fn quantile_ms(latencies: &Histogram<u64>, quantile: f64) -> f64 {
    latencies.value_at_quantile(quantile) as f64 / 1_000.0
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of one interval are small"
)]
fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        count as f64 / seconds
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(from: Instant, ms: u64, outcome: Outcome) -> Sample {
        Sample {
            what: "read",
            read: true,
            shard: None,
            intended: from,
            ended: from + Duration::from_millis(ms),
            outcome,
        }
    }

    #[test]
    fn percentiles_slide_and_totals_stay() {
        let from = Instant::now();
        let recorder = Recorder::new(from, false);
        for ms in 1..=100 {
            recorder.good(sample(from, ms, Outcome::Good));
        }
        let tick = Duration::from_millis(250);
        let first = recorder.report(from + tick);
        assert_eq!(first["rps"], 400.0);
        let p50 = first["p50_ms"].as_f64().unwrap();
        assert!((49.0..52.0).contains(&p50), "{p50}");
        let p99 = first["p99_ms"].as_f64().unwrap();
        assert!((98.0..101.0).contains(&p99), "{p99}");
        // The hundred fall out of the window after eight intervals, and not before.
        for interval in 2..=8_u32 {
            let report = recorder.report(from + tick * interval);
            assert!(report["p99_ms"].as_f64().unwrap() > 90.0, "{interval}");
            assert_eq!(report["ok"], 0);
        }
        let later = recorder.report(from + tick * 9);
        assert_eq!(later["p99_ms"], 0.0);
        assert_eq!(later["ok_total"], 100);
    }

    #[test]
    fn each_failure_is_counted_once_by_class_and_says_why() {
        let from = Instant::now();
        let recorder = Recorder::new(from, true);
        for class in Class::ALL {
            let failure = Failure {
                class,
                why: "because".to_owned(),
            };
            recorder.failed(sample(from, 1, Outcome::Failed(class)), &failure);
        }
        recorder.good(sample(from, 1, Outcome::Stale));
        let totals = recorder.totals();
        assert_eq!((totals.ok, totals.stale, totals.failed), (1, 1, 6));
        assert_eq!(totals.by_class, [1; 6]);
        assert_eq!(totals.failed_gets, 6);
        assert_eq!(recorder.samples().0.len(), 7);
        assert_eq!(recorder.reasons()[2], "read: timeout after 1 ms: because");
        let report = recorder.report(from + Duration::from_millis(250));
        assert_eq!(report["failed_by_class"]["reset"], 1);
    }

    #[test]
    fn a_generator_that_falls_behind_says_so() {
        let from = Instant::now();
        let recorder = Recorder::new(from, false);
        for _ in 0..95 {
            recorder.arrival(Arrival::OnTime);
        }
        for _ in 0..5 {
            recorder.arrival(Arrival::Late);
        }
        assert!(!recorder.totals().saturated(), "one in twenty is allowed");
        recorder.arrival(Arrival::Late);
        assert!(recorder.totals().saturated());
        assert_eq!(recorder.report(from)["saturated"], true);
        let recorder = Recorder::new(from, false);
        recorder.arrival(Arrival::Unsent);
        assert!(
            recorder.totals().saturated(),
            "one that was not sent is too many"
        );
    }
}
