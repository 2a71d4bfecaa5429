//! What lies in the region, and the channel as one process has it.

use std::sync::{Arc, Weak};

use super::mark::{ASLEEP, Head, Mark};
use super::pace::{BREATH, Pace};
use crate::robust::{RobustLock, mourn};
use crate::shm::{Key, Kind, Pad, Place, Region, Row, load_bytes, shared, store_bytes, words_for};
#[cfg(feature = "tokio")]
use crate::sync::ready::{PerRuntime, Watched};
use crate::sync::{AtomicU64, EventFd, Ordering, owned, prefetch, prefetch_to_write, spin_hint};
use crate::{Error, Result};

shared! {
    /// One end of the ring, on two cache lines: the lock with what only its holder uses, and what the other end looks at.
    pub(super) struct End {
        pub(super) lock: RobustLock,
        /// Where the other end was when the holder last looked: [`Mark`].
        pub(super) seen: AtomicU64,
        /// At the consumers' end: words from there on that are certainly not ready.
        pub(super) ahead: AtomicU64,
        /// At the consumers' end: messages between floor and tail that are not ready, for they are leased, or done with.
        pub(super) out: AtomicU64,
        /// What the holder has learned of its pace and the other's ([`Pace`]); a hint.
        pace: AtomicU64,
        pad: Pad<3>,
        /// Where this end is: [`Mark`].
        pub(super) at: AtomicU64,
        /// Messages that have passed this end; `flip` of `at` says which one counts.
        pub(super) totals: [AtomicU64; 2],
        more: Pad<5>,
    }
}

shared! {
    pub(super) struct Ends {
        /// The producers': everything before it is there.
        pub(super) tail: End,
        /// The consumers': everything before it is gone.
        pub(super) floor: End,
        /// Whether anybody has ever asked for an eventfd.
        pub(super) watched: AtomicU64,
        /// Leases that came back without an acknowledgement. Under the consumers' lock.
        pub(super) returned: AtomicU64,
        /// While a lease comes back: one more than the index of its message; how many had come back before, and how many dead letters
        /// there had been.
        pub(super) moving: AtomicU64,
        pub(super) before: AtomicU64,
        pub(super) letters: AtomicU64,
        pad: Pad<3>,
    }
}

/// What a channel is made of.
pub(super) struct Plan {
    pub(super) bytes: usize,
    pub(super) max_message: usize,
    /// Whether it takes the dead letters of another.
    pub(super) are_letters: bool,
    pub(super) max_attempts: u32,
    pub(super) dead_letters: Option<super::Channel>,
}

/// What all handles of one process share.
pub(super) struct Ground {
    pub(super) ends: Place<Ends>,
    ring: Row<AtomicU64>,
    /// The names of the locks and of the words that are slept on, known beforehand.
    pub(super) tail: Names,
    pub(super) floor: Names,
    pub(super) bytes: usize,
    pub(super) max_message: usize,
    /// The least length that is refused; 0 for dead letters, where only the channel whose they are pushes.
    pub(super) too_long: usize,
    pub(super) max_attempts: u32,
    /// Becomes readable when there is something to pop.
    pub(super) filled: EventFd,
    /// Becomes readable when there is room again.
    pub(super) emptied: EventFd,
    /// The two of them, as the runtimes of this process watch them.
    #[cfg(feature = "tokio")]
    pub(super) watched: [PerRuntime<Watched>; 2],
    pub(super) dead_letters: Option<super::Channel>,
    pub(super) region: Region,
    /// How often in a row looking for a message, and for room, was in vain: known to this process alone.
    pub(super) in_vain: [AtomicU64; 2],
}

/// The names of an end's lock and of where it is, which hold in every process.
#[derive(Clone, Copy)]
pub(super) struct Names {
    pub(super) lock: Key,
    pub(super) at: Key,
}

/// Words of a cache line.
const LINE: usize = 8;
/// How many words ahead lies what is fetched for later: some short messages further, for it takes as long as several of them.
const AHEAD: usize = 40;

pub(super) const WHAT: &str = "channel";

/// Words that a message of `len` bytes takes in the ring.
#[inline(always)]
pub(super) fn words_of(len: usize) -> usize {
    1 + words_for(len)
}

