//! Replicas over zones: caps for each zone, and a least number of zones.

use alloc::vec::Vec;
use core::ops::ControlFlow;

use crate::mix;
use crate::{Members, NodeIx, Placement};

/// How the replicas of a key are spread over zones, for one set of members.
///
/// A zone here is the first `depth` parts of a member's zone path: with `eu/eu-1/rack-7` depth 1 spreads
/// over regions, 2 over data centres, 3 over racks. The placement's walk is followed from the owner on, and
/// a node is taken if
///
/// * it lies within the part that [`within`](Self::within) names (all, unless it is called),
/// * its zone has fewer than [`per_zone_max`](Self::per_zone_max) replicas yet (no bound by default), and
/// * its zone has none yet, or enough replicas are still to come to reach
///   [`zones_min`](Self::zones_min) zones. By default that is as many zones as there are replicas, or as there
///   are zones.
///
/// So the owner is always the first (if it lies within), no node comes twice, the walk's order is kept, and a
/// member that goes moves only replicas that it had and those that the rules tie to it. The caps are
/// hard: where they leave fewer nodes than are asked for, fewer come back. The least number of zones is not:
/// it is never more than there are.
///
/// With a depth of racks, `within` a data centre and the default for the rest this is Cassandra's
/// `NetworkTopologyStrategy` for that data centre.
///
/// *Costs*: 4 bytes a member; a look-up walks until the rules are met, at worst over all nodes, and compares
/// zones of the replicas found so far. It allocates as a walk does.
///
/// ```
/// use stackbeam_consistent_hash::{Member, Members, NodeIx, Rendezvous, Spread};
///
/// let members = Members::new([
///     Member::new("a1").with_zone("eu/a"), Member::new("a2").with_zone("eu/a"),
///     Member::new("b1").with_zone("eu/b"), Member::new("c1").with_zone("us/c"),
/// ])?;
/// let placement = Rendezvous::new(&members)?;
/// let regions = Spread::new(&members, 1);
/// let mut replicas = [NodeIx::default(); 2];
/// assert_eq!(regions.owners(&placement, 42, &mut replicas), 2);
/// assert_ne!(
///     members[replicas[0]].zone_prefix(1),
///     members[replicas[1]].zone_prefix(1),
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Spread {
    members: Members,
    depth: usize,
    /// The zone of each node; nobody's for nodes that own no keys or lie outside.
    zones: Vec<u32>,
    zone_count: usize,
    zones_min: usize,
    per_zone_max: usize,
}

const OUTSIDE: u32 = u32::MAX;

impl Spread {
    /// Over the zones at a depth, with no cap for a zone and as many zones as can be. At depth 0 all
    /// members are in one zone.
    #[must_use]
    pub fn new(members: &Members, depth: usize) -> Self {
        Self {
            members: members.clone(),
            depth,
            zones: Vec::new(),
            zone_count: 0,
            zones_min: usize::MAX,
            per_zone_max: usize::MAX,
        }
        .within("")
    }

    /// Takes only members whose zone path begins with these parts: `eu` takes `eu` and `eu/eu-1`, not
    /// `eu-west`. Defaults to the empty path, which takes all.
    #[must_use]
    pub fn within(mut self, part: &str) -> Self {
        let inside = |zone: &str| {
            part.is_empty()
                || zone
                    .strip_prefix(part)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let members = self.members.clone();
        let mut names: Vec<&str> = members
            .iter()
            .filter(|member| member.owns_keys() && inside(member.zone()))
            .map(|member| member.zone_prefix(self.depth))
            .collect();
        names.sort_unstable();
        names.dedup();
        self.zones = members
            .iter()
            .map(|member| {
                let taken = member.owns_keys() && inside(member.zone());
                let found = names.binary_search(&member.zone_prefix(self.depth));
                found.ok().filter(|_| taken).map_or(OUTSIDE, mix::to_u32)
            })
            .collect();
        self.zone_count = names.len();
        self
    }

    /// Sets the least number of zones that the replicas are to be in, as far as there are so many zones and
    /// replicas. Defaults to `usize::MAX`: as many as can be.
    #[must_use]
    pub const fn zones_min(mut self, zones: usize) -> Self {
        self.zones_min = zones;
        self
    }

    /// Sets the most replicas in one zone; 0 is taken as 1. Defaults to `usize::MAX`: no bound.
    #[must_use]
    pub const fn per_zone_max(mut self, replicas: usize) -> Self {
        self.per_zone_max = if replicas == 0 { 1 } else { replicas };
        self
    }

    /// Zones that members who may own keys are in.
    #[must_use]
    pub const fn zone_count(&self) -> usize {
        self.zone_count
    }

    /// Writes the nodes of the replicas to `out`, the owner first, and returns how many there are.
    ///
    /// The placement must have been built from the members that this was. A node that these do not know
    /// is passed over.
    pub fn owners(
        &self,
        placement: &(impl Placement + ?Sized),
        hash: u64,
        out: &mut [NodeIx],
    ) -> usize {
        self.owners_where(placement, hash, out, &mut |_| true)
    }

    /// As [`owners`](Self::owners), over the nodes that `accept` takes: the healthy ones. A zone in which
    /// none is healthy still counts as one that is to be reached, so that the other nodes of the key stay where
    /// they are; fewer may come back then.
    pub fn owners_where(
        &self,
        placement: &(impl Placement + ?Sized),
        hash: u64,
        out: &mut [NodeIx],
        accept: &mut dyn FnMut(NodeIx) -> bool,
    ) -> usize {
        if out.is_empty() {
            return 0;
        }
        let wanted = out.len();
        let mut repeats = wanted - self.zones_min.clamp(1, wanted).min(self.zone_count.max(1));
        let mut count = 0;
        placement.walk(hash, &mut |node| {
            let zone = self.zones.get(node.index()).copied().unwrap_or(OUTSIDE);
            if zone == OUTSIDE {
                return ControlFlow::Continue(());
            }
            let before = out[..count]
                .iter()
                .filter(|taken| self.zones[taken.index()] == zone)
                .count();
            if before >= self.per_zone_max || (before > 0 && repeats == 0) || !accept(node) {
                return ControlFlow::Continue(());
            }
            repeats -= usize::from(before > 0);
            out[count] = node;
            count += 1;
            if count == wanted {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        count
    }
}
