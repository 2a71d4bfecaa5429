//! The map that the table is compared with: what each operation has to answer, and what is there afterwards.

use super::*;

/// Which keys an operation writes to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    Absent,
    Present,
}

#[derive(Clone, Debug, Default)]
struct Have {
    vals: Vals,
    expired: bool,
}

/// What is to be answered: by a write, what it does; else the errors of which one will do.
type Foreseen = Result<Option<Outcome>, Vec<&'static str>>;

pub(super) struct Map {
    shape: Shape,
    rows: HashMap<Vec<u8>, Have>,
    stats: TableStats,
    /// With one bucket: the rows that found no place in it. None once it cannot be told.
    tree: Option<HashSet<Vec<u8>>>,
    deaths: u64,
}

impl Map {
    pub(super) fn new(shape: Shape) -> Map {
        let tree = shape.one_bucket.then(HashSet::new);
        Map { shape, rows: HashMap::new(), stats: TableStats::default(), tree, deaths: 0 }
    }

    fn live(&self, key: &[u8]) -> Option<&Vals> {
        self.rows.get(key).filter(|have| !have.expired).map(|have| &have.vals)
    }

    fn expired(&self) -> Vec<Vec<u8>> {
        self.rows.iter().filter(|(_, have)| have.expired).map(|(key, _)| key.clone()).collect()
    }

    fn foresee(&self, key: &[u8], when: When, wrong: Vec<&'static str>) -> Foreseen {
        let wrong: Vec<_> = wrong.into_iter().chain(wrong_key(key)).collect();
        if !wrong.is_empty() {
            return Err(wrong);
        }
        match (self.live(key).is_some(), when) {
            (true, When::Absent) | (false, When::Present) => Ok(None),
            (true, _) => Ok(Some(Outcome::Updated)),
            (false, _) if self.has_room_for(key) => Ok(Some(Outcome::Inserted)),
            (false, _) => Err(vec!["full"]),
        }
    }

    fn has_room_for(&self, key: &[u8]) -> bool {
        let made = self.shape.lru || self.rows.values().any(|have| have.expired);
        self.rows.contains_key(key) || self.rows.len() < self.shape.rows() || made
    }

    /// Takes over what a write has done.
    fn write(&mut self, world: &World, key: &[u8], outcome: Outcome, change: impl FnOnce(&mut Have)) {
        if outcome == Outcome::Inserted {
            match self.rows.get_mut(key) {
                Some(expired) => {
                    *expired = Have::default();
                    self.stats.deletes += 1;
                }
                None => {
                    self.make_room(world, key);
                    self.rows.insert(key.to_vec(), Have::default());
                    self.link(key);
                }
            }
            self.stats.inserts += 1;
        } else {
            self.stats.updates += 1;
        }
        change(self.rows.get_mut(key).unwrap());
    }

    fn link(&mut self, key: &[u8]) {
        let Some(tree) = &mut self.tree else { return };
        if self.rows.len() - tree.len() > PLACES {
            tree.insert(key.to_vec());
            self.stats.collisions += 1;
            self.stats.longest_chain = self.stats.longest_chain.max(tree.len() as u64);
        }
    }

    fn remove(&mut self, key: &[u8]) {
        if self.rows.remove(key).is_some() {
            self.stats.deletes += 1;
            if let Some(tree) = &mut self.tree {
                tree.remove(key);
            }
        }
    }

    /// An insertion of `key` has succeeded: if the table was full, one row has gone for it.
    fn make_room(&mut self, world: &World, key: &[u8]) {
        if self.rows.len() < self.shape.rows() {
            return;
        }
        if !self.expired().is_empty() {
            self.find_reclaimed(world, 1);
            return;
        }
        let gone: Vec<_> = self.rows.keys().filter(|other| !world.table.exists(other)).cloned().collect();
        assert_eq!(gone.len(), 1, "evicted for {key:?}: {gone:?}");
        self.remove(&gone[0]);
    }

