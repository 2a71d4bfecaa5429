//! A pool in a process of its own, its manager; what its workers do they tell in shared memory, or by the manager's line, which they inherit.
//! Dropping the manager ends everything.

#![allow(dead_code, reason = "each test binary uses a part")]

use crate::single::{PATIENCE, ends_well};
use commons::AtomicLong;
use commons::process::{Link, Process};

pub(crate) fn numbers(n: usize) -> Vec<AtomicLong> {
    (0..n).map(|_| AtomicLong::new(0).unwrap()).collect()
}

pub(crate) fn own_pid() -> i64 {
    std::process::id().into()
}

/// A manager that runs a pool; its log comes by its line.
pub(crate) fn manage(run: impl FnOnce(&Link) -> commons::Result<()>) -> Process {
    Process::spawn("manager", run).expect("a manager")
}

/// The next line of the log that has `part` in it.
#[track_caller]
pub(crate) fn line(manager: &Process, part: &str) -> String {
    loop {
        let text = String::from_utf8(manager.recv_timeout(PATIENCE).expect("a line")).expect("text");
        if text.contains(part) {
            return text;
        }
    }
}

#[track_caller]
pub(crate) fn stop_well(manager: Process) {
    manager.kill(15).unwrap();
    ends_well(manager);
}

pub(crate) fn say(link: &Link, line: &str) {
    let _ = link.send(line.as_bytes());
}
