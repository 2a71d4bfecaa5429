//! The producers' end.

use std::time::Duration;

use super::Channel;
use super::ground::{Ground, WHAT, words_of};
use super::mark::Mark;
use crate::robust::{Owned, Patience, Slices, me};
use crate::sync::{Ordering, futex, owned, spin_hint, spins};
use crate::{Error, Result};

impl Channel {
    /// Puts a message at the end, waiting for room.
    ///
    /// It is there for ever once this returned; a process that dies before that leaves nothing.
    ///
    /// # Errors
    /// [`Error::TooLong`] for more than [`max_message`](Channel::max_message) bytes; [`Error::Closed`]; [`Error::TooManyParticipants`].
    ///
    /// # Examples
    /// ```
    /// let channel = commons::Channel::new(4096)?;
    /// channel.push(b"hello")?;
    /// assert_eq!(channel.pop()?, b"hello");
    /// # Ok::<(), commons::Error>(())
    /// ```
    #[inline]
    pub fn push(&self, message: &[u8]) -> Result<()> {
        self.ground.push(message, Patience::Endless)
    }

    /// Puts a message at the end if there is room.
    ///
    /// # Errors
    /// [`Error::Full`], and as [`push`](Channel::push). [`Error::Timeout`] after 20 ms when a producer was stopped in the middle.
    ///
    /// # Examples
    /// ```
    /// let channel = commons::Channel::new(64)?;
    /// assert!(channel.try_push(b"hello").is_ok());
    /// # Ok::<(), commons::Error>(())
    /// ```
    #[inline]
    pub fn try_push(&self, message: &[u8]) -> Result<()> {
        self.ground.push(message, Patience::None)
    }

    /// Puts a message at the end, waiting for room for at most `timeout`.
    ///
    /// # Errors
    /// [`Error::Timeout`], and as [`push`](Channel::push).
    pub fn push_timeout(&self, message: &[u8], timeout: Duration) -> Result<()> {
        self.ground.push(message, Patience::lasting(timeout))
    }

    /// Puts all of `messages` at the end, in order and at one instant: others see all of them or none.
    ///
    /// # Errors
    /// [`Error::TooLong`] when one is too long, or when all together are more than the ring holds; and as [`push`](Channel::push).
    ///
    /// # Examples
    /// ```
    /// let channel = commons::Channel::new(4096)?;
    /// channel.push_many(&["a", "b", "c"])?;
    /// assert_eq!(channel.len(), 3);
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn push_many<M: AsRef<[u8]>>(&self, messages: &[M]) -> Result<()> {
        let ground = &*self.ground;
        let mut words = 0;
        for message in messages {
            let len = message.as_ref().len();
            ground.fits(len)?;
            words += words_of(len);
        }
        if words > ground.words() {
            return Err(Error::TooLong { len: words * 8, max: ground.words() * 8 });
        }
        if messages.is_empty() {
            return Ok(());
        }
        ground.put(words, messages.len(), Patience::Endless, |start| {
            let mut at = start;
            for message in messages {
                let message = message.as_ref();
                ground.write(at, message);
                at = ground.wrapped(at + words_of(message.len()));
            }
        })
    }

    /// Ends the channel: pushes fail from now on, pops take what is left and then fail as well. Doing it twice does nothing the second time.
    ///
    /// # Errors
    /// [`Error::TooManyParticipants`].
    ///
    /// # Examples
    /// ```
    /// use commons::{Channel, Error};
    /// let channel = Channel::new(4096)?;
    /// channel.push(b"last")?;
    /// channel.close()?;
    /// assert!(matches!(channel.push(b"more"), Err(Error::Closed)));
    /// assert_eq!(channel.pop()?, b"last");
    /// assert!(matches!(channel.pop(), Err(Error::Closed)));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn close(&self) -> Result<()> {
        let ground = &*self.ground;
        let producer = Producer::enter(ground, Patience::Endless)?;
        // Only under the lock, so that no producer's swap undoes it.
        ground.ends.tail.close();
        // The other end as well, so that one that has looked there for room, and is about to set its flag, does not. A consumer's swap may undo it; then
        // that end has changed all the same.
        ground.ends.floor.close();
        ground.tell_all();
        // Last: should this process die before it has told all, the next producer is told, and tells them.
        drop(producer);
        Ok(())
    }

    /// Whether [`close`](Channel::close) was called.
    pub fn is_closed(&self) -> bool {
        self.ground.ends.tail.mark().closed()
    }
}

/// A moment that a call which waits for nothing allows another to leave the lock.
pub(super) const DOOR: Duration = Duration::from_millis(20);

pub(super) fn at_the_door(patience: Patience) -> Patience {
    if matches!(patience, Patience::None) { Patience::lasting(DOOR) } else { patience }
}

/// Holds the producers' lock.
struct Producer<'g> {
    ground: &'g Ground,
    lock: Option<Owned>,
}

