//! The vault: where large payloads lie between the process that made them and the one that reads them, whoever dies meanwhile.
//!
//! # Why like this
//! A large payload should not be copied through a ring piece by piece: a sender killed in the middle leaves half of it in the receiver's hands, which
//! then has to be told from a slow one, and a task that is tried again needs all of it once more. Nor should it be a file, which stays when
//! everybody is dead. A memfd is neither; but a descriptor belongs to a process, and a task is submitted before it is known who runs it, who may not even be forked
//! yet; and its sender may be dead by then. So somebody has to hold the memfd who cannot die: the kernel. It keeps a descriptor that was sent
//! over a Unix socket until it is received or the socket is gone. A vault has a few lockers, each a socket pair that every process inherits: who has
//! something large makes a memfd, seals it, puts it into a locker, and passes on a *ticket*. Who has the ticket looks (`MSG_PEEK`: it gets a descriptor of
//! its own, the message stays), as often as it has to, and so does its successor if it dies. When the payload is no more wanted the locker is
//! emptied. When the last process of the family goes, the kernel closes all that is left.
//!
//! Asked and rejected: *the manager holds it* (it may die, and would need a thread that receives); *`/proc/PID/fd` of the sender* (dead with it, and barred
//! after a change of credentials); *a slab of shared memory* (has to be as large as the largest payload ever, and keeps every page it once touched);
//! *one socket for all* (who receives the next message gets somebody else's).
//!
//! # Whose a locker is
//! ```text
//!         claim, under the lock        sent               no more wanted           emptied
//!  FREE g ─────────────────▶ FILLING g+1 ─────▶ SENT g+1 ──────────────▶ EMPTYING g+1 ─────▶ FREE g+1
//!                            (by thread t)                               (by thread u)
//! ```
//! One word says phase, generation and thread; each arrow is one exchange. SENT is the state in which a ticket is known to be in somebody's hands: in a
//! message of an inbox, or in the record of a task, and whoever has that frees the locker. FILLING and EMPTYING of a dead thread are nobody's: the next one
//! who looks for room empties them. So nothing leaks if a ticket is written down where others find it *before* `sent`, and a locker is freed *before*
//! the ticket is thrown away. A ticket that is older than its locker names nothing, and says so: freeing twice, or after somebody else did, does nothing.
//!
//! | dies | then |
//! |---|---|
//! | filling, before it was put in, or after | FILLING of a dead thread: emptied by the next who needs room |
//! | after the ticket was passed on, before `sent` | the same, unless the reader is faster, who says `sent` in its place; the sender's call never returned |
//! | reading | nothing happened: the next reader looks |
//! | emptying | EMPTYING of a dead thread, as above |
//!
//! Bounds: so many lockers, so many bytes in all of them together (counted under the lock; a locker that is freed meanwhile makes it less), and one
//! account, a receiver, has at most half of the lockers, so that one who does not read does not keep the others from theirs.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use super::bell::Bell;
use crate::robust::{Patience, RobustLock, Tag, certainly_dead, me, prepare, seated};
use crate::shm::{Key, Kind, Pad, Place, Region, Row, shared};
use crate::sync::{AtomicU64, Look, Ordering};
use crate::sys::parcel::{Locker, unwrapped, wrapped};
use crate::{Error, Result};

#[cfg(test)]
mod tests;

shared! {
    struct Door {
        lock: RobustLock,
        pad: Pad<7>,
    }
}

shared! {
    struct Line {
        state: AtomicU64,
        /// Bytes, and for whom, of the generation in `state`; written under the lock before it is claimed.
        len: AtomicU64,
        account: AtomicU64,
        pad: Pad<5>,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Free,
    Filling,
    Sent,
    Emptying,
}

/// Phase (2 bits), generation (32), thread (30).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State(u64);

impl State {
    fn new(phase: Phase, generation: u32, tag: u32) -> State {
        State((phase as u64) << 62 | u64::from(generation) << Tag::BITS | u64::from(tag))
    }
    fn phase(self) -> Phase {
        [Phase::Free, Phase::Filling, Phase::Sent, Phase::Emptying][(self.0 >> 62) as usize]
    }
    fn generation(self) -> u32 {
        (self.0 >> Tag::BITS) as u32
    }
    fn tag(self) -> Tag {
        Tag::from_bits((self.0 & ((1 << Tag::BITS) - 1)) as u32)
    }
    /// Filled or emptied by somebody who is dead.
    fn is_left(self, look: Look) -> bool {
        matches!(self.phase(), Phase::Filling | Phase::Emptying) && certainly_dead(self.tag(), look)
    }
}

/// What names a payload in a vault; two words, so that it travels in messages and records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    locker: u32,
    generation: u32,
    len: u64,
}

