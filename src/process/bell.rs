//! A bell: for those who wait until there is room again in something that is no channel.
//!
//! Who finds no room arms the bell, looks once more, and waits; who has made room rings it, which costs one exchange when nobody waits. Both are
//! exchanges of one word, so one comes first: if it is the arming, the ring sees it; if the ringing, the look that follows the arming sees the room. A
//! ring wakes one, who arms it again if it got what it wanted, for others may be asleep. Nobody waits for longer than a slice before it looks by itself,
//! so a death between making room and ringing delays, and no more.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::robust::{Patience, SLICE};
use crate::shm::{Kind, Pad, Place, Region, shared};
use crate::sync::{AtomicU64, Ordering, clock};
use crate::{Channel, Error, Result};

shared! {
    struct Armed {
        word: AtomicU64,
        pad: Pad<7>,
    }
}

/// Bytes of the channel that carries the rings: more rings at once than this are for those who would have looked by themselves soon.
const RINGS: usize = 1024;

pub(crate) struct Bell {
    armed: Place<Armed>,
    rings: Channel,
}

impl Bell {
    pub(crate) fn new() -> Result<Bell> {
        let region = Region::new("bell", Region::bytes_for::<Armed>(1))?;
        Ok(Bell { armed: Place::new(&region, Kind::Bell)?, rings: Channel::new(RINGS)? })
    }

    /// Before the last look; and again by one who was woken and got what it wanted.
    pub(crate) fn arm(&self) {
        // AcqRel: pairs with the same in `ring`; see the head of this file.
        self.armed.word.swap(1, Ordering::AcqRel);
    }

    pub(crate) fn ring(&self) {
        // AcqRel: as in `arm`; what made the room is seen by who arms later.
        if self.armed.word.swap(0, Ordering::AcqRel) != 0 {
            // Without room for a ring there are rings enough.
            let _ = self.rings.try_push(&[]);
        }
    }

    /// Tries until the answer is something other than [`Error::Full`], for as long as `patience` lasts.
    pub(crate) fn until<T>(&self, patience: Patience, attempt: impl Fn() -> Result<T>) -> Result<T> {
        let mut done = attempt();
        let mut first = true;
        while matches!(done, Err(Error::Full { .. })) {
            if !std::mem::take(&mut first) {
                patience.check()?;
                self.wait(patience)?;
            }
            self.arm();
            done = attempt();
        }
        if !first {
            self.arm(); // others may be asleep
        }
        done
    }

    /// The same without holding the thread. Must be called inside a tokio runtime with I/O and time enabled.
    pub(crate) async fn until_async<T>(&self, attempt: impl Fn() -> Result<T>) -> Result<T> {
        let mut done = attempt();
        let mut first = true;
        while matches!(done, Err(Error::Full { .. })) {
            if !std::mem::take(&mut first) {
                self.listen().await?;
            }
            self.arm();
            done = attempt();
        }
        if !first {
            self.arm();
        }
        done
    }

    /// Rings that nobody has heard yet.
    #[cfg(test)]
    pub(crate) fn rings(&self) -> usize {
        self.rings.len()
    }

    /// Waits for a ring, at most for a slice.
    pub(crate) fn wait(&self, patience: Patience) -> Result<()> {
        let slice = Duration::from_nanos(SLICE);
        let left = match patience {
            Patience::Until { deadline, .. } => slice.min(Duration::from_nanos(deadline.saturating_sub(clock::now()))),
            Patience::None | Patience::Endless => slice,
        };
        match self.rings.pop_timeout(left) {
            Ok(_) | Err(Error::Timeout { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Likewise, inside a runtime.
    pub(crate) async fn listen(&self) -> Result<()> {
        match tokio::time::timeout(Duration::from_nanos(SLICE), self.rings.recv()).await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    }
}
