//! Floor 5, tasks: work that any process hands in and a task worker does, once more if that one dies, and whose outcome comes back.
//!
//! # What lies in the region
//! ```text
//! records   a word that decides (`state`), and what belongs to the task: who, how long, payload, outcome, totals (`desk`)
//! tickets   a channel: which record, which task of it; in the order in which they were handed in
//! answers   a channel for each sender's slot: which task, what came of it
//! vaults    large payloads, and large results (`process::vault`)
//! ```
//!
//! # One exchange a step
//! ```text
//!        claim          hand in           take                       finish          deliver
//!  FREE ───────▶ FILLING ───────▶ QUEUED ──────▶ RUNNING ──────────────────────▶ DONE ───────▶ FREE
//!                (sender)                        (worker) │  ▲ taken up    ▲   (whoever
//!                                                         │  └─ from the   │    delivers)
//!                                                         │     dead       │
//!                                                         └────▶ LOSING ───┘
//!                                                     tried too often
//! ```
//! The thread that the word names is the only one that writes the record; the next one takes over by an exchange from exactly that word, once the
//! thread is dead. `FILLING → QUEUED` comes after the ticket is in its channel, so there is no queued task without one; who redeems a ticket first takes the
//! record and then acknowledges the ticket, so that a death in between brings the ticket back, to be passed over. A ticket names the generation of its
//! record, so an old one names nothing.
//!
//! # Why not one channel of leased messages
//! That was the first sketch: a task is a message, run under its lease. Three things speak against it. The floor of a ring waits for its oldest lease,
//! so one task that takes a minute keeps the room of all that were handed in meanwhile. Result and acknowledgement are two stores in two channels, so a
//! death between them runs the task again although its sender has the result, and, at the last try, books as lost what was answered. And a
//! dead letter's payload would need an owner of its own. Here `→ DONE` is the one commit: the result lies in the record by then (a large one
//! in the vault, its ticket in the record), and the same exchange counts it. Delivering it may happen twice; the sender goes by the name, and takes the
//! first.
//!
//! # Who may die when
//! | dies | then |
//! |---|---|
//! | submitting, before the ticket | FILLING of the dead: freed (CLEARING), with its payload, by who needs the room or looks around |
//! | after the ticket, before `submit` returned | the ticket's holder may take it: it was accepted, or was not; both are right |
//! | taking, before the record is its own | the ticket comes back |
//! | running | RUNNING of the dead: whoever looks around takes it up before anything that is queued; after the last try it is lost |
//! | while the result is being put somewhere | as running; who takes it up frees what was put |
//! | after the commit, before or after the answer is in its box | DONE of the dead: delivered (again) by who looks around |
//! | receiving an answer, the sender | its answers are nobody's: who looks around drops them, or the next in its slot, and frees what goes with them |
//!
//! Every task worker looks around before it takes something: when somebody has died that a manager knows of ([`TaskQueue::sweep`]), and else after
//! 20 ms. That includes what was LOSING or DONE in the hands of one who died looking around, so nobody's death loses anything. A sender that is gone is
//! answered by nobody.
//!
//! # The ledger
//! `finished` and `lost` are kept in each record twice, and the bit `half` of its word says which pair counts; the exchange that commits turns it. So they
//! are exact at every instant, and `accepted` is they and what is in the queue. [`Ledger`].
//!
//! # Bounds
//! So many records; so many unanswered tasks of one sender, for all of whose answers its box has room, so that a task worker hardly ever waits for a
//! sender; lockers and bytes for large payloads, and others for large results, so that a result never waits for a payload that waits for a task worker. One who does not
//! fetch its large results has at most half of their lockers. In descriptors, which every process inherits: two for each slot, two for each locker of either kind, and a
//! dozen.

#![forbid(unsafe_code)]

mod desk;
mod estate;
mod id;
mod outstanding;
mod send;
mod state;
mod told;
mod wait;
mod work;

use std::sync::Arc;

use desk::Desk;
pub use desk::TaskSize;
pub use id::TaskId;
pub use send::{Answer, Sender};
use state::Phase;
pub use work::{Task, TaskWorker};

use crate::Result;
use crate::process::roll::{Roll, Tenancy};

/// Tasks from the slots of a roll; made before the fork.
#[derive(Clone)]
pub struct TaskQueue {
    desk: Arc<Desk>,
}

/// What became of all tasks that were ever accepted; exact also after deaths, as far as nothing moves while it is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Ledger {
    /// Accepted: finished, lost, queued or running.
    pub accepted: u64,
    /// Ran to their end, for better or worse.
    pub finished: u64,
    /// Tried as often as is allowed, in vain.
    pub lost: u64,
    /// Wait to be taken.
    pub queued: u64,
    /// Are being run, or wait to be taken up from the dead.
    pub running: u64,
    /// Of those that are finished or lost: not delivered yet.
    pub undelivered: u64,
    /// Large payloads and large results that are there, and their bytes.
    pub large: (usize, u64),
}

impl std::fmt::Debug for TaskQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskQueue").field("ledger", &self.ledger()).finish()
    }
}

impl TaskQueue {
    /// A queue for the slots of `roll`.
    ///
    /// # Errors
    /// [`Error::OutOfRange`](crate::Error::OutOfRange); as [`Channel::new`](crate::Channel::new); [`Error::System`](crate::Error::System).
    pub fn new(roll: &Roll, size: TaskSize) -> Result<TaskQueue> {
        Ok(TaskQueue { desk: Desk::new(roll, size)? })
    }

    /// The sender's end for the tenant of a slot: one at a time. Answers to those who had the slot before are dropped.
    ///
    /// # Errors
    /// [`Error::WrongProcess`](crate::Error::WrongProcess) for who is not the tenant; as [`Sender::try_recv`].
    pub fn sender(&self, tenancy: &Tenancy) -> Result<Sender> {
        Sender::new(self.desk.clone(), tenancy.clone())
    }

    /// A task worker's end; it needs no slot.
    pub fn worker(&self) -> TaskWorker {
        TaskWorker::new(self.desk.clone())
    }

    /// For a manager, after `recover`: what the dead have left is seen to at once. Delivers what has its outcome, books what is lost, and wakes a task
    /// worker for what is to be run again. Never waits for anybody's room.
    ///
    /// # Errors
    /// [`Error::TooManyParticipants`](crate::Error::TooManyParticipants).
    pub fn sweep(&self) -> Result<()> {
        self.desk.look_around(false).map(|_| ())
    }

    /// What became of all tasks.
    pub fn ledger(&self) -> Ledger {
        let mut ledger = Ledger::default();
        for n in 0..self.desk.len() {
            let mut seen = self.desk.state(n);
            let mut totals = (0, 0);
            // A record that moves all the time is read as it is in the end: then no figure is final anyway.
            for _ in 0..1000 {
                totals = self.desk.record(n).totals(seen.half());
                let now = self.desk.state(n);
                if now == seen {
                    break;
                }
                seen = now;
            }
            ledger.finished += totals.0;
            ledger.lost += totals.1;
            match seen.phase() {
                Phase::Free | Phase::Filling | Phase::Clearing => {}
                Phase::Queued => ledger.queued += 1,
                Phase::Running | Phase::Losing => ledger.running += 1,
                Phase::Done => ledger.undelivered += 1,
            }
        }
        ledger.accepted = ledger.finished + ledger.lost + ledger.queued + ledger.running;
        let (payloads, results) = (self.desk.payloads.usage(), self.desk.results.usage());
        ledger.large = (payloads.0 + results.0, payloads.1 + results.1);
        ledger
    }
}
