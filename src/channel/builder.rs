//! Making a channel, and what it tells of itself.

use super::Channel;
use super::ground::{Ground, Plan, words_of};
use super::mark::{ATTEMPTS_MAX, LEN_MAX, WORDS_MAX};
use super::pop::Consumer;
use crate::robust::{Patience, prepare};
use crate::shm::Region;
use crate::sync::owned;
use crate::{Error, Result};

/// Sets what a channel is to be; see [`Channel::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before `build`"]
pub struct ChannelBuilder {
    bytes: usize,
    max_message: Option<usize>,
    max_attempts: u32,
}

/// Figures of a channel; exact also after deaths. See [`Channel::stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelStats {
    /// Messages pushed.
    pub pushed: u64,
    /// Messages taken for good: popped, drained, acknowledged, or moved to the dead letters.
    pub taken: u64,
    /// Messages that are there for the taking.
    pub waiting: u64,
    /// Messages in somebody's hands.
    pub leased: u64,
    /// Leases that came back.
    pub returned: u64,
}

impl ChannelBuilder {
    /// Bytes of the ring, 16 ..= 512 MiB: each message takes its own, in whole words, and 8.
    pub fn capacity(mut self, bytes: usize) -> ChannelBuilder {
        self.bytes = bytes;
        self
    }

    /// The longest message in bytes; a quarter of the ring unless said otherwise, at most 8 less than the ring, and less than 256 MiB.
    pub fn max_message(mut self, bytes: usize) -> ChannelBuilder {
        self.max_message = Some(bytes);
        self
    }

    /// After so many leases that came back a message goes to the [dead letters](Channel::dead_letters), which take as much memory again; 1 ..= 62.
    /// Without this a message comes back for ever.
    pub fn max_attempts(mut self, attempts: u32) -> ChannelBuilder {
        self.max_attempts = attempts;
        self
    }

    /// Makes the channel, shared with every process forked from now on.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for what is out of range; [`Error::AfterFork`] in a worker of a server, where it would be shared with nobody;
    /// [`Error::System`] when the kernel has no memory or file descriptors left.
    pub fn build(self) -> Result<Channel> {
        self.place(None, false)
    }

    /// Makes the channel in `region`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when the region has no room, and as [`build`](ChannelBuilder::build).
    pub fn build_in(self, region: &Region) -> Result<Channel> {
        self.place(Some(region), false)
    }

    fn place(self, region: Option<&Region>, are_letters: bool) -> Result<Channel> {
        let within = |what, value: usize, min: usize, max: usize| {
            if (min..=max).contains(&value) {
                return Ok(());
            }
            Err(Error::OutOfRange { what, value: value as u64, min: min as u64, max: max as u64 })
        };
        within("a channel's size in bytes", self.bytes, 16, WORDS_MAX * 8)?;
        let most = (self.bytes.div_ceil(8) * 8 - 8).min(LEN_MAX);
        let max_message = self.max_message.unwrap_or((self.bytes / 4).min(most));
        within("the longest message in bytes", max_message, 1, most)?;
        within("the number of attempts", self.max_attempts as usize, 0, ATTEMPTS_MAX as usize)?;
        prepare()?;
        let dead_letters = match self.max_attempts {
            0 => None,
            _ => {
                // Before the first of the two takes its room.
                if let Some(region) = region {
                    Ground::has_room(region, 2 * Ground::needs(self.bytes))?;
                }
                let letters = ChannelBuilder { max_attempts: 0, max_message: Some(max_message), ..self.clone() };
                Some(letters.place(region, true)?)
            }
        };
        let plan = Plan { bytes: self.bytes, max_message, are_letters, max_attempts: self.max_attempts, dead_letters };
        Ok(Channel { ground: Ground::new(region, plan)? })
    }
}

impl Channel {
    /// Makes a channel with a ring of `bytes` bytes, 16 ..= 512 MiB, shared with every process forked from now on.
    ///
    /// # Errors
    /// As [`ChannelBuilder::build`].
    ///
    /// # Examples
    /// ```
    /// let channel = commons::Channel::new(1 << 20)?;
    /// assert_eq!(channel.max_message(), 1 << 18);
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn new(bytes: usize) -> Result<Channel> {
        Channel::builder().capacity(bytes).build()
    }

    /// Makes a channel in `region`.
    ///
    /// # Errors
    /// As [`ChannelBuilder::build_in`].
    pub fn new_in(region: &Region, bytes: usize) -> Result<Channel> {
        Channel::builder().capacity(bytes).build_in(region)
    }

    /// Sets what a channel is to be: capacity, longest message, attempts.
    ///
    /// # Examples
    /// ```
    /// let tasks = commons::Channel::builder().capacity(1 << 20).max_message(1 << 10).max_attempts(3).build()?;
    /// assert_eq!((tasks.capacity(), tasks.max_message()), (1 << 20, 1 << 10));
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn builder() -> ChannelBuilder {
        ChannelBuilder { bytes: 0, max_message: None, max_attempts: 0 }
    }

    /// The region that the channel is in.
    pub fn region(&self) -> &Region {
        &self.ground.region
    }

    /// The longest message, in bytes.
    pub fn max_message(&self) -> usize {
        self.ground.max_message
    }

    /// Bytes of the ring.
    pub fn capacity(&self) -> usize {
        self.ground.bytes
    }

    /// How many messages there are, those in somebody's hands included.
    pub fn len(&self) -> usize {
        let ends = &self.ground.ends;
        // Floor first: it never overtakes the tail.
        let floor = ends.floor.mark();
        floor.messages_to(ends.tail.mark())
    }

    /// Whether there is no message, not even in somebody's hands.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the ring that are in use, 8 for each message included.
    pub fn bytes(&self) -> usize {
        let ends = &self.ground.ends;
        let floor = ends.floor.mark(); // first, as in `len`
        floor.words_to(ends.tail.mark(), self.ground.words()).min(self.ground.words()) * 8
    }

    /// Whether there is no room for even an empty message.
    pub fn is_full(&self) -> bool {
        self.bytes() / 8 + words_of(0) > self.ground.words()
    }

    /// All figures at once.
    ///
    /// # Errors
    /// [`Error::TooManyParticipants`], for it takes the consumers' lock; [`Error::WouldDeadlock`] inside a closure of this channel's, and beside a
    /// [`pop_session`](Channel::pop_session) of this thread's.
    ///
    /// # Examples
    /// ```
    /// let channel = commons::Channel::new(4096)?;
    /// channel.push(b"a")?;
    /// let stats = channel.stats()?;
    /// assert_eq!((stats.pushed, stats.taken, stats.waiting), (1, 0, 1));
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn stats(&self) -> Result<ChannelStats> {
        let ground = &*self.ground;
        let consumer = Consumer::enter(ground, Patience::Endless)?;
        let mut stats = ChannelStats { returned: owned(&ground.ends.returned), ..ChannelStats::default() };
        stats.taken = ground.ends.floor.total();
        let mut at = 0;
        while let Some(one) = consumer.at(at) {
            at += words_of(one.head.len());
            match () {
                () if one.head.is_done() => stats.taken += 1,
                () if one.head.holder() != 0 => stats.leased += 1,
                () => stats.waiting += 1,
            }
        }
        stats.pushed = stats.taken + stats.leased + stats.waiting;
        Ok(stats)
    }
}
