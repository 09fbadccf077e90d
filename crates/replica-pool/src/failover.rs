//! What one coordinator does about a dead primary: suspect, fence a majority, choose, promote, repoint.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::elect::{Candidate, ElectRules, elect};
use crate::evidence::{Epoch, Evidence, Lsn, MemberId, Role};

/// Bounds of a [`Failover`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a configuration, written with `..Default::default()`"
)]
pub struct FailoverConfig {
    /// Time between two probes of one copy. Defaults to 100 ms.
    pub probe_every: Duration,
    /// Probes without an answer until a copy counts as dead. Defaults to 5.
    pub misses_max: u32,
    /// Refused connections in a row until a copy counts as dead: nobody listens there. The second try
    /// comes a fifth of `probe_every` later. Defaults to 2.
    pub refusals_max: u32,
    /// How long to gather promises, or wait for a promotion, until starting again with a higher epoch.
    /// Defaults to 1 s.
    pub step_max: Duration,
    /// Whether epochs count. Off follows whoever claimed last: only to show what epochs are there for.
    pub fencing: bool,
}

impl Default for FailoverConfig {
    fn default() -> Self {
        Self {
            probe_every: Duration::from_millis(100),
            misses_max: 5,
            refusals_max: 2,
            step_max: Duration::from_secs(1),
            fencing: true,
        }
    }
}

/// Something to be done. The outcome goes back through [`Failover::answered`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Action {
    /// Ask a copy for its evidence.
    Probe {
        /// The copy.
        member: MemberId,
    },
    /// Have a copy durably promise the epoch.
    Fence {
        /// The copy.
        member: MemberId,
        /// The epoch to promise.
        epoch: Epoch,
        /// Who asks.
        claimant: u64,
    },
    /// Make a copy that promised the epoch the primary.
    Promote {
        /// The copy.
        member: MemberId,
        /// The epoch of its reign.
        epoch: Epoch,
        /// Who asks.
        claimant: u64,
    },
    /// Tell a copy whom to follow.
    Follow {
        /// The copy.
        member: MemberId,
        /// The primary's epoch.
        epoch: Epoch,
        /// The primary.
        primary: MemberId,
    },
}

impl Action {
    /// Whom to ask.
    #[must_use]
    pub const fn member(&self) -> MemberId {
        match self {
            Self::Probe { member }
            | Self::Fence { member, .. }
            | Self::Promote { member, .. }
            | Self::Follow { member, .. } => *member,
        }
    }
}

/// Why an action has no evidence to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// The connection was refused: certainly not carried out.
    Refused,
    /// No answer: it may have been carried out.
    Lost,
}

/// What an operator would want to read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The primary counts as dead or has stepped down; promises are being gathered.
    Fencing {
        /// The primary that is given up.
        lost: Option<MemberId>,
        /// The epoch that is being claimed.
        epoch: Epoch,
    },
    /// A copy was chosen.
    Promoting {
        /// The copy.
        member: MemberId,
        /// The epoch of its reign.
        epoch: Epoch,
        /// The last record that it has.
        received: Lsn,
    },
    /// A primary reigns.
    Reigns {
        /// The primary.
        member: MemberId,
        /// Its epoch.
        epoch: Epoch,
    },
}

/// Counters that only grow. `fencings >= promotions`: each promotion needs a round of promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailoverStats {
    /// Rounds of promises begun.
    pub fencings: u64,
    /// Promotions that a copy confirmed.
    pub promotions: u64,
    /// Probes sent.
    pub probes: u64,
    /// Probes without an answer.
    pub misses: u64,
}

#[derive(Clone, Debug)]
struct Member {
    id: MemberId,
    evidence: Option<Evidence>,
    misses: u32,
    refusals: u32,
    next_probe: Instant,
    probing: bool,
    repointing: Option<Instant>,
    /// The probe on its way was sent before a promotion and may describe the time before it.
    outdated: bool,
}

#[derive(Clone, Debug)]
enum Phase {
    Watching {
        primary: Option<MemberId>,
    },
    Fencing {
        epoch: Epoch,
        claimant: u64,
        granted: BTreeMap<MemberId, Evidence>,
        until: Instant,
    },
    Promoting {
        epoch: Epoch,
        claimant: u64,
        member: MemberId,
        until: Instant,
    },
}

