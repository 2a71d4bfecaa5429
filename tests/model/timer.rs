//! Timer against a std BTreeMap: every public operation by a clock that stands where the model puts it, with processes that die in the middle.
//!
//! One dies by leaving all that follows from the entries in a mess, with the lock in nobody's hands (`Timer::perish`). What dies between two stores
//! of a change is the kill harness's business.

use std::collections::BTreeMap;
use std::time::Duration;

use arbitrary::Arbitrary;
use commons::{Error, Timer, TimerId, TimerInfo};

const CAPACITIES: [usize; 8] = [1, 2, 5, 6, 9, 21, 40, 90];
const MS: u64 = 1_000_000;
const BEGIN: u64 = 1000 * MS;

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Op {
    After(Delay, u8),
    Tick(Delay, u8),
    Clear(u8),
    ClearAll(u8),
    Expire(Then),
    /// The clock goes on.
    Later(Delay),
    /// To the instant at which the first is due, or just before it.
    UntilDue(bool),
    Info(u8),
    /// All that can be seen.
    Look,
    /// Somebody dies in the middle of a change.
    Die(u8),
}

/// Few different ones, so that some are due at the same instant; and some that are none.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) struct Delay(u8);

/// What is done in each call.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Then {
    Nothing,
    After(Delay, u8),
    Tick(Delay, u8),
    ClearIt,
    Clear(u8),
    Look,
    Die(u8),
}

impl Delay {
    fn nanoseconds(self) -> u64 {
        match self.0 {
            0 => 0,
            1 => MS - 1,
            2 => 86_400_000 * MS,
            3 => 86_400_000 * MS + 1,
            4..32 => MS + u64::from(self.0) * 999,
            n => u64::from(n % 16 + 1) * MS,
        }
    }
    fn duration(self) -> Duration {
        Duration::from_nanos(self.nanoseconds())
    }
    fn is_one(self) -> bool {
        (MS..=86_400_000 * MS).contains(&self.nanoseconds())
    }
}

/// Where it happened, for when it goes wrong.
type Where<'w> = &'w dyn Fn() -> String;

#[derive(Clone, Copy, Debug)]
struct Entry {
    id: TimerId,
    interval: u64,
    fired: u64,
    payload: u64,
}

struct Model {
    timer: Timer,
    now: u64,
    /// By due time and age.
    live: BTreeMap<(u64, u64), Entry>,
    /// Every id that was ever given, with its age.
    ids: Vec<TimerId>,
    /// Somebody has died, and nobody has had the lock since.
    dirty: bool,
}

impl Model {
    fn clock(&self) -> Timer {
        self.timer.at(self.now)
    }

    fn key(&self, id: TimerId) -> Option<(u64, u64)> {
        self.live.iter().find(|(_, entry)| entry.id == id).map(|(key, _)| *key)
    }

    /// One that was given, perhaps long ago.
    fn pick(&self, n: u8) -> Option<TimerId> {
        // The younger half is likelier to be there still.
        let (n, len) = (usize::from(n), self.ids.len());
        if len == 0 {
            return None;
        }
        Some(self.ids[if n < 128 { len - 1 - n % len.min(16) } else { n % len }])
    }

    fn add(&mut self, delay: Delay, payload: u8, ticks: bool, at: Where<'_>) {
        let clock = self.clock();
        let (wait, payload) = (delay.duration(), u64::from(payload));
        let made = if ticks { clock.tick(wait, payload) } else { clock.after(wait, payload) };
        if !delay.is_one() {
            assert!(matches!(made, Err(Error::BadDelay { delay }) if delay == wait), "{made:?} {}", at());
            return;
        }
        self.dirty = false;
        if self.live.len() == self.timer.capacity() {
            assert!(matches!(made, Err(Error::Full { capacity }) if capacity == self.live.len()), "{made:?} {}", at());
            return;
        }
        let id = made.unwrap_or_else(|error| panic!("{error} {}", at()));
        assert!(!self.ids.contains(&id), "{id:?} was another's {}", at());
        let interval = if ticks { delay.nanoseconds() } else { 0 };
        let key = (self.now + delay.nanoseconds(), self.ids.len() as u64);
        self.ids.push(id);
        self.live.insert(key, Entry { id, interval, fired: 0, payload });
    }

    fn clear(&mut self, id: TimerId, at: Where<'_>) {
        let there = self.key(id);
        assert_eq!(self.timer.clear(id).unwrap(), there.is_some(), "{id:?} {}", at());
        if let Some(key) = there {
            self.dirty = false;
            self.live.remove(&key);
        }
    }

    fn info(&self, id: TimerId, at: Where<'_>) {
        let seen = self.clock().info(id);
        let known = self.key(id).map(|key| (key, self.live[&key]));
        assert!(same(seen.as_ref(), known, self.now), "{seen:?} of {known:?} {}", at());
        assert_eq!(self.timer.exists(id), known.is_some(), "{}", at());
    }

