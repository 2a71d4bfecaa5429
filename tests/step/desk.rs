//! A table in the world of one operation, and all that may be seen of it: as it was, and as it is after each instant at which something
//! happens.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use commons::{Column, Error, Outcome, Schema, Table, TableBuilder, TableStats};

use crate::image::word_at;
use crate::kit::{self, report};
use crate::op::Op;
use crate::world::World;

/// The columns of a row.
pub type Content = (i64, f64, String);

/// A table as others see it.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub rows: BTreeMap<String, Content>,
    /// Rows whose time is over and that nobody has reclaimed.
    pub ghosts: usize,
    /// But for the recoveries.
    pub figures: TableStats,
}

impl State {
    pub fn insert(&mut self, key: &str, hits: i64, score: f64, name: &str) {
        let old = self.rows.insert(key.to_owned(), (hits, score, name.to_owned()));
        assert!(old.is_none(), "{key} was there");
        self.figures.inserts += 1;
        self.figures.rows += 1;
    }
    pub fn update(&mut self, key: &str, change: impl FnOnce(&mut Content)) {
        change(self.rows.get_mut(key).expect("it is there"));
        self.figures.updates += 1;
    }
    pub fn remove(&mut self, key: &str) {
        assert!(self.rows.remove(key).is_some(), "{key} was not there");
        self.figures.deletes += 1;
        self.figures.rows -= 1;
    }
    /// One whose time was over is reclaimed.
    pub fn lay(&mut self) {
        self.ghosts -= 1;
        self.figures.deletes += 1;
        self.figures.rows -= 1;
    }
    /// The time of a row is over.
    pub fn expire(&mut self, key: &str) {
        assert!(self.rows.remove(key).is_some(), "{key} was not there");
        self.ghosts += 1;
        self.figures.updates += 1;
    }
    /// The last insertion found no place, and is the `n`th in the tree.
    pub fn collide(&mut self, n: u64) {
        self.figures.collisions += 1;
        self.figures.longest_chain = self.figures.longest_chain.max(n);
    }
}

/// What is done to a table, and what is to come of it.
pub struct Plan {
    name: &'static str,
    act: fn(&Desk) -> u64,
    shape: fn(TableBuilder) -> TableBuilder,
    arrange: fn(&Desk),
    pub returns: u64,
    then: Vec<fn(&Desk, &mut State)>,
    /// Somebody does this first, and dies in it.
    before: Option<fn(&Desk)>,
    focus: fn(&Desk) -> &str,
    unseated: bool,
    /// Whoever comes by brings a row of its own.
    pub brings: bool,
    sorted: bool,
    /// It is never full, for rows are evicted.
    pub evicts: bool,
    /// There is more than one bucket.
    pub apart: bool,
    rescue: fn(&World),
}

pub const INSERTED: u64 = 11;
pub const UPDATED: u64 = 12;
pub const FULL: u64 = 13;
pub const FAILED: u64 = 14;

/// The outcome of a write as a number.
pub fn outcome(result: commons::Result<Outcome>) -> u64 {
    match result {
        Ok(Outcome::Inserted) => INSERTED,
        Ok(Outcome::Updated) => UPDATED,
        Err(Error::Full { .. }) => FULL,
        Err(_) => FAILED,
    }
}

/// One of several results as a number.
pub fn number<T: Into<u64>>(result: commons::Result<T>) -> u64 {
    result.map_or(FAILED, Into::into)
}

/// Room for eight rows, all in one bucket.
fn small(builder: TableBuilder) -> TableBuilder {
    builder.capacity(8).buckets(1)
}

