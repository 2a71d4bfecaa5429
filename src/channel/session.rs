//! Sessions: one end of the ring kept by one thread from message to message, for those who push or pop a great many.
//!
//! The lock is the same, and is held between the messages too. So nothing is new about death: the word names the owner at every instant, each push and each
//! pop is one store, and whoever finds the owner dead takes over. A living owner that does nothing is not robbed either, which is the price:
//! others at that end wait for its next message, or its end.
//!
//! Who waits for long says so in the lock's word, and falls asleep. The owner looks at that after each message, lets go, and for the next
//! [`SHARED`] messages takes the lock for each of them ([`Keep`]): were it to keep it at once again, it would have it back before the other is awake.

use std::marker::PhantomData;
use std::time::Duration;

use super::Channel;
use super::ground::{Ground, words_of};
use super::pop::{Consumer, First};
use super::push::{Offer, Producer};
use super::wait::Waiting;
use crate::robust::{Patience, RobustLock, at_once};
use crate::sync::size;
use crate::{Error, Result};

/// Messages for which the lock is taken anew after somebody wanted it.
const SHARED: usize = size(256, 1);

/// Keeps the producers' end for its thread; see [`Channel::push_session`].
#[must_use = "a session that is dropped keeps nothing"]
pub struct PushSession<'c> {
    ground: &'c Ground,
    keep: Keep<Producer<'c>>,
    not_send: PhantomData<*mut ()>,
}

/// Keeps the consumers' end for its thread; see [`Channel::pop_session`].
#[must_use = "a session that is dropped keeps nothing"]
pub struct PopSession<'c> {
    ground: &'c Ground,
    keep: Keep<Consumer<'c>>,
    not_send: PhantomData<*mut ()>,
}

/// An end of the ring that its session keeps, if it does just now, and when it gives way.
struct Keep<End> {
    held: Option<End>,
    /// Messages until it may keep the lock again.
    shared: usize,
}

impl<End> Keep<End> {
    fn new() -> Keep<End> {
        Keep { held: None, shared: 0 }
    }

    /// After each message: lets go if somebody wants the lock, or did a while ago.
    #[inline(always)]
    fn give_way(&mut self, lock: &RobustLock) {
        if self.shared > 0 || lock.is_wanted() {
            self.share();
        }
    }

    #[cold]
    fn share(&mut self) {
        self.held = None;
        self.shared = self.shared.checked_sub(1).unwrap_or(SHARED);
    }
}

impl Channel {
    /// For a thread that pushes a great many messages one by one: what it pushes through the session costs about half, as long as no other producer
    /// wants to push as well.
    ///
    /// From its first message on the session keeps the producers' end until it is dropped or its thread dies. Another producer has to wait until the next message
    /// of this session, which then shares the end with it for a while; so do not sit idle on one. `push` of the same channel by the same
    /// thread is [`Error::WouldDeadlock`] meanwhile.
    ///
    /// # Examples
    /// ```
    /// let channel = commons::Channel::new(4096)?;
    /// let mut session = channel.push_session();
    /// for n in 0..10u64 {
    ///     session.push(&n.to_le_bytes())?;
    /// }
    /// drop(session);
    /// assert_eq!(channel.len(), 10);
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn push_session(&self) -> PushSession<'_> {
        PushSession { ground: &self.ground, keep: Keep::new(), not_send: PhantomData }
    }

    /// The same for a thread that pops a great many. While the session sleeps for want of a message it keeps nothing. A push by the same thread that finds no room
    /// is [`Error::WouldDeadlock`], for nobody else could make any.
    ///
    /// # Examples
    /// ```
    /// let channel = commons::Channel::new(4096)?;
    /// channel.push_many(&["a", "b"])?;
    /// let mut session = channel.pop_session();
    /// let mut message = Vec::new();
    /// session.pop_into(&mut message)?;
    /// assert_eq!(message, b"a");
    /// assert_eq!(session.pop()?, b"b");
    /// assert_eq!(session.try_pop()?, None);
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn pop_session(&self) -> PopSession<'_> {
        PopSession { ground: &self.ground, keep: Keep::new(), not_send: PhantomData }
    }
}

impl std::fmt::Debug for PushSession<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PushSession").field("keeps", &self.keep.held.is_some()).finish()
    }
}

impl std::fmt::Debug for PopSession<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PopSession").field("keeps", &self.keep.held.is_some()).finish()
    }
}

