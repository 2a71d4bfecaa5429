//! From a name to its row: six places in the bucket's own cache line, and for the rows beyond them a tree.
//!
//! The tree is a plain binary search tree over the lower half of the keys' hash, which the choice of the bucket does not use: as good as random,
//! so that n rows in one bucket, however they got there, are found in about 2 ln n steps. Its links lie in the rows themselves, so it needs no
//! memory and cannot run out of it before the rows do.

use std::hint::select_unpredictable;

use super::change::{Change, OVERFLOW, Word};
use super::ground::{Ground, Name};
use super::hold::Hold;
use super::layout::Layout;
use super::record::Tally;
use super::shared::{Bucket, Entry, Links, Overflow, Side};
use crate::robust::Stamp;
use crate::sync::{AtomicU64, MODELLED, Ordering, owned};

/// A row that was found under the lock, and what points to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) row: u32,
    pub(super) spot: Spot,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Spot {
    Place(usize),
    /// The root of the tree, or a child of a row in it.
    Tree(Option<(u32, Side)>),
}

/// The answer of a search without the lock.
pub(super) enum Glimpse<'t> {
    Row(&'t [AtomicU64]),
    Absent,
    /// The bucket changed meanwhile.
    Torn,
}

/// Steps down a tree after which a reader without the lock looks whether it is still the same tree: links that change meanwhile may lead
/// it in circles.
const BREATH: usize = 64;

/// A reader without the lock checks the version before it believes anything.
#[inline(always)]
fn loose(word: &AtomicU64) -> u64 {
    // Relaxed: ordered by `stamp` before and `still` after.
    word.load(Ordering::Relaxed)
}

/// The first place that has the hash of `name`, which an empty one has too if it is 0, and its number; or nothing. Looks at all of them, without a jump: which it is nobody can foretell, and a
/// processor that guessed wrong would throw away what it has begun of the reads to come.
#[inline(always)]
fn candidate(bucket: &Bucket, name: Name<'_>) -> (usize, Entry) {
    bucket.places.iter().enumerate().rev().fold((0, Entry(0)), |found, (n, place)| {
        let entry = Entry(loose(place));
        let this = entry.hash() == name.low;
        (select_unpredictable(this, n, found.0), select_unpredictable(this, entry, found.1))
    })
}

