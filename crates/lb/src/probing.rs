//! Active checks on a tokio runtime: the shell around [`Balancer::probes_due`].

use std::future::Future;
use std::time::Duration;

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

/// Checks all endpoints as they come due, and lets in those whose rest is over, for ever.
///
/// A check that takes longer than `patience` counts as bad. The clock is tokio's, so that its paused
/// time drives this too.
///
/// # Cancel safety
///
/// Dropping the future stops the checks. Those under way end by themselves and still count.
pub async fn keep_probing<T, S, P>(balancer: Balancer<T, S>, probe: P, patience: Duration)
where
    T: Clone + Send + Sync + 'static,
    S: Strategy + 'static,
    P: Probe<T>,
{
    let probe = std::sync::Arc::new(probe);
    loop {
        let now = tokio::time::Instant::now();
        balancer.handle_timeout(now.into_std());
        for due in balancer.probes_due(now.into_std()) {
            let (balancer, probe) = (balancer.clone(), std::sync::Arc::clone(&probe));
            tokio::spawn(async move {
                let answer = tokio::time::timeout(patience, probe.probe(due.target)).await;
                let now = tokio::time::Instant::now().into_std();
                balancer.probe_result(&due.id, answer.unwrap_or(false), now);
            });
        }
        let nap = balancer
            .next_deadline()
            .map_or(NAP_MAX, |at| at.saturating_duration_since(now.into_std()))
            .clamp(Duration::from_millis(1), NAP_MAX);
        tokio::time::sleep(nap).await;
    }
}
