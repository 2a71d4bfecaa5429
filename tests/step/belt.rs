//! A channel in the world of one operation, and all that may be seen of it: as it was, and as it is after each instant at which something
//! happens.

use std::os::fd::AsRawFd;
use std::rc::Rc;

use commons::{Channel, ChannelBuilder, Error, Lease, Result};

use crate::belt_state::{How, State};
use crate::kit::{self, report};
use crate::op::{Act, Op};
use crate::world::{World, noted_asleep};

/// Words of the ring.
pub const RING: usize = 16;

/// What a sleeping helper does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sleeper {
    Pops,
    Pushes,
}

/// What is done to a channel, and what is to come of it.
pub struct Plan {
    pub name: &'static str,
    act: fn(&Belt, Vec<Lease>) -> u64,
    /// Leases that the child has when it begins.
    holds: usize,
    shape: fn(ChannelBuilder) -> ChannelBuilder,
    arrange: fn(&mut World),
    pub returns: u64,
    then: Vec<fn(&mut State)>,
    unseated: bool,
    /// Nothing has happened before its closure has returned, which says so.
    pub inside: bool,
    /// Whoever comes by pushes a message of its own.
    pub brings: bool,
    pub sleeper: Option<Sleeper>,
    /// Somebody waits for the eventfds.
    pub watched: bool,
}

pub const DONE: u64 = 11;
pub const NONE: u64 = 12;
pub const FULL: u64 = 13;
pub const TOO_LONG: u64 = 14;
pub const CLOSED: u64 = 15;
pub const TIMEOUT: u64 = 16;
pub const FAILED: u64 = 17;

/// An error as a number.
pub fn refused(error: &Error) -> u64 {
    match error {
        Error::Full { .. } => FULL,
        Error::TooLong { .. } => TOO_LONG,
        Error::Closed => CLOSED,
        Error::Timeout { .. } => TIMEOUT,
        _ => FAILED,
    }
}

pub fn outcome(result: Result<()>) -> u64 {
    result.map_or_else(|error| refused(&error), |()| DONE)
}

/// In a closure, at its end.
pub fn comes_to_its_end() {
    kit::control().report(kit::INTRUDER, 0);
}

/// A message as a number.
pub fn number(message: &[u8]) -> u64 {
    1000 + (message.len() as u64) * 256 + u64::from(message.first().copied().unwrap_or(0))
}

pub fn got(result: Result<Vec<u8>>) -> u64 {
    result.map_or_else(|error| refused(&error), |message| number(&message))
}

pub fn maybe(result: Result<Option<Vec<u8>>>) -> u64 {
    result.map_or_else(|error| refused(&error), |message| message.map_or(NONE, |message| number(&message)))
}

impl Plan {
    pub fn new(name: &'static str, returns: u64, act: fn(&Belt, Vec<Lease>) -> u64) -> Plan {
        Plan {
            name,
            act,
            holds: 0,
            shape: |b| b,
            arrange: |_| {},
            returns,
            then: Vec::new(),
            unseated: false,
            inside: false,
            brings: false,
            sleeper: None,
            watched: false,
        }
    }
    pub fn shape(self, shape: fn(ChannelBuilder) -> ChannelBuilder) -> Plan {
        Plan { shape, ..self }
    }
    pub fn arrange(self, arrange: fn(&mut World)) -> Plan {
        Plan { arrange, ..self }
    }
    /// What the next instant changes at which anything happens.
    pub fn then(mut self, then: fn(&mut State)) -> Plan {
        self.then.push(then);
        self
    }
    /// The child has so many leases when it begins.
    pub fn holding(self, holds: usize) -> Plan {
        Plan { holds, ..self }
    }
    pub fn unseated(self) -> Plan {
        Plan { unseated: true, ..self }
    }
    pub fn inside(self) -> Plan {
        Plan { inside: true, ..self }
    }
    pub fn sleeper(self, sleeper: Sleeper) -> Plan {
        Plan { sleeper: Some(sleeper), ..self }
    }
    pub fn watched(self) -> Plan {
        Plan { watched: true, ..self }
    }

