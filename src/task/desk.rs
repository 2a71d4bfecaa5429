//! What lies in shared memory, and the queue as one process has it.

use std::sync::Arc;
use std::time::Duration;

use super::TaskId;
use super::state::{Phase, State, TRIES_MAX};
use super::told::HEAD;
use crate::process::bell::Bell;
use crate::process::bus::inboxes;
use crate::process::roll::{Address, Roll};
use crate::process::vault::{Ticket, Vault};
use crate::robust::{SLICE, me, prepare};
use crate::shm::{Kind, Pad, Place, Region, Row, load_bytes, shared, store_bytes, words_for};
use crate::sync::{AtomicU64, Look, Ordering, fence};
use crate::{Channel, Error, Result};

shared! {
    /// What belongs to a task besides its state: written by the one thread that the state names, read by the next.
    pub(super) struct Record {
        slot: AtomicU64,
        generation: AtomicU64,
        sequence: AtomicU64,
        /// Bytes of the payload.
        len: AtomicU64,
        /// Where it lies, if it is large ([`Ticket`]).
        payload: [AtomicU64; 2],
        /// [`Outcome`] and its length; a pointer to where it lies, if it is large.
        outcome: AtomicU64,
        result: [AtomicU64; 2],
        /// Tasks of this record that were finished, and those that were lost: by the first half and by the second.
        finished: [AtomicU64; 2],
        lost: [AtomicU64; 2],
        /// Whether the sender wants no answer.
        quiet: AtomicU64,
        pad: Pad<2>,
    }
}

shared! {
    pub(super) struct Head {
        /// Where a free record may be: a hint.
        pub(super) hint: AtomicU64,
        /// Moved on when there may be something to be taken up from the dead.
        pub(super) stirred: AtomicU64,
        pad: Pad<6>,
    }
}

/// What became of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Result = 0,
    Failed = 1,
    Lost = 2,
}

impl Outcome {
    pub(super) fn of(number: u64) -> Outcome {
        match number {
            0 => Outcome::Result,
            1 => Outcome::Failed,
            _ => Outcome::Lost,
        }
    }
}

/// How much a queue holds.
#[derive(Clone, Copy, Debug)]
pub struct TaskSize {
    /// Tasks that are there at once, queued and running: 1 ..= 65536. Each takes 2 KiB once it is used.
    pub tasks: usize,
    /// After so many tries that ended with the death of who ran it a task is lost: 1 ..= 31.
    pub attempts: u32,
    /// Tasks of one sender whose answers have not come yet: 1 ..= 65536. Its box of answers has room for all of them.
    pub unanswered: usize,
    /// Large payloads at once, and large results: 2 ..= 256, two descriptors each in every process.
    pub large: usize,
    /// Bytes of all large payloads together, and of all large results; and so the longest of each.
    pub bytes: usize,
}

impl Default for TaskSize {
    fn default() -> TaskSize {
        TaskSize { tasks: 1024, attempts: 2, unanswered: 256, large: 8, bytes: 256 << 20 }
    }
}

/// Payloads and results up to so many bytes lie in the record.
pub(super) const INLINE: usize = 1024;

/// A slice, as channels and tokio take it.
pub(super) const SLICE_LONG: Duration = Duration::from_nanos(SLICE);
const WORDS: usize = words_for(INLINE);

/// A task in the queue of tickets: its record, and which task of it. An empty one says: look for yourself.
const TICKET: usize = 8;

/// Tickets that say so are not added to as many of any kind: some may be in the hands of those who are awake.
const LOOKS: usize = 4;

pub(super) struct Desk {
    pub(super) head: Place<Head>,
    states: Row<AtomicU64>,
    records: Row<Record>,
    /// For each record its payload, and its result.
    data: Row<AtomicU64>,
    pub(super) tickets: Channel,
    /// A box for each sender.
    pub(super) answers: Vec<Channel>,
    pub(super) payloads: Vault,
    pub(super) results: Vault,
    pub(super) room: Bell,
    pub(super) roll: Roll,
    pub(super) size: TaskSize,
}

fn within(what: &'static str, value: usize, max: usize) -> Result<()> {
    if (1..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::OutOfRange { what, value: value as u64, min: 1, max: max as u64 })
}