/// The coordinator of one set of copies. Two of them do no harm to data: each epoch belongs to the one
/// coordinator that a majority promised it to.
#[derive(Clone, Debug)]
pub struct Failover {
    config: FailoverConfig,
    members: Vec<Member>,
    phase: Phase,
    highest: Epoch,
    seed: u64,
    actions: VecDeque<Action>,
    notices: Vec<Notice>,
    stats: FailoverStats,
}

impl Failover {
    /// A coordinator that has asked nobody yet. `seed` must differ between coordinators.
    #[must_use]
    pub fn new(
        config: FailoverConfig,
        members: impl IntoIterator<Item = MemberId>,
        seed: u64,
        now: Instant,
    ) -> Self {
        Self {
            config,
            members: members
                .into_iter()
                .map(|id| Member {
                    id,
                    evidence: None,
                    misses: 0,
                    refusals: 0,
                    next_probe: now,
                    probing: false,
                    repointing: None,
                    outdated: false,
                })
                .collect(),
            phase: Phase::Watching { primary: None },
            highest: 0,
            seed,
            actions: VecDeque::new(),
            notices: Vec::new(),
            stats: FailoverStats::default(),
        }
    }

    /// The next thing to do now, if any. Call it until it says `None`, then again after each answer and
    /// at [`next_deadline`](Self::next_deadline).
    pub fn poll(&mut self, now: Instant) -> Option<Action> {
        if self.actions.is_empty() {
            self.step(now);
        }
        self.actions.pop_front()
    }

