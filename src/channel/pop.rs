//! The consumers' end.

use std::time::Duration;

use super::Channel;
use super::ground::{Ground, words_of};
use super::mark::{Head, Mark};
use super::push::enter;
use super::wait::Waiting;
use crate::Result;
use crate::robust::{Owned, Patience, at_once};
use crate::sync::{Ordering, futex, owned};

impl Channel {
    /// Takes the first message, waiting for one.
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed) when the channel is closed and empty;
    /// [`Error::WouldDeadlock`](crate::Error::WouldDeadlock) inside a closure of this channel's, and beside a [`pop_session`](Channel::pop_session) of this thread's;
    /// [`Error::TooManyParticipants`](crate::Error::TooManyParticipants).
    ///
    /// # Examples
    /// ```
    /// let channel = commons::Channel::new(4096)?;
    /// channel.push(b"hello")?;
    /// assert_eq!(channel.pop()?, b"hello");
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn pop(&self) -> Result<Vec<u8>> {
        let mut message = Vec::new();
        self.ground.pop_into(&mut message, Patience::Endless)?;
        Ok(message)
    }

    /// Takes the first message, if there is one.
    ///
    /// # Errors
    /// As [`pop`](Channel::pop). [`Error::Timeout`](crate::Error::Timeout) after 1 ms when a consumer was stopped in the middle.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(commons::Channel::new(4096)?.try_pop()?, None);
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn try_pop(&self) -> Result<Option<Vec<u8>>> {
        let mut message = Vec::new();
        Ok(at_once(self.ground.pop_into(&mut message, Patience::None))?.map(|()| message))
    }

    /// Takes the first message, waiting for one for at most `timeout`.
    ///
    /// # Errors
    /// [`Error::Timeout`](crate::Error::Timeout), and as [`pop`](Channel::pop).
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let channel = commons::Channel::new(4096)?;
    /// assert!(matches!(channel.pop_timeout(Duration::from_millis(1)), Err(commons::Error::Timeout { .. })));
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn pop_timeout(&self, timeout: Duration) -> Result<Vec<u8>> {
        let mut message = Vec::new();
        self.ground.pop_into(&mut message, Patience::lasting(timeout))?;
        Ok(message)
    }

    /// Takes the first message into `message`, whose memory is used again.
    ///
    /// # Errors
    /// As [`pop`](Channel::pop).
    ///
    /// # Examples
    /// ```
    /// let channel = commons::Channel::new(4096)?;
    /// channel.push_many(&["first", "2nd"])?;
    /// let mut message = Vec::new();
    /// channel.pop_into(&mut message)?;
    /// channel.pop_into(&mut message)?;
    /// assert_eq!(message, b"2nd");
    /// # Ok::<(), commons::Error>(())
    /// ```
    #[inline]
    pub fn pop_into(&self, message: &mut Vec<u8>) -> Result<()> {
        self.ground.pop_into(message, Patience::Endless)
    }

    /// Takes the first message into `message`, if there is one; otherwise that stays as it is.
    ///
    /// # Errors
    /// As [`try_pop`](Channel::try_pop).
    ///
    /// # Examples
    /// ```
    /// let channel = commons::Channel::new(4096)?;
    /// channel.push(b"hello")?;
    /// let mut message = Vec::new();
    /// assert!(channel.try_pop_into(&mut message)? && !channel.try_pop_into(&mut message)?);
    /// assert_eq!(message, b"hello");
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn try_pop_into(&self, message: &mut Vec<u8>) -> Result<bool> {
        Ok(at_once(self.ground.pop_into(message, Patience::None))?.is_some())
    }

    /// Shows the first message to `f`, waiting for one, and takes it when `f` has returned: a process that dies in it, or a panic, leaves the
    /// message to the next one. Other consumers wait meanwhile.
    ///
    /// # Errors
    /// As [`pop`](Channel::pop).
    ///
    /// # Examples
    /// ```
    /// let channel = commons::Channel::new(4096)?;
    /// channel.push(b"hello")?;
    /// assert_eq!(channel.pop_with(|message| message.len())?, 5);
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn pop_with<R>(&self, f: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let ground = &*self.ground;
        ground.next(Patience::Endless, |consumer, first| {
            let mut message = Vec::new();
            ground.read(first.index, first.head.len(), &mut message);
            let result = f(&message);
            consumer.take_if_mine(first);
            Ok(result)
        })
    }

    /// A copy of the first message, which stays.
    ///
    /// # Errors
    /// As [`try_pop`](Channel::try_pop).
    ///
    /// # Examples
    /// ```
    /// let channel = commons::Channel::new(4096)?;
    /// channel.push(b"hello")?;
    /// assert_eq!(channel.peek()?, channel.try_pop()?);
    /// assert_eq!(channel.peek()?, None);
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn peek(&self) -> Result<Option<Vec<u8>>> {
        let ground = &*self.ground;
        at_once(ground.next(Patience::None, |_, first| {
            let mut message = Vec::new();
            ground.read(first.index, first.head.len(), &mut message);
            Ok(message)
        }))
    }
}

