//! The sender's end: submit, and what comes back.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::TaskId;
use super::desk::{Desk, INLINE, Outcome, SLICE_LONG, ticket};
use super::outstanding::Outstanding;
use super::told::{HEAD, Told};
use crate::process::bell::Bell;
use crate::process::roll::Tenancy;
use crate::process::vault::NO_ACCOUNT;
use crate::robust::{Patience, SLICE, unhurried};
use crate::sync::clock;
use crate::{Error, Lease, Notifier, Result};

/// What came of a task: its result, [`Error::TaskFailed`] or [`Error::TaskLost`].
#[derive(Debug)]
pub struct Answer {
    /// The task.
    pub id: TaskId,
    /// What came of it.
    pub result: Result<Vec<u8>>,
}

/// Who waits for an answer.
pub(super) enum Want {
    /// Whoever asks next: [`Sender::recv`].
    Anybody,
    One(oneshot::Sender<Result<Vec<u8>>>),
    /// Nobody any more: it is dropped when it comes.
    Nobody,
}

/// What one process knows of the tasks that it has submitted.
pub(super) struct Books {
    /// By sequence: not answered yet.
    pub(super) out: Outstanding,
    /// Came, and nobody has asked for them yet.
    come: VecDeque<Answer>,
}

/// Submits tasks and receives their answers; see [`TaskQueue::sender`](super::TaskQueue::sender). Of the thread that has the slot.
pub struct Sender {
    desk: Arc<Desk>,
    pub(super) tenancy: Tenancy,
    books: Mutex<Books>,
    /// Something has been put among those that came.
    came: Notify,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("of", &self.tenancy.address()).field("unanswered", &self.unanswered()).finish()
    }
}

/// What there is none of, where a task is refused for want of room. Each attempt gives back what it had before it met that, and rings for it; so to wait for
/// anything else would be to hear oneself, and to try again at once and for ever.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lack {
    /// Records; or the sender has too many answers to come.
    Record,
    Locker,
    /// Somebody was stopped in the middle of the queue, or has its oldest ticket in hand: nobody rings when that is over.
    Ticket,
}

impl Desk {
    /// Where those wait who lack it.
    fn bell(&self, lack: Lack) -> Option<&Bell> {
        match lack {
            Lack::Record => Some(&self.room),
            Lack::Locker => Some(self.payloads.bell()),
            Lack::Ticket => None,
        }
    }

    /// Puts a task into the queue, or leaves nothing.
    fn offer(&self, id: TaskId, data: &[u8], quiet: bool, lack: &mut Lack) -> Result<()> {
        let (n, filling) = self.claim()?;
        let record = self.record(n);
        record.begin(id, quiet);
        if data.len() > INLINE {
            *lack = Lack::Locker;
            match self.payloads.deposit(NO_ACCOUNT, data) {
                Ok(deposit) => {
                    // First written down, then sent: whoever finds this record dead frees the locker with it.
                    record.set_large_payload(deposit.ticket());
                    deposit.sent();
                }
                Err(error) => {
                    self.release(n, filling);
                    return Err(error);
                }
            }
        } else {
            record.set_small_payload(self.payload_bytes(n), data);
        }
        *lack = Lack::Ticket;
        if let Err(error) = self.tickets.push_now(&ticket(n, filling.generation())) {
            self.release(n, filling);
            return Err(match error {
                Error::Full { .. } => Error::Full { capacity: self.len() },
                other => other,
            });
        }
        // Fails when somebody has taken it already, by its ticket.
        let _ = self.exchange(n, filling, filling.queued());
        Ok(())
    }
}

