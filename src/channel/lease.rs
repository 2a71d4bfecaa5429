//! Leases: messages that are in somebody's hands, and come back if that one dies or gives up.
//!
//! A leased message stays where it is in the ring; its head names the thread that has it, by one store. So a death anywhere leaves it
//! either leased to the dead, which is as good as given back, or not. The floor waits for the oldest of them: a lease that is held for long keeps the room of
//! all that was pushed after it.

use std::marker::PhantomData;
use std::ops::Deref;
use std::time::Duration;

use super::Channel;
use super::ground::{Ground, words_of};
use super::mark::Head;
use super::pop::{Consumer, First};
use crate::robust::{Claim, Patience, Tag, at_once, certainly_dead, known_dead, me, seated};
use crate::sync::{Look, Ordering, futex, owned};
use crate::{Error, Result};

/// A message in this thread's hands; it comes back to the front of the channel, with one attempt more, unless it is
/// [acknowledged](Lease::ack): when it is dropped, and when its thread or process dies. Bound to its thread.
#[derive(Debug)]
#[must_use = "a lease that is dropped gives the message back"]
pub struct Lease {
    channel: Channel,
    index: usize,
    head: Head,
    message: Vec<u8>,
    done: bool,
    not_send: PhantomData<*mut ()>,
}

impl Channel {
    /// Leases the first message, waiting for one.
    ///
    /// # Errors
    /// As [`pop`](Channel::pop).
    ///
    /// # Examples
    /// ```
    /// let tasks = commons::Channel::new(4096)?;
    /// tasks.push(b"dig")?;
    /// drop(tasks.pop_lease()?); // not done
    /// let task = tasks.pop_lease()?;
    /// assert_eq!((&*task, task.attempts()), (&b"dig"[..], 1));
    /// task.ack()?;
    /// assert!(tasks.is_empty());
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn pop_lease(&self) -> Result<Lease> {
        self.lease(Patience::Endless)
    }

    /// Leases the first message, if there is one.
    ///
    /// # Errors
    /// As [`try_pop`](Channel::try_pop).
    pub fn try_pop_lease(&self) -> Result<Option<Lease>> {
        at_once(self.lease(Patience::None))
    }

    /// Leases the first message, waiting for one for at most `timeout`.
    ///
    /// # Errors
    /// As [`pop_timeout`](Channel::pop_timeout).
    pub fn pop_lease_timeout(&self, timeout: Duration) -> Result<Lease> {
        self.lease(Patience::lasting(timeout))
    }

    /// The messages that came back from as many leases as [`max_attempts`](crate::ChannelBuilder::max_attempts) allows; None where nothing was
    /// said of attempts. When it has no room left, its oldest go. It is a channel to take from: a push of one's own is [`Error::DeadLetters`].
    ///
    /// # Examples
    /// ```
    /// let tasks = commons::Channel::builder().capacity(4096).max_attempts(2).build()?;
    /// tasks.push(b"impossible")?;
    /// drop(tasks.pop_lease()?);
    /// drop(tasks.pop_lease()?);
    /// assert!(tasks.try_pop_lease()?.is_none());
    /// assert_eq!(tasks.dead_letters().unwrap().pop()?, b"impossible");
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn dead_letters(&self) -> Option<&Channel> {
        self.ground.dead_letters.as_ref()
    }

    fn lease(&self, patience: Patience) -> Result<Lease> {
        let ground = &*self.ground;
        ground.next(patience, |consumer, first| {
            let mut message = Vec::new();
            ground.read(first.index, first.head.len(), &mut message);
            let head = consumer.lease(first)?;
            let (channel, index) = (self.clone(), first.index);
            Ok(Lease { channel, index, head, message, done: false, not_send: PhantomData })
        })
    }
}

impl Lease {
    /// How many leases of this message came back before.
    pub fn attempts(&self) -> u32 {
        self.head.attempts()
    }

    /// Says that the message is done with: it is gone for ever.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] in a process that only inherited the lease by a fork; [`Error::WouldDeadlock`] in a closure of this channel's, or
    /// while this thread's own session keeps the consumers' end: then the message comes back.
    pub fn ack(mut self) -> Result<()> {
        self.end(|consumer, index, head| {
            consumer.done(index, head);
            // Where that was the last one, and nothing can come any more, those who wait have waited for the end.
            if consumer.alone() && consumer.ground.ends.tail.mark().closed() {
                consumer.ground.stir();
            }
        })
    }

