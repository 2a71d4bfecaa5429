//! A `main` for tests that need a process with a single thread, which libtest's never have: it runs them one after the other where it stands, and
//! answers `--list` and `--exact` as libtest does. And what such tests share.

#![allow(dead_code, reason = "each test binary uses a part")]

use commons::process::{Link, Process};
use rustix::process::{Pid, test_kill_process};
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

pub(crate) type Test = (&'static str, fn());

/// Runs those of `tests` that the arguments ask for.
pub(crate) fn run(tests: &[Test]) -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        let ignored = arguments.iter().any(|argument| argument == "--ignored");
        for (name, _) in tests.iter().filter(|_| !ignored) {
            println(&format!("{name}: test"));
        }
        return ExitCode::SUCCESS;
    }
    let exact = arguments.iter().any(|argument| argument == "--exact");
    let filters: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |name: &str| {
        filters.is_empty() || filters.iter().any(|filter| if exact { name == *filter } else { name.contains(*filter) })
    };
    let mut failed = 0;
    for (name, test) in tests.iter().filter(|(name, _)| wanted(name)) {
        // One that hangs ends all of it; its children die with it.
        #[allow(unsafe_code)]
        // SAFETY: sets a timer of this process, nothing else.
        unsafe {
            libc::alarm(120)
        };
        let passed = std::panic::catch_unwind(test).is_ok();
        println(&format!("test {name} ... {}", if passed { "ok" } else { "FAILED" }));
        failed += u8::from(!passed);
    }
    println(&format!("test result: {}. {failed} failed", if failed == 0 { "ok" } else { "FAILED" }));
    ExitCode::from(if failed == 0 { 0 } else { 101 })
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
