//! `dashmap` beside the table: in one process, for that is where it lives.

use std::hash::{Hash, RandomState};
use std::hint::black_box;

use dashmap::DashMap;

use crate::harness::{Bar, Suite, Work};
use crate::users::{Keys, Text, Users, gets, motto};

const AGAINST: &str = "get_into, random, and dashmap";

/// What a user of `dashmap` would store: the same columns, with the text in place, so that it costs no further miss.
#[derive(Clone, Copy)]
#[allow(dead_code, reason = "read as a whole")]
struct User {
    hits: i64,
    score: f64,
    name: [u8; 64],
    len: u8,
}

impl User {
    fn of(number: usize) -> User {
        let name = motto(number).into_bytes().try_into().expect("64 bytes");
        User { hits: number as i64, score: number as f64, name, len: 64 }
    }
}

/// A key as long as ours may be, in place.
#[derive(PartialEq, Eq)]
struct InPlace([u8; 64], u8);

impl Hash for InPlace {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0[..usize::from(self.1)].hash(state);
    }
}

impl std::borrow::Borrow<[u8]> for InPlace {
    fn borrow(&self) -> &[u8] {
        &self.0[..usize::from(self.1)]
    }
}

pub(crate) fn peers(suite: &mut Suite, users: &Users, keys: &Keys, rows: usize) {
    let ours = |name| Work::alone(name, gets(users, keys));
    if suite.wants(AGAINST) {
        let map: DashMap<String, User, RandomState> = DashMap::with_capacity(rows);
        (0..rows).for_each(|n| _ = map.insert(Text::of(n).as_str().to_owned(), User::of(n)));
        let of = keys.clone();
        let get = Work::alone("dashmap, String keys", move |n| {
            of.run(n, |key| _ = black_box(map.get(key.as_str()).map(|user| *user)));
        });
        suite.pair(ours(AGAINST), get, Bar::Speed(1.0)); // bars.md

        let seed = foldhash::quality::FixedState::with_seed(1);
        let map: DashMap<InPlace, User, _> = DashMap::with_capacity_and_hasher(rows, seed);
        for n in 0..rows {
            let text = Text::of(n);
            let mut key = InPlace([0; 64], text.len);
            key.0[..15].copy_from_slice(&text.bytes);
            map.insert(key, User::of(n));
        }
        let of = keys.clone();
        let get = Work::alone("dashmap, keys in place, foldhash", move |n| {
            of.run(n, |key| {
                black_box(map.get(key.as_ref()).map(|user| *user));
            });
        });
        suite.pair(ours(AGAINST), get, Bar::Shown);
    }
}
