//! Which claim to be the primary counts.

use std::collections::BTreeMap;

use crate::evidence::MemberId;

/// What a copy is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Standing {
    /// Its claim is the highest so far.
    Primary,
    /// It claims to be the primary, on a claim that has been superseded. It must get no writes.
    Stale,
    /// It claims nothing.
    Replica,
    /// It does not answer.
    Down,
}

/// Compares claims by (epoch, configuration version); an absent part is below every number. Equal
/// claims let the last claimant win, so make sure that an epoch has only one.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    highest: (Option<u64>, Option<u64>),
    standing: BTreeMap<MemberId, Standing>,
}

impl Claims {
    /// A copy says that it takes writes.
    pub fn writable(
        &mut self,
        member: MemberId,
        epoch: Option<u64>,
        version: Option<u64>,
    ) -> Standing {
        let claim = (epoch, version);
        let standing = if claim < self.highest {
            Standing::Stale
        } else {
            self.highest = claim;
            for standing in self.standing.values_mut() {
                if *standing == Standing::Primary {
                    *standing = Standing::Stale;
                }
            }
            Standing::Primary
        };
        self.standing.insert(member, standing);
        standing
    }

    /// A copy says that it takes no writes.
    pub fn read_only(&mut self, member: MemberId) {
        self.standing.insert(member, Standing::Replica);
    }

    /// A copy does not answer. The highest claim stays.
    pub fn down(&mut self, member: MemberId) {
        self.standing.insert(member, Standing::Down);
    }

    /// What a copy is taken for.
    #[must_use]
    pub fn standing(&self, member: MemberId) -> Option<Standing> {
        self.standing.get(&member).copied()
    }

    /// The copy that takes writes.
    #[must_use]
    pub fn primary(&self) -> Option<MemberId> {
        self.standing
            .iter()
            .find(|(_, standing)| **standing == Standing::Primary)
            .map(|(member, _)| *member)
    }

    /// The highest claim so far: epoch, configuration version.
    #[must_use]
    pub const fn highest(&self) -> (Option<u64>, Option<u64>) {
        self.highest
    }
}
