//! The heap: which timer is due first. Derived from the entries; every function here is called under the lock, and whoever takes that over from
//! the dead builds all of it anew.
//!
//! Four children a node: half as deep as with two, and the four share a cache line.

use super::shared::{Ground, NEVER, SHIFT, Who};
use crate::sync::{Ordering, owned};

/// What a node says: the order is by due time, then by who was made first.
type Key = (u64, Who);

impl Ground {
    fn live(&self) -> usize {
        owned(&self.head.live) as usize
    }

    fn node(&self, at: usize) -> Key {
        let node = &self.nodes[at + SHIFT];
        (owned(&node.due), Who(owned(&node.who)))
    }

    fn set(&self, at: usize, key: Key) {
        // Relaxed, here and below: under the lock.
        let node = &self.nodes[at + SHIFT];
        node.due.store(key.0, Ordering::Relaxed);
        node.who.store(key.1.0, Ordering::Relaxed);
        self.places[key.1.entry()].store(at as u64, Ordering::Relaxed);
    }

    /// Moves `key` up from the hole at `at`.
    fn rise(&self, mut at: usize, key: Key) {
        while at > 0 {
            let parent = (at - 1) / 4;
            let above = self.node(parent);
            if before(above, key) {
                break;
            }
            self.set(at, above);
            at = parent;
        }
        self.set(at, key);
    }

    /// Moves `key` down from the hole at `at`, in a heap of `live`.
    fn sink(&self, mut at: usize, key: Key, live: usize) {
        loop {
            let children = 4 * at + 1..(4 * at + 5).min(live);
            let Some((least, below)) =
                children.map(|child| (child, self.node(child))).reduce(|a, b| if before(b.1, a.1) { b } else { a })
            else {
                break;
            };
            if before(key, below) {
                break;
            }
            self.set(at, below);
            at = least;
        }
        self.set(at, key);
    }

    pub(super) fn insert(&self, due: u64, who: Who) {
        let live = self.live();
        self.head.live.store(live as u64 + 1, Ordering::Relaxed);
        self.rise(live, (due, who));
    }

    /// Takes the node of `entry` out.
    pub(super) fn remove(&self, entry: usize) {
        let (at, live) = (owned(&self.places[entry]) as usize, self.live() - 1);
        self.head.live.store(live as u64, Ordering::Relaxed);
        let last = self.node(live);
        if at < live {
            self.replace(at, last, live);
        }
    }

    /// Gives the node of `entry` another due time.
    pub(super) fn renew(&self, entry: usize, due: u64) {
        let at = owned(&self.places[entry]) as usize;
        let (_, who) = self.node(at);
        self.replace(at, (due, who), self.live());
    }

    fn replace(&self, at: usize, key: Key, live: usize) {
        if at > 0 && before(key, self.node((at - 1) / 4)) {
            self.rise(at, key);
        } else {
            self.sink(at, key, live);
        }
    }

    /// The first: its entry and when it is due.
    pub(super) fn first(&self) -> Option<(usize, u64)> {
        if self.live() == 0 {
            return None;
        }
        let (due, who) = self.node(0);
        Some((who.entry(), due))
    }

    /// Builds everything that is derived from what the entries say.
    #[cold]
    pub(super) fn rebuild(&self) {
        let (mut live, mut free, mut fresh, mut sequence) = (0, 0, 0, owned(&self.head.sequence));
        for (number, entry) in self.entries.iter().enumerate() {
            let (state, half) = entry.held();
            if state.0 != 0 {
                fresh = number + 1;
            }
            if state.is_live() {
                self.set(live, (owned(&half.due), Who::new(owned(&entry.sequence), number)));
                live += 1;
                sequence = sequence.max(owned(&entry.sequence) + 1);
            }
        }
        for number in (0..fresh).rev() {
            if !self.entries[number].held().0.is_live() {
                self.places[number].store(free, Ordering::Relaxed);
                free = number as u64 + 1;
            }
        }
        for at in (0..live.div_ceil(4)).rev() {
            self.sink(at, self.node(at), live);
        }
        let head = &self.head;
        head.live.store(live as u64, Ordering::Relaxed);
        head.free.store(free, Ordering::Relaxed);
        head.fresh.store(fresh as u64, Ordering::Relaxed);
        head.sequence.store(sequence, Ordering::Relaxed);
        // Release: pairs with the Acquire in `next_due`.
        head.next.store(self.first().map_or(NEVER, |(_, due)| due), Ordering::Release);
    }

    /// Takes a free entry; None: there is none.
    pub(super) fn take_entry(&self) -> Option<usize> {
        let head = &self.head;
        if let Some(entry) = (owned(&head.free) as usize).checked_sub(1) {
            head.free.store(owned(&self.places[entry]), Ordering::Relaxed);
            return Some(entry);
        }
        let fresh = owned(&head.fresh) as usize;
        if fresh == self.capacity() {
            return None;
        }
        head.fresh.store(fresh as u64 + 1, Ordering::Relaxed);
        Some(fresh)
    }

    pub(super) fn give_entry(&self, entry: usize) {
        let head = &self.head;
        self.places[entry].store(owned(&head.free), Ordering::Relaxed);
        head.free.store(entry as u64 + 1, Ordering::Relaxed);
    }
}

fn before(a: Key, b: Key) -> bool {
    (a.0, a.1.0) < (b.0, b.1.0)
}
