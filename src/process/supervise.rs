//! Supervision as a pure state machine: events in, commands out, the time as a number.
//!
//! The rules:
//! * A death is answered by `Recover`, `Reap`, `Vacate`, in this order, and only then by a new fork.
//! * A worker that was ready, or lived for [`Policy::healthy`], is replaced at once (but a place forks at most once per
//!   [`Policy::spacing`], so that one that dies of its first request cannot keep a processor busy). One that died early
//!   is replaced after a wait that doubles each time.
//! * No worker was ever ready, and one place has failed [`Policy::failures`] times in a row: give up.
//! * A stop asks each worker once and gives each its own deadline. A second stop, or a kill, ends all at once.
//! * A fork that failed is tried again later; nothing waits for it.
#![forbid(unsafe_code)]

use crate::sys::child::End;

#[cfg(test)]
mod tests;

/// Milliseconds of a monotonic clock.
pub(crate) type Millis = u64;

/// A process id; the machine only compares it.
pub(crate) type Pid = i32;

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
    /// So many deaths in a row in one place, with no worker ever ready, are the end.
    pub(crate) failures: u32,
    /// How long a worker that was asked to leave may take.
    pub(crate) grace: Millis,
    /// Two stops closer together than this are one: `timeout` and service managers signal a process and then its group.
    pub(crate) echo: Millis,
}

impl Default for Policy {
    fn default() -> Self {
        Self { healthy: 1000, spacing: 50, first_wait: 50, longest_wait: 2000, failures: 5, grace: 5000, echo: 100 }
    }
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
    /// Fork a worker for place `id`; answered by `Forked` or `ForkFailed`.
    Fork { id: usize, generation: u32 },
    /// Repair what a dead child held. Comes before its `Reap`.
    Recover { pid: Pid },
    /// Take a dead child out of the process table.
    Reap { pid: Pid },
    /// Place `id` is empty now; `crashed` when nobody had asked for that.
    Vacate { id: usize, crashed: bool },
    /// Ask a worker to leave.
    Ask { id: usize, pid: Pid },
    /// Kill a worker; `overdue` when it was asked before and did not leave.
    Kill { id: usize, pid: Pid, overdue: bool },
    /// Tell the operator that a worker died, and in how long its successor starts (`None`: there will be none).
    TellDeath { id: usize, pid: Pid, end: End, again: Option<Millis> },
    /// Tell the operator that a fork failed, and in how long it is tried again.
    TellForkFailed { id: usize, again: Millis },
    /// No new connections from here on; the listening socket may close.
    CloseListener,
    /// It is over, and no child is left.
    Finish(Outcome),
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody there; fork at this time.
    Due(Millis),
    /// A fork is commanded; the answer comes before any other event of this place.
    Forking,
    Running {
        pid: Pid,
        since: Millis,
        ready: bool,
    },
    Leaving {
        pid: Pid,
        deadline: Millis,
    },
    Killed {
        pid: Pid,
    },
    Gone,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    state: State,
    /// Forks commanded so far.
    generation: u32,
    /// Deaths in a row without having been ready.
    early: u32,
    /// Failed forks in a row.
    refused: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    Stopping { since: Millis, outcome: Outcome },
    Finished,
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Supervisor {
    policy: Policy,
    places: Vec<Place>,
    phase: Phase,
    ever_ready: bool,
}

impl Supervisor {
    /// A machine for `workers` places, all due at once: the first `Tick` commands their forks.
    pub(crate) fn new(workers: usize, policy: Policy) -> Self {
        let place = Place { state: State::Due(0), generation: 0, early: 0, refused: 0 };
        Self { policy, places: vec![place; workers], phase: Phase::Running, ever_ready: false }
    }

    /// Takes in one event at time `now`; returns what is to be done.
    #[must_use]
    pub(crate) fn handle(&mut self, now: Millis, event: Event) -> Vec<Command> {
        let mut out = Vec::new();
        match event {
            Event::Forked { id, pid } => self.forked(now, id, pid, &mut out),
            Event::ForkFailed { id } => self.fork_failed(now, id, &mut out),
            Event::Ready { id, generation } => self.ready(id, generation),
            Event::Died { pid, end } => self.died(now, pid, end, &mut out),
            Event::Stop => self.stop(now, &mut out),
            Event::Kill => self.end(now, Outcome::Stopped, &mut out),
            Event::Tick => {}
        }
        self.tick(now, &mut out);
        self.finish(&mut out);
        out
    }

    /// When the next `Tick` is needed; `None` when only an event can bring something new.
    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        self.places
            .iter()
            .filter_map(|place| match place.state {
                State::Due(at) => Some(at),
                State::Leaving { deadline, .. } => Some(deadline),
                _ => None,
            })
            .min()
    }

    fn forked(&mut self, now: Millis, id: usize, pid: Pid, out: &mut Vec<Command>) {
        let running = self.phase == Phase::Running;
        let Some(place) = self.places.get_mut(id).filter(|place| place.state == State::Forking) else { return };
        place.refused = 0;
        place.state = State::Running { pid, since: now, ready: false };
        if !running {
            // The stop came between the command and its answer.
            place.state = State::Killed { pid };
            out.push(Command::Kill { id, pid, overdue: false });
        }
    }

