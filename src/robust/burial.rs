//! What is done for the dead: their locks are handed on, those who wait for them are woken, their slot becomes free.

use super::ledger::Claim;
use super::mourn;
use super::participant::tenants;
use super::slot::{Phase, Slot, State};
use super::word::{LockWord, Tag};
use crate::sync::{AtomicU64, Ordering, futex, identity};
use crate::{Error, Result};

/// Recovers what the dead process `pid` left behind, and wakes everybody who waits for it; the number of its threads that took part.
///
/// For a supervisor: call it when `waitid(… WNOWAIT)` has told of the death and **before** the process is reaped, while its number cannot
/// be anybody else's. Without it nothing is lost either: whoever waits finds out by itself within 20 ms. Calling it twice does nothing
/// the second time. It never waits, and it allocates no shared memory.
///
/// # Errors
/// [`Error::StillAlive`] when the process runs: its locks are its own.
///
/// # Examples
/// ```
/// # use std::process::Command;
/// let mut child = Command::new("true").spawn().unwrap();
/// assert!(commons::recover(std::process::id()).is_err(), "this process is alive");
/// let status = child.wait().unwrap();
/// assert_eq!(commons::recover(child.id())?, 0, "it took part in nothing");
/// # Ok::<(), commons::Error>(())
/// ```
pub fn recover(pid: u32) -> Result<usize> {
    if !identity::process_is_dead(pid) {
        return Err(Error::StillAlive { pid });
    }
    // A tenant that died before it wrote its process id has at least its thread id, which of a first thread is the same.
    let of_pid = |slot: &Slot, state: State| {
        let who = slot.who(state);
        who.pid == pid || (who.pid == 0 && who.tid == pid)
    };
    let dead: Vec<_> = tenants().into_iter().filter(|(slot, _, state)| of_pid(slot, *state)).collect();
    // First all are marked, so that everybody's next look is one load; then the long part.
    for (slot, _, state) in &dead {
        mark(slot, *state);
    }
    for (slot, tag, state) in &dead {
        bury(slot, *tag, *state);
    }
    Ok(dead.len())
}

/// Live → dead; true when it is dead of the same generation now, by whomever.
fn mark(slot: &Slot, state: State) -> bool {
    slot.advance(state.with(Phase::Live), state.with(Phase::Dead)) || slot.state() == state.with(Phase::Dead)
}

/// Buries the tenant of `slot` under `state`, which the caller knows to be dead. Harmless when somebody else does the same.
#[cold]
pub(super) fn bury(slot: &Slot, tag: Tag, state: State) {
    if !mark(slot, state) {
        return;
    }
    for noted in slot.held.iter().chain([&slot.sleeping]).filter_map(|entry| entry.read(state.generation())) {
        let Some((claim, key)) = noted.parts() else { continue };
        // A region that this process never had, or has unmapped: those who use it find out by themselves.
        let _ = key.visit(|cell| match claim {
            Claim::Lock => hand_on(cell, tag),
            // Its reading is over and its permits are back, since its slot is not live: whoever waits has to count again. The word
            // is moved on, so that one who has just counted does not fall asleep over it. Release: pairs with that one's load.
            Claim::Read | Claim::Permit => {
                cell.fetch_add(super::rest::TURN, Ordering::Release);
                futex::wake(cell, u32::MAX);
            }
            // It may have been woken in the place of another.
            Claim::Sleep => {
                futex::wake(cell, u32::MAX);
            }
        });
        // After the word, for who is told looks there.
        mourn::tell(key);
    }
    // Only now: as long as the slot is not free, a second burial finds the same entries.
    slot.advance(state.with(Phase::Dead), state.with(Phase::Free));
}

/// Frees a lock that still names the dead, to be told to its next owner; wakes one sleeper in any case, for the dead may have been the
/// one that was woken, or the one that was to wake.
fn hand_on(cell: &AtomicU64, dead: Tag) {
    // Relaxed: the exchange decides.
    let mut word = LockWord(cell.load(Ordering::Relaxed));
    while word.owner() == Some(dead) {
        // AcqRel: passes on to the next owner all that the dead one wrote.
        match cell.compare_exchange(word.0, word.released_dirty().0, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => break,
            Err(now) => word = LockWord(now),
        }
    }
    futex::wake(cell, 1);
}
