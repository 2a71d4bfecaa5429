//! The scoreboard: a cache line for each life, and one more for the task that it runs, written by that life alone, read by everybody.
//!
//! A place has three lines ([`crate::process::crew::slots`]), for in a reload three lives of it may overlap; so a worker that is leaving never writes
//! into its successor's line. What is counted over the server's whole life stays in a line when its tenant goes, and the next one counts on: their sum is exact
//! whoever was killed when. What is about now (connections, what it is doing) is void once the line is nobody's.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use crate::process::crew::slots;
use crate::shm::{Kind, Place, Region, Row, shared};
use crate::sync::{AtomicU64, Ordering, clock};
use crate::sys::identity::process_is_dead;
use crate::task::Ledger;
use crate::{Error, Result, TaskId};

shared! {
    pub(super) struct Line {
        /// `state << 32 | pid`; 0 is nobody's.
        tenant: AtomicU64,
        /// When its tenant was forked, in nanoseconds of the monotonic clock.
        began: AtomicU64,
        /// Requests, and pieces of data received; over all tenants.
        requests: AtomicU64,
        /// Connections accepted, over all tenants.
        accepted: AtomicU64,
        /// Tasks run to their end, over all tenants.
        tasks: AtomicU64,
        /// Connections that are open.
        open: AtomicU64,
        /// Calls of the handler that are under way.
        busy: AtomicU64,
        /// When the newest of them began.
        since: AtomicU64,
        /// The task that is being run ([`TaskId::words`]); all 0: none.
        task: [AtomicU64; 3],
        pad: crate::shm::Pad<5>,
    }
}

shared! {
    struct Totals {
        starts: AtomicU64,
        crashes: AtomicU64,
        reloads: AtomicU64,
        /// Since when the manager stops everybody, in nanoseconds of the monotonic clock; 0: it does not.
        closing: AtomicU64,
        /// Deaths in a row in the place for which the manager gave up; 0: it did not.
        given_up: AtomicU64,
        began: AtomicU64,
        pads: crate::shm::Pad<2>,
    }
}

/// What a process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum State {
    /// It has been forked, and is not ready yet.
    Booting,
    /// It works.
    Serving,
    /// It was asked to leave, and sees to what is under way.
    Leaving,
}

/// The figures of one process.
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct ProcessStats {
    /// Its place: workers first, then task workers, then user processes.
    pub id: usize,
    /// Its process id.
    pub pid: u32,
    /// What it is doing.
    pub state: State,
    /// How long it has lived.
    pub age: Duration,
    /// Connections that it holds.
    pub connections: u64,
    /// Calls of the handler that are under way.
    pub busy: u64,
    /// For how long the newest of them has been under way; None when there is none.
    pub busy_for: Option<Duration>,
    /// Requests answered and pieces of data received in its place, by all lives of it, the dead included.
    pub requests: u64,
    /// Connections accepted there.
    pub accepted: u64,
    /// Tasks run to their end there.
    pub tasks: u64,
}

/// The figures of a server; each by itself is exact, and others go on counting while they are read.
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Since it was started.
    pub age: Duration,
    /// Requests answered and pieces of data received, by whoever, dead or alive.
    pub requests: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections that are open.
    pub connections: u64,
    /// Tasks that task workers ran to their end.
    pub tasks: u64,
    /// Processes forked.
    pub starts: u64,
    /// Processes that died without having been asked to leave.
    pub crashes: u64,
    /// Reloads that have ended.
    pub reloads: u64,
    /// Those that are alive.
    pub processes: Vec<ProcessStats>,
    /// What became of all tasks; None where there are no task workers.
    pub ledger: Option<Ledger>,
}

/// The board of one server; handles are cheap.
#[derive(Clone)]
pub(super) struct Board {
    inner: Arc<Inner>,
}

struct Inner {
    totals: Place<Totals>,
    lines: Row<Line>,
}

/// A number to add to.
pub(super) enum Count {
    Request,
    Accepted,
    Task,
}

impl Board {
    pub(super) fn new(places: usize) -> Result<Board> {
        let n = slots(places);
        let bytes = Region::bytes_for::<Totals>(1) + Region::bytes_for::<Line>(n);
        let region = Region::new("scoreboard", bytes)?;
        let totals: Place<Totals> = Place::new(&region, Kind::Board)?;
        // Relaxed, here and for all figures: each stands for itself and publishes nothing.
        totals.began.store(clock::now(), Ordering::Relaxed);
        Ok(Board { inner: Arc::new(Inner { totals, lines: Row::new(&region, Kind::BoardLines, n)? }) })
    }

