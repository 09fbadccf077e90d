//! The task that asks one copy how it is, for as long as the pool lives.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::Inner;
use crate::engine::Engine;
use crate::evidence::{Epoch, Role};
use crate::failover::Action;

/// A copy is never asked more often than this, however much is doubted.
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(5);

pub(super) async fn for_ever<E: Engine>(pool: Arc<Inner<E>>, place: usize) {
    let (Some(endpoint), Some(doubt)) = (pool.endpoints.get(place), pool.doubts.get(place)) else {
        return;
    };
    let member = endpoint.member;
    let probe = Action::Probe { member };
    let mut known: Option<(Role, Epoch)> = None;
    loop {
        let asked = Instant::now();
        let answer = timeout(pool.options.probe_wait_max, pool.engine.perform(&probe)).await;
        let now = Instant::now();
        let part = match answer {
            Ok(Ok(evidence)) => {
                // Who follows whom changes nothing for those who read from a replica.
                let part = match evidence.role {
                    Role::Primary => (Role::Primary, evidence.epoch),
                    Role::Replica => (Role::Replica, 0),
                };
                pool.view.lock().observe(member, evidence, now.into_std());
                Some(part)
            }
            Ok(Err(_)) | Err(_) => {
                pool.view.lock().fail(member, now.into_std());
                None
            }
        };
        if part != known {
            // Connections from before may hang, or lead to a primary that no longer is one.
            tracing::debug!(member, ?part, "a copy plays another part");
            endpoint.renew();
            known = part;
        }
        endpoint.prune(&pool.options, now);
        pool.news.send_replace(());
        let pause = pool.pause(member);
        sleep_until(asked + PAUSE_MIN).await;
        let _doubted = timeout(pause.saturating_sub(PAUSE_MIN), doubt.notified()).await;
    }
}
