//! The counters server's top tens: visits by path and by client, in shared tables.

mod served;

use rustix::process::Signal;
use serde_json::Value;
use served::{Client, SOON, Served, is_stopped, send, until};
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The line of a top ten that goes by this name.
fn line<'s>(stats: &'s Value, list: &str, key: &str, name: &str) -> Option<&'s Value> {
    stats[list].as_array().expect("a list").iter().find(|line| line[key] == name)
}

fn hits(stats: &Value, path: &str) -> i64 {
    line(stats, "paths", "path", path).map_or(0, |line| line["hits"].as_i64().expect("hits"))
}

fn sum(stats: &Value, list: &str) -> i64 {
    stats[list].as_array().expect("a list").iter().map(|line| line["hits"].as_i64().expect("hits")).sum()
}

fn millis() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

#[test]
fn every_visit_counts_by_path_and_by_client() {
    let server = Served::start(2);
    let before = millis();
    let mut client = server.connect();
    let page = client.get("/").body.len() as i64;
    client.get("/?query=1");
    let missing = client.get("/missing").body.len() as i64;
    client.ask("HEAD", "/");
    client.ask("POST", "/missing");
    client.get("*");
    let refused = client.ask("DELETE", "/stats").body.len() as i64;
    let first = client.get("/stats").json();
    assert_eq!(hits(&first, "/stats"), 2, "it shows itself");
    let stats = client.get("/stats").json();
    for (path, hits, bytes) in
        [("/", 3, Some(2 * page)), ("/missing", 2, Some(2 * missing)), ("*", 1, None), ("/stats", 3, None)]
    {
        let line = line(&stats, "paths", "path", path).expect(path);
        assert_eq!(line["hits"], hits, "{path}");
        assert!(bytes.is_none_or(|bytes| line["bytes"] == bytes), "{path}: {line}");
        let last = line["last_seen"].as_i64().expect("a time");
        assert!((before..=millis()).contains(&last), "{path}: {last}");
    }
    let own = line(&stats, "paths", "path", "/stats").unwrap()["bytes"].as_i64().unwrap();
    assert!(own > refused, "the length of the first answer is known by now: {own}");
    let us = line(&stats, "clients", "client", "127.0.0.1").expect("that is us");
    assert_eq!((us["hits"].as_i64(), stats["clients"].as_array().unwrap().len()), (stats["total"].as_i64(), 1));
    assert_eq!(sum(&stats, "paths"), sum(&stats, "clients"));
    let page = client.get("/").text();
    assert!(page.contains("id=\"paths\"") && page.contains("id=\"clients\""));
}

#[test]
fn the_top_is_ten_by_hits_and_survives_the_workers() {
    let server = Served::start(2);
    let pids = server.workers();
    let mut client = server.connect();
    for path in 0..15 {
        for _ in 0..=path {
            assert_eq!(client.get(&format!("/path {path}").replace(' ', "-")).status, 404);
        }
    }
    // Whose connection it was does not matter: the numbers are not the worker's.
    pids.iter().for_each(|pid| send(*pid, Signal::KILL));
    server.workers_but(&pids);
    // Asking for the workers took a few looks at the stats, which are in the list as well.
    let stats = server.stats().0;
    let paths = stats["paths"].as_array().unwrap();
    let counts: Vec<_> = paths.iter().map(|line| line["hits"].as_i64().unwrap()).collect();
    assert!(paths.len() == 10 && counts.is_sorted_by(|a, b| a >= b), "{stats}");
    (8..15).for_each(|path| assert_eq!(hits(&stats, &format!("/path-{path}")), path + 1));
    assert_eq!(hits(&stats, "/path-0"), 0, "not in the top");
}

#[test]
fn odd_requests_have_lines_of_their_own() {
    let server = Served::start(1);
    let mut client = server.connect();
    let (fits, long) = (format!("/{}", "x".repeat(127)), format!("/{}", "x".repeat(128)));
    for path in [&fits, &long, &format!("/{}", "y".repeat(40_000))] {
        assert_eq!(client.get(path).status, 404);
    }
    assert_eq!(client.ask("CONNECT", "example.org:443").status, 404);
    let mut nonsense = server.connect();
    let _ = nonsense.write("\0\u{1}\r\n\r\n");
    let _ = nonsense.read(false);
    until("it is counted", || hits(&server.stats().0, "(not HTTP)") == 1);
    let stats = server.stats().0;
    assert_eq!((hits(&stats, &fits), hits(&stats, "(long paths)"), hits(&stats, "(no path)")), (1, 2, 1), "{stats}");
    // What is in a path comes out as it went in.
    client.get("/a&b'%22%3Cscript%3E;{}");
    let stats = server.stats().0;
    assert_eq!(hits(&stats, "/a&b'%22%3Cscript%3E;{}"), 1, "{stats}");
}

/// Far more paths than there is room for: the server goes on, counts all of them, and keeps those that come often.
#[test]
fn a_flood_of_paths_breaks_nothing() {
    const PATHS: usize = 40_000;
    let server = Served::start(2);
    let mut client = server.connect();
    for burst in 0..PATHS / 100 {
        let mut text: String = (0..99).map(|n| format!("GET /{burst}/{n} HTTP/1.1\r\nHost: test\r\n\r\n")).collect();
        text.push_str("GET /often HTTP/1.1\r\nHost: test\r\n\r\n");
        client.write(&text).unwrap();
        (0..100).for_each(|_| assert_eq!(client.read(false).unwrap().status, 404));
    }
    let stats = server.stats();
    assert_eq!(stats.total(), PATHS as i64 + 1);
    assert_eq!(stats.sum("crashes"), 0);
    assert_eq!(hits(&stats.0, "/often"), PATHS as i64 / 100, "what was seen a moment ago is not what makes way");
    let us = line(&stats.0, "clients", "client", "127.0.0.1").unwrap();
    assert_eq!(us["hits"], PATHS as i64 + 1);
}

/// A worker is stopped under load, anywhere, perhaps in the middle of counting; the other one answers all the same.
#[test]
fn a_worker_that_is_stopped_in_the_middle_of_counting_keeps_nobody_from_being_served() {
    let server = Served::start(2);
    let pids = server.workers();
    let done = commons::Atomic::new(0).unwrap();
    thread::scope(|scope| {
        let load = || {
            let burst = "GET /busy HTTP/1.1\r\nHost: test\r\n\r\n".repeat(200);
            while done.get() == 0 {
                // Those whose worker is stopped have to wait for it.
                let Ok(mut client) = Client::connect(server.address) else { continue };
                if client.write(&burst).is_ok() {
                    let _ = (0..200).try_for_each(|_| client.read(false).map(|_| ()));
                }
            }
        };
        let loads = [(); 3].map(|()| scope.spawn(load));
        for round in 0..60 {
            let pid = pids[round % 2];
            send(pid, Signal::STOP);
            until("it is stopped", || is_stopped(pid));
            let since = Instant::now();
            // Nobody but the other one can take this connection.
            assert_eq!(server.connect().get("/busy").status, 404);
            assert!(since.elapsed() < SOON, "round {round}: {:?}", since.elapsed());
            send(pid, Signal::CONT);
        }
        done.set(1);
        loads.into_iter().for_each(|load| load.join().unwrap());
    });
    assert_eq!((server.stats().sum("crashes"), server.workers()), (0, pids));
}
