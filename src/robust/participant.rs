//! Who takes part: a slot for each thread of each process, claimed lazily, given back when the thread ends.

use std::cell::Cell;
use std::sync::OnceLock;

use super::burial::bury;
use super::ledger::{Claim, Held, MAX_HELD};
use super::slot::{Phase, Slot, State};
use super::word::{SLOTS, Tag};
use crate::shm::{Key, Kind, Pad, Place, Row, root, shared};
use crate::sync::{AtomicU64, Look, Ordering, Who, identity, process_static, size, spins, thread_slot};
use crate::sys::fork;
use crate::{Error, Result};

/// Threads that can take part at once, over all processes that share a root: 4095. Slot 0 is nobody.
pub(crate) const MAX_PARTICIPANTS: usize = size(SLOTS, 5) - 1;

shared! {
    struct Head {
        /// No slot at or above this index was ever claimed.
        high: AtomicU64,
        pad: Pad<7>,
    }
}

struct Registry {
    head: Place<Head>,
    slots: Row<Slot>,
}

process_static! {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
}

fn registry() -> Result<&'static Registry> {
    if let Some(registry) = REGISTRY.get() {
        return Ok(registry);
    }
    let root = root()?;
    let made = Registry {
        head: Place::only(root, Kind::Participants)?,
        slots: Row::only(root, Kind::Participants, MAX_PARTICIPANTS + 1)?,
    };
    fork::run_in_children(forget_seat);
    // Another thread may have been faster; its places are the same.
    fork::set_once(&REGISTRY, made);
    Ok(REGISTRY.get().unwrap_or_else(|| unreachable!("set just above, by this thread or another")))
}

/// Makes sure that the slots exist. Every structure asks before it is made: slots made after a fork would be one process's own.
pub(crate) fn prepare() -> Result<()> {
    // Found out now, for children inherit it: one that keeps itself on one core later would take that for the only one, and never spin.
    let _ = spins();
    registry().map(|_| ())
}

/// The calling thread's slot.
#[derive(Clone, Copy)]
pub(crate) struct Seat {
    slot: &'static Slot,
    tag: Tag,
    generation: u32,
}

const ALL_USED: u32 = (1 << MAX_HELD) - 1;

/// What a thread keeps about its own slot.
struct Mine {
    seat: Cell<Option<Seat>>,
    /// A bit for each entry of the ledger that is in use.
    used: Cell<u32>,
}

/// Gives the slot back when its thread ends.
struct Leave;

thread_slot! { static MINE: Mine = Mine { seat: Cell::new(None), used: Cell::new(0) }; }
thread_slot! { static LEAVE: Leave = Leave; }

/// The calling thread's seat; the first call of each thread claims one.
///
/// # Errors
/// [`Error::TooManyParticipants`]; [`Error::System`] when the root cannot be made.
#[inline(always)]
pub(crate) fn me() -> Result<Seat> {
    match MINE.with(|mine| mine.seat.get()) {
        Some(seat) => Ok(seat),
        None => claim(),
    }
}

/// The seat, if this thread has one already.
#[inline(always)]
pub(crate) fn seated() -> Option<Seat> {
    MINE.with(|mine| mine.seat.get())
}

/// The child of a fork is somebody else: it starts without seat and ledger. Guards that it inherited are its parent's.
pub(crate) fn forget_seat() {
    MINE.with(|mine| {
        mine.seat.set(None);
        mine.used.set(0);
    });
}

#[cold]
fn claim() -> Result<Seat> {
    let registry = registry()?;
    let who = identity::current();
    // Those who are plainly gone make room first, so that slots stay few and scans short; then fresh slots; then a close look.
    let found = find(registry, &who, Some(Look::Quick)).or_else(|| find(registry, &who, None));
    let seat = found.or_else(|| find(registry, &who, Some(Look::Close)));
    let seat = seat.ok_or(Error::TooManyParticipants { max: MAX_PARTICIPANTS })?;
    MINE.with(|mine| {
        mine.seat.set(Some(seat));
        mine.used.set(0);
    });
    // A thread that is being torn down has nothing left that could give the slot back; it is found to be dead later.
    let _ = LEAVE.try_with(|_| {});
    Ok(seat)
}

