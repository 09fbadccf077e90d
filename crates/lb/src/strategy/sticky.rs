//! Like with like: the same key goes to the same endpoint, unless that is unwell or too loaded.

use std::fmt;
use std::sync::Arc;

use stackbeam_consistent_hash::{KeyHash, Member, MemberId, Members, Placement, Rendezvous, Xxh3};

use super::{LeastLoad, Strategy};
use crate::load::InFlight;
use crate::ready::Ready;
use crate::sync::{ArcSwap, Mutex};

/// The endpoint that owns the request's key (see [`Ask::with_key`]), so that its caches are warm or its
/// session is there.
///
/// The key's XXH3-64 hash is placed by weighted rendezvous over the endpoints' ids, so every process
/// with the same ready endpoints and weights answers alike, in whatever order they are listed. When an
/// endpoint rests or leaves, its keys are spread over the others and no other key moves; when it is
/// back, so are they. A request without a key goes to whoever has least under way.
///
/// With [`Sticky::with_bound`] nobody takes much more than its share: a popular key spills to the next
/// in its order (Mirrokni, Thorup and Zadimoghaddam 2016, as in HAProxy and Envoy).
///
/// A pick looks at each endpoint, some sixteen at a time; the first one after the set has changed also
/// builds the placement, O(n log n).
///
/// [`Ask::with_key`]: crate::Ask::with_key
pub struct Sticky {
    bound: Option<f64>,
    keyless: LeastLoad<InFlight>,
    placed: ArcSwap<Placed>,
    /// Held while the placement is built, so that one thread does it.
    building: Mutex<()>,
}

#[derive(Debug)]
struct Placed {
    /// That of the endpoints it was built of; none yet at first.
    generation: Option<u64>,
    rendezvous: Option<Rendezvous>,
    /// Which ready endpoint a node is.
    indexes: Vec<usize>,
}

impl fmt::Debug for Sticky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sticky")
            .field("bound", &self.bound)
            .finish_non_exhaustive()
    }
}

impl Default for Sticky {
    fn default() -> Self {
        Self::new()
    }
}

impl Sticky {
    /// Without a bound on load.
    #[must_use]
    pub fn new() -> Self {
        Self {
            bound: None,
            keyless: LeastLoad::new(InFlight),
            placed: ArcSwap::from_pointee(Placed {
                generation: None,
                rendezvous: None,
                indexes: Vec::new(),
            }),
            building: Mutex::new(()),
        }
    }

    /// Sets how many times its fair share of the requests under way an endpoint takes before its keys
    /// spill over, rounded up to a whole request; below 1, or not a number, counts as 1. 1.25 is usual.
    /// Requests that are picked at the same moment on other threads may not be counted yet. Defaults
    /// to no bound.
    #[must_use]
    pub fn with_bound(mut self, times: f64) -> Self {
        self.bound = Some(times.max(1.0));
        self
    }

    fn placed(&self, ready: &Ready<'_>) -> Arc<Placed> {
        let wanted = Some(ready.generation());
        let placed = self.placed.load_full();
        if placed.generation == wanted {
            return placed;
        }
        let _one_at_a_time = self.building.lock();
        let placed = self.placed.load_full();
        if placed.generation == wanted {
            return placed;
        }
        let built = Arc::new(Placed::of(ready));
        // A thread that was held up may ask by endpoints that are outdated.
        if placed.generation < wanted {
            self.placed.store(Arc::clone(&built));
        }
        built
    }
}

impl Placed {
    fn of(ready: &Ready<'_>) -> Self {
        let heaviest = (0..ready.len())
            .map(|index| ready.listed_weight(index))
            .max();
        // Only the proportions count, and a member's weight has a limit.
        let scale = (Members::WEIGHT_MAX / f64::from(heaviest.unwrap_or(1))).min(1.0);
        let members = Members::new((0..ready.len()).map(|index| {
            // An id may be of any length, a member's name may not; and so it leads back to the index.
            Member::new(index.to_string())
                .with_id(MemberId::of_name(ready.id(index)))
                .with_weight(f64::from(ready.listed_weight(index)) * scale)
        }));
        // Two ids with the same 64-bit hash cannot both be members; then requests go by load.
        let members = members.ok();
        let rendezvous = members
            .as_ref()
            .and_then(|members| Rendezvous::new(members).ok());
        let indexes = members.iter().flat_map(Members::iter);
        Self {
            generation: Some(ready.generation()),
            rendezvous,
            indexes: indexes
                .filter_map(|member| member.name().parse().ok())
                .collect(),
        }
    }
}

impl Strategy for Sticky {
    fn pick(&self, ready: &Ready<'_>) -> Option<usize> {
        let Some(key) = ready.ask().key() else {
            return self.keyless.pick(ready);
        };
        let placed = self.placed(ready);
        let Some(rendezvous) = &placed.rendezvous else {
            return self.keyless.pick(ready);
        };
        // Requests a unit of weight that are the most.
        let most = self.bound.map(|times| {
            let (mut under_way, mut weight) = (1.0, 0.0);
            for index in 0..ready.len() {
                under_way += f64::from(ready.seen(index).in_flight);
                weight += ready.weight(index);
            }
            times * under_way / weight
        });
        let has_room = |index: usize| {
            most.is_none_or(|most| {
                f64::from(ready.seen(index).in_flight) < (most * ready.weight(index)).ceil()
            })
        };
        let hash = Xxh3::new().hash(key);
        let mut found = None;
        rendezvous.owner_where(hash, ready.len(), &mut |node| {
            found = placed
                .indexes
                .get(node.index())
                .copied()
                .filter(|index| ready.is_open(*index) && has_room(*index));
            found.is_some()
        });
        // Whoever has room may have been tried already.
        found.or_else(|| self.keyless.pick(ready))
    }
}
