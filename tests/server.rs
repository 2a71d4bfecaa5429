//! The counters server, driven as a user drives it: the real binary, real signals, real connections.

mod served;

use rustix::process::Signal;
use served::{BINARY, Client, Served, children, is_alive, is_stopped, send, until};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const PARTIAL: &str = "GET /stats HTTP/1.1\r\nHost: te";
const REST: &str = "st\r\n\r\n";

#[test]
fn the_page_is_whole_and_self_contained() {
    let server = Served::start(2);
    let page = server.connect().get("/");
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let text = page.text();
    assert!(text.starts_with("<!doctype html>") && text.trim_end().ends_with("</html>"));
    assert!(text.contains("/stats"));
    for outside in ["src=", "http://", "https://", "@import", "url("] {
        assert!(!text.contains(outside), "{outside}");
    }
}

#[test]
fn the_stats_count_every_answer() {
    let server = Served::start(2);
    let pids = server.workers();
    let before = server.stats().total();
    let mut client = server.connect();
    for path in ["/", "/stats", "/nowhere", "/stats?query"] {
        client.get(path);
    }
    client.ask("HEAD", "/");
    assert_eq!(client.ask("DELETE", "/stats").status, 405);
    let stats = server.stats();
    // Each look at the stats is counted before it is answered, so it shows itself.
    assert_eq!(stats.total(), before + 7);
    assert_eq!(stats.sum("hits"), stats.total());
    assert_eq!(stats.each("id"), [0, 1]);
    assert_eq!(stats.each("starts"), [1, 1]);
    assert_eq!(stats.each("crashes"), [0, 0]);
    let mut forked: Vec<_> = children(server.pid()).into_iter().map(|(pid, _)| pid).collect();
    forked.sort_unstable();
    let mut said = pids;
    said.sort_unstable();
    assert_eq!(forked, said);
}

#[test]
fn what_is_not_there_is_404_and_what_is_not_allowed_405() {
    let server = Served::start(1);
    let mut client = server.connect();
    for path in ["/x", "/stats/", "//", "/stats%00", "*"] {
        let response = client.get(path);
        assert_eq!(response.status, 404, "{path}");
        assert!(response.body.len() < 100);
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"] {
        let response = client.ask(method, "/");
        assert_eq!((response.status, response.header("allow")), (405, Some("get, head")), "{method}");
    }
    assert_eq!(client.ask("POST", "/x").status, 404);
}

#[test]
fn head_is_get_without_the_body() {
    let server = Served::start(1);
    let mut client = server.connect();
    let length = client.get("/").body.len().to_string();
    let head = client.ask("HEAD", "/");
    assert_eq!((head.status, head.header("content-length")), (200, Some(length.as_str())));
    // Had a body followed, it would be taken for the head of this one.
    assert_eq!(client.get("/stats").status, 200);
}

