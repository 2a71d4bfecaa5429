//! The producers' end.

use std::time::Duration;

use smallvec::SmallVec;

use super::Channel;
use super::ground::{End, Ground, Names, WHAT, words_of};
use super::mark::Mark;
use super::wait::Waiting;
use crate::robust::{Owned, Patience, me};
use crate::sync::{Ordering, futex, owned};
use crate::{Error, Result};

impl Channel {
    /// Puts a message at the end, waiting for room.
    ///
    /// It is there for ever once this returned; a process that dies before that leaves nothing.
    ///
    /// # Errors
    /// [`Error::TooLong`] for more than [`max_message`](Channel::max_message) bytes; [`Error::Closed`]; [`Error::WouldDeadlock`] beside a
    /// [`push_session`](Channel::push_session) of this thread's, and where there is no room inside a closure of this channel's; [`Error::TooManyParticipants`].
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
    /// [`Error::Full`], and as [`push`](Channel::push). [`Error::Timeout`] after 1 ms when a producer was stopped in the middle.
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

    /// The same where it is no error that a producer was stopped in the middle: to one who does not wait that is as good as no room.
    #[cfg(feature = "server")]
    pub(crate) fn push_now(&self, message: &[u8]) -> Result<()> {
        self.try_push(message).map_err(|error| match error {
            Error::Timeout { .. } => Error::Full { capacity: self.capacity() },
            other => other,
        })
    }

    /// Puts a message at the end, waiting for room for at most `timeout`.
    ///
    /// # Errors
    /// [`Error::Timeout`], and as [`push`](Channel::push).
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use commons::{Channel, Error};
    /// let channel = Channel::builder().capacity(16).max_message(8).build()?;
    /// channel.push(b"it fits.")?;
    /// assert!(matches!(channel.push_timeout(b"more", Duration::from_millis(1)), Err(Error::Timeout { .. })));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn push_timeout(&self, message: &[u8], timeout: Duration) -> Result<()> {
        self.ground.push(message, Patience::lasting(timeout))
    }

    /// Puts all of `messages` at the end, in order and at one instant: others see all of them or none. Each is asked for its bytes once.
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
        // Before the lock, and once: `as_ref` is the caller's code. It may say something else the second time, fork, panic, or push itself.
        let mut asked = SmallVec::<[&[u8]; FEW]>::new();
        asked.extend(messages.iter().map(M::as_ref));
        if asked.is_empty() { Ok(()) } else { self.ground.push_all(&asked) }
    }

    /// Ends the channel: pushes fail from now on, pops take what is left and then fail as well. Doing it twice does nothing the second time.
    ///
    /// # Errors
    /// [`Error::WouldDeadlock`] beside a [`push_session`](Channel::push_session) of this thread's; [`Error::TooManyParticipants`].
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
    ///
    /// # Examples
    /// ```
    /// assert!(!commons::Channel::new(4096)?.is_closed());
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn is_closed(&self) -> bool {
        self.ground.ends.tail.mark().closed()
    }
}

/// So many messages of [`push_many`](Channel::push_many) are remembered without asking for memory.
const FEW: usize = 32;

/// A moment that a call which waits for nothing allows another to leave the lock.
pub(super) const DOOR: Duration = Duration::from_millis(1);

/// Takes one end's lock.
#[inline(always)]
pub(super) fn enter(end: &End, names: Names, patience: Patience) -> Result<Owned> {
    match end.lock.acquire_at_once(names.lock) {
        Some(owned) => Ok(owned),
        None => knock(end, names, patience),
    }
}

#[cold]
fn knock(end: &End, names: Names, patience: Patience) -> Result<Owned> {
    let patience = if matches!(patience, Patience::None) { Patience::lasting(DOOR) } else { patience };
    end.lock.acquire(names.lock, WHAT, patience)
}

/// What became of an attempt to push.
pub(super) enum Offer {
    /// It is there; the tail as it was before, with the flags of those who wait.
    Taken(Mark),
    /// There is no room; the floor as it was then.
    Full(Mark),
    Closed,
}

/// Holds the producers' lock.
pub(super) struct Producer<'g> {
    ground: &'g Ground,
    lock: Owned,
}

impl<'g> Producer<'g> {
    #[inline(always)]
    pub(super) fn enter(ground: &'g Ground, patience: Patience) -> Result<Producer<'g>> {
        let owned = enter(&ground.ends.tail, ground.tail, patience)?;
        if owned.recovered() {
            // What it wrote beyond the tail is nobody's; but it may have moved the tail, and told nobody.
            ground.tell_all();
        }
        Ok(Producer { ground, lock: owned })
    }

    /// Puts `messages` messages of together `words` words at the end, if there is room.
    #[inline(always)]
    pub(super) fn offer(&self, words: usize, messages: usize, write: &impl Fn(usize)) -> Offer {
        let (ground, ends, ring) = (self.ground, &*self.ground.ends, self.ground.words());
        let tail = ends.tail.mark();
        if tail.closed() {
            return Offer::Closed;
        }
        let mut floor = Mark(owned(&ends.tail.seen));
        if floor.words_to(tail, ring) + words > ring {
            floor = ends.tail.look_at(&ends.floor, |floor| (ring - floor.words_to(tail, ring)) / words);
            if floor.words_to(tail, ring) + words > ring {
                return Offer::Full(floor);
            }
        }
        ground.fetch_ahead(tail.index(), ring - floor.words_to(tail, ring), true);
        write(tail.index());
        Offer::Taken(ends.tail.moved(tail, words, messages, ring))
    }

    /// Whether the lock is still this thread's, and not its parent's, from before a fork.
    #[inline(always)]
    pub(super) fn is_mine(&self) -> bool {
        self.lock.is_mine()
    }
}

impl Drop for Producer<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.ground.ends.tail.lock.release(self.lock);
    }
}

