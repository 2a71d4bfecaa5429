//! A place, and the lives in it.
//!
//! ```text
//!    forked for an empty place                     (its place's current died)
//!        ┌────────────────────────────▶ current ◀───────────┐
//!   Forking                               │ ▲               │
//!        └──────────▶ successor ──────────┼─┴── ready ──────┘
//!    forked to follow     │               └── the successor is ready: asked ─▶ leaving ─▶ dead
//!                         └── not ready in time: killed ──────────────────────▲
//! ```
//!
//! A place with somebody leaving is not renewed, so it never has a successor and somebody leaving at once: two lives at most,
//! and a third slot, so that the line of one that has just died is not at once another's.
#![forbid(unsafe_code)]

use super::{Command, Group, Millis, Pid, Policy, SLOTS, Seat};

/// What a place waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Nothing,
    /// Nobody is there; fork at this time.
    Due(Millis),
    /// A fork is commanded. `epoch`: the reloads at that time.
    Forking {
        seat: Seat,
        epoch: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// `deadline`: it must be ready by then.
    Running {
        deadline: Option<Millis>,
    },
    Leaving {
        deadline: Millis,
    },
    Killed,
}

/// One process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    pub(super) pid: Pid,
    pub(super) seat: Seat,
    pub(super) since: Millis,
    pub(super) epoch: u64,
    pub(super) ready: bool,
    pub(super) stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Current,
    Successor,
    Leaving,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    id: usize,
    pub(super) group: usize,
    pub(super) vital: bool,
    pub(super) policy: Policy,
    pub(super) next: Next,
    pub(super) current: Option<Life>,
    pub(super) successor: Option<Life>,
    pub(super) leaving: Option<Life>,
    /// Forks commanded so far.
    pub(super) generation: u32,
    /// When the last of them was.
    forked: Option<Millis>,
    /// The slot, of this place's, that the last of them got.
    slot: usize,
    /// Deaths in a row without having been ready.
    pub(super) early: u32,
    /// Failed forks in a row.
    pub(super) refused: u32,
    /// A life that began before this reload is to be renewed.
    pub(super) wanted: u64,
    /// Successors in a row that were never ready.
    pub(super) spoilt: u32,
    /// No successor is forked before this time.
    renew_at: Millis,
}

impl Life {
    pub(super) fn is_running(&self) -> bool {
        matches!(self.stage, Stage::Running { .. })
    }

    pub(super) fn become_ready(&mut self) {
        self.ready = true;
        self.stage = Stage::Running { deadline: None };
    }

    fn deadline(&self) -> Option<Millis> {
        match self.stage {
            Stage::Running { deadline } => deadline,
            Stage::Leaving { deadline } => Some(deadline),
            Stage::Killed => None,
        }
    }

    pub(super) fn is_overdue(&self, now: Millis) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }
}

impl Place {
    pub(super) fn new(id: usize, group: usize, of: &Group) -> Self {
        Self {
            id,
            group,
            vital: of.vital,
            policy: of.policy,
            next: Next::Due(0),
            current: None,
            successor: None,
            leaving: None,
            generation: 0,
            forked: None,
            slot: SLOTS - 1,
            early: 0,
            refused: 0,
            wanted: 0,
            spoilt: 0,
            renew_at: 0,
        }
    }

    /// In the order in which they are asked to leave.
    pub(super) fn lives_mut(&mut self) -> impl Iterator<Item = &mut Life> {
        [&mut self.successor, &mut self.current, &mut self.leaving].into_iter().flatten()
    }

    fn lives(&self) -> impl Iterator<Item = &Life> {
        [&self.successor, &self.current, &self.leaving].into_iter().flatten()
    }

    /// Nobody is there, and nobody comes.
    pub(super) fn is_empty(&mut self) -> bool {
        self.next == Next::Nothing && self.lives().next().is_none()
    }

    /// Takes the life of this process out of its seat.
    pub(super) fn take(&mut self, pid: Pid) -> Option<(Life, Role)> {
        let seats = [
            (&mut self.current, Role::Current),
            (&mut self.successor, Role::Successor),
            (&mut self.leaving, Role::Leaving),
        ];
        seats.into_iter().find_map(|(seat, role)| seat.take_if(|life| life.pid == pid).map(|life| (life, role)))
    }

    pub(super) fn next_deadline(&self) -> Option<Millis> {
        let due = match self.next {
            Next::Due(at) => Some(at),
            _ => None,
        };
        self.lives().filter_map(Life::deadline).chain(due).min()
    }

    /// Commands the next fork.
    pub(super) fn fork(&mut self, now: Millis, epoch: u64) -> Command {
        self.generation = self.generation.wrapping_add(1);
        self.forked = Some(now);
        let taken: Vec<_> = self.lives().map(|life| life.seat.slot).collect();
        let first = self.id * SLOTS;
        let mut candidates = (1..=SLOTS).map(|step| (self.slot + step) % SLOTS);
        // Fewer lives than slots: there is one.
        self.slot = candidates.find(|slot| !taken.contains(&(first + slot))).unwrap_or(0);
        let seat = Seat { id: self.id, generation: self.generation, slot: first + self.slot };
        self.next = Next::Forking { seat, epoch };
        Command::Fork { seat, successor: self.current.is_some() }
    }

    /// Never so soon that the place would fork more often than it may.
    fn spaced(&self, at: Millis) -> Millis {
        self.forked.map_or(at, |forked| at.max(forked.saturating_add(self.policy.spacing)))
    }

    /// Tries again after a fork that failed.
    pub(super) fn again_in(&mut self, now: Millis, wait: Millis) {
        let at = now.saturating_add(wait);
        if self.current.is_none() {
            self.next = Next::Due(self.spaced(at));
        } else {
            self.renew_at = at;
        }
    }

    /// When to fork again after the death of its current one.
    pub(super) fn replace_at(&mut self, now: Millis, was: &Life) -> Millis {
        self.early = if was.ready { 0 } else { self.early.saturating_add(1) };
        let healthy = was.ready || now.saturating_sub(was.since) >= self.policy.healthy;
        self.spaced(if healthy { now } else { now.saturating_add(self.policy.wait(self.early)) })
    }

    /// A successor was never ready. In how long the next one is tried; `None` when it is enough.
    pub(super) fn spoil(&mut self, now: Millis) -> Option<Millis> {
        self.spoilt = self.spoilt.saturating_add(1);
        let wait = self.policy.wait(self.spoilt);
        self.renew_at = now.saturating_add(wait);
        (self.spoilt < self.policy.failures).then_some(wait)
    }

    /// Whether its life, or the one that is on its way, began before the reload that is wanted.
    pub(super) fn is_outdated(&self) -> bool {
        let epoch = match (&self.current, self.next) {
            (Some(life), _) => Some(life.epoch),
            (None, Next::Forking { epoch, .. }) => Some(epoch),
            _ => None,
        };
        epoch.is_some_and(|epoch| epoch < self.wanted)
    }

    /// Whether somebody boots, or is about to, who is to take over.
    pub(super) fn is_renewing(&self) -> bool {
        let forking = matches!(self.next, Next::Forking { .. });
        self.successor.is_some() || (forking && self.current.is_some())
    }

    /// When its successor may be forked, and how old the life is that it follows; `None` when there is nothing to renew.
    pub(super) fn renewal(&self) -> Option<(Millis, u64)> {
        let current = self.current.as_ref().filter(|life| life.is_running() && life.epoch < self.wanted)?;
        let free = self.next == Next::Nothing && self.successor.is_none() && self.leaving.is_none();
        free.then(|| (self.spaced(self.renew_at), current.epoch))
    }
}
