//! Workers killed at random under load: the server keeps answering, the count is never short, and nothing is left.
//!
//! `COMMONS_CHAOS_SECS` sets how long the load lasts (4 by default).

#![allow(clippy::disallowed_types)] // threads of this test count together; nothing is shared between processes
#![allow(clippy::print_stderr)] // the seed and the figures, shown when the test fails

mod served;

use rustix::process::Signal;
use served::{Client, SOON, Served, children, is_alive, send, until};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 32;
const BETWEEN_KILLS: Duration = Duration::from_millis(200);

/// Responses read by all clients together.
static ANSWERED: AtomicU64 = AtomicU64::new(0);

/// Asks on one connection until `stop` disconnects, and connects again when the connection dies under it. Returns how
/// often that was.
fn load(address: SocketAddr, stop: &mpsc::Receiver<()>) -> u64 {
    let (mut broken, mut client) = (0, None);
    for number in 0_u64.. {
        if stop.try_recv() == Err(mpsc::TryRecvError::Disconnected) {
            break;
        }
        if client.is_none() {
            client = Client::connect(address).ok();
        }
        let Some(open) = client.as_mut() else {
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        let path = if number % 2 == 0 { "/" } else { "/stats" };
        let answer = open.write(&format!("GET {path} HTTP/1.1\r\nHost: chaos\r\n\r\n")).and_then(|()| open.read(false));
        match answer {
            Ok(response) => {
                assert_eq!(response.status, 200);
                ANSWERED.fetch_add(1, SeqCst);
            }
            Err(error) => {
                // Only a death may end a connection; one that hangs is a stuck worker.
                assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "no answer within {SOON:?}");
                broken += 1;
                client = None;
            }
        }
    }
    broken
}

fn names_in(folder: impl AsRef<Path>) -> BTreeSet<std::ffi::OsString> {
    std::fs::read_dir(folder)
        .map(|entries| entries.flatten().map(|entry| entry.file_name()).collect())
        .unwrap_or_default()
}

/// A small generator (xorshift), seeded by the clock and printed, so that a failure names its victims.
fn random(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 33) as usize
}

#[test]
fn killed_at_random_under_load() {
    let seconds = std::env::var("COMMONS_CHAOS_SECS").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let mut seed = std::time::UNIX_EPOCH.elapsed().map_or(1, |now| now.as_nanos() as u64) | 1;
    eprintln!("seed {seed}, {seconds} s");
    let temp = std::env::temp_dir().join(format!("commons-chaos-{}", std::process::id()));
    std::fs::create_dir(&temp).expect("a directory of its own");
    let before = names_in("/dev/shm");
    let mut server = Served::start_in(3, &temp);
    let mut seen: BTreeSet<i32> = server.workers().into_iter().collect();

    let mut killed = BTreeSet::new();
    let broken: u64 = thread::scope(|scope| {
        let (stops, clients): (Vec<_>, Vec<_>) = (0..CONNECTIONS)
            .map(|_| {
                let (stop, stopped) = mpsc::channel();
                let address = server.address;
                (stop, scope.spawn(move || load(address, &stopped)))
            })
            .unzip();
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end {
            thread::sleep(BETWEEN_KILLS);
            // One that was killed before may still be on its way out; killing it again would count for nothing.
            let running: Vec<_> = children(server.pid()).into_iter().map(|(pid, _)| pid).collect();
            let running: Vec<_> = running.into_iter().filter(|pid| is_alive(*pid) && !killed.contains(pid)).collect();
            if let Some(victim) = running.get(random(&mut seed) % running.len().max(1)) {
                send(*victim, Signal::KILL);
                killed.insert(*victim);
            }
            let before = ANSWERED.load(SeqCst);
            until("an answer after the kill", || ANSWERED.load(SeqCst) > before);
            assert!(server.left().is_none());
        }
        drop(stops);
        clients.into_iter().map(|client| client.join().expect("a client")).sum()
    });

    let kills = i64::try_from(killed.len()).unwrap();
    seen.extend(killed);
    // Every place is filled again, by processes that serve, and each death was counted once.
    seen.extend(server.workers());
    let answered = i64::try_from(ANSWERED.load(SeqCst)).unwrap();
    let stats = server.stats();
    eprintln!("{answered} answers, total {}, {kills} kills, {broken} connections broken", stats.total());
    assert!(kills > 0 && answered > 0);
    assert!(stats.total() >= answered, "total {} < {answered} answers", stats.total());
    // A worker killed between its two additions, once a kill at most, leaves the sum of hits behind.
    assert!((stats.total() - kills..=stats.total()).contains(&stats.sum("hits")));
    assert_eq!(stats.sum("crashes"), kills);
    assert_eq!(stats.sum("starts"), kills + 3);
    for _ in 0..20 {
        assert_eq!(server.connect().get("/").status, 200);
    }
    assert!(children(server.pid()).iter().all(|(_, zombie)| !zombie));

    let manager = server.pid();
    server.signal(Signal::TERM);
    assert_eq!(server.leave().code(), Some(0));
    assert!(Client::connect(server.address).is_err());
    assert!(!seen.into_iter().any(is_alive), "a worker outlived its manager");
    // That one belongs to every process of this machine: only what bears the server's name or pid can be its own.
    let mine = |name: &&std::ffi::OsString| {
        let name = name.to_string_lossy();
        name.contains("commons") || name.contains(&manager.to_string())
    };
    assert_eq!(names_in("/dev/shm").difference(&before).filter(mine).count(), 0);
    // Fails if anything is in it.
    std::fs::remove_dir(&temp).expect("nothing is left in its temporary directory");
}

#[test]
fn all_workers_killed_at_once_come_back() {
    let server = Served::start(4);
    let mut pids = server.workers();
    for round in 1..=3 {
        for pid in &pids {
            send(*pid, Signal::KILL);
        }
        pids = server.workers_but(&pids);
        assert_eq!(server.stats().sum("crashes"), round * 4);
    }
}