impl Plan {
    pub fn new(name: &'static str, returns: u64, act: fn(&Desk) -> u64) -> Plan {
        Plan {
            name,
            act,
            shape: small,
            arrange: |_| {},
            returns,
            then: Vec::new(),
            before: None,
            focus: |_| "k",
            unseated: false,
            brings: false,
            sorted: false,
            evicts: false,
            apart: false,
            rescue: reads,
        }
    }
    pub fn shape(self, shape: fn(TableBuilder) -> TableBuilder) -> Plan {
        Plan { shape, ..self }
    }
    pub fn arrange(self, arrange: fn(&Desk)) -> Plan {
        Plan { arrange, ..self }
    }
    /// What the next instant changes at which anything happens.
    pub fn then(mut self, then: fn(&Desk, &mut State)) -> Plan {
        self.then.push(then);
        self
    }
    pub fn before(self, before: fn(&Desk)) -> Plan {
        Plan { before: Some(before), ..self }
    }
    /// The key that others ask for first.
    pub fn focus(self, focus: fn(&Desk) -> &str) -> Plan {
        Plan { focus, ..self }
    }
    pub fn unseated(self) -> Plan {
        Plan { unseated: true, ..self }
    }
    /// With keys in the order of their hashes: [`Desk::keys`].
    pub fn sorted(self) -> Plan {
        Plan { sorted: true, ..self }
    }
    pub fn evicts(self) -> Plan {
        Plan { evicts: true, ..self }
    }
    /// With two buckets, and room for four rows in both: the keys are of the one, the spares of the other.
    pub fn apart(self) -> Plan {
        Plan { apart: true, sorted: true, ..self.shape(|b| b.capacity(4).buckets(2)) }
    }
    pub fn rescue(self, rescue: fn(&World)) -> Plan {
        Plan { rescue, ..self }
    }
    /// Whoever comes by brings a row of its own, in another bucket, and finds room for it only where the dead have left it.
    pub fn rescued_by_an_insertion(self) -> Plan {
        Plan { brings: true, ..self.rescue(brings) }
    }

    pub fn op(self) -> Op {
        let (rescue, last, name) = (self.rescue, self.then.len() as u64, self.name);
        let plan = Rc::new(self);
        Op::new(name, child, crate::desk_check::check)
            .arrange(move |world| Desk::set_up(&plan, world))
            .alive(crate::desk_check::alive)
            .rescue(rescue)
            .last(last)
    }
}

fn child(world: &World) -> crate::op::Act<'_> {
    let desk = world.desk();
    if !desk.plan.unseated {
        world.sit_down();
    }
    Box::new(move || report((desk.plan.act)(desk)))
}

/// A reader that comes by what a dead one holds takes the lock and repairs.
pub fn reads(world: &World) {
    let desk = world.desk();
    desk.table.exists(desk.focus());
}

pub fn writes(world: &World) {
    let _ = world.desk().table.update("nobody", &[]);
}

pub fn scans(world: &World) {
    world.desk().table.iter().for_each(drop);
}

fn brings(world: &World) {
    let desk = world.desk();
    let _ = desk.table.set(&desk.spares[0], &[]);
}

pub struct Desk {
    pub table: Table,
    pub hits: Column<i64>,
    pub score: Column<f64>,
    pub name: Column<str>,
    /// Keys of the first bucket in the order of their hashes, if the plan wants that; `k0` … .
    pub keys: Vec<String>,
    /// Keys that are not there, more than there is room for; if the plan wants sorted keys, all of the last bucket. The first is for who comes by.
    pub spares: Vec<String>,
    /// As it was, and after each instant at which something happens.
    pub states: Vec<State>,
    pub plan: Rc<Plan>,
}

/// Keys among which some are chosen by their hashes.
const CANDIDATES: usize = 64;
pub const SORTED: usize = 7;
/// Keys beyond the capacity: some are used up before the table is filled.
const SPARE: usize = 6;
/// Far away.
pub const HOUR: Duration = Duration::from_secs(3600);

impl Desk {
    fn set_up(plan: &Rc<Plan>, world: &mut World) {
        let mut desk = Desk::make(plan.clone());
        if desk.plan.sorted {
            desk.sort();
        }
        (desk.plan.arrange)(&desk);
        let mut state = desk.snapshot();
        state.figures.recoveries = 0;
        desk.states.push(state.clone());
        for then in &desk.plan.clone().then {
            then(&desk, &mut state);
            desk.states.push(state.clone());
        }
        if let Some(before) = desk.plan.before {
            let pid = kit::fork(|| {
                world.sit_down();
                before(&desk);
                panic!("it was to die in there");
            });
            kit::wait_for_end(pid);
            world.lay_out(pid);
        }
        world.desk = Some(desk);
    }

