//! A timer in the world of one operation, and all that may be seen of it: as it was, and as it is after each instant at which something happens.
//!
//! Its clock stands still: at [`NOW`], or where an operation puts it.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use commons::{Error, Timer, TimerId, TimerInfo};

use crate::image::{set_word_at, word_at};
use crate::kit::report;
use crate::op::Op;
use crate::world::{DIRTY, World};

/// One timer as others see it: what it carries, when it is due (in milliseconds after [`NOW`]), how often it comes, how often it has fired.
pub type Seen = (u64, u64, u64, u64);

/// All of them.
pub type State = BTreeSet<Seen>;

pub const MS: u64 = 1_000_000;
pub const NOW: u64 = 1000 * MS;

pub fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// What is done to a timer, and what is to come of it.
pub struct Plan {
    name: &'static str,
    act: fn(&Clockwork) -> u64,
    capacity: usize,
    arrange: fn(&Clockwork),
    pub returns: u64,
    then: Vec<fn(&mut State)>,
    unseated: bool,
    /// Somebody has died in the middle of a change: nothing but the entries is to be believed.
    dirty: bool,
    /// Whoever comes by adds a timer of its own.
    pub brings: bool,
    rescue: fn(&World),
}

pub const FULL: u64 = 901;
pub const FAILED: u64 = 902;
pub const MADE: u64 = 903;

/// What a rescuer brings.
pub const BROUGHT: Seen = (77, 33, 0, 0);

pub fn made(result: commons::Result<TimerId>) -> u64 {
    match result {
        Ok(_) => MADE,
        Err(Error::Full { .. }) => FULL,
        Err(_) => FAILED,
    }
}

impl Plan {
    pub fn new(name: &'static str, returns: u64, act: fn(&Clockwork) -> u64) -> Plan {
        Plan {
            name,
            act,
            capacity: 6,
            arrange: |_| {},
            returns,
            then: Vec::new(),
            unseated: false,
            dirty: false,
            brings: false,
            rescue: looks,
        }
    }
    pub fn room(self, capacity: usize) -> Plan {
        Plan { capacity, ..self }
    }
    pub fn arrange(self, arrange: fn(&Clockwork)) -> Plan {
        Plan { arrange, ..self }
    }
    /// What the next instant changes at which anything happens.
    pub fn then(mut self, then: fn(&mut State)) -> Plan {
        self.then.push(then);
        self
    }
    pub fn unseated(self) -> Plan {
        Plan { unseated: true, ..self }
    }
    pub fn dirty(self) -> Plan {
        Plan { dirty: true, ..self }
    }
    pub fn brings(self) -> Plan {
        Plan { brings: true, rescue: adds, ..self }
    }

    pub fn op(self) -> Op {
        let (rescue, last, name) = (self.rescue, self.then.len() as u64, self.name);
        let plan = Rc::new(self);
        Op::new(name, child, crate::clockwork_check::check)
            .arrange(move |world| Clockwork::set_up(&plan, world))
            .alive(crate::clockwork_check::alive)
            .rescue(rescue)
            .last(last)
    }
}

fn child(world: &World) -> crate::op::Act<'_> {
    let work = world.clockwork();
    if !work.plan.unseated {
        world.sit_down();
    }
    Box::new(move || report((work.plan.act)(work)))
}

fn looks(world: &World) {
    let _ = world.clockwork().now.stats();
}

fn adds(world: &World) {
    let _ = world.clockwork().now.after(ms(BROUGHT.1), BROUGHT.0);
}

pub struct Clockwork {
    /// With a clock that stands at [`NOW`].
    pub now: Timer,
    /// Of the timers that were there, by what they carry.
    pub ids: Vec<(u64, TimerId)>,
    /// As it was, and after each instant at which something happens.
    pub states: Vec<State>,
    pub plan: Rc<Plan>,
}

impl Clockwork {
    fn set_up(plan: &Rc<Plan>, world: &mut World) {
        let now = Timer::new(plan.capacity).expect("a timer").at(NOW);
        let mut work = Clockwork { now, ids: Vec::new(), states: Vec::new(), plan: plan.clone() };
        (plan.arrange)(&work);
        work.ids = work.now.list().into_iter().map(|(id, info)| (info.payload, id)).collect();
        let mut state = work.seen().expect("nobody died");
        work.states.push(state.clone());
        for then in &plan.then {
            then(&mut state);
            work.states.push(state.clone());
        }
        if plan.dirty {
            work.scramble();
        }
        world.clockwork = Some(work);
    }

    /// A timer for the pairs.
    pub fn plain(world: &mut World, arrange: fn(&Clockwork)) {
        Clockwork::set_up(&Rc::new(Plan::new("", 0, |_| 0).arrange(arrange)), world);
    }

    /// One-shots that carry what they are due after, in milliseconds.
    pub fn have(&self, delays: &[u64]) {
        for delay in delays {
            self.now.after(ms(*delay), *delay).expect("room");
        }
    }

    /// The timer that carries this.
    pub fn id(&self, payload: u64) -> TimerId {
        self.find(payload).expect("it was there")
    }

    pub fn find(&self, payload: u64) -> Option<TimerId> {
        self.ids.iter().find(|(of, _)| *of == payload).map(|(_, id)| *id)
    }

    /// Lets all fire that are due so many milliseconds after [`NOW`]; what they carry, two digits each.
    pub fn expire(&self, after: u64) -> u64 {
        let mut digits = 0;
        match self.now.at(NOW + after * MS).expire(|_, payload| digits = digits * 100 + payload) {
            Ok(_) => digits,
            Err(_) => FAILED,
        }
    }

    /// All timers, each met once.
    pub fn seen(&self) -> Result<State, String> {
        let all = self.now.list();
        let seen: State = all.iter().map(|(_, info)| Clockwork::of(info)).collect();
        if seen.len() == all.len() { Ok(seen) } else { Err(format!("a list has one twice: {all:?}")) }
    }

    pub fn of(info: &TimerInfo) -> Seen {
        let whole = |time: Duration| time.as_nanos() as u64 / MS;
        (info.payload, whole(info.due), info.interval.map_or(0, whole), info.fired)
    }

    /// Leaves it as one does who dies holding the lock: marked, and all that follows from the entries is wrong.
    fn scramble(&self) {
        let base = commons::harness::mapped().iter().rfind(|m| m.name == "timer").expect("just made").base;
        // The first placement: the lock, made, fresh, live, free; and on the next line, when the first is due.
        let head = base + 320;
        set_word_at(head, word_at(head) | DIRTY);
        set_word_at(head + 24, 1);
        set_word_at(head + 32, 0);
        set_word_at(head + 64, 1);
        // The second: 32 bytes each, of which the second word is the place.
        let entries = head + 128 + 64;
        (0..self.now.capacity()).for_each(|n| set_word_at(entries + 32 * n + 8, 3));
        // The fourth, behind a third of the same length: no node names whom it did.
        let length = (32 * self.now.capacity()).next_multiple_of(64);
        let nodes = entries + 2 * (length + 64);
        assert_eq!(word_at(nodes - 64) >> 48, 18, "the layout is not what the harness believes");
        (0..2 * (self.now.capacity() + 3)).for_each(|n| set_word_at(nodes + 8 * n, 1));
    }
}
