//! Shared memory for forked processes, and a process server built on it.

#[cfg(not(target_os = "linux"))]
compile_error!("commons runs on Linux only: it needs memfd, shared futexes, pidfd and /proc");

mod atomic;
mod error;
#[cfg(feature = "server")]
mod process;
mod robust;
#[cfg(feature = "server")]
pub mod server;
mod sys;

pub use atomic::{AtomicLong, Counter};
pub use error::{Error, Result};
pub use robust::recover;