    pub fn op(mut self) -> Op {
        let thorough = THOROUGH.iter().find(|(name, _)| *name == self.name).map(|(_, rescue)| *rescue);
        self.brings = thorough == Some(Rescue::Brings);
        let rescue = match thorough {
            Some(Rescue::Peeks) => peeks,
            Some(Rescue::Brings) => brings,
            _ => counts,
        };
        // Who sleeps for what the child has in hand comes when it has it.
        let meanwhile: fn(&mut World) =
            if self.holds > 0 && self.sleeper.is_some() { |w| sleep(w, Sleeper::Pops) } else { |_| {} };
        let (last, name) = (self.then.len() as u64, self.name);
        let plan = Rc::new(self);
        Op::new(name, child, crate::belt_check::check)
            .arrange(move |world| Belt::set_up(&plan, world))
            .alive(crate::belt_check::alive)
            .meanwhile(meanwhile)
            .rescue(rescue)
            .brief(thorough.is_none())
            .last(last)
    }
}

/// What whoever comes by does, and may die of in its turn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rescue {
    /// Takes the consumers' lock, and repairs.
    Counts,
    /// The same, and takes back what the dead have leased.
    Peeks,
    /// Takes the producers' lock, and pushes a message of its own.
    Brings,
}

/// Operations that leave something of their own to be recovered: they are killed inside recovery as well.
const THOROUGH: [(&str, Rescue); 18] = [
    ("channel_push_at_the_end", Rescue::Brings),
    ("channel_push_many_round_the_end", Rescue::Counts),
    ("channel_push_wakes", Rescue::Brings),
    ("channel_push_armed", Rescue::Brings),
    ("channel_close", Rescue::Brings),
    ("channel_pop_round_the_end", Rescue::Peeks),
    ("channel_pop_with", Rescue::Brings),
    ("channel_pop_behind_lease", Rescue::Peeks),
    ("channel_drain_all", Rescue::Counts),
    ("channel_stats", Rescue::Peeks),
    ("channel_arm", Rescue::Counts),
    ("channel_lease_second", Rescue::Peeks),
    ("channel_ack", Rescue::Counts),
    ("channel_ack_before_done", Rescue::Peeks),
    ("channel_lease_drop", Rescue::Peeks),
    ("channel_lease_drop_before_done", Rescue::Counts),
    ("channel_lease_drop_worn", Rescue::Peeks),
    ("channel_pop_after_death", Rescue::Peeks),
];

fn child(world: &World) -> Act<'_> {
    let belt = world.belt();
    if !belt.plan.unseated {
        world.sit_down();
    }
    let leases = (0..belt.plan.holds).map(|_| belt.channel.pop_lease().expect("arranged")).collect();
    if belt.plan.watched && belt.plan.holds > 0 {
        assert_eq!(belt.channel.try_pop().ok(), Some(None), "it has all there is in hand");
    }
    Box::new(move || report((belt.plan.act)(belt, leases)))
}

/// A consumer that comes by what a dead one holds takes the lock and repairs.
fn counts(world: &World) {
    drop(world.belt().channel.stats());
}

/// The same, and takes back what the dead have leased.
fn peeks(world: &World) {
    drop(world.belt().channel.peek());
}

/// What a rescuer brings.
pub const BROUGHT: &[u8] = b"brought by a rescuer, who may die of it";

fn brings(world: &World) {
    drop(world.belt().channel.try_push(BROUGHT));
}

pub struct Belt {
    pub channel: Channel,
    /// As it was, and after each instant at which something happens.
    pub states: Vec<State>,
    pub plan: Rc<Plan>,
    /// The eventfds for messages and for room, if somebody waits for them.
    pub fds: Option<(i32, i32)>,
}

impl Belt {
    fn set_up(plan: &Rc<Plan>, world: &mut World) {
        let shape = (plan.shape)(Channel::builder().capacity(RING * 8).max_message(RING * 8 - 8));
        let channel = shape.build().expect("a channel");
        let was = State { max_attempts: channel.dead_letters().map_or(0, |_| 2), ..State::empty() };
        world.belt = Some(Belt { channel, states: vec![was], plan: plan.clone(), fds: None });
        (plan.arrange)(world);
        if let Some(sleeper) = plan.sleeper.filter(|_| plan.holds == 0) {
            sleep(world, sleeper);
        }
        if plan.watched {
            watch(world);
        }
        let belt = world.belt.as_mut().expect("just made");
        if plan.watched && plan.holds == 0 {
            // After whatever was done: what is armed is armed by the last look.
            if belt.states[0].line.is_empty() {
                assert_eq!(belt.channel.try_pop().ok(), Some(None));
            } else {
                assert!(matches!(belt.channel.try_push(&[0; RING * 8 - 8]), Err(Error::Full { .. })));
            }
        }
        let mut state = belt.states[0].clone();
        for _ in 0..plan.holds {
            belt.states[0].lease(How::Child);
            state.lease(How::Child);
        }
        for then in &plan.then {
            then(&mut state);
            belt.states.push(state.clone());
        }
    }

