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
//! * A reload says what is wanted, not what is to be done: in each of its places a life that began after it. Whoever is
//!   older is renewed, the oldest first: a successor is forked, and asks the old one to leave by being ready (see [`reload`]).
//!   One successor boots at a time, whatever number of reloads comes.
#![forbid(unsafe_code)]

use crate::sys::child::End;
use place::{Life, Next, Place, Role, Stage};
use reload::Progress;

mod place;
mod reload;
mod terms;
#[cfg(test)]
mod tests;

pub(crate) use terms::{Command, Event, Group, Millis, Outcome, Pid, Policy, SLOTS, Seat, Which, Why};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    Stopping { since: Millis, outcome: Outcome },
    Finished,
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Supervisor {
    places: Vec<Place>,
    phase: Phase,
    ever_ready: bool,
    echo: Millis,
    /// Reloads so far. A life is as old as the number of them when it was forked.
    epoch: u64,
    /// The reload that is under way.
    reload: Option<Progress>,
}

impl Supervisor {
    /// A machine for these groups, with all places due at once: the first `Tick` commands their forks.
    pub(crate) fn new(groups: &[Group]) -> Self {
        let mut places = Vec::new();
        for (group, of) in groups.iter().enumerate() {
            let first = places.len();
            places.extend((first..first + of.places).map(|id| Place::new(id, group, of)));
        }
        let echo = groups.iter().map(|group| group.policy.echo).max().unwrap_or(0);
        Self { places, phase: Phase::Running, ever_ready: false, echo, epoch: 0, reload: None }
    }

