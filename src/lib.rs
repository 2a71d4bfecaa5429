//! Shared memory for forked processes, that survives the death of any of them; and a process server built on it.
//!
//! Everything here lives in memory that is mapped before a fork and shared afterwards: a memfd, so that nothing is left behind in any file
//! system. Handles are cheap to clone and valid in every process forked after the structure was made.
//!
//! **kill -9 at any machine instruction, of any process, and the others go on with whole data at once.** What a thread holds stands in
//! its own slot of shared memory and counts while that thread is alive; nothing has to be given back on behalf of the dead. A thread that
//! waits for a dead one finds out by itself within 20 ms; a supervisor that calls [`recover`] has it woken at once.
//!
//! ```
//! use commons::{AtomicLong, Lock};
//!
//! let (lock, low, high) = (Lock::new()?, AtomicLong::new(0)?, AtomicLong::new(0)?); // before the fork
//! // … in any process, in any thread:
//! let guard = lock.lock()?;
//! if guard.recovered() {
//!     high.set(low.get()); // the last owner was killed between the two lines below
//! }
//! low.add(1);
//! high.add(1);
//! # Ok::<(), commons::Error>(())
//! ```
//!
//! | | |
//! |---|---|
//! | [`Atomic`], [`AtomicLong`] | a 32- or 64-bit number with waiting and waking |
//! | [`Counter`] | a count striped over all threads of all processes |
//! | [`Lock`], [`RwLock`] | mutual exclusion; many readers or one writer |
//! | [`Semaphore`], [`Barrier`] | permits; a point at which n threads meet |
//! | [`Table`] | a hash map with typed columns; exactly the promised number of rows |
//! | [`Channel`] | a queue of messages of any length; many producers, many consumers, leases |
//! | [`Timer`] | timers in a heap: any process adds, lists and clears; drivers for threads and for tokio |
//! | [`Region`] | memory to put several of them in |
//! | [`recover`] | for supervisors: what to call when a child has died |
//!
//! # Limits
//! Linux only. 4095 threads, over all processes, take part at once; one thread holds at most 28 locks and kinds of permits at once (more
//! locks than that only lose the instant wake-up of their waiters). Regions of at most 32 GiB. A process that calls `exec` while it holds something
//! goes on holding it until it ends.
//!
//! # Features
//! `server` (default): the process server and the `commons` command. Without it the crate is the structures alone and needs no tokio.
//! `tokio`: channels and timers that are awaited, without the server.

#[cfg(not(target_os = "linux"))]
compile_error!("commons runs on Linux only: it needs memfd, shared futexes, pidfd and /proc");

mod atomic;
mod channel;
mod error;
mod lock;
#[cfg(feature = "server")]
pub mod process;
mod robust;
#[cfg(feature = "server")]
pub mod server;
mod shm;
mod sync;
mod sys;
mod table;
#[cfg(feature = "server")]
mod task;
mod timer;

pub use atomic::{Atomic, AtomicLong, Counter};
pub use channel::{Channel, ChannelBuilder, ChannelStats, Lease, Notifier, PopSession, PushSession};
pub use error::{Error, Result};
pub use lock::{Barrier, Lock, LockGuard, ReadGuard, RwLock, Semaphore, WriteGuard};
pub use robust::recover;
pub use shm::Region;
pub use table::{
    Cell, Column, ColumnType, Iter as TableIter, Key, Number, Outcome, Row, RowMut, Schema, Table, TableBuilder,
    TableStats,
};
#[cfg(feature = "server")]
pub use task::TaskId;
pub use timer::{Timer, TimerId, TimerInfo, TimerStats};

/// For the project's own harnesses (kill at every instruction, loom, inspectors). Not part of the contract: it changes without notice.
#[doc(hidden)]
pub mod harness {
    pub use crate::robust::{census, leave, sit};
    pub use crate::shm::{Mapped, mapped};
    pub use crate::sync::{pretend_dead, world};

    /// What the process server is built of.
    #[cfg(feature = "server")]
    pub mod crew {
        pub use crate::process::bus::{Bus, BusSize, Inbox, Message};
        pub use crate::process::roll::{Address, Roll, Tenancy};
        pub use crate::task::{Answer, Ledger, Sender, Task, TaskQueue, TaskSize, TaskWorker};
    }
}