    /// Under the lock, if the message is still this lease's.
    fn end(&mut self, f: impl FnOnce(&mut Consumer<'_>, usize, Head)) -> Result<()> {
        if self.done {
            return Ok(());
        }
        let ground = &*self.channel.ground;
        if seated().is_none_or(|seat| seat.tag().bits() != self.head.holder()) {
            self.done = true;
            return Err(Error::LeaseLost);
        }
        let entered = Consumer::enter(ground, Patience::Endless);
        self.done = true;
        let mut consumer = match entered {
            Ok(consumer) => consumer,
            Err(error) => {
                self.abandon();
                return Err(error);
            }
        };
        // Relaxed: under the lock.
        if ground.head(self.index).load(Ordering::Relaxed) != self.head.0 {
            return Err(Error::LeaseLost);
        }
        f(&mut consumer, self.index, self.head);
        drop(consumer);
        me()?.unnote_lease(ground.tail.at);
        Ok(())
    }

    /// In a closure, or beside a session, of its own thread, which has the lock already and is in the middle of something: the message is
    /// left to whoever comes next, as if its holder had died.
    #[cold]
    fn abandon(&self) {
        let ground = &*self.channel.ground;
        let gone = Tag::from_bits(self.head.holder()).predecessor();
        // By an exchange: if the lock is not this thread's after all, the message may be another's. AcqRel: as in `lease`.
        let (old, new) = (self.head.0, self.head.leased_to(gone.bits()).0);
        let _ = ground.head(self.index).compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed);
        ground.stir();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = self.end(|consumer, index, head| _ = consumer.give_back(index, head));
    }
}

impl Deref for Lease {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.message
    }
}