impl Desk {
    pub(super) fn new(roll: &Roll, size: TaskSize) -> Result<Arc<Desk>> {
        within("the number of tasks", size.tasks, 1 << 16)?;
        within("the number of attempts", size.attempts as usize, TRIES_MAX as usize)?;
        within("the number of unanswered tasks", size.unanswered, 1 << 16)?;
        prepare()?;
        let (tasks, words) = (size.tasks, size.tasks * 2 * WORDS);
        let bytes = Region::bytes_for::<Head>(1)
            + Region::bytes_for::<AtomicU64>(tasks)
            + Region::bytes_for::<Record>(tasks)
            + Region::bytes_for::<AtomicU64>(words);
        let region = Region::new("tasks", bytes)?;
        // Twice as many tickets as tasks: those of the dead are passed over when they come to the front.
        let tickets = Channel::builder().capacity((tasks * 2 + 64) * (8 + TICKET)).max_message(TICKET).build()?;
        let longest = HEAD + INLINE;
        let each = (size.unanswered + 64) * (8 + longest);
        let boxes = inboxes("answers", roll.slots(), each, Some(longest))?;
        Ok(Arc::new(Desk {
            head: Place::new(&region, Kind::TaskHead)?,
            states: Row::new(&region, Kind::TaskStates, tasks)?,
            records: Row::new(&region, Kind::TaskRecords, tasks)?,
            data: Row::new(&region, Kind::TaskData, words)?,
            tickets,
            answers: boxes,
            payloads: Vault::new(size.large, size.bytes)?,
            results: Vault::new(size.large, size.bytes)?,
            room: Bell::new()?,
            roll: roll.clone(),
            size,
        }))
    }

    pub(super) fn len(&self) -> usize {
        self.states.len()
    }

    pub(super) fn state(&self, n: usize) -> State {
        // Acquire: pairs with the Release in `exchange`; what the last thread that had it wrote is seen.
        self.states.get(n).map_or(State(0), |word| State(word.load(Ordering::Acquire)))
    }

    /// Every step of every task is one of these. Whoever is named by the state, and nobody else, writes the record.
    #[must_use]
    pub(super) fn exchange(&self, n: usize, from: State, to: State) -> bool {
        // AcqRel: as in `state`, both ways.
        self.states[n].compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// A free record, in the caller's hands.
    pub(super) fn claim(&self) -> Result<(usize, State)> {
        let tag = me()?.tag().bits();
        for close in [None, Some(Look::Close)] {
            // Relaxed: a hint.
            let start = self.head.hint.load(Ordering::Relaxed) as usize;
            for n in (start..self.len()).chain(0..start.min(self.len())) {
                let mut seen = self.state(n);
                if matches!(seen.phase(), Phase::Filling | Phase::Clearing)
                    && close.is_some_and(|look| seen.is_left(look))
                {
                    self.abandon(n, seen, tag);
                    seen = self.state(n);
                }
                let mine = seen.claimed(tag);
                if seen.phase() == Phase::Free && self.exchange(n, seen, mine) {
                    self.head.hint.store(n as u64 + 1, Ordering::Relaxed); // as above
                    return Ok((n, mine));
                }
            }
        }
        Err(Error::Full { capacity: self.len() })
    }

    /// What a dead sender left half written is nobody's again. Its ticket, if it got that far, is passed over.
    pub(super) fn abandon(&self, n: usize, seen: State, tag: u32) {
        let mine = seen.clearing(tag);
        if self.exchange(n, seen, mine) {
            self.release(n, mine);
        }
    }

    /// The record is free again, with all that belonged to it; the caller has it in its hands.
    pub(super) fn release(&self, n: usize, state: State) {
        self.payloads.free(self.record(n).payload());
        if self.exchange(n, state, state.freed()) {
            self.head.hint.store(n as u64, Ordering::Relaxed); // a hint
            self.room.ring();
        }
    }

    pub(super) fn record(&self, n: usize) -> &Record {
        &self.records[n]
    }

    /// Where the payload of a record lies, if it is small.
    pub(super) fn payload_bytes(&self, n: usize) -> &[AtomicU64] {
        &self.data[2 * n * WORDS..][..WORDS]
    }

    /// The same for its result. Apart, for a payload is wanted again when the result was half written.
    pub(super) fn result_bytes(&self, n: usize) -> &[AtomicU64] {
        &self.data[(2 * n + 1) * WORDS..][..WORDS]
    }

    /// The commit: from this exchange on the task has its outcome, is counted, and is never run again.
    #[must_use]
    pub(super) fn commit(&self, n: usize, state: State, lost: bool, tag: u32) -> bool {
        let (record, next) = (self.record(n), state.done(tag));
        let total = |totals: &[AtomicU64; 2], more: bool| {
            // Relaxed: in the caller's hands.
            let total = totals[state.half()].load(Ordering::Relaxed) + u64::from(more);
            // Release: pairs with the Acquire fence in `totals`; who has read this, for the pair that counts at another time, sees that the state has moved.
            totals[next.half()].store(total, Ordering::Release);
        };
        total(&record.finished, !lost);
        total(&record.lost, lost);
        self.exchange(n, state, next)
    }

    /// Has everybody who waits for a task look around: there may be something to be taken up from the dead.
    pub(super) fn stir(&self) {
        // Release: pairs with the Acquire of who looks.
        self.head.stirred.fetch_add(1, Ordering::Release);
        // Where there are tickets nobody sleeps; so there are never more than a few of these, however often somebody is stirred in vain.
        if self.tickets.len() < LOOKS {
            let _ = self.tickets.try_push(&[]);
        }
    }
}

pub(super) fn ticket(n: usize, generation: u32) -> [u8; TICKET] {
    (u64::from(generation) << 32 | n as u64).to_le_bytes()
}

/// Record and generation; None for one that says: look for yourself.
pub(super) fn of_ticket(message: &[u8]) -> Option<(usize, u32)> {
    let word = u64::from_le_bytes(*message.first_chunk()?);
    Some((word as u32 as usize, (word >> 32) as u32))
}

fn words(of: &[AtomicU64; 2]) -> [u64; 2] {
    // Relaxed, in all of these: ordered by the state.
    [of[0].load(Ordering::Relaxed), of[1].load(Ordering::Relaxed)]
}

fn put(into: &[AtomicU64; 2], ticket: Ticket) {
    for (word, value) in into.iter().zip(ticket.words()) {
        word.store(value, Ordering::Relaxed); // ordered by the state
    }
}

impl Record {
    pub(super) fn begin(&self, id: TaskId, quiet: bool) {
        put(&self.payload, Ticket::NONE);
        put(&self.result, Ticket::NONE);
        // Relaxed, in all of these: ordered by the state.
        self.slot.store(id.from.slot.into(), Ordering::Relaxed);
        self.generation.store(id.from.generation, Ordering::Relaxed);
        self.sequence.store(id.sequence, Ordering::Relaxed);
        self.quiet.store(quiet.into(), Ordering::Relaxed);
    }

