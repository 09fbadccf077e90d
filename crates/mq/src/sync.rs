//! What the commit path waits with, so that shuttle can schedule it: `--cfg shuttle` swaps locks, the condition,
//! threads and what is local to them for its own.

#[cfg(not(shuttle))]
pub(crate) use std::{sync::atomic::AtomicBool, thread, thread_local};

#[cfg(not(shuttle))]
pub(crate) use for_real::{Condvar, Mutex};

#[cfg(shuttle)]
pub(crate) use {
    shuttle::{sync::atomic::AtomicBool, thread, thread_local},
    under_shuttle::{Condvar, Mutex},
};

#[cfg(not(shuttle))]
mod for_real {
    use std::time::Duration;

    use parking_lot::MutexGuard;

    pub(crate) use parking_lot::Mutex;

    #[derive(Debug, Default)]
    pub(crate) struct Condvar(parking_lot::Condvar);

    impl Condvar {
        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        /// Waits until it is notified, or so long, and lets the lock go.
        pub(crate) fn wait_for<T>(&self, mut guard: MutexGuard<'_, T>, most: Duration) {
            self.0.wait_for(&mut guard, most);
        }
    }
}

#[cfg(shuttle)]
mod under_shuttle {
    //! No time passes here: a wait ends by a notification, so one that gets lost is a deadlock that shuttle reports.

    use std::sync::PoisonError;
    use std::time::Duration;

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

    #[derive(Debug, Default)]
    pub(crate) struct Condvar(shuttle::sync::Condvar);

    impl Condvar {
        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn wait_for<T>(&self, guard: MutexGuard<'_, T>, _most: Duration) {
            drop(self.0.wait(guard));
        }
    }
}