    /// Takes in one event at time `now`; returns what is to be done.
    #[must_use]
    pub(crate) fn handle(&mut self, now: Millis, event: Event) -> Vec<Command> {
        let mut out = Vec::new();
        match event {
            Event::Forked { id, pid } => self.forked(now, id, pid, &mut out),
            Event::ForkFailed { id } => self.fork_failed(now, id, &mut out),
            Event::Ready { id, generation } => self.ready(now, id, generation, &mut out),
            Event::Died { pid, end } => self.died(now, pid, end, &mut out),
            Event::Reload(which) => self.reload(which, &mut out),
            Event::Worn { id, generation } => self.worn(id, generation, &mut out),
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
        let renewal = self.next_renewal();
        self.places.iter().filter_map(Place::next_deadline).chain(renewal).min()
    }

    fn forked(&mut self, now: Millis, id: usize, pid: Pid, out: &mut Vec<Command>) {
        let running = self.phase == Phase::Running;
        let Some(place) = self.places.get_mut(id) else { return };
        let Next::Forking { seat, epoch } = place.next else { return };
        place.next = Next::Nothing;
        place.refused = 0;
        let mut life = Life { pid, seat, since: now, epoch, ready: false, stage: Stage::Running { deadline: None } };
        if !running {
            // The stop came between the command and its answer.
            life.stage = Stage::Killed;
            out.push(Command::Kill { seat, pid, why: Why::Ending });
        }
        let follows = place.current.is_some();
        if running && (follows || place.policy.boot_all) {
            life.stage = Stage::Running { deadline: Some(now.saturating_add(place.policy.boot)) };
        }
        let seat = if follows { &mut place.successor } else { &mut place.current };
        *seat = Some(life);
    }

    fn fork_failed(&mut self, now: Millis, id: usize, out: &mut Vec<Command>) {
        let running = self.phase == Phase::Running;
        let Some(place) = self.places.get_mut(id) else { return };
        let Next::Forking { .. } = place.next else { return };
        place.next = Next::Nothing;
        if !running {
            return;
        }
        place.refused = place.refused.saturating_add(1);
        let again = place.policy.wait(place.refused);
        place.again_in(now, again);
        out.push(Command::TellForkFailed { id, again });
    }

    fn ready(&mut self, now: Millis, id: usize, said_by: u32, out: &mut Vec<Command>) {
        let Some(place) = self.places.get_mut(id) else { return };
        // A word of a generation that is gone says nothing about those that are here; nor does one of who is leaving.
        let said = |life: &&mut Life| life.seat.generation == said_by && !life.ready && life.is_running();
        if let Some(successor) = place.successor.as_mut().filter(said) {
            successor.become_ready();
            let (seat, pid) = (successor.seat, successor.pid);
            place.early = 0;
            place.spoilt = 0;
            self.ever_ready |= place.vital;
            out.push(Command::TellReady { seat, pid });
            let was = std::mem::replace(&mut place.current, place.successor.take());
            if let Some(mut old) = was {
                if old.is_running() {
                    old.stage = Stage::Leaving { deadline: now.saturating_add(place.policy.reload_grace) };
                    out.push(Command::Ask { seat: old.seat, pid: old.pid });
                }
                place.leaving = Some(old);
                self.renewed(id, old.epoch);
            }
        } else if let Some(current) = place.current.as_mut().filter(said) {
            current.become_ready();
            place.early = 0;
            self.ever_ready |= place.vital;
            out.push(Command::TellReady { seat: current.seat, pid: current.pid });
        }
    }

    fn died(&mut self, now: Millis, dead: Pid, end: End, out: &mut Vec<Command>) {
        // Also for a child that is none of ours: left unreaped it would be reported for ever.
        out.extend([Command::Recover { pid: dead }, Command::Reap { pid: dead }]);
        // Out of its seat first: from here on its pid may be another's.
        let Some((id, was, role)) = self
            .places
            .iter_mut()
            .zip(0..)
            .find_map(|(place, id)| place.take(dead).map(|(life, role)| (id, life, role)))
        else {
            return;
        };
        let crashed = end != End::Exit(0) && was.stage != Stage::Killed;
        out.push(Command::Vacate { seat: was.seat, pid: dead, crashed });
        let again = match self.phase {
            Phase::Running => self.follow(now, id, &was, role),
            _ => None,
        };
        let Place { vital, early: deaths, spoilt, policy, .. } = self.places[id];
        let fruitless = vital && !self.ever_ready && deaths >= policy.failures;
        let hopeless = fruitless && role == Role::Current && again.is_some();
        if crashed || again.is_some() {
            let again = again.filter(|_| !hopeless);
            out.push(Command::TellDeath { seat: was.seat, pid: dead, end, again });
        }
        if self.phase == Phase::Running && role == Role::Successor && again.is_none() {
            self.keep(id, spoilt, out);
        }
        if hopeless {
            self.end(now, Outcome::NeverReady { deaths }, out);
        }
    }

    /// Who comes after one that died while all goes on, and in how long.
    fn follow(&mut self, now: Millis, id: usize, was: &Life, role: Role) -> Option<Millis> {
        let place = &mut self.places[id];
        match role {
            Role::Leaving => None,
            Role::Successor => place.spoil(now),
            Role::Current => {
                let at = place.replace_at(now, was);
                let heir = place.successor.take();
                if heir.is_some() {
                    // It is on its way already; there is nobody left for it to ask.
                    place.current = heir;
                } else if place.next == Next::Nothing {
                    place.next = Next::Due(at);
                }
                let booting = place.next != Next::Due(at);
                self.renewed(id, was.epoch);
                Some(if booting { 0 } else { at - now })
            }
        }
    }

    fn stop(&mut self, now: Millis, out: &mut Vec<Command>) {
        match self.phase {
            Phase::Stopping { since, .. } if now < since.saturating_add(self.echo) => {}
            Phase::Stopping { outcome, .. } => self.end(now, outcome, out),
            Phase::Running => {
                self.close(now, Outcome::Stopped, out);
                for place in &mut self.places {
                    let deadline = now.saturating_add(place.policy.grace);
                    for life in place.lives_mut() {
                        if life.is_running() {
                            life.stage = Stage::Leaving { deadline };
                            out.push(Command::Ask { seat: life.seat, pid: life.pid });
                        } else if let Stage::Leaving { deadline: later } = &mut life.stage {
                            // One that was asked by a reload has no longer than the others.
                            *later = deadline.min(*later);
                        }
                    }
                }
            }
            Phase::Finished => {}
        }
    }

    /// Kills all that run.
    fn end(&mut self, now: Millis, outcome: Outcome, out: &mut Vec<Command>) {
        match self.phase {
            Phase::Finished => return,
            Phase::Running => self.close(now, outcome, out),
            Phase::Stopping { .. } => {}
        }
        for life in self.places.iter_mut().flat_map(Place::lives_mut).filter(|life| life.stage != Stage::Killed) {
            life.stage = Stage::Killed;
            out.push(Command::Kill { seat: life.seat, pid: life.pid, why: Why::Ending });
        }
    }

    /// From here on nobody is forked any more.
    fn close(&mut self, now: Millis, outcome: Outcome, out: &mut Vec<Command>) {
        self.break_off(out);
        self.phase = Phase::Stopping { since: now, outcome };
        out.push(Command::CloseListener);
        for place in &mut self.places {
            if let Next::Due(_) = place.next {
                place.next = Next::Nothing;
            }
        }
    }

    fn tick(&mut self, now: Millis, out: &mut Vec<Command>) {
        for id in 0..self.places.len() {
            let place = &mut self.places[id];
            if let Next::Due(at) = place.next
                && at <= now
            {
                out.push(place.fork(now, self.epoch));
            }
            if place.lives_mut().any(|life| life.is_overdue(now)) {
                self.overdue(now, id, out);
            }
        }
        self.renew(now, out);
    }

    fn overdue(&mut self, now: Millis, id: usize, out: &mut Vec<Command>) {
        let place = &mut self.places[id];
        for life in place.lives_mut().filter(|life| life.is_overdue(now)) {
            let why = if life.is_running() { Why::NotReady } else { Why::Overdue };
            life.stage = Stage::Killed;
            out.push(Command::Kill { seat: life.seat, pid: life.pid, why });
        }
        // It will not take over any more, and nobody waits for its death.
        if place.successor.as_ref().is_some_and(|life| life.stage == Stage::Killed) && self.phase == Phase::Running {
            place.leaving = place.successor.take();
            let again = place.spoil(now);
            let deaths = place.spoilt;
            if again.is_none() {
                self.keep(id, deaths, out);
            }
        }
    }

    fn finish(&mut self, out: &mut Vec<Command>) {
        if let Phase::Stopping { outcome, .. } = self.phase
            && self.places.iter_mut().all(Place::is_empty)
        {
            self.phase = Phase::Finished;
            out.push(Command::Finish(outcome));
        }
    }
}