impl<'g> Producer<'g> {
    #[inline(always)]
    fn enter(ground: &'g Ground, patience: Patience) -> Result<Producer<'g>> {
        let lock = &ground.ends.tail.lock;
        let owned = lock.acquire(ground.ends.key(lock.cell()), WHAT, at_the_door(patience))?;
        if owned.recovered() {
            // What it wrote beyond the tail is nobody's; but it may have moved the tail, and told nobody.
            ground.tell_all();
        }
        Ok(Producer { ground, lock: Some(owned) })
    }
}

impl Drop for Producer<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(lock) = self.lock.take() {
            self.ground.ends.tail.lock.release(lock);
        }
    }
}

impl Ground {
    fn fits(&self, len: usize) -> Result<()> {
        if len > self.max_message { Err(Error::TooLong { len, max: self.max_message }) } else { Ok(()) }
    }

    #[inline]
    pub(super) fn push(&self, message: &[u8], patience: Patience) -> Result<()> {
        self.fits(message.len())?;
        self.put(words_of(message.len()), 1, patience, |start| self.write(start, message))
    }

    /// Puts `messages` messages of together `words` words, which the ring can hold, at the end.
    #[inline]
    fn put(&self, words: usize, messages: usize, patience: Patience, write: impl Fn(usize)) -> Result<()> {
        if let Some(done) = self.put_at_once(words, messages, patience, &write, false)? {
            return done;
        }
        self.put_slowly(words, messages, patience, write)
    }

    /// One attempt; None: there is no room. `slept`: others may be asleep still.
    #[inline(always)]
    #[allow(clippy::option_option)]
    fn put_at_once(
        &self,
        words: usize,
        messages: usize,
        patience: Patience,
        write: &impl Fn(usize),
        slept: bool,
    ) -> Result<Option<Result<()>>> {
        let ends = &*self.ends;
        let producer = Producer::enter(self, patience)?;
        let tail = ends.tail.mark();
        if tail.closed() {
            return Ok(Some(Err(Error::Closed)));
        }
        let ring = self.words();
        let mut floor = Mark(owned(&ends.tail.seen));
        if floor.words_to(tail, ring) + words > ring {
            floor = ends.floor.mark();
            // Relaxed: under the lock.
            ends.tail.seen.store(floor.0, Ordering::Relaxed);
            if floor.words_to(tail, ring) + words > ring {
                return Ok(None);
            }
        }
        write(tail.index());
        let old = ends.tail.moved(tail, words, messages, ring);
        // All this before the lock is let go: should this process die first, the next producer is told, and tells those who wait.
        if old.asleep() {
            futex::wake(&ends.tail.at, u32::try_from(messages).unwrap_or(u32::MAX));
        }
        if old.armed() {
            self.filled.signal();
        } else {
            self.signal_for_the_dead();
        }
        if slept {
            self.pass_on(old.advanced(words, messages, ring), words);
        }
        drop(producer);
        Ok(Some(Ok(())))
    }

    /// One that slept has found room, and others may be asleep still: it wakes the next one if there is room for one more message like its own, and
    /// else leaves that to the next pop. Under the lock.
    #[cold]
    fn pass_on(&self, tail: Mark, words: usize) {
        let (floor, ring) = (&self.ends.floor, self.words());
        loop {
            let seen = floor.mark();
            if seen.words_to(tail, ring) + words <= ring {
                futex::wake(&floor.at, 1);
                return;
            }
            // Fails when the floor has moved meanwhile, perhaps for nobody.
            if floor.flag(seen, Mark::with_sleepers).is_some() {
                return;
            }
        }
    }

    #[cold]
    fn put_slowly(&self, words: usize, messages: usize, patience: Patience, write: impl Fn(usize)) -> Result<()> {
        let ends = &*self.ends;
        let seat = me()?;
        let mut slices = Slices::new();
        let mut left = spins();
        let mut slept = false;
        loop {
            let floor = ends.floor.mark();
            if let Some(done) = self.put_at_once(words, messages, patience, &write, slept)? {
                return done;
            }
            if matches!(patience, Patience::None) {
                // The word was read before the look, so whoever makes room after it meets the flag.
                if self.waited_for() && !ends.floor.arm(floor, &self.emptied) {
                    continue;
                }
                return Err(Error::Full { capacity: self.bytes });
            }
            if ends.floor.lock.load().owner() == Some(seat.tag()) {
                // Inside a closure of `pop_with` or `drain`: nobody makes room before it returns.
                return Err(Error::WouldDeadlock { what: WHAT });
            }
            while left > 0 && ends.floor.mark().is_at(floor) {
                left -= 1;
                spin_hint();
            }
            let Some(flagged) = ends.floor.flag(floor, Mark::with_sleepers) else { continue };
            patience.check()?;
            seat.lie_down(self.ends.key(&ends.floor.at), 0);
            slept = true;
            let _ = slices.rest(&ends.floor.at, flagged.0, patience);
            seat.get_up();
        }
    }

    /// Whether anybody has ever asked for the eventfds.
    pub(super) fn waited_for(&self) -> bool {
        // Relaxed: whoever asks looks at the ring afterwards.
        self.ends.watched.load(Ordering::Relaxed) != 0
    }
}
