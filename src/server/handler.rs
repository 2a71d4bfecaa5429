//! What a server does: the calls it makes, where each runs, and what each may do.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::board::Stats;
use super::conn::Conn;
use super::packet::Packet;
use super::worker::Worker;
pub use crate::task::Task;
use crate::{Result, TaskId};
pub use bytes::Bytes;

/// What happened to a process of the server, as its manager tells it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerError {
    /// Its place: workers first, then task workers, then user processes.
    pub id: usize,
    /// Its process id.
    pub pid: u32,
    /// The status with which it left.
    pub status: Option<i32>,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// In how long the next one is started; None when none is.
    pub again: Option<Duration>,
}

/// What a server does. Every method has a default that does nothing.
///
/// One value of it is made before the fork, and each process goes on with its own copy: what is to be shared are the crate's structures in it. The async
/// methods of one worker run on one thread, so nothing needs to be `Send`; while one awaits, others run.
///
/// An error or a panic of one call is logged with what it was about, and ends that call; that of `connect` or `receive` ends its connection too. Never the
/// process.
///
/// | runs in | methods |
/// |---|---|
/// | master | `start`, `before_shutdown`, `shutdown` |
/// | manager | `manager_start`, `manager_stop`, `worker_error`, `before_reload`, `after_reload`; one that takes long holds up the replacing of the dead, which is logged |
/// | worker | `worker_start` … `pipe_message` |
/// | task worker | `task`; `worker_start`, `worker_exit`, `worker_stop`, `pipe_message` too, and `finish` for tasks of its own |
/// | user process | the same but for `task` |
///
/// # Examples
/// ```
/// use commons::{AtomicLong, server::{Bytes, Conn, Handler, Worker}};
///
/// struct Echo { hits: AtomicLong }
///
/// impl Handler for Echo {
///     async fn receive(&self, _: &Worker, conn: &Conn, data: Bytes) -> commons::Result<()> {
///         self.hits.add(1);
///         conn.send(data).await
///     }
/// }
/// ```
#[allow(async_fn_in_trait, reason = "one thread a worker: no future has to be Send")]
#[allow(unused_variables, reason = "the defaults do nothing")]
pub trait Handler: 'static {
    /// All workers are ready for the first time.
    fn start(&self, stats: &Stats) {}
    /// The server has been told to stop, and begins to.
    fn before_shutdown(&self) {}
    /// It has stopped: no other process is left.
    fn shutdown(&self) {}

    /// The manager has begun; again, should it be replaced.
    fn manager_start(&self) {}
    /// It ends.
    fn manager_stop(&self) {}
    /// A process died that nobody had asked to leave.
    fn worker_error(&self, error: &WorkerError) {}
    /// Processes are about to be renewed.
    fn before_reload(&self) {}
    /// They are.
    fn after_reload(&self) {}

    /// First of all in each worker, task worker and user process. An error ends the process: it could not boot.
    async fn worker_start(&self, worker: &Worker) -> Result<()> {
        Ok(())
    }
    /// It was asked to leave: called once. Meanwhile what is under way goes on.
    async fn worker_exit(&self, worker: &Worker) -> Result<()> {
        Ok(())
    }
    /// Last of all, when it leaves in good order.
    async fn worker_stop(&self, worker: &Worker) -> Result<()> {
        Ok(())
    }

    /// A connection was accepted.
    async fn connect(&self, worker: &Worker, conn: &Conn) -> Result<()> {
        Ok(())
    }
    /// Bytes arrived on it, as many as were there: a stream has no messages. The next ones of this connection wait until this call has ended.
    async fn receive(&self, worker: &Worker, conn: &Conn, data: Bytes) -> Result<()> {
        Ok(())
    }
    /// It is closed, by whomever.
    async fn close(&self, worker: &Worker, conn: &Conn) -> Result<()> {
        Ok(())
    }
    /// A datagram arrived.
    async fn packet(&self, worker: &Worker, packet: &Packet) -> Result<()> {
        Ok(())
    }
    /// Output that its client does not take has reached the upper mark.
    async fn buffer_full(&self, worker: &Worker, conn: &Conn) -> Result<()> {
        Ok(())
    }
    /// It has sunk to the lower mark again.
    async fn buffer_empty(&self, worker: &Worker, conn: &Conn) -> Result<()> {
        Ok(())
    }
    /// What came of a task that this process submitted and nobody waits for.
    async fn finish(&self, worker: &Worker, task: TaskId, result: Result<Vec<u8>>) -> Result<()> {
        Ok(())
    }
    /// A message of the process in place `from`.
    async fn pipe_message(&self, worker: &Worker, from: usize, data: Vec<u8>) -> Result<()> {
        Ok(())
    }

    /// Runs a task; what it returns is what its sender gets. It may block: nothing else runs in a task worker meanwhile.
    ///
    /// # Errors
    /// The sender gets [`Error::TaskFailed`](crate::Error::TaskFailed) with the error's text.
    fn task(&self, worker: &Worker, task: &Task) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }
    /// The same for a server that was built with `async_tasks`, in place of `task`.
    ///
    /// # Errors
    /// As [`task`](Handler::task).
    async fn task_async(&self, worker: &Worker, task: &Task) -> Result<Vec<u8>> {
        self.task(worker, task)
    }
}

/// A server whose ports have handlers of their own needs none.
impl Handler for () {}
