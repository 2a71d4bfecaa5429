//! What a process of the server can ask of the others from a future that has to be `Send`.
//!
//! A [`Worker`](super::Worker) has one thread, so what belongs to it (its connections, timers and spawned futures) is shared without locks, and no future that
//! holds it is `Send`. Frameworks want theirs to be: a handler of axum's is one. What is in shared memory anyway needs no such care, and is here.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::board::{Board, Stats};
use super::mail::Mail;
use crate::process::roll::Tenancy;
use crate::task::{Sender, TaskQueue};
use crate::{Error, Result, TaskId};

pub(super) struct Inner {
    pub(super) id: usize,
    pub(super) board: Board,
    pub(super) tasks: Option<TaskQueue>,
    pub(super) mail: Mail,
    /// None where there are no task workers.
    pub(super) sender: Option<Sender>,
    /// Its line of the board, its inbox for its connections, and its name among those who submit tasks.
    pub(super) tenancy: Tenancy,
    pub(super) leaving: watch::Receiver<bool>,
}

/// The part of a [`Worker`](super::Worker) that is `Send` and `Sync`: tasks, messages, figures. Cheap to clone.
///
/// For futures that must be `Send`, such as those of axum's handlers: they run on the worker's thread all the same, which is where its calls belong. One that is
/// made by another thread, or in a process forked off the worker, is [`Error::WrongProcess`]; only `id`, `stats`, `is_exiting` and `exiting` work anywhere.
///
/// # Examples
/// ```
/// use commons::server::WorkerHandle;
/// use std::time::Duration;
///
/// // With axum: `async fn report(State(worker): State<WorkerHandle>) -> …`, and `.with_state(worker.handle())` where the router is made.
/// async fn report(worker: WorkerHandle) -> commons::Result<Vec<u8>> {
///     worker.task_wait("report", Duration::from_secs(5)).await
/// }
///
/// fn must_be_send<F: Send>(_: impl Fn(WorkerHandle) -> F) {}
/// must_be_send(report);
/// ```
#[derive(Clone)]
pub struct WorkerHandle {
    pub(super) inner: Arc<Inner>,
}

impl fmt::Debug for WorkerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerHandle").field("id", &self.id()).finish()
    }
}

/// The figures of the whole server.
pub(super) fn stats(board: &Board, tasks: Option<&TaskQueue>) -> Stats {
    Stats { ledger: tasks.map(TaskQueue::ledger), ..board.stats() }
}

impl WorkerHandle {
    /// As [`Worker::id`](super::Worker::id).
    pub fn id(&self) -> usize {
        self.inner.id
    }

    /// As [`Worker::stats`](super::Worker::stats).
    pub fn stats(&self) -> Stats {
        stats(&self.inner.board, self.inner.tasks.as_ref())
    }

    /// Only the worker's own thread has its slots and its runtime.
    fn own(&self, call: &'static str) -> Result<&Inner> {
        if self.inner.tenancy.is_mine() {
            return Ok(&self.inner);
        }
        Err(Error::WrongProcess { call, expected: "worker's own thread", pid: std::process::id() })
    }

    fn sender(&self, call: &'static str) -> Result<&Sender> {
        self.own(call)?.sender.as_ref().ok_or(Error::NoTaskWorkers)
    }

    /// As [`Worker::task`](super::Worker::task).
    ///
    /// # Errors
    /// [`Error::WrongProcess`]; as there.
    pub async fn task(&self, data: impl AsRef<[u8]>) -> Result<TaskId> {
        self.sender("task")?.submit(data.as_ref()).await
    }

    /// As [`Worker::try_task`](super::Worker::try_task).
    ///
    /// # Errors
    /// [`Error::WrongProcess`]; as there.
    pub fn try_task(&self, data: impl AsRef<[u8]>) -> Result<TaskId> {
        self.sender("try_task")?.try_submit(data.as_ref())
    }

    /// As [`Worker::task_wait`](super::Worker::task_wait).
    ///
    /// # Errors
    /// [`Error::WrongProcess`]; as there.
    pub async fn task_wait(&self, data: impl AsRef<[u8]>, timeout: Duration) -> Result<Vec<u8>> {
        self.sender("task_wait")?.task_wait(data.as_ref(), timeout).await
    }

    /// As [`Worker::task_all`](super::Worker::task_all).
    ///
    /// # Errors
    /// [`Error::WrongProcess`]; as there.
    pub async fn task_all<D: AsRef<[u8]>>(&self, list: &[D], timeout: Duration) -> Result<Vec<Result<Vec<u8>>>> {
        Ok(self.sender("task_all")?.task_all(list, timeout).await)
    }

    /// As [`Worker::send_message`](super::Worker::send_message).
    ///
    /// # Errors
    /// [`Error::WrongProcess`]; as there.
    pub async fn send_message(&self, to: usize, data: impl AsRef<[u8]>) -> Result<()> {
        self.own("send_message")?.mail.send(to, data.as_ref()).await
    }

    /// As [`Worker::try_send_message`](super::Worker::try_send_message).
    ///
    /// # Errors
    /// [`Error::WrongProcess`]; as there.
    pub fn try_send_message(&self, to: usize, data: impl AsRef<[u8]>) -> Result<()> {
        self.own("try_send_message")?.mail.try_send(to, data.as_ref())
    }

    /// As [`Worker::exiting`](super::Worker::exiting).
    pub async fn exiting(&self) {
        // An error would mean that the process's main future is gone, which is as good a reason.
        let _ = self.inner.leaving.clone().wait_for(|leaving| *leaving).await;
    }

    /// As [`Worker::is_exiting`](super::Worker::is_exiting).
    pub fn is_exiting(&self) -> bool {
        *self.inner.leaving.borrow()
    }
}
