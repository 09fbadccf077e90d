//! A placement that many threads read while members come and go.

use alloc::sync::Arc;
use core::fmt;
use core::ops::Deref;

use crate::sync::{ArcSwap, Guard, Mutex};

/// The placement in force, behind a pointer that is swapped as a whole.
///
/// A reader takes a [`Snapshot`]: without a lock, without waiting for anybody, and it stays the same while it
/// is held. Writers take turns. A change that fails leaves what is in force. Every change adds one to the
/// epoch, so that an answer can be told from one that is older.
///
/// *Costs*: some nanoseconds to read, on a line of memory that readers do not write (arc-swap); look up
/// several keys on one snapshot. The old placement is freed when its last snapshot goes.
///
/// ```
/// use stackbeam_consistent_hash::{Member, Members, Placement, Rendezvous, Shared};
///
/// let members = Members::from_names(["a", "b"])?;
/// let shared = Shared::new(Rendezvous::new(&members)?);
/// let before = shared.load();
/// shared.update(|now| {
///     let more = now.members().with(Member::new("c"))?;
///     Ok::<_, Box<dyn std::error::Error>>(Rendezvous::new(&more)?)
/// })?;
/// assert_eq!((before.epoch(), before.node_count()), (0, 2));
/// assert_eq!((shared.load().epoch(), shared.load().node_count()), (1, 3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Shared<P> {
    now: ArcSwap<Versioned<P>>,
    writer: Mutex<()>,
}

struct Versioned<P> {
    placement: P,
    epoch: u64,
}

/// The placement as it was at one moment.
pub struct Snapshot<P>(Guard<Arc<Versioned<P>>>);

impl<P> Shared<P> {
    /// With the first placement, at epoch 0.
    #[must_use]
    pub fn new(placement: P) -> Self {
        Self {
            now: ArcSwap::from_pointee(Versioned {
                placement,
                epoch: 0,
            }),
            writer: Mutex::new(()),
        }
    }

    /// The placement in force.
    #[inline]
    #[must_use]
    pub fn load(&self) -> Snapshot<P> {
        Snapshot(self.now.load())
    }

    /// Puts another placement in force. Returns its epoch.
    pub fn store(&self, placement: P) -> u64 {
        let turn = self.writer.lock();
        let epoch = self.replace(placement);
        drop(turn);
        epoch
    }

    /// Puts in force what `change` makes of the placement, and returns its epoch. Nobody else changes it
    /// meanwhile; readers go on with the old one.
    ///
    /// # Errors
    ///
    /// Those of `change`; then the old placement stays in force.
    pub fn update<E>(&self, change: impl FnOnce(&P) -> Result<P, E>) -> Result<u64, E> {
        let turn = self.writer.lock();
        let changed = change(&self.now.load().placement);
        let epoch = changed.map(|placement| self.replace(placement));
        drop(turn);
        epoch
    }

    /// Only for who has the turn.
    fn replace(&self, placement: P) -> u64 {
        let epoch = self.now.load().epoch + 1;
        self.now.store(Arc::new(Versioned { placement, epoch }));
        epoch
    }
}

impl<P> Snapshot<P> {
    /// How many changes came before.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.0.epoch
    }
}

impl<P> Deref for Snapshot<P> {
    type Target = P;

    #[inline]
    fn deref(&self) -> &P {
        &self.0.placement
    }
}

impl<P: fmt::Debug> fmt::Debug for Snapshot<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("epoch", &self.epoch())
            .field("placement", &**self)
            .finish()
    }
}

impl<P: fmt::Debug> fmt::Debug for Shared<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("now", &self.load())
            .finish_non_exhaustive()
    }
}
