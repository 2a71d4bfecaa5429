//! Shared memory for forked processes, and a process server built on it.

#[cfg(not(target_os = "linux"))]
compile_error!("commons runs on Linux only: it needs memfd, shared futexes, pidfd and /proc");

mod atomic;
mod error;
mod lock;
mod robust;
mod shm;
mod sync;
mod sys;

pub use atomic::{Atomic, AtomicLong, Counter};
pub use error::{Error, Result};
pub use lock::{Barrier, Lock, LockGuard, ReadGuard, RwLock, Semaphore, WriteGuard};
pub use robust::recover;
pub use shm::Region;

/// For the project's own harnesses (kill at every instruction, loom, inspectors). Not part of the contract: it changes without notice.
#[doc(hidden)]
pub mod harness {
    pub use crate::robust::{census, leave, sit};
    pub use crate::shm::{Mapped, mapped};
    pub use crate::sync::{pretend_dead, world};
}
