//! Groups of entries that are invalidated together, in one step, by a number.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

/// A group of entries, as it was when this was taken: what is inserted under it is valid until the group
/// is invalidated for the next time, even if that happens before the insertion.
#[derive(Debug, Clone)]
pub struct Tag {
    generation: Arc<AtomicU64>,
    taken: u64,
}

impl Tag {
    /// Whether the group was not invalidated since this was taken.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.generation.load(Ordering::Acquire) == self.taken
    }
}

/// The tags of one entry; nothing on the heap if there are none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tags(Option<Arc<Vec<Tag>>>);

impl Tags {
    pub(crate) fn add(&mut self, tag: &Tag) {
        let tags = self.0.get_or_insert_default();
        Arc::make_mut(tags).push(tag.clone());
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    #[inline]
    pub(crate) fn are_current(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|tags| tags.iter().all(Tag::is_current))
    }
}

/// The groups that entries were inserted under, by name.
#[cfg(feature = "std")]
#[derive(Debug, Default)]
pub(crate) struct Groups {
    names: std::collections::HashMap<Box<str>, Arc<AtomicU64>>,
    /// Names for which those that nobody uses any more are looked for.
    sweep_at: usize,
}

#[cfg(feature = "std")]
impl Groups {
    /// Fewer names are not looked through.
    const SWEEP_MIN: usize = 1024;

    pub(crate) fn tag(&mut self, name: &str) -> Tag {
        if let Some(generation) = self.names.get(name) {
            return Tag {
                taken: generation.load(Ordering::Acquire),
                generation: Arc::clone(generation),
            };
        }
        if self.names.len() >= self.sweep_at.max(Self::SWEEP_MIN) {
            self.names
                .retain(|_, generation| Arc::strong_count(generation) > 1);
            self.sweep_at = self.names.len() * 2;
        }
        let generation = Arc::new(AtomicU64::new(0));
        self.names.insert(name.into(), Arc::clone(&generation));
        Tag {
            generation,
            taken: 0,
        }
    }

    /// A name that no tag is out for has no entries, and nothing to invalidate.
    pub(crate) fn invalidate(&self, name: &str) {
        if let Some(generation) = self.names.get(name) {
            generation.fetch_add(1, Ordering::AcqRel);
        }
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn groups_that_nobody_uses_take_no_memory_for_ever() {
        let mut groups = Groups::default();
        let mut used = Vec::new();
        for group in 0..100_000 {
            let tag = groups.tag(&group.to_string());
            if group < 10 {
                used.push(tag);
            }
        }
        assert!((10..=Groups::SWEEP_MIN).contains(&groups.names.len()));
        groups.invalidate("3");
        groups.invalidate("never heard of");
        let current = used.iter().filter(|tag| tag.is_current()).count();
        assert_eq!(current, 9);
        assert!(groups.tag("3").is_current());
    }
}
