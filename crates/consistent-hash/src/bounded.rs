//! Bounded loads: a key goes to its owner, or past it while the owner has more than its share.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::ControlFlow;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::error::check_fraction;
use crate::mix;
use crate::{BuildError, NodeIx, Placement};

/// Where a key goes on to when its owner is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Spill {
    /// To the owner of another hash of the key, again and again, as Envoy does (Chen, Coleman and
    /// Shrivastava, 2019, arXiv:1908.08762). What is too much for one node spreads over all.
    #[default]
    Jump,
    /// Along the placement's walk, as HAProxy does: to the nodes that hold the key's replicas.
    Walk,
}

/// A placement with a cap on what each node has in hand (Mirrokni, Thorup and Zadimoghaddam, 2016,
/// arXiv:1608.01350).
///
/// With `t` things in hand in all, no node gets one that gives it more than `ceil((1 + slack) * t * share)`,
/// where the shares follow the weights. Whoever takes a node by [`take`](Self::take) gives it back by
/// [`give_back`](Self::give_back). Some node always has room, so that this cannot fail: after
/// [`PROBES_MAX`](Self::PROBES_MAX) full nodes the one goes that is least loaded for its share.
///
/// At most a part of `1 / (1 + slack)` of the capacity is full at any time, hence at most
/// `(1 + slack) / slack` nodes are looked at on average, whatever their number.
///
/// *Costs*: 16 bytes a node; taking is two atomic additions and, for each node looked at, a look-up. No
/// lock, no allocation (a walk may).
///
/// ```
/// use stackbeam_consistent_hash::{BoundedLoad, KeyHash, Members, NodeIx, Rendezvous, Xxh3};
///
/// let members = Members::from_names(["a", "b", "c", "d"])?;
/// let bounded = BoundedLoad::new(Rendezvous::new(&members)?, 0.25)?;
/// let celebrity = Xxh3::new().hash(b"the one that everybody wants");
/// for _ in 0..100 {
///     let _node = bounded.take(celebrity);
/// }
/// // One node alone would have had all 100.
/// assert!((0..4).all(|n| bounded.load(NodeIx::new(n)) <= 32));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct BoundedLoad<P> {
    placement: P,
    slack: f64,
    spill: Spill,
    /// Of each node; they add up to 1. Nodes that own no keys have 0.
    shares: Box<[f64]>,
    loads: Box<[AtomicUsize]>,
    total: AtomicUsize,
    taken: AtomicUsize,
    looked_at: AtomicUsize,
    fell_back: AtomicUsize,
}

/// What a [`BoundedLoad`] has done; counters only grow, and start again at 2^32 where a `usize` has 32 bits.
///
/// `looked_at >= taken >= fell_back`, and when nobody is between two steps `in_hand` is what was taken less what
/// was given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BoundedLoadStats {
    /// Things that were taken.
    pub taken: u64,
    /// Nodes that were looked at for them: at least one each.
    pub looked_at: u64,
    /// Of those taken, how many went to the least loaded after too many full nodes.
    pub fell_back: u64,
    /// Things in hand now.
    pub in_hand: usize,
}

/// Nothing of a node is in hand that could be given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nothing of node {node} is in hand")]
#[non_exhaustive]
pub struct NothingInHand {
    /// The node that was given back.
    pub node: u32,
}

impl<P: Placement> BoundedLoad<P> {
    /// Smallest slack.
    pub const SLACK_MIN: f64 = 0.01;
    /// Largest slack.
    pub const SLACK_MAX: f64 = 1000.0;
    /// Full nodes that are looked at before the least loaded takes its place.
    pub const PROBES_MAX: usize = 64;

    /// With equal shares for all nodes that own keys.
    ///
    /// # Errors
    ///
    /// [`BuildError::Fraction`] unless the slack is from [`SLACK_MIN`](Self::SLACK_MIN) to
    /// [`SLACK_MAX`](Self::SLACK_MAX).
    pub fn new(placement: P, slack: f64) -> Result<Self, BuildError> {
        Self::with_weights(placement, slack, |_| 1.0)
    }

    /// With shares by weight: `|node| members[node].weight()`.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and for a weight that is not from
    /// [`WEIGHT_MIN`](crate::Members::WEIGHT_MIN) to [`WEIGHT_MAX`](crate::Members::WEIGHT_MAX).
    pub fn with_weights(
        placement: P,
        slack: f64,
        weight: impl Fn(NodeIx) -> f64,
    ) -> Result<Self, BuildError> {
        check_fraction("slack", slack, Self::SLACK_MIN, Self::SLACK_MAX)?;
        let nodes = placement.node_count();
        let mut shares = alloc::vec![0.0; nodes];
        let mut owning = Vec::new();
        placement.walk(0, &mut |node| {
            owning.push(node);
            ControlFlow::Continue(())
        });
        let mut total = 0.0;
        for node in owning {
            let weight = weight(node);
            let (least, most) = (crate::Members::WEIGHT_MIN, crate::Members::WEIGHT_MAX);
            check_fraction("weight", weight, least, most)?;
            shares[node.index()] = weight;
            total += weight;
        }
        for share in &mut shares {
            *share /= total;
        }
        Ok(Self {
            placement,
            slack,
            spill: Spill::default(),
            shares: shares.into(),
            loads: (0..nodes).map(|_| AtomicUsize::new(0)).collect(),
            total: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            looked_at: AtomicUsize::new(0),
            fell_back: AtomicUsize::new(0),
        })
    }