/// A message that nobody has.
#[derive(Clone, Copy)]
pub(super) struct First {
    pub(super) index: usize,
    pub(super) head: Head,
}

/// Messages one behind the other: where the first lies, and the words of all.
pub(super) struct Known {
    pub(super) index: usize,
    pub(super) words: usize,
}

/// Holds the consumers' lock.
pub(super) struct Consumer<'g> {
    pub(super) ground: &'g Ground,
    lock: Owned,
}

impl Drop for Consumer<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.ground.ends.floor.lock.release(self.lock);
    }
}

impl Ground {
    /// The message at `index`, before the tail.
    #[inline(always)]
    pub(super) fn message(&self, index: usize) -> First {
        // Relaxed: written before the tail moved on, or under the lock.
        First { index, head: Head(self.head(index).load(Ordering::Relaxed)) }
    }

    #[inline]
    pub(super) fn pop_into(&self, message: &mut Vec<u8>, patience: Patience) -> Result<()> {
        self.next(patience, |consumer, first| {
            self.read(first.index, first.head.len(), message);
            consumer.take(first);
            Ok(())
        })
    }

    /// Calls `f` with the first message, under the consumers' lock, waiting for one.
    #[inline]
    pub(super) fn next<R>(
        &self,
        patience: Patience,
        f: impl FnOnce(&mut Consumer<'_>, First) -> Result<R>,
    ) -> Result<R> {
        let mut waiting = None;
        loop {
            let mut consumer = Consumer::enter(self, patience)?;
            let closely =
                waiting.as_mut().is_some_and(|waiting: &mut Waiting<'_>| std::mem::take(&mut waiting.closely));
            if let Some(first) = consumer.first(closely) {
                if waiting.is_some_and(|waiting| waiting.slept) {
                    consumer.pass_on();
                }
                return f(&mut consumer, first);
            }
            let waiting = waiting.get_or_insert_with(|| Waiting::new(&self.in_vain[0]));
            self.wait_for_message(&mut Some(consumer), false, waiting, patience)?;
        }
    }
}

impl<'g> Consumer<'g> {
    #[inline(always)]
    pub(super) fn enter(ground: &'g Ground, patience: Patience) -> Result<Consumer<'g>> {
        let owned = enter(&ground.ends.floor, ground.floor, patience)?;
        let mut consumer = Consumer { ground, lock: owned };
        if owned.recovered() {
            consumer.repair();
        }
        Ok(consumer)
    }

    #[inline(always)]
    pub(super) fn is_mine(&self) -> bool {
        self.lock.is_mine()
    }

    /// Whether nothing is leased, nor done with behind what is ready: then the floor alone says what is there.
    #[inline(always)]
    pub(super) fn alone(&self) -> bool {
        owned(&self.ground.ends.floor.out) == 0
    }

    /// The first message that nobody has. `closely`: whether those who have leased some are looked at closely.
    #[inline(always)]
    pub(super) fn first(&mut self, closely: bool) -> Option<First> {
        if !self.alone() {
            return self.first_behind_leases(closely);
        }
        self.at(0)
    }

    /// The message so many words from the floor, if there is one.
    #[inline(always)]
    pub(super) fn at(&self, ahead: usize) -> Option<First> {
        self.known(ahead).map(|known| self.ground.message(known.index))
    }

    /// What is known to lie so many words from the floor on, if there is anything; the next messages are fetched meanwhile.
    #[inline(always)]
    pub(super) fn known(&self, ahead: usize) -> Option<Known> {
        let (ground, floor) = (self.ground, &self.ground.ends.floor);
        let (mark, ring) = (floor.mark(), ground.words());
        let mut tail = Mark(owned(&floor.seen));
        if mark.words_to(tail, ring) <= ahead {
            tail = floor.look_at(&ground.ends.tail, |tail| mark.messages_to(tail));
            if mark.words_to(tail, ring) <= ahead {
                return None;
            }
        }
        let (index, words) = (ground.wrapped(mark.index() + ahead), mark.words_to(tail, ring) - ahead);
        ground.fetch_ahead(index, words, false);
        Some(Known { index, words })
    }

    /// One that slept has found a message, and others may sleep still: it wakes the next one if there may be another message, and else leaves that to
    /// the next push. The flag is set only where there is nothing to be had, for one that set it before, and is about to sleep, would take this for its own.
    #[cold]
    pub(super) fn pass_on(&self) {
        let (floor, tail) = (&self.ground.ends.floor, &self.ground.ends.tail);
        loop {
            let seen = tail.mark();
            if floor.mark().messages_to(seen) > owned(&floor.out) as usize + 1 {
                futex::wake(&tail.at, 1);
                return;
            }
            // Fails when the tail has moved meanwhile, perhaps for nobody.
            if tail.flag(seen, Mark::with_sleepers).is_some() {
                return;
            }
        }
    }

    /// Takes a message for good.
    #[inline(always)]
    pub(super) fn take(&mut self, first: First) {
        if self.alone() {
            return self.move_floor(words_of(first.head.len()), 1);
        }
        self.count_out(1);
        self.done(first.index, first.head);
    }

    /// After a closure: in a process that was forked in it, nothing happens; the message is its parent's.
    pub(super) fn take_if_mine(&mut self, first: First) {
        if self.is_mine() {
            self.take(first);
        }
    }

    /// Says that a message is done with, which counts as out already: the commit; and reclaims what lies at the floor.
    #[cold]
    pub(super) fn done(&mut self, index: usize, head: Head) {
        // Release: what was made of the message happens before it is gone.
        self.ground.head(index).store(head.done().0, Ordering::Release);
        self.reclaim();
    }

    /// Moves the floor over what is done with.
    pub(super) fn reclaim(&mut self) {
        let (mut words, mut messages) = (0, 0);
        while let Some(one) = self.at(words).filter(|one| one.head.is_done()) {
            words += words_of(one.head.len());
            messages += 1;
        }
        if messages > 0 {
            let ahead = owned(&self.ground.ends.floor.ahead) as usize;
            // Before the floor: a hint that is too low is made good by a longer look. Relaxed: under the lock.
            self.ground.ends.floor.ahead.store(ahead.saturating_sub(words) as u64, Ordering::Relaxed);
            self.count_out(-(messages as i64));
            self.move_floor(words, messages);
        }
    }

    #[inline(always)]
    pub(super) fn move_floor(&mut self, words: usize, messages: usize) {
        let (ground, floor) = (self.ground, &self.ground.ends.floor);
        let old = floor.moved(floor.mark(), words, messages, ground.words());
        if old.waited_for() {
            ground.tell_of_room(old, messages);
        }
    }

    /// Asks for the eventfd, having found nothing since `tail`; false when something came meanwhile.
    pub(super) fn arm(&mut self, tail: Mark) -> bool {
        self.ground.ends.tail.arm(tail, &self.ground.filled)
    }
}
