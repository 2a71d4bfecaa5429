//! A socket that knows whether a request is under way, gives up on a peer that does not read, and closes so that the peer hears it.
#![forbid(unsafe_code)]

use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// What a connection of HTTP/2 begins with (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What has been seen on a connection.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Bytes were read since the last write: a request, or a part of one, is under way.
    asked: Cell<bool>,
    /// The next read that finds nothing is to ask the kernel itself.
    look: Cell<bool>,
    /// It did, and there was nothing.
    nothing: Cell<bool>,
    /// A request is being answered that has a body, which may not have come yet.
    body: Cell<bool>,
    /// The first three bytes, once something was read: what a connection of HTTP/2 begins with, and no request of HTTP/1 that anybody sends.
    first: Cell<Option<[u8; 3]>>,
}

impl Seen {
    /// Has the next read look closely.
    pub(super) fn look(&self) {
        self.look.set(true);
        self.nothing.set(false);
    }

    /// Whether, from here on, what is read is the body of a request that is being answered.
    pub(super) fn expect_body(&self, expected: bool) {
        self.body.set(expected);
    }

    /// Whether the client speaks HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.first.get() == Some(*b"PRI")
    }

    /// Whether that read found that nothing is under way and nothing has arrived.
    pub(super) fn is_idle(&self) -> bool {
        self.nothing.get() && !self.asked.get()
    }
}

/// A stream that tells what it has seen, and fails a write in which the peer takes nothing for `patience`.
///
/// Closing it waits up to `linger` for the peer to close too: if we were gone while something of the peer's had not been read, the kernel
/// would reset the connection, and the peer might never see the last response.
pub(super) struct Watched<S> {
    stream: S,
    seen: Rc<Seen>,
    patience: Duration,
    linger: Duration,
    opening: Option<Opening>,
    /// How long the client may say nothing in the middle of a request's body; and since when it has.
    body_time: Duration,
    starved: Option<Pin<Box<Sleep>>>,
    stalled: Option<Pin<Box<Sleep>>>,
    lingering: Option<Pin<Box<Sleep>>>,
}

/// Until the first bytes have told which HTTP it is, nobody above counts the time: so it is counted here.
struct Opening {
    /// Bytes of the preface that have arrived.
    matched: usize,
    clock: Pin<Box<Sleep>>,
}

impl Opening {
    /// Whether it has been told.
    fn is_over(&mut self, read: &[u8]) -> bool {
        let rest = &PREFACE[self.matched..];
        self.matched += read.len().min(rest.len());
        self.matched == PREFACE.len() || !rest.starts_with(read)
    }
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, seen: Rc<Seen>, patience: Duration, linger: Duration) -> Self {
        Self {
            stream,
            seen,
            patience,
            linger,
            opening: None,
            body_time: Duration::MAX,
            starved: None,
            stalled: None,
            lingering: None,
        }
    }

    /// Fails a read when the client has not told after `time` which HTTP it speaks, or says nothing for so long in the middle of a body.
    pub(super) fn opening_within(mut self, time: Duration) -> Self {
        self.body_time = time;
        self.opening = Some(Opening { matched: 0, clock: Box::pin(sleep(time)) });
        self
    }

    /// Looks at a write's outcome: progress stops the clock, waiting starts it.
    fn after_write(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if outcome.is_ready() {
            self.stalled = None;
            self.seen.asked.set(false);
            return outcome;
        }
        let patience = self.patience;
        let clock = self.stalled.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(clock.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + AsFd + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, into);
        if let Some(read) = into.filled().get(before..).filter(|read| !read.is_empty()) {
            self.seen.asked.set(true);
            self.starved = None;
            if self.seen.first.get().is_none() {
                // Fewer than three bytes at once are no client's preface.
                self.seen.first.set(Some(read.first_chunk().copied().unwrap_or_default()));
            }
            if self.opening.as_mut().is_some_and(|opening| opening.is_over(read)) {
                self.opening = None;
            }
        } else if outcome.is_pending() && self.seen.look.take() {
            // The runtime may not have heard yet of what has arrived since it last asked.
            let nothing = recv(&self.stream, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT) == Err(Errno::AGAIN);
            self.seen.nothing.set(nothing);
        }
        if outcome.is_pending()
            && let Some(opening) = &mut self.opening
        {
            ready!(opening.clock.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        // Nobody above counts this time either. Who answers without waiting for the body does not read.
        if outcome.is_pending() && self.seen.body.get() {
            let time = self.body_time;
            let clock = self.starved.get_or_insert_with(|| Box::pin(sleep(time)));
            ready!(clock.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        outcome
    }
}

impl<S: AsyncRead + AsyncWrite + AsFd + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.after_write(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.after_write(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            // Nothing has arrived that could be left unread.
            let linger = if self.seen.is_idle() { Duration::ZERO } else { self.linger };
            self.lingering = Some(Box::pin(sleep(linger)));
        }
        let this = &mut *self;
        while let Some(clock) = this.lingering.as_mut()
            && clock.as_mut().poll(cx).is_pending()
        {
            let mut bytes = [0; 4096];
            let mut into = ReadBuf::new(&mut bytes);
            if ready!(Pin::new(&mut this.stream).poll_read(cx, &mut into)).is_err() || into.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}
