//! Locks and atomics, so that shuttle can schedule them: `--cfg shuttle` swaps them for its own.

#[cfg(not(shuttle))]
pub(crate) use {
    arc_swap::ArcSwap,
    parking_lot::Mutex,
    std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

#[cfg(shuttle)]
pub(crate) use {
    shuttle::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    under_shuttle::{ArcSwap, Mutex},
};

#[cfg(shuttle)]
mod under_shuttle {
    //! Stand-ins with the methods that are used here. A lock is not lock-free, but it shows a reader
    //! every snapshot that was ever in force, at every moment.

    use std::ops::Deref;
    use std::sync::{Arc, PoisonError};

    use shuttle::sync::MutexGuard;

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }
    }

    #[derive(Debug)]
    pub(crate) struct ArcSwap<T>(Mutex<Arc<T>>);

    pub(crate) struct Guard<T>(Arc<T>);

    impl<T> Deref for Guard<T> {
        type Target = Arc<T>;

        fn deref(&self) -> &Arc<T> {
            &self.0
        }
    }

    impl<T> ArcSwap<T> {
        pub(crate) fn from_pointee(value: T) -> Self {
            Self(Mutex::new(Arc::new(value)))
        }

        pub(crate) fn load(&self) -> Guard<T> {
            Guard(self.load_full())
        }

        pub(crate) fn load_full(&self) -> Arc<T> {
            Arc::clone(&self.0.lock())
        }

        pub(crate) fn store(&self, value: Arc<T>) {
            *self.0.lock() = value;
        }
    }
}
