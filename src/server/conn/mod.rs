//! A connection whose bytes the handler reads: what it holds, and what may be done with it from outside.
//!
//! ```text
//!   reading (serve.rs) ──▶ handler.receive, one call after the other ──▶ Conn::send ─▶ queue ─▶ writing (serve.rs)
//!       │ waits while paused                                                 │ waits while the queue is full
//!       └── end of file, an error, close ──▶ closing: the queue is written out, then the socket is shut, then what the client still says is drained
//! ```
//! Reading and writing are two futures of one task, so a call that waits for room in the queue does not keep the queue from being written. A client that
//! goes away in the middle of a call does not cut the call off, for it may be in the middle of something: its sends fail from then on.
#![forbid(unsafe_code)]

mod id;
pub(in crate::server) mod serve;
pub(in crate::server) mod stream;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{Mutex, Notify};
use tokio::time::timeout;

use super::handler::Bytes;
use super::packet::Peer;
use super::worker::Worker;
use crate::{Error, Result};

pub use id::ConnId;

/// How much output is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    pub(super) most: usize,
    pub(super) high: usize,
    pub(super) low: usize,
    /// How long a send may wait.
    pub(super) patience: Option<Duration>,
}

/// What one that waits behind counts at least, for it takes about as much, however few bytes it has.
const PIECE: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Open,
    /// Nothing more is read or queued; what is queued is still written.
    Closing,
    /// The socket is gone.
    Gone,
}

struct Inner {
    id: ConnId,
    peer: Peer,
    marks: Marks,
    phase: Cell<Phase>,
    queue: RefCell<VecDeque<Bytes>>,
    /// Bytes in the queue.
    waiting: Cell<usize>,
    /// Bytes that other processes sent, and that wait for room in it; each piece as at least [`PIECE`].
    behind: Cell<usize>,
    /// The upper mark was reached, and the lower one not since.
    full: Cell<bool>,
    paused: Cell<bool>,
    /// For the reader: resumed, or closed.
    reader: Notify,
    /// For the writer: something was queued, or closed.
    writer: Notify,
    /// For who sends: something was written, or gone.
    room: Notify,
    /// Whose turn it is to wait for room: in the order in which they came, so that nobody overtakes, and a long piece is not starved by short ones.
    turn: Mutex<()>,
    /// For who tells the handler of the marks.
    marked: Notify,
}

/// A connection; handles are cheap, and belong to the worker that holds it.
#[derive(Clone)]
pub struct Conn {
    inner: Rc<Inner>,
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn")
            .field("id", &self.id())
            .field("peer", self.peer())
            .field("waiting", &self.waiting())
            .finish()
    }
}

impl Conn {
    pub(super) fn new(id: ConnId, peer: Peer, marks: Marks) -> Conn {
        let inner = Inner {
            id,
            peer,
            marks,
            phase: Cell::new(Phase::Open),
            queue: RefCell::default(),
            waiting: Cell::new(0),
            behind: Cell::new(0),
            full: Cell::new(false),
            paused: Cell::new(false),
            reader: Notify::new(),
            writer: Notify::new(),
            room: Notify::new(),
            turn: Mutex::new(()),
            marked: Notify::new(),
        };
        Conn { inner: Rc::new(inner) }
    }

    /// Its name, by which any process of the server can send to it or close it.
    pub fn id(&self) -> ConnId {
        self.inner.id
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.inner.peer
    }

    /// Bytes of output that have not gone to the kernel yet.
    pub fn waiting(&self) -> usize {
        self.inner.waiting.get()
    }

    /// Whether it is still open: a send may succeed.
    pub fn is_open(&self) -> bool {
        self.inner.phase.get() == Phase::Open
    }

    /// Sends bytes after all that were sent before, waiting while `socket_buffer_size` bytes wait already. When it returns they are queued, not written.
    ///
    /// # Errors
    /// [`Error::Closed`]; [`Error::TooLong`] when they are more than `socket_buffer_size`; [`Error::Timeout`] after `send_timeout`: then nothing of them was
    /// queued, and the connection is given up.
    pub async fn send(&self, data: impl Into<Bytes>) -> Result<()> {
        let data = data.into();
        let marks = self.inner.marks;
        let sent = async {
            let _turn = self.inner.turn.lock().await;
            loop {
                let room = self.inner.room.notified();
                match self.queue(data.clone()) {
                    Err(Error::Full { .. }) => room.await,
                    done => return done,
                }
            }
        };
        let Some(patience) = marks.patience else { return sent.await };
        timeout(patience, sent).await.unwrap_or_else(|_| {
            self.give_up();
            Err(Error::Timeout { after: patience })
        })
    }

