//! Who asked for what: a table by path and one by client address, shared by all workers.
//!
//! A path longer than [`KEY`] is counted as [`LONG`], a request without a path (`CONNECT`) as [`NONE`], what was no HTTP as [`NOT_HTTP`]; no path
//! looks like these, for each begins with `/` or is `*`.
//!
//! Each place has rows of its own, for two workers that count the same visits in one row would wait for each other at every request, and for
//! long when one of them is preempted there. Who looks adds them up. There is room for [`ROOM`] paths, and as many clients, for each
//! of the first [`PLACES`] places; beyond that, who was seen longest ago makes way, so a client that asks for a million
//! paths costs us nothing but the memory of what was asked before.
//!
//! A worker that was stopped in the middle of counting holds a few rows, perhaps one of another place. Who wants them waits [`PATIENCE`] once, and then
//! leaves visits uncounted for [`PAUSE`]: nobody is kept from being served. The total is counted elsewhere and stays exact.
#![forbid(unsafe_code)]

use crate::{Column, Error, Result, RowMut, Schema, Table};
use serde::Serialize;
use std::cell::Cell;
use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The longest path that is counted by itself, in bytes.
const KEY: usize = 128;
const ROOM: usize = 512;
/// Places beyond so many share the room of these, so that a look at all rows stays short.
const PLACES: usize = 8;
/// The longest address: `ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255`.
const ADDRESS: usize = 45;
const TOP: usize = 10;
const PATIENCE: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_secs(1);

pub(super) const LONG: &str = "(long paths)";
pub(super) const NONE: &str = "(no path)";
pub(super) const NOT_HTTP: &str = "(not HTTP)";

/// Both tables.
pub(super) struct Visits {
    paths: Ranking,
    clients: Ranking,
    /// This worker counts nothing until then.
    paused: Cell<Option<Instant>>,
}

struct Ranking {
    table: Table,
    hits: Column<i64>,
    bytes: Column<i64>,
    last: Column<i64>,
}

/// One line of a top ten: under its own name, then hits, bytes of the bodies sent, and when it was last seen, in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    name: String,
    hits: i64,
    bytes: i64,
    last_seen: i64,
}

/// The most visited, first.
#[derive(Serialize)]
pub(super) struct Tops {
    paths: Vec<PathLine>,
    clients: Vec<ClientLine>,
}

#[derive(Serialize)]
struct PathLine {
    path: String,
    hits: i64,
    bytes: i64,
    last_seen: i64,
}

#[derive(Serialize)]
struct ClientLine {
    client: String,
    hits: i64,
    bytes: i64,
    last_seen: i64,
}

impl Visits {
    /// Makes both tables; before the first fork.
    pub(super) fn new(workers: usize) -> Result<Self> {
        let room = ROOM * workers.clamp(1, PLACES);
        Ok(Self { paths: Ranking::new(room, KEY)?, clients: Ranking::new(room, ADDRESS)?, paused: Cell::new(None) })
    }

    /// Counts `hits` visits to place `id` and `bytes` of what was sent.
    pub(super) fn count(&self, id: usize, path: &str, client: &str, hits: i64, bytes: u64) {
        if self.paused.get().is_some_and(|until| Instant::now() < until) {
            return;
        }
        let path = match path.len() {
            0 => NONE,
            1..=KEY => path,
            _ => LONG,
        };
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let now = now();
        let counted = self
            .paths
            .count(id, path, hits, bytes, now)
            .and_then(|()| self.clients.count(id, client, hits, bytes, now));
        // Not counting a visit is better than not answering it.
        self.paused.set(counted.err().map(|_| Instant::now() + PAUSE));
    }

    /// The most visited paths and the most active clients.
    pub(super) fn tops(&self) -> Tops {
        let path = |Line { name: path, hits, bytes, last_seen }| PathLine { path, hits, bytes, last_seen };
        let client = |Line { name: client, hits, bytes, last_seen }| ClientLine { client, hits, bytes, last_seen };
        Tops {
            paths: self.paths.top().into_iter().map(path).collect(),
            clients: self.clients.top().into_iter().map(client).collect(),
        }
    }
}

