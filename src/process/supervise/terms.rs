//! The words in which the machine is spoken to, and speaks.
#![forbid(unsafe_code)]

use crate::sys::child::End;

/// Milliseconds of a monotonic clock.
pub(crate) type Millis = u64;

/// A process id; the machine only compares it.
pub(crate) type Pid = i32;

/// Lines of the scoreboard that each place has: no two lives of it that overlap share one.
pub(crate) const SLOTS: usize = 3;

/// The numbers behind the decisions; all times in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// A life of this length was a healthy one, even if the worker never said that it was ready.
    pub(crate) healthy: Millis,
    /// The least time between two forks for one place.
    pub(crate) spacing: Millis,
    /// The first wait after an early death or a failed fork; it doubles with each further one …
    pub(crate) first_wait: Millis,
    /// … up to this.
    pub(crate) longest_wait: Millis,
    /// So many deaths in a row in one place, with no worker ever ready, are the end. And so many successors in a row that
    /// were never ready are the end of the reload of that place.
    pub(crate) failures: u32,
    /// How long a worker that was asked to leave may take when all stop …
    pub(crate) grace: Millis,
    /// … and when its successor has taken over.
    pub(crate) reload_grace: Millis,
    /// How long a successor may take to be ready.
    pub(crate) boot: Millis,
    /// Whether that holds for all, also where nobody waits to be relieved; else such a worker may boot for as long as it likes.
    pub(crate) boot_all: bool,
    /// Two stops closer together than this are one: `timeout` and service managers signal a process and then its group.
    pub(crate) echo: Millis,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            healthy: 1000,
            spacing: 50,
            first_wait: 50,
            longest_wait: 2000,
            failures: 5,
            grace: 5000,
            reload_grace: 5000,
            boot: 60_000,
            boot_all: false,
            echo: 100,
        }
    }
}

/// Places with the same duty. They are numbered through: those of the second group follow those of the first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    /// How many; may be none.
    pub(crate) places: usize,
    /// Whether it is all in vain when nobody of this kind is ever ready. A user process that ends again and again does not end the server.
    pub(crate) vital: bool,
    /// Its numbers.
    pub(crate) policy: Policy,
}

/// Whom a reload means.
#[allow(dead_code)] // a signal means a group; all, or one place, is for who asks otherwise
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    All,
    /// The group of this number.
    Group(usize),
    /// The place of this number, counted through all groups.
    Place(usize),
}

/// One life in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    /// The place, counted through all groups.
    pub(crate) id: usize,
    /// Which process in that place: 1 for the first, and one more for each that followed.
    pub(crate) generation: u32,
    /// The line of the scoreboard that is its own while it lives: one of the [`SLOTS`] of its place, counted through all places.
    pub(crate) slot: usize,
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// The fork that was commanded succeeded.
    Forked { id: usize, pid: Pid },
    /// The fork that was commanded failed.
    ForkFailed { id: usize },
    /// A worker said that it serves.
    Ready { id: usize, generation: u32 },
    /// A child is dead, and not reaped yet.
    Died { pid: Pid, end: End },
    /// These are to be renewed.
    Reload(Which),
    /// A worker said that it wants to be renewed.
    Worn { id: usize, generation: u32 },
    /// Stop in good order.
    Stop,
    /// Stop now.
    Kill,
    /// Time has passed.
    Tick,
}

/// What is to be done about it, in the order given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Fork a worker; answered by `Forked` or `ForkFailed`. `successor`: the one it is to follow still works.
    Fork { seat: Seat, successor: bool },
    /// Repair what a dead child held. Comes before its `Reap`.
    Recover { pid: Pid },
    /// Take a dead child out of the process table.
    Reap { pid: Pid },
    /// This life is over; `crashed` when nobody had asked for that.
    Vacate { seat: Seat, pid: Pid, crashed: bool },
    /// Ask a worker to leave.
    Ask { seat: Seat, pid: Pid },
    /// Kill a worker.
    Kill { seat: Seat, pid: Pid, why: Why },
    /// Tell that this worker is ready, and so is the one of its place now.
    TellReady { seat: Seat, pid: Pid },
    /// Tell the operator that a worker died, and in how long its successor starts (`None`: there will be none).
    TellDeath { seat: Seat, pid: Pid, end: End, again: Option<Millis> },
    /// Tell the operator that a fork failed, and in how long it is tried again.
    TellForkFailed { id: usize, again: Millis },
    /// Tell that places are going to be renewed.
    TellReload,
    /// Tell the operator that so many successors in this place were never ready, and that it keeps the life it has.
    TellKept { id: usize, deaths: u32 },
    /// Tell that the reload is over; once for each `TellReload`. So many places have a new life, so many keep an old one.
    TellReloaded { renewed: usize, kept: usize },
    /// No new connections from here on; the listening socket may close.
    CloseListener,
    /// It is over, and no child is left.
    Finish(Outcome),
}

/// Why a worker is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// All are to end now.
    Ending,
    /// It was asked to leave, and did not in time.
    Overdue,
    /// It was to take over, and was not ready in time.
    NotReady,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// As asked.
    Stopped,
    /// No worker ever became ready.
    NeverReady {
        /// Deaths in a row in the place that decided it.
        deaths: u32,
    },
}

impl Policy {
    /// The wait before try number `failures` + 1.
    pub(super) fn wait(&self, failures: u32) -> Millis {
        let doublings = failures.saturating_sub(1).min(16);
        (self.first_wait << doublings).min(self.longest_wait)
    }
}
