//! Shared memory for forked processes, and a process server built on it.

#[cfg(not(target_os = "linux"))]
compile_error!("commons runs on Linux only: it needs memfd, shared futexes, pidfd and /proc");

mod error;

pub use error::{Error, Result};