impl Ticket {
    pub(crate) const NONE: Ticket = Ticket { locker: 0, generation: 0, len: 0 };

    pub(crate) fn words(self) -> [u64; 2] {
        [u64::from(self.generation) << 32 | u64::from(self.locker), self.len]
    }
    pub(crate) fn of_words(words: [u64; 2]) -> Ticket {
        Ticket { locker: words[0] as u32, generation: (words[0] >> 32) as u32, len: words[1] }
    }
    pub(crate) fn is_none(self) -> bool {
        self.generation == 0
    }
}

/// How long it is waited for who is at the door, with the thread held; a channel's ends have the same. Who waits in an event loop comes again after a slice, and
/// there may be many of them.
const DOOR: Duration = Duration::from_millis(1);

/// For [`Vault::deposit`]: counted to nobody.
pub(crate) const NO_ACCOUNT: u64 = u64::MAX;

struct Inner {
    door: Place<Door>,
    key: Key,
    tags: Row<Line>,
    lockers: Vec<Locker>,
    bytes: usize,
    bell: Bell,
}

/// Lockers for large payloads; made before the fork.
#[derive(Clone)]
pub(crate) struct Vault {
    inner: Arc<Inner>,
}

impl Vault {
    /// So many lockers, 2 ..= 256 (two descriptors each, in every process), and so many bytes in all of them together.
    pub(crate) fn new(lockers: usize, bytes: usize) -> Result<Vault> {
        if !(2..=256).contains(&lockers) {
            let (value, what) = (lockers as u64, "the number of large payloads at once");
            return Err(Error::OutOfRange { what, value, min: 2, max: 256 });
        }
        prepare()?;
        let region = Region::new("vault", Region::bytes_for::<Door>(1) + Region::bytes_for::<Line>(lockers))?;
        let door: Place<Door> = Place::new(&region, Kind::Vault)?;
        let (key, tags) = (door.key(door.lock.cell()), Row::new(&region, Kind::VaultLockers, lockers)?);
        let lockers = (0..lockers).map(|_| Locker::new()).collect::<Result<_>>()?;
        Ok(Vault { inner: Arc::new(Inner { door, key, tags, lockers, bytes, bell: Bell::new()? }) })
    }

    /// The most bytes of one payload, and of all together.
    pub(crate) fn bytes(&self) -> usize {
        self.inner.bytes
    }

    /// Where those wait who found no room.
    pub(crate) fn bell(&self) -> &Bell {
        &self.inner.bell
    }

    /// Puts `payload` into a locker that is free. It goes again when the deposit is dropped, or its process dies, before [`Deposit::sent`].
    ///
    /// # Errors
    /// [`Error::Full`]; [`Error::TooLong`]; [`Error::System`] when the kernel has no memory or descriptors left.
    pub(crate) fn deposit(&self, account: u64, payload: &[u8]) -> Result<Deposit> {
        let len = payload.len();
        if len > self.inner.bytes {
            return Err(Error::TooLong { len, max: self.inner.bytes });
        }
        let deposit = self.claim(account, len as u64)?;
        self.inner.lockers[deposit.ticket.locker as usize].put(wrapped(payload)?.as_fd())?;
        Ok(deposit)
    }

    /// The same, waiting for room for as long as `patience` lasts.
    pub(crate) fn deposit_waiting(&self, account: u64, payload: &[u8], patience: Patience) -> Result<Deposit> {
        self.bell().until(patience, || self.deposit(account, payload))
    }

    fn claim(&self, account: u64, len: u64) -> Result<Deposit> {
        let (inner, tag) = (&*self.inner, me()?.tag());
        let door = inner.door.lock.acquire(inner.key, "vault", Patience::lasting(DOOR));
        let lock = match door {
            Ok(lock) => lock,
            // Somebody was stopped in there. For who waits that is like no room.
            Err(Error::Timeout { .. }) => return Err(Error::Full { capacity: inner.bytes }),
            Err(error) => return Err(error),
        };
        let claimed = self.claim_locked(account, len, tag);
        inner.door.lock.release(lock);
        let (locker, generation) = claimed.ok_or(Error::Full { capacity: inner.bytes })?;
        Ok(Deposit { vault: self.clone(), ticket: Ticket { locker, generation, len }, tag, done: false })
    }

