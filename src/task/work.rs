//! The task worker's end: take, run, finish; and what is taken up from the dead.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::TaskId;
use super::desk::{Desk, INLINE, Outcome, SLICE_LONG, of_ticket};
use super::state::{Phase, State};
use crate::robust::{Patience, SLICE, me, seated, unhurried};
use crate::shm::store_bytes;
use crate::sync::{Ordering, clock};
use crate::{Error, Lease, Result};

/// Takes tasks and runs them; see [`TaskQueue::worker`](super::TaskQueue::worker).
pub struct TaskWorker {
    desk: Arc<Desk>,
    /// When it last looked for what the dead have left.
    looked: Cell<u64>,
    stirred: Cell<u64>,
}

impl std::fmt::Debug for TaskWorker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskWorker").field("tasks", &self.desk.len()).finish()
    }
}

/// A task in this thread's hands. Dropped before it is [finished](Task::finish), or when its process dies, it is given back to the front, with one try less.
#[must_use = "a task that is dropped is given back"]
pub struct Task {
    desk: Arc<Desk>,
    n: usize,
    state: State,
    id: TaskId,
    data: Vec<u8>,
    done: bool,
    not_send: PhantomData<*mut ()>,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").field("id", &self.id).field("tries", &self.tries()).finish()
    }
}

impl TaskWorker {
    pub(super) fn new(desk: Arc<Desk>) -> TaskWorker {
        TaskWorker { desk, looked: Cell::new(0), stirred: Cell::new(u64::MAX) }
    }

    /// The next task, if there is one: what the dead left first, then the oldest.
    ///
    /// # Errors
    /// [`Error::System`] when this process has no memory or descriptors left for a large payload: the task is given back, and the try does not count.
    /// [`Error::TooManyParticipants`].
    pub fn try_take(&self) -> Result<Option<Task>> {
        if let Some(task) = self.take_up(self.is_time())? {
            return Ok(Some(task));
        }
        while let Some(lease) = unhurried(self.desk.tickets.try_pop_lease())? {
            if let Some(task) = self.redeem(lease)? {
                return Ok(Some(task));
            }
        }
        self.take_up(self.is_time())
    }

    /// The next task, waiting for one for at most `timeout`.
    ///
    /// # Errors
    /// [`Error::Timeout`]; as [`try_take`](TaskWorker::try_take).
    pub fn take_timeout(&self, timeout: Duration) -> Result<Task> {
        let patience = Patience::lasting(timeout);
        loop {
            if let Some(task) = self.take_up(self.is_time())? {
                return Ok(task);
            }
            let left = match patience {
                Patience::Until { deadline, .. } => Duration::from_nanos(deadline.saturating_sub(clock::now())),
                Patience::None | Patience::Endless => SLICE_LONG,
            };
            match self.desk.tickets.pop_lease_timeout(left.min(SLICE_LONG)) {
                Ok(lease) => {
                    if let Some(task) = self.redeem(lease)? {
                        return Ok(task);
                    }
                }
                Err(Error::Timeout { .. }) => patience.check()?,
                Err(error) => return Err(error),
            }
        }
    }

    /// The next task, waiting without holding the thread; dropping the future loses nothing. Must be called inside a tokio runtime with I/O and time enabled.
    ///
    /// # Errors
    /// As [`try_take`](TaskWorker::try_take).
    pub async fn take(&self) -> Result<Task> {
        loop {
            if let Some(task) = self.take_up(self.is_time())? {
                return Ok(task);
            }
            if let Ok(lease) = tokio::time::timeout(SLICE_LONG, self.desk.tickets.recv_lease()).await
                && let Some(task) = self.redeem(lease?)?
            {
                return Ok(task);
            }
        }
    }

    /// Whether to look for what the dead have left: somebody said so, or it is long ago.
    fn is_time(&self) -> bool {
        // Acquire: pairs with the Release in `stir`.
        let stirred = self.desk.head.stirred.load(Ordering::Acquire);
        stirred != self.stirred.replace(stirred) || clock::now().saturating_sub(self.looked.get()) >= SLICE
    }

    fn take_up(&self, look: bool) -> Result<Option<Task>> {
        if !look {
            return Ok(None);
        }
        match self.desk.look_around(true)? {
            // There may be more: the next call looks again.
            Some((n, state)) => {
                self.looked.set(0);
                self.open(self.in_hand(n, state))
            }
            None => {
                self.looked.set(clock::now());
                Ok(None)
            }
        }
    }

