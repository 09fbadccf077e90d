//! Which replica to promote.

use std::cmp::Reverse;

/// A copy that might be promoted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "plain input, built by the caller"
)]
pub struct Candidate<Id> {
    /// Its name; the lowest wins when all else is equal.
    pub id: Id,
    /// Whether it answered.
    pub reachable: bool,
    /// The epoch (PostgreSQL: the timeline) of its last record.
    pub timeline: u64,
    /// The last position durably received.
    pub receive: u64,
    /// The last position applied. After a restart it may be ahead of what a server reports as received.
    pub replay: u64,
    /// Whether it is a synchronous replica.
    pub sync: bool,
    /// Higher is preferred among equals; 0 is never promoted.
    pub priority: u32,
    /// Never to be promoted.
    pub no_failover: bool,
}

/// What a candidate must satisfy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "plain input, built by the caller"
)]
pub struct ElectRules {
    /// The highest timeline known; older ones are rejected.
    pub known_timeline: u64,
    /// The last position known of the dead primary.
    pub last_primary: u64,
    /// How many copies must be reachable; 0 for no such rule.
    pub quorum: usize,
    /// How far behind the primary a candidate may be.
    pub lag_max: Option<u64>,
    /// Whether only synchronous replicas may be promoted.
    pub require_sync: bool,
}

/// Why a candidate was not considered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rejection {
    /// It did not answer.
    Unreachable,
    /// It is marked as never to be promoted, or has priority 0.
    NoFailover,
    /// Its last record is of an older timeline.
    OldTimeline,
    /// It is not synchronous.
    NotSync,
    /// It is too far behind the primary.
    TooFarBehind,
}

/// The outcome of a choice.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Election<Id> {
    /// Whom to promote, and the position that it has.
    pub elected: Option<(Id, u64)>,
    /// What is lost at most: the primary's last known position less the elected one's.
    pub lost_at_most: Option<u64>,
    /// Who was not considered, and why.
    pub rejected: Vec<(Id, Rejection)>,
}

/// Too few copies answer for anybody to be promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reachable} of the {needed} copies that a promotion needs can be reached")]
#[non_exhaustive]
pub struct NoElection {
    /// How many answer.
    pub reachable: usize,
    /// How many are needed.
    pub needed: usize,
}

/// Chooses by timeline, then position (the higher of received and applied), then applied position,
/// priority, and lowest id. Data always comes before priority.
///
/// # Errors
/// [`NoElection`] when fewer than `quorum` candidates can be reached.
pub fn elect<Id: Ord + Clone>(
    candidates: &[Candidate<Id>],
    rules: &ElectRules,
) -> Result<Election<Id>, NoElection> {
    let reachable = candidates.iter().filter(|one| one.reachable).count();
    if reachable < rules.quorum {
        return Err(NoElection {
            reachable,
            needed: rules.quorum,
        });
    }
    let position = |one: &Candidate<Id>| one.receive.max(one.replay);
    let refuse = |one: &Candidate<Id>| {
        if !one.reachable {
            Some(Rejection::Unreachable)
        } else if one.no_failover || one.priority == 0 {
            Some(Rejection::NoFailover)
        } else if one.timeline < rules.known_timeline {
            Some(Rejection::OldTimeline)
        } else if rules.require_sync && !one.sync {
            Some(Rejection::NotSync)
        } else if rules
            .lag_max
            .is_some_and(|max| rules.last_primary.saturating_sub(position(one)) > max)
        {
            Some(Rejection::TooFarBehind)
        } else {
            None
        }
    };
    let mut rejected = Vec::new();
    let mut best: Option<&Candidate<Id>> = None;
    for one in candidates {
        if let Some(why) = refuse(one) {
            rejected.push((one.id.clone(), why));
            continue;
        }
        let key = |one: &Candidate<Id>| {
            (
                one.timeline,
                position(one),
                one.replay,
                one.priority,
                Reverse(one.id.clone()),
            )
        };
        if best.is_none_or(|best| key(one) > key(best)) {
            best = Some(one);
        }
    }
    Ok(Election {
        elected: best.map(|one| (one.id.clone(), position(one))),
        lost_at_most: best.map(|one| rules.last_primary.saturating_sub(position(one))),
        rejected,
    })
}
