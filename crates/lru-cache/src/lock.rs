//! Locks, atomics and threads, so that shuttle can schedule them: `--cfg shuttle` swaps them for its own.

#[cfg(not(shuttle))]
pub(crate) use {
    parking_lot::{Mutex, RwLock},
    std::sync::atomic::{AtomicU64, Ordering},
    std::thread,
};

#[cfg(shuttle)]
pub(crate) use {
    shuttle::sync::atomic::{AtomicU64, Ordering},
    shuttle::thread,
    under_shuttle::{Mutex, RwLock},
};

#[cfg(shuttle)]
mod under_shuttle {
    //! Stand-ins without poison, with the methods that are used here.

    use std::sync::PoisonError;

    use shuttle::sync::{MutexGuard, RwLockReadGuard, RwLockWriteGuard};

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct RwLock<T>(shuttle::sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(shuttle::sync::RwLock::new(value))
        }

        pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
            self.0.read().unwrap_or_else(PoisonError::into_inner)
        }

        pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
            self.0.write().unwrap_or_else(PoisonError::into_inner)
        }
    }
}