impl Sender {
    pub(super) fn new(desk: Arc<Desk>, tenancy: Tenancy) -> Result<Sender> {
        let books = Books { out: Outstanding::default(), come: VecDeque::new() };
        let sender = Sender { desk, tenancy, books: Mutex::new(books), came: Notify::new() };
        // What came for those who had the slot before.
        while sender.pump()? {}
        Ok(sender)
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn must_be_mine(&self) -> Result<()> {
        if self.tenancy.is_mine() {
            return Ok(());
        }
        let call = "submitting a task";
        Err(Error::WrongProcess { call, expected: "tenant of its slot", pid: std::process::id() })
    }

    pub(super) fn answers(&self) -> Result<&crate::Channel> {
        self.must_be_mine()?;
        let slot = self.tenancy.address().slot;
        let max = self.desk.answers.len() as u64 - 1;
        let refused = Error::OutOfRange { what: "the slot", value: slot.into(), min: 0, max };
        self.desk.answers.get(slot as usize).ok_or(refused)
    }

    /// Tasks whose answers nobody has received yet.
    pub fn unanswered(&self) -> usize {
        let books = self.books();
        books.out.len() + books.come.len()
    }

    /// [`Error::Full`]: for want of what `lack` says.
    fn offer(&self, data: &[u8], want: &mut Option<Want>, lack: &mut Lack) -> Result<TaskId> {
        self.must_be_mine()?;
        *lack = Lack::Record;
        if data.len() > self.desk.payloads.bytes().max(INLINE) {
            return Err(Error::TooLong { len: data.len(), max: self.desk.payloads.bytes().max(INLINE) });
        }
        let quiet = want.is_none();
        let id = {
            let mut books = self.books();
            if !quiet && books.out.len() + books.come.len() >= self.desk.size.unanswered {
                return Err(Error::Full { capacity: self.desk.size.unanswered });
            }
            let id = TaskId { from: self.tenancy.address(), sequence: self.tenancy.number() };
            // Before it can be answered.
            if let Some(want) = want.take() {
                books.out.insert(id.sequence, want);
            }
            id
        };
        match self.desk.offer(id, data, quiet, lack) {
            Ok(()) => Ok(id),
            Err(error) => {
                *want = self.books().out.remove(&id.sequence);
                Err(error)
            }
        }
    }

    /// Submits a task, if there is room. Its answer comes by [`recv`](Sender::recv).
    ///
    /// # Errors
    /// [`Error::Full`] when the queue has no room, or for a large payload none is left, or too many answers are outstanding; [`Error::TooLong`];
    /// [`Error::WrongProcess`]; [`Error::System`].
    pub fn try_submit(&self, data: &[u8]) -> Result<TaskId> {
        self.offer(data, &mut Some(Want::Anybody), &mut Lack::Record)
    }

    /// Submits a task whose sender wants no answer, if there is room.
    ///
    /// # Errors
    /// As [`try_submit`](Sender::try_submit).
    pub fn try_submit_quietly(&self, data: &[u8]) -> Result<TaskId> {
        self.offer(data, &mut None, &mut Lack::Record)
    }

    /// Submits a task, waiting for room for at most `timeout`; answers that come meanwhile are kept for [`recv`](Sender::recv).
    ///
    /// # Errors
    /// [`Error::Timeout`]; [`Error::Full`] when only the caller can make room, by receiving answers; as [`try_submit`](Sender::try_submit).
    pub fn submit_timeout(&self, data: &[u8], timeout: Duration) -> Result<TaskId> {
        let patience = Patience::lasting(timeout);
        let (mut lack, mut want) = (Lack::Record, Some(Want::Anybody));
        loop {
            // Before the attempt, so that none is lost between it and the wait.
            let (expected, bell) = (lack, self.desk.bell(lack));
            bell.inspect(|bell| bell.arm());
            match self.offer(data, &mut want, &mut lack) {
                Err(Error::Full { .. }) => {}
                done => {
                    bell.inspect(|bell| bell.arm()); // others may be asleep
                    return done;
                }
            }
            while self.pump()? {}
            if self.books().come.len() >= self.desk.size.unanswered {
                return Err(Error::Full { capacity: self.desk.size.unanswered });
            }
            patience.check()?;
            match bell {
                _ if lack != expected => {}
                Some(bell) => bell.wait(patience)?,
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Submits a task, waiting for room without holding the thread; dropping the future before it is ready submits nothing. Must be called inside a tokio runtime
    /// with I/O and time enabled.
    ///
    /// # Errors
    /// As [`try_submit`](Sender::try_submit), but not [`Error::Full`].
    pub async fn submit(&self, data: &[u8]) -> Result<TaskId> {
        self.submit_for(data, Some(Want::Anybody)).await
    }

    /// The same for one who wants no answer.
    ///
    /// # Errors
    /// As [`submit`](Sender::submit).
    pub async fn submit_quietly(&self, data: &[u8]) -> Result<TaskId> {
        self.submit_for(data, None).await
    }

    pub(super) async fn submit_for(&self, data: &[u8], mut want: Option<Want>) -> Result<TaskId> {
        let (mut lack, mut armed) = (Lack::Record, None::<(Lack, &Bell)>);
        loop {
            match self.offer(data, &mut want, &mut lack) {
                Err(Error::Full { .. }) => {}
                done => {
                    armed.inspect(|(_, bell)| bell.arm()); // others may be asleep
                    return done;
                }
            }
            let Some(bell) = self.desk.bell(lack) else {
                tokio::time::sleep(SLICE_LONG).await;
                continue;
            };
            // Answers make room as well, where too many are outstanding.
            if armed.is_some_and(|(expected, _)| expected == lack) {
                tokio::select! {
                    heard = bell.listen() => heard?,
                    answer = self.answers()?.recv_lease() => self.book(answer?)?,
                }
            }
            bell.arm();
            armed = Some((lack, bell));
        }
    }

    /// The next answer of a task that nobody waits for in particular, if one has come.
    ///
    /// # Errors
    /// [`Error::WrongProcess`]; [`Error::System`] when this process has no memory or descriptors left for a large one, which then stays.
    pub fn try_recv(&self) -> Result<Option<Answer>> {
        loop {
            if let Some(answer) = self.books().come.pop_front() {
                return Ok(Some(answer));
            }
            if !self.pump()? {
                return Ok(None);
            }
        }
    }

    /// The same, waiting for at most `timeout`.
    ///
    /// # Errors
    /// [`Error::Timeout`]; as [`try_recv`](Sender::try_recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Answer> {
        let patience = Patience::lasting(timeout);
        loop {
            if let Some(answer) = self.try_recv()? {
                return Ok(answer);
            }
            let left = match patience {
                Patience::Until { deadline, .. } => deadline.saturating_sub(clock::now()),
                Patience::None | Patience::Endless => SLICE,
            };
            match self.answers()?.pop_lease_timeout(Duration::from_nanos(left)) {
                Ok(lease) => self.book(lease)?,
                Err(Error::Timeout { .. }) => patience.check()?,
                Err(error) => return Err(error),
            }
        }
    }

    /// The same without holding the thread; dropping the future loses nothing. Must be called inside a tokio runtime with I/O enabled.
    ///
    /// # Errors
    /// As [`try_recv`](Sender::try_recv).
    pub async fn recv(&self) -> Result<Answer> {
        loop {
            if let Some(answer) = self.try_recv()? {
                return Ok(answer);
            }
            tokio::select! {
                // By who waits for another one.
                () = self.came.notified() => {}
                lease = self.answers()?.recv_lease() => self.book(lease?)?,
            }
        }
    }

    /// An eventfd for epoll: readable when an answer may have come, after a [`try_recv`](Sender::try_recv) that found none.
    ///
    /// # Errors
    /// As [`try_recv`](Sender::try_recv).
    pub fn notifier(&self) -> Result<Notifier<'_>> {
        Ok(self.answers()?.notifier())
    }

    /// Books the next answer that has come; false when none has.
    fn pump(&self) -> Result<bool> {
        match unhurried(self.answers()?.try_pop_lease())? {
            Some(lease) => self.book(lease).map(|()| true),
            None => Ok(false),
        }
    }

    /// Puts an answer where it is wanted. One that came before, of a task that nobody knows, or of one who had the slot before, is dropped.
    pub(super) fn book(&self, lease: Lease) -> Result<()> {
        let Told { sequence, generation, outcome, tries, large } = Told::of(&lease);
        let id = TaskId { from: self.tenancy.address(), sequence };
        let known = generation == id.from.generation && self.books().out.contains_key(&sequence);
        let data = match () {
            () if !known => None,
            () if large.is_none() => Some(lease.get(HEAD..).unwrap_or_default().to_vec()),
            // Without memory or descriptors for it the lease comes back.
            () => self.desk.results.read(large)?,
        };
        // Freed before it is acknowledged: a death in between leaves a ticket that names nothing.
        self.desk.results.free(large);
        lease.ack()?;
        let Some(want) = Some(known).filter(|known| *known).and_then(|_| self.books().out.remove(&sequence)) else {
            return Ok(());
        };
        let result = match (outcome, data) {
            (Outcome::Result, Some(data)) => Ok(data),
            (Outcome::Lost, _) => Err(Error::TaskLost { id, attempts: tries }),
            (Outcome::Failed, Some(why)) => {
                Err(Error::TaskFailed { id, why: String::from_utf8_lossy(&why).into_owned() })
            }
            (Outcome::Result | Outcome::Failed, None) => {
                Err(Error::TaskFailed { id, why: "its result is gone".into() })
            }
        };
        match want {
            Want::Anybody => {
                self.books().come.push_back(Answer { id, result });
                self.came.notify_one();
            }
            // Fails when nobody waits any more.
            Want::One(tell) => drop(tell.send(result)),
            Want::Nobody => {}
        }
        Ok(())
    }
}
