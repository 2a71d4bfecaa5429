//! What the counters server does not put up with: slow and deaf clients, logs that nobody reads, options out of range.

mod served;

use rustix::process::Signal;
use served::{BINARY, SOON, Served, send};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PARTIAL: &str = "GET /stats HTTP/1.1\r\nHost: te";

#[test]
fn a_head_that_never_ends_is_given_up() {
    let server = Served::start(1);
    let mut slow = server.connect();
    slow.write(PARTIAL).unwrap();
    let since = Instant::now();
    assert!(slow.is_closed());
    assert!(since.elapsed() < SOON);
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    let server = Served::start(1);
    let mut deaf = server.connect();
    let burst = "GET / HTTP/1.1\r\nHost: test\r\n\r\n".repeat(1_000);
    // Until all buffers between us are full and the server has closed: a write then fails.
    let deadline = Instant::now() + 2 * SOON;
    while deaf.write(&burst).is_ok() {
        assert!(Instant::now() < deadline, "the server takes requests for ever and never gets rid of its answers");
    }
    assert_eq!(server.connect().get("/").status, 200);
}

#[test]
fn a_refusal_is_not_torn_down_by_what_was_sent_and_not_read() {
    let server = Served::start(1);
    let mut client = server.connect();
    let head = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n";
    client.write(&format!("{head}{}", "x".repeat(300_000))).unwrap();
    assert_eq!(client.read(false).unwrap().status, 405);
    assert!(client.is_closed());
    // In good order, and not reset for what the server had not read when it answered. By the second answer to another, the worker has
    // done with this one whatever it does at once.
    let mut other = server.connect();
    other.get("/");
    other.get("/");
    assert_eq!(client.error().map(|error| error.kind()), None);
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let mut child = Command::new(BINARY)
        .args(["--port", "0", "--workers", "1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(full_pipe())
        .spawn()
        .unwrap();
    let server = Served::adopt(child.stdout.take().unwrap(), child);
    for _ in 0..3 {
        let pids = server.workers();
        send(pids[0], Signal::KILL);
        server.workers_but(&pids);
    }
    assert_eq!(server.stats().each("crashes"), [3]);
}

/// A pipe that takes not a byte more; its reading end stays open in this process.
fn full_pipe() -> Stdio {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    std::mem::forget(read);
    rustix::io::ioctl_fionbio(&write, true).unwrap();
    while rustix::io::write(&write, &[b'x'; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&write, false).unwrap();
    write.into()
}

#[test]
fn a_process_with_threads_is_refused() {
    // libtest runs this in a thread of its own.
    let server = commons::server::counters::Options::default().port(0).workers(1).bind().unwrap();
    let error = server.run(|_| {}).unwrap_err();
    assert!(matches!(error, commons::Error::Threads { threads: 2.., .. }), "{error}");
}

#[test]
fn options_out_of_range_name_the_value_and_the_range() {
    let options = commons::server::counters::Options::default().port(0);
    let error = options.clone().workers(0).bind().unwrap_err();
    assert_eq!(error.to_string(), "workers is 0, allowed are 1..=256");
    assert!(options.clone().workers(257).bind().is_err());
    assert!(options.clone().grace(Duration::ZERO).bind().is_err());
    assert!(options.grace(Duration::from_secs(3601)).bind().is_err());
}
