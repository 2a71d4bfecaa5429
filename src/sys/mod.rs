//! Floor 0, the kernel: the one folder that talks to it.
//!
//! | file | what it offers the floors above |
//! |---|---|
//! | `memory` | a sealed memfd, mapped MAP_SHARED, zeroed, of fixed size |
//! | `futex` | sleep on half of a 64-bit word, across processes, until an absolute deadline; wake |
//! | `clock` | monotonic nanoseconds |
//! | `alarm` | a descriptor that becomes readable at an instant, likewise |
//! | `eventfd` | a descriptor that becomes readable, for those who wait with epoll |
//! | `identity` | who this thread is, and whether another thread is still alive |
//! | `fork` | fork where it is safe, hooks that run around every fork, how many threads there are |
//! | `child` | what a parent does with its children: learn of a death without reaping, signal, reap |
//! | `parcel` | bytes in a sealed memfd, and a socket that keeps it for whoever looks |
//! | `inherited` | descriptors and variables that the starter of this program meant for it |
//! | `pidfd` | the same for one child among others |
//! | `credentials` | users, groups, becoming somebody else |
//! | `processors` | on which processors a thread may run |
//! | `title` | the name in the process list |
//! | `prefetch` | a cache line that will be wanted soon |
//! | `ready` | a descriptor of ours in tokio's event loop |
//! | `socket` | options of a socket that no crate sets |
//! | `signal` | signals as something to read, never as code that runs in the middle of other code |
//!
//! Everything here is thin: a kernel call, its error, its retry on EINTR. What a call means to a protocol is decided above.
//! `unsafe` is allowed here and on floor 2 (`shm`) and nowhere else.

#![allow(unsafe_code)]
// Below the door: what is process-local here (hooks, flags) is no part of any protocol that loom would model.
#![allow(clippy::disallowed_types)]

#[cfg(feature = "tokio")]
pub(crate) mod alarm;
#[cfg(feature = "server")]
pub(crate) mod child;
pub(crate) mod clock;
#[cfg(feature = "server")]
pub(crate) mod credentials;
pub(crate) mod eventfd;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod identity;
#[cfg(feature = "server")]
pub(crate) mod inherited;
pub(crate) mod memory;
#[cfg(feature = "server")]
pub(crate) mod parcel;
#[cfg(feature = "server")]
pub(crate) mod pidfd;
pub(crate) mod prefetch;
#[cfg(feature = "server")]
pub(crate) mod processors;
#[cfg(feature = "tokio")]
pub(crate) mod ready;
#[cfg(feature = "server")]
pub(crate) mod signal;
#[cfg(feature = "server")]
pub(crate) mod socket;
#[cfg(feature = "server")]
pub(crate) mod title;
