//! Tables between processes: four of them do everything there is to do and are killed and stopped at random, and a ledger judges what they leave.
//! COMMONS_CHAOS_SECS lengthens it, COMMONS_CHAOS_SEED repeats its dice.

mod common;
mod ledger;

use std::time::{Duration, Instant};

use common::dice::Dice;
use common::{Child, in_child, note, until_within};
use commons::{Error, Outcome, Row, recover};
use ledger::{Numbers, Thrice, setting, text};

const WORKERS: usize = 4;
const LONG: Duration = Duration::from_secs(30);

/// Rows that all write and remove.
const COMMON: u64 = 40;
/// Rows that nobody touches.
const STABLE: i64 = 10;
/// Counters.
const COUNTERS: usize = 4;
/// Rows that each worker has for itself.
const OWN: u64 = 12;
/// As many as there are names in use: whoever is told that the table is full has found a row lost.
const CAPACITY: usize = COMMON as usize + STABLE as usize + COUNTERS + WORKERS * OWN as usize;
/// About the most that one counter is counted up to.
const TICKS: usize = 1 << 22;

struct World {
    rows: Thrice,
    /// How often each value of each counter was the result of an `incr`.
    seen: Vec<Numbers>,
    /// For each worker: the counter that it is at, or 0; steps; insertions, changes and removals that it was told of.
    at: Numbers,
    steps: Numbers,
    told: Numbers,
}

const INSERTED: usize = 0;
const UPDATED: usize = 1;
const DELETED: usize = 2;

impl World {
    fn new(buckets: usize) -> World {
        let rows = Thrice::new(CAPACITY, buckets);
        (1..=STABLE).for_each(|n| _ = rows.set(&format!("stable {n}"), n));
        World {
            rows,
            seen: (0..COUNTERS).map(|_| Numbers::new(TICKS)).collect(),
            at: Numbers::new(WORKERS),
            steps: Numbers::new(WORKERS),
            told: Numbers::new(3),
        }
    }

    fn tell(&self, what: usize) {
        self.told.add(what, 1);
    }

    fn work(&self, me: usize, seed: u64) {
        let mut dice = Dice::new(seed);
        let mut row = self.rows.table.row();
        loop {
            self.one(me, &mut dice, &mut row);
            self.steps.add(me, 1);
        }
    }

    fn one(&self, me: usize, dice: &mut Dice, row: &mut Row) {
        let table = &self.rows.table;
        let shared = format!("common {}", dice.roll(COMMON));
        let own = format!("own {me} {}", dice.roll(OWN));
        let key = if dice.roll(3) == 0 { own } else { shared };
        let n = 1 + dice.roll(1 << 20) as i64;
        let (col, half, words) = (self.rows.n, self.rows.half, text(n));
        let cells = [col.is(n), half.is(n as f64 / 2.0), self.rows.text.is(&words)];
        let told = |done: bool, what| {
            if done {
                self.tell(what)
            }
        };
        match dice.roll(16) {
            0..4 => self.count(me, dice),
            4 | 5 => match self.rows.set(&key, n) {
                Outcome::Inserted => self.tell(INSERTED),
                Outcome::Updated => self.tell(UPDATED),
            },
            6 => told(table.add(&key, &cells).unwrap(), INSERTED),
            7 => {
                let done = table.update_with(&key, |row| self.rows.write(row, n)).unwrap();
                told(done.is_some(), UPDATED);
            }
            8 => {
                // What it was before says which of the two it is.
                let new = table.upsert_with(&key, |row| {
                    let new = row.get(col) == 0;
                    self.rows.write(row, n);
                    new
                });
                self.tell(if new.unwrap() { INSERTED } else { UPDATED });
            }
            9 => told(table.del(&key), DELETED),
            10 => {
                let taken = table.take(&key).map(|row| self.rows.whole(&row));
                told(taken.is_some(), DELETED);
            }
            11 => {
                let Some(old) = table.get(&key).map(|row| self.rows.whole(&row)) else { return };
                told(table.cmpset(&key, &[col.is(old), self.rows.text.is(&text(old))], &cells).unwrap(), UPDATED);
            }
            12 => {
                let Some(old) = table.value(&key, col) else { return };
                told(table.cmpdel(&key, &[col.is(old)]).unwrap(), DELETED);
            }
            13 => {
                if table.get_into(&key, row) {
                    self.rows.whole(row);
                }
                assert_eq!(self.rows.whole(&table.get("stable 3").unwrap()), 3);
            }
            14 => {
                let keys: Vec<_> = (0..COMMON).map(|n| format!("common {n}")).collect();
                table.get_many(&keys, |_, row| _ = row.map(|row| self.rows.whole(row)));
            }
            _ => self.scan(),
        }
    }

    fn count(&self, me: usize, dice: &mut Dice) {
        let which = dice.roll(COUNTERS as u64) as usize;
        let counter = format!("counter {which}");
        if self.rows.table.value(&counter, self.rows.n).is_some_and(|n| n as usize > TICKS - 100) {
            return; // the ledger is full of it
        }
        self.at.set(me, which as u64 + 1);
        // A counter's other columns stay empty, so its rows are not like the others.
        let now = self.rows.table.incr(counter, self.rows.n, 1).unwrap();
        self.seen[which].add(now as usize, 1);
        self.at.set(me, 0);
        self.tell(if now == 1 { INSERTED } else { UPDATED });
    }

