//! Reloads of the counters server under load: the workers are others, and no client has noticed.

#![allow(clippy::disallowed_types)] // threads of this test count together; nothing is shared between processes

mod served;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use served::{Client, SOON, Served, children, is_alive, send, until};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

const CONNECTIONS: usize = 16;

/// Asks on kept-alive connections until `stop`; a connection ends only when a response said so. Returns how many did.
fn load(address: SocketAddr, pause: Duration, stop: &AtomicBool, answered: &AtomicU64) -> u64 {
    let mut ended = 0;
    let mut client = Client::connect(address).expect("connect");
    for number in 0_u64.. {
        if stop.load(SeqCst) {
            break;
        }
        let path = if number % 2 == 0 { "/" } else { "/stats" };
        client
            .write(&format!("GET {path} HTTP/1.1\r\nHost: reload\r\n\r\n"))
            .expect("a connection that takes a request");
        let response = client.read(false).expect("a response to what was asked on an open connection");
        assert_eq!(response.status, 200);
        answered.fetch_add(1, SeqCst);
        if response.header("connection") == Some("close") {
            assert!(client.is_closed(), "it was said that it would be");
            ended += 1;
            client = Client::connect(address).expect("connect again");
        }
        thread::sleep(pause);
    }
    ended
}

/// Reloads by `signal` and waits until that is over; returns the new workers.
fn reload(server: &mut Served, signal: Signal, old: &[i32]) -> Vec<i32> {
    server.signal(signal);
    let line = server.line("the reload is over", |line| line.contains("reloaded"));
    assert_eq!(line, format!("commons: reloaded, {} workers renewed", old.len()));
    let new = server.workers_but(old);
    until("the old ones have left", || !old.iter().copied().any(is_alive));
    new
}

#[test]
fn no_request_fails_while_all_workers_are_renewed() {
    let mut server = Served::start(2);
    let mut pids = server.workers();
    let first = pids.clone();
    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                let (address, stop, answered) = (server.address, &stop, &answered);
                // Some without a rest, and some that are idle at most times.
                let pause = Duration::from_millis(if number % 4 == 0 { 50 } else { 0 });
                scope.spawn(move || load(address, pause, stop, answered))
            })
            .collect();
        for signal in [Signal::USR1, Signal::HUP, Signal::USR1] {
            let before = answered.load(SeqCst);
            until("load", || answered.load(SeqCst) > before + 100 || clients.iter().any(|client| client.is_finished()));
            let new = reload(&mut server, signal, &pids);
            assert!(new.iter().all(|pid| !pids.contains(pid) && !first.contains(pid)), "{pids:?} {new:?}");
            pids = new;
        }
        stop.store(true, SeqCst);
        let ended: u64 = clients.into_iter().map(|client| client.join().expect("a client")).sum();
        assert!(ended >= CONNECTIONS as u64, "{ended}: every connection has met a worker that left");
    });
    let stats = server.stats();
    assert_eq!(stats.each("starts"), [4, 4]);
    assert_eq!(stats.each("crashes"), [0, 0]);
    assert!(stats.total() >= i64::try_from(answered.load(SeqCst)).unwrap());
    assert_eq!(server.errors(), [""; 0]);
    assert_eq!(children(server.pid()).len(), 2);
    server.signal(Signal::TERM);
    assert_eq!(server.leave().code(), Some(0));
}

#[test]
fn what_an_old_worker_is_in_the_middle_of_is_finished_while_its_successor_works() {
    let mut server = Served::start(1);
    let old = server.workers();
    let mut half = server.connect();
    half.write("GET /stats HTTP/1.1\r\nHost: te").unwrap();
    let mut idle = server.connect();
    idle.get("/");
    idle.get("/");
    let mut pipelined = server.connect();
    server.signal(Signal::USR1);
    server.line("the reload is over", |line| line.contains("reloaded"));
    let new = server.workers_but(&old);
    assert!(is_alive(old[0]), "it has a request to answer");
    // What arrives behind the last response is not answered, and does not destroy it either.
    pipelined.write(&"GET / HTTP/1.1\r\nHost: test\r\n\r\n".repeat(50)).unwrap();
    let response = pipelined.read(false).unwrap();
    assert_eq!(response.status, 200);
    assert!(idle.is_closed(), "after a while");
    half.write("st\r\n\r\n").unwrap();
    let response = half.read(false).unwrap();
    assert_eq!((response.status, response.header("connection")), (200, Some("close")));
    drop((half, pipelined));
    until("the old one has left", || !is_alive(old[0]));
    assert_eq!(server.workers(), new);
    assert_eq!(server.errors(), [""; 0]);
}