impl Ground {
    #[inline(always)]
    pub(super) fn fits(&self, len: usize) -> Result<()> {
        if len < self.too_long { Ok(()) } else { self.refuse(len) }
    }

    #[cold]
    fn refuse(&self, len: usize) -> Result<()> {
        Err(if self.too_long == 0 { Error::DeadLetters } else { Error::TooLong { len, max: self.max_message } })
    }

    /// Where these are the dead letters: takes one from the channel whose they are.
    pub(super) fn push_letter(&self, message: &[u8]) -> Result<()> {
        self.put(words_of(message.len()), 1, Patience::None, |start| self.write(start, message))
    }

    #[inline]
    pub(super) fn push(&self, message: &[u8], patience: Patience) -> Result<()> {
        self.fits(message.len())?;
        self.put(words_of(message.len()), 1, patience, |start| self.write(start, message))
    }

    fn push_all(&self, messages: &[&[u8]]) -> Result<()> {
        let mut words = 0;
        for message in messages {
            self.fits(message.len())?;
            words += words_of(message.len());
        }
        if words > self.words() {
            return Err(Error::TooLong { len: words * 8, max: self.words() * 8 });
        }
        self.put(words, messages.len(), Patience::Endless, |start| {
            let mut at = start;
            for message in messages {
                self.write(at, message);
                at = self.wrapped(at + words_of(message.len()));
            }
        })
    }

    /// Puts `messages` messages of together `words` words, which the ring can hold, at the end.
    #[inline]
    fn put(&self, words: usize, messages: usize, patience: Patience, write: impl Fn(usize)) -> Result<()> {
        let mut waiting = None;
        loop {
            let producer = Producer::enter(self, patience)?;
            match producer.offer(words, messages, &write) {
                Offer::Taken(old) => {
                    let slept = waiting.is_some_and(|waiting: Waiting<'_>| waiting.slept);
                    self.announce(old, words, messages, slept);
                    return Ok(());
                }
                Offer::Full(floor) => {
                    drop(producer);
                    let waiting = waiting.get_or_insert_with(|| Waiting::new(&self.in_vain[1]));
                    self.wait_for_room(floor, waiting, patience)?;
                }
                Offer::Closed => return Err(Error::Closed),
            }
        }
    }

    /// Tells of what was pushed, if somebody waits for it. `slept`: others may be asleep still, until there is room. All this before the lock is let go:
    /// should this process die first, the next producer is told, and tells those who wait.
    #[inline(always)]
    pub(super) fn announce(&self, old: Mark, words: usize, messages: usize, slept: bool) {
        if old.waited_for() || slept || self.waited_for() {
            self.wake_for(old, words, messages, slept);
        }
    }

    #[cold]
    fn wake_for(&self, old: Mark, words: usize, messages: usize, slept: bool) {
        if old.asleep() {
            futex::wake(&self.ends.tail.at, u32::try_from(messages).unwrap_or(u32::MAX));
        }
        if old.armed() {
            self.filled.signal();
        } else {
            self.signal_for_the_dead();
        }
        if slept {
            self.pass_on(old.advanced(words, messages, self.words()), words);
        }
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

    /// Waits until the floor, where it was when there was no room, has moved.
    #[cold]
    pub(super) fn wait_for_room(&self, floor: Mark, waiting: &mut Waiting<'_>, patience: Patience) -> Result<()> {
        let (ends, seat) = (&*self.ends, me()?);
        if matches!(patience, Patience::None) {
            if self.waited_for() && !ends.floor.arm(floor, &self.emptied) {
                return Ok(());
            }
            return Err(Error::Full { capacity: self.bytes });
        }
        if ends.floor.lock.load().owner() == Some(seat.tag()) {
            // Inside a closure of `pop_with` or `drain`: nobody makes room before it returns.
            return Err(Error::WouldDeadlock { what: WHAT });
        }
        if waiting.looks() {
            waiting.look(&ends.floor, floor);
            return Ok(());
        }
        let Some(flagged) = ends.floor.flag(floor, Mark::with_sleepers) else { return Ok(()) };
        patience.check()?;
        seat.lie_down(self.floor.at, 0);
        waiting.sleep(&ends.floor, flagged, patience);
        seat.get_up();
        Ok(())
    }

    /// Whether anybody has ever asked for the eventfds.
    pub(super) fn waited_for(&self) -> bool {
        // Relaxed: whoever asks looks at the ring afterwards.
        self.ends.watched.load(Ordering::Relaxed) != 0
    }
}
