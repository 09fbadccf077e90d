//! Whether one server of a pool is in use, and what it is to be told before it is again.

use std::collections::HashSet;
use std::time::{Duration, Instant};

/// Failures in a row that put a server out of use.
pub(super) const FAILURES_MAX: u32 = 3;
/// How long a server is left alone after its first outage, and at most.
pub(super) const REST: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// A circuit breaker that remembers the removals which the server has missed. Time comes in.
#[derive(Debug)]
pub(super) struct Health {
    state: State,
    /// In a row.
    failures: u32,
    failures_max: u32,
    rest: Duration,
    owed: Owed,
    owed_max: usize,
    pub(super) outages: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    In,
    /// Left alone until then.
    Out(Instant),
    /// Somebody tries whether it is back.
    Trial,
}

/// Removals that the server has missed.
#[derive(Debug)]
enum Owed {
    Keys(HashSet<Vec<u8>>),
    All,
}

/// Whether a server may be asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pass {
    In,
    Out,
    /// No, but this caller is to see to it that it is tried.
    Try,
}

/// What a server is to be told next before it is in use again.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Debt {
    Key(Vec<u8>),
    All,
    /// Nothing: it is in use from now on.
    Paid,
}

impl Health {
    pub(super) fn new(failures_max: u32, owed_max: usize) -> Self {
        Self {
            state: State::In,
            failures: 0,
            failures_max,
            rest: REST.0,
            owed: Owed::Keys(HashSet::new()),
            owed_max,
            outages: 0,
        }
    }

    pub(super) fn is_in(&self) -> bool {
        self.state == State::In
    }

    pub(super) fn owed(&self) -> usize {
        match &self.owed {
            Owed::Keys(keys) => keys.len(),
            Owed::All => self.owed_max.saturating_add(1),
        }
    }

    pub(super) fn pass(&mut self, now: Instant) -> Pass {
        match self.state {
            State::In => Pass::In,
            State::Out(until) if now >= until => {
                self.state = State::Trial;
                Pass::Try
            }
            State::Out(_) | State::Trial => Pass::Out,
        }
    }

    pub(super) const fn succeeded(&mut self) {
        self.failures = 0;
        if matches!(self.state, State::In) {
            self.rest = REST.0;
        }
    }

    /// A call failed that left nothing undone which would have to be done later.
    pub(super) fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        if self.is_in() && self.failures >= self.failures_max {
            self.go_out(now);
        }
    }

    /// A removal failed, or was not tried because the server is out: it is out until it has been told.
    pub(super) fn owe(&mut self, key: Option<&[u8]>, now: Instant) {
        match (&mut self.owed, key) {
            (Owed::Keys(keys), Some(key)) if keys.len() < self.owed_max || keys.contains(key) => {
                keys.insert(key.to_vec());
            }
            (owed, _) => *owed = Owed::All,
        }
        if self.is_in() {
            self.go_out(now);
        }
    }

    fn go_out(&mut self, now: Instant) {
        self.state = State::Out(now + self.rest);
        self.outages += 1;
    }

    /// The trial has failed, or was given up: the server has perhaps not been told this.
    pub(super) fn stays_out(&mut self, untold: Option<Debt>, now: Instant) {
        match untold {
            Some(Debt::Key(key)) => self.owe(Some(&key), now),
            Some(Debt::All) => self.owe(None, now),
            Some(Debt::Paid) | None => {}
        }
        self.rest = self.rest.saturating_mul(2).min(REST.1);
        self.state = State::Out(now + self.rest);
    }

    /// What the server on trial is to be told next. It is taken off the list before: what is owed
    /// from now on comes after it.
    pub(super) fn debt(&mut self) -> Debt {
        let next = match &mut self.owed {
            Owed::All => Debt::All,
            Owed::Keys(keys) => {
                let key = keys.iter().next().cloned();
                key.and_then(|key| keys.take(&key))
                    .map_or(Debt::Paid, Debt::Key)
            }
        };
        match next {
            Debt::All => self.owed = Owed::Keys(HashSet::new()),
            Debt::Paid => {
                self.state = State::In;
                self.failures = 0;
            }
            Debt::Key(_) => {}
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Moments, in milliseconds after the first.
    fn clock() -> impl Fn(u64) -> Instant {
        #[expect(clippy::disallowed_methods, reason = "any moment will do")]
        let start = Instant::now();
        move |ms| start + Duration::from_millis(ms)
    }

    #[test]
    fn failures_in_a_row_put_a_server_out_and_one_caller_tries_it_later() {
        let at = clock();
        let mut health = Health::new(3, 10);
        for _ in 0..2 {
            health.failed(at(0));
        }
        health.succeeded();
        for _ in 0..2 {
            health.failed(at(0));
        }
        assert_eq!(health.pass(at(0)), Pass::In);
        health.failed(at(0));
        assert_eq!(health.pass(at(499)), Pass::Out);
        assert_eq!(health.pass(at(500)), Pass::Try);
        assert_eq!(health.pass(at(500)), Pass::Out, "one is enough");
        health.stays_out(None, at(600));
        assert_eq!(health.pass(at(1_599)), Pass::Out, "twice as long");
        assert_eq!(health.pass(at(1_600)), Pass::Try);
        assert_eq!(health.debt(), Debt::Paid);
        assert_eq!((health.pass(at(1_600)), health.outages), (Pass::In, 1));
    }

    #[test]
    fn what_a_server_was_not_told_puts_it_out_at_once_and_is_told_first() {
        let at = clock();
        let mut health = Health::new(3, 2);
        health.owe(Some(b"a"), at(0));
        assert_eq!(health.pass(at(0)), Pass::Out);
        health.owe(Some(b"a"), at(1));
        assert_eq!(health.owed(), 1);
        assert_eq!(health.pass(at(500)), Pass::Try);
        let debt = health.debt();
        assert_eq!(debt, Debt::Key(b"a".to_vec()));
        // Owed again while it is being told: told again.
        health.owe(Some(b"a"), at(501));
        assert_eq!(health.debt(), Debt::Key(b"a".to_vec()));
        health.stays_out(Some(debt), at(502));
        assert_eq!((health.owed(), health.is_in()), (1, false));
    }

    #[test]
    fn too_much_owed_is_everything() {
        let at = clock();
        let mut health = Health::new(3, 2);
        for key in [b"a", b"b", b"c"] {
            health.owe(Some(key), at(0));
        }
        assert_eq!(health.debt(), Debt::All);
        health.stays_out(Some(Debt::All), at(0));
        assert_eq!(health.debt(), Debt::All);
        assert_eq!(health.debt(), Debt::Paid);
    }
}
