//! A process of the server, as its handler sees it: who it is, and what it can ask of the others.
#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::spawn_local;

use super::board::{Count, Stats};
use super::calls::guarded;
use super::conn::{Conn, ConnId};
use super::handle::WorkerHandle;
use super::handler::Bytes;
use super::land::Land;
use super::log::Level;
use super::mail::{Mail, Order};
use super::timers::Timers;
use crate::process::crew::Member;
use crate::process::roll::Address;
use crate::process::word::{Mouth, What};
use crate::task::Sender;
use crate::{Error, Result, TaskId, TimerId};

/// Between two looks at what a process that leaves still waits for, where nobody tells it.
pub(super) const LOOK: Duration = Duration::from_millis(10);

/// So many of a kind are named when it is told what a process waits for.
const NAMED: usize = 3;

/// In brackets; of many the first few.
fn names(all: impl Iterator<Item = impl fmt::Display>) -> String {
    let mut some: Vec<_> = all.take(NAMED + 1).map(|one| one.to_string()).collect();
    if some.len() > NAMED {
        some[NAMED] = "…".to_owned();
    }
    if some.is_empty() { String::new() } else { format!(" ({})", some.join(", ")) }
}

pub(super) struct Inner {
    pub(super) member: Member,
    pub(super) mouth: Mouth,
    pub(super) land: Rc<Land>,
    /// What is not this thread's alone.
    pub(super) handle: WorkerHandle,
    pub(super) timers: Timers,
    pub(super) conns: RefCell<BTreeMap<ConnId, Conn>>,
    /// Of the last connection.
    pub(super) number: Cell<u32>,
    /// Connections of all kinds, and calls that were spawned: what is waited for at the end.
    pub(super) under_way: Cell<usize>,
    /// One less is under way.
    pub(super) less: Notify,
    pub(super) requests: Cell<u64>,
    /// After so many requests it asks to be renewed.
    pub(super) enough: Option<u64>,
}

/// The process in which a handler runs; handles are cheap.
#[derive(Clone)]
pub struct Worker {
    pub(super) inner: Rc<Inner>,
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("id", &self.id()).field("pid", &self.pid()).finish()
    }
}

/// As long as it lives, the process does not end in good order.
pub(super) struct UnderWay(Worker);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let inner = &self.0.inner;
        inner.under_way.set(inner.under_way.get() - 1);
        inner.less.notify_waiters();
    }
}

/// A call of the handler that is under way.
pub(super) struct Busy(Worker);

impl Drop for Busy {
    fn drop(&mut self) {
        let inner = &self.0.inner;
        inner.land.board.call(inner.member.slot, false);
    }
}

impl Inner {
    pub(super) fn next_conn(&self) -> u32 {
        self.number.set(self.number.get().wrapping_add(1));
        self.number.get()
    }

    /// Which life this is.
    pub(super) fn life(&self) -> Address {
        self.handle.inner.tenancy.address()
    }

    fn unanswered(&self) -> usize {
        self.handle.inner.sender.as_ref().map_or(0, Sender::unanswered)
    }
}

impl Worker {
    /// Its place: workers are numbered from 0, task workers and user processes after them.
    pub fn id(&self) -> usize {
        self.inner.member.id
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        std::process::id()
    }

    /// Whether it is a task worker.
    pub fn is_task_worker(&self) -> bool {
        self.inner.member.role == crate::process::crew::Role::Task
    }

    /// What can be asked of it from a future that must be `Send`, such as one of axum's handlers: tasks, messages, figures.
    pub fn handle(&self) -> WorkerHandle {
        self.inner.handle.clone()
    }

    /// The figures of the whole server.
    pub fn stats(&self) -> Stats {
        self.inner.handle.stats()
    }

