//! The machine against a world that does what it likes, and a bookkeeper that believes nothing.

use super::*;
use arbitrary::Unstructured;
use std::collections::VecDeque;

/// One process, as the world has it.
#[derive(Clone, Copy, Debug)]
struct Process {
    pid: Pid,
    seat: Seat,
    /// Forked while the one before it worked.
    successor: bool,
    born: Millis,
    /// The machine has been told so.
    ready: bool,
    asked: Option<Millis>,
    killed: bool,
    /// It has ended and nobody has reaped it.
    dead: Option<End>,
    recovered: bool,
}

struct World {
    machine: Supervisor,
    policies: Vec<Policy>,
    now: Millis,
    processes: Vec<Process>,
    forked: Vec<Option<Millis>>,
    closed: bool,
    finished: u32,
    reloads: (u32, u32),
    refuse: bool,
}

impl World {
    fn new(groups: &[Group]) -> Self {
        let policies: Vec<_> = groups.iter().flat_map(|group| vec![group.policy; group.places]).collect();
        Self {
            machine: Supervisor::new(groups),
            now: 0,
            processes: Vec::new(),
            forked: vec![None; policies.len()],
            policies,
            closed: false,
            finished: 0,
            reloads: (0, 0),
            refuse: false,
        }
    }

    fn send(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        for _ in 0..1_000 {
            let Some(event) = events.pop_front() else {
                assert!(self.machine.next_deadline().is_none_or(|at| at > self.now), "it spins");
                return;
            };
            for command in self.machine.handle(self.now, event) {
                events.extend(self.obey(command));
            }
        }
        panic!("the machine does not come to rest");
    }

    fn of(&mut self, seat: Seat, pid: Pid) -> &mut Process {
        self.processes.iter_mut().find(|of| (of.seat, of.pid) == (seat, pid)).expect("a process that is there")
    }

    /// Whether somebody of this place serves whom nobody has asked to leave, as far as the machine can know.
    fn serves(&self, id: usize) -> bool {
        self.processes.iter().any(|of| of.seat.id == id && of.ready && of.asked.is_none() && !of.killed)
    }

    fn obey(&mut self, command: Command) -> Option<Event> {
        let now = self.now;
        match command {
            Command::Fork { seat, successor } => return Some(self.fork(seat, successor)),
            Command::Recover { pid } => {
                let of = self.processes.iter_mut().find(|of| of.pid == pid).expect("a process to recover");
                assert!(of.dead.is_some(), "recovered alive");
                of.recovered = true;
            }
            Command::Reap { pid } => {
                let of = self.processes.iter().find(|of| of.pid == pid).expect("a process to reap");
                assert!(of.recovered, "reaped before it was recovered");
            }
            Command::Vacate { seat, pid, crashed } => {
                let of = *self.of(seat, pid);
                assert_eq!(crashed, of.dead != Some(End::Exit(0)) && !of.killed);
                self.processes.retain(|of| of.pid != pid);
            }
            Command::Ask { seat, pid } => {
                let of = self.of(seat, pid);
                assert_eq!(of.asked.replace(now), None, "asked twice");
                assert!(self.closed || self.serves(seat.id), "a reload asks the one that serves, and nobody else does");
            }
            Command::Kill { seat, pid, why } => {
                let policy = self.policies[seat.id];
                let of = self.of(seat, pid);
                assert!(!of.killed, "killed twice");
                of.killed = true;
                match why {
                    Why::Overdue => assert_eq!(of.asked.expect("asked") + policy.grace, now),
                    Why::NotReady => assert!(of.successor && !of.ready && of.born + policy.boot == now, "{of:?}"),
                    Why::Ending => assert!(self.closed),
                }
            }
            Command::TellReady { seat, pid } => self.of(seat, pid).ready = true,
            Command::TellReload => {
                self.reloads.0 += 1;
                assert_eq!(self.reloads.0, self.reloads.1 + 1);
            }
            Command::TellReloaded { .. } => {
                self.reloads.1 += 1;
                assert_eq!(self.reloads.0, self.reloads.1);
            }
            Command::TellDeath { again, .. } => assert!(again.is_none() || !self.closed),
            Command::TellKept { id, .. } => assert!(self.machine.places[id].current.is_some()),
            Command::TellForkFailed { .. } => {}
            Command::CloseListener => assert!(!std::mem::replace(&mut self.closed, true)),
            Command::Finish(_) => {
                self.finished += 1;
                assert!(self.closed && self.processes.is_empty(), "finished with a child left");
            }
        }
        None
    }

