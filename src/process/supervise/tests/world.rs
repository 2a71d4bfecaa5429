//! A machine with a model of the processes behind it.

use super::*;
use crate::process::supervise::place::Life;

pub(super) const CRASH: End = End::Signal(9);

pub(super) fn group(places: usize) -> Group {
    Group { places, vital: true, policy: Policy::default() }
}

/// The first slots that a place gives are those in which a life of this generation is, for they are given in turn.
pub(super) fn seat(id: usize, generation: u32) -> Seat {
    Seat { id, generation, slot: id * SLOTS + (generation as usize - 1) % SLOTS }
}

pub(super) fn fork(id: usize, generation: u32) -> Command {
    Command::Fork { seat: seat(id, generation), successor: false }
}

/// A machine with a model of the processes behind it: forks succeed and get ascending pids.
pub(super) struct World {
    pub(super) machine: Supervisor,
    pub(super) now: Millis,
    pub(super) next_pid: Pid,
    pub(super) refuse_forks: bool,
    pub(super) log: Vec<(Millis, Command)>,
}

impl World {
    pub(super) fn new(workers: usize) -> Self {
        Self::of(&[group(workers)])
    }

    pub(super) fn of(groups: &[Group]) -> Self {
        let machine = Supervisor::new(groups);
        let mut world = Self { machine, now: 1_000, next_pid: 100, refuse_forks: false, log: Vec::new() };
        world.send(Event::Tick);
        world
    }

    pub(super) fn send(&mut self, event: Event) {
        let mut events = std::collections::VecDeque::from([event]);
        for _ in 0..10_000 {
            let Some(event) = events.pop_front() else { return };
            for command in self.machine.handle(self.now, event) {
                self.log.push((self.now, command));
                if let Command::Fork { seat: Seat { id, .. }, .. } = command {
                    events.push_back(if self.refuse_forks {
                        Event::ForkFailed { id }
                    } else {
                        self.next_pid += 1;
                        Event::Forked { id, pid: self.next_pid }
                    });
                }
            }
        }
        panic!("the machine does not come to rest");
    }

    /// Lets time pass, with a tick at each deadline, as the real loop does it.
    pub(super) fn pass(&mut self, time: Millis) {
        let end = self.now + time;
        for _ in 0..100_000 {
            match self.machine.next_deadline() {
                Some(at) if at <= end => {
                    self.now = at.max(self.now);
                    self.send(Event::Tick);
                }
                _ => {
                    self.now = end;
                    return;
                }
            }
        }
        panic!("the machine spins");
    }

    pub(super) fn pid(&self, id: usize) -> Pid {
        self.current(id).expect("a process in that place").pid
    }

    pub(super) fn current(&self, id: usize) -> Option<Life> {
        self.machine.places[id].current
    }

    pub(super) fn make_ready(&mut self, id: usize) {
        let generation = self.machine.places[id].generation;
        self.send(Event::Ready { id, generation });
    }

    pub(super) fn die(&mut self, id: usize, end: End) {
        self.send(Event::Died { pid: self.pid(id), end });
    }

    pub(super) fn take(&mut self) -> Vec<Command> {
        self.log.drain(..).map(|(_, command)| command).collect()
    }

    pub(super) fn forks(&self) -> usize {
        self.log.iter().filter(|(_, command)| matches!(command, Command::Fork { .. })).count()
    }

    pub(super) fn successor(&self, id: usize) -> Option<Life> {
        self.machine.places[id].successor
    }

    pub(super) fn leaving(&self, id: usize) -> Option<Life> {
        self.machine.places[id].leaving
    }

    pub(super) fn dies(&mut self, life: Option<Life>, end: End) {
        self.send(Event::Died { pid: life.expect("a life").pid, end });
    }

    pub(super) fn finished(&self) -> Option<Outcome> {
        self.log.iter().find_map(|(_, command)| match command {
            Command::Finish(outcome) => Some(*outcome),
            _ => None,
        })
    }
}

/// The places that were vacated, and whether by a crash.
pub(super) fn vacated(log: &[Command]) -> Vec<(usize, bool)> {
    log.iter()
        .filter_map(|command| match command {
            Command::Vacate { seat, crashed, .. } => Some((seat.id, *crashed)),
            _ => None,
        })
        .collect()
}