impl Consumer<'_> {
    fn lease(&mut self, first: First) -> Result<Head> {
        let (ground, seat) = (self.ground, me()?);
        // For burial, which then wakes who waits for it. Without room in the ledger they find out at the end of their slice.
        seat.note_lease(ground.tail.at);
        let head = first.head.leased_to(seat.tag().bits());
        self.count_out(1);
        // Release: pairs with nothing but the lock; the store is the lease.
        ground.head(first.index).store(head.0, Ordering::Release);
        Ok(head)
    }

    pub(super) fn count_out(&mut self, by: i64) {
        let out = &self.ground.ends.floor.out;
        // Relaxed: under the lock. A death between this and the head leaves the lock to be repaired.
        out.store(owned(out).saturating_add_signed(by), Ordering::Relaxed);
    }

    /// Gives a leased message back to the front, or to the dead letters; whether it is there for the taking.
    fn give_back(&mut self, index: usize, head: Head) -> bool {
        let (ground, ends) = (self.ground, &self.ground.ends);
        let (back, returned) = (head.returned(), owned(&ends.returned));
        let letters = ground.dead_letters.as_ref().filter(|_| back.attempts() >= ground.max_attempts);
        // First what was, then that something is on its way: `repair` finds out by the head, and by the number of letters, how far it got.
        // Release, all: in this order, whoever dies.
        ends.before.store(returned, Ordering::Release);
        ends.letters.store(ground.letters(), Ordering::Release);
        ends.moving.store(index as u64 + 1, Ordering::Release);
        ends.returned.store(returned + 1, Ordering::Release);
        // The commit. A letter that is not taken (they are closed, or somebody was stopped in the middle of them) stays, and tries again when it comes
        // back once more.
        let buried = letters.is_some_and(|letters| self.bury_letter(letters, index, head));
        if !buried {
            ground.head(index).store(back.0, Ordering::Release);
        }
        // Before the floor moves: then the index may be another message's.
        ends.moving.store(0, Ordering::Release);
        if buried {
            self.reclaim();
        } else {
            self.count_out(-1);
            // Relaxed: under the lock.
            ends.floor.ahead.store(0, Ordering::Relaxed);
        }
        ground.stir();
        !buried
    }

    /// Moves a message to the dead letters; whether they took it.
    fn bury_letter(&self, letters: &Channel, index: usize, head: Head) -> bool {
        let mut message = Vec::new();
        self.ground.read(index, head.len(), &mut message);
        loop {
            match letters.ground.push_letter(&message) {
                Ok(()) => break,
                Err(Error::Full { .. }) if matches!(letters.try_pop(), Ok(Some(_))) => {}
                Err(_) => return false,
            }
        }
        // Release: after the letter has arrived.
        self.ground.head(index).store(head.done().0, Ordering::Release);
        true
    }

    /// The first message that nobody has, where some are leased.
    #[cold]
    pub(super) fn first_behind_leases(&mut self, closely: bool) -> Option<First> {
        let floor = &self.ground.ends.floor;
        let dead = |head: Head, look: Option<Look>| {
            let tag = Tag::from_bits(head.holder());
            head.holder() != 0 && (known_dead(tag) || look.is_some_and(|look| certainly_dead(tag, look)))
        };
        // The oldest keeps the room of all others, so it is looked at each time; the rest when there is nothing else to be had.
        if let Some(oldest) = self.at(0).filter(|oldest| dead(oldest.head, None)) {
            self.give_back(oldest.index, oldest.head);
        }
        let mut ahead = owned(&floor.ahead) as usize;
        let mut look_again = true;
        loop {
            while let Some(one) = self.at(ahead) {
                if one.head.is_ready() {
                    floor.ahead.store(ahead as u64, Ordering::Relaxed); // under the lock
                    return Some(one);
                }
                ahead += words_of(one.head.len());
            }
            floor.ahead.store(ahead as u64, Ordering::Relaxed); // under the lock
            if !std::mem::take(&mut look_again) {
                return None;
            }
            let mut at = 0;
            while let Some(one) = self.at(at) {
                at += words_of(one.head.len());
                if dead(one.head, closely.then_some(Look::Close)) {
                    // One that went to the dead letters is nothing to be had.
                    look_again = !self.give_back(one.index, one.head);
                    break;
                }
            }
            // Where the first of the dead was; there may be more behind it, which the next call finds.
            ahead = owned(&floor.ahead) as usize;
        }
    }

    /// After the lock's owner died: the hints are worked out anew, a lease that was coming back has come back or has not, a letter that was
    /// on its way has arrived or has not; and whoever waits looks for himself, for the dead may have been about to tell him.
    #[cold]
    pub(super) fn repair(&mut self) {
        let (ground, ends) = (self.ground, &self.ground.ends);
        let moving = owned(&ends.moving) as usize;
        if let Some(index) = moving.checked_sub(1) {
            // Relaxed: under the lock.
            let head = Head(ground.head(index).load(Ordering::Relaxed));
            let (undone, arrived) = (head.holder() != 0, ground.letters() != owned(&ends.letters));
            if undone && arrived {
                ground.head(index).store(head.done().0, Ordering::Release);
            }
            // Release, all: in this order, whoever dies.
            ends.returned.store(owned(&ends.before) + u64::from(!undone || arrived), Ordering::Release);
            ends.moving.store(0, Ordering::Release);
        }
        let (mut at, mut out) = (0, 0);
        while let Some(one) = self.at(at) {
            at += words_of(one.head.len());
            out += u64::from(!one.head.is_ready());
        }
        // Relaxed: under the lock.
        ends.floor.out.store(out, Ordering::Relaxed);
        ends.floor.ahead.store(0, Ordering::Relaxed);
        self.reclaim();
        ground.tell_all();
    }
}

impl Ground {
    /// Wakes those who wait until there is a message.
    fn stir(&self) {
        let tail = &self.ends.tail;
        let old = tail.quieten();
        if old.asleep() {
            futex::wake(&tail.at, u32::MAX);
        }
        if old.armed() {
            self.filled.signal();
        }
    }

    /// How many letters there were ever. Only ever pushed to under the consumers' lock, since nobody else may: so `repair` tells by it whether
    /// one has arrived.
    fn letters(&self) -> u64 {
        self.dead_letters.as_ref().map_or(0, |letters| letters.ground.ends.tail.total())
    }
}

impl crate::robust::Seat {
    fn note_lease(self, key: crate::shm::Key) {
        match self.find(Claim::Sleep, key) {
            Some((held, count)) => self.recount(held, count + 1),
            None => drop(self.note(Claim::Sleep, key, 1)),
        }
    }

    fn unnote_lease(self, key: crate::shm::Key) {
        match self.find(Claim::Sleep, key) {
            Some((held, count @ 2..)) => self.recount(held, count - 1),
            Some((held, _)) => self.strike(held),
            None => {}
        }
    }
}
