//! The `commons` command: what it refuses, and how it says so.

mod served;

use served::BINARY;
use std::net::TcpListener;
use std::process::{Command, Stdio};

/// Runs the binary to its end: (exit code, stdout, stderr).
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(BINARY).args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn what_cannot_start_says_why_in_one_line_and_exits_with_2() {
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = busy.local_addr().unwrap().port().to_string();
    for (arguments, says) in [
        (vec!["--port", port.as_str()], "in use"),
        (vec!["--port", "65536"], "0..=65535"),
        (vec!["--port", "http"], "0..=65535"),
        (vec!["--port"], "--port"),
        (vec!["--workers", "0"], "1..=256"),
        (vec!["--workers", "257"], "1..=256"),
        (vec!["--workers", "-1"], "--workers"),
        (vec!["--workers", "many"], "'many'"),
        (vec!["--bogus"], "--bogus"),
        (vec!["start"], "start"),
        (vec!["--port", "1", "--port", "2"], "--port"),
    ] {
        let (code, out, err) = run(&arguments);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}");
        assert_eq!(err.lines().count(), 1, "{arguments:?}: {err}");
        assert!(err.starts_with("commons: ") && err.contains(says), "{arguments:?}: {err}");
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    let (code, out, err) = run(&["--help"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("--port") && out.contains("9501") && out.contains("--workers") && out.contains("--quiet"));
    let (code, out, err) = run(&["--version"]);
    assert_eq!((code, out, err), (Some(0), format!("commons {}\n", env!("CARGO_PKG_VERSION")), String::new()));
}