    /// `gone` of the expired rows have been reclaimed. If that leaves some, nobody can see which, so they are deleted as well: the figures tell
    /// whether they were there.
    fn find_reclaimed(&mut self, world: &World, gone: usize) {
        let expired = self.expired();
        assert!(gone <= expired.len(), "{gone} reclaimed of {expired:?}");
        if gone == 0 {
            return;
        }
        let before = world.table.stats().deletes;
        expired.iter().for_each(|key| assert!(!world.table.del(key)));
        assert_eq!(
            world.table.stats().deletes - before,
            (expired.len() - gone) as u64,
            "reclaimed {gone} of {expired:?}"
        );
        if gone < expired.len() {
            // A new row may have come to stand where one of these stood, in the bucket or in the tree.
            self.tree = None;
        }
        expired.iter().for_each(|key| self.remove(key));
    }

    fn judge(
        &mut self,
        world: &World,
        key: &[u8],
        told: (Foreseen, Result<Option<Outcome>, Error>),
        at: Where<'_>,
        change: impl FnOnce(&mut Have),
    ) {
        match told {
            (Ok(foreseen), Ok(got)) if foreseen == got => {
                if let Some(outcome) = got {
                    self.write(world, key, outcome, change);
                }
            }
            (Err(kinds), Err(error)) if kinds.contains(&kind(&error)) => self.look(world, at),
            (foreseen, got) => panic!("{got:?}, not {foreseen:?}: {}", at()),
        }
    }

