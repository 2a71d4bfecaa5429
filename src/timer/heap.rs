//! The heap: which timer is due first. Follows from the entries; every function here is called under the lock, and whoever takes that over from
//! the dead builds all of it anew.
//!
//! Four children a node: half as deep as with two, and the four share a cache line. A node carries the due time, so that comparing looks at nodes
//! alone; of two that are due at the same instant the entries say which was made first.

use super::shared::{Ground, NEVER, Node, SHIFT};
use crate::sync::{Ordering, owned};

/// When it is due, and whose it is.
type Key = (u64, usize);

impl Node {
    #[inline]
    fn key(&self) -> Key {
        (owned(&self.due), owned(&self.entry) as usize)
    }
}

impl Ground {
    #[inline]
    fn node(&self, at: usize) -> Key {
        self.nodes[at + SHIFT].key()
    }

    #[inline]
    fn set(&self, at: usize, (due, entry): Key) {
        // Relaxed, here and below: under the lock.
        let node = &self.nodes[at + SHIFT];
        node.due.store(due, Ordering::Relaxed);
        node.entry.store(entry as u64, Ordering::Relaxed);
        self.entries[entry].place.store(at as u64, Ordering::Relaxed);
    }

    #[inline]
    fn before(&self, a: Key, b: Key) -> bool {
        a.0 < b.0 || (a.0 == b.0 && self.made_before(a.1, b.1))
    }

    #[cold]
    fn made_before(&self, a: usize, b: usize) -> bool {
        self.entries[a].held().generation() < self.entries[b].held().generation()
    }

    /// Moves `key` up from the hole at `at`.
    #[inline]
    fn rise(&self, mut at: usize, key: Key) {
        while at > 0 {
            let parent = (at - 1) / 4;
            let above = self.node(parent);
            if self.before(above, key) {
                break;
            }
            self.set(at, above);
            at = parent;
        }
        self.set(at, key);
    }

    /// Moves `key` down from the hole at `at`, in a heap of `live`.
    #[inline]
    fn sink(&self, mut at: usize, key: Key, live: usize) {
        loop {
            let first = 4 * at + 1;
            if first >= live {
                break;
            }
            let children = &self.nodes[first + SHIFT..(first + 4).min(live) + SHIFT];
            let (mut least, mut below) = (0, children[0].key());
            for (n, child) in children.iter().enumerate().skip(1) {
                let child = child.key();
                if self.before(child, below) {
                    (least, below) = (n, child);
                }
            }
            if self.before(key, below) {
                break;
            }
            self.set(at, below);
            at = first + least;
        }
        self.set(at, key);
    }

    #[inline]
    pub(super) fn insert(&self, due: u64, entry: usize) {
        let live = owned(&self.head.live);
        self.head.live.store(live + 1, Ordering::Relaxed);
        self.rise(live as usize, (due, entry));
    }

    /// Takes the node of `entry` out.
    #[inline]
    pub(super) fn remove(&self, entry: usize) {
        let (at, live) = (owned(&self.entries[entry].place) as usize, owned(&self.head.live) as usize - 1);
        self.head.live.store(live as u64, Ordering::Relaxed);
        if at < live {
            self.replace(at, self.node(live), live);
        }
    }

    /// Gives the node of `entry` another due time.
    pub(super) fn renew(&self, entry: usize, due: u64) {
        let at = owned(&self.entries[entry].place) as usize;
        self.replace(at, (due, entry), owned(&self.head.live) as usize);
    }

    #[inline]
    fn replace(&self, at: usize, key: Key, live: usize) {
        if at > 0 && self.before(key, self.node((at - 1) / 4)) {
            self.rise(at, key);
        } else {
            self.sink(at, key, live);
        }
    }

    /// The first: when it is due, and its entry.
    #[inline]
    pub(super) fn first(&self) -> Option<Key> {
        (owned(&self.head.live) != 0).then(|| self.node(0))
    }

    /// Builds everything that follows from the entries.
    #[cold]
    pub(super) fn rebuild(&self) {
        let (mut live, mut free) = (0, 0);
        // From the end, so that the lowest of the free ones is taken next.
        for number in (0..owned(&self.head.fresh) as usize).rev() {
            let entry = &self.entries[number];
            let state = entry.held();
            if state.is_live() {
                self.set(live, (owned(self.due(number, state)), number));
                live += 1;
            } else {
                entry.place.store(free, Ordering::Relaxed);
                free = number as u64 + 1;
            }
        }
        for at in (0..live.div_ceil(4)).rev() {
            self.sink(at, self.node(at), live);
        }
        self.head.live.store(live as u64, Ordering::Relaxed);
        self.head.free.store(free, Ordering::Relaxed);
        self.postpone();
    }

    /// Says when the first one is due, after a change that cannot have made that earlier: so nobody sleeps for too long.
    #[inline]
    pub(super) fn postpone(&self) {
        // Relaxed: see `next_due`.
        let due = self.first().map_or(NEVER, |(due, _)| due);
        if due != owned(&self.head.next) {
            self.head.next.store(due, Ordering::Relaxed);
        }
    }

    /// Takes a free entry; None: there is none.
    #[inline]
    pub(super) fn take_entry(&self) -> Option<usize> {
        let head = &self.head;
        if let Some(entry) = (owned(&head.free) as usize).checked_sub(1) {
            head.free.store(owned(&self.entries[entry].place), Ordering::Relaxed);
            return Some(entry);
        }
        let fresh = owned(&head.fresh) as usize;
        if fresh == self.capacity() {
            return None;
        }
        head.fresh.store(fresh as u64 + 1, Ordering::Relaxed);
        Some(fresh)
    }

    #[inline]
    pub(super) fn give_entry(&self, entry: usize) {
        self.entries[entry].place.store(owned(&self.head.free), Ordering::Relaxed);
        self.head.free.store(entry as u64 + 1, Ordering::Relaxed);
    }
}