    /// When [`poll`](Self::poll) has something to do without an answer coming in.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let probes = self.members.iter().filter(|member| !member.probing);
        let step = match &self.phase {
            Phase::Watching { .. } => None,
            Phase::Fencing { until, .. } | Phase::Promoting { until, .. } => Some(*until),
        };
        probes.map(|member| member.next_probe).chain(step).min()
    }

    /// What came of an action. Answers may come late, in any order, or never for anything but a probe:
    /// a probe must be answered, with [`Failure::Lost`] when the caller's time for it is up.
    pub fn answered(&mut self, action: &Action, outcome: Result<Evidence, Failure>, now: Instant) {
        let probe = matches!(action, Action::Probe { .. });
        let Some(member) = self
            .members
            .iter_mut()
            .find(|one| one.id == action.member())
        else {
            return;
        };
        let outdated = match action {
            Action::Probe { .. } => std::mem::take(&mut member.outdated),
            // Promises of a round that is over, one way or the other.
            Action::Fence { epoch, .. } => {
                !matches!(&self.phase, Phase::Fencing { epoch: asked, .. } if asked == epoch)
            }
            Action::Promote { epoch, .. } => {
                !matches!(&self.phase, Phase::Promoting { epoch: asked, .. } if asked == epoch)
            }
            Action::Follow { .. } => false,
        };
        if probe {
            member.probing = false;
            member.next_probe = now + self.config.probe_every;
        }
        if matches!(action, Action::Follow { .. }) {
            // Told again, if need be, with the next probe and not in a busy loop.
            member.repointing = Some(now + self.config.probe_every);
        }
        match outcome {
            Ok(evidence) => {
                member.misses = 0;
                member.refusals = 0;
                let known = member.evidence.as_ref().map_or(0, |known| known.epoch);
                // A late answer must not undo a newer one. Of one copy only one probe is on its way, so
                // what it says is the newest, unless something was learned since it was sent; the
                // epoch may even have become lower then, with the disk.
                let newer =
                    evidence.epoch > known || (!outdated && (probe || evidence.epoch == known));
                if newer || !self.config.fencing {
                    member.evidence = Some(evidence.clone());
                    member.outdated = member.probing;
                }
                self.highest = self.highest.max(evidence.epoch);
                self.learned(action, evidence);
            }
            Err(failure) => {
                if probe {
                    self.stats.misses += 1;
                    member.misses += 1;
                    if failure == Failure::Refused {
                        member.refusals += 1;
                        if member.refusals < self.config.refusals_max {
                            member.next_probe = now + self.config.probe_every / 5;
                        }
                    } else {
                        member.refusals = 0;
                    }
                }
                if let (
                    Phase::Promoting { member, until, .. },
                    Action::Promote { member: asked, .. },
                ) = (&mut self.phase, action)
                    && member == asked
                {
                    *until = now;
                }
            }
        }
    }

    /// The primary as far as this coordinator knows.
    #[must_use]
    pub const fn primary(&self) -> Option<MemberId> {
        match self.phase {
            Phase::Watching { primary } => primary,
            Phase::Fencing { .. } | Phase::Promoting { .. } => None,
        }
    }

    /// The highest epoch seen or claimed.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.highest
    }

    /// Every copy, what it said last, and whether it counts as alive.
    pub fn copies(&self) -> impl Iterator<Item = (MemberId, Option<&Evidence>, bool)> {
        self.members
            .iter()
            .map(|member| (member.id, member.evidence.as_ref(), self.alive(member)))
    }

    /// What happened since the last call, for the log.
    pub fn notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// The counters.
    #[must_use]
    pub const fn stats(&self) -> FailoverStats {
        self.stats
    }

    fn majority(&self) -> usize {
        self.members.len() / 2 + 1
    }

    fn alive(&self, member: &Member) -> bool {
        member.evidence.is_some()
            && member.misses < self.config.misses_max
            && member.refusals < self.config.refusals_max
    }

    /// Whether the copies that answer are enough to promote one: a majority that has all it ever
    /// acknowledged, or, at the very beginning, every copy, and all of them blank.
    fn enough(&self, heard: &[&Evidence]) -> bool {
        heard.iter().filter(|evidence| evidence.voter).count() >= self.majority()
            || (heard.len() == self.members.len() && heard.iter().all(|evidence| evidence.blank()))
    }

    fn learned(&mut self, action: &Action, evidence: Evidence) {
        match (&mut self.phase, action) {
            (
                Phase::Fencing {
                    epoch,
                    claimant,
                    granted,
                    ..
                },
                Action::Fence {
                    member,
                    epoch: asked,
                    claimant: asker,
                },
            ) if epoch == asked && claimant == asker => {
                let promised = evidence.epoch == *epoch && evidence.claimant == *claimant;
                if promised || !self.config.fencing {
                    granted.insert(*member, evidence);
                }
            }
            (
                Phase::Promoting {
                    epoch,
                    claimant,
                    member,
                    until,
                },
                Action::Promote {
                    member: asked,
                    epoch: for_epoch,
                    claimant: asker,
                },
            ) if epoch == for_epoch && claimant == asker && member == asked => {
                if evidence.role == Role::Primary {
                    let (member, epoch) = (*member, *epoch);
                    self.stats.promotions += 1;
                    for one in self.members.iter_mut().filter(|one| one.id == member) {
                        one.outdated = one.probing;
                    }
                    self.notices.push(Notice::Reigns { member, epoch });
                    self.phase = Phase::Watching {
                        primary: Some(member),
                    };
                } else {
                    // It promised somebody else meanwhile: try again, higher.
                    *until = until.checked_sub(self.config.step_max).unwrap_or(*until);
                }
            }
            (Phase::Watching { primary }, Action::Probe { member })
                if !self.config.fencing && evidence.role == Role::Primary =>
            {
                *primary = Some(*member);
            }
            _ => {}
        }
    }

    fn step(&mut self, now: Instant) {
        for member in &mut self.members {
            if !member.probing && member.next_probe <= now {
                member.probing = true;
                self.stats.probes += 1;
                self.actions.push_back(Action::Probe { member: member.id });
            }
        }
        match &self.phase {
            Phase::Watching { .. } => self.watch(now),
            Phase::Fencing {
                epoch,
                claimant,
                granted,
                until,
            } => {
                if self.enough(&granted.values().collect::<Vec<_>>()) {
                    let (epoch, claimant, granted) = (*epoch, *claimant, granted.clone());
                    self.choose(epoch, claimant, &granted, now);
                } else if *until <= now {
                    self.fence(None, now);
                }
            }
            Phase::Promoting { until, .. } => {
                // Whether it was promoted is unknown: nobody else may be in this epoch.
                if *until <= now {
                    self.fence(None, now);
                }
            }
        }
    }

    fn watch(&mut self, now: Instant) {
        // The reigning primary is the one whose epoch is the highest that anybody promised; a copy
        // that promised higher to a coordinator that is gone would never follow it.
        let reigning = self
            .members
            .iter()
            .filter(|member| self.alive(member))
            .filter_map(|member| Some((member.id, member.evidence.as_ref()?)))
            .filter(|(id, evidence)| {
                evidence.role == Role::Primary
                    && if self.config.fencing {
                        evidence.epoch == self.highest
                    } else {
                        self.primary().is_none_or(|primary| primary == *id)
                    }
            })
            .map(|(id, evidence)| (id, evidence.epoch))
            .next();
        let was = self.primary();
        let Some((primary, epoch)) = reigning else {
            let heard: Vec<_> = self
                .members
                .iter()
                .filter(|member| self.alive(member))
                .filter_map(|member| member.evidence.as_ref())
                .collect();
            // A primary that answers, but that another copy's promise overtook, is replaced too.
            let waiting = self
                .members
                .iter()
                .any(|member| member.evidence.is_none() && member.misses == 0);
            if self.enough(&heard) && !waiting {
                self.fence(was, now);
            }
            return;
        };
        if was != Some(primary) {
            self.notices.push(Notice::Reigns {
                member: primary,
                epoch,
            });
            self.phase = Phase::Watching {
                primary: Some(primary),
            };
        }
        self.repoint(primary, epoch, now);
    }

    fn repoint(&mut self, primary: MemberId, epoch: Epoch, now: Instant) {
        let due: Vec<MemberId> = self
            .members
            .iter()
            .filter(|member| member.id != primary && self.alive(member))
            .filter(|member| member.repointing.is_none_or(|until| until <= now))
            .filter(|member| {
                member.evidence.as_ref().is_some_and(|evidence| {
                    evidence.role == Role::Primary
                        || evidence.following != Some(primary)
                        || evidence.epoch < epoch
                })
            })
            .map(|member| member.id)
            .collect();
        for id in due {
            self.actions.push_back(Action::Follow {
                member: id,
                epoch,
                primary,
            });
            if let Some(member) = self.members.iter_mut().find(|member| member.id == id) {
                member.repointing = Some(now + self.config.step_max);
            }
        }
    }

    fn fence(&mut self, lost: Option<MemberId>, now: Instant) {
        self.highest += 1;
        let epoch = self.highest;
        let claimant = mix(self.seed ^ epoch);
        self.stats.fencings += 1;
        self.notices.push(Notice::Fencing { lost, epoch });
        for member in &self.members {
            self.actions.push_back(Action::Fence {
                member: member.id,
                epoch,
                claimant,
            });
        }
        self.phase = Phase::Fencing {
            epoch,
            claimant,
            granted: BTreeMap::new(),
            until: now + self.config.step_max,
        };
    }

    fn choose(
        &mut self,
        epoch: Epoch,
        claimant: u64,
        granted: &BTreeMap<MemberId, Evidence>,
        now: Instant,
    ) {
        let bootstrap = granted.values().all(Evidence::blank);
        let candidates: Vec<_> = granted
            .iter()
            .filter(|(_, evidence)| evidence.voter || bootstrap)
            .map(|(id, evidence)| Candidate {
                id: *id,
                reachable: true,
                timeline: evidence.last_epoch,
                receive: evidence.received,
                replay: evidence.applied,
                sync: true,
                priority: 1,
                no_failover: false,
            })
            .collect();
        let rules = ElectRules {
            known_timeline: candidates.iter().map(|one| one.timeline).max().unwrap_or(0),
            ..ElectRules::default()
        };
        let elected = elect(&candidates, &rules)
            .ok()
            .and_then(|election| election.elected);
        let Some((member, received)) = elected else {
            return;
        };
        self.notices.push(Notice::Promoting {
            member,
            epoch,
            received,
        });
        self.actions.push_back(Action::Promote {
            member,
            epoch,
            claimant,
        });
        self.phase = Phase::Promoting {
            epoch,
            claimant,
            member,
            until: now + self.config.step_max,
        };
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): spreads seeds over all 64 bits.
const fn mix(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
