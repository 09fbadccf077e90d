//! The pointer that is swapped and the lock of its writers, so that shuttle can schedule them:
//! `--cfg shuttle` swaps them for its own.

#[cfg(not(shuttle))]
pub(crate) use {
    arc_swap::{ArcSwap, Guard},
    parking_lot::Mutex,
};

#[cfg(shuttle)]
pub(crate) use under_shuttle::{ArcSwap, Guard, Mutex};

#[cfg(shuttle)]
mod under_shuttle {
    //! Stand-ins with the methods that are used here. A lock is not lock-free, but it shows a reader every
    //! value that was ever in force, at every moment.

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
    }

    #[derive(Debug)]
    pub(crate) struct Guard<T>(T);

    impl<T> Deref for Guard<T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.0
        }
    }

    #[derive(Debug)]
    pub(crate) struct ArcSwap<T>(Mutex<Arc<T>>);

    impl<T> ArcSwap<T> {
        pub(crate) fn from_pointee(value: T) -> Self {
            Self(Mutex::new(Arc::new(value)))
        }

        pub(crate) fn load(&self) -> Guard<Arc<T>> {
            Guard(Arc::clone(&self.0.lock()))
        }

        pub(crate) fn store(&self, value: Arc<T>) {
            *self.0.lock() = value;
        }
    }
}