    /// Each row that is there all the time is met exactly once, and every row is whole.
    fn scan(&self) {
        let mut met = 0_u64;
        for (key, row) in &self.rows.table {
            let key = key.as_str().unwrap();
            if key.starts_with("counter") {
                continue;
            }
            let n = self.rows.whole(&row);
            if key.starts_with("stable") {
                assert_eq!(met & 1 << n, 0, "{key} twice");
                met |= 1 << n;
            }
        }
        assert_eq!(met, (1 << (STABLE + 1)) - 2, "stable rows");
    }

    fn spawn(&self, me: usize, seed: u64) -> Child {
        in_child(|| self.work(me, seed))
    }
}

/// Four processes at everything, with a manager that recovers the dead or without one.
fn chaos(managed: bool, buckets: usize) {
    let (seconds, seed) = (setting("COMMONS_CHAOS_SECS", 4), setting("COMMONS_CHAOS_SEED", std::process::id().into()));
    note(&format!("COMMONS_CHAOS_SEED={seed} COMMONS_CHAOS_SECS={seconds} managed: {managed}, {buckets} buckets"));
    let world = World::new(buckets);
    let mut dice = Dice::new(seed);
    let mut workers: Vec<Child> = (0..WORKERS).map(|i| world.spawn(i, dice.roll(1 << 40))).collect();
    let (mut kills, mut stops) = (0, 0);
    // Ticks that somebody was at when it was killed, and may not have noted.
    let mut lost = [0; COUNTERS];
    let mut kill = |worker: &mut Child, i: usize| {
        worker.kill();
        if let Some(which) = (world.at.get(i) as usize).checked_sub(1) {
            lost[which] += 1;
            world.at.set(i, 0);
        }
        if managed {
            recover(worker.pid()).unwrap();
        }
        kills += 1;
    };
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        std::thread::sleep(Duration::from_micros(dice.roll(6_000)));
        let i = dice.roll(WORKERS as u64) as usize;
        if workers[i].is_zombie() {
            let exit = workers[i].wait();
            panic!("seed {seed}: worker {i} ended by itself: {exit:?} {}", workers[i].said());
        }
        if dice.roll(5) == 0 {
            stops += 1;
            workers[i].stop();
            std::thread::sleep(Duration::from_micros(dice.roll(10_000)));
            workers[i].cont();
        } else {
            kill(&mut workers[i], i);
            workers[i] = world.spawn(i, dice.roll(1 << 40));
        }
    }
    // Nobody hangs: each of them gets on.
    for (i, worker) in workers.iter().enumerate() {
        let before = world.steps.get(i);
        let what = format!("seed {seed}: worker {i} gets on");
        until_within(LONG, &what, || worker.is_zombie() || world.steps.get(i) > before + 5);
    }
    for (i, worker) in workers.iter_mut().enumerate() {
        assert!(!worker.is_zombie(), "seed {seed}: worker {i} ended by itself: {:?} {}", worker.wait(), worker.said());
        kill(worker, i);
    }
    drop(workers);
    judge(&world, kills, &lost);
    let steps: u64 = (0..WORKERS).map(|i| world.steps.get(i)).sum();
    let stats = world.rows.table.stats();
    note(&format!("{steps} steps, {kills} kills, {stops} stops, {} recoveries", stats.recoveries));
    assert!(
        steps > 1_000 && kills > 5 * seconds,
        "{steps} steps, {kills} kills: too little happened to prove anything"
    );
}

fn judge(world: &World, kills: u64, lost: &[u64; COUNTERS]) {
    let table = &world.rows.table;
    world.scan();
    // Counters: no value twice, none left out but by one who died before it could note it, none beyond the last.
    for (which, lost) in lost.iter().enumerate() {
        let last = table.value(format!("counter {which}"), world.rows.n).unwrap_or(0) as usize;
        assert!(last < TICKS, "counter {which} was counted beyond the ledger");
        let seen = &world.seen[which];
        assert!((1..=last).all(|n| seen.get(n) <= 1), "counter {which}: a value twice");
        assert!((last + 1..TICKS).all(|n| seen.get(n) == 0), "counter {which}: values beyond {last}");
        let missing = (1..=last).filter(|n| seen.get(*n) == 0).count() as u64;
        assert!(missing <= *lost, "counter {which}: {missing} of {last} were never returned, {lost} died at it");
    }
    // The figures say what is there, and what was told and may have been about to be.
    let rows = table.iter().count();
    let stats = table.stats();
    assert_eq!((table.len(), stats.rows, stats.inserts - stats.deletes), (rows, rows as u64, rows as u64));
    for (figure, what, before) in
        [(stats.inserts, INSERTED, STABLE as u64), (stats.updates, UPDATED, 0), (stats.deletes, DELETED, 0)]
    {
        let told = world.told.get(what) + before;
        assert!((told..=told + kills).contains(&figure), "{figure}, told {told}, {kills} kills, {stats:?}");
    }
    // Not a row has been lost or doubled: exactly as many as were promised, twice.
    for round in ["first", "second"] {
        let keys: Vec<_> = table.iter().map(|(key, _)| key).collect();
        keys.iter().for_each(|key| assert!(table.del(key)));
        assert_eq!((table.len(), table.iter().count()), (0, 0));
        (0..CAPACITY as i64).for_each(|n| assert_eq!(world.rows.set(&format!("{round} {n}"), n), Outcome::Inserted));
        assert!(matches!(table.set("more", &[]), Err(Error::Full { capacity: CAPACITY })));
        assert_eq!((table.len(), table.iter().count()), (CAPACITY, CAPACITY));
    }
}

#[test]
fn four_processes_die_at_random_and_a_manager_recovers_them() {
    chaos(true, 25);
}

#[test]
fn four_processes_die_at_random_and_nobody_cares() {
    chaos(false, 25);
}

#[test]
fn four_processes_die_at_random_in_one_bucket() {
    chaos(false, 1);
}
