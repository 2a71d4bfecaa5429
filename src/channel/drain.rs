//! The consumers' end, many messages at once.

use super::Channel;
use super::ground::{Ground, words_of};
use super::pop::{Consumer, Known};
use crate::robust::{Patience, at_once};
use crate::{Error, Result};

impl Channel {
    /// Takes at most `max` messages that are there, without waiting, and calls `f` with each; how many.
    ///
    /// They are gone when `f` has returned from the last of them; should it panic, or the process die, in the middle, those that it had not
    /// returned from are left to others. In a process that `f` forks it returns from the message at hand, and takes nothing.
    ///
    /// # Errors
    /// As [`try_pop`](Channel::try_pop).
    ///
    /// # Examples
    /// ```
    /// let channel = commons::Channel::new(4096)?;
    /// channel.push_many(&["a", "b", "c"])?;
    /// let mut all = Vec::new();
    /// assert_eq!(channel.drain(2, |message| all.extend_from_slice(message))?, 2);
    /// assert_eq!(all, b"ab");
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn drain(&self, max: usize, mut f: impl FnMut(&[u8])) -> Result<usize> {
        let mut drained = 0;
        while drained < max {
            let (more, batch) = match at_once(self.drain_batch(max - drained, &mut f)) {
                Err(Error::Closed | Error::Timeout { .. }) if drained > 0 => break, // what was drained is told
                batch => batch?.unwrap_or((false, 0)),
            };
            drained += batch;
            if !more {
                break;
            }
        }
        Ok(drained)
    }

    /// Takes what is there under one lock and by one store; where some are leased, one message. Whether there may be more, and how many.
    fn drain_batch(&self, max: usize, f: &mut impl FnMut(&[u8])) -> Result<(bool, usize)> {
        let ground = &*self.ground;
        ground.next(Patience::None, |consumer, first| {
            if consumer.alone() {
                return Ok((false, Batch { consumer, words: 0, messages: 0 }.run(max, f)));
            }
            let mut message = Vec::new();
            ground.read(first.index, first.head.len(), &mut message);
            f(&message);
            consumer.take_if_mine(first);
            Ok((consumer.is_mine(), 1))
        })
    }
}

/// Messages that `drain` is through with; they go at once, when it ends.
struct Batch<'c, 'g> {
    consumer: &'c mut Consumer<'g>,
    words: usize,
    messages: usize,
}

impl Batch<'_, '_> {
    /// Calls `f` with at most `max` messages; how many.
    fn run(mut self, max: usize, f: &mut impl FnMut(&[u8])) -> usize {
        let ground: &Ground = self.consumer.ground;
        let mut room = Vec::new();
        // The tail is looked at again only when what is known is used up, and more is wanted.
        while self.messages < max
            && let Some(mut known) = self.consumer.known(self.words)
        {
            while self.messages < max && known.words > 0 {
                let len = ground.message(known.index).head.len();
                f(ground.read_in(known.index, len, &mut room));
                known.skip(ground, words_of(len));
                self.words += words_of(len);
                self.messages += 1;
                if !self.consumer.is_mine() {
                    // A process forked in the closure has no lock under which to look on: what it noted of the tail would be everybody's, and old.
                    return self.messages;
                }
            }
        }
        self.messages
    }
}

impl Known {
    /// What lies behind the first `words`.
    #[inline(always)]
    fn skip(&mut self, ground: &Ground, words: usize) {
        self.index = ground.wrapped(self.index + words);
        self.words -= words;
    }
}

impl Drop for Batch<'_, '_> {
    fn drop(&mut self) {
        if self.messages > 0 && self.consumer.is_mine() {
            self.consumer.move_floor(self.words, self.messages);
        }
    }
}
