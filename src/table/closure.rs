//! Closures that run while their row is held: `update_with` and `upsert_with`, and what they may not do.

use std::cell::RefCell;

use super::ground::{Ground, WHAT};
use crate::sync::thread_slot;
use crate::{Error, Result};

thread_slot! {
    /// The tables of which this thread holds a row in a closure, by the key of their head. A fork inside a closure copies it with the thread.
    static INSIDE: RefCell<Vec<u64>> = RefCell::new(Vec::new());
}

impl Ground {
    fn id(&self) -> u64 {
        self.head.key(&self.head.turn).bits()
    }
}

/// Refuses what a closure asks of the very table whose row it holds: to wait for a row while holding one would end in a circle of two sooner
/// or later.
#[inline]
pub(super) fn outside(ground: &Ground) -> Result<()> {
    let inside = INSIDE.with(|inside| {
        let inside = inside.borrow();
        !inside.is_empty() && inside.contains(&ground.id())
    });
    if inside { Err(Error::WouldDeadlock { what: WHAT }) } else { Ok(()) }
}

/// As long as it lives, the calling thread is inside a closure of this table.
pub(super) struct Inside;

impl Inside {
    pub(super) fn of(ground: &Ground) -> Inside {
        INSIDE.with(|inside| inside.borrow_mut().push(ground.id()));
        Inside
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.with(|inside| inside.borrow_mut().pop());
    }
}
