//! A `main` for tests that need a process with a single thread, which libtest's never have: it runs them one after the other where it stands, and
//! understands libtest's arguments. And what such tests share.

#![allow(dead_code, reason = "each test binary uses a part")]

use commons::process::{Link, Process};
use libtest_mimic::{Arguments, Trial};
use rustix::process::{Pid, test_kill_process};
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

pub(crate) type Test = (&'static str, fn());

/// Runs those of `tests` that the arguments ask for.
pub(crate) fn run(tests: &[Test]) -> ExitCode {
    let trial = |&(name, test): &Test| {
        let run = move || {
            // One that hangs ends all of it; its children die with it.
            #[allow(unsafe_code)]
            // SAFETY: sets a timer of this process, nothing else.
            unsafe {
                libc::alarm(120)
            };
            test();
            Ok(())
        };
        Trial::test(name, run)
    };
    // That many are run where it stands.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    libtest_mimic::run(&arguments, tests.iter().map(trial).collect()).exit_code()
}

pub(crate) fn println(line: &str) {
    let _ = std::io::stdout().lock().write_all(format!("{line}\n").as_bytes());
}

/// How long anything may take that ought to be quick.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

#[track_caller]
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root() || {
        println("  skipped: this needs root");
        false
    }
}

pub(crate) fn pid(number: impl TryInto<i32>) -> Pid {
    number.try_into().ok().and_then(Pid::from_raw).expect("a pid")
}

pub(crate) fn is_gone(number: impl TryInto<i32>) -> bool {
    test_kill_process(pid(number)).is_err()
}

#[track_caller]
pub(crate) fn ends_well(mut child: Process) {
    let exit = child.wait_timeout(PATIENCE).expect("an end");
    assert!(exit.success(), "{} {exit}: {:?}", child.name(), child.error());
}

/// Waits until it is killed.
pub(crate) fn for_ever(link: &Link) -> commons::Result<()> {
    loop {
        link.recv()?;
    }
}

pub(crate) fn number(message: &[u8]) -> u32 {
    u32::from_ne_bytes(message.try_into().expect("four bytes"))
}
