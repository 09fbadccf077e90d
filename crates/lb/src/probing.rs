//! Active checks on a tokio runtime: the shell around [`Balancer::probes_due`].

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::{Balancer, Strategy};

/// Checks whether an endpoint is well.
///
/// # What an implementor must keep true
///
/// The future may be dropped at any time: a check that takes longer than its limit is.
pub trait Probe<T>: Send + Sync + 'static {
    /// True if the endpoint at `target` can take requests.
    fn probe(&self, target: T) -> impl Future<Output = bool> + Send;
}

impl<T, F, R> Probe<T> for F
where
    F: Fn(T) -> R + Send + Sync + 'static,
    R: Future<Output = bool> + Send,
{
    fn probe(&self, target: T) -> impl Future<Output = bool> + Send {
        self(target)
    }
}

/// The longest nap between two looks at what is due, so that new endpoints are checked soon.
const NAP_MAX: Duration = Duration::from_millis(100);

/// Checks under way at a time; others wait for their turn.
const AT_ONCE_MAX: usize = 256;

/// Checks all endpoints as they come due, and lets in those whose rest is over, for ever.
///
/// A check that takes longer than `patience` counts as bad. One whose task panics counts as bad too,
/// after the time of [`ProbeConfig::with_patience`](crate::ProbeConfig::with_patience). At most 256 are
/// under way at a time. The clock is tokio's, so that its paused time drives this too.
///
/// # Cancel safety
///
/// Dropping the future stops the checks. Those under way are given up; their endpoints are due again
/// after the time of [`ProbeConfig::with_patience`](crate::ProbeConfig::with_patience), having one bad
/// check.
pub async fn keep_probing<T, S, P>(balancer: Balancer<T, S>, probe: P, patience: Duration)
where
    T: Clone + Send + Sync + 'static,
    S: Strategy + 'static,
    P: Probe<T>,
{
    let probe = Arc::new(probe);
    let mut checks = JoinSet::new();
    loop {
        let now = Instant::now();
        balancer.handle_timeout(now.into_std());
        for due in balancer.probes_due_up_to(AT_ONCE_MAX - checks.len(), now.into_std()) {
            let (balancer, probe) = (balancer.clone(), Arc::clone(&probe));
            checks.spawn(async move {
                let answer = tokio::time::timeout(patience, probe.probe(due.target)).await;
                let now = Instant::now().into_std();
                balancer.probe_result(&due.id, answer.unwrap_or(false), now);
            });
        }
        let nap = balancer
            .next_deadline()
            .map_or(NAP_MAX, |at| at.saturating_duration_since(now.into_std()))
            .clamp(Duration::from_millis(1), NAP_MAX);
        // Whatever has ended makes room, however it ended.
        let full = checks.len() >= AT_ONCE_MAX;
        let _nap_over = tokio::time::timeout(nap, async {
            while checks.join_next().await.is_some() && !full {}
            if !full {
                std::future::pending::<()>().await;
            }
        })
        .await;
    }
}
