//! One connection, from accept to close: its reader and its writer.
#![forbid(unsafe_code)]

use std::future::pending;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::time::timeout;

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
    let connected = worker.call(guarded(calls.connect(worker, conn))).await;
    if let Err(why) = connected {
        failed("connect", why);
        conn.close();
    }
    let (read, write) = split(stream);
    let reading = async {
        if let Err(why) = read_all(read, conn, worker, calls, manners).await {
            failed("receive", why);
        }
        conn.close();
    };
    let telling = tell_of_marks(conn, worker, calls);
    tokio::select! {
        // The writer ends last: when all is closed and written, or the client takes nothing any more.
        _ = async { tokio::join!(reading, write_all(write, conn)) } => {}
        () = telling => {}
    }
    conn.give_up();
    if let Err(why) = worker.call(guarded(calls.close(worker, conn))).await {
        failed("close", why);
    }
}

/// Reads until the client has said all, or the connection is closed; an error is the handler's.
async fn read_all(
    mut read: ReadHalf<Stream>,
    conn: &Conn,
    worker: &Worker,
    calls: &Rc<dyn Calls>,
    manners: Manners,
) -> Result<(), String> {
    let mut buffer = BytesMut::new();
    let mut leaving = worker.leaving();
    // As long as is usual; or as is usual when one leaves: a client in the middle of a conversation goes on with it that far.
    let idle = manners.idle.map_or(manners.linger, |idle| idle.min(manners.linger));
    let mut patience = if *leaving.borrow() { Some(idle) } else { manners.idle };
    loop {
        let reader = conn.inner.reader.notified();
        if conn.inner.phase.get() != Phase::Open {
            return Ok(());
        }
        if conn.inner.paused.get() {
            // What is paused does not count as idle: it is we who do not listen.
            reader.await;
            continue;
        }
        buffer.reserve(PIECE.min(4096).max(buffer.capacity()));
        let arrived = tokio::select! {
            biased;
            read = within(patience, read.read_buf(&mut buffer)) => read,
            () = reader => continue,
            _ = leaving.changed(), if patience != Some(idle) => {
                patience = Some(idle);
                continue;
            }
        };
        match arrived {
            // Idle for too long, at its end, or broken: all the same from here.
            None | Some(Ok(0) | Err(_)) => return Ok(()),
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

/// Writes what is queued, until the connection is closed and nothing is left.
async fn write_all(mut write: WriteHalf<Stream>, conn: &Conn) {
    loop {
        let writer = conn.inner.writer.notified();
        let next = conn.inner.queue.borrow_mut().pop_front();
        let Some(mut data) = next else {
            match conn.inner.phase.get() {
                Phase::Open => writer.await,
                Phase::Closing => {
                    let _ = write.shutdown().await;
                    return;
                }
                Phase::Gone => return,
            }
            continue;
        };
        while data.has_remaining() {
            let gone = conn.inner.writer.notified();
            let written = tokio::select! {
                biased;
                written = write.write(&data) => written,
                () = gone => {
                    if conn.inner.phase.get() == Phase::Gone {
                        return;
                    }
                    continue;
                }
            };
            match written {
                Ok(n) if n > 0 => {
                    data.advance(n);
                    wrote(conn, n);
                }
                // The client takes nothing any more; whoever sends is told so.
                _ => return conn.give_up(),
            }
        }
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
