//! For harnesses: what one leaves who dies in the middle of a change.

use super::Timer;
use crate::Result;
use crate::robust::{Patience, leave};
use crate::sync::{AtomicU64, Ordering, owned};

impl Timer {
    /// Leaves the timer as the calling thread's death in the middle of a change might, and the thread without its slot: the lock is owned by nobody
    /// alive, whatever follows from the entries may be anything, and so may what does not count. Not part of the contract.
    ///
    /// # Errors
    /// [`Error::TooManyParticipants`](crate::Error::TooManyParticipants).
    #[doc(hidden)]
    pub fn perish(&self, noise: u64) -> Result<()> {
        let ground = &*self.ground;
        let held = ground.enter(Patience::Endless)?;
        let mut noise = noise | 1;
        // Relaxed, all: under the lock.
        let mut any = |word: &AtomicU64| {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            word.store(noise, Ordering::Relaxed);
        };
        let (head, fresh) = (&ground.head, owned(&ground.head.fresh) as usize);
        for (number, entry) in ground.entries[..fresh].iter().enumerate() {
            any(&entry.place);
            let state = entry.held();
            if !state.is_live() {
                any(&entry.payload);
                any(ground.due(number, state));
            } else if state.ticks() {
                any(ground.due(number, state.fired()));
                any(ground.fired(number, state.fired()));
            }
        }
        for node in ground.nodes.iter() {
            any(&node.due);
            any(&node.entry);
        }
        any(&head.live);
        any(&head.free);
        // A generation that was taken for a timer that never was; and somebody would have been due sooner.
        head.made.store(owned(&head.made) + 1, Ordering::Relaxed);
        head.next.store(owned(&head.next) / 2, Ordering::Relaxed);
        std::mem::forget(held);
        leave();
        Ok(())
    }
}
