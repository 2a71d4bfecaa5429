//! Chaos: six processes work on locks, read-write locks, semaphores and numbers, and are killed, stopped and continued at random. The
//! ledger is exact: pairs of words are equal under their lock or its holder is told to repair them, counts are within what was in
//! flight, nobody hangs, and afterwards everything is free. COMMONS_CHAOS_SECS lengthens it, COMMONS_CHAOS_SEED repeats its dice.

mod common;

use std::time::{Duration, Instant};

use common::dice::Dice;
use common::{Child, in_child, note, until, until_within};
use commons::{Atomic, AtomicLong, Counter, Lock, RwLock, Semaphore, recover};
use rustix::process::Signal;

const WORKERS: usize = 6;
const KINDS: usize = 3;
const SEATS: u32 = 2;
const LONG: Duration = Duration::from_secs(30);

/// Two words that are equal whenever nobody writes them.
struct Pair {
    left: AtomicLong,
    right: AtomicLong,
}

impl Pair {
    fn new() -> Pair {
        Pair { left: AtomicLong::new(0).unwrap(), right: AtomicLong::new(0).unwrap() }
    }

    /// What a writer does: checks or repairs, then changes one after the other.
    fn write(&self, recovered: bool, dice: &mut Dice) {
        let (left, right) = (self.left.get(), self.right.get());
        if recovered {
            assert!(left == right || left == right + 1, "{left} {right}: more than one write was half done");
            self.right.set(left);
        } else {
            assert_eq!(left, right, "nobody died, and yet it is half written");
        }
        self.left.set(left + 1);
        if dice.roll(20) == 0 {
            std::thread::sleep(Duration::from_micros(dice.roll(300)));
        }
        self.right.set(left + 1);
    }

    fn read(&self, recovered: bool) {
        let (left, right) = (self.left.get(), self.right.get());
        assert!(left == right || recovered && left == right + 1, "{left} {right}, recovered: {recovered}");
    }
}

/// What one worker completed; one for each, over all its lives.
struct Done {
    writes: AtomicLong,
    steps: AtomicLong,
    added: AtomicLong,
}

struct World {
    locks: Vec<(Lock, Pair)>,
    rws: Vec<(RwLock, Pair)>,
    seats: Semaphore,
    bell: Atomic,
    counter: Counter,
    done: Vec<Done>,
}

impl World {
    fn new() -> World {
        let done = || Done {
            writes: AtomicLong::new(0).unwrap(),
            steps: AtomicLong::new(0).unwrap(),
            added: AtomicLong::new(0).unwrap(),
        };
        World {
            locks: (0..KINDS).map(|_| (Lock::new().unwrap(), Pair::new())).collect(),
            rws: (0..KINDS).map(|_| (RwLock::new().unwrap(), Pair::new())).collect(),
            seats: Semaphore::new(SEATS).unwrap(),
            bell: Atomic::new(0).unwrap(),
            counter: Counter::new().unwrap(),
            done: (0..WORKERS).map(|_| done()).collect(),
        }
    }

    fn work(&self, me: usize, seed: u64) {
        let mut dice = Dice::new(seed);
        loop {
            self.one(me, &mut dice);
            self.done[me].steps.add(1);
        }
    }

    fn one(&self, me: usize, dice: &mut Dice) {
        let soon = Duration::from_micros(dice.roll(2_000));
        let (lock, pair) = &self.locks[dice.roll(KINDS as u64) as usize];
        let (rw, rw_pair) = &self.rws[dice.roll(KINDS as u64) as usize];
        match dice.roll(10) {
            0 | 1 => {
                let guard = lock.lock_timeout(LONG).unwrap();
                pair.write(guard.recovered(), dice);
                self.done[me].writes.add(1);
            }
            2 => {
                if let Some(guard) = lock.try_lock().unwrap() {
                    pair.write(guard.recovered(), dice);
                    self.done[me].writes.add(1);
                }
            }
            3 => {
                if let Ok(guard) = lock.lock_timeout(soon) {
                    pair.write(guard.recovered(), dice);
                    self.done[me].writes.add(1);
                }
            }
            4 => {
                let guard = rw.write_timeout(LONG).unwrap();
                rw_pair.write(guard.recovered(), dice);
                self.done[me].writes.add(1);
            }
            5 | 6 => {
                let guard = rw.read_timeout(LONG).unwrap();
                rw_pair.read(guard.recovered());
            }
            7 => {
                if let Ok(guard) = rw.write_timeout(soon) {
                    rw_pair.write(guard.recovered(), dice);
                    self.done[me].writes.add(1);
                }
            }
            8 => {
                self.seats.acquire_timeout(LONG).unwrap();
                std::thread::sleep(Duration::from_micros(dice.roll(100)));
                self.seats.release().unwrap();
            }
            _ => {
                self.counter.add(1);
                self.done[me].added.add(1);
                if dice.roll(2) == 0 {
                    self.bell.wakeup(1 + dice.roll(3) as usize);
                } else {
                    self.bell.wait(Some(soon));
                }
            }
        }
    }