impl Ground {
    /// Looks for `name` without the lock, since `stamp`.
    #[inline(always)]
    pub(super) fn glimpse(&self, bucket: &Bucket, name: Name<'_>, stamp: Stamp) -> Glimpse<'_> {
        let (_, entry) = candidate(bucket, name);
        if let Some(row) = self.try_row(entry.row())
            && self.carries(row, name, loose)
        {
            return Glimpse::Row(row);
        }
        if entry.row() == 0 && name.low != 0 && Overflow(loose(&bucket.overflow)).root() == 0 {
            return Glimpse::Absent;
        }
        self.glimpse_again(bucket, name, stamp)
    }

    /// The same, looking first where the row was seen before.
    #[inline(always)]
    pub(super) fn glimpse_seen(&self, bucket: &Bucket, name: Name<'_>, stamp: Stamp) -> Glimpse<'_> {
        let entry = bucket.places.get(name.place).map_or(Entry(0), |place| Entry(loose(place)));
        match self.try_row(entry.row()) {
            Some(row) if self.carries(row, name, loose) => Glimpse::Row(row),
            _ => self.glimpse(bucket, name, stamp),
        }
    }

    /// The same where the first place of the same hash is another key's, or none: one by one, and then in the tree.
    #[cold]
    fn glimpse_again(&self, bucket: &Bucket, name: Name<'_>, stamp: Stamp) -> Glimpse<'_> {
        for place in &bucket.places {
            let entry = Entry(loose(place));
            if entry.hash() == name.low
                && let Some(row) = self.try_row(entry.row())
                && self.carries(row, name, loose)
            {
                return Glimpse::Row(row);
            }
        }
        match Overflow(loose(&bucket.overflow)).root() {
            0 => Glimpse::Absent,
            root => self.climb(bucket, root, name, stamp),
        }
    }

    fn climb(&self, bucket: &Bucket, root: u32, name: Name<'_>, stamp: Stamp) -> Glimpse<'_> {
        let mut at = root;
        for step in 1.. {
            let Some(row) = self.try_row(at) else { return Glimpse::Absent };
            let hash = (loose(&row[Layout::NAME]) >> 32) as u32;
            if hash == name.low && self.carries(row, name, loose) {
                return Glimpse::Row(row);
            }
            let side = if name.low < hash { Side::Left } else { Side::Right };
            at = Links(loose(&row[Layout::LINKS])).get(side);
            if step % BREATH == 0 && !bucket.lock.still(stamp) {
                return Glimpse::Torn;
            }
        }
        Glimpse::Absent
    }

    /// Asks for the cache lines of the row that is probably meant, before a lock is taken that would wait for them one by one; the name, with
    /// the place where that row was seen.
    #[inline(always)]
    pub(super) fn prefetch<'k>(&self, name: Name<'k>) -> Name<'k> {
        if MODELLED {
            return name; // looks that mean nothing, each to be tried in every order
        }
        let (place, entry) = candidate(&self.buckets[name.bucket], name);
        let Some(row) = self.try_row(entry.row()) else { return name };
        row.iter().step_by(8).take(3).for_each(crate::sync::prefetch);
        Name { place, ..name }
    }
}

impl<'t> Hold<'t> {
    fn at(&self) -> &'t Bucket {
        &self.ground.buckets[self.bucket]
    }

    /// Looks for a name: first where it was seen before the lock was taken.
    #[inline(always)]
    pub(super) fn find(&self, name: Name<'_>) -> Option<Found> {
        let row = self.at().places.get(name.place).map_or(0, |place| Entry(owned(place)).row());
        if row != 0 && self.ground.carries(self.ground.row(row), name, owned) {
            return Some(Found { row, spot: Spot::Place(name.place) });
        }
        self.find_again(name)
    }

    /// The same where it was seen nowhere, or has gone elsewhere: one by one, and then in the tree.
    #[cold]
    fn find_again(&self, name: Name<'_>) -> Option<Found> {
        self.search(name.low, |row| self.ground.carries(self.ground.row(row), name, owned))
    }

    /// Looks for a row by its number.
    pub(super) fn find_row(&self, row: u32) -> Option<Found> {
        let hash = (owned(&self.ground.row(row)[Layout::NAME]) >> 32) as u32;
        self.search(hash, |other| other == row)
    }

    fn search(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> Option<Found> {
        for (n, place) in self.at().places.iter().enumerate() {
            let entry = Entry(owned(place));
            if entry.row() != 0 && entry.hash() == hash && is_it(entry.row()) {
                return Some(Found { row: entry.row(), spot: Spot::Place(n) });
            }
        }
        let mut row = Overflow(owned(&self.at().overflow)).root();
        let mut parent = None;
        while row != 0 {
            let words = self.ground.row(row);
            let its = (owned(&words[Layout::NAME]) >> 32) as u32;
            if its == hash && is_it(row) {
                return Some(Found { row, spot: Spot::Tree(parent) });
            }
            let side = if hash < its { Side::Left } else { Side::Right };
            parent = Some((row, side));
            row = Links(owned(&words[Layout::LINKS])).get(side);
        }
        None
    }

    fn links(&self, row: u32) -> Links {
        Links(owned(&self.ground.row(row)[Layout::LINKS]))
    }

    fn overflow(&self) -> Overflow {
        Overflow(owned(&self.at().overflow))
    }

    /// Plans to link `row`, whose name is written and whose links are 0; what that adds to the figures.
    pub(super) fn plan_link(&self, change: &mut Change<'_>, row: u32, hash: u32) -> Tally {
        let free = self.at().places.iter().position(|place| owned(place) == 0);
        if let Some(n) = free {
            change.stage(Word::Bucket(n), Entry::new(hash, row).0);
            return Tally::default();
        }
        let overflow = self.overflow();
        let (mut at, mut parent) = (overflow.root(), None);
        while at != 0 {
            let its = (owned(&self.ground.row(at)[Layout::NAME]) >> 32) as u32;
            let side = if hash < its { Side::Left } else { Side::Right };
            parent = Some((at, side));
            at = self.links(at).get(side);
        }
        let count = overflow.count() + 1;
        let root = match parent {
            None => row,
            Some((above, side)) => {
                change.stage(Word::Row(above, Layout::LINKS), self.links(above).with(side, row).0);
                overflow.root()
            }
        };
        change.stage(Word::Bucket(OVERFLOW), Overflow::new(count, root).0);
        Tally { collisions: 1, longest: count.into(), ..Tally::default() }
    }

    /// Plans to cut the links to `found`.
    pub(super) fn plan_unlink(&self, change: &mut Change<'_>, found: Found) {
        let parent = match found.spot {
            Spot::Place(n) => return change.stage(Word::Bucket(n), 0),
            Spot::Tree(parent) => parent,
        };
        let own = self.links(found.row);
        let (left, right) = (own.get(Side::Left), own.get(Side::Right));
        // Who takes its place: its only child, or of all on the right the leftmost, which keeps the order.
        let heir = if left == 0 || right == 0 { left | right } else { self.inherit(change, right, own) };
        let overflow = self.overflow();
        let root = match parent {
            None => heir,
            Some((above, side)) => {
                change.stage(Word::Row(above, Layout::LINKS), self.links(above).with(side, heir).0);
                overflow.root()
            }
        };
        change.stage(Word::Bucket(OVERFLOW), Overflow::new(overflow.count() - 1, root).0);
    }

    /// The leftmost below `right` takes over the links `own`.
    fn inherit(&self, change: &mut Change<'_>, right: u32, own: Links) -> u32 {
        let (mut heir, mut above) = (right, None);
        loop {
            match self.links(heir).get(Side::Left) {
                0 => break,
                next => (above, heir) = (Some(heir), next),
            }
        }
        let its = self.links(heir);
        match above {
            None => change.stage(Word::Row(heir, Layout::LINKS), its.with(Side::Left, own.get(Side::Left)).0),
            Some(above) => {
                let orphan = its.get(Side::Right);
                change.stage(Word::Row(above, Layout::LINKS), self.links(above).with(Side::Left, orphan).0);
                change.stage(Word::Row(heir, Layout::LINKS), own.0);
            }
        }
        heir
    }
}

#[cfg(test)]
mod tests {
    use super::super::ground::UNSEEN;
    use super::super::write::Attempt;
    use super::*;
    use crate::robust::Patience;
    use crate::{Schema, Table};

    /// An empty place is 0, and so is the hash's half in an entry of this name: one key in four thousand million.
    #[test]
    fn a_hash_of_zero_is_no_empty_place() {
        let table = Table::builder().capacity(20).buckets(1).schema(Schema::new()).build().unwrap();
        let ground = &table.ground;
        let keys: Vec<_> = (0..12).map(|n| format!("key {n}")).collect();
        let name = |n: usize| Name { key: keys[n].as_bytes(), bucket: 0, low: 0, place: UNSEEN };
        let there = |n| ground.glance(name(n), |_| ()).is_some();
        for n in 0..keys.len() {
            assert!(!there(n), "before it is inserted");
            let hold = ground.hold(0, Patience::Endless).unwrap();
            assert!(hold.find(name(n)).is_none());
            {
                let mut change = Change::begin(&hold).unwrap().unwrap();
                assert!(matches!(hold.insert(&mut change, name(n), None, &[], 0), Ok(Attempt::Done(()))));
            }
            assert!((0..=n).all(|n| hold.find(name(n)).is_some()));
            drop(hold);
            assert!((0..keys.len()).all(|other| there(other) == (other <= n)));
            // What was seen in another place than it stands in is found all the same.
            assert!((0..9).all(|place| ground.glance_seen(Name { place, ..name(n) }, |_| ()).is_some()));
        }
    }
}