    /// Sets where a key goes on to when its owner is full. Defaults to [`Spill::Jump`].
    #[must_use]
    pub fn with_spill(mut self, spill: Spill) -> Self {
        self.spill = spill;
        self
    }

    /// The placement.
    #[must_use]
    pub const fn placement(&self) -> &P {
        &self.placement
    }

    /// The node that gets one more thing: the owner of the hash, or where it spills to. Counts it.
    #[must_use = "what is taken is to be given back"]
    pub fn take(&self, hash: u64) -> NodeIx {
        // Counted in the sum first and in the node after, so that the sum never lags behind the nodes.
        let total = self.total.fetch_add(1, Ordering::SeqCst) + 1;
        let mut looked_at = 0;
        let node = self.probe(hash, total, &mut looked_at).unwrap_or_else(|| {
            self.fell_back.fetch_add(1, Ordering::Relaxed);
            self.least_loaded()
        });
        self.taken.fetch_add(1, Ordering::Relaxed);
        self.looked_at.fetch_add(looked_at, Ordering::Relaxed);
        node
    }

    fn probe(&self, hash: u64, total: usize, looked_at: &mut usize) -> Option<NodeIx> {
        let mut found = None;
        let mut look = |node| {
            *looked_at += 1;
            let got = self.try_take(node, total);
            found = got.then_some(node);
            got || *looked_at >= Self::PROBES_MAX
        };
        match self.spill {
            Spill::Jump => {
                if !look(self.placement.owner(hash)) {
                    let _ = (0..).find(|n| look(self.placement.owner(mix::rehash(hash, *n))));
                }
            }
            Spill::Walk => self.placement.walk(hash, &mut |node| {
                if look(node) {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            }),
        }
        found
    }

    /// Counts one more thing of a node unless that is more than its cap.
    fn try_take(&self, node: NodeIx, total: usize) -> bool {
        let cap = self.cap_of(node, total);
        self.loads[node.index()]
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |load| {
                (load < cap).then_some(load + 1)
            })
            .is_ok()
    }

    /// The caps add up to more than is in hand, so that some node has room: if it was taken meanwhile,
    /// somebody else got ahead.
    #[cold]
    fn least_loaded(&self) -> NodeIx {
        loop {
            let total = self.total.load(Ordering::SeqCst);
            let least = self
                .shares
                .iter()
                .zip(&self.loads)
                .zip(0..)
                .map(|((share, load), n)| (share, load.load(Ordering::SeqCst), NodeIx::new(n)))
                .filter(|(_, load, node)| *load < self.cap_of(*node, total))
                .map(|(share, load, node)| (mix::to_f64(load as u64) / share, node))
                .min_by(|x, y| x.0.total_cmp(&y.0));
            if let Some((_, node)) = least
                && self.try_take(node, total)
            {
                return node;
            }
        }
    }

    /// Gives back one thing of a node.
    ///
    /// # Errors
    ///
    /// [`NothingInHand`] if nothing of the node is in hand, or there is no such node.
    pub fn give_back(&self, node: NodeIx) -> Result<(), NothingInHand> {
        let none = NothingInHand { node: node.get() };
        let load = self.loads.get(node.index()).ok_or(none)?;
        load.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |load| {
            load.checked_sub(1)
        })
        .map_err(|_| none)?;
        self.total.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }

    /// Things of a node that are in hand; 0 for a node that there is not.
    #[must_use]
    pub fn load(&self, node: NodeIx) -> usize {
        let load = self.loads.get(node.index());
        load.map_or(0, |load| load.load(Ordering::SeqCst))
    }

    /// The most that a node may have while so many things are in hand in all.
    #[must_use]
    pub fn cap_of(&self, node: NodeIx, total: usize) -> usize {
        let share = self.shares.get(node.index()).copied().unwrap_or(0.0);
        mix::ix(mix::ceil(
            (1.0 + self.slack) * mix::to_f64(total as u64) * share,
        ))
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> BoundedLoadStats {
        BoundedLoadStats {
            taken: self.taken.load(Ordering::Relaxed) as u64,
            looked_at: self.looked_at.load(Ordering::Relaxed) as u64,
            fell_back: self.fell_back.load(Ordering::Relaxed) as u64,
            in_hand: self.total.load(Ordering::SeqCst),
        }
    }
}