    /// A task for its ticket; None when it has been taken up from one who had redeemed this ticket and died, or is not there any more.
    fn redeem(&self, lease: Lease) -> Result<Option<Task>> {
        let Some((n, generation)) = of_ticket(&lease).filter(|(n, _)| *n < self.desk.len()) else {
            self.looked.set(0);
            lease.ack()?;
            return Ok(None);
        };
        let tag = me()?.tag().bits();
        let mut taken = None;
        // Filling, queued, and then it is somebody's: it fails twice at most.
        while taken.is_none() {
            let seen = self.desk.state(n);
            // Filling: its sender is about to say that it is queued, or died before that; there is nothing left for it to write.
            let waits = matches!(seen.phase(), Phase::Filling | Phase::Queued) && seen.generation() == generation;
            if !waits {
                break;
            }
            let mine = seen.taken(tag);
            taken = self.desk.exchange(n, seen, mine).then_some(mine);
        }
        // From here on a death leaves it running, in the hands of the dead; the ticket, which comes back, is passed over.
        let task = taken.map(|mine| self.in_hand(n, mine));
        // Before a large payload is read: who was stopped in that would keep the room of all tickets that come later.
        lease.ack()?;
        task.map_or(Ok(None), |task| self.open(task))
    }

    /// A task that is in this thread's hands, without its payload.
    fn in_hand(&self, n: usize, state: State) -> Task {
        let (desk, id) = (self.desk.clone(), self.desk.record(n).id());
        Task { desk, n, state, id, data: Vec::new(), done: false, not_send: PhantomData }
    }

    /// The same with it; None for one that has lost it, whose sender is told.
    fn open(&self, mut task: Task) -> Result<Option<Task>> {
        let (desk, n) = (&self.desk, task.n);
        let record = desk.record(n);
        let ticket = record.payload();
        if ticket.is_none() {
            task.data = record.small_payload(desk.payload_bytes(n));
            return Ok(Some(task));
        }
        match desk.payloads.read(ticket) {
            Ok(Some(data)) => {
                task.data = data;
                Ok(Some(task))
            }
            // Nothing here frees it before the task has its outcome.
            Ok(None) => task.end(Outcome::Failed, b"its payload is gone").map(|()| None),
            Err(error) => {
                task.give_back(false);
                Err(error)
            }
        }
    }
}

impl Task {
    /// Its name.
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// How often it was tried, this time included.
    pub fn tries(&self) -> u32 {
        self.state.tries()
    }

    /// What there is to be done.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Says that it is done, and what came of it: from here on it is never run again, and its sender gets the result, once, whoever dies. Waits
    /// while a large result has no room, for as long as its sender lives.
    ///
    /// # Errors
    /// [`Error::TooLong`]: then the task has failed, and its sender is told that. [`Error::System`] when the kernel has no memory or descriptors left: then
    /// it is given back. [`Error::WrongProcess`] in a process that only inherited it by a fork.
    pub fn finish(mut self, result: &[u8]) -> Result<()> {
        match self.end(Outcome::Result, result) {
            Err(error @ Error::TooLong { .. }) => {
                self.end(Outcome::Failed, error.to_string().as_bytes())?;
                Err(error)
            }
            ended => ended,
        }
    }

    /// Says that it ran to its end, which was an error: its sender gets [`Error::TaskFailed`] with the first 1024 bytes of `why`.
    ///
    /// # Errors
    /// As [`finish`](Task::finish).
    pub fn fail(mut self, why: &str) -> Result<()> {
        self.end(Outcome::Failed, &why.as_bytes()[..why.floor_char_boundary(INLINE)])
    }

    fn is_mine(&self) -> bool {
        seated().is_some_and(|seat| seat.tag().bits() == self.state.tag())
    }

    fn end(&mut self, outcome: Outcome, result: &[u8]) -> Result<()> {
        if !self.is_mine() {
            self.done = true;
            let call = "ending a task";
            return Err(Error::WrongProcess { call, expected: "task worker that took it", pid: std::process::id() });
        }
        let (desk, n) = (self.desk.clone(), self.n);
        let (record, from) = (desk.record(n), self.id.from);
        let wanted = !record.is_quiet();
        let mut len = 0;
        if wanted && result.len() > INLINE {
            // First written down, then sent: a death in between leaves it to the vault, one after it to who takes the task up.
            if let Some(deposit) = desk.deposit_result(from, result)? {
                record.set_result(deposit.ticket());
                deposit.sent();
            }
        } else if wanted {
            len = result.len();
            store_bytes(desk.result_bytes(n), result);
        }
        record.set_outcome(outcome, len);
        let mine = self.state;
        self.done = true;
        if !desk.commit(n, mine, false, mine.tag()) {
            return Err(Error::LeaseLost); // never: nobody takes anything from the living
        }
        desk.deliver(n, mine.done(mine.tag()), true)
    }

    /// To the front. A try that did not come to anything, not even the task's own code, does not count.
    fn give_back(&mut self, counts: bool) {
        if std::mem::replace(&mut self.done, true) || !self.is_mine() {
            return;
        }
        let back = if counts { self.state.in_hands_of(0) } else { self.state.untried() };
        if self.desk.exchange(self.n, self.state, back) {
            self.desk.stir();
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.give_back(true);
    }
}
