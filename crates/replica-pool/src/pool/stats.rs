//! What a pool has done, in counters that add up.

use crate::evidence::MemberId;

/// Counters of a pool, which only grow but for `asking`. At any time
/// `asked = refused + abandoned + asking +` the sum of the copies' `leased`, but for the moment in
/// which a request passes from one to the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Calls of [`read`](super::Pool::read) and [`write`](super::Pool::write).
    pub asked: u64,
    /// Those that ended with an error.
    pub refused: u64,
    /// Those that were dropped before they ended.
    pub abandoned: u64,
    /// Those that have not ended yet.
    pub asking: u64,
    /// Reads that the primary served although a replica would have done.
    pub reads_by_primary: u64,
    /// Each copy, in the order of the list.
    pub copies: Vec<CopyStats>,
}

/// Counters of the connections to one copy. At any time `opened = closed + idle + out` and
/// `leased = succeeded + failed + cancelled +` the leases that are out; a connection is `out` a little
/// longer than its lease, while the copy is asked whether it may write.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopyStats {
    /// The copy.
    pub member: MemberId,
    /// Connections opened.
    pub opened: u64,
    /// Connections closed.
    pub closed: u64,
    /// Attempts to connect that failed or took too long.
    pub connect_failures: u64,
    /// Connections that lie ready now.
    pub idle: usize,
    /// Connections in use now.
    pub out: usize,
    /// Callers who wait for a connection now.
    pub waiting: usize,
    /// Leases given.
    pub leased: u64,
    /// Leases that ended well.
    pub succeeded: u64,
    /// Leases that ended badly.
    pub failed: u64,
    /// Leases dropped without a word.
    pub cancelled: u64,
}

impl CopyStats {
    pub(super) const fn new(member: MemberId) -> Self {
        Self {
            member,
            opened: 0,
            closed: 0,
            connect_failures: 0,
            idle: 0,
            out: 0,
            waiting: 0,
            leased: 0,
            succeeded: 0,
            failed: 0,
            cancelled: 0,
        }
    }
}

/// How busy a copy was for somebody who got no connection to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Busy {
    /// The copy.
    pub member: MemberId,
    /// Connections in use.
    pub in_use: usize,
    /// Callers waiting.
    pub waiting: usize,
}

impl std::fmt::Display for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "all {} connections to copy {} are in use and {} callers wait",
            self.in_use, self.member, self.waiting
        )
    }
}
