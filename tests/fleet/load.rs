//! Clients that ask without a break, each on a connection that it keeps for as long as the server does.

#![allow(clippy::disallowed_types, reason = "threads of a test count together; nothing is shared between processes")]

use crate::served::Client;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

/// What clients have seen together.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) stop: AtomicBool,
    pub(crate) answered: AtomicU64,
    /// Tasks among them, done and lost.
    pub(crate) done: AtomicU64,
    pub(crate) lost: AtomicU64,
    /// Answers that said that nothing more is answered on this connection.
    pub(crate) turned_away: AtomicU64,
    /// Connections that did not come to be, or were broken off.
    pub(crate) refused: AtomicU64,
    pub(crate) broken: AtomicU64,
    /// Answers that said that the worker could not, for want of descriptors.
    pub(crate) short: AtomicU64,
    /// Requests that were not answered in a very long time, and answers that were wrong.
    pub(crate) failed: AtomicU64,
    /// The first of all these, in words.
    pub(crate) first: std::sync::Mutex<Option<String>>,
}

impl Seen {
    fn fail(&self, kind: &AtomicU64, what: String) {
        kind.fetch_add(1, SeqCst);
        self.first.lock().expect("whole").get_or_insert(what);
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, SeqCst);
    }

    pub(crate) fn words(&self) -> String {
        let of = |cell: &AtomicU64| cell.load(SeqCst);
        format!(
            "{} answers ({} of tasks, {} tasks lost), {} connections closed in good order, {} not connected, {} broken off, {} for want of descriptors, {} failed, first: {:?}",
            of(&self.answered),
            of(&self.done),
            of(&self.lost),
            of(&self.turned_away),
            of(&self.refused),
            of(&self.broken),
            of(&self.short),
            of(&self.failed),
            self.first.lock().expect("whole")
        )
    }
}

/// Starts `n` clients; they ask for `paths` in turn.
pub(crate) fn start<'s>(
    scope: &'s Scope<'s, '_>,
    n: usize,
    address: SocketAddr,
    paths: &'static [&'static str],
    seen: &'s Seen,
) -> Vec<ScopedJoinHandle<'s, ()>> {
    (0..n).map(|first| scope.spawn(move || ask(first, address, paths, seen))).collect()
}

fn ask(first: usize, address: SocketAddr, paths: &[&str], seen: &Seen) {
    let mut client: Option<Client> = None;
    for number in first.. {
        if seen.stop.load(SeqCst) {
            return;
        }
        let Some(open) = client.as_mut() else {
            match Client::connect(address) {
                Ok(new) => client = Some(new),
                Err(error) => {
                    seen.fail(&seen.refused, format!("connect: {error}"));
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            continue;
        };
        let path = paths[number % paths.len()];
        let asked = open.write(&format!("GET {path} HTTP/1.1\r\nHost: load\r\n\r\n"));
        match asked.and_then(|()| open.read(false)) {
            Ok(response) => {
                seen.answered.fetch_add(1, SeqCst);
                match (path.strip_prefix("/task/"), response.status) {
                    (None, 200) => {}
                    (Some(task), 200) if response.body.iter().rev().eq(task.as_bytes()) => {
                        seen.done.fetch_add(1, SeqCst);
                    }
                    (Some(_), 503) => _ = seen.short.fetch_add(1, SeqCst),
                    (Some(_), 410) => _ = seen.lost.fetch_add(1, SeqCst),
                    (_, status) => seen.fail(&seen.failed, format!("{path}: {status} {}", response.text())),
                }
                if response.header("connection") == Some("close") {
                    seen.turned_away.fetch_add(1, SeqCst);
                    client = None;
                }
            }
            Err(error) => {
                let hung = error.kind() == ErrorKind::WouldBlock;
                seen.fail(if hung { &seen.failed } else { &seen.broken }, format!("{path}: {error}"));
                client = None;
            }
        }
    }
}

/// Asks, each time on a new connection, until there is an answer: after how long; None when there is none within `limit`. Time in which this test itself did
/// not run does not count, for a step that lasts longer than it may counts as long as it may.
pub(crate) fn answered_within(address: SocketAddr, limit: Duration) -> Option<Duration> {
    let (patience, pause) = (Duration::from_millis(200), Duration::from_millis(2));
    let mut waited = Duration::ZERO;
    while waited < limit {
        let began = Instant::now();
        let answer = Client::within(address, patience).and_then(|mut client| {
            client.write("GET / HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n")?;
            client.read(false)
        });
        let answered = answer.is_ok_and(|answer| answer.status == 200);
        if !answered {
            std::thread::sleep(pause);
        }
        waited += began.elapsed().min(patience + pause);
        if answered {
            return Some(waited);
        }
    }
    None
}