    /// What shows without the lock, and then with it.
    fn look(&mut self, at: Where<'_>) {
        let clock = self.clock();
        let listed: BTreeMap<TimerId, TimerInfo> = clock.list().into_iter().collect();
        assert_eq!(listed.len(), self.live.len(), "{}", at());
        for (key, entry) in &self.live {
            assert!(same(listed.get(&entry.id), Some((*key, *entry)), self.now), "{entry:?} {listed:?} {}", at());
        }
        let first = self.live.first_key_value().map(|((due, _), _)| Duration::from_nanos(due.saturating_sub(self.now)));
        let next = clock.next_due();
        // After a death it may be too early.
        let early = self.dirty && next.is_some_and(|next| first.is_none_or(|first| next <= first));
        assert!(next == first || early, "{next:?} instead of {first:?} {}", at());
        let stats = clock.stats().unwrap();
        self.dirty = false;
        assert_eq!((stats.live, stats.capacity), (self.live.len(), self.timer.capacity()), "{}", at());
        assert_eq!(clock.next_due(), first, "{}", at());
    }

    fn expire(&mut self, then: Then, at: Where<'_>) {
        let (clock, mut calls) = (self.clock(), 0);
        let called = clock
            .expire(|id, payload| {
                calls += 1;
                self.dirty = false;
                let ((due, age), mut entry) = self.live.pop_first().unwrap_or_else(|| panic!("{id:?} fired {}", at()));
                assert!(
                    due <= self.now && (entry.id, entry.payload) == (id, payload),
                    "{id:?} fired before {entry:?} {}",
                    at()
                );
                if let Some(missed) = (self.now - due).checked_div(entry.interval) {
                    entry.fired += 1;
                    self.live.insert((due + (missed + 1) * entry.interval, age), entry);
                }
                match then {
                    Then::Nothing => {}
                    Then::After(delay, payload) => self.add(delay, payload, false, at),
                    Then::Tick(delay, payload) => self.add(delay, payload, true, at),
                    Then::ClearIt => self.clear(id, at),
                    Then::Clear(n) => _ = self.pick(n).map(|id| self.clear(id, at)),
                    Then::Look => self.look(at),
                    Then::Die(noise) => self.die(noise),
                }
            })
            .unwrap();
        assert_eq!(called, calls, "{}", at());
        let first = self.live.first_key_value().map(|((due, _), _)| *due);
        assert!(first.is_none_or(|due| due > self.now), "the first of {:?} did not fire {}", self.live, at());
    }

    fn die(&mut self, noise: u8) {
        self.timer.perish(u64::from(noise)).unwrap();
        self.dirty = true;
    }

    fn play(&mut self, op: Op, at: Where<'_>) {
        match op {
            Op::After(delay, payload) => self.add(delay, payload, false, at),
            Op::Tick(delay, payload) => self.add(delay, payload, true, at),
            Op::Clear(n) => _ = self.pick(n).map(|id| self.clear(id, at)),
            // Not every time: there would never be many.
            Op::ClearAll(n) if n > 16 => self.look(at),
            Op::ClearAll(_) => {
                assert_eq!(self.timer.clear_all().unwrap(), self.live.len(), "{}", at());
                self.dirty = false;
                self.live.clear();
            }
            Op::Expire(then) => self.expire(then, at),
            Op::Later(delay) => self.now += delay.nanoseconds(),
            Op::UntilDue(just_before) => {
                if let Some(((due, _), _)) = self.live.first_key_value() {
                    self.now = self.now.max(due - u64::from(just_before));
                }
            }
            Op::Info(n) => _ = self.pick(n).map(|id| self.info(id, at)),
            Op::Look => self.look(at),
            Op::Die(noise) => self.die(noise),
        }
    }
}

fn same(seen: Option<&TimerInfo>, known: Option<((u64, u64), Entry)>, now: u64) -> bool {
    match (seen, known) {
        (None, None) => true,
        (Some(seen), Some(((due, _), entry))) => {
            let interval = (entry.interval > 0).then(|| Duration::from_nanos(entry.interval));
            seen.due == Duration::from_nanos(due.saturating_sub(now))
                && (seen.interval, seen.fired, seen.payload) == (interval, entry.fired, entry.payload)
        }
        _ => false,
    }
}

/// Plays `ops` on a timer with room for so many and on a map.
pub(crate) fn model(capacity: u8, ops: &[Op]) {
    let timer = Timer::new(CAPACITIES[usize::from(capacity) % CAPACITIES.len()]).unwrap();
    let mut model = Model { timer, now: BEGIN, live: BTreeMap::new(), ids: Vec::new(), dirty: false };
    for (n, op) in ops.iter().enumerate() {
        model.play(*op, &|| format!("operation {n} of {capacity} {ops:?}"));
    }
    let at: Where<'_> = &|| format!("after {capacity} {ops:?}");
    model.look(at);
    // All that are left fire, in order.
    model.now += 90_000_000 * MS;
    model.expire(Then::ClearIt, at);
    model.look(at);
}