    fn spawn(&self, me: usize, seed: u64) -> Child {
        in_child(|| self.work(me, seed))
    }
}

fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

#[test]
fn six_processes_that_die_and_stop_at_random() {
    let (seconds, seed) = (setting("COMMONS_CHAOS_SECS", 8), setting("COMMONS_CHAOS_SEED", std::process::id().into()));
    note(&format!("COMMONS_CHAOS_SEED={seed} COMMONS_CHAOS_SECS={seconds}"));
    let world = World::new();
    let baseline = commons::harness::census();
    let mut dice = Dice::new(seed);
    let mut workers: Vec<Child> = (0..WORKERS).map(|i| world.spawn(i, dice.roll(1 << 40))).collect();
    let (mut kills, mut stops, mut dead) = (0, 0, Vec::new());
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        std::thread::sleep(Duration::from_micros(dice.roll(8_000)));
        let i = dice.roll(WORKERS as u64) as usize;
        if workers[i].is_zombie() {
            let mut worker = workers.remove(i);
            let exit = worker.wait();
            panic!("seed {seed}: worker {i} ended by itself: {exit:?} {}", worker.said());
        }
        match dice.roll(4) {
            0 => {
                stops += 1;
                workers[i].stop();
                std::thread::sleep(Duration::from_micros(dice.roll(40_000)));
                workers[i].cont();
            }
            // Now and then, stopped first: one that was woken, perhaps, and never ran.
            1 => {
                workers[i].stop();
                std::thread::sleep(Duration::from_micros(dice.roll(3_000)));
                kills += 1;
                dead.push(workers[i].pid());
                replace(&world, &mut workers, i, &mut dice);
            }
            _ => {
                kills += 1;
                dead.push(workers[i].pid());
                replace(&world, &mut workers, i, &mut dice);
            }
        }
    }
    // Nobody hangs: each of them gets on.
    let before: Vec<_> = world.done.iter().map(|done| done.steps.get()).collect();
    for (i, before) in before.iter().enumerate() {
        let what = format!("seed {seed}: worker {i} gets on");
        until_within(LONG, &what, || workers[i].is_zombie() || world.done[i].steps.get() > before + 5);
    }
    for (i, worker) in workers.iter_mut().enumerate() {
        assert!(!worker.is_zombie(), "seed {seed}: worker {i} ended by itself: {:?} {}", worker.wait(), worker.said());
    }
    workers.iter().for_each(|worker| worker.signal(Signal::KILL));
    for worker in &workers {
        worker.until_dead();
        recover(worker.pid()).unwrap();
        kills += 1;
    }
    drop(workers);
    judge(&world, kills);
    // Of those who were only reaped, some still have their slots, for nobody had a use for them.
    dead.iter().for_each(|pid| drop(recover(*pid)));
    until("all slots are free again", || commons::harness::census() <= baseline + 1);
    let steps: i64 = world.done.iter().map(|done| done.steps.get()).sum();
    note(&format!("{steps} steps, {kills} kills, {stops} stops"));
    assert!(steps > 1_000 && kills > 50, "{steps} steps, {kills} kills: too little happened to prove anything");
}

/// Kills one and starts another in its place: with a manager's care, without any, or late.
fn replace(world: &World, workers: &mut [Child], i: usize, dice: &mut Dice) {
    workers[i].kill();
    if dice.roll(2) == 0 {
        recover(workers[i].pid()).unwrap();
    } else if dice.roll(2) == 0 {
        std::thread::sleep(Duration::from_micros(dice.roll(30_000)));
    }
    workers[i] = world.spawn(i, dice.roll(1 << 40));
}

fn judge(world: &World, kills: i64) {
    let mut written = 0;
    for (lock, pair) in &world.locks {
        let guard = lock.try_lock().unwrap().expect("all owners are dead");
        let (left, right) = (pair.left.get(), pair.right.get());
        assert!(left == right || guard.recovered() && left == right + 1, "{left} {right}");
        written += left;
    }
    for (rw, pair) in &world.rws {
        let guard = rw.try_write().unwrap().expect("all owners are dead");
        let (left, right) = (pair.left.get(), pair.right.get());
        assert!(left == right || guard.recovered() && left == right + 1, "{left} {right}");
        written += left;
    }
    let noted: i64 = world.done.iter().map(|done| done.writes.get()).sum();
    assert!((noted..=noted + kills).contains(&written), "{written} writes, {noted} noted, {kills} kills");
    let added: i64 = world.done.iter().map(|done| done.added.get()).sum();
    let count = world.counter.get();
    assert!((added..=added + kills).contains(&count), "counted {count}, {added} noted, {kills} kills");
    let free = (0..=SEATS).take_while(|_| world.seats.try_acquire().unwrap()).count();
    assert_eq!(free, SEATS as usize, "every permit is back, and none more");
    assert!(world.bell.get() <= 1, "wake-ups for nobody leave at most one");
}
