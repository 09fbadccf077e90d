//! The event log: what happened, when, and why, for the page and for `stackbeam events`.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// How many events are kept; older ones are forgotten.
const EVENTS_MAX: usize = 1_000;

/// One line of the log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Event {
    /// Counts up by one from 1.
    pub(crate) seq: u64,
    /// Milliseconds since 1970, for showing.
    pub(crate) at_ms: u64,
    /// Whom it concerns, such as `web-1`; `you` for the person at the page.
    pub(crate) node: String,
    pub(crate) text: String,
}

/// A bounded log that many may follow. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    inner: Arc<Mutex<VecDeque<Event>>>,
    newest: watch::Sender<u64>,
}

impl Events {
    pub(crate) fn new() -> Self {
        Self {
            inner: Arc::default(),
            newest: watch::Sender::new(0),
        }
    }

    /// Appends one event; the oldest gives way when the log is full.
    pub(crate) fn push(&self, at_ms: u64, node: &str, text: impl Into<String>) {
        let mut inner = self.inner.lock();
        let seq = inner.back().map_or(0, |event| event.seq).saturating_add(1);
        if inner.len() == EVENTS_MAX {
            inner.pop_front();
        }
        inner.push_back(Event {
            seq,
            at_ms,
            node: node.to_owned(),
            text: text.into(),
        });
        self.newest.send_replace(seq);
    }

    /// The events after `seq`, oldest first, as far as they are kept.
    pub(crate) fn after(&self, seq: u64) -> Vec<Event> {
        let inner = self.inner.lock();
        let first = inner.partition_point(|event| event.seq <= seq);
        inner.range(first..).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_forgets_the_oldest_and_numbers_go_on() {
        let events = Events::new();
        for n in 0..1_003 {
            events.push(n, "web-1", "again");
        }
        let kept = events.after(0);
        assert_eq!(kept.len(), 1_000);
        assert_eq!(kept.first().map(|event| event.seq), Some(4));
        assert_eq!(events.after(1_002).len(), 1);
        assert!(events.after(1_003).is_empty());
    }
}