    /// For the pairs: a channel without a plan.
    pub fn plain(world: &mut World, arrange: fn(&mut World), shape: fn(ChannelBuilder) -> ChannelBuilder) {
        let plan = Plan::new("", 0, |_, _| 0).arrange(arrange).shape(shape);
        Belt::set_up(&Rc::new(plan), world);
    }

    fn state(&mut self) -> &mut State {
        self.states.last_mut().expect("the first")
    }
}

/// A message that the sleeping producer pushes: too long for what is left.
pub const SLEPT: &[u8] = b"slept over";

fn sleep(world: &mut World, sleeper: Sleeper) {
    let body: fn(&World) -> u64 = match sleeper {
        Sleeper::Pops => |w| got(w.belt().channel.pop()),
        Sleeper::Pushes => |w| outcome(w.belt().channel.push(SLEPT)),
    };
    world.sleeper(body, noted_asleep);
}

/// Messages that are there.
pub fn have(world: &mut World, messages: &[&str]) {
    let belt = world.belt.as_mut().expect("set up");
    for message in messages {
        belt.channel.try_push(message.as_bytes()).expect("room");
        belt.state().push(message);
    }
}

/// Somebody asks for the eventfds.
pub fn watch(world: &mut World) {
    let belt = world.belt.as_mut().expect("set up");
    belt.fds = Some((belt.channel.notifier().as_raw_fd(), belt.channel.room_notifier().as_raw_fd()));
}

/// Moves floor and tail on by so many words.
pub fn turn(world: &mut World, words: usize) {
    let belt = world.belt.as_mut().expect("set up");
    belt.channel.try_push(&vec![0xee; (words - 1) * 8]).expect("room");
    belt.channel.try_pop().expect("a seat").expect("just pushed");
    belt.state().gone += 1;
}

/// A helper leases the first one and lives on.
pub fn helper_leases(world: &mut World) -> usize {
    let helper = world.holder(|w| std::mem::forget(w.belt().channel.try_pop_lease().expect("a seat").expect("one")));
    world.belt.as_mut().expect("set up").state().lease(How::Helper);
    helper
}

/// One leases the first one and dies; it is a zombie that nobody has recovered.
pub fn dead_leases(world: &mut World) {
    dies(world, |belt| std::mem::forget(belt.channel.try_pop_lease().expect("a seat").expect("one")));
    world.belt.as_mut().expect("set up").state().lease(How::Dead);
}

/// One that has leased the first one twice, and given it back once, is about to wear it out.
pub fn worn(world: &mut World) {
    let belt = world.belt.as_mut().expect("set up");
    drop(belt.channel.try_pop_lease().expect("a seat").expect("one"));
    belt.state().give_back(0);
}

/// Takes the first one that is ready.
pub fn pop(world: &mut World) {
    let belt = world.belt.as_mut().expect("set up");
    belt.channel.try_pop().expect("a seat").expect("one");
    belt.state().take();
    *belt.state() = belt.state().clone().reclaimed();
}

pub fn close(world: &mut World) {
    let belt = world.belt.as_mut().expect("set up");
    belt.channel.close().expect("a seat");
    belt.state().closed = true;
}

/// So many dead letters fit.
pub fn letters_fit(world: &mut World, most: usize) {
    world.belt.as_mut().expect("set up").state().most_letters = most;
}

/// One does this and dies in it or after it; it is a zombie that nobody has recovered.
pub fn dies(world: &mut World, does: fn(&Belt)) {
    let pid = kit::fork(|| {
        world.sit_down();
        does(world.belt());
        0
    });
    kit::wait_for_end(pid);
    world.lay_out(pid);
}

/// Ends the process in the middle of what it does.
pub fn die() -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(0) }
}