    fn make(plan: Rc<Plan>) -> Desk {
        let mut schema = Schema::new();
        let (hits, score, name) = (schema.int("hits"), schema.float("score"), schema.string("name", 24));
        let table = (plan.shape)(Table::builder().key_size(16).schema(schema)).build().expect("a table");
        assert!(table.memory_size() <= 64 << 10, "images of {} bytes take long to compare", table.memory_size());
        let spares = (0..table.capacity() + SPARE).map(|n| format!("s{n}")).collect();
        Desk { table, hits, score, name, keys: Vec::new(), spares, states: Vec::new(), plan }
    }

    /// For the pairs: a table without a plan.
    pub fn plain(world: &mut World, arrange: fn(&Desk), shape: fn(TableBuilder) -> TableBuilder) {
        let plan = Plan::new("", 0, |_| 0).arrange(arrange).shape(shape);
        Desk::set_up(&Rc::new(plan), world);
    }

    /// Puts each candidate into the row of number 1, looks there for its bucket and its hash, and takes it out again.
    fn sort(&mut self) {
        let row = rows();
        let mut found = Vec::new();
        for n in 0..CANDIDATES {
            let key = format!("c{n}");
            self.table.set(&key, &[]).expect("room");
            found.push((word_at(row), word_at(row + 16) >> 32, key.clone()));
            assert!(self.table.del(&key));
        }
        let last = found.iter().map(|(mark, ..)| *mark).max().expect("some");
        let spares = found.iter().rev().filter(|(mark, ..)| *mark == last).take(self.table.capacity() + SPARE);
        self.spares = spares.map(|(.., key)| key.clone()).collect();
        let mut sorted: Vec<_> =
            found.iter().filter(|(mark, _, key)| *mark == 1 && !self.spares.contains(key)).take(SORTED).collect();
        sorted.sort_unstable();
        self.keys = sorted.into_iter().map(|(.., key)| key.clone()).collect();
        assert!(self.keys.len() == SORTED && self.spares.len() == self.table.capacity() + SPARE, "hashes of ill will");
    }

    pub fn focus(&self) -> &str {
        (self.plan.focus)(self)
    }

    pub fn key(&self, n: usize) -> &str {
        &self.keys[n]
    }

    /// Writes all columns.
    pub fn set(&self, key: &str, hits: i64, score: f64, name: &str) -> commons::Result<Outcome> {
        self.table.set(key, &[self.hits.is(hits), self.score.is(score), self.name.is(name)])
    }

    /// Rows of these keys, each with values of its own.
    pub fn have<K: AsRef<str>>(&self, keys: &[K]) {
        for (n, key) in keys.iter().enumerate() {
            self.set(key.as_ref(), n as i64 + 1, 0.5, "a name").expect("room");
        }
    }

    /// Lets another process do this and leave.
    pub fn by_another(&self, does: impl FnOnce(&Desk)) {
        let pid = kit::fork(|| {
            does(self);
            0
        });
        kit::wait_for_end(pid);
        commons::recover(pid as u32).expect("it is dead");
        kit::wait(pid);
    }

    pub fn content(&self, row: &commons::Row) -> Content {
        (row.get(self.hits), row.get(self.score), row.get(self.name).to_owned())
    }

    /// All rows, each met once.
    pub fn rows(&self) -> Result<BTreeMap<String, Content>, String> {
        let mut rows = BTreeMap::new();
        for (key, row) in self.table.iter() {
            let key = key.as_str().ok_or("a key is torn")?.to_owned();
            if rows.insert(key.clone(), self.content(&row)).is_some() {
                return Err(format!("a scan met {key} twice"));
            }
        }
        Ok(rows)
    }

    /// The figures, but for the recoveries.
    pub fn figures(&self) -> TableStats {
        let mut figures = self.table.stats();
        figures.recoveries = 0;
        figures
    }

    fn snapshot(&self) -> State {
        let (rows, figures) = (self.rows().expect("nobody died"), self.figures());
        State { ghosts: figures.rows as usize - rows.len(), rows, figures }
    }
}

/// Where the rows of the newest table begin.
fn rows() -> usize {
    const ROWS: u64 = 11;
    let base = commons::harness::mapped().iter().rfind(|m| m.name == "table").expect("just made").base;
    let mut at = base + 256;
    loop {
        let claim = word_at(at);
        assert_ne!(claim, 0, "the region has no rows");
        if claim >> 48 == ROWS {
            return at + 64;
        }
        at += 64 + (claim & 0xffff_ffff_ffff) as usize;
    }
}