#[test]
fn a_connection_carries_many_requests_and_pipelined_ones_in_order() {
    let server = Served::start(1);
    let mut client = server.connect();
    for _ in 0..50 {
        assert_eq!(client.get("/stats").status, 200);
    }
    let mut burst = String::new();
    for path in ["/stats", "/nowhere"].iter().cycle().take(200) {
        burst.push_str(&format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
    }
    client.write(&burst).unwrap();
    for number in 0..200 {
        assert_eq!(client.read(false).unwrap().status, if number % 2 == 0 { 200 } else { 404 }, "{number}");
    }
    client.write("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!(client.read(false).unwrap().status, 200);
    assert!(client.is_closed());
    let mut old = server.connect();
    old.write("GET /stats HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(old.read(false).unwrap().status, 200);
    assert!(old.is_closed());
}

#[test]
fn nonsense_is_refused_and_harms_nobody() {
    let server = Served::start(1);
    let pids = server.workers();
    let huge = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(200_000));
    for nonsense in ["\0\u{1}\u{2}\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\u{16}\u{3}\u{1}\0\u{5}", &huge]
    {
        let mut client = server.connect();
        // The server may close while it is still being talked to.
        let _ = client.write(nonsense);
        if let Ok(response) = client.read(false) {
            assert!((400..500).contains(&response.status), "{}", response.status);
        }
    }
    let mut body = server.connect();
    body.write("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000000\r\n\r\nabc").unwrap();
    assert_eq!(body.read(false).unwrap().status, 405);
    assert_eq!(server.stats().sum("crashes"), 0);
    assert_eq!(server.workers(), pids);
}

/// Two round trips after it, a worker has read all that had arrived before them: what was sent before the first was
/// ready in the same turn of its loop at the latest, and that turn was over before the second.
fn has_been_read(client: &mut Client) {
    client.get("/stats");
    client.get("/stats");
}

#[test]
fn term_finishes_what_is_under_way_and_closes_what_is_idle() {
    let mut server = Served::start(1);
    let mut idle = server.connect();
    idle.get("/");
    let mut silent = server.connect();
    let mut first = server.connect();
    first.write(PARTIAL).unwrap();
    let mut second = server.connect();
    second.get("/");
    second.write(PARTIAL).unwrap();
    has_been_read(&mut idle);

    server.signal(Signal::TERM);
    assert!(idle.is_closed());
    assert!(silent.is_closed());
    until("new connections are refused", || Client::connect(server.address).is_err());
    assert!(server.left().is_none());
    for client in [&mut first, &mut second] {
        client.write(REST).unwrap();
        let response = client.read(false).unwrap();
        assert_eq!((response.status, response.header("connection")), (200, Some("close")));
        assert!(client.is_closed());
    }
    assert_eq!(server.leave().code(), Some(0));
    assert_eq!(server.errors(), [""; 0]);
}

#[test]
fn int_stops_as_term_does() {
    let mut server = Served::start(3);
    let pids = server.workers();
    server.signal(Signal::INT);
    assert_eq!(server.leave().code(), Some(0));
    assert!(!pids.into_iter().any(is_alive));
}

#[test]
fn term_right_after_the_start_stops_too() {
    for _ in 0..10 {
        let mut server = Served::start(4);
        server.signal(Signal::TERM);
        assert_eq!(server.leave().code(), Some(0));
        assert_eq!(server.errors(), [""; 0]);
    }
}

#[test]
fn who_does_not_leave_in_time_is_killed_and_the_log_says_what_it_held() {
    let mut server = Served::start(2);
    let mut stuck = server.connect();
    stuck.write(PARTIAL).unwrap();
    server.workers();
    let asked = Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(server.leave().code(), Some(0));
    assert!(asked.elapsed() >= Duration::from_millis(4_900));
    let errors = server.errors();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("did not leave in time, 1 connections open"), "{errors:?}");
}

#[test]
fn a_second_term_and_quit_kill_at_once() {
    for signal in [Signal::TERM, Signal::QUIT] {
        let mut server = Served::start(2);
        let pids = server.workers();
        let mut stuck = server.connect();
        stuck.write(PARTIAL).unwrap();
        let asked = Instant::now();
        if signal == Signal::TERM {
            server.signal(Signal::TERM);
            until("new connections are refused", || Client::connect(server.address).is_err());
            // Two that come close together are taken for one, so this one is sent until it is heard.
            until("the manager leaves", || {
                server.signal(signal);
                server.left().is_some()
            });
        } else {
            server.signal(signal);
        }
        assert_eq!(server.leave().code(), Some(0));
        assert!(asked.elapsed() < Duration::from_secs(4), "{signal:?} took {:?}", asked.elapsed());
        assert!(!pids.into_iter().any(is_alive));
    }
}

#[test]
fn a_killed_worker_is_replaced_and_the_numbers_go_on() {
    let mut server = Served::start(2);
    for round in 1..=5 {
        let before = server.stats();
        let pids = server.workers();
        send(pids[0], Signal::KILL);
        let next = server.workers_but(&pids[..1]);
        assert_eq!(next[1], pids[1]);
        let stats = server.stats();
        assert_eq!(stats.each("crashes"), [round, 0]);
        assert_eq!(stats.each("starts"), [1 + round, 1]);
        assert!(stats.total() > before.total());
        for (now, then) in stats.each("hits").into_iter().zip(before.each("hits")) {
            assert!(now >= then);
        }
    }
    assert!(children(server.pid()).iter().all(|(_, zombie)| !zombie));
    let errors = server.errors();
    assert_eq!(errors.iter().filter(|line| line.contains("was killed by signal 9")).count(), 5, "{errors:?}");
}

#[test]
fn a_worker_that_is_asked_to_leave_is_replaced_and_is_no_crash() {
    let server = Served::start(2);
    let pids = server.workers();
    send(pids[1], Signal::TERM);
    server.workers_but(&pids[1..]);
    assert_eq!(server.stats().each("crashes"), [0, 0]);
    assert_eq!(server.stats().each("starts"), [1, 2]);
}

#[test]
fn a_stopped_worker_keeps_nobody_from_being_served() {
    let server = Served::start(2);
    let pids = server.workers();
    send(pids[0], Signal::STOP);
    until("it is stopped", || is_stopped(pids[0]));
    for _ in 0..50 {
        assert_eq!(server.connect().get("/").status, 200);
    }
    assert_eq!(server.stats().each("crashes"), [0, 0]);
    send(pids[0], Signal::CONT);
    assert_eq!(server.workers(), pids);
}

#[test]
fn deaths_are_seen_even_when_the_starter_ignored_them() {
    let server = Served::start_ignoring(&[Signal::CHILD, Signal::TERM, Signal::INT], 1);
    let pids = server.workers();
    send(pids[0], Signal::KILL);
    server.workers_but(&pids);
    assert_eq!(server.stats().each("crashes"), [1]);
}

#[test]
fn workers_leave_when_the_manager_is_killed() {
    let server = Served::start(3);
    let pids = server.workers();
    let mut client = server.connect();
    client.get("/");
    server.signal(Signal::KILL);
    until("the workers are gone", || !pids.iter().any(|pid| is_alive(*pid)));
    assert!(client.is_closed());
    until("the port is free", || TcpListener::bind(server.address).is_ok());
}

#[test]
fn running_out_of_descriptors_is_said_once_and_passes() {
    let mut server = Served::start_after("ulimit -n 32", 1);
    let pids = server.workers();
    // They connect all, for the kernel completes them; the worker can take only some.
    let crowd: Vec<_> = (0..60).map(|_| server.connect()).collect();
    let mut said = Vec::new();
    until("the shortage is said", || {
        said.extend(server.errors());
        !said.is_empty()
    });
    // Long enough for several tries.
    let before = Instant::now();
    let busy = processor_ticks(pids[0]);
    thread::sleep(Duration::from_millis(500));
    let busy = processor_ticks(pids[0]) - busy;
    assert!(busy < 25, "{busy} ticks of 10 ms in {:?}: the worker spins", before.elapsed());
    drop(crowd);
    assert_eq!(server.connect().get("/stats").status, 200);
    said.extend(server.errors());
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("Too many open files"), "{said:?}");
    assert_eq!(server.workers(), pids);
}

#[test]
fn when_no_worker_can_ever_start_it_gives_up_with_1() {
    // With too few descriptors not even the manager starts (at once, and it says so); with enough the workers do too. In
    // between, the manager starts and the workers cannot.
    for limit in 8..100 {
        let script = format!("ulimit -n {limit}; exec \"$0\" --port 0 --workers 1");
        let mut child = Command::new("sh")
            .args(["-c", &script, BINARY])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut status = None;
        while status.is_none() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
            status = child.try_wait().unwrap();
        }
        let _ = child.kill();
        let errors = child.wait_with_output().unwrap().stderr;
        let errors = String::from_utf8_lossy(&errors);
        if errors.contains("gave up") {
            assert_eq!(status.and_then(|status| status.code()), Some(1));
            assert!(errors.contains("worker 0: cannot start: "), "{errors}");
            return;
        }
        assert!(status.is_some(), "it serves with {limit} descriptors: {errors}");
    }
    panic!("no limit let the manager start and the workers fail");
}

/// User and system time of a process, in ticks.
fn processor_ticks(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let rest = text.rsplit_once(") ").unwrap().1.split(' ');
    rest.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}
