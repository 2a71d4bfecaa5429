//! Who is told of a death besides those who sleep on a word: in each process, the structures that wake by descriptors of their own.
//!
//! A list of this process and of all that are forked from it. So whoever buries and has the structure tells; one that never had it, or has it no
//! more, cannot, as it cannot wake sleepers either.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::shm::Key;
use crate::sync::process_static;
use crate::sys::fork::gated;

/// A structure, as a process has it, that wants to know which of its words the dead had noted.
pub(crate) trait Mourner: Send + Sync {
    /// A dead thread owned, or was about to take, the lock at `key`; or slept there. What it held of that is handed on already. May be told twice.
    fn told(&self, key: Key);
}

process_static! {
    /// Locked only inside the gate, so that a fork never copies it half written.
    static MOURNERS: Mutex<Vec<Weak<dyn Mourner>>> = Mutex::new(Vec::new());
}

fn lock() -> MutexGuard<'static, Vec<Weak<dyn Mourner>>> {
    // Poisoned: a thread panicked between two whole states of a Vec; there is no half state to fear.
    MOURNERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes `mourner` down, and forgets those that are gone.
pub(crate) fn mourn(mourner: Weak<dyn Mourner>) {
    gated(|| {
        let mut mourners = lock();
        mourners.retain(|mourner| mourner.strong_count() > 0);
        mourners.push(mourner);
    });
}

/// Tells all of `key`. Outside the gate: what is told may be the last to hold a structure.
pub(super) fn tell(key: Key) {
    let all: Vec<Arc<dyn Mourner>> = gated(|| lock().iter().filter_map(Weak::upgrade).collect());
    all.iter().for_each(|mourner| mourner.told(key));
}