    /// Calls `f` once, after `delay`: 1 ms ..= a day; see [`defer`](Worker::defer) for no delay. A process that leaves waits for calls that are under way, as long as its
    /// grace lasts, and for none that are to come.
    ///
    /// # Errors
    /// [`Error::BadDelay`]; [`Error::Full`] with 16 384 timers.
    pub fn after<F>(&self, delay: Duration, f: impl FnOnce() -> F + 'static) -> Result<TimerId>
    where
        F: Future<Output = Result<()>> + 'static,
    {
        self.inner.timers.after(delay, f)
    }

    /// Calls `f` every `interval`: 1 ms ..= a day. It keeps its phase; a call does not wait for the end of the one before.
    ///
    /// # Errors
    /// As [`after`](Worker::after).
    pub fn tick<F>(&self, interval: Duration, f: impl FnMut() -> F + 'static) -> Result<TimerId>
    where
        F: Future<Output = Result<()>> + 'static,
    {
        self.inner.timers.tick(interval, f)
    }

    /// Ends a timer of this process; whether it was there.
    ///
    /// # Errors
    /// [`Error::TooManyParticipants`].
    pub fn clear(&self, id: TimerId) -> Result<bool> {
        self.inner.timers.clear(id)
    }

    /// Calls `f` as soon as this process comes to it, once what runs now waits or has ended: what [`after`](Worker::after) with no delay would be.
    pub fn defer<F>(&self, f: impl FnOnce() -> F + 'static)
    where
        F: Future<Output = Result<()>> + 'static,
    {
        let of = self.clone();
        self.spawn(async move {
            if let Err(why) = of.call(guarded(async { f().await })).await {
                of.complain(format_args!("a deferred call: {why}"));
            }
        });
    }

    /// Submits a task of up to 256 MiB, waiting for room: in the queue, and while 256 tasks of this process have no answer yet. What comes of it is told to `finish`, of
    /// one after the other: one that submits more than one inside it may wait for ever for room that only its own end makes. Spawn it there, or try.
    ///
    /// # Errors
    /// [`Error::NoTaskWorkers`]; [`Error::TooLong`]; [`Error::System`].
    pub async fn task(&self, data: impl AsRef<[u8]>) -> Result<TaskId> {
        self.inner.handle.task(data).await
    }

    /// The same without waiting.
    ///
    /// # Errors
    /// [`Error::Full`]; as [`task`](Worker::task).
    pub fn try_task(&self, data: impl AsRef<[u8]>) -> Result<TaskId> {
        self.inner.handle.try_task(data)
    }

    /// Submits a task and waits for what comes of it, for at most `timeout` in all.
    ///
    /// # Errors
    /// [`Error::Timeout`]; [`Error::TaskLost`]; [`Error::TaskFailed`]; as [`task`](Worker::task).
    pub async fn task_wait(&self, data: impl AsRef<[u8]>, timeout: Duration) -> Result<Vec<u8>> {
        self.inner.handle.task_wait(data, timeout).await
    }

    /// Submits all of `list` and waits for what comes of them, for at most `timeout` in all; one result for each, in the order of the list.
    ///
    /// # Errors
    /// [`Error::NoTaskWorkers`]; each result as [`task_wait`](Worker::task_wait).
    pub async fn task_all<D: AsRef<[u8]>>(&self, list: &[D], timeout: Duration) -> Result<Vec<Result<Vec<u8>>>> {
        self.inner.handle.task_all(list, timeout).await
    }

    /// Sends a message of up to 256 MiB to the process in place `to`, waiting for room in its inbox. Messages of one process to another arrive in order. Who takes over the place
    /// takes over the inbox. Two that wait for room in each other's inbox inside `pipe_message` wait for ever: spawn it there, or try.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a place that there is not; [`Error::TooLong`]; [`Error::System`].
    pub async fn send_message(&self, to: usize, data: impl AsRef<[u8]>) -> Result<()> {
        self.inner.handle.send_message(to, data).await
    }

    /// The same without waiting.
    ///
    /// # Errors
    /// [`Error::Full`]; as [`send_message`](Worker::send_message).
    pub fn try_send_message(&self, to: usize, data: impl AsRef<[u8]>) -> Result<()> {
        self.inner.handle.try_send_message(to, data)
    }

    /// Sends bytes on a connection, whichever process holds it, also one that leaves. When it returns, they are queued here, or on their way to the process that
    /// holds it: whether the connection is still open is then not known. What one process sends to a connection arrives in order. A client that does not take
    /// what others send to it, up to twice `socket_buffer_size`, loses its connection.
    ///
    /// # Errors
    /// As [`Conn::send`]; of a connection that another process holds: [`Error::Closed`] when that process is gone, also while the call waits for room in its
    /// inbox, and as [`send_message`](Worker::send_message).
    pub async fn send(&self, id: ConnId, data: impl Into<Bytes>) -> Result<()> {
        let data = data.into();
        let Some(holder) = self.mail().other_holder(id)? else {
            let Some(conn) = self.conn(id) else { return Err(Error::Closed) };
            return conn.send(data).await;
        };
        let max = self.inner.land.config.borrow().socket_buffer_size as usize;
        if data.len() > max {
            return Err(Error::TooLong { len: data.len(), max });
        }
        self.mail().order(holder, id, &Order::Send(&data)).await
    }

    /// Closes a connection, whichever process holds it, after what this one sent to it before.
    ///
    /// # Errors
    /// [`Error::Closed`] when it is this one's and gone already, or the process that held it is gone; as [`send_message`](Worker::send_message).
    pub async fn close(&self, id: ConnId) -> Result<()> {
        match self.mail().other_holder(id)? {
            Some(holder) => self.mail().order(holder, id, &Order::Close).await,
            None => self.conn(id).map(|conn| conn.close()).ok_or(Error::Closed),
        }
    }

    /// The connection of this name, if this process holds it.
    pub fn conn(&self, id: ConnId) -> Option<Conn> {
        self.inner.conns.borrow().get(&id).cloned()
    }

    /// The names of at most `n` connections of this process, from the one after `cursor` on, or from the first.
    pub fn connections(&self, cursor: Option<ConnId>, n: usize) -> Vec<ConnId> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = cursor.map_or(Unbounded, Excluded);
        self.inner.conns.borrow().range((from, Unbounded)).take(n).map(|(id, _)| *id).collect()
    }

    /// Resolves when this process is asked to leave: a loop selects on it, so that nobody has to wait for it.
    pub async fn exiting(&self) {
        self.inner.handle.exiting().await;
    }

    /// Whether it was asked to leave.
    pub fn is_exiting(&self) -> bool {
        self.inner.handle.is_exiting()
    }

    /// Asks for this process to be renewed, and no other: once a successor is ready, it is asked to leave. SIGUSR1 to a worker or task worker does the same. Nothing
    /// happens while it leaves already.
    pub fn renew(&self) {
        self.inner.mouth.say(&What::Worn);
    }

    /// Runs a future beside what else this process does. A leaving process waits for it, as long as its grace lasts. A panic in it is logged, and ends it.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        let under_way = self.under_way();
        spawn_local(async move {
            let ended = guarded(async {
                future.await;
                Ok(())
            });
            if let Err(why) = ended.await {
                under_way.0.complain(format_args!("a spawned future {why}"));
            }
            drop(under_way);
        });
    }

    pub(super) fn under_way(&self) -> UnderWay {
        self.inner.under_way.set(self.inner.under_way.get() + 1);
        UnderWay(self.clone())
    }

    /// Resolves when nothing is under way any more, and no answer is outstanding.
    pub(super) async fn all_done(&self) {
        loop {
            let less = self.inner.less.notified();
            if self.inner.under_way.get() == 0 && self.inner.unanswered() == 0 {
                return;
            }
            // An answer for which nobody waits any more is dropped without a word, so it is looked for.
            let _ = tokio::time::timeout(LOOK, less).await;
        }
    }

    /// What keeps this process from leaving, in words.
    pub(super) fn holds(&self) -> String {
        let inner = &*self.inner;
        let (board, slot) = (&inner.land.board, inner.member.slot);
        let conns = inner.conns.borrow();
        let conns = conns.values().map(|conn| format!("{} of {}", conn.id(), conn.peer()));
        let tasks = inner.handle.inner.sender.as_ref().map_or_else(Vec::new, |sender| sender.oldest(NAMED + 1));
        let tasks = tasks.into_iter().map(|(id, age)| format!("{id} for {:.1} s", age.as_secs_f64()));
        let mut all = Vec::new();
        let mut say = |n: usize, what: &str, names: String| {
            if n > 0 {
                all.push(format!("{n} {what}{names}"));
            }
        };
        let open = usize::try_from(board.open(slot)).unwrap_or(usize::MAX);
        say(open, "connections open", names(conns));
        say(inner.unanswered(), "tasks without an answer", names(tasks));
        say(board.running(slot).iter().len(), "task that it runs", names(board.running(slot).into_iter()));
        say(inner.under_way.get(), "futures in all", String::new());
        say(inner.timers.len(), "timers (which nobody waits for)", String::new());
        all.join(", ")
    }

    pub(super) fn leaving(&self) -> watch::Receiver<bool> {
        self.inner.handle.inner.leaving.clone()
    }

    pub(super) fn mail(&self) -> &Mail {
        &self.inner.handle.inner.mail
    }

    /// A call of the handler, which the board shows while it is under way.
    pub(super) async fn call<T>(&self, call: impl Future<Output = T>) -> T {
        let _busy = self.busy();
        call.await
    }

    /// The same until what is returned is dropped.
    pub(super) fn busy(&self) -> Busy {
        self.inner.land.board.call(self.inner.member.slot, true);
        Busy(self.clone())
    }

    /// Tells the operator.
    pub(super) fn complain(&self, what: fmt::Arguments<'_>) {
        self.inner.land.log.line(Level::Warning, what);
    }

    pub(super) fn count_request(&self) {
        self.count(Count::Request);
    }

    pub(super) fn count(&self, what: Count) {
        let inner = &*self.inner;
        let counts = matches!(what, Count::Request | Count::Task);
        inner.land.board.count(inner.member.slot, what);
        if counts {
            inner.requests.set(inner.requests.get() + 1);
            if inner.enough == Some(inner.requests.get()) {
                self.renew();
            }
        }
    }
}