    /// The same without waiting.
    ///
    /// # Errors
    /// [`Error::Full`], also while others wait for room; [`Error::Closed`]; [`Error::TooLong`].
    pub fn try_send(&self, data: impl Into<Bytes>) -> Result<()> {
        match self.inner.turn.try_lock() {
            Ok(_turn) => self.queue(data.into()),
            Err(_) if !self.is_open() => Err(Error::Closed),
            Err(_) => Err(Error::Full { capacity: self.inner.marks.most }),
        }
    }

    /// Takes what another process sends: in order with all else, and without waiting, so that one client that does not read holds up nobody else's. What finds no room
    /// waits behind what waits already, up to once more the buffer's size.
    ///
    /// # Errors
    /// [`Error::Full`] beyond that; [`Error::Closed`]; [`Error::TooLong`].
    pub(super) async fn take_in(&self, data: Bytes, worker: &Worker) -> Result<()> {
        let inner = &self.inner;
        let mut sent = self.try_send(data.clone());
        if matches!(sent, Err(Error::Full { .. })) {
            // Perhaps for no other reason than that all this came in one turn of the loop: those who write have theirs before it counts against the client.
            tokio::task::yield_now().await;
            sent = self.try_send(data.clone());
        }
        if !matches!(sent, Err(Error::Full { .. })) {
            return sent;
        }
        let (len, behind) = (data.len().max(PIECE), inner.behind.get());
        if behind + len > inner.marks.most {
            return Err(Error::Full { capacity: inner.marks.most });
        }
        inner.behind.set(behind + len);
        let conn = self.clone();
        let sending = async move {
            // An error has nobody to hear it: the sender has gone on long since.
            let _ = conn.send(data).await;
            conn.inner.behind.set(conn.inner.behind.get() - len);
        };
        begin(sending, worker).await;
        Ok(())
    }

    /// Closes it after what others have sent already.
    pub(super) async fn close_in_turn(&self, worker: &Worker) {
        if self.inner.behind.get() == 0 {
            return self.close();
        }
        let conn = self.clone();
        let closing = async move {
            let _turn = conn.inner.turn.lock().await;
            conn.close();
        };
        begin(closing, worker).await;
    }

    fn queue(&self, data: Bytes) -> Result<()> {
        let inner = &*self.inner;
        if inner.phase.get() != Phase::Open {
            return Err(Error::Closed);
        }
        let most = inner.marks.most;
        if data.len() > most {
            return Err(Error::TooLong { len: data.len(), max: most });
        }
        let waiting = inner.waiting.get() + data.len();
        if waiting > most {
            return Err(Error::Full { capacity: most });
        }
        if data.is_empty() {
            return Ok(());
        }
        inner.queue.borrow_mut().push_back(data);
        inner.waiting.set(waiting);
        inner.writer.notify_one();
        if waiting >= inner.marks.high && !inner.full.replace(true) {
            inner.marked.notify_one();
        }
        Ok(())
    }

    /// Closes it when all that was sent has been written. What is under way in `receive` goes on.
    pub fn close(&self) {
        if self.inner.phase.get() == Phase::Open {
            self.inner.phase.set(Phase::Closing);
        }
        self.stir();
    }

    /// Reads nothing from it until [`resume`](Conn::resume): the client is held up by the kernel.
    ///
    /// What the client has sent meanwhile would be lost were it closed, so a paused connection is no idle one: it stays open also when its worker leaves, and holds
    /// it, until nine tenths of the grace are over. Who pauses for long closes it when the worker is asked to leave ([`Worker::exiting`]).
    pub fn pause(&self) {
        self.inner.paused.set(true);
        // It may be in the middle of a read.
        self.inner.reader.notify_one();
    }

    /// Reads from it again.
    pub fn resume(&self) {
        self.inner.paused.set(false);
        self.inner.reader.notify_one();
    }

    /// Without waiting for what has not been written.
    pub(super) fn give_up(&self) {
        self.inner.phase.set(Phase::Gone);
        self.inner.queue.borrow_mut().clear();
        self.inner.waiting.set(0);
        self.stir();
    }

    fn stir(&self) {
        self.inner.reader.notify_one();
        self.inner.writer.notify_one();
        self.inner.room.notify_waiters();
    }
}

/// Goes on with `what` beside all else. Its turn is that of its first look, which is here and now: before whatever comes next.
async fn begin(what: impl Future<Output = ()> + 'static, worker: &Worker) {
    let mut what = Box::pin(what);
    if poll_fn(|cx| Poll::Ready(what.as_mut().poll(cx).is_pending())).await {
        worker.spawn(what);
    }
}