/// Claims a slot among those used before (burying the dead that `look` finds), or, without a look, among all.
fn find(registry: &'static Registry, who: &Who, look: Option<Look>) -> Option<Seat> {
    // Relaxed: a bound for the search; a slot's own state decides.
    let high = registry.head.high.load(Ordering::Relaxed) as usize;
    let end = if look.is_some() { high.min(registry.slots.len()) } else { registry.slots.len() };
    for index in 1..end {
        let slot = &registry.slots[index];
        let mut state = slot.state();
        if state.phase() != Phase::Free
            && let Some(look) = look
            && (state.phase() == Phase::Dead || identity::is_dead(&slot.who(state), look))
        {
            bury(slot, Tag::new(index, state.generation()), state);
            state = slot.state();
        }
        if state.phase() != Phase::Free {
            continue;
        }
        // Before the claim, so that who scans for the newcomer looks far enough. AcqRel with the Acquire in `high`.
        registry.head.high.fetch_max(index as u64 + 1, Ordering::AcqRel);
        let claimed = state.claimed(who.tid);
        if slot.advance(state, claimed) {
            slot.introduce(claimed.generation(), who);
            let tag = Tag::new(index, claimed.generation());
            return Some(Seat { slot, tag, generation: claimed.generation() });
        }
    }
    None
}

impl Drop for Leave {
    fn drop(&mut self) {
        leave();
    }
}

/// Gives the calling thread's slot back, as the end of the thread does; for harnesses, not part of the contract.
#[doc(hidden)]
pub fn leave() {
    let Ok(Some(seat)) = MINE.try_with(|mine| mine.seat.get()) else { return };
    let used = MINE.with(|mine| mine.used.get());
    forget_seat();
    let state = seat.slot.state();
    if used == 0 {
        seat.slot.advance(state, state.with(Phase::Free));
    } else {
        // It ends holding something (a forgotten guard, a permit): for the others that is a death.
        bury(seat.slot, seat.tag, state);
    }
}

/// Claims a slot for the calling thread, as its first operation would; for harnesses, not part of the contract.
///
/// # Errors
/// [`Error::TooManyParticipants`]; [`Error::System`].
#[doc(hidden)]
pub fn sit() -> Result<usize> {
    me().map(Seat::index)
}

impl Seat {
    #[inline(always)]
    pub(crate) fn tag(self) -> Tag {
        self.tag
    }

    /// The number of this thread's slot: 1..=[`MAX_PARTICIPANTS`].
    #[inline(always)]
    pub(crate) fn index(self) -> usize {
        self.tag.slot()
    }

    /// Notes a claim in the ledger; None when the ledger is full. A lock can do without, so it leaves the last entry to a claim that cannot,
    /// which may be made while the lock is held: a permit under its semaphore's door, a reading that queued.
    #[inline(always)]
    pub(crate) fn note(self, claim: Claim, key: Key, count: u32) -> Option<Held> {
        self.note_at_once(claim, key, count).or_else(|| {
            self.drop_empty();
            self.note_at_once(claim, key, count)
        })
    }

    /// The same, but without a look for entries that are no use any more: for fast paths, whose slow path calls `note`.
    #[inline(always)]
    pub(crate) fn note_at_once(self, claim: Claim, key: Key, count: u32) -> Option<Held> {
        MINE.with(|mine| {
            let used = mine.used.get();
            let free = used.trailing_ones() as usize;
            let entry = self.slot.held.get(free)?;
            let now = used | 1 << free;
            if now == ALL_USED && claim == Claim::Lock {
                return None;
            }
            mine.used.set(now);
            entry.write(self.generation, claim, key, count);
            Some(Held(free as u8))
        })
    }

    /// Makes room in a full ledger: entries that another thread has counted down to nothing are no use to this one.
    #[cold]
    fn drop_empty(self) {
        let mut used = MINE.with(|mine| mine.used.get());
        for (index, entry) in self.slot.held.iter().enumerate() {
            if entry.read(self.generation).is_some_and(|noted| noted.count == 0) {
                entry.strike();
                used &= !(1 << index);
            }
        }
        MINE.with(|mine| mine.used.set(used));
    }

    /// Strikes a claim out.
    #[inline(always)]
    pub(crate) fn strike(self, held: Held) {
        self.slot.held[usize::from(held.0)].strike();
        MINE.with(|mine| mine.used.set(mine.used.get() & !(1 << held.0)));
    }

    /// Changes how many a claim is for.
    pub(crate) fn recount(self, held: Held, count: u32) {
        self.slot.held[usize::from(held.0)].recount(self.generation, count);
    }

    /// Where this thread's ledger notes `claim` on `key`, and how many.
    pub(crate) fn find(self, claim: Claim, key: Key) -> Option<(Held, u32)> {
        let mut used = MINE.with(|mine| mine.used.get());
        while used != 0 {
            let index = used.trailing_zeros() as usize;
            used &= used - 1;
            if let Some(noted) = self.slot.held[index].read(self.generation)
                && noted.is(claim, key)
            {
                return Some((Held(index as u8), noted.count));
            }
        }
        None
    }

