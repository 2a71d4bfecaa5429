//! A spawned process's life, from the fork to its status: what it makes of itself, its closure, and what that ended with.
#![forbid(unsafe_code)]

use super::affinity::Cpus;
use super::exit::{Status, panic_text};
use super::link::{Link, Wires};
use super::privileges::Resolved;
use super::report::Mouth;
use super::title::Title;
use crate::Result;
use crate::sys::child::die_with;
use crate::sys::pidfd::PidFd;
use crate::sys::signal::SignalSet;
use rustix::process::{Pid, Signal};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The status of a child whose closure returned an error, or that could not begin.
pub(super) const FAILED: i32 = 1;
/// The status of one whose closure panicked.
const PANICKED: i32 = 101;
/// The status of one whose parent was gone before it had begun.
const ORPHAN: i32 = 3;

/// What a child makes of itself before its closure runs.
pub(super) struct Boot {
    pub(super) title: Title,
    pub(super) privileges: Resolved,
    pub(super) cpus: Option<Cpus>,
}

impl Boot {
    /// False when the parent is gone.
    fn prepare(&self, parent: Pid) -> Result<bool> {
        // These two look into /proc, which the new root directory may not have.
        if let Some(cpus) = &self.cpus {
            cpus.confine()?;
        }
        self.title.show()?;
        self.privileges.assume()?;
        // None blocked, as after an exec: a parent that reads its signals from a descriptor has blocked those that are to end this one.
        SignalSet::of(&[]).make_mask()?;
        die_with(parent, Signal::KILL)
    }
}

/// The child's life.
pub(super) fn run<S: Status>(
    parent: Pid,
    boot: &Boot,
    wires: Wires,
    mouth: &Mouth,
    child: impl FnOnce(&Link) -> S,
) -> i32 {
    // Opened before it is known whether the number is still the parent's; the boot finds out.
    let link = PidFd::open(parent).and_then(|other| Ok((other, boot.prepare(parent)?)));
    let link = match link {
        Ok((other, true)) => Link { line: wires.lower(other, parent.as_raw_nonzero().get().unsigned_abs()) },
        Ok((_, false)) => return ORPHAN,
        Err(error) => {
            mouth.wrong(&error.to_string());
            return FAILED;
        }
    };
    mouth.begun();
    let (status, error) = match catch_unwind(AssertUnwindSafe(|| child(&link).status())) {
        Ok(Ok(status)) => (status, None),
        Ok(Err(error)) => (FAILED, Some(error.to_string())),
        Err(payload) => (PANICKED, Some(panic_text(payload))),
    };
    if let Some(error) = error {
        mouth.wrong(&error);
    }
    // What the closure has printed; `_exit` would leave it behind.
    let _ = catch_unwind(|| std::io::stdout().flush());
    status
}