    pub(super) fn id(&self) -> TaskId {
        let from = Address {
            slot: self.slot.load(Ordering::Relaxed) as u32,
            generation: self.generation.load(Ordering::Relaxed),
        };
        TaskId { from, sequence: self.sequence.load(Ordering::Relaxed) }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Relaxed) != 0
    }

    pub(super) fn set_small_payload(&self, bytes: &[AtomicU64], data: &[u8]) {
        self.len.store(data.len() as u64, Ordering::Relaxed);
        store_bytes(bytes, data);
    }

    pub(super) fn set_large_payload(&self, ticket: Ticket) {
        put(&self.payload, ticket);
    }

    pub(super) fn payload(&self) -> Ticket {
        Ticket::of_words(words(&self.payload))
    }

    pub(super) fn small_payload(&self, bytes: &[AtomicU64]) -> Vec<u8> {
        let mut data = vec![0; (self.len.load(Ordering::Relaxed) as usize).min(INLINE)];
        load_bytes(bytes, &mut data);
        data
    }

    pub(super) fn set_outcome(&self, outcome: Outcome, len: usize) {
        self.outcome.store((outcome as u64) << 32 | len.min(INLINE) as u64, Ordering::Relaxed);
    }

    pub(super) fn outcome(&self) -> (Outcome, usize) {
        let word = self.outcome.load(Ordering::Relaxed);
        (Outcome::of(word >> 32), (word as u32 as usize).min(INLINE))
    }

    pub(super) fn set_result(&self, ticket: Ticket) {
        put(&self.result, ticket);
    }

    pub(super) fn result(&self) -> Ticket {
        Ticket::of_words(words(&self.result))
    }

    /// Tasks of this record that were finished, and that were lost, as of `half`: if the state is still the same afterwards.
    pub(super) fn totals(&self, half: usize) -> (u64, u64) {
        let totals = (self.finished[half].load(Ordering::Relaxed), self.lost[half].load(Ordering::Relaxed));
        // Pairs with the Release in `commit`: the look at the state that follows comes after these.
        fence(Ordering::Acquire);
        totals
    }
}