impl Ranking {
    fn new(room: usize, key_size: usize) -> Result<Self> {
        let mut schema = Schema::new();
        let (hits, bytes, last) = (schema.int("hits"), schema.int("bytes"), schema.int("last seen"));
        let table = Table::builder().capacity(room).key_size(key_size + 1).schema(schema).evict_lru().build()?;
        Ok(Self { table, hits, bytes, last })
    }

    fn count(&self, id: usize, name: &str, hits: i64, bytes: i64, now: i64) -> Result<()> {
        // The place, then the name.
        let mut key = [0; KEY + 1];
        let Some(rest) = key.get_mut(1..=name.len()) else { return Ok(()) };
        rest.copy_from_slice(name.as_bytes());
        key[0] = id as u8; // there are at most 256
        let key = &key[..=name.len()];
        let add = |row: &mut RowMut<'_>| {
            row.set(self.hits, row.get(self.hits).saturating_add(hits));
            row.set(self.bytes, row.get(self.bytes).saturating_add(bytes));
            row.set(self.last, now.max(row.get(self.last)));
        };
        match self.table.upsert_timeout(key, Duration::ZERO, add) {
            Err(Error::Timeout { .. }) => self.table.upsert_timeout(key, PATIENCE, add),
            done => done,
        }
    }

    fn top(&self) -> Vec<Line> {
        let mut sums: HashMap<Vec<u8>, (i64, i64, i64)> = HashMap::new();
        for (key, row) in self.table.iter().timeout(PATIENCE) {
            let name = key.get(1..).unwrap_or_default();
            let (hits, bytes, last) = match sums.get_mut(name) {
                Some(sum) => sum,
                None => sums.entry(name.to_vec()).or_default(),
            };
            *hits = hits.saturating_add(row.get(self.hits));
            *bytes = bytes.saturating_add(row.get(self.bytes));
            *last = row.get(self.last).max(*last);
        }
        let line = |(name, (hits, bytes, last_seen)): (Vec<u8>, _)| Line {
            name: String::from_utf8_lossy(&name).into_owned(),
            hits,
            bytes,
            last_seen,
        };
        let mut lines: Vec<_> = sums.into_iter().map(line).collect();
        // Equals by name, so that they keep their places from one look to the next.
        lines.sort_unstable_by(|a, b| b.hits.cmp(&a.hits).then_with(|| a.name.cmp(&b.name)));
        lines.truncate(TOP);
        lines
    }
}

/// Milliseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    /// Somebody holds the row of a path for good: who counts it waits once and then goes on without counting, and so does who looks.
    #[test]
    fn a_row_that_is_held_holds_up_nobody_for_long() {
        let visits = Visits::new(2).unwrap();
        visits.count(1, "/busy", "1.2.3.4", 1, 10);
        visits.count(1, "/other", "1.2.3.4", 1, 10);
        let ((inside, held), (release, until)) = (channel(), channel());
        let table = visits.paths.table.clone();
        let holder = std::thread::spawn(move || {
            let hold = |_: &mut RowMut<'_>| {
                inside.send(()).unwrap();
                let _ = until.recv_timeout(Duration::from_secs(60));
            };
            table.update_with("\u{1}/busy", hold).unwrap().unwrap();
        });
        held.recv().unwrap();
        let since = Instant::now();
        visits.count(1, "/busy", "1.2.3.4", 1, 10);
        assert!(since.elapsed() >= PATIENCE);
        for _ in 0..1000 {
            visits.count(1, "/busy", "1.2.3.4", 1, 10);
        }
        let tops = visits.tops();
        assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
        assert!(tops.paths.iter().all(|line| line.path != "/busy") && tops.clients[0].hits == 2);
        release.send(()).unwrap();
        holder.join().unwrap();
        while visits.paused.get().is_some_and(|end| Instant::now() < end) {
            std::thread::sleep(Duration::from_millis(10));
        }
        visits.count(1, "/busy", "1.2.3.4", 1, 10);
        let tops = visits.tops();
        assert_eq!((tops.paths[0].path.as_str(), tops.paths[0].hits, tops.paths[0].bytes), ("/busy", 2, 20));
        assert_eq!((tops.clients[0].hits, tops.clients.len()), (3, 1));
    }
}