    fn line(&self, slot: usize) -> Option<&Line> {
        self.inner.lines.get(slot)
    }

    /// The calling process has the line from here on.
    pub(super) fn move_in(&self, slot: usize) {
        let Some(line) = self.line(slot) else { return };
        for word in [&line.open, &line.busy, &line.since].into_iter().chain(&line.task) {
            word.store(0, Ordering::Relaxed);
        }
        line.began.store(clock::now(), Ordering::Relaxed);
        self.say(slot, State::Booting);
    }

    /// What the tenant, which is the calling process, is doing.
    pub(super) fn say(&self, slot: usize, state: State) {
        if let Some(line) = self.line(slot) {
            let word = (state as u64 + 1) << 32 | u64::from(std::process::id());
            // Release: pairs with the Acquire in `processes`; who sees the tenant sees a line that was cleared for it.
            line.tenant.store(word, Ordering::Release);
        }
    }

    /// For the manager: the tenant is dead and reaped.
    pub(super) fn moved_out(&self, slot: usize, crashed: bool) {
        if let Some(line) = self.line(slot) {
            line.tenant.store(0, Ordering::Relaxed);
            line.open.store(0, Ordering::Relaxed);
        }
        if crashed {
            self.inner.totals.crashes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// For a manager that begins: those whom another one forked are dead or dying, for the kernel kills them with it. Waits until they are, and empties
    /// their lines; false when one was still there at the end of `patience`, whose line stays.
    pub(super) fn take_over(&self, patience: Duration) -> bool {
        let end = clock::now() + u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX);
        let mut all = true;
        for (slot, line) in self.inner.lines.iter().enumerate() {
            let pid = line.tenant.load(Ordering::Acquire) as u32;
            let gone = || pid != 0 && process_is_dead(pid);
            while pid != 0 && !gone() && clock::now() <= end {
                std::thread::sleep(Duration::from_millis(1));
            }
            if gone() {
                self.moved_out(slot, true);
            }
            all &= pid == 0 || gone();
        }
        all
    }

    pub(super) fn started(&self) {
        self.inner.totals.starts.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn reloaded(&self) {
        self.inner.totals.reloads.fetch_add(1, Ordering::Relaxed);
    }

    /// The manager stops everybody, or, when it begins, nobody.
    pub(super) fn closes(&self, closes: bool) {
        let since = if closes { clock::now() } else { 0 };
        self.inner.totals.closing.store(since, Ordering::Relaxed);
    }

    /// For how long everybody has been told to leave; None while the server runs.
    pub(super) fn closing_for(&self) -> Option<Duration> {
        // Relaxed: a worker looks after the signal by which it is asked, which the manager sends later; and again and again.
        let began = self.inner.totals.closing.load(Ordering::Relaxed);
        (began > 0).then(|| since(began))
    }

    /// The manager gives up: no worker was ever ready.
    pub(super) fn give_up(&self, deaths: u32) {
        self.inner.totals.given_up.store(deaths.max(1).into(), Ordering::Relaxed);
    }

    /// How many deaths in a row made the manager give up.
    pub(super) fn given_up(&self) -> Option<u32> {
        let deaths = self.inner.totals.given_up.load(Ordering::Relaxed);
        (deaths > 0).then(|| u32::try_from(deaths).unwrap_or(u32::MAX))
    }

    /// Counts one; in the line of the calling process.
    pub(super) fn count(&self, slot: usize, what: Count) {
        let Some(line) = self.line(slot) else { return };
        let word = match what {
            Count::Request => &line.requests,
            Count::Accepted => &line.accepted,
            Count::Task => &line.tasks,
        };
        word.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection more, or one less.
    pub(super) fn connection(&self, slot: usize, opened: bool) {
        let Some(line) = self.line(slot) else { return };
        if opened {
            line.open.fetch_add(1, Ordering::Relaxed)
        } else {
            line.open.fetch_sub(1, Ordering::Relaxed)
        };
    }

    /// A call of the handler more that is under way, or one less.
    pub(super) fn call(&self, slot: usize, begins: bool) {
        let Some(line) = self.line(slot) else { return };
        if begins {
            line.busy.fetch_add(1, Ordering::Relaxed);
            line.since.store(clock::now(), Ordering::Relaxed);
        } else {
            line.busy.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The task that the life runs from here on.
    pub(super) fn runs(&self, slot: usize, task: Option<TaskId>) {
        let Some(line) = self.line(slot) else { return };
        for (word, value) in line.task.iter().zip(task.map_or([0; 3], TaskId::words)) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// The task that it runs. For logs: should the life move on meanwhile, it may be named in part after one and in part after another.
    pub(super) fn running(&self, slot: usize) -> Option<TaskId> {
        let line = self.line(slot)?;
        let words = [0, 1, 2].map(|at| line.task[at].load(Ordering::Relaxed));
        (words[2] > 0).then(|| TaskId::of_words(words))
    }

    /// Connections of the life that has the line.
    pub(super) fn open(&self, slot: usize) -> u64 {
        self.line(slot).map_or(0, |line| line.open.load(Ordering::Relaxed))
    }

    /// What a life still holds, for the log.
    pub(super) fn holds(&self, slot: usize) -> String {
        let Some(line) = self.line(slot) else { return String::new() };
        let (open, busy) = (line.open.load(Ordering::Relaxed), line.busy.load(Ordering::Relaxed));
        let mut text = format!("{open} connections open");
        if busy > 0 {
            let long = since(line.since.load(Ordering::Relaxed)).as_secs_f64();
            text += &format!(", {busy} calls of the handler under way, the newest for {long:.1} s");
        }
        if let Some(id) = self.running(slot) {
            text += &format!(", of which one runs task {id}");
        }
        text
    }

    /// Open connections of all workers that accept, and how many workers those are; of the first `places` places.
    pub(super) fn loads(&self, places: usize) -> (u64, u64) {
        let mut sums = (0, 0);
        for line in self.inner.lines.iter().take(slots(places)) {
            if line.tenant.load(Ordering::Relaxed) >> 32 == State::Serving as u64 + 1 {
                sums.0 += line.open.load(Ordering::Relaxed);
                sums.1 += 1;
            }
        }
        sums
    }

    /// The life of a place that serves, else the one that boots or leaves: its line.
    pub(super) fn processes(&self) -> Vec<ProcessStats> {
        let mut all = Vec::new();
        for (slot, line) in self.inner.lines.iter().enumerate() {
            // Acquire: pairs with the Release in `say`.
            let tenant = line.tenant.load(Ordering::Acquire);
            let state = match tenant >> 32 {
                1 => State::Booting,
                2 => State::Serving,
                3 => State::Leaving,
                _ => continue,
            };
            let busy = line.busy.load(Ordering::Relaxed);
            let id = slot / slots(1);
            let lines = || self.inner.lines.iter().skip(slots(id)).take(slots(1));
            let sum = |word: fn(&Line) -> &AtomicU64| lines().map(|line| word(line).load(Ordering::Relaxed)).sum();
            all.push(ProcessStats {
                id,
                pid: tenant as u32,
                state,
                age: since(line.began.load(Ordering::Relaxed)),
                connections: line.open.load(Ordering::Relaxed),
                busy,
                busy_for: (busy > 0).then(|| since(line.since.load(Ordering::Relaxed))),
                requests: sum(|line| &line.requests),
                accepted: sum(|line| &line.accepted),
                tasks: sum(|line| &line.tasks),
            });
        }
        all
    }

    pub(super) fn stats(&self) -> Stats {
        let sum = |word: fn(&Line) -> &AtomicU64| {
            self.inner.lines.iter().map(|line| word(line).load(Ordering::Relaxed)).sum::<u64>()
        };
        let totals = &self.inner.totals;
        let processes = self.processes();
        Stats {
            age: since(totals.began.load(Ordering::Relaxed)),
            requests: sum(|line| &line.requests),
            accepted: sum(|line| &line.accepted),
            connections: processes.iter().map(|process| process.connections).sum(),
            tasks: sum(|line| &line.tasks),
            starts: totals.starts.load(Ordering::Relaxed),
            crashes: totals.crashes.load(Ordering::Relaxed),
            reloads: totals.reloads.load(Ordering::Relaxed),
            processes,
            ledger: None,
        }
    }
}

fn since(then: u64) -> Duration {
    Duration::from_nanos(clock::now().saturating_sub(then))
}

/// A place that there is not.
pub(super) fn no_place(id: usize, places: usize) -> Error {
    Error::OutOfRange { what: "the process's number", value: id as u64, min: 0, max: places.saturating_sub(1) as u64 }
}