#[test]
fn an_idle_connection_that_asks_in_time_is_answered() {
    let mut server = Served::start(1);
    let old = server.workers();
    let mut idle: Vec<_> = (0..20).map(|_| server.connect()).collect();
    idle.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
    let silent = server.connect();
    idle.push(silent);
    // All have been accepted.
    server.stats();
    server.stats();
    server.signal(Signal::USR1);
    server.line("the reload is over", |line| line.contains("reloaded"));
    for client in &mut idle {
        let response = client.get("/stats");
        assert_eq!(response.status, 200);
    }
    server.workers_but(&old);
}

#[test]
fn reloads_and_stops_of_all_kinds_at_once_end_well() {
    for round in 0..6 {
        let mut server = Served::start(3);
        let mut seen: BTreeSet<_> = server.workers().into_iter().collect();
        for _ in 0..=round {
            server.signal(Signal::USR1);
            server.signal(Signal::WINCH);
            server.signal(Signal::USR2);
            seen.extend(children(server.pid()).into_iter().map(|(pid, _)| pid));
            if let Some(pid) = seen.iter().copied().nth(round) {
                send(pid, Signal::KILL);
            }
        }
        if round % 2 == 0 {
            server.line("the reload is over", |line| line.contains("reloaded"));
        }
        seen.extend(children(server.pid()).into_iter().map(|(pid, _)| pid));
        server.signal(if round < 3 { Signal::TERM } else { Signal::QUIT });
        assert_eq!(server.leave().code(), Some(0));
        assert!(!seen.into_iter().any(is_alive));
        match Client::connect(server.address) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionRefused),
            Ok(_) => panic!("somebody listens after {SOON:?}"),
        }
    }
}

#[test]
fn where_no_successor_can_start_the_old_workers_go_on() {
    let mut server = Served::start(2);
    let old = server.workers();
    let mut client = server.connect();
    client.get("/");
    let pid = Pid::from_raw(server.pid());
    let ours = getrlimit(Resource::Nofile);
    let limit = |current| prlimit(pid, Resource::Nofile, Rlimit { current, ..ours }).expect("prlimit");
    let open = |number: &u64| std::fs::exists(format!("/proc/{}/fd/{number}", server.pid())).expect("/proc");
    // So few descriptors that a fork works and a boot does not: about as many as the manager has itself.
    let first_free = (0..).find(|number| !open(number)).expect("a number");
    let kept = (0..4).map(|less| first_free - less).any(|few| {
        limit(Some(few));
        server.signal(Signal::USR1);
        let line = server.line("the reload is over", |line| line.contains("reloaded"));
        line.contains("0 workers renewed, 2 could not be")
    });
    assert!(kept, "no limit let the manager go on and its new workers fail");
    let mut errors = Vec::new();
    until("both are said to be kept", || {
        errors.extend(server.errors());
        errors.iter().filter(|line| line.contains("keeps its process")).count() == 2
    });
    // The manager has no descriptor left with which to look into /proc, and sees all the same that they are dead.
    assert!(!errors.iter().any(|line| line.contains("cannot recover")), "{errors:?}");
    for id in 0..2 {
        let deaths = errors.iter().filter(|line| line.contains(&format!("worker {id} (pid"))).count();
        assert_eq!(deaths, 5, "{errors:?}");
    }
    // The same as before, as if nothing had been.
    assert_eq!((client.get("/").status, server.workers()), (200, old.clone()));
    limit(ours.current);
    reload(&mut server, Signal::USR1, &old);
}
