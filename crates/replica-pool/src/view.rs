//! What a client believes about the copies, and where it sends reads and writes.

use std::time::{Duration, Instant};

use crate::claims::{Claims, Standing};
use crate::evidence::{Epoch, Evidence, Lsn, MemberId, Role};

/// Bounds of a [`View`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a configuration, written with `..Default::default()`"
)]
pub struct ViewConfig {
    /// Evidence older than this says nothing any more. Defaults to 3 s.
    pub evidence_age_max: Duration,
    /// Replicas whose view of the primary is older than this serve no reads. Defaults to 10 s.
    pub lag_max: Duration,
    /// Whether epochs count. Off lets the last claimant win, which splits brains: only to show what
    /// epochs are there for.
    pub fencing: bool,
}

impl Default for ViewConfig {
    fn default() -> Self {
        Self {
            evidence_age_max: Duration::from_secs(3),
            lag_max: Duration::from_secs(10),
            fencing: true,
        }
    }
}

/// What a read asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "plain input, written with `..Default::default()`"
)]
pub struct Need {
    /// The copy must have applied this: the position of the reader's last write. 0 for any.
    pub at_least: Lsn,
    /// Copies that this request has tried in vain.
    pub exclude: Vec<MemberId>,
}

/// Where a read goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Route {
    /// Ask this copy.
    Serve(MemberId),
    /// No copy is known to be far enough; this one is nearest and may get there. Ask it to wait.
    Wait(MemberId),
    /// No copy can be asked.
    Nobody {
        /// How many copies there are.
        known: usize,
        /// How many of them answer.
        ready: usize,
    },
}

/// Picks among copies that all may answer. Closures qualify.
pub trait Choose {
    /// An index into `candidates`, which is never empty; one out of range means the last.
    fn choose(&mut self, candidates: &[MemberId]) -> usize;
}

impl<F: FnMut(&[MemberId]) -> usize> Choose for F {
    fn choose(&mut self, candidates: &[MemberId]) -> usize {
        self(candidates)
    }
}

/// Takes turns.
#[derive(Clone, Debug, Default)]
pub struct Rotate {
    next: usize,
}

impl Choose for Rotate {
    fn choose(&mut self, candidates: &[MemberId]) -> usize {
        self.next = self.next.wrapping_add(1);
        self.next % candidates.len().max(1)
    }
}

#[derive(Clone, Debug)]
struct Known {
    id: MemberId,
    heard: Option<(Evidence, Instant)>,
    up: bool,
}

/// What a client believes about the copies.
///
/// Being wrong costs a detour, never a stale read or a write in two places: the copies themselves check
/// epoch and position.
#[derive(Clone, Debug)]
pub struct View {
    config: ViewConfig,
    members: Vec<Known>,
    claims: Claims,
}

impl View {
    /// A view that knows nothing yet about `members`.
    #[must_use]
    pub fn new(config: ViewConfig, members: impl IntoIterator<Item = MemberId>) -> Self {
        Self {
            config,
            members: members
                .into_iter()
                .map(|id| Known {
                    id,
                    heard: None,
                    up: false,
                })
                .collect(),
            claims: Claims::default(),
        }
    }

    /// A copy answered. Evidence of members that are not in the list is ignored.
    pub fn observe(&mut self, member: MemberId, evidence: Evidence, now: Instant) {
        let epoch = self.config.fencing.then_some(evidence.epoch);
        let Some(known) = self.members.iter_mut().find(|known| known.id == member) else {
            return;
        };
        match evidence.role {
            Role::Primary => {
                self.claims.writable(member, epoch, None);
            }
            Role::Replica => self.claims.read_only(member),
        }
        known.up = true;
        known.heard = Some((evidence, now));
    }

    /// A copy did not answer, or answered that it is broken.
    pub fn fail(&mut self, member: MemberId, _now: Instant) {
        if let Some(known) = self.members.iter_mut().find(|known| known.id == member) {
            known.up = false;
            self.claims.down(member);
        }
    }

    /// A copy answered that it is not the primary.
    pub fn deposed(&mut self, member: MemberId) {
        if self.claims.standing(member) == Some(Standing::Primary) {
            self.claims.read_only(member);
            if let Some(Known {
                heard: Some((evidence, _)),
                ..
            }) = self.members.iter_mut().find(|known| known.id == member)
            {
                evidence.role = Role::Replica;
            }
        }
    }

    /// A copy answered a read at this position.
    pub fn reached(&mut self, member: MemberId, lsn: Lsn) {
        if let Some(Known {
            heard: Some((evidence, _)),
            ..
        }) = self.members.iter_mut().find(|known| known.id == member)
        {
            evidence.applied = evidence.applied.max(lsn);
        }
    }

    /// Where writes go: the claimant of the highest epoch, if it answers.
    #[must_use]
    pub fn primary(&self) -> Option<MemberId> {
        self.claims.primary()
    }

    /// Whether a copy answered when it was last asked.
    #[must_use]
    pub fn answers(&self, member: MemberId) -> bool {
        self.members
            .iter()
            .any(|known| known.id == member && known.up)
    }