    fn fork_failed(&mut self, now: Millis, id: usize, out: &mut Vec<Command>) {
        let (policy, running) = (self.policy, self.phase == Phase::Running);
        let Some(place) = self.places.get_mut(id).filter(|place| place.state == State::Forking) else { return };
        if !running {
            place.state = State::Gone;
            return;
        }
        place.refused = place.refused.saturating_add(1);
        let again = policy.wait(place.refused);
        place.state = State::Due(now.saturating_add(again));
        out.push(Command::TellForkFailed { id, again });
    }

    fn ready(&mut self, id: usize, said_by: u32) {
        let Some(place) = self.places.get_mut(id) else { return };
        // A word of a generation that is gone says nothing about the one that is here.
        if let State::Running { ready, .. } = &mut place.state
            && place.generation == said_by
        {
            *ready = true;
            place.early = 0;
            self.ever_ready = true;
        }
    }

    fn died(&mut self, now: Millis, dead: Pid, end: End, out: &mut Vec<Command>) {
        // Also for a child that is none of ours: left unreaped it would be reported for ever.
        out.extend([Command::Recover { pid: dead }, Command::Reap { pid: dead }]);
        let Some((id, place)) = self.places.iter_mut().enumerate().find(|(_, place)| place.pid() == Some(dead)) else {
            return;
        };
        let was = std::mem::replace(&mut place.state, State::Gone);
        let crashed = end != End::Exit(0) && !matches!(was, State::Killed { .. });
        out.push(Command::Vacate { id, crashed });
        let again = match (self.phase, was) {
            (Phase::Running, State::Running { since, ready, .. }) => {
                let at = place.replace_at(now, since, ready, self.policy);
                place.state = State::Due(at);
                Some(at - now)
            }
            _ => None,
        };
        let deaths = place.early;
        let hopeless = again.is_some() && !self.ever_ready && deaths >= self.policy.failures;
        if crashed || again.is_some() {
            out.push(Command::TellDeath { id, pid: dead, end, again: again.filter(|_| !hopeless) });
        }
        if hopeless {
            self.end(now, Outcome::NeverReady { deaths }, out);
        }
    }

    fn stop(&mut self, now: Millis, out: &mut Vec<Command>) {
        match self.phase {
            Phase::Stopping { since, .. } if now < since.saturating_add(self.policy.echo) => {}
            Phase::Stopping { outcome, .. } => self.end(now, outcome, out),
            Phase::Running => {
                self.phase = Phase::Stopping { since: now, outcome: Outcome::Stopped };
                out.push(Command::CloseListener);
                let deadline = now.saturating_add(self.policy.grace);
                for (id, place) in self.places.iter_mut().enumerate() {
                    match place.state {
                        State::Due(_) => place.state = State::Gone,
                        State::Running { pid, .. } => {
                            place.state = State::Leaving { pid, deadline };
                            out.push(Command::Ask { id, pid });
                        }
                        _ => {}
                    }
                }
            }
            Phase::Finished => {}
        }
    }

    /// Kills all that run.
    fn end(&mut self, now: Millis, outcome: Outcome, out: &mut Vec<Command>) {
        if self.phase == Phase::Finished {
            return;
        }
        if self.phase == Phase::Running {
            self.phase = Phase::Stopping { since: now, outcome };
            out.push(Command::CloseListener);
        }
        for (id, place) in self.places.iter_mut().enumerate() {
            match place.state {
                State::Due(_) => place.state = State::Gone,
                State::Running { pid, .. } | State::Leaving { pid, .. } => {
                    place.state = State::Killed { pid };
                    out.push(Command::Kill { id, pid, overdue: false });
                }
                _ => {}
            }
        }
    }

    fn tick(&mut self, now: Millis, out: &mut Vec<Command>) {
        for (id, place) in self.places.iter_mut().enumerate() {
            match place.state {
                State::Due(at) if at <= now => {
                    place.state = State::Forking;
                    place.generation = place.generation.wrapping_add(1);
                    out.push(Command::Fork { id, generation: place.generation });
                }
                State::Leaving { pid, deadline } if deadline <= now => {
                    place.state = State::Killed { pid };
                    out.push(Command::Kill { id, pid, overdue: true });
                }
                _ => {}
            }
        }
    }

    fn finish(&mut self, out: &mut Vec<Command>) {
        if let Phase::Stopping { outcome, .. } = self.phase
            && self.places.iter().all(|place| place.state == State::Gone)
        {
            self.phase = Phase::Finished;
            out.push(Command::Finish(outcome));
        }
    }
}

impl Place {
    fn pid(&self) -> Option<Pid> {
        match self.state {
            State::Running { pid, .. } | State::Leaving { pid, .. } | State::Killed { pid } => Some(pid),
            State::Due(_) | State::Forking | State::Gone => None,
        }
    }

    /// When to fork again after the death of one that lived from `since` to `now`.
    fn replace_at(&mut self, now: Millis, since: Millis, ready: bool, policy: Policy) -> Millis {
        self.early = if ready { 0 } else { self.early.saturating_add(1) };
        if ready || now.saturating_sub(since) >= policy.healthy {
            now.max(since.saturating_add(policy.spacing))
        } else {
            now.saturating_add(policy.wait(self.early))
        }
    }
}

impl Policy {
    /// The wait before try number `failures` + 1.
    fn wait(&self, failures: u32) -> Millis {
        let doublings = failures.saturating_sub(1).min(16);
        (self.first_wait << doublings).min(self.longest_wait)
    }
}
