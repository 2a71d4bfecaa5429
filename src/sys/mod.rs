//! Floor 0: the one folder that talks to the kernel.
//!
//! Each file wraps one kernel facility, thinly: it turns raw numbers into types and errno into [`crate::Error`], and
//! decides nothing. Policy (what to do when a child dies, whom to signal) belongs to the floors above, which hold no
//! `unsafe` at all.

#[cfg(feature = "server")]
pub(crate) mod child;
pub(crate) mod fork;
#[cfg(feature = "server")]
pub(crate) mod ready;
#[cfg(feature = "server")]
pub(crate) mod signal;