impl PushSession<'_> {
    /// As [`Channel::push`].
    ///
    /// # Errors
    /// As [`Channel::push`].
    #[inline]
    pub fn push(&mut self, message: &[u8]) -> Result<()> {
        self.put(message, Patience::Endless)
    }

    /// As [`Channel::try_push`].
    ///
    /// # Errors
    /// As [`Channel::try_push`].
    #[inline]
    pub fn try_push(&mut self, message: &[u8]) -> Result<()> {
        self.put(message, Patience::None)
    }

    /// As [`Channel::push_timeout`].
    ///
    /// # Errors
    /// As [`Channel::push_timeout`].
    pub fn push_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<()> {
        self.put(message, Patience::lasting(timeout))
    }

    #[inline]
    fn put(&mut self, message: &[u8], patience: Patience) -> Result<()> {
        let ground = self.ground;
        ground.fits(message.len())?;
        let mut waiting = None;
        loop {
            let producer = match &mut self.keep.held {
                Some(producer) if producer.is_mine() => producer,
                // Nobody's yet, or the parent's, from before a fork.
                held => held.insert(Producer::enter(ground, patience)?),
            };
            match producer.offer(words_of(message.len()), 1, &|start| ground.write(start, message)) {
                Offer::Taken(old) => {
                    let slept = waiting.is_some_and(|waiting: Waiting<'_>| waiting.slept);
                    ground.announce(old, words_of(message.len()), 1, slept);
                    self.keep.give_way(&ground.ends.tail.lock);
                    return Ok(());
                }
                Offer::Full(floor) => {
                    self.keep.held = None;
                    let waiting = waiting.get_or_insert_with(|| Waiting::new(&ground.in_vain[1]));
                    ground.wait_for_room(floor, waiting, patience)?;
                }
                Offer::Closed => {
                    self.keep.held = None;
                    return Err(Error::Closed);
                }
            }
        }
    }
}

impl PopSession<'_> {
    /// As [`Channel::pop`].
    ///
    /// # Errors
    /// As [`Channel::pop`].
    pub fn pop(&mut self) -> Result<Vec<u8>> {
        let mut message = Vec::new();
        self.next(&mut message, Patience::Endless)?;
        Ok(message)
    }

    /// As [`Channel::pop_into`].
    ///
    /// # Errors
    /// As [`Channel::pop`].
    #[inline]
    pub fn pop_into(&mut self, message: &mut Vec<u8>) -> Result<()> {
        self.next(message, Patience::Endless)
    }

    /// As [`Channel::try_pop`].
    ///
    /// # Errors
    /// As [`Channel::try_pop`].
    pub fn try_pop(&mut self) -> Result<Option<Vec<u8>>> {
        let mut message = Vec::new();
        Ok(at_once(self.next(&mut message, Patience::None))?.map(|()| message))
    }

    /// As [`Channel::pop_timeout`].
    ///
    /// # Errors
    /// As [`Channel::pop_timeout`].
    pub fn pop_timeout(&mut self, timeout: Duration) -> Result<Vec<u8>> {
        let mut message = Vec::new();
        self.next(&mut message, Patience::lasting(timeout))?;
        Ok(message)
    }

    #[inline]
    fn next(&mut self, message: &mut Vec<u8>, patience: Patience) -> Result<()> {
        let ground = self.ground;
        let mut waiting = None;
        loop {
            let consumer = match &mut self.keep.held {
                Some(consumer) if consumer.is_mine() => consumer,
                // Nobody's yet, or the parent's, from before a fork.
                held => held.insert(Consumer::enter(ground, patience)?),
            };
            let closely =
                waiting.as_mut().is_some_and(|waiting: &mut Waiting<'_>| std::mem::take(&mut waiting.closely));
            if let Some(First { index, head }) = consumer.first(closely) {
                if waiting.is_some_and(|waiting| waiting.slept) {
                    consumer.pass_on();
                }
                ground.read(index, head.len(), message);
                consumer.take(First { index, head });
                self.keep.give_way(&ground.ends.floor.lock);
                return Ok(());
            }
            let waiting = waiting.get_or_insert_with(|| Waiting::new(&ground.in_vain[0]));
            let keep = self.keep.shared == 0;
            if let Err(error) = ground.wait_for_message(&mut self.keep.held, keep, waiting, patience) {
                self.keep.held = None;
                return Err(error);
            }
        }
    }
}