impl Ground {
    pub(super) fn new(region: Option<&Region>, plan: Plan) -> Result<Arc<Ground>> {
        let Plan { bytes, max_message, are_letters, max_attempts, dead_letters } = plan;
        let words = words_for(bytes);
        let asked = Self::needs(bytes);
        let region = match region {
            Some(region) => region.clone(),
            None => Region::new(WHAT, asked)?,
        };
        Self::has_room(&region, asked)?;
        let (filled, emptied) = (EventFd::new()?, EventFd::new()?);
        let ends: Place<Ends> = Place::new(&region, Kind::Channel)?;
        let ring = Row::new(&region, Kind::Ring, words)?;
        let names = |end: &End| Names { lock: ends.key(end.lock.cell()), at: ends.key(&end.at) };
        let (tail, floor) = (names(&ends.tail), names(&ends.floor));
        let ground = Arc::new(Ground {
            ends,
            ring,
            tail,
            floor,
            bytes,
            max_message,
            too_long: if are_letters { 0 } else { max_message + 1 },
            max_attempts,
            filled,
            emptied,
            #[cfg(feature = "tokio")]
            watched: [PerRuntime::new(), PerRuntime::new()],
            dead_letters,
            region,
            in_vain: [AtomicU64::new(0), AtomicU64::new(0)],
        });
        let mourner: Weak<Ground> = Arc::downgrade(&ground);
        mourn(mourner);
        Ok(ground)
    }

    /// What a ring of `bytes` bytes takes of its region.
    pub(super) fn needs(bytes: usize) -> usize {
        Region::bytes_for::<Ends>(1) + Region::bytes_for::<AtomicU64>(words_for(bytes))
    }

    pub(super) fn has_room(region: &Region, asked: usize) -> Result<()> {
        let left = region.size().saturating_sub(region.used());
        if asked > left && !crate::sync::MODELLED {
            return Err(Error::OutOfMemory { asked, left });
        }
        Ok(())
    }

    /// Words of the ring.
    #[inline(always)]
    pub(super) fn words(&self) -> usize {
        self.ring.len()
    }

    #[inline(always)]
    pub(super) fn wrapped(&self, at: usize) -> usize {
        if at >= self.ring.len() { at - self.ring.len() } else { at }
    }

    /// The first word of the message at `index`.
    #[inline(always)]
    pub(super) fn head(&self, index: usize) -> &AtomicU64 {
        &self.ring[index]
    }

    /// The words of a message of `len` bytes at `index`, in the two pieces that the end of the ring makes of them.
    fn pieces(&self, index: usize, len: usize) -> (&[AtomicU64], &[AtomicU64]) {
        let (start, words) = (self.wrapped(index + 1), words_for(len));
        let first = words.min(self.ring.len() - start);
        (&self.ring[start..start + first], &self.ring[..words - first])
    }

    /// The head and those words, where all are in one piece, as nearly all are.
    #[inline(always)]
    fn piece(&self, index: usize, len: usize) -> Option<(&AtomicU64, &[AtomicU64])> {
        self.ring.get(index..index + words_of(len))?.split_first()
    }

    /// Fetches what the next messages will lie in, to `write` them or to read them, where so many words are known to be `free` or there. The locks and
    /// marks that lie between keep the processor from looking ahead by itself.
    #[inline(always)]
    pub(super) fn fetch_ahead(&self, index: usize, free: usize, write: bool) {
        for ahead in [AHEAD, AHEAD + LINE] {
            if free > ahead + LINE
                && let Some(word) = self.ring.get(index + ahead)
            {
                if write { prefetch_to_write(word) } else { prefetch(word) }
            }
        }
    }

    /// Writes a message; nobody sees it before the tail has moved over it.
    #[inline(always)]
    pub(super) fn write(&self, index: usize, message: &[u8]) {
        let head = Head::new(message.len()).0;
        // Relaxed, both: published by the tail.
        if let Some((first, whole)) = self.piece(index, message.len()) {
            first.store(head, Ordering::Relaxed);
            return store_bytes(whole, message);
        }
        self.head(index).store(head, Ordering::Relaxed);
        self.write_round(index, message);
    }

    #[cold]
    fn write_round(&self, index: usize, message: &[u8]) {
        let (first, second) = self.pieces(index, message.len());
        let (a, b) = message.split_at(message.len().min(first.len() * 8));
        store_bytes(first, a);
        store_bytes(second, b);
    }

    /// Copies the message at `index`, which is all that is `into` afterwards.
    #[inline(always)]
    pub(super) fn read(&self, index: usize, len: usize, into: &mut Vec<u8>) {
        into.resize(len, 0);
        self.copy(index, into);
    }

