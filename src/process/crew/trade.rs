//! What a crew is for: who works in it, what with, and who hears of it.
#![forbid(unsafe_code)]

use super::Told;
use crate::Result;
use crate::process::supervise::{Policy, SLOTS, Which};
use crate::process::word::Mouth;
use crate::sys::child;
use crate::sys::signal::SignalSet;
use rustix::event::PollFd;
use rustix::fd::OwnedFd;
use rustix::process::{Pid, Signal};
use std::time::Duration;

/// What a place is for. Workers and task workers say when they are ready ([`Post::mouth`]); a successor that never does is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Renewed by SIGUSR1.
    Worker,
    /// Renewed by SIGUSR1 and by SIGUSR2.
    Task,
    /// Renewed by no signal; and when such processes end again and again, nothing else ends with them.
    User,
}

/// A group of places, as whoever makes the crew describes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Duty {
    pub(crate) role: Role,
    /// How many; may be none.
    pub(crate) places: usize,
    pub(crate) policy: Policy,
}

/// One life: where, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its duty, counted in the order in which they were given.
    pub(crate) group: usize,
    pub(crate) role: Role,
    /// Its place, counted within its group.
    pub(crate) index: usize,
    /// Its place, counted through all groups.
    pub(crate) id: usize,
    /// Which process in that place: 1 for the first, and one more for each that followed.
    pub(crate) generation: u32,
    /// Its line of a scoreboard of [`slots`] lines; no other has it while this one lives.
    pub(crate) slot: usize,
}

/// How many lines a scoreboard needs for a crew of so many places.
pub(crate) const fn slots(places: usize) -> usize {
    places * SLOTS
}

/// What a child starts with.
pub(crate) struct Post {
    pub(crate) member: Member,
    /// The process that forked it, and what the kernel sends when that one dies.
    pub(super) parent: Pid,
    pub(super) last_signal: Signal,
    /// Readable (end of file) when the parent is gone.
    pub(crate) lifeline: OwnedFd,
    /// For telling the parent that it is ready, or in trouble.
    pub(crate) mouth: Mouth,
    /// The signal mask for the time in which it works: what was blocked before there was a crew, and all that a crew reads. A
    /// terminal sends those to the whole group, and it is the parent's business what they mean; SIGTERM asks this one to leave,
    /// and is for it to read.
    pub(crate) mask: SignalSet,
}

impl Post {
    /// Binds this process's life to its parent's; false when that one is gone already. The crew has done so before the work begins; a
    /// change of credentials undoes it, and whoever makes one calls this afterwards.
    pub(crate) fn die_with_parent(&self) -> Result<bool> {
        child::die_with(self.parent, self.last_signal)
    }
}

/// What is to be done, for a reason that is no death and no deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Demand {
    Stop,
    Kill,
    Reload(Which),
    /// Send this to all children.
    #[allow(dead_code)] // what a master will want; the counters server has none
    Pass(Signal),
}

/// What a crew is for.
pub(crate) trait Trade {
    /// Runs in the child, whose exit status it returns. First of all it closes what the child must not hold.
    fn work(&mut self, post: Post) -> i32;

    /// Hears what happens; in the parent, between two decisions, and must not wait for anything.
    fn told(&mut self, told: Told<'_>);

    /// What a child of the crew is sent when the parent dies, however it dies.
    fn last_signal(&self) -> Signal {
        Signal::KILL
    }

    /// What a child that does not leave still holds, in a few words, for the log.
    fn holds(&self, _member: &Member) -> String {
        String::new()
    }

    /// Adds the descriptors for which the crew is to wait too.
    fn watch<'a>(&'a self, _fds: &mut Vec<PollFd<'a>>) {}

    /// In how long [`Trade::turn`] is wanted at the latest.
    fn next_due(&self) -> Option<Duration> {
        None
    }

    /// Runs once in each turn of the loop; what it wants from the crew it adds to `demands`.
    ///
    /// # Errors
    /// Ends the crew, and so the process: what a trade cannot go on without.
    fn turn(&mut self, _demands: &mut Vec<Demand>) -> Result<()> {
        Ok(())
    }

    /// What a signal means to this trade; `None`: what it means to every crew.
    fn signal(&mut self, _signal: Signal) -> Option<Vec<Demand>> {
        None
    }

    /// SIGHUP: reads the configuration again; then it means what SIGUSR1 means, unless this says no.
    fn reconfigure(&mut self) -> bool {
        true
    }

    /// SIGWINCH: opens the logs again.
    fn reopen(&mut self) {}
}
