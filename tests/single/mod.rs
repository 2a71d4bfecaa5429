//! A `main` for tests that need a process with a single thread, which libtest's never have: it runs them one after the other where it stands, and
//! answers `--list` and `--exact` as libtest does.

use std::io::Write;
use std::process::ExitCode;

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