    /// How many copies answered when they were last asked.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.members.iter().filter(|known| known.up).count()
    }

    /// The position that a copy is known to have applied; 0 if it never answered.
    #[must_use]
    pub fn applied(&self, member: MemberId) -> Lsn {
        self.members
            .iter()
            .find(|known| known.id == member)
            .and_then(|known| known.heard.as_ref())
            .map_or(0, |(evidence, _)| evidence.applied)
    }

    /// The highest epoch that anybody has claimed.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.claims.highest().0.unwrap_or(0)
    }

    /// Where a read goes: a healthy replica that has `at_least`; else the primary; else the replica
    /// that is nearest, to wait there. A deposed primary is a replica that nobody has told yet and gets
    /// nothing. When every replica is past the lag bound and there is no primary, the bound gives way:
    /// an old answer beats none, and positions are still honoured.
    pub fn read(&self, need: &Need, choose: &mut impl Choose, now: Instant) -> Route {
        let fresh = |known: &&Known| {
            known.up
                && !need.exclude.contains(&known.id)
                && self.claims.standing(known.id) == Some(Standing::Replica)
                && known.heard.as_ref().is_some_and(|(_, at)| {
                    now.saturating_duration_since(*at) <= self.config.evidence_age_max
                })
        };
        let age = |known: &Known| {
            known
                .heard
                .as_ref()
                .map_or(Duration::MAX, |(evidence, at)| {
                    evidence
                        .age
                        .saturating_add(now.saturating_duration_since(*at))
                })
        };
        let applied = |known: &Known| {
            known
                .heard
                .as_ref()
                .map_or(0, |(evidence, _)| evidence.applied)
        };
        let replicas: Vec<&Known> = self.members.iter().filter(fresh).collect();
        let pick = |ids: Vec<MemberId>, choose: &mut dyn FnMut(&[MemberId]) -> usize| {
            let index = choose(&ids).min(ids.len().saturating_sub(1));
            ids.get(index).copied()
        };
        let ready = |lag_max: Duration| -> Vec<MemberId> {
            replicas
                .iter()
                .filter(|known| applied(known) >= need.at_least && age(known) <= lag_max)
                .map(|known| known.id)
                .collect()
        };
        if let Some(id) = pick(ready(self.config.lag_max), &mut |ids| choose.choose(ids)) {
            return Route::Serve(id);
        }
        if let Some(primary) = self.primary().filter(|id| !need.exclude.contains(id)) {
            return Route::Serve(primary);
        }
        if let Some(id) = pick(ready(Duration::MAX), &mut |ids| choose.choose(ids)) {
            return Route::Serve(id);
        }
        match replicas.iter().max_by_key(|known| applied(known)) {
            Some(nearest) => Route::Wait(nearest.id),
            None => Route::Nobody {
                known: self.members.len(),
                ready: self.ready(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(role: Role, applied: Lsn) -> Evidence {
        Evidence::new(role, 1).with_positions(10, applied)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a test needs some instant to start from"
    )]
    fn now() -> Instant {
        Instant::now()
    }

    #[test]
    fn reads_spread_over_healthy_replicas_and_spare_the_primary() {
        let now = now();
        let mut view = View::new(ViewConfig::default(), [0, 1, 2]);
        view.observe(0, at(Role::Primary, 10), now);
        view.observe(1, at(Role::Replica, 10), now);
        view.observe(2, at(Role::Replica, 10), now);
        let mut rotate = Rotate::default();
        let mut seen = [0_u32; 3];
        for _ in 0..100 {
            if let Route::Serve(id) = view.read(&Need::default(), &mut rotate, now) {
                seen[usize::from(id)] += 1;
            }
        }
        assert_eq!(seen, [0, 50, 50]);
        view.fail(2, now);
        assert_eq!(
            view.read(&Need::default(), &mut rotate, now),
            Route::Serve(1)
        );
        view.fail(1, now);
        assert_eq!(
            view.read(&Need::default(), &mut rotate, now),
            Route::Serve(0)
        );
    }

    #[test]
    fn reads_go_on_without_a_primary_but_never_below_the_position() {
        let now = now();
        let mut view = View::new(ViewConfig::default(), [0, 1]);
        view.observe(0, at(Role::Primary, 10), now);
        view.observe(1, at(Role::Replica, 6), now);
        view.fail(0, now);
        let mut rotate = Rotate::default();
        let need = |at_least| Need {
            at_least,
            ..Need::default()
        };
        assert_eq!(view.read(&need(6), &mut rotate, now), Route::Serve(1));
        assert_eq!(view.read(&need(7), &mut rotate, now), Route::Wait(1));
    }

    #[test]
    fn a_replica_past_the_lag_bound_or_unheard_of_is_passed_over() {
        let now = now();
        let mut view = View::new(ViewConfig::default(), [0, 1]);
        view.observe(0, at(Role::Primary, 10), now);
        let mut old = at(Role::Replica, 10);
        old.age = Duration::from_secs(11);
        view.observe(1, old, now);
        let mut rotate = Rotate::default();
        assert_eq!(
            view.read(&Need::default(), &mut rotate, now),
            Route::Serve(0)
        );
        view.observe(1, at(Role::Replica, 10), now);
        assert_eq!(
            view.read(&Need::default(), &mut rotate, now),
            Route::Serve(1)
        );
        let later = now + Duration::from_secs(4);
        assert_eq!(
            view.read(&Need::default(), &mut rotate, later),
            Route::Serve(0)
        );
    }

    #[test]
    fn a_deposed_primary_gets_neither_writes_nor_reads() {
        let now = now();
        let mut view = View::new(ViewConfig::default(), [0, 1]);
        view.observe(0, at(Role::Primary, 10), now);
        view.observe(
            1,
            Evidence::new(Role::Primary, 2).with_positions(10, 10),
            now,
        );
        view.observe(0, at(Role::Primary, 11), now);
        assert_eq!(view.primary(), Some(1));
        view.fail(1, now);
        assert_eq!(
            view.read(&Need::default(), &mut Rotate::default(), now),
            Route::Nobody { known: 2, ready: 1 }
        );
        assert_eq!(view.primary(), None);
    }
}
