//! Switches that take one safeguard out, for the negative controls of the torture. Without the feature
//! `torture` they are constants.

#[cfg(feature = "torture")]
mod switches {
    use std::cell::Cell;

    thread_local! {
        pub(super) static SAME_EPOCH: Cell<bool> = const { Cell::new(false) };
        pub(super) static UNBOUND: Cell<bool> = const { Cell::new(false) };
    }
}

/// Sets the switches of this thread until the guard goes.
#[cfg(feature = "torture")]
pub(crate) fn without(epoch: bool, binding: bool) -> Restore {
    switches::SAME_EPOCH.set(epoch);
    switches::UNBOUND.set(binding);
    Restore
}

#[cfg(feature = "torture")]
pub(crate) struct Restore;

#[cfg(feature = "torture")]
impl Drop for Restore {
    fn drop(&mut self) {
        switches::SAME_EPOCH.set(false);
        switches::UNBOUND.set(false);
    }
}

/// Whether an open goes on in the generation that it found.
#[cfg(feature = "torture")]
pub(crate) fn same_epoch() -> bool {
    switches::SAME_EPOCH.get()
}

/// Whether checksums leave out where they stand.
#[cfg(feature = "torture")]
pub(crate) fn unbound() -> bool {
    switches::UNBOUND.get()
}

#[cfg(not(feature = "torture"))]
pub(crate) const fn same_epoch() -> bool {
    false
}

#[cfg(not(feature = "torture"))]
pub(crate) const fn unbound() -> bool {
    false
}
