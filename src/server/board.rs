//! The shared numbers: made by the manager before the first fork, seen by all.
#![forbid(unsafe_code)]

use super::rates::{Rates, Shown};
use super::visits::{NOT_HTTP, Tops, Visits};
use crate::process::crew::slots;
use crate::{AtomicLong, Counter, Result};
use serde::Serialize;

/// All numbers of one server.
pub(super) struct Board {
    total: Counter,
    places: Vec<Place>,
    /// Connections of each life that is there: two may be in one place, and what a dead one held must not stay in the other's number.
    open: Vec<AtomicLong>,
    visits: Visits,
    rates: Rates,
}

/// The numbers of one worker's place; they outlive the worker, and count on with the next one.
struct Place {
    pid: AtomicLong,
    hits: AtomicLong,
    starts: AtomicLong,
    crashes: AtomicLong,
}

/// What `GET /stats` says.
#[derive(Serialize)]
pub(super) struct Stats {
    total: i64,
    workers: Vec<WorkerStats>,
    rates: Shown,
    #[serde(flatten)]
    tops: Tops,
}

#[derive(Serialize)]
struct WorkerStats {
    id: usize,
    pid: i64,
    hits: i64,
    starts: i64,
    crashes: i64,
}

impl Board {
    /// Makes a board with `workers` places, and `rates`.
    pub(super) fn new(workers: usize, rates: Rates) -> Result<Self> {
        let place = |_| {
            Ok(Place {
                pid: AtomicLong::new(0)?,
                hits: AtomicLong::new(0)?,
                starts: AtomicLong::new(0)?,
                crashes: AtomicLong::new(0)?,
            })
        };
        let places = (0..workers).map(place).collect::<Result<_>>()?;
        let open = (0..slots(workers)).map(|_| AtomicLong::new(0)).collect::<Result<_>>()?;
        Ok(Self { total: Counter::new()?, places, open, visits: Visits::new(workers)?, rates })
    }

    /// A worker is about to answer a request.
    pub(super) fn hit(&self, id: usize) {
        self.total.add(1);
        if let Some(place) = self.places.get(id) {
            place.hits.add(1);
        }
    }

    /// A visit of `client` to place `id`, or, with no hits, more of what was sent in answer to one.
    pub(super) fn visit(&self, id: usize, path: &str, client: &str, hits: i64, bytes: u64) {
        self.visits.count(id, path, client, hits, bytes);
    }

    /// Something came that was not HTTP.
    pub(super) fn nonsense(&self, id: usize, client: &str) {
        self.hit(id);
        self.visit(id, NOT_HTTP, client, 1, 0);
    }

    /// The manager is about to fork. Counted before, so that the newcomer's first answer already shows it.
    pub(super) fn starting(&self, id: usize) {
        if let Some(place) = self.places.get(id) {
            place.starts.add(1);
        }
    }

    /// The fork failed, so that was no start.
    pub(super) fn not_started(&self, id: usize) {
        if let Some(place) = self.places.get(id) {
            place.starts.sub(1);
        }
    }

    /// `pid` is the one of place `id` now.
    pub(super) fn occupied(&self, id: usize, pid: i32) {
        if let Some(place) = self.places.get(id) {
            place.pid.set(i64::from(pid));
        }
    }

    /// The worker `pid` of place `id` is dead and reaped. It may have a successor there.
    pub(super) fn vacated(&self, id: usize, slot: usize, pid: i32, crashed: bool) {
        if let Some(place) = self.places.get(id) {
            place.pid.cmpset(i64::from(pid), 0);
            if crashed {
                place.crashes.add(1);
            }
        }
        if let Some(open) = self.open.get(slot) {
            open.set(0);
        }
    }

    /// A connection of the life in `slot` has begun (1) or ended (-1).
    pub(super) fn connections(&self, slot: usize, change: i64) {
        if let Some(open) = self.open.get(slot) {
            open.add(change);
        }
    }

    /// How many places there are.
    pub(super) fn places(&self) -> usize {
        self.places.len()
    }

    /// The processes in all places that are filled.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.places.iter().filter_map(|place| u32::try_from(place.pid.get()).ok().filter(|pid| *pid > 0)).collect()
    }

    /// Connections that the life in `slot` holds.
    pub(super) fn open(&self, slot: usize) -> i64 {
        self.open.get(slot).map_or(0, AtomicLong::get)
    }

    /// All numbers as they are now, each by itself: others go on counting while they are read.
    pub(super) fn stats(&self) -> Stats {
        let workers = self.places.iter().enumerate().map(|(id, place)| WorkerStats {
            id,
            pid: place.pid.get(),
            hits: place.hits.get(),
            starts: place.starts.get(),
            crashes: place.crashes.get(),
        });
        let total = self.total.get();
        Stats { total, workers: workers.collect(), rates: self.rates.shown(total), tops: self.visits.tops() }
    }

    /// A minute is over.
    pub(super) fn rotate(&self) {
        self.rates.rotate(self.total.get());
    }

    /// Requests that place `id` has answered.
    pub(super) fn hits(&self, id: usize) -> i64 {
        self.places.get(id).map_or(0, |place| place.hits.get())
    }

    /// What is told every now and then: requests, workers that are alive, connections, crashes.
    pub(super) fn totals(&self) -> (i64, usize, i64, i64) {
        let open = self.open.iter().map(AtomicLong::get).sum();
        let crashes = self.places.iter().map(|place| place.crashes.get()).sum();
        (self.total.get(), self.pids().len(), open, crashes)
    }
}