    pub(super) fn play(&mut self, world: &World, op: Op, at: Where<'_>) {
        let table = &world.table;
        let known = |done: bool, outcome| done.then_some(outcome);
        match op {
            Op::Set(k, put) => self.put(world, k, put, When::Always, at),
            Op::Add(k, put) => self.put(world, k, put, When::Absent, at),
            Op::Update(k, put) => self.put(world, k, put, When::Present, at),
            Op::Cmpset(k, want, put) => {
                let (key, columns, vals) = (key(k), put.columns(), put.vals());
                let (wanted, fits) = self.wanted(&key, want);
                let all = [wrong(columns, &vals), wrong(want.put.columns(), &wanted)].concat();
                let foreseen = self.foresee(&key, When::Present, all).map(|outcome| outcome.filter(|_| fits));
                let expected = world.cells(want.put.columns(), &wanted);
                let got = table.cmpset(&key, &expected, &world.cells(columns, &vals));
                let got = got.map(|done| known(done, Outcome::Updated));
                self.judge(world, &key, (foreseen, got), at, |have| have.vals.take_over(columns, &vals));
            }
            Op::Cmpdel(k, want) => {
                let key = key(k);
                let (wanted, fits) = self.wanted(&key, want);
                let foreseen = self.foresee(&key, When::Present, wrong(want.put.columns(), &wanted));
                let got = table.cmpdel(&key, &world.cells(want.put.columns(), &wanted));
                match (foreseen, got) {
                    (Ok(foreseen), Ok(got)) => {
                        assert_eq!(got, foreseen.is_some() && fits, "{}", at());
                        // One that has expired goes as well.
                        if got || foreseen.is_none() {
                            self.remove(&key);
                        }
                    }
                    (Err(kinds), Err(error)) if kinds.contains(&kind(&error)) => self.look(world, at),
                    (foreseen, got) => panic!("{got:?}, not {foreseen:?}: {}", at()),
                }
            }
            Op::Get(k) => {
                let key = key(k);
                world.shows(&key, self.live(&key), at)
            }
            Op::GetMany(first, step) => {
                let keys: Vec<_> = (0..40).map(|n: u8| key(first.wrapping_add(step.wrapping_mul(n)))).collect();
                let mut next = 0;
                table.get_many(&keys, |n, row| {
                    assert_eq!((n, row.map(|row| world.vals(row)).as_ref()), (next, self.live(&keys[n])), "{}", at());
                    next += 1;
                });
                assert_eq!(next, keys.len());
            }
            Op::Incr(k, by) => {
                let (key, by) = (key(k), i64::from(by).wrapping_mul(i64::MAX / 100));
                let foreseen = self.foresee(&key, When::Always, Vec::new());
                let sum = self.live(&key).map_or(0, |vals| vals.hits).wrapping_add(by);
                let got = table.incr(&key, world.hits, by).map(|got| assert_eq!(got, sum, "{}", at()));
                let got = got.map(|()| foreseen.as_ref().ok().copied().flatten());
                self.judge(world, &key, (foreseen, got), at, |have| have.vals.hits = sum);
            }
            Op::Decr(k, by) => {
                let (key, by) = (key(k), f64::from(by) / 8.0);
                let foreseen = self.foresee(&key, When::Always, Vec::new());
                let sum = f64::from_bits(self.live(&key).map_or(0, |vals| vals.score)) - by;
                let got = table.decr(&key, world.score, by);
                let got = got.map(|got| assert_eq!(got.to_bits(), sum.to_bits(), "{}", at()));
                let got = got.map(|()| foreseen.as_ref().ok().copied().flatten());
                self.judge(world, &key, (foreseen, got), at, |have| have.vals.score = sum.to_bits());
            }
            Op::UpdateWith(k, put) => self.with(world, k, put, When::Present, at),
            Op::UpsertWith(k, put) => self.with(world, k, put, When::Always, at),
            Op::Take(k) => {
                let key = key(k);
                assert_eq!(table.take(&key).map(|row| world.vals(&row)).as_ref(), self.live(&key), "{}", at());
                self.remove(&key);
            }
            Op::Del(k) => {
                let key = key(k);
                let told = table.try_del(&key).map_err(|error| kind(&error));
                assert_eq!(told, wrong_key(&key).map_or(Ok(self.live(&key).is_some()), Err), "{}", at());
                self.remove(&key);
            }
            Op::SetTtl(k, put, now) => {
                let (key, columns, vals) = (key(k), put.columns(), put.vals());
                let mut foreseen = self.foresee(&key, When::Always, wrong(columns, &vals));
                if !self.shape.ttl {
                    foreseen = Err(vec!["not enabled"]);
                }
                let after = if now { Duration::ZERO } else { LONG };
                let got = table.set_ttl(&key, &world.cells(columns, &vals), after).map(Some);
                self.judge(world, &key, (foreseen, got), at, |have| {
                    have.vals.take_over(columns, &vals);
                    have.expired = now;
                });
            }
            Op::ExpireAt(k, due) => {
                let key = key(k);
                let mut foreseen = self.foresee(&key, When::Present, Vec::new());
                if !self.shape.ttl {
                    foreseen = Err(vec!["not enabled"]);
                }
                let instant = match due {
                    Due::Never => None,
                    Due::Now => Some(Instant::now()),
                    Due::Later => Some(Instant::now() + LONG),
                };
                let got = table.expire_at(&key, instant).map(|done| known(done, Outcome::Updated));
                self.judge(world, &key, (foreseen, got), at, |have| have.expired = matches!(due, Due::Now));
            }
            Op::Purge(budget) => match table.purge(budget.into()) {
                Ok(gone) => {
                    let all = self.expired().len();
                    assert!(gone <= all.min(budget.into()), "{gone} of {all} reclaimed: {}", at());
                    assert!(gone == all || usize::from(budget) < self.shape.rows(), "{gone} of {all}: {}", at());
                    self.find_reclaimed(world, gone);
                }
                Err(error) => assert!(kind(&error) == "not enabled" && !self.shape.ttl, "{error}: {}", at()),
            },
            Op::Look => self.look(world, at),
            Op::Inside(k, other) => {
                let (key, other) = (key(k), key(other));
                let foreseen = self.foresee(&key, When::Present, Vec::new());
                let inside = table.clone();
                let got = table.update_with(&key, |_| {
                    let refused = |error: Error| {
                        assert!(matches!(
                            error,
                            Error::WouldDeadlock { .. } | Error::EmptyKey | Error::KeyTooLong { .. }
                        ))
                    };
                    inside.set(&other, &[]).map(|_| ()).map_err(refused).unwrap_err();
                    inside.incr(&other, world.hits, 1).map(|_| ()).map_err(refused).unwrap_err();
                    inside.try_take(&other).map(|_| ()).map_err(refused).unwrap_err();
                    assert!(!inside.exists(&other) && inside.get(&other).is_none() && inside.iter().next().is_none());
                });
                let got = got.map(|done| known(done.is_some(), Outcome::Updated));
                self.judge(world, &key, (foreseen, got), at, |_| {});
            }
            Op::DieInUpdate(k, put) => self.die(world, k, put, When::Present, at),
            Op::DieInUpsert(k, put) => self.die(world, k, put, When::Always, at),
        }
    }