    fn fork(&mut self, seat: Seat, successor: bool) -> Event {
        let (id, now) = (seat.id, self.now);
        assert!(!self.closed, "forked after the end began");
        let last = self.forked[id].replace(now);
        assert!(last.is_none_or(|last| last + self.policies[id].spacing <= now), "forked too soon");
        assert!((id * SLOTS..(id + 1) * SLOTS).contains(&seat.slot));
        assert!(!self.processes.iter().any(|of| of.seat.slot == seat.slot), "a slot of two");
        let there = || self.processes.iter().filter(|of| of.seat.id == id);
        assert!(there().all(|of| of.seat.generation < seat.generation));
        assert_eq!(successor, there().any(|of| of.asked.is_none() && !of.killed), "{seat:?}");
        assert!(there().count() < 2, "three lives in a place");
        if successor {
            let boots = |of: &&Process| of.successor && !of.ready && !of.killed && self.follows(of);
            assert_eq!(self.processes.iter().find(boots).map(|of| of.seat), None, "two successors boot");
        }
        if self.refuse {
            return Event::ForkFailed { id };
        }
        // The smallest that is free: the pid of who has just been reaped.
        let pid = (1..).find(|pid| !self.processes.iter().any(|of| of.pid == *pid)).expect("a pid");
        let (asked, ready, killed, dead, recovered) = (None, false, false, None, false);
        self.processes.push(Process { pid, seat, successor, born: now, ready, asked, killed, dead, recovered });
        Event::Forked { id, pid }
    }

    /// Whether the one whom it is to follow is there.
    fn follows(&self, successor: &Process) -> bool {
        let older = |of: &Process| of.seat.id == successor.seat.id && of.seat.generation < successor.seat.generation;
        self.processes.iter().any(|of| older(of) && of.asked.is_none())
    }

    fn die(&mut self, at: usize, end: End) {
        let of = &mut self.processes[at];
        let end = if of.killed { End::Signal(9) } else { end };
        of.dead = Some(end);
        let pid = of.pid;
        self.send(Event::Died { pid, end });
    }

    fn pass(&mut self, time: Millis) {
        let end = self.now + time;
        for _ in 0..1_000 {
            match self.machine.next_deadline() {
                Some(at) if at <= end => {
                    self.now = at;
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

    /// Everybody behaves for a while.
    fn settle(&mut self) {
        for _ in 0..200 {
            for id in 0..self.policies.len() {
                let generations: Vec<_> =
                    self.processes.iter().filter(|of| of.seat.id == id).map(|of| of.seat.generation).collect();
                for generation in generations {
                    self.send(Event::Ready { id, generation });
                }
            }
            while let Some(at) = self.processes.iter().position(|of| of.asked.is_some() || of.killed) {
                self.die(at, End::Exit(0));
            }
            self.pass(100);
        }
    }
}

fn step(world: &mut World, u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let places = world.policies.len();
    let pick = |u: &mut Unstructured<'_>, of: usize| if of == 0 { Ok(0) } else { u.choose_index(of) };
    match u.int_in_range(0..=19)? {
        0..=4 if !world.processes.is_empty() => {
            let at = pick(u, world.processes.len())?;
            let Seat { id, generation, .. } = world.processes[at].seat;
            world.send(Event::Ready { id, generation });
        }
        // A word of whoever, from whenever.
        5 => {
            let (id, generation) = (u.int_in_range(0..=places)?, u.int_in_range(0..=9)?);
            let known = |of: &Process| (of.seat.id, of.seat.generation) == (id, generation);
            if !world.processes.iter().any(known) {
                let before: Vec<_> = world.processes.iter().map(|of| of.ready).collect();
                world.send(Event::Ready { id, generation });
                assert!(world.processes.iter().map(|of| of.ready).eq(before), "a word of nobody was believed");
            }
        }
        6..=10 if !world.processes.is_empty() => {
            let at = pick(u, world.processes.len())?;
            world.die(at, if u.arbitrary()? { End::Exit(u.int_in_range(0..=1)?) } else { End::Signal(11) });
        }
        11..=12 => {
            let id = u.int_in_range(0..=places)?;
            let which = *u.choose(&[Which::All, Which::Group(0), Which::Group(1), Which::Place(id)])?;
            world.send(Event::Reload(which));
        }
        13 => world.refuse = u.ratio(1, 3)?,
        14 if u.ratio(1, 8)? => world.send(if u.arbitrary()? { Event::Stop } else { Event::Kill }),
        _ => {
            let longest = *u.choose(&[0, 10, 60, 500, 6_000, 70_000])?;
            let time = u.int_in_range(0..=longest)?;
            world.pass(time);
        }
    }
    Ok(())
}

#[test]
fn whatever_happens_the_rules_hold() {
    let mut ended = (0, 0);
    arbtest::arbtest(|u| {
        let user = Group { vital: false, ..group(u.int_in_range(0..=1)?) };
        let mut world = World::new(&[group(u.int_in_range(1..=3)?), user]);
        world.send(Event::Tick);
        while !u.is_empty() {
            step(&mut world, u)?;
        }
        world.refuse = false;
        world.settle();
        if world.closed {
            ended.0 += 1;
        } else {
            ended.1 += 1;
            // Every place is served, and by a life that is young enough.
            assert_eq!(world.reloads.0, world.reloads.1);
            for (id, place) in world.machine.places.iter().enumerate() {
                assert!(world.serves(id), "{place:?}");
                assert!(place.current.is_some_and(|life| life.epoch >= place.wanted), "{place:?}");
                assert!(place.leaving.is_none() && place.successor.is_none(), "{place:?}");
            }
            world.send(Event::Stop);
            world.settle();
        }
        assert_eq!((world.finished, world.processes.len()), (1, 0));
        assert_eq!(world.reloads.0, world.reloads.1);
        Ok(())
    })
    .size_max(4_000)
    .budget_ms(1_000);
    assert!(ended.0 > 0 && ended.1 > 0, "{ended:?}");
}
