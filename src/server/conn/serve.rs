//! One connection, from accept to close: its reader and its writer.
#![forbid(unsafe_code)]

use std::future::pending;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::time::{sleep, timeout};

use super::stream::Stream;
use super::{Conn, Phase};
use crate::server::calls::{Calls, guarded};
use crate::server::worker::Worker;

/// Bytes read in one go, at most.
const PIECE: usize = 64 << 10;

/// How a connection is served.
#[derive(Clone, Copy, Debug)]
pub(in crate::server) struct Manners {
    /// A connection on which nothing arrives for so long is closed.
    pub(in crate::server) idle: Option<Duration>,
    /// How long one on which nothing is under way stays open when the worker leaves.
    pub(in crate::server) linger: Duration,
}

/// Serves `conn` to its end.
pub(in crate::server) async fn serve(
    stream: Stream,
    conn: &Conn,
    worker: &Worker,
    calls: &Rc<dyn Calls>,
    manners: Manners,
) {
    let failed = |what: &str, why: String| {
        worker.complain(format_args!("{what} of connection {} ({}): {why}", conn.id(), conn.peer()))
    };
    let (mut read, write) = split(stream);
    let reading = async {
        // Here and not before: what it sends is written while it is under way, or there would never be room for more.
        if let Err(why) = worker.call(guarded(calls.connect(worker, conn))).await {
            failed("connect", why);
            conn.close();
        }
        let ended = read_all(&mut read, conn, worker, calls, manners).await;
        conn.close();
        ended.unwrap_or_else(|why| {
            failed("receive", why);
            Silence::No
        })
    };
    let telling = tell_of_marks(conn, worker, calls);
    let shut = tokio::select! {
        // The writer ends last: when all is closed and written, or the client takes nothing any more.
        (silence, shut) = async { tokio::join!(reading, write_all(write, conn, manners.idle)) } => shut && silence == Silence::No,
        () = telling => false,
    };
    conn.give_up();
    if let Err(why) = worker.call(guarded(calls.close(worker, conn))).await {
        failed("close", why);
    }
    if shut {
        // An error means only that it has lasted long enough.
        let _ = timeout(manners.linger, drain(read)).await;
    }
}

/// Whether a connection ends because nothing came any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silence {
    Yes,
    No,
}

/// Reads what nobody wants, until the client has shut its side too: were the socket let go with something of the client's unread, the kernel would throw away what
/// has not reached it yet.
async fn drain(mut read: ReadHalf<Stream>) {
    let mut nowhere = [0; 4096];
    while read.read(&mut nowhere).await.is_ok_and(|n| n > 0) {}
}

/// Reads until the client has said all, or the connection is closed; an error is the handler's.
async fn read_all(
    read: &mut ReadHalf<Stream>,
    conn: &Conn,
    worker: &Worker,
    calls: &Rc<dyn Calls>,
    manners: Manners,
) -> Result<Silence, String> {
    let mut buffer = BytesMut::new();
    let mut leaving = worker.leaving();
    // As long as is usual; or as is usual when one leaves: a client in the middle of a conversation goes on with it that far.
    let idle = manners.idle.map_or(manners.linger, |idle| idle.min(manners.linger));
    let mut patience = if *leaving.borrow() { Some(idle) } else { manners.idle };
    loop {
        let reader = conn.inner.reader.notified();
        if conn.inner.phase.get() != Phase::Open {
            return Ok(Silence::No);
        }
        if conn.inner.paused.get() {
            // What is paused does not count as idle: it is we who do not listen.
            reader.await;
            continue;
        }
        buffer.reserve(PIECE.min(4096).max(buffer.capacity()));
        let arrived = tokio::select! {
            biased;
            // Before what has arrived: it may be told to read nothing more.
            () = reader => continue,
            read = within(patience, read.read_buf(&mut buffer)) => read,
            _ = leaving.changed(), if patience != Some(idle) => {
                patience = Some(idle);
                continue;
            }
        };
        match arrived {
            None => return Ok(Silence::Yes),
            // At its end, or broken: all the same from here.
            Some(Ok(0) | Err(_)) => return Ok(Silence::No),
            Some(Ok(_)) => {}
        }
        worker.count_request();
        let data = buffer.split().freeze();
        worker.call(guarded(calls.receive(worker, conn, data))).await?;
    }
}

async fn within<T>(limit: Option<Duration>, read: impl Future<Output = io::Result<T>>) -> Option<io::Result<T>> {
    match limit {
        None => Some(read.await),
        Some(limit) => timeout(limit, read).await.ok(),
    }
}

/// Writes what is queued, until the connection is closed and nothing is left; whether the client was told that this is the end. Once it is closed nobody waits
/// for room any more, so it is here that a client is given up who has taken nothing for `send_timeout`, or for `idle`.
async fn write_all(mut write: WriteHalf<Stream>, conn: &Conn, idle: Option<Duration>) -> bool {
    let patience = [conn.inner.marks.patience, idle].into_iter().flatten().min();
    loop {
        let writer = conn.inner.writer.notified();
        let next = conn.inner.queue.borrow_mut().pop_front();
        let Some(mut data) = next else {
            match conn.inner.phase.get() {
                Phase::Open => writer.await,
                Phase::Closing => return write.shutdown().await.is_ok(),
                Phase::Gone => return false,
            }
            continue;
        };
        while data.has_remaining() {
            let gone = conn.inner.writer.notified();
            let closing = conn.inner.phase.get() == Phase::Closing;
            let written = tokio::select! {
                biased;
                written = write.write(&data) => written,
                () = gone => {
                    if conn.inner.phase.get() == Phase::Gone {
                        return false;
                    }
                    continue;
                }
                () = too_long(patience), if closing => Ok(0),
            };
            match written {
                Ok(n) if n > 0 => {
                    data.advance(n);
                    wrote(conn, n);
                }
                // The client takes nothing any more; whoever sends is told so.
                _ => {
                    conn.give_up();
                    return false;
                }
            }
        }
    }
}

async fn too_long(patience: Option<Duration>) {
    match patience {
        Some(patience) => sleep(patience).await,
        None => pending().await,
    }
}

fn wrote(conn: &Conn, n: usize) {
    let inner = &*conn.inner;
    inner.waiting.set(inner.waiting.get().saturating_sub(n));
    inner.room.notify_waiters();
    if inner.waiting.get() <= inner.marks.low && inner.full.replace(false) {
        inner.marked.notify_one();
    }
}

/// Tells the handler that the marks were reached, in turns; never ends.
async fn tell_of_marks(conn: &Conn, worker: &Worker, calls: &Rc<dyn Calls>) {
    let mut told = false;
    loop {
        conn.inner.marked.notified().await;
        // Both may have happened meanwhile: then there is nothing to tell.
        if conn.inner.full.get() == told {
            continue;
        }
        told = !told;
        let call = if told { calls.buffer_full(worker, conn) } else { calls.buffer_empty(worker, conn) };
        if let Err(why) = worker.call(guarded(call)).await {
            let what = if told { "buffer_full" } else { "buffer_empty" };
            worker.complain(format_args!("{what} of connection {}: {why}", conn.id()));
        }
        if conn.inner.phase.get() == Phase::Gone {
            pending::<()>().await;
        }
    }
}