    /// Notes what the thread is about to sleep for.
    pub(crate) fn lie_down(self, key: Key, count: u32) {
        self.slot.sleeping.write(self.generation, Claim::Sleep, key, count);
    }

    /// Strikes that out.
    pub(crate) fn get_up(self) {
        self.slot.sleeping.strike();
    }
}

/// A live participant, as it is seen from outside.
#[derive(Clone, Copy)]
pub(crate) struct Other {
    slot: &'static Slot,
    state: State,
    tag: Tag,
}

impl Other {
    /// How many of `claim` on `key` it holds, or None.
    pub(crate) fn holds(self, claim: Claim, key: Key) -> Option<u32> {
        let mut entries = self.slot.held.iter().filter_map(|entry| entry.read(self.state.generation()));
        entries.find(|noted| noted.is(claim, key)).map(|noted| noted.count)
    }

    /// What it noted when it lay down to sleep on `key`, or None.
    pub(crate) fn sleeps_on(self, key: Key) -> Option<u32> {
        let noted = self.slot.sleeping.read(self.state.generation())?;
        noted.is(Claim::Sleep, key).then_some(noted.count)
    }

    /// Looks whether it is still alive, and buries it if not.
    pub(crate) fn is_alive(self) -> bool {
        !certainly_dead(self.tag, Look::Close)
    }

    /// Whether it is a thread of the calling process.
    pub(crate) fn is_of_this_process(self) -> bool {
        self.slot.who(self.state).pid == std::process::id()
    }

    /// Lowers what it holds of `claim` on `key` by one; false when it holds none. Only for a thread of the same process, and under the lock
    /// under which alone that entry changes. An entry of 0 stays its owner's, who may raise it again.
    pub(crate) fn give_back(self, claim: Claim, key: Key) -> bool {
        let generation = self.state.generation();
        for entry in &self.slot.held {
            if let Some(noted) = entry.read(generation)
                && noted.is(claim, key)
                && let Some(less) = noted.count.checked_sub(1)
            {
                entry.recount(generation, less);
                return true;
            }
        }
        false
    }
}

impl Registry {
    /// The slots that were ever claimed, with their numbers.
    fn claimed(&self) -> impl Iterator<Item = (usize, &Slot)> {
        self.slots[..self.high()].iter().enumerate().skip(1)
    }

    fn high(&self) -> usize {
        // Acquire: pairs with the AcqRel in `find`; who was claimed before is seen.
        (self.head.high.load(Ordering::Acquire) as usize).clamp(1, self.slots.len())
    }
}

/// One more than the highest slot that was ever claimed; at least 1.
pub(crate) fn slots_in_use() -> usize {
    REGISTRY.get().map_or(1, |registry| registry.high())
}

/// Calls `f` with every live participant until it returns false.
pub(crate) fn each_live(mut f: impl FnMut(Other) -> bool) {
    let Some(registry) = REGISTRY.get() else { return };
    for (index, slot) in registry.claimed() {
        let state = slot.state();
        let tag = Tag::new(index, state.generation());
        if state.phase() == Phase::Live && !f(Other { slot, state, tag }) {
            return;
        }
    }
}

/// Whether the thread of `tag` is dead: by one load when somebody found out already, else by looking, as closely as asked. Buries it.
pub(crate) fn certainly_dead(tag: Tag, look: Look) -> bool {
    let Some(slot) = REGISTRY.get().and_then(|registry| registry.slots.get(tag.slot())) else { return false };
    let state = slot.state();
    if !tag.is_of(state.generation()) || state.phase() != Phase::Live {
        return true;
    }
    if !identity::is_dead(&slot.who(state), look) {
        return false;
    }
    bury(slot, tag, state);
    true
}

/// Whether somebody found the thread of `tag` dead already: one load.
pub(crate) fn known_dead(tag: Tag) -> bool {
    let Some(slot) = REGISTRY.get().and_then(|registry| registry.slots.get(tag.slot())) else { return false };
    let state = slot.state();
    !tag.is_of(state.generation()) || state.phase() != Phase::Live
}

/// Every slot that is not free, with its tenant.
pub(super) fn tenants() -> Vec<(&'static Slot, Tag, State)> {
    let Some(registry) = REGISTRY.get() else { return Vec::new() };
    let taken = registry
        .claimed()
        .map(|(index, slot)| (index, slot, slot.state()))
        .filter(|(_, _, state)| state.phase() != Phase::Free);
    taken.map(|(index, slot, state)| (slot, Tag::new(index, state.generation()), state)).collect()
}

/// How many slots are taken, live or dead; for harnesses, not part of the contract.
#[doc(hidden)]
pub fn census() -> usize {
    tenants().len()
}