    /// Copies the message at `index` to the beginning of `room`, which grows to the longest of several.
    #[inline(always)]
    pub(super) fn read_in<'r>(&self, index: usize, len: usize, room: &'r mut Vec<u8>) -> &'r [u8] {
        if room.len() < len {
            room.resize(len, 0);
        }
        let message = &mut room[..len];
        self.copy(index, message);
        message
    }

    #[inline(always)]
    fn copy(&self, index: usize, into: &mut [u8]) {
        match self.piece(index, into.len()) {
            Some((_, whole)) => load_bytes(whole, into),
            None => self.read_round(index, into),
        }
    }

    #[cold]
    fn read_round(&self, index: usize, into: &mut [u8]) {
        let (first, second) = self.pieces(index, into.len());
        let (a, b) = into.split_at_mut(into.len().min(first.len() * 8));
        load_bytes(first, a);
        load_bytes(second, b);
    }
}

impl End {
    /// Looks where the `other` end is, for the holder of this one's lock, which has used up what it knew of it. `gain`: how many messages further it
    /// can go now.
    #[inline(always)]
    pub(super) fn look_at(&self, other: &End, gain: impl Fn(Mark) -> usize) -> Mark {
        let pace = Pace(owned(&self.pace));
        if pace.pauses() {
            (0..BREATH).for_each(|_| spin_hint());
        }
        let seen = other.mark();
        // Relaxed, both: under the lock.
        self.seen.store(seen.0, Ordering::Relaxed);
        self.pace.store(pace.after(gain(seen)).0, Ordering::Relaxed);
        seen
    }

    #[inline(always)]
    pub(super) fn mark(&self) -> Mark {
        // Acquire: pairs with the Release of `moved`; what was written before this end moved there is seen, and what was read has been read.
        Mark(self.at.load(Ordering::Acquire))
    }

    /// Moves this end, whose lock the caller holds: the commit. The total that will count is written before it. Returns the mark as it was,
    /// with the flags of those who wait.
    #[inline(always)]
    pub(super) fn moved(&self, from: Mark, words: usize, messages: usize, ring: usize) -> Mark {
        let next = from.advanced(words, messages, ring);
        let total = owned(&self.totals[from.half()]) + messages as u64;
        // Relaxed: published by the swap.
        self.totals[next.half()].store(total, Ordering::Relaxed);
        // Release: pairs with the Acquire in `mark`. A swap, not a store: it brings along the flags that others may have set until
        // this very instant. Nothing else of the word is changed by anybody who does not hold the lock.
        Mark(self.at.swap(next.0, Ordering::Release))
    }

    /// Sets a flag for one who is about to wait, unless this end has moved since `seen`; the word to sleep on.
    pub(super) fn flag(&self, seen: Mark, flag: impl Fn(Mark) -> Mark) -> Option<Mark> {
        let flagged = flag(seen);
        // Relaxed: the word's own order decides. If `moved` comes second it sees the flag; if first, this fails.
        let set = seen == flagged
            || self.at.compare_exchange(seen.0, flagged.0, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        set.then_some(flagged)
    }

    /// Says that there are no more messages. By a read-modify-write, for others set their flags meanwhile.
    pub(super) fn close(&self) {
        let mut seen = self.mark();
        while let Err(now) = self.at.compare_exchange(seen.0, seen.with_closed().0, Ordering::AcqRel, Ordering::Acquire)
        {
            seen = Mark(now);
        }
    }

    /// For one who is about to wake all sleepers without moving this end: their flag goes, so that one who has set it and is about to sleep
    /// does not. That of the eventfd stays: it costs one signal too many, and should this process die before the first, there is the next.
    pub(super) fn quieten(&self) -> Mark {
        // Relaxed: the word's own order decides, as in `flag`; who is woken looks for himself.
        Mark(self.at.fetch_and(!ASLEEP, Ordering::Relaxed))
    }

    /// Asks for the eventfd of this end, which has to move on from `seen`; false when it did meanwhile.
    pub(super) fn arm(&self, seen: Mark, eventfd: &EventFd) -> bool {
        let Some(armed) = self.flag(seen, Mark::with_eventfd) else { return false };
        // After the flag: whoever moves this end from here on makes it readable again, or did so before it was cleared, which is made good.
        eventfd.clear();
        // By an exchange that changes nothing: a load might miss the move whose signal has just been cleared away. AcqRel: so
        // that it stays behind the clearing.
        if self.at.compare_exchange(armed.0, armed.0, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            return true;
        }
        eventfd.signal();
        false
    }

    /// Messages that have passed this end. The caller holds its lock.
    pub(super) fn total(&self) -> u64 {
        owned(&self.totals[self.mark().half()])
    }
}