    fn put(&mut self, world: &World, k: u8, put: Put, when: When, at: Where<'_>) {
        let (key, columns, vals) = (key(k), put.columns(), put.vals());
        let foreseen = self.foresee(&key, when, wrong(columns, &vals));
        let cells = world.cells(columns, &vals);
        let got = match when {
            When::Always => world.table.set(&key, &cells).map(Some),
            When::Absent => world.table.add(&key, &cells).map(|done| done.then_some(Outcome::Inserted)),
            When::Present => world.table.update(&key, &cells).map(|done| done.then_some(Outcome::Updated)),
        };
        self.judge(world, &key, (foreseen, got), at, |have| have.vals.take_over(columns, &vals));
    }

    fn wanted(&self, key: &[u8], want: Want) -> (Vals, bool) {
        let has = self.live(key).cloned().unwrap_or_default();
        let wanted = if want.as_it_is { has.clone() } else { want.put.vals() };
        let fits = has.holds(want.put.columns(), &wanted);
        (wanted, fits)
    }

    /// A closure that sees what is there and sets some columns.
    fn with(&mut self, world: &World, k: u8, put: Put, when: When, at: Where<'_>) {
        let (key, columns, vals) = (key(k), put.columns() & !TWICE, put.vals());
        let mut foreseen = self.foresee(&key, when, Vec::new());
        let seen = self.live(&key).cloned().unwrap_or_default();
        let change = |row: &mut RowMut<'_>| {
            assert_eq!(world.vals_in(row), seen, "{}", at());
            world.set_in(row, columns, &vals);
        };
        let got = match when {
            When::Present => world.table.update_with(&key, change).map(|done| done.is_some()),
            _ => world.table.upsert_with(&key, change).map(|()| true),
        };
        // What a closure does wrong is known when it has run; room has been made for it by then.
        if let Ok(Some(outcome)) = foreseen
            && !wrong(columns, &vals).is_empty()
        {
            if outcome == Outcome::Inserted && !self.rows.contains_key(&key) {
                self.make_room(world, &key);
            }
            foreseen = Err(wrong(columns, &vals));
        }
        let outcome = foreseen.as_ref().ok().copied().flatten();
        let got = got.map(|done| outcome.filter(|_| done));
        self.judge(world, &key, (foreseen, got), at, |have| have.vals.take_over(columns, &vals));
    }

    /// The same, and the thread dies in it.
    fn die(&mut self, world: &World, k: u8, put: Put, when: When, at: Where<'_>) {
        let key = key(k);
        let foreseen = self.foresee(&key, when, Vec::new());
        let change = |row: &mut RowMut<'_>| {
            world.set_in(row, put.columns() & 15, &put.vals());
            commons::harness::leave();
        };
        let got = match when {
            When::Present => world.table.update_with(&key, change).map(|done| done.is_some()),
            _ => world.table.upsert_with(&key, change).map(|()| true),
        };
        match (foreseen, got.map_err(|error| kind(&error))) {
            (Ok(Some(outcome)), Err("died")) => {
                self.deaths += 1;
                if outcome == Outcome::Inserted && !self.rows.contains_key(&key) {
                    self.make_room(world, &key);
                }
            }
            (Ok(None), Ok(false)) => {}
            (Err(kinds), Err(error)) if kinds.contains(&error) => self.look(world, at),
            (foreseen, got) => panic!("{got:?}, not {foreseen:?}: {}", at()),
        }
    }

    /// Everything that can be seen. Looking at every key settles what the dead have left.
    pub(super) fn look(&mut self, world: &World, at: Where<'_>) {
        (0..KEYS).map(key).for_each(|key| world.shows(&key, self.live(&key), at));
        let mut seen: Vec<_> = world.table.iter().map(|(key, row)| (key.to_vec(), world.vals(&row))).collect();
        let live = self.rows.iter().filter(|(_, have)| !have.expired);
        let mut wanted: Vec<_> = live.map(|(key, have)| (key.clone(), have.vals.clone())).collect();
        seen.sort_by(|a, b| a.0.cmp(&b.0));
        wanted.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(seen, wanted, "{}", at());
        let stats = world.table.stats();
        self.stats.rows = self.rows.len() as u64;
        self.stats.recoveries = self.deaths;
        if self.tree.is_none() {
            (self.stats.collisions, self.stats.longest_chain) = (stats.collisions, stats.longest_chain);
        }
        assert_eq!((stats, world.table.len()), (self.stats, self.rows.len()), "{}", at());
    }
}
