//! The peers that libc brings: process-shared mutex (robust), read-write lock and semaphore; and `raw_sync`, which wraps the first
//! without the robustness. All in shared memory.

#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::atomic::AtomicU64;

use raw_sync::locks::{LockImpl, LockInit};

use super::kernel::{Zeroed, shared};

/// Memory that libc makes its own object in.
#[repr(C, align(64))]
struct Cell<T>(UnsafeCell<T>);

// SAFETY: only its address is used, by libc, for objects that are made to be shared.
unsafe impl<T> Sync for Cell<T> {}
// SAFETY: zeroed memory that libc initialises before its first use.
unsafe impl<T> Zeroed for Cell<T> {}

/// `pthread_mutex_t`, process-shared and robust.
pub(crate) struct Mutex(&'static Cell<libc::pthread_mutex_t>);

impl Mutex {
    pub(crate) fn new() -> Mutex {
        let cell = shared::<Cell<libc::pthread_mutex_t>>();
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: memory of the right type, uninitialised, as the call wants it.
        check(unsafe { libc::pthread_mutexattr_init(attributes.as_mut_ptr()) });
        // SAFETY: initialised by the call above.
        check(unsafe { libc::pthread_mutexattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED) });
        // SAFETY: as above.
        check(unsafe { libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST) });
        // SAFETY: the cell is mapped for ever and not yet a mutex; the attributes are initialised.
        check(unsafe { libc::pthread_mutex_init(cell.0.get(), attributes.as_ptr()) });
        Mutex(cell)
    }

    #[inline]
    pub(crate) fn with<R>(&self, f: impl FnOnce() -> R) -> R {
        // SAFETY: initialised in `new`.
        check(unsafe { libc::pthread_mutex_lock(self.0.0.get()) });
        let result = f();
        // SAFETY: locked just above, by this thread.
        check(unsafe { libc::pthread_mutex_unlock(self.0.0.get()) });
        result
    }
}

/// `pthread_rwlock_t`, process-shared. There is no robust one.
pub(crate) struct RwLock(&'static Cell<libc::pthread_rwlock_t>);

impl RwLock {
    pub(crate) fn new() -> RwLock {
        let cell = shared::<Cell<libc::pthread_rwlock_t>>();
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: memory of the right type, uninitialised, as the call wants it.
        check(unsafe { libc::pthread_rwlockattr_init(attributes.as_mut_ptr()) });
        // SAFETY: initialised by the call above.
        check(unsafe { libc::pthread_rwlockattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED) });
        // SAFETY: the cell is mapped for ever and not yet a lock; the attributes are initialised.
        check(unsafe { libc::pthread_rwlock_init(cell.0.get(), attributes.as_ptr()) });
        RwLock(cell)
    }

    #[inline]
    pub(crate) fn read<R>(&self, f: impl FnOnce() -> R) -> R {
        // SAFETY: initialised in `new`.
        check(unsafe { libc::pthread_rwlock_rdlock(self.0.0.get()) });
        let result = f();
        self.unlock();
        result
    }

    #[inline]
    pub(crate) fn write<R>(&self, f: impl FnOnce() -> R) -> R {
        // SAFETY: initialised in `new`.
        check(unsafe { libc::pthread_rwlock_wrlock(self.0.0.get()) });
        let result = f();
        self.unlock();
        result
    }

    #[inline]
    fn unlock(&self) {
        // SAFETY: locked by the caller, in this thread.
        check(unsafe { libc::pthread_rwlock_unlock(self.0.0.get()) });
    }
}

/// `sem_t`, process-shared.
pub(crate) struct Semaphore(&'static Cell<libc::sem_t>);

impl Semaphore {
    pub(crate) fn new(permits: u32) -> Semaphore {
        let cell = shared::<Cell<libc::sem_t>>();
        // SAFETY: the cell is mapped for ever and not yet a semaphore.
        check(unsafe { libc::sem_init(cell.0.get(), 1, permits) });
        Semaphore(cell)
    }

    #[inline]
    pub(crate) fn acquire(&self) {
        // SAFETY: initialised in `new`.
        while unsafe { libc::sem_wait(self.0.0.get()) } != 0 {}
    }

    #[inline]
    pub(crate) fn release(&self) {
        // SAFETY: initialised in `new`.
        check(unsafe { libc::sem_post(self.0.0.get()) });
    }
}

/// `raw_sync`'s mutex: a process-shared pthread mutex, not robust, behind `dyn`.
pub(crate) fn raw_sync_mutex() -> Box<dyn LockImpl> {
    let memory: *mut u8 = std::ptr::from_ref(shared::<[AtomicU64; 16]>()).cast_mut().cast();
    let data = memory.wrapping_add(64);
    // SAFETY: 64 bytes at `memory`, mapped for ever, for a mutex of 40; `data` is what it says it guards, and is not used.
    unsafe { raw_sync::locks::Mutex::new(memory, data) }.expect("raw_sync's mutex").0
}

fn check(result: libc::c_int) {
    assert_eq!(result, 0, "a pthread call failed");
}