    fn claim_locked(&self, account: u64, len: u64, tag: Tag) -> Option<(u32, u32)> {
        for look in [Look::Quick, Look::Close] {
            let (mut sum, mut same, mut free) = (0, 0, None);
            for (n, line) in self.inner.tags.iter().enumerate() {
                let mut state = line.state();
                if state.is_left(look) {
                    self.empty(n, state);
                    state = line.state();
                }
                if state.phase() == Phase::Free {
                    free = free.or(Some((n, state)));
                } else {
                    // Relaxed: written under the lock, before the claim.
                    sum += line.len.load(Ordering::Relaxed);
                    same += usize::from(line.account.load(Ordering::Relaxed) == account && account != NO_ACCOUNT);
                }
            }
            if let Some((n, state)) = free
                && sum + len <= self.inner.bytes as u64
                && same < self.inner.tags.len() / 2
            {
                let (line, generation) = (&self.inner.tags[n], state.generation().wrapping_add(1).max(1));
                // Relaxed: under the lock.
                line.len.store(len, Ordering::Relaxed);
                line.account.store(account, Ordering::Relaxed);
                let claimed = line.exchange(state, State::new(Phase::Filling, generation, tag.bits()));
                return claimed.then_some((n as u32, generation));
            }
        }
        None
    }

    /// EMPTYING by this thread, then empty, then FREE; nothing when somebody else was faster.
    fn empty(&self, locker: usize, seen: State) {
        let (line, Ok(seat)) = (&self.inner.tags[locker], me()) else { return };
        let emptying = State::new(Phase::Emptying, seen.generation(), seat.tag().bits());
        if line.exchange(seen, emptying) {
            self.inner.lockers[locker].clear();
            line.exchange(emptying, State::new(Phase::Free, seen.generation(), 0));
            self.inner.bell.ring();
        }
    }

    /// The payload of a ticket, which stays where it is; None when it is gone.
    ///
    /// # Errors
    /// [`Error::System`] when this process has no memory or descriptors left: it is still there.
    pub(crate) fn read(&self, ticket: Ticket) -> Result<Option<Vec<u8>>> {
        let Some(line) = self.line(ticket) else { return Ok(None) };
        loop {
            let state = line.state();
            match state.phase() {
                _ if state.generation() != ticket.generation => return Ok(None),
                Phase::Free | Phase::Emptying => return Ok(None),
                Phase::Sent => break,
                // From here on it is not taken for a dead sender's leavings while it is read.
                Phase::Filling => _ = line.exchange(state, State::new(Phase::Sent, ticket.generation, 0)),
            }
        }
        match self.inner.lockers[ticket.locker as usize].look()? {
            Some(parcel) => unwrapped(parcel, ticket.len as usize).map(Some),
            None => Ok(None),
        }
    }

    /// Frees the locker of a ticket, if it is still that one's.
    pub(crate) fn free(&self, ticket: Ticket) {
        let Some(line) = self.line(ticket) else { return };
        // Filling, sent, and in the hands of one that died emptying it: no more can come between.
        for _ in 0..4 {
            let state = line.state();
            let mine = state.generation() == ticket.generation && state.phase() != Phase::Free;
            if !mine || state.phase() == Phase::Emptying && !state.is_left(Look::Close) {
                return;
            }
            self.empty(ticket.locker as usize, state);
        }
    }

    fn line(&self, ticket: Ticket) -> Option<&Line> {
        if ticket.is_none() { None } else { self.inner.tags.get(ticket.locker as usize) }
    }

    /// Lockers in use, and bytes in them; for who looks for leaks.
    pub(crate) fn usage(&self) -> (usize, u64) {
        let used = self.inner.tags.iter().filter(|line| line.state().phase() != Phase::Free);
        // Relaxed: a figure.
        used.fold((0, 0), |(n, bytes), line| (n + 1, bytes + line.len.load(Ordering::Relaxed)))
    }
}

impl Line {
    fn state(&self) -> State {
        // Acquire: pairs with the Release in `exchange`.
        State(self.state.load(Ordering::Acquire))
    }
    fn exchange(&self, from: State, to: State) -> bool {
        // AcqRel: pairs with itself and with `state`; what the last phase did is seen by the next.
        self.state.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

/// A payload in a locker, until its ticket is passed on.
#[must_use = "a deposit that is dropped is taken out again"]
pub(crate) struct Deposit {
    vault: Vault,
    ticket: Ticket,
    tag: Tag,
    done: bool,
}

impl Deposit {
    /// To be written down where others find it, and then [`sent`](Deposit::sent).
    pub(crate) fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// Others have the ticket, and see to it.
    pub(crate) fn sent(mut self) {
        self.done = true;
        let Some(line) = self.vault.line(self.ticket) else { return };
        let filling = State::new(Phase::Filling, self.ticket.generation, self.tag.bits());
        // Fails when the reader said so first.
        line.exchange(filling, State::new(Phase::Sent, self.ticket.generation, 0));
    }
}

impl Drop for Deposit {
    fn drop(&mut self) {
        if !self.done && seated().is_some_and(|seat| seat.tag() == self.tag) {
            let filling = State::new(Phase::Filling, self.ticket.generation, self.tag.bits());
            self.vault.empty(self.ticket.locker as usize, filling);
        }
    }
}
